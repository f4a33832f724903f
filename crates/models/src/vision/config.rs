//! From a model's own configuration to a [`VisionSpec`].
//!
//! Sources: `visual.py` and `configuration_chatglm.py` of THUDM/glm-4v-9b; transformers' `configuration_siglip.py`,
//! `configuration_glm4v.py` and `configuration_glm_ocr.py`, and how the models beside them use these keys.

use glimmer_checkpoint::Checkpoint;
use glimmer_tensor::{Heads, NormKind, Rope, RopePairs, RopeSection};
use serde_json::Value;

use super::mmproj;
use super::names::TowerNaming;
use super::spec::{Adapter, Gelu, PatchPositions, Stem, TowerActivation, TowerLayer, VisionSpec};
use crate::config::{Keys, in_bounds};
use crate::rope::inv_freq;
use crate::{ModelError, NormSpec};

/// LayerNorm of the adapters, where nobody says otherwise: PyTorch's default.
pub(super) const ADAPTER_NORM: NormSpec = NormSpec { kind: NormKind::Layer, eps: 1e-5 };

/// Width of a residual stream, at most.
const MOST_WIDTH: usize = 1 << 14;

/// Colours of a pixel.
pub(super) const CHANNELS: usize = 3;

impl VisionSpec {
    /// Reads a checkpoint's configuration, that of a model or of llama.cpp's file beside one; `None` where it has no tower.
    /// No tensor's values are looked at.
    ///
    /// # Errors
    /// When a key is missing, of the wrong kind or out of bounds, or the tower is none of those that are known.
    pub fn of(checkpoint: &Checkpoint) -> Result<Option<VisionSpec>, ModelError> {
        let spec = match checkpoint.metadata() {
            Some(metadata) => mmproj::of(checkpoint, metadata)?,
            None => Self::of_config(checkpoint)?,
        };
        if let Some(spec) = &spec {
            let file = format!("{}, the vision tower", checkpoint.path().display());
            spec.check().map_err(|message| ModelError::Config { file, message })?;
        }
        Ok(spec)
    }

    /// Reads a `config.json`.
    fn of_config(checkpoint: &Checkpoint) -> Result<Option<VisionSpec>, ModelError> {
        let Some(config) = checkpoint.config() else { return Ok(None) };
        let Some(vision) = config.get("vision_config").filter(|vision| !vision.is_null()) else {
            return Ok(None);
        };
        let file = checkpoint.path().join("config.json").display().to_string();
        let all = Keys::json(file.clone(), config);
        let keys = Keys::json(format!("{file}, vision_config"), vision);
        if !vision.is_object() {
            return Err(all.wrong("vision_config", vision, "an object"));
        }
        let model = config["model_type"].as_str().unwrap_or("");
        let tower = match &vision["model_type"] {
            Value::Null => "",
            Value::String(text) => text,
            other => return Err(keys.wrong("model_type", other, "a text")),
        };
        let spec = match (tower, model) {
            ("", "chatglm") => glm_4v(&keys, &all)?,
            ("siglip_vision_model", _) | ("", "glm") => edge_v(&keys, &all)?,
            ("glm_ocr_vision", _) | ("", "glm_ocr") => glm_4_1v(&keys, vision, true)?,
            ("glm4v_vision" | "glm4v_moe_vision", _) | ("", "glm4v" | "glm4v_moe" | "glm46v") => {
                glm_4_1v(&keys, vision, false)?
            }
            _ => {
                let known =
                    "that of GLM-4V, siglip_vision_model, glm4v_vision, glm4v_moe_vision or glm_ocr_vision";
                return Err(keys.wrong("model_type", &vision["model_type"], known));
            }
        };
        Ok(Some(spec))
    }

