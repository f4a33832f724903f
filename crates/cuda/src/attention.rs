//! The key/value cache on the machine, and which kernels compute the attention of a step, over which grids.
//!
//! Chunks of [`CHUNK_SLOTS`] absolute slots have states of their own, which are merged in slot order; see
//! `kernels/attention.cuh`. A sequence with few queries is *split*: each chunk is computed by a block of its own, its
//! state is kept, and another kernel merges. Other sequences are computed *whole*: a block of queries goes through all
//! chunks. Both give the same bits, so the choice may follow the batch.
//!
//! Two families of kernels: `attention_exact` in f32, in the CPU's order; `attention_tensor` on tensor cores, for
//! [`Compute::Auto`] and a cache that is not f32. Which one it is depends on the plan and the card alone.

use crate::driver::{CardLimits, Driver, Memory, launch};
use crate::step::{Step, StepArgs, bucket, work_at};
use bytemuck::{Pod, Zeroable};
use glimmer_tensor::{
    Batch, CHUNK_SLOTS, Compute, DeviceError, Heads, KV_BLOCK, KvType, PAGE_SLOTS, Plan, SequenceRows,
};
use std::cmp::Reverse;

/// Queries of a tile: `TILE` in `kernels/attention.cuh`.
const TILE: usize = 16;

/// Marks rows that are not split and items that go through all chunks: `ALL_CHUNKS` there.
const ALL_CHUNKS: u32 = u32::MAX;

/// Which of a kind's schedule's words says how many blocks a grid needs: as in `kernels/attention.cuh`.
const SPLIT_ITEMS: u32 = 1;
const WHOLE_ITEMS: u32 = 2;

/// A sequence with at most this many queries per key/value head is split: a block that computes it whole would not be
/// full.
const SPLIT_QUERIES: usize = 64;

/// There is room for the states of this many rows per chunk of the cache.
const SPLIT_ROWS: usize = 4;

/// Static shared memory of `attention_split`, rounded up.
const SPLIT_STATIC: usize = 9 << 10;

/// Heads are at most this wide: `MOST_DIMS` in `kernels/attention_exact.cu`.
const MOST_DIMS: usize = 256;

/// Mirror of `PlaneShape` in `kernels/attention.cuh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
struct PlaneShape {
    dim: u32,
    padded: u32,
    blocks: u32,
    bytes: u32,
}

/// Mirror of `KvShape` in `kernels/attention.cuh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
struct KvShape {
    heads: u32,
    kv_heads: u32,
    keys: PlaneShape,
    values: PlaneShape,
}

/// `kv_write_...`
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct CacheArgs {
    step: StepArgs,
    qkv: Memory,
    layer: Memory,
    kv: KvShape,
}

/// `attention_...`
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct AttentionArgs {
    step: StepArgs,
    qkv: Memory,
    out: Memory,
    layer: Memory,
    mixed: Memory,
    tails: Memory,
    kv: KvShape,
    count: u32,
    work: u32,
    scale: f32,
    apart: u32,
}

impl PlaneShape {
    /// Vectors of `dim` elements.
    fn new(kv_type: KvType, dim: usize) -> Self {
        let padded = dim.next_multiple_of(16);
        let blocks = if kv_type == KvType::Q8_0 { dim.div_ceil(KV_BLOCK) } else { 0 };
        let element = match kv_type {
            KvType::F32 => 4,
            KvType::F16 => 2,
            KvType::Q8_0 => 1,
        };
        PlaneShape {
            dim: dim as u32,
            padded: padded as u32,
            blocks: blocks as u32,
            bytes: (PAGE_SLOTS * (padded * element + 2 * blocks)) as u32,
        }
    }
}

impl KvShape {
    fn new(kv_type: KvType, heads: &Heads) -> Self {
        KvShape {
            heads: heads.heads as u32,
            kv_heads: heads.kv_heads as u32,
            keys: PlaneShape::new(kv_type, heads.head_dim),
            values: PlaneShape::new(kv_type, heads.value_dim),
        }
    }

