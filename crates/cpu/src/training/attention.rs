//! Attention's backward (Dao, "FlashAttention-2", 2023): scores are computed again, a block of rows or of keys at a time.
//!
//! The weights of a row are `p = e^(s - l)` with its scores `s = q k^T / sqrt(head_dim)` and the logarithm `l` of the sum of
//! their exponentials. With `dp = do v^T` and the mean `m` of `dp` under the weights, `ds = p (dp - m)`, `dq = ds k`,
//! `dk = ds^T q` and `dv = p^T do`. First some rows of one query head at a time: `l`, `m` and `dq`. Then some keys of one
//! key/value head, with all rows that see them: `dk` and `dv`. Each is written by one thread, and sums go over rows and heads in
//! order, so that threads do not show in the bits.

use super::vectors::{for_two, for_vectors};
use crate::gemm::{Area, Matrix, Panels, Product, Right};
use crate::isa::Isa;
use crate::lanes::{Kernel, Lanes, Proof, Register, Work, exp};
use crate::memory::{Parts, Slab};
use crate::pool::Pool;
use crate::step::{Span, Step};
use glimmer_tensor::{DeviceError, Heads, PAGE_SLOTS, Plan};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Rows whose scores with all keys are held at a time: whole tiles of every instruction set.
const ROWS: usize = 48;

/// Keys whose gradients are computed together, and rows of which their scores are held at a time.
const KEYS: usize = 128;
const KEY_ROWS: usize = 240;

/// What it works in.
pub(super) struct Scratch {
    /// For each row and head the logarithm of the sum of exponentials, and the mean of the weights' gradients.
    statistics: Slab<[f32; 2]>,
    threads: Vec<Mutex<Scores>>,
}

/// A thread's scores, and the gradients of its weights.
struct Scores {
    weights: Slab<f32>,
    gradients: Slab<f32>,
}

impl Scratch {
    /// For a plan.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`].
    pub(super) fn new(plan: &Plan, threads: usize) -> Result<Self, DeviceError> {
        let what = "attention's backward";
        let [statistics, scores] = sizes(plan);
        let own = |_| {
            let [weights, gradients] = [Slab::zeroed(scores, what)?, Slab::zeroed(scores, what)?];
            Ok(Mutex::new(Scores { weights, gradients }))
        };
        let threads = (0..threads).map(own).collect::<Result<_, DeviceError>>()?;
        Ok(Scratch { statistics: Slab::zeroed(statistics, what)?, threads })
    }

    /// Bytes in memory.
    pub(super) fn bytes(&self) -> usize {
        let of = |scores: &Mutex<Scores>| {
            let scores = scores.lock().unwrap_or_else(PoisonError::into_inner);
            scores.weights.bytes() + scores.gradients.bytes()
        };
        self.statistics.bytes() + self.threads.iter().map(of).sum::<usize>()
    }

    /// Bytes that one for a plan takes.
    pub(super) fn needed(plan: &Plan, threads: usize) -> usize {
        let [statistics, scores] = sizes(plan);
        statistics.saturating_mul(8).saturating_add(scores.saturating_mul(8 * threads))
    }
}

/// Rows times heads, and elements of a thread's scores.
fn sizes(plan: &Plan) -> [usize; 2] {
    let heads = plan.layers.iter().map(|heads| heads.heads).max().unwrap_or(0);
    let slots = plan.capacity.pages.saturating_mul(PAGE_SLOTS);
    [plan.capacity.rows.saturating_mul(heads), slots.saturating_mul(ROWS).max(KEYS * KEY_ROWS)]
}

/// What it reads: `[rows, qkv_width]`, `[slots, k_width + v_width]`, `[rows, attended_width]`.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    pub(super) step: &'a Step,
    pub(super) heads: Heads,
    pub(super) qkv: &'a [f32],
    pub(super) prefix: &'a [f32],
    pub(super) d_attended: &'a [f32],
}

