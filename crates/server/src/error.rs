//! What clients are told when something is wrong, in the shape of the OpenAI API:
//! `{"error": {"message", "type", "param", "code"}}`, beside which `detail` is the message for clients of Xinference.

use std::path::Path;
use std::time::Duration;

use axum::http::StatusCode;
use glimmer::{ChatError, EngineError, Error, FileError, file};
use serde_json::{Value, json};

use crate::launcher::LaunchError;

/// The code by which a client of Anthropic's knows that it is to send all messages.
pub(crate) const NO_THREADS: &str = "thread_unsupported_request";

/// Characters of a message.
const MESSAGE: usize = 300;

/// An answer that is not the one asked for.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    kind: &'static str,
    code: Option<&'static str>,
    param: Option<String>,
    message: String,
    retry_after: Option<u64>,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        let message = shortened(message.into(), MESSAGE);
        ApiError { status, kind, code: None, param: None, message, retry_after: None }
    }

    /// The first of several complaints about one request, whose message names them all.
    pub(crate) fn first_of(faults: Vec<ApiError>) -> Option<Self> {
        let messages: Vec<&str> = faults.iter().map(|fault| fault.message.as_str()).collect();
        let mut message = messages.join("; ");
        if message.chars().count() > MESSAGE {
            let first = shortened(messages[0].to_owned(), MESSAGE / 2);
            message = format!("{first}; and {} more:", faults.len() - 1);
            for name in faults[1..].iter().filter_map(|fault| fault.param.as_deref()) {
                message = format!("{message} `{name}`");
            }
        }
        let mut first = faults.into_iter().next()?;
        first.message = shortened(message, MESSAGE);
        Some(first)
    }

    pub(crate) fn coded(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// The same about a parameter.
    pub(crate) fn about(mut self, name: &str) -> Self {
        self.param = Some(name.to_owned());
        self
    }

    /// 400: the request as a whole makes no sense.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    /// 400: this parameter makes no sense.
    pub(crate) fn parameter(name: &str, message: impl Into<String>) -> Self {
        let mut error = ApiError::invalid(message).coded("invalid_value");
        error.param = Some(name.to_owned());
        error
    }

    /// 400: a parameter nobody knows. What is not understood is never passed over in silence.
    pub(crate) fn unknown(name: &str) -> Self {
        let name = shown(name);
        let mut error = ApiError::invalid(format!("unknown parameter: `{name}`")).coded("unknown_parameter");
        error.param = Some(name);
        error
    }

    /// 400: a parameter that asks for what this server does not do.
    pub(crate) fn unsupported(name: &str, message: impl Into<String>) -> Self {
        let mut error = ApiError::invalid(message).coded("unsupported_parameter");
        error.param = Some(name.to_owned());
        error
    }

    /// 400: nothing of a conversation is kept here for later requests (Anthropic's threads).
    pub(crate) fn no_threads() -> Self {
        ApiError::unsupported("thread", "`thread` is not supported: send all messages").coded(NO_THREADS)
    }

    /// 400: a text of more tokens than the model reads at once.
    pub(crate) fn too_long(text: usize, most: usize) -> Self {
        ApiError::invalid(format!("a text has {text} tokens, and this model reads at most {most}"))
            .coded("context_length_exceeded")
    }

    /// 401.
    pub(crate) fn unauthorized() -> Self {
        let message =
            "a valid API key is required: `Authorization: Bearer KEY`, `x-api-key: KEY` or `api-key: KEY`";
        ApiError::new(StatusCode::UNAUTHORIZED, "invalid_request_error", message).coded("invalid_api_key")
    }

    /// 403: a name that this server is not asked by.
    pub(crate) fn foreign_host() -> Self {
        let message = "this server is for this machine alone: ask it as localhost, or have the operator name the host with --allowed-hosts";
        ApiError::new(StatusCode::FORBIDDEN, "invalid_request_error", message).coded("host_not_allowed")
    }

    /// 403: clients may not change what is served.
    pub(crate) fn no_launching() -> Self {
        let message = "this server serves the models that it was started with: `glimmer local` and `glimmer serve --launch` let clients launch others";
        ApiError::new(StatusCode::FORBIDDEN, "invalid_request_error", message).coded("launching_disabled")
    }

    /// 404: no such model, or none where one is needed; says which there are.
    pub(crate) fn no_model(name: Option<&str>, known: &[String]) -> Self {
        let missing = match name {
            Some(name) => format!("the model `{}` does not exist", shown(name)),
            None => "there is no model for this".to_owned(),
        };
        let known = match known {
            [] => "no model is served yet".to_owned(),
            known => format!("/v1/models lists those that do: {}", shown(&known.join(", "))),
        };
        let mut error =
            ApiError::new(StatusCode::NOT_FOUND, "invalid_request_error", format!("{missing}; {known}"));
        error.param = Some("model".to_owned());
        error.coded("model_not_found")
    }

    /// 404: no such model, in an API's own words.
    pub(crate) fn no_such_model(message: impl Into<String>) -> Self {
        let mut error = ApiError::new(StatusCode::NOT_FOUND, "invalid_request_error", message);
        error.param = Some("model".to_owned());
        error.coded("model_not_found")
    }

    /// 503: the model could not be loaded.
    pub(crate) fn not_loaded(name: &str, why: &str, retry_after: Duration) -> Self {
        let message = format!("the model `{}` cannot be loaded: {why}", shown(name));
        let mut error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable_error", message);
        error.retry_after = Some(retry_after.as_secs().max(1));
        error.param = Some("model".to_owned());
        error.coded("model_not_loaded")
    }

    /// 404: no such path.
    pub(crate) fn no_path(method: &str, path: &str) -> Self {
        let message = format!("there is nothing at {method} {}", shown(path));
        ApiError::new(StatusCode::NOT_FOUND, "invalid_request_error", message).coded("not_found")
    }

    /// 404: nothing is known of a published model, and why.
    pub(crate) fn unpublished(why: &str) -> Self {
        ApiError::new(StatusCode::NOT_FOUND, "invalid_request_error", shown(why)).coded("not_found")
    }

    /// 404: no response of this name is kept for whoever asks.
    pub(crate) fn no_response(id: &str) -> Self {
        let message = format!("Response with id '{}' not found.", shown(id));
        ApiError::new(StatusCode::NOT_FOUND, "invalid_request_error", message).coded("not_found")
    }

    /// 404: no item of this name is kept for whoever asks.
    pub(crate) fn no_item(id: &str) -> Self {
        let message = format!("Item with id '{}' not found: send the item itself.", shown(id));
        let mut error = ApiError::new(StatusCode::NOT_FOUND, "invalid_request_error", message);
        error.param = Some("input".to_owned());
        error.coded("not_found")
    }

    /// 400: what is to be gone on with is not kept; the API has no 404 for it.
    pub(crate) fn no_previous_response(id: &str) -> Self {
        let message = format!("Previous response with id '{}' not found.", shown(id));
        ApiError::parameter("previous_response_id", message).coded("previous_response_not_found")
    }

    /// 405.
    pub(crate) fn no_method(method: &str, path: &str) -> Self {
        let message = format!("{} does not take {method}", shown(path));
        ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", message)
            .coded("method_not_allowed")
    }

    /// 408: the client was too slow.
    pub(crate) fn slow_request() -> Self {
        let message = "the request's body did not arrive in time";
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "invalid_request_error", message).coded("request_timeout")
    }

    /// 413.
    pub(crate) fn too_large(limit: usize) -> Self {
        let message = format!("the request's body has more than {limit} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", message)
            .coded("request_too_large")
    }

    /// 413: a field of which far more would have to be made than its text.
    pub(crate) fn too_dense(name: &str) -> Self {
        let message = format!("`{name}` holds too many small values for its size");
        let mut error = ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", message)
            .coded("request_too_large");
        error.param = Some(name.to_owned());
        error
    }

    /// 415.
    pub(crate) fn not_json() -> Self {
        let message = "the request's Content-Type is to be application/json";
        ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request_error", message)
            .coded("unsupported_media_type")
    }

    /// 429.
    pub(crate) fn busy(waiting: usize, retry_after: u64) -> Self {
        let message = format!("{waiting} requests are waiting already; try again later");
        let mut error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message);
        error.retry_after = Some(retry_after);
        error.coded("rate_limit_exceeded")
    }

    /// 429: large bodies of others fill the room for them.
    pub(crate) fn no_room() -> Self {
        let message = "there is no room for another large request; try again later";
        let mut error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message);
        error.retry_after = Some(1);
        error.coded("rate_limit_exceeded")
    }

    /// 503: the models are not there yet.
    pub(crate) fn loading() -> Self {
        let message = "the model is being loaded";
        let mut error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable_error", message);
        error.retry_after = Some(1);
        error.coded("loading")
    }

    /// 504: the answer took longer than the operator allows.
    pub(crate) fn timeout(seconds: u64) -> Self {
        let message = format!("the answer was not complete after {seconds} s");
        ApiError::new(StatusCode::GATEWAY_TIMEOUT, "server_error", message).coded("timeout")
    }

    /// The client took the answer more slowly than it was made.
    pub(crate) fn slow_reader(events: usize) -> Self {
        let message = format!("the client fell more than {events} tokens behind");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message).coded("slow_reader")
    }

    /// 500.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    /// What is wrong.
    pub(crate) fn message(&self) -> String {
        self.message.clone()
    }

    /// The status.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// What it is in a word.
    pub(crate) fn code(&self) -> &'static str {
        self.code.unwrap_or(self.kind)
    }

    /// The parameter that it is about.
    pub(crate) fn param(&self) -> Option<&str> {
        self.param.as_deref()
    }

    /// Seconds after which asking again may help.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        self.retry_after
    }

    /// The body.
    pub(crate) fn json(&self) -> Value {
        json!({
            "error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code},
            "detail": self.message,
        })
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error {
            Error::Chat(error) => error.into(),
            other => ApiError::internal(other.to_string()),
        }
    }
}

