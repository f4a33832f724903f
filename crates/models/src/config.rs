//! From a checkpoint's own configuration to a [`DecoderSpec`].
//!
//! All the naming quirks of the layouts end here. Sources: `configuration_chatglm.py` of ChatGLM-6B, ChatGLM2/3 and
//! GLM-4-9B; transformers' `configuration_glm.py` and `configuration_glm4.py`; llama.cpp's `conversion/chatglm.py`
//! and `conversion/glm.py` for the GGUF keys.

use std::fmt::Display;

use glimmer_checkpoint::{Checkpoint, TensorInfo, gguf};
use glimmer_config::{Decision, Evidence, Quoted};
use glimmer_tensor::{Heads, NormKind, Rope, RopePairs, Routing};
use serde_json::Value;

use crate::names::{NamedRows, TensorNaming};
use crate::parts::PartKind;
use crate::rope::{self, Yarn};
use crate::rotary;
use crate::{
    Activation, Attention, DecoderSpec, Family, FeedForward, Latent, LayerSpec, ModelError, NormSpec,
    Positions, Residual, WeightRole,
};

/// Experts of a layer, at most: eight times what was ever published.
const MOST_EXPERTS: usize = 2048;

/// Epsilon of the norms within latent attention: transformers' default, which no configuration changes.
const LATENT_EPS: f32 = 1e-6;

/// What this crate can read, for error messages.
const KNOWN: &str =
    "ChatGLM, Glm, Glm4, Glm4Moe(Lite), Glm4v, Glm46V, GlmOcr; GGUF chatglm(-6b), glm4(moe), deepseek2";

/// GGUF architecture of GLM-4.5, 4.6 and 4.7.
pub(crate) const GGUF_EXPERTS_ARCH: &str = "glm4moe";

/// GGUF architecture of GLM-4.7-Flash, which llama.cpp computes as DeepSeek-V2.
pub(crate) const GGUF_LATENTS_ARCH: &str = "deepseek2";

/// Rows of GLM-4.7-Flash's head: by them llama.cpp knows it where its file does not say how experts are weighed.
const FLASH_VOCABULARY: usize = 154_880;

/// GGUF architecture of ChatGLM-6B, which llama.cpp does not know; the name is Glimmer's own.
pub const GGUF_CHATGLM_6B: &str = "chatglm-6b";

/// The spec, where its tensors are, and what looked odd on the way.
#[derive(Clone, Debug)]
pub struct Understood {
    /// The facts.
    pub spec: DecoderSpec,
    /// What its tensors are called.
    pub naming: TensorNaming,
    /// Elements of a head that `spec.rope`'s frequencies were made for.
    pub rotary_dims: usize,
    /// YaRN's parameters, where `spec.rope` was computed with them.
    pub yarn: Option<Yarn>,
    /// One line each, for people.
    pub warnings: Vec<String>,
}

impl Understood {
    /// The tensor that a checkpoint has for a matrix outside the layers, if any.
    pub fn stored<'a>(&self, checkpoint: &'a Checkpoint, role: WeightRole) -> Option<&'a TensorInfo> {
        checkpoint.info(&format!("{}.weight", self.naming.name(None, role)?))
    }

    /// A warning of biases that are stored though the configuration promises none.
    fn ignored_biases(&self, checkpoint: &Checkpoint) -> Result<Option<String>, ModelError> {
        let has = |name: &str| checkpoint.holds(name);
        let mut ignored = Vec::new();
        for part in self.spec.parts(self.has_own_head(Some(checkpoint))) {
            let PartKind::Matrix(matrix) = &part.kind else { continue };
            let tensors = self.naming.tensors(&part, matrix, has)?;
            if !self.naming.has_bias(matrix, &tensors, has) {
                ignored.extend(tensors.iter().map(NamedRows::bias).filter(|name| has(name)));
            }
        }
        Ok(ignored.first().map(|first| {
            let (count, of) = (ignored.len(), if ignored.len() == 1 { "bias is" } else { "biases are" });
            format!(
                "{count} {of} stored that the configuration does not promise, {first} first: left out, as the reference \
                 implementations do (attention_bias, add_qkv_bias and add_bias_linear promise them)"
            )
        }))
    }

    /// Whether the head is a matrix of its own: one is stored, or must be.
    pub fn has_own_head(&self, checkpoint: Option<&Checkpoint>) -> bool {
        !self.spec.tied || checkpoint.is_some_and(|c| self.stored(c, WeightRole::Head).is_some())
    }
}

