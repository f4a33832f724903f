//! From a checkpoint's own configuration to a [`DecoderSpec`].
//!
//! All the naming quirks of the layouts end here. Sources: `configuration_chatglm.py` of ChatGLM-6B, ChatGLM2/3 and
//! GLM-4-9B; transformers' `configuration_glm.py` and `configuration_glm4.py`; llama.cpp's `conversion/chatglm.py`
//! and `conversion/glm.py` for the GGUF keys.

use std::fmt::Display;

use glimmer_checkpoint::{Checkpoint, gguf};
use glimmer_tensor::{Heads, NormKind};
use serde_json::Value;

use crate::names::Layout;
use crate::rope::{self, Yarn};
use crate::{Block, DecoderSpec, Family, Mlp, ModelError, Positions, family};

/// What this crate can read, for error messages.
const KNOWN: &str = "ChatGLMModel (ChatGLM-6B, ChatGLM2/3-6B, GLM-4-9B), GlmForCausalLM (GLM-4-9B-hf, GLM-Edge), \
    Glm4ForCausalLM (GLM-4-0414, GLM-Z1) and GGUF architectures chatglm, glm4, chatglm-6b";

/// GGUF architecture of ChatGLM-6B, which llama.cpp does not know; the name is Glimmer's own.
pub const GGUF_CHATGLM_6B: &str = "chatglm-6b";

/// The spec, where its tensors are, and what looked odd on the way.
#[derive(Clone, Debug)]
pub struct Understood {
    /// The facts.
    pub spec: DecoderSpec,
    /// Which names its tensors have.
    pub layout: Layout,
    /// YaRN's parameters, where `spec.rope` was computed with them.
    pub yarn: Option<Yarn>,
    /// One line each, for people.
    pub warnings: Vec<String>,
}

/// Reads a checkpoint's configuration. `family` overrides what would be detected.
///
/// # Errors
/// When the configuration is missing, contradictory, of a foreign architecture, or fits two generations that differ.
pub fn understand(checkpoint: &Checkpoint, family: Option<Family>) -> Result<Understood, ModelError> {
    let mut understood = if let Some(metadata) = checkpoint.metadata() {
        let file = checkpoint.path().display().to_string();
        from_gguf(&Keys { file, source: Source::Gguf(metadata) }, checkpoint, family)?
    } else {
        let file = checkpoint.path().join("config.json").display().to_string();
        let Some(config) = checkpoint.config() else {
            return Err(ModelError::Config {
                file,
                message: "not found; it says what the model is".to_owned(),
            });
        };
        from_json(&Keys { file, source: Source::Json(config) }, config, checkpoint, family)?
    };
    check(&understood, checkpoint)?;
    crate::catalogue::cross_check(&mut understood, checkpoint.metadata().is_some());
    Ok(understood)
}

/// Bounds that keep every later product far from overflow.
fn check(understood: &Understood, checkpoint: &Checkpoint) -> Result<(), ModelError> {
    let spec = &understood.spec;
    let refuse =
        |message: String| Err(ModelError::Config { file: checkpoint.path().display().to_string(), message });
    for (what, value, most) in [
        ("layers", spec.layers, 1 << 10),
        ("hidden size", spec.hidden, 1 << 16),
        ("feed-forward size", spec.ffn, 1 << 20),
        ("vocabulary", spec.vocab, 1 << 22),
        ("attention heads", spec.heads.heads, 1 << 10),
        ("head size", spec.heads.head_dim, 1 << 12),
        ("context length", spec.context, 1 << 30),
    ] {
        if value == 0 || value > most {
            return refuse(format!("{what} is {value}; between 1 and {most} is possible"));
        }
    }
    let Heads { heads, kv_heads, head_dim, .. } = spec.heads;
    if kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
        return refuse(format!("{heads} attention heads cannot share {kv_heads} key/value heads"));
    }
    if spec.rope.sections.iter().any(|s| s.first_dim + 2 * s.inv_freq.len() > head_dim) {
        return refuse(format!("the rotary embedding is wider than a head of {head_dim}"));
    }
    if !(spec.eps.is_finite() && spec.eps > 0.0) {
        return refuse(format!("norm epsilon is {}", spec.eps));
    }
    let finite = spec.rope.sections.iter().flat_map(|s| &s.inv_freq).all(|f| f.is_finite());
    if !finite || !spec.rope.magnitude.is_finite() {
        return refuse(format!("rotary base {} gives frequencies that are not finite", spec.rope_base));
    }
    Ok(())
}

