//! `/v1/models`.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use crate::app::App;
use crate::error::ApiError;
use crate::http::response;
use crate::models::served::Model;
use glimmer::Embedder;

/// `GET /v1/models`.
pub(crate) async fn list(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let models = app.models()?;
    let mut data: Vec<Value> = Vec::new();
    for model in models.all() {
        data.extend(model.names().iter().map(|name| shown(&model, name)));
    }
    data.extend(models.encoders().iter().map(|encoder| shown_encoder(&encoder.embedder)));
    Ok(response::json(StatusCode::OK, &json!({"object": "list", "data": data})))
}

/// `GET /v1/models/{name}`; a name may have slashes.
pub(crate) async fn one(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Response, ApiError> {
    let models = app.models()?;
    if let Some(encoder) = models.encoders().into_iter().find(|one| one.embedder.name() == name) {
        return Ok(response::json(StatusCode::OK, &shown_encoder(&encoder.embedder)));
    }
    Ok(response::json(StatusCode::OK, &shown(&models.find(&name)?, &name)))
}

fn shown(model: &Model, name: &str) -> Value {
    let engine = &model.engine;
    let (spec, text) = (engine.spec(), engine.text());
    json!({
        "id": name,
        "object": "model",
        "created": text.created(),
        "owned_by": "glimmer",
        "root": model.name(),
        "max_model_len": engine.context(),
        "meta": {
            "n_vocab": spec.vocab,
            "n_ctx_train": spec.context,
            "n_embd": spec.hidden,
            "chat_format": text.chat().ok().map(|chat| chat.template.format().map_or("jinja", |f| f.name())),
        },
    })
}

fn shown_encoder(one: &Embedder) -> Value {
    json!({
        "id": one.name(),
        "object": "model",
        "created": one.created(),
        "owned_by": "glimmer",
        "root": one.name(),
        "max_model_len": one.max_tokens(),
        "meta": {"n_embd": one.width()},
    })
}
