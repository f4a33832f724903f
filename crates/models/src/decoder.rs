//! The decoder: executes a [`DecoderSpec`] on a [`Device`].
//!
//! [`Decoder::forward`] reads as the papers do; everything a generation does differently is a field of the spec. It
//! holds no cache and no request: those are the batch's.

use glimmer_tensor::{
    Batch, BufferId, Capacity, Device, DeviceBatch, DeviceMemory, Epilogue, Heads, KvType, MatrixId, Norm,
    Place, Plan, Role, RopeId,
};

use crate::{
    Activation, Attention, DecoderSpec, FeedForward, LayerSpec, ModelError, Part, Residual, WeightRole,
};

/// Handles by what they are for: few, so that looking through them is the fastest.
#[derive(Clone, Debug)]
struct ByRole<R, T>(Vec<(R, T)>);

impl<R: Copy + PartialEq, T: Copy> ByRole<R, T> {
    fn get(&self, role: R) -> Option<T> {
        self.0.iter().find(|(other, _)| *other == role).map(|(_, handle)| *handle)
    }

    fn of(&self, role: R) -> T {
        self.get(role).expect("a spec's lists of parts and buffers have all that its layers use")
    }
}

/// Weights of a layer on the device, or those outside all layers.
#[derive(Clone, Debug)]
struct Loaded {
    norms: ByRole<WeightRole, Norm>,
    matrices: ByRole<WeightRole, MatrixId>,
}

/// The decoder's weights on the device: those of its spec's list of parts.
#[derive(Clone, Debug)]
pub(crate) struct Weights {
    outside: Loaded,
    layers: Vec<Loaded>,
    /// Which matrix outside the layers serves as the head.
    head: WeightRole,
    rope: RopeId,
}

impl Weights {
    /// None yet, for so many layers.
    pub(crate) fn new(layers: usize, own_head: bool, rope: RopeId) -> Self {
        let head = if own_head { WeightRole::Head } else { WeightRole::Embedding };
        let none = Loaded { norms: ByRole(Vec::new()), matrices: ByRole(Vec::new()) };
        Weights { outside: none.clone(), layers: vec![none; layers], head, rope }
    }

    pub(crate) fn add_norm(&mut self, part: &Part, norm: Norm) {
        self.of(part.layer).norms.0.push((part.role, norm));
    }

    pub(crate) fn add_matrix(&mut self, part: &Part, matrix: MatrixId) {
        self.of(part.layer).matrices.0.push((part.role, matrix));
    }

    fn of(&mut self, layer: Option<usize>) -> &mut Loaded {
        layer.map_or(&mut self.outside, |layer| &mut self.layers[layer])
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

/// A loaded model.
pub struct Decoder {
    spec: DecoderSpec,
    device: Box<dyn Device>,
    weights: Weights,
    buffers: Vec<Buffers>,
    head_buffers: Option<HeadBuffers>,
    /// The step whose logits are there.
    last: Option<DeviceBatch>,
}

impl Decoder {
    pub(crate) fn new(spec: DecoderSpec, device: Box<dyn Device>, weights: Weights) -> Self {
        Decoder { spec, device, weights, buffers: Vec::new(), head_buffers: None, last: None }
    }

    /// The model's facts.
    pub fn spec(&self) -> &DecoderSpec {
        &self.spec
    }

    /// What it runs on, for people.
    pub fn describe_device(&self) -> String {
        self.device.describe()
    }

    /// Bytes held on the device.
    pub fn memory(&self) -> DeviceMemory {
        self.device.memory()
    }

    /// Sizes the cache and all buffers. Called once, before the first step.
    ///
    /// # Errors
    /// When the memory cannot be had.
    pub fn plan(&mut self, capacity: Capacity, kv_type: KvType) -> Result<(), ModelError> {
        let spec = &self.spec;
        let heads = spec.layers.iter().map(|layer| match layer.attention {
            Attention::Heads { heads, .. } => heads,
        });
        self.device.plan(&Plan {
            capacity,
            vocab: spec.vocab,
            layers: heads.collect(),
            kv_type,
            axes: spec.rope.axes(),
        })?;
        for (layer, layer_spec) in spec.layers.iter().enumerate() {
            let mut buffers = ByRole(Vec::new());
            for (role, width) in layer_spec.buffers(spec.hidden) {
                buffers.0.push((role, self.device.buffer(layer, role, width)?));
            }
            self.buffers.push(buffers);
        }
        let mut buffer = |role, width| self.device.buffer(spec.layers.len(), role, width);
        self.head_buffers = Some(HeadBuffers {
            last: buffer(Role::Last, spec.hidden)?,
            last_normed: buffer(Role::LastNormed, spec.hidden)?,
            logits: buffer(Role::Logits, spec.vocab)?,
        });
        Ok(())
    }

    /// Computes a batch: queues its operations and leaves the logits on the device.
    ///
    /// # Errors
    /// When the batch does not fit the plan.
    pub fn forward(&mut self, batch: &Batch) -> Result<(), ModelError> {
        self.observe(batch, &mut |_, _, _, _| Ok(()))
    }

    /// Gives the batch's rows keys and values in every layer without computing the layers: all get those of the first
    /// one. They mean nothing, but they are as large as real ones and turned as they are, so that steps at a depth can be
    /// measured without computing what comes before.
    ///
    /// # Errors
    /// When the batch does not fit the plan.
    pub fn fill(&mut self, batch: &Batch) -> Result<(), ModelError> {
        let Decoder { spec, device, weights, buffers, .. } = self;
        let device = device.as_mut();
        let batch = device.upload(batch)?;
        device.embed(batch, weights.outside.matrices.of(WeightRole::Embedding), buffers[0].of(Role::Hidden));
        let first = LayerStep::new(spec, batch, weights, buffers, 0);
        let Attention::Heads { heads, .. } = first.spec.attention;
        let qkv = first.project(device, heads);
        (0..spec.layers.len()).for_each(|layer| device.kv_write(batch, layer, qkv, heads));
        Ok(())
    }

    /// The logits of the last batch's `logits_rows`: `[logits_rows, vocab]`, appended to `out`.
    ///
    /// # Errors
    /// When a value on the way was not finite; the message names the layer.
    pub fn logits(&mut self, logits_rows: usize, out: &mut Vec<f32>) -> Result<(), ModelError> {
        let logits = self.head_buffers.expect("plan() comes before any step").logits;
        let last = self.last.expect("a step comes before its logits");
        Ok(self.device.read(last, logits, logits_rows, out)?)
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
            device.read(step, buffer, rows, &mut values)?;
            observer(stage, &values);
            Ok(())
        })
    }

