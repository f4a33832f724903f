//! The thread that owns the decoder: accept what has arrived, plan, forward, choose, tell.
//!
//! Whatever goes wrong in one request's path, a panic of its sink included, ends that request and no other. A step that
//! fails is repeated for each of its requests alone, so that only those fail that fail by themselves. A device that is
//! lost ends all of them, and the thread.

use std::collections::HashMap;
use std::ops::{ControlFlow, Range};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use glimmer_models::{Adapter, Decoder, ModelError, PictureSpan, PositionLayout};
use glimmer_tensor::{Batch, DeviceError, Features};

use crate::adapters::{Adapters, InUse};
use crate::audience::{Audience, Told, tell_last};
use crate::computed::{Computed, Row};
use crate::constraint::{Constrained, Shared};
use crate::draft_model::{Asked, DraftModel};
use crate::masks::Masks;
use crate::pace::PromptPace;
use crate::repetition::Repetitions;
use crate::request::{
    Event, Finish, Foretold, PromptProgress, Request, Score, Sink, Speculation, Token, room_for_answer,
};
use crate::scheduler::{
    Appended, KeptPicture, Piece, Refusal, Scheduler, SchedulerLimits, Sequence, SequenceId,
};
use crate::speculation::{Drafter, MOST, StepCosts};
use crate::viewer::{Seen, Sight, Viewer};
use crate::{AdapterId, EngineError, PageListener, Reads, Sampler, Statistics, log_probabilities};

/// Rows of a step that forced tokens may fill beside answers that have none: so few wait for the weights more than for
/// arithmetic (`docs/measurements.md`: on AVX-512 eight rows take 1.3 times one row's time).
const CHEAP_ROWS: usize = 8;

/// What reaches the worker.
pub(crate) enum Message {
    Submit(Box<Submission>),
    /// An adapter to be loaded, and who waits for that.
    Load {
        id: AdapterId,
        adapter: Adapter,
        digest: [u8; 16],
        loaded: Sender<Result<(), EngineError>>,
    },
    /// One that nobody new is to have.
    Drop(AdapterId),
}

/// A request, to be answered once per sink.
pub(crate) struct Submission {
    pub(crate) request: Request,
    pub(crate) sinks: Vec<Sink>,
}

/// A request being served: everything about it that is not a matter of pages.
struct ActiveRequest {
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
    repetitions: Option<Repetitions>,
    stop_ids: Vec<u32>,
    /// New tokens before which none of them may be chosen.
    min_tokens: usize,
    logprobs: Option<usize>,
    prompt_logprobs: Option<usize>,
    max_tokens: usize,
    /// Why the answer ends when it has `max_tokens`.
    at_most: Finish,
    prompt_len: usize,
    adapter: Option<InUse>,
    /// The prompt's pictures: the slots that each has, and its features.
    pictures: Vec<(Range<usize>, Arc<Features>)>,
    foretold: Option<Foretold>,
}

impl Way {
    /// Slots that an adapter's prefix has before the prompt.
    fn given(&self) -> usize {
        self.adapter.as_ref().map_or(0, InUse::given)
    }
}

impl ActiveRequest {
    /// What it needs of its logits.
    fn reads(&self) -> Reads {
        let way = &self.way;
        let is_whole = way.constrained.is_some()
            || way.logprobs.is_some()
            || way.prompt_logprobs.is_some()
            || self.chosen < way.min_tokens;
        if is_whole { Reads::Logits } else { way.sampler.reads() }
    }
}

/// Who works beside the decoder.
pub(crate) struct Beside {
    pub(crate) listener: Option<PageListener>,
    pub(crate) draft_model: Option<DraftModel>,
    pub(crate) viewer: Option<Viewer>,
}

