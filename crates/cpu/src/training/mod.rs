//! Training on the CPU device: [`TrainingDevice`] over the pool, the packed weights and the planned buffers.
//!
//! - [`elements`], [`norm`], [`attention`]: the kernels; products are [`crate::gemm`]'s.
//!
//! Threads share out rows where each is computed by itself, and columns where rows are added up: never the terms of a sum.

mod attention;
mod elements;
mod norm;
mod vectors;

use crate::device::{CpuDevice, each_row};
use crate::gemm::{Matrix, Panels, Product, Right};
use crate::lanes::dispatch;
use crate::memory::{Parts, Slab, share};
use crate::step::Step;
use elements::{Add, AddBias, CrossEntropy, Drop, Gelu, GeluBackward, SwiGlu, SwiGluBackward};
use glimmer_tensor::{
    AttentionGradient, BufferId, Compute, DType, DeviceBatch, DeviceError, Dropout, Heads, MatrixId, Norm,
    PAGE_SLOTS, PageId, Plan, Role, Rope, RopeId, TrainingDevice, VectorId,
};
use std::sync::{Mutex, PoisonError};

/// What training works in: made with the first tensor or buffer of its own.
pub(crate) struct Training {
    panels: Vec<Mutex<Panels>>,
    planned: Option<PlannedScratch>,
}

/// What depends on the plan.
struct PlannedScratch {
    /// The mean of each row of a norm, and what it was scaled by.
    norms: Slab<[f64; 2]>,
    attention: attention::Scratch,
}

impl Training {
    fn new(threads: usize) -> Result<Self, DeviceError> {
        let panels = (0..threads).map(|_| Ok(Mutex::new(Panels::new()?)));
        Ok(Training { panels: panels.collect::<Result<_, DeviceError>>()?, planned: None })
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        let panels = |p: &Mutex<Panels>| p.lock().unwrap_or_else(PoisonError::into_inner).bytes();
        let planned = self.planned.as_ref().map_or(0, |p| p.norms.bytes() + p.attention.bytes());
        self.panels.iter().map(panels).sum::<usize>() + planned
    }
}

impl CpuDevice {
    /// Makes what is missing of what training works in.
    fn prepare(&mut self) -> Result<(), DeviceError> {
        let threads = self.pool.threads();
        if self.training.is_none() {
            self.training = Some(Training::new(threads)?);
        }
        if let (Some(work), Some(training)) = (self.work.get(), &mut self.training)
            && training.planned.is_none()
        {
            let rows = work.plan.capacity.rows.max(work.plan.capacity.logits_rows);
            let norms = Slab::zeroed(rows, "the backward of norms")?;
            let attention = attention::Scratch::new(&work.plan, threads)?;
            training.planned = Some(PlannedScratch { norms, attention });
        }
        Ok(())
    }

    fn own(&mut self, role: Role, rows: usize, width: usize) -> Result<BufferId, DeviceError> {
        self.prepare()?;
        let values = Slab::zeroed(rows.saturating_mul(width), "a buffer of training")?;
        Ok(self.buffers.own(role, width, values))
    }

    /// Makes the first `rows` rows of `out` those of `x`, and changes them beside those of `y`: `work(y, out, at)` gets some of
    /// their elements, the first of which is the `at`th.
    fn change(
        &mut self,
        rows: usize,
        x: BufferId,
        y: Option<BufferId>,
        out: BufferId,
        work: impl Fn(&[f32], &mut [f32], usize) + Sync,
    ) {
        let width = self.buffers[out].width;
        for other in [Some(x), y].into_iter().flatten() {
            assert_eq!(self.buffers[other].width, width, "elements stand beside elements");
        }
        if x != out {
            let [x, out] = self.buffers.together([x, out]);
            out.values[..rows * width].copy_from_slice(&x.values[..rows * width]);
        }
        let (y, out) = match y {
            Some(y) => {
                let [y, out] = self.buffers.together([y, out]);
                (&y.values[..], &mut out.values)
            }
            None => (&[][..], &mut self.buffers[out].values),
        };
        each_row(&self.pool, rows, width, out, |rows, out| {
            let elements = rows.start * width..rows.end * width;
            work(y.get(elements.clone()).unwrap_or_default(), out, elements.start);
        });
    }

