//! `/v1/models`.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use glimmer::{LoadedModel, ModelState, ModelStatus, Registry, Sampling};
use serde_json::{Value, json};

use crate::app::App;
use crate::error::ApiError;
use crate::http::response;

/// `GET /v1/models`: all that requests may name, loaded or not.
pub(crate) async fn list(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let models = app.models()?;
    models.look().await;
    let all = models.registry().status();
    let data: Vec<Value> = all
        .iter()
        .flat_map(|status| status.names.iter().map(|name| shown(models.registry(), status, name)))
        .collect();
    Ok(response::json(StatusCode::OK, &json!({"object": "list", "data": data})))
}

/// `GET /v1/models/{name}`; a name may have slashes.
pub(crate) async fn one(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Response, ApiError> {
    let models = app.models()?;
    models.look().await;
    let all = models.registry().status();
    match models.named(&all, &name) {
        Some(status) => Ok(response::json(StatusCode::OK, &shown(models.registry(), status, &name))),
        None => Err(models.no_model(Some(&name))),
    }
}

/// A model under one of its names. What only its weights tell is there while it is loaded.
fn shown(registry: &Registry, status: &ModelStatus, name: &str) -> Value {
    let mut value = json!({
        "id": name,
        "object": "model",
        "created": status.created,
        "owned_by": "glimmer",
        "root": status.names[0],
        "status": state(&status.state),
    });
    if let Some(lease) = registry.find(&status.names[0]) {
        match &lease.model {
            LoadedModel::Engine(engine) => {
                let (spec, text) = (engine.spec(), engine.text());
                let chat = text.chat().ok();
                value["created"] = text.created().into();
                value["max_model_len"] = engine.context().into();
                value["meta"] = json!({
                    "n_vocab": spec.vocab,
                    "n_ctx_train": spec.context,
                    "n_embd": spec.hidden,
                    "chat_format": chat.map(|chat| chat.template.format().map_or("jinja", |f| f.name())),
                    "sampling": chat.map(|chat| sampling(&chat.sampling)),
                });
            }
            LoadedModel::Embedder(embedder) => {
                value["created"] = embedder.created().into();
                value["max_model_len"] = embedder.max_tokens().into();
                value["meta"] = json!({"n_embd": embedder.width()});
            }
        }
    }
    value
}

/// Where it is, in the words of llama.cpp's server; why it could not be loaded, and how far it is, in our own.
fn state(state: &ModelState) -> Value {
    match state {
        ModelState::Unloaded => json!({"value": "unloaded"}),
        ModelState::Loaded => json!({"value": "loaded"}),
        ModelState::Failed { why } => json!({"value": "unloaded", "failed": true, "error": why.as_ref()}),
        ModelState::Loading { done, total } => {
            json!({"value": "loading", "progress": *done as f64 / (*total).max(1) as f64})
        }
    }
}

/// How the model's tokens are chosen where a request says nothing.
fn sampling(own: &Sampling) -> Value {
    json!({
        "temperature": own.temperature,
        "top_p": own.top_p,
        "top_k": own.top_k,
        "min_p": own.min_p,
        "repetition_penalty": own.repetition_penalty,
        "presence_penalty": own.presence_penalty,
        "frequency_penalty": own.frequency_penalty,
    })
}
