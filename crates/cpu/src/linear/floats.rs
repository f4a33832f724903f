//! F32, F16 and BF16: one column after the other, the 32 rows of a tile side by side.

use super::formats::{Floats, short, word};
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
    fn pack(element: &[u8], unit: &mut [Line], r: usize, lane: usize) {
        unit[r].set_word(lane, word(element, 0));
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
    fn pack(element: &[u8], unit: &mut [Line], r: usize, lane: usize) {
        unit[0].set_short(r, lane, short(element, 0));
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
    fn pack(element: &[u8], unit: &mut [Line], r: usize, lane: usize) {
        unit[0].set_short(r, lane, short(element, 0));
    }
}
