//! How much memory a model needs, before anything is loaded.

use std::collections::HashSet;
use std::ops::Range;

use glimmer_checkpoint::Checkpoint;
use glimmer_tensor::{Capacity, KvType, NeededMatrix, Needs, PAGE_SLOTS, Plan, Role};

use crate::config::Understood;
use crate::load::ModelWeights;
use crate::parts::{PartKind, Within};
use crate::{Attention, DecoderSpec, FeedForward, Latent, LayerSpec, ModelError, Residual};

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
    Memory {
        weights: checkpoint.tensors().iter().map(|t| t.bytes as u64).sum(),
        kv: spec.cache_bytes(context, kv_type),
        activations: spec.activation_bytes(rows, 1),
    }
}

/// What a device is to hold that has these layers of the model. The weights' values are not read.
///
/// # Errors
/// When a tensor is missing or has another shape or type than the configuration says.
pub fn needs(
    weights: ModelWeights<'_>,
    layers: Range<usize>,
    capacity: Capacity,
    kv_type: KvType,
) -> Result<Needs, ModelError> {
    let ModelWeights { checkpoint, understood, quantize } = weights;
    let spec = &understood.spec;
    let (mut matrices, mut vectors) = (Vec::new(), Vec::new());
    for part in spec.parts_of(understood.has_own_head(Some(checkpoint)), layers.clone()) {
        match &part.kind {
            PartKind::Norm(norm, width) => vectors.extend(norm.vectors().iter().map(|_| *width)),
            PartKind::Vector(len) => vectors.push(*len),
            PartKind::Matrix(matrix) => {
                let (stored, used_for) = (weights.matrix(&part, matrix)?, matrix.used_for);
                let parts = stored.shapes(quantize);
                matrices.push(NeededMatrix { parts, biased: stored.biased, used_for });
            }
        }
    }
    let mut buffers: Vec<_> =
        spec.layers[layers.clone()].iter().flat_map(|layer| layer.buffers(spec.hidden)).collect();
    if layers.end == spec.layers.len() {
        buffers.extend(spec.head_buffers());
    }
    Ok(Needs {
        matrices,
        vectors,
        rope: spec.rope.clone(),
        plan: spec.plan(layers, capacity, kv_type),
        buffers,
    })
}

impl Understood {
    /// Bytes of the weights of these layers, as they are stored.
    ///
    /// # Errors
    /// When the layout has no name for one.
    pub fn layer_bytes(&self, checkpoint: &Checkpoint, layers: Range<usize>) -> Result<usize, ModelError> {
        let (mut bytes, mut counted) = (0, HashSet::new());
        // A tensor may have several of the weights.
        let mut add = |name: String| {
            let of_tensor = checkpoint.info(&name).map_or(0, |info| info.bytes);
            bytes += if counted.insert(name) { of_tensor } else { 0 };
        };
        for part in self.spec.parts_of(false, layers).iter().filter(|part| part.layer.is_some()) {
            match &part.kind {
                PartKind::Norm(norm, _) => {
                    let name = self.naming.need(part.layer, part.role)?;
                    norm.vectors().iter().for_each(|vector| add(format!("{name}.{vector}")));
                }
                PartKind::Vector(_) => add(self.naming.need(part.layer, part.role)?),
                PartKind::Matrix(matrix) => {
                    let tensors = self.naming.tensors(part, matrix, |name| checkpoint.holds(name))?;
                    tensors
                        .iter()
                        .for_each(|rows| [rows.weight(), rows.bias()].into_iter().for_each(&mut add));
                }
            }
        }
        Ok(bytes)
    }
}

impl Understood {
    /// Bytes of the weights of all experts, as they are stored, and their elements that are in no block format.
    ///
    /// # Errors
    /// When the layout has no name for one.
    pub fn expert_bytes(&self, checkpoint: &Checkpoint) -> Result<(usize, usize), ModelError> {
        let (mut bytes, mut plain, mut counted) = (0, 0, HashSet::new());
        for part in self.spec.parts(false) {
            let PartKind::Matrix(matrix) = &part.kind else { continue };
            if !matches!(matrix.within, Within::Experts { .. }) {
                continue;
            }
            for tensor in self.naming.tensors(&part, matrix, |name| checkpoint.holds(name))? {
                let info = checkpoint.info(&tensor.weight()).filter(|info| counted.insert(info.name.clone()));
                let Some(info) = info else { continue };
                bytes += info.bytes;
                plain += if info.dtype.is_quantized() { 0 } else { info.shape.iter().product::<usize>() };
            }
        }
        Ok((bytes, plain))
    }
}

