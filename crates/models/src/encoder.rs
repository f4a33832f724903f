//! A text encoder: BERT (Devlin et al., 2019) with mean pooling, as text2vec-large-chinese uses it to make embeddings.
//!
//! It is a small model beside the decoder: plain f32 on the CPU, no cache, no device. Texts are computed together,
//! those of similar length side by side and none of them padded; a text's bits do not depend on its company. The facts
//! are those of transformers' `modeling_bert.py`: learned positions, all tokens of type 0, norms after the sums, GELU
//! with the error function. The pooler of the checkpoint is not used: text2vec averages the last layer's states over
//! all tokens, `[CLS]` and `[SEP]` among them, and leaves the length of the vector as it is.

use std::num::NonZero;

use glimmer_checkpoint::Checkpoint;
use serde::Deserialize;

use crate::ModelError;
use crate::panels::Panels;

/// Rows computed together; a longer text is computed alone.
const ROWS: usize = 256;

/// Below this many multiplications a product is not worth a second thread.
const WORTH_A_THREAD: usize = 4_000_000;

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
                known: "BERT with mean pooling (text2vec) for embeddings",
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
        if !(config.layer_norm_eps.is_finite() && config.layer_norm_eps >= 0.0) {
            return Err(error(format!("layer_norm_eps is {}", config.layer_norm_eps)));
        }
        Ok(config)
    }
}

/// `y = x W^T + b`.
struct Linear {
    weight: Panels,
    bias: Vec<f32>,
}

/// `y = (x - mean) / sqrt(var + eps) * weight + bias`.
struct LayerNorm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    eps: f64,
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

/// A loaded encoder.
pub struct Encoder {
    hidden: usize,
    heads: usize,
    vocab: usize,
    positions: usize,
    threads: usize,
    /// `[vocab, hidden]`
    words: Vec<f32>,
    /// `[positions, hidden]`, the embedding of token type 0 added.
    places: Vec<f32>,
    norm: LayerNorm,
    blocks: Vec<Block>,
}

impl Encoder {
    /// Loads a BERT checkpoint: a directory with `config.json` and plain float weights, whose names may begin with
    /// `bert.`.
    ///
    /// # Errors
    /// When the configuration is not BERT's, or a tensor is missing or has another shape or type.
    pub fn open(checkpoint: &Checkpoint) -> Result<Self, ModelError> {
        let config = Config::read(checkpoint)?;
        let prefix =
            if checkpoint.info("bert.embeddings.word_embeddings.weight").is_some() { "bert." } else { "" };
        let loader = Loader { checkpoint, prefix, eps: config.layer_norm_eps };
        let (hidden, ffn) = (config.hidden_size, config.intermediate_size);
        let words = loader.table("embeddings.word_embeddings", config.vocab_size, hidden)?;
        let mut places =
            loader.table("embeddings.position_embeddings", config.max_position_embeddings, hidden)?;
        let types = loader.table("embeddings.token_type_embeddings", config.type_vocab_size, hidden)?;
        for place in places.chunks_exact_mut(hidden) {
            place.iter_mut().zip(&types).for_each(|(p, t)| *p += t);
        }
        let norm = loader.norm("embeddings.LayerNorm", hidden)?;
        let block = |i: usize| {
            let name = |part: &str| format!("encoder.layer.{i}.{part}");
            let attention = ["query", "key", "value"].map(|part| name(&format!("attention.self.{part}")));
            Ok::<_, ModelError>(Block {
                qkv: loader.linear(&attention, hidden, hidden)?,
                attention_out: loader.linear(&[name("attention.output.dense")], hidden, hidden)?,
                attention_norm: loader.norm(&name("attention.output.LayerNorm"), hidden)?,
                up: loader.linear(&[name("intermediate.dense")], ffn, hidden)?,
                down: loader.linear(&[name("output.dense")], hidden, ffn)?,
                norm: loader.norm(&name("output.LayerNorm"), hidden)?,
            })
        };
        Ok(Encoder {
            hidden,
            heads: config.num_attention_heads,
            vocab: config.vocab_size,
            positions: config.max_position_embeddings,
            threads: std::thread::available_parallelism().map_or(1, NonZero::get),
            words,
            places,
            norm,
            blocks: (0..config.num_hidden_layers).map(block).collect::<Result<_, _>>()?,
        })
    }

    /// Length of an embedding.
    pub fn width(&self) -> usize {
        self.hidden
    }

    /// Most tokens of a text, `[CLS]` and `[SEP]` among them.
    pub fn max_tokens(&self) -> usize {
        self.positions
    }