/// Reads a checkpoint's configuration. `family` overrides what would be detected.
///
/// # Errors
/// When the configuration is missing, contradictory, of a foreign architecture, or fits two generations that differ.
pub fn understand(checkpoint: &Checkpoint, family: Option<Family>) -> Result<Understood, ModelError> {
    let has_experts = |evidence: &Evidence| {
        matches!(evidence.architecture.as_deref(), Some("Glm4MoeForCausalLM" | "Glm4MoeLiteForCausalLM"))
    };
    if let Some(family @ (Family::Glm45 | Family::Glm47)) = family
        && !has_experts(&checkpoint.configuration().evidence())
    {
        return Err(ModelError::Architecture {
            file: checkpoint.path().display().to_string(),
            found: format!("of --family {family}"),
            known: KNOWN,
        });
    }
    let evidence = Evidence { asked: family, ..checkpoint.configuration().evidence() };
    let mut understood = if let Some(metadata) = checkpoint.metadata() {
        let file = checkpoint.path().display().to_string();
        from_gguf(&Keys::gguf(file, metadata), checkpoint, &evidence)?
    } else {
        let file = checkpoint.path().join("config.json").display().to_string();
        let Some(config) = checkpoint.config() else {
            return Err(ModelError::Config {
                file,
                message: "not found; it says what the model is".to_owned(),
            });
        };
        from_json(&Keys::json(file, config), config, checkpoint, &evidence)?
    };
    check(&understood.spec)
        .map_err(|message| ModelError::Config { file: checkpoint.path().display().to_string(), message })?;
    crate::catalogue::cross_check(&mut understood, checkpoint.metadata().is_some());
    let settings = checkpoint.configuration().warnings(understood.spec.vocab);
    let biases = understood.ignored_biases(checkpoint)?;
    understood.warnings.extend(settings.into_iter().chain(biases));
    Ok(understood)
}

/// With [`Sizes::check`], bounds that keep every later product far from overflow.
fn check(spec: &DecoderSpec) -> Result<(), String> {
    in_bounds(&[
        ("hidden size", spec.hidden, 1 << 16),
        ("vocabulary", spec.vocab, 1 << 22),
        ("context length", spec.context, 1 << 30),
    ])?;
    let Heads { head_dim, .. } = spec.layers[0].attention.heads();
    let Rope { sections, magnitude, .. } = &spec.rope;
    if sections.iter().any(|s| s.first_dim + 2 * s.inv_freq.len() > head_dim) {
        return Err(format!("the rotary embedding is wider than a head of {head_dim}"));
    }
    if !(magnitude.is_finite() && sections.iter().flat_map(|s| &s.inv_freq).all(|f| f.is_finite())) {
        return Err(format!("rotary base {} gives frequencies that are not finite", spec.rope_base));
    }
    Ok(())
}

/// Whether each size is between 1 and the most it may be.
pub(crate) fn in_bounds(sizes: &[(&str, usize, usize)]) -> Result<(), String> {
    match sizes.iter().find(|(_, size, most)| *size == 0 || size > most) {
        None => Ok(()),
        Some((what, size, most)) => Err(format!("{what} is {size}; between 1 and {most} is possible")),
    }
}

/// What the layers of a generation differ in, beside their sizes.
struct Style {
    residual: Residual,
    norm: NormKind,
    activation: Activation,
}

/// ChatGLM-6B. Its alpha is `sqrt(2 * 28)`.
const CHATGLM_6B: Style = Style {
    residual: Residual::ScaledNormed { alpha: 7.483_315 },
    norm: NormKind::Layer,
    activation: Activation::Gelu,
};

/// ChatGLM2/3, GLM-4, GLM-Edge.
const GLM: Style = Style { residual: Residual::PreNorm, norm: NormKind::Rms, activation: Activation::SwiGlu };

/// GLM-4-0414, GLM-Z1.
const GLM_0414: Style = Style { residual: Residual::Sandwich, ..GLM };

/// Sizes and biases of layers that are all alike.
struct Sizes {
    layers: usize,
    heads: Heads,
    ffn: usize,
    eps: f64,
    qkv_bias: bool,
    linear_bias: bool,
}

impl Sizes {
    /// Before anything is made that is as large.
    fn check(&self) -> Result<(), String> {
        let Heads { heads, kv_heads, head_dim, .. } = self.heads;
        in_bounds(&[
            ("layers", self.layers, 1 << 10),
            ("feed-forward size", self.ffn, 1 << 20),
            ("attention heads", heads, 1 << 10),
            ("head size", head_dim, 1 << 12),
        ])?;
        if kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
            return Err(format!("{heads} attention heads cannot share {kv_heads} key/value heads"));
        }
        let eps = self.eps as f32;
        if eps.is_finite() && eps > 0.0 {
            return Ok(());
        }
        Err(format!("norm epsilon is {}; a finite number over 0 is needed", shown(self.eps)))
    }

    /// The layers in a generation's style, at least one.
    fn layers(&self, keys: &Keys<'_>, style: &Style) -> Result<Vec<LayerSpec>, ModelError> {
        self.check().map_err(|message| keys.error(message))?;
        let &Sizes { layers, heads, ffn, eps, qkv_bias, linear_bias } = self;
        let &Style { residual, norm, activation } = style;
        let layer = LayerSpec {
            norm: NormSpec { kind: norm, eps: eps as f32 },
            attention: Attention::Heads { heads, qkv_bias, out_bias: linear_bias, head_norm: false },
            feed_forward: FeedForward::Dense { inner: ffn, activation, bias: linear_bias },
            residual,
        };
        Ok(vec![layer; layers])
    }
}

