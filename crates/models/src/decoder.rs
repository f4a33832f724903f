//! The decoder: executes a [`DecoderSpec`] on a [`Device`].
//!
//! [`Decoder::forward`] reads as the papers do; everything a generation does differently is a field of the spec. It
//! holds no cache and no request: those are the batch's. Its layers may lie on several devices, one range after the other.

use glimmer_tensor::{
    AdapterSlot, Batch, BufferId, Candidates, Capacity, Device, DeviceBatch, DeviceMemory, Epilogue, Expert,
    ExpertBuffers, Experts, Heads, KvType, LatentRows, MatrixId, Norm, PageId, Pair, Place, Role, RopeId,
    Routing, VectorId,
};
use std::ops::Range;

use crate::adapter::{LowRankAdapter, Prefix, WholePair};
use crate::{
    Activation, Attention, DecoderSpec, FeedForward, Latent, LayerSpec, ModelError, Part, Residual,
    WeightRole,
};

/// Handles by what they are for: few, so that looking through them is the fastest.
#[derive(Clone, Debug)]
pub(crate) struct ByRole<R, T>(Vec<(R, T)>);

impl<R, T> Default for ByRole<R, T> {
    fn default() -> Self {
        ByRole(Vec::new())
    }
}

impl<R: Copy + PartialEq, T: Copy> ByRole<R, T> {
    pub(crate) fn add(&mut self, role: R, handle: T) {
        self.0.push((role, handle));
    }

    fn get(&self, role: R) -> Option<T> {
        self.0.iter().find(|(other, _)| *other == role).map(|(_, handle)| *handle)
    }

    pub(crate) fn of(&self, role: R) -> T {
        self.get(role).expect("a spec's lists of parts and buffers have all that its layers use")
    }
}

/// Weights of a layer on the device, or those outside all layers.
#[derive(Clone, Debug)]
struct Loaded {
    norms: ByRole<WeightRole, Norm>,
    matrices: ByRole<WeightRole, MatrixId>,
    vectors: ByRole<WeightRole, VectorId>,
    /// In order; what is not loaded yet has the other's matrix.
    experts: Vec<Expert>,
}

/// A device's weights: those of its layers in the spec's list of parts.
#[derive(Clone, Debug)]
pub(crate) struct Weights {
    outside: Loaded,
    /// Its first layer, and the weights of each from there on.
    first: usize,
    layers: Vec<Loaded>,
    /// Which matrix outside the layers serves as the head.
    head: WeightRole,
    rope: RopeId,
}

impl Weights {
    /// None yet, for these layers.
    pub(crate) fn new(layers: Range<usize>, own_head: bool, rope: RopeId) -> Self {
        let head = if own_head { WeightRole::Head } else { WeightRole::Embedding };
        let none = Loaded {
            norms: ByRole(Vec::new()),
            matrices: ByRole(Vec::new()),
            vectors: ByRole(Vec::new()),
            experts: Vec::new(),
        };
        Weights { outside: none.clone(), first: layers.start, layers: vec![none; layers.len()], head, rope }
    }

    pub(crate) fn add_norm(&mut self, part: &Part, norm: Norm) {
        self.of(part.layer).norms.0.push((part.role, norm));
    }

    pub(crate) fn add_matrix(&mut self, part: &Part, matrix: MatrixId) {
        let loaded = self.of(part.layer);
        match part.role {
            // The two of an expert follow each other.
            WeightRole::ExpertUp(_) => loaded.experts.push(Expert { up: matrix, down: matrix }),
            WeightRole::ExpertDown(expert) => loaded.experts[usize::from(expert)].down = matrix,
            role => loaded.matrices.0.push((role, matrix)),
        }
    }

    pub(crate) fn add_vector(&mut self, part: &Part, vector: VectorId) {
        self.of(part.layer).vectors.0.push((part.role, vector));
    }

    fn of(&mut self, layer: Option<usize>) -> &mut Loaded {
        layer.map_or(&mut self.outside, |layer| &mut self.layers[layer - self.first])
    }
}

/// The activation buffers of one layer.
type Buffers = ByRole<Role, BufferId>;

