//! The models that are served, and the one that a request means.

use std::sync::Arc;

use glimmer_chat::ChatTemplate;
use glimmer_engine::{Engine, Sampling};
use glimmer_tokenizer::Tokenizer;

use crate::error::ApiError;
use crate::models::encoder::{Embedder, Encoder};
use crate::record::metrics::{ModelFigures, ModelMetrics};

/// A model, ready to answer.
pub struct Served {
    /// What clients call it; the first is its name in lists and figures.
    pub names: Vec<String>,
    /// What computes.
    pub engine: Engine,
    /// Text to ids and back.
    pub tokenizer: Tokenizer,
    /// How it converses, if it does.
    pub chat: Option<Chat>,
    /// How it continues text.
    pub text: Text,
    /// When it was made, in seconds since 1970.
    pub created: u64,
}

/// How a model converses.
#[derive(Clone, Debug)]
pub struct Chat {
    /// Conversations to prompts.
    pub template: ChatTemplate,
    /// The ids that end an answer.
    pub stop_ids: Vec<u32>,
    /// What a request leaves open.
    pub sampling: Sampling,
}

/// How a model continues text.
#[derive(Clone, Debug)]
pub struct Text {
    /// The ids that end a text.
    pub stop_ids: Vec<u32>,
    /// What a request leaves open.
    pub sampling: Sampling,
}

/// A served model with its figures.
pub(crate) struct Model {
    pub(crate) served: Served,
    pub(crate) metrics: ModelMetrics,
}

impl Model {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        self.served.names.first().map_or("model", String::as_str)
    }

    /// How it converses.
    pub(crate) fn chat(&self) -> Result<&Chat, ApiError> {
        self.served.chat.as_ref().ok_or_else(|| {
            ApiError::invalid(format!(
                "nothing tells the chat format of the model `{}`; /v1/completions continues text",
                self.name()
            ))
        })
    }
}

/// All that are served.
pub(crate) struct Models {
    models: Vec<Arc<Model>>,
    encoder: Option<Arc<Encoder>>,
    any: bool,
}

impl Models {
    pub(crate) fn new(served: Vec<Served>, embedder: Option<Embedder>, any: bool) -> Self {
        let model = |served| Arc::new(Model { served, metrics: ModelMetrics::default() });
        Models {
            models: served.into_iter().map(model).collect(),
            encoder: embedder.map(|one| Arc::new(Encoder::new(one))),
            any,
        }
    }

    /// All of them.
    pub(crate) fn all(&self) -> &[Arc<Model>] {
        &self.models
    }

    /// What `/metrics` shows of each.
    pub(crate) fn figures<'a>(&'a self) -> Vec<ModelFigures<'a>> {
        let figures = |model: &'a Arc<Model>| ModelFigures {
            name: model.name(),
            metrics: &model.metrics,
            statistics: model.served.engine.statistics(),
        };
        self.models.iter().map(figures).collect()
    }

    /// The one that requests mean that cannot say which.
    pub(crate) fn first(&self) -> Result<&Arc<Model>, ApiError> {
        self.models.first().ok_or_else(ApiError::loading)
    }

    /// The encoder, if there is one.
    pub(crate) fn encoders(&self) -> impl Iterator<Item = &Arc<Encoder>> {
        self.encoder.iter()
    }

    /// The encoder that a request for vectors means.
    pub(crate) fn encoder(&self, name: Option<&str>) -> Result<&Arc<Encoder>, ApiError> {
        let has_name = |one: &Encoder| self.any || name.is_none_or(|name| name == one.embedder.name);
        if let Some(encoder) = self.encoder.as_ref().filter(|one| has_name(one)) {
            return Ok(encoder);
        }
        let name = match name {
            Some(name) => self.find(name).map(|_| name)?,
            None => self.first()?.name(),
        };
        Err(ApiError::unsupported("model", format!("the model `{name}` writes text and makes no vectors")))
    }

    /// The one of this name.
    pub(crate) fn find(&self, name: &str) -> Result<&Arc<Model>, ApiError> {
        let found = self.models.iter().find(|model| model.served.names.iter().any(|other| other == name));
        match found {
            Some(model) => Ok(model),
            None if self.any => self.first(),
            None => Err(ApiError::no_model(name)),
        }
    }
}