/// Where keys are looked up.
enum Source<'a> {
    Json(&'a Value),
    Gguf(&'a gguf::Metadata),
}

/// Typed look-ups whose errors name file and key.
struct Keys<'a> {
    file: String,
    source: Source<'a>,
}

impl Keys<'_> {
    fn error(&self, message: impl Display) -> ModelError {
        ModelError::Config { file: self.file.clone(), message: message.to_string() }
    }

    /// A number, or `None` where the key is absent or null.
    fn number(&self, key: &str) -> Result<Option<f64>, ModelError> {
        match self.source {
            Source::Json(config) => match config.get(key) {
                None | Some(Value::Null) => Ok(None),
                Some(v) => {
                    v.as_f64().map(Some).ok_or_else(|| self.error(format!("{key} is {v}, not a number")))
                }
            },
            Source::Gguf(metadata) => match metadata.value(key) {
                None => Ok(None),
                Some(gguf::Value::F32(v)) => Ok(Some(f64::from(*v))),
                Some(gguf::Value::F64(v)) => Ok(Some(*v)),
                Some(_) => Ok(metadata.get::<u64>(key)?.map(|v| v as f64)),
            },
        }
    }

    fn optional(&self, key: &str) -> Result<Option<usize>, ModelError> {
        match self.number(key)? {
            None => Ok(None),
            Some(n) if n >= 0.0 && n <= f64::from(u32::MAX) && n.fract() == 0.0 => Ok(Some(n as usize)),
            Some(n) => Err(self.error(format!("{key} is {n}, not a size"))),
        }
    }

    fn size(&self, key: &str) -> Result<usize, ModelError> {
        self.optional(key)?.ok_or_else(|| self.error(format!("{key} is missing")))
    }

    fn float(&self, key: &str, default: f64) -> Result<f64, ModelError> {
        Ok(self.number(key)?.unwrap_or(default))
    }

    fn flag(&self, key: &str, default: bool) -> bool {
        match self.source {
            Source::Json(config) => config.get(key).and_then(Value::as_bool).unwrap_or(default),
            Source::Gguf(metadata) => metadata.get(key).ok().flatten().unwrap_or(default),
        }
    }

    /// Refuses a setting that no published checkpoint has and that would change the computation.
    fn insist(&self, key: &str, wanted: bool) -> Result<(), ModelError> {
        if self.flag(key, wanted) == wanted {
            return Ok(());
        }
        Err(self.error(format!("{key} = {} is not supported", !wanted)))
    }
}

fn from_json(
    keys: &Keys<'_>,
    config: &Value,
    checkpoint: &Checkpoint,
    family: Option<Family>,
) -> Result<Understood, ModelError> {
    let text = |key: &str| config.get(key).and_then(Value::as_str).unwrap_or("");
    let architecture = config
        .get("architectures")
        .and_then(Value::as_array)
        .and_then(|a| a.first())
        .and_then(Value::as_str)
        .unwrap_or("");
    match (architecture, text("model_type")) {
        ("ChatGLMModel" | "ChatGLMForConditionalGeneration", _) | ("", "chatglm") => {
            if config.get("vision_config").is_some_and(|v| !v.is_null()) {
                return Err(keys.error("a vision tower (vision_config) is not supported yet"));
            }
            if keys.flag("position_encoding_2d", false) || config.get("inner_hidden_size").is_some() {
                chatglm_6b(keys)
            } else {
                chatglm(keys, family::of_chatglm(config, checkpoint, family)?)
            }
        }
        ("GlmForCausalLM", _) | ("", "glm") => {
            // ChatGLM2 and ChatGLM3 converted to this class keep their conversation's form, and say so by name.
            let named = text("_name_or_path").rsplit('/').next().and_then(family::by_name);
            let edge = keys.size("vocab_size")? == 59264;
            let found = if edge { Family::GlmEdge } else { named.unwrap_or(Family::Glm4) };
            hf(keys, config, family.unwrap_or(found), Block::PreNorm)
        }
        ("Glm4ForCausalLM", _) | ("", "glm4") => {
            hf(keys, config, family.unwrap_or(Family::Glm40414), Block::Sandwich)
        }
        (architecture, model_type) => Err(ModelError::Architecture {
            file: keys.file.clone(),
            found: format!("{architecture:?} (model_type {model_type:?})"),
            known: KNOWN,
        }),
    }
}