/// The buffers after the last layer.
#[derive(Clone, Copy, Debug)]
struct HeadBuffers {
    last: BufferId,
    last_normed: BufferId,
    logits: BufferId,
}

/// What [`Decoder::forward_observed`] shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The residual stream `[rows, hidden]`: the embedding for 0, the output of layer `i - 1` for `i`.
    Hidden(usize),
    /// The normed final state of the rows that want logits `[logits_rows, hidden]`.
    Final,
}

/// What looks at the buffers of a step as they are filled.
type Observer<'a> = dyn FnMut(&mut dyn Device, DeviceBatch, Stage, BufferId) -> Result<(), ModelError> + 'a;

/// A device with the layers that it holds.
pub(crate) struct Share {
    device: Box<dyn Device>,
    layers: Range<usize>,
    weights: Weights,
    /// Those of each of its layers.
    buffers: Vec<Buffers>,
    /// What was uploaded last.
    batch: Option<DeviceBatch>,
}

impl Share {
    pub(crate) fn new(device: Box<dyn Device>, layers: Range<usize>, weights: Weights) -> Self {
        Share { device, layers, weights, buffers: Vec::new(), batch: None }
    }

    /// The step under way.
    fn batch(&self) -> DeviceBatch {
        self.batch.expect("a step comes before what it computes")
    }

    /// Where the residual stream is before the first of its layers.
    fn entry(&self) -> BufferId {
        self.buffers[0].of(Role::Hidden)
    }

    /// Where it is after the last.
    fn exit(&self) -> BufferId {
        self.buffers[self.buffers.len() - 1].of(Role::Hidden)
    }

    /// The embedding of the step's tokens, or what stands in its place, where the first layer reads it.
    fn embed(&mut self, batch: &Batch) {
        let table = self.weights.outside.matrices.of(WeightRole::Embedding);
        self.device.embed(self.batch(), table, self.entry());
        for seen in &batch.features {
            self.device.write(self.batch(), self.entry(), seen.rows.start, seen.values());
        }
    }

    /// Takes over `rows` rows of the residual stream from the device with the layers before.
    fn take_over(
        &mut self,
        before: &mut Share,
        rows: usize,
        passed: &mut Vec<f32>,
    ) -> Result<(), ModelError> {
        passed.clear();
        before.device.read(before.batch(), before.exit(), 0..rows, passed)?;
        self.device.write(self.batch(), self.entry(), 0, passed);
        Ok(())
    }

    fn layers(&mut self, spec: &DecoderSpec, observer: &mut Observer<'_>) -> Result<(), ModelError> {
        let batch = self.batch();
        for layer in self.layers.clone() {
            let step = LayerStep::new(spec, batch, &self.weights, &self.buffers, layer);
            let device = self.device.as_mut();
            match step.spec.attention {
                Attention::Heads { heads, .. } => step.attention(device, heads),
                Attention::Latent(latent) => step.latent_attention(device, &latent),
            }
            match step.spec.feed_forward {
                FeedForward::Dense { activation, .. } => step.feed_forward(device, activation),
                FeedForward::Experts { shared, routing, .. } => step.experts(device, shared > 0, routing),
            }
            observer(device, batch, Stage::Hidden(layer + 1), step.buffers.of(Role::Hidden))?;
        }
        Ok(())
    }

    /// Gives its layers keys and values: those of the first of them.
    fn fill(&mut self, spec: &DecoderSpec) {
        let (batch, device) = (self.batch(), self.device.as_mut());
        let first = LayerStep::new(spec, batch, &self.weights, &self.buffers, self.layers.start);
        let heads = first.spec.attention.heads();
        let qkv = match first.spec.attention {
            Attention::Heads { heads, .. } => first.project(device, heads),
            Attention::Latent(latent) => first.project_latent(device, &latent),
        };
        (0..self.layers.len()).for_each(|layer| device.kv_write(batch, layer, qkv, heads));
    }

