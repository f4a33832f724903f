//! The K-quants. A unit has the scales first, then the integers, 32 columns after the other, group 0 before group 1
//! in each.
//!
//! - Integers of 4 bits: line `i` of four has quad `i` low and quad `i + 4` high. Q5_K has a line of fifth bits before
//!   them: bit `q` of each byte belongs to quad `q`. Q6_K, by 16 columns: a line of upper bits, of which bits `2 q` belong
//!   to quad `q` of those four, and two nibble lines, quad `i` low and quad `i + 2` high.
//! - Integers of 2 bits: a line for 16 columns, bits `2 q` for quad `q` of those four. Q3_K has a line of third bits, as
//!   Q5_K its fifth.
//! - Scales of 6 bits: see [`pack_six_bits`] and [`six_bits`].

use super::activations::{WithPairs, WithStarts};
use super::formats::{By256, block, short, word};
use super::legacy::{five_bit_lines, nibble_line, pack_words};
use super::line::Line;
use crate::lanes::{Integers, Lanes};
use glimmer_tensor::quant::kquants as file;

pub(super) struct Q2K;
pub(super) struct Q3K;
pub(super) struct Q4K;
pub(super) struct Q5K;
pub(super) struct Q6K;

/// In which byte of a word the `k`th of four scales stands: the masks `0x00ff00ff` of the word and of its right shift
/// by 8 then give consecutive scales in the halves of a lane.
const PAIRED: [usize; 4] = [0, 2, 1, 3];

const ONES: u32 = 0x0101_0101;

impl By256 for Q4K {
    const UNIT: usize = 72;
    const SUB: usize = 32;
    const MIN: bool = true;
    const OFFSET: i32 = 0;
    type Columns<const N: usize> = WithPairs<N>;

    #[inline(always)]
    fn integers<S: Lanes>(s: S, unit: &[Line], r: usize, g: usize, i: usize) -> [S::I; 2] {
        nibble_line(s, &unit[8 + 8 * g + 4 * r + i])
    }
    #[inline(always)]
    fn d<S: Lanes>(s: S, unit: &[Line], r: usize) -> S::F {
        unit[0].halves(s, r)
    }
    #[inline(always)]
    fn dmin<S: Lanes>(s: S, unit: &[Line], r: usize) -> S::F {
        unit[1].halves(s, r)
    }
    #[inline(always)]
    fn scales<S: Lanes>(s: S, unit: &[Line], r: usize) -> [S::I; 4] {
        six_bits(s, &unit[2 + 3 * r..][..3])
    }
    #[inline(always)]
    fn scale<S: Lanes>(s: S, scales: &[S::I; 4], sub: usize) -> S::I {
        paired_scale(s, scales, sub)
    }
    #[inline(always)]
    fn minima<S: Lanes>(s: S, scales: &[S::I; 4], p: usize) -> S::I {
        minima_after_scales(s, scales, p)
    }
    #[inline(always)]
    fn pack(bytes: &[u8], unit: &mut [Line], r: usize, lane: usize) {
        let block = file::Q4K(block(bytes));
        unit[0].set_short(r, lane, short(bytes, 0));
        unit[1].set_short(r, lane, short(bytes, 2));
        pack_words(&mut unit[2 + 3 * r..][..3], lane, &bytes[4..16]);
        for (g, nibbles) in block.packed().chunks_exact(16).enumerate() {
            pack_words(&mut unit[8 + 8 * g + 4 * r..][..4], lane, nibbles);
        }
    }
    #[inline(always)]
    fn arrange(unit: &mut [Line], r: usize) {
        arrange_scale_min(&mut unit[2 + 3 * r..][..3]);
        for g in (0..8).step_by(2) {
            arrange_nibbles(unit, [8 + 8 * g + 4 * r, 8 + 8 * (g + 1) + 4 * r]);
        }
    }
}

impl By256 for Q5K {
    const UNIT: usize = 88;
    const SUB: usize = 32;
    const MIN: bool = true;
    const INTEGERS: Integers = Integers::Wide;
    const OFFSET: i32 = 0;
    type Columns<const N: usize> = WithPairs<N>;

