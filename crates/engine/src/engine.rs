//! The engine as its users see it: a handle to the thread that owns the decoder.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SendError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use glimmer_models::vision::Tower;
use glimmer_models::{Adapter, Decoder, DecoderSpec};
use glimmer_tensor::{Capacity, DeviceMemory, KvType, PAGE_SLOTS};

use crate::adapters::digest;
use crate::draft_model::DraftModel;
use crate::request::{Event, Request, Sink};
use crate::scheduler::SchedulerLimits;
use crate::viewer::Viewer;
use crate::worker::{Beside, Message, Submission, Worker};
use crate::{AdapterId, EngineError, PageListener, Statistics};

/// Sizes that are fixed when the engine starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// Tokens a request may hold, prompt and answer together.
    pub context: usize,
    /// Slots of the cache, shared by all requests; at least `context`.
    pub slots: usize,
    /// Rows per step; longer prompts are computed in chunks.
    pub rows: usize,
    /// Requests computed at once.
    pub running: usize,
    /// Requests that may wait.
    pub waiting: usize,
    /// Precision of the cache.
    pub kv_type: KvType,
}

/// Rows of logits per step beyond one for each running request: for prompts whose log-probabilities are wanted and for
/// tokens guessed ahead.
const SPARE_LOGITS: usize = 32;

impl EngineOptions {
    /// What the decoder is planned for.
    pub fn capacity(&self) -> Capacity {
        let SchedulerLimits { rows, logits_rows, .. } = self.limits();
        Capacity { rows, logits_rows, pages: self.slots.max(self.context).div_ceil(PAGE_SLOTS).max(1) }
    }

    /// What the scheduler keeps to.
    fn limits(&self) -> SchedulerLimits {
        let running = self.running.max(1);
        let rows = self.rows.max(running);
        SchedulerLimits {
            rows,
            logits_rows: rows.min(running + SPARE_LOGITS),
            running,
            waiting: self.waiting.max(1),
            context: self.context,
        }
    }
}

/// Who works beside the decoder.
#[derive(Default)]
pub struct Companions {
    /// A smaller model of the same vocabulary that guesses how answers go on. Its cache has as many slots, its steps as many
    /// rows. Answers are the same with and without; it must read from the first token to the last.
    pub draft: Option<Decoder>,
    /// The tower that sees pictures, and how many bytes its features of late may take.
    pub tower: Option<(Tower, usize)>,
    /// Told which pages the cache remembers: their events since the step before, after every step or while the next one is
    /// computed, on the engine's thread, which it must not block for long. A listener that panics is dropped; requests go
    /// on. When the engine ends it remembers nothing, and says nothing of that.
    pub listener: Option<PageListener>,
}

/// A running engine. Dropping it ends the thread once what was submitted is done.
pub struct Engine {
    inbox: Option<Sender<Message>>,
    adapters: AtomicU64,
    thread: Option<JoinHandle<()>>,
    spec: DecoderSpec,
    memory: DeviceMemory,
    device: String,
    options: EngineOptions,
    statistics: Arc<Mutex<Statistics>>,
}

impl Engine {
    /// Plans the decoder's memory and starts its thread.
    ///
    /// # Errors
    /// When the memory cannot be had.
    pub fn start(decoder: Decoder, options: EngineOptions) -> Result<Self, EngineError> {
        Engine::start_with(decoder, Companions::default(), options)
    }

