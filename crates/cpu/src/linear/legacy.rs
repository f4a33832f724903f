//! The blocks of 32: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0.
//!
//! A unit begins with a line of scales (group 0, group 1) and, where there are minima, a line of those; then the
//! lines of group 0 and those of group 1. A nibble line `i` has quad `i` in the low and quad `i + 4` in the high
//! nibbles, as the file has them; in the line of fifth bits, before the nibbles, bit `q` of each byte belongs to quad `q`.

use super::formats::{By32, block, high_nibbles, low_nibbles, short, word};
use super::line::Line;
use crate::lanes::{Integers, Lanes};
use glimmer_tensor::quant::legacy as file;

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
    fn pack(bytes: &[u8], unit: &mut [Line], r: usize, lane: usize) {
        let block = file::Q4_0(block(bytes));
        unit[0].set_short(r, lane, short(bytes, 0));
        pack_words(&mut unit[1 + 4 * r..][..4], lane, block.packed());
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
    fn pack(bytes: &[u8], unit: &mut [Line], r: usize, lane: usize) {
        let block = file::Q4_1(block(bytes));
        unit[0].set_short(r, lane, short(bytes, 0));
        unit[1].set_short(r, lane, short(bytes, 2));
        pack_words(&mut unit[2 + 4 * r..][..4], lane, block.packed());
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
    fn pack(bytes: &[u8], unit: &mut [Line], r: usize, lane: usize) {
        let block = file::Q5_0(block(bytes));
        unit[0].set_short(r, lane, short(bytes, 0));
        unit[1 + 5 * r].set_word(lane, block.high_bits());
        pack_words(&mut unit[2 + 5 * r..][..4], lane, block.packed());
    }
    #[inline(always)]
    fn arrange(unit: &mut [Line], r: usize) {
        let bits = &mut unit[1 + 5 * r];
        *bits = Line::from_words([bits], |[bits]| by_quad(bits));
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
    fn pack(bytes: &[u8], unit: &mut [Line], r: usize, lane: usize) {
        let block = file::Q5_1(block(bytes));
        unit[0].set_short(r, lane, short(bytes, 0));
        unit[1].set_short(r, lane, short(bytes, 2));
        unit[2 + 5 * r].set_word(lane, block.high_bits());
        pack_words(&mut unit[3 + 5 * r..][..4], lane, block.packed());
    }
    #[inline(always)]
    fn arrange(unit: &mut [Line], r: usize) {
        let bits = &mut unit[2 + 5 * r];
        *bits = Line::from_words([bits], |[bits]| by_quad(bits));
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
    fn pack(bytes: &[u8], unit: &mut [Line], r: usize, lane: usize) {
        let block = file::Q8_0(block(bytes));
        unit[0].set_short(r, lane, short(bytes, 0));
        // Two's complement becomes 128 more than the integer.
        let packed = block.packed().map(|b| b ^ 128);
        pack_words(&mut unit[1 + 8 * r..][..8], lane, &packed);
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

/// Puts word `i` of a row into line `i`.
#[inline(always)]
pub(super) fn pack_words(lines: &mut [Line], lane: usize, bytes: &[u8]) {
    for (i, line) in lines.iter_mut().enumerate() {
        line.set_word(lane, word(bytes, i));
    }
}

/// Moves the bit of element `4 q + b` to bit `q` of byte `b`.
#[inline(always)]
fn by_quad(bits: u32) -> u32 {
    let mut out = 0;
    for b in 0..4 {
        // Every fourth bit, pushed together.
        let x = bits >> b & 0x1111_1111;
        let x = (x | x >> 3) & 0x0303_0303;
        let x = (x | x >> 6) & 0x000f_000f;
        out |= ((x | x >> 12) & 0xff) << (8 * b);
    }
    out
}
