//! The engine as its users see it: a handle to the thread that owns the decoder.

use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, SendError, Sender, channel};
use std::thread::JoinHandle;

use glimmer_models::{Decoder, DecoderSpec};
use glimmer_tensor::{Capacity, DeviceMemory, KvType, PAGE_SLOTS};

use crate::EngineError;
use crate::request::{Event, Request, Sink};
use crate::scheduler::Limits;
use crate::worker::{Message, Worker};

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

/// A running engine. Dropping it ends the thread once what was submitted is done.
pub struct Engine {
    inbox: Option<Sender<Message>>,
    thread: Option<JoinHandle<()>>,
    spec: DecoderSpec,
    memory: DeviceMemory,
    device: String,
    options: EngineOptions,
}

impl Engine {
    /// Plans the decoder's memory and starts its thread.
    ///
    /// # Errors
    /// When the memory cannot be had.
    pub fn start(mut decoder: Decoder, options: EngineOptions) -> Result<Self, EngineError> {
        let pages = options.slots.max(options.context).div_ceil(PAGE_SLOTS).max(1);
        let running = options.running.max(1);
        let limits = Limits {
            rows: options.rows.max(running),
            running,
            waiting: options.waiting.max(1),
            context: options.context,
        };
        decoder.plan(Capacity { rows: limits.rows, logits_rows: running, pages }, options.kv_type)?;
        let (spec, memory, device) = (decoder.spec().clone(), decoder.memory(), decoder.describe_device());
        let (sender, inbox) = channel();
        let thread = std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || Worker::new(decoder, limits, pages, inbox).run())
            .map_err(|e| EngineError::Step(format!("cannot start the engine's thread: {e}")))?;
        Ok(Engine { inbox: Some(sender), thread: Some(thread), spec, memory, device, options })
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

    /// Hands a request over. Everything after that, refusals included, reaches `sink`, which is called on the engine's
    /// thread and must not block for long.
    pub fn submit(&self, request: Request, sink: Sink) {
        let Some(inbox) = &self.inbox else { return };
        if let Err(SendError(Message::Submit(_, mut sink))) = inbox.send(Message::Submit(request, sink)) {
            let _ = sink(Event::Failed(EngineError::Stopped));
        }
    }

    /// [`Engine::submit`] for somebody who waits: the events as they come. Dropping them cancels the request.
    pub fn answer(&self, request: Request) -> Receiver<Event> {
        let (sender, events) = channel();
        let sink = move |event| match sender.send(event) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        };
        self.submit(request, Box::new(sink));
        events
    }
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