    /// The embeddings of texts given as ids (with `[CLS]` and `[SEP]`), in their order: each `[width]`, not normalized.
    ///
    /// # Errors
    /// [`ModelError::Prompt`] when a text is empty, too long or names a token that does not exist.
    pub fn embed(&self, texts: &[impl AsRef<[u32]>]) -> Result<Vec<Vec<f32>>, ModelError> {
        texts.iter().enumerate().try_for_each(|(i, ids)| self.check(i, ids.as_ref()))?;
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|&i| texts[i].as_ref().len());
        let mut embeddings = vec![Vec::new(); texts.len()];
        let mut rest = order.as_slice();
        while !rest.is_empty() {
            let mut rows = 0;
            let fits = |&&i: &&usize| {
                rows += texts[i].as_ref().len();
                rows <= ROWS
            };
            let (batch, after) = rest.split_at(rest.iter().take_while(fits).count().max(1));
            let ids: Vec<&[u32]> = batch.iter().map(|&i| texts[i].as_ref()).collect();
            for (&i, embedding) in batch.iter().zip(self.forward(&ids)) {
                embeddings[i] = embedding;
            }
            rest = after;
        }
        Ok(embeddings)
    }

    fn check(&self, number: usize, ids: &[u32]) -> Result<(), ModelError> {
        let (tokens, most) = (ids.len(), self.positions);
        if tokens == 0 {
            return Err(ModelError::Prompt(format!("text {number} has no tokens")));
        }
        if tokens > most {
            return Err(ModelError::Prompt(format!(
                "text {number} has {tokens} tokens, the encoder takes {most}"
            )));
        }
        match ids.iter().find(|&&id| id as usize >= self.vocab) {
            Some(id) => Err(ModelError::Prompt(format!(
                "text {number}: token id {id} is outside the vocabulary of {}",
                self.vocab
            ))),
            None => Ok(()),
        }
    }

    /// One batch: all rows of all texts below each other.
    fn forward(&self, texts: &[&[u32]]) -> Vec<Vec<f32>> {
        let h = self.hidden;
        let mut x = Vec::with_capacity(texts.iter().map(|t| t.len()).sum::<usize>() * h);
        for (place, &id) in texts.iter().flat_map(|text| text.iter().enumerate()) {
            let (word, place) = (&self.words[id as usize * h..][..h], &self.places[place * h..][..h]);
            x.extend(word.iter().zip(place).map(|(w, p)| w + p));
        }
        self.norm.apply(&mut x);
        for block in &self.blocks {
            let attended = self.attention(texts, &self.linear(&block.qkv, &x));
            add(&mut x, &self.linear(&block.attention_out, &attended));
            block.attention_norm.apply(&mut x);
            let mut inner = self.linear(&block.up, &x);
            inner.iter_mut().for_each(|v| *v = gelu(*v));
            add(&mut x, &self.linear(&block.down, &inner));
            block.norm.apply(&mut x);
        }
        let mut rest = x.as_slice();
        texts.iter().map(|text| mean(rest.split_off(..text.len() * h).unwrap_or_default(), h)).collect()
    }

    fn linear(&self, linear: &Linear, x: &[f32]) -> Vec<f32> {
        let outputs = linear.weight.outputs();
        let inputs = linear.weight.inputs();
        let rows = x.len() / inputs;
        let work = rows * outputs * inputs;
        self.by_rows(rows, outputs, work, |first, count, out| {
            linear.weight.multiply(&x[first * inputs..], inputs, count, out, outputs);
            for row in out.chunks_exact_mut(outputs) {
                add(row, &linear.bias);
            }
        })
    }

    /// `softmax(q k^T / sqrt(d)) v` for every head within every text.
    fn attention(&self, texts: &[&[u32]], qkv: &[f32]) -> Vec<f32> {
        let (h, d) = (self.hidden, self.hidden / self.heads);
        let scale = 1.0 / (d as f32).sqrt();
        let rows = qkv.len() / (3 * h);
        let work = texts.iter().map(|t| t.len() * t.len() * h * 2).sum();
        self.by_rows(rows, h, work, |first, count, out| {
            let mut start = 0;
            for text in texts {
                let whole = start..start + text.len();
                let mine = whole.start.max(first)..whole.end.min(first + count);
                start = whole.end;
                if mine.is_empty() {
                    continue;
                }
                let keys_values = &qkv[whole.start * 3 * h..];
                let out = &mut out[(mine.start - first) * h..];
                let mut scores = vec![0.0; mine.len() * text.len()];
                for head in 0..self.heads {
                    let k = Panels::pack(text.len(), d, |key, i| keys_values[key * 3 * h + h + head * d + i]);
                    k.multiply(
                        &qkv[mine.start * 3 * h + head * d..],
                        3 * h,
                        mine.len(),
                        &mut scores,
                        text.len(),
                    );
                    scores.chunks_exact_mut(text.len()).for_each(|row| softmax(row, scale));
                    let v =
                        Panels::pack(d, text.len(), |i, key| keys_values[key * 3 * h + 2 * h + head * d + i]);
                    v.multiply(&scores, text.len(), mine.len(), &mut out[head * d..], h);
                }
            }
        })
    }

    /// Fills `[rows, width]`, threads sharing the rows: `fill(first row, rows, their part)`.
    fn by_rows(
        &self,
        rows: usize,
        width: usize,
        work: usize,
        fill: impl Fn(usize, usize, &mut [f32]) + Sync,
    ) -> Vec<f32> {
        let mut out = vec![0.0; rows * width];
        let threads = (work / WORTH_A_THREAD).clamp(1, self.threads);
        let share = rows.div_ceil(threads).next_multiple_of(4);
        std::thread::scope(|scope| {
            let mut parts = out.chunks_mut(share * width).enumerate();
            let own = parts.next();
            for (i, part) in parts {
                let fill = &fill;
                scope.spawn(move || fill(i * share, part.len() / width, part));
            }
            if let Some((_, part)) = own {
                fill(0, part.len() / width, part);
            }
        });
        out
    }
}

