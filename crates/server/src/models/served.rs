//! The models that are served, and the one that a request means.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use glimmer::{
    Chat, Engine, EngineError, GenerationParams, Lease, LeaseError, LoadedModel, ModelFacts, ModelKind,
    ModelStatus, Prompt, Registry, Request, Tokenizer,
};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::error::{ApiError, shown};
use crate::models::adapters::{KnownAdapter, KnownAdapters};
use crate::models::blocking::blocking;
use crate::models::encoder::Encoder;
use crate::models::turns::Turns;
use crate::options::Options;
use crate::record::entry::Entry;
use crate::record::metrics::{ModelFigures, ModelMetrics, RegistryFigures};

/// Why an engine has ended by itself, once one has. It ends the server: whoever started it may start it again.
#[derive(Clone, Default)]
pub(crate) struct EngineEnd(watch::Sender<Option<String>>);

impl EngineEnd {
    /// Notes an error that is the end of an engine; the first one counts.
    pub(crate) fn note(&self, error: &EngineError) {
        if error.is_end() {
            self.0.send_if_modified(|end| {
                let is_first = end.is_none();
                end.get_or_insert_with(|| error.to_string());
                is_first
            });
        }
    }

    /// Why, if one has.
    pub(crate) fn get(&self) -> Option<String> {
        self.0.borrow().clone()
    }

    /// Waits until one has.
    pub(crate) async fn wait(&self) {
        // The sender is here.
        drop(self.0.subscribe().wait_for(Option::is_some).await);
    }
}

/// A model that writes text, in use, with its figures. A cheap handle; the model stays loaded as long as there is one.
#[derive(Clone)]
pub(crate) struct Model {
    lease: Lease,
    /// The adapter that was named in its place.
    adapter: Option<String>,
    pub(crate) end: EngineEnd,
    pub(crate) metrics: Arc<ModelMetrics>,
    pub(crate) turns: Arc<Turns>,
}

impl Model {
    /// What computes.
    pub(crate) fn engine(&self) -> &Engine {
        match &self.lease.model {
            LoadedModel::Engine(engine) => engine,
            _ => unreachable!("a model is made of an engine"),
        }
    }

    /// Its name in lists and figures.
    pub(crate) fn name(&self) -> &str {
        self.lease.name()
    }

    /// The request that a prompt and parameters come to.
    pub(crate) fn request(&self, prompt: &Prompt, params: &GenerationParams) -> Request {
        let adapter = self.adapter.clone();
        self.engine().request(prompt, &GenerationParams { adapter, ..params.clone() })
    }

    /// How it converses.
    pub(crate) fn chat(&self) -> Result<&Chat, ApiError> {
        self.engine().text().chat().map_err(|error| match error.is_unknown_format() {
            true => ApiError::invalid(format!(
                "nothing tells the chat format of the model `{}`; /v1/completions continues text",
                self.name()
            )),
            false => error.into(),
        })
    }

    /// Text to ids and back.
    pub(crate) fn tokenizer(&self) -> Result<&Tokenizer, ApiError> {
        Ok(self.engine().text().tokenizer()?)
    }
}

/// All that are served: the registry, and what the server keeps of each model beside it, whether it is loaded or not.
pub(crate) struct Models {
    registry: Arc<Registry>,
    metrics: Mutex<HashMap<String, Arc<ModelMetrics>>>,
    turns: Mutex<HashMap<String, Arc<Turns>>>,
    encoder_turns: Mutex<HashMap<String, Arc<Semaphore>>>,
    facts: Mutex<HashMap<String, Arc<ModelFacts>>>,
    pub(crate) adapters: KnownAdapters,
    any: bool,
    /// How long a request waits for its model.
    load_time: Duration,
    end: EngineEnd,
    /// When somebody last began to look for further models.
    looked: tokio::sync::Mutex<Option<Instant>>,
}

impl Models {
    pub(crate) fn new(registry: Registry, options: &Options, end: EngineEnd) -> Self {
        Models {
            registry: Arc::new(registry),
            metrics: Mutex::default(),
            turns: Mutex::default(),
            encoder_turns: Mutex::default(),
            facts: Mutex::default(),
            adapters: KnownAdapters::default(),
            any: options.any_model,
            load_time: options.limits.load_time,
            end,
            looked: tokio::sync::Mutex::default(),
        }
    }

