//! What is kept of each request while it is answered: its number, its figures, and at its end a line in the log.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body::{Body as _, Frame, SizeHint};
use opentelemetry::Context as Caller;
use serde_json::{Map, Value};

use crate::app::App;
use crate::error::ApiError;
use crate::speaking::Usage;
use crate::status;
use crate::traces::Answered;

/// A request in progress. The last copy that goes writes the line.
#[derive(Clone)]
pub(crate) struct Entry(Arc<Kept>);

struct Kept {
    app: Arc<App>,
    start: Instant,
    id: String,
    method: String,
    path: String,
    /// Whose span this is a part of, where spans are sent.
    caller: Option<Caller>,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    status: Option<u16>,
    is_complete: bool,
    error: Option<&'static str>,
    spoken: Option<Spoken>,
}

/// What a model has said.
pub(crate) struct Spoken {
    pub(crate) model: String,
    pub(crate) usage: Usage,
    pub(crate) start: Instant,
    pub(crate) first_token: Option<Instant>,
    /// Why each of the answers ended.
    pub(crate) finishes: Vec<&'static str>,
}

impl Entry {
    fn new(app: &Arc<App>, method: &str, path: String, caller: Option<Caller>) -> Self {
        let id = format!("req-{:016x}", app.random());
        let found = Mutex::default();
        Entry(Arc::new(Kept {
            app: app.clone(),
            start: Instant::now(),
            id,
            method: method.to_owned(),
            path,
            caller,
            found,
        }))
    }

    fn note(&self, note: impl FnOnce(&mut Found)) {
        note(&mut self.0.found.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// A model has spoken.
    pub(crate) fn spoke(&self, spoken: Spoken) {
        self.note(|found| found.spoken = Some(spoken));
    }

    /// The answer broke off.
    pub(crate) fn failed(&self, error: &ApiError) {
        let reason = error.status().canonical_reason();
        self.note(|found| found.error = reason);
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let found = std::mem::take(self.found.get_mut().unwrap_or_else(PoisonError::into_inner));
        // Nginx's number for a client that went away before it had its answer.
        let status = if found.is_complete { found.status.unwrap_or(499) } else { 499 };
        self.app.metrics.answered(&self.path, status);
        let mut line = Map::new();
        let mut put = |name: &str, value: Value| drop(line.insert(name.to_owned(), value));
        put("id", self.id.clone().into());
        put("method", self.method.clone().into());
        put("path", self.path.clone().into());
        put("status", status.into());
        put("ms", (self.start.elapsed().as_millis() as u64).into());
        if let Some(Spoken { model, usage, start, first_token, .. }) = &found.spoken {
            put("model", model.as_str().into());
            put("prompt_tokens", usage.prompt.into());
            put("cached_tokens", usage.cached.into());
            put("completion_tokens", usage.completion.into());
            if let Some(first) = first_token {
                let waited = first.saturating_duration_since(*start);
                put("first_token_ms", (waited.as_millis() as u64).into());
            }
        }
        if let Some(error) = found.error {
            put("error", error.into());
        }
        self.app.log.line("request", line);
        if let Some((traces, caller)) = self.app.traces.as_ref().zip(self.caller.as_ref()) {
            traces.answered(&Answered {
                caller,
                id: &self.id,
                method: &self.method,
                path: &self.path,
                status,
                error: found.error,
                start: self.start,
                spoken: found.spoken.as_ref(),
            });
        }
    }
}

/// Around every request.
pub(crate) async fn keep(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    // The pattern and not the path: a stranger's paths would fill memory.
    let matched = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let path = matched.unwrap_or_else(|| "other".to_owned());
    // Whoever looks every second whether the server is well is not worth a trace.
    let traces = app.traces.as_ref().filter(|_| !status::PATHS.contains(&path.as_str()));
    let caller = traces.map(|traces| traces.caller(request.headers()));
    let entry = Entry::new(&app, request.method().as_str(), path, caller);
    let response = if app.admits(&entry.0.path, request.headers()) {
        request.extensions_mut().insert(entry.clone());
        next.run(request).await
    } else {
        ApiError::unauthorized().into_response()
    };
    let status = response.status();
    entry.note(|found| found.status = Some(status.as_u16()));
    let id = HeaderValue::from_str(&entry.0.id).unwrap_or(HeaderValue::from_static("req"));
    let mut response = response.map(|body| {
        let is_complete = body.is_end_stream() || status == StatusCode::NO_CONTENT;
        entry.note(|found| found.is_complete = is_complete);
        Body::new(Watched { body, entry })
    });
    response.headers_mut().insert("x-request-id", id);
    response
}

/// A body that tells when all of it was sent.
struct Watched {
    body: Body,
    entry: Entry,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if matches!(polled, Poll::Ready(None)) || self.body.is_end_stream() {
            self.entry.note(|found| found.is_complete = true);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
