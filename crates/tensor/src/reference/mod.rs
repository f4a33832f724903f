//! The reference device: every op in plain loops, sums in f64. Slow and clear on purpose; the oracle for the others.

mod training;

use std::ops::Range;

use crate::quant;
use crate::{
    AdapterSlot, Batch, BufferId, Buffers, Chooser, Device, DeviceBatch, DeviceError, DeviceMemory, Epilogue,
    Expert, ExpertBuffers, Experts, Handle, Heads, KvType, LatentRows, MatrixId, MatrixUse, MatrixView, Norm,
    NormKind, PAGE_SLOTS, Pair, Place, Plan, Planned, Role, Rope, RopeId, Steps, Table, Taken, VectorId,
    first_largest, gelu_erf, gelu_tanh,
};

/// A decoded matrix `[rows, cols]` with its bias `[rows]`.
struct Matrix {
    rows: usize,
    cols: usize,
    values: Vec<f32>,
    bias: Option<Vec<f32>>,
    /// Runs of rows for [`Device::linear_heads`].
    heads: usize,
    /// What adapters have beside it.
    beside: Vec<(AdapterSlot, Beside)>,
}

impl Matrix {
    fn bytes(&self) -> usize {
        let beside = |b: &Beside| 4 * (b.a.len() + b.b.len() + b.row_scale.as_ref().map_or(0, Vec::len));
        size_of_val(self.values.as_slice()) + self.beside.iter().map(|(_, pair)| beside(pair)).sum::<usize>()
    }
}

/// A [`Pair`].
struct Beside {
    rank: usize,
    a: Vec<f32>,
    b: Vec<f32>,
    row_scale: Option<Vec<f32>>,
}

