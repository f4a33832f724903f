//! Work that would hold up other requests.

use crate::error::ApiError;
use crate::record::entry::Entry;

/// Computes on a thread for things that take long. Where the client goes away, the work goes on to its end; until then the
/// request keeps its part of what all requests share.
pub(crate) async fn blocking<T: Send + 'static>(
    entry: &Entry,
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let entry = entry.clone();
    let work = move || {
        let result = work();
        drop(entry);
        result
    };
    // The panic itself is on standard error.
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(ApiError::internal("the request could not be read")))
}
