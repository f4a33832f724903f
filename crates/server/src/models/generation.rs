//! From the engine's events to pieces of text: the part of a request's way that all the APIs share.
//!
//! The engine's thread must never wait for a client. Each request has one bounded channel from that thread to the
//! connection's task; a client that falls further behind than the channel is long loses its answer, and is told so.
//! Dropping [`Generations`] closes the channel, which is how the engine learns that nobody listens any more.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use glimmer::{
    DeltaReader, EngineError, Event, FinishReason, GenerationParams, Prompt, PromptProgress, ReplyPart,
    Score, Sink, Token, Usage,
};
use serde_json::{Value, json};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::timeout_at;

use crate::error::ApiError;
use crate::models::served::{EngineEnd, Model};
use crate::models::turns::Turn;
use crate::options::RequestLimits;
use crate::record::entry::Entry;
use crate::record::metrics::Ended;
use crate::record::usage::{Departure, ModelUse};

/// A prompt and the answers that are to be made to it.
pub(crate) struct Ask {
    pub(crate) prompt: Prompt,
    pub(crate) params: GenerationParams,
    /// Answers; each has another seed.
    pub(crate) copies: usize,
    /// The turn of a conversation that they are, if they are one.
    pub(crate) turn: Option<Turn>,
    /// Whether it is told how far the prompt is.
    pub(crate) tells_progress: bool,
}

/// More of an answer.
#[derive(Debug, Default)]
pub(crate) struct ChoiceDelta {
    /// Which answer.
    pub(crate) index: usize,
    /// Text, reasoning and tool calls, in order.
    pub(crate) parts: Vec<ReplyPart>,
    /// The tokens that these are made of; a token whose text is still held back comes with what follows.
    pub(crate) tokens: Vec<Token>,
    /// With `end`, the stop id that ended the answer, where log-probabilities were asked for.
    pub(crate) stop: Option<Token>,
    /// The log-probabilities of the prompt's tokens by their places, where they were asked for: once, with the first answer
    /// to the prompt. The first token has none.
    pub(crate) scores: Option<Vec<Option<Score>>>,
    /// How far the prompt is, where that was asked for.
    pub(crate) progress: Option<PromptProgress>,
    /// How the answer ends here.
    pub(crate) end: Option<End>,
}

/// How an answer ended.
#[derive(Clone, Debug)]
pub(crate) struct End {
    /// Why: `stop`, `tool_calls` or `length`.
    pub(crate) reason: &'static str,
    /// The string that was to end it and did.
    pub(crate) stop_string: Option<String>,
    /// Whether it repeats itself, and was to end for that.
    pub(crate) repeats: bool,
    /// Where it was not held to all of its form: whether it has it all the same, or what it breaks.
    pub(crate) check: Option<Result<(), String>>,
}

impl ChoiceDelta {
    fn of(index: usize, delta: glimmer::Delta) -> Self {
        ChoiceDelta {
            index,
            parts: delta.parts,
            tokens: delta.tokens.into_iter().filter(|token| token.logprob.is_some()).collect(),
            stop: delta.stop,
            scores: delta.scores,
            progress: delta.progress,
            end: delta.finish.map(|finish| End {
                reason: reason(&finish),
                repeats: matches!(finish, FinishReason::Repetition { .. }),
                check: delta.check,
                stop_string: match finish {
                    FinishReason::StopString(string) => Some(string),
                    _ => None,
                },
            }),
        }
    }

    /// The answer's text in it, for APIs that know neither reasoning nor calls: a call is what the model wrote.
    pub(crate) fn text(&self) -> String {
        let mut all = String::new();
        for part in &self.parts {
            match part {
                ReplyPart::Text(text) | ReplyPart::ToolCallArguments(text) => all.push_str(text),
                ReplyPart::ToolCallStart { name } => {
                    all.push_str(name);
                    all.push('\n');
                }
                ReplyPart::ToolCallEnd | ReplyPart::Reasoning(_) | ReplyPart::ReasoningSkipped => {}
            }
        }
        all
    }
}

/// Why an answer ended, in the OpenAI API's words.
fn reason(finish: &FinishReason) -> &'static str {
    match finish {
        FinishReason::MaxTokens | FinishReason::ContextFull => "length",
        FinishReason::ToolCalls | FinishReason::Repetition { calls: true } => "tool_calls",
        FinishReason::Stop
        | FinishReason::StopString(_)
        | FinishReason::Repetition { calls: false }
        | FinishReason::Cancelled => "stop",
    }
}

struct Choice {
    reader: DeltaReader,
    /// Which prompt it answers.
    prompt: usize,
    /// The ids that were read and written, where it is a turn of a conversation.
    turn: Option<(Turn, Vec<u32>)>,
    /// Whether it is told how far the prompt is.
    tells_progress: bool,
    /// Tells the engine's thread that no more of it is wanted.
    cancelled: Arc<AtomicBool>,
}

