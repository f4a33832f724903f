//! One answer: a request handed to the engine, its events passed on, the clock beside it.

use std::ops::ControlFlow;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use anyhow::bail;
use glimmer_engine::{Engine, Event, Finish, PromptProgress, Request, Token};
use serde::Serialize;

/// How often somebody who waits is asked whether he still does.
const PATIENCE: Duration = Duration::from_millis(20);

/// What happens while an answer is made.
pub(crate) enum Progress {
    /// A part of the prompt was read.
    Prompt(PromptProgress),
    /// A token was chosen.
    Token(Token),
    /// Nothing, for [`PATIENCE`].
    Waiting,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// A stop id was chosen.
    Stop,
    /// `max_tokens` were chosen.
    Length,
    /// The context is full.
    ContextFull,
    /// The receiver broke off.
    Cancelled,
}

/// Tokens.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Usage {
    /// Of the prompt.
    pub(crate) prompt_tokens: usize,
    /// Of these, remembered from before.
    pub(crate) cached_tokens: usize,
    /// Of the answer.
    pub(crate) completion_tokens: usize,
}

/// Seconds, and tokens per second.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Timings {
    /// From the request to its first token.
    pub(crate) first_token_seconds: f64,
    /// From the request to its end.
    pub(crate) total_seconds: f64,
    /// Tokens of the prompt that were not remembered, over the time to the first token.
    pub(crate) prompt_tokens_per_second: f64,
    /// Tokens after the first, over the time from the first to the last; 0 when there are none.
    pub(crate) tokens_per_second: f64,
}

/// How it went.
pub(crate) struct Outcome {
    pub(crate) end: End,
    pub(crate) usage: Usage,
    pub(crate) timings: Timings,
}

/// Has the engine answer; `each` sees everything on the way and may break off.
///
/// # Errors
/// When the request cannot be served, or `each` fails.
pub(crate) fn answer(
    engine: &Engine,
    request: Request,
    each: &mut dyn FnMut(Progress) -> anyhow::Result<ControlFlow<()>>,
) -> anyhow::Result<Outcome> {
    let mut usage = Usage { prompt_tokens: request.prompt.len(), ..Usage::default() };
    let start = Instant::now();
    // As the engine saw them: the receiver may be slow.
    let (mut first, mut last) = (None, None);
    let events = engine.answer(request);
    let end = loop {
        let progress = match events.recv_timeout(PATIENCE) {
            Ok(Event::Prompt(prompt)) => {
                usage.cached_tokens = prompt.cached;
                Progress::Prompt(prompt)
            }
            Ok(Event::Token(token)) => {
                first.get_or_insert(token.at);
                last = Some(token.at);
                usage.completion_tokens += 1;
                Progress::Token(token)
            }
            Ok(Event::Stop(_)) => continue,
            Ok(Event::Finished(Finish::Stop(_))) => break End::Stop,
            Ok(Event::Finished(Finish::Length)) => break End::Length,
            Ok(Event::Finished(Finish::ContextFull)) => break End::ContextFull,
            Ok(Event::Failed(error)) => return Err(error.into()),
            Err(RecvTimeoutError::Timeout) => Progress::Waiting,
            Err(RecvTimeoutError::Disconnected) => bail!("the engine has stopped"),
        };
        if each(progress)?.is_break() {
            break End::Cancelled;
        }
    };
    let total = start.elapsed();
    let since = |at: Option<Instant>| at.map_or(total, |at| at.saturating_duration_since(start));
    let (first, last) = (since(first), since(last));
    let per_second = |tokens: usize, time: Duration| tokens as f64 / time.as_secs_f64().max(1e-9);
    let read = usage.prompt_tokens - usage.cached_tokens.min(usage.prompt_tokens);
    let further = usage.completion_tokens.saturating_sub(1);
    let timings = Timings {
        first_token_seconds: first.as_secs_f64(),
        total_seconds: total.as_secs_f64(),
        prompt_tokens_per_second: per_second(read, first),
        tokens_per_second: if further > 0 { per_second(further, last.saturating_sub(first)) } else { 0.0 },
    };
    Ok(Outcome { end, usage, timings })
}