    #[inline(always)]
    fn integers<S: Lanes>(s: S, unit: &[Line], r: usize, g: usize, i: usize) -> [S::I; 2] {
        let at = 8 + 10 * g + 5 * r;
        five_bit_lines(s, &unit[at], &unit[at + 1 + i], i)
    }
    #[inline(always)]
    fn d<S: Lanes>(s: S, unit: &[Line], r: usize) -> S::F {
        unit[0].halves(s, r)
    }
    #[inline(always)]
    fn dmin<S: Lanes>(s: S, unit: &[Line], r: usize) -> S::F {
        unit[1].halves(s, r)
    }
    #[inline(always)]
    fn scales<S: Lanes>(s: S, unit: &[Line], r: usize) -> [S::I; 4] {
        six_bits(s, &unit[2 + 3 * r..][..3])
    }
    #[inline(always)]
    fn scale<S: Lanes>(s: S, scales: &[S::I; 4], sub: usize) -> S::I {
        paired_scale(s, scales, sub)
    }
    #[inline(always)]
    fn minima<S: Lanes>(s: S, scales: &[S::I; 4], p: usize) -> S::I {
        minima_after_scales(s, scales, p)
    }
    #[inline(always)]
    fn pack(bytes: &[u8], unit: &mut [Line], r: usize, lane: usize) {
        let block = file::Q5K(block(bytes));
        unit[0].set_short(r, lane, short(bytes, 0));
        unit[1].set_short(r, lane, short(bytes, 2));
        pack_words(&mut unit[2 + 3 * r..][..3], lane, &bytes[4..16]);
        for (g, nibbles) in block.packed().chunks_exact(16).enumerate() {
            let lines = &mut unit[8 + 10 * g + 5 * r..][..5];
            lines[0].set_word(lane, word(block.high_bits(), g));
            pack_words(&mut lines[1..], lane, nibbles);
        }
    }
    #[inline(always)]
    fn arrange(unit: &mut [Line], r: usize) {
        arrange_scale_min(&mut unit[2 + 3 * r..][..3]);
        arrange_bits(unit, |g| 8 + 10 * g + 5 * r);
        for g in (0..8).step_by(2) {
            arrange_nibbles(unit, [9 + 10 * g + 5 * r, 9 + 10 * (g + 1) + 5 * r]);
        }
    }
}

impl By256 for Q6K {
    const UNIT: usize = 105;
    const SUB: usize = 16;
    const OFFSET: i32 = 32;
    type Columns<const N: usize> = WithStarts<N>;

    #[inline(always)]
    fn integers<S: Lanes>(s: S, unit: &[Line], r: usize, g: usize, i: usize) -> [S::I; 2] {
        let at = 9 + 12 * g + 6 * r + i / 2 * 3;
        let [low, high] = nibble_line(s, &unit[at + 1 + i % 2]);
        let upper = unit[at].words(s);
        let bits = s.bytes(48);
        if i.is_multiple_of(2) {
            [s.or(low, s.and(s.shl(upper, 4), bits)), s.or(high, s.and(upper, bits))]
        } else {
            [s.or(low, s.and(s.shl(upper, 2), bits)), s.or(high, s.and(s.shr(upper, 2), bits))]
        }
    }
    #[inline(always)]
    fn d<S: Lanes>(s: S, unit: &[Line], r: usize) -> S::F {
        unit[0].halves(s, r)
    }
    #[inline(always)]
    fn scales<S: Lanes>(s: S, unit: &[Line], r: usize) -> [S::I; 4] {
        let lines = &unit[1 + 4 * r..][..4];
        [lines[0].words(s), lines[1].words(s), lines[2].words(s), lines[3].words(s)]
    }
    #[inline(always)]
    fn scale<S: Lanes>(s: S, scales: &[S::I; 4], sub: usize) -> S::I {
        s.sar(s.shl(scales[sub / 4], 24 - 8 * (sub % 4) as u32), 24)
    }
    #[inline(always)]
    fn pack(bytes: &[u8], unit: &mut [Line], r: usize, lane: usize) {
        let block = file::Q6K(block(bytes));
        unit[0].set_short(r, lane, short(bytes, 208));
        pack_words(&mut unit[1 + 4 * r..][..4], lane, &bytes[192..208]);
        for g in 0..8 {
            for h in 0..2 {
                let lines = &mut unit[9 + 12 * g + 6 * r + 3 * h..][..3];
                lines[0].set_word(lane, word(block.high_bits(), 2 * g + h));
                pack_words(&mut lines[1..], lane, &block.packed()[16 * g + 8 * h..][..8]);
            }
        }
    }
    #[inline(always)]
    fn arrange(unit: &mut [Line], r: usize) {
        let at = |g: usize, h: usize| 9 + 12 * g + 6 * r + 3 * h;
        arrange_bit_pairs(unit, at);
        for half in [0, 4] {
            // The file's nibbles of a half: words 0..8 of columns 0..32 low and 64..96 high, words 8..16 of columns
            // 32..64 low and 96..128 high.
            let file: [Line; 16] = std::array::from_fn(|w| unit[at(half + w / 4, w / 2 % 2) + 1 + w % 2]);
            for k in 0..4 {
                for h in 0..2 {
                    for i in 0..2 {
                        let first = 8 * (k % 2) + 4 * h + i;
                        let line = Line::from_words([&file[first], &file[first + 2]], |[a, b]| {
                            if k < 2 { low_nibbles_of(a, b) } else { high_nibbles_of(a, b) }
                        });
                        unit[at(half + k, h) + 1 + i] = line;
                    }
                }
            }
        }
    }
}

