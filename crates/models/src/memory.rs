//! How much memory a model needs, before anything is loaded.

use glimmer_checkpoint::Checkpoint;
use glimmer_tensor::{KvType, PAGE_SLOTS};

use crate::{Block, DecoderSpec};

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
    let attended = if spec.attends_in_place() { 0 } else { spec.heads.attended_width() };
    let branch = if spec.block == Block::Sandwich { spec.hidden } else { 0 };
    let row = 2 * spec.hidden + spec.heads.qkv_width() + attended + branch + spec.ffn;
    Memory {
        weights: checkpoint.tensors().iter().map(|t| t.bytes as u64).sum(),
        kv: slots * (spec.layers * spec.heads.kv_bytes(kv_type)) as u64,
        activations: 4 * (rows * row + spec.vocab + 2 * spec.hidden) as u64,
    }
}
