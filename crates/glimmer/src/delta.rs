//! From the engine's events to pieces of one answer: text, reasoning, tool calls, scores, and at last how it ended.

use std::time::{Duration, Instant};

use glimmer_chat::reply::{Decoding, ReplyPart};
use glimmer_engine::{EngineError, Event, PromptProgress, Score, Token};

use crate::answer_check::AnswerCheck;
use crate::repeated_calls::RepeatedCalls;
use crate::{AnswerForm, GenerationParams};

/// More of an answer.
#[derive(Debug, Default)]
pub struct Delta {
    /// Text, reasoning and tool calls, in order. Of a model that skipped the reasoning which its prompt opened,
    /// [`ReplyPart::ReasoningSkipped`] says at the end that what came as reasoning was the answer, which follows once more.
    pub parts: Vec<ReplyPart>,
    /// The tokens that these parts are made of. One whose text is still held back comes with what follows.
    pub tokens: Vec<Token>,
    /// How much of the prompt has been read.
    pub progress: Option<PromptProgress>,
    /// The log-probabilities of the prompt's tokens by their places, where they were asked for: once. The first token has
    /// none.
    pub scores: Option<Vec<Option<Score>>>,
    /// With `finish`, the stop id that ended the answer, where log-probabilities were asked for.
    pub stop: Option<Token>,
    /// Why the answer ends here.
    pub finish: Option<FinishReason>,
    /// With `finish`, where the answer or a call in it was not held to all of its form while it was made: whether it has it all
    /// the same, or what it breaks.
    pub check: Option<Result<(), String>>,
}

impl Delta {
    /// The answer's text in it, without reasoning and calls.
    pub fn text(&self) -> String {
        self.parts
            .iter()
            .filter_map(|part| if let ReplyPart::Text(text) = part { Some(text.as_str()) } else { None })
            .collect()
    }
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended it.
    Stop,
    /// One of the strings that were to end it came up; it is no part of the answer.
    StopString(String),
    /// The model calls tools and waits for what they return.
    ToolCalls,
    /// It has as many tokens as were asked for.
    MaxTokens,
    /// The context is full.
    ContextFull,
    /// It repeats itself, and was to end for that.
    Repetition {
        /// Whether its last call is complete.
        calls: bool,
    },
    /// Nobody wants more of it.
    Cancelled,
}

/// Tokens of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of the prompt.
    pub prompt: usize,
    /// Of these, remembered from before.
    pub cached: usize,
    /// Of the answer.
    pub completion: usize,
    /// Of these, reasoning before the text.
    pub reasoning: usize,
    /// Of those of the answer, guessed ahead.
    pub accepted: usize,
    /// Guesses beside them that were computed and wrong; no tokens of the answer.
    pub rejected: usize,
}

/// How long an answer took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timings {
    /// From the request to its first token.
    pub first_token: Duration,
    /// From the request to its end.
    pub total: Duration,
    /// Tokens of the prompt that were not remembered, over the time to the first token, per second.
    pub prompt_tokens_per_second: f64,
    /// Tokens after the first, over the time from the first to the last, per second; 0 when there are none.
    pub tokens_per_second: f64,
}

/// Reads the events of one answer.
pub struct DeltaReader {
    /// `None` where only ids are wanted.
    decoding: Option<Decoding>,
    /// Whether a full context ends the answer; otherwise somebody makes room and goes on.
    ends_when_full: bool,
    /// Whether the first call ends it.
    single_call: bool,
    /// Calls that were made, where the same one often ends it.
    repeated: Option<RepeatedCalls>,
    usage: Usage,
    /// Tokens whose text is held back.
    held: Vec<Token>,
    /// Of the prompt's tokens, until they are told.
    scores: Option<Vec<Option<Score>>>,
    /// What ended it, until that is told.
    stop: Option<Token>,
    has_text: bool,
    /// What is checked at the end.
    check: Option<AnswerCheck>,
    /// Whether the last call is complete; `None` without one.
    call: Option<bool>,
    finish: Option<FinishReason>,
    is_full: bool,
    start: Instant,
    first: Option<Instant>,
    last: Option<Instant>,
    end: Option<Instant>,
}

