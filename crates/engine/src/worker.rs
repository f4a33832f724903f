//! The thread that owns the decoder: accept what has arrived, plan, forward, choose, tell.
//!
//! Whatever goes wrong in one request's path, a panic of its sink included, ends that request and no other. A step that
//! fails is repeated for each of its requests alone, so that only those fail that fail by themselves. A device that is
//! lost ends all of them, and the thread.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use glimmer_models::{Decoder, ModelError, PositionLayout};
use glimmer_tensor::{Batch, DeviceError};

use crate::constraint::{Constrained, Shared};
use crate::masks::Masks;
use crate::request::{
    Event, Finish, PromptProgress, Request, Score, Sink, Speculation, Token, room_for_answer,
};
use crate::scheduler::{Appended, Piece, Refusal, Scheduler, SchedulerLimits, Sequence, SequenceId};
use crate::speculation::{Drafter, MOST, StepCosts};
use crate::{EngineError, PageListener, Sampler, Statistics, log_probabilities};

/// What reaches the worker: a request, to be answered once per sink.
pub(crate) struct Submission {
    pub(crate) request: Request,
    pub(crate) sinks: Vec<Sink>,
}

/// A request being served: everything about it that is not a matter of pages.
struct ActiveRequest {
    sink: Sink,
    way: Way,
    chosen: usize,
    /// Whether its receiver knows that it was admitted.
    announced: bool,
}

/// How a request is answered.
struct Way {
    layout: PositionLayout,
    sampler: Sampler,
    drafter: Option<Drafter>,
    speculation: Speculation,
    constrained: Option<Shared>,
    stop_ids: Vec<u32>,
    /// New tokens before which none of them may be chosen.
    min_tokens: usize,
    logprobs: Option<usize>,
    prompt_logprobs: Option<usize>,
    max_tokens: usize,
    /// Why the answer ends when it has `max_tokens`.
    at_most: Finish,
    prompt_len: usize,
}

pub(crate) struct Worker {
    decoder: Decoder,
    scheduler: Scheduler,
    limits: SchedulerLimits,
    inbox: Receiver<Submission>,
    active: HashMap<SequenceId, ActiveRequest>,
    next_id: SequenceId,
    logits: Vec<f32>,
    costs: StepCosts,
    /// Once an answer was constrained.
    masks: Option<Masks>,
    statistics: Statistics,
    shared: Arc<Mutex<Statistics>>,
    listener: Option<PageListener>,
    /// Why the device is lost, once it is.
    lost: Option<DeviceError>,
}

/// Turns a panic into an error.
pub(crate) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, EngineError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        EngineError::Fault(text.unwrap_or_else(|| "a panic without a message".to_owned()))
    })
}

/// An event for somebody who is not listened to any more.
fn tell_last(mut sink: Sink, event: Event) {
    // A sink that panics has nobody left to tell.
    let _ = guarded(move || {
        let _ = sink(event);
    });
}

impl Worker {
    pub(crate) fn new(
        decoder: Decoder,
        limits: SchedulerLimits,
        pages: usize,
        inbox: Receiver<Submission>,
        shared: Arc<Mutex<Statistics>>,
        listener: Option<PageListener>,
    ) -> Self {
        let scheduler = Scheduler::new(limits, pages);
        Worker {
            decoder,
            scheduler: if listener.is_some() { scheduler.with_page_events() } else { scheduler },
            limits,
            inbox,
            active: HashMap::new(),
            next_id: 0,
            logits: Vec::new(),
            costs: StepCosts::default(),
            masks: None,
            statistics: Statistics { pages, ..Statistics::default() },
            shared,
            listener,
            lost: None,
        }
    }

    /// Serves until the last sender is gone and nothing is left to do, or the device is lost.
    pub(crate) fn run(mut self) {
        while self.lost.is_none()
            && let Some(begin) = self.drain()
        {
            self.guess();
            let plan = self.scheduler.plan();
            self.announce();
            let forward = self.step(&plan);
            self.report_pages();
            self.note(&plan, begin.elapsed(), forward);
        }
        if let Some(lost) = self.lost.take() {
            self.give_up(&lost);
        }
    }

