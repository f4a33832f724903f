//! Training on the reference device. What an operation returns is computed in f64 from the buffers as they are and then put
//! in its place, so that the place may be one of them.

use super::{ReferenceDevice, Workspace, pool_slot, silu};
use crate::gelu::{gelu_inner, gelu_tanh};
use crate::{
    AttentionGradient, BufferId, DeviceBatch, DeviceError, Dropout, Handle, Heads, MatrixId, Norm, NormKind,
    PageId, Plan, Role, RopeId, SequenceRows, TrainingDevice, VectorId,
};

impl ReferenceDevice {
    /// The first `rows` rows of a buffer.
    fn first(&self, x: BufferId, rows: usize) -> &[f32] {
        &self.buffers[x].values[..rows * self.buffers[x].width]
    }

    fn width(&self, x: BufferId) -> usize {
        self.buffers[x].width
    }

    /// Replaces the first elements of a buffer, or adds to them.
    fn put(&mut self, x: BufferId, values: &[f64], adds: bool) {
        for (x, value) in self.buffers[x].values[..values.len()].iter_mut().zip(values) {
            *x = (value + if adds { f64::from(*x) } else { 0.0 }) as f32;
        }
    }

    fn new_buffer(&mut self, role: Role, rows: usize, width: usize) -> Result<BufferId, DeviceError> {
        let what = "a buffer of training";
        let len = rows.checked_mul(width).ok_or(DeviceError::OutOfMemory { what, bytes: usize::MAX })?;
        let mut values = Vec::new();
        let too_large = |_| DeviceError::OutOfMemory { what, bytes: len.saturating_mul(4) };
        values.try_reserve_exact(len).map_err(too_large)?;
        values.resize(len, 0.0);
        Ok(self.buffers.own(role, width, values))
    }

    /// `dy W` of a matrix `[n, k]`.
    fn times(&self, rows: usize, dy: BufferId, w: &[f32], k: usize, scale: f32) -> Vec<f64> {
        let n = self.width(dy);
        assert_eq!(w.len(), n * k, "the gradient is as wide as the matrix has rows");
        let mut dx = vec![0f64; rows * k];
        for (dy, dx) in self.first(dy, rows).chunks_exact(n).zip(dx.chunks_exact_mut(k)) {
            for (&d, w) in dy.iter().zip(w.chunks_exact(k)) {
                add_scaled(dx, f64::from(d) * f64::from(scale), w);
            }
        }
        dx
    }
}

impl TrainingDevice for ReferenceDevice {
    /// None that is kept.
    fn training_needed(&self, _plan: &Plan) -> usize {
        0
    }

    fn own_buffer(&mut self, role: Role, width: usize) -> Result<BufferId, DeviceError> {
        let capacity = self.work.plan.capacity;
        self.new_buffer(role, role.pick(capacity.rows, capacity.logits_rows), width)
    }

    fn tensor(&mut self, rows: usize, width: usize) -> Result<BufferId, DeviceError> {
        self.new_buffer(Role::Tensor, rows, width)
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
        out.copy_from_slice(&matrix.values[first * matrix.cols..][..out.len()]);
    }

    fn bias(&self, matrix: MatrixId) -> Option<Vec<f32>> {
        self.matrices[matrix].bias.clone()
    }

    fn embed_tensor(&mut self, batch: DeviceBatch, table: BufferId, out: BufferId) {
        let width = self.width(table);
        assert_eq!(width, self.width(out), "an embedding is as wide as its buffer");
        let [table, out] = self.buffers.together([table, out]);
        let tokens = &self.work.steps[batch].batch.tokens;
        for (&token, out) in tokens.iter().zip(out.values.chunks_exact_mut(width)) {
            out.copy_from_slice(&table.values[token as usize * width..][..width]);
        }
    }

    fn embed_backward(&mut self, batch: DeviceBatch, d_out: BufferId, d_table: BufferId) {
        let width = self.width(d_table);
        let [d_out, d_table] = self.buffers.together([d_out, d_table]);
        let tokens = &self.work.steps[batch].batch.tokens;
        for (&token, d_out) in tokens.iter().zip(d_out.values.chunks_exact(width)) {
            let d_row = &mut d_table.values[token as usize * width..][..width];
            d_row.iter_mut().zip(d_out).for_each(|(a, d)| *a += d);
        }
    }

    fn gather_backward(&mut self, batch: DeviceBatch, d_out: BufferId, dx: BufferId) {
        let width = self.width(dx);
        let [d_out, dx] = self.buffers.together([d_out, dx]);
        let logits_rows = &self.work.steps[batch].batch.logits_rows;
        for (&row, d_out) in logits_rows.iter().zip(d_out.values.chunks_exact(width)) {
            let d_row = &mut dx.values[row as usize * width..][..width];
            d_row.iter_mut().zip(d_out).for_each(|(a, d)| *a += d);
        }
    }

