//! What each layout calls its tensors: the same tables serve loading and converting.
//!
//! Sources: `modeling_chatglm.py` of ChatGLM-6B and GLM-4-9B; transformers' `modeling_glm.py` and
//! `modeling_glm4.py`; llama.cpp's `gguf-py/gguf/constants.py`.

use std::iter::once;
use std::ops::Range;

use crate::parts::{MatrixPart, Part, Within};
use crate::{ModelError, WeightRole};

/// A naming of tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorNaming {
    /// ChatGLM-6B's repository: queries, keys and values interleaved by head.
    ChatGlm6b,
    /// ChatGLM2/3's and GLM-4-9B's repositories: fused matrices.
    ChatGlm,
    /// Transformers' Glm and Glm4 classes: queries, keys and values apart.
    Hf,
    /// The same within transformers' classes that see.
    HfSeeing,
    /// Transformers' classes with experts: gate and up apart, each expert by itself.
    HfExperts,
    /// llama.cpp's GGUF names, fused or apart.
    Gguf,
    /// The same for its `glm4moe`: gate and up apart, all experts of a layer in one tensor.
    GgufExperts,
    /// And for its `deepseek2`, where the norm before the feed-forward has another name.
    GgufLatents,
}

impl TensorNaming {
    /// Whether it is one of a GGUF's.
    pub fn is_gguf(self) -> bool {
        matches!(self, TensorNaming::Gguf | TensorNaming::GgufExperts | TensorNaming::GgufLatents)
    }

    /// The name of a weight, without `.weight` or `.bias`; `None` where the layout has no such weight.
    pub fn name(self, layer: Option<usize>, role: WeightRole) -> Option<String> {
        let Some(i) = layer else { return self.outside_layers(role).map(str::to_owned) };
        let expert = |e: u16, name: &str| {
            (self == TensorNaming::HfExperts).then(|| format!("model.layers.{i}.mlp.experts.{e}.{name}"))
        };
        match role {
            // No layout has both in one.
            WeightRole::ExpertUp(e) if !self.is_gguf() => return expert(e, "gate_up_proj"),
            WeightRole::ExpertGate(e) if !self.is_gguf() => return expert(e, "gate_proj"),
            WeightRole::ExpertValue(e) if !self.is_gguf() => return expert(e, "up_proj"),
            WeightRole::ExpertDown(e) if !self.is_gguf() => return expert(e, "down_proj"),
            _ => {}
        }
        let (layers, name) = match self {
            TensorNaming::ChatGlm6b => ("transformer.layers", self.in_original(role)),
            TensorNaming::ChatGlm => ("transformer.encoder.layers", self.in_original(role)),
            TensorNaming::Hf => ("model.layers", in_hf(role)),
            TensorNaming::HfSeeing => ("model.language_model.layers", in_hf(role)),
            TensorNaming::HfExperts => ("model.layers", in_hf_experts(role)),
            TensorNaming::Gguf => ("blk", in_gguf(role)),
            TensorNaming::GgufExperts | TensorNaming::GgufLatents => ("blk", self.in_gguf_experts(role)),
        };
        Some(format!("{layers}.{i}.{}", name?))
    }

