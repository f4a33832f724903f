//! From the engine's events to pieces of text: the part of a request's way that all the APIs share.
//!
//! The engine's thread must never wait for a client. Each request has one bounded channel from that thread to the
//! connection's task; a client that falls further behind than the channel is long loses its answer, and is told so.
//! Dropping [`Generations`] closes the channel, which is how the engine learns that nobody listens any more.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use glimmer_chat::reply::{Decoding, Event as ReplyEvent};
use glimmer_engine::{Event, Finish, Request, Score, Sink, Token};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::timeout_at;

use crate::error::ApiError;
use crate::models::served::Model;
use crate::options::Limits;
use crate::record::entry::Entry;
use crate::record::metrics::Ended;
use crate::record::usage::{ModelUse, Usage};

/// A prompt and the answers that are to be made to it.
pub(crate) struct Ask {
    pub(crate) request: Request,
    /// How each of its answers is read.
    pub(crate) copies: Vec<Decoding>,
}

/// More of an answer.
#[derive(Debug, Default)]
pub(crate) struct Delta {
    /// Which answer.
    pub(crate) index: usize,
    pub(crate) text: String,
    pub(crate) reasoning: String,
    /// The tokens this is made of; a token whose text is still held back comes with what follows.
    pub(crate) tokens: Vec<Token>,
    /// With `finish`, the stop id that ended the answer, where log-probabilities were asked for.
    pub(crate) stop: Option<Token>,
    /// The log-probabilities of the prompt's tokens by their places, where they were asked for: once, with the first answer
    /// to the prompt. The first token has none.
    pub(crate) scores: Option<Vec<Option<Score>>>,
    /// Why the answer ends here: `stop` or `length`.
    pub(crate) finish: Option<&'static str>,
}

struct Choice {
    decoding: Option<Decoding>,
    prompt: usize,
    prompt_tokens: usize,
    cached: usize,
    tokens: usize,
    reasoning: usize,
    /// Tokens whose text is held back.
    held: Vec<Token>,
    /// Of the prompt's tokens, until they are told.
    scores: Option<Vec<Option<Score>>>,
    /// What ended it, until that is told.
    stop: Option<Token>,
    has_text: bool,
    finish: Option<&'static str>,
    first: Option<Instant>,
    last: Option<Instant>,
    /// Tells the engine's thread that no more of it is wanted.
    cancelled: Arc<AtomicBool>,
}

/// Answers being made.
pub(crate) struct Generations {
    limits: Limits,
    model: Arc<Model>,
    entry: Entry,
    events: Receiver<(usize, Event)>,
    overrun: Arc<AtomicBool>,
    behind: usize,
    choices: Vec<Choice>,
    open: usize,
    start: Instant,
    deadline: tokio::time::Instant,
    /// An event that was waited for before the answer's head was sent.
    waiting: Option<(usize, Event)>,
}

