//! The published models' shapes and what they were trained with, to catch files that say something else.
//!
//! Published files are known to be wrong: GLM-Edge GGUFs made by llama.cpp's converter carry their width as context
//! length, and a revision of `glm-4-9b-chat-hf` carries `rope_theta` 10000 where the model needs 5e6.

use glimmer_tensor::Heads;
use serde_json::{Value, json};

use crate::config::Understood;
use crate::{Attention, DecoderSpec, Family, FeedForward};

/// A published model: what identifies it and what must hold for it. Heads have 128 elements in all of them.
struct Known {
    name: &'static str,
    family: Family,
    /// layers, hidden, heads, ffn
    shape: [usize; 4],
    kv_heads: usize,
    vocab: usize,
    rope_base: f64,
    context: usize,
}

#[allow(clippy::too_many_arguments, reason = "each is a column of the table")]
const fn known(
    name: &'static str,
    family: Family,
    shape: [usize; 4],
    kv_heads: usize,
    vocab: usize,
    rope_base: f64,
    context: usize,
) -> Known {
    Known { name, family, shape, kv_heads, vocab, rope_base, context }
}

/// Sources: the published `config.json` of each model.
const CATALOGUE: [Known; 11] = [
    known("chatglm-6b", Family::ChatGlm6b, [28, 4096, 32, 16384], 32, 130_528, 1e4, 2048),
    known("chatglm2-6b", Family::ChatGlm2, [28, 4096, 32, 13696], 2, 65_024, 1e4, 32768),
    known("chatglm3-6b", Family::ChatGlm3, [28, 4096, 32, 13696], 2, 65_024, 1e4, 8192),
    known("glm-4-9b-chat", Family::Glm4, [40, 4096, 32, 13696], 2, 151_552, 5e6, 131_072),
    known("glm-4-9b-chat-1m", Family::Glm4, [40, 4096, 32, 13696], 4, 151_552, 1e8, 1_048_576),
    known("glm-4-9b", Family::Glm4, [40, 4096, 32, 13696], 2, 151_552, 1e4, 8192),
    known("glm-edge-1.5b-chat", Family::GlmEdge, [28, 2048, 16, 6144], 4, 59_264, 1e4, 8192),
    known("glm-edge-4b-chat", Family::GlmEdge, [40, 3072, 24, 8192], 6, 59_264, 1e4, 8192),
    known("glm-4-9b-0414", Family::Glm40414, [40, 4096, 32, 13696], 2, 151_552, 1e4, 32768),
    known("glm-4-32b-0414", Family::Glm40414, [61, 6144, 48, 23040], 2, 151_552, 1e4, 32768),
    known("codegeex2-6b", Family::CodeGeex2, [28, 4096, 32, 13696], 2, 65_024, 1e4, 8192),
];

/// The names of the published models whose shapes are known.
pub fn published_names() -> impl Iterator<Item = &'static str> {
    CATALOGUE.iter().map(|known| known.name)
}