impl From<LaunchError> for ApiError {
    fn from(error: LaunchError) -> Self {
        let message = error.to_string();
        match error {
            LaunchError::Invalid(_) => ApiError::invalid(message).coded("invalid_model"),
            LaunchError::Licence(_) => ApiError::invalid(message).coded("licence_not_accepted"),
            LaunchError::Failed(_) => {
                ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", message).coded("launch_failed")
            }
            // Nginx's number for a request that was given up.
            LaunchError::Cancelled => {
                let status = StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST);
                ApiError::new(status, "invalid_request_error", message).coded("cancelled")
            }
        }
    }
}

impl From<ChatError> for ApiError {
    fn from(error: ChatError) -> Self {
        match error {
            ChatError::Tool { .. } => ApiError::parameter("tools", error.to_string()),
            ChatError::MissingToken { .. } | ChatError::UnknownFormat { .. } | ChatError::Syntax { .. } => {
                ApiError::internal(error.to_string())
            }
            _ => ApiError::parameter("messages", error.to_string()),
        }
    }
}

impl ApiError {
    /// A refusal or failure of the engine; `retry_after` is for a full queue.
    pub(crate) fn from_engine(error: &EngineError, retry_after: u64) -> Self {
        match error {
            EngineError::EmptyPrompt
            | EngineError::OutsideVocabulary { .. }
            | EngineError::Picture(_)
            | EngineError::SeesNothing
            | EngineError::Sampling { .. } => ApiError::invalid(error.to_string()),
            EngineError::TooLong { .. } | EngineError::Indivisible { .. } => {
                ApiError::invalid(error.to_string()).coded("context_length_exceeded")
            }
            EngineError::QueueFull { waiting } => ApiError::busy(*waiting, retry_after),
            _ => ApiError::internal(error.to_string()),
        }
    }
}

