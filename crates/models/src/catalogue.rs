//! The published models' shapes and what they were trained with, to catch files that say something else.
//!
//! Published files are known to be wrong: GLM-Edge GGUFs made by llama.cpp's converter carry their width as context
//! length, and a revision of `glm-4-9b-chat-hf` carries `rope_theta` 10000 where the model needs 5e6.

use std::sync::OnceLock;

use glimmer_catalogue::{Catalogue, Experts, Latent, Shape};
use glimmer_tensor::Heads;
use serde_json::{Value, json};

use crate::config::Understood;
use crate::{DecoderSpec, Family};

/// A published model whose shape a decoder here has: what identifies it and what must hold for it.
struct Known {
    name: &'static str,
    family: Family,
    /// layers, hidden, heads, ffn
    shape: [usize; 4],
    kv_heads: usize,
    head_dim: usize,
    vocab: usize,
    qkv_bias: bool,
    rope_base: f64,
    context: usize,
    experts: Option<Experts>,
    /// Its heads are those of latent attention; `head_dim` is what is rotated of one.
    latent: Option<Latent>,
}

/// The families whose decoders are here and whose shapes the catalogue has.
const FAMILIES: [Family; 9] = [
    Family::ChatGlm6b,
    Family::ChatGlm2,
    Family::CodeGeex2,
    Family::ChatGlm3,
    Family::Glm4,
    Family::GlmEdge,
    Family::Glm40414,
    Family::Glm45,
    Family::Glm47,
];

/// The published models with a shape of their own in the catalogue, of the families that run here.
fn known() -> &'static [Known] {
    static KNOWN: OnceLock<Vec<Known>> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let own = Catalogue::published().models().filter_map(|(entry, model)| {
            let family = Family::from_name(&entry.family).filter(|family| FAMILIES.contains(family))?;
            Known::of(&model.name, family, model.shape.as_ref()?)
        });
        own.collect()
    })
}

impl Known {
    /// `None` where the catalogue's sources leave out what a decoder needs.
    fn of(name: &'static str, family: Family, shape: &Shape) -> Option<Self> {
        let latent = shape.latent.clone();
        // The configurations of models with experts promise biases, latent attention has none.
        let by_default = shape.experts.as_ref().map(|_| latent.is_none());
        Some(Known {
            name,
            family,
            shape: [shape.layers, shape.hidden, shape.heads, shape.ffn],
            kv_heads: if latent.is_some() { 1 } else { shape.kv_heads },
            head_dim: shape.head_dim.or(latent.as_ref().map(|latent| latent.rotated))?,
            vocab: shape.vocab,
            qkv_bias: shape.qkv_bias.or(by_default)?,
            rope_base: shape.rope_base?,
            context: shape.context?,
            experts: shape.experts.clone(),
            latent,
        })
    }
}

/// The names of the published models whose shapes are known and whose decoders are here.
pub fn published_names() -> impl Iterator<Item = &'static str> {
    known().iter().map(|known| known.name)
}

impl Known {
    /// What the `config.json` of a model with experts says; `None` where the catalogue's sources leave something out.
    fn config_of_experts(&self) -> Option<Value> {
        let (experts, is_latent) = (self.experts.as_ref()?, self.latent.is_some());
        let [layers, _, heads, ffn] = self.shape;
        let mut config = json!({
            "architectures": [if is_latent { "Glm4MoeLiteForCausalLM" } else { "Glm4MoeForCausalLM" }],
            "model_type": if is_latent { "glm4_moe_lite" } else { "glm4_moe" },
            "num_hidden_layers": layers,
            "intermediate_size": ffn,
            "num_key_value_heads": if is_latent { heads } else { self.kv_heads },
            "hidden_act": "silu",
            "attention_bias": self.qkv_bias,
            "vocab_size": self.vocab,
            "rms_norm_eps": 1e-5,
            "rope_theta": self.rope_base,
            "partial_rotary_factor": if is_latent { 1.0 } else { 0.5 },
            "max_position_embeddings": self.context,
            "tie_word_embeddings": false,
            "n_routed_experts": experts.count,
            "num_experts_per_tok": experts.per_token,
            "n_shared_experts": experts.shared,
            "moe_intermediate_size": experts.ffn?,
            "first_k_dense_replace": experts.dense_layers,
            "norm_topk_prob": true,
            "n_group": 1,
            "topk_group": 1,
            // 355B has norms of heads and another scale than the others.
            "use_qk_norm": self.shape[0] == 92,
            "routed_scaling_factor": match (is_latent, self.shape[0]) {
                (true, _) => 1.8,
                (false, 92) => 2.5,
                (false, _) => 1.0,
            },
        });
        let own = match &self.latent {
            None => json!({ "head_dim": self.head_dim }),
            Some(latent) => json!({
                "q_lora_rank": latent.queries,
                "kv_lora_rank": latent.keys_values,
                "qk_nope_head_dim": latent.plain?,
                "qk_rope_head_dim": latent.rotated,
                "v_head_dim": latent.values?,
            }),
        };
        config.as_object_mut()?.extend(own.as_object()?.clone());
        Some(config)
    }
}

/// What the `config.json` of a published model says, as far as it matters to [`crate::understand`] and to the end of
/// an answer: the original repository's keys where it has a class of its own.
pub fn published_config(name: &str) -> Option<Value> {
    let known = known().iter().find(|known| known.name == name)?;
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
                "kv_channels": known.head_dim,
                "multi_query_attention": true,
                "multi_query_group_num": known.kv_heads,
                "padded_vocab_size": known.vocab,
                "add_qkv_bias": known.qkv_bias,
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
        Family::Glm45 | Family::Glm47 => known.config_of_experts()?,
        // The later ones have transformers' own classes.
        _ => {
            let edge = known.family == Family::GlmEdge;
            json!({
                "architectures": [if edge { "GlmForCausalLM" } else { "Glm4ForCausalLM" }],
                "model_type": if edge { "glm" } else { "glm4" },
                "num_hidden_layers": layers,
                "intermediate_size": ffn,
                "num_key_value_heads": known.kv_heads,
                "head_dim": known.head_dim,
                "hidden_act": "silu",
                "attention_bias": known.qkv_bias,
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
    let heads = spec.layers[0].attention.heads();
    let inner = spec.layers[0].feed_forward.widest();
    let shape = [spec.layers.len(), spec.hidden, heads.heads, inner];
    let family = match spec.family {
        Family::GlmZ1 | Family::GlmZ1Rumination => Family::Glm40414,
        Family::Glm4v => Family::Glm4,
        family => family,
    };
    known().iter().filter(move |k| k.family == family && k.shape == shape)
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
    let Heads { kv_heads, .. } = spec.layers[0].attention.heads();
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