    /// Bounds that keep every later product far from overflow, before anything is made that is as large.
    fn check(&self) -> Result<(), String> {
        let (layer, heads) = (&self.layer, self.layer.heads);
        in_bounds(&[
            ("layers", self.layers, 1 << 10),
            ("hidden size", self.width, MOST_WIDTH),
            ("attention heads", heads.heads, 1 << 10),
            ("feed-forward size", layer.inner, 1 << 18),
            ("patch size", self.patch, 1 << 8),
            ("frames of a patch", self.span, 16),
            ("merge size", self.merge, 16),
            ("decoder's hidden size", self.hidden, 1 << 16),
            ("adapter's size", self.adapter.inner, 1 << 20),
        ])?;
        if let PatchPositions::Learned { side } | PatchPositions::Sampled { side } = self.stem.positions {
            in_bounds(&[("patches in a row", side, 1 << 10)])?;
            if matches!(self.stem.positions, PatchPositions::Learned { .. })
                && !side.is_multiple_of(self.merge)
            {
                return Err(format!("{side} patches in a row are no blocks of {0} x {0}", self.merge));
            }
        }
        let mut norms = [Some(layer.norm), layer.head_norm, self.stem.norm, self.last_norm].into_iter();
        if let Some(norm) = norms.find_map(|norm| norm.filter(|n| !(n.eps.is_finite() && n.eps > 0.0))) {
            return Err(format!("norm epsilon is {}; a finite number over 0 is needed", norm.eps));
        }
        if !(self.divisor.is_finite() && self.divisor > 0.0) {
            return Err(format!("scaling_factor is {}; a finite number over 0 is needed", self.divisor));
        }
        let rope = layer.rope.iter().flat_map(|rope| &rope.sections).flat_map(|section| &section.inv_freq);
        if rope.into_iter().any(|frequency| !frequency.is_finite()) {
            return Err("rope_theta gives frequencies that are not finite".to_owned());
        }
        Ok(())
    }
}

/// Heads that divide a width.
pub(super) fn heads(keys: &Keys<'_>, key: &str, width: usize) -> Result<Heads, ModelError> {
    in_bounds(&[("hidden_size", width, MOST_WIDTH)]).map_err(|message| keys.error(message))?;
    let heads = keys.heads(key)?;
    if !width.is_multiple_of(heads) {
        return Err(keys.error(format!("hidden_size {width} is no multiple of {key} {heads}")));
    }
    Ok(Heads::new(heads, heads, width / heads))
}

/// Patches in a row of the pictures that positions were learned for.
pub(super) fn side(keys: &Keys<'_>, key: &str, patch: usize) -> Result<usize, ModelError> {
    let image = keys.size(key)?;
    if patch == 0 || !image.is_multiple_of(patch) {
        return Err(keys.error(format!("{key} {image} is no multiple of a patch of {patch}")));
    }
    Ok(image / patch)
}

pub(super) fn norm(kind: NormKind, eps: f64) -> NormSpec {
    NormSpec { kind, eps: eps as f32 }
}

/// GLM-4V-9B: EVA2-CLIP. `keys` are those of the tower, `all` the model's.
fn glm_4v(keys: &Keys<'_>, all: &Keys<'_>) -> Result<VisionSpec, ModelError> {
    keys.insist_on_text("hidden_act", &["gelu"])?;
    let (width, patch) = (keys.size("hidden_size")?, keys.size("patch_size")?);
    let side = side(keys, "image_size", patch)?;
    let positions = keys.size("num_positions")?;
    if positions != side.saturating_mul(side).saturating_add(1) {
        return Err(
            keys.error(format!("num_positions is {positions}, where {side} x {side} patches and 1 are"))
        );
    }
    Ok(VisionSpec {
        naming: TowerNaming::Glm4v9b,
        width,
        patch,
        span: 1,
        stem: Stem {
            pixels: CHANNELS.saturating_mul(patch).saturating_mul(patch),
            class_row: true,
            norm: None,
            positions: PatchPositions::Learned { side },
        },
        layers: keys.size("num_hidden_layers")?,
        layer: TowerLayer {
            norm: norm(NormKind::Layer, keys.float("layer_norm_eps", 1e-6)?),
            norm_after: true,
            heads: heads(keys, "num_heads", width)?,
            head_norm: None,
            rope: None,
            qkv_bias: true,
            out_bias: true,
            inner: keys.size("intermediate_size")?,
            activation: TowerActivation::Gelu(Gelu::Erf),
            ffn_bias: true,
        },
        last_norm: None,
        merge: 2,
        hidden: all.size("hidden_size")?,
        adapter: Adapter { norm: ADAPTER_NORM, gelu: Gelu::Erf, inner: all.size("ffn_hidden_size")? },
        ends: true,
        divisor: keys.float("scaling_factor", 1.0)? as f32,
    })
}

