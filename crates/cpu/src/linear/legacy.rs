//! The blocks of 32: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0. Where the file has their fields, [`glimmer_tensor::quant::legacy`] says.
//!
//! A unit begins with a line of scales (group 0, group 1) and, where there are minima, a line of those; then the
//! lines of group 0 and those of group 1. A nibble line `i` has quad `i` in the low and quad `i + 4` in the high
//! nibbles, as the file has them; in the line of fifth bits, before the nibbles, bit `q` of each byte belongs to quad `q`.

use super::formats::{By32, Four, high_nibbles, low_nibbles, pack_words, shorts, words};
use super::line::Line;
use crate::lanes::{Integers, Lanes};

pub(super) struct Q4_0;
pub(super) struct Q4_1;
pub(super) struct Q5_0;
pub(super) struct Q5_1;
pub(super) struct Q8_0;

impl By32 for Q4_0 {
    const UNIT: usize = 9;
    const OFFSET: i32 = 8;

    #[inline(always)]
    fn integers<S: Lanes>(s: S, unit: &[Line], r: usize, i: usize) -> [S::I; 2] {
        nibble_line(s, &unit[1 + 4 * r + i])
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

impl By32 for Q4_1 {
    const UNIT: usize = 10;
    const MIN: bool = true;
    const OFFSET: i32 = 0;

    #[inline(always)]
    fn integers<S: Lanes>(s: S, unit: &[Line], r: usize, i: usize) -> [S::I; 2] {
        nibble_line(s, &unit[2 + 4 * r + i])
    }
    #[inline(always)]
    fn scale<S: Lanes>(s: S, _head: &[Line], unit: &[Line], r: usize) -> S::F {
        unit[0].halves(s, r)
    }
    #[inline(always)]
    fn minimum<S: Lanes>(s: S, unit: &[Line], r: usize) -> S::F {
        unit[1].halves(s, r)
    }
    #[inline(always)]
    fn pack(blocks: Four<'_>, unit: &mut [Line], r: usize, four: usize) {
        unit[0].set_four_shorts(r, four, shorts(blocks, 0));
        unit[1].set_four_shorts(r, four, shorts(blocks, 2));
        pack_words(blocks, 4, unit, [2, 3, 4, 5].map(|i| 4 * r + i), four);
    }
}

impl By32 for Q5_0 {
    const UNIT: usize = 11;
    const OFFSET: i32 = 16;

    #[inline(always)]
    fn integers<S: Lanes>(s: S, unit: &[Line], r: usize, i: usize) -> [S::I; 2] {
        five_bit_lines(s, &unit[1 + 5 * r], &unit[2 + 5 * r + i], i)
    }
    #[inline(always)]
    fn scale<S: Lanes>(s: S, _head: &[Line], unit: &[Line], r: usize) -> S::F {
        unit[0].halves(s, r)
    }
    #[inline(always)]
    fn pack(blocks: Four<'_>, unit: &mut [Line], r: usize, four: usize) {
        unit[0].set_four_shorts(r, four, shorts(blocks, 0));
        unit[1 + 5 * r].set_four_words(four, words(blocks, 2));
        pack_words(blocks, 6, unit, [2, 3, 4, 5].map(|i| 5 * r + i), four);
    }
    #[inline(always)]
    fn arrange<S: Lanes>(s: S, unit: &mut [Line], r: usize) {
        let bits = &mut unit[1 + 5 * r];
        bits.set_words(s, by_quad(s, bits.words(s)));
    }
}

impl By32 for Q5_1 {
    const UNIT: usize = 12;
    const INTEGERS: Integers = Integers::Wide;
    const MIN: bool = true;
    const OFFSET: i32 = 0;

    #[inline(always)]
    fn integers<S: Lanes>(s: S, unit: &[Line], r: usize, i: usize) -> [S::I; 2] {
        five_bit_lines(s, &unit[2 + 5 * r], &unit[3 + 5 * r + i], i)
    }
    #[inline(always)]
    fn scale<S: Lanes>(s: S, _head: &[Line], unit: &[Line], r: usize) -> S::F {
        unit[0].halves(s, r)
    }
    #[inline(always)]
    fn minimum<S: Lanes>(s: S, unit: &[Line], r: usize) -> S::F {
        unit[1].halves(s, r)
    }
    #[inline(always)]
    fn pack(blocks: Four<'_>, unit: &mut [Line], r: usize, four: usize) {
        unit[0].set_four_shorts(r, four, shorts(blocks, 0));
        unit[1].set_four_shorts(r, four, shorts(blocks, 2));
        unit[2 + 5 * r].set_four_words(four, words(blocks, 4));
        pack_words(blocks, 8, unit, [3, 4, 5, 6].map(|i| 5 * r + i), four);
    }
    #[inline(always)]
    fn arrange<S: Lanes>(s: S, unit: &mut [Line], r: usize) {
        let bits = &mut unit[2 + 5 * r];
        bits.set_words(s, by_quad(s, bits.words(s)));
    }
}

impl By32 for Q8_0 {
    const UNIT: usize = 17;
    const INTEGERS: Integers = Integers::Full;
    const OFFSET: i32 = 128;

    #[inline(always)]
    fn integers<S: Lanes>(s: S, unit: &[Line], r: usize, i: usize) -> [S::I; 2] {
        [unit[1 + 8 * r + i].words(s), unit[5 + 8 * r + i].words(s)]
    }
    #[inline(always)]
    fn scale<S: Lanes>(s: S, _head: &[Line], unit: &[Line], r: usize) -> S::F {
        unit[0].halves(s, r)
    }
    #[inline(always)]
    fn pack(blocks: Four<'_>, unit: &mut [Line], r: usize, four: usize) {
        unit[0].set_four_shorts(r, four, shorts(blocks, 0));
        for first in [0, 4] {
            pack_words(blocks, 2 + 4 * first, unit, [1, 2, 3, 4].map(|i| 8 * r + first + i), four);
        }
    }
    #[inline(always)]
    fn arrange<S: Lanes>(s: S, unit: &mut [Line], r: usize) {
        above_zero(s, &mut unit[1 + 8 * r..][..8]);
    }
}

/// The quads of a nibble line.
#[inline(always)]
pub(super) fn nibble_line<S: Lanes>(s: S, line: &Line) -> [S::I; 2] {
    let x = line.words(s);
    [low_nibbles(s, x), high_nibbles(s, x)]
}

/// The quads `i` and `i + 4` of a nibble line with the line of their fifth bits.
#[inline(always)]
pub(super) fn five_bit_lines<S: Lanes>(s: S, fifth: &Line, nibbles: &Line, i: usize) -> [S::I; 2] {
    let [low, high] = nibble_line(s, nibbles);
    let fifth = fifth.words(s);
    let bit = s.bytes(16);
    [s.or(low, s.and(s.shl(fifth, 4 - i as u32), bit)), s.or(high, s.and(s.shr(fifth, i as u32), bit))]
}

/// Makes of bytes in two's complement what is 128 more than they stand for.
#[inline(always)]
pub(super) fn above_zero<S: Lanes>(s: S, lines: &mut [Line]) {
    for line in lines {
        line.set_words(s, s.xor(line.words(s), s.bytes(128)));
    }
}

/// Moves the bit of element `4 q + b` to bit `q` of byte `b`.
#[inline(always)]
fn by_quad<S: Lanes>(s: S, bits: S::I) -> S::I {
    let mut out = s.splat_i(0);
    for b in 0..4 {
        // Every fourth bit, pushed together.
        let x = s.and(s.shr(bits, b), s.splat_i(0x1111_1111));
        let x = s.and(s.or(x, s.shr(x, 3)), s.splat_i(0x0303_0303));
        let x = s.and(s.or(x, s.shr(x, 6)), s.splat_i(0x000f_000f));
        let x = s.and(s.or(x, s.shr(x, 12)), s.splat_i(0xff));
        out = s.or(out, s.shl(x, 8 * b));
    }
    out
}
