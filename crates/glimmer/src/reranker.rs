//! A model that scores how well texts go with another.

use glimmer_models::{CrossEncoder, EncodedPair, ModelError, PairModules};
use glimmer_tokenizer::Tokenizer;

use crate::encoder_files::{ENCODING, tokenizer, transformer, weights};
use crate::{Error, ModelFiles, Overrides, Source};

/// A cross-encoder, ready to compute. It computes on all threads and is shared freely between them.
pub struct Reranker {
    name: String,
    created: u64,
    tokenizer: Tokenizer,
    /// What the tokenizer puts before a text, and after it: `[CLS]` and `[SEP]`.
    around: [u32; 2],
    memory: u64,
    encoder: CrossEncoder,
}

impl Reranker {
    /// The fewest tokens of a pair: `[CLS]`, two `[SEP]`, and one of the texts.
    pub const FEWEST_TOKENS: usize = 4;

    /// Opens a cross-encoder: its tokenizer, its weights, and the activation that sentence-transformers would use.
    ///
    /// # Errors
    /// When there is no such model, it has no head of one label, or there is something in its files that is not supported.
    pub fn open(source: impl Into<Source>) -> Result<Self, Error> {
        let model = ModelFiles::new(source, Overrides::default());
        let (name, created) = (model.source().name(), model.created());
        let modules = PairModules::read(model.source().directory())?;
        let files = transformer(model, modules.directory());
        let tokenizer = tokenizer(&files, modules.lowercases())?;
        let around = tokenizer.encode_as("", ENCODING).try_into().map_err(|_| ModelError::Config {
            file: files.path().display().to_string(),
            message: "its tokenizer does not put one token before and one after a text".to_owned(),
        })?;
        let checkpoint = files.checkpoint()?;
        let memory = weights(checkpoint);
        let encoder = CrossEncoder::open(checkpoint, &modules)?;
        Ok(Reranker { name, created, tokenizer, around, memory, encoder })
    }

    /// Bytes that one will hold when it is opened, by the headers of its files.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn needed(source: impl Into<Source>) -> Result<u64, Error> {
        let model = ModelFiles::new(source, Overrides::default());
        let modules = PairModules::read(model.source().directory())?;
        Ok(weights(transformer(model, modules.directory()).checkpoint()?))
    }

    /// What to call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When its files were made, in seconds since 1970.
    pub fn created(&self) -> u64 {
        self.created
    }

    /// Bytes of its weights.
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// Most tokens of a pair, `[CLS]` and `[SEP]` among them.
    pub fn max_tokens(&self) -> usize {
        self.encoder.max_tokens()
    }

    /// A text's own ids, without `[CLS]` and `[SEP]`.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = self.tokenizer.encode_as(text, ENCODING);
        ids.pop();
        ids.drain(..1.min(ids.len()));
        ids
    }

    /// Two texts as the model reads them, each cut at its end where both have more than `most` tokens together: the longer
    /// one first.
    pub fn pair(&self, first: &[u32], second: &[u32], most: usize) -> EncodedPair {
        let [cls, sep] = self.around;
        let (kept, other) = longest_first(first.len(), second.len(), most.saturating_sub(3));
        let ids = [&[cls], &first[..kept], &[sep], &second[..other], &[sep]].concat();
        EncodedPair { ids, second: kept + 2 }
    }

    /// The scores of pairs, in their order, before the activation.
    ///
    /// # Errors
    /// When a pair is longer than the model reads, or has ids outside its vocabulary.
    pub fn scores(&self, pairs: &[EncodedPair]) -> Result<Vec<f32>, Error> {
        Ok(self.encoder.scores(pairs)?)
    }

    /// The activation: what is shown of a score.
    pub fn activate(&self, score: f32) -> f32 {
        self.encoder.activate(score)
    }

    /// How well each document goes with a query, pairs that are too long cut: the scores of sentence-transformers'
    /// `CrossEncoder.predict`.
    ///
    /// # Errors
    /// None but those of a model whose files contradict each other.
    pub fn rank(&self, query: &str, documents: &[&str]) -> Result<Vec<f32>, Error> {
        let query = self.encode(query);
        let pair = |document: &&str| self.pair(&query, &self.encode(document), self.max_tokens());
        let scores = self.scores(&documents.iter().map(pair).collect::<Vec<_>>())?;
        Ok(scores.into_iter().map(|score| self.activate(score)).collect())
    }
}

/// How many tokens stay of two texts that may have `most` together: Hugging Face's `longest_first`
/// (`tokenizers/src/utils/truncation.rs`). The shorter one is only cut when it is longer than half.
fn longest_first(first: usize, second: usize, most: usize) -> (usize, usize) {
    let (short, long) = (first.min(second), first.max(second));
    let (short, long) = match short + long <= most {
        true => (short, long),
        false if short > most / 2 => (most / 2, most / 2 + most % 2),
        false => (short, most - short),
    };
    if first <= second { (short, long) } else { (long, short) }
}
