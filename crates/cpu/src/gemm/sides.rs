//! The sides of a product, and how they are packed for its tiles.

use super::{DEPTH, tile_columns};
use crate::lanes::{Kernel, Lanes, Register};
use crate::linear::{PackedMatrix, Ready};
use std::ops::Range;

/// A matrix of f32 with rows `stride` apart; or, transposed, with columns so far apart.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) stride: usize,
    pub(crate) transposed: bool,
}

/// The right side of a product.
#[derive(Clone, Copy)]
pub(crate) enum Right<'a> {
    /// Floats.
    Floats(Matrix<'a>),
    /// A model's weights: a term for each of their outputs.
    Weights {
        /// The weights.
        matrix: &'a PackedMatrix,
        /// Whether they and the left side, which is not transposed then, may be rounded to bfloat16 where that is faster.
        rounds: bool,
    },
}

impl<'a> Matrix<'a> {
    /// Rows one behind the other.
    pub(crate) fn rows(values: &'a [f32], stride: usize) -> Self {
        Matrix { values, stride, transposed: false }
    }

    /// The same, transposed.
    pub(crate) fn columns(values: &'a [f32], stride: usize) -> Self {
        Matrix { values, stride, transposed: true }
    }

    /// Copies terms of rows of a left side as [`super::tiles::Tiles`] takes them. What a last panel has too much stays as it
    /// was.
    pub(super) fn pack_rows(&self, panel: usize, rows: Range<usize>, terms: Range<usize>, to: &mut [f32]) {
        let Matrix { values, stride, transposed } = *self;
        for (first, to) in rows.clone().step_by(panel).zip(to.chunks_exact_mut(panel * DEPTH)) {
            let count = panel.min(rows.end - first);
            if transposed {
                for (k, to) in terms.clone().zip(to.chunks_exact_mut(panel)) {
                    to[..count].copy_from_slice(&values[k * stride + first..][..count]);
                }
            } else {
                for (row, to) in (first..first + count).zip(to.chunks_exact_mut(DEPTH)) {
                    let row = &values[row * stride..];
                    to[..terms.len()].copy_from_slice(&row[terms.clone()]);
                }
            }
        }
    }

    /// Copies terms of columns of a right side.
    fn pack_columns<S: Register>(&self, s: S, terms: Range<usize>, columns: Range<usize>, to: &mut [f32]) {
        if self.transposed {
            return s.run(Transpose { from: *self, terms, columns, to });
        }
        let width = tile_columns::<S>();
        for (first, to) in columns.clone().step_by(width).zip(to.chunks_exact_mut(width * terms.len())) {
            let count = width.min(columns.end - first);
            for (k, to) in terms.clone().zip(to.chunks_exact_mut(width)) {
                to[..count].copy_from_slice(&self.values[k * self.stride + first..][..count]);
            }
        }
    }
}

impl Right<'_> {
    /// The end of the block of terms that begins at `start`.
    pub(super) fn block_end(&self, start: usize, depth: usize) -> usize {
        let end = match self {
            Right::Floats(_) => depth,
            Right::Weights { matrix, .. } => matrix.same_type_until(start),
        };
        end.min(start + DEPTH)
    }

    /// The lanes that multiply pairs of terms, where the product may be rounded to them.
    pub(super) fn pairs<S: Register>(&self, s: S) -> Option<S::Pairs> {
        match self {
            Right::Weights { rounds: true, .. } => s.pairs(),
            _ => None,
        }
    }

    /// Packs a block of terms of some columns: panels of two vectors of columns for each term, or for each pair of them.
    pub(super) fn pack<S: Register>(
        &self,
        s: S,
        pairs: Option<S::Pairs>,
        terms: Range<usize>,
        columns: Range<usize>,
        ready: &mut Ready,
        to: &mut [f32],
    ) {
        match self {
            Right::Floats(matrix) => matrix.pack_columns(s, terms, columns, to),
            Right::Weights { matrix, .. } => matrix.decode_panels(s, pairs, terms, columns, ready, to),
        }
    }
}

/// Packs columns that lie one behind the other.
struct Transpose<'a> {
    from: Matrix<'a>,
    terms: Range<usize>,
    columns: Range<usize>,
    to: &'a mut [f32],
}

impl Kernel for Transpose<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        let Transpose { from: Matrix { values, stride, .. }, terms, columns, to } = self;
        let (width, depth) = (tile_columns::<S>(), terms.len());
        for (i, first) in columns.clone().step_by(S::LANES).enumerate() {
            let to = &mut to[i / 2 * width * depth + i % 2 * S::LANES..];
            let count = S::LANES.min(columns.end - first);
            let whole = if count == S::LANES { depth / S::LANES * S::LANES } else { 0 };
            for k in (0..whole).step_by(S::LANES) {
                let from = &values[first * stride + terms.start + k..];
                let to = &mut to[k * width..];
                assert!(from.len() >= (S::LANES - 1) * stride + S::LANES);
                assert!(to.len() >= (S::LANES - 1) * width + S::LANES);
                // SAFETY: as just checked.
                unsafe { s.transpose(from.as_ptr(), stride, to.as_mut_ptr(), width) };
            }
            for c in 0..count {
                let column = &values[(first + c) * stride..][terms.clone()];
                for (k, &value) in column.iter().enumerate().skip(whole) {
                    to[k * width + c] = value;
                }
            }
        }
    }
}
