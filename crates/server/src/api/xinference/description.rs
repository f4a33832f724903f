//! A model in Xinference's fields.

use glimmer::{LoadedModel, ModelKind, ModelStatus};
use serde::Serialize;

use crate::app::App;
use crate::launcher::{ModelDescription, ModelType};

/// A model, as `/v1/models` shows it beside the fields of the OpenAI API.
#[derive(Serialize)]
pub(crate) struct Described {
    #[serde(flatten)]
    description: ModelDescription,
    address: String,
    accelerators: Option<Vec<String>>,
    replica: usize,
    #[serde(flatten)]
    vectors: Option<Vectors>,
}

/// What a model that makes vectors has in addition.
#[derive(Serialize)]
struct Vectors {
    dimensions: usize,
    max_tokens: usize,
    language: Vec<String>,
}

impl Described {
    /// What was known of a model when it was launched, or is known of what the operator serves; what only its weights tell is
    /// there while it is loaded.
    pub(crate) fn of(app: &App, status: &ModelStatus, loaded: Option<&LoadedModel>) -> Self {
        let launched = app.instances.find(&status.names[0]);
        let description = match &launched {
            Some(instance) => instance.description.clone(),
            None => unlaunched(status, loaded),
        };
        let vectors = match loaded {
            Some(LoadedModel::Embedder(embedder)) => Some(Vectors {
                dimensions: embedder.width(),
                max_tokens: embedder.max_tokens(),
                language: description.model_lang.clone(),
            }),
            _ => None,
        };
        Described {
            description,
            address: app.address(),
            accelerators: None,
            replica: launched.map_or(1, |instance| instance.replica),
            vectors,
        }
    }
}

fn unlaunched(status: &ModelStatus, loaded: Option<&LoadedModel>) -> ModelDescription {
    let unknown = |model_type, abilities| ModelDescription::unknown(model_type, &status.names[0], abilities);
    match (status.kind, loaded) {
        (ModelKind::Vectors, _) => unknown(ModelType::Embedding, &["embed"]),
        (ModelKind::Scores, _) => unknown(ModelType::Rerank, &["rerank"]),
        (ModelKind::Text, Some(LoadedModel::Engine(engine))) => {
            let text = engine.text();
            let able = [("chat", text.chat().is_ok()), ("generate", true), ("vision", text.vision().is_ok())];
            let abilities: Vec<&str> =
                able.into_iter().filter(|(_, is_able)| *is_able).map(|(word, _)| word).collect();
            let context_length = Some(engine.spec().context as u64);
            ModelDescription { context_length, ..unknown(ModelType::Llm, &abilities) }
        }
        (ModelKind::Text, _) => unknown(ModelType::Llm, &["chat", "generate"]),
    }
}
