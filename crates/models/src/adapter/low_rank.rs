//! Pairs of narrow matrices and the weights that they stand beside.

use crate::parts::{MatrixPart, PartKind};
use crate::{DecoderSpec, ModelError, WeightRole};

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
}

/// The pairs of one adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRankAdapter {
    /// Each with its weight; none stands beside the same rows twice.
    pub pairs: Vec<(WeightAddress, LowRank)>,
}

/// What an adapter has beside a whole matrix: the pairs of its sections as one.
pub(crate) struct WholePair {
    pub(crate) layer: Option<usize>,
    /// The role of the part.
    pub(crate) role: WeightRole,
    pub(crate) rank: usize,
    /// `[rank, cols]`.
    pub(crate) a: Vec<f32>,
    /// `[rows, rank]`, the scale multiplied in.
    pub(crate) b: Vec<f32>,
    /// DoRA's magnitude of each row that has one; empty where none has.
    pub(crate) magnitudes: Vec<Option<f32>>,
}

impl WholePair {
    /// Adds `B A` of row `row` to `weights` `[cols]`, the row of the matrix, and gives it its magnitude. Returns by what the
    /// sum was multiplied for that.
    ///
    /// # Errors
    /// When the sum is zero, which has no direction.
    pub(crate) fn change(&self, row: usize, weights: &mut [f32]) -> Result<f32, ModelError> {
        let b = &self.b[row * self.rank..][..self.rank];
        for (&b, a) in b.iter().zip(self.a.chunks_exact(weights.len())).filter(|(b, _)| **b != 0.0) {
            weights.iter_mut().zip(a).for_each(|(w, &a)| *w += b * a);
        }
        let Some(magnitude) = self.magnitudes.get(row).copied().flatten() else { return Ok(1.0) };
        let square: f64 = weights.iter().map(|&w| f64::from(w) * f64::from(w)).sum();
        let factor = (f64::from(magnitude) / square.sqrt()) as f32;
        if !factor.is_finite() {
            let at = self.layer.map_or_else(String::new, |layer| format!("layer {layer}, "));
            let what = format!("{at}{:?}: row {row} is zero and has a magnitude (DoRA)", self.role);
            return Err(super::refused("the adapter".as_ref(), what));
        }
        weights.iter_mut().for_each(|w| *w *= factor);
        Ok(factor)
    }
}

impl LowRankAdapter {
    /// What it has beside each matrix of a model of this shape, in the order of its pairs.
    pub(crate) fn whole(&self, spec: &DecoderSpec) -> Vec<WholePair> {
        let targets = Target::all(spec);
        let mut whole: Vec<(WholePair, usize)> = Vec::new();
        for (address, pair) in &self.pairs {
            let Some(target) = targets.iter().find(|target| target.address == *address) else { continue };
            let at = whole.iter().position(|(w, _)| w.layer == address.layer && w.role == target.part);
            let at = at.unwrap_or_else(|| {
                let none = WholePair {
                    layer: address.layer,
                    role: target.part,
                    rank: 0,
                    a: Vec::new(),
                    b: Vec::new(),
                    magnitudes: Vec::new(),
                };
                whole.push((none, target.matrix.rows()));
                whole.len() - 1
            });
            let (into, rows) = &mut whole[at];
            into.join(pair, target.rows.clone(), *rows);
        }
        whole.into_iter().map(|(pair, _)| pair).collect()
    }
}

impl WholePair {
    /// Whether any of these rows is another with it.
    pub(crate) fn changes(&self, rows: &std::ops::Range<usize>) -> bool {
        let b = &self.b[rows.start * self.rank..rows.end * self.rank];
        let has_magnitude = || rows.clone().any(|row| self.magnitudes.get(row).is_some_and(Option::is_some));
        b.iter().any(|&b| b != 0.0) || has_magnitude()
    }

    /// Takes a pair in that stands beside `range` of the matrix's `rows`.
    fn join(&mut self, pair: &LowRank, range: std::ops::Range<usize>, rows: usize) {
        let (before, rank) = (self.rank, self.rank + pair.rank);
        let mut b = vec![0.0; rows * rank];
        for (row, b) in b.chunks_exact_mut(rank).enumerate() {
            if before > 0 {
                b[..before].copy_from_slice(&self.b[row * before..][..before]);
            }
            if let Some(row) = row.checked_sub(range.start).filter(|row| *row < range.len()) {
                let from = &pair.b[row * pair.rank..][..pair.rank];
                b[before..].iter_mut().zip(from).for_each(|(to, &value)| *to = pair.scale * value);
            }
        }
        (self.b, self.rank) = (b, rank);
        self.a.extend_from_slice(&pair.a);
        if let Some(magnitude) = &pair.magnitude {
            self.magnitudes.resize(rows, None);
            let own = self.magnitudes[range].iter_mut().zip(magnitude);
            own.for_each(|(to, &value)| *to = Some(value));
        }
    }
}

/// Rows of a matrix that an adapter can stand beside.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) address: WeightAddress,
    /// The role of the part that has them.
    pub(super) part: WeightRole,
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
                targets.push(Target { address, part: part.role, rows, matrix: matrix.clone() });
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
