//! `PREFIX_TUNING` as PEFT keeps it: see [`super::prefix`] for where things lie.
//!
//! Source: PEFT 0.21.2, `tuners/prefix_tuning/{config,model}.py`, `peft_model.py`.

use std::path::Path;

use glimmer_config::Quoted;
use glimmer_tensor::Heads;
use serde_json::{Value, json};

use super::peft::{CONFIG, WEIGHTS, open_weights};
use super::prefix::{PrefixEncoder, kv_width, write as write_files};
use super::{refused, values};
use crate::{DecoderSpec, ModelError};

/// The one tensor.
const TENSOR: &str = "prompt_embeddings";

/// The heads of every layer: PEFT has one number for all, and as many columns of values as of keys.
fn heads(spec: &DecoderSpec) -> Option<Heads> {
    let mut all = spec.layers.iter().map(|layer| layer.attention.heads());
    let first = all.next().filter(|heads| heads.k_width() == heads.v_width())?;
    all.all(|heads| heads.k_width() == first.k_width() && heads.v_width() == first.v_width()).then_some(first)
}

/// Reads a prefix; `config` is its `adapter_config.json`.
pub(super) fn read(
    directory: &Path,
    config: &Value,
    spec: &DecoderSpec,
) -> Result<PrefixEncoder, ModelError> {
    let wrong = |what: String| Err(refused(&directory.join(CONFIG), what));
    let kind = config.get("peft_type").and_then(Value::as_str).unwrap_or("none");
    if kind != "PREFIX_TUNING" {
        return wrong(format!("peft_type is {}; a prefix is PREFIX_TUNING", Quoted(kind)));
    }
    let number = |key: &str| config.get(key).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
    let Some(slots) = number("num_virtual_tokens").filter(|n| (1..=spec.context).contains(n)) else {
        return wrong(format!("num_virtual_tokens is not between 1 and the context of {}", spec.context));
    };
    let Some(heads) = heads(spec) else {
        return wrong("PREFIX_TUNING is for models whose layers are all alike".to_owned());
    };
    let expected = [
        ("num_layers", spec.layers.len()),
        ("token_dim", heads.k_width()),
        ("num_attention_heads", heads.kv_heads),
        ("num_transformer_submodules", 1),
    ];
    for (key, expected) in expected {
        if number(key).is_some_and(|found| found != expected) {
            let what =
                format!("{key} is {}, the model needs {expected}; is it for another model?", config[key]);
            return wrong(what);
        }
    }
    let (path, checkpoint) = open_weights(directory)?;
    if let Some(other) = checkpoint.tensors().iter().find(|info| info.name != TENSOR) {
        let what = format!("tensor `{}` is no part of a prefix; {TENSOR} is all of it", Quoted(&other.name));
        return Err(refused(&path, what));
    }
    let Some(info) = checkpoint.tensors().first() else {
        return Err(refused(&path, format!("tensor `{TENSOR}` is missing")));
    };
    let embedding = values(&checkpoint, info, &[slots, kv_width(spec)])?;
    Ok(PrefixEncoder { slots, shifts_positions: true, embedding, projection: None })
}

/// Writes `adapter_config.json` and `adapter_model.safetensors`.
pub(super) fn write(
    directory: &Path,
    encoder: &PrefixEncoder,
    spec: &DecoderSpec,
    base: &str,
) -> Result<(), ModelError> {
    let what = "PREFIX_TUNING is for models whose layers are all alike";
    let heads = heads(spec).ok_or_else(|| refused(directory, what))?;
    let config = json!({
        "peft_type": "PREFIX_TUNING",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "inference_mode": true,
        "num_virtual_tokens": encoder.slots,
        "token_dim": heads.k_width(),
        "num_transformer_submodules": 1,
        "num_attention_heads": heads.kv_heads,
        "num_layers": spec.layers.len(),
        "encoder_hidden_size": heads.k_width(),
        // What is stored is behind a projection.
        "prefix_projection": false,
    });
    let encoded = encoder.encoded();
    let shape = vec![encoder.slots, encoded.len() / encoder.slots];
    let tensors = vec![(TENSOR.to_owned(), encoded.as_slice(), shape)];
    write_files(directory, (WEIGHTS[0], tensors), (CONFIG, &config))
}
