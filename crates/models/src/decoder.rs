//! The decoder: executes a [`DecoderSpec`] on a [`Device`].
//!
//! [`Decoder::forward`] reads as the papers do; everything a generation does differently is a field of the spec. It
//! holds no cache and no request: those are the batch's.

use glimmer_tensor::{
    Batch, BufferId, Capacity, Device, DeviceBatch, DeviceMemory, Epilogue, KvType, MatrixId, Norm, Place,
    Plan, Role, RopeId,
};

use crate::{Block, DecoderSpec, Mlp, ModelError};

/// A block's weights on the device.
#[derive(Clone, Debug)]
pub(crate) struct BlockWeights {
    /// `[hidden]`
    pub(crate) attention_norm: Norm,
    /// `[qkv_width, hidden]`
    pub(crate) qkv: MatrixId,
    /// `[hidden, attended_width]`
    pub(crate) attention_out: MatrixId,
    /// `[hidden]`, sandwich blocks only
    pub(crate) attention_post_norm: Option<Norm>,
    /// `[hidden]`
    pub(crate) ffn_norm: Norm,
    /// `[2 * ffn, hidden]`, gate first, or `[ffn, hidden]`
    pub(crate) ffn_up: MatrixId,
    /// `[hidden, ffn]`
    pub(crate) ffn_down: MatrixId,
    /// `[hidden]`, sandwich blocks only
    pub(crate) ffn_post_norm: Option<Norm>,
}

/// The decoder's weights on the device.
#[derive(Clone, Debug)]
pub(crate) struct Weights {
    /// `[vocab, hidden]`
    pub(crate) embedding: MatrixId,
    pub(crate) blocks: Vec<BlockWeights>,
    /// `[hidden]`
    pub(crate) final_norm: Norm,
    /// `[vocab, hidden]`
    pub(crate) head: MatrixId,
    pub(crate) rope: RopeId,
}

/// The activation buffers of one block; see [`Role`] for their shapes.
#[derive(Clone, Copy, Debug)]
struct Buffers {
    hidden: BufferId,
    normed: BufferId,
    qkv: BufferId,
    attended: BufferId,
    branch: BufferId,
    inner: BufferId,
}

/// The buffers after the last block.
#[derive(Clone, Copy, Debug)]
struct HeadBuffers {
    last: BufferId,
    last_normed: BufferId,
    logits: BufferId,
}

/// What [`Decoder::forward_observed`] shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The residual stream `[rows, hidden]`: the embedding for 0, the output of block `i - 1` for `i`.
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
        self.device.plan(&Plan {
            capacity,
            vocab: spec.vocab,
            layers: vec![spec.heads; spec.layers],
            kv_type,
            axes: spec.rope.axes(),
        })?;
        let sandwich = spec.block == Block::Sandwich;
        let in_place = spec.attends_in_place();
        for layer in 0..spec.layers {
            let mut buffer = |role, width| self.device.buffer(layer, role, width);
            let hidden = buffer(Role::Hidden, spec.hidden)?;
            let normed = buffer(Role::Normed, spec.hidden)?;
            self.buffers.push(Buffers {
                hidden,
                normed,
                qkv: buffer(Role::Qkv, spec.heads.qkv_width())?,
                attended: if in_place {
                    normed
                } else {
                    buffer(Role::Attended, spec.heads.attended_width())?
                },
                branch: if sandwich { buffer(Role::Branch, spec.hidden)? } else { hidden },
                inner: buffer(Role::Inner, spec.ffn)?,
            });
        }
        let mut buffer = |role, width| self.device.buffer(spec.layers, role, width);
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
        let (weights, heads) = (&self.weights.blocks[0], self.spec.heads);
        let Buffers { hidden, normed, qkv, .. } = self.buffers[0];
        let device = self.device.as_mut();
        let batch = device.upload(batch)?;
        device.embed(batch, self.weights.embedding, hidden);
        device.norm(batch, hidden, &weights.attention_norm, normed);
        device.linear(batch, normed, weights.qkv, Epilogue::None, qkv);
        device.rope(batch, qkv, heads, self.weights.rope);
        (0..self.spec.layers).for_each(|layer| device.kv_write(batch, layer, qkv, heads));
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
        let device = self.device.as_mut();
        let batch = device.upload(batch)?;
        self.last = Some(batch);
        let mut hidden = self.buffers[0].hidden;
        device.embed(batch, self.weights.embedding, hidden);
        device.check_finite(batch, hidden, Place::Embedding);
        observer(device, batch, Stage::Hidden(0), hidden)?;
        for (layer, (weights, buffers)) in self.weights.blocks.iter().zip(&self.buffers).enumerate() {
            let step =
                BlockStep { spec: &self.spec, batch, layer, rope: self.weights.rope, weights, buffers };
            step.attention(device);
            step.feed_forward(device);
            hidden = buffers.hidden;
            observer(device, batch, Stage::Hidden(layer + 1), hidden)?;
        }
        if wants_logits {
            device.gather(batch, hidden, head.last);
            device.norm(batch, head.last, &self.weights.final_norm, head.last_normed);
            observer(device, batch, Stage::Final, head.last_normed)?;
            device.linear(batch, head.last_normed, self.weights.head, Epilogue::None, head.logits);
            device.check_finite(batch, head.logits, Place::Logits);
        }
        Ok(())
    }
}