impl Generations {
    /// Hands the requests to the engine. A whole answer is waited for here, a stream by its client: only the second
    /// can fall behind.
    pub(crate) fn start(
        limits: &Limits,
        model: &Arc<Model>,
        entry: &Entry,
        asks: Vec<Ask>,
        stream: bool,
    ) -> Self {
        let copies: usize = asks.iter().map(|ask| ask.copies.len()).sum();
        let behind = if stream {
            limits.behind.saturating_mul(copies)
        } else {
            let events = |ask: &Ask| {
                let own = ask.request.prompt.len().saturating_add(ask.request.max_tokens).saturating_add(3);
                own.saturating_mul(ask.copies.len())
            };
            asks.iter().map(events).fold(0, usize::saturating_add)
        };
        // Memory is taken as events come, not by the bound.
        let (sender, events) = channel(behind.clamp(1, tokio::sync::Semaphore::MAX_PERMITS));
        let overrun = Arc::new(AtomicBool::new(false));
        let mut choices = Vec::with_capacity(copies);
        for (prompt, ask) in asks.into_iter().enumerate() {
            let mut sinks = Vec::with_capacity(ask.copies.len());
            for (copy, decoding) in ask.copies.into_iter().enumerate() {
                let cancelled = Arc::new(AtomicBool::new(false));
                sinks.push(sink(choices.len(), &sender, &cancelled, &overrun));
                let is_scored = copy == 0 && ask.request.prompt_logprobs.is_some();
                choices.push(Choice {
                    decoding: Some(decoding),
                    prompt,
                    prompt_tokens: ask.request.prompt.len(),
                    cached: 0,
                    tokens: 0,
                    reasoning: 0,
                    held: Vec::new(),
                    scores: is_scored.then(|| vec![None; ask.request.prompt.len()]),
                    stop: None,
                    has_text: false,
                    finish: None,
                    first: None,
                    last: None,
                    cancelled,
                });
            }
            model.served.engine.submit_copies(ask.request, sinks);
        }
        Generations {
            limits: *limits,
            model: model.clone(),
            entry: entry.clone(),
            events,
            overrun,
            behind,
            open: choices.len(),
            choices,
            start: Instant::now(),
            deadline: tokio::time::Instant::now() + limits.answer_time,
            waiting: None,
        }
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

    fn refused(&mut self, error: &glimmer_engine::EngineError) -> ApiError {
        ApiError::from_engine(error, self.model.metrics.retry_after())
    }

    /// More of one of the answers; `None` when all are complete. After an error nothing follows.
    pub(crate) async fn next(&mut self) -> Option<Result<Delta, ApiError>> {
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

    fn read(&mut self, index: usize, event: Event) -> Result<Option<Delta>, ApiError> {
        let metrics = &self.model.metrics;
        let choice = &mut self.choices[index];
        // What was on its way when a stop string was found.
        let Some(decoding) = &mut choice.decoding else { return Ok(None) };
        let (events, ended) = match event {
            Event::Prompt(prompt) => {
                choice.cached = prompt.cached;
                let Some(scores) = &mut choice.scores else { return Ok(None) };
                for score in prompt.scores {
                    // A prompt that is computed again after a preemption has the same ones.
                    if let Some(place) = scores.get_mut(score.index) {
                        *place = Some(score);
                    }
                }
                if prompt.done < prompt.total {
                    return Ok(None);
                }
                return Ok(Some(Delta { index, scores: choice.scores.take(), ..Delta::default() }));
            }
            Event::Token(token) => {
                choice.tokens += 1;
                match choice.last {
                    None => {
                        choice.first = Some(token.at);
                        metrics
                            .first_token
                            .observe((token.at.saturating_duration_since(self.start)).as_secs_f64());
                    }
                    Some(last) => {
                        metrics
                            .between_tokens
                            .observe(token.at.saturating_duration_since(last).as_secs_f64());
                    }
                }
                choice.last = Some(token.at);
                let events = decoding.push(token.id);
                if token.logprob.is_some() {
                    choice.held.push(token);
                }
                (events, decoding.stopped().is_some().then_some("stop"))
            }
            Event::Stop(token) => {
                choice.stop = Some(token);
                return Ok(None);
            }
            Event::Finished(Finish::Stop(_)) => (Vec::new(), Some("stop")),
            Event::Finished(_) => (Vec::new(), Some("length")),
            Event::Failed(error) => return Err(self.refused(&error)),
        };
        let mut delta = Delta { index, ..Delta::default() };
        let mut push = |events: Vec<ReplyEvent>, choice: &mut Choice| {
            for event in events {
                match event {
                    ReplyEvent::Reasoning(text) => delta.reasoning.push_str(&text),
                    ReplyEvent::Text(text) | ReplyEvent::ToolCallArguments(text) => {
                        delta.text.push_str(&text)
                    }
                    // Nobody has given the model tools; what looks like a call is what it wrote.
                    ReplyEvent::ToolCallStart { name } => {
                        delta.text.push_str(&name);
                        delta.text.push('\n');
                    }
                    ReplyEvent::ToolCallEnd => {}
                }
            }
            choice.has_text |= !delta.text.is_empty();
            if !delta.reasoning.is_empty() && !choice.has_text {
                choice.reasoning = choice.tokens;
            }
        };
        push(events, choice);
        if let Some(reason) = ended {
            choice.cancelled.store(true, Ordering::Relaxed);
            let (rest, stopped) = choice.decoding.take().map(Decoding::finish).unwrap_or_default();
            push(rest, choice);
            choice.finish = Some(if stopped.is_some() { "stop" } else { reason });
            delta.finish = choice.finish;
            delta.stop = choice.stop.take();
            self.open -= 1;
            let elapsed = self.start.elapsed().as_secs_f64();
            metrics.ended(if delta.finish == Some("stop") { Ended::Stop } else { Ended::Length }, elapsed);
        }
        if delta.text.is_empty() && delta.reasoning.is_empty() && delta.finish.is_none() {
            return Ok(None);
        }
        delta.tokens = std::mem::take(&mut self.choices[index].held);
        Ok(Some(delta))
    }

    /// The tokens so far.
    pub(crate) fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        let mut prompts = Vec::new();
        for choice in &self.choices {
            if !prompts.contains(&choice.prompt) {
                prompts.push(choice.prompt);
                usage.prompt += choice.prompt_tokens;
                usage.cached += choice.cached.min(choice.prompt_tokens);
            }
            usage.completion += choice.tokens;
            usage.reasoning += choice.reasoning;
        }
        usage
    }
}

impl Drop for Generations {
    fn drop(&mut self) {
        let metrics = &self.model.metrics;
        for choice in &self.choices {
            if choice.decoding.is_some() {
                metrics.ended(Ended::Abort, self.start.elapsed().as_secs_f64());
            }
        }
        let usage = self.usage();
        metrics.used(usage);
        self.entry.used(ModelUse {
            model: self.model.name().to_owned(),
            usage,
            start: self.start,
            first_token: self.choices.iter().filter_map(|choice| choice.first).min(),
            finishes: self.choices.iter().filter_map(|choice| choice.finish).collect(),
        });
    }
}

/// Where the engine's thread puts an answer's events: it never waits here.
fn sink(
    index: usize,
    sender: &Sender<(usize, Event)>,
    cancelled: &Arc<AtomicBool>,
    overrun: &Arc<AtomicBool>,
) -> Sink {
    let (sender, cancelled, overrun) = (sender.clone(), cancelled.clone(), overrun.clone());
    Box::new(move |event| {
        if cancelled.load(Ordering::Relaxed) || sender.is_closed() {
            return ControlFlow::Break(());
        }
        // Progress without news is only the question whether anybody still listens.
        if let Event::Prompt(prompt) = &event
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