/// Sets `d_qkv` and adds to `d_prefix`.
pub(super) fn backward(
    pool: &Pool,
    isa: Isa,
    inputs: Inputs<'_>,
    scratch: &mut Scratch,
    panels: &[Mutex<Panels>],
    d_qkv: &mut [f32],
    d_prefix: Option<&mut [f32]>,
) {
    let Inputs { step, heads, .. } = inputs;
    let width = heads.qkv_width();
    let d_qkv = Area::of(&mut d_qkv[..step.rows() * width], width, step.rows(), width);
    let (slots, key_value) = (inputs.prefix_slots(), heads.k_width() + heads.v_width());
    let d_prefix = d_prefix.map(|d_prefix| Area::of(d_prefix, key_value, slots, key_value));
    let statistics = Parts::new(&mut scratch.statistics);
    let on_threads = |units: usize, work: &(dyn Fn(usize, &mut Scores, &mut Panels) + Sync)| {
        let next = AtomicUsize::new(0);
        pool.run(&|thread| {
            let mut scores = scratch.threads[thread].lock().unwrap_or_else(PoisonError::into_inner);
            let mut panels = panels[thread].lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                match next.fetch_add(1, Ordering::Relaxed) {
                    unit if unit < units => work(unit, &mut scores, &mut panels),
                    _ => return,
                }
            }
        });
    };
    let blocks = |block| step.sequences.iter().map(move |s| s.rows.len().div_ceil(block)).sum::<usize>();
    on_threads(blocks(ROWS) * heads.heads, &|unit, scores, panels| {
        let (sequence, rows) = block_of(step, ROWS, unit / heads.heads);
        let head = unit % heads.heads;
        let columns = head * heads.head_dim..(head + 1) * heads.head_dim;
        // SAFETY: each row and head is one unit's.
        let d_queries = unsafe { d_qkv.part(rows.clone(), columns) };
        let statistics = &statistics;
        Proof::of(isa).work(Queries { inputs, sequence, rows, head, statistics, scores, panels, d_queries });
    });
    let statistics = &scratch.statistics[..];
    let own = blocks(KEYS) * heads.kv_heads;
    let of_prefix = d_prefix.as_ref().map_or(0, |_| slots.div_ceil(KEYS) * heads.kv_heads);
    on_threads(own + of_prefix, &|unit, scores, panels| {
        let (kv_head, block) = (unit % heads.kv_heads, unit / heads.kv_heads);
        let key = kv_head * heads.head_dim..(kv_head + 1) * heads.head_dim;
        let value = kv_head * heads.value_dim..(kv_head + 1) * heads.value_dim;
        let shifted = |range: &Range<usize>, by: usize| range.start + by..range.end + by;
        let k_width = heads.k_width();
        let (sequences, slots, gradient, rows, at, adds) = match d_prefix.as_ref().filter(|_| unit >= own) {
            None => {
                let (sequence, rows) = block_of(step, KEYS, block);
                let within = rows.start - sequence.rows.start..rows.end - sequence.rows.start;
                (
                    std::slice::from_ref(sequence),
                    shifted(&within, slots),
                    &d_qkv,
                    rows,
                    heads.q_width(),
                    false,
                )
            }
            Some(d_prefix) => {
                let first = (block - own / heads.kv_heads) * KEYS;
                let rows = first..slots.min(first + KEYS);
                (&step.sequences[..], rows.clone(), d_prefix, rows, 0, true)
            }
        };
        // SAFETY: each row, or slot of the prefix, and head is one unit's.
        let [d_keys, d_values] = [shifted(&key, at), shifted(&value, at + k_width)]
            .map(|columns| unsafe { gradient.part(rows.clone(), columns) });
        Proof::of(isa).work(Keys {
            inputs,
            sequences,
            slots,
            kv_head,
            statistics,
            scores,
            panels,
            d_keys,
            d_values,
            adds,
        });
    });
}

