//! How the server is, for machines that watch it and people who look; and what it can be asked.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::app::App;
use crate::error::ApiError;
use crate::http::response::{self, typed};
use crate::models::served::Models;

/// The description of every path, for clients and for `/docs`.
pub(crate) const OPENAPI: &str = include_str!("../../assets/openapi.json");
const DOCS: &str = include_str!("../../assets/docs.html");

/// `GET /health` and `/readyz`: whether a request would be answered now.
pub(crate) async fn health(State(app): State<Arc<App>>) -> Response {
    if app.models().is_err() {
        return ApiError::loading().into_response();
    }
    if app.is_draining() {
        return response::json(StatusCode::SERVICE_UNAVAILABLE, &json!({"status": "stopping"}));
    }
    response::json(StatusCode::OK, &json!({"status": "ok"}))
}

/// `GET /livez`: whether the server lives.
pub(crate) async fn live() -> Response {
    response::json(StatusCode::OK, &json!({"status": "ok"}))
}

/// `GET /version`.
pub(crate) async fn version() -> Response {
    response::json(StatusCode::OK, &json!({"version": env!("CARGO_PKG_VERSION")}))
}

/// `GET /metrics`.
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let models = app.models().ok().map(Models::figures);
    // The driver may take its time.
    let cards = tokio::task::spawn_blocking(glimmer::card_use).await.unwrap_or_default();
    let text = app.record.figures(models.as_ref(), &cards, app.options.vllm_metrics);
    typed(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
}

/// `GET /openapi.json`.
pub(crate) async fn openapi() -> Response {
    typed(StatusCode::OK, "application/json", OPENAPI)
}

/// `GET /docs`: the description as a page.
pub(crate) async fn docs() -> Response {
    typed(StatusCode::OK, "text/html; charset=utf-8", DOCS)
}

/// `GET /favicon.ico`: there is none, and browsers need not ask again.
pub(crate) async fn icon() -> StatusCode {
    StatusCode::NO_CONTENT
}
