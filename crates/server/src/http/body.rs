//! A request's body: JSON that came in time, is not too large, and for which there is room beside all the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRef, FromRequest, Request};
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::ApiError;
use crate::http::params::Params;
use crate::options::RequestLimits;
use crate::record::entry::Entry;

/// Bytes of a body for which there is always room: connections bound how many there are of these.
const SMALL: usize = 64 << 10;
/// What large bodies leave behind is given back so often.
const GIVE_BACK: Duration = Duration::from_secs(5);

/// All bodies in flight. What larger ones take is bounded over all of them: while they arrive by what
/// [`RequestLimits::bodies`] holds, and while something is made of them by one of the largest at a time.
#[derive(Clone)]
pub(crate) struct Bodies {
    limits: RequestLimits,
    /// Kibibytes of bodies that may be held.
    held: Arc<Semaphore>,
    /// Kibibytes of bodies of which something may be made.
    worked_on: Arc<Semaphore>,
    /// Whether there was a larger one since memory was given back.
    left_behind: Arc<AtomicBool>,
}

impl Bodies {
    pub(crate) fn new(limits: &RequestLimits) -> Self {
        let semaphore = |bytes: usize| Arc::new(Semaphore::new(kib(bytes) as usize));
        Bodies {
            limits: *limits,
            held: semaphore(limits.bodies.max(limits.body)),
            worked_on: semaphore(limits.body),
            left_behind: Arc::default(),
        }
    }

    /// Gives back to the system, now and then, what larger bodies have left: the allocator keeps what a tree of small
    /// values was made of, in pieces that every thread has of its own.
    pub(crate) async fn give_back(self) {
        loop {
            tokio::time::sleep(GIVE_BACK).await;
            if self.left_behind.swap(false, Ordering::Relaxed) {
                // It may take a while; should it fail, the next one does more.
                let _ = tokio::task::spawn_blocking(glimmer::give_back_freed).await;
            }
        }
    }

    async fn read(&self, headers: &HeaderMap, mut body: Body, entry: &Entry) -> Result<Bytes, ApiError> {
        let limit = self.limits.body;
        let announced =
            headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        // Said before the client is asked to go on, if it waits for that (`Expect: 100-continue`).
        if announced.is_some_and(|length: usize| length > limit) {
            return Err(ApiError::too_large(limit));
        }
        let mut bytes = Vec::new();
        let mut held = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| ApiError::invalid("the request's body broke off"))?;
            let Ok(data) = frame.into_data() else { continue };
            let length = bytes.len() + data.len();
            if length > limit {
                return Err(ApiError::too_large(limit));
            }
            if length > SMALL && length > held {
                let more = announced.unwrap_or(0).max(length) - held;
                let permit = self.held.clone().try_acquire_many_owned(kib(more));
                entry.hold(permit.map_err(|_| ApiError::no_room())?);
                held += more;
                self.left_behind.store(true, Ordering::Relaxed);
            }
            bytes.extend_from_slice(&data);
        }
        Ok(bytes.into())
    }

    /// Holds room for so many bytes that a request has beside its body.
    pub(crate) fn hold(&self, bytes: usize, entry: &Entry) -> Result<(), ApiError> {
        if bytes > SMALL {
            let permit = self.held.clone().try_acquire_many_owned(kib(bytes));
            entry.hold(permit.map_err(|_| ApiError::no_room())?);
            self.left_behind.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Waits for the turn to make something of a body.
    async fn turn(&self, length: usize) -> Result<Option<OwnedSemaphorePermit>, ApiError> {
        if length <= SMALL {
            return Ok(None);
        }
        match timeout(self.limits.body_time, self.worked_on.clone().acquire_many_owned(kib(length))).await {
            Ok(Ok(permit)) => Ok(Some(permit)),
            _ => Err(ApiError::no_room()),
        }
    }
}

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

impl<S: Send + Sync> FromRequest<S> for Params
where
    Bodies: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let kind = kind(request.headers()).ok_or_else(ApiError::not_json)?;
        let bodies = Bodies::from_ref(state);
        let (parts, body) = request.into_parts();
        let entry = parts.extensions.get::<Entry>();
        let entry = entry.ok_or_else(|| ApiError::internal("the request has no entry"))?;
        let bytes = timeout(bodies.limits.body_time, bodies.read(&parts.headers, body, entry)).await;
        let bytes = bytes.map_err(|_| ApiError::slow_request())??;
        if let Some(permit) = bodies.turn(bytes.len()).await? {
            entry.hold(permit);
        }
        let params = match (Params::parse(bytes), kind) {
            (Err(_), Kind::Assumed) => Err(ApiError::not_json()),
            (params, _) => params,
        };
        #[cfg(test)]
        let params = params.map(|params| params.noting(parts.extensions.get().cloned()));
        params
    }
}

/// Why a body is taken for JSON.
enum Kind {
    /// It is said to be.
    Said,
    /// Nothing else is said than what `curl -d` says of any body.
    Assumed,
}

/// `None` for a body that is something else.
fn kind(headers: &HeaderMap) -> Option<Kind> {
    let given = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?"));
    let given = given.map(|given| given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    match given.as_deref() {
        Some("application/json") => Some(Kind::Said),
        None | Some("application/x-www-form-urlencoded") if !is_by_a_page(headers) => Some(Kind::Assumed),
        _ => None,
    }
}

/// Whether a page in a browser sends it. One can send a form to a server on the same machine without being asked; it cannot
/// hide that it is a page.
pub(crate) fn is_by_a_page(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site")
}