impl DeltaReader {
    pub(crate) fn new(decoding: Option<Decoding>, prompt_tokens: usize, params: &GenerationParams) -> Self {
        DeltaReader {
            decoding,
            ends_when_full: !params.resumable,
            single_call: params.single_call,
            repeated: params.repetition_detection.map(|wanted| RepeatedCalls::new(wanted.min_count())),
            usage: Usage { prompt: prompt_tokens, ..Usage::default() },
            held: Vec::new(),
            scores: params.prompt_logprobs.is_some().then(|| vec![None; prompt_tokens]),
            stop: None,
            has_text: false,
            check: None,
            call: None,
            finish: None,
            is_full: false,
            start: Instant::now(),
            first: None,
            last: None,
            end: None,
        }
    }

    /// The same for an answer in a form, which is checked where it could not be held to all of it.
    pub(crate) fn checking(mut self, form: Option<&AnswerForm>) -> Self {
        self.check = form.map(AnswerCheck::new);
        self
    }

    /// Takes the next event. `None` when it brings nothing new to tell; after a delta with a `finish`, always.
    ///
    /// # Errors
    /// When the answer cannot be completed.
    pub fn push(&mut self, event: Event) -> Result<Option<Delta>, EngineError> {
        if self.finish.is_some() {
            return Ok(None);
        }
        let mut delta = Delta::default();
        let finish = match event {
            Event::Prompt(progress) => return Ok(Some(self.read_prompt(progress))),
            Event::Token(token) => self.read_token(token, &mut delta),
            Event::Stop(token) => {
                self.stop = Some(token);
                return Ok(None);
            }
            Event::Finished(glimmer_engine::Finish::Stop(_)) => Some(FinishReason::Stop),
            Event::Finished(glimmer_engine::Finish::Length) => Some(FinishReason::MaxTokens),
            Event::Finished(glimmer_engine::Finish::Repetition) => {
                Some(FinishReason::Repetition { calls: false })
            }
            Event::Finished(glimmer_engine::Finish::ContextFull) if !self.ends_when_full => {
                self.is_full = true;
                return Ok(None);
            }
            Event::Finished(glimmer_engine::Finish::ContextFull) => Some(FinishReason::ContextFull),
            Event::Failed(error) => return Err(error),
        };
        if let Some(finish) = finish {
            self.end(finish, &mut delta);
        }
        let is_silent = delta.parts.is_empty() && delta.finish.is_none() && self.decoding.is_some();
        if is_silent {
            return Ok(None);
        }
        delta.tokens = std::mem::take(&mut self.held);
        Ok(Some(delta))
    }

    /// Ends an answer from outside: nobody wants more of it, or it stopped at a full context. What was held back comes
    /// out.
    pub(crate) fn close(&mut self, finish: FinishReason) -> Delta {
        let mut delta = Delta::default();
        if self.finish.is_none() {
            self.end(finish, &mut delta);
            delta.tokens = std::mem::take(&mut self.held);
        }
        delta
    }

    fn read_prompt(&mut self, mut progress: PromptProgress) -> Delta {
        self.usage.cached = progress.cached.min(self.usage.prompt);
        let mut delta = Delta::default();
        if let Some(scores) = &mut self.scores {
            for score in std::mem::take(&mut progress.scores) {
                // A prompt that is computed again after a preemption has the same ones.
                if let Some(place) = scores.get_mut(score.index) {
                    *place = Some(score);
                }
            }
            if progress.done >= progress.total {
                delta.scores = self.scores.take();
            }
        }
        delta.progress = Some(progress);
        delta
    }

    fn read_token(&mut self, token: Token, delta: &mut Delta) -> Option<FinishReason> {
        self.usage.completion += 1;
        self.usage.accepted += usize::from(token.guessed);
        self.usage.rejected += token.rejected;
        self.first.get_or_insert(token.at);
        self.last = Some(token.at);
        let id = token.id;
        self.held.push(token);
        let decoding = self.decoding.as_mut()?;
        let parts = decoding.push(id);
        let stopped = decoding.stopped().map(|text| FinishReason::StopString(text.to_owned()));
        self.tell(parts, delta);
        self.called().or(stopped)
    }

