//! What is sent piece by piece, and the server-sent events that carry it (HTML Living Standard, section 9.2).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use axum::http::{HeaderValue, header};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use futures_util::{Stream, StreamExt};
use glimmer::json_line;
use serde_json::Value;

use crate::error::ApiError;

/// A piece of what is sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its kind, in APIs that write it beside the data.
    name: Option<&'static str>,
    pub(crate) data: String,
}

impl Event {
    /// A piece that is a JSON text.
    pub(crate) fn of(value: &Value) -> Self {
        Event::text(value.to_string())
    }

    /// The same with its kind beside it.
    pub(crate) fn named(name: &'static str, value: &Value) -> Self {
        Event { name: Some(name), data: value.to_string() }
    }

    /// A text in one line.
    pub(crate) fn text(data: String) -> Self {
        Event { name: None, data }
    }
}

/// What is sent, piece by piece.
pub(crate) trait Script: Send + 'static {
    /// Puts further events into `ready`, perhaps none yet; `None` when there are no more. An error ends it.
    fn more(
        &mut self,
        ready: &mut VecDeque<Event>,
    ) -> impl Future<Output = Option<Result<(), ApiError>>> + Send;

    /// Puts in what closes a whole script.
    fn close(&mut self, _ready: &mut VecDeque<Event>) {}

    /// Puts in what closes one that an error has ended.
    fn fail(&mut self, error: &ApiError, ready: &mut VecDeque<Event>) {
        ready.push_back(Event::of(&error.json()));
    }
}

/// The events of a script, one by one.
pub(crate) fn events(script: impl Script) -> impl Stream<Item = Event> + Send {
    struct Playing<S> {
        script: S,
        ready: VecDeque<Event>,
        is_over: bool,
    }
    let playing = Playing { script, ready: VecDeque::new(), is_over: false };
    unfold(playing, |mut playing| async move {
        loop {
            if let Some(event) = playing.ready.pop_front() {
                return Some((event, playing));
            }
            if playing.is_over {
                return None;
            }
            match playing.script.more(&mut playing.ready).await {
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    playing.is_over = true;
                    playing.script.fail(&error, &mut playing.ready);
                }
                None => {
                    playing.is_over = true;
                    playing.script.close(&mut playing.ready);
                }
            }
        }
    })
}

/// Sends a script. A comment now and then keeps proxies from giving up on a model that reads a long prompt.
pub(crate) fn respond(script: impl Script) -> Response {
    let events = events(script).map(|Event { name, data }| {
        // The name before the data: some clients read line by line.
        let event = name.map_or_else(sse::Event::default, |name| sse::Event::default().event(name));
        Ok::<_, Infallible>(event.data(json_line(data)))
    });
    let sse = Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)));
    let mut response = sse.into_response();
    // Proxies of nginx's kind are not to collect the events.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
