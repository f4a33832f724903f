//! What each layout calls a tower's tensors.
//!
//! Sources: `visual.py` of THUDM/glm-4v-9b; transformers' `modeling_siglip.py`, `modeling_glm4v.py` and
//! `modeling_glm_ocr.py`; llama.cpp's `tools/mtmd/clip-impl.h` and `clip.cpp`.

use super::parts::TowerRole;

/// A naming of a tower's tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TowerNaming {
    /// GLM-4V-9B's repository.
    Glm4v9b,
    /// GLM-Edge-V's.
    EdgeV,
    /// Transformers' Glm4v and GlmOcr classes.
    Hf,
    /// GLM-Edge-V's in llama.cpp's files.
    MmprojEdge {
        /// Whether the two matrices of the feed-forward have each other's names.
        swapped: bool,
    },
    /// Those of GLM-4.1V, its like and GLM-OCR in llama.cpp's files.
    MmprojGlm4v,
}

impl TowerNaming {
    /// The names of a weight, without `.weight` or `.bias`: one, or one for each of its sections. Of values that stay on
    /// the host the whole name.
    pub fn names(self, layer: Option<usize>, role: TowerRole) -> Vec<String> {
        let (outside, layers, names) = match self {
            TowerNaming::Glm4v9b => ("transformer.vision.", "transformer.layers.", in_glm_4v(role)),
            TowerNaming::EdgeV => {
                ("model.vision.", "vit.model.vision_model.encoder.layers.", in_edge_v(role))
            }
            TowerNaming::Hf => ("model.visual.", "blocks.", in_hf(role)),
            TowerNaming::MmprojEdge { swapped } => ("", "v.blk.", in_mmproj_edge(role, swapped)),
            TowerNaming::MmprojGlm4v => ("", "v.blk.", in_mmproj_glm4v(role)),
        };
        let layer = layer.map_or(String::new(), |layer| format!("{layers}{layer}."));
        names.iter().map(|name| format!("{outside}{layer}{name}")).collect()
    }

    /// The tensor that has the second frame of a weight whose first one is under its own name.
    pub(super) fn second_frame(self, role: TowerRole) -> Option<&'static str> {
        let is_apart = self == TowerNaming::MmprojGlm4v && role == TowerRole::PatchEmbedding;
        is_apart.then_some("v.patch_embd.weight.1")
    }
}

fn in_glm_4v(role: TowerRole) -> &'static [&'static str] {
    match role {
        TowerRole::PatchEmbedding => &["patch_embedding.proj"],
        TowerRole::ClassRow => &["patch_embedding.cls_embedding"],
        TowerRole::Positions => &["patch_embedding.position_embedding.weight"],
        TowerRole::AttentionNorm => &["input_layernorm"],
        TowerRole::Qkv => &["attention.query_key_value"],
        TowerRole::AttentionOut => &["attention.dense"],
        TowerRole::FfnNorm => &["post_attention_layernorm"],
        TowerRole::FfnUp => &["mlp.fc1"],
        TowerRole::FfnDown => &["mlp.fc2"],
        TowerRole::Merge => &["conv"],
        TowerRole::Projection => &["linear_proj.linear_proj"],
        TowerRole::ProjectionNorm => &["linear_proj.norm1"],
        TowerRole::AdapterUp => &["linear_proj.gate_proj", "linear_proj.dense_h_to_4h"],
        TowerRole::AdapterDown => &["linear_proj.dense_4h_to_h"],
        TowerRole::Begin => &["boi"],
        TowerRole::End => &["eoi"],
        TowerRole::StemNorm | TowerRole::QueryNorm | TowerRole::KeyNorm | TowerRole::LastNorm => &[],
    }
}

fn in_edge_v(role: TowerRole) -> &'static [&'static str] {
    match role {
        TowerRole::PatchEmbedding => &["vit.model.vision_model.embeddings.patch_embedding"],
        TowerRole::Positions => &["vit.model.vision_model.embeddings.position_embedding.weight"],
        TowerRole::AttentionNorm => &["layer_norm1"],
        TowerRole::Qkv => &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
        TowerRole::AttentionOut => &["self_attn.out_proj"],
        TowerRole::FfnNorm => &["layer_norm2"],
        TowerRole::FfnUp => &["mlp.fc1"],
        TowerRole::FfnDown => &["mlp.fc2"],
        TowerRole::LastNorm => &["vit.model.vision_model.post_layernorm"],
        TowerRole::Merge => &["adapter.conv"],
        TowerRole::Projection => &["adapter.linear.linear_proj"],
        TowerRole::ProjectionNorm => &["adapter.linear.norm1"],
        TowerRole::AdapterUp => &["adapter.linear.gate_proj", "adapter.linear.dense_h_to_4h"],
        TowerRole::AdapterDown => &["adapter.linear.dense_4h_to_h"],
        TowerRole::Begin => &["adapter.boi"],
        TowerRole::End => &["adapter.eoi"],
        TowerRole::ClassRow | TowerRole::StemNorm | TowerRole::QueryNorm | TowerRole::KeyNorm => &[],
    }
}