    fn end(&mut self, finish: FinishReason, delta: &mut Delta) {
        let is_whole = finish == FinishReason::Stop;
        let rest = self.decoding.take().map(|decoding| decoding.finish(is_whole));
        let (rest, stopped) = rest.unwrap_or_default();
        self.tell(rest, delta);
        let finish = match (finish, stopped) {
            (
                finish @ (FinishReason::Cancelled
                | FinishReason::ToolCalls
                | FinishReason::Repetition { calls: true }),
                _,
            ) => finish,
            (_, Some(text)) => FinishReason::StopString(text),
            (FinishReason::Stop, None) if self.call == Some(true) => FinishReason::ToolCalls,
            (FinishReason::Repetition { .. }, None) => {
                FinishReason::Repetition { calls: self.call == Some(true) }
            }
            (finish, None) => finish,
        };
        self.end = Some(Instant::now());
        self.finish = Some(finish.clone());
        delta.finish = Some(finish);
        delta.stop = self.stop.take();
        delta.check = self.check.take().and_then(AnswerCheck::finish);
    }

    fn tell(&mut self, parts: Vec<ReplyPart>, delta: &mut Delta) {
        for part in parts {
            if self.called().is_some() {
                return;
            }
            self.repeated.iter_mut().for_each(|repeated| repeated.push(&part));
            match &part {
                ReplyPart::Text(text) if text.is_empty() => continue,
                ReplyPart::Reasoning(_) if !self.has_text => self.usage.reasoning = self.usage.completion,
                ReplyPart::ToolCallStart { .. } => self.call = Some(false),
                ReplyPart::ToolCallEnd => self.call = Some(true),
                ReplyPart::ReasoningSkipped => self.usage.reasoning = 0,
                ReplyPart::Text(_) | ReplyPart::Reasoning(_) | ReplyPart::ToolCallArguments(_) => {}
            }
            self.check.iter_mut().for_each(|check| check.push(&part));
            self.has_text |= !matches!(part, ReplyPart::Reasoning(_));
            delta.parts.push(part);
        }
    }

    /// Why its last call ends it, if it does.
    fn called(&self) -> Option<FinishReason> {
        if self.single_call && self.call == Some(true) {
            return Some(FinishReason::ToolCalls);
        }
        let repeats = self.repeated.as_ref().is_some_and(RepeatedCalls::is_reached);
        repeats.then_some(FinishReason::Repetition { calls: true })
    }

    /// The tokens so far.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// Why it ended, once it has.
    pub fn finish(&self) -> Option<&FinishReason> {
        self.finish.as_ref()
    }

    /// Whether the context is full and the answer waits for room: see [`crate::Generation::resume`].
    pub(crate) fn is_full(&self) -> bool {
        self.is_full
    }

    /// The request goes on after another prompt, of this many tokens without those of the answer.
    pub(crate) fn resume(&mut self, prompt_tokens: usize) {
        self.is_full = false;
        self.usage.prompt = prompt_tokens;
    }

    /// When the first token was chosen.
    pub fn first_token(&self) -> Option<Instant> {
        self.first
    }

    /// When the last token was chosen.
    pub fn last_token(&self) -> Option<Instant> {
        self.last
    }

    /// How long it took, or has taken so far.
    pub fn timings(&self) -> Timings {
        let total = self.end.unwrap_or_else(Instant::now).saturating_duration_since(self.start);
        // As the engine saw them: whoever reads may be slow.
        let since = |at: Option<Instant>| at.map_or(total, |at| at.saturating_duration_since(self.start));
        let (first, last) = (since(self.first), since(self.last));
        let per_second = |tokens: usize, time: Duration| tokens as f64 / time.as_secs_f64().max(1e-9);
        let further = self.usage.completion.saturating_sub(1);
        Timings {
            first_token: first,
            total,
            prompt_tokens_per_second: per_second(self.usage.prompt - self.usage.cached, first),
            tokens_per_second: if further > 0 {
                per_second(further, last.saturating_sub(first))
            } else {
                0.0
            },
        }
    }
}