    /// Puts an adapter's pair beside one of its matrices.
    fn attach(&mut self, slot: AdapterSlot, mut pair: WholePair) -> Result<(), ModelError> {
        let matrix = self.weights.of(pair.layer).matrices.of(pair.role);
        let rows = pair.b.len() / pair.rank;
        let mut row_scale = None;
        if !pair.magnitudes.is_empty() {
            let mut weights = vec![0.0; pair.a.len() / pair.rank];
            let mut factors = Vec::with_capacity(rows);
            for row in 0..rows {
                self.device.matrix_row(matrix, row, &mut weights)?;
                factors.push(pair.change(row, &mut weights)?);
            }
            for (b, factor) in pair.b.chunks_exact_mut(pair.rank).zip(&factors) {
                b.iter_mut().for_each(|b| *b *= factor);
            }
            row_scale = Some(factors);
        }
        let pair = Pair { rank: pair.rank, a: &pair.a, b: &pair.b, row_scale: row_scale.as_deref() };
        Ok(self.device.attach(matrix, slot, pair)?)
    }

    /// Gives its layers the keys and values of a prefix at the slots of a batch.
    fn write_prefix(&mut self, spec: &DecoderSpec, prefix: &Prefix, slots: Range<usize>) {
        let batch = self.batch();
        for layer in self.layers.clone() {
            let step = LayerStep::new(spec, batch, &self.weights, &self.buffers, layer);
            let heads = step.spec.attention.heads();
            let (own, qkv) = (&prefix.layers[layer], step.buffers.of(Role::Qkv));
            let mut rows = vec![0.0; slots.len() * heads.qkv_width()];
            for (slot, row) in slots.clone().zip(rows.chunks_exact_mut(heads.qkv_width())) {
                let (keys, values) = row[heads.q_width()..].split_at_mut(heads.k_width());
                keys.copy_from_slice(&own.keys[slot * heads.k_width()..][..heads.k_width()]);
                values.copy_from_slice(&own.values[slot * heads.v_width()..][..heads.v_width()]);
            }
            self.device.write(batch, qkv, 0, &rows);
            self.device.kv_write(batch, step.cache, qkv, heads);
        }
    }

    fn logits(&mut self, head: HeadBuffers, observer: &mut Observer<'_>) -> Result<(), ModelError> {
        let (batch, hidden) = (self.batch(), self.exit());
        let (device, outside) = (self.device.as_mut(), &self.weights.outside);
        device.gather(batch, hidden, head.last);
        device.norm(batch, head.last, &outside.norms.of(WeightRole::FinalNorm), head.last_normed);
        observer(device, batch, Stage::Final, head.last_normed)?;
        let matrix = outside.matrices.of(self.weights.head);
        device.linear(batch, head.last_normed, matrix, Epilogue::None, head.logits);
        device.check_finite(batch, head.logits, Place::Logits);
        Ok(())
    }
}

/// What one of a decoder's devices holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceHolds {
    /// The device, for people.
    pub device: String,
    /// Its layers.
    pub layers: Range<usize>,
    /// Bytes.
    pub memory: DeviceMemory,
}

/// A loaded model.
pub struct Decoder {
    spec: DecoderSpec,
    /// The devices in the order of their layers; at least one.
    shares: Vec<Share>,
    /// On the last device.
    head_buffers: Option<HeadBuffers>,
    /// The residual stream on its way from one device to the next.
    passed: Vec<f32>,
    /// Rows of a step, at most.
    rows: usize,
}

impl Decoder {
    pub(crate) fn new(spec: DecoderSpec, shares: Vec<Share>) -> Self {
        Decoder { spec, shares, head_buffers: None, passed: Vec::new(), rows: 0 }
    }

    /// The model's facts.
    pub fn spec(&self) -> &DecoderSpec {
        &self.spec
    }

    /// What it runs on, for people.
    pub fn describe_device(&self) -> String {
        match self.shares.as_slice() {
            [all] => all.device.describe(),
            shares => {
                let layers = |share: &Share| {
                    format!("{} of the layers on {}", share.layers.len(), share.device.describe())
                };
                shares.iter().map(layers).collect::<Vec<_>>().join("; ")
            }
        }
    }

    /// What each of its devices holds, in the order of their layers.
    pub fn devices(&self) -> Vec<DeviceHolds> {
        let holds = |share: &Share| DeviceHolds {
            device: share.device.describe(),
            layers: share.layers.clone(),
            memory: share.device.memory(),
        };
        self.shares.iter().map(holds).collect()
    }