impl By256 for Q3K {
    const UNIT: usize = 55;
    const SUB: usize = 16;
    const OFFSET: i32 = 4;
    type Columns<const N: usize> = WithStarts<N>;

    #[inline(always)]
    fn integers<S: Lanes>(s: S, unit: &[Line], r: usize, g: usize, i: usize) -> [S::I; 2] {
        let at = 7 + 6 * g + 3 * r;
        let low = two_bit_line(s, &unit[at + 1 + i / 2], i);
        let third = unit[at].words(s);
        let bit = s.bytes(4);
        let first = i % 2 + i / 2 * 4;
        let to_place = |q: usize| match q {
            0 | 1 => s.shl(third, 2 - q as u32),
            _ => s.shr(third, q as u32 - 2),
        };
        [s.or(low[0], s.and(to_place(first), bit)), s.or(low[1], s.and(to_place(first + 2), bit))]
    }
    #[inline(always)]
    fn d<S: Lanes>(s: S, unit: &[Line], r: usize) -> S::F {
        unit[0].halves(s, r)
    }
    #[inline(always)]
    fn scales<S: Lanes>(s: S, unit: &[Line], r: usize) -> [S::I; 4] {
        six_bits(s, &unit[1 + 3 * r..][..3])
    }
    #[inline(always)]
    fn scale<S: Lanes>(s: S, scales: &[S::I; 4], sub: usize) -> S::I {
        s.sub_i(paired_scale(s, scales, sub), s.splat_i(32))
    }
    #[inline(always)]
    fn pack(bytes: &[u8], unit: &mut [Line], r: usize, lane: usize) {
        let block = file::Q3K(block(bytes));
        unit[0].set_short(r, lane, short(bytes, 108));
        let scales = std::array::from_fn(|s| (block.scale(s) + 32).cast_unsigned());
        pack_six_bits(scales, &mut unit[1 + 3 * r..][..3], lane);
        for g in 0..8 {
            let lines = &mut unit[7 + 6 * g + 3 * r..][..3];
            lines[0].set_word(lane, word(block.high_bits(), g));
            pack_words(&mut lines[1..], lane, &block.packed()[8 * g..][..8]);
        }
    }
    #[inline(always)]
    fn arrange(unit: &mut [Line], r: usize) {
        arrange_bits(unit, |g| 7 + 6 * g + 3 * r);
        arrange_bit_pairs(unit, |g, h| 8 + 6 * g + 3 * r + h);
    }
}

impl By256 for Q2K {
    const UNIT: usize = 42;
    const SUB: usize = 16;
    const MIN: bool = true;
    const OFFSET: i32 = 0;
    type Columns<const N: usize> = WithPairs<N>;

