//! The 4-bit types with a table of uneven steps: IQ4_NL, laid out as Q4_0, and IQ4_XS.
//!
//! An IQ4_XS unit: a line of `d` (group 0, group 1), a line of the upper bits of the sub-scales, two lines of their
//! lower nibbles; then for each 32 columns four nibble lines of group 0 and four of group 1.

use super::activations::WithStarts;
use super::formats::{By32, By256, Four, pack_words, shorts, words};
use super::legacy::nibble_line;
use super::line::Line;
use crate::lanes::{Integers, Lanes};
use glimmer_tensor::quant::iq4 as file;

pub(super) struct Iq4Nl;
pub(super) struct Iq4Xs;

/// The table's values, 128 higher.
const TABLE: [u8; 16] = {
    let mut table = [0; 16];
    let mut i = 0;
    while i < 16 {
        table[i] = file::VALUES[i].cast_unsigned() ^ 128;
        i += 1;
    }
    table
};

impl By32 for Iq4Nl {
    const UNIT: usize = 9;
    const INTEGERS: Integers = Integers::Full;
    const OFFSET: i32 = 128;

    #[inline(always)]
    fn integers<S: Lanes>(s: S, unit: &[Line], r: usize, i: usize) -> [S::I; 2] {
        table_line(s, &unit[1 + 4 * r + i])
    }
    #[inline(always)]
    fn scale<S: Lanes>(s: S, _head: &[Line], unit: &[Line], r: usize) -> S::F {
        unit[0].halves(s, r)
    }
    #[inline(always)]
    fn pack(blocks: Four<'_>, unit: &mut [Line], r: usize, four: usize) {
        unit[0].set_four_shorts(r, four, shorts(blocks, 0));
        pack_words(blocks, 2, unit, [1, 2, 3, 4].map(|i| 4 * r + i), four);
    }
}

impl By256 for Iq4Xs {
    const UNIT: usize = 68;
    const SUB: usize = 32;
    const INTEGERS: Integers = Integers::Full;
    const OFFSET: i32 = 128;
    type Columns<const N: usize> = WithStarts<N>;

    #[inline(always)]
    fn integers<S: Lanes>(s: S, unit: &[Line], r: usize, g: usize, i: usize) -> [S::I; 2] {
        table_line(s, &unit[4 + 8 * g + 4 * r + i])
    }
    #[inline(always)]
    fn d<S: Lanes>(s: S, unit: &[Line], r: usize) -> S::F {
        unit[0].halves(s, r)
    }
    #[inline(always)]
    fn scales<S: Lanes>(s: S, unit: &[Line], r: usize) -> [S::I; 4] {
        let zero = s.splat_i(0);
        [unit[1].shorts(s, r), unit[2 + r].words(s), zero, zero]
    }
    #[inline(always)]
    fn scale<S: Lanes>(s: S, scales: &[S::I; 4], sub: usize) -> S::I {
        let sub = sub as u32;
        let high = s.shl(s.and(s.shr(scales[0], 2 * sub), s.splat_i(3)), 4);
        let low = s.and(s.shr(scales[1], 4 * sub), s.splat_i(15));
        s.sub_i(s.or(high, low), s.splat_i(32))
    }
    #[inline(always)]
    fn pack(blocks: Four<'_>, unit: &mut [Line], r: usize, four: usize) {
        unit[0].set_four_shorts(r, four, shorts(blocks, 0));
        unit[1].set_four_shorts(r, four, shorts(blocks, 2));
        unit[2 + r].set_four_words(four, words(blocks, 4));
        for g in 0..8 {
            pack_words(blocks, 8 + 16 * g, unit, [4, 5, 6, 7].map(|i| 8 * g + 4 * r + i), four);
        }
    }
}

/// The quads of a nibble line, through the table.
#[inline(always)]
fn table_line<S: Lanes>(s: S, line: &Line) -> [S::I; 2] {
    nibble_line(s, line).map(|x| s.lookup(&TABLE, x))
}
