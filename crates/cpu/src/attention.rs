//! Attention over the pages of the cache, with an online softmax (Milakov and Gimelshein, 2018; Dao et al.,
//! "FlashAttention", 2022) over fixed chunks of keys.
//!
//! For one query, chunk by chunk of [`CHUNK_SLOTS`] absolute slots: scores are sums over the head's dimensions in
//! order, one chain for each key; the chunk has its own greatest score, weights and sum; values are mixed slot by
//! slot; chunks are merged in slot order. No step depends on which other queries are computed beside it, so a row's
//! bits are the same alone, in a batch, in any part of a prompt and on any number of threads. Slots that a query does
//! not see are never multiplied in: what lies there, even NaN, leaves no trace.

use crate::isa::Isa;
use crate::kv::{LayerCache, Numbers, TileShape, WIDENED_FROM};
use crate::lanes::{Kernel, Lanes, dispatch, exp};
use crate::memory::{Parts, Slab};
use crate::pool::Pool;
use crate::schedule::{Item, Schedule, Unit, unit_rows};
use crate::step::Step;
use crate::tiles;
use glimmer_tensor::{CHUNK_SLOTS, DeviceError, Heads, PAGE_SLOTS, PageId, Plan};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// For this many rows per chunk of the cache there is room to keep partial results: enough to split the few rows of
/// generation or speculation, and a fraction of a percent of the cache.
const SPLIT_ROWS: usize = 8;

/// Floats of a state after its mixed values: the greatest score, the sum, and what fills the cache line.
const STATE_TAIL: usize = 16;

/// Floats of a state: what a run of keys comes to for one query, the mixed values `[padded]`, the greatest score and the
/// sum of weights.
const fn stride(heads: &Heads) -> usize {
    heads.value_dim.next_multiple_of(16) + STATE_TAIL
}

/// Where the results of a layer's attention are computed: there is room for the widest of the layers.
pub(crate) struct Attention {
    scratch: Vec<Mutex<Scratch>>,
    /// How many states of split units can be kept for one row and head of queries.
    chunks: usize,
    /// The states of split units, `[queries * chunks, stride]`.
    partials: Slab<f32>,
}

/// A thread's own memory. `queries` is the most that a unit has.
struct Scratch {
    /// `[queries, head_dim]`
    queries: Slab<f32>,
    /// `[queries, CHUNK_SLOTS]`: scores, then weights.
    scores: Slab<f32>,
    /// A widened tile.
    wide: Slab<f32>,
    /// `[queries, stride]`: what the chunks so far come to.
    running: Slab<f32>,
    /// `[queries, stride]`: what this chunk comes to.
    chunk: Slab<f32>,
}

/// What all threads read.
struct Inputs<'a> {
    step: &'a Step,
    schedule: &'a Schedule,
    layer: &'a LayerCache,
    qkv: &'a [f32],
    heads: Heads,
    stride: usize,
}

/// Floats of the slabs of an [`Attention`]: those of each thread, then those of all.
struct Sizes {
    queries: usize,
    scores: usize,
    wide: usize,
    state: usize,
    chunks: usize,
    partials: usize,
}

impl Sizes {
    fn of(plan: &Plan, threads: usize) -> Self {
        let layers = plan.distinct_heads();
        let most = |floats: &dyn Fn(&Heads) -> usize| layers.iter().map(floats).max().unwrap_or(0);
        let queries = |heads: &Heads| unit_rows(heads) * heads.group();
        let chunks = (plan.capacity.pages * PAGE_SLOTS).div_ceil(CHUNK_SLOTS) + plan.capacity.rows.min(64);
        let chunks = if threads > 1 { SPLIT_ROWS * chunks } else { 0 };
        Sizes {
            queries: most(&|heads| queries(heads) * heads.head_dim),
            scores: most(&|heads| queries(heads) * CHUNK_SLOTS),
            wide: most(&TileShape::wide),
            state: most(&|heads| queries(heads) * stride(heads)),
            chunks,
            partials: most(&|heads| heads.heads.saturating_mul(chunks).saturating_mul(stride(heads))),
        }
    }
}

impl Attention {
    /// Scratch for a plan.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`].
    pub(crate) fn new(plan: &Plan, threads: usize) -> Result<Self, DeviceError> {
        let sizes = Sizes::of(plan, threads);
        let slab = |len| Slab::zeroed(len, "attention's scratch");
        let scratch = || {
            Ok(Mutex::new(Scratch {
                queries: slab(sizes.queries)?,
                scores: slab(sizes.scores)?,
                wide: slab(sizes.wide)?,
                running: slab(sizes.state)?,
                chunk: slab(sizes.state)?,
            }))
        };
        Ok(Attention {
            scratch: (0..threads).map(|_| scratch()).collect::<Result<_, DeviceError>>()?,
            chunks: sizes.chunks,
            partials: slab(sizes.partials)?,
        })
    }

