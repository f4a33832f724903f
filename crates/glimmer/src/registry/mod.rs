//! Models by name: those that are loaded, and those that are when somebody asks for them.
//!
//! A model is known by its names and an [`Opener`]. Who wants to use one takes a [`Lease`], which keeps it where it is; a
//! model that is not loaded is loaded for that, by one thread, one at a time, and what nobody uses makes room for it. So
//! many bytes as [`RegistryLimits::memory`] says are never exceeded.

mod lease;
mod loader;
mod opener;
mod state;
mod status;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use glimmer_engine::{EngineError, Statistics};

use crate::{Embedder, Engine, Error, Reranker};
pub use lease::{Lease, LeaseError, Leasing};
pub use opener::{KnownModel, ModelKind, Open, OpenError, Opener, Prepared, Shelf};
use state::{Entry, State};
pub use status::{Change, ModelState, ModelStatus, PlannedMemory};

/// A loaded model with its names.
pub struct Loaded {
    /// What it is called; the first is its name in lists and figures.
    pub names: Vec<String>,
    /// What computes.
    pub model: LoadedModel,
}

/// What a loaded model can do.
#[allow(clippy::large_enum_variant, reason = "there are as many as models")]
pub enum LoadedModel {
    /// It writes text.
    Engine(Engine),
    /// It makes vectors of texts.
    Embedder(Embedder),
    /// It scores pairs of texts.
    Reranker(Reranker),
}

impl LoadedModel {
    /// Which of them.
    pub fn kind(&self) -> ModelKind {
        match self {
            LoadedModel::Engine(_) => ModelKind::Text,
            LoadedModel::Embedder(_) => ModelKind::Vectors,
            LoadedModel::Reranker(_) => ModelKind::Scores,
        }
    }

    /// Bytes that it holds.
    pub fn memory(&self) -> u64 {
        match self {
            LoadedModel::Engine(engine) => engine.memory().total() as u64,
            LoadedModel::Embedder(embedder) => embedder.memory(),
            LoadedModel::Reranker(reranker) => reranker.memory(),
        }
    }

    /// What it has done; encoders keep no account.
    pub fn statistics(&self) -> Statistics {
        match self {
            LoadedModel::Engine(engine) => engine.statistics(),
            LoadedModel::Embedder(_) | LoadedModel::Reranker(_) => Statistics::default(),
        }
    }
}

impl Loaded {
    /// A model that writes text.
    pub fn engine(names: Vec<String>, engine: Engine) -> Self {
        Loaded { names, model: LoadedModel::Engine(engine) }
    }

    /// A model that makes vectors, by its own name.
    pub fn embedder(embedder: Embedder) -> Self {
        let names = vec![embedder.name().to_owned()];
        Loaded { names, model: LoadedModel::Embedder(embedder) }
    }

    /// Its name in lists and figures.
    pub fn name(&self) -> &str {
        self.names.first().map_or("model", String::as_str)
    }
}

/// Bounds of a [`Registry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegistryLimits {
    /// Bytes that all models hold together, those that are being loaded included.
    pub memory: u64,
    /// Requests that may wait for a model to be loaded; of each.
    pub waiting: usize,
    /// How long nobody tries again what could not be loaded.
    pub pause: Duration,
}

impl Default for RegistryLimits {
    fn default() -> Self {
        RegistryLimits { memory: u64::MAX, waiting: 256, pause: Duration::from_secs(5) }
    }
}

/// All models by name. Shared between threads; who holds a model keeps it, even when it is removed here.
#[derive(Default)]
pub struct Registry {
    shared: Arc<Shared>,
}

/// Called after each change of a model's state, with its name, on the thread that made it.
pub type Observer = Box<dyn Fn(&str, &Change<'_>) + Send + Sync>;

/// What the registry, its leases and its thread share.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Something is wanted, or not used any more.
    changed: Condvar,
    observer: OnceLock<Observer>,
    shelf: OnceLock<Box<dyn Shelf>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, name: &str, change: &Change<'_>) {
        if let Some(observer) = self.observer.get() {
            observer(name, change);
        }
    }
}

impl Registry {
    /// An empty one.
    pub fn new(limits: RegistryLimits) -> Self {
        let registry = Registry::default();
        registry.shared.lock().limits = limits;
        registry
    }

    /// Adds a model that is loaded already. It stays until it is removed.
    ///
    /// # Errors
    /// [`Error::NameTaken`] when another has one of its names.
    pub fn add(&self, loaded: Loaded) -> Result<(), Error> {
        self.start_thread()?;
        self.shared.lock().insert(Entry::loaded(loaded))?;
        Ok(())
    }

    /// Makes a model known, which is loaded when somebody asks for it.
    ///
    /// # Errors
    /// [`Error::NameTaken`] when another has one of its names.
    pub fn know(&self, model: KnownModel) -> Result<(), Error> {
        self.start_thread()?;
        self.shared.lock().insert(Entry::known(model, false))?;
        Ok(())
    }

    /// Where further models are looked for: see [`Registry::refresh`]. It is told once.
    pub fn look_in(&self, shelf: Box<dyn Shelf>) {
        // There is one caller, and it calls once.
        let _ = self.shared.shelf.set(shelf);
        self.refresh();
    }