/// The sequence and rows of a block, of so many rows each.
fn block_of(step: &Step, rows: usize, mut block: usize) -> (&Span, Range<usize>) {
    for sequence in &step.sequences {
        let blocks = sequence.rows.len().div_ceil(rows);
        if block < blocks {
            let first = sequence.rows.start + block * rows;
            return (sequence, first..sequence.rows.end.min(first + rows));
        }
        block -= blocks;
    }
    unreachable!("there are no more blocks than the sequences have")
}

impl<'a> Inputs<'a> {
    /// Slots before every sequence.
    fn prefix_slots(&self) -> usize {
        self.prefix.len() / (self.heads.k_width() + self.heads.v_width())
    }

    fn scale(&self) -> f32 {
        1.0 / (self.heads.head_dim as f32).sqrt()
    }

    /// The queries of a head, from a row on: where they begin, and the elements from a row to the next.
    fn queries(&self, row: usize, head: usize) -> (&'a [f32], usize) {
        let width = self.heads.qkv_width();
        (&self.qkv[row * width + head * self.heads.head_dim..], width)
    }

    /// The gradients of what a head returned.
    fn d_out(&self, row: usize, head: usize) -> (&'a [f32], usize) {
        let width = self.heads.attended_width();
        (&self.d_attended[row * width + head * self.heads.value_dim..], width)
    }

    /// The keys and the values of a sequence's slots from `slot` on: those of the prefix, or of rows.
    fn keys_values(&self, sequence: &Span, slot: usize, kv_head: usize) -> [(&'a [f32], usize); 2] {
        let Heads { head_dim, value_dim, .. } = self.heads;
        let (from, start, stride) = match slot.checked_sub(self.prefix_slots()) {
            None => {
                let stride = self.heads.k_width() + self.heads.v_width();
                (self.prefix, slot * stride, stride)
            }
            Some(row) => {
                let stride = self.heads.qkv_width();
                (self.qkv, (sequence.rows.start + row) * stride + self.heads.q_width(), stride)
            }
        };
        let value_at = start + self.heads.k_width() + kv_head * value_dim;
        [(&from[start + kv_head * head_dim..], stride), (&from[value_at..], stride)]
    }

    /// The slots that are below `visible`, in runs that lie in one place each.
    fn runs(&self, visible: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let slots = self.prefix_slots().min(visible);
        [0..slots, slots..visible].into_iter().filter(|run| !run.is_empty())
    }
}

/// `left right * scale` with `shape` `[m, n, depth]`.
fn product<'a>(
    left: Matrix<'a>,
    right: Matrix<'a>,
    [m, n, depth]: [usize; 3],
    scale: f32,
    adds: bool,
) -> Product<'a> {
    Product { left, right: Right::Floats(right), m, n, depth, scale, adds }
}

impl Product<'_> {
    /// All of it on this thread.
    fn into<S: Register>(self, s: S, panels: &mut Panels, mut area: Area<'_>) {
        self.rectangle(s, 0..self.m, 0..self.n, panels, &mut area);
    }
}

/// Some rows of a query head.
struct Queries<'a> {
    inputs: Inputs<'a>,
    sequence: &'a Span,
    rows: Range<usize>,
    head: usize,
    statistics: &'a Parts<'a, [f32; 2]>,
    scores: &'a mut Scores,
    panels: &'a mut Panels,
    d_queries: Area<'a>,
}