    /// Bytes that one for a plan takes.
    pub(crate) fn needed(plan: &Plan, threads: usize) -> usize {
        let Sizes { queries, scores, wide, state, partials, .. } = Sizes::of(plan, threads);
        let all = partials.saturating_add(threads * (queries + scores + wide + 2 * state));
        all.saturating_mul(size_of::<f32>())
    }

    /// How many results of a (query, chunk) can be kept for a layer with these heads.
    pub(crate) fn room(&self, heads: &Heads) -> usize {
        heads.heads * self.chunks
    }

    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        let of = |s: &Mutex<Scratch>| {
            let s = s.lock().unwrap_or_else(PoisonError::into_inner);
            [&s.queries, &s.scores, &s.wide, &s.running, &s.chunk].map(Slab::bytes).iter().sum::<usize>()
        };
        self.partials.bytes() + self.scratch.iter().map(of).sum::<usize>()
    }

    /// `out = softmax(q k^T / sqrt(scale_dim)) v` for the rows of `qkv` `[rows, qkv_width]`; `out` is
    /// `[rows, attended_width]`.
    pub(crate) fn run(
        &mut self,
        pool: &Pool,
        isa: Isa,
        step: &Step,
        layer: &LayerCache,
        qkv: &[f32],
        out: &mut [f32],
    ) {
        let heads = layer.heads;
        let schedule = step.schedule_of(&heads);
        let inputs = Inputs { step, schedule, layer, qkv, heads, stride: stride(&heads) };
        let out = Parts::new(out);
        let next = AtomicUsize::new(0);
        let scratch = &self.scratch;
        if !schedule.split {
            pool.run(&|thread| {
                let mut scratch = scratch[thread].lock().unwrap_or_else(PoisonError::into_inner);
                dispatch(isa, WholeUnits { inputs: &inputs, scratch: &mut scratch, next: &next, out: &out });
            });
            return;
        }
        let partials = Parts::new(&mut self.partials);
        pool.run(&|thread| {
            let mut scratch = scratch[thread].lock().unwrap_or_else(PoisonError::into_inner);
            let scratch = &mut scratch;
            dispatch(isa, SingleChunks { inputs: &inputs, scratch, next: &next, partials: &partials });
        });
        let partials = &self.partials;
        let threads = pool.threads();
        pool.run(&|thread| {
            let mut scratch = scratch[thread].lock().unwrap_or_else(PoisonError::into_inner);
            let running = &mut scratch.running[..inputs.stride];
            dispatch(isa, MergeChunks { inputs: &inputs, running, thread, threads, partials, out: &out });
        });
    }
}

/// Takes whole units until none is left.
struct WholeUnits<'a> {
    inputs: &'a Inputs<'a>,
    scratch: &'a mut Scratch,
    next: &'a AtomicUsize,
    out: &'a Parts<'a, f32>,
}

impl Kernel for WholeUnits<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        let Inputs { step, schedule, heads, stride, .. } = *self.inputs;
        while let Some((unit, item)) = claim(schedule, self.next) {
            let scratch = &mut *self.scratch;
            self.inputs.load_queries(unit, &mut scratch.queries);
            for chunk in item.chunks.clone() {
                let states = if chunk == 0 { &mut scratch.running } else { &mut scratch.chunk };
                let (scores, wide) = (&mut scratch.scores, &mut scratch.wide);
                let after = item.chunks.contains(&(chunk + 1)).then_some((unit, chunk + 1));
                self.inputs.attend(s, unit, chunk, after, &scratch.queries, scores, wide, states);
                if chunk == 0 {
                    continue;
                }
                for (q, row) in queries_of(unit, heads) {
                    if step.visible[row] as usize > chunk * CHUNK_SLOTS {
                        let at = q * stride..(q + 1) * stride;
                        merge(s, &mut scratch.running[at.clone()], &scratch.chunk[at]);
                    }
                }
            }
            for (q, row) in queries_of(unit, heads) {
                let state = &scratch.running[q * stride..(q + 1) * stride];
                self.inputs.finish(unit, q, row, state, self.out);
            }
        }
    }
}

/// Takes single chunks of units until none is left, and keeps their states.
struct SingleChunks<'a> {
    inputs: &'a Inputs<'a>,
    scratch: &'a mut Scratch,
    next: &'a AtomicUsize,
    partials: &'a Parts<'a, f32>,
}

