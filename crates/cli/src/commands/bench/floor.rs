//! The least time that a step can take: its bytes read as fast as memory gives them, or its operations done as fast as
//! the units do them, whichever takes longer.
//!
//! Bytes are every weight once (of the embedding only the rows that are looked up, of experts those that so many rows choose
//! where all are as likely) and the keys and values that are visible. Operations are two for every weight and row, and four
//! for every visible key, query head and element of a head; quantized weights count on the int8 unit, everything else on the
//! unit for floats. Where several machines share a model, each does its part of a step when the one before has done its own.

use std::iter::Sum;
use std::ops::Range;

use glimmer_checkpoint::Checkpoint;
use glimmer_models::export::Written;
use glimmer_models::{DecoderSpec, ModelError, Understood, WeightRole};
use glimmer_tensor::{Batch, Compute, DType, KvType};

use super::rates::MachineRates;

/// What a model, or a machine's part of it, costs per step, row, key and slot.
#[derive(Clone, Copy, Debug)]
pub(in crate::commands) struct Costs {
    /// Bytes of the blocks' weights, without those of experts.
    block_bytes: f64,
    /// Bytes of all experts', and which share of them a row does not meet.
    expert_bytes: f64,
    not_met: f64,
    /// Bytes of the head's.
    head_bytes: f64,
    /// Bytes of one row of the embedding.
    embedding_row: f64,
    /// Bytes of one slot's keys and values.
    slot_bytes: f64,
    /// Operations of the blocks for one row.
    block: Operations,
    /// Operations of the head for one row.
    head: Operations,
    /// Operations of attention for one row and visible key.
    key: f64,
}

/// Weights by what a step does with them.
pub(in crate::commands) struct Weights {
    block_bytes: f64,
    expert_bytes: f64,
    /// Elements of the blocks' matrices that are no integers, as far as a row meets them.
    block_plain: f64,
    head_bytes: f64,
    head_type: Option<DType>,
    embedding_row: f64,
}

/// Whether products with it are of integers, where they may be.
fn is_packed(dtype: DType) -> bool {
    dtype.is_quantized() || dtype == DType::I8
}

impl Weights {
    /// Those of a model's files.
    pub(in crate::commands) fn stored(checkpoint: &Checkpoint, understood: &Understood) -> Self {
        let embedding = understood.stored(checkpoint, WeightRole::Embedding);
        let head = understood.stored(checkpoint, WeightRole::Head).or(embedding);
        let outside = [embedding, head].map(|info| info.map(|info| info.name.as_str()));
        let blocks = checkpoint.tensors().iter().filter(|t| !outside.contains(&Some(t.name.as_str())));
        let (mut block_bytes, mut block_plain) = (0.0, 0.0);
        for tensor in blocks {
            block_bytes += tensor.bytes as f64;
            if tensor.shape.len() == 2 && !is_packed(tensor.dtype) {
                block_plain += tensor.shape.iter().product::<usize>() as f64;
            }
        }
        let (expert_bytes, expert_plain) = understood.expert_bytes(checkpoint).unwrap_or_default();
        let [expert_bytes, expert_plain] = [expert_bytes, expert_plain].map(|n| n as f64);
        let stacked = understood.naming.is_gguf();
        let met = understood.spec.experts_met(1.0);
        // Those of one expert are matrices as all others.
        let block_plain = block_plain - if stacked { 0.0 } else { expert_plain } + met * expert_plain;
        Weights {
            block_bytes: block_bytes - expert_bytes,
            expert_bytes,
            block_plain,
            head_bytes: head.map_or(0.0, |info| info.bytes as f64),
            head_type: head.map(|info| info.dtype),
            embedding_row: embedding.map_or(0.0, |info| info.bytes as f64 / understood.spec.vocab as f64),
        }
    }

    /// Those of a GGUF that is not written yet.
    pub(in crate::commands) fn written(written: &Written, spec: &DecoderSpec) -> Self {
        let head = if written.head == 0 { written.embedding } else { written.head };
        Weights {
            block_bytes: (written.bytes - written.embedding - written.head - written.experts) as f64,
            expert_bytes: written.experts as f64,
            block_plain: written.plain[0] as f64 + spec.experts_met(1.0) * written.plain[1] as f64,
            head_bytes: head as f64,
            head_type: Some(written.head_type),
            embedding_row: written.embedding as f64 / spec.vocab as f64,
        }
    }
}

/// What a step has to do.
#[derive(Clone, Copy, Debug)]
pub(in crate::commands) struct Work {
    /// Rows, and those of them that have logits.
    pub(in crate::commands) rows: f64,
    pub(in crate::commands) logits: f64,
    /// Slots whose keys and values are read.
    pub(in crate::commands) slots: f64,
    /// Keys that rows see, summed over rows.
    pub(in crate::commands) keys: f64,
}