/// One block in one step.
struct BlockStep<'a> {
    spec: &'a DecoderSpec,
    batch: DeviceBatch,
    layer: usize,
    rope: RopeId,
    weights: &'a BlockWeights,
    buffers: &'a Buffers,
}

impl BlockStep<'_> {
    fn attention(&self, device: &mut dyn Device) {
        let &BlockStep { batch, layer, weights: w, buffers: b, .. } = self;
        let heads = self.spec.heads;
        device.norm(batch, b.hidden, &w.attention_norm, b.normed);
        device.linear(batch, b.normed, w.qkv, Epilogue::None, b.qkv);
        device.rope(batch, b.qkv, heads, self.rope);
        device.kv_write(batch, layer, b.qkv, heads);
        device.attention(batch, layer, b.qkv, heads, b.attended);
        self.add(device, b.attended, w.attention_out, w.attention_post_norm.as_ref());
        device.check_finite(batch, b.hidden, Place::Attention(layer));
    }

    fn feed_forward(&self, device: &mut dyn Device) {
        let &BlockStep { batch, weights: w, buffers: b, .. } = self;
        let activation = match self.spec.mlp {
            Mlp::SwiGlu => Epilogue::SwiGlu,
            Mlp::Gelu => Epilogue::Gelu,
        };
        device.norm(batch, b.hidden, &w.ffn_norm, b.normed);
        device.linear(batch, b.normed, w.ffn_up, activation, b.inner);
        self.add(device, b.inner, w.ffn_down, w.ffn_post_norm.as_ref());
        device.check_finite(batch, b.hidden, Place::FeedForward(self.layer));
    }

    /// Projects `x` back and adds it to the residual stream as the generation does.
    fn add(&self, device: &mut dyn Device, x: BufferId, w: MatrixId, post_norm: Option<&Norm>) {
        let b = self.buffers;
        match (self.spec.block, post_norm) {
            (Block::Sandwich, Some(post_norm)) => {
                device.linear(self.batch, x, w, Epilogue::None, b.branch);
                device.norm_add(self.batch, b.branch, post_norm, b.hidden);
            }
            (Block::ScaledNormed { alpha }, _) => {
                let residual = Epilogue::Residual { from: b.normed, scale: alpha };
                device.linear(self.batch, x, w, residual, b.hidden);
            }
            _ => {
                let residual = Epilogue::Residual { from: b.hidden, scale: 1.0 };
                device.linear(self.batch, x, w, residual, b.hidden);
            }
        }
    }
}
