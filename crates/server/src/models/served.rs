//! The models that are served, and the one that a request means.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use glimmer::{Chat, Embedder, Engine, EngineError, Loaded, LoadedModel, Registry, Tokenizer};
use tokio::sync::watch;

use crate::error::ApiError;
use crate::models::encoder::Encoder;
use crate::models::turns::Turns;
use crate::record::metrics::{ModelFigures, ModelMetrics};

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

/// A model that writes text, with its figures. A cheap handle.
#[derive(Clone)]
pub(crate) struct Model {
    loaded: Arc<Loaded>,
    pub(crate) end: EngineEnd,
    pub(crate) engine: Arc<Engine>,
    pub(crate) metrics: Arc<ModelMetrics>,
    pub(crate) turns: Arc<Turns>,
}

impl Model {
    /// Its name in lists and figures.
    pub(crate) fn name(&self) -> &str {
        self.loaded.name()
    }

    /// All its names.
    pub(crate) fn names(&self) -> &[String] {
        &self.loaded.names
    }

    /// How it converses.
    pub(crate) fn chat(&self) -> Result<&Chat, ApiError> {
        self.engine.text().chat().map_err(|error| match error.is_unknown_format() {
            true => ApiError::invalid(format!(
                "nothing tells the chat format of the model `{}`; /v1/completions continues text",
                self.name()
            )),
            false => error.into(),
        })
    }

    /// Text to ids and back.
    pub(crate) fn tokenizer(&self) -> Result<&Tokenizer, ApiError> {
        Ok(self.engine.text().tokenizer()?)
    }
}

/// All that are served: the registry, and what the server keeps of each model beside it.
pub(crate) struct Models {
    registry: Registry,
    metrics: Mutex<HashMap<String, Arc<ModelMetrics>>>,
    turns: Mutex<HashMap<String, Arc<Turns>>>,
    encoders: Mutex<HashMap<String, Encoder>>,
    any: bool,
    end: EngineEnd,
}

impl Models {
    pub(crate) fn new(registry: Registry, any: bool, end: EngineEnd) -> Self {
        Models {
            registry,
            metrics: Mutex::default(),
            turns: Mutex::default(),
            encoders: Mutex::default(),
            any,
            end,
        }
    }

    fn model(&self, loaded: Arc<Loaded>) -> Option<Model> {
        let LoadedModel::Engine(engine) = &loaded.model else { return None };
        let engine = Arc::clone(engine);
        let mut metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        let metrics = Arc::clone(metrics.entry(loaded.name().to_owned()).or_default());
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let turns = Arc::clone(turns.entry(loaded.name().to_owned()).or_default());
        Some(Model { loaded, end: self.end.clone(), engine, metrics, turns })
    }

    fn encoder_of(&self, embedder: &Arc<Embedder>) -> Encoder {
        let mut encoders = self.encoders.lock().unwrap_or_else(PoisonError::into_inner);
        encoders.entry(embedder.name().to_owned()).or_insert_with(|| Encoder::new(embedder)).clone()
    }

    /// All that write text.
    pub(crate) fn all(&self) -> Vec<Model> {
        self.registry.all().into_iter().filter_map(|loaded| self.model(loaded)).collect()
    }

    /// What `/metrics` shows of each.
    pub(crate) fn figures(&self) -> Vec<ModelFigures> {
        let figures = |model: Model| ModelFigures {
            name: model.name().to_owned(),
            statistics: model.engine.statistics(),
            metrics: model.metrics,
        };
        self.all().into_iter().map(figures).collect()
    }

    /// The one that requests mean that cannot say which.
    pub(crate) fn first(&self) -> Result<Model, ApiError> {
        let mut all = self.registry.all().into_iter();
        all.find_map(|loaded| self.model(loaded)).ok_or_else(ApiError::loading)
    }

    /// All that make vectors.
    pub(crate) fn encoders(&self) -> Vec<Encoder> {
        let all = self.registry.all();
        let embedders = all.iter().filter_map(|loaded| match &loaded.model {
            LoadedModel::Embedder(embedder) => Some(embedder),
            LoadedModel::Engine(_) => None,
        });
        embedders.map(|embedder| self.encoder_of(embedder)).collect()
    }

    /// The encoder that a request for vectors means.
    pub(crate) fn encoder(&self, name: Option<&str>) -> Result<Encoder, ApiError> {
        let has_name = |one: &Encoder| self.any || name.is_none_or(|name| name == one.embedder.name());
        if let Some(encoder) = self.encoders().into_iter().find(has_name) {
            return Ok(encoder);
        }
        let name = match name {
            Some(name) => self.find(name).map(|_| name.to_owned())?,
            None => self.first()?.name().to_owned(),
        };
        Err(ApiError::unsupported("model", format!("the model `{name}` writes text and makes no vectors")))
    }

    /// The one of this name.
    pub(crate) fn find(&self, name: &str) -> Result<Model, ApiError> {
        match self.registry.find(name).and_then(|loaded| self.model(loaded)) {
            Some(model) => Ok(model),
            None if self.any => self.first(),
            None => Err(ApiError::no_model(name)),
        }
    }
}