    /// What the library knows of them.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Whether a model has this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.registry.kind(name).is_some() || self.adapters.find(name).is_some()
    }

    /// Makes an adapter known, and has its model load it.
    pub(crate) async fn load_adapter(&self, entry: &Entry, adapter: KnownAdapter) -> Result<(), ApiError> {
        let model = self.model(&adapter.parent).await?;
        let adapter = KnownAdapter { parent: model.name().to_owned(), ..adapter };
        self.check_adapter_name(&adapter.name)?;
        let (name, path) = (adapter.name.clone(), adapter.path.clone());
        blocking(entry, move || open_adapter(&model.lease, &name, &path)).await?;
        self.adapters.put(adapter).map_err(ApiError::invalid)
    }

    /// The same for somebody who waits, of a model that is loaded or will be.
    pub(crate) fn load_adapter_now(&self, adapter: KnownAdapter) -> Result<(), ApiError> {
        let unavailable = |error| self.unavailable(&adapter.parent, error);
        let lease =
            self.registry.lease(&adapter.parent).and_then(glimmer::Leasing::wait).map_err(unavailable)?;
        self.check_adapter_name(&adapter.name)?;
        if !engine_of(&lease)?.has_adapter(&adapter.name) {
            open_adapter(&lease, &adapter.name, &adapter.path)?;
        }
        self.adapters.put(adapter).map_err(ApiError::invalid)
    }

    fn check_adapter_name(&self, name: &str) -> Result<(), ApiError> {
        if name.is_empty() || self.registry.kind(name).is_some() {
            let message = format!("a model is called {} already", shown(name));
            return Err(ApiError::parameter("lora_name", message));
        }
        Ok(())
    }

    /// Lets go of an adapter; whether there was one.
    pub(crate) fn drop_adapter(&self, name: &str) -> bool {
        let Some(adapter) = self.adapters.remove(name) else { return false };
        if let Some(lease) = self.registry.find(&adapter.parent)
            && let Ok(engine) = engine_of(&lease)
        {
            engine.drop_adapter(name);
        }
        true
    }

    /// The model that an adapter belongs to, with the adapter, which it may have to load again.
    async fn adapted(&self, adapter: &KnownAdapter) -> Result<Model, ApiError> {
        let mut model = self.model(&adapter.parent).await?;
        if !model.engine().has_adapter(&adapter.name) {
            let (lease, name, path) = (model.lease.clone(), adapter.name.clone(), adapter.path.clone());
            let open = move || open_adapter(&lease, &name, &path);
            // The panic itself is on standard error.
            let fault = |_| Err(ApiError::internal("the adapter could not be read"));
            tokio::task::spawn_blocking(open).await.unwrap_or_else(fault)?;
        }
        model.turns = kept(&self.turns, &adapter.name);
        model.adapter = Some(adapter.name.clone());
        Ok(model)
    }

    /// What a model's files say. They are read once.
    pub(crate) async fn facts(&self, entry: &Entry, name: &str) -> Result<Arc<ModelFacts>, ApiError> {
        let lock = || self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(facts) = lock().get(name) {
            return Ok(Arc::clone(facts));
        }
        let opener = self.registry.opener(name);
        let read = move || match opener.map(|opener| opener.facts()) {
            None => Ok(ModelFacts::default()),
            Some(facts) => facts.map_err(|error| ApiError::internal(error.to_string())),
        };
        let facts = Arc::new(blocking(entry, read).await?);
        if self.has(name) {
            lock().insert(name.to_owned(), Arc::clone(&facts));
        }
        Ok(facts)
    }

    /// Takes the model of this name out, with what is kept of it; whether there was one.
    pub(crate) fn remove(&self, name: &str) -> bool {
        fn forget<T>(kept: &Mutex<HashMap<String, T>>, name: &str) {
            kept.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        }
        let is_removed = self.registry.remove(name);
        self.adapters.remove_of(name);
        forget(&self.metrics, name);
        forget(&self.turns, name);
        forget(&self.encoder_turns, name);
        forget(&self.facts, name);
        is_removed
    }

    /// What `/metrics` shows of each.
    pub(crate) fn figures(&self) -> RegistryFigures {
        let models = self.registry.status().into_iter().map(|status| {
            let metrics = kept(&self.metrics, &status.names[0]);
            ModelFigures { status, metrics }
        });
        RegistryFigures { models: models.collect(), memory: self.registry.memory() }
    }

    /// The name of the one that requests mean that cannot say which.
    pub(crate) async fn first_name(&self) -> Result<String, ApiError> {
        self.first_of(ModelKind::Text).await.ok_or_else(|| self.no_model(None))
    }

    /// That one.
    pub(crate) async fn first(&self) -> Result<Model, ApiError> {
        self.model(&self.first_name().await?).await
    }

    /// The one of this name.
    pub(crate) async fn find(&self, name: &str) -> Result<Model, ApiError> {
        if let Some(adapter) = self.adapters.find(name) {
            return self.adapted(&adapter).await;
        }
        match self.kind(name).await {
            Some(ModelKind::Text) => self.model(name).await,
            _ if self.any => self.first().await,
            Some(other) => Err(of_another_kind(name, other, ModelKind::Text)),
            None => Err(self.no_model(Some(name))),
        }
    }

    /// The encoder of this kind that a request means.
    pub(crate) async fn encoder(&self, kind: ModelKind, name: Option<&str>) -> Result<Encoder, ApiError> {
        let meant = match name.filter(|_| !self.any) {
            Some(name) => Some(name.to_owned()),
            None => match self.first_of(kind).await {
                None => self.registry.names().first().cloned(),
                first => first,
            },
        };
        let meant = meant.ok_or_else(|| self.no_model(name))?;
        match self.kind(&meant).await {
            Some(found) if found == kind => {
                let lease = self.lease(&meant).await?;
                let new = || Arc::new(Semaphore::new(1));
                let mut turns = self.encoder_turns.lock().unwrap_or_else(PoisonError::into_inner);
                let turn = turns.entry(lease.name().to_owned()).or_insert_with(new);
                Encoder::new(lease, kind, turn).ok_or_else(|| of_another_kind(&meant, found, kind))
            }
            Some(found) => Err(of_another_kind(&meant, found, kind)),
            None => Err(self.no_model(name)),
        }
    }

    async fn model(&self, name: &str) -> Result<Model, ApiError> {
        let lease = self.lease(name).await?;
        if lease.model.kind() != ModelKind::Text {
            return Err(self.no_model(Some(name)));
        }
        let (metrics, turns) = (kept(&self.metrics, lease.name()), kept(&self.turns, lease.name()));
        Ok(Model { lease, adapter: None, end: self.end.clone(), metrics, turns })
    }

    /// A model to be used; who asks waits until it is loaded.
    async fn lease(&self, name: &str) -> Result<Lease, ApiError> {
        let unavailable = |error| self.unavailable(name, error);
        let leasing = self.registry.lease(name).map_err(unavailable)?;
        match timeout(self.load_time, leasing).await {
            Ok(result) => result.map_err(unavailable),
            Err(_) => Err(ApiError::loading()),
        }
    }

    /// What a model makes; one that is not known is looked for.
    async fn kind(&self, name: &str) -> Option<ModelKind> {
        match self.registry.kind(name) {
            None if self.look().await => self.registry.kind(name),
            kind => kind,
        }
    }

    async fn first_of(&self, kind: ModelKind) -> Option<String> {
        match self.registry.first(kind) {
            None if self.look().await => self.registry.first(kind),
            first => first,
        }
    }

    /// Looks where models may have come to be; whether there is such a place. One looks at a time, for all that came before it
    /// began.
    pub(crate) async fn look(&self) -> bool {
        if !self.registry.has_shelf() {
            return false;
        }
        let asked = Instant::now();
        let mut looked = self.looked.lock().await;
        if looked.is_some_and(|begun| begun > asked) {
            return true;
        }
        *looked = Some(Instant::now());
        let registry = Arc::clone(&self.registry);
        tokio::task::spawn_blocking(move || registry.refresh()).await.is_ok()
    }

    /// Of these the one that a request means by this name.
    pub(crate) fn named<'a>(&self, all: &'a [ModelStatus], name: &str) -> Option<&'a ModelStatus> {
        let has_name = |status: &&ModelStatus| status.names.iter().any(|known| known == name);
        let first = || all.iter().find(|status| self.any && status.kind == ModelKind::Text);
        all.iter().find(has_name).or_else(first)
    }

    pub(crate) fn no_model(&self, name: Option<&str>) -> ApiError {
        let adapters = self.adapters.all();
        let adapters = adapters.iter().map(|adapter| adapter.name.clone());
        ApiError::no_model(name, &self.registry.names().into_iter().chain(adapters).collect::<Vec<_>>())
    }

    fn unavailable(&self, name: &str, error: LeaseError) -> ApiError {
        match error {
            LeaseError::Unknown | LeaseError::Removed => self.no_model(Some(name)),
            LeaseError::Full { waiting } => ApiError::busy(waiting, 1),
            LeaseError::Failed { ref why, retry_after } => ApiError::not_loaded(name, why, retry_after),
            LeaseError::NoRoom { .. } | LeaseError::TooLarge { .. } => {
                ApiError::not_loaded(name, &error.to_string(), Duration::from_secs(1))
            }
        }
    }
}

