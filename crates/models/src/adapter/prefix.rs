//! Prefixes of P-Tuning v2, as ChatGLM's own scripts train and keep them, and as PEFT keeps them (`PREFIX_TUNING`).
//!
//! Source: `PrefixEncoder` and `get_prompt` of `modeling_chatglm.py` (ChatGLM-6B and ChatGLM2-6B): `pre_seq_len` embeddings,
//! with `prefix_projection` through two layers with a tanh between, seen as `[slots, 2 layers, heads, head_dim]`: the keys of
//! layer `i` are at `2 i`, its values at `2 i + 1`. Keys are not rotated, and the positions of what follows do not shift.
//!
//! PEFT 0.21.2 (`PeftModel.get_prompt`, `get_prompt_embedding_to_save`) keeps what comes out of the layers, in the same order,
//! as one tensor `prompt_embeddings` `[slots, 2 layers heads head_dim]`. It hands it to a model as what a cache holds
//! already, so that positions of what follows count from behind it.

use std::path::Path;

use glimmer_checkpoint::safetensors::SafetensorsFile;
use glimmer_checkpoint::{Checkpoint, NewTensor, OutputFile, TensorInfo};
use glimmer_config::{Quoted, file};
use glimmer_tensor::DType;
use serde_json::{Value, json};

use super::{directory_of, little_endian, peft, peft_prefix, refused, values};
use crate::{DecoderSpec, ModelError};

/// The key of `config.json` with the number of slots.
pub(super) const LENGTH: &str = "pre_seq_len";

const PROJECTION: &str = "prefix_projection";
const EMBEDDING: &str = "embedding.weight";
const MODULE: &str = "transformer.prefix_encoder.";
const TRANSFORM: [&str; 4] = ["trans.0.weight", "trans.0.bias", "trans.2.weight", "trans.2.bias"];

/// Keys and values that stand before every sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Prefix {
    /// How many slots they take; at least one.
    pub slots: usize,
    /// Whether positions of what follows count from behind them (PEFT's) and not from 0 (ChatGLM's).
    pub shifts_positions: bool,
    /// Those of each layer.
    pub layers: Vec<PrefixLayer>,
}

/// A layer's keys and values before every sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct PrefixLayer {
    /// `[slots, k_width]`, as they are cached.
    pub keys: Vec<f32>,
    /// `[slots, v_width]`.
    pub values: Vec<f32>,
}

impl Prefix {
    /// Bytes that its numbers take.
    pub fn bytes(&self) -> usize {
        self.layers.iter().map(|layer| 4 * (layer.keys.len() + layer.values.len())).sum()
    }
}

/// What a prefix is computed from: what P-Tuning v2 trains.
#[derive(Clone, Debug, PartialEq)]
pub struct PrefixEncoder {
    /// Slots.
    pub slots: usize,
    /// See [`Prefix`]; with it, files are PEFT's.
    pub shifts_positions: bool,
    /// `[slots, width]`: without a projection `width` is that of keys and values of all layers.
    pub embedding: Vec<f32>,
    /// With `prefix_projection`: what makes keys and values of the embedding.
    pub projection: Option<PrefixProjection>,
}

/// `out = outer tanh(inner x + inner_bias) + outer_bias`.
#[derive(Clone, Debug, PartialEq)]
pub struct PrefixProjection {
    /// `[middle, width]`.
    pub inner: Vec<f32>,
    /// `[middle]`.
    pub inner_bias: Vec<f32>,
    /// `[kv_width, middle]`.
    pub outer: Vec<f32>,
    /// `[kv_width]`.
    pub outer_bias: Vec<f32>,
}

/// Width of the keys and values of all layers together.
pub(super) fn kv_width(spec: &DecoderSpec) -> usize {
    let width = |heads: glimmer_tensor::Heads| heads.k_width() + heads.v_width();
    spec.layers.iter().map(|layer| width(layer.attention.heads())).sum()
}