    /// `to[indices[i]] += from[i]`, in order; threads share columns.
    fn add_rows(&mut self, batch: DeviceBatch, from: BufferId, to: BufferId, indices: fn(&Step) -> &[u32]) {
        let indices = indices(&self.work.steps[batch]);
        let [from, to] = self.buffers.together([from, to]);
        let width = to.width;
        assert_eq!(from.width, width, "rows keep their width");
        let (threads, to) = (self.pool.threads(), Parts::new(&mut to.values));
        self.pool.run(&|thread| {
            let columns = share(width, threads, thread);
            for (&row, from) in indices.iter().zip(from.values.chunks_exact(width)) {
                let at = row as usize * width;
                // SAFETY: the threads' columns are disjoint, and a range is let go of at once.
                let to = unsafe { to.range(at + columns.start..at + columns.end) };
                to.iter_mut().zip(&from[columns.clone()]).for_each(|(to, from)| *to += from);
            }
        });
    }

    /// `to += sum of the rows of dy`, times the normed rows of a buffer where there is one.
    fn sum_rows(&mut self, rows: usize, dy: BufferId, normed: Option<BufferId>, to: BufferId) {
        let (x, [dy, to]) = match normed {
            Some(x) => {
                let [x, dy, to] = self.buffers.together([x, dy, to]);
                (Some(&x.values[..]), [dy, to])
            }
            None => (None, self.buffers.together([dy, to])),
        };
        let width = dy.width;
        assert_eq!(to.width, width, "a sum of rows is as wide as they");
        let dy = &dy.values[..rows * width];
        let normed = x.map(|x| (x, &scratch(&mut self.training).1.norms[..]));
        let (isa, threads, blocks) = (self.isa, self.pool.threads(), width.div_ceil(norm::COLUMNS));
        let to = Parts::new(&mut to.values);
        self.pool.run(&|thread| {
            for block in share(blocks, threads, thread) {
                let columns = block * norm::COLUMNS..width.min((block + 1) * norm::COLUMNS);
                // SAFETY: the threads' blocks are disjoint.
                let to = unsafe { to.range(columns.clone()) };
                dispatch(isa, norm::ColumnSums { width, dy, normed, columns, to });
            }
        });
    }

    /// A product of buffers, `sides` of their values.
    fn product<'a>(
        &'a mut self,
        [left, right, out]: [BufferId; 3],
        shape: [usize; 3],
        sides: impl FnOnce(&'a [f32], &'a [f32]) -> [Matrix<'a>; 2],
        scale: f32,
        adds: bool,
    ) {
        let [left, right, out] = self.buffers.together([left, right, out]);
        let [left, right] = sides(&left.values, &right.values);
        let [m, n, depth] = shape;
        let product = Product { left, right: Right::Floats(right), m, n, depth, scale, adds };
        product.run(&self.pool, self.isa, panels(&self.training), &mut out.values);
    }
}

/// The packed sides of products.
fn panels(training: &Option<Training>) -> &[Mutex<Panels>] {
    &training.as_ref().expect(BEFORE).panels
}

/// All that training works in, once there is a plan.
fn scratch(training: &mut Option<Training>) -> (&[Mutex<Panels>], &mut PlannedScratch) {
    let Training { panels, planned } = training.as_mut().expect(BEFORE);
    (panels, planned.as_mut().expect(BEFORE))
}

const BEFORE: &str = "the plan and the buffers of training come before its steps";

impl TrainingDevice for CpuDevice {
    fn training_needed(&self, plan: &Plan) -> usize {
        let threads = self.pool.threads();
        let norms = plan.capacity.rows.max(plan.capacity.logits_rows).saturating_mul(size_of::<[f64; 2]>());
        norms + threads * Panels::BYTES + attention::Scratch::needed(plan, threads)
    }

    fn own_buffer(&mut self, role: Role, width: usize) -> Result<BufferId, DeviceError> {
        let capacity = self.work.plan.capacity;
        self.own(role, role.pick(capacity.rows, capacity.logits_rows), width)
    }