/// What computes where a model is leased.
fn engine_of(lease: &Lease) -> Result<&Engine, ApiError> {
    match &lease.model {
        LoadedModel::Engine(engine) => Ok(engine),
        _ => Err(of_another_kind(lease.name(), lease.model.kind(), ModelKind::Text)),
    }
}

fn open_adapter(lease: &Lease, name: &str, path: &Path) -> Result<(), ApiError> {
    let opened = engine_of(lease)?.open_adapter(name, path);
    opened.map_err(|error| ApiError::parameter("lora_path", format!("the adapter {}: {error}", shown(name))))
}

/// The complaint about a model that is asked for what it does not make.
fn of_another_kind(name: &str, found: ModelKind, wanted: ModelKind) -> ApiError {
    let does = match found {
        ModelKind::Text => "writes text",
        ModelKind::Vectors => "makes vectors",
        ModelKind::Scores => "scores pairs of texts",
    };
    let does_not = match wanted {
        ModelKind::Text => "writes no text",
        ModelKind::Vectors => "makes no vectors",
        ModelKind::Scores => "has no head that scores pairs of texts",
    };
    ApiError::unsupported("model", format!("the model `{name}` {does} and {does_not}"))
}

/// What is kept under a name.
fn kept<T: Default>(all: &Mutex<HashMap<String, Arc<T>>>, name: &str) -> Arc<T> {
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(all.entry(name.to_owned()).or_default())
}
