//! Lines of JSON that carry what is sent piece by piece. There are no others between them: clients take each for JSON.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use futures_util::StreamExt;
use glimmer::json_line;

use crate::http::response::typed;
use crate::http::sse::{Script, events};

/// Sends a script, each of its events in a line.
pub(crate) fn respond(script: impl Script) -> Response {
    let lines = events(script).map(|event| Ok::<_, Infallible>(Bytes::from(json_line(event.data) + "\n")));
    let mut response = typed(StatusCode::OK, "application/x-ndjson", Body::from_stream(lines));
    // Proxies of nginx's kind are not to collect the lines.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
