//! A request's body: JSON that came in time and is not too large.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRef, FromRequest, Request};
use axum::http::header;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use crate::error::ApiError;
use crate::http::params::Params;
use crate::options::RequestLimits;

impl<S: Send + Sync> FromRequest<S> for Params
where
    RequestLimits: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        // A page in a browser can send anything but this type to a server on the same machine without being asked.
        if !is_json(&request) {
            return Err(ApiError::not_json());
        }
        let limits = RequestLimits::from_ref(state);
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