fn in_hf(role: TowerRole) -> &'static [&'static str] {
    match role {
        TowerRole::PatchEmbedding => &["patch_embed.proj"],
        TowerRole::Positions => &["embeddings.position_embedding.weight"],
        TowerRole::StemNorm => &["post_conv_layernorm"],
        TowerRole::AttentionNorm => &["norm1"],
        TowerRole::Qkv => &["attn.qkv"],
        TowerRole::QueryNorm => &["attn.q_norm"],
        TowerRole::KeyNorm => &["attn.k_norm"],
        TowerRole::AttentionOut => &["attn.proj"],
        TowerRole::FfnNorm => &["norm2"],
        TowerRole::FfnUp => &["mlp.gate_proj", "mlp.up_proj"],
        TowerRole::FfnDown => &["mlp.down_proj"],
        TowerRole::LastNorm => &["post_layernorm"],
        TowerRole::Merge => &["downsample"],
        TowerRole::Projection => &["merger.proj"],
        TowerRole::ProjectionNorm => &["merger.post_projection_norm"],
        TowerRole::AdapterUp => &["merger.gate_proj", "merger.up_proj"],
        TowerRole::AdapterDown => &["merger.down_proj"],
        TowerRole::ClassRow | TowerRole::Begin | TowerRole::End => &[],
    }
}

fn in_mmproj_edge(role: TowerRole, swapped: bool) -> &'static [&'static str] {
    match role {
        TowerRole::PatchEmbedding => &["v.patch_embd"],
        TowerRole::Positions => &["v.position_embd.weight"],
        TowerRole::AttentionNorm => &["ln1"],
        TowerRole::Qkv => &["attn_q", "attn_k", "attn_v"],
        TowerRole::AttentionOut => &["attn_out"],
        TowerRole::FfnNorm => &["ln2"],
        TowerRole::FfnUp if !swapped => &["ffn_up"],
        TowerRole::FfnDown if swapped => &["ffn_up"],
        TowerRole::FfnUp | TowerRole::FfnDown => &["ffn_down"],
        TowerRole::LastNorm => &["v.post_ln"],
        TowerRole::Merge => &["adapter.conv"],
        TowerRole::Projection => &["adapter.linear.linear"],
        TowerRole::ProjectionNorm => &["adapter.linear.norm1"],
        TowerRole::AdapterUp => &["adapter.linear.gate", "adapter.linear.dense_h_to_4h"],
        TowerRole::AdapterDown => &["adapter.linear.dense_4h_to_h"],
        TowerRole::Begin => &["adapter.boi"],
        TowerRole::End => &["adapter.eoi"],
        TowerRole::ClassRow | TowerRole::StemNorm | TowerRole::QueryNorm | TowerRole::KeyNorm => &[],
    }
}

fn in_mmproj_glm4v(role: TowerRole) -> &'static [&'static str] {
    match role {
        TowerRole::PatchEmbedding => &["v.patch_embd"],
        TowerRole::Positions => &["v.position_embd.weight"],
        TowerRole::StemNorm => &["v.norm_embd"],
        TowerRole::AttentionNorm => &["ln1"],
        TowerRole::Qkv => &["attn_qkv"],
        TowerRole::QueryNorm => &["attn_q_norm"],
        TowerRole::KeyNorm => &["attn_k_norm"],
        TowerRole::AttentionOut => &["attn_out"],
        TowerRole::FfnNorm => &["ln2"],
        TowerRole::FfnUp => &["ffn_gate", "ffn_up"],
        TowerRole::FfnDown => &["ffn_down"],
        TowerRole::LastNorm => &["v.post_ln"],
        TowerRole::Merge => &["mm.patch_merger"],
        TowerRole::Projection => &["mm.model.fc"],
        TowerRole::ProjectionNorm => &["mm.post_norm"],
        TowerRole::AdapterUp => &["mm.gate", "mm.up"],
        TowerRole::AdapterDown => &["mm.down"],
        TowerRole::ClassRow | TowerRole::Begin | TowerRole::End => &[],
    }
}