    fn outside_layers(self, role: WeightRole) -> Option<&'static str> {
        Some(match (role, self) {
            (WeightRole::Embedding, TensorNaming::ChatGlm6b) => "transformer.word_embeddings",
            (WeightRole::Embedding, TensorNaming::ChatGlm) => "transformer.embedding.word_embeddings",
            (WeightRole::Embedding, TensorNaming::Hf | TensorNaming::HfExperts) => "model.embed_tokens",
            (WeightRole::Embedding, TensorNaming::HfSeeing) => "model.language_model.embed_tokens",
            (WeightRole::Embedding, naming) if naming.is_gguf() => "token_embd",
            (WeightRole::FinalNorm, TensorNaming::ChatGlm6b) => "transformer.final_layernorm",
            (WeightRole::FinalNorm, TensorNaming::ChatGlm) => "transformer.encoder.final_layernorm",
            (WeightRole::FinalNorm, TensorNaming::Hf | TensorNaming::HfExperts) => "model.norm",
            (WeightRole::FinalNorm, TensorNaming::HfSeeing) => "model.language_model.norm",
            (WeightRole::FinalNorm, naming) if naming.is_gguf() => "output_norm",
            (WeightRole::Head, TensorNaming::ChatGlm) => "transformer.output_layer",
            (WeightRole::Head, naming) if naming.is_gguf() => "output",
            (WeightRole::Head, _) => "lm_head",
            _ => return None,
        })
    }

    /// In a layer of the original repositories.
    fn in_original(self, role: WeightRole) -> Option<&'static str> {
        let is_first = self == TensorNaming::ChatGlm6b;
        Some(match role {
            WeightRole::AttentionNorm => "input_layernorm",
            WeightRole::Qkv if is_first => "attention.query_key_value",
            WeightRole::Qkv => "self_attention.query_key_value",
            WeightRole::AttentionOut if is_first => "attention.dense",
            WeightRole::AttentionOut => "self_attention.dense",
            WeightRole::FfnNorm => "post_attention_layernorm",
            WeightRole::FfnUp => "mlp.dense_h_to_4h",
            WeightRole::FfnDown => "mlp.dense_4h_to_h",
            _ => return None,
        })
    }

    /// In a layer of a GGUF with experts.
    fn in_gguf_experts(self, role: WeightRole) -> Option<&'static str> {
        Some(match role {
            WeightRole::FfnNorm if self == TensorNaming::GgufExperts => "post_attention_norm",
            // No such layout has both in one.
            WeightRole::FfnUp => "ffn_gate_up",
            WeightRole::FfnGate => "ffn_gate",
            WeightRole::FfnValue => "ffn_up",
            WeightRole::SharedUp => "ffn_gate_up_shexp",
            WeightRole::SharedGate => "ffn_gate_shexp",
            WeightRole::SharedValue => "ffn_up_shexp",
            WeightRole::SharedDown => "ffn_down_shexp",
            WeightRole::ExpertUp(_) => "ffn_gate_up_exps",
            WeightRole::ExpertGate(_) => "ffn_gate_exps",
            WeightRole::ExpertValue(_) => "ffn_up_exps",
            WeightRole::ExpertDown(_) => "ffn_down_exps",
            WeightRole::Router => "ffn_gate_inp",
            WeightRole::RouterCorrection => "exp_probs_b.bias",
            WeightRole::QueryNorm => "attn_q_norm",
            WeightRole::KeyNorm => "attn_k_norm",
            WeightRole::QueriesDown => "attn_q_a",
            WeightRole::QueriesDownNorm => "attn_q_a_norm",
            WeightRole::QueriesUp => "attn_q_b",
            WeightRole::Latents => "attn_kv_a_mqa",
            WeightRole::LatentsNorm => "attn_kv_a_norm",
            WeightRole::KeysUp => "attn_k_b",
            WeightRole::ValuesUp => "attn_v_b",
            other => return in_gguf(other),
        })
    }

    /// The same of a weight that there must be a name for.
    pub(crate) fn need(self, layer: Option<usize>, role: WeightRole) -> Result<String, ModelError> {
        self.name(layer, role).ok_or(ModelError::Unnamed { naming: self, role })
    }

    /// The tensors that hold a matrix's rows, in order: one for all sections if `has` says that the layout's fused one
    /// is there, or sections have no names.
    pub(crate) fn tensors(
        self,
        part: &Part,
        matrix: &MatrixPart,
        has: impl Fn(&str) -> bool,
    ) -> Result<Vec<NamedRows>, ModelError> {
        if let Some(named) = self.among_others(part, matrix) {
            return Ok(named);
        }
        let fused = self.fused(part, matrix)?;
        let apart = if has(&fused.weight()) { None } else { self.apart(part, matrix) };
        Ok(apart.unwrap_or_else(|| vec![fused]))
    }

    /// The tensors that have a matrix among others, where this layout keeps them together.
    pub(crate) fn among_others(self, part: &Part, matrix: &MatrixPart) -> Option<Vec<NamedRows>> {
        let named = |role, rows, among| {
            Some(NamedRows { role, rows, name: self.name(part.layer, role)?, among: Some(among) })
        };
        match matrix.within {
            Within::Alone => None,
            Within::Experts { index, count } => {
                let of = |&(role, rows): &(WeightRole, usize)| {
                    let shape = vec![count, rows, matrix.cols];
                    let picked = once(index * rows..(index + 1) * rows).collect();
                    named(role, rows, Among { shape, picked, turned: false })
                };
                if self.is_gguf() { matrix.sections.iter().map(of).collect() } else { None }
            }
            Within::KeysAndValues { plain, value } => {
                let (heads, rows, cols) = (matrix.heads, matrix.rows(), matrix.cols);
                if self.is_gguf() {
                    let among = Among {
                        shape: vec![heads, rows / heads, cols],
                        picked: once(0..rows).collect(),
                        turned: false,
                    };
                    return Some(vec![named(part.role, rows, among)?]);
                }
                let (both, is_keys) = (plain + value, part.role == WeightRole::KeysUp);
                let own = if is_keys { 0..plain } else { plain..both };
                let among = Among {
                    shape: vec![heads * both, if is_keys { rows / heads } else { cols }],
                    picked: (0..heads).map(|head| head * both + own.start..head * both + own.end).collect(),
                    turned: is_keys,
                };
                Some(vec![named(part.role, rows, among)?])
            }
        }
    }

    /// One tensor for all sections.
    pub(crate) fn fused(self, part: &Part, matrix: &MatrixPart) -> Result<NamedRows, ModelError> {
        let (role, name) = (part.role, self.need(part.layer, part.role)?);
        Ok(NamedRows { role, rows: matrix.rows(), name, among: None })
    }

    /// A tensor for each section, where there are several and this layout has names for them.
    pub(crate) fn apart(self, part: &Part, matrix: &MatrixPart) -> Option<Vec<NamedRows>> {
        let named =
            |&(role, rows)| Some(NamedRows { role, rows, name: self.name(part.layer, role)?, among: None });
        matrix.sections.iter().map(named).collect::<Option<Vec<_>>>().filter(|tensors| tensors.len() > 1)
    }

    /// Whether a matrix in these tensors has a bias. A GGUF's configuration says nothing of it, so there one that is
    /// stored counts; transformers' classes and the original repositories do not load what is not promised.
    pub(crate) fn has_bias(
        self,
        matrix: &MatrixPart,
        tensors: &[NamedRows],
        has: impl Fn(&str) -> bool,
    ) -> bool {
        matrix.bias || self.is_gguf() && tensors.iter().any(|tensor| has(&tensor.bias()))
    }

    /// Whether the fused matrix of this role has its sections' rows head by head.
    pub(crate) fn interleaves(self, role: WeightRole) -> bool {
        self == TensorNaming::ChatGlm6b && role == WeightRole::Qkv || role == WeightRole::QueriesUp
    }
}