impl DecoderSpec {
    /// Which share of all experts some rows meet in a layer, where each chooses any of them as likely as any other; 1 where
    /// there are none.
    pub fn experts_met(&self, rows: f64) -> f64 {
        let left = |count: usize, chosen: usize| (1.0 - chosen as f64 / count as f64).powf(rows);
        let of = |layer: &LayerSpec| match layer.feed_forward {
            FeedForward::Experts { count, routing, .. } => Some(1.0 - left(count, routing.chosen)),
            FeedForward::Dense { .. } => None,
        };
        self.layers.iter().find_map(of).unwrap_or(1.0)
    }

    /// Bytes of the keys and values of `slots` slots, in whole pages.
    pub fn cache_bytes(&self, slots: usize, kv_type: KvType) -> u64 {
        slots.next_multiple_of(PAGE_SLOTS) as u64 * self.kv_bytes(kv_type) as u64
    }

    /// Bytes of the activations of one step of `rows` rows, of which `logits_rows` have logits.
    pub fn activation_bytes(&self, rows: usize, logits_rows: usize) -> u64 {
        // Layers share a buffer that is as wide in both.
        let buffers: HashSet<_> = self.layers.iter().flat_map(|layer| layer.buffers(self.hidden)).collect();
        let row: usize = buffers.iter().map(|(_, width)| width).sum();
        4 * (rows * row + logits_rows * (self.vocab + 2 * self.hidden)) as u64
    }

    /// Columns of the widest matrix.
    pub fn most_columns(&self) -> usize {
        let of = |layer: &LayerSpec| {
            let attended = match layer.attention {
                Attention::Heads { heads, .. } => heads.attended_width(),
                Attention::Latent(Latent { heads, query_rank, rank, value, .. }) => {
                    (heads * value).max(query_rank).max(rank)
                }
            };
            attended.max(layer.feed_forward.widest())
        };
        self.layers.iter().map(of).fold(self.hidden, usize::max)
    }

    /// The plan of a device that holds these layers.
    pub fn plan(&self, layers: Range<usize>, capacity: Capacity, kv_type: KvType) -> Plan {
        let heads = self.layers[layers].iter().map(|layer| layer.attention.heads());
        Plan { capacity, vocab: self.vocab, layers: heads.collect(), kv_type, axes: self.rope.axes() }
    }

    /// The buffers after the last layer, with their widths.
    pub(crate) fn head_buffers(&self) -> [(Role, usize); 3] {
        [(Role::Last, self.hidden), (Role::LastNormed, self.hidden), (Role::Logits, self.vocab)]
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
            Attention::Latent(latent) => buffers.extend(latent.buffers()),
        }
        if self.residual == Residual::Sandwich {
            buffers.push((Role::Branch, hidden));
        }
        match self.feed_forward {
            FeedForward::Dense { inner, .. } => buffers.push((Role::Inner, inner)),
            FeedForward::Experts { count, inner, shared, .. } => {
                buffers.extend([(Role::Scores, count), (Role::Gathered, hidden), (Role::Made, hidden)]);
                buffers.push((Role::ExpertInner, inner));
                buffers.extend((shared > 0).then_some((Role::Inner, shared)));
            }
        }
        buffers
    }
}

impl Latent {
    /// The buffers of its attention.
    fn buffers(&self) -> [(Role, usize); 8] {
        let (heads, &Latent { query_rank, rank, plain, turned, value, .. }) = (self.heads(), self);
        [
            (Role::LowRank, query_rank),
            (Role::LowRankNormed, query_rank),
            (Role::Queries, self.query_width()),
            (Role::Latent, rank + turned),
            (Role::ByHead, self.heads * rank.max(plain)),
            (Role::Attended, heads.attended_width()),
            (Role::Qkv, heads.qkv_width()),
            (Role::Values, self.heads * value),
        ]
    }
}
