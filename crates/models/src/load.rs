//! Bringing a checkpoint's weights to a device.

use std::sync::atomic::{AtomicBool, Ordering};

use glimmer_checkpoint::Checkpoint;
use glimmer_tensor::quant::check_matrix;
use glimmer_tensor::{Device, MatrixId, MatrixUse, MatrixView, Norm, NormKind};

use crate::config::Understood;
use crate::decoder::{BlockWeights, Decoder, Weights};
use crate::names::Layout;
use crate::{Block, DecoderSpec, Mlp, ModelError};

/// Loads the weights that `understood` names. `progress` is called with bytes done and bytes in all, for people.
///
/// Pages of a mapped file are let go of as their rows come to the device, so that memory never holds the weights twice.
///
/// # Errors
/// When a tensor is missing, has another shape or type than the configuration says, or holds a scale that is not
/// finite.
pub fn load(
    checkpoint: &Checkpoint,
    understood: &Understood,
    mut device: Box<dyn Device>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Decoder, ModelError> {
    let spec = understood.spec.clone();
    let total = checkpoint.tensors().iter().map(|t| t.bytes as u64).sum();
    let mut loader = Loader {
        checkpoint,
        spec: &spec,
        layout: understood.layout,
        device: device.as_mut(),
        done: 0,
        total,
        progress,
    };
    let weights = loader.weights()?;
    // The system brings pages in by the dozen: some came back beside others that were read.
    checkpoint.tensors().iter().for_each(|info| checkpoint.release(info));
    Ok(Decoder::new(spec, device, weights))
}

struct Loader<'a, 'd> {
    checkpoint: &'a Checkpoint,
    spec: &'a DecoderSpec,
    layout: Layout,
    device: &'d mut dyn Device,
    done: u64,
    total: u64,
    progress: &'a mut dyn FnMut(u64, u64),
}

impl<'a> Loader<'a, '_> {
    fn weights(&mut self) -> Result<Weights, ModelError> {
        let spec = self.spec;
        let head_name = self.layout.head();
        let stored_head = self.has(&format!("{head_name}.weight")) || !spec.tied;
        let used_for = if stored_head { MatrixUse::Rows } else { MatrixUse::Linear };
        let embedding = self.matrix(self.layout.embedding(), spec.vocab, spec.hidden, None, used_for)?;
        let blocks = (0..spec.layers).map(|i| self.block(i)).collect::<Result<_, _>>()?;
        let final_norm = self.norm(self.layout.final_norm())?;
        let head = if stored_head {
            self.matrix(head_name, spec.vocab, spec.hidden, None, MatrixUse::Linear)?
        } else {
            embedding
        };
        let rope = self.device.load_rope(&spec.rope);
        Ok(Weights { embedding, blocks, final_norm, head, rope })
    }

    fn block(&mut self, i: usize) -> Result<BlockWeights, ModelError> {
        let spec = self.spec;
        let names = self.layout.block(i);
        let (up_rows, up_use) = match spec.mlp {
            Mlp::SwiGlu => (2 * spec.ffn, MatrixUse::Gated),
            Mlp::Gelu => (spec.ffn, MatrixUse::Linear),
        };
        let post = |loader: &mut Self, name: &str| match spec.block {
            Block::Sandwich => loader.norm(name).map(Some),
            _ => Ok(None),
        };
        let bias = spec.linear_bias;
        Ok(BlockWeights {
            attention_norm: self.norm(&names.attention_norm)?,
            qkv: self.qkv(&names.qkv, names.q_k_v.as_ref())?,
            attention_out: {
                let bias = self.bias(&names.attention_out, spec.hidden, bias)?;
                let name = &names.attention_out;
                self.matrix(
                    name,
                    spec.hidden,
                    spec.heads.attended_width(),
                    bias.as_deref(),
                    MatrixUse::Linear,
                )?
            },
            attention_post_norm: post(self, &names.attention_post_norm)?,
            ffn_norm: self.norm(&names.ffn_norm)?,
            ffn_up: {
                let bias = self.bias(&names.ffn_up, up_rows, bias)?;
                self.matrix(&names.ffn_up, up_rows, spec.hidden, bias.as_deref(), up_use)?
            },
            ffn_down: {
                let bias = self.bias(&names.ffn_down, spec.hidden, bias)?;
                self.matrix(&names.ffn_down, spec.hidden, spec.ffn, bias.as_deref(), MatrixUse::Linear)?
            },
            ffn_post_norm: post(self, &names.ffn_post_norm)?,
        })
    }

    /// The fused projection `[qkv_width, hidden]`, from one tensor or three.
    fn qkv(&mut self, fused: &str, apart: Option<&[String; 3]>) -> Result<MatrixId, ModelError> {
        let spec = self.spec;
        let heads = spec.heads;
        let apart = apart.filter(|_| !self.has(&format!("{fused}.weight")));
        let widths = [heads.q_width(), heads.k_width(), heads.v_width()];
        let mut bias = Vec::new();
        let mut views = Vec::new();
        match apart {
            Some(names) => {
                for (name, rows) in names.iter().zip(widths) {
                    views.push((format!("{name}.weight"), rows));
                    bias.extend(self.bias(name, rows, spec.qkv_bias)?.into_iter().flatten());
                }
            }
            None => {
                views.push((format!("{fused}.weight"), heads.qkv_width()));
                bias.extend(self.bias(fused, heads.qkv_width(), spec.qkv_bias)?.into_iter().flatten());
            }
        }
        let mut parts = Vec::new();
        for (name, rows) in &views {
            parts.push(self.view(name, *rows, spec.hidden)?);
        }
        if self.layout == Layout::ChatGlm6b {
            let order = by_head_to_by_kind(heads.heads, heads.head_dim);
            let whole = parts[0];
            parts = order.iter().map(|range| whole.slice_rows(range.clone())).collect();
            bias =
                order.iter().flat_map(|range| bias.get(range.clone()).unwrap_or_default()).copied().collect();
        }
        let bias = Some(bias.as_slice()).filter(|b| !b.is_empty());
        let names: Vec<_> = views.iter().map(|(name, _)| name.as_str()).collect();
        self.take(&names, &parts, bias, MatrixUse::Linear)
    }

    fn matrix(
        &mut self,
        name: &str,
        rows: usize,
        cols: usize,
        bias: Option<&[f32]>,
        used_for: MatrixUse,
    ) -> Result<MatrixId, ModelError> {
        let name = format!("{name}.weight");
        let view = self.view(&name, rows, cols)?;
        self.take(&[&name], &[view], bias, used_for)
    }

    /// Brings the rows of some tensors to the device. Block scales are looked at on the way, while they are in the
    /// processor's caches. Plain floats are not: what is not finite among them shows in the first step, with its layer.
    fn take(
        &mut self,
        names: &[&str],
        parts: &[MatrixView<'_>],
        bias: Option<&[f32]>,
        used_for: MatrixUse,
    ) -> Result<MatrixId, ModelError> {
        let checkpoint = self.checkpoint;
        let sound = AtomicBool::new(true);
        let id = self.device.load_matrix(parts, bias, used_for, &|rows| {
            if rows.dtype.is_quantized() && check_matrix(rows).is_err() {
                sound.store(false, Ordering::Relaxed);
            }
            checkpoint.release_bytes(rows.data);
        })?;
        for info in names.iter().filter_map(|name| checkpoint.info(name)) {
            if !sound.load(Ordering::Relaxed) {
                // Says which number of which tensor it was.
                checkpoint.check_finite(info)?;
            }
            // Rows end within pages, which came back when the next rows were read.
            checkpoint.release(info);
            self.done += info.bytes as u64;
            (self.progress)(self.done, self.total);
        }
        Ok(id)
    }

    fn norm(&mut self, name: &str) -> Result<Norm, ModelError> {
        let spec = self.spec;
        let weight = self.vector(&format!("{name}.weight"), spec.hidden)?;
        let bias = match spec.norm {
            NormKind::Layer => Some(self.vector(&format!("{name}.bias"), spec.hidden)?),
            NormKind::Rms => None,
        };
        Ok(Norm {
            kind: spec.norm,
            weight: self.device.load_vector(&weight),
            bias: bias.map(|b| self.device.load_vector(&b)),
            eps: spec.eps,
        })
    }

    /// A linear's bias: required where the configuration promises one, used wherever one is stored.
    fn bias(&self, name: &str, len: usize, promised: bool) -> Result<Option<Vec<f32>>, ModelError> {
        let name = format!("{name}.bias");
        if promised || self.has(&name) { self.vector(&name, len).map(Some) } else { Ok(None) }
    }

    fn has(&self, name: &str) -> bool {
        self.checkpoint.info(name).is_some()
    }

    fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, ModelError> {
        Ok(self.checkpoint.vector_of(name, len)?)
    }

    fn view(&self, name: &str, rows: usize, cols: usize) -> Result<MatrixView<'a>, ModelError> {
        Ok(self.checkpoint.matrix_of(name, rows, cols)?)
    }
}

/// ChatGLM-6B's fused rows are `q k v` of head 0, `q k v` of head 1, ...: the row ranges in the order all q, all k,
/// all v.
fn by_head_to_by_kind(heads: usize, head_dim: usize) -> Vec<std::ops::Range<usize>> {
    (0..3)
        .flat_map(|kind| {
            (0..heads).map(move |head| {
                let first = (head * 3 + kind) * head_dim;
                first..first + head_dim
            })
        })
        .collect()
}