    /// Looks for models that are new on the shelf, and forgets those that are gone and not loaded. Reads directories.
    pub fn refresh(&self) {
        let Some(shelf) = self.shared.shelf.get() else { return };
        let found = shelf.models();
        if self.start_thread().is_ok() {
            self.shared.lock().shelve(found);
        }
    }

    /// Whether there is a shelf, so that looking there again may find what is not known.
    pub fn has_shelf(&self) -> bool {
        self.shared.shelf.get().is_some()
    }

    /// Has every change of a model's state told. It is told once, and sees what comes after.
    pub fn observe(&self, observer: Observer) {
        // There is one caller, and it calls once.
        let _ = self.shared.observer.set(observer);
    }

    /// Takes the model of this name out: nobody finds it any more, who waits for it is told so, and its memory is free when
    /// nobody uses it. Whether there was one.
    pub fn remove(&self, name: &str) -> bool {
        let mut state = self.shared.lock();
        let removed = state.remove(name);
        self.shared.changed.notify_all();
        removed
    }

    /// The model of this name, if it is loaded. Looking at it is no use of it.
    pub fn find(&self, name: &str) -> Option<Lease> {
        let mut state = self.shared.lock();
        Lease::of(&self.shared, state.find(name)?, false)
    }

    /// All that are loaded, in the order in which they came. Looking at them is no use of them.
    pub fn all(&self) -> Vec<Lease> {
        let mut state = self.shared.lock();
        state.known().filter_map(|entry| Lease::of(&self.shared, entry, false)).collect()
    }

    /// The model of this name, to be used: it is loaded for that, where it is not.
    ///
    /// # Errors
    /// Those of [`Leasing`] that are known at once.
    pub fn lease(&self, name: &str) -> Result<Leasing, LeaseError> {
        self.ask(name, true)
    }

    /// The same, where nothing else has to go for it.
    ///
    /// # Errors
    /// Those of [`Registry::lease`]; [`LeaseError::NoRoom`] comes later.
    pub fn lease_beside_others(&self, name: &str) -> Result<Leasing, LeaseError> {
        self.ask(name, false)
    }

    fn ask(&self, name: &str, may_evict: bool) -> Result<Leasing, LeaseError> {
        let mut state = self.shared.lock();
        let id = state.find(name).ok_or(LeaseError::Unknown)?.id;
        if let Some(lease) = Lease::of(&self.shared, state.entry(id), true) {
            return Ok(Leasing::ready(lease));
        }
        let slot = state.wait_for(id, may_evict, Instant::now())?;
        self.shared.changed.notify_all();
        Ok(Leasing::waiting(&self.shared, id, slot))
    }

    /// Every model, in the order in which they became known.
    pub fn status(&self) -> Vec<ModelStatus> {
        self.shared.lock().known().map(|entry| ModelStatus::of(entry)).collect()
    }

    /// The names of all models, in the order in which they became known.
    pub fn names(&self) -> Vec<String> {
        self.shared.lock().known().flat_map(|entry| entry.names.clone()).collect()
    }

    /// What the model of this name makes.
    pub fn kind(&self, name: &str) -> Option<ModelKind> {
        Some(self.shared.lock().find(name)?.kind)
    }

    /// What opens the model of this name, which is not so of one that was loaded when it came.
    pub fn opener(&self, name: &str) -> Option<Arc<dyn Opener>> {
        self.shared.lock().find(name)?.opener.clone()
    }

    /// Has the model of this name stay so long when nobody uses it, until it goes; without an end, until another needs its
    /// room. One that is not loaded is not changed.
    pub fn keep(&self, name: &str, keep_alive: Option<Duration>) {
        let mut state = self.shared.lock();
        if let Some(entry) = state.find(name) {
            entry.wish(keep_alive);
        }
        self.shared.changed.notify_all();
    }

    /// The first model of a kind: the one that requests mean that cannot say which.
    pub fn first(&self, kind: ModelKind) -> Option<String> {
        let mut state = self.shared.lock();
        state.known().find(|entry| entry.kind == kind).map(|entry| entry.name().to_owned())
    }

    /// What all models hold, and may hold.
    pub fn memory(&self) -> PlannedMemory {
        let state = self.shared.lock();
        PlannedMemory { held: state.held(), limit: state.limits.memory }
    }

    /// Lets models hold so much.
    pub fn set_memory(&self, bytes: u64) {
        let mut state = self.shared.lock();
        state.limits.memory = bytes;
        state.forget_failures();
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Starts the thread that loads and lets go, once.
    fn start_thread(&self) -> Result<(), Error> {
        let mut state = self.shared.lock();
        if !state.is_started {
            let shared = Arc::clone(&self.shared);
            let thread = std::thread::Builder::new().name("models".to_owned());
            thread.spawn(move || shared.run()).map_err(EngineError::Thread)?;
            state.is_started = true;
        }
        Ok(())
    }
}

impl Drop for Registry {
    /// Its thread lets go of what nobody uses, and ends.
    fn drop(&mut self) {
        self.shared.lock().is_ending = true;
        self.shared.changed.notify_all();
    }
}