/// GLM-Edge-V: SigLIP.
fn edge_v(keys: &Keys<'_>, all: &Keys<'_>) -> Result<VisionSpec, ModelError> {
    keys.insist_on_text("hidden_act", &["gelu_pytorch_tanh"])?;
    let (width, patch) = (keys.size("hidden_size")?, keys.size("patch_size")?);
    let layer_norm = norm(NormKind::Layer, keys.float("layer_norm_eps", 1e-6)?);
    Ok(VisionSpec {
        naming: TowerNaming::EdgeV,
        width,
        patch,
        span: 1,
        stem: Stem {
            pixels: CHANNELS.saturating_mul(patch).saturating_mul(patch),
            class_row: false,
            norm: None,
            positions: PatchPositions::Learned { side: side(keys, "image_size", patch)? },
        },
        layers: keys.size("num_hidden_layers")?,
        layer: TowerLayer {
            norm: layer_norm,
            norm_after: false,
            heads: heads(keys, "num_attention_heads", width)?,
            head_norm: None,
            rope: None,
            qkv_bias: true,
            out_bias: true,
            inner: keys.size("intermediate_size")?,
            activation: TowerActivation::Gelu(Gelu::Tanh),
            ffn_bias: true,
        },
        last_norm: Some(layer_norm),
        merge: 2,
        hidden: all.size("hidden_size")?,
        adapter: Adapter { norm: ADAPTER_NORM, gelu: Gelu::Erf, inner: all.size("intermediate_size")? },
        ends: true,
        divisor: 1.0,
    })
}

/// GLM-4.1V, 4.5V, 4.6V; and GLM-OCR, which has norms of heads and biases, and no learned positions.
fn glm_4_1v(keys: &Keys<'_>, vision: &Value, ocr: bool) -> Result<VisionSpec, ModelError> {
    keys.insist_on_text("hidden_act", &["silu"])?;
    let (width, patch) = (keys.size("hidden_size")?, keys.size("patch_size")?);
    let (span, hidden) = (keys.size("temporal_patch_size")?, keys.size("out_hidden_size")?);
    let rms = norm(NormKind::Rms, keys.float("rms_norm_eps", 1e-5)?);
    let (heads, bias) = (heads(keys, "num_heads", width)?, keys.flag("attention_bias", ocr)?);
    let theta = keys.number_in("rope_theta", &vision["rope_parameters"]["rope_theta"])?.unwrap_or(10_000.0);
    let (inner, intermediate) = (hidden, keys.size("intermediate_size")?);
    let (inner, adapter) =
        if ocr { (intermediate, hidden.saturating_mul(CHANNELS)) } else { (inner, intermediate) };
    let positions = if ocr {
        PatchPositions::None
    } else {
        PatchPositions::Sampled { side: side(keys, "image_size", patch)? }
    };
    Ok(VisionSpec {
        naming: TowerNaming::Hf,
        width,
        patch,
        span,
        stem: Stem {
            pixels: CHANNELS.saturating_mul(span).saturating_mul(patch).saturating_mul(patch),
            class_row: false,
            norm: (!ocr).then_some(rms),
            positions,
        },
        layers: keys.size("depth")?,
        layer: TowerLayer {
            norm: rms,
            norm_after: false,
            heads,
            head_norm: ocr.then_some(rms),
            rope: Some(axial(keys, heads.head_dim, theta)?),
            qkv_bias: bias,
            out_bias: ocr && bias,
            inner,
            activation: TowerActivation::SwiGlu,
            ffn_bias: ocr && bias,
        },
        last_norm: Some(rms),
        merge: keys.optional("spatial_merge_size")?.unwrap_or(2),
        hidden,
        adapter: Adapter { norm: ADAPTER_NORM, gelu: Gelu::Erf, inner: adapter },
        ends: false,
        divisor: 1.0,
    })
}

/// A head's first half turns with its second, a half of the pairs by rows and a half by columns.
pub(super) fn axial(keys: &Keys<'_>, head_dim: usize, theta: f64) -> Result<Rope, ModelError> {
    if !head_dim.is_multiple_of(4) {
        return Err(keys.error(format!("heads of {head_dim} do not turn by two axes")));
    }
    let inv_freq = inv_freq(theta, head_dim / 2);
    let section = |axis| RopeSection { axis, first_dim: axis * head_dim / 4, inv_freq: inv_freq.clone() };
    Ok(Rope { pairs: RopePairs::Across, sections: vec![section(0), section(1)], magnitude: 1.0 })
}
