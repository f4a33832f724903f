//! `/v1/models`, and what is answered for kinds of models that are not there.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use crate::app::App;
use crate::body;
use crate::error::ApiError;
use crate::params::Params;
use crate::served::Model;

/// `GET /v1/models`.
pub(crate) async fn list(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let all = app.models()?.all().iter();
    let data: Vec<Value> =
        all.flat_map(|model| model.served.names.iter().map(|name| shown(model, name))).collect();
    Ok(body::json(StatusCode::OK, &json!({"object": "list", "data": data})))
}

/// `GET /v1/models/{name}`; a name may have slashes.
pub(crate) async fn one(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Response, ApiError> {
    let model = app.models()?.find(&name)?;
    Ok(body::json(StatusCode::OK, &shown(model, &name)))
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

/// `POST /v1/embeddings`: no model here makes any.
pub(crate) async fn embeddings(
    State(app): State<Arc<App>>,
    mut params: Params,
) -> Result<Response, ApiError> {
    let (model, _) = crate::wanted::model(app.models()?, &mut params)?;
    Err(no_embeddings(model.name()))
}

/// What a model that only writes says to somebody who wants vectors.
pub(crate) fn no_embeddings(name: &str) -> ApiError {
    ApiError::unsupported("model", format!("the model `{name}` writes text and makes no embeddings"))
}
