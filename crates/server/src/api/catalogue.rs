//! The published models, as the program that serves knows them: for the page.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;

use crate::app::App;
use crate::error::ApiError;
use crate::http::response::typed;

/// `GET /catalogue`.
pub(crate) async fn list(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let Some(published) = app.options.published else { return Ok(json("[]".to_owned())) };
    slowly(published.list).await?.map(json).map_err(ApiError::internal)
}

/// `GET /catalogue/{name}`: a model, and what it takes on this machine.
pub(crate) async fn one(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Response, ApiError> {
    let Some(published) = app.options.published else { return Err(ApiError::unpublished(&name)) };
    // Measuring the machine takes seconds when it is first asked for; others wait for that and not each for their own.
    let _turn = app.measuring.lock().await;
    slowly(move || (published.one)(&name)).await?.map(json).map_err(|why| ApiError::unpublished(&why))
}

fn json(text: String) -> Response {
    typed(StatusCode::OK, "application/json", text)
}

async fn slowly<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| ApiError::internal("the catalogue met a fault"))
}