    fn add_bias(&mut self, rows: usize, bias: BufferId, x: BufferId) {
        let bias = self.first(bias, 1).iter().cycle();
        let sums: Vec<f64> = self.first(x, rows).iter().zip(bias).map(|(&x, &b)| wide(x) + wide(b)).collect();
        self.put(x, &sums, false);
    }

    fn bias_gradient(&mut self, rows: usize, dy: BufferId, db: BufferId) {
        let mut sums = vec![0f64; self.width(dy)];
        self.first(dy, rows).chunks_exact(sums.len()).for_each(|dy| add_scaled(&mut sums, 1.0, dy));
        self.put(db, &sums, true);
    }

    fn add(&mut self, rows: usize, from: BufferId, scale: f32, y: BufferId, out: BufferId) {
        let both = self.first(from, rows).iter().zip(self.first(y, rows));
        let sums: Vec<f64> = both.map(|(&from, &y)| wide(from) * wide(scale) + wide(y)).collect();
        self.put(out, &sums, false);
    }

    fn swiglu(&mut self, rows: usize, y: BufferId, out: BufferId) {
        let n = self.width(y);
        let row = |y: &[f32]| -> Vec<f64> {
            let (gate, value) = y.split_at(n / 2);
            gate.iter().zip(value).map(|(&g, &v)| silu(wide(g)) * wide(v)).collect()
        };
        let result: Vec<f64> = self.first(y, rows).chunks_exact(n).flat_map(row).collect();
        self.put(out, &result, false);
    }

    fn swiglu_backward(&mut self, rows: usize, y: BufferId, d_out: BufferId, dy: BufferId) {
        let n = self.width(y);
        let mut result = vec![0f64; rows * n];
        let d_out = self.first(d_out, rows).chunks_exact(n / 2);
        for ((y, d_out), dy) in self.first(y, rows).chunks_exact(n).zip(d_out).zip(result.chunks_exact_mut(n))
        {
            for (i, &d) in d_out.iter().enumerate() {
                let (g, v) = (wide(y[i]), wide(y[n / 2 + i]));
                let logistic = 1.0 / (1.0 + (-g).exp());
                dy[i] = wide(d) * v * logistic * (1.0 + g * (1.0 - logistic));
                dy[n / 2 + i] = wide(d) * silu(g);
            }
        }
        self.put(dy, &result, false);
    }

    fn gelu(&mut self, rows: usize, y: BufferId, out: BufferId) {
        let result: Vec<f64> = self.first(y, rows).iter().map(|&y| gelu_tanh(wide(y))).collect();
        self.put(out, &result, false);
    }

    fn gelu_backward(&mut self, rows: usize, y: BufferId, d_out: BufferId, dy: BufferId) {
        let slope = |x: f64| {
            let tanh = gelu_inner(x).tanh();
            let d_inner = (2.0 / std::f64::consts::PI).sqrt() * (1.0 + 3.0 * 0.044715 * x * x);
            0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * d_inner
        };
        let both = self.first(y, rows).iter().zip(self.first(d_out, rows));
        let result: Vec<f64> = both.map(|(&y, &d)| wide(d) * slope(wide(y))).collect();
        self.put(dy, &result, false);
    }

    fn dropout(&mut self, rows: usize, x: BufferId, dropout: Dropout, out: BufferId) {
        let x = self.first(x, rows).iter().enumerate();
        let result: Vec<f64> = x.map(|(i, &x)| wide(x) * wide(dropout.factor(i))).collect();
        self.put(out, &result, false);
    }

    fn multiply(&mut self, rows: usize, x: BufferId, w: BufferId, scale: f32, adds: bool, out: BufferId) {
        let (k, n) = (self.width(x), self.width(out));
        assert_eq!([k, n * k], [self.width(w), self.values(w).len()], "the tensor's shape");
        let mut result = Vec::with_capacity(rows * n);
        for x in self.first(x, rows).chunks_exact(k) {
            let dot =
                |w: &[f32]| wide(scale) * x.iter().zip(w).map(|(&x, &w)| wide(x) * wide(w)).sum::<f64>();
            result.extend(self.values(w).chunks_exact(k).map(dot));
        }
        self.put(out, &result, adds);
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
        let result = self.times(rows, dy, self.values(w), self.width(w), scale);
        assert_eq!(self.width(w), self.width(dx), "the gradient is as wide as the tensor");
        self.put(dx, &result, adds);
    }