    #[inline(always)]
    fn integers<S: Lanes>(s: S, unit: &[Line], r: usize, g: usize, i: usize) -> [S::I; 2] {
        two_bit_line(s, &unit[10 + 4 * g + 2 * r + i / 2], i)
    }
    #[inline(always)]
    fn d<S: Lanes>(s: S, unit: &[Line], r: usize) -> S::F {
        unit[0].halves(s, r)
    }
    #[inline(always)]
    fn dmin<S: Lanes>(s: S, unit: &[Line], r: usize) -> S::F {
        unit[1].halves(s, r)
    }
    #[inline(always)]
    fn scales<S: Lanes>(s: S, unit: &[Line], r: usize) -> [S::I; 4] {
        let lines = &unit[2 + 4 * r..][..4];
        [lines[0].words(s), lines[1].words(s), lines[2].words(s), lines[3].words(s)]
    }
    #[inline(always)]
    fn scale<S: Lanes>(s: S, scales: &[S::I; 4], sub: usize) -> S::I {
        s.and(s.shr(scales[sub / 4], 8 * PAIRED[sub % 4] as u32), s.splat_i(15))
    }
    #[inline(always)]
    fn minima<S: Lanes>(s: S, scales: &[S::I; 4], p: usize) -> S::I {
        s.and(s.shr(scales[p / 2], 4 + 8 * (p % 2) as u32), s.splat_i(0x000f_000f))
    }
    #[inline(always)]
    fn pack(bytes: &[u8], unit: &mut [Line], r: usize, lane: usize) {
        let block = file::Q2K(block(bytes));
        unit[0].set_short(r, lane, short(bytes, 80));
        unit[1].set_short(r, lane, short(bytes, 82));
        for (sub, &scale_min) in bytes[..16].iter().enumerate() {
            unit[2 + 4 * r + sub / 4].0[4 * lane + PAIRED[sub % 4]] = scale_min;
        }
        for g in 0..8 {
            pack_words(&mut unit[10 + 4 * g + 2 * r..][..2], lane, &block.packed()[8 * g..][..8]);
        }
    }
    #[inline(always)]
    fn arrange(unit: &mut [Line], r: usize) {
        arrange_bit_pairs(unit, |g, h| 10 + 4 * g + 2 * r + h);
    }
}

/// The quads `i % 2` and `i % 2 + 2` of a line of 2-bit integers.
#[inline(always)]
fn two_bit_line<S: Lanes>(s: S, line: &Line, i: usize) -> [S::I; 2] {
    let x = line.words(s);
    let bits = s.bytes(3);
    let shift = 2 * (i % 2) as u32;
    [s.and(s.shr(x, shift), bits), s.and(s.shr(x, shift + 4), bits)]
}

/// Spreads sixteen 6-bit numbers over three words: the first twelve in the low six bits of the bytes, four to a word
/// in the order of [`PAIRED`]; two bits of each of the last four in the top of each word's bytes.
#[inline(always)]
fn pack_six_bits(numbers: [u8; 16], lines: &mut [Line], lane: usize) {
    for (w, line) in lines.iter_mut().enumerate() {
        for (k, &byte) in PAIRED.iter().enumerate() {
            line.0[4 * lane + byte] = numbers[4 * w + k] | (numbers[12 + k] >> (2 * w) & 3) << 6;
        }
    }
}

/// Undoes [`pack_six_bits`]: four words of four numbers.
#[inline(always)]
fn six_bits<S: Lanes>(s: S, lines: &[Line]) -> [S::I; 4] {
    let [a, b, c] = [lines[0].words(s), lines[1].words(s), lines[2].words(s)];
    let low = s.bytes(63);
    let last = s.or(
        s.or(s.and(s.shr(a, 6), s.bytes(3)), s.and(s.shr(b, 4), s.bytes(12))),
        s.and(s.shr(c, 2), s.bytes(48)),
    );
    [s.and(a, low), s.and(b, low), s.and(c, low), last]
}

/// The number `sub` of four words of four.
#[inline(always)]
fn paired_scale<S: Lanes>(s: S, scales: &[S::I; 4], sub: usize) -> S::I {
    s.and(s.shr(scales[sub / 4], 8 * PAIRED[sub % 4] as u32), s.splat_i(255))
}

