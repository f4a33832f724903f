//! Where a tower's weights lie in a checkpoint.

use glimmer_checkpoint::{Checkpoint, TensorInfo};
use glimmer_tensor::MatrixView;

use super::parts::{TowerMatrix, TowerPart, TowerPartKind};
use super::spec::VisionSpec;
use crate::{ModelError, NormSpec};

/// Rows of a matrix, and what their tensor is called, without `.weight` or `.bias`.
pub(super) struct StoredRows<'a> {
    pub(super) name: String,
    pub(super) info: &'a TensorInfo,
    pub(super) rows: MatrixView<'a>,
}

/// A checkpoint with the tower of a spec.
#[derive(Clone, Copy)]
pub(super) struct Stored<'a> {
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) spec: &'a VisionSpec,
}

impl<'a> Stored<'a> {
    /// The names that the layout has for a part.
    pub(super) fn names(&self, part: &TowerPart) -> Vec<String> {
        self.spec.naming.names(part.layer, part.role)
    }

    /// What a norm's vectors are called.
    pub(super) fn norm_names(&self, part: &TowerPart, norm: &NormSpec) -> Vec<String> {
        let name = self.names(part).concat();
        norm.vectors().iter().map(|vector| format!("{name}.{vector}")).collect()
    }

    /// Refuses a vector that is missing or not as long as it should be. It is not read.
    fn insist(&self, name: &str, len: usize) -> Result<(), ModelError> {
        let info = self.checkpoint.tensor(name)?.info;
        // One that is not as long is refused with its shape.
        if info.shape.iter().product::<usize>() == len { Ok(()) } else { self.vector(name, len).map(drop) }
    }

    /// The same of all vectors of a part, a matrix's biases and second frame among them.
    pub(super) fn insist_all(&self, part: &TowerPart) -> Result<(), ModelError> {
        match &part.kind {
            TowerPartKind::Norm(norm, width) => {
                self.norm_names(part, norm).iter().try_for_each(|name| self.insist(name, *width))
            }
            TowerPartKind::Values(len) => self.insist(&self.names(part).concat(), *len),
            TowerPartKind::Matrix(matrix) => {
                if let Some(second) = self.second_frame(part) {
                    let half = matrix.rows() * matrix.cols / 2;
                    self.insist(&format!("{}.weight", self.names(part).concat()), half)?;
                    self.insist(second, half)?;
                }
                let names = self.names(part);
                let rows = matrix.rows_of(names.len());
                let mut biases = names.iter().zip(rows).filter(|_| matrix.bias);
                biases.try_for_each(|(name, rows)| self.insist(&format!("{name}.bias"), rows.len()))
            }
        }
    }

    pub(super) fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, ModelError> {
        Ok(self.checkpoint.values_of(name, len)?)
    }

    /// A matrix, from one tensor or one for each of its sections.
    pub(super) fn matrix(
        &self,
        part: &TowerPart,
        matrix: &TowerMatrix,
    ) -> Result<Vec<StoredRows<'a>>, ModelError> {
        let (names, mut stored) = (self.names(part), Vec::new());
        let rows = matrix.rows_of(names.len());
        for (name, rows) in names.into_iter().zip(rows) {
            let weight = format!("{name}.weight");
            let rows = self.checkpoint.kernel_of(&weight, rows.len(), matrix.cols)?;
            let info = self.checkpoint.tensor(&weight)?.info;
            stored.push(StoredRows { name, info, rows });
        }
        Ok(stored)
    }

    /// The biases of all sections.
    pub(super) fn bias(&self, part: &TowerPart, matrix: &TowerMatrix) -> Result<Vec<f32>, ModelError> {
        let (names, mut bias) = (self.names(part), Vec::new());
        let rows = matrix.rows_of(names.len());
        for (name, rows) in names.iter().zip(rows) {
            bias.extend(self.vector(&format!("{name}.bias"), rows.len())?);
        }
        Ok(bias)
    }

    /// The tensor of the second frame, where each has one.
    pub(super) fn second_frame(&self, part: &TowerPart) -> Option<&'static str> {
        self.spec.naming.second_frame(part.role)
    }

    /// A kernel over two frames, each frame's `[rows, channels, lines, columns]`.
    pub(super) fn frames(&self, part: &TowerPart, matrix: &TowerMatrix) -> Result<[Vec<f32>; 2], ModelError> {
        let name = format!("{}.weight", self.names(part).concat());
        let all = matrix.rows() * matrix.cols;
        if let Some(second) = self.second_frame(part) {
            return Ok([self.vector(&name, all / 2)?, self.vector(second, all / 2)?]);
        }
        let (both, pixels) = (self.vector(&name, all)?, self.spec.patch * self.spec.patch);
        let frame =
            |frame: usize| both.chunks_exact(pixels).skip(frame).step_by(2).flatten().copied().collect();
        Ok([frame(0), frame(1)])
    }
}
