//! Adapters loaded and let go of while models are served, in vLLM's words.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use crate::app::App;
use crate::clock::now;
use crate::error::{ApiError, shown};
use crate::http::params::Params;
use crate::http::response::typed;
use crate::models::adapters::KnownAdapter;
use crate::record::entry::Entry;

const PLAIN: &str = "text/plain; charset=utf-8";

/// `POST /v1/load_lora_adapter`: an adapter on this machine becomes a model by name. Whoever may launch models may do so.
pub(crate) async fn load(
    State(app): State<Arc<App>>,
    Extension(entry): Extension<Entry>,
    mut params: Params,
) -> Result<Response, ApiError> {
    params.need("lora_name");
    params.need("lora_path");
    let name = params.string("lora_name").unwrap_or_default();
    let path = params.string("lora_path").unwrap_or_default();
    let replaces = params.boolean("load_inplace").unwrap_or(false);
    let parent = params.string("base_model_name");
    // Weights of experts as one tensor: there are none here.
    params.only("is_3d_lora_weight", false);
    params.done()?;
    app.launcher()?;
    let models = app.models()?;
    if models.adapters.find(&name).is_some() && !replaces {
        let message = format!("the adapter {} is loaded already; `load_inplace` replaces it", shown(&name));
        return Err(ApiError::parameter("lora_name", message));
    }
    let parent = match parent {
        Some(parent) => parent,
        None => models.first_name().await?,
    };
    let adapter = KnownAdapter { name: name.clone(), parent, path: path.into(), created: now() };
    models.load_adapter(&entry, adapter).await?;
    let text = format!("Success: LoRA adapter '{}' added successfully.", shown(&name));
    Ok(typed(StatusCode::OK, PLAIN, text))
}

/// `POST /v1/unload_lora_adapter`: what it is computing is finished.
pub(crate) async fn unload(State(app): State<Arc<App>>, mut params: Params) -> Result<Response, ApiError> {
    params.need("lora_name");
    let name = params.string("lora_name").unwrap_or_default();
    // vLLM's own number for it.
    params.ignore("lora_int_id");
    params.done()?;
    app.launcher()?;
    if !app.models()?.drop_adapter(&name) {
        let message = format!("the adapter {} is not loaded", shown(&name));
        return Err(ApiError::no_such_model(message));
    }
    let text = format!("Success: LoRA adapter '{}' removed successfully.", shown(&name));
    Ok(typed(StatusCode::OK, PLAIN, text))
}
