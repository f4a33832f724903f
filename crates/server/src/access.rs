//! Around every request: its key is checked, its entry kept, its response numbered.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body::{Body as _, Frame, SizeHint};

use crate::api::dialect::Dialect;
use crate::app::App;
use crate::error::ApiError;
use crate::http::keys::Caller;
use crate::http::places::Visit;
use crate::record::entry::Entry;

/// The paths that `--public-status` opens.
const STATUS_PATHS: [&str; 6] = ["/health", "/livez", "/ping", "/readyz", "/version", "/metrics"];

/// Whether keys are wanted: whoever is not told sends none.
const KEYS_PATH: &str = "/v1/cluster/auth";

/// The paths that say how to ask, and nothing of what is asked.
const DESCRIPTION_PATHS: [&str; 3] = ["/docs", "/openapi.json", "/favicon.ico"];

/// The page that asks for a key.
const PAGE_PATHS: [&str; 2] = ["/", "/ui/{*name}"];

/// Passes a request on with its [`Entry`], or refuses it.
pub(crate) async fn control(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let matched = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let route = matched.unwrap_or_else(|| "other".to_owned());
    let is_status = STATUS_PATHS.contains(&route.as_str());
    let is_head = request.method() == Method::HEAD;
    let is_read = [Method::GET, Method::HEAD].contains(request.method());
    let is_description = is_read && DESCRIPTION_PATHS.contains(&route.as_str());
    let is_page = is_read && PAGE_PATHS.contains(&route.as_str());
    let asks_for_keys = route == KEYS_PATH;
    // Whoever looks every second whether the server is well is not worth a trace.
    let traces = app.record.traces.as_ref().filter(|_| !is_status);
    let caller = traces.map(|traces| traces.caller(request.headers()));
    let id = format!("req-{:016x}", app.random());
    let number = HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("req"));
    let entry = Entry::new(&app.record, id, request.method().as_str(), route, request.uri().path(), caller);
    let is_public = is_page
        || asks_for_keys
        || is_status && app.options.public_status
        || is_description && !app.options.private_docs;
    let visit = request.extensions().get::<Arc<Visit>>().cloned();
    let dialect = Dialect::of(request.uri().path());
    let caller = app.keys.admit(request.headers());
    let response = if !app.hosts.admit(&request) {
        ApiError::foreign_host().into_response()
    } else if is_public || caller.is_some() {
        request.extensions_mut().insert(entry.clone());
        request.extensions_mut().insert(caller.unwrap_or(Caller::of(b"")));
        next.run(request).await
    } else {
        ApiError::unauthorized().into_response()
    };
    let response = said_by_us(response);
    let status = response.status();
    entry.responded(status);
    let error = response.extensions().get::<ApiError>();
    if let Some(error) = error {
        entry.refused(error.code(), error.param());
    }
    let in_words = error.map(|error| dialect.error(error).to_string());
    let mut response = response.map(|body| {
        let body = in_words.map_or(body, Body::from);
        // What follows a head that alone was asked for is not sent.
        if body.is_end_stream() || status == StatusCode::NO_CONTENT || is_head {
            entry.completed();
        }
        Body::new(Watched { body, rest: Bytes::new(), entry, _visit: visit })
    });
    if dialect == Dialect::Anthropic {
        response.headers_mut().insert("request-id", number.clone());
    }
    response.headers_mut().insert("x-request-id", number);
    response
}

/// What is refused before a handler is reached, such as names in a path that are no UTF-8, is said in plain text by axum.
fn said_by_us(response: Response) -> Response {
    let is_plain = || {
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        kind.is_some_and(|kind| kind.starts_with("text/plain"))
    };
    match response.status() == StatusCode::BAD_REQUEST && is_plain() {
        true => ApiError::invalid("a name in the path is no UTF-8").into_response(),
        false => response,
    }
}

/// Bytes of a body that are handed over at once.
const PIECE: usize = 64 << 10;

/// A body that tells when all of it was sent, and is handed over in pieces: the request is not over, nor is its part of the
/// memory free, while most of a large answer still waits for its client.
struct Watched {
    body: Body,
    /// Of a large piece, what is not handed over yet.
    rest: Bytes,
    entry: Entry,
    /// The connection is not idle before.
    _visit: Option<Arc<Visit>>,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            let polled = Pin::new(&mut self.body).poll_frame(context);
            match polled.map_ok(Frame::into_data) {
                Poll::Ready(Some(Ok(Ok(data)))) => self.rest = data,
                Poll::Ready(Some(Ok(Err(frame)))) => return Poll::Ready(Some(Ok(frame))),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => {
                    self.entry.completed();
                    return Poll::Ready(None);
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        let length = self.rest.len().min(PIECE);
        let piece = self.rest.split_to(length);
        if self.is_end_stream() {
            self.entry.completed();
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}
