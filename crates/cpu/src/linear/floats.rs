//! F32, F16 and BF16: one column after the other, the 32 rows of a tile side by side.

use super::formats::{Floats, Four, columns, shorts, words};
use super::line::Line;
use crate::lanes::Lanes;

pub(super) struct F32;
pub(super) struct F16;
pub(super) struct BF16;

impl Floats for F32 {
    const UNIT: usize = 2;
    const BYTES: usize = 4;

    #[inline(always)]
    fn values<S: Lanes>(s: S, unit: &[Line], r: usize) -> S::F {
        unit[r].floats(s)
    }
    #[inline(always)]
    fn pack(elements: Four<'_>, units: &mut [Line], r: usize, four: usize) {
        for (c, unit) in units.chunks_exact_mut(Self::UNIT).enumerate() {
            unit[r].set_four_words(four, words(elements, 4 * c));
        }
    }
}

impl Floats for F16 {
    const UNIT: usize = 1;
    const BYTES: usize = 2;

    #[inline(always)]
    fn values<S: Lanes>(s: S, unit: &[Line], r: usize) -> S::F {
        unit[0].halves(s, r)
    }
    #[inline(always)]
    fn pack(elements: Four<'_>, units: &mut [Line], r: usize, four: usize) {
        pack_shorts(elements, units, r, four);
    }
}

impl Floats for BF16 {
    const UNIT: usize = 1;
    const BYTES: usize = 2;

    #[inline(always)]
    fn values<S: Lanes>(s: S, unit: &[Line], r: usize) -> S::F {
        // A bfloat16 is the upper half of a binary32.
        s.of_bits(s.shl(unit[0].shorts(s, r), 16))
    }
    #[inline(always)]
    fn pack(elements: Four<'_>, units: &mut [Line], r: usize, four: usize) {
        pack_shorts(elements, units, r, four);
    }
}

/// Puts elements of two bytes of four rows into a line each.
#[inline(always)]
fn pack_shorts(elements: Four<'_>, lines: &mut [Line], r: usize, four: usize) {
    let (eights, rest) = lines.as_chunks_mut::<8>();
    let done = 8 * eights.len();
    for (i, lines) in eights.iter_mut().enumerate() {
        for (pair, words) in lines.as_chunks_mut::<2>().0.iter_mut().zip(columns(elements, 16 * i)) {
            pair[0].set_four_shorts(r, four, words.map(|word| (word as u16).to_le_bytes()));
            pair[1].set_four_shorts(r, four, words.map(|word| ((word >> 16) as u16).to_le_bytes()));
        }
    }
    for (c, line) in (done..).zip(rest) {
        line.set_four_shorts(r, four, shorts(elements, 2 * c));
    }
}