impl Work for Queries<'_> {
    type Output = ();

    fn work<S: Register>(mut self, s: S) {
        let Inputs { step, heads, .. } = self.inputs;
        let Scores { weights, gradients } = self.scores;
        let (m, kv_head, scale) = (self.rows.len(), self.head / heads.group(), self.inputs.scale());
        let visible = &step.visible[self.rows.clone()];
        let stride = visible.iter().copied().max().unwrap_or(0) as usize;
        let (queries, q_stride) = self.inputs.queries(self.rows.start, self.head);
        let (d_out, d_stride) = self.inputs.d_out(self.rows.start, self.head);
        for run in self.inputs.runs(stride) {
            let [keys, values] = self.inputs.keys_values(self.sequence, run.start, kv_head);
            let sides = [
                (Matrix::rows(queries, q_stride), keys, heads.head_dim, scale, &mut *weights),
                (Matrix::rows(d_out, d_stride), values, heads.value_dim, 1.0, &mut *gradients),
            ];
            for (left, (right, right_stride), depth, scale, to) in sides {
                let shape = [m, run.len(), depth];
                let product = product(left, Matrix::columns(right, right_stride), shape, scale, false);
                product.into(s, self.panels, Area::of(&mut to[run.start..], stride, m, run.len()));
            }
        }
        for (i, row) in self.rows.clone().enumerate() {
            let at = row * heads.heads + self.head;
            // SAFETY: each row and head is one unit's.
            let [statistics] = (unsafe { self.statistics.range(at..at + 1) }) else { return };
            let row = i * stride..(i + 1) * stride;
            let (weights, gradients) = (&mut weights[row.clone()], &mut gradients[row]);
            *statistics = s.run(ScoreRow { weights, gradients, visible: visible[i] as usize });
        }
        let mut adds = false;
        for run in self.inputs.runs(stride) {
            let [(keys, k_stride), _] = self.inputs.keys_values(self.sequence, run.start, kv_head);
            let left = Matrix::rows(&gradients[run.start..], stride);
            let shape = [m, heads.head_dim, run.len()];
            let product = product(left, Matrix::rows(keys, k_stride), shape, scale, adds);
            product.rectangle(s, 0..m, 0..heads.head_dim, self.panels, &mut self.d_queries);
            adds = true;
        }
    }
}

/// Turns a row's scores into weights and the weights' gradients into those of the scores; returns the logarithm of the sum of
/// exponentials and the mean.
struct ScoreRow<'a> {
    weights: &'a mut [f32],
    gradients: &'a mut [f32],
    visible: usize,
}

impl Kernel for ScoreRow<'_> {
    type Output = [f32; 2];

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) -> [f32; 2] {
        let ScoreRow { weights, gradients, visible } = self;
        let mut greatest = s.splat(f32::NEG_INFINITY);
        for_vectors(s, &mut weights[..visible], |x, n| {
            greatest = s.max(greatest, s.first(n, x, s.splat(f32::NEG_INFINITY)));
            x
        });
        let greatest = s.greatest(greatest);
        let mut sum = s.splat(0.0);
        for_vectors(s, &mut weights[..visible], |x, n| {
            let weight = s.first(n, exp(s, s.sub(x, s.splat(greatest))), s.splat(0.0));
            sum = s.add(sum, weight);
            weight
        });
        let logarithm = greatest + s.sum(sum).ln();
        let over_sum = s.splat(1.0 / s.sum(sum));
        for_vectors(s, &mut weights[..visible], |x, _| s.mul(x, over_sum));
        let mut mean = s.splat(0.0);
        for_two(s, &mut gradients[..visible], &weights[..visible], |d, weight, _| {
            mean = s.mul_add(d, weight, mean);
            d
        });
        let mean = s.sum(mean);
        for_two(s, &mut gradients[..visible], &weights[..visible], |d, weight, _| {
            s.mul(weight, s.sub(d, s.splat(mean)))
        });
        gradients[visible..].fill(0.0);
        [logarithm, mean]
    }
}

/// Some keys of a key/value head, with all rows of some sequences that see them.
struct Keys<'a> {
    inputs: Inputs<'a>,
    sequences: &'a [Span],
    slots: Range<usize>,
    kv_head: usize,
    statistics: &'a [[f32; 2]],
    scores: &'a mut Scores,
    panels: &'a mut Panels,
    d_keys: Area<'a>,
    d_values: Area<'a>,
    /// Whether their gradients are added to what is there.
    adds: bool,
}

