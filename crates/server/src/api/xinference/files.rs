//! Models whose files are on this machine.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State as Shared;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde_json::{Value, json};

use crate::app::App;
use crate::error::ApiError;
use crate::http::{query, response};
use crate::launcher::CachedModel;
use crate::models::blocking::blocking;
use crate::record::entry::Entry;

async fn cached(app: &App, entry: &Entry, name: Option<String>) -> Result<Vec<CachedModel>, ApiError> {
    let launcher = Arc::clone(app.launcher()?);
    blocking(entry, move || Ok(launcher.cached(name.as_deref())?)).await
}

/// The version that the address names.
fn version(uri: &Uri) -> Result<String, ApiError> {
    let version = query::value(uri, "model_version");
    version.ok_or_else(|| ApiError::parameter("model_version", "`model_version` is missing"))
}

/// `GET /v1/cache/models?model_name=`.
pub(crate) async fn list(
    Shared(app): Shared<Arc<App>>,
    Extension(entry): Extension<Entry>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let models = cached(&app, &entry, query::value(&uri, "model_name")).await?;
    let address = app.address();
    let shown = models.into_iter().map(|model| {
        let mut shown = serde_json::to_value(&model).unwrap_or_default();
        shown["actor_ip_address"] = address.as_str().into();
        shown
    });
    Ok(response::json(StatusCode::OK, &json!({"list": shown.collect::<Vec<Value>>()})))
}

/// `GET /v1/cache/models/files?model_version=`.
pub(crate) async fn paths(
    Shared(app): Shared<Arc<App>>,
    Extension(entry): Extension<Entry>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let version = version(&uri)?;
    let models = cached(&app, &entry, None).await?;
    let paths: Vec<_> =
        models.into_iter().filter(|model| model.model_version == version).map(|model| model.path).collect();
    let shown = json!({"model_version": version, "worker_ip": null, "paths": paths});
    Ok(response::json(StatusCode::OK, &shown))
}

/// `DELETE /v1/cache/models?model_version=`.
pub(crate) async fn remove(
    Shared(app): Shared<Arc<App>>,
    Extension(entry): Extension<Entry>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let (launcher, version) = (Arc::clone(app.launcher()?), version(&uri)?);
    let removed = blocking(&entry, move || Ok(launcher.remove_cached(&version)?)).await?;
    Ok(response::json(StatusCode::OK, &json!({"result": removed})))
}
