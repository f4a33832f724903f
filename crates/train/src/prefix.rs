//! P-Tuning v2's prefix on a device: from the embedding to every layer's keys and values, and back.

use glimmer_models::DecoderSpec;
use glimmer_tensor::{BufferId, DeviceError, Dropout, Heads, TrainingDevice};

use crate::columns::{Columns, Put, copy};
use crate::program::TensorNumber;
use crate::recorder::Recording;
use crate::{PrefixSpec, ProjectionSpec};

/// The numbers of the tensors that a prefix is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PrefixTensors {
    pub(crate) embedding: TensorNumber,
    pub(crate) projection: Option<ProjectionTensors>,
}

/// Those of `outer tanh(inner x + inner_bias) + outer_bias`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProjectionTensors {
    pub(crate) inner: TensorNumber,
    pub(crate) inner_bias: TensorNumber,
    pub(crate) outer: TensorNumber,
    pub(crate) outer_bias: TensorNumber,
}

/// Keys and values of all layers `[slots, width]`: layer by layer its keys, then its values.
pub(crate) fn width(spec: &DecoderSpec) -> usize {
    (0..spec.layers.len()).map(|layer| layer_width(heads_of(spec, layer))).sum()
}

fn heads_of(spec: &DecoderSpec, layer: usize) -> Heads {
    spec.layers[layer].attention.heads()
}

fn layer_width(heads: Heads) -> usize {
    heads.k_width() + heads.v_width()
}

/// Makes the tensors, under the names of ChatGLM's code.
pub(crate) fn tensors(
    recording: &mut Recording,
    spec: &PrefixSpec,
    width: usize,
) -> Result<PrefixTensors, DeviceError> {
    let name = |own: &str| format!("transformer.prefix_encoder.{own}");
    let Some(ProjectionSpec { width: from, middle }) = spec.projection else {
        let embedding = recording.tensor(name("embedding.weight"), spec.slots, width, true)?;
        return Ok(PrefixTensors { embedding, projection: None });
    };
    let embedding = recording.tensor(name("embedding.weight"), spec.slots, from, true)?;
    let projection = ProjectionTensors {
        inner: recording.tensor(name("trans.0.weight"), middle, from, true)?,
        inner_bias: recording.tensor(name("trans.0.bias"), 1, middle, false)?,
        outer: recording.tensor(name("trans.2.weight"), width, middle, true)?,
        outer_bias: recording.tensor(name("trans.2.bias"), 1, width, false)?,
    };
    Ok(PrefixTensors { embedding, projection: Some(projection) })
}

/// A prefix with room for what is made of it.
#[derive(Debug)]
pub(crate) struct PrefixOnDevice {
    tensors: PrefixTensors,
    spec: PrefixSpec,
    /// First column of each layer.
    columns: Vec<usize>,
    width: usize,
    /// What is made of the embedding, with its gradient; the embedding itself where nothing is.
    made: Option<[BufferId; 2]>,
    /// Between the two products.
    middle: Option<[BufferId; 2]>,
    /// Keys and values of one layer, by their width.
    layer: Vec<(usize, [BufferId; 2])>,
}

impl PrefixOnDevice {
    /// Rooms of its own, each twice: rows and columns.
    pub(crate) fn rooms(
        tensors: PrefixTensors,
        spec: &PrefixSpec,
        model: &DecoderSpec,
    ) -> Vec<(usize, usize)> {
        let mut rooms = Vec::new();
        if tensors.projection.is_some() || spec.dropout > 0.0 {
            rooms.push((spec.slots, width(model)));
        }
        rooms.extend(spec.projection.map(|projection| (spec.slots, projection.middle)));
        rooms.extend(layer_widths(model).into_iter().map(|width| (spec.slots, width)));
        rooms
    }

    pub(crate) fn new(
        device: &mut dyn TrainingDevice,
        tensors: PrefixTensors,
        spec: &PrefixSpec,
        model: &DecoderSpec,
    ) -> Result<Self, DeviceError> {
        let mut rooms = Vec::new();
        for (rows, width) in Self::rooms(tensors, spec, model) {
            rooms.push([device.tensor(rows, width)?, device.tensor(rows, width)?]);
        }
        let mut rooms = rooms.into_iter();
        let made = (tensors.projection.is_some() || spec.dropout > 0.0).then(|| rooms.next()).flatten();
        let middle = tensors.projection.and_then(|_| rooms.next());
        let layer = layer_widths(model).into_iter().zip(rooms).collect();
        let mut width = 0;
        let columns = (0..model.layers.len()).map(|layer| {
            width += layer_width(heads_of(model, layer));
            width - layer_width(heads_of(model, layer))
        });
        let columns = columns.collect();
        Ok(PrefixOnDevice { tensors, spec: spec.clone(), columns, width, made, middle, layer })
    }

    pub(crate) fn tensors(&self) -> PrefixTensors {
        self.tensors
    }

    fn dropout(&self, seed: u64) -> Dropout {
        Dropout { seed, probability: self.spec.dropout }
    }

