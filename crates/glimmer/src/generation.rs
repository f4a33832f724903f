//! One answer being made, for somebody who waits for it.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use glimmer_chat::reply::Reply;
use glimmer_engine::{EngineError, Event, Token};

use crate::delta::{Delta, DeltaReader, FinishReason, Timings, Usage};
use crate::{Engine, Error, GenerationParams, Prompt};

/// An answer being made: an iterator over its parts. Dropping it is the only cancellation; the engine is free for others
/// at its next step.
pub struct Generation {
    reader: DeltaReader,
    /// `None` once no more of it comes.
    events: Option<Receiver<Event>>,
    params: GenerationParams,
    /// The answer's tokens, kept where it may be resumed.
    ids: Vec<u32>,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Completion {
    /// Its text, reasoning and tool calls.
    pub reply: Reply,
    /// Its tokens, with log-probabilities where they were asked for.
    pub tokens: Vec<Token>,
    /// Why it ended.
    pub finish: FinishReason,
    /// Where it was not held to all of its form while it was made: whether it has it all the same, or what it breaks.
    pub check: Option<Result<(), String>>,
    /// Tokens that were read and written.
    pub usage: Usage,
    /// How long it took.
    pub timings: Timings,
}

impl Generation {
    pub(crate) fn new(reader: DeltaReader, events: Receiver<Event>, params: GenerationParams) -> Self {
        Generation { reader, events: Some(events), params, ids: Vec::new() }
    }

    /// The next part, where one comes within `patience`. `None` when nothing came, and when nothing will: see
    /// [`Generation::is_over`].
    ///
    /// # Errors
    /// When the request is refused, or the answer cannot be completed.
    pub fn next_within(&mut self, patience: Duration) -> Result<Option<Delta>, Error> {
        let Some(events) = &self.events else { return Ok(None) };
        let event = match events.recv_timeout(patience) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => return Ok(None),
            Err(RecvTimeoutError::Disconnected) => Event::Failed(EngineError::Stopped),
        };
        self.push(event)
    }

    fn push(&mut self, event: Event) -> Result<Option<Delta>, Error> {
        if let Event::Token(token) = &event
            && self.params.resumable
        {
            self.ids.push(token.id);
        }
        let delta = self.reader.push(event);
        if delta.is_err() || self.reader.finish().is_some() || self.reader.is_full() {
            self.events = None;
        }
        Ok(delta?)
    }

    /// Whether no more of it comes.
    pub fn is_over(&self) -> bool {
        self.events.is_none()
    }

    /// Whether the context is full and [`Generation::resume`] would go on.
    pub fn is_full(&self) -> bool {
        self.reader.is_full()
    }

    /// Tokens that the answer has so far, where it may be resumed.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Goes on with an answer that a full context interrupted, after a shorter prompt.
    pub fn resume(&mut self, engine: &Engine, prompt: &Prompt) {
        self.reader.resume(prompt.ids.len());
        let mut request = engine.request(prompt, &self.params);
        request.prompt.extend(&self.ids);
        request.continued = self.ids.len();
        request.max_tokens = request.max_tokens.saturating_sub(self.ids.len());
        self.events = Some(engine.answer(request));
    }

    /// Ends it; what was held back comes out.
    pub fn cancel(&mut self) -> Delta {
        self.events = None;
        let finish = if self.reader.is_full() { FinishReason::ContextFull } else { FinishReason::Cancelled };
        self.reader.close(finish)
    }

    /// Why it ended, once it has.
    pub fn finish(&self) -> Option<&FinishReason> {
        self.reader.finish()
    }

    /// The tokens so far.
    pub fn usage(&self) -> Usage {
        self.reader.usage()
    }

    /// How long it took, or has taken so far.
    pub fn timings(&self) -> Timings {
        self.reader.timings()
    }

    /// Waits for the whole answer.
    ///
    /// # Errors
    /// When the request is refused, or the answer cannot be completed.
    pub fn complete(mut self) -> Result<Completion, Error> {
        let (mut reply, mut tokens, mut check) = (Reply::default(), Vec::new(), None);
        for delta in &mut self {
            let delta = delta?;
            delta.parts.into_iter().for_each(|part| reply.push(part));
            tokens.extend(delta.tokens);
            check = check.or(delta.check);
        }
        let finish = self.finish().cloned().unwrap_or(FinishReason::Cancelled);
        Ok(Completion { reply, tokens, finish, check, usage: self.usage(), timings: self.timings() })
    }
}

impl Iterator for Generation {
    type Item = Result<Delta, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let event = self.events.as_ref()?.recv().unwrap_or(Event::Failed(EngineError::Stopped));
            if let Some(delta) = self.push(event).transpose() {
                return Some(delta);
            }
        }
    }
}
