//! The encoder beside the models: vectors of texts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use glimmer::{Embedder, EncodedText, Lease, LoadedModel, Usage};
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
    /// Of a model that is one.
    pub(crate) fn new(lease: Lease, turn: &Arc<Semaphore>) -> Option<Self> {
        let is_one = matches!(lease.model, LoadedModel::Embedder(_));
        is_one.then(|| Encoder { lease, turn: Arc::clone(turn) })
    }

    /// What computes.
    pub(crate) fn embedder(&self) -> &Embedder {
        match &self.lease.model {
            LoadedModel::Embedder(embedder) => embedder,
            LoadedModel::Engine(_) => unreachable!("an encoder is made of an embedder"),
        }
    }

    /// Computes the vectors of texts, and notes it in the request's entry.
    pub(crate) async fn compute(
        &self,
        entry: &Entry,
        texts: Vec<EncodedText>,
        limit: Duration,
    ) -> Result<Vec<Vec<f32>>, ApiError> {
        entry.used(ModelUse {
            model: self.lease.name().to_owned(),
            usage: Usage { prompt: texts.iter().map(|text| text.ids.len()).sum(), ..Usage::default() },
            departure: None,
            start: Instant::now(),
            first_token: None,
            finishes: Vec::new(),
        });
        let own = self.clone();
        let computed = async move {
            let _turn =
                self.turn.acquire().await.map_err(|_| ApiError::internal("the encoder has stopped"))?;
            blocking(entry, move || {
                own.embedder().embed_encoded(&texts).map_err(|error| ApiError::invalid(error.to_string()))
            })
            .await
        };
        timeout(limit, computed).await.unwrap_or_else(|_| Err(ApiError::timeout(limit.as_secs())))
    }
}
