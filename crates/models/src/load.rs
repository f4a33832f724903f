//! Bringing a checkpoint's weights to a device.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use glimmer_checkpoint::Checkpoint;
use glimmer_tensor::quant::check_matrix;
use glimmer_tensor::{Device, DeviceError, MatrixId, MatrixShape, MatrixUse, MatrixView, Norm};

use crate::config::Understood;
use crate::decoder::{Decoder, Share, Weights};
use crate::export::{Quantization, second_rounding};
use crate::names::NamedRows;
use crate::parts::{MatrixPart, Part, PartKind};
use crate::{Attention, FeedForward, LayerSpec, ModelError, NormSpec};

/// A device and how many layers it takes.
pub struct DeviceLayers {
    /// The device, which holds nothing yet.
    pub device: Box<dyn Device>,
    /// The layers after those of the devices before it; at least one.
    pub layers: usize,
}

/// A model's weights: where they lie, and what becomes of them on their way to a device.
#[derive(Clone, Copy)]
pub struct ModelWeights<'a> {
    /// The files.
    pub checkpoint: &'a Checkpoint,
    /// What they hold, under which names.
    pub understood: &'a Understood,
    /// Quantized to this; as they are stored where nothing is said.
    pub quantize: Option<Quantize>,
}

/// How weights are quantized while they are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantize {
    /// To what.
    pub to: Quantization,
    /// Threads that do it.
    pub threads: usize,
}

/// Loads weights onto one device. `progress` is called with bytes read and bytes in all, for people.
///
/// Pages of a mapped file are let go of as their rows come to the device, so that memory never holds the weights twice. Of
/// weights that are quantized there is one matrix beside those on the device, and a piece for each thread.
///
/// # Errors
/// When a tensor is missing, has another shape or type than the configuration says, or holds a scale that is not
/// finite; where weights are quantized those of [`Checkpoint::encode`].
pub fn load(
    weights: ModelWeights<'_>,
    device: Box<dyn Device>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Decoder, ModelError> {
    let layers = weights.understood.spec.layers.len();
    load_split(weights, vec![DeviceLayers { device, layers }], progress)
}

/// [`load`] onto several devices, each with the layers after those of the one before. The first one embeds, the last one
/// makes the logits.
///
/// # Errors
/// Those of [`load`].
///
/// # Panics
/// When the devices' layers are not all layers of the model, or a device has none.
pub fn load_split(
    weights: ModelWeights<'_>,
    devices: Vec<DeviceLayers>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Decoder, ModelError> {
    let ModelWeights { checkpoint, understood, .. } = weights;
    let spec = &understood.spec;
    let layers: usize = devices.iter().map(|of| of.layers).sum();
    assert!(
        layers == spec.layers.len() && devices.iter().all(|of| of.layers > 0),
        "every layer has a device"
    );
    let total = checkpoint.tensors().iter().map(|t| t.bytes as u64).sum();
    let (mut shares, mut next, mut done) = (Vec::new(), 0, 0);
    for DeviceLayers { mut device, layers } in devices {
        let range = next..next + layers;
        next = range.end;
        let mut loader = Loader { model: weights, device: device.as_mut(), done, total, progress };
        let weights = loader.weights(range.clone())?;
        done = loader.done;
        shares.push(Share::new(device, range, weights));
    }
    // The system brings pages in by the dozen: some came back beside others that were read.
    checkpoint.tensors().iter().for_each(|info| checkpoint.release(info));
    Ok(Decoder::new(spec.clone(), shares))
}

/// Where the rows of a matrix lie.
pub(crate) struct StoredMatrix<'a> {
    /// One tensor, or one for each section.
    tensors: Vec<NamedRows>,
    /// Their rows in the decoder's order.
    pub(crate) views: Vec<MatrixView<'a>>,
    pub(crate) biased: bool,
    /// The order of a tensor's rows where its sections are interleaved.
    order: Option<Vec<Range<usize>>>,
    /// What the views are once each is turned over, where they have to be.
    turned: Option<MatrixShape>,
}

impl StoredMatrix<'_> {
    /// What the device is given.
    pub(crate) fn shapes(&self, quantize: Option<Quantize>) -> Vec<MatrixShape> {
        let as_stored = || match self.turned {
            Some(whole) => vec![whole],
            None => self.views.iter().map(MatrixView::shape).collect(),
        };
        self.quantized(quantize).map_or_else(as_stored, |whole| vec![whole])
    }

    /// What all rows together become; `None` where they stay as they are stored.
    fn quantized(&self, quantize: Option<Quantize>) -> Option<MatrixShape> {
        let cols = self.turned.map_or(self.views.first()?.cols, |whole| whole.cols);
        let dtype = quantize?.to.of_width(cols);
        let rows = self.turned.map_or(self.views.iter().map(|view| view.rows).sum(), |whole| whole.rows);
        self.views.iter().any(|view| view.dtype != dtype).then_some(MatrixShape { dtype, rows, cols })
    }
}

impl<'a> ModelWeights<'a> {
    /// As they are stored.
    pub fn stored(checkpoint: &'a Checkpoint, understood: &'a Understood) -> Self {
        ModelWeights { checkpoint, understood, quantize: None }
    }

