//! Encoders beside the models that write: vectors of texts, scores of pairs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use glimmer::{Embedder, Error, Lease, LoadedModel, ModelKind, Reranker, Usage};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::error::ApiError;
use crate::models::blocking::blocking;
use crate::record::entry::Entry;
use crate::record::usage::ModelUse;

/// An encoder in use and the turn at it: one request at a time has the processors. A cheap handle.
#[derive(Clone)]
pub(crate) struct Encoder {
    lease: Lease,
    turn: Arc<Semaphore>,
}

impl Encoder {
    /// Of a model of this kind, which is one of an encoder's.
    pub(crate) fn new(lease: Lease, kind: ModelKind, turn: &Arc<Semaphore>) -> Option<Self> {
        let is_one = lease.model.kind() == kind && kind != ModelKind::Text;
        is_one.then(|| Encoder { lease, turn: Arc::clone(turn) })
    }

    /// Its name in lists and figures.
    pub(crate) fn name(&self) -> &str {
        self.lease.name()
    }

    /// What makes vectors, where the encoder was asked for to make them.
    pub(crate) fn embedder(&self) -> &Embedder {
        match &self.lease.model {
            LoadedModel::Embedder(embedder) => embedder,
            _ => unreachable!("an encoder is of the kind that was asked for"),
        }
    }

    /// What scores pairs, where the encoder was asked for to score them.
    pub(crate) fn reranker(&self) -> &Reranker {
        match &self.lease.model {
            LoadedModel::Reranker(reranker) => reranker,
            _ => unreachable!("an encoder is of the kind that was asked for"),
        }
    }

    /// Computes something of so many tokens when it is its turn, and notes it in the request's entry.
    pub(crate) async fn compute<T: Send + 'static>(
        &self,
        entry: &Entry,
        tokens: usize,
        limit: Duration,
        work: impl FnOnce(&Encoder) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, ApiError> {
        entry.used(ModelUse {
            model: self.lease.name().to_owned(),
            usage: Usage { prompt: tokens, ..Usage::default() },
            departure: None,
            start: Instant::now(),
            first_token: None,
            finishes: Vec::new(),
        });
        let own = self.clone();
        let computed = async move {
            let _turn =
                self.turn.acquire().await.map_err(|_| ApiError::internal("the encoder has stopped"))?;
            blocking(entry, move || work(&own).map_err(|error| ApiError::invalid(error.to_string()))).await
        };
        timeout(limit, computed).await.unwrap_or_else(|_| Err(ApiError::timeout(limit.as_secs())))
    }
}