/// A number in an error, whatever its size.
pub(crate) fn shown(number: f64) -> String {
    let plain = number == 0.0 || (1e-3..1e15).contains(&number.abs());
    if plain { number.to_string() } else { format!("{number:e}") }
}

/// Text of a file in an error.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", Quoted(text))
}

/// Where keys are looked up.
enum Source<'a> {
    Json(&'a Value),
    Gguf(&'a gguf::Metadata),
}

/// Typed look-ups whose errors name file and key.
pub(crate) struct Keys<'a> {
    file: String,
    source: Source<'a>,
}

impl<'a> Keys<'a> {
    /// Those of a `config.json` or of an object within.
    pub(crate) fn json(file: String, config: &'a Value) -> Self {
        Keys { file, source: Source::Json(config) }
    }

    /// Those of a GGUF.
    pub(crate) fn gguf(file: String, metadata: &'a gguf::Metadata) -> Self {
        Keys { file, source: Source::Gguf(metadata) }
    }
}

impl Keys<'_> {
    pub(crate) fn error(&self, message: impl Display) -> ModelError {
        ModelError::Config { file: self.file.clone(), message: message.to_string() }
    }

    /// A value of another kind than is needed.
    pub(crate) fn wrong(&self, key: &str, value: &Value, wanted: &str) -> ModelError {
        self.error(format!("{key} is {}; it must be {wanted}", Quoted(&value.to_string())))
    }

    /// What a key of `config.json` holds, where that is a number; `None` where it is null.
    pub(crate) fn number_in(&self, key: &str, value: &Value) -> Result<Option<f64>, ModelError> {
        match value {
            Value::Null => Ok(None),
            value => value.as_f64().map(Some).ok_or_else(|| self.wrong(key, value, "a number")),
        }
    }

    /// A number, or `None` where the key is absent or null.
    pub(crate) fn number(&self, key: &str) -> Result<Option<f64>, ModelError> {
        match self.source {
            Source::Json(config) => config.get(key).map_or(Ok(None), |value| self.number_in(key, value)),
            Source::Gguf(metadata) => match metadata.value(key) {
                None => Ok(None),
                Some(gguf::Value::F32(v)) => Ok(Some(f64::from(*v))),
                Some(gguf::Value::F64(v)) => Ok(Some(*v)),
                Some(_) => Ok(metadata.get::<u64>(key)?.map(|v| v as f64)),
            },
        }
    }

    pub(crate) fn optional(&self, key: &str) -> Result<Option<usize>, ModelError> {
        match self.number(key)? {
            None => Ok(None),
            Some(n) if n >= 0.0 && n <= f64::from(u32::MAX) && n.fract() == 0.0 => Ok(Some(n as usize)),
            Some(n) => Err(self.error(format!("{key} is {}; a whole number below 2^32 is needed", shown(n)))),
        }
    }

    pub(crate) fn size(&self, key: &str) -> Result<usize, ModelError> {
        self.optional(key)?.ok_or_else(|| self.error(format!("{key} is missing")))
    }

    /// A number of heads, by which others are divided.
    pub(crate) fn heads(&self, key: &str) -> Result<usize, ModelError> {
        let heads = self.size(key)?;
        if heads > 0 { Ok(heads) } else { Err(self.error(format!("{key} is 0; at least 1 is needed"))) }
    }

    pub(crate) fn float(&self, key: &str, default: f64) -> Result<f64, ModelError> {
        Ok(self.number(key)?.unwrap_or(default))
    }

    /// A truth value, or `None` where the key is absent or null.
    fn stated(&self, key: &str) -> Result<Option<bool>, ModelError> {
        let config = match self.source {
            Source::Json(config) => config,
            Source::Gguf(metadata) => return Ok(metadata.get::<bool>(key)?),
        };
        match config.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(self.wrong(key, other, "true or false")),
        }
    }

    pub(crate) fn flag(&self, key: &str, default: bool) -> Result<bool, ModelError> {
        Ok(self.stated(key)?.unwrap_or(default))
    }

    /// Refuses a text of `config.json` that is none of those that are computed. One that is absent or null is the first.
    pub(crate) fn insist_on_text(&self, key: &str, known: &[&str]) -> Result<(), ModelError> {
        let Source::Json(config) = self.source else { return Ok(()) };
        match config.get(key) {
            None | Some(Value::Null) => Ok(()),
            Some(Value::String(text)) if known.contains(&text.as_str()) => Ok(()),
            Some(other) => Err(self.wrong(key, other, &known.join(" or "))),
        }
    }

    /// Refuses a setting that no published checkpoint has and that would change the computation.
    fn insist(&self, key: &str, wanted: bool) -> Result<(), ModelError> {
        if self.flag(key, wanted)? == wanted {
            return Ok(());
        }
        Err(self.error(format!("{key} = {} is not supported", !wanted)))
    }
}

