//! The thread that owns the decoder: drain messages, plan, forward, sample, publish.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Instant;

use glimmer_models::{Decoder, ModelError, PositionLayout};
use glimmer_tensor::Batch;

use crate::request::{Event, Finish, Prompt, Request, Sink, Token};
use crate::scheduler::{Limits, Piece, Refusal, Scheduler, Sequence, SequenceId};
use crate::{EngineError, Sampler, log_probabilities};

/// What reaches the worker.
pub(crate) enum Message {
    Submit(Request, Sink),
}

/// A request being served: everything about it that is not a matter of pages.
struct Answer {
    sink: Sink,
    layout: PositionLayout,
    sampler: Sampler,
    stop_ids: Vec<u32>,
    logprobs: Option<usize>,
    max_tokens: usize,
    chosen: usize,
    prompt_len: usize,
}

pub(crate) struct Worker {
    decoder: Decoder,
    scheduler: Scheduler,
    limits: Limits,
    inbox: Receiver<Message>,
    answers: HashMap<SequenceId, Answer>,
    next_id: SequenceId,
    logits: Vec<f32>,
}

impl Worker {
    pub(crate) fn new(decoder: Decoder, limits: Limits, pages: usize, inbox: Receiver<Message>) -> Self {
        let scheduler = Scheduler::new(limits, pages);
        Worker { decoder, scheduler, limits, inbox, answers: HashMap::new(), next_id: 0, logits: Vec::new() }
    }

    /// Serves until the last sender is gone and nothing is left to do.
    pub(crate) fn run(mut self) {
        while self.drain() {
            let plan = self.scheduler.plan();
            let result = self.forward(&plan);
            self.publish(&plan, result);
        }
    }

    /// Takes what has arrived; waits only when there is nothing else to do. False when there never will be.
    fn drain(&mut self) -> bool {
        loop {
            let message = if self.scheduler.is_idle() {
                self.inbox.recv().map_err(|_| TryRecvError::Disconnected)
            } else {
                self.inbox.try_recv()
            };
            match message {
                Ok(Message::Submit(request, sink)) => self.accept(request, sink),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return !self.scheduler.is_idle(),
            }
        }
    }

    fn accept(&mut self, request: Request, mut sink: Sink) {
        match self.enqueue(&request) {
            Ok((id, layout)) => {
                self.answers.insert(
                    id,
                    Answer {
                        sink,
                        layout,
                        sampler: Sampler::new(request.sampling, &request.prompt, request.continued),
                        stop_ids: request.stop_ids,
                        logprobs: request.logprobs,
                        max_tokens: request.max_tokens,
                        chosen: 0,
                        prompt_len: request.prompt.len(),
                    },
                );
            }
            Err(error) => {
                let _ = sink(Event::Failed(error));
            }
        }
    }

    fn enqueue(&mut self, request: &Request) -> Result<(SequenceId, PositionLayout), EngineError> {
        let prompt = &request.prompt;
        if prompt.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        let layout = PositionLayout::of_prompt(self.decoder.spec().positions, prompt)?;
        let prefix_len = layout.prefix_len();
        if prefix_len > self.limits.rows {
            return Err(EngineError::Indivisible { context: prefix_len, rows: self.limits.rows });
        }
        self.next_id += 1;
        let sequence = Sequence::new(self.next_id, prompt.clone(), prefix_len, request.priority);
        self.scheduler.submit(sequence).map_err(|refusal| match refusal {
            Refusal::QueueFull => EngineError::QueueFull { waiting: self.scheduler.waiting() },
            Refusal::TooLong => EngineError::TooLong { prompt: prompt.len(), context: self.limits.context },
        })?;
        Ok((self.next_id, layout))
    }

    /// Computes the planned rows; the logits of those that choose a token are read back.
    fn forward(&mut self, plan: &[Piece]) -> Result<(), ModelError> {
        let mut batch = Batch::default();
        for piece in plan {
            let (Some(s), Some(answer)) = (self.scheduler.sequence(piece.id), self.answers.get(&piece.id))
            else {
                continue;
            };
            let mut rope_pos = Vec::new();
            answer.layout.extend(piece.slots.clone(), &mut rope_pos);
            let last = piece.chooses.then_some(piece.slots.len() - 1);
            let ids = &s.tokens[piece.slots.clone()];
            batch.push(ids, piece.slots.clone(), &rope_pos, s.prefix_len, s.pages.clone(), last);
        }
        self.logits.clear();
        if batch.rows() == 0 {
            return Ok(());
        }
        self.decoder.forward(&batch)?;
        self.decoder.logits(batch.logits_rows.len(), &mut self.logits)
    }

    /// Chooses tokens and tells everybody what happened to them.
    fn publish(&mut self, plan: &[Piece], result: Result<(), ModelError>) {
        if let Err(error) = result {
            let text = error.to_string();
            plan.iter().for_each(|piece| self.end(piece.id, Event::Failed(EngineError::Step(text.clone()))));
            return;
        }
        let logits = std::mem::take(&mut self.logits);
        let mut rows = logits.chunks_exact(self.decoder.spec().vocab);
        for piece in plan {
            self.scheduler.computed(piece);
            let row = if piece.chooses { rows.next() } else { None };
            self.advance(piece, row);
        }
        self.logits = logits;
    }

    /// Reports a computed piece: progress of a prompt, or the next token.
    fn advance(&mut self, piece: &Piece, logits: Option<&[f32]>) {
        let Some(answer) = self.answers.get_mut(&piece.id) else { return };
        let cached = self.scheduler.sequence(piece.id).map_or(0, |s| s.cached);
        if answer.chosen == 0 {
            let total = answer.prompt_len;
            let progress = Prompt { done: piece.slots.end.min(total), total, cached };
            if (answer.sink)(Event::Prompt(progress)).is_break() {
                return self.forget(piece.id);
            }
        }
        let Some(logits) = logits else { return };
        if answer.max_tokens == 0 {
            return self.end(piece.id, Event::Finished(Finish::Length));
        }
        let id = answer.sampler.next(logits);
        if answer.stop_ids.contains(&id) {
            return self.end(piece.id, Event::Finished(Finish::Stop(id)));
        }
        answer.chosen += 1;
        let (logprob, top) = match answer.logprobs {
            Some(n) => {
                let (own, top) = log_probabilities(logits, id, n);
                (Some(own), top)
            }
            None => (None, Vec::new()),
        };
        if (answer.sink)(Event::Token(Token { id, at: Instant::now(), logprob, top })).is_break() {
            return self.forget(piece.id);
        }
        if answer.chosen == answer.max_tokens {
            self.end(piece.id, Event::Finished(Finish::Length));
        } else if !self.scheduler.append(piece.id, id) {
            self.end(piece.id, Event::Finished(Finish::ContextFull));
        }
    }

    fn end(&mut self, id: SequenceId, event: Event) {
        if let Some(mut answer) = self.answers.remove(&id) {
            let _ = (answer.sink)(event);
        }
        self.scheduler.finish(id);
    }

    /// Ends a request whose receiver wants no more.
    fn forget(&mut self, id: SequenceId) {
        self.answers.remove(&id);
        self.scheduler.finish(id);
    }
}