    fn weight_gradient(&mut self, rows: usize, dy: BufferId, x: BufferId, scale: f32, dw: BufferId) {
        let (n, k) = (self.width(dy), self.width(x));
        assert_eq!([k, n * k], [self.width(dw), self.values(dw).len()], "the tensor's shape");
        let mut sums = vec![0f64; n * k];
        for (dy, x) in self.first(dy, rows).chunks_exact(n).zip(self.first(x, rows).chunks_exact(k)) {
            for (&d, sums) in dy.iter().zip(sums.chunks_exact_mut(k)) {
                add_scaled(sums, wide(d) * wide(scale), x);
            }
        }
        self.put(dw, &sums, true);
    }

    fn linear_backward(&mut self, rows: usize, dy: BufferId, w: MatrixId, adds: bool, dx: BufferId) {
        let w = &self.matrices[w];
        let result = self.times(rows, dy, &w.values, w.cols, 1.0);
        assert_eq!(w.cols, self.width(dx), "the gradient is as wide as the matrix has columns");
        self.put(dx, &result, adds);
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
        let weight = &self.vectors[norm.weight];
        let width = weight.len();
        let (mut result, mut sums, mut shifts) = (Vec::new(), vec![0f64; width], vec![0f64; width]);
        for (x, dy) in self.first(x, rows).chunks_exact(width).zip(self.first(dy, rows).chunks_exact(width)) {
            let mean_of = |f: &dyn Fn(usize) -> f64| (0..width).map(f).sum::<f64>() / width as f64;
            let mean = if norm.kind == NormKind::Layer { mean_of(&|i| wide(x[i])) } else { 0.0 };
            let variance = mean_of(&|i| (wide(x[i]) - mean).powi(2));
            let inverse = 1.0 / (variance + wide(norm.eps)).sqrt();
            let normed = |i: usize| (wide(x[i]) - mean) * inverse;
            let d_normed = |i: usize| wide(dy[i]) * wide(weight[i]);
            let along = mean_of(&|i| d_normed(i) * normed(i));
            let shared = if norm.kind == NormKind::Layer { mean_of(&d_normed) } else { 0.0 };
            for i in 0..width {
                result.push(inverse * (d_normed(i) - shared - normed(i) * along));
                sums[i] += wide(dy[i]) * normed(i);
                shifts[i] += wide(dy[i]);
            }
        }
        self.put(dx, &result, true);
        for (to, sums) in [(d_weight, sums), (d_bias, shifts)] {
            to.into_iter().for_each(|to| self.put(to, &sums, true));
        }
    }

    fn rope_backward(&mut self, batch: DeviceBatch, d_qkv: BufferId, heads: Heads, rope: RopeId) {
        let table = &self.work.steps[batch].cos_sin[rope.index()];
        let rows = self.work.steps[batch].batch.rows();
        let rope = &self.ropes[rope];
        let pairs = rope.pair_count();
        let rows = self.buffers[d_qkv].values.chunks_exact_mut(heads.qkv_width()).take(rows);
        for (r, row) in rows.enumerate() {
            for head in row[..heads.q_width() + heads.k_width()].chunks_exact_mut(heads.head_dim) {
                rope.rotate_back(head, &table[r * pairs..(r + 1) * pairs]);
            }
        }
    }

    fn prefix_write(&mut self, layer: usize, pages: &[PageId], prefix: BufferId, heads: Heads) {
        let Workspace { plan, cache, .. } = &mut *self.work;
        let prefix = &self.buffers[prefix];
        assert_eq!(prefix.width, heads.k_width() + heads.v_width(), "the heads fill the prefix");
        for (slot, row) in prefix.values.chunks_exact(prefix.width).enumerate() {
            let (key, value) = row.split_at(heads.k_width());
            cache[layer].set(plan.kv_type, heads, pool_slot(pages, slot), key, value);
        }
    }

    fn attention_backward(&mut self, batch: DeviceBatch, heads: Heads, gradient: &AttentionGradient) {
        let rows = self.work.steps[batch].batch.rows();
        let prefix = gradient.prefix.map_or(&[][..], |prefix| self.values(prefix));
        let mut attention = Attention {
            heads,
            qkv: self.first(gradient.qkv, rows),
            prefix,
            d_qkv: vec![0.0; rows * heads.qkv_width()],
            d_prefix: vec![0.0; prefix.len()],
        };
        let d_attended = self.first(gradient.d_attended, rows);
        let batch = &self.work.steps[batch].batch;
        for sequence in &batch.sequences {
            for r in sequence.row_range() {
                for h in 0..heads.heads {
                    let d_out = &d_attended[r * heads.attended_width() + h * heads.value_dim..];
                    let visible = sequence.visible(batch.slots[r]);
                    attention.row(sequence, r, h, visible, &d_out[..heads.value_dim]);
                }
            }
        }
        let Attention { d_qkv, d_prefix, .. } = attention;
        self.put(gradient.d_qkv, &d_qkv, false);
        gradient.d_prefix.into_iter().for_each(|to| self.put(to, &d_prefix, true));
    }

