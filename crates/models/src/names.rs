//! Where each layout keeps its tensors: the same maps serve loading and converting.
//!
//! Sources: `modeling_chatglm.py` of ChatGLM-6B and GLM-4-9B; transformers' `modeling_glm.py` and
//! `modeling_glm4.py`; llama.cpp's `gguf-py/gguf/constants.py`.

/// A naming of tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// ChatGLM-6B's repository: queries, keys and values interleaved by head.
    ChatGlm6b,
    /// ChatGLM2/3's and GLM-4-9B's repositories: fused matrices.
    ChatGlm,
    /// Transformers' Glm and Glm4 classes: queries, keys and values apart.
    Hf,
    /// llama.cpp's GGUF names, fused or apart.
    Gguf,
}

/// Names of a block's tensors, without `.weight` and `.bias`. A fused projection has one name, one kept apart has
/// three in the order q, k, v.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockNames {
    /// Norm before attention.
    pub attention_norm: String,
    /// Queries, keys and values, fused.
    pub qkv: String,
    /// Queries, keys and values, apart, where the layout has them so.
    pub q_k_v: Option<[String; 3]>,
    /// Attention's output projection.
    pub attention_out: String,
    /// Norm after attention, before the sum (GLM-4-0414).
    pub attention_post_norm: String,
    /// Norm before the feed-forward.
    pub ffn_norm: String,
    /// Gate and up (or ChatGLM-6B's single inner projection).
    pub ffn_up: String,
    /// Back to the residual stream.
    pub ffn_down: String,
    /// Norm after the feed-forward, before the sum (GLM-4-0414).
    pub ffn_post_norm: String,
}

impl Layout {
    /// The token embedding.
    pub fn embedding(self) -> &'static str {
        match self {
            Layout::ChatGlm6b => "transformer.word_embeddings",
            Layout::ChatGlm => "transformer.embedding.word_embeddings",
            Layout::Hf => "model.embed_tokens",
            Layout::Gguf => "token_embd",
        }
    }

    /// The norm after the last block.
    pub fn final_norm(self) -> &'static str {
        match self {
            Layout::ChatGlm6b => "transformer.final_layernorm",
            Layout::ChatGlm => "transformer.encoder.final_layernorm",
            Layout::Hf => "model.norm",
            Layout::Gguf => "output_norm",
        }
    }

    /// The head.
    pub fn head(self) -> &'static str {
        match self {
            Layout::ChatGlm6b | Layout::Hf => "lm_head",
            Layout::ChatGlm => "transformer.output_layer",
            Layout::Gguf => "output",
        }
    }

    /// The tensors of block `i`. In transformers `post_attention_layernorm` is the norm before the feed-forward in
    /// both classes; GLM-4-0414 has its post-norms beside it.
    pub fn block(self, i: usize) -> BlockNames {
        let (prefix, names): (String, [&str; 8]) = match self {
            Layout::ChatGlm6b => (
                format!("transformer.layers.{i}"),
                [
                    "input_layernorm",
                    "attention.query_key_value",
                    "attention.dense",
                    "",
                    "post_attention_layernorm",
                    "mlp.dense_h_to_4h",
                    "mlp.dense_4h_to_h",
                    "",
                ],
            ),
            Layout::ChatGlm => (
                format!("transformer.encoder.layers.{i}"),
                [
                    "input_layernorm",
                    "self_attention.query_key_value",
                    "self_attention.dense",
                    "",
                    "post_attention_layernorm",
                    "mlp.dense_h_to_4h",
                    "mlp.dense_4h_to_h",
                    "",
                ],
            ),
            Layout::Hf => (
                format!("model.layers.{i}"),
                [
                    "input_layernorm",
                    "self_attn.qkv_proj",
                    "self_attn.o_proj",
                    "post_self_attn_layernorm",
                    "post_attention_layernorm",
                    "mlp.gate_up_proj",
                    "mlp.down_proj",
                    "post_mlp_layernorm",
                ],
            ),
            Layout::Gguf => (
                format!("blk.{i}"),
                [
                    "attn_norm",
                    "attn_qkv",
                    "attn_output",
                    "post_attention_norm",
                    "ffn_norm",
                    "ffn_up",
                    "ffn_down",
                    "post_ffw_norm",
                ],
            ),
        };
        let [
            attention_norm,
            qkv,
            attention_out,
            attention_post_norm,
            ffn_norm,
            ffn_up,
            ffn_down,
            ffn_post_norm,
        ] = names.map(|name| format!("{prefix}.{name}"));
        let apart = |names: [&str; 3]| Some(names.map(|name| format!("{prefix}.{name}")));
        let q_k_v = match self {
            Layout::ChatGlm6b | Layout::ChatGlm => None,
            Layout::Hf => apart(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
            Layout::Gguf => apart(["attn_q", "attn_k", "attn_v"]),
        };
        BlockNames {
            attention_norm,
            qkv,
            q_k_v,
            attention_out,
            attention_post_norm,
            ffn_norm,
            ffn_up,
            ffn_down,
            ffn_post_norm,
        }
    }
}