/// ChatGLM-6B: `configuration_chatglm.py` of THUDM/chatglm-6b.
fn chatglm_6b(keys: &Keys<'_>) -> Result<Understood, ModelError> {
    keys.insist("position_encoding_2d", true)?;
    if keys.optional("pre_seq_len")?.is_some_and(|n| n > 0) {
        return Err(keys.error("pre_seq_len: a P-Tuning v2 prefix is not supported yet"));
    }
    let hidden = keys.size("hidden_size")?;
    let heads = keys.size("num_attention_heads")?.max(1);
    let head_dim = hidden / heads;
    let sop = keys.size("bos_token_id")?;
    // The first release does not name the mask tokens; they precede <sop> by three and four in both vocabularies.
    let gmask = keys.optional("gmask_token_id")?.unwrap_or(sop.saturating_sub(3));
    let mask = keys.optional("mask_token_id")?.unwrap_or(sop.saturating_sub(4));
    let spec = DecoderSpec {
        family: Family::ChatGlm6b,
        layers: keys.size("num_layers")?,
        hidden,
        ffn: keys.size("inner_hidden_size")?,
        vocab: keys.size("vocab_size")?,
        heads: Heads::new(heads, heads, head_dim),
        block: Block::ScaledNormed { alpha: 56f32.sqrt() },
        norm: NormKind::Layer,
        eps: keys.float("layernorm_epsilon", 1e-5)? as f32,
        mlp: Mlp::Gelu,
        qkv_bias: true,
        linear_bias: true,
        tied: keys.flag("tie_word_embeddings", true),
        rope: rope::chatglm_6b(head_dim),
        rope_base: 10_000.0,
        positions: Positions::ChatGlm6b { gmask: gmask as u32, mask: mask as u32, sop: sop as u32 },
        context: keys.optional("max_sequence_length")?.unwrap_or(2048),
    };
    Ok(Understood { spec, layout: Layout::ChatGlm6b, yarn: None, warnings: Vec::new() })
}

/// ChatGLM2/3 and GLM-4-9B in their original layout: `configuration_chatglm.py` of THUDM/glm-4-9b-chat.
fn chatglm(keys: &Keys<'_>, detected: family::Detected) -> Result<Understood, ModelError> {
    keys.insist("rmsnorm", true)?;
    keys.insist("original_rope", true)?;
    keys.insist("post_layer_norm", true)?;
    keys.insist("apply_residual_connection_post_layernorm", false)?;
    if keys.optional("pre_seq_len")?.is_some_and(|n| n > 0) {
        return Err(keys.error("pre_seq_len: a P-Tuning v2 prefix is not supported yet"));
    }
    let hidden = keys.size("hidden_size")?;
    let heads = keys.size("num_attention_heads")?.max(1);
    let head_dim = keys.optional("kv_channels")?.unwrap_or(hidden / heads);
    let kv_heads =
        if keys.flag("multi_query_attention", false) { keys.size("multi_query_group_num")? } else { heads };
    let ratio = keys.float("rope_ratio", 1.0)?;
    if !(ratio.is_finite() && ratio > 0.0) {
        return Err(keys.error(format!("rope_ratio is {ratio}")));
    }
    let (base, divisor) = match detected.family {
        Family::ChatGlm2 | Family::CodeGeex2 => (10_000.0, ratio as f32),
        _ => (10_000.0 * ratio, 1.0),
    };
    let linear_bias = keys.flag("add_bias_linear", false);
    let spec = DecoderSpec {
        family: detected.family,
        layers: keys.size("num_layers")?,
        hidden,
        ffn: keys.size("ffn_hidden_size")?,
        vocab: keys.size("padded_vocab_size")?,
        heads: Heads::new(heads, kv_heads, head_dim),
        block: Block::PreNorm,
        norm: NormKind::Rms,
        eps: keys.float("layernorm_epsilon", 1e-5)? as f32,
        mlp: Mlp::SwiGlu,
        qkv_bias: keys.flag("add_qkv_bias", false) || linear_bias,
        linear_bias,
        tied: keys.flag("tie_word_embeddings", false),
        rope: rope::interleaved(rope::inv_freq(base, head_dim / 2), 1.0),
        rope_base: base,
        positions: Positions::Sequential { divisor },
        context: keys.optional("seq_length")?.unwrap_or(2048),
    };
    Ok(Understood { spec, layout: Layout::ChatGlm, yarn: None, warnings: detected.warnings })
}

