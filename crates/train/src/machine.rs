//! A program on a device: each operation and, beside it, its backward.

use glimmer_models::DecoderSpec;
use glimmer_tensor::{
    AttentionGradient, Batch, BufferId, Capacity, DeviceBatch, Dropout, Epilogue, Heads, KvType, Norm,
    PageId, RopeId, TrainingDevice,
};

use crate::TrainError;
use crate::backward::{Into, Step};
use crate::columns::{Columns, Put, copy};
use crate::magnitudes::Scales;
use crate::prefix::PrefixOnDevice;
use crate::program::{MatrixKind, NormOf, Operation, Program, Segment, Value};
use crate::random::Random;

/// All that operations are carried out with.
pub(crate) struct Machine {
    pub(crate) device: Box<dyn TrainingDevice + Send>,
    pub(crate) program: Program,
    /// The buffer of each value that has one.
    pub(crate) places: Vec<Option<BufferId>>,
    /// By number: the tensors that are trained, and their gradients.
    pub(crate) tensors: Vec<BufferId>,
    pub(crate) gradients: Vec<BufferId>,
    /// Those of the matrices that have magnitudes.
    pub(crate) scales: Vec<Option<Scales>>,
    pub(crate) prefix: Option<PrefixOnDevice>,
    /// The heads of each cache: layers with the same heads have one, because each reads what it has just written.
    pub(crate) caches: Vec<Heads>,
    pub(crate) rope: RopeId,
}

/// A batch that is being computed.
pub(crate) struct Moment {
    batch: DeviceBatch,
    rows: usize,
    logits_rows: usize,
    /// Those of each sequence.
    pages: Vec<Vec<PageId>>,
    /// For what is dropped; nothing is without it.
    seed: Option<u64>,
}

/// The heads that a model's layers have, each once.
pub(crate) fn caches(spec: &DecoderSpec) -> Vec<Heads> {
    let none = Capacity { rows: 0, logits_rows: 0, pages: 0 };
    spec.plan(0..spec.layers.len(), none, KvType::F32).distinct_heads()
}

impl Machine {
    pub(crate) fn upload(&mut self, batch: &Batch, seed: Option<u64>) -> Result<Moment, TrainError> {
        Ok(Moment {
            batch: self.device.upload(batch)?,
            rows: batch.rows(),
            logits_rows: batch.logits_rows.len(),
            pages: batch.sequences.iter().map(|sequence| sequence.pages.clone()).collect(),
            seed,
        })
    }

    pub(crate) fn place(&self, value: Value) -> BufferId {
        self.places[value.0].expect("every value that is used has a buffer")
    }

    fn rows(&self, moment: &Moment, value: Value) -> usize {
        if self.program.shape(value).logits { moment.logits_rows } else { moment.rows }
    }

    fn columns(&self, value: Value, first: usize) -> Columns {
        Columns { buffer: self.place(value), width: self.program.shape(value).width, first }
    }

    fn norm(&self, norm: NormOf) -> Norm {
        let id = |vector: usize| self.program.vectors[vector].id;
        Norm { kind: norm.kind, weight: id(norm.weight), bias: norm.bias.map(id), eps: norm.eps }
    }

    fn cache(&self, heads: Heads) -> usize {
        self.caches.iter().position(|cache| *cache == heads).expect("every layer's heads have a cache")
    }

    fn dropout(&self, moment: &Moment, operation: usize, probability: f32) -> Dropout {
        match moment.seed {
            Some(seed) => {
                let seed = Random::new(seed ^ (operation as u64).rotate_left(32)).bits();
                Dropout { seed, probability }
            }
            None => Dropout { seed: 0, probability: 0.0 },
        }
    }

    /// Brings to the device what follows from tensors that were changed.
    pub(crate) fn refresh(&mut self) {
        let device = self.device.as_mut();
        for vector in &self.program.vectors {
            if let Some(tensor) = vector.tensor {
                let values = device.values(self.tensors[tensor]).to_vec();
                device.set_vector(vector.id, &values);
            }
        }
        self.scales.iter_mut().flatten().for_each(|scales| scales.refresh(device, &self.tensors));
    }

    /// What comes before the first segment.
    pub(crate) fn begin(&mut self, seed: Option<u64>) {
        if let Some(prefix) = &self.prefix {
            prefix.encode(self.device.as_mut(), &self.tensors, seed);
        }
    }

    /// Waits for what was computed.
    ///
    /// # Errors
    /// When a value was not finite.
    pub(crate) fn report(&mut self, moment: &Moment, value: Value) -> Result<(), TrainError> {
        let place = self.place(value);
        Ok(self.device.read(moment.batch, place, 0..0, &mut Vec::new())?)
    }