struct Loader<'a> {
    checkpoint: &'a Checkpoint,
    prefix: &'static str,
    eps: f64,
}

impl Loader<'_> {
    fn table(&self, name: &str, rows: usize, cols: usize) -> Result<Vec<f32>, ModelError> {
        let name = format!("{}{name}.weight", self.prefix);
        self.checkpoint.matrix_of(&name, rows, cols)?;
        let values = self.checkpoint.vector_f32(&name)?;
        if let Some(info) = self.checkpoint.info(&name) {
            self.checkpoint.check_finite(info)?;
            self.checkpoint.release(info);
        }
        Ok(values)
    }

    fn vector(&self, name: &str, part: &str, len: usize) -> Result<Vec<f32>, ModelError> {
        Ok(self.checkpoint.vector_of(&format!("{}{name}.{part}", self.prefix), len)?)
    }

    /// Linears of equal shape below each other.
    fn linear(&self, names: &[String], outputs: usize, inputs: usize) -> Result<Linear, ModelError> {
        let (mut weight, mut bias) = (Vec::new(), Vec::new());
        for name in names {
            weight.extend(self.table(name, outputs, inputs)?);
            bias.extend(self.vector(name, "bias", outputs)?);
        }
        let weight = Panels::pack(names.len() * outputs, inputs, |o, i| weight[o * inputs + i]);
        Ok(Linear { weight, bias })
    }

    fn norm(&self, name: &str, width: usize) -> Result<LayerNorm, ModelError> {
        let (weight, bias) = (self.vector(name, "weight", width)?, self.vector(name, "bias", width)?);
        Ok(LayerNorm { weight, bias, eps: self.eps })
    }
}

impl LayerNorm {
    fn apply(&self, x: &mut [f32]) {
        let width = self.weight.len();
        for row in x.chunks_exact_mut(width) {
            let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / width as f64;
            let var = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / width as f64;
            let scale = 1.0 / (var + self.eps).sqrt();
            for ((v, w), b) in row.iter_mut().zip(&self.weight).zip(&self.bias) {
                *v = ((f64::from(*v) - mean) * scale) as f32 * w + b;
            }
        }
    }
}

fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

/// The mean of rows.
fn mean(rows: &[f32], width: usize) -> Vec<f32> {
    let mut sums = vec![0.0f64; width];
    for row in rows.chunks_exact(width) {
        sums.iter_mut().zip(row).for_each(|(sum, &v)| *sum += f64::from(v));
    }
    let count = (rows.len() / width) as f64;
    sums.into_iter().map(|sum| (sum / count) as f32).collect()
}

fn softmax(row: &mut [f32], scale: f32) {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter_mut().for_each(|v| *v = ((*v - max) * scale).exp());
    let total: f64 = row.iter().map(|&v| f64::from(v)).sum();
    row.iter_mut().for_each(|v| *v = (f64::from(*v) / total) as f32);
}

/// `x * P(X <= x)` for a normal X (Hendrycks and Gimpel, 2016), exact form.
fn gelu(x: f32) -> f32 {
    let x = f64::from(x);
    (0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2))) as f32
}

/// The error function to 1.5e-7: Abramowitz and Stegun, *Handbook of Mathematical Functions* (1964), 7.1.26.
fn erf(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.327_591_1 * x.abs());
    let p = ((((1.061_405_429 * t - 1.453_152_027) * t + 1.421_413_741) * t - 0.284_496_736) * t
        + 0.254_829_592)
        * t;
    (1.0 - p * (-x * x).exp()).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of Python's `math.erf`.
    #[test]
    fn the_error_function_is_that_of_the_tables() {
        for (x, expected) in [
            (0.0, 0.0),
            (0.1, 0.112_462_916_018_284_9),
            (0.5, 0.520_499_877_813_046_5),
            (1.0, 0.842_700_792_949_714_9),
            (2.0, 0.995_322_265_018_952_7),
            (3.5, 0.999_999_256_901_628),
        ] {
            assert!((erf(x) - expected).abs() < 2e-7, "{x}");
            assert!((erf(-x) + expected).abs() < 2e-7, "-{x}");
        }
    }
}