/// Transformers' own classes, in the hub's old key style (top-level `rope_theta`) and the new (`rope_parameters`).
fn hf(keys: &Keys<'_>, config: &Value, family: Family, block: Block) -> Result<Understood, ModelError> {
    if let Some(act) = config.get("hidden_act").and_then(Value::as_str).filter(|a| *a != "silu") {
        return Err(keys.error(format!("hidden_act {act:?} is not supported")));
    }
    let hidden = keys.size("hidden_size")?;
    let heads = keys.size("num_attention_heads")?.max(1);
    let head_dim = keys.optional("head_dim")?.unwrap_or(hidden / heads);
    let object = |key: &str| config.get(key).filter(|v| v.is_object());
    let scaling = object("rope_parameters").or_else(|| object("rope_scaling"));
    let nested = |key: &str| -> Result<Option<f64>, ModelError> {
        match scaling.and_then(|s| s.get(key)) {
            None | Some(Value::Null) => keys.number(key),
            Some(v) => v.as_f64().map(Some).ok_or_else(|| keys.error(format!("{key} is {v}, not a number"))),
        }
    };
    let base = nested("rope_theta")?.unwrap_or(10_000.0);
    let dims = rotary_dims(head_dim, nested("partial_rotary_factor")?.unwrap_or(0.5));
    let context = keys.optional("max_position_embeddings")?.unwrap_or(131_072);
    let kind = scaling.and_then(|s| s.get("rope_type").or_else(|| s.get("type"))).and_then(Value::as_str);
    let (rope, divisor, yarn) = match kind {
        None | Some("default") => (rope::interleaved(rope::inv_freq(base, dims), 1.0), 1.0, None),
        Some("linear") => {
            let factor = nested("factor")?.unwrap_or(1.0);
            (rope::interleaved(rope::inv_freq(base, dims), 1.0), factor as f32, None)
        }
        Some("yarn") => {
            let original_context = nested("original_max_position_embeddings")?.unwrap_or(context as f64);
            let yarn = Yarn {
                factor: nested("factor")?.unwrap_or(context as f64 / original_context),
                original_context,
                beta_fast: nested("beta_fast")?.filter(|b| *b != 0.0).unwrap_or(32.0),
                beta_slow: nested("beta_slow")?.filter(|b| *b != 0.0).unwrap_or(1.0),
                attention_factor: nested("attention_factor")?,
                truncate: scaling.and_then(|s| s.get("truncate")).and_then(Value::as_bool).unwrap_or(true),
            };
            let (inv_freq, magnitude) = rope::yarn(base, dims, &yarn);
            (rope::interleaved(inv_freq, magnitude), 1.0, Some(yarn))
        }
        Some(kind) => return Err(keys.error(format!("rope type {kind:?} is not supported"))),
    };
    let spec = DecoderSpec {
        family,
        layers: keys.size("num_hidden_layers")?,
        hidden,
        ffn: keys.size("intermediate_size")?,
        vocab: keys.size("vocab_size")?,
        heads: Heads::new(heads, keys.optional("num_key_value_heads")?.unwrap_or(heads), head_dim),
        block,
        norm: NormKind::Rms,
        eps: keys.float("rms_norm_eps", 1.5625e-7)? as f32,
        mlp: Mlp::SwiGlu,
        qkv_bias: keys.flag("attention_bias", false),
        linear_bias: false,
        tied: keys.flag("tie_word_embeddings", false),
        rope,
        rope_base: base,
        positions: Positions::Sequential { divisor },
        context,
    };
    Ok(Understood { spec, layout: Layout::Hf, yarn, warnings: Vec::new() })
}

/// Rotated elements of a head: Python's `int(head_dim * factor)`.
pub(crate) fn rotary_dims(head_dim: usize, factor: f64) -> usize {
    (head_dim as f64 * factor.clamp(0.0, 1.0)) as usize
}

