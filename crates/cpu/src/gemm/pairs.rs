//! Rows rounded to bfloat16, two terms to an element of 32 bits: the first in the low half.

use super::DEPTH;
use super::sides::Matrix;
use crate::lanes::{Kernel, Lanes};
use std::ops::Range;

/// Packs terms of rows as [`super::tiles::Form::Pairs`] has them.
pub(super) struct PairRows<'a> {
    pub(super) from: Matrix<'a>,
    pub(super) rows: Range<usize>,
    pub(super) terms: Range<usize>,
    pub(super) to: &'a mut [f32],
}

impl Kernel for PairRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        let PairRows { from: Matrix { values, stride, transposed }, rows, terms, to } = self;
        assert!(!transposed && terms.len() <= DEPTH, "rows are paired along themselves");
        for (row, to) in rows.zip(to.chunks_exact_mut(DEPTH)) {
            let row = &values[row * stride..][terms.clone()];
            for (from, to) in row.chunks(2 * S::LANES).zip(to.chunks_exact_mut(S::LANES)) {
                let mut rest = [0f32; 32];
                let at = if from.len() == 2 * S::LANES {
                    from.as_ptr()
                } else {
                    rest[..from.len()].copy_from_slice(from);
                    rest.as_ptr()
                };
                // SAFETY: two vectors of the row or of an array of the most there are, and room for one.
                unsafe { s.store_u32(s.pair(s.load(at), s.load(at.add(S::LANES))), to.as_mut_ptr().cast()) };
            }
        }
    }
}