    fn tensor(&mut self, rows: usize, width: usize) -> Result<BufferId, DeviceError> {
        self.own(Role::Tensor, rows, width)
    }

    fn values(&self, x: BufferId) -> &[f32] {
        &self.buffers[x].values
    }

    fn values_mut(&mut self, x: BufferId) -> &mut [f32] {
        &mut self.buffers[x].values
    }

    fn values_beside(&mut self, changed: BufferId, other: BufferId) -> (&mut [f32], &[f32]) {
        let [changed, other] = self.buffers.together([changed, other]);
        (&mut changed.values, &other.values)
    }

    fn set_vector(&mut self, vector: VectorId, values: &[f32]) {
        self.vectors[vector].copy_from_slice(values);
    }

    fn decode_rows(&mut self, matrix: MatrixId, first: usize, out: &mut [f32]) {
        let matrix = &self.matrices[matrix];
        let (isa, cols) = (self.isa, matrix.cols());
        each_row(&self.pool, out.len() / cols.max(1), cols, out, |rows, out| {
            matrix.decode_rows(isa, first + rows.start, out);
        });
    }

    fn bias(&self, matrix: MatrixId) -> Option<Vec<f32>> {
        self.matrices[matrix].bias()
    }

    fn embed_tensor(&mut self, batch: DeviceBatch, table: BufferId, out: BufferId) {
        let step = &self.work.steps[batch];
        let [table, out] = self.buffers.together([table, out]);
        let width = table.width;
        assert_eq!(width, out.width, "an embedding is as wide as its buffer");
        each_row(&self.pool, step.rows(), width, &mut out.values, |rows, out| {
            for (&token, out) in step.tokens[rows].iter().zip(out.chunks_exact_mut(width)) {
                out.copy_from_slice(&table.values[token as usize * width..][..width]);
            }
        });
    }

    fn embed_backward(&mut self, batch: DeviceBatch, d_out: BufferId, d_table: BufferId) {
        self.add_rows(batch, d_out, d_table, |step| &step.tokens);
    }

    fn gather_backward(&mut self, batch: DeviceBatch, d_out: BufferId, dx: BufferId) {
        self.add_rows(batch, d_out, dx, |step| &step.logits_rows);
    }

    fn add_bias(&mut self, rows: usize, bias: BufferId, x: BufferId) {
        let isa = self.isa;
        let [bias, x] = self.buffers.together([bias, x]);
        let bias = &bias.values[..x.width];
        each_row(&self.pool, rows, x.width, &mut x.values, |_, rows| dispatch(isa, AddBias { rows, bias }));
    }

    fn bias_gradient(&mut self, rows: usize, dy: BufferId, db: BufferId) {
        self.sum_rows(rows, dy, None, db);
    }

    fn add(&mut self, rows: usize, from: BufferId, scale: f32, y: BufferId, out: BufferId) {
        let isa = self.isa;
        let (x, beside, scale, y_scale) =
            if y == out { (y, from, 1.0, scale) } else { (from, y, scale, 1.0) };
        self.change(rows, x, Some(beside), out, |y, out, _| dispatch(isa, Add { out, scale, y, y_scale }));
    }

    fn swiglu(&mut self, rows: usize, y: BufferId, out: BufferId) {
        let isa = self.isa;
        let [y, out] = self.buffers.together([y, out]);
        let width = y.width;
        assert_eq!(out.width, width / 2, "gates and values become half as many");
        each_row(&self.pool, rows, width / 2, &mut out.values, |rows, out| {
            let y = &y.values[rows.start * width..rows.end * width];
            dispatch(isa, SwiGlu { y, width, out });
        });
    }

    fn swiglu_backward(&mut self, rows: usize, y: BufferId, d_out: BufferId, dy: BufferId) {
        let isa = self.isa;
        let [y, d_out, dy] = self.buffers.together([y, d_out, dy]);
        let width = y.width;
        assert_eq!([d_out.width, dy.width], [width / 2, width], "gates and values become half as many");
        each_row(&self.pool, rows, width, &mut dy.values, |rows, dy| {
            let y = &y.values[rows.start * width..rows.end * width];
            let d_out = &d_out.values[rows.start * (width / 2)..rows.end * (width / 2)];
            dispatch(isa, SwiGluBackward { y, width, d_out, dy });
        });
    }