    /// The keys and values of all layers, and their gradient.
    fn all(&self, tensors: &[BufferId], gradients: &[BufferId]) -> [BufferId; 2] {
        self.made.unwrap_or([tensors[self.tensors.embedding], gradients[self.tensors.embedding]])
    }

    /// Makes keys and values of the embedding. Without a seed nothing is dropped.
    pub(crate) fn encode(&self, device: &mut dyn TrainingDevice, tensors: &[BufferId], seed: Option<u64>) {
        let (slots, embedding) = (self.spec.slots, tensors[self.tensors.embedding]);
        let Some([made, _]) = self.made else { return };
        let mut from = embedding;
        if let (Some(projection), Some([middle, _])) = (self.tensors.projection, self.middle) {
            device.multiply(slots, embedding, tensors[projection.inner], 1.0, false, middle);
            device.add_bias(slots, tensors[projection.inner_bias], middle);
            device.values_mut(middle).iter_mut().for_each(|value| *value = value.tanh());
            device.multiply(slots, middle, tensors[projection.outer], 1.0, false, made);
            device.add_bias(slots, tensors[projection.outer_bias], made);
            from = made;
        }
        let dropout = seed.map_or(Dropout { seed: 0, probability: 0.0 }, |seed| self.dropout(seed));
        if from != made || dropout.probability > 0.0 {
            device.dropout(slots, from, dropout, made);
        }
    }

    /// Brings a layer's keys and values into its buffer, which layers share.
    pub(crate) fn bring(
        &self,
        device: &mut dyn TrainingDevice,
        tensors: &[BufferId],
        (layer, heads): (usize, Heads),
    ) {
        let [all, _] = self.all(tensors, tensors);
        let [buffer, _] = self.of_layer(heads);
        let from = Columns { buffer: all, width: self.width, first: self.columns[layer] };
        let to = Columns { buffer, width: layer_width(heads), first: 0 };
        copy(device, (self.spec.slots, to.width), from, to, Put::Set);
    }

    /// A layer's keys and values, and their gradient.
    pub(crate) fn of_layer(&self, heads: Heads) -> [BufferId; 2] {
        let of_width = self.layer.iter().find(|(width, _)| *width == layer_width(heads));
        of_width.expect("every layer's width has a buffer").1
    }

    /// Before a backward pass.
    pub(crate) fn begin_backward(&self, device: &mut dyn TrainingDevice) {
        if let Some([_, d_made]) = self.made {
            device.values_mut(d_made).fill(0.0);
        }
    }

    /// Adds a layer's gradient to that of all.
    pub(crate) fn add_layer(
        &self,
        device: &mut dyn TrainingDevice,
        gradients: &[BufferId],
        (layer, heads): (usize, Heads),
    ) {
        let [_, d_all] = self.all(gradients, gradients);
        let [_, d_layer] = self.of_layer(heads);
        let from = Columns { buffer: d_layer, width: layer_width(heads), first: 0 };
        let to = Columns { buffer: d_all, width: self.width, first: self.columns[layer] };
        copy(device, (self.spec.slots, from.width), from, to, Put::Add);
    }

    /// After a backward pass: from the gradient of keys and values to those of the tensors.
    pub(crate) fn learn(
        &self,
        device: &mut dyn TrainingDevice,
        tensors: &[BufferId],
        gradients: &[BufferId],
        seed: u64,
    ) {
        let Some([_, d_made]) = self.made else { return };
        let (slots, d_embedding) = (self.spec.slots, gradients[self.tensors.embedding]);
        if self.spec.dropout > 0.0 {
            device.dropout(slots, d_made, self.dropout(seed), d_made);
        }
        let (Some(projection), Some([middle, d_middle])) = (self.tensors.projection, self.middle) else {
            device.add(slots, d_made, 1.0, d_embedding, d_embedding);
            return;
        };
        device.bias_gradient(slots, d_made, gradients[projection.outer_bias]);
        device.weight_gradient(slots, d_made, middle, 1.0, gradients[projection.outer]);
        device.multiply_backward(slots, d_made, tensors[projection.outer], 1.0, false, d_middle);
        let (d, tanh) = device.values_beside(d_middle, middle);
        d.iter_mut().zip(tanh).for_each(|(d, tanh)| *d *= 1.0 - tanh * tanh);
        device.bias_gradient(slots, d_middle, gradients[projection.inner_bias]);
        let embedding = tensors[self.tensors.embedding];
        device.weight_gradient(slots, d_middle, embedding, 1.0, gradients[projection.inner]);
        device.multiply_backward(slots, d_middle, tensors[projection.inner], 1.0, true, d_embedding);
    }
}

/// The widths that layers have, each once.
fn layer_widths(model: &DecoderSpec) -> Vec<usize> {
    let mut widths: Vec<usize> =
        (0..model.layers.len()).map(|layer| layer_width(heads_of(model, layer))).collect();
    widths.sort_unstable();
    widths.dedup();
    widths
}