fn from_json(
    keys: &Keys<'_>,
    config: &Value,
    checkpoint: &Checkpoint,
    evidence: &Evidence,
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
            if keys.flag("position_encoding_2d", false)? || config.get("inner_hidden_size").is_some() {
                chatglm_6b(keys)
            } else {
                chatglm(keys, decide(keys, evidence)?)
            }
        }
        ("GlmForCausalLM", _) | ("", "glm") => {
            // It is evidence, so it has to be right before anything follows from it.
            keys.size("vocab_size")?;
            hf(keys, config, checkpoint, decide(keys, evidence)?.family, &GLM, TensorNaming::Hf)
        }
        ("Glm4ForCausalLM", _) | ("", "glm4") => {
            hf(keys, config, checkpoint, decide(keys, evidence)?.family, &GLM_0414, TensorNaming::Hf)
        }
        ("Glm4MoeForCausalLM", _) | ("", "glm4_moe") => {
            experts(keys, config, checkpoint, decide(keys, evidence)?.family)
        }
        ("Glm4MoeLiteForCausalLM", _) | ("", "glm4_moe_lite") => {
            latents(keys, config, checkpoint, decide(keys, evidence)?.family)
        }
        (
            "Glm4vForConditionalGeneration"
            | "Glm46VForConditionalGeneration"
            | "GlmOcrForConditionalGeneration",
            _,
        )
        | ("", "glm4v" | "glm46v" | "glm_ocr") => {
            seeing(keys, config, checkpoint, decide(keys, evidence)?.family)
        }
        (architecture, model_type) => Err(ModelError::Architecture {
            file: keys.file.clone(),
            found: format!("{} (model_type {})", quoted(architecture), quoted(model_type)),
            known: KNOWN,
        }),
    }
}

/// The family of an architecture that is one of ours.
fn decide(keys: &Keys<'_>, evidence: &Evidence) -> Result<Decision, ModelError> {
    evidence.decide().ok_or_else(|| keys.error("nothing tells the generation; say which with --family"))
}

/// ChatGLM-6B: `configuration_chatglm.py` of THUDM/chatglm-6b.
fn chatglm_6b(keys: &Keys<'_>) -> Result<Understood, ModelError> {
    keys.insist("position_encoding_2d", true)?;
    if keys.optional("pre_seq_len")?.is_some_and(|n| n > 0) {
        return Err(keys.error(
            "pre_seq_len: this is a prefix of P-Tuning v2; name its base model, and this as its adapter",
        ));
    }
    let hidden = keys.size("hidden_size")?;
    let heads = keys.heads("num_attention_heads")?;
    let head_dim = hidden / heads;
    let sop = keys.size("bos_token_id")?;
    // The first release does not name the mask tokens; they precede <sop> by three and four in both vocabularies.
    let gmask = keys.optional("gmask_token_id")?.unwrap_or(sop.saturating_sub(3));
    let mask = keys.optional("mask_token_id")?.unwrap_or(sop.saturating_sub(4));
    let sizes = Sizes {
        layers: keys.size("num_layers")?,
        heads: Heads::new(heads, heads, head_dim),
        ffn: keys.size("inner_hidden_size")?,
        eps: keys.float("layernorm_epsilon", 1e-5)?,
        qkv_bias: true,
        linear_bias: true,
    };
    let layers = sizes.layers(keys, &CHATGLM_6B)?;
    let spec = DecoderSpec {
        family: Family::ChatGlm6b,
        hidden,
        vocab: keys.size("vocab_size")?,
        final_norm: layers[0].norm,
        layers,
        tied: keys.flag("tie_word_embeddings", true)?,
        rope: rope::chatglm_6b(head_dim),
        rope_base: 10_000.0,
        positions: Positions::ChatGlm6b { gmask: gmask as u32, mask: mask as u32, sop: sop as u32 },
        context: keys.optional("max_sequence_length")?.unwrap_or(2048),
    };
    Ok(Understood {
        spec,
        naming: TensorNaming::ChatGlm6b,
        rotary_dims: head_dim,
        yarn: None,
        warnings: Vec::new(),
    })
}