    /// Ends everybody's requests.
    fn give_up(&mut self, lost: &DeviceError) {
        let failed = || Event::Failed(ModelError::from(lost.clone()).into());
        let ids: Vec<SequenceId> = self.active.keys().copied().collect();
        for id in ids {
            let _ = self.end(id, failed());
        }
        while let Ok(submission) = self.inbox.try_recv() {
            self.statistics.failed += submission.sinks.len() as u64;
            submission.sinks.into_iter().for_each(|sink| tell_last(sink, failed()));
        }
        self.publish_statistics();
    }

    /// Accepts what has arrived, and waits for it when there is nothing else to do. Returns when the work began; `None`
    /// when there is none and never will be.
    fn drain(&mut self) -> Option<Instant> {
        let first = if self.scheduler.is_idle() { Some(self.inbox.recv().ok()?) } else { None };
        let begin = Instant::now();
        first.into_iter().for_each(|submission| self.accept(submission));
        // Once nobody can send any more, what there is is served to the end.
        while let Ok(submission) = self.inbox.try_recv() {
            self.accept(submission);
        }
        Some(begin)
    }

    fn accept(&mut self, submission: Submission) {
        let Submission { request, sinks } = submission;
        if !self.scheduler.has_room(sinks.len()) {
            self.forget_the_absent();
        }
        let full = !self.scheduler.has_room(sinks.len());
        let waiting = self.scheduler.waiting().len();
        for (copy, sink) in sinks.into_iter().enumerate() {
            let enqueued = if full {
                Err(EngineError::QueueFull { waiting })
            } else {
                guarded(|| self.enqueue(&request, copy)).flatten()
            };
            match enqueued {
                Ok((id, way)) => {
                    self.active.insert(id, ActiveRequest { sink, way, chosen: 0, announced: false });
                }
                Err(error) => {
                    self.statistics.failed += 1;
                    tell_last(sink, Event::Failed(error));
                }
            }
        }
        self.publish_statistics();
    }

    /// Asks those that wait whether anybody still listens.
    fn forget_the_absent(&mut self) {
        let waiting: Vec<SequenceId> = self.scheduler.waiting().iter().map(|s| s.id).collect();
        for id in waiting {
            // Whether they do is all that is asked.
            let _ = self.report_progress(id, 0, Vec::new());
        }
    }

    fn enqueue(&mut self, request: &Request, copy: usize) -> Result<(SequenceId, Way), EngineError> {
        let prompt = &request.prompt;
        if prompt.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        request.sampling.check()?;
        let spec = self.decoder.spec();
        let layout = PositionLayout::of_prompt(spec.positions, prompt)?;
        let vocab = spec.vocab;
        if let Some(&id) = prompt.iter().find(|&&id| id as usize >= vocab) {
            return Err(EngineError::OutsideVocabulary { id, vocab });
        }
        let prefix_len = layout.prefix_len();
        if prefix_len > self.limits.rows {
            return Err(EngineError::Indivisible { context: prefix_len, rows: self.limits.rows });
        }
        let max_tokens = room_for_answer(prompt.len(), request.max_tokens, self.limits.context)?;
        let at_most = if max_tokens < request.max_tokens { Finish::ContextFull } else { Finish::Length };
        let mut sampling = request.sampling.clone();
        sampling.seed = sampling.seed.wrapping_add(copy as u64);
        let answered = prompt.len().saturating_sub(request.continued);
        let constrained = request.constraint.as_ref();
        let constrained =
            constrained.map(|maker| Constrained::new(maker, &prompt[answered..])).transpose()?;
        let way = Way {
            layout,
            sampler: Sampler::new(sampling, prompt, request.continued),
            drafter: (request.speculation != Speculation::Off).then(Drafter::new),
            speculation: request.speculation,
            constrained: constrained.map(Shared::new),
            stop_ids: request.stop_ids.clone(),
            min_tokens: request.min_tokens.saturating_sub(request.continued),
            logprobs: request.logprobs,
            // The copies would only say what the first one says.
            prompt_logprobs: request.prompt_logprobs.filter(|_| copy == 0),
            max_tokens,
            at_most,
            prompt_len: prompt.len(),
        };
        self.next_id += 1;
        let sequence = Sequence::new(self.next_id, prompt.clone(), prefix_len, request.priority);
        let sequence = if way.prompt_logprobs.is_some() { sequence.with_scores() } else { sequence };
        self.scheduler.submit(sequence).map_err(|refusal| match refusal {
            Refusal::QueueFull => EngineError::QueueFull { waiting: self.scheduler.waiting().len() },
            Refusal::TooLong => EngineError::TooLong { prompt: prompt.len(), context: self.limits.context },
        })?;
        Ok((self.next_id, way))
    }

