//! How each family of APIs says that something is wrong.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::error::{ApiError, NO_THREADS};

/// A family of APIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// And those that have no words of their own.
    OpenAi,
    Anthropic,
    Ollama,
}

impl Dialect {
    /// The one that a path belongs to.
    pub(crate) fn of(path: &str) -> Self {
        let below =
            |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        match () {
            () if below("/v1/messages") => Dialect::Anthropic,
            () if below("/api") => Dialect::Ollama,
            () => Dialect::OpenAi,
        }
    }

    /// An error as its clients read it.
    pub(crate) fn error(self, error: &ApiError) -> Value {
        match self {
            Dialect::OpenAi => error.json(),
            Dialect::Anthropic => {
                let mut said = json!({"type": kind(error.status()), "message": error.message()});
                if error.code() == NO_THREADS {
                    said["details"] = json!({"error_code": NO_THREADS, "unsupported": [error.param()]});
                }
                json!({"type": "error", "error": said})
            }
            Dialect::Ollama => json!({"error": error.message()}),
        }
    }
}

/// What Anthropic's API calls an error of this status.
fn kind(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::NOT_FOUND => "not_found_error",
        StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        StatusCode::GATEWAY_TIMEOUT => "timeout_error",
        StatusCode::SERVICE_UNAVAILABLE => "overloaded_error",
        status if status.is_client_error() => "invalid_request_error",
        _ => "api_error",
    }
}