impl PrefixEncoder {
    /// Reads what a prefix is computed from, at a place as [`super::Adapter::read`] takes it.
    ///
    /// # Errors
    /// Those of [`super::Adapter::read`].
    pub fn open(path: &Path, spec: &DecoderSpec) -> Result<Self, ModelError> {
        let directory = directory_of(path);
        let object = |name: &str| file::read_object(&directory.join(name)).map_err(super::file_error);
        if let Some(config) = object(peft::CONFIG)? {
            return peft_prefix::read(directory, &config, spec);
        }
        match object("config.json")?.filter(|config| config.get(LENGTH).is_some()) {
            Some(config) => PrefixEncoder::read(path, &config, spec),
            None => Err(refused(
                path,
                "no prefix: neither adapter_config.json nor a config.json with pre_seq_len",
            )),
        }
    }

    /// Reads ChatGLM's checkpoint of a prefix: `config` is its `config.json`.
    pub(super) fn read(path: &Path, config: &Value, spec: &DecoderSpec) -> Result<Self, ModelError> {
        let whole = |n: &Value| n.as_u64().and_then(|n| usize::try_from(n).ok());
        let Some(slots) = config.get(LENGTH).and_then(whole).filter(|n| (1..=spec.context).contains(n))
        else {
            let what = format!("config.json: {LENGTH} is not between 1 and the context of {}", spec.context);
            return Err(refused(path, what));
        };
        let projected = config.get(PROJECTION).and_then(Value::as_bool).unwrap_or(false);
        let checkpoint = Checkpoint::open(path)?;
        let known: &[&str] = if projected { &TRANSFORM } else { &[] };
        let name =
            |info: &TensorInfo| info.name.strip_prefix("transformer.").unwrap_or(&info.name).to_owned();
        let is_known = |name: &str| {
            let own = name.strip_prefix("prefix_encoder.");
            own.is_some_and(|own| own == EMBEDDING || known.contains(&own))
        };
        let foreign = checkpoint.foreign().map(|tensor| tensor.name.clone());
        let unknown = checkpoint.tensors().iter().filter(|info| !is_known(&name(info)));
        if let Some(unknown) = unknown.map(|info| info.name.clone()).chain(foreign).next() {
            let what = format!(
                "tensor `{}` is no part of a prefix ({PROJECTION} is {projected}); only transformer.prefix_encoder.* is read",
                Quoted(&unknown)
            );
            return Err(refused(path, what));
        }
        let tensor = |own: &str, shape: &[Option<usize>]| {
            let full = format!("prefix_encoder.{own}");
            let Some(info) = checkpoint.tensors().iter().find(|info| name(info) == full) else {
                return Err(refused(path, format!("tensor `{MODULE}{own}` is missing")));
            };
            let free =
                |(at, len): (usize, &Option<usize>)| len.or_else(|| info.shape.get(at).copied()).unwrap_or(0);
            let shape: Vec<usize> = shape.iter().enumerate().map(free).collect();
            Ok((values(&checkpoint, info, &shape)?, shape))
        };
        let kv = kv_width(spec);
        if !projected {
            let (embedding, _) = tensor(EMBEDDING, &[Some(slots), Some(kv)])?;
            return Ok(PrefixEncoder { slots, shifts_positions: false, embedding, projection: None });
        }
        let (embedding, shape) = tensor(EMBEDDING, &[Some(slots), None])?;
        let (inner, shape) = tensor(TRANSFORM[0], &[None, Some(shape[1])])?;
        let middle = shape[0];
        let (inner_bias, _) = tensor(TRANSFORM[1], &[Some(middle)])?;
        let (outer, _) = tensor(TRANSFORM[2], &[Some(kv), Some(middle)])?;
        let (outer_bias, _) = tensor(TRANSFORM[3], &[Some(kv)])?;
        let projection = Some(PrefixProjection { inner, inner_bias, outer, outer_bias });
        Ok(PrefixEncoder { slots, shifts_positions: false, embedding, projection })
    }

    /// The keys and values `[slots, kv_width]`.
    pub(super) fn encoded(&self) -> Vec<f32> {
        let Some(PrefixProjection { inner, inner_bias, outer, outer_bias }) = &self.projection else {
            return self.embedding.clone();
        };
        let width = self.embedding.len() / self.slots;
        let rows = self.embedding.chunks_exact(width);
        let hidden = rows.map(|row| {
            let mut hidden = product(inner, inner_bias, row);
            hidden.iter_mut().for_each(|v| *v = v.tanh());
            hidden
        });
        hidden.flat_map(|hidden| product(outer, outer_bias, &hidden)).collect()
    }