    fn cross_entropy(&mut self, logits: BufferId, targets: &[u32], weights: &[f32], losses: &mut Vec<f32>) {
        assert_eq!(targets.len(), weights.len(), "a weight for each target");
        let width = self.width(logits);
        let rows = self.buffers[logits].values.chunks_exact_mut(width);
        for ((row, &target), &weight) in rows.zip(targets).zip(weights) {
            let greatest = row.iter().map(|&v| wide(v)).fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = row.iter().map(|&v| (wide(v) - greatest).exp()).sum();
            losses.push((sum.ln() - (wide(row[target as usize]) - greatest)) as f32);
            for (i, logit) in row.iter_mut().enumerate() {
                let right = if i == target as usize { 1.0 } else { 0.0 };
                *logit = (wide(weight) * ((wide(*logit) - greatest).exp() / sum - right)) as f32;
            }
        }
    }
}

/// What [`TrainingDevice::attention_backward`] goes through row by row.
struct Attention<'a> {
    heads: Heads,
    qkv: &'a [f32],
    prefix: &'a [f32],
    d_qkv: Vec<f64>,
    d_prefix: Vec<f64>,
}

impl Attention<'_> {
    /// Where the key and value of head `kv_head` at a sequence's slot begin: in the prefix, or in the rows.
    fn key_value(&self, sequence: &SequenceRows, slot: usize, kv_head: usize) -> (bool, usize, usize) {
        let Heads { head_dim, value_dim, .. } = self.heads;
        let (k_width, width) = (self.heads.k_width(), self.heads.k_width() + self.heads.v_width());
        let slots = self.prefix.len() / width;
        let start = match slot.checked_sub(slots) {
            None => slot * width,
            Some(row) => (sequence.first_row + row) * self.heads.qkv_width() + self.heads.q_width(),
        };
        (slot < slots, start + kv_head * head_dim, start + k_width + kv_head * value_dim)
    }

    /// Adds what the gradient `d_out` of head `h` of row `r` brings.
    fn row(&mut self, sequence: &SequenceRows, r: usize, h: usize, visible: usize, d_out: &[f32]) {
        let Heads { head_dim, value_dim, .. } = self.heads;
        let scale = 1.0 / (head_dim as f64).sqrt();
        let query_at = r * self.heads.qkv_width() + h * head_dim;
        let query = &self.qkv[query_at..][..head_dim];
        let places: Vec<_> =
            (0..visible).map(|slot| self.key_value(sequence, slot, h / self.heads.group())).collect();
        let of = |in_prefix| if in_prefix { self.prefix } else { self.qkv };
        let scores: Vec<f64> =
            places.iter().map(|&(p, key, _)| scale * dot(query, &of(p)[key..][..head_dim])).collect();
        let greatest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scores.iter().map(|s| (s - greatest).exp()).sum();
        let weights: Vec<f64> = scores.iter().map(|s| (s - greatest).exp() / sum).collect();
        let d_weights: Vec<f64> =
            places.iter().map(|&(p, _, value)| dot(d_out, &of(p)[value..][..value_dim])).collect();
        let mean: f64 = weights.iter().zip(&d_weights).map(|(w, d)| w * d).sum();
        for ((&(in_prefix, key_at, value_at), weight), d) in places.iter().zip(weights).zip(d_weights) {
            let d_score = weight * (d - mean) * scale;
            let key = &of(in_prefix)[key_at..][..head_dim];
            add_scaled(&mut self.d_qkv[query_at..][..head_dim], d_score, key);
            let to = if in_prefix { &mut self.d_prefix } else { &mut self.d_qkv };
            add_scaled(&mut to[key_at..][..head_dim], d_score, query);
            add_scaled(&mut to[value_at..][..value_dim], weight, d_out);
        }
    }
}

fn wide(x: f32) -> f64 {
    f64::from(x)
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| wide(a) * wide(b)).sum()
}

/// `sums += x * scale`.
fn add_scaled(sums: &mut [f64], scale: f64, x: &[f32]) {
    sums.iter_mut().zip(x).for_each(|(sum, &x)| *sum += scale * wide(x));
}