    /// The first rows of a value.
    pub(crate) fn read(
        &mut self,
        moment: &Moment,
        value: Value,
        out: &mut Vec<f32>,
    ) -> Result<(), TrainError> {
        let (place, rows) = (self.place(value), self.rows(moment, value));
        Ok(self.device.read(moment.batch, place, 0..rows, out)?)
    }

    pub(crate) fn segment(&mut self, moment: &Moment, segment: &Segment) {
        segment.operations.clone().for_each(|operation| self.forward(moment, operation));
    }

    /// Carries out an operation.
    pub(crate) fn forward(&mut self, moment: &Moment, number: usize) {
        let (operation, batch) = (self.program.operations[number], moment.batch);
        let rows = operation.written().map_or(0, |out| self.rows(moment, out));
        let at = |value: Value| self.place(value);
        match operation {
            Operation::Embed { matrix, out } => match self.program.matrices[matrix].kind {
                MatrixKind::Frozen(id) => self.device.embed(batch, id, at(out)),
                MatrixKind::Trained { weight, .. } => {
                    self.device.embed_tensor(batch, self.tensors[weight], at(out));
                }
            },
            Operation::Norm { x, norm, out } => {
                let (norm, x, out) = (self.norm(norm), at(x), at(out));
                self.device.norm(batch, x, &norm, out);
            }
            Operation::Linear { x, matrix, out } => {
                let MatrixKind::Frozen(id) = self.program.matrices[matrix].kind else { return };
                let (x, out) = (at(x), at(out));
                self.device.linear(batch, x, id, Epilogue::None, out);
            }
            Operation::Multiply { x, tensor, scale, adds, out } => {
                let (x, out) = (at(x), at(out));
                self.device.multiply(rows, x, self.tensors[tensor], scale, adds, out);
            }
            Operation::AddBias { x, tensor } => {
                let x = at(x);
                self.device.add_bias(rows, self.tensors[tensor], x);
            }
            Operation::Dropout { x, probability, out } => {
                let (x, out, dropout) = (at(x), at(out), self.dropout(moment, number, probability));
                self.device.dropout(rows, x, dropout, out);
            }
            Operation::AddColumns { part, first, out } => {
                let (from, to) = (self.columns(part, 0), self.columns(out, first));
                copy(self.device.as_mut(), (rows, from.width), from, to, Put::Add);
            }
            Operation::Magnitudes { x, matrix, out } => {
                let (x, out) = (at(x), at(out));
                if let Some(scales) = &self.scales[matrix] {
                    scales.forward(self.device.as_mut(), rows, x, out);
                }
            }
            Operation::SwiGlu { y, out } => {
                let (y, out) = (at(y), at(out));
                self.device.swiglu(rows, y, out);
            }
            Operation::Gelu { y, out } => {
                let (y, out) = (at(y), at(out));
                self.device.gelu(rows, y, out);
            }
            Operation::Add { from, scale, y, out } => {
                let (from, y, out) = (at(from), at(y), at(out));
                self.device.add(rows, from, scale, y, out);
            }
            Operation::Rope { qkv, heads } => {
                let qkv = at(qkv);
                self.device.rope(batch, qkv, heads, self.rope);
            }
            Operation::Attention { layer, heads, qkv, out } => {
                let (cache, qkv, out) = (self.cache(heads), at(qkv), at(out));
                let device = self.device.as_mut();
                if let Some(prefix) = &self.prefix {
                    prefix.bring(device, &self.tensors, (layer, heads));
                    let [buffer, _] = prefix.of_layer(heads);
                    moment.pages.iter().for_each(|pages| device.prefix_write(cache, pages, buffer, heads));
                }
                device.kv_write(batch, cache, qkv, heads);
                device.attention(batch, cache, qkv, heads, out);
            }
            Operation::Gather { x, out } => {
                let (x, out) = (at(x), at(out));
                self.device.gather(batch, x, out);
            }
            Operation::Check { x, place } => {
                let x = at(x);
                self.device.check_finite(batch, x, place);
            }
        }
    }

    /// Carries out a step of a backward pass.
    pub(crate) fn step(&mut self, moment: &Moment, step: Step) {
        match step {
            Step::Zero(value) => {
                let len = self.rows(moment, value) * self.program.shape(value).width;
                let place = self.place(value);
                self.device.values_mut(place)[..len].fill(0.0);
            }
            Step::Backward { operation, d_out, d_in } => self.backward(moment, operation, d_out, d_in),
        }
    }

