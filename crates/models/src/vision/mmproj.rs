//! Towers in llama.cpp's GGUF files beside a model ("mmproj").
//!
//! Sources: `tools/mtmd/clip.cpp`, `clip-impl.h` and the graphs `models/llava.cpp` (GLM-Edge-V) and `models/glm4v.cpp`; what
//! the files hold, `conversion/qwen3vl.py` (`Glm4VVisionModel`).

use glimmer_checkpoint::{Checkpoint, gguf};
use glimmer_tensor::NormKind;

use super::config::{ADAPTER_NORM, CHANNELS, axial, heads, norm, side};
use super::names::TowerNaming;
use super::spec::{Adapter, Gelu, PatchPositions, Stem, TowerActivation, TowerLayer, VisionSpec};
use crate::ModelError;
use crate::config::Keys;

/// Reads the keys of a GGUF; `None` where it holds no tower. Widths that keys do not tell, or tell of something else, are
/// those of tensors.
pub(super) fn of(
    checkpoint: &Checkpoint,
    metadata: &gguf::Metadata,
) -> Result<Option<VisionSpec>, ModelError> {
    if metadata.get::<&str>("general.architecture")? != Some("clip") {
        return Ok(None);
    }
    let keys = Keys::gguf(checkpoint.path().display().to_string(), metadata);
    let projector = metadata.get::<&str>("clip.projector_type")?;
    let file = File { checkpoint, keys: &keys };
    match projector {
        Some("adapter") => file.edge_v().map(Some),
        Some("glm4v") => file.glm_4_1v().map(Some),
        other => {
            let found = crate::config::quoted(other.unwrap_or(""));
            Err(keys.error(format!("clip.projector_type is {found}; adapter or glm4v is needed")))
        }
    }
}

struct File<'a> {
    checkpoint: &'a Checkpoint,
    keys: &'a Keys<'a>,
}

impl File<'_> {
    fn size(&self, key: &str) -> Result<usize, ModelError> {
        self.keys.size(&format!("clip.vision.{key}"))
    }

    fn epsilon(&self) -> Result<f64, ModelError> {
        self.keys.float("clip.vision.attention.layer_norm_epsilon", 1e-6)
    }

    fn has(&self, name: &str) -> bool {
        self.checkpoint.holds(name)
    }

    /// The first two dimensions of a matrix.
    fn shape(&self, name: &str) -> Result<[usize; 2], ModelError> {
        match self.checkpoint.tensor(name)?.info.shape.as_slice() {
            &[rows, cols] => Ok([rows, cols]),
            other => {
                Err(self.keys.error(format!("{name} has {} dimensions; a matrix is needed", other.len())))
            }
        }
    }

    /// GLM-Edge-V. llama.cpp computes its adapter's norm with the tower's epsilon and its GELU by tanh.
    fn edge_v(&self) -> Result<VisionSpec, ModelError> {
        let (width, patch) = (self.size("embedding_length")?, self.size("patch_size")?);
        let layer_norm = norm(NormKind::Layer, self.epsilon()?);
        let [hidden, adapter] = self.shape("adapter.linear.dense_4h_to_h.weight")?;
        // Early files have the two the wrong way round.
        let [rows, cols] = self.shape("v.blk.0.ffn_down.weight")?;
        let swapped = cols == width && rows != width;
        Ok(VisionSpec {
            naming: TowerNaming::MmprojEdge { swapped },
            width,
            patch,
            span: 1,
            stem: Stem {
                pixels: CHANNELS.saturating_mul(patch).saturating_mul(patch),
                class_row: false,
                norm: None,
                positions: PatchPositions::Learned {
                    side: side(self.keys, "clip.vision.image_size", patch)?,
                },
            },
            layers: self.size("block_count")?,
            layer: TowerLayer {
                norm: layer_norm,
                norm_after: false,
                heads: heads(self.keys, "clip.vision.attention.head_count", width)?,
                head_norm: None,
                rope: None,
                qkv_bias: self.has("v.blk.0.attn_q.bias"),
                out_bias: self.has("v.blk.0.attn_out.bias"),
                inner: if swapped { rows } else { cols },
                activation: TowerActivation::Gelu(Gelu::Tanh),
                ffn_bias: self.has("v.blk.0.ffn_up.bias"),
            },
            last_norm: self.has("v.post_ln.weight").then_some(layer_norm),
            merge: 2,
            hidden,
            adapter: Adapter { norm: layer_norm, gelu: Gelu::Tanh, inner: adapter },
            ends: true,
            divisor: 1.0,
        })
    }

    /// GLM-4.1V and its like, and GLM-OCR: what they differ in is what their files hold.
    fn glm_4_1v(&self) -> Result<VisionSpec, ModelError> {
        let (width, patch) = (self.size("embedding_length")?, self.size("patch_size")?);
        let rms = norm(NormKind::Rms, self.epsilon()?);
        let heads = heads(self.keys, "clip.vision.attention.head_count", width)?;
        let [hidden, _] = self.shape("mm.model.fc.weight")?;
        let [adapter, _] = self.shape("mm.up.weight")?;
        let [inner, _] = self.shape("v.blk.0.ffn_up.weight")?;
        let positions = if self.has("v.position_embd.weight") {
            let [places, _] = self.shape("v.position_embd.weight")?;
            let side = places.isqrt();
            if side * side != places {
                return Err(self
                    .keys
                    .error(format!("v.position_embd.weight has {places} rows, which are no square")));
            }
            PatchPositions::Sampled { side }
        } else {
            PatchPositions::None
        };
        Ok(VisionSpec {
            naming: TowerNaming::MmprojGlm4v,
            width,
            patch,
            span: 2,
            stem: Stem {
                pixels: (2 * CHANNELS).saturating_mul(patch).saturating_mul(patch),
                class_row: false,
                norm: self.has("v.norm_embd.weight").then_some(rms),
                positions,
            },
            layers: self.size("block_count")?,
            layer: TowerLayer {
                norm: rms,
                norm_after: false,
                heads,
                head_norm: self.has("v.blk.0.attn_q_norm.weight").then_some(rms),
                rope: Some(axial(self.keys, heads.head_dim, 10_000.0)?),
                qkv_bias: self.has("v.blk.0.attn_qkv.bias"),
                out_bias: self.has("v.blk.0.attn_out.bias"),
                inner,
                activation: TowerActivation::SwiGlu,
                ffn_bias: self.has("v.blk.0.ffn_up.bias"),
            },
            last_norm: Some(rms),
            merge: self.keys.optional("clip.vision.spatial_merge_size")?.unwrap_or(2),
            hidden,
            adapter: Adapter { norm: ADAPTER_NORM, gelu: Gelu::Erf, inner: adapter },
            ends: false,
            divisor: 1.0,
        })
    }
}