/// The numbers `8 + 2 p` and `8 + 2 p + 1` of four words of four.
#[inline(always)]
fn minima_after_scales<S: Lanes>(s: S, scales: &[S::I; 4], p: usize) -> S::I {
    s.and(s.shr(scales[2 + p / 2], 8 * (p % 2) as u32), s.splat_i(0x00ff_00ff))
}

/// Turns the file's three words of scales and minima of Q4_K and Q5_K (`get_scale_min_k4` of ggml) into the eight
/// scales and then the eight minima, as [`pack_six_bits`] spreads them.
#[inline(always)]
fn arrange_scale_min(lines: &mut [Line]) {
    let file = [lines[0], lines[1], lines[2]];
    for (w, line) in lines.iter_mut().enumerate() {
        *line = Line::from_words([&file[0], &file[1], &file[2]], |[a, b, c]| {
            let scales = [a & (63 * ONES), c & (15 * ONES) | (a >> 6 & (3 * ONES)) << 4];
            let minima = [b & (63 * ONES), c >> 4 & (15 * ONES) | (b >> 6 & (3 * ONES)) << 4];
            let first = [scales[0], scales[1], minima[0]][w];
            let x = first | (minima[1] >> (2 * w) & (3 * ONES)) << 6;
            // The order of `PAIRED`.
            x & 0xff00_00ff | (x & 0xff00) << 8 | x >> 8 & 0xff00
        });
    }
}

/// Turns the file's eight words of nibbles of columns `32 g..` (low, `g` even) and `32 (g + 1)..` (high) into four
/// nibble lines for each, at `at`.
#[inline(always)]
fn arrange_nibbles(unit: &mut [Line], at: [usize; 2]) {
    for i in 0..4 {
        let file = [&unit[at[0] + i], &unit[at[1] + i]];
        let low = Line::from_words(file, |[a, b]| low_nibbles_of(a, b));
        let high = Line::from_words(file, |[a, b]| high_nibbles_of(a, b));
        (unit[at[0] + i], unit[at[1] + i]) = (low, high);
    }
}

/// The low nibbles of the bytes of `a`, and above them those of `b`.
#[inline(always)]
fn low_nibbles_of(a: u32, b: u32) -> u32 {
    a & (15 * ONES) | (b & (15 * ONES)) << 4
}

/// The high nibbles of the bytes of `a`, and above them those of `b`.
#[inline(always)]
fn high_nibbles_of(a: u32, b: u32) -> u32 {
    a >> 4 & (15 * ONES) | b & (240 * ONES)
}

/// Turns the file's eight words of single bits, at `at(0..8)`, into a line for each 32 columns: bit `q` of byte `b` is
/// the file's bit of column `32 g + 4 q + b`, which is bit `g` of byte `4 q + b`.
#[inline(always)]
fn arrange_bits(unit: &mut [Line], at: impl Fn(usize) -> usize) {
    let file: [Line; 8] = std::array::from_fn(|q| unit[at(q)]);
    for g in 0..8 {
        unit[at(g)] = Line::from_words(file.each_ref(), |bits| {
            (0..8).fold(0, |out, q| out | (bits[q] >> g & ONES) << q)
        });
    }
}

/// Turns the file's sixteen words of pairs of bits, at `at(g, h)` in their order, into a line for each 16 columns: bits
/// `2 q` of byte `b` are the file's pair of column `32 g + 16 h + 4 q + b`.
#[inline(always)]
fn arrange_bit_pairs(unit: &mut [Line], at: impl Fn(usize, usize) -> usize) {
    let file: [Line; 16] = std::array::from_fn(|w| unit[at(w / 2, w % 2)]);
    for g in 0..8 {
        for h in 0..2 {
            let quads = std::array::from_fn(|q| &file[8 * (g / 4) + 4 * h + q]);
            unit[at(g, h)] = Line::from_words::<4>(quads, |pairs| {
                (0..4).fold(0, |out, q| out | (pairs[q] >> (2 * (g % 4)) & (3 * ONES)) << (2 * q))
            });
        }
    }
}
