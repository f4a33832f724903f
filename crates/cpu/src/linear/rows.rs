//! ChatGLM's INT8 and INT4, whose only scale is the row's.
//!
//! The tile's head is one line of scales (group 0, group 1). A unit has the lines of group 0 and then those of group
//! 1: for INT8 a line for each quad; for INT4 four lines, quad `2 i` in the low and quad `2 i + 1` in the high nibbles.
//! The columns after the last whole unit have lines for the quads that are there, so that any width is stored without
//! waste.

use super::formats::{By32, Four, high_nibbles, low_nibbles, pack_words};
use super::legacy::above_zero;
use super::line::Line;
use crate::lanes::{Integers, Lanes};

pub(super) struct RowI8;
pub(super) struct RowI4;

impl By32 for RowI8 {
    const HEAD: usize = 1;
    const UNIT: usize = 16;
    const INTEGERS: Integers = Integers::Full;
    const OFFSET: i32 = 128;

    fn tail_lines(columns: usize) -> usize {
        2 * columns.div_ceil(4)
    }
    fn tail(lines: &[Line], columns: usize) -> [Line; 16] {
        whole_unit::<8>(lines, columns.div_ceil(4))
    }
    #[inline(always)]
    fn integers<S: Lanes>(s: S, unit: &[Line], r: usize, i: usize) -> [S::I; 2] {
        [unit[8 * r + i].words(s), unit[8 * r + i + 4].words(s)]
    }
    #[inline(always)]
    fn scale<S: Lanes>(s: S, head: &[Line], _unit: &[Line], r: usize) -> S::F {
        head[0].halves(s, r)
    }
    #[inline(always)]
    fn pack_scale(scale: [u8; 2], head: &mut [Line], r: usize, lane: usize) {
        head[0].set_short(r, lane, scale);
    }
    #[inline(always)]
    fn pack(blocks: Four<'_>, unit: &mut [Line], r: usize, four: usize) {
        pack_padded(blocks, group(unit, r), four);
    }
    #[inline(always)]
    fn arrange<S: Lanes>(s: S, unit: &mut [Line], r: usize) {
        above_zero(s, group(unit, r));
    }
}

impl By32 for RowI4 {
    const HEAD: usize = 1;
    const UNIT: usize = 8;
    const OFFSET: i32 = 8;

    fn tail_lines(columns: usize) -> usize {
        2 * columns.div_ceil(8)
    }
    fn tail(lines: &[Line], columns: usize) -> [Line; 16] {
        whole_unit::<4>(lines, columns.div_ceil(8))
    }
    #[inline(always)]
    fn quads(i: usize) -> [usize; 2] {
        [2 * i, 2 * i + 1]
    }
    #[inline(always)]
    fn integers<S: Lanes>(s: S, unit: &[Line], r: usize, i: usize) -> [S::I; 2] {
        let x = unit[4 * r + i].words(s);
        [low_nibbles(s, x), high_nibbles(s, x)]
    }
    #[inline(always)]
    fn scale<S: Lanes>(s: S, head: &[Line], _unit: &[Line], r: usize) -> S::F {
        head[0].halves(s, r)
    }
    #[inline(always)]
    fn pack_scale(scale: [u8; 2], head: &mut [Line], r: usize, lane: usize) {
        head[0].set_short(r, lane, scale);
    }
    #[inline(always)]
    fn pack(blocks: Four<'_>, unit: &mut [Line], r: usize, four: usize) {
        pack_padded(blocks, group(unit, r), four);
    }
    #[inline(always)]
    fn arrange<S: Lanes>(s: S, unit: &mut [Line], r: usize) {
        for line in group(unit, r) {
            // Two's complement becomes 8 more than the integer. Even columns stand high, odd ones low.
            let x = s.xor(line.words(s), s.bytes(0x88));
            let (even, odd) = (high_nibbles(s, x), low_nibbles(s, x));
            let last = first_quad(s, s.shr(even, 16), s.shr(odd, 16));
            line.set_words(s, s.or(first_quad(s, even, odd), s.shl(last, 4)));
        }
    }
}

/// Columns 0 to 3, which are the first two bytes of `even` and of `odd`.
#[inline(always)]
fn first_quad<S: Lanes>(s: S, even: S::I, odd: S::I) -> S::I {
    let (low, high) = (s.splat_i(0xff), s.splat_i(0xff00));
    let first = s.or(s.and(even, low), s.shl(s.and(odd, low), 8));
    s.or(first, s.or(s.shl(s.and(even, high), 8), s.shl(s.and(odd, high), 16)))
}

/// The lines of group `r` of a unit, which may be the tail of a row.
#[inline(always)]
fn group(unit: &mut [Line], r: usize) -> &mut [Line] {
    let lines = unit.len() / 2;
    &mut unit[lines * r..][..lines]
}

/// Puts word `i` of four rows into line `i`; the last word of a row may be cut short.
#[inline(always)]
fn pack_padded(rows: Four<'_>, lines: &mut [Line], four: usize) {
    let whole = lines.len() / 4 * (rows[0].len() / (4 * lines.len()));
    for i in 0..whole {
        pack_words(rows, 16 * i, lines, [0, 1, 2, 3].map(|k| 4 * i + k), four);
    }
    for (i, line) in lines.iter_mut().enumerate().skip(4 * whole) {
        line.set_four_words(four, rows.map(|bytes| padded_word(&bytes[4 * i..])));
    }
}

/// The first four bytes, or all there are, as a little-endian word.
#[inline(always)]
fn padded_word(bytes: &[u8]) -> u32 {
    match bytes.first_chunk() {
        Some(word) => u32::from_le_bytes(*word),
        None => bytes.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte)),
    }
}

/// Moves the `present` lines of each group to where a unit with `LINES` lines a group has them.
fn whole_unit<const LINES: usize>(lines: &[Line], present: usize) -> [Line; 16] {
    let mut unit = [Line::ZERO; 16];
    for r in 0..2 {
        unit[LINES * r..][..present].copy_from_slice(&lines[present * r..][..present]);
    }
    unit
}