impl Beside {
    /// What becomes of `W x`, given as `y`.
    fn apply(&self, x: &[f32], y: &mut [f64]) {
        let projected: Vec<f64> = self.a.chunks_exact(x.len()).map(|a| dot(a, x)).collect();
        for (o, (y, b)) in y.iter_mut().zip(self.b.chunks_exact(self.rank)).enumerate() {
            let scale = self.row_scale.as_ref().map_or(1.0, |scale| f64::from(scale[o]));
            *y = *y * scale + b.iter().zip(&projected).map(|(&b, z)| f64::from(b) * z).sum::<f64>();
        }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// A batch with the `(cos, sin)` of its rows, `[rows, pair_count]` for each loaded table.
#[derive(Default)]
struct Uploaded {
    batch: Batch,
    cos_sin: Vec<Vec<(f32, f32)>>,
}

/// Keys `[pages * PAGE_SLOTS, k_width]` and values `[.., v_width]` of one layer, rounded to the cache's precision.
struct LayerCache {
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl LayerCache {
    /// The value at one of the pool's places, each for a slot and a key/value head.
    fn value(&self, heads: Heads, at: usize) -> &[f32] {
        let (values, dim) =
            if heads.joint { (&self.keys, heads.head_dim) } else { (&self.values, heads.value_dim) };
        &values[at * dim..][..heads.value_dim]
    }

    /// Puts a key and a value into a slot of the pool.
    fn set(&mut self, kv_type: KvType, heads: Heads, slot: usize, key: &[f32], value: &[f32]) {
        let places = [(&mut self.keys, key, heads.head_dim), (&mut self.values, value, heads.value_dim)];
        let stored = if heads.joint { 1 } else { 2 };
        for (cached, new, dim) in places.into_iter().take(stored) {
            let cached = &mut cached[slot * new.len()..(slot + 1) * new.len()];
            cached.copy_from_slice(new);
            cached.chunks_exact_mut(dim).for_each(|head| kv_type.round(head));
        }
    }
}

/// What is made by [`Device::plan`].
struct Workspace {
    plan: Plan,
    cache: Vec<LayerCache>,
    steps: Steps<Uploaded>,
}

/// Computes every op in plain loops.
#[derive(Default)]
pub struct ReferenceDevice {
    matrices: Table<MatrixId, Matrix>,
    vectors: Table<VectorId, Vec<f32>>,
    ropes: Table<RopeId, Rope>,
    buffers: Buffers<Vec<f32>>,
    work: Planned<Workspace>,
}

impl ReferenceDevice {
    /// A device that holds nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Rows of `buffer` that `batch` uses.
    fn rows(&self, batch: DeviceBatch, buffer: BufferId) -> usize {
        let batch = &self.work.steps[batch].batch;
        self.buffers[buffer].role.pick(batch.rows(), batch.logits_rows.len())
    }

    /// The normed rows of `x`.
    fn normed(&self, batch: DeviceBatch, x: BufferId, norm: &Norm) -> Vec<f32> {
        let rows = self.rows(batch, x);
        let x = &self.buffers[x];
        assert_eq!(self.vectors[norm.weight].len(), x.width, "the norm's width is the buffer's");
        self.normed_rows(&x.values[..rows * x.width], norm)
    }

    /// Rows as wide as a norm, normed.
    fn normed_rows(&self, rows: &[f32], norm: &Norm) -> Vec<f32> {
        let weight = &self.vectors[norm.weight];
        let bias = norm.bias.map(|b| &self.vectors[b]);
        let mut out = Vec::with_capacity(rows.len());
        for row in rows.chunks_exact(weight.len()) {
            let n = weight.len() as f64;
            let mean = match norm.kind {
                NormKind::Rms => 0.0,
                NormKind::Layer => row.iter().map(|&v| f64::from(v)).sum::<f64>() / n,
            };
            let var = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
            let inverse = 1.0 / (var + f64::from(norm.eps)).sqrt();
            for (i, &v) in row.iter().enumerate() {
                let shift = bias.map_or(0.0, |b| f64::from(b[i]));
                out.push(((f64::from(v) - mean) * inverse * f64::from(weight[i]) + shift) as f32);
            }
        }
        out
    }
}

impl Device for ReferenceDevice {
    fn describe(&self) -> String {
        "reference (plain loops)".to_owned()
    }

    fn can_see(&self) -> bool {
        true
    }

    fn memory(&self) -> DeviceMemory {
        let bytes = |v: &[f32]| size_of_val(v);
        DeviceMemory {
            weights: self.matrices.all().iter().map(Matrix::bytes).sum::<usize>()
                + self.vectors.all().iter().map(|v| bytes(v)).sum::<usize>(),
            kv: self.work.get().map_or(0, |work| {
                work.cache.iter().map(|layer| bytes(&layer.keys) + bytes(&layer.values)).sum()
            }),
            buffers: self.buffers.all().iter().map(|b| bytes(&b.values)).sum(),
        }
    }

    fn load_matrix(
        &mut self,
        parts: &[MatrixView<'_>],
        bias: Option<&[f32]>,
        used_for: MatrixUse,
        taken: Taken<'_>,
    ) -> Result<MatrixId, DeviceError> {
        let cols = parts.first().map_or(0, |p| p.cols);
        let rows = parts.iter().map(|p| p.rows).sum::<usize>();
        let mut values = vec![0f32; rows * cols];
        let mut rest = values.as_mut_slice();
        for part in parts {
            if part.cols != cols {
                return Err(DeviceError::Weight(format!("parts of {cols} and {} columns", part.cols)));
            }
            let (mine, others) = rest.split_at_mut(part.rows * cols);
            quant::decode_matrix_rows(part, 0..part.rows, mine)
                .map_err(|e| DeviceError::Weight(e.to_string()))?;
            taken(part);
            rest = others;
        }
        if let Some(bias) = bias.filter(|b| b.len() != rows) {
            return Err(DeviceError::Weight(format!("{rows} rows with a bias of {}", bias.len())));
        }
        Ok(self.matrices.push(Matrix {
            rows,
            cols,
            values,
            bias: bias.map(<[f32]>::to_vec),
            heads: if let MatrixUse::PerHead(heads) = used_for { heads } else { 1 },
            beside: Vec::new(),
        }))
    }

    fn load_vector(&mut self, values: &[f32]) -> VectorId {
        self.vectors.push(values.to_vec())
    }

    fn load_rope(&mut self, rope: &Rope) -> RopeId {
        self.ropes.push(rope.clone())
    }

    fn plan(&mut self, plan: &Plan) -> Result<(), DeviceError> {
        let slots = plan.capacity.pages * PAGE_SLOTS;
        let zeros = |width| vec![0.0; slots * width];
        let layer =
            |heads: &Heads| LayerCache { keys: zeros(heads.k_width()), values: zeros(heads.v_width()) };
        let cache = plan.layers.iter().map(layer).collect();
        let steps = Steps::new([Uploaded::default(), Uploaded::default()]);
        self.work.set(Workspace { plan: plan.clone(), cache, steps });
        Ok(())
    }

    fn buffer(&mut self, _layer: usize, role: Role, width: usize) -> Result<BufferId, DeviceError> {
        let capacity = self.work.plan.capacity;
        let rows = role.pick(capacity.rows, capacity.logits_rows);
        self.buffers.shared(role, width, || Ok(vec![f32::NAN; rows * width]))
    }

    fn attach(&mut self, matrix: MatrixId, slot: AdapterSlot, pair: Pair<'_>) -> Result<(), DeviceError> {
        let matrix = &mut self.matrices[matrix];
        pair.check(matrix.rows, matrix.cols)?;
        let Pair { rank, a, b, row_scale } = pair;
        let beside = Beside { rank, a: a.to_vec(), b: b.to_vec(), row_scale: row_scale.map(<[f32]>::to_vec) };
        matrix.beside.retain(|(other, _)| *other != slot);
        matrix.beside.push((slot, beside));
        Ok(())
    }

    fn detach(&mut self, slot: AdapterSlot) {
        self.matrices.each_mut().for_each(|matrix| matrix.beside.retain(|(other, _)| *other != slot));
    }

    fn matrix_row(&self, matrix: MatrixId, row: usize, out: &mut [f32]) -> Result<(), DeviceError> {
        let matrix = &self.matrices[matrix];
        out.copy_from_slice(&matrix.values[row * matrix.cols..(row + 1) * matrix.cols]);
        Ok(())
    }

    fn upload(&mut self, batch: &Batch) -> Result<DeviceBatch, DeviceError> {
        let Workspace { plan, steps, .. } = &mut *self.work;
        batch.check(plan.axes, plan.vocab, &plan.capacity)?;
        let table = |rope: &Rope| {
            let mut table = Vec::new();
            batch.rope_pos.chunks_exact(plan.axes).for_each(|pos| rope.cos_sin(pos, &mut table));
            table
        };
        let cos_sin = self.ropes.all().iter().map(table).collect();
        steps.upload(|step| {
            *step = Uploaded { batch: batch.clone(), cos_sin };
            Ok(())
        })
    }

    fn write(&mut self, batch: DeviceBatch, x: BufferId, first: usize, values: &[f32]) {
        let rows = self.rows(batch, x);
        let x = &mut self.buffers[x];
        x.values[first * x.width..rows * x.width][..values.len()].copy_from_slice(values);
    }

    fn embed(&mut self, batch: DeviceBatch, table: MatrixId, out: BufferId) {
        let table = &self.matrices[table];
        let out = &mut self.buffers[out];
        assert_eq!(table.cols, out.width, "the embedding's width is the buffer's");
        for (row, &token) in out.values.chunks_exact_mut(table.cols).zip(&self.work.steps[batch].batch.tokens)
        {
            let at = token as usize * table.cols;
            row.copy_from_slice(&table.values[at..at + table.cols]);
        }
    }

    fn norm(&mut self, batch: DeviceBatch, x: BufferId, norm: &Norm, out: BufferId) {
        let normed = self.normed(batch, x, norm);
        self.buffers[out].values[..normed.len()].copy_from_slice(&normed);
    }

    fn norm_add(&mut self, batch: DeviceBatch, x: BufferId, norm: &Norm, into: BufferId) {
        let normed = self.normed(batch, x, norm);
        self.buffers[into].values.iter_mut().zip(normed).for_each(|(a, b)| *a += b);
    }

    fn linear(&mut self, batch: DeviceBatch, x: BufferId, w: MatrixId, epilogue: Epilogue, out: BufferId) {
        let rows = self.rows(batch, x);
        let w = &self.matrices[w];
        let x = &self.buffers[x];
        assert_eq!(w.cols, x.width, "the matrix's columns are the buffer's width");
        let adapters = self.work.steps[batch].batch.adapters(x.role.pick(false, true));
        let mut y = vec![0f64; rows * w.rows];
        for (r, (y, x)) in y.chunks_exact_mut(w.rows).zip(x.values.chunks_exact(x.width)).enumerate() {
            y.iter_mut().zip(w.values.chunks_exact(w.cols)).for_each(|(y, w)| *y = dot(w, x));
            let slot = adapters.get(r).copied().flatten();
            if let Some((_, beside)) = w.beside.iter().find(|(other, _)| Some(*other) == slot) {
                beside.apply(x, y);
            }
            y.iter_mut().zip(w.bias.iter().flatten()).for_each(|(y, &b)| *y += f64::from(b));
        }
        let result: Vec<f32> = match epilogue {
            Epilogue::None => y.iter().map(|&v| v as f32).collect(),
            Epilogue::Residual { from, scale } => {
                let from = &self.buffers[from].values;
                y.iter().zip(from).map(|(&v, &r)| (f64::from(r) * f64::from(scale) + v) as f32).collect()
            }
            Epilogue::SwiGlu => y
                .chunks_exact(w.rows)
                .flat_map(|y| {
                    let (gate, value) = y.split_at(w.rows / 2);
                    gate.iter().zip(value).map(|(&g, &v)| (silu(g) * v) as f32)
                })
                .collect(),
            Epilogue::Gelu => y.iter().map(|&v| gelu_tanh(v) as f32).collect(),
            Epilogue::GeluErf => y.iter().map(|&v| gelu_erf(v) as f32).collect(),
        };
        let out = &mut self.buffers[out];
        assert_eq!(result.len(), rows * out.width, "the output's width fits the matrix and its epilogue");
        out.values[..result.len()].copy_from_slice(&result);
    }

    fn norm_heads(&mut self, batch: DeviceBatch, qkv: BufferId, heads: Heads, q: &Norm, k: &Norm) {
        let rows = self.rows(batch, qkv);
        for norm in [q, k] {
            assert_eq!(self.vectors[norm.weight].len(), heads.head_dim, "a norm is as wide as a head");
        }
        for row in 0..rows {
            let first = row * heads.qkv_width();
            let keys = first + heads.q_width();
            for (part, norm) in [(first..keys, q), (keys..keys + heads.k_width(), k)] {
                let normed = self.normed_rows(&self.buffers[qkv].values[part.clone()], norm);
                self.buffers[qkv].values[part].copy_from_slice(&normed);
            }
        }
    }

    fn has_experts(&self) -> bool {
        true
    }

    fn experts(
        &mut self,
        batch: DeviceBatch,
        x: BufferId,
        scores: BufferId,
        experts: Experts<'_>,
        _through: ExpertBuffers,
        into: BufferId,
    ) {
        let rows = self.rows(batch, x);
        let correction = &self.vectors[experts.correction];
        let (mut chooser, mut chosen) = (Chooser::default(), Vec::new());
        for row in 0..rows {
            let (x, scores) = (&self.buffers[x], &self.buffers[scores]);
            let x = &x.values[row * x.width..][..x.width];
            chosen.clear();
            chooser.choose(
                &experts.routing,
                &scores.values[row * scores.width..][..scores.width],
                correction,
                &mut chosen,
            );
            let mut sum = vec![0f64; x.len()];
            for &(expert, weight) in &chosen {
                let Expert { up, down } = experts.each[expert as usize];
                let (up, down) = (&self.matrices[up], &self.matrices[down]);
                let (gates, values) = up.values.split_at(up.values.len() / 2);
                let inner: Vec<f32> = gates
                    .chunks_exact(up.cols)
                    .zip(values.chunks_exact(up.cols))
                    .map(|(gate, value)| (silu(dot(gate, x)) * dot(value, x)) as f32)
                    .collect();
                let made = down.values.chunks_exact(down.cols).map(|w| f64::from(weight) * dot(w, &inner));
                sum.iter_mut().zip(made).for_each(|(sum, made)| *sum += made);
            }
            let into = &mut self.buffers[into];
            let into = &mut into.values[row * into.width..][..into.width];
            into.iter_mut().zip(sum).for_each(|(into, sum)| *into = (f64::from(*into) + sum) as f32);
        }
    }

    fn has_latents(&self) -> bool {
        true
    }

    fn linear_heads(
        &mut self,
        batch: DeviceBatch,
        x: BufferId,
        w: MatrixId,
        _through: BufferId,
        out: BufferId,
    ) {
        let rows = self.rows(batch, x);
        let w = &self.matrices[w];
        let [x, out] = self.buffers.together([x, out]);
        let of_head = w.rows / w.heads;
        assert_eq!(out.width, w.rows, "the output is as wide as the matrix has rows");
        let rows = x.values.chunks_exact(x.width).zip(out.values.chunks_exact_mut(out.width)).take(rows);
        for (x, out) in rows {
            for (o, (out, weights)) in out.iter_mut().zip(w.values.chunks_exact(w.cols)).enumerate() {
                *out = dot(weights, &x[o / of_head * w.cols..][..w.cols]) as f32;
            }
        }
    }

    fn join_heads(&mut self, batch: DeviceBatch, rows: LatentRows, norm: &Norm, heads: Heads, qkv: BufferId) {
        let count = self.rows(batch, qkv);
        let Heads { head_dim, value_dim, .. } = heads;
        let turned = head_dim - value_dim;
        for row in 0..count {
            let of = |buffer: BufferId| {
                let buffer = &self.buffers[buffer];
                &buffer.values[row * buffer.width..][..buffer.width]
            };
            let (queries, absorbed) = (of(rows.queries), of(rows.absorbed));
            let (latent, turned_key) = of(rows.latent).split_at(value_dim);
            let turned_queries = &queries[queries.len() - heads.heads * turned..];
            let mut joined = Vec::with_capacity(heads.qkv_width());
            for (plain, turned) in absorbed.chunks_exact(value_dim).zip(turned_queries.chunks_exact(turned)) {
                joined.extend_from_slice(plain);
                joined.extend_from_slice(turned);
            }
            joined.extend(self.normed_rows(latent, norm));
            joined.extend_from_slice(turned_key);
            self.buffers[qkv].values[row * heads.qkv_width()..][..joined.len()].copy_from_slice(&joined);
        }
    }

    fn rope(&mut self, batch: DeviceBatch, qkv: BufferId, heads: Heads, rope: RopeId) {
        let table = &self.work.steps[batch].cos_sin[rope.index()];
        let rope = &self.ropes[rope];
        let rows = self.work.steps[batch].batch.rows();
        let qkv = &mut self.buffers[qkv];
        let pairs = rope.pair_count();
        for (r, row) in qkv.values.chunks_exact_mut(heads.qkv_width()).take(rows).enumerate() {
            for head in row[..heads.q_width() + heads.k_width()].chunks_exact_mut(heads.head_dim) {
                rope.rotate(head, &table[r * pairs..(r + 1) * pairs]);
            }
        }
    }

    fn kv_write(&mut self, batch: DeviceBatch, layer: usize, qkv: BufferId, heads: Heads) {
        let Workspace { plan, cache, steps } = &mut *self.work;
        assert_eq!(heads, plan.layers[layer], "the heads are those of the plan");
        let (batch, cache) = (&steps[batch].batch, &mut cache[layer]);
        let qkv = &self.buffers[qkv];
        for sequence in &batch.sequences {
            for r in sequence.row_range() {
                let row = &qkv.values[r * heads.qkv_width()..(r + 1) * heads.qkv_width()];
                let slot = pool_slot(&sequence.pages, batch.slots[r] as usize);
                let (_, kv) = row.split_at(heads.q_width());
                let (key, value) = kv.split_at(heads.k_width());
                cache.set(plan.kv_type, heads, slot, key, value);
            }
        }
    }

    fn attention(&mut self, batch: DeviceBatch, layer: usize, qkv: BufferId, heads: Heads, out: BufferId) {
        let Workspace { plan, cache, steps } = &*self.work;
        assert_eq!(heads, plan.layers[layer], "the heads are those of the plan");
        let (batch, cache) = (&steps[batch].batch, &cache[layer]);
        let (dim, value_dim) = (heads.head_dim, heads.value_dim);
        let mut result = vec![0f32; batch.rows() * heads.attended_width()];
        let qkv = &self.buffers[qkv].values;
        for sequence in &batch.sequences {
            for r in sequence.row_range() {
                let visible = sequence.visible(batch.slots[r]);
                for h in 0..heads.heads {
                    let q = &qkv[r * heads.qkv_width() + h * dim..][..dim];
                    // Which of the pool's vectors, one per slot and key/value head.
                    let at = |slot| heads.kv_heads * pool_slot(&sequence.pages, slot) + h / heads.group();
                    let scores: Vec<f64> = (0..visible)
                        .map(|slot| {
                            let key = &cache.keys[at(slot) * dim..][..dim];
                            let dot: f64 =
                                q.iter().zip(key).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                            dot / (heads.scale_dim as f64).sqrt()
                        })
                        .collect();
                    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
                    let mut mixed = vec![0f64; value_dim];
                    for (slot, score) in scores.iter().enumerate() {
                        let p = (score - max).exp() / sum;
                        let value = cache.value(heads, at(slot));
                        mixed.iter_mut().zip(value).for_each(|(m, &v)| *m += p * f64::from(v));
                    }
                    let to = &mut result[r * heads.attended_width() + h * value_dim..][..value_dim];
                    to.iter_mut().zip(mixed).for_each(|(t, m)| *t = m as f32);
                }
            }
        }
        self.buffers[out].values[..result.len()].copy_from_slice(&result);
    }

    fn gather(&mut self, batch: DeviceBatch, x: BufferId, out: BufferId) {
        let width = self.buffers[x].width;
        let rows = &self.work.steps[batch].batch.logits_rows;
        let x = &self.buffers[x].values;
        let picked: Vec<f32> =
            rows.iter().flat_map(|&r| &x[r as usize * width..(r as usize + 1) * width]).copied().collect();
        self.buffers[out].values[..picked.len()].copy_from_slice(&picked);
    }

    fn check_finite(&mut self, batch: DeviceBatch, x: BufferId, place: Place) {
        let rows = self.rows(batch, x);
        let x = &self.buffers[x];
        if let Some(&value) = x.values[..rows * x.width].iter().find(|v| !v.is_finite()) {
            self.work.steps.note_not_finite(batch, place, value);
        }
    }

    fn read(
        &mut self,
        batch: DeviceBatch,
        x: BufferId,
        rows: Range<usize>,
        out: &mut Vec<f32>,
    ) -> Result<(), DeviceError> {
        self.work.steps.report(batch)?;
        let x = &self.buffers[x];
        out.extend_from_slice(&x.values[rows.start * x.width..rows.end * x.width]);
        Ok(())
    }

    fn read_largest(
        &mut self,
        batch: DeviceBatch,
        x: BufferId,
        rows: usize,
        out: &mut Vec<u32>,
    ) -> Result<(), DeviceError> {
        self.work.steps.report(batch)?;
        let x = &self.buffers[x];
        out.extend(x.values.chunks_exact(x.width).take(rows).map(first_largest));
        Ok(())
    }
}

/// `x` times the logistic function of `x`.
fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

/// The pool's slot for a sequence's slot.
fn pool_slot(pages: &[u32], slot: usize) -> usize {
    pages[slot / PAGE_SLOTS] as usize * PAGE_SLOTS + slot % PAGE_SLOTS
}
