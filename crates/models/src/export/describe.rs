//! What the files say of a model beside its weights: GGUF key/values, `config.json`, `generation_config.json`.
//!
//! The inverse of `config.rs`: reading back what is written here gives the same [`DecoderSpec`] (but for `tied`, which
//! is false wherever a head is stored).

use std::path::Path;

use glimmer_checkpoint::Checkpoint;
use glimmer_checkpoint::gguf::{Metadata, Value as Gguf};
use glimmer_config::{GGUF_SAMPLING, shortest_decimal};
use glimmer_tensor::{DType, Heads};
use serde_json::{Value, json};

use super::{Outgoing, gguf_naming, has_head};
use crate::config::{GGUF_CHATGLM_6B, GGUF_EXPERTS, GGUF_EXPERTS_ARCH, GGUF_LATENTS_ARCH, Understood};
use crate::names::TensorNaming;
use crate::rope::{Yarn, yarn_magnitude};
use crate::rotary::rotary_dims;
use crate::{Attention, DecoderSpec, Family, FeedForward, LayerSpec, ModelError, Positions, Residual};

/// ggml's version of its block formats.
const QUANTIZATION_VERSION: u32 = 2;

/// A name that does not make another family of the model when it is read back: the source's own where that is so.
pub fn model_name(checkpoint: &Checkpoint, spec: &DecoderSpec) -> String {
    let from_config = checkpoint.config().and_then(|c| c.get("_name_or_path")).and_then(Value::as_str);
    let from_metadata = checkpoint.metadata().and_then(|m| m.get("general.name").ok().flatten());
    let from_path = checkpoint.path().file_stem().and_then(|stem| stem.to_str());
    let own_part = |name: &str| name.rsplit('/').next().unwrap_or("").to_owned();
    let unnamed = match spec.layers[0].residual {
        Residual::ScaledNormed { .. } => Family::ChatGlm6b,
        Residual::PreNorm => match gguf_naming(spec) {
            TensorNaming::GgufExperts => Family::Glm45,
            TensorNaming::GgufLatents => Family::Glm47,
            _ => Family::Glm4,
        },
        Residual::Sandwich => Family::Glm40414,
    };
    let fits = |name: &String| Family::of_model_name(name).unwrap_or(unnamed) == spec.family;
    let names = [from_config, from_metadata, from_path].into_iter().flatten().map(own_part);
    names.filter(|name| !name.is_empty()).find(fits).unwrap_or_else(|| spec.family.name().to_owned())
}