pub(crate) struct Worker {
    decoder: Decoder,
    scheduler: Scheduler,
    limits: SchedulerLimits,
    inbox: Receiver<Message>,
    active: HashMap<SequenceId, ActiveRequest>,
    adapters: Adapters,
    audience: Audience,
    next_id: SequenceId,
    /// What the last step computed.
    computed: Computed,
    costs: StepCosts,
    pace: PromptPace,
    /// Once an answer was constrained.
    masks: Option<Masks>,
    statistics: Statistics,
    shared: Arc<Mutex<Statistics>>,
    listener: Option<PageListener>,
    /// Guesses, where there is one.
    draft_model: Option<DraftModel>,
    /// Sees pictures, where the model does.
    viewer: Option<Viewer>,
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

impl Worker {
    pub(crate) fn new(
        decoder: Decoder,
        limits: SchedulerLimits,
        pages: usize,
        inbox: Receiver<Message>,
        shared: Arc<Mutex<Statistics>>,
        beside: Beside,
    ) -> Self {
        let Beside { listener, draft_model, viewer } = beside;
        let scheduler = Scheduler::new(limits, pages);
        Worker {
            decoder,
            scheduler: if listener.is_some() { scheduler.with_page_events() } else { scheduler },
            limits,
            inbox,
            active: HashMap::new(),
            adapters: Adapters::default(),
            audience: Audience::default(),
            next_id: 0,
            computed: Computed::default(),
            costs: StepCosts::default(),
            pace: PromptPace::default(),
            masks: None,
            statistics: Statistics { pages, ..Statistics::default() },
            shared,
            listener,
            draft_model,
            viewer,
            lost: None,
        }
    }

    /// Serves until the last sender is gone and nothing is left to do, or the device is lost.
    pub(crate) fn run(mut self) {
        while self.lost.is_none()
            && let Some(begin) = self.drain()
        {
            self.see();
            let drafting = self.guess();
            let plan = self.plan();
            self.announce();
            let forward = self.step(&plan);
            // Where the next step runs by itself, that is told while it does.
            if !self.decoder.runs_ahead() || self.scheduler.is_idle() {
                self.tell_all();
                self.report_pages();
            }
            self.note(&plan, begin.elapsed() - drafting, forward);
            self.statistics.drafting += drafting;
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
        self.tell_all();
        for sink in self.viewer.iter_mut().flat_map(Viewer::give_up) {
            self.statistics.failed += 1;
            tell_last(sink, failed());
        }
        while let Ok(message) = self.inbox.try_recv() {
            // Who waits for an adapter hears of the end by its channel's.
            let Message::Submit(submission) = message else { continue };
            self.statistics.failed += submission.sinks.len() as u64;
            submission.sinks.into_iter().for_each(|sink| tell_last(sink, failed()));
        }
        self.publish_statistics();
    }

    /// Accepts what has arrived, and waits for it when there is nothing else to do. Returns when the work began; `None`
    /// when there is none and never will be.
    fn drain(&mut self) -> Option<Instant> {
        let is_idle = self.scheduler.is_idle() && self.unseen() == 0;
        let first = if is_idle { Some(self.inbox.recv().ok()?) } else { None };
        let begin = Instant::now();
        first.into_iter().for_each(|message| self.take(message));
        // Once nobody can send any more, what there is is served to the end.
        while let Ok(message) = self.inbox.try_recv() {
            self.take(message);
        }
        self.adapters.sweep(&mut self.decoder);
        Some(begin)
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Submit(submission) => self.accept(*submission),
            Message::Drop(id) => self.adapters.drop_adapter(id),
            Message::Load { id, adapter, digest, loaded } => {
                let Worker { adapters, decoder, .. } = self;
                let result = guarded(|| Ok(adapters.load(decoder, id, adapter, digest)?)).flatten();
                if loaded.send(result).is_err() {
                    self.adapters.drop_adapter(id);
                }
            }
        }
    }

    fn accept(&mut self, submission: Submission) {
        let Submission { request, sinks } = submission;
        let asked = sinks.len() + self.unseen();
        if !self.scheduler.has_room(asked) {
            self.forget_the_absent();
        }
        if !self.scheduler.has_room(asked) {
            let waiting = self.scheduler.waiting().len() + self.unseen();
            return self.refuse(sinks, || EngineError::QueueFull { waiting });
        }
        let can_be_seen = || {
            let adapter = request.adapter.map(|id| self.adapters.get(id)).transpose()?;
            let given = adapter.as_ref().map_or(0, InUse::given);
            self.lay_out(&request)?;
            room_for_answer(request.prompt.len() + given, request.max_tokens, self.limits.context)
        };
        let is_to_be_seen = !request.pictures.is_empty() && can_be_seen().is_ok();
        match &mut self.viewer {
            Some(viewer) if is_to_be_seen => viewer.accept(request, sinks),
            // What cannot be served is refused there.
            _ => self.admit(Seen { request, sinks, features: Vec::new() }),
        }
    }

