//! Encoders: BERT, and what sentence-transformers makes of its states: one vector of a text by modules ([`Encoder`]), or a
//! score of two texts by a head ([`CrossEncoder`]).
//!
//! It is a small model beside the decoder: plain f32 on the CPU, no cache, no device. Texts are computed together,
//! those of similar length side by side and none of them padded; a text's bits do not depend on its company.

mod activation;
mod bert;
mod cross_encoder;
mod dense;
mod gelu;
mod linear;
mod modules;
mod panels;
mod pooling;

use glimmer_checkpoint::Checkpoint;

pub use self::cross_encoder::{CrossEncoder, EncodedPair, PairModules};
pub use self::modules::{Prompts, SentenceModules};

use self::bert::{Bert, Tokens};
use self::linear::Threads;
use self::modules::Stage;
use crate::ModelError;

/// Rows computed together; a longer text is computed alone.
const ROWS: usize = 256;

/// A text as an encoder reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedText {
    /// Its tokens, `[CLS]` and `[SEP]` among them.
    pub ids: Vec<u32>,
    /// How many of them, from the first, belong to a prompt before the text. A model may leave them out when it makes
    /// a vector of the states (`include_prompt: false`).
    pub prompt: usize,
}

impl EncodedText {
    /// Leaves at most `most` tokens: the beginning, and the last one, which says that the text ends.
    pub fn cut(&mut self, most: usize) {
        if self.ids.len() > most
            && let Some(last) = self.ids.pop()
        {
            self.ids.truncate(most.saturating_sub(1));
            self.ids.push(last);
        }
    }
}

impl From<Vec<u32>> for EncodedText {
    fn from(ids: Vec<u32>) -> Self {
        EncodedText { ids, prompt: 0 }
    }
}

/// A loaded encoder.
pub struct Encoder {
    bert: Bert,
    modules: SentenceModules,
    max_tokens: usize,
    width: usize,
    threads: Threads,
}

impl Encoder {
    /// Loads a BERT checkpoint: a directory with `config.json` and plain float weights, whose names may begin with
    /// `bert.`. `modules` are those of the model that it belongs to, [`SentenceModules::read`].
    ///
    /// # Errors
    /// When the configuration is not BERT's, a tensor is missing or has another shape or type, or the modules do not
    /// fit each other.
    pub fn open(checkpoint: &Checkpoint, modules: SentenceModules) -> Result<Self, ModelError> {
        let bert = Bert::open(checkpoint)?;
        let width = modules.width(bert.hidden())?;
        let max_tokens = modules.transformer.max_tokens(checkpoint)?.min(bert.positions());
        Ok(Encoder { bert, modules, max_tokens, width, threads: Threads::all() })
    }

    /// Length of an embedding.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Most tokens of a text, `[CLS]` and `[SEP]` among them.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// The embeddings of texts, in their order: each `[width]`.
    ///
    /// # Errors
    /// [`ModelError::Prompt`] when a text is empty, too long, nothing but a prompt, or names a token that does not
    /// exist.
    pub fn embed(&self, texts: &[EncodedText]) -> Result<Vec<Vec<f32>>, ModelError> {
        texts.iter().enumerate().try_for_each(|(i, text)| self.check(i, text))?;
        let mut embeddings = vec![Vec::new(); texts.len()];
        for batch in batches(texts.iter().map(|text| text.ids.len())) {
            let batch_texts: Vec<&EncodedText> = batch.iter().map(|&i| &texts[i]).collect();
            for (&i, embedding) in batch.iter().zip(self.forward(&batch_texts).chunks_exact(self.width)) {
                embeddings[i] = embedding.to_vec();
            }
        }
        Ok(embeddings)
    }

    fn check(&self, number: usize, text: &EncodedText) -> Result<(), ModelError> {
        let fault = |what: String| Err(ModelError::Prompt(format!("text {number}{what}")));
        if let Some(what) = fault_of(&text.ids, self.max_tokens, &self.bert) {
            return fault(what);
        }
        let tokens = text.ids.len();
        match text.prompt < tokens {
            true => Ok(()),
            false => fault(format!(" has {tokens} tokens, and its prompt has {} of them", text.prompt)),
        }
    }

    /// One batch: `[texts, width]`.
    fn forward(&self, texts: &[&EncodedText]) -> Vec<f32> {
        let tokens: Vec<_> =
            texts.iter().map(|text| Tokens { ids: &text.ids, second: text.ids.len() }).collect();
        let states = self.bert.forward(&tokens, self.threads);
        let hidden = self.bert.hidden();
        let mut rest = states.as_slice();
        let mut x = Vec::with_capacity(texts.len() * self.width);
        for text in texts {
            let own = rest.split_off(..text.ids.len() * hidden).unwrap_or_default();
            self.modules.pooling.pool(own, hidden, text.prompt, &mut x);
        }
        let mut width = x.len() / texts.len();
        for stage in &self.modules.stages {
            match stage {
                Stage::Dense(dense) => (x, width) = (dense.apply(&x, self.threads), dense.outputs()),
                Stage::Normalize => x.chunks_exact_mut(width).for_each(normalize),
            }
        }
        x
    }
}

/// Which texts of these lengths are computed together: those of similar length, of at most [`ROWS`] tokens, or one.
fn batches(lengths: impl Iterator<Item = usize>) -> Vec<Vec<usize>> {
    let mut order: Vec<(usize, usize)> = lengths.enumerate().collect();
    order.sort_by_key(|&(_, length)| length);
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut rows = 0;
    for (text, length) in order {
        rows += length;
        match batches.last_mut().filter(|_| rows <= ROWS) {
            Some(batch) => batch.push(text),
            None => {
                batches.push(vec![text]);
                rows = length;
            }
        }
    }
    batches
}

/// What makes it impossible to compute these tokens, as it is said after the text's number.
fn fault_of(ids: &[u32], most: usize, bert: &Bert) -> Option<String> {
    let (tokens, vocab) = (ids.len(), bert.vocab());
    if tokens == 0 {
        return Some(" has no tokens".to_owned());
    }
    if tokens > most {
        return Some(format!(" has {tokens} tokens, the encoder takes {most}"));
    }
    let unknown = ids.iter().find(|&&id| id as usize >= vocab)?;
    Some(format!(": token id {unknown} is outside the vocabulary of {vocab}"))
}

/// Length 1, as `torch.nn.functional.normalize` makes it: a vector of zeros stays one.
fn normalize(x: &mut [f32]) {
    let norm = x.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt().max(1e-12);
    x.iter_mut().for_each(|v| *v = (f64::from(*v) / norm) as f32);
}