/// The key/values of a GGUF at `path`, all but the vocabulary's; of a model that was one already, the vocabulary's and
/// everything else that is not about this file's layout stays.
///
/// # Errors
/// When GGUF has no key for a setting of the model.
pub fn gguf_metadata(
    checkpoint: &Checkpoint,
    understood: &Understood,
    path: &Path,
    file_type: u32,
) -> Result<Metadata, ModelError> {
    let spec = &understood.spec;
    let arch = match spec.layers[0].residual {
        Residual::ScaledNormed { .. } => GGUF_CHATGLM_6B,
        Residual::PreNorm => match gguf_naming(spec) {
            TensorNaming::GgufExperts => GGUF_EXPERTS_ARCH,
            TensorNaming::GgufLatents => GGUF_LATENTS_ARCH,
            _ => "chatglm",
        },
        Residual::Sandwich => "glm4",
    };
    let mut metadata = Metadata::new(path);
    metadata.set("general.architecture", arch);
    metadata.set("general.type", "model");
    metadata.set("general.name", model_name(checkpoint, spec));
    for (key, value) in checkpoint.metadata().iter().flat_map(|m| m.iter()) {
        if ["general.", "tokenizer."].iter().any(|prefix| key.starts_with(prefix)) {
            metadata.set(key, value.clone());
        }
    }
    let generation_config = checkpoint.configuration().generation_config();
    for (name, key) in GGUF_SAMPLING {
        let value = match generation_config.and_then(|config| config.get(name)) {
            Some(Value::Number(n)) if name == "top_k" => {
                n.as_i64().and_then(|n| i32::try_from(n).ok()).map(Gguf::I32)
            }
            Some(Value::Number(n)) => n.as_f64().map(|n| Gguf::F32(n as f32)),
            _ => None,
        };
        if let Some(value) = value {
            metadata.set(&format!("general.sampling.{key}"), value);
        }
    }
    // Temperature 0 is how a GGUF says that the likeliest token is to be taken.
    if generation_config.and_then(|config| config.get("do_sample")) == Some(&Value::Bool(false)) {
        metadata.set("general.sampling.temp", Gguf::F32(0.0));
    }
    // ChatGLM2, ChatGLM3 and GLM-4 share an architecture; the name tells them apart.
    metadata.set("general.basename", spec.family.name());
    metadata.set("general.quantization_version", QUANTIZATION_VERSION);
    metadata.set("general.file_type", file_type);

    let mut set = |key: &str, value: Gguf| {
        metadata.set(&format!("{arch}.{key}"), value);
    };
    let size = |n: usize| Gguf::U32(n as u32);
    let Heads { heads, kv_heads, head_dim, value_dim, .. } = spec.layers[0].attention.heads();
    let ffn = spec.layers[0].feed_forward.widest();
    let eps = spec.final_norm.eps;
    set("vocab_size", size(spec.vocab));
    set("context_length", size(spec.context));
    set("embedding_length", size(spec.hidden));
    set("feed_forward_length", size(ffn));
    set("block_count", size(spec.layers.len()));
    set("attention.head_count", size(heads));
    set("attention.head_count_kv", size(kv_heads));
    set("attention.key_length", size(head_dim));
    set("attention.value_length", size(value_dim));
    if let Attention::Latent(latent) = spec.layers[0].attention {
        set("attention.q_lora_rank", size(latent.query_rank));
        set("attention.kv_lora_rank", size(latent.rank));
        set("attention.key_length_mla", size(latent.plain + latent.turned));
        set("attention.value_length_mla", size(latent.value));
    }
    describe_experts(spec, &mut set);
    match spec.positions {
        Positions::ChatGlm6b { gmask, mask, sop } => {
            set("attention.layer_norm_epsilon", eps.into());
            set("gmask_token_id", gmask.into());
            set("mask_token_id", mask.into());
            set("sop_token_id", sop.into());
        }
        positions => {
            let divisor = positions.divisor();
            set("attention.layer_norm_rms_epsilon", eps.into());
            set("rope.dimension_count", size(understood.rotary_dims));
            set("rope.freq_base", (spec.rope_base as f32).into());
            if divisor != 1.0 {
                set("rope.scaling.type", "linear".into());
                set("rope.scaling.factor", divisor.into());
            }
            if positions == Positions::OfGrid {
                let counts = spec.rope.sections.iter().map(|section| section.inv_freq.len() as i32);
                set("rope.dimension_sections", counts.chain([0]).collect::<Vec<i32>>().into());
            }
        }
    }
    if let Some(yarn) = &understood.yarn {
        if !yarn.truncate {
            let message = "YaRN with truncate = false has no key in a GGUF".to_owned();
            return Err(ModelError::Config { file: checkpoint.path().display().to_string(), message });
        }
        set("rope.scaling.type", "yarn".into());
        set("rope.scaling.factor", (yarn.factor as f32).into());
        set("rope.scaling.original_context_length", (yarn.original_context as u32).into());
        set("rope.scaling.yarn_beta_fast", (yarn.beta_fast as f32).into());
        set("rope.scaling.yarn_beta_slow", (yarn.beta_slow as f32).into());
        if let Some(whole) = yarn.attention_factor {
            set("rope.scaling.attn_factor", ((whole / yarn_magnitude(yarn.factor, 1.0)) as f32).into());
        }
    }
    Ok(metadata)
}

/// The keys of experts, where there are some.
fn describe_experts(spec: &DecoderSpec, set: &mut dyn FnMut(&str, Gguf)) {
    /// llama.cpp's number of the logistic function.
    const SIGMOID: u32 = 2;
    let experts = |layer: &LayerSpec| matches!(layer.feed_forward, FeedForward::Experts { .. });
    let Some(first) = spec.layers.iter().position(experts) else { return };
    let FeedForward::Experts { count, inner, shared, routing } = spec.layers[first].feed_forward else {
        return;
    };
    let size = |n: usize| Gguf::U32(n as u32);
    let values = [
        size(count),
        size(inner),
        size(shared / inner),
        size(routing.chosen),
        size(routing.groups),
        size(routing.chosen_groups),
        Gguf::Bool(routing.normalised),
        routing.scale.into(),
        size(first),
    ];
    GGUF_EXPERTS.into_iter().zip(values).for_each(|(key, value)| set(key, value));
    set("expert_gating_func", SIGMOID.into());
}