    /// Guesses how answers go on, as far as it pays. What an answer must go on with is no guess and always pays.
    fn guess(&mut self) {
        let answering: Vec<SequenceId> =
            self.scheduler.running().iter().filter(|s| s.is_answering()).map(|s| s.id).collect();
        let rows = answering.len();
        for id in answering {
            let (Some(s), Some(answer)) = (self.scheduler.sequence(id), self.active.get_mut(&id)) else {
                continue;
            };
            let room = (answer.way.max_tokens - answer.chosen).saturating_sub(1);
            let constrained = answer.way.constrained.as_ref();
            let forced = constrained.map(|own| own.lock().forced().iter().copied().take(room).collect());
            if let Some(forced) = forced.filter(|forced: &Vec<u32>| !forced.is_empty()) {
                answer.way.drafter.iter_mut().for_each(Drafter::forget);
                self.scheduler.draft(id, &forced);
                continue;
            }
            let most = MOST.min(room);
            let Some(drafter) = &mut answer.way.drafter else { continue };
            let worthwhile = match answer.way.speculation {
                Speculation::Always => MOST,
                _ => self.costs.worthwhile(drafter.acceptance(), rows),
            };
            let guesses = drafter.guess(&s.tokens, most);
            let drafts = guesses[..worthwhile.min(guesses.len())].to_vec();
            self.scheduler.draft(id, &drafts);
        }
    }

    /// Tells those that were admitted so, and hears whether they are still wanted before anything is computed for them.
    fn announce(&mut self) {
        let admitted: Vec<(SequenceId, usize)> =
            self.scheduler.running().iter().map(|s| (s.id, s.computed)).collect();
        for (id, computed) in admitted {
            if let Some(answer) = self.active.get_mut(&id)
                && !std::mem::replace(&mut answer.announced, true)
            {
                let _ = self.report_progress(id, computed, Vec::new());
            }
        }
    }

    /// Computes a plan and tells everybody what came of it. Returns the time in the model.
    fn step(&mut self, plan: &[Piece]) -> Duration {
        let begin = Instant::now();
        self.order_masks(plan);
        let result = guarded(|| self.forward(plan)).flatten();
        let mut forward = begin.elapsed();
        match result {
            Ok(()) => self.publish(plan),
            Err(EngineError::Model(ModelError::Device(lost @ DeviceError::Lost(_)))) => {
                self.lost = Some(lost);
            }
            Err(error) => match plan {
                [piece] => {
                    let _ = self.end(piece.id, Event::Failed(error));
                }
                _ => {
                    forward +=
                        plan.iter().map(|piece| self.step(std::slice::from_ref(piece))).sum::<Duration>()
                }
            },
        }
        forward
    }

    /// Has the masks that a step's choices need computed meanwhile.
    fn order_masks(&mut self, plan: &[Piece]) {
        let mut order = Vec::new();
        for piece in plan.iter().filter(|piece| piece.chooses) {
            let own = self.active.get(&piece.id).and_then(|answer| answer.way.constrained.as_ref());
            order.extend(own.filter(|own| own.lock().needs_mask(piece.drafts)).cloned());
        }
        if order.is_empty() {
            return;
        }
        if self.masks.is_none() {
            self.masks = Masks::start().ok();
        }
        self.masks.iter().for_each(|masks| masks.order(std::mem::take(&mut order)));
    }