    fn gelu(&mut self, rows: usize, y: BufferId, out: BufferId) {
        let isa = self.isa;
        self.change(rows, y, None, out, |_, out, _| dispatch(isa, Gelu(out)));
    }

    fn gelu_backward(&mut self, rows: usize, y: BufferId, d_out: BufferId, dy: BufferId) {
        let isa = self.isa;
        self.change(rows, d_out, Some(y), dy, |y, d, _| dispatch(isa, GeluBackward { d, y }));
    }

    fn dropout(&mut self, rows: usize, x: BufferId, dropout: Dropout, out: BufferId) {
        let isa = self.isa;
        self.change(rows, x, None, out, |_, out, first| dispatch(isa, Drop { out, dropout, first }));
    }

    fn multiply(&mut self, rows: usize, x: BufferId, w: BufferId, scale: f32, adds: bool, out: BufferId) {
        let [k, n] = [x, out].map(|buffer| self.buffers[buffer].width);
        assert_eq!([k, n * k], [self.buffers[w].width, self.values(w).len()], "the tensor's shape");
        let sides = |x, w| [Matrix::rows(x, k), Matrix::columns(w, k)];
        self.product([x, w, out], [rows, n, k], sides, scale, adds);
    }

    fn multiply_backward(
        &mut self,
        rows: usize,
        dy: BufferId,
        w: BufferId,
        scale: f32,
        adds: bool,
        dx: BufferId,
    ) {
        let [n, k] = [dy, dx].map(|buffer| self.buffers[buffer].width);
        assert_eq!([k, n * k], [self.buffers[w].width, self.values(w).len()], "the tensor's shape");
        let sides = |dy, w| [Matrix::rows(dy, n), Matrix::rows(w, k)];
        self.product([dy, w, dx], [rows, k, n], sides, scale, adds);
    }

    fn weight_gradient(&mut self, rows: usize, dy: BufferId, x: BufferId, scale: f32, dw: BufferId) {
        let [n, k] = [dy, x].map(|buffer| self.buffers[buffer].width);
        assert_eq!([k, n * k], [self.buffers[dw].width, self.values(dw).len()], "the tensor's shape");
        let sides = |dy, x| [Matrix::columns(dy, n), Matrix::rows(x, k)];
        self.product([dy, x, dw], [n, k, rows], sides, scale, true);
    }

    fn linear_backward(&mut self, rows: usize, dy: BufferId, w: MatrixId, adds: bool, dx: BufferId) {
        let w = &self.matrices[w];
        let [dy, dx] = self.buffers.together([dy, dx]);
        assert_eq!([dy.width, dx.width], [w.rows(), w.cols()], "the matrix's shape");
        let left = Matrix::rows(&dy.values, dy.width);
        let (n, depth) = (dx.width, dy.width);
        // Weights of f32 are meant to be exact.
        let rounds = self.compute == Compute::Auto && !w.has(DType::F32);
        let right = Right::Weights { matrix: w, rounds };
        let product = Product { left, right, m: rows, n, depth, scale: 1.0, adds };
        product.run(&self.pool, self.isa, panels(&self.training), &mut dx.values);
    }

    fn norm_backward(
        &mut self,
        rows: usize,
        x: BufferId,
        norm: &Norm,
        dy: BufferId,
        dx: BufferId,
        d_weight: Option<BufferId>,
        d_bias: Option<BufferId>,
    ) {
        let (isa, kind, eps, weight) = (self.isa, norm.kind, norm.eps, &self.vectors[norm.weight][..]);
        let width = weight.len();
        let [x_values, dy_values, dx] = self.buffers.together([x, dy, dx]);
        assert_eq!(
            [x_values.width, dy_values.width, dx.width],
            [width; 3],
            "a norm is as wide as its buffers"
        );
        let norms = Parts::new(&mut scratch(&mut self.training).1.norms);
        each_row(&self.pool, rows, width, &mut dx.values, |rows, dx| {
            let [x, dy] =
                [&x_values.values, &dy_values.values].map(|v| &v[rows.start * width..rows.end * width]);
            // SAFETY: the threads' rows are disjoint.
            let statistics = unsafe { norms.range(rows) };
            dispatch(isa, norm::NormBackward { kind, weight, eps, x, dy, dx, statistics });
        });
        d_weight.into_iter().for_each(|to| self.sum_rows(rows, dy, Some(x), to));
        d_bias.into_iter().for_each(|to| self.sum_rows(rows, dy, None, to));
    }

