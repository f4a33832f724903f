//! How much memory a model needs, before anything is loaded.

use std::collections::HashSet;

use glimmer_checkpoint::Checkpoint;
use glimmer_tensor::{KvType, PAGE_SLOTS, Role};

use crate::{Attention, DecoderSpec, FeedForward, LayerSpec, Residual};

/// Bytes by purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The weights, as stored; packed they are no larger.
    pub weights: u64,
    /// Keys and values of one full context.
    pub kv: u64,
    /// Activations of one step and the logits.
    pub activations: u64,
}

impl Memory {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights + self.kv + self.activations
    }
}

/// What `context` slots in `kv_type` and steps of up to `rows` rows need.
pub fn memory(
    checkpoint: &Checkpoint,
    spec: &DecoderSpec,
    context: usize,
    kv_type: KvType,
    rows: usize,
) -> Memory {
    let slots = context.next_multiple_of(PAGE_SLOTS) as u64;
    // Layers share a buffer that is as wide in both.
    let buffers: HashSet<_> = spec.layers.iter().flat_map(|layer| layer.buffers(spec.hidden)).collect();
    let row: usize = buffers.iter().map(|(_, width)| width).sum();
    Memory {
        weights: checkpoint.tensors().iter().map(|t| t.bytes as u64).sum(),
        kv: slots * spec.kv_bytes(kv_type) as u64,
        activations: 4 * (rows * row + spec.vocab + 2 * spec.hidden) as u64,
    }
}

impl LayerSpec {
    /// The activation buffers of a layer on a residual stream `hidden` wide, with their widths.
    pub(crate) fn buffers(&self, hidden: usize) -> Vec<(Role, usize)> {
        let mut buffers = vec![(Role::Hidden, hidden), (Role::Normed, hidden)];
        match self.attention {
            Attention::Heads { heads, .. } => {
                buffers.push((Role::Qkv, heads.qkv_width()));
                // What attention returns may lie where its normed input lay where that is as wide, and not needed again
                // as the residual stream.
                let normed_is_residual = matches!(self.residual, Residual::ScaledNormed { .. });
                if normed_is_residual || heads.attended_width() != hidden {
                    buffers.push((Role::Attended, heads.attended_width()));
                }
            }
        }
        if self.residual == Residual::Sandwich {
            buffers.push((Role::Branch, hidden));
        }
        match self.feed_forward {
            FeedForward::Dense { inner, .. } => buffers.push((Role::Inner, inner)),
        }
        buffers
    }
}