    /// Computes the planned rows and reads the logits that are wanted.
    fn forward(&mut self, plan: &[Piece]) -> Result<(), EngineError> {
        let mut batch = Batch::default();
        for piece in plan {
            let (Some(s), Some(answer)) = (self.scheduler.sequence(piece.id), self.active.get(&piece.id))
            else {
                continue;
            };
            let mut rope_pos = Vec::new();
            answer.way.layout.extend(piece.slots.clone(), &mut rope_pos);
            let known = &s.tokens[piece.slots.start..piece.slots.end - piece.drafts];
            let ids = [known, &s.drafts[..piece.drafts]].concat();
            let first = piece.slots.start;
            let wanted = piece.logits.start - first..piece.logits.end - first;
            batch.push(&ids, piece.slots.clone(), &rope_pos, s.prefix_len, s.pages.clone(), wanted);
        }
        self.logits.clear();
        if batch.rows() == 0 {
            return Ok(());
        }
        self.decoder.forward(&batch)?;
        Ok(self.decoder.logits(batch.logits_rows.len(), &mut self.logits)?)
    }

    /// Chooses tokens and tells everybody what happened to them.
    fn publish(&mut self, plan: &[Piece]) {
        let logits = std::mem::take(&mut self.logits);
        let vocab = self.decoder.spec().vocab;
        let mut rest = logits.as_slice();
        // Who went away before the step has no rows in it.
        for piece in plan {
            if !self.active.contains_key(&piece.id) {
                continue;
            }
            let (own, others) = rest.split_at(piece.logits.len() * vocab);
            rest = others;
            if let Err(fault) = guarded(|| self.advance(piece, own, vocab)) {
                let _ = self.end(piece.id, Event::Failed(fault));
            }
        }
        self.logits = logits;
    }

    /// Records a computed piece: progress of a prompt, the next token, or several that had been guessed.
    fn advance(&mut self, piece: &Piece, logits: &[f32], vocab: usize) {
        self.scheduler.computed(piece);
        let Some(answer) = self.active.get(&piece.id) else { return };
        if answer.chosen == 0 {
            let scores = self.scores(piece, logits, vocab);
            if self.report_progress(piece.id, piece.slots.end, scores).is_break() {
                return;
            }
        }
        if piece.chooses {
            self.statistics.drafted_tokens += piece.drafts as u64;
            let rows = logits.chunks_exact(vocab);
            let skipped = rows.len() - 1 - piece.drafts;
            for (index, row) in rows.skip(skipped).enumerate() {
                if self.choose(piece.id, row, index).is_break() {
                    break;
                }
            }
        }
    }

    /// Tells how far a prompt is; ends its request when nobody listens.
    fn report_progress(&mut self, id: SequenceId, done: usize, scores: Vec<Score>) -> ControlFlow<()> {
        let cached = self.scheduler.sequence(id).map_or(0, |s| s.cached);
        let Some(answer) = self.active.get(&id) else { return ControlFlow::Break(()) };
        let total = answer.way.prompt_len;
        let done = if answer.chosen > 0 { total } else { done.min(total) };
        self.tell(id, Event::Prompt(PromptProgress { done, total, cached, scores }))
    }

    /// The log-probabilities of the prompt's tokens that a piece's logits are about.
    fn scores(&self, piece: &Piece, logits: &[f32], vocab: usize) -> Vec<Score> {
        let (Some(s), Some(answer)) = (self.scheduler.sequence(piece.id), self.active.get(&piece.id)) else {
            return Vec::new();
        };
        let Some(n) = answer.way.prompt_logprobs else { return Vec::new() };
        let next = piece.logits.clone().map(|slot| slot + 1).filter(|&index| index < s.prompt_len);
        next.zip(logits.chunks_exact(vocab))
            .map(|(index, row)| {
                let id = s.tokens[index];
                let (logprob, top) = log_probabilities(row, id, n);
                Score { index, id, logprob, top }
            })
            .collect()
    }