/// Answers being made.
pub(crate) struct Generations {
    limits: RequestLimits,
    model: Model,
    entry: Entry,
    events: Receiver<(usize, Event)>,
    overrun: Arc<AtomicBool>,
    behind: usize,
    choices: Vec<Choice>,
    open: usize,
    departure: Option<Departure>,
    picture_tokens: usize,
    start: Instant,
    deadline: tokio::time::Instant,
    /// An event that was waited for before the answer's head was sent.
    waiting: Option<(usize, Event)>,
}

impl Generations {
    /// Hands the requests to the engine. A whole answer is waited for here, a stream by its client: only the second
    /// can fall behind.
    pub(crate) fn start(
        limits: &RequestLimits,
        model: &Model,
        entry: &Entry,
        asks: Vec<Ask>,
        stream: bool,
    ) -> Result<Self, ApiError> {
        let copies: usize = asks.iter().map(|ask| ask.copies).sum();
        // A whole answer has no more events than its prompt and itself have tokens, and three.
        let most = if stream { limits.behind } else { model.engine().context().saturating_add(3) };
        let behind = most.saturating_mul(copies);
        // Memory is taken as events come, not by the bound.
        let (sender, events) = channel(behind.clamp(1, tokio::sync::Semaphore::MAX_PERMITS));
        let overrun = Arc::new(AtomicBool::new(false));
        let mut choices = Vec::with_capacity(copies);
        let mut submissions = Vec::with_capacity(asks.len());
        let picture_tokens = asks.iter().map(|ask| ask.prompt.picture_tokens()).sum();
        let departure = asks.iter().find_map(|ask| ask.turn?.departure);
        for (prompt, ask) in asks.into_iter().enumerate() {
            let mut sinks = Vec::with_capacity(ask.copies);
            for copy in 0..ask.copies {
                let cancelled = Arc::new(AtomicBool::new(false));
                let tells = ask.tells_progress;
                sinks.push(sink(choices.len(), tells, &sender, &cancelled, &overrun, &model.end));
                // The prompt's tokens are told once.
                let prompt_logprobs = ask.params.prompt_logprobs.filter(|_| copy == 0);
                let params = GenerationParams { prompt_logprobs, ..ask.params.clone() };
                choices.push(Choice {
                    reader: model.engine().reader(&ask.prompt, &params)?,
                    prompt,
                    turn: ask.turn.map(|turn| (turn, ask.prompt.ids.clone())),
                    tells_progress: ask.tells_progress,
                    cancelled,
                });
            }
            submissions.push((model.request(&ask.prompt, &ask.params), sinks));
        }
        // The prompts are ids by now.
        entry.release();
        // The engine may have its first token before the last request is handed over.
        let start = Instant::now();
        for (request, sinks) in submissions {
            model.engine().submit(request, sinks);
        }
        Ok(Generations {
            limits: *limits,
            model: model.clone(),
            entry: entry.clone(),
            events,
            overrun,
            behind,
            open: choices.len(),
            choices,
            departure,
            picture_tokens,
            start,
            deadline: tokio::time::Instant::now() + limits.answer_time,
            waiting: None,
        })
    }

    /// Waits until the engine has taken the request or refused it, but not for long: what can be refused with a status
    /// should be, and a client should not wait for the head of an answer because others are before it.
    pub(crate) async fn admitted(&mut self) -> Result<(), ApiError> {
        let soon = tokio::time::Instant::now() + std::time::Duration::from_secs(1);
        match timeout_at(soon, self.events.recv()).await {
            Ok(Some((_, Event::Failed(error)))) => Err(self.refused(&error)),
            Ok(event) => {
                self.waiting = event;
                Ok(())
            }
            Err(_) => Ok(()),
        }
    }

    fn refused(&mut self, error: &EngineError) -> ApiError {
        ApiError::from_engine(error, self.model.metrics.retry_after())
    }

    /// More of one of the answers; `None` when all are complete. After an error nothing follows.
    pub(crate) async fn next(&mut self) -> Option<Result<ChoiceDelta, ApiError>> {
        while self.open > 0 {
            match self.event().await {
                Ok((index, event)) => match self.read(index, event) {
                    Ok(Some(delta)) => return Some(Ok(delta)),
                    Ok(None) => {}
                    Err(error) => return Some(Err(self.fail(error))),
                },
                Err(error) => return Some(Err(self.fail(error))),
            }
        }
        None
    }

    async fn event(&mut self) -> Result<(usize, Event), ApiError> {
        if let Some(event) = self.waiting.take() {
            return Ok(event);
        }
        let event = timeout_at(self.deadline, self.events.recv()).await;
        if self.overrun.load(Ordering::Relaxed) {
            return Err(ApiError::slow_reader(self.behind));
        }
        match event {
            Ok(Some(event)) => Ok(event),
            Ok(None) => Err(ApiError::internal("the engine has stopped")),
            Err(_) => Err(ApiError::timeout(self.limits.answer_time.as_secs())),
        }
    }

    fn fail(&mut self, error: ApiError) -> ApiError {
        self.open = 0;
        self.events.close();
        self.entry.failed(error.status());
        error
    }