    /// The backward of an operation.
    fn backward(&mut self, moment: &Moment, number: usize, d_out: Value, d_in: Option<Into>) {
        let (operation, batch, rows) =
            (self.program.operations[number], moment.batch, self.rows(moment, d_out));
        let d_value = d_out;
        let d_out = self.place(d_out);
        let target = d_in.map(|into| (self.place(into.value), into.adds));
        let at = |value: Value| self.place(value);
        match (operation, target) {
            (Operation::Embed { matrix, .. }, _) => {
                if let MatrixKind::Trained { weight, .. } = self.program.matrices[matrix].kind {
                    self.device.embed_backward(batch, d_out, self.gradients[weight]);
                }
            }
            (Operation::Norm { x, norm, .. }, Some((dx, _))) => {
                let tensor = |vector: usize| self.program.vectors[vector].tensor;
                let gradient = |vector: usize| Some(self.gradients[tensor(vector)?]);
                let (d_weight, d_bias) = (gradient(norm.weight), norm.bias.and_then(gradient));
                let (x, norm) = (at(x), self.norm(norm));
                self.device.norm_backward(rows, x, &norm, d_out, dx, d_weight, d_bias);
            }
            (Operation::Linear { matrix, .. }, Some((dx, adds))) => {
                if let MatrixKind::Frozen(id) = self.program.matrices[matrix].kind {
                    self.device.linear_backward(rows, d_out, id, adds, dx);
                }
            }
            (Operation::Multiply { x, tensor, scale, .. }, target) => {
                let x = at(x);
                self.device.weight_gradient(rows, d_out, x, scale, self.gradients[tensor]);
                if let Some((dx, adds)) = target {
                    self.device.multiply_backward(rows, d_out, self.tensors[tensor], scale, adds, dx);
                }
            }
            (Operation::AddBias { tensor, .. }, _) => {
                self.device.bias_gradient(rows, d_out, self.gradients[tensor]);
            }
            (Operation::Dropout { probability, .. }, Some((dx, adds))) => {
                let dropout = self.dropout(moment, number, probability);
                let to = if adds { d_out } else { dx };
                self.device.dropout(rows, d_out, dropout, to);
                if adds {
                    self.device.add(rows, d_out, 1.0, dx, dx);
                }
            }
            (Operation::AddColumns { part, first, .. }, Some((d_part, _))) => {
                let from = self.columns(d_value, first);
                let to = Columns { buffer: d_part, ..self.columns(part, 0) };
                copy(self.device.as_mut(), (rows, to.width), from, to, Put::Set);
            }
            (Operation::Magnitudes { x, matrix, .. }, Some((dx, _))) => {
                let x = at(x);
                if let Some(scales) = &self.scales[matrix] {
                    let device = self.device.as_mut();
                    scales.learn(device, rows, (x, d_out), &self.gradients);
                    scales.backward(device, rows, d_out, dx);
                }
            }
            (Operation::SwiGlu { y, .. }, Some((dy, _))) => {
                let y = at(y);
                self.device.swiglu_backward(rows, y, d_out, dy);
            }
            (Operation::Gelu { y, .. }, Some((dy, _))) => {
                let y = at(y);
                self.device.gelu_backward(rows, y, d_out, dy);
            }
            (Operation::Add { scale, .. }, Some((d_from, _))) => {
                self.device.add(rows, d_out, scale, d_from, d_from);
            }
            (Operation::Rope { heads, .. }, _) => {
                self.device.rope_backward(batch, d_out, heads, self.rope);
            }
            (Operation::Attention { layer, heads, qkv, out }, Some((d_qkv, _))) => {
                let (qkv, attended) = (at(qkv), at(out));
                let buffers = self.prefix.as_ref().map(|prefix| prefix.of_layer(heads));
                let device = self.device.as_mut();
                if let Some(prefix) = &self.prefix {
                    prefix.bring(device, &self.tensors, (layer, heads));
                }
                buffers.into_iter().for_each(|[_, d_prefix]| device.values_mut(d_prefix).fill(0.0));
                let gradient = AttentionGradient {
                    qkv,
                    prefix: buffers.map(|[prefix, _]| prefix),
                    attended,
                    d_attended: d_out,
                    d_qkv,
                    d_prefix: buffers.map(|[_, d_prefix]| d_prefix),
                };
                device.attention_backward(batch, heads, &gradient);
                if let Some(prefix) = &self.prefix {
                    prefix.add_layer(device, &self.gradients, (layer, heads));
                }
            }
            (Operation::Gather { .. }, Some((dx, _))) => self.device.gather_backward(batch, d_out, dx),
            (_, None) | (Operation::Check { .. }, _) => {}
        }
    }

    /// Replaces logits by the gradient of their losses times `scale`, and appends the losses.
    pub(crate) fn cross_entropy(
        &mut self,
        logits: Value,
        targets: &[u32],
        scale: f32,
        losses: &mut Vec<f32>,
    ) {
        let place = self.place(logits);
        self.device.cross_entropy(place, targets, &vec![scale; targets.len()], losses);
    }

    /// Whether all of a value is finite.
    pub(crate) fn is_finite(&self, moment: &Moment, value: Value) -> bool {
        let len = self.rows(moment, value) * self.program.shape(value).width;
        self.device.values(self.place(value))[..len].iter().all(|value| value.is_finite())
    }
}
