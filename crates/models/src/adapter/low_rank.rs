//! Pairs of narrow matrices and the weights that they stand beside.

use crate::parts::{MatrixPart, PartKind};
use crate::{DecoderSpec, WeightRole};

/// A weight of a model, or a section of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WeightAddress {
    /// Its layer; `None` for the head.
    pub layer: Option<usize>,
    /// What it is for: the role of a part, or of one of its sections.
    pub role: WeightRole,
}

/// A pair beside a weight `W` `[rows, cols]`: `y = W x + b + scale B A x`; with a magnitude (DoRA, Liu et al., 2024)
/// `y = magnitude / |W + scale B A| (W x + scale B A x) + b`, the norms being those of rows.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRank {
    /// Rows of `A`, at least one.
    pub rank: usize,
    /// `A` `[rank, cols]`.
    pub a: Vec<f32>,
    /// `B` `[rows, rank]`, rows in the decoder's order.
    pub b: Vec<f32>,
    /// What the product is multiplied with.
    pub scale: f32,
    /// DoRA's magnitudes `[rows]`.
    pub magnitude: Option<Vec<f32>>,
}

impl LowRank {
    /// Rows of the weight.
    pub fn rows(&self) -> usize {
        self.b.len() / self.rank
    }

    /// Columns of the weight.
    pub fn cols(&self) -> usize {
        self.a.len() / self.rank
    }

    /// Bytes that its numbers take.
    pub fn bytes(&self) -> usize {
        4 * (self.a.len() + self.b.len() + self.magnitude.as_ref().map_or(0, Vec::len))
    }

    /// Adds `scale B A` of row `row` to `weights` `[cols]`.
    pub fn add_row(&self, row: usize, weights: &mut [f32]) {
        let b = &self.b[row * self.rank..][..self.rank];
        for (&b, a) in b.iter().zip(self.a.chunks_exact(self.cols())) {
            let factor = self.scale * b;
            weights.iter_mut().zip(a).for_each(|(w, &a)| *w += factor * a);
        }
    }
}

/// The pairs of one adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRankAdapter {
    /// Each with its weight; none stands beside the same rows twice.
    pub pairs: Vec<(WeightAddress, LowRank)>,
}

/// Rows of a matrix that an adapter can stand beside.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) address: WeightAddress,
    /// Which of its rows.
    pub(super) rows: std::ops::Range<usize>,
    pub(super) matrix: MatrixPart,
}

impl Target {
    /// All that a model of this shape has: whole matrices and their sections.
    pub(super) fn all(spec: &DecoderSpec) -> Vec<Target> {
        let mut targets = Vec::new();
        for part in spec.parts(!spec.tied) {
            let PartKind::Matrix(matrix) = &part.kind else { continue };
            if part.role == WeightRole::Embedding {
                continue;
            }
            let mut push = |role, rows| {
                let address = WeightAddress { layer: part.layer, role };
                targets.push(Target { address, rows, matrix: matrix.clone() });
            };
            push(part.role, 0..matrix.rows());
            if matrix.sections.len() > 1 {
                let mut first = 0;
                for &(role, rows) in &matrix.sections {
                    push(role, first..first + rows);
                    first += rows;
                }
            }
        }
        targets
    }
}