    /// Keys and values by layer.
    pub fn prefix(&self, spec: &DecoderSpec) -> Prefix {
        let encoded = self.encoded();
        let width = kv_width(spec);
        let mut first = 0;
        let layers = spec.layers.iter().map(|layer| {
            let heads = layer.attention.heads();
            let mut take = |len: usize| {
                first += len;
                let rows = encoded.chunks_exact(width);
                rows.flat_map(|row| &row[first - len..first]).copied().collect()
            };
            PrefixLayer { keys: take(heads.k_width()), values: take(heads.v_width()) }
        });
        Prefix { slots: self.slots, shifts_positions: self.shifts_positions, layers: layers.collect() }
    }

    /// Writes `config.json` and `model.safetensors` into a directory, which is made where it is not there: what
    /// [`super::Adapter::read`] reads, under the names of ChatGLM's code. One that shifts positions is written as PEFT
    /// has it, without what it was computed from: `adapter_config.json` and `adapter_model.safetensors`.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn write(&self, directory: &Path, spec: &DecoderSpec, base: &str) -> Result<(), ModelError> {
        if self.shifts_positions {
            return peft_prefix::write(directory, self, spec, base);
        }
        let mut tensors =
            vec![(EMBEDDING, self.embedding.as_slice(), vec![self.slots, self.embedding.len() / self.slots])];
        if let Some(PrefixProjection { inner, inner_bias, outer, outer_bias }) = &self.projection {
            let (middle, kv) = (inner_bias.len(), outer_bias.len());
            tensors.push((TRANSFORM[0], inner, vec![middle, inner.len() / middle]));
            tensors.push((TRANSFORM[1], inner_bias, vec![middle]));
            tensors.push((TRANSFORM[2], outer, vec![kv, middle]));
            tensors.push((TRANSFORM[3], outer_bias, vec![kv]));
        }
        let config = json!({LENGTH: self.slots, PROJECTION: self.projection.is_some()});
        let tensors =
            tensors.into_iter().map(|(own, values, shape)| (format!("{MODULE}{own}"), values, shape));
        write(directory, ("model.safetensors", tensors.collect()), ("config.json", &config))
    }
}

/// `W x + b` for `W` `[bias, x]`, summed in f64.
fn product(weights: &[f32], bias: &[f32], x: &[f32]) -> Vec<f32> {
    let dot = |row: &[f32]| row.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum::<f64>();
    weights.chunks_exact(x.len()).zip(bias).map(|(row, &b)| (dot(row) + f64::from(b)) as f32).collect()
}

/// A tensor to be written: name, values, shape.
pub(super) type NamedValues<'a> = (String, &'a [f32], Vec<usize>);

/// Writes tensors of f32 and a JSON file into a directory, each file complete or not at all.
pub(super) fn write(
    directory: &Path,
    (weights, tensors): (&str, Vec<NamedValues<'_>>),
    (settings, config): (&str, &Value),
) -> Result<(), ModelError> {
    use std::io::Write as _;
    std::fs::create_dir_all(directory).map_err(|e| refused(directory, format!("cannot be made: {e}")))?;
    let new = |(name, _, shape): &NamedValues<'_>| NewTensor {
        name: name.clone(),
        dtype: DType::F32,
        shape: shape.clone(),
    };
    let announced: Vec<NewTensor> = tensors.iter().map(new).collect();
    let mut file = SafetensorsFile::create(&directory.join(weights), &announced, &[("format", "pt")])?;
    for (name, values, _) in &tensors {
        file.write(name, &little_endian(values))?;
    }
    file.finish()?;
    let path = directory.join(settings);
    let mut file = OutputFile::create(&path)?;
    writeln!(file, "{config:#}").map_err(|e| refused(&path, format!("cannot be written: {e}")))?;
    file.finish()?;
    Ok(())
}
