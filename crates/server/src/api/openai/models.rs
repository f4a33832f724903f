//! `/v1/models`: each model in the fields of the OpenAI API, of Anthropic's and of Xinference's.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use glimmer::{LoadedModel, ModelState, ModelStatus, Registry, Sampling};
use serde_json::{Value, json};

use crate::api::xinference::description::Described;
use crate::app::App;
use crate::clock::timestamp;
use crate::error::ApiError;
use crate::http::response;
use crate::models::adapters::KnownAdapter;
use crate::models::instances::State as Launched;

/// `GET /v1/models`: all that requests may name, loaded or not.
pub(crate) async fn list(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let models = app.models()?;
    models.look().await;
    let all = models.registry().status();
    let data: Vec<Value> = all
        .iter()
        .flat_map(|status| status.names.iter().map(|name| shown(&app, models.registry(), status, name)))
        .chain(models.adapters.all().iter().map(|adapter| shown_adapter(adapter)))
        .collect();
    Ok(response::json(
        StatusCode::OK,
        &json!({
            "object": "list",
            "has_more": false,
            "first_id": data.first().map(|first| &first["id"]),
            "last_id": data.last().map(|last| &last["id"]),
            "data": data,
        }),
    ))
}

/// `GET /v1/models/{name}`.
pub(crate) async fn one(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Response, ApiError> {
    named(&app, &name).await
}

/// The same of a name that has slashes.
pub(crate) async fn one_with_slashes(
    State(app): State<Arc<App>>,
    Path((name, rest)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    named(&app, &format!("{name}/{rest}")).await
}

async fn named(app: &App, name: &str) -> Result<Response, ApiError> {
    let models = app.models()?;
    models.look().await;
    match app.instances.find(name).map(|instance| instance.state()) {
        Some(Launched::Downloading(_)) => return Err(ApiError::loading()),
        Some(Launched::Failed(why)) => return Err(why.into()),
        _ => {}
    }
    if let Some(adapter) = models.adapters.find(name) {
        return Ok(response::json(StatusCode::OK, &shown_adapter(&adapter)));
    }
    let all = models.registry().status();
    match models.named(&all, name) {
        Some(status) => Ok(response::json(StatusCode::OK, &shown(app, models.registry(), status, name))),
        None => Err(models.no_model(Some(name))),
    }
}

/// An adapter, as vLLM shows those that it serves.
fn shown_adapter(adapter: &KnownAdapter) -> Value {
    json!({
        "id": adapter.name,
        "object": "model",
        "type": "model",
        "display_name": adapter.name,
        "lifecycle": "active",
        "created": adapter.created,
        "created_at": timestamp(adapter.created),
        "owned_by": "glimmer",
        "root": adapter.path.display().to_string(),
        "parent": adapter.parent,
    })
}

/// A model under one of its names. What only its weights tell is there while it is loaded.
fn shown(app: &App, registry: &Registry, status: &ModelStatus, name: &str) -> Value {
    let mut value = json!({
        "id": name,
        "object": "model",
        "type": "model",
        "display_name": name,
        "lifecycle": "active",
        "created": status.created,
        "owned_by": "glimmer",
        "root": status.names[0],
        "status": state(&status.state),
    });
    let lease = registry.find(&status.names[0]);
    if let Some(lease) = &lease {
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
            LoadedModel::Reranker(reranker) => {
                value["created"] = reranker.created().into();
                value["max_model_len"] = reranker.max_tokens().into();
                value["meta"] = json!({"n_labels": 1});
            }
        }
    }
    value["created_at"] = value["created"].as_u64().map(timestamp).into();
    let described = Described::of(app, status, lease.as_ref().map(|lease| &lease.model));
    if let (Value::Object(fields), Ok(Value::Object(more))) = (&mut value, serde_json::to_value(described)) {
        fields.extend(more);
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
