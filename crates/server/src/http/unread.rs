//! What a response leaves unread of its request's body. Unless all of it is read, hyper closes the connection after the
//! response without having said so, and a client that sends its next request there loses it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::response::Response;
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{CONNECTION, EXPECT, HeaderValue};
use tokio::time::timeout;

/// Bytes that are read and thrown away to keep a connection, and how long they are waited for.
const MOST: u64 = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(1);

/// Where a body is found that nobody reads any more.
type Left = Arc<Mutex<Option<Incoming>>>;

/// A request's body, which is left behind when it is dropped before its end.
pub(crate) struct Lent {
    body: Option<Incoming>,
    left: Left,
}

/// What is to be done about the rest of a body before its response is sent.
pub(crate) struct Rest {
    left: Left,
    /// The client sends its body when it is asked to, which is too late now.
    is_awaiting: bool,
}

/// Lends a request's body to whoever responds to it.
pub(crate) fn lend(request: Request<Incoming>) -> (Request<Lent>, Rest) {
    let left = Left::default();
    let is_awaiting = request.headers().contains_key(EXPECT);
    let request = request.map(|body| Lent { body: Some(body), left: left.clone() });
    (request, Rest { left, is_awaiting })
}

impl Rest {
    /// Reads what is left of the body, or where that is much, slow or not sent yet, says that the connection ends.
    pub(crate) async fn settle(self, mut response: Response) -> Response {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut body) = left else { return response };
        if self.is_awaiting || !matches!(timeout(PATIENCE, is_drained(&mut body)).await, Ok(true)) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Whether a body ended before [`MOST`] bytes.
async fn is_drained(body: &mut Incoming) -> bool {
    let mut room = MOST;
    while !body.is_end_stream() {
        if body.size_hint().lower() > room {
            return false;
        }
        match body.frame().await {
            None => return true,
            Some(Err(_)) => return false,
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                let Some(less) = room.checked_sub(length) else { return false };
                room = less;
            }
        }
    }
    true
}

impl Drop for Lent {
    fn drop(&mut self) {
        let body = self.body.take().filter(|body| !body.is_end_stream());
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = body;
    }
}

impl Body for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}