    /// Bytes held on all devices.
    pub fn memory(&self) -> DeviceMemory {
        self.shares.iter().map(|share| share.device.memory()).sum()
    }

    /// Sizes the cache and all buffers. Called once, before the first step.
    ///
    /// # Errors
    /// When the memory cannot be had.
    pub fn plan(&mut self, capacity: Capacity, kv_type: KvType) -> Result<(), ModelError> {
        self.rows = capacity.rows;
        let spec = &self.spec;
        for share in &mut self.shares {
            share.device.plan(&spec.plan(share.layers.clone(), capacity, kv_type))?;
            for (index, layer) in spec.layers[share.layers.clone()].iter().enumerate() {
                let mut buffers = ByRole(Vec::new());
                for (role, width) in layer.buffers(spec.hidden) {
                    buffers.0.push((role, share.device.buffer(index, role, width)?));
                }
                share.buffers.push(buffers);
            }
        }
        let last = self.shares.last_mut().expect("a decoder has a device");
        let mut buffer = |(role, width)| last.device.buffer(last.layers.len(), role, width);
        let [last, last_normed, logits] = spec.head_buffers();
        let (last, last_normed, logits) = (buffer(last)?, buffer(last_normed)?, buffer(logits)?);
        self.head_buffers = Some(HeadBuffers { last, last_normed, logits });
        Ok(())
    }

    /// Computes a batch: queues its operations and leaves the logits on the device.
    ///
    /// # Errors
    /// When the batch does not fit the plan; with several devices when a value on the way to the last was not finite.
    pub fn forward(&mut self, batch: &Batch) -> Result<(), ModelError> {
        self.observe(batch, &mut |_, _, _, _| Ok(()))
    }

    /// Gives the batch's rows keys and values in every layer without computing the layers: all of a device get those of
    /// its first one. They mean nothing, but they are as large as real ones and turned as they are, so that steps at a depth
    /// can be measured without computing what comes before.
    ///
    /// # Errors
    /// When the batch does not fit the plan.
    pub fn fill(&mut self, batch: &Batch) -> Result<(), ModelError> {
        self.upload(batch)?;
        self.each_share(batch.rows(), |share, spec, is_first| {
            if is_first {
                share.embed(batch);
            }
            share.fill(spec);
            Ok(())
        })
    }