    /// Chooses a token. Goes on when the logits of the one after it are there already.
    fn choose(&mut self, id: SequenceId, logits: &[f32], index: usize) -> ControlFlow<()> {
        let Some(answer) = self.active.get_mut(&id) else { return ControlFlow::Break(()) };
        let way = &mut answer.way;
        if way.max_tokens == 0 {
            return self.end(id, Event::Finished(Finish::Length));
        }
        let forbidden = if answer.chosen < way.min_tokens { way.stop_ids.as_slice() } else { &[] };
        let token = match &mut way.constrained {
            None => way.sampler.next_but(logits, forbidden),
            Some(own) => {
                let chosen = own.lock().choose(&mut way.sampler, logits, forbidden);
                match chosen {
                    Ok(token) => token,
                    Err(error) => return self.end(id, Event::Failed(error)),
                }
            }
        };
        if let Some(drafter) = &mut way.drafter {
            drafter.learn(index, token);
        }
        let is_stop = way.stop_ids.contains(&token);
        let (logprob, top) = match way.logprobs {
            Some(n) => {
                let (own, top) = log_probabilities(logits, token, n);
                (Some(own), top)
            }
            None => (None, Vec::new()),
        };
        if is_stop {
            if logprob.is_some() {
                self.tell(id, Event::Stop(Token { id: token, at: Instant::now(), logprob, top }))?;
            }
            return self.end(id, Event::Finished(Finish::Stop(token)));
        }
        answer.chosen += 1;
        let complete = (answer.chosen == way.max_tokens).then_some(way.at_most);
        // An answer that can only end needs no more logits, unless they are to be told.
        let last = way.constrained.as_ref().and_then(|own| own.lock().forced().front().copied());
        let last = last.filter(|id| logprob.is_none() && way.stop_ids.contains(id));
        let complete = complete.or(last.map(Finish::Stop));
        self.statistics.generated_tokens += 1;
        self.tell(id, Event::Token(Token { id: token, at: Instant::now(), logprob, top }))?;
        if let Some(finish) = complete {
            return self.end(id, Event::Finished(finish));
        }
        match self.scheduler.append(id, token) {
            Appended::ContextFull => self.end(id, Event::Finished(Finish::ContextFull)),
            Appended::Next => ControlFlow::Break(()),
            Appended::Drafted => {
                self.statistics.accepted_tokens += 1;
                ControlFlow::Continue(())
            }
        }
    }

    /// Hands an event over; ends the request when nobody wants it, or when the sink panics.
    fn tell(&mut self, id: SequenceId, event: Event) -> ControlFlow<()> {
        let Some(answer) = self.active.get_mut(&id) else { return ControlFlow::Break(()) };
        match guarded(|| (answer.sink)(event)) {
            Ok(ControlFlow::Continue(())) => ControlFlow::Continue(()),
            Ok(ControlFlow::Break(())) => {
                self.statistics.cancelled += 1;
                self.scheduler.finish(id);
                // Dropping a sink may run its owner's code.
                let _ = guarded(|| drop(self.active.remove(&id)));
                ControlFlow::Break(())
            }
            Err(fault) => self.end(id, Event::Failed(fault)),
        }
    }

    fn end(&mut self, id: SequenceId, event: Event) -> ControlFlow<()> {
        self.scheduler.finish(id);
        if let Some(answer) = self.active.remove(&id) {
            match event {
                Event::Failed(_) => self.statistics.failed += 1,
                _ => self.statistics.finished += 1,
            }
            tell_last(answer.sink, event);
        }
        ControlFlow::Break(())
    }

    /// Records a step's cost.
    fn note(&mut self, plan: &[Piece], whole: Duration, forward: Duration) {
        let rows = plan.iter().map(|piece| piece.slots.len()).sum();
        if !plan.is_empty() && plan.iter().all(|piece| piece.slots.len() == piece.drafts + 1) {
            self.costs.observe(rows, whole.as_secs_f64());
        }
        self.statistics.steps += u64::from(!plan.is_empty());
        self.statistics.forward += forward;
        self.statistics.outside += whole - forward;
        self.publish_statistics();
    }

    /// Tells the listener what happened to pages. One that panics has missed an event and is not told of others.
    fn report_pages(&mut self) {
        let events = self.scheduler.page_events();
        if let Some(listener) = &mut self.listener
            && guarded(|| events.into_iter().for_each(listener)).is_err()
        {
            // Dropping it may run its owner's code.
            let _ = guarded(|| self.listener = None);
        }
    }

    fn publish_statistics(&mut self) {
        let (pool, counts) = (self.scheduler.pool(), self.scheduler.counts());
        let now = &mut self.statistics;
        now.running = self.scheduler.running().len();
        now.waiting = self.scheduler.waiting().len();
        now.pages_used = pool.len() - pool.free();
        now.pages_cached = pool.remembered();
        now.prompt_tokens = counts.prompt_computed;
        now.cached_tokens = counts.prompt_cached;
        now.preemptions = counts.preemptions;
        *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = *now;
    }
}