    /// Requests whose pictures are not seen yet.
    fn unseen(&self) -> usize {
        self.viewer.as_ref().map_or(0, Viewer::waiting)
    }

    fn refuse(&mut self, sinks: Vec<Sink>, error: impl Fn() -> EngineError) {
        self.statistics.failed += sinks.len() as u64;
        sinks.into_iter().for_each(|sink| tell_last(sink, Event::Failed(error())));
        self.publish_statistics();
    }

    /// Has a piece of a picture seen, unless others whose pictures are seen still wait.
    fn see(&mut self) {
        let Some(viewer) = self.viewer.as_mut().filter(|_| self.scheduler.waiting().is_empty()) else {
            return;
        };
        let begin = Instant::now();
        let sight = viewer.see();
        self.statistics.pictures = viewer.pictures;
        self.statistics.pictures_kept = viewer.pictures_kept;
        self.statistics.seeing += begin.elapsed();
        match sight {
            Sight::More => {}
            Sight::Ready(seen) => self.admit(seen),
            Sight::Failed(sinks, error) => {
                if let EngineError::Model(ModelError::Device(lost @ DeviceError::Lost(_))) = &error {
                    self.lost = Some(lost.clone());
                }
                self.refuse(sinks, || match &error {
                    EngineError::Model(ModelError::Device(device)) => ModelError::from(device.clone()).into(),
                    EngineError::Model(ModelError::Picture(what)) => EngineError::Picture(what.clone()),
                    other => EngineError::Fault(other.to_string()),
                });
            }
        }
    }

