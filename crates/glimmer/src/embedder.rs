//! A model that makes vectors of texts.

use glimmer_models::Encoder;
use glimmer_tokenizer::Tokenizer;

use crate::{Error, Known, ModelFiles, Source};

/// Texts, as ids, to a vector each.
type Compute = dyn Fn(&[Vec<u32>]) -> Result<Vec<Vec<f32>>, Error> + Send + Sync;

/// A text encoder, ready to compute. It computes on all threads and is shared freely between them.
pub struct Embedder {
    name: String,
    created: u64,
    tokenizer: Tokenizer,
    max_tokens: usize,
    width: usize,
    compute: Box<Compute>,
}

impl Embedder {
    /// Opens an encoder: its tokenizer and its weights.
    ///
    /// # Errors
    /// When there is no such model, or it is none that makes vectors.
    pub fn open(source: impl Into<Source>) -> Result<Self, Error> {
        let files = ModelFiles::new(source, Known::default());
        let tokenizer = files.tokenizer()?.clone();
        let encoder = Encoder::open(files.checkpoint()?)?;
        let (max_tokens, width) = (encoder.max_tokens(), encoder.width());
        let compute = move |texts: &[Vec<u32>]| Ok(encoder.embed(texts)?);
        let embedder = Embedder::new(files.source().name(), tokenizer, max_tokens, width, compute);
        Ok(Embedder { created: files.created(), ..embedder })
    }

    /// An encoder that somebody else computes: `max_tokens` of a text at most, vectors of `width` elements.
    pub fn new(
        name: String,
        tokenizer: Tokenizer,
        max_tokens: usize,
        width: usize,
        compute: impl Fn(&[Vec<u32>]) -> Result<Vec<Vec<f32>>, Error> + Send + Sync + 'static,
    ) -> Self {
        Embedder { name, created: 0, tokenizer, max_tokens, width, compute: Box::new(compute) }
    }

    /// What to call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When its files were made, in seconds since 1970.
    pub fn created(&self) -> u64 {
        self.created
    }

    /// Text to ids, `[CLS]` and `[SEP]` among them.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Most tokens of a text.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Elements of a vector.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The vectors of texts, each `[width]`.
    ///
    /// # Errors
    /// When a text is longer than the encoder reads.
    pub fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, Error> {
        let ids: Vec<Vec<u32>> = texts.iter().map(|text| self.tokenizer.encode(text)).collect();
        self.embed_ids(&ids)
    }

    /// The vectors of texts that are ids already, each `[width]`.
    ///
    /// # Errors
    /// When a text is longer than the encoder reads, or has ids outside its vocabulary.
    pub fn embed_ids(&self, texts: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, Error> {
        (self.compute)(texts)
    }
}