/// A tensor for a section of a matrix, or for all of it.
pub(crate) struct NamedRows {
    pub(crate) role: WeightRole,
    pub(crate) rows: usize,
    /// Without `.weight` or `.bias`.
    pub(crate) name: String,
    /// Where the tensor has more than these rows.
    pub(crate) among: Option<Among>,
}

/// Where rows are in a larger tensor.
pub(crate) struct Among {
    /// The tensor's shape.
    pub(crate) shape: Vec<usize>,
    /// Which of its rows, in order.
    pub(crate) picked: Vec<Range<usize>>,
    /// Whether each of these runs is the matrix of a head turned over.
    pub(crate) turned: bool,
}

impl NamedRows {
    pub(crate) fn weight(&self) -> String {
        format!("{}.weight", self.name)
    }

    pub(crate) fn bias(&self) -> String {
        format!("{}.bias", self.name)
    }
}

/// In a layer of transformers' classes. `post_attention_layernorm` is the norm before the feed-forward in both;
/// GLM-4-0414 has its post-norms beside it.
fn in_hf(role: WeightRole) -> Option<&'static str> {
    Some(match role {
        WeightRole::AttentionNorm => "input_layernorm",
        WeightRole::Qkv => "self_attn.qkv_proj",
        WeightRole::Queries => "self_attn.q_proj",
        WeightRole::Keys => "self_attn.k_proj",
        WeightRole::Values => "self_attn.v_proj",
        WeightRole::AttentionOut => "self_attn.o_proj",
        WeightRole::AttentionPostNorm => "post_self_attn_layernorm",
        WeightRole::FfnNorm => "post_attention_layernorm",
        WeightRole::FfnUp => "mlp.gate_up_proj",
        WeightRole::FfnDown => "mlp.down_proj",
        WeightRole::FfnPostNorm => "post_mlp_layernorm",
        _ => return None,
    })
}

/// In a layer of transformers' classes with experts.
fn in_hf_experts(role: WeightRole) -> Option<&'static str> {
    Some(match role {
        WeightRole::FfnGate => "mlp.gate_proj",
        WeightRole::FfnValue => "mlp.up_proj",
        WeightRole::SharedUp => "mlp.shared_experts.gate_up_proj",
        WeightRole::SharedGate => "mlp.shared_experts.gate_proj",
        WeightRole::SharedValue => "mlp.shared_experts.up_proj",
        WeightRole::SharedDown => "mlp.shared_experts.down_proj",
        WeightRole::QueryNorm => "self_attn.q_norm",
        WeightRole::KeyNorm => "self_attn.k_norm",
        WeightRole::QueriesDown => "self_attn.q_a_proj",
        WeightRole::QueriesDownNorm => "self_attn.q_a_layernorm",
        WeightRole::QueriesUp => "self_attn.q_b_proj",
        WeightRole::Latents => "self_attn.kv_a_proj_with_mqa",
        WeightRole::LatentsNorm => "self_attn.kv_a_layernorm",
        WeightRole::KeysUp | WeightRole::ValuesUp => "self_attn.kv_b_proj",
        WeightRole::Router => "mlp.gate",
        WeightRole::RouterCorrection => "mlp.gate.e_score_correction_bias",
        other => return in_hf(other),
    })
}

/// In a layer of a GGUF.
fn in_gguf(role: WeightRole) -> Option<&'static str> {
    Some(match role {
        WeightRole::AttentionNorm => "attn_norm",
        WeightRole::Qkv => "attn_qkv",
        WeightRole::Queries => "attn_q",
        WeightRole::Keys => "attn_k",
        WeightRole::Values => "attn_v",
        WeightRole::AttentionOut => "attn_output",
        WeightRole::AttentionPostNorm => "post_attention_norm",
        WeightRole::FfnNorm => "ffn_norm",
        WeightRole::FfnUp => "ffn_up",
        WeightRole::FfnDown => "ffn_down",
        WeightRole::FfnPostNorm => "post_ffw_norm",
        _ => return None,
    })
}
