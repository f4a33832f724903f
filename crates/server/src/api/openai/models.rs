//! `/v1/models`.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use crate::app::App;
use crate::error::ApiError;
use crate::http::response;
use crate::models::encoder::Embedder;
use crate::models::served::Model;

/// `GET /v1/models`.
pub(crate) async fn list(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let models = app.models()?;
    let all = models.all().iter();
    let written = all.flat_map(|model| model.served.names.iter().map(|name| shown(model, name)));
    let data: Vec<Value> =
        written.chain(models.encoders().map(|encoder| shown_encoder(&encoder.embedder))).collect();
    Ok(response::json(StatusCode::OK, &json!({"object": "list", "data": data})))
}

/// `GET /v1/models/{name}`; a name may have slashes.
pub(crate) async fn one(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Response, ApiError> {
    let models = app.models()?;
    if let Some(encoder) = models.encoders().find(|encoder| encoder.embedder.name == name) {
        return Ok(response::json(StatusCode::OK, &shown_encoder(&encoder.embedder)));
    }
    Ok(response::json(StatusCode::OK, &shown(models.find(&name)?, &name)))
}

fn shown(model: &Model, name: &str) -> Value {
    let (engine, served) = (&model.served.engine, &model.served);
    let spec = engine.spec();
    json!({
        "id": name,
        "object": "model",
        "created": served.created,
        "owned_by": "glimmer",
        "root": model.name(),
        "max_model_len": engine.context(),
        "meta": {
            "n_vocab": spec.vocab,
            "n_ctx_train": spec.context,
            "n_embd": spec.hidden,
            "chat_format": served.chat.as_ref().map(|chat| chat.template.format().map_or("jinja", |f| f.name())),
        },
    })
}

fn shown_encoder(one: &Embedder) -> Value {
    json!({
        "id": one.name,
        "object": "model",
        "created": one.created,
        "owned_by": "glimmer",
        "root": one.name,
        "max_model_len": one.max_tokens,
        "meta": {"n_embd": one.width},
    })
}