    fn rope_backward(&mut self, batch: DeviceBatch, d_qkv: BufferId, heads: Heads, rope: RopeId) {
        self.turn_heads(batch, d_qkv, heads, rope, Rope::rotate_back);
    }

    fn prefix_write(&mut self, layer: usize, pages: &[PageId], prefix: BufferId, heads: Heads) {
        let layer = self.work.cache.layer(layer, heads);
        let prefix = &self.buffers[prefix];
        assert_eq!(prefix.width, heads.k_width() + heads.v_width(), "the heads fill the prefix");
        for (slot, row) in prefix.values.chunks_exact(prefix.width).enumerate() {
            layer.put(pages[slot / PAGE_SLOTS], slot % PAGE_SLOTS, row);
        }
    }

    fn attention_backward(&mut self, batch: DeviceBatch, heads: Heads, gradient: &AttentionGradient) {
        let AttentionGradient { qkv, prefix, d_attended, d_qkv, d_prefix, .. } = *gradient;
        let step = &self.work.steps[batch];
        let widths = [qkv, d_attended, d_qkv].map(|buffer| self.buffers[buffer].width);
        assert_eq!(
            widths,
            [heads.qkv_width(), heads.attended_width(), heads.qkv_width()],
            "the heads' widths"
        );
        let (panels, scratch) = scratch(&mut self.training);
        let mut run = |qkv, prefix, d_attended, d_qkv: &mut Slab<f32>, d_prefix| {
            let inputs = attention::Inputs { step, heads, qkv, prefix, d_attended };
            let (scratch, isa) = (&mut scratch.attention, self.isa);
            attention::backward(&self.pool, isa, inputs, scratch, panels, d_qkv, d_prefix);
        };
        match (prefix, d_prefix) {
            (None, _) => {
                let [qkv, d, to] = self.buffers.together([qkv, d_attended, d_qkv]).map(|b| &mut b.values);
                run(qkv, &[], d, to, None);
            }
            (Some(prefix), None) => {
                let all = self.buffers.together([qkv, prefix, d_attended, d_qkv]);
                let [qkv, prefix, d, to] = all.map(|b| &mut b.values);
                run(qkv, prefix, d, to, None);
            }
            (Some(prefix), Some(d_prefix)) => {
                let all = self.buffers.together([qkv, prefix, d_attended, d_qkv, d_prefix]);
                let [qkv, prefix, d, to, d_prefix] = all.map(|b| &mut b.values);
                run(qkv, prefix, d, to, Some(d_prefix));
            }
        }
    }

    fn cross_entropy(&mut self, logits: BufferId, targets: &[u32], weights: &[f32], losses: &mut Vec<f32>) {
        assert_eq!(targets.len(), weights.len(), "a weight for each target");
        let (isa, rows, first) = (self.isa, targets.len(), losses.len());
        losses.resize(first + rows, 0.0);
        let losses = Parts::new(&mut losses[first..]);
        let logits = &mut self.buffers[logits];
        let width = logits.width;
        each_row(&self.pool, rows, width, &mut logits.values, |rows, logits| {
            // SAFETY: the threads' rows are disjoint.
            let losses = unsafe { losses.range(rows.clone()) };
            for ((row, logits), loss) in rows.zip(logits.chunks_exact_mut(width)).zip(losses) {
                let (target, weight) = (targets[row] as usize, weights[row]);
                *loss = dispatch(isa, CrossEntropy { logits, target, weight });
            }
        });
    }
}