    fn read(&mut self, index: usize, event: Event) -> Result<Option<ChoiceDelta>, ApiError> {
        let metrics = &self.model.metrics;
        let choice = &mut self.choices[index];
        let before = choice.reader.last_token();
        if let (Event::Token(token), Some((_, ids))) = (&event, &mut choice.turn) {
            ids.push(token.id);
        }
        let read = choice.reader.push(event);
        if let Some(at) = choice.reader.last_token().filter(|at| before != Some(*at)) {
            let seconds = at.saturating_duration_since(before.unwrap_or(self.start)).as_secs_f64();
            let figure = if before.is_none() { &metrics.first_token } else { &metrics.between_tokens };
            figure.observe(seconds);
        }
        let mut delta = match read {
            Ok(Some(delta)) => ChoiceDelta::of(index, delta),
            Ok(None) => return Ok(None),
            Err(error) => return Err(self.refused(&error)),
        };
        delta.progress = delta.progress.filter(|_| choice.tells_progress);
        if let Some(end) = &delta.end {
            choice.cancelled.store(true, Ordering::Relaxed);
            self.open -= 1;
            if let Some((turn, ids)) = choice.turn.take() {
                self.model.turns.keep(turn, &ids);
            }
            let ended = match end {
                End { repeats: true, .. } => Ended::Repetition,
                End { reason: "length", .. } => Ended::Length,
                _ => Ended::Stop,
            };
            metrics.ended(ended, self.start.elapsed().as_secs_f64());
        }
        let is_silent = delta.parts.is_empty()
            && delta.progress.is_none()
            && delta.tokens.is_empty()
            && delta.scores.is_none()
            && delta.end.is_none();
        Ok((!is_silent).then_some(delta))
    }

    /// How far a prompt is, in the words of llama.cpp's API.
    pub(crate) fn progress(&self, progress: &PromptProgress) -> Value {
        json!({
            "total": progress.total,
            "cache": progress.cached,
            "processed": progress.done,
            "time_ms": self.start.elapsed().as_millis() as u64,
        })
    }

    /// Where the prompt departs from what was read and written in the conversation's turn before.
    pub(crate) fn departure(&self) -> Option<Departure> {
        self.departure
    }

    /// Tokens of the prompts that stand for rows of pictures.
    pub(crate) fn picture_tokens(&self) -> usize {
        self.picture_tokens
    }

    /// How long it took until the first token was there, and from then to the last so far.
    pub(crate) fn times(&self) -> (Duration, Duration) {
        let first = self.choices.iter().filter_map(|choice| choice.reader.first_token()).min();
        let last = self.choices.iter().filter_map(|choice| choice.reader.last_token()).max();
        let Some((first, last)) = first.zip(last) else { return (self.start.elapsed(), Duration::ZERO) };
        (first.saturating_duration_since(self.start), last.saturating_duration_since(first))
    }

    /// The tokens so far.
    pub(crate) fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        let mut last = None;
        for choice in &self.choices {
            let own = choice.reader.usage();
            if last != Some(choice.prompt) {
                last = Some(choice.prompt);
                usage.prompt += own.prompt;
                usage.cached += own.cached;
            }
            usage.completion += own.completion;
            usage.reasoning += own.reasoning;
            usage.accepted += own.accepted;
            usage.rejected += own.rejected;
        }
        usage
    }
}

impl Drop for Generations {
    fn drop(&mut self) {
        let metrics = &self.model.metrics;
        for choice in &self.choices {
            if choice.reader.finish().is_none() {
                metrics.ended(Ended::Abort, self.start.elapsed().as_secs_f64());
            }
        }
        let usage = self.usage();
        metrics.used(usage);
        if self.departure.is_some() {
            metrics.departed();
        }
        self.entry.used(ModelUse {
            model: self.model.name().to_owned(),
            usage,
            departure: self.departure,
            start: self.start,
            first_token: self.choices.iter().filter_map(|choice| choice.reader.first_token()).min(),
            finishes: self.choices.iter().filter_map(|choice| choice.reader.finish().map(reason)).collect(),
        });
    }
}

/// Where the engine's thread puts an answer's events: it never waits here.
fn sink(
    index: usize,
    tells_progress: bool,
    sender: &Sender<(usize, Event)>,
    cancelled: &Arc<AtomicBool>,
    overrun: &Arc<AtomicBool>,
    end: &EngineEnd,
) -> Sink {
    let (sender, cancelled, overrun, end) = (sender.clone(), cancelled.clone(), overrun.clone(), end.clone());
    Box::new(move |event| {
        if let Event::Failed(error) = &event {
            end.note(error);
        }
        if cancelled.load(Ordering::Relaxed) || sender.is_closed() {
            return ControlFlow::Break(());
        }
        // Otherwise progress without news is only the question whether anybody still listens.
        if let Event::Prompt(prompt) = &event
            && !tells_progress
            && prompt.done < prompt.total
            && prompt.scores.is_empty()
        {
            return ControlFlow::Continue(());
        }
        match sender.try_send((index, event)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(TrySendError::Closed(_)) => ControlFlow::Break(()),
            Err(TrySendError::Full(_)) => {
                overrun.store(true, Ordering::Relaxed);
                ControlFlow::Break(())
            }
        }
    })
}