/// ChatGLM2/3 and GLM-4-9B in their original layout: `configuration_chatglm.py` of THUDM/glm-4-9b-chat.
fn chatglm(keys: &Keys<'_>, decision: Decision) -> Result<Understood, ModelError> {
    keys.insist("rmsnorm", true)?;
    keys.insist("original_rope", true)?;
    keys.insist("post_layer_norm", true)?;
    keys.insist("apply_residual_connection_post_layernorm", false)?;
    if keys.optional("pre_seq_len")?.is_some_and(|n| n > 0) {
        return Err(keys.error(
            "pre_seq_len: this is a prefix of P-Tuning v2; name its base model, and this as its adapter",
        ));
    }
    let hidden = keys.size("hidden_size")?;
    let heads = keys.heads("num_attention_heads")?;
    let head_dim = keys.optional("kv_channels")?.unwrap_or(hidden / heads);
    let kv_heads =
        if keys.flag("multi_query_attention", false)? { keys.size("multi_query_group_num")? } else { heads };
    let ratio = keys.float("rope_ratio", 1.0)?;
    if !(ratio.is_finite() && ratio > 0.0) {
        return Err(keys.error(format!("rope_ratio is {}; it must be over 0", shown(ratio))));
    }
    if decision.is_chatglm2_or_3() && ratio != 1.0 {
        return Err(ModelError::Ambiguous(format!(
            "{}: ChatGLM2 and ChatGLM3 both fit and rope_ratio {ratio} means different things to them (positions \
             divided, or base multiplied); say --family chatglm2 or --family chatglm3",
            keys.file
        )));
    }
    let linear_bias = keys.flag("add_bias_linear", false)?;
    let sizes = Sizes {
        layers: keys.size("num_layers")?,
        heads: Heads::new(heads, kv_heads, head_dim),
        ffn: keys.size("ffn_hidden_size")?,
        eps: keys.float("layernorm_epsilon", 1e-5)?,
        qkv_bias: keys.flag("add_qkv_bias", false)? || linear_bias,
        linear_bias,
    };
    let layers = sizes.layers(keys, &GLM)?;
    let divides = matches!(decision.family, Family::ChatGlm2 | Family::CodeGeex2);
    let rotary = rotary::of_ratio(keys, ratio, divides, head_dim)?;
    let spec = DecoderSpec {
        family: decision.family,
        hidden,
        vocab: keys.size("padded_vocab_size")?,
        final_norm: layers[0].norm,
        layers,
        tied: keys.flag("tie_word_embeddings", false)?,
        rope: rotary.rope,
        rope_base: rotary.base,
        positions: match decision.family {
            Family::Glm4v => Positions::SharedByPicture,
            _ => Positions::Sequential { divisor: rotary.divisor },
        },
        context: keys.optional("seq_length")?.unwrap_or(2048),
    };
    Ok(Understood {
        spec,
        naming: TensorNaming::ChatGlm,
        rotary_dims: rotary.dims,
        yarn: None,
        warnings: decision.warning().into_iter().collect(),
    })
}

/// Transformers' own classes, in the hub's old key style (top-level `rope_theta`) and the new (`rope_parameters`).
fn hf(
    keys: &Keys<'_>,
    config: &Value,
    checkpoint: &Checkpoint,
    family: Family,
    style: &Style,
    naming: TensorNaming,
) -> Result<Understood, ModelError> {
    let stores_bias = |role: WeightRole| {
        naming.name(Some(0), role).is_some_and(|name| checkpoint.holds(&format!("{name}.bias")))
    };
    keys.insist_on_text("hidden_act", &["silu", "swish"])?;
    let hidden = keys.size("hidden_size")?;
    let heads = keys.heads("num_attention_heads")?;
    // Of latent attention what is turned is a head of its own.
    let turned = keys.optional("qk_rope_head_dim")?;
    let head_dim = turned.map_or_else(|| keys.optional("head_dim"), |dim| Ok(Some(dim)))?;
    let head_dim = head_dim.unwrap_or(hidden / heads);
    let sizes = Sizes {
        layers: keys.size("num_hidden_layers")?,
        heads: Heads::new(heads, keys.optional("num_key_value_heads")?.unwrap_or(heads), head_dim),
        ffn: keys.size("intermediate_size")?,
        eps: keys.float("rms_norm_eps", 1.5625e-7)?,
        // Where nothing is said, the weights say it: the classes' default is true, but a missing bias is zeros to them.
        qkv_bias: match keys.stated("attention_bias")? {
            Some(stated) => stated,
            None => [WeightRole::Queries, WeightRole::Qkv].into_iter().any(stores_bias),
        },
        linear_bias: false,
    };
    let layers = sizes.layers(keys, style)?;
    let context = keys.optional("max_position_embeddings")?.unwrap_or(131_072);
    let share = if turned.is_some() { 1.0 } else { 0.5 };
    let (rotary, warning) = rotary::of_transformers(keys, config, head_dim, share, context)?;
    let spec = DecoderSpec {
        family,
        hidden,
        vocab: keys.size("vocab_size")?,
        final_norm: layers[0].norm,
        layers,
        tied: keys.flag("tie_word_embeddings", false)?,
        rope: rotary.rope,
        rope_base: rotary.base,
        positions: Positions::Sequential { divisor: rotary.divisor },
        context,
    };
    let (rotary_dims, yarn) = (rotary.dims, rotary.yarn);
    let warnings = warning.into_iter().collect();
    Ok(Understood { spec, naming, rotary_dims, yarn, warnings })
}

