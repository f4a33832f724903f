//! Bodies in and out: JSON that came in time and is not too large, JSON that goes.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;

use crate::app::App;
use crate::error::ApiError;
use crate::params::Params;

impl FromRequest<Arc<App>> for Params {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        // A page in a browser can send anything but this type to a server on the same machine without being asked.
        if !is_json(&request) {
            return Err(ApiError::not_json());
        }
        let limits = &app.options.limits;
        let bytes = read(request.into_body(), limits.body, limits.body_time).await?;
        Params::parse(&bytes)
    }
}

fn is_json(request: &Request) -> bool {
    let given = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    given.is_some_and(|given| {
        given.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
    })
}

async fn read(body: Body, limit: usize, time: Duration) -> Result<Bytes, ApiError> {
    match tokio::time::timeout(time, Limited::new(body, limit).collect()).await {
        Err(_) => Err(ApiError::slow_request()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ApiError::too_large(limit)),
        Ok(Err(_)) => Err(ApiError::invalid("the request's body broke off")),
        Ok(Ok(body)) => Ok(body.to_bytes()),
    }
}

/// A response with a JSON body.
pub(crate) fn json(status: StatusCode, value: &Value) -> Response {
    typed(status, "application/json", value.to_string())
}

/// A response with a body of this type.
pub(crate) fn typed(status: StatusCode, kind: &'static str, text: impl Into<Body>) -> Response {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
