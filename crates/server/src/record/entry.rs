//! A request's entry: its number and figures while it is answered, and at its end a line in the log, a count and a span.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::http::StatusCode;
use opentelemetry::Context as Caller;
use serde_json::{Map, Value};
use tokio::sync::OwnedSemaphorePermit;

use crate::record::Record;
use crate::record::traces::Answered;
use crate::record::usage::ModelUse;

/// A request in progress. The last copy that goes writes the line.
#[derive(Clone)]
pub(crate) struct Entry(Arc<Inner>);

struct Inner {
    record: Arc<Record>,
    start: Instant,
    id: String,
    method: String,
    /// The pattern that the path follows: a stranger's paths would fill the figures.
    route: String,
    /// The path itself, for the log.
    path: String,
    /// Whose span this is a part of, where spans are sent.
    caller: Option<Caller>,
    progress: Mutex<Progress>,
}

#[derive(Default)]
struct Progress {
    status: Option<u16>,
    is_complete: bool,
    error: Option<&'static str>,
    param: Option<String>,
    model_use: Option<ModelUse>,
    /// The request's part of what all requests share.
    permits: Vec<OwnedSemaphorePermit>,
}

impl Entry {
    /// Of a request to `path`, which follows the pattern `route`.
    pub(crate) fn new(
        record: &Arc<Record>,
        id: String,
        method: &str,
        route: String,
        path: &str,
        caller: Option<Caller>,
    ) -> Self {
        Entry(Arc::new(Inner {
            record: record.clone(),
            start: Instant::now(),
            id,
            method: method.to_owned(),
            route,
            path: safe(path),
            caller,
            progress: Mutex::default(),
        }))
    }

    fn note(&self, note: impl FnOnce(&mut Progress)) {
        note(&mut self.0.progress.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The head of the response is ready.
    pub(crate) fn responded(&self, status: StatusCode) {
        self.note(|progress| progress.status = Some(status.as_u16()));
    }

    /// All of the response was sent.
    pub(crate) fn completed(&self) {
        self.note(|progress| progress.is_complete = true);
    }

    /// A model was used.
    pub(crate) fn used(&self, model_use: ModelUse) {
        self.note(|progress| progress.model_use = Some(model_use));
    }

    /// The request was refused: the kind of error, and the parameter that it is about.
    pub(crate) fn refused(&self, code: &'static str, param: Option<&str>) {
        // A name that is none may be anything, a piece of a prompt too.
        let is_name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let param = param.filter(|name| name.len() <= 80 && name.chars().all(is_name)).map(str::to_owned);
        self.note(|progress| (progress.error, progress.param) = (Some(code), param));
    }

    /// Keeps a permit until the request is over or [`Entry::release`] is called.
    pub(crate) fn hold(&self, permit: OwnedSemaphorePermit) {
        self.note(|progress| progress.permits.push(permit));
    }

    /// The request's body has become what it was for, and is gone.
    pub(crate) fn release(&self) {
        self.note(|progress| progress.permits.clear());
    }

    /// The answer broke off; the status is the one it would have had.
    pub(crate) fn failed(&self, status: StatusCode) {
        self.note(|progress| progress.error = status.canonical_reason());
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let progress = std::mem::take(self.progress.get_mut().unwrap_or_else(PoisonError::into_inner));
        // Nginx's number for a client that went away before it had its answer.
        let status = if progress.is_complete { progress.status.unwrap_or(499) } else { 499 };
        self.record.metrics.answered(&self.route, status);
        let mut line = Map::new();
        let mut put = |name: &str, value: Value| drop(line.insert(name.to_owned(), value));
        put("id", self.id.clone().into());
        put("method", self.method.clone().into());
        put("path", self.path.clone().into());
        put("status", status.into());
        put("ms", (self.start.elapsed().as_millis() as u64).into());
        if let Some(ModelUse { model, usage, departure, start, first_token, .. }) = &progress.model_use {
            put("model", model.as_str().into());
            put("prompt_tokens", usage.prompt.into());
            put("cached_tokens", usage.cached.into());
            put("completion_tokens", usage.completion.into());
            if let Some(departure) = departure {
                put("prefix_break_message", departure.message.into());
                put("prefix_break_token", departure.token.into());
            }
            if let Some(first) = first_token {
                let waited = first.saturating_duration_since(*start);
                put("first_token_ms", (waited.as_millis() as u64).into());
            }
        }
        if let Some(error) = progress.error {
            put("error", error.into());
        }
        if let Some(param) = progress.param {
            put("param", param.into());
        }
        self.record.log.line("request", line);
        if let Some((traces, caller)) = self.record.traces.as_ref().zip(self.caller.as_ref()) {
            traces.answered(&Answered {
                caller,
                id: &self.id,
                method: &self.method,
                path: &self.route,
                status,
                error: progress.error,
                start: self.start,
                model_use: progress.model_use.as_ref(),
            });
        }
    }
}

/// A path as a log shows it: what a stranger sends can neither fill it nor break its lines.
fn safe(path: &str) -> String {
    let is_safe = |c: char| c.is_ascii_graphic() && !"\"\\".contains(c);
    path.chars().take(80).map(|c| if is_safe(c) { c } else { '?' }).collect()
}