    /// Finds a matrix.
    pub(crate) fn matrix(&self, part: &Part, matrix: &MatrixPart) -> Result<StoredMatrix<'a>, ModelError> {
        let naming = self.understood.naming;
        let tensors = naming.tensors(part, matrix, |name| self.has(name))?;
        let biased = naming.has_bias(matrix, &tensors, |name| self.has(name));
        let (mut views, mut turned) = (Vec::new(), None);
        for tensor in &tensors {
            let Some(among) = &tensor.among else {
                views.push(self.checkpoint.matrix_of(&tensor.weight(), tensor.rows, matrix.cols)?);
                continue;
            };
            let whole = self.checkpoint.stack_of(&tensor.weight(), &among.shape)?;
            views.extend(among.picked.iter().map(|rows| whole.slice_rows(rows.clone())));
            if among.turned {
                let shape = MatrixShape { dtype: whole.dtype, rows: matrix.rows(), cols: matrix.cols };
                turned = Some(shape);
            }
        }
        let mut order = None;
        if let ([whole], true) = (views.as_slice(), naming.interleaves(part.role)) {
            let whole = *whole;
            let rows = order.insert(matrix.fused_rows(true).concat());
            views = rows.iter().map(|rows| whole.slice_rows(rows.clone())).collect();
        }
        Ok(StoredMatrix { tensors, views, biased, order, turned })
    }

    /// The bytes of `whole`, which is what the rows of a matrix become.
    fn encoded(&self, matrix: &StoredMatrix<'_>, whole: MatrixShape) -> Result<Vec<u8>, ModelError> {
        let threads = self.quantize.map_or(1, |quantize| quantize.threads);
        let bytes = whole.bytes().unwrap_or(usize::MAX);
        let mut encoded = Vec::new();
        let full = |_| DeviceError::OutOfMemory { what: "a matrix that is being quantized", bytes };
        encoded.try_reserve_exact(bytes).map_err(full)?;
        // Each tensor has one view, or the only one all of them.
        let of_tensor = matrix.views.len() / matrix.tensors.len();
        for (tensor, views) in matrix.tensors.iter().zip(matrix.views.chunks(of_tensor)) {
            let name = tensor.weight();
            let info = self.checkpoint.tensor(&name)?.info;
            let over = matrix.turned.map(|whole| turn(views, whole)).transpose()?;
            let rows: Vec<_> = match (&over, matrix.turned) {
                (Some(data), Some(shape)) => vec![(shape.of(data), info)],
                _ => views.iter().map(|view| (*view, info)).collect(),
            };
            self.checkpoint.encode(&name, &rows, whole.dtype, threads, &mut |bytes| {
                encoded.extend_from_slice(bytes);
                Ok(())
            })?;
        }
        Ok(encoded)
    }

    /// What is to be said where weights that were rounded once are rounded again.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape or type than the configuration says.
    pub fn second_rounding(&self) -> Result<Option<String>, ModelError> {
        let Some(Quantize { to, .. }) = self.quantize else { return Ok(None) };
        for part in self.understood.spec.parts(self.understood.has_own_head(Some(self.checkpoint))) {
            let PartKind::Matrix(matrix) = &part.kind else { continue };
            let views = self.matrix(&part, matrix)?.views;
            let warning = views.iter().find_map(|view| second_rounding(view.dtype, to.of_width(view.cols)));
            if warning.is_some() {
                return Ok(warning);
            }
        }
        Ok(None)
    }

    /// The bias of a matrix, in the order of its rows.
    fn bias(&self, matrix: &StoredMatrix<'_>) -> Result<Option<Vec<f32>>, ModelError> {
        if !matrix.biased {
            return Ok(None);
        }
        let mut bias = Vec::new();
        for tensor in &matrix.tensors {
            bias.extend(self.vector(&tensor.bias(), tensor.rows)?);
        }
        Ok(Some(match &matrix.order {
            Some(order) => order.iter().flat_map(|rows| &bias[rows.clone()]).copied().collect(),
            None => bias,
        }))
    }

    fn has(&self, name: &str) -> bool {
        self.checkpoint.holds(name)
    }

    fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, ModelError> {
        Ok(self.checkpoint.vector_of(name, len)?)
    }
}

