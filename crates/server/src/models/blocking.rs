//! Work that would hold up other requests.

use crate::error::ApiError;

/// Computes on a thread for things that take long.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    // The panic itself is on standard error.
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(ApiError::internal("the request could not be read")))
}
