//! Sides rounded to bfloat16, two terms to an element of 32 bits: the first in the low half.

use super::sides::Matrix;
use super::{DEPTH, tile_columns};
use crate::lanes::{Kernel, Lanes};
use std::ops::Range;

/// The nearest bfloat16, as the upper half of a word; of equally near ones the even one. Not a number stays so.
#[inline(always)]
fn round(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    (if x.is_nan() { bits | 1 << 22 } else { rounded }) & 0xffff_0000
}

/// Two terms.
#[inline(always)]
fn pair(first: f32, second: f32) -> f32 {
    f32::from_bits(round(first) >> 16 | round(second))
}

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
    fn run<S: Lanes>(self, _: S) {
        let PairRows { from: Matrix { values, stride, transposed }, rows, terms, to } = self;
        assert!(!transposed, "rows are paired along themselves");
        for (row, to) in rows.zip(to.chunks_exact_mut(DEPTH)) {
            let (pairs, rest) = values[row * stride..][terms.clone()].as_chunks::<2>();
            for (&[first, second], to) in pairs.iter().zip(&mut *to) {
                *to = pair(first, second);
            }
            rest.iter().for_each(|&last| to[pairs.len()] = pair(last, 0.0));
        }
    }
}

/// Pairs the terms of packed columns, in place.
pub(super) struct PairColumns<'a> {
    /// Panels of two vectors for each term; of pairs they lie one behind the other again.
    pub(super) panels: &'a mut [f32],
    pub(super) depth: usize,
}

impl Kernel for PairColumns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, _: S) {
        let PairColumns { panels, depth } = self;
        let width = tile_columns::<S>();
        let mut to = 0;
        for panel in 0..panels.len() / (width * depth) {
            for term in (0..depth).step_by(2) {
                let (mut first, mut second) = ([0f32; 32], [0f32; 32]);
                let at = (panel * depth + term) * width;
                first[..width].copy_from_slice(&panels[at..at + width]);
                if term + 1 < depth {
                    second[..width].copy_from_slice(&panels[at + width..at + 2 * width]);
                }
                for (to, (&first, &second)) in
                    panels[to..to + width].iter_mut().zip(first.iter().zip(&second))
                {
                    *to = pair(first, second);
                }
                to += width;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    #[test]
    fn numbers_are_rounded_as_half_rounds_them() {
        let special = [0, 1, 0x7f80_0000, 0x7f80_0001, 0x7fff_ffff, 0x3f80_8000, 0x3f81_8000, 0x7f7f_ffff];
        let spread = (0..100_000u32).map(|i| i.wrapping_mul(42_949));
        for bits in special.into_iter().chain(spread).flat_map(|bits| [bits, bits | 1 << 31]) {
            let x = f32::from_bits(bits);
            assert_eq!(round(x) >> 16, u32::from(bf16::from_f32(x).to_bits()), "{x} ({bits:x})");
        }
    }
}