    /// Puts an adapter's pairs beside its matrices, for sequences whose batch names this slot. After [`Decoder::plan`].
    ///
    /// # Errors
    /// When a device cannot compute with adapters or has no memory left: then nothing is attached.
    pub fn attach(&mut self, slot: AdapterSlot, adapter: &LowRankAdapter) -> Result<(), ModelError> {
        for pair in adapter.whole(&self.spec) {
            let holds = |share: &&mut Share| pair.layer.is_none_or(|layer| share.layers.contains(&layer));
            // The head is on the last device.
            let share = self.shares.iter_mut().rev().find(holds).expect("every layer has a device");
            if let Err(error) = share.attach(slot, pair) {
                self.detach(slot);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Takes an adapter's pairs away.
    pub fn detach(&mut self, slot: AdapterSlot) {
        self.shares.iter_mut().for_each(|share| share.device.detach(slot));
    }

    /// Writes the keys and values of a prefix's `slots` into a sequence's pages.
    ///
    /// # Errors
    /// When the pages are not in the pool.
    pub fn write_prefix(
        &mut self,
        prefix: &Prefix,
        slots: Range<usize>,
        pages: &[PageId],
    ) -> Result<(), ModelError> {
        for first in slots.clone().step_by(self.rows.max(1)) {
            let some = first..slots.end.min(first + self.rows);
            let mut batch = Batch::default();
            let positions = vec![0.0; some.len() * self.spec.rope.axes()];
            batch.push(&vec![0; some.len()], some.clone(), &positions, 0, pages.to_vec(), []);
            self.upload(&batch)?;
            self.shares.iter_mut().for_each(|share| share.write_prefix(&self.spec, prefix, some.clone()));
        }
        Ok(())
    }

    /// Whether a step is computed by itself once [`Decoder::forward`] has returned, and most of it is still to come.
    pub fn runs_ahead(&self) -> bool {
        matches!(self.shares.as_slice(), [all] if all.device.runs_ahead())
    }

    /// [`glimmer_tensor::Device::begin_turn`] of its devices.
    pub fn begin_turn(&mut self) {
        self.shares.iter_mut().for_each(|share| share.device.begin_turn());
    }

    /// [`glimmer_tensor::Device::end_turn`] of its devices.
    pub fn end_turn(&mut self) {
        self.shares.iter_mut().for_each(|share| share.device.end_turn());
    }

    /// The logits of the last batch's `logits_rows`: `[logits_rows, vocab]`, appended to `out`.
    ///
    /// # Errors
    /// When a value on the way was not finite; the message names the layer.
    pub fn logits(&mut self, logits_rows: usize, out: &mut Vec<f32>) -> Result<(), ModelError> {
        self.logits_of(0..logits_rows, out)
    }

    /// Those of some of the rows.
    ///
    /// # Errors
    /// Those of [`Decoder::logits`].
    pub fn logits_of(&mut self, logits_rows: Range<usize>, out: &mut Vec<f32>) -> Result<(), ModelError> {
        let (last, logits) = self.last();
        Ok(last.device.read(last.batch(), logits, logits_rows, out)?)
    }

    /// What each of the last batch's rows of logits is chosen from at its temperature (above 0), appended to `out`: far fewer
    /// values than logits.
    ///
    /// # Errors
    /// Those of [`Decoder::logits`].
    pub fn candidates(&mut self, temperatures: &[f32], out: &mut Vec<Candidates>) -> Result<(), ModelError> {
        let (last, logits) = self.last();
        Ok(last.device.read_candidates(last.batch(), logits, temperatures, out)?)
    }

    /// The likeliest token of each of the last batch's `logits_rows`, the first of equal ones, appended to `out`: what
    /// their logits say, of which none leaves the device.
    ///
    /// # Errors
    /// Those of [`Decoder::logits`].
    pub fn likeliest(&mut self, logits_rows: usize, out: &mut Vec<u32>) -> Result<(), ModelError> {
        let (last, logits) = self.last();
        Ok(last.device.read_largest(last.batch(), logits, logits_rows, out)?)
    }

    /// The device that has the logits, and where.
    fn last(&mut self) -> (&mut Share, BufferId) {
        let logits = self.head_buffers.expect("plan() comes before any step").logits;
        (self.shares.last_mut().expect("a decoder has a device"), logits)
    }

    /// [`Decoder::forward`] that also hands over every hidden state: stage, values `[rows, hidden]`.
    ///
    /// # Errors
    /// As [`Decoder::forward`], or when a value is not finite.
    pub fn forward_observed(
        &mut self,
        batch: &Batch,
        observer: &mut dyn FnMut(Stage, &[f32]),
    ) -> Result<(), ModelError> {
        let mut values = Vec::new();
        self.observe(batch, &mut |device, step, stage, buffer| {
            let rows = if stage == Stage::Final { batch.logits_rows.len() } else { batch.rows() };
            values.clear();
            device.read(step, buffer, 0..rows, &mut values)?;
            observer(stage, &values);
            Ok(())
        })
    }

    fn observe(&mut self, batch: &Batch, observer: &mut Observer<'_>) -> Result<(), ModelError> {
        let head = self.head_buffers.expect("plan() comes before any step");
        self.upload(batch)?;
        self.each_share(batch.rows(), |share, spec, is_first| {
            if is_first {
                share.embed(batch);
                let (step, hidden) = (share.batch(), share.entry());
                share.device.check_finite(step, hidden, Place::Embedding);
                observer(share.device.as_mut(), step, Stage::Hidden(0), hidden)?;
            }
            share.layers(spec, observer)
        })?;
        if !batch.logits_rows.is_empty() {
            let last = self.shares.last_mut().expect("a decoder has a device");
            last.logits(head, observer)?;
        }
        Ok(())
    }

    fn upload(&mut self, batch: &Batch) -> Result<(), ModelError> {
        for share in &mut self.shares {
            share.batch = Some(share.device.upload(batch)?);
        }
        Ok(())
    }

    /// Has each device do `work`, after the residual stream has come to it from the one before; says which is the first.
    fn each_share(
        &mut self,
        rows: usize,
        mut work: impl FnMut(&mut Share, &DecoderSpec, bool) -> Result<(), ModelError>,
    ) -> Result<(), ModelError> {
        for at in 0..self.shares.len() {
            let (before, rest) = self.shares.split_at_mut(at);
            if let Some(before) = before.last_mut() {
                rest[0].take_over(before, rows, &mut self.passed)?;
            }
            work(&mut rest[0], &self.spec, at == 0)?;
        }
        Ok(())
    }
}

/// One layer in one step.
struct LayerStep<'a> {
    spec: &'a LayerSpec,
    batch: DeviceBatch,
    /// Which layer of the model, and which of those on this device.
    layer: usize,
    cache: usize,
    rope: RopeId,
    weights: &'a Loaded,
    buffers: &'a Buffers,
}

impl<'a> LayerStep<'a> {
    fn new(
        spec: &'a DecoderSpec,
        batch: DeviceBatch,
        weights: &'a Weights,
        buffers: &'a [Buffers],
        layer: usize,
    ) -> Self {
        let cache = layer - weights.first;
        LayerStep {
            spec: &spec.layers[layer],
            batch,
            layer,
            cache,
            rope: weights.rope,
            weights: &weights.layers[cache],
            buffers: &buffers[cache],
        }
    }

    fn attention(&self, device: &mut dyn Device, heads: Heads) {
        let &LayerStep { batch, layer, cache, buffers: b, .. } = self;
        let qkv = self.project(device, heads);
        let attended = b.get(Role::Attended).unwrap_or(b.of(Role::Normed));
        device.kv_write(batch, cache, qkv, heads);
        device.attention(batch, cache, qkv, heads, attended);
        self.add(device, attended, WeightRole::AttentionOut, WeightRole::AttentionPostNorm);
        device.check_finite(batch, b.of(Role::Hidden), Place::Attention(layer));
    }

    /// Queries, keys and values of the residual stream, rotated.
    fn project(&self, device: &mut dyn Device, heads: Heads) -> BufferId {
        let &LayerStep { batch, weights: w, buffers: b, .. } = self;
        let (normed, qkv) = (b.of(Role::Normed), b.of(Role::Qkv));
        device.norm(batch, b.of(Role::Hidden), &w.norms.of(WeightRole::AttentionNorm), normed);
        device.linear(batch, normed, w.matrices.of(WeightRole::Qkv), Epilogue::None, qkv);
        let norms = [WeightRole::QueryNorm, WeightRole::KeyNorm].map(|role| w.norms.get(role));
        if let [Some(queries), Some(keys)] = norms {
            device.norm_heads(batch, qkv, heads, &queries, &keys);
        }
        device.rope(batch, qkv, heads, self.rope);
        qkv
    }

    fn latent_attention(&self, device: &mut dyn Device, latent: &Latent) {
        let &LayerStep { batch, layer, cache, weights: w, buffers: b, .. } = self;
        let (qkv, heads) = (self.project_latent(device, latent), latent.heads());
        let [attended, by_head, values] = [Role::Attended, Role::ByHead, Role::Values].map(|role| b.of(role));
        device.kv_write(batch, cache, qkv, heads);
        device.attention(batch, cache, qkv, heads, attended);
        device.linear_heads(batch, attended, w.matrices.of(WeightRole::ValuesUp), by_head, values);
        self.add(device, values, WeightRole::AttentionOut, WeightRole::AttentionPostNorm);
        device.check_finite(batch, b.of(Role::Hidden), Place::Attention(layer));
    }

    /// Absorbed queries and the latent of each row, rotated.
    fn project_latent(&self, device: &mut dyn Device, latent: &Latent) -> BufferId {
        let &LayerStep { batch, weights: w, buffers: b, .. } = self;
        let [normed, low, low_normed, queries, latents, by_head, attended, qkv] = [
            Role::Normed,
            Role::LowRank,
            Role::LowRankNormed,
            Role::Queries,
            Role::Latent,
            Role::ByHead,
            Role::Attended,
            Role::Qkv,
        ]
        .map(|role| b.of(role));
        let heads = latent.heads();
        device.norm(batch, b.of(Role::Hidden), &w.norms.of(WeightRole::AttentionNorm), normed);
        device.linear(batch, normed, w.matrices.of(WeightRole::QueriesDown), Epilogue::None, low);
        device.norm(batch, low, &w.norms.of(WeightRole::QueriesDownNorm), low_normed);
        device.linear(batch, low_normed, w.matrices.of(WeightRole::QueriesUp), Epilogue::None, queries);
        device.linear(batch, normed, w.matrices.of(WeightRole::Latents), Epilogue::None, latents);
        // The buffer is free until attention fills it.
        device.linear_heads(batch, queries, w.matrices.of(WeightRole::KeysUp), by_head, attended);
        let rows = LatentRows { queries, absorbed: attended, latent: latents };
        device.join_heads(batch, rows, &w.norms.of(WeightRole::LatentsNorm), heads, qkv);
        device.rope(batch, qkv, heads, self.rope);
        qkv
    }

    fn feed_forward(&self, device: &mut dyn Device, activation: Activation) {
        let &LayerStep { batch, weights: w, buffers: b, .. } = self;
        let (normed, inner) = (b.of(Role::Normed), b.of(Role::Inner));
        let activation = match activation {
            Activation::SwiGlu => Epilogue::SwiGlu,
            Activation::Gelu => Epilogue::Gelu,
        };
        device.norm(batch, b.of(Role::Hidden), &w.norms.of(WeightRole::FfnNorm), normed);
        device.linear(batch, normed, w.matrices.of(WeightRole::FfnUp), activation, inner);
        self.add(device, inner, WeightRole::FfnDown, WeightRole::FfnPostNorm);
        device.check_finite(batch, b.of(Role::Hidden), Place::FeedForward(self.layer));
    }

    /// The expert that every row meets, then those that each row chooses.
    fn experts(&self, device: &mut dyn Device, has_shared: bool, routing: Routing) {
        let &LayerStep { batch, weights: w, buffers: b, .. } = self;
        let (hidden, normed, scores) = (b.of(Role::Hidden), b.of(Role::Normed), b.of(Role::Scores));
        device.norm(batch, hidden, &w.norms.of(WeightRole::FfnNorm), normed);
        device.linear(batch, normed, w.matrices.of(WeightRole::Router), Epilogue::None, scores);
        if has_shared {
            let inner = b.of(Role::Inner);
            device.linear(batch, normed, w.matrices.of(WeightRole::SharedUp), Epilogue::SwiGlu, inner);
            let sum = Epilogue::Residual { from: hidden, scale: 1.0 };
            device.linear(batch, inner, w.matrices.of(WeightRole::SharedDown), sum, hidden);
        }
        let correction = w.vectors.of(WeightRole::RouterCorrection);
        let experts = Experts { routing, correction, each: &w.experts };
        let [gathered, inner, made] = [Role::Gathered, Role::ExpertInner, Role::Made].map(|role| b.of(role));
        device.experts(batch, normed, scores, experts, ExpertBuffers { gathered, inner, made }, hidden);
        device.check_finite(batch, hidden, Place::FeedForward(self.layer));
    }

    /// Projects `x` back and adds it to the residual stream as the generation does.
    fn add(&self, device: &mut dyn Device, x: BufferId, matrix: WeightRole, post_norm: WeightRole) {
        let &LayerStep { batch, weights: w, buffers: b, .. } = self;
        let (matrix, hidden) = (w.matrices.of(matrix), b.of(Role::Hidden));
        let (from, scale) = match self.spec.residual {
            Residual::PreNorm => (hidden, 1.0),
            Residual::ScaledNormed { alpha } => (b.of(Role::Normed), alpha),
            Residual::Sandwich => {
                let branch = b.of(Role::Branch);
                device.linear(batch, x, matrix, Epilogue::None, branch);
                return device.norm_add(batch, branch, &w.norms.of(post_norm), hidden);
            }
        };
        device.linear(batch, x, matrix, Epilogue::Residual { from, scale }, hidden);
    }
}