    /// Hands a request over to the scheduler.
    fn admit(&mut self, seen: Seen) {
        let Seen { request, sinks, features } = seen;
        for (copy, sink) in sinks.into_iter().enumerate() {
            let enqueued = guarded(|| self.enqueue(&request, &features, copy)).flatten();
            match enqueued {
                Ok((id, way)) => {
                    way.adapter.iter().for_each(|adapter| self.adapters.enter(adapter));
                    self.audience.enter(id, sink);
                    self.active.insert(id, ActiveRequest { way, chosen: 0, announced: false });
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
        self.tell_all();
        let waiting: Vec<SequenceId> = self.scheduler.waiting().iter().map(|s| s.id).collect();
        waiting.into_iter().for_each(|id| self.ask(id, 0));
    }

    fn enqueue(
        &mut self,
        request: &Request,
        features: &[Arc<Features>],
        copy: usize,
    ) -> Result<(SequenceId, Way), EngineError> {
        let prompt = &request.prompt;
        request.sampling.check()?;
        let (layout, spans) = self.lay_out(request)?;
        let prefix_len = layout.prefix_len();
        let adapter = request.adapter.map(|id| self.adapters.get(id)).transpose()?;
        let given = adapter.as_ref().map_or(0, InUse::given);
        let max_tokens = room_for_answer(prompt.len() + given, request.max_tokens, self.limits.context)?;
        let at_most = if max_tokens < request.max_tokens { Finish::ContextFull } else { Finish::Length };
        let mut sampling = request.sampling.clone();
        sampling.seed = sampling.seed.wrapping_add(copy as u64);
        let answered = prompt.len().saturating_sub(request.continued);
        let constrained = request.constraint.as_ref();
        let constrained =
            constrained.map(|maker| Constrained::new(maker, &prompt[answered..])).transpose()?;
        let repetitions =
            request.repetition_detection.map(|wanted| Repetitions::new(wanted, &prompt[answered..]));
        let way = Way {
            layout,
            sampler: Sampler::new(sampling, prompt, request.continued),
            drafter: (request.speculation != Speculation::Off).then(Drafter::new),
            speculation: request.speculation,
            constrained: constrained.map(Shared::new),
            repetitions,
            stop_ids: request.stop_ids.clone(),
            min_tokens: request.min_tokens.saturating_sub(request.continued),
            logprobs: request.logprobs,
            // The copies would only say what the first one says.
            prompt_logprobs: request.prompt_logprobs.filter(|_| copy == 0),
            max_tokens,
            at_most,
            prompt_len: prompt.len(),
            adapter,
            pictures: spans
                .iter()
                .map(|span| span.first..span.first + span.rows)
                .zip(features.iter().cloned())
                .collect(),
            foretold: request.foretold.clone(),
        };
        self.next_id += 1;
        let kept = spans.iter().zip(&request.pictures).map(|(span, picture)| KeptPicture {
            first: span.first,
            rows: span.rows,
            digest: picture.digest,
        });
        let sequence = Sequence::new(self.next_id, prompt.clone(), prefix_len, request.priority)
            .with_pictures(kept.collect());
        let sequence = match &way.adapter {
            Some(adapter) => sequence.with_adapter(adapter.digest, adapter.given()),
            None => sequence,
        };
        let sequence = if way.prompt_logprobs.is_some() { sequence.with_scores() } else { sequence };
        self.scheduler.submit(sequence).map_err(|refusal| match refusal {
            Refusal::QueueFull => EngineError::QueueFull { waiting: self.scheduler.waiting().len() },
            Refusal::TooLong => EngineError::TooLong { prompt: prompt.len(), context: self.limits.context },
        })?;
        Ok((self.next_id, way))
    }

    /// The positions of a prompt, and where its pictures are in it.
    fn lay_out(&self, request: &Request) -> Result<(PositionLayout, Vec<PictureSpan>), EngineError> {
        let (prompt, spec) = (&request.prompt, self.decoder.spec());
        if prompt.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        let spans = match &self.viewer {
            _ if request.pictures.is_empty() => Vec::new(),
            Some(viewer) => viewer.spans(&request.pictures),
            None => return Err(EngineError::SeesNothing),
        };
        if let Some(last) = spans.last().filter(|last| last.first + last.rows > prompt.len()) {
            return Err(EngineError::OutsidePrompt { end: last.first + last.rows, prompt: prompt.len() });
        }
        let layout = PositionLayout::of_prompt(spec.positions, prompt)?.with_pictures(&spans)?;
        let vocab = spec.vocab;
        if let Some(&id) = prompt.iter().find(|&&id| id as usize >= vocab) {
            return Err(EngineError::OutsideVocabulary { id, vocab });
        }
        let (context, rows) = (layout.prefix_len(), self.limits.rows);
        if context > rows {
            return Err(EngineError::Indivisible { context, rows });
        }
        Ok((layout, spans))
    }

    /// Guesses how answers go on, as far as it pays: from what they have, or else by the draft model, whose time is returned. What
    /// an answer must go on with is no guess and always pays; others, who get none of it, wait for no more than a tenth of such
    /// rows.
    fn guess(&mut self) -> Duration {
        let answering: Vec<SequenceId> =
            self.scheduler.running().iter().filter(|s| s.is_answering()).map(|s| s.id).collect();
        let rows = answering.len();
        let is_free = |id| self.active.get(id).is_some_and(|answer| answer.way.constrained.is_none());
        let mut spare = match answering.iter().any(is_free) {
            true => CHEAP_ROWS.saturating_sub(rows).max(rows / 10),
            false => usize::MAX,
        };
        let mut unguessed = Vec::new();
        for id in answering {
            let (Some(s), Some(answer)) = (self.scheduler.sequence(id), self.active.get_mut(&id)) else {
                continue;
            };
            let room = (answer.way.max_tokens - answer.chosen).saturating_sub(1);
            let constrained = answer.way.constrained.as_ref();
            let forced = constrained.map(|own| own.lock().forced().iter().copied().take(room).collect());
            if let Some(mut forced) = forced.filter(|forced: &Vec<u32>| !forced.is_empty()) {
                answer.way.drafter.iter_mut().for_each(Drafter::forget);
                forced.truncate(spare);
                spare -= forced.len();
                self.scheduler.draft(id, &forced);
                continue;
            }
            let most = MOST.min(room);
            let Some(drafter) = &mut answer.way.drafter else { continue };
            let worthwhile = match answer.way.speculation {
                Speculation::Always => MOST,
                _ => self.costs.worthwhile(drafter.acceptance(), rows),
            };
            let guesses = drafter.guess(&s.tokens[s.given..], most);
            let drafts = guesses[..worthwhile.min(guesses.len())].to_vec();
            // A draft model sees no pictures.
            if drafts.is_empty() && most > 0 && answer.way.pictures.is_empty() {
                unguessed.push((id, most));
            }
            self.scheduler.draft(id, &drafts);
        }
        self.ask_draft_model(&unguessed)
    }

    /// Has the draft model guess at most so many tokens for each of these. One that cannot go on is done without.
    fn ask_draft_model(&mut self, unguessed: &[(SequenceId, usize)]) -> Duration {
        let begin = Instant::now();
        let Worker { decoder, draft_model, scheduler, active, costs, .. } = self;
        let Some(model) = draft_model else { return Duration::ZERO };
        model.begin();
        let asked = unguessed.iter().filter_map(|&(id, most)| {
            let (s, answer) = (scheduler.sequence(id)?, active.get(&id)?);
            Some(Asked {
                id,
                tokens: &s.tokens[s.given..],
                most,
                always: answer.way.speculation == Speculation::Always,
                sampler: answer.way.sampler.ahead(),
                foretold: answer.way.foretold.as_ref().map(|foretold| (foretold, answer.chosen)),
            })
        });
        let asked: Vec<Asked<'_>> = asked.collect();
        if asked.is_empty() {
            return Duration::ZERO;
        }
        // Its vocabulary may have rows beyond, which stand for no token.
        let is_token = |id: &&u32| (**id as usize) < decoder.spec().vocab;
        match guarded(|| model.guess(asked, costs)).flatten() {
            Ok(made) => made.into_iter().for_each(|(id, guesses)| {
                let tokens = guesses.iter().take_while(is_token).count();
                scheduler.draft(id, &guesses[..tokens]);
            }),
            Err(_) => self.draft_model = None,
        }
        begin.elapsed()
    }

    /// The next step's pieces.
    fn plan(&mut self) -> Vec<Piece> {
        let running = self.scheduler.running();
        let answering = running.iter().filter(|s| s.is_answering()).count();
        let waiting = running.len() - answering + self.scheduler.waiting().len();
        let rows = self.pace.rows(answering, self.costs.seconds(answering), waiting);
        self.scheduler.pace_prompts(rows);
        self.scheduler.plan()
    }

    /// Tells those that were admitted so, and hears whether they are still wanted before anything is computed for them.
    fn announce(&mut self) {
        let admitted: Vec<(SequenceId, usize)> =
            self.scheduler.running().iter().map(|s| (s.id, s.next() - s.given)).collect();
        for (id, computed) in admitted {
            if let Some(answer) = self.active.get_mut(&id)
                && !std::mem::replace(&mut answer.announced, true)
            {
                self.ask(id, computed);
            }
        }
    }

    /// Tells somebody how far a prompt is to hear whether anybody listens.
    fn ask(&mut self, id: SequenceId, done: usize) {
        if let Some(event) = self.progress(id, done, Vec::new()) {
            let told = self.audience.tell(id, event);
            self.heed(id, told);
        }
    }

    /// Computes a plan and chooses tokens. Returns the time in the model.
    fn step(&mut self, plan: &[Piece]) -> Duration {
        let begin = Instant::now();
        self.order_masks(plan);
        self.decoder.begin_turn();
        let result = guarded(|| self.forward(plan)).flatten();
        self.decoder.end_turn();
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
        let (mut batch, mut wanted) = (Batch::default(), Vec::new());
        for piece in plan {
            let (Some(s), Some(answer)) = (self.scheduler.sequence(piece.id), self.active.get(&piece.id))
            else {
                continue;
            };
            let adapter = answer.way.adapter.as_ref();
            if let Some(prefix) = adapter.and_then(|adapter| adapter.prefix.as_ref())
                && s.computed < s.given
            {
                self.decoder.write_prefix(prefix, s.computed..s.given, &s.pages)?;
            }
            let mut rope_pos = Vec::new();
            answer.way.layout.extend(piece.slots.start - s.given..piece.slots.end - s.given, &mut rope_pos);
            let shift = adapter.map_or(0, InUse::shift) as f32;
            rope_pos.iter_mut().for_each(|position| *position += shift);
            let known = &s.tokens[piece.slots.start..piece.slots.end - piece.drafts];
            let ids = [known, &s.drafts[..piece.drafts]].concat();
            let first = piece.slots.start;
            let rows = piece.logits.start - first..piece.logits.end - first;
            wanted.push((piece.id, rows.len(), answer.reads()));
            batch.push(&ids, piece.slots.clone(), &rope_pos, s.prefix_len, s.pages.clone(), rows);
            batch.adapt(adapter.and_then(|adapter| adapter.slot));
            for (slots, features) in &answer.way.pictures {
                let (start, end) = (slots.start + s.given, slots.end + s.given);
                let seen = start.max(first)..end.min(piece.slots.end);
                if !seen.is_empty() {
                    batch.see(seen.start - first..seen.end - first, features, seen.start - start);
                }
            }
        }
        self.computed.clear();
        if batch.rows() == 0 {
            return Ok(());
        }
        self.decoder.forward(&batch)?;
        // What is left to be told of the step before, while the device computes.
        self.tell_all();
        self.report_pages();
        let Worker { decoder, active, computed, .. } = self;
        Ok(computed.read(decoder, &wanted, |id, candidates| {
            // Who went away meanwhile needs no more of it.
            active.get_mut(&id).is_none_or(|answer| answer.way.sampler.can_choose_of(candidates))
        })?)
    }

    /// Chooses tokens.
    fn publish(&mut self, plan: &[Piece]) {
        let computed = std::mem::take(&mut self.computed);
        for piece in plan {
            // Who went away before the step has no rows in it; who did meanwhile wants none.
            let Some(first) = computed.first(piece.id).filter(|_| self.active.contains_key(&piece.id)) else {
                continue;
            };
            if let Err(fault) = guarded(|| self.advance(piece, &computed, first)) {
                let _ = self.end(piece.id, Event::Failed(fault));
            }
        }
        self.computed = computed;
    }

    /// Records a computed piece, whose rows begin at `first`: progress of a prompt, the next token, or several that had been
    /// guessed.
    fn advance(&mut self, piece: &Piece, computed: &Computed, first: usize) {
        self.scheduler.computed(piece);
        let Some(answer) = self.active.get(&piece.id) else { return };
        let end = first + piece.logits.len();
        if answer.chosen == 0 {
            let scores = self.scores(piece, computed.logits(first..end));
            let given = answer.way.given();
            self.report_progress(piece.id, piece.slots.end - given, scores);
        }
        if piece.chooses {
            self.statistics.drafted_tokens += piece.drafts as u64;
            for index in 0..=piece.drafts {
                let row = computed.row(end - 1 - piece.drafts + index);
                if self.choose(piece.id, row, index).is_break() {
                    break;
                }
            }
        }
    }

    /// How far a prompt is.
    fn progress(&self, id: SequenceId, done: usize, scores: Vec<Score>) -> Option<Event> {
        let cached = self.scheduler.sequence(id).map_or(0, |s| s.cached);
        let answer = self.active.get(&id)?;
        let total = answer.way.prompt_len;
        let done = if answer.chosen > 0 { total } else { done.min(total) };
        Some(Event::Prompt(PromptProgress { done, total, cached, scores }))
    }

    fn report_progress(&mut self, id: SequenceId, done: usize, scores: Vec<Score>) {
        let event = self.progress(id, done, scores);
        event.into_iter().for_each(|event| self.audience.keep(id, event));
    }

    /// The log-probabilities of the prompt's tokens that a piece's logits are about.
    fn scores<'a>(&self, piece: &Piece, logits: impl Iterator<Item = &'a [f32]>) -> Vec<Score> {
        let (Some(s), Some(answer)) = (self.scheduler.sequence(piece.id), self.active.get(&piece.id)) else {
            return Vec::new();
        };
        let Some(n) = answer.way.prompt_logprobs else { return Vec::new() };
        let next = piece.logits.clone().map(|slot| slot + 1).filter(|&index| index < s.prompt_len);
        next.zip(logits)
            .map(|(index, row)| {
                let id = s.tokens[index];
                let (logprob, top) = log_probabilities(row, id, n);
                Score { index: index - s.given, id, logprob, top }
            })
            .collect()
    }

    /// Chooses a token. Goes on when the logits of the one after it are there already.
    fn choose(&mut self, id: SequenceId, row: Row<'_>, index: usize) -> ControlFlow<()> {
        let Some(answer) = self.active.get_mut(&id) else { return ControlFlow::Break(()) };
        let way = &mut answer.way;
        if way.max_tokens == 0 {
            return self.end(id, Event::Finished(Finish::Length));
        }
        let forbidden = if answer.chosen < way.min_tokens { way.stop_ids.as_slice() } else { &[] };
        let token = match (row, &mut way.constrained) {
            (Row::Likeliest(id), _) => {
                way.sampler.take(id);
                id
            }
            (Row::Candidates(candidates), _) => {
                way.sampler.next_of(candidates).expect("only candidates that suffice are kept")
            }
            (Row::Logits(logits), None) => way.sampler.next_but(logits, forbidden),
            (Row::Logits(logits), Some(own)) => {
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
        if let Some(is_right) = self.draft_model.as_mut().and_then(|model| model.learn(id, index, token)) {
            self.statistics.draft_model_tokens += 1;
            self.statistics.draft_model_accepted += u64::from(is_right);
        }
        let drafts = self.scheduler.sequence(id).map_or(&[] as &[u32], |s| &s.drafts);
        let guessed = drafts.first() == Some(&token);
        let rejected = if guessed { 0 } else { drafts.len() };
        let chosen =
            Token { id: token, at: Instant::now(), guessed, rejected, logprob: None, top: Vec::new() };
        let is_stop = way.stop_ids.contains(&token);
        let (logprob, top) = match (way.logprobs, row) {
            (Some(n), Row::Logits(logits)) => {
                let (own, top) = log_probabilities(logits, token, n);
                (Some(own), top)
            }
            _ => (None, Vec::new()),
        };
        if is_stop {
            if logprob.is_some() {
                let stop = Event::Stop(Token { logprob, top, ..chosen });
                self.audience.keep(id, stop);
            }
            return self.end(id, Event::Finished(Finish::Stop(token)));
        }
        answer.chosen += 1;
        let complete = (answer.chosen == way.max_tokens).then_some(way.at_most);
        // An answer that can only end needs no more logits, unless they are to be told.
        let last = way.constrained.as_ref().and_then(|own| own.lock().forced().front().copied());
        let last = last.filter(|id| logprob.is_none() && way.stop_ids.contains(id));
        let repeats = way.repetitions.as_mut().is_some_and(|repetitions| repetitions.push(token));
        let repeats = repeats && answer.chosen >= way.min_tokens;
        let complete = complete.or(last.map(Finish::Stop)).or(repeats.then_some(Finish::Repetition));
        self.statistics.generated_tokens += 1;
        self.audience.keep(id, Event::Token(Token { logprob, top, ..chosen }));
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

    /// Tells everybody what has happened; who does not listen any more has a request no more.
    fn tell_all(&mut self) {
        while let Some((id, told)) = self.audience.next() {
            self.heed(id, told);
        }
    }

    fn heed(&mut self, id: SequenceId, told: Told) {
        match told {
            Told::Heard => {}
            Told::Ended { failed: true } => self.statistics.failed += 1,
            Told::Ended { failed: false } => self.statistics.finished += 1,
            Told::Left => {
                self.statistics.cancelled += 1;
                self.forget(id);
            }
            Told::Fault(fault) => {
                self.forget(id);
                let told = self.audience.tell(id, Event::Failed(fault));
                self.heed(id, told);
            }
        }
    }

    /// Ends a request that is to be told so.
    fn end(&mut self, id: SequenceId, event: Event) -> ControlFlow<()> {
        self.forget(id);
        self.audience.keep(id, event);
        ControlFlow::Break(())
    }

    fn forget(&mut self, id: SequenceId) {
        self.scheduler.finish(id);
        self.draft_model.iter_mut().for_each(|model| model.ended(id));
        if let Some(adapter) = self.active.remove(&id).and_then(|answer| answer.way.adapter) {
            self.adapters.leave(&adapter);
        }
    }

    /// Records a step's cost.
    fn note(&mut self, plan: &[Piece], whole: Duration, forward: Duration) {
        let seconds = whole.as_secs_f64();
        let rows: usize = plan.iter().map(|piece| piece.slots.len()).sum();
        let answers = plan.iter().map(|piece| piece.slots.len()).zip(plan);
        let answers: usize =
            answers.filter(|(rows, piece)| *rows == piece.drafts + 1).map(|(rows, _)| rows).sum();
        match (answers, rows - answers) {
            (0, 0) => {}
            (0, prompts) => self.pace.prompts(prompts, seconds),
            (_, 0) => {
                self.costs.observe(rows, seconds);
                self.pace.answers();
            }
            (_, prompts) => {
                let alone = self.costs.seconds(answers);
                alone.into_iter().for_each(|alone| self.pace.both(prompts, seconds, alone));
            }
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
