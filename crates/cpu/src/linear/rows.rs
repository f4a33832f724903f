//! ChatGLM's INT8 and INT4, whose only scale is the row's.
//!
//! The tile's head is one line of scales (group 0, group 1). A unit has the lines of group 0 and then those of group
//! 1: for INT8 a line for each quad; for INT4 four lines, quad `2 i` in the low and quad `2 i + 1` in the high nibbles.
//! The columns after the last whole unit have lines for the quads that are there, so that any width is stored without
//! waste.

use super::formats::{By32, high_nibbles, low_nibbles};
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
    fn pack(bytes: &[u8], unit: &mut [Line], r: usize, lane: usize) {
        let lines = bytes.len().div_ceil(4);
        for (line, quad) in unit[lines * r..].iter_mut().zip(bytes.chunks(4)) {
            // Two's complement becomes 128 more than the integer.
            line.set_word(lane, padded_word(quad) ^ 0x8080_8080);
        }
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
    fn pack(bytes: &[u8], unit: &mut [Line], r: usize, lane: usize) {
        let lines = bytes.len().div_ceil(4);
        for (line, eight) in unit[lines * r..].iter_mut().zip(bytes.chunks(4)) {
            // Two's complement becomes 8 more than the integer. Even columns stand high, odd ones low.
            let x = padded_word(eight) ^ 0x8888_8888;
            let (even, odd) = (x >> 4 & 0x0f0f_0f0f, x & 0x0f0f_0f0f);
            // Bytes 0 to 3 of the first quad are columns 0 to 3, which are the first two of `even` and of `odd`.
            let quad = |shift: u32| {
                let (e, o) = (even >> shift & 0xffff, odd >> shift & 0xffff);
                (e & 0xff) | (o & 0xff) << 8 | (e >> 8) << 16 | (o >> 8) << 24
            };
            line.set_word(lane, quad(0) | quad(16) << 4);
        }
    }
}

/// At most four bytes as a little-endian word.
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