    /// Bytes of a page of one layer.
    fn page_bytes(&self) -> usize {
        self.kv_heads as usize * (self.keys.bytes + self.values.bytes) as usize
    }
}

/// The kernels of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    /// `attention_exact`
    Exact(&'static str),
    /// `attention_tensor`
    Tensor(Tensor),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tensor {
    split: &'static str,
    whole: &'static str,
    /// Dimensions that they are compiled for.
    dim: usize,
    /// Warps of a whole block.
    warps: usize,
    /// Whether there is shared memory for a chunk's keys and values at once.
    apart: bool,
}

/// Bytes of dynamic shared memory of `attention_split` for `dim` dimensions.
fn split_shared(dim: usize, apart: bool) -> usize {
    let chunks = if apart { 2 } else { 1 };
    2 * (dim + 8) * (2 * TILE + chunks * CHUNK_SLOTS)
}

/// Bytes of dynamic shared memory of `attention_whole` for blocks of `warps` warps.
fn whole_shared(dim: usize, warps: usize) -> usize {
    // Queries in two parts, 64 keys and 64 values; what the chunks so far come to; scale and end of each query.
    2 * (dim + 8) * (2 * TILE * warps + 2 * 64) + TILE * warps * (4 * dim + 8)
}

impl Family {
    fn new(heads: &Heads, kv_type: KvType, compute: Compute, limits: CardLimits) -> Self {
        let exact = Family::Exact(match kv_type {
            KvType::F32 => "attention_exact_f32",
            KvType::F16 => "attention_exact_f16",
            KvType::Q8_0 => "attention_exact_q8_0",
        });
        let (dim, [f16, q8_0]) = match heads.head_dim.max(heads.value_dim) {
            0..=64 => (
                64,
                [
                    ["attention_split_f16_64", "attention_whole_f16_64"],
                    ["attention_split_q8_0_64", "attention_whole_q8_0_64"],
                ],
            ),
            65..=128 => (
                128,
                [
                    ["attention_split_f16_128", "attention_whole_f16_128"],
                    ["attention_split_q8_0_128", "attention_whole_q8_0_128"],
                ],
            ),
            _ => (
                256,
                [
                    ["attention_split_f16_256", "attention_whole_f16_256"],
                    ["attention_split_q8_0_256", "attention_whole_q8_0_256"],
                ],
            ),
        };
        let [split, whole] = match (compute, kv_type) {
            (Compute::F32, _) | (_, KvType::F32) => return exact,
            (_, KvType::F16) => f16,
            (_, KvType::Q8_0) => q8_0,
        };
        let splits = |apart| split_shared(dim, apart) + SPLIT_STATIC <= limits.shared;
        match [4, 2, 1].into_iter().find(|&warps| whole_shared(dim, warps) <= limits.shared) {
            Some(warps) if splits(false) => {
                Family::Tensor(Tensor { split, whole, dim, warps, apart: splits(true) })
            }
            _ => exact,
        }
    }

    /// Queries that a block computes whole.
    fn whole_queries(&self) -> usize {
        match self {
            Family::Exact(_) => TILE,
            Family::Tensor(tensor) => TILE * tensor.warps,
        }
    }
}

/// Layers with the same heads.
struct Kind {
    heads: Heads,
    kv: KvShape,
    family: Family,
}

/// A layer of the cache.
struct Layer {
    /// Its kind, counted as [`Plan::distinct_heads`] counts.
    kind: usize,
    /// Where its pages begin.
    at: usize,
}

/// The cache, and where attention is computed.
pub(crate) struct Attention {
    kv_type: KvType,
    processors: usize,
    kinds: Vec<Kind>,
    layers: Vec<Layer>,
    cache: Memory,
    cache_bytes: usize,
    /// Rows and chunks, with a state for every head, that can be kept: see [`AttentionArgs::mixed`] and
    /// [`AttentionArgs::tails`].
    room: usize,
    mixed: Memory,
    tails: Memory,
    scratch_bytes: usize,
}

impl Attention {
    /// A cache, zeroed, and scratch for a plan.
    ///
    /// # Errors
    /// When memory runs out, or heads are wider than any kernel is made for.
    pub(crate) fn new(driver: &mut dyn Driver, plan: &Plan, compute: Compute) -> Result<Self, DeviceError> {
        let (limits, distinct) = (driver.limits(), plan.distinct_heads());
        if let Some(wide) = distinct.iter().map(|h| h.head_dim.max(h.value_dim)).find(|&dim| dim > MOST_DIMS)
        {
            let message = format!("heads of {wide} dimensions: attention on a card has at most {MOST_DIMS}");
            return Err(DeviceError::Failed(message));
        }
        let kind = |heads: &Heads| Kind {
            heads: *heads,
            kv: KvShape::new(plan.kv_type, heads),
            family: Family::new(heads, plan.kv_type, compute, limits),
        };
        let kinds: Vec<Kind> = distinct.iter().map(kind).collect();
        let pages = plan.capacity.pages;
        let mut cache_bytes = 0usize;
        let mut layer = |heads: &Heads| {
            let kind = distinct.iter().position(|other| other == heads).expect("one of the distinct ones");
            let at = cache_bytes;
            cache_bytes = at.saturating_add(kinds[kind].kv.page_bytes().saturating_mul(pages));
            Layer { kind, at }
        };
        let layers = plan.layers.iter().map(&mut layer).collect();
        let chunks = pages.saturating_mul(PAGE_SLOTS).div_ceil(CHUNK_SLOTS);
        let room = chunks.saturating_add(plan.capacity.rows.min(256)).saturating_mul(SPLIT_ROWS);
        let most = |bytes: fn(&KvShape) -> u32| {
            let most = kinds.iter().map(|kind| bytes(&kind.kv)).max().unwrap_or(0);
            room.saturating_mul(most as usize)
        };
        let (mixed_bytes, tail_bytes) = (most(|kv| 4 * kv.heads * kv.values.padded), most(|kv| 8 * kv.heads));
        let mut alloc = |bytes, what| driver.alloc(bytes).map_err(|e| e.of(what));
        let cache = alloc(cache_bytes.max(1), "the key/value cache")?;
        let mixed = alloc(mixed_bytes, "attention's scratch")?;
        let tails = alloc(tail_bytes, "attention's scratch")?;
        Ok(Attention {
            kv_type: plan.kv_type,
            processors: limits.processors,
            kinds,
            layers,
            cache,
            cache_bytes,
            room,
            mixed,
            tails,
            scratch_bytes: mixed_bytes + tail_bytes,
        })
    }

    /// Bytes of the cache.
    pub(crate) fn cache_bytes(&self) -> usize {
        self.cache_bytes
    }

    /// Bytes of what is kept between kernels.
    pub(crate) fn scratch_bytes(&self) -> usize {
        self.scratch_bytes
    }

    /// Appends a batch's schedule for a kind of layer: for each row the first of its states or [`ALL_CHUNKS`], the rows
    /// that are split, split items and whole ones. Returns how many split items, whole items and split rows there are.
    pub(crate) fn schedule(&self, kind: usize, batch: &Batch, words: &mut Vec<u32>) -> [u32; 3] {
        let Kind { heads, family, .. } = &self.kinds[kind];
        let group = heads.group();
        let seen = |s: &SequenceRows, row: usize| s.visible(batch.slots[row]);
        let most = |s: &SequenceRows| s.row_range().map(|row| seen(s, row)).max().unwrap_or(0);
        let blocks: usize =
            batch.sequences.iter().map(|s| (s.rows * group).div_ceil(family.whole_queries())).sum();
        let idle = blocks * heads.kv_heads < self.processors;

        let states = words.len();
        words.resize(states + batch.rows(), ALL_CHUNKS);
        let mut used = 0;
        let (mut rows, mut split, mut whole) = (Vec::new(), Vec::new(), Vec::new());
        for (index, sequence) in batch.sequences.iter().enumerate() {
            let queries = sequence.rows * group;
            let chunks_of = |row| seen(sequence, row).div_ceil(CHUNK_SLOTS);
            let needed: usize = sequence.row_range().map(chunks_of).sum();
            let few = queries <= SPLIT_QUERIES;
            let item =
                |first: usize, queries: usize, chunk| [index as u32, first as u32, queries as u32, chunk];
            // The most that queries `first..first + count` see.
            let reach = |first: usize, count: usize| {
                let rows = first / group..=(first + count - 1) / group;
                rows.map(|row| seen(sequence, sequence.first_row + row)).max().unwrap_or(0)
            };
            if (few || idle && most(sequence) > CHUNK_SLOTS) && used + needed <= self.room {
                for row in sequence.row_range() {
                    words[states + row] = used as u32;
                    used += chunks_of(row);
                    rows.push(row as u32);
                }
                for chunk in 0..most(sequence).div_ceil(CHUNK_SLOTS) {
                    for first in (0..queries).step_by(TILE) {
                        let count = TILE.min(queries - first);
                        if reach(first, count) > chunk * CHUNK_SLOTS {
                            split.push(item(first, count, chunk as u32));
                        }
                    }
                }
            } else {
                for first in (0..queries).step_by(family.whole_queries()) {
                    let count = family.whole_queries().min(queries - first);
                    whole.push((reach(first, count), item(first, count, ALL_CHUNKS)));
                }
            }
        }
        // The long ones first, so that none of them is left for the end.
        whole.sort_by_key(|(reach, _)| Reverse(*reach));
        words.extend_from_slice(&rows);
        words.extend(split.iter().flatten());
        words.extend(whole.iter().flat_map(|(_, item)| item));
        [split.len() as u32, whole.len() as u32, rows.len() as u32]
    }

    /// Stores the keys and values of `qkv` `[rows, qkv_width]` in `layer`.
    pub(crate) fn write(
        &self,
        driver: &mut dyn Driver,
        step: &Step,
        layer: usize,
        heads: Heads,
        qkv: Memory,
    ) {
        let (_, kind, layer) = self.layer(layer, heads);
        let kernel = match self.kv_type {
            KvType::F32 => "kv_write_f32",
            KvType::F16 => "kv_write_f16",
            KvType::Q8_0 => "kv_write_q8_0",
        };
        let args = CacheArgs { step: step.args(), qkv, layer, kv: kind.kv };
        let grid = [bucket(step.rows()) as u32, (2 * kind.kv.kv_heads).div_ceil(4), 1];
        launch(driver, kernel, grid, 128, 0, &args);
    }

    /// `out = softmax(q k^T / sqrt(head_dim)) v` for the rows of `qkv`; `out` is `[rows, attended_width]`.
    pub(crate) fn run(
        &self,
        driver: &mut dyn Driver,
        step: &Step,
        layer: usize,
        heads: Heads,
        qkv: Memory,
        out: Memory,
    ) {
        let (index, &Kind { kv, family, .. }, layer) = self.layer(layer, heads);
        let work = step.work[index];
        let [split, whole, split_rows] = work.map(|n| bucket(n as usize) as u32);
        let args = AttentionArgs {
            step: step.args(),
            qkv,
            out,
            layer,
            mixed: self.mixed,
            tails: self.tails,
            kv,
            count: SPLIT_ITEMS,
            work: work_at(index) as u32,
            scale: 1.0 / (heads.head_dim as f32).sqrt(),
            apart: 0,
        };
        let kv_heads = kv.kv_heads;
        if work[0] > 0 {
            let grid = [split, kv_heads, 1];
            match family {
                Family::Exact(kernel) => launch(driver, kernel, grid, 256, 0, &args),
                Family::Tensor(Tensor { split: kernel, dim, apart, .. }) => {
                    // With a block for each multiprocessor at most, nothing is lost by what a block takes.
                    let apart = apart && (split * kv_heads) as usize <= self.processors;
                    let args = AttentionArgs { apart: u32::from(apart), ..args };
                    launch(driver, kernel, grid, 128, split_shared(dim, apart) as u32, &args);
                }
            }
            let grid = [split_rows, kv.heads, kv.values.padded.div_ceil(128)];
            launch(driver, "attention_merge", grid, 128, 0, &args);
        }
        if work[1] > 0 {
            let args = AttentionArgs { count: WHOLE_ITEMS, ..args };
            let grid = [whole, kv_heads, 1];
            match family {
                Family::Exact(kernel) => launch(driver, kernel, grid, 256, 0, &args),
                Family::Tensor(Tensor { whole: kernel, dim, warps, .. }) => {
                    launch(driver, kernel, grid, 32 * warps as u32, whole_shared(dim, warps) as u32, &args);
                }
            }
        }
    }

    /// A layer's kind with its index, and where its pages are. The caller believes its heads to be `heads`.
    fn layer(&self, layer: usize, heads: Heads) -> (usize, &Kind, Memory) {
        let Layer { kind: index, at } = self.layers[layer];
        let kind = &self.kinds[index];
        assert_eq!(heads, kind.heads, "the heads are those of the plan");
        (index, kind, self.cache.at(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use glimmer_tensor::Capacity;
    use std::collections::HashSet;

    const H200: CardLimits = CardLimits { shared: 227 << 10, processors: 132 };
    const RTX_4090: CardLimits = CardLimits { shared: 99 << 10, processors: 128 };
    const RTX_2080: CardLimits = CardLimits { shared: 64 << 10, processors: 46 };

    fn family(head_dim: usize, kv_type: KvType, compute: Compute, limits: CardLimits) -> Family {
        Family::new(&Heads::new(32, 2, head_dim), kv_type, compute, limits)
    }

    fn attention(heads: Heads, compute: Compute, limits: CardLimits, pages: usize) -> Attention {
        let kv = KvShape::new(KvType::F16, &heads);
        let family = Family::new(&heads, KvType::F16, compute, limits);
        let nowhere = Memory::NULL;
        Attention {
            kv_type: KvType::F16,
            processors: limits.processors,
            kinds: vec![Kind { heads, kv, family }],
            layers: vec![Layer { kind: 0, at: 0 }],
            cache: nowhere,
            cache_bytes: 0,
            room: (pages.div_ceil(8) + 256) * SPLIT_ROWS,
            mixed: nowhere,
            tails: nowhere,
            scratch_bytes: 0,
        }
    }

    /// Sequences as (rows, length, prefix).
    fn batch(sequences: &[(usize, usize, usize)]) -> Batch {
        let mut batch = Batch::default();
        for &(rows, len, prefix) in sequences {
            let pages = vec![0; len.div_ceil(PAGE_SLOTS)];
            batch.push(&vec![0; rows], len - rows..len, &vec![0.0; rows], prefix, pages, []);
        }
        let capacity = Capacity { rows: 1 << 20, logits_rows: 1, pages: 1 };
        batch.check(1, 1, &capacity).expect("a batch");
        batch
    }

    #[test]
    fn every_query_meets_every_chunk_that_it_sees_once() {
        for heads in [Heads::new(32, 2, 128), Heads::new(3, 3, 24), Heads::new(72, 1, 8)] {
            for (compute, limits) in
                [(Compute::F32, RTX_2080), (Compute::Auto, H200), (Compute::Auto, RTX_4090)]
            {
                for (pages, sequences) in [
                    (64, &[(1, 1, 0)][..]),
                    (512, &[(1, 5000, 0)]),
                    (512, &[(300, 900, 0), (1, 4000, 0), (17, 17, 5), (600, 600, 300)]),
                    (8, &[(5, 3000, 0), (1, 100_000, 0), (64, 4000, 0)]),
                ] {
                    let attention = attention(heads, compute, limits, pages);
                    let batch = batch(sequences);
                    let mut words = vec![7; 3];
                    let [split, whole, rows] = attention.schedule(0, &batch, &mut words);
                    let (states, rest) = words[3..].split_at(batch.rows());
                    let (rows, items) = rest.split_at(rows as usize);
                    let kept_rows = (0..states.len()).filter(|&row| states[row] != ALL_CHUNKS);
                    assert!(kept_rows.eq(rows.iter().map(|&row| row as usize)));
                    assert_eq!(items.len(), 4 * (split + whole) as usize);
                    let mut met = HashSet::new();
                    let mut kept = HashSet::new();
                    for (at, item) in items.chunks_exact(4).enumerate() {
                        let &[sequence, first, queries, chunk] = item else { unreachable!() };
                        let sequence = &batch.sequences[sequence as usize];
                        let is_split = (at as u32) < split;
                        assert_eq!(chunk != ALL_CHUNKS, is_split);
                        assert!(
                            queries as usize
                                <= if is_split { TILE } else { attention.kinds[0].family.whole_queries() }
                        );
                        for query in (first..first + queries).map(|q| q as usize) {
                            let row = sequence.first_row + query / heads.group();
                            assert!(sequence.row_range().contains(&row));
                            assert_eq!(states[row] != ALL_CHUNKS, is_split);
                            let chunks = sequence.visible(batch.slots[row]).div_ceil(CHUNK_SLOTS);
                            let own = if is_split { chunk as usize..chunk as usize + 1 } else { 0..chunks };
                            for chunk in own.filter(|&chunk| chunk < chunks) {
                                assert!(met.insert((row, query % heads.group(), chunk)));
                                if is_split && query % heads.group() == 0 {
                                    let state = states[row] as usize + chunk;
                                    assert!(kept.insert(state), "a state has one owner");
                                    assert!(state < attention.room);
                                }
                            }
                        }
                    }
                    for sequence in &batch.sequences {
                        for row in sequence.row_range() {
                            for chunk in 0..sequence.visible(batch.slots[row]).div_ceil(CHUNK_SLOTS) {
                                for head in 0..heads.group() {
                                    assert!(met.remove(&(row, head, chunk)), "row {row} chunk {chunk}");
                                }
                            }
                        }
                    }
                    assert!(met.is_empty());
                }
            }
        }
    }

    #[test]
    fn generation_is_split_and_a_full_prompt_is_not() {
        let heads = Heads::new(32, 2, 128);
        let attention = attention(heads, Compute::Auto, H200, 4096);
        let items = |sequences| attention.schedule(0, &batch(sequences), &mut Vec::new());
        assert_eq!(items(&[(1, 1024, 0)]), [4, 0, 1], "a tile of 16 heads for each of 4 chunks");
        assert_eq!(items(&[(2048, 2048, 0)]), [0, 512, 0], "64 queries are 4 rows");
        assert_eq!(items(&[(2048, 2048, 0), (1, 1024, 0)]), [4, 512, 1]);
        assert_eq!(items(&[(8, 50_000, 0)])[1], 0, "a card with nothing else to do takes chunks");
        assert_eq!(items(&[(8, 100_000, 0)])[0], 0, "without room for their states it does not");
    }

    #[test]
    fn kernels_fit_the_cards() {
        let tensor = |family| match family {
            Family::Tensor(Tensor { dim, warps, apart, .. }) => Some((dim, warps, apart)),
            Family::Exact(_) => None,
        };
        let of = |dim, limits| tensor(family(dim, KvType::F16, Compute::Auto, limits));
        assert_eq!(of(128, H200), Some((128, 4, true)));
        assert_eq!(of(256, H200), Some((256, 4, false)));
        assert_eq!(of(64, H200), Some((64, 4, true)));
        assert_eq!(of(128, RTX_4090), Some((128, 2, false)));
        assert_eq!(of(128, RTX_2080), None, "a chunk's keys do not fit");
        assert_eq!(of(64, RTX_2080), Some((64, 4, false)));
        for kv_type in [KvType::F32, KvType::F16, KvType::Q8_0] {
            assert_eq!(tensor(family(128, kv_type, Compute::F32, H200)), None);
        }
        assert_eq!(tensor(family(128, KvType::F32, Compute::Auto, H200)), None);
        assert!(tensor(family(33, KvType::Q8_0, Compute::Auto, H200)).is_some());
    }

    #[test]
    fn arguments_are_as_large_as_the_kernels_know_them() {
        assert_eq!(
            [size_of::<KvShape>(), size_of::<CacheArgs>(), size_of::<AttentionArgs>()],
            [40, 120, 160]
        );
    }
}