impl Kernel for SingleChunks<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        let Inputs { schedule, heads, stride, .. } = *self.inputs;
        while let Some((unit, item)) = claim(schedule, self.next) {
            let scratch = &mut *self.scratch;
            self.inputs.load_queries(unit, &mut scratch.queries);
            let queries = unit.rows.len() * heads.group();
            let (scores, wide) = (&mut scratch.scores, &mut scratch.wide);
            for chunk in item.chunks.clone() {
                let first = unit.first_partial + chunk * queries;
                // SAFETY: each chunk of each unit has its own states, and belongs to one item, claimed once.
                let states = unsafe { self.partials.range(first * stride..(first + queries) * stride) };
                // Probably this thread's next task.
                let after = schedule.items.get(self.next.load(Ordering::Relaxed));
                let after = after.map(|item| (&schedule.units[item.unit], item.chunks.start));
                self.inputs.attend(s, unit, chunk, after, &scratch.queries, scores, wide, states);
            }
        }
    }
}

/// Merges the chunks' states of every `threads`th query.
struct MergeChunks<'a> {
    inputs: &'a Inputs<'a>,
    running: &'a mut [f32],
    thread: usize,
    threads: usize,
    partials: &'a [f32],
    out: &'a Parts<'a, f32>,
}

impl Kernel for MergeChunks<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        let Inputs { step, schedule, heads, stride, .. } = *self.inputs;
        let mut turn = 0;
        for unit in &schedule.units {
            let queries = unit.rows.len() * heads.group();
            for (q, row) in queries_of(unit, heads) {
                turn += 1;
                if turn % self.threads != self.thread {
                    continue;
                }
                let state =
                    |chunk| &self.partials[(unit.first_partial + chunk * queries + q) * stride..][..stride];
                self.running.copy_from_slice(state(0));
                for chunk in 1..(step.visible[row] as usize).div_ceil(CHUNK_SLOTS) {
                    merge(s, self.running, state(chunk));
                }
                self.inputs.finish(unit, q, row, self.running, self.out);
            }
        }
    }
}

/// The next task that nobody has taken.
fn claim<'a>(schedule: &'a Schedule, next: &AtomicUsize) -> Option<(&'a Unit, &'a Item)> {
    let item = schedule.items.get(next.fetch_add(1, Ordering::Relaxed))?;
    Some((&schedule.units[item.unit], item))
}

/// The queries of a unit, numbered, with their rows: all heads of a row follow each other.
fn queries_of(unit: &Unit, heads: Heads) -> impl Iterator<Item = (usize, usize)> + use<> {
    let first = unit.rows.start;
    (0..unit.rows.len() * heads.group()).map(move |q| (q, first + q / heads.group()))
}

