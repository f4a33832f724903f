//! `POST /api/copy` and `DELETE /api/delete`; and what models are not changed by: files that clients send, and publishing.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use crate::api::ollama::{create, names};
use crate::app::App;
use crate::error::{ApiError, shown};
use crate::http::params::Params;
use crate::models::blocking::blocking;
use crate::models::made::Made;
use crate::record::entry::Entry;

/// `POST /api/copy`: a further name for a model.
pub(crate) async fn copy(
    State(app): State<Arc<App>>,
    Extension(entry): Extension<Entry>,
    mut params: Params,
) -> Result<Response, ApiError> {
    app.launcher()?;
    params.need("source");
    params.need("destination");
    let source = params.string("source").unwrap_or_default();
    let destination = params.string("destination").unwrap_or_default();
    params.done()?;
    let from = names::known(&app, &entry, &source).await.ok_or_else(|| names::not_found(&source))?;
    let made = match app.made.find(&from) {
        Some(made) => made.as_ref().clone(),
        None => Made { from, ..Made::default() },
    };
    create::keep(&app, &destination, made)?;
    Ok(Response::default())
}

/// `DELETE /api/delete`: nobody finds the model any more, and its files go where they are in a hub's cache; answers in progress
/// go on to their end.
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Extension(entry): Extension<Entry>,
    mut params: Params,
) -> Result<Response, ApiError> {
    let launcher = Arc::clone(app.launcher()?);
    let name = names::asked(&mut params, &names::FIELDS);
    params.done()?;
    let known = names::known(&app, &entry, &name).await.ok_or_else(|| names::not_found(&name))?;
    if app.made.remove(&known) {
        return Ok(Response::default());
    }
    let all = app.models()?.registry().status();
    let names = all.iter().find(|status| status.names.contains(&known)).map(|status| &status.names);
    if let Some(other) = names.into_iter().flatten().find_map(|name| app.made.of(name)) {
        let (name, other) = (shown(&known), shown(&other));
        return Err(ApiError::parameter(
            "model",
            format!("{other} is made of {name}: delete that one first"),
        ));
    }
    app.instances.end(&known);
    app.models()?.remove(&known);
    app.record.log.line("terminated", [("model".to_owned(), shown(&known).into())].into_iter().collect());
    // A model that is no hub's is files of the operator's: they stay.
    blocking(&entry, move || match launcher.resolve(names::spec(&known)) {
        Ok(launch) => Ok(launcher.remove_cached(&launch.description().version()).map(drop)?),
        Err(_) => Ok(()),
    })
    .await?;
    Ok(Response::default())
}

/// `POST /api/blobs/{digest}`.
pub(crate) async fn no_blob() -> ApiError {
    ApiError::unsupported(
        "digest",
        "files are not taken: /api/pull fetches models from hubs, and `glimmer serve` serves those on this machine",
    )
}

/// `HEAD /api/blobs/{digest}`: there is none.
pub(crate) async fn has_blob() -> StatusCode {
    StatusCode::NOT_FOUND
}

/// `POST /api/push`.
pub(crate) async fn push() -> ApiError {
    ApiError::unsupported(
        "model",
        "models are not published from here: Hugging Face's and ModelScope's own tools do that",
    )
}
