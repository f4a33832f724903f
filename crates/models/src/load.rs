//! Bringing a checkpoint's weights to a device.

use std::sync::atomic::{AtomicBool, Ordering};

use glimmer_checkpoint::Checkpoint;
use glimmer_tensor::quant::check_matrix;
use glimmer_tensor::{Device, MatrixId, MatrixUse, MatrixView, Norm};

use crate::config::Understood;
use crate::decoder::{Decoder, Weights};
use crate::names::NamedRows;
use crate::parts::{MatrixPart, Part, PartKind};
use crate::{ModelError, NormSpec};

/// Loads the weights that `understood` names. `progress` is called with bytes done and bytes in all, for people.
///
/// Pages of a mapped file are let go of as their rows come to the device, so that memory never holds the weights twice.
///
/// # Errors
/// When a tensor is missing, has another shape or type than the configuration says, or holds a scale that is not
/// finite.
pub fn load(
    checkpoint: &Checkpoint,
    understood: &Understood,
    mut device: Box<dyn Device>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Decoder, ModelError> {
    let total = checkpoint.tensors().iter().map(|t| t.bytes as u64).sum();
    let mut loader = Loader { checkpoint, understood, device: device.as_mut(), done: 0, total, progress };
    let weights = loader.weights()?;
    // The system brings pages in by the dozen: some came back beside others that were read.
    checkpoint.tensors().iter().for_each(|info| checkpoint.release(info));
    Ok(Decoder::new(understood.spec.clone(), device, weights))
}

struct Loader<'a, 'd> {
    checkpoint: &'a Checkpoint,
    understood: &'a Understood,
    device: &'d mut dyn Device,
    done: u64,
    total: u64,
    progress: &'a mut dyn FnMut(u64, u64),
}

impl<'a> Loader<'a, '_> {
    fn weights(&mut self) -> Result<Weights, ModelError> {
        let spec = &self.understood.spec;
        let own_head = self.understood.has_own_head(Some(self.checkpoint));
        let rope = self.device.load_rope(&spec.rope);
        let mut weights = Weights::new(spec.layers.len(), own_head, rope);
        for part in spec.parts(own_head) {
            match &part.kind {
                PartKind::Norm(spec) => weights.add_norm(&part, self.norm(&part, spec)?),
                PartKind::Matrix(matrix) => weights.add_matrix(&part, self.matrix(&part, matrix)?),
            }
        }
        Ok(weights)
    }

    /// A matrix, from one tensor or one for each of its sections.
    fn matrix(&mut self, part: &Part, matrix: &MatrixPart) -> Result<MatrixId, ModelError> {
        let naming = self.understood.naming;
        let tensors = naming.tensors(part, matrix, |name| self.has(name))?;
        let biased = naming.has_bias(matrix, &tensors, |name| self.has(name));
        let (mut views, mut bias) = (Vec::new(), Vec::new());
        for tensor in &tensors {
            views.push(self.checkpoint.matrix_of(&tensor.weight(), tensor.rows, matrix.cols)?);
            if biased {
                bias.extend(self.vector(&tensor.bias(), tensor.rows)?);
            }
        }
        if let ([whole], true) = (views.as_slice(), naming.interleaves(part.role)) {
            let (whole, order) = (*whole, matrix.fused_rows(true).concat());
            views = order.iter().map(|rows| whole.slice_rows(rows.clone())).collect();
            bias = order.into_iter().flat_map(|rows| bias.get(rows).unwrap_or_default()).copied().collect();
        }
        self.take(&tensors, &views, biased.then_some(bias.as_slice()), matrix.used_for)
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
        let checkpoint = self.checkpoint;
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
            (self.progress)(self.done, self.total);
        }
        Ok(id)
    }

    fn norm(&mut self, part: &Part, spec: &NormSpec) -> Result<Norm, ModelError> {
        let name = self.understood.naming.need(part.layer, part.role)?;
        let mut vectors = Vec::new();
        for vector in spec.vectors() {
            let values = self.vector(&format!("{name}.{vector}"), self.understood.spec.hidden)?;
            vectors.push(self.device.load_vector(&values));
        }
        Ok(Norm { kind: spec.kind, weight: vectors[0], bias: vectors.get(1).copied(), eps: spec.eps })
    }

    fn has(&self, name: &str) -> bool {
        self.checkpoint.holds(name)
    }

    fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, ModelError> {
        Ok(self.checkpoint.vector_of(name, len)?)
    }
}