    fn observe(&mut self, batch: &Batch, observer: &mut Observer<'_>) -> Result<(), ModelError> {
        let head = self.head_buffers.expect("plan() comes before any step");
        let wants_logits = !batch.logits_rows.is_empty();
        let Decoder { spec, device, weights, buffers, last, .. } = self;
        let device = device.as_mut();
        let batch = device.upload(batch)?;
        *last = Some(batch);
        let mut hidden = buffers[0].of(Role::Hidden);
        device.embed(batch, weights.outside.matrices.of(WeightRole::Embedding), hidden);
        device.check_finite(batch, hidden, Place::Embedding);
        observer(device, batch, Stage::Hidden(0), hidden)?;
        for layer in 0..spec.layers.len() {
            let step = LayerStep::new(spec, batch, weights, buffers, layer);
            match step.spec.attention {
                Attention::Heads { heads, .. } => step.attention(device, heads),
            }
            match step.spec.feed_forward {
                FeedForward::Dense { activation, .. } => step.feed_forward(device, activation),
            }
            hidden = step.buffers.of(Role::Hidden);
            observer(device, batch, Stage::Hidden(layer + 1), hidden)?;
        }
        if wants_logits {
            device.gather(batch, hidden, head.last);
            device.norm(batch, head.last, &weights.outside.norms.of(WeightRole::FinalNorm), head.last_normed);
            observer(device, batch, Stage::Final, head.last_normed)?;
            let matrix = weights.outside.matrices.of(weights.head);
            device.linear(batch, head.last_normed, matrix, Epilogue::None, head.logits);
            device.check_finite(batch, head.logits, Place::Logits);
        }
        Ok(())
    }
}

/// One layer in one step.
struct LayerStep<'a> {
    spec: &'a LayerSpec,
    batch: DeviceBatch,
    layer: usize,
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
        LayerStep {
            spec: &spec.layers[layer],
            batch,
            layer,
            rope: weights.rope,
            weights: &weights.layers[layer],
            buffers: &buffers[layer],
        }
    }

    fn attention(&self, device: &mut dyn Device, heads: Heads) {
        let &LayerStep { batch, layer, buffers: b, .. } = self;
        let qkv = self.project(device, heads);
        let attended = b.get(Role::Attended).unwrap_or(b.of(Role::Normed));
        device.kv_write(batch, layer, qkv, heads);
        device.attention(batch, layer, qkv, heads, attended);
        self.add(device, attended, WeightRole::AttentionOut, WeightRole::AttentionPostNorm);
        device.check_finite(batch, b.of(Role::Hidden), Place::Attention(layer));
    }

    /// Queries, keys and values of the residual stream, rotated.
    fn project(&self, device: &mut dyn Device, heads: Heads) -> BufferId {
        let &LayerStep { batch, weights: w, buffers: b, .. } = self;
        let (normed, qkv) = (b.of(Role::Normed), b.of(Role::Qkv));
        device.norm(batch, b.of(Role::Hidden), &w.norms.of(WeightRole::AttentionNorm), normed);
        device.linear(batch, normed, w.matrices.of(WeightRole::Qkv), Epilogue::None, qkv);
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