impl Inputs<'_> {
    /// Gathers a unit's queries `[queries, head_dim]`.
    fn load_queries(&self, unit: &Unit, queries: &mut [f32]) {
        let width = self.heads.group() * self.heads.head_dim;
        for (row, to) in unit.rows.clone().zip(queries.chunks_exact_mut(width)) {
            to.copy_from_slice(&self.qkv[row * self.heads.qkv_width() + unit.kv_head * width..][..width]);
        }
    }

    /// The pages of a unit's chunk.
    fn pages(&self, unit: &Unit, chunk: usize) -> &[PageId] {
        let (first, end) = (chunk * CHUNK_SLOTS, unit.visible.min((chunk + 1) * CHUNK_SLOTS));
        let pages = self.step.pages_of(&self.step.sequences[unit.sequence]);
        &pages[first / PAGE_SLOTS..end.div_ceil(PAGE_SLOTS)]
    }

    /// Computes the states of a unit's queries over one chunk; those of queries that see none of it are left alone.
    /// `after` is what will be computed next.
    #[inline(always)]
    #[allow(clippy::too_many_arguments, reason = "three of them are scratch")]
    fn attend<S: Lanes>(
        &self,
        s: S,
        unit: &Unit,
        chunk: usize,
        after: Option<(&Unit, usize)>,
        queries: &[f32],
        scores: &mut [f32],
        wide: &mut [f32],
        states: &mut [f32],
    ) {
        let (shape, group, stride) = (self.layer.shape, self.heads.group(), self.stride);
        let first = chunk * CHUNK_SLOTS;
        // How many of `slots` slots from `from` on a row sees.
        let seen = |row: usize, from: usize, slots: usize| {
            (self.step.visible[row] as usize).saturating_sub(from).min(slots)
        };
        let tile = |unit: &Unit, page| self.layer.tile(page, unit.kv_head);
        let pages = self.pages(unit, chunk);
        let count = unit.rows.len() * group;
        // What is read one after the other: this chunk's keys, its values, the next one's keys.
        let after = after.map(|(unit, chunk)| (unit, self.pages(unit, chunk)));
        let upcoming = |at: usize| {
            let bytes = if let Some(&page) = pages.get(at) {
                shape.key_bytes(tile(unit, page))
            } else if let Some(&page) = pages.get(at - pages.len()) {
                shape.value_bytes(tile(unit, page))
            } else if let Some((unit, after)) = after {
                shape.key_bytes(tile(unit, after[(at - 2 * pages.len()).min(after.len() - 1)]))
            } else {
                // Near already.
                shape.value_bytes(tile(unit, pages[pages.len() - 1]))
            };
            bytes.as_ptr()
        };
        let next_of =
            |at| tiles::Next { near: upcoming(at + 1), far: upcoming(at + 2), element: shape.element() };
        for (i, &page) in pages.iter().enumerate() {
            let next = next_of(i);
            let (queries, scores) = (&queries[..count * shape.dim], &mut scores[i * PAGE_SLOTS..]);
            match shape.keys(s, tile(unit, page), count, wide) {
                Numbers::F32(keys) if count >= WIDENED_FROM => tiles::scores(s, queries, keys, (), scores),
                Numbers::F32(keys) => tiles::scores(s, queries, keys, next, scores),
                Numbers::F16(keys) => tiles::scores(s, queries, keys, next, scores),
            }
        }
        let scale = 1.0 / (self.heads.scale_dim as f32).sqrt();
        for (q, row) in queries_of(unit, self.heads) {
            let slots = seen(row, first, CHUNK_SLOTS);
            if slots > 0 {
                let state = &mut states[q * stride..(q + 1) * stride];
                state.fill(0.0);
                let scores = &mut scores[q * CHUNK_SLOTS..(q + 1) * CHUNK_SLOTS];
                (state[shape.padded], state[shape.padded + 1]) = tiles::softmax(s, scores, slots, scale);
            }
        }
        for (i, &page) in pages.iter().enumerate() {
            let next = next_of(pages.len() + i);
            let values = shape.values(s, tile(unit, page), count, wide);
            let from = first + i * PAGE_SLOTS;
            let mut row = unit.rows.start;
            while row < unit.rows.end {
                // Rows that see equally much of the page are mixed together.
                let slots = seen(row, from, PAGE_SLOTS);
                let start = row;
                while row < unit.rows.end && seen(row, from, PAGE_SLOTS) == slots {
                    row += 1;
                }
                let q = (start - unit.rows.start) * group;
                let weights = &scores[q * CHUNK_SLOTS + i * PAGE_SLOTS..];
                let states = &mut states[q * stride..];
                let (mixed, padded) = ((row - start) * group, shape.padded);
                match values {
                    Numbers::F32(values) if count >= WIDENED_FROM => {
                        tiles::mix(s, weights, mixed, values, (), slots, padded, states, stride);
                    }
                    Numbers::F32(values) => {
                        tiles::mix(s, weights, mixed, values, next, slots, padded, states, stride);
                    }
                    Numbers::F16(values) => {
                        tiles::mix(s, weights, mixed, values, next, slots, padded, states, stride);
                    }
                }
            }
        }
    }

    /// Divides a query's mixed values by the sum of their weights.
    #[inline(always)]
    fn finish(&self, unit: &Unit, q: usize, row: usize, state: &[f32], out: &Parts<'_, f32>) {
        let (padded, group, dim) = (self.layer.shape.padded, self.heads.group(), self.heads.value_dim);
        let at = row * self.heads.attended_width() + (unit.kv_head * group + q % group) * dim;
        // SAFETY: a row belongs to one sequence, and a query to one unit, which one thread finishes.
        let out = unsafe { out.range(at..at + dim) };
        let sum = state[padded + 1];
        out.iter_mut().zip(state).for_each(|(o, &mixed)| *o = mixed / sum);
    }
}

/// Merges the state of the next chunk into that of the chunks before it.
#[inline(always)]
fn merge<S: Lanes>(s: S, running: &mut [f32], chunk: &[f32]) {
    let padded = running.len() - STATE_TAIL;
    let (best, next) = (running[padded], chunk[padded]);
    let greatest = if best > next { best } else { next };
    // Not through closures: what is not inlined would be compiled without the vector instructions.
    let keep = s.lanes(exp(s, s.splat(best - greatest)))[0];
    let take = s.lanes(exp(s, s.splat(next - greatest)))[0];
    for (r, c) in running[..padded].iter_mut().zip(chunk) {
        *r = *r * keep + c * take;
    }
    running[padded] = greatest;
    running[padded + 1] = running[padded + 1] * keep + chunk[padded + 1] * take;
}