    /// [`Engine::start`] with others beside the decoder.
    ///
    /// # Errors
    /// When the memory cannot be had, or one of them does not fit the decoder.
    pub fn start_with(
        mut decoder: Decoder,
        companions: Companions,
        options: EngineOptions,
    ) -> Result<Self, EngineError> {
        let Companions { draft, tower, listener } = companions;
        let (capacity, limits) = (options.capacity(), options.limits());
        let pages = capacity.pages;
        decoder.plan(capacity, options.kv_type)?;
        let (spec, mut memory, device) =
            (decoder.spec().clone(), decoder.memory(), decoder.describe_device());
        let draft_model = draft.map(|mut draft| -> Result<DraftModel, EngineError> {
            // One row of logits for each answer: there is one guess at a time.
            draft.plan(Capacity { logits_rows: limits.running, ..capacity }, options.kv_type)?;
            memory = [memory, draft.memory()].into_iter().sum();
            DraftModel::new(draft, limits.rows, pages)
        });
        let draft_model = draft_model.transpose()?;
        let viewer = tower.map(|(tower, room)| {
            let (width, hidden) = (tower.spec().hidden, spec.hidden);
            if width != hidden {
                return Err(EngineError::ForeignTower { width, hidden });
            }
            let viewer = Viewer::new(tower, room);
            memory = [memory, viewer.memory()].into_iter().sum();
            Ok(viewer)
        });
        let viewer = viewer.transpose()?;
        let statistics = Arc::new(Mutex::new(Statistics { pages, ..Statistics::default() }));
        let shared = Arc::clone(&statistics);
        let (sender, inbox) = channel();
        let beside = Beside { listener, draft_model, viewer };
        let thread = std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || Worker::new(decoder, limits, pages, inbox, shared, beside).run())
            .map_err(EngineError::Thread)?;
        let (inbox, thread, adapters) = (Some(sender), Some(thread), AtomicU64::new(1));
        Ok(Engine { inbox, adapters, thread, spec, memory, device, options, statistics })
    }

    /// The model's facts.
    pub fn spec(&self) -> &DecoderSpec {
        &self.spec
    }

    /// Bytes held.
    pub fn memory(&self) -> DeviceMemory {
        self.memory
    }

    /// What it runs on, for people.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Tokens a request may hold.
    pub fn context(&self) -> usize {
        self.options.context
    }

    /// What it does and has done, as of the end of the last step.
    pub fn statistics(&self) -> Statistics {
        *self.statistics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a request over. Everything after that, refusals included, reaches `sink`, which is called on the engine's
    /// thread and must not block for long.
    pub fn submit(&self, request: Request, sink: Sink) {
        self.submit_copies(request, vec![sink]);
    }

    /// Hands over a request that is to be answered several times, once per sink. The prompt is computed once: copies
    /// share its pages, and each computes only what does not fill a page. Copy `i` draws its random numbers from
    /// `sampling.seed + i`, so the first is what [`Engine::submit`] gives. Either all are queued or none.
    pub fn submit_copies(&self, request: Request, sinks: Vec<Sink>) {
        let submission = Submission { request, sinks };
        let refused = match &self.inbox {
            Some(inbox) => match inbox.send(Message::Submit(Box::new(submission))) {
                Err(SendError(Message::Submit(submission))) => Some(*submission),
                _ => None,
            },
            None => Some(submission),
        };
        for mut sink in refused.into_iter().flat_map(|submission| submission.sinks) {
            let _ = sink(Event::Failed(EngineError::Stopped));
        }
    }

    /// Loads an adapter of the model's shape, between two steps; requests may name it from then on. Waits until that is done.
    ///
    /// # Errors
    /// When the device cannot compute with it or has no memory left, or the engine has stopped.
    pub fn load_adapter(&self, adapter: Adapter) -> Result<AdapterId, EngineError> {
        let id = AdapterId(self.adapters.fetch_add(1, Ordering::Relaxed));
        let (loaded, answer) = channel();
        let message = Message::Load { id, digest: digest(&adapter), adapter, loaded };
        let sent = self.inbox.as_ref().is_some_and(|inbox| inbox.send(message).is_ok());
        let answer = if sent { answer.recv().ok() } else { None };
        answer.unwrap_or(Err(EngineError::Stopped)).map(|()| id)
    }

    /// Lets go of an adapter: requests that have it are computed to their end, others are refused.
    pub fn drop_adapter(&self, id: AdapterId) {
        // An engine that has stopped has none.
        let _ = self.inbox.as_ref().map(|inbox| inbox.send(Message::Drop(id)));
    }

    /// [`Engine::submit`] for somebody who waits: the events as they come. Dropping them cancels the request.
    pub fn answer(&self, request: Request) -> Receiver<Event> {
        let (sink, events) = sink();
        self.submit(request, sink);
        events
    }

    /// [`Engine::submit_copies`] for somebody who waits.
    pub fn answers(&self, request: Request, copies: usize) -> Vec<Receiver<Event>> {
        let (sinks, events) = (0..copies).map(|_| sink()).unzip();
        self.submit_copies(request, sinks);
        events
    }
}

/// A sink and where its events come out.
fn sink() -> (Sink, Receiver<Event>) {
    let (sender, events) = channel();
    let sink = move |event| match sender.send(event) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    };
    (Box::new(sink), events)
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.inbox = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the worker has been reported by its own thread.
            let _ = thread.join();
        }
    }
}
