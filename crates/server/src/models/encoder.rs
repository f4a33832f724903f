//! The encoder beside the models: vectors of texts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use glimmer_tokenizer::Tokenizer;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::error::ApiError;
use crate::models::blocking::blocking;
use crate::record::entry::Entry;
use crate::record::usage::{ModelUse, Usage};

/// Texts, as ids, to vectors; complaints are for people.
pub type Embed = Box<dyn Fn(&[Vec<u32>]) -> Result<Vec<Vec<f32>>, String> + Send + Sync>;

/// An encoder, ready to compute.
pub struct Embedder {
    /// What clients call it.
    pub name: String,
    /// Texts to ids, `[CLS]` and `[SEP]` among them.
    pub tokenizer: Tokenizer,
    /// Most tokens of a text.
    pub max_tokens: usize,
    /// Length of a vector.
    pub width: usize,
    /// What computes.
    pub embed: Embed,
    /// When it was made, in seconds since 1970.
    pub created: u64,
}

/// An encoder and the turn at it: one request at a time has the processors.
pub(crate) struct Encoder {
    pub(crate) embedder: Embedder,
    turn: Semaphore,
}

impl Encoder {
    pub(crate) fn new(embedder: Embedder) -> Self {
        Encoder { embedder, turn: Semaphore::new(1) }
    }

    /// Computes the vectors of texts, and notes it in the request's entry.
    pub(crate) async fn compute(
        self: &Arc<Self>,
        entry: &Entry,
        texts: Vec<Vec<u32>>,
        limit: Duration,
    ) -> Result<Vec<Vec<f32>>, ApiError> {
        entry.used(ModelUse {
            model: self.embedder.name.clone(),
            usage: Usage { prompt: texts.iter().map(Vec::len).sum(), ..Usage::default() },
            start: Instant::now(),
            first_token: None,
            finishes: Vec::new(),
        });
        let shared = self.clone();
        let computed = async move {
            let _turn =
                self.turn.acquire().await.map_err(|_| ApiError::internal("the encoder has stopped"))?;
            blocking(move || (shared.embedder.embed)(&texts).map_err(ApiError::invalid)).await
        };
        timeout(limit, computed).await.unwrap_or_else(|_| Err(ApiError::timeout(limit.as_secs())))
    }
}
