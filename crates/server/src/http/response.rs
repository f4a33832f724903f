//! Responses: JSON, texts of other types, and errors as JSON with the headers that belong to them.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::error::ApiError;

/// A response with a JSON body, written as the value is walked: large ones never stand in memory as a tree.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    // What is shown here are objects with names for keys, and numbers: nothing that JSON lacks.
    typed(status, "application/json", serde_json::to_vec(value).unwrap_or_default())
}

/// A response with a body of this type.
pub(crate) fn typed(status: StatusCode, kind: &'static str, text: impl Into<Body>) -> Response {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = json(self.status(), &self.json());
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status() == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // For the log, and for APIs with other words.
        response.extensions_mut().insert(self);
        response
    }
}