/// The numbers of `views` one after the other, each turned over `[rows, cols] -> [cols, rows]`, all together `shape`.
///
/// # Errors
/// When they are in blocks, which cannot be turned over, or memory runs out.
pub(crate) fn turn(views: &[MatrixView<'_>], shape: MatrixShape) -> Result<Vec<u8>, ModelError> {
    if shape.dtype.block_len() != 1 {
        let message = format!(
            "keys of latents are stored as {} together with values, where they cannot be turned over; convert the original \
             files again",
            shape.dtype
        );
        return Err(DeviceError::Weight(message).into());
    }
    let (size, bytes) = (shape.dtype.block_bytes(), shape.bytes().unwrap_or(usize::MAX));
    let mut out = Vec::new();
    let full = |_| DeviceError::OutOfMemory { what: "a matrix that is turned over", bytes };
    out.try_reserve_exact(bytes).map_err(full)?;
    for view in views {
        let row_bytes = view.cols * size;
        for col in 0..view.cols {
            for row in 0..view.rows {
                out.extend_from_slice(&view.data[row * row_bytes + col * size..][..size]);
            }
        }
    }
    Ok(out)
}

struct Loader<'a, 'd> {
    model: ModelWeights<'a>,
    device: &'d mut dyn Device,
    done: u64,
    total: u64,
    progress: &'d mut dyn FnMut(u64, u64),
}

impl Loader<'_, '_> {
    /// The weights of a device that holds these layers.
    fn weights(&mut self, layers: Range<usize>) -> Result<Weights, ModelError> {
        let ModelWeights { checkpoint, understood, .. } = self.model;
        let spec = &understood.spec;
        let own_head = understood.has_own_head(Some(checkpoint));
        let has_experts = |layer: &LayerSpec| matches!(layer.feed_forward, FeedForward::Experts { .. });
        if spec.layers.iter().any(has_experts) && !self.device.has_experts() {
            let device = self.device.describe();
            return Err(DeviceError::Failed(format!("{device} cannot compute experts yet")).into());
        }
        let has_latents = |layer: &LayerSpec| matches!(layer.attention, Attention::Latent(_));
        if spec.layers.iter().any(has_latents) && !self.device.has_latents() {
            let device = self.device.describe();
            return Err(DeviceError::Failed(format!("{device} cannot compute latent attention yet")).into());
        }
        let rope = self.device.load_rope(&spec.rope);
        let mut weights = Weights::new(layers.clone(), own_head, rope);
        for part in spec.parts_of(own_head, layers) {
            match &part.kind {
                PartKind::Norm(spec, width) => weights.add_norm(&part, self.norm(&part, spec, *width)?),
                PartKind::Matrix(matrix) => weights.add_matrix(&part, self.matrix(&part, matrix)?),
                PartKind::Vector(len) => {
                    let name = understood.naming.need(part.layer, part.role)?;
                    let values = self.model.vector(&name, *len)?;
                    // What is no number here changes who is chosen and shows nowhere.
                    if values.iter().any(|value| !value.is_finite()) {
                        return Err(
                            DeviceError::Weight(format!("{name} has a value that is not finite")).into()
                        );
                    }
                    weights.add_vector(&part, self.device.load_vector(&values));
                }
            }
        }
        Ok(weights)
    }

    /// A matrix, from one tensor or one for each of its sections.
    fn matrix(&mut self, part: &Part, matrix: &MatrixPart) -> Result<MatrixId, ModelError> {
        let stored = self.model.matrix(part, matrix)?;
        let bias = self.model.bias(&stored)?;
        let (bias, used_for) = (bias.as_deref(), matrix.used_for);
        let Some(whole) = stored.quantized(self.model.quantize) else {
            if let Some(shape) = stored.turned {
                let data = turn(&stored.views, shape)?;
                return self.take(&stored.tensors, &[shape.of(&data)], bias, used_for);
            }
            return self.take(&stored.tensors, &stored.views, bias, used_for);
        };
        let encoded = self.model.encoded(&stored, whole)?;
        self.take(&stored.tensors, &[whole.of(&encoded)], bias, used_for)
    }

    /// Brings the rows of some tensors to the device. Block scales are looked at on the way, while they are in the
    /// processor's caches. Plain floats are not: what is not finite among them shows in the first step, with its layer.
    fn take(
        &mut self,
        tensors: &[NamedRows],
        parts: &[MatrixView<'_>],
        bias: Option<&[f32]>,
        used_for: MatrixUse,
    ) -> Result<MatrixId, ModelError> {
        let checkpoint = self.model.checkpoint;
        let sound = AtomicBool::new(true);
        let id = self.device.load_matrix(parts, bias, used_for, &|rows| {
            if rows.dtype.is_quantized() && check_matrix(rows).is_err() {
                sound.store(false, Ordering::Relaxed);
            }
            checkpoint.release_bytes(rows.data);
        })?;
        for info in tensors.iter().filter_map(|tensor| checkpoint.info(&tensor.weight())) {
            if !sound.load(Ordering::Relaxed) {
                // Says which number of which tensor it was.
                checkpoint.check_finite(info)?;
            }
            // Rows end within pages, which came back when the next rows were read.
            checkpoint.release(info);
            self.done += info.bytes as u64;
            (self.progress)(self.done.min(self.total), self.total);
        }
        Ok(id)
    }

    fn norm(&mut self, part: &Part, spec: &NormSpec, width: usize) -> Result<Norm, ModelError> {
        let understood = self.model.understood;
        let name = understood.naming.need(part.layer, part.role)?;
        let mut vectors = Vec::new();
        for vector in spec.vectors() {
            let values = self.model.vector(&format!("{name}.{vector}"), width)?;
            vectors.push(self.device.load_vector(&values));
        }
        Ok(Norm { kind: spec.kind, weight: vectors[0], bias: vectors.get(1).copied(), eps: spec.eps })
    }
}