/// GLM-4.5, 4.6, 4.7: dense layers, then layers with experts. Source: transformers' `configuration_glm4_moe.py` and
/// `modeling_glm4_moe.py`.
fn experts(
    keys: &Keys<'_>,
    config: &Value,
    checkpoint: &Checkpoint,
    family: Family,
) -> Result<Understood, ModelError> {
    let mut understood = hf(keys, config, checkpoint, family, &GLM, TensorNaming::HfExperts)?;
    understood.spec.rope.pairs = RopePairs::Halves;
    let norms_heads = keys.flag("use_qk_norm", false)?;
    for layer in &mut understood.spec.layers {
        if let Attention::Heads { head_norm, .. } = &mut layer.attention {
            *head_norm = norms_heads;
        }
    }
    add_experts(keys, &mut understood.spec, &HF_EXPERTS.map(str::to_owned))?;
    Ok(understood)
}

/// GLM-4.7-Flash: the same with latent attention. Source: transformers' `configuration_glm4_moe_lite.py` and
/// `modeling_glm4_moe_lite.py`.
fn latents(
    keys: &Keys<'_>,
    config: &Value,
    checkpoint: &Checkpoint,
    family: Family,
) -> Result<Understood, ModelError> {
    keys.insist("attention_bias", false)?;
    keys.insist("rope_interleave", true)?;
    let turned = keys.size("qk_rope_head_dim")?;
    let mut understood = hf(keys, config, checkpoint, family, &GLM, TensorNaming::HfExperts)?;
    let latent = Latent {
        heads: keys.heads("num_attention_heads")?,
        query_rank: keys.size("q_lora_rank")?,
        rank: keys.size("kv_lora_rank")?,
        plain: keys.size("qk_nope_head_dim")?,
        turned,
        value: keys.size("v_head_dim")?,
        eps: LATENT_EPS,
    };
    add_latents(keys, &mut understood, latent)?;
    add_experts(keys, &mut understood.spec, &HF_EXPERTS.map(str::to_owned))?;
    Ok(understood)
}

/// Gives all layers latent attention.
fn add_latents(keys: &Keys<'_>, understood: &mut Understood, latent: Latent) -> Result<(), ModelError> {
    in_bounds(&[
        ("query rank", latent.query_rank, 1 << 14),
        ("latent rank", latent.rank, 1 << 12),
        ("head size", latent.plain, 1 << 12),
        ("rotated head size", latent.turned, 1 << 12),
        ("value size", latent.value, 1 << 12),
    ])
    .map_err(|message| keys.error(message))?;
    if understood.yarn.is_some() {
        return Err(keys.error("YaRN is not supported with latent attention yet"));
    }
    let spec = &mut understood.spec;
    spec.rope.sections.iter_mut().for_each(|section| section.first_dim += latent.rank);
    spec.layers.iter_mut().for_each(|layer| layer.attention = Attention::Latent(latent));
    Ok(())
}

/// What transformers calls the facts of experts: how many there are, their size, how many all rows meet, how many a row
/// chooses, of how many groups it chooses how many, whether weights are normalised, their scale, how many dense layers come
/// first.
const HF_EXPERTS: [&str; 9] = [
    "n_routed_experts",
    "moe_intermediate_size",
    "n_shared_experts",
    "num_experts_per_tok",
    "n_group",
    "topk_group",
    "norm_topk_prob",
    "routed_scaling_factor",
    "first_k_dense_replace",
];

/// What llama.cpp calls the same, behind the architecture.
pub(crate) const GGUF_EXPERTS: [&str; 9] = [
    "expert_count",
    "expert_feed_forward_length",
    "expert_shared_count",
    "expert_used_count",
    "expert_group_count",
    "expert_group_used_count",
    "expert_weights_norm",
    "expert_weights_scale",
    "leading_dense_block_count",
];