/// What the `config.json` of a published model says, as far as it matters to [`crate::understand`] and to the end of
/// an answer: the original repository's keys where it has a class of its own.
pub fn published_config(name: &str) -> Option<Value> {
    let known = CATALOGUE.iter().find(|known| known.name == name)?;
    let [layers, hidden, heads, ffn] = known.shape;
    let own = match known.family {
        Family::ChatGlm6b => json!({
            "architectures": ["ChatGLMModel"],
            "model_type": "chatglm",
            "num_layers": layers,
            "inner_hidden_size": ffn,
            "vocab_size": known.vocab,
            "layernorm_epsilon": 1e-5,
            "max_sequence_length": known.context,
            "position_encoding_2d": true,
            "mask_token_id": 130_000,
            "gmask_token_id": 130_001,
            "bos_token_id": 130_004,
            "eos_token_id": 130_005,
            "pad_token_id": 3,
            // The published file does not say; its head is stored.
            "tie_word_embeddings": false,
        }),
        Family::ChatGlm2 | Family::CodeGeex2 | Family::ChatGlm3 | Family::Glm4 => {
            let glm4 = known.family == Family::Glm4;
            json!({
                "architectures": ["ChatGLMModel"],
                "model_type": "chatglm",
                "num_layers": layers,
                "ffn_hidden_size": ffn,
                "kv_channels": hidden / heads,
                "multi_query_attention": true,
                "multi_query_group_num": known.kv_heads,
                "padded_vocab_size": known.vocab,
                "add_qkv_bias": true,
                "add_bias_linear": false,
                "rmsnorm": true,
                "original_rope": true,
                "post_layer_norm": true,
                "apply_residual_connection_post_layernorm": false,
                "layernorm_epsilon": if glm4 { 1.5625e-7 } else { 1e-5 },
                "rope_ratio": known.rope_base / 1e4,
                "seq_length": known.context,
                "tie_word_embeddings": false,
                "eos_token_id": if glm4 { json!([151_329, 151_336, 151_338]) } else { json!(2) },
                "pad_token_id": if glm4 { 151_329 } else { 0 },
            })
        }
        // The later ones have transformers' own classes.
        _ => {
            let edge = known.family == Family::GlmEdge;
            json!({
                "architectures": [if edge { "GlmForCausalLM" } else { "Glm4ForCausalLM" }],
                "model_type": if edge { "glm" } else { "glm4" },
                "num_hidden_layers": layers,
                "intermediate_size": ffn,
                "num_key_value_heads": known.kv_heads,
                "head_dim": hidden / heads,
                "hidden_act": "silu",
                // Of these, only GLM-4-9B-0414 has biases on queries, keys and values.
                "attention_bias": known.name == "glm-4-9b-0414",
                "vocab_size": known.vocab,
                "rms_norm_eps": 1e-5,
                "rope_theta": known.rope_base,
                "partial_rotary_factor": if edge { 1.0 } else { 0.5 },
                "max_position_embeddings": known.context,
                // GLM-Edge-1.5B's says true; its head is stored nevertheless.
                "tie_word_embeddings": false,
                "eos_token_id": if edge { [59_246, 59_253, 59_255] } else { [151_329, 151_336, 151_338] },
                "pad_token_id": if edge { 59_246 } else { 151_329 },
            })
        }
    };
    let mut config = json!({ "_name_or_path": name, "hidden_size": hidden, "num_attention_heads": heads });
    if let (Some(config), Value::Object(own)) = (config.as_object_mut(), own) {
        config.extend(own);
    }
    Some(config)
}

/// The name of the published model with this family, shape and context, if any.
pub fn published_name(spec: &DecoderSpec) -> Option<&'static str> {
    candidates(spec).find(|k| k.context == spec.context && k.rope_base == spec.rope_base).map(|k| k.name)
}

fn candidates(spec: &DecoderSpec) -> impl Iterator<Item = &'static Known> {
    let Attention::Heads { heads, .. } = spec.layers[0].attention;
    let FeedForward::Dense { inner, .. } = spec.layers[0].feed_forward;
    let shape = [spec.layers.len(), spec.hidden, heads.heads, inner];
    let family = match spec.family {
        Family::GlmZ1 | Family::GlmZ1Rumination => Family::Glm40414,
        Family::Glm4v => Family::Glm4,
        family => family,
    };
    CATALOGUE.iter().filter(move |k| k.family == family && k.shape == shape)
}

/// Warns where a file contradicts every published model of its shape. A context length that a converter is known to
/// get wrong is put right; nothing else is changed.
pub(crate) fn cross_check(understood: &mut Understood, is_gguf: bool) {
    let Understood { spec, warnings, .. } = understood;
    let candidates: Vec<&Known> = candidates(spec).collect();
    if candidates.is_empty() {
        return;
    }
    let list = |of: &dyn Fn(&Known) -> String| {
        candidates.iter().map(|k| format!("{} {}", k.name, of(k))).collect::<Vec<_>>().join(", ")
    };
    let Attention::Heads { heads: Heads { kv_heads, .. }, .. } = spec.layers[0].attention;
    if candidates.iter().all(|k| k.kv_heads != kv_heads) {
        let expected = list(&|k| k.kv_heads.to_string());
        warnings.push(format!("{kv_heads} key/value heads; published: {expected}"));
    }
    if is_gguf && spec.family == Family::GlmEdge && spec.context == spec.hidden {
        warnings.push(format!(
            "context length {} is the model's width, a known fault of the converter; {} is used",
            spec.context, candidates[0].context
        ));
        spec.context = candidates[0].context;
    }
    // ChatGLM2/3 and their -32k and -128k forms change ratio and context together; only the plain ones are listed.
    if matches!(spec.family, Family::ChatGlm2 | Family::ChatGlm3 | Family::CodeGeex2) {
        return;
    }
    let fits = |k: &Known| k.context == spec.context && k.kv_heads == kv_heads;
    let same_context: Vec<&Known> = candidates.iter().copied().filter(|k| fits(k)).collect();
    if same_context.is_empty() {
        let expected = list(&|k| k.context.to_string());
        warnings.push(format!("context length {}; published: {expected}", spec.context));
    } else if same_context.iter().all(|k| k.rope_base != spec.rope_base) {
        warnings.push(format!(
            "rotary base {}; {} was trained with {}: long prompts will be wrong",
            spec.rope_base, same_context[0].name, same_context[0].rope_base
        ));
    }
}