fn from_gguf(
    keys: &Keys<'_>,
    checkpoint: &Checkpoint,
    family: Option<Family>,
) -> Result<Understood, ModelError> {
    let metadata = checkpoint.metadata().ok_or_else(|| keys.error("no metadata"))?;
    let arch = metadata.need::<&str>("general.architecture")?.to_owned();
    let block = match arch.as_str() {
        "chatglm" => Block::PreNorm,
        "glm4" => Block::Sandwich,
        GGUF_CHATGLM_6B => Block::ScaledNormed { alpha: 56f32.sqrt() },
        _ => {
            return Err(ModelError::Architecture {
                file: keys.file.clone(),
                found: format!("{arch:?}"),
                known: KNOWN,
            });
        }
    };
    let key = |name: &str| format!("{arch}.{name}");
    if metadata.value(&key("rope.dimension_sections")).is_some() {
        return Err(
            keys.error("rope.dimension_sections: the text part of a vision model is not supported yet")
        );
    }
    let hidden = keys.size(&key("embedding_length"))?;
    let heads = keys.size(&key("attention.head_count"))?.max(1);
    let head_dim = keys.optional(&key("attention.key_length"))?.unwrap_or(hidden / heads);
    let vocab = checkpoint
        .info("token_embd.weight")
        .and_then(|t| t.shape.first().copied())
        .ok_or_else(|| keys.error("tensor token_embd.weight is missing"))?;
    let has = |name: &str| checkpoint.info(name).is_some();
    let layers = keys.size(&key("block_count"))?
        - keys.optional(&key("nextn_predict_layers"))?.unwrap_or(0).min(keys.size(&key("block_count"))?);
    let context = keys.size(&key("context_length"))?;
    let base = keys.float(&key("rope.freq_base"), 10_000.0)?;
    let common = DecoderSpec {
        family: Family::ChatGlm6b,
        layers,
        hidden,
        ffn: keys.size(&key("feed_forward_length"))?,
        vocab,
        heads: Heads::new(heads, keys.optional(&key("attention.head_count_kv"))?.unwrap_or(heads), head_dim),
        block,
        norm: NormKind::Rms,
        eps: 0.0,
        mlp: Mlp::SwiGlu,
        qkv_bias: has("blk.0.attn_qkv.bias") || has("blk.0.attn_q.bias"),
        linear_bias: has("blk.0.ffn_down.bias"),
        tied: true,
        rope: rope::interleaved(Vec::new(), 1.0),
        rope_base: base,
        positions: Positions::Sequential { divisor: 1.0 },
        context,
    };
    let layout = Layout::Gguf;
    if arch == GGUF_CHATGLM_6B {
        let token = |name: &str| Ok::<u32, ModelError>(keys.size(&key(name))? as u32);
        let spec = DecoderSpec {
            norm: NormKind::Layer,
            eps: keys.float(&key("attention.layer_norm_epsilon"), 1e-5)? as f32,
            mlp: Mlp::Gelu,
            rope: rope::chatglm_6b(head_dim),
            positions: Positions::ChatGlm6b {
                gmask: token("gmask_token_id")?,
                mask: token("mask_token_id")?,
                sop: token("sop_token_id")?,
            },
            ..common
        };
        return Ok(Understood { spec, layout, yarn: None, warnings: Vec::new() });
    }
    let dims = keys.optional(&key("rope.dimension_count"))?.unwrap_or(head_dim);
    let (rope, divisor, yarn) = gguf_rope(keys, metadata, &key, base, dims, context)?;
    let detected = match (family, arch.as_str()) {
        (Some(family), _) => family::Detected { family, warnings: Vec::new() },
        (None, "glm4") => family::Detected { family: Family::Glm40414, warnings: Vec::new() },
        (None, _) => family::of_gguf(metadata, vocab),
    };
    let spec = DecoderSpec {
        family: detected.family,
        eps: keys.float(&key("attention.layer_norm_rms_epsilon"), 1e-5)? as f32,
        rope,
        positions: Positions::Sequential { divisor },
        ..common
    };
    Ok(Understood { spec, layout, yarn, warnings: detected.warnings })
}

/// llama.cpp's rope scaling keys.
fn gguf_rope(
    keys: &Keys<'_>,
    metadata: &gguf::Metadata,
    key: &dyn Fn(&str) -> String,
    base: f64,
    dims: usize,
    context: usize,
) -> Result<(glimmer_tensor::Rope, f32, Option<Yarn>), ModelError> {
    let plain = || rope::interleaved(rope::inv_freq(base, dims), 1.0);
    let factor = keys.float(&key("rope.scaling.factor"), 1.0)?;
    match metadata.get::<&str>(&key("rope.scaling.type"))? {
        None | Some("none") => Ok((plain(), 1.0, None)),
        Some("linear") => Ok((plain(), factor as f32, None)),
        Some("yarn") => {
            let mut yarn = Yarn {
                factor,
                original_context: keys.float(&key("rope.scaling.original_context_length"), context as f64)?,
                beta_fast: keys.float(&key("rope.scaling.yarn_beta_fast"), 32.0)?,
                beta_slow: keys.float(&key("rope.scaling.yarn_beta_slow"), 1.0)?,
                attention_factor: None,
                truncate: true,
            };
            let (inv_freq, mut magnitude) = rope::yarn(base, dims, &yarn);
            // llama.cpp multiplies its own factor by this one, where transformers' replaces it.
            if let Some(extra) = keys.number(&key("rope.scaling.attn_factor"))? {
                magnitude *= extra as f32;
                yarn.attention_factor = Some(magnitude.into());
            }
            Ok((rope::interleaved(inv_freq, magnitude), 1.0, Some(yarn)))
        }
        Some(kind) => Err(keys.error(format!("rope scaling {kind:?} is not supported"))),
    }
}