impl Work for Keys<'_> {
    type Output = ();

    fn work<S: Register>(mut self, s: S) {
        let Inputs { step, heads, .. } = self.inputs;
        for sequence in self.sequences {
            // A later row sees as much as one before it.
            let sees = |row: &usize| step.visible[*row] as usize > self.slots.start;
            let first = sequence.rows.clone().find(sees).unwrap_or(sequence.rows.end);
            for head in self.kv_head * heads.group()..(self.kv_head + 1) * heads.group() {
                for first in (first..sequence.rows.end).step_by(KEY_ROWS) {
                    self.rows(s, sequence, first..sequence.rows.end.min(first + KEY_ROWS), head);
                }
            }
        }
        if !self.adds {
            self.d_keys.clear();
            self.d_values.clear();
        }
    }
}

impl Keys<'_> {
    /// Adds what some rows of a query head bring.
    fn rows<S: Register>(&mut self, s: S, sequence: &Span, rows: Range<usize>, head: usize) {
        let Inputs { step, heads, .. } = self.inputs;
        let Scores { weights, gradients } = &mut *self.scores;
        let (m, n, scale) = (rows.len(), self.slots.len(), self.inputs.scale());
        let [(keys, k_stride), (values, v_stride)] =
            self.inputs.keys_values(sequence, self.slots.start, self.kv_head);
        let (queries, q_stride) = self.inputs.queries(rows.start, head);
        let (d_out, d_stride) = self.inputs.d_out(rows.start, head);
        let (queries, d_out) = (Matrix::rows(queries, q_stride), Matrix::rows(d_out, d_stride));
        product(queries, Matrix::columns(keys, k_stride), [m, n, heads.head_dim], scale, false).into(
            s,
            self.panels,
            Area::of(weights, n, m, n),
        );
        product(d_out, Matrix::columns(values, v_stride), [m, n, heads.value_dim], 1.0, false).into(
            s,
            self.panels,
            Area::of(gradients, n, m, n),
        );
        for (i, row) in rows.enumerate() {
            let visible = (step.visible[row] as usize).saturating_sub(self.slots.start).min(n);
            let statistics = self.statistics[row * heads.heads + head];
            let (weights, gradients) = (&mut weights[i * n..(i + 1) * n], &mut gradients[i * n..(i + 1) * n]);
            s.run(ScoreAgain { weights, gradients, visible, statistics });
        }
        let turned = [Matrix::columns(gradients, n), Matrix::columns(weights, n)];
        let of_keys = product(turned[0], queries, [n, heads.head_dim, m], scale, self.adds);
        of_keys.rectangle(s, 0..n, 0..heads.head_dim, self.panels, &mut self.d_keys);
        let of_values = product(turned[1], d_out, [n, heads.value_dim, m], 1.0, self.adds);
        of_values.rectangle(s, 0..n, 0..heads.value_dim, self.panels, &mut self.d_values);
        self.adds = true;
    }
}

/// The same as [`ScoreRow`], of some slots, where what all come to is known.
struct ScoreAgain<'a> {
    weights: &'a mut [f32],
    gradients: &'a mut [f32],
    visible: usize,
    statistics: [f32; 2],
}

impl Kernel for ScoreAgain<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        let ScoreAgain { weights, gradients, visible, statistics: [logarithm, mean] } = self;
        for_vectors(s, &mut weights[..visible], |x, _| exp(s, s.sub(x, s.splat(logarithm))));
        for_two(s, &mut gradients[..visible], &weights[..visible], |d, weight, _| {
            s.mul(weight, s.sub(d, s.splat(mean)))
        });
        weights[visible..].fill(0.0);
        gradients[visible..].fill(0.0);
    }
}
