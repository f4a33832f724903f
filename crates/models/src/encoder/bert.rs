//! BERT (Devlin et al., 2019): tokens to the states of its last layer.
//!
//! The facts are those of transformers' `modeling_bert.py`: learned positions, tokens of two types, norms after the
//! sums, GELU with the error function. What is made of the states is others' affair.

use glimmer_checkpoint::Checkpoint;
use serde::Deserialize;

use super::gelu::gelu;
use super::linear::{LayerNorm, Linear, Threads, Weights, add};
use super::panels::Panels;
use crate::ModelError;

/// The keys of `config.json` that matter.
#[derive(Debug, Deserialize)]
struct Config {
    model_type: String,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    vocab_size: usize,
    #[serde(default = "Config::two")]
    type_vocab_size: usize,
    #[serde(default = "Config::eps")]
    layer_norm_eps: f64,
    #[serde(default = "Config::gelu")]
    hidden_act: String,
    #[serde(default = "Config::absolute")]
    position_embedding_type: String,
}

impl Config {
    fn two() -> usize {
        2
    }

    fn eps() -> f64 {
        1e-12
    }

    fn gelu() -> String {
        "gelu".to_owned()
    }

    fn absolute() -> String {
        "absolute".to_owned()
    }

    fn read(checkpoint: &Checkpoint) -> Result<Self, ModelError> {
        let file = checkpoint.path().join("config.json").display().to_string();
        let error = |message: String| ModelError::Config { file: file.clone(), message };
        let config =
            checkpoint.config().ok_or_else(|| error("not found; it says what the model is".into()))?;
        let config = Config::deserialize(config).map_err(|e| error(e.to_string()))?;
        if config.model_type != "bert" {
            return Err(ModelError::Architecture {
                file,
                found: config.model_type,
                known: "BERT for encoders",
            });
        }
        for (key, found, known) in [
            ("hidden_act", &config.hidden_act, "gelu"),
            ("position_embedding_type", &config.position_embedding_type, "absolute"),
        ] {
            if found != known {
                return Err(error(format!("{key} is {found}; only {known} is supported")));
            }
        }
        let heads = config.num_attention_heads;
        if heads == 0 || config.hidden_size == 0 || !config.hidden_size.is_multiple_of(heads) {
            let hidden = config.hidden_size;
            return Err(error(format!("hidden_size {hidden} is no multiple of num_attention_heads {heads}")));
        }
        let sizes =
            [("intermediate_size", config.intermediate_size), ("type_vocab_size", config.type_vocab_size)];
        if let Some((key, _)) = sizes.into_iter().find(|(_, size)| *size == 0) {
            return Err(error(format!("{key} is 0")));
        }
        if !(config.layer_norm_eps.is_finite() && config.layer_norm_eps >= 0.0) {
            return Err(error(format!("layer_norm_eps is {}", config.layer_norm_eps)));
        }
        Ok(config)
    }
}

struct Block {
    /// Queries, keys and values below each other: `[3 * hidden, hidden]`.
    qkv: Linear,
    attention_out: Linear,
    attention_norm: LayerNorm,
    up: Linear,
    down: Linear,
    norm: LayerNorm,
}

/// The tokens of a text, or of two.
#[derive(Clone, Copy)]
pub(super) struct Tokens<'a> {
    pub(super) ids: &'a [u32],
    /// Where the tokens of type 1 begin; before it they are of type 0.
    pub(super) second: usize,
}

/// Loaded weights.
pub(super) struct Bert {
    hidden: usize,
    heads: usize,
    vocab: usize,
    positions: usize,
    /// `[vocab, hidden]`
    words: Vec<f32>,
    /// `[positions, hidden]`
    places: Vec<f32>,
    /// `[types, hidden]`
    types: Vec<f32>,
    norm: LayerNorm,
    blocks: Vec<Block>,
}