/// The `config.json` that goes with `tensors` in a directory: transformers' `GlmConfig` or `Glm4Config`, or that of
/// ChatGLM-6B's repository. `dtype` is the type of the matrices.
pub fn config_json(
    checkpoint: &Checkpoint,
    understood: &Understood,
    tensors: &[Outgoing<'_>],
    dtype: DType,
) -> Value {
    let spec = &understood.spec;
    let (layers, eps) = (spec.layers.len(), shortest_decimal(spec.final_norm.eps));
    let Heads { heads, kv_heads, head_dim, .. } = spec.layers[0].attention.heads();
    let ffn = spec.layers[0].feed_forward.widest();
    let mut config = match spec.positions {
        Positions::ChatGlm6b { gmask, mask, sop } => json!({
            "architectures": ["ChatGLMModel"],
            "model_type": "chatglm",
            "num_layers": layers,
            "inner_hidden_size": ffn,
            "layernorm_epsilon": eps,
            "max_sequence_length": spec.context,
            "position_encoding_2d": true,
            "gmask_token_id": gmask,
            "mask_token_id": mask,
            "bos_token_id": sop,
        }),
        positions => {
            let divisor = positions.divisor();
            let sandwich = spec.layers[0].residual == Residual::Sandwich;
            json!({
                "architectures": [if sandwich { "Glm4ForCausalLM" } else { "GlmForCausalLM" }],
                "model_type": if sandwich { "glm4" } else { "glm" },
                "num_hidden_layers": layers,
                "intermediate_size": ffn,
                "num_key_value_heads": kv_heads,
                "head_dim": head_dim,
                "hidden_act": "silu",
                "attention_bias": tensors.iter().any(|t| t.name.ends_with("q_proj.bias")),
                "attention_dropout": 0.0,
                "rms_norm_eps": eps,
                "max_position_embeddings": spec.context,
                "rope_theta": spec.rope_base,
                "partial_rotary_factor": rotary_factor(understood.rotary_dims, head_dim),
                "rope_scaling": scaling(divisor, understood.yarn.as_ref()),
                "tie_word_embeddings": !has_head(tensors),
            })
        }
    };
    let common = json!({
        "_name_or_path": model_name(checkpoint, spec),
        "hidden_size": spec.hidden,
        "num_attention_heads": heads,
        "vocab_size": spec.vocab,
        "torch_dtype": torch_name(dtype),
        "use_cache": true,
    });
    let map = config.as_object_mut().expect("a JSON object was written above");
    map.extend(common.as_object().cloned().unwrap_or_default());
    // ChatGLM-6B has no class in transformers; this names the code that it is loaded with.
    let code = checkpoint.config().and_then(|config| config.get("auto_map"));
    if let (Positions::ChatGlm6b { .. }, Some(code)) = (spec.positions, code) {
        map.insert("auto_map".to_owned(), code.clone());
    }
    let ids = checkpoint.config().or(checkpoint.configuration().generation_config());
    for key in ["eos_token_id", "pad_token_id"] {
        map.insert(key.to_owned(), ids.and_then(|ids| ids.get(key)).cloned().unwrap_or_default());
    }
    config
}

/// The source's own `config.json` where nothing but the type of its weights changes: a vision tower is described there, too.
pub fn config_json_as_it_was(
    checkpoint: &Checkpoint,
    config: &Value,
    spec: &DecoderSpec,
    dtype: DType,
) -> Value {
    let mut config = config.clone();
    // The folder's own name may have told the family.
    if config["_name_or_path"].is_null() {
        config["_name_or_path"] = model_name(checkpoint, spec).into();
    }
    let parts = ["text_config", "vision_config"];
    let had: Vec<&str> = parts.into_iter().filter(|part| config[part].is_object()).collect();
    for key in ["dtype", "torch_dtype"] {
        if config[key].is_string() || key == "torch_dtype" && config["dtype"].is_null() {
            config[key] = torch_name(dtype).into();
        }
        for part in &had {
            if config[part][key].is_string() {
                config[*part][key] = torch_name(dtype).into();
            }
        }
    }
    config
}

/// What PyTorch calls a type.
fn torch_name(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "float32",
        DType::BF16 => "bfloat16",
        _ => "float16",
    }
}

/// A factor from which `rotary_dims` (and Python's `int`) makes `dims` again.
fn rotary_factor(dims: usize, head_dim: usize) -> f64 {
    let factor = dims as f64 / head_dim as f64;
    if rotary_dims(head_dim, factor) == dims { factor } else { factor.next_up() }
}

fn scaling(divisor: f32, yarn: Option<&Yarn>) -> Value {
    let Some(yarn) = yarn else {
        let linear = json!({"rope_type": "linear", "factor": shortest_decimal(divisor)});
        return if divisor == 1.0 { Value::Null } else { linear };
    };
    let mut scaling = json!({
        "rope_type": "yarn",
        "factor": yarn.factor,
        "original_max_position_embeddings": yarn.original_context as u64,
        "beta_fast": yarn.beta_fast,
        "beta_slow": yarn.beta_slow,
    });
    if let Some(factor) = yarn.attention_factor {
        scaling["attention_factor"] = factor.into();
    }
    if !yarn.truncate {
        scaling["truncate"] = false.into();
    }
    scaling
}