impl Work {
    fn of(batch: &Batch) -> Self {
        let slots: usize = batch.sequences.iter().map(|sequence| sequence.kv_len).sum();
        let seen = |sequence: &glimmer_tensor::SequenceRows| -> usize {
            batch.slots[sequence.row_range()].iter().map(|&slot| sequence.visible(slot)).sum()
        };
        let keys: usize = batch.sequences.iter().map(seen).sum();
        let [rows, logits, slots, keys] =
            [batch.rows(), batch.logits_rows.len(), slots, keys].map(|count| count as f64);
        Work { rows, logits, slots, keys }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Operations {
    int8: f64,
    float: f64,
}

/// What a step waits for at least.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::commands) struct Floor {
    /// Seconds, at least.
    pub(in crate::commands) seconds: f64,
    /// Seconds of them in steps that wait for memory.
    memory: f64,
}

impl Floor {
    /// What binds most of the time.
    pub(in crate::commands) fn bound(&self) -> &'static str {
        if 2.0 * self.memory > self.seconds { "memory" } else { "arithmetic" }
    }
}

impl Sum for Floor {
    fn sum<I: Iterator<Item = Self>>(each: I) -> Self {
        each.fold(Floor::default(), |a, b| Floor {
            seconds: a.seconds + b.seconds,
            memory: a.memory + b.memory,
        })
    }
}

impl Costs {
    /// Of a decoder with such weights, computed in this mode with a cache of this type.
    pub(in crate::commands) fn with(
        spec: &DecoderSpec,
        weights: &Weights,
        compute: Compute,
        kv_type: KvType,
    ) -> Self {
        let auto = compute == Compute::Auto;
        let all = spec.layer_parameters() as f64;
        let plain = if auto { weights.block_plain } else { all };
        let query_widths = spec.layers.iter().map(|layer| {
            let heads = layer.attention.heads();
            heads.q_width() + heads.attended_width()
        });
        let head = 2.0 * (spec.vocab * spec.hidden) as f64;
        Costs {
            block_bytes: weights.block_bytes,
            expert_bytes: weights.expert_bytes,
            not_met: 1.0 - spec.experts_met(1.0),
            head_bytes: weights.head_bytes,
            embedding_row: weights.embedding_row,
            slot_bytes: spec.kv_bytes(kv_type) as f64,
            block: Operations { int8: 2.0 * (all - plain), float: 2.0 * plain },
            head: match auto && weights.head_type.is_some_and(is_packed) {
                true => Operations { int8: head, float: 0.0 },
                false => Operations { int8: 0.0, float: head },
            },
            key: (2 * query_widths.sum::<usize>()) as f64,
        }
    }

    /// The part of a machine with some of the layers: their bytes as they are stored, and all else by their number.
    pub(in crate::commands) fn part(
        &self,
        checkpoint: &Checkpoint,
        understood: &Understood,
        layers: &Range<usize>,
    ) -> Result<Self, ModelError> {
        let all = understood.spec.layers.len();
        let bytes = |layers| understood.layer_bytes(checkpoint, layers).map(|bytes| bytes as f64);
        let of_bytes = bytes(layers.clone())? / bytes(0..all)?;
        let of_layers = layers.len() as f64 / all as f64;
        let scaled = |o: Operations, by: f64| Operations { int8: o.int8 * by, float: o.float * by };
        let [first, last] = [layers.start == 0, layers.end == all].map(|has| if has { 1.0 } else { 0.0 });
        Ok(Costs {
            block_bytes: self.block_bytes * of_bytes,
            expert_bytes: self.expert_bytes * of_bytes,
            not_met: self.not_met,
            head_bytes: self.head_bytes * last,
            embedding_row: self.embedding_row * first,
            slot_bytes: self.slot_bytes * of_layers,
            block: scaled(self.block, of_layers),
            head: scaled(self.head, last),
            key: self.key * of_layers,
        })
    }

    /// The floor of these steps, one after the other.
    pub(in crate::commands) fn floor(&self, steps: &[Batch], limits: &MachineRates) -> Floor {
        steps.iter().map(|batch| self.floor_of(Work::of(batch), limits)).sum()
    }

    /// The floor of one step.
    pub(in crate::commands) fn floor_of(&self, work: Work, limits: &MachineRates) -> Floor {
        let Work { rows, logits, slots, keys } = work;
        let head_bytes = if logits == 0.0 { 0.0 } else { self.head_bytes };
        // Each row chooses any of the experts as likely as any other.
        let met = 1.0 - self.not_met.powf(rows);
        let bytes = self.block_bytes
            + met * self.expert_bytes
            + head_bytes
            + rows * self.embedding_row
            + slots * self.slot_bytes;
        let int8 = rows * self.block.int8 + logits * self.head.int8;
        let float = rows * self.block.float + logits * self.head.float + keys * self.key;
        let memory = bytes / limits.read;
        let arithmetic = int8 / limits.int8 + float / limits.float;
        let waits = if memory > arithmetic { memory } else { 0.0 };
        Floor { seconds: memory.max(arithmetic), memory: waits }
    }
}

#[cfg(test)]
mod tests {
    use super::super::case::{Case, Steps, capacity};
    use super::super::rates::Unit;
    use super::*;
    use crate::random::Random;
    use glimmer_models::understand;
    use std::path::Path;