impl Bert {
    /// Loads a BERT checkpoint: a directory with `config.json` and plain float weights, whose names may begin with
    /// `bert.`.
    ///
    /// # Errors
    /// When the configuration is not BERT's, or a tensor is missing or has another shape or type.
    pub(super) fn open(checkpoint: &Checkpoint) -> Result<Self, ModelError> {
        let config = Config::read(checkpoint)?;
        let prefix =
            if checkpoint.info("bert.embeddings.word_embeddings.weight").is_some() { "bert." } else { "" };
        let weights = Weights { checkpoint, prefix };
        let eps = config.layer_norm_eps;
        let (hidden, ffn) = (config.hidden_size, config.intermediate_size);
        let words = weights.table("embeddings.word_embeddings", config.vocab_size, hidden)?;
        let places =
            weights.table("embeddings.position_embeddings", config.max_position_embeddings, hidden)?;
        let types = weights.table("embeddings.token_type_embeddings", config.type_vocab_size, hidden)?;
        let norm = weights.norm("embeddings.LayerNorm", hidden, eps)?;
        let block = |i: usize| {
            let name = |part: &str| format!("encoder.layer.{i}.{part}");
            let attention = ["query", "key", "value"].map(|part| name(&format!("attention.self.{part}")));
            Ok::<_, ModelError>(Block {
                qkv: weights.linear(&attention, hidden, hidden)?,
                attention_out: weights.linear(&[name("attention.output.dense")], hidden, hidden)?,
                attention_norm: weights.norm(&name("attention.output.LayerNorm"), hidden, eps)?,
                up: weights.linear(&[name("intermediate.dense")], ffn, hidden)?,
                down: weights.linear(&[name("output.dense")], hidden, ffn)?,
                norm: weights.norm(&name("output.LayerNorm"), hidden, eps)?,
            })
        };
        Ok(Bert {
            hidden,
            heads: config.num_attention_heads,
            vocab: config.vocab_size,
            positions: config.max_position_embeddings,
            words,
            places,
            types,
            norm,
            blocks: (0..config.num_hidden_layers).map(block).collect::<Result<_, _>>()?,
        })
    }

    /// Length of a state.
    pub(super) fn hidden(&self) -> usize {
        self.hidden
    }

    /// Most tokens of a text.
    pub(super) fn positions(&self) -> usize {
        self.positions
    }

    /// Every id is below it.
    pub(super) fn vocab(&self) -> usize {
        self.vocab
    }

    /// Types of tokens.
    pub(super) fn types(&self) -> usize {
        self.types.len() / self.hidden
    }

    /// The last layer's states, `[tokens, hidden]`, all tokens of all texts below each other. Ids, lengths and types are
    /// in bounds.
    pub(super) fn forward(&self, texts: &[Tokens<'_>], threads: Threads) -> Vec<f32> {
        let h = self.hidden;
        let lengths: Vec<usize> = texts.iter().map(|text| text.ids.len()).collect();
        let mut x = Vec::with_capacity(lengths.iter().sum::<usize>() * h);
        for text in texts {
            for (place, &id) in text.ids.iter().enumerate() {
                let kind = usize::from(place >= text.second);
                let [word, place, kind] =
                    [(&self.words, id as usize), (&self.places, place), (&self.types, kind)]
                        .map(|(table, row)| &table[row * h..][..h]);
                x.extend(word.iter().zip(place).zip(kind).map(|((w, p), t)| w + (p + t)));
            }
        }
        self.norm.apply(&mut x);
        for block in &self.blocks {
            let attended = self.attention(&lengths, &block.qkv.apply(&x, threads), threads);
            add(&mut x, &block.attention_out.apply(&attended, threads));
            block.attention_norm.apply(&mut x);
            let mut inner = block.up.apply(&x, threads);
            inner.iter_mut().for_each(|v| *v = gelu(*v));
            add(&mut x, &block.down.apply(&inner, threads));
            block.norm.apply(&mut x);
        }
        x
    }

    /// `softmax(q k^T / sqrt(d)) v` for every head within every text.
    fn attention(&self, lengths: &[usize], qkv: &[f32], threads: Threads) -> Vec<f32> {
        let (h, d) = (self.hidden, self.hidden / self.heads);
        let scale = 1.0 / (d as f32).sqrt();
        let rows = qkv.len() / (3 * h);
        let work = lengths.iter().map(|length| length * length * h * 2).sum();
        threads.by_rows(rows, h, work, |first, count, out| {
            let mut start = 0;
            for &length in lengths {
                let whole = start..start + length;
                let mine = whole.start.max(first)..whole.end.min(first + count);
                start = whole.end;
                if mine.is_empty() {
                    continue;
                }
                let keys_values = &qkv[whole.start * 3 * h..];
                let out = &mut out[(mine.start - first) * h..];
                let mut scores = vec![0.0; mine.len() * length];
                for head in 0..self.heads {
                    let k = Panels::pack(length, d, |key, i| keys_values[key * 3 * h + h + head * d + i]);
                    k.multiply(&qkv[mine.start * 3 * h + head * d..], 3 * h, mine.len(), &mut scores, length);
                    scores.chunks_exact_mut(length).for_each(|row| softmax(row, scale));
                    let v = Panels::pack(d, length, |i, key| keys_values[key * 3 * h + 2 * h + head * d + i]);
                    v.multiply(&scores, length, mine.len(), &mut out[head * d..], h);
                }
            }
        })
    }
}

fn softmax(row: &mut [f32], scale: f32) {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter_mut().for_each(|v| *v = ((*v - max) * scale).exp());
    let total: f64 = row.iter().map(|&v| f64::from(v)).sum();
    row.iter_mut().for_each(|v| *v = (f64::from(*v) / total) as f32);
}
