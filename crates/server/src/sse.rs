//! Server-sent events: one JSON text each (HTML Living Standard, section 9.2).

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use axum::http::{HeaderValue, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;

/// What is sent, piece by piece.
pub(crate) trait Script: Send + 'static {
    /// The next event's data, or the end.
    fn next(&mut self) -> impl Future<Output = Option<String>> + Send;
}

/// Sends a script. A comment now and then keeps proxies from giving up on a model that reads a long prompt.
pub(crate) fn respond(script: impl Script) -> Response {
    let events = unfold(script, |mut script| async move {
        let data = script.next().await?;
        Some((Ok::<_, Infallible>(Event::default().data(data)), script))
    });
    let sse = Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)));
    let mut response = sse.into_response();
    // Proxies of nginx's kind are not to collect the events.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