    /// Of a model as it is stored.
    fn costs(checkpoint: &Checkpoint, understood: &Understood, compute: Compute, kv_type: KvType) -> Costs {
        Costs::with(&understood.spec, &Weights::stored(checkpoint, understood), compute, kv_type)
    }

    /// By hand, for a fixture: 3 layers, hidden 64, 6 heads of 16 with 3 of keys, feed-forward 120, vocabulary 300, all
    /// in BF16, its head the embedding.
    #[test]
    fn costs_of_a_fixture() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/glm-edge-1.5b-chat");
        let checkpoint = Checkpoint::open(&path).unwrap();
        let understood = understand(&checkpoint, None).unwrap();
        let costs = costs(&checkpoint, &understood, Compute::Auto, KvType::F16);
        let (qkv, q, ffn) = (12 * 16, 6 * 16, 120);
        let weights = 3 * 64 * (qkv + q + 3 * ffn);
        assert_eq!(costs.block_bytes, f64::from(2 * weights + 2 * (3 * 2 + 1) * 64));
        assert_eq!(costs.head_bytes, f64::from(2 * 300 * 64));
        assert_eq!((costs.block.int8, costs.block.float), (0.0, f64::from(2 * weights)));

        let limits =
            MachineRates { threads: 1, read: 1e9, copy: None, int8: 1e12, float: 1e9, unit: Unit::F32 };
        let cases = Case::all(&[40], &[2], &[10], &[2]);
        let capacity = capacity(&cases, &understood.spec, 32).unwrap();
        let mut steps = Steps { spec: &understood.spec, capacity, random: Random::new(&[]) };
        let [prompt, generation] = [0, 1].map(|i| cases[i].measured(&mut steps).unwrap());
        // Two sequences, each row sees itself and what was before it.
        let keys: u32 = 2 * (11..=50).sum::<u32>();
        let operations = f64::from(80 * 2 * weights + 2 * 2 * 300 * 64 + keys * 4 * 3 * q);
        let floor = costs.floor(&prompt, &limits);
        assert!((floor.seconds * 1e9 / operations - 1.0).abs() < 1e-9, "{floor:?}");
        assert_eq!(floor.bound(), "arithmetic");

        let slot = 3 * 2 * 3 * 16 * 2;
        let bytes = 2.0 * (costs.block_bytes + costs.head_bytes)
            + f64::from(4 * 2 * 64)
            + f64::from(2 * (11 + 12) * slot);
        let floor = costs.floor(&generation, &MachineRates { float: 1e12, ..limits });
        assert!((floor.seconds * 1e9 / bytes - 1.0).abs() < 1e-9, "{floor:?}");
        assert_eq!(floor.bound(), "memory");
    }

    /// Machines as fast as one another take together as long as one with all layers where they wait for the same.
    #[test]
    fn parts_are_the_whole() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/glm-edge-1.5b-chat");
        let checkpoint = Checkpoint::open(&path).unwrap();
        let understood = understand(&checkpoint, None).unwrap();
        let costs = costs(&checkpoint, &understood, Compute::Auto, KvType::F16);
        let cases = Case::all(&[40], &[2], &[10], &[2]);
        let capacity = capacity(&cases, &understood.spec, 32).unwrap();
        let mut steps = Steps { spec: &understood.spec, capacity, random: Random::new(&[]) };
        let slow =
            MachineRates { threads: 1, read: 1e3, copy: None, int8: 1e12, float: 1e12, unit: Unit::F32 };
        let fast = MachineRates { read: 2e3, ..slow };
        let part = |layers: Range<usize>| costs.part(&checkpoint, &understood, &layers).unwrap();
        for case in &cases {
            let steps = case.measured(&mut steps).unwrap();
            let whole = costs.floor(&steps, &slow).seconds;
            let [first, last] = [part(0..1), part(1..3)];
            let both: Floor = [first, last].iter().map(|part| part.floor(&steps, &slow)).sum();
            assert!((both.seconds / whole - 1.0).abs() < 1e-9, "{both:?} {whole}");
            let faster: Floor = [first.floor(&steps, &slow), last.floor(&steps, &fast)].into_iter().sum();
            let expected = whole - last.floor(&steps, &slow).seconds / 2.0;
            assert!((faster.seconds / expected - 1.0).abs() < 1e-9, "{faster:?} {expected}");
        }
    }

    #[test]
    fn packed_weights_count_on_the_int8_unit() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/chatglm-6b-int4");
        let checkpoint = Checkpoint::open(&path).unwrap();
        let understood = understand(&checkpoint, None).unwrap();
        let all = 2.0 * understood.spec.layer_parameters() as f64;
        let fast = costs(&checkpoint, &understood, Compute::Auto, KvType::F16);
        assert_eq!((fast.block.int8, fast.block.float, fast.head.int8), (all, 0.0, 0.0));
        let exact = costs(&checkpoint, &understood, Compute::F32, KvType::F32);
        assert!(exact.block.int8 == 0.0 && exact.block.float > 0.0);
    }
}
