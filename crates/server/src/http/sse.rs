//! Server-sent events: one JSON text each (HTML Living Standard, section 9.2).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use axum::http::{HeaderValue, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use glimmer::json_line;
use serde_json::Value;

use crate::error::ApiError;

/// What is sent, piece by piece.
pub(crate) trait Script: Send + 'static {
    /// The next event's data, or the end.
    fn next(&mut self) -> impl Future<Output = Option<String>> + Send;
}

/// Sends a script. A comment now and then keeps proxies from giving up on a model that reads a long prompt.
pub(crate) fn respond(script: impl Script) -> Response {
    let events = unfold(script, |mut script| async move {
        let data = script.next().await?;
        Some((Ok::<_, Infallible>(Event::default().data(json_line(data))), script))
    });
    let sse = Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)));
    let mut response = sse.into_response();
    // Proxies of nginx's kind are not to collect the events.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// What an endpoint of the OpenAI API streams: chunks, then usage where that is wanted.
pub(crate) trait Chunks: Send + 'static {
    /// Puts further chunks into `ready`, perhaps none yet; `None` when there are no more.
    fn more(
        &mut self,
        ready: &mut VecDeque<Value>,
    ) -> impl Future<Output = Option<Result<(), ApiError>>> + Send;

    /// The chunk that closes the stream with the usage, where it is wanted.
    fn usage(&self) -> Option<Value>;
}

/// The OpenAI API's stream: its chunks and `[DONE]`; an error ends it without.
pub(crate) struct ChunkStream<C> {
    chunks: C,
    ready: VecDeque<Value>,
    stage: Stage,
}

/// Where a stream is.
enum Stage {
    Chunks,
    Done,
    Over,
}

impl<C: Chunks> ChunkStream<C> {
    pub(crate) fn new(chunks: C) -> Self {
        ChunkStream { chunks, ready: VecDeque::new(), stage: Stage::Chunks }
    }
}

impl<C: Chunks> Script for ChunkStream<C> {
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                return Some(chunk.to_string());
            }
            match self.stage {
                Stage::Chunks => match self.chunks.more(&mut self.ready).await {
                    Some(Ok(())) => {}
                    Some(Err(error)) => {
                        self.stage = Stage::Over;
                        return Some(error.json().to_string());
                    }
                    None => {
                        self.ready.extend(self.chunks.usage());
                        self.stage = Stage::Done;
                    }
                },
                Stage::Done => {
                    self.stage = Stage::Over;
                    return Some("[DONE]".to_owned());
                }
                Stage::Over => return None,
            }
        }
    }
}