/// Gives the layers after the first dense ones their experts. Where nothing is said, transformers' weights are normalised and
/// its first layer is dense, and llama.cpp's are not.
fn add_experts(keys: &Keys<'_>, spec: &mut DecoderSpec, names: &[String; 9]) -> Result<(), ModelError> {
    let [count, inner, alike, chosen, groups, chosen_groups, normalised, scale, dense] = names;
    let by_default = matches!(keys.source, Source::Json(_));
    let count = keys.size(count)?;
    let inner = keys.size(inner)?;
    let alike = keys.optional(alike)?.unwrap_or(1);
    let routing = Routing {
        chosen: keys.size(chosen)?,
        groups: keys.optional(groups)?.unwrap_or(1),
        chosen_groups: keys.optional(chosen_groups)?.unwrap_or(1),
        normalised: keys.flag(normalised, by_default)?,
        scale: keys.float(scale, 1.0)? as f32,
    };
    in_bounds(&[("experts", count, MOST_EXPERTS), ("an expert's size", inner, 1 << 20)])
        .and_then(|()| in_bounds(&[("shared experts' size", (inner * alike.min(1 << 20)).max(1), 1 << 20)]))
        .and_then(|()| check_routing(&routing, count))
        .map_err(|message| keys.error(message))?;
    let dense = keys.optional(dense)?.unwrap_or(usize::from(by_default));
    let feed_forward = FeedForward::Experts { count, inner, shared: inner * alike, routing };
    spec.layers.iter_mut().skip(dense).for_each(|layer| layer.feed_forward = feed_forward);
    Ok(())
}

/// Whether rows can choose so.
fn check_routing(routing: &Routing, count: usize) -> Result<(), String> {
    let &Routing { chosen, groups, chosen_groups, scale, .. } = routing;
    if groups == 0 || !count.is_multiple_of(groups) {
        return Err(format!("{count} experts cannot be divided into {groups} groups"));
    }
    if chosen_groups == 0 || chosen_groups > groups {
        return Err(format!("{chosen_groups} of {groups} groups cannot be chosen"));
    }
    if chosen == 0 || chosen > count / groups * chosen_groups {
        let among = count / groups * chosen_groups;
        return Err(format!("{chosen} experts cannot be chosen among {among}"));
    }
    if scale.is_finite() && scale > 0.0 {
        return Ok(());
    }
    Err(format!("routed_scaling_factor is {scale}; a finite number over 0 is needed"))
}

/// Transformers' classes that see: the decoder is under `text_config`, its positions have three axes.
fn seeing(
    keys: &Keys<'_>,
    config: &Value,
    checkpoint: &Checkpoint,
    family: Family,
) -> Result<Understood, ModelError> {
    let text = config.get("text_config").filter(|text| text.is_object());
    let text = text.ok_or_else(|| keys.error("text_config is missing; it says what the decoder is"))?;
    let inner = Keys::json(format!("{}, text_config", keys.file), text);
    let mut understood = hf(&inner, text, checkpoint, family, &GLM_0414, TensorNaming::HfSeeing)?;
    let spec = &mut understood.spec;
    spec.rope = rotary::of_grid(&inner, text, &spec.rope)?;
    spec.tied =
        inner.stated("tie_word_embeddings")?.map_or_else(|| keys.flag("tie_word_embeddings", false), Ok)?;
    if spec.positions.divisor() != 1.0 {
        return Err(inner.error("positions that are divided have no place in a grid"));
    }
    spec.positions = Positions::OfGrid;
    Ok(understood)
}