/// A name as typed by a stranger, of a length that can be shown.
pub(crate) fn shown(name: &str) -> String {
    shortened(name.to_owned(), 100)
}

/// At most so many characters.
fn shortened(text: String, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text,
        Some(_) => text.chars().take(most - 1).chain(['…']).collect(),
    }
}

/// The bytes of a file of at most `most` bytes that an option names.
pub(crate) fn read_file(path: &Path, most: u64) -> Result<Vec<u8>, ServerError> {
    let missing = || FileError::NotFound { path: path.to_owned() };
    Ok(file::read_bytes(path, most)?.ok_or_else(missing)?)
}

/// Why the server does not start or does not go on.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be listened at.
    #[error("{address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// Others could reach the server without a key.
    #[error(
        "{address} can be reached from other machines: give keys with --api-keys FILE, or say --insecure to serve anybody"
    )]
    Open {
        /// The address.
        address: String,
    },
    /// A file that is needed cannot be used.
    #[error("{path}: {what}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// A file cannot be read.
    #[error(transparent)]
    Read(#[from] FileError),
    /// TLS cannot be had.
    #[error("TLS: {0}")]
    Tls(String),
    /// A value that cannot be used.
    #[error("{0}")]
    Option(String),
    /// An engine has ended by itself.
    #[error("{0}; the server ends")]
    Engine(String),
    /// An adapter cannot be served.
    #[error("{0}")]
    Adapter(String),
    /// A thread or a task of the server has panicked.
    #[error("{0}")]
    Panic(String),
    /// The operating system.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}