fn from_gguf(
    keys: &Keys<'_>,
    checkpoint: &Checkpoint,
    evidence: &Evidence,
) -> Result<Understood, ModelError> {
    let metadata = checkpoint.metadata().ok_or_else(|| keys.error("no metadata"))?;
    let arch = metadata.need::<&str>("general.architecture")?.to_owned();
    let style = &match arch.as_str() {
        "chatglm" => GLM,
        "glm4" => GLM_0414,
        GGUF_EXPERTS_ARCH | GGUF_LATENTS_ARCH => GLM,
        GGUF_CHATGLM_6B => CHATGLM_6B,
        _ => {
            return Err(ModelError::Architecture {
                file: keys.file.clone(),
                found: quoted(&arch),
                known: KNOWN,
            });
        }
    };
    let key = |name: &str| format!("{arch}.{name}");
    let hidden = keys.size(&key("embedding_length"))?;
    let heads = keys.heads(&key("attention.head_count"))?;
    // Of latent attention what is turned is a head of its own.
    let is_latent = arch == GGUF_LATENTS_ARCH;
    let length = key(if is_latent { "rope.dimension_count" } else { "attention.key_length" });
    let head_dim = keys.optional(&length)?.unwrap_or(hidden / heads);
    let vocab = checkpoint
        .info("token_embd.weight")
        .and_then(|t| t.shape.first().copied())
        .ok_or_else(|| keys.error("tensor token_embd.weight is missing"))?;
    let has = |name: &str| checkpoint.info(name).is_some();
    let layers = keys.size(&key("block_count"))?
        - keys.optional(&key("nextn_predict_layers"))?.unwrap_or(0).min(keys.size(&key("block_count"))?);
    let context = keys.size(&key("context_length"))?;
    let eps = match style.norm {
        NormKind::Layer => "attention.layer_norm_epsilon",
        NormKind::Rms => "attention.layer_norm_rms_epsilon",
    };
    let sizes = Sizes {
        layers,
        heads: Heads::new(heads, keys.optional(&key("attention.head_count_kv"))?.unwrap_or(heads), head_dim),
        ffn: keys.size(&key("feed_forward_length"))?,
        eps: keys.float(&key(eps), 1e-5)?,
        qkv_bias: has("blk.0.attn_qkv.bias") || has("blk.0.attn_q.bias"),
        linear_bias: has("blk.0.ffn_down.bias"),
    };
    let layers = sizes.layers(keys, style)?;
    let (decision, positions, rotary) = if arch == GGUF_CHATGLM_6B {
        let token = |name: &str| Ok::<u32, ModelError>(keys.size(&key(name))? as u32);
        let positions = Positions::ChatGlm6b {
            gmask: token("gmask_token_id")?,
            mask: token("mask_token_id")?,
            sop: token("sop_token_id")?,
        };
        let rope = rope::chatglm_6b(head_dim);
        let rotary = rotary::Rotary { rope, base: 10_000.0, dims: head_dim, divisor: 1.0, yarn: None };
        (Decision { family: Family::ChatGlm6b, guessed: false }, positions, rotary)
    } else {
        let decision = decide(keys, &Evidence { vocabulary: Some(vocab as u64), ..evidence.clone() })?;
        let mut rotary = rotary::of_gguf(keys, metadata, &key, head_dim, context)?;
        let mut positions = Positions::Sequential { divisor: rotary.divisor };
        let sections = metadata.get::<Vec<i32>>(&key("rope.dimension_sections"))?.unwrap_or_default();
        // llama.cpp's own test of whether positions have axes.
        if sections.len() > 1 && sections[..2].iter().all(|count| *count > 0) {
            if rotary.divisor != 1.0 {
                return Err(keys.error("positions that are divided have no place in a grid"));
            }
            rotary.rope = rotary::of_grid_gguf(keys, &sections, &rotary.rope)?;
            positions = Positions::OfGrid;
        }
        (decision, positions, rotary)
    };
    let spec = DecoderSpec {
        family: decision.family,
        hidden,
        vocab,
        final_norm: layers[0].norm,
        layers,
        tied: true,
        rope: rotary.rope,
        rope_base: rotary.base,
        positions,
        context,
    };
    let (rotary_dims, yarn) = (rotary.dims, rotary.yarn);
    let warnings = decision.warning().into_iter().collect();
    let mut understood = Understood { spec, naming: TensorNaming::Gguf, rotary_dims, yarn, warnings };
    if arch == GGUF_EXPERTS_ARCH || is_latent {
        gguf_experts(keys, &key, has("blk.0.attn_q_norm.weight"), &mut understood)?;
    }
    Ok(understood)
}

/// What a GGUF says of experts and of latents. Sources: llama.cpp's `glm4-moe.cpp` and `deepseek2.cpp`.
fn gguf_experts(
    keys: &Keys<'_>,
    key: &dyn Fn(&str) -> String,
    norms_heads: bool,
    understood: &mut Understood,
) -> Result<(), ModelError> {
    /// llama.cpp's number of the logistic function.
    const SIGMOID: usize = 2;
    let is_latent = key("").starts_with(GGUF_LATENTS_ARCH);
    let weighed = keys.optional(&key("expert_gating_func"))?;
    let unsaid = !is_latent || understood.spec.vocab == FLASH_VOCABULARY;
    if weighed.is_some_and(|function| function != SIGMOID) || weighed.is_none() && !unsaid {
        let name = key("expert_gating_func");
        return Err(keys
            .error(format!("{name} is not 2: no GLM weighs experts by anything but the logistic function")));
    }
    if is_latent {
        understood.naming = TensorNaming::GgufLatents;
        let turned = understood.spec.layers[0].attention.heads().head_dim;
        let latent = Latent {
            heads: understood.spec.layers[0].attention.heads().heads,
            query_rank: keys.size(&key("attention.q_lora_rank"))?,
            rank: keys.size(&key("attention.kv_lora_rank"))?,
            plain: keys.size(&key("attention.key_length_mla"))?.saturating_sub(turned),
            turned,
            value: keys.size(&key("attention.value_length_mla"))?,
            eps: LATENT_EPS,
        };
        add_latents(keys, understood, latent)?;
    } else {
        understood.naming = TensorNaming::GgufExperts;
        understood.spec.rope.pairs = RopePairs::Halves;
        for layer in &mut understood.spec.layers {
            if let Attention::Heads { head_norm, .. } = &mut layer.attention {
                *head_norm = norms_heads;
            }
        }
    }
    add_experts(keys, &mut understood.spec, &GGUF_EXPERTS.map(key))
}
