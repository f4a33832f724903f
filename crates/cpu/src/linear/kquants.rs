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
use super::formats::{By256, Four, block, columns, pack_words, shorts};
use super::legacy::{five_bit_lines, nibble_line};
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
    fn pack(blocks: Four<'_>, unit: &mut [Line], r: usize, four: usize) {
        unit[0].set_four_shorts(r, four, shorts(blocks, 0));
        unit[1].set_four_shorts(r, four, shorts(blocks, 2));
        pack_scales(blocks, &mut unit[2 + 3 * r..][..3], four);
        for g in 0..8 {
            let first = 8 + 8 * g + 4 * r;
            pack_words(blocks, 16 + 16 * g, unit, [0, 1, 2, 3].map(|i| first + i), four);
        }
    }
    #[inline(always)]
    fn arrange<S: Lanes>(s: S, unit: &mut [Line], r: usize) {
        arrange_scale_min(s, &mut unit[2 + 3 * r..][..3]);
        for g in (0..8).step_by(2) {
            arrange_nibbles(s, unit, [8 + 8 * g + 4 * r, 8 + 8 * (g + 1) + 4 * r]);
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
    fn pack(blocks: Four<'_>, unit: &mut [Line], r: usize, four: usize) {
        unit[0].set_four_shorts(r, four, shorts(blocks, 0));
        unit[1].set_four_shorts(r, four, shorts(blocks, 2));
        pack_scales(blocks, &mut unit[2 + 3 * r..][..3], four);
        let at = |g: usize| 8 + 10 * g + 5 * r;
        for g in [0, 4] {
            pack_words(blocks, 16 + 4 * g, unit, [0, 1, 2, 3].map(|k| at(g + k)), four);
        }
        for g in 0..8 {
            pack_words(blocks, 48 + 16 * g, unit, [1, 2, 3, 4].map(|i| at(g) + i), four);
        }
    }
    #[inline(always)]
    fn arrange<S: Lanes>(s: S, unit: &mut [Line], r: usize) {
        arrange_scale_min(s, &mut unit[2 + 3 * r..][..3]);
        arrange_bits(s, unit, |g| 8 + 10 * g + 5 * r);
        for g in (0..8).step_by(2) {
            arrange_nibbles(s, unit, [9 + 10 * g + 5 * r, 9 + 10 * (g + 1) + 5 * r]);
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
    fn pack(blocks: Four<'_>, unit: &mut [Line], r: usize, four: usize) {
        unit[0].set_four_shorts(r, four, shorts(blocks, 208));
        pack_words(blocks, 192, unit, [1, 2, 3, 4].map(|i| 4 * r + i), four);
        let at = |g: usize, h: usize| 9 + 12 * g + 6 * r + 3 * h;
        for g in (0..8).step_by(2) {
            let upper = [at(g, 0), at(g, 1), at(g + 1, 0), at(g + 1, 1)];
            pack_words(blocks, 128 + 8 * g, unit, upper, four);
        }
        for g in 0..8 {
            let nibbles = [at(g, 0) + 1, at(g, 0) + 2, at(g, 1) + 1, at(g, 1) + 2];
            pack_words(blocks, 16 * g, unit, nibbles, four);
        }
    }
    #[inline(always)]
    fn arrange<S: Lanes>(s: S, unit: &mut [Line], r: usize) {
        let at = |g: usize, h: usize| 9 + 12 * g + 6 * r + 3 * h;
        arrange_bit_pairs(s, unit, at);
        for half in [0, 4] {
            // The file's nibbles of a half: words 0..8 of columns 0..32 low and 64..96 high, words 8..16 of columns
            // 32..64 low and 96..128 high.
            let file: [Line; 16] = std::array::from_fn(|w| unit[at(half + w / 4, w / 2 % 2) + 1 + w % 2]);
            for k in 0..4 {
                for h in 0..2 {
                    for i in 0..2 {
                        let first = 8 * (k % 2) + 4 * h + i;
                        let [a, b] = [file[first].words(s), file[first + 2].words(s)];
                        let both = if k < 2 { low_nibbles_of(s, a, b) } else { high_nibbles_of(s, a, b) };
                        unit[at(half + k, h) + 1 + i].set_words(s, both);
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
    fn pack(blocks: Four<'_>, unit: &mut [Line], r: usize, four: usize) {
        unit[0].set_four_shorts(r, four, shorts(blocks, 108));
        for (lane, bytes) in (4 * four..).zip(blocks) {
            let block = file::Q3K(block(bytes));
            let scales = std::array::from_fn(|s| (block.scale(s) + 32).cast_unsigned());
            pack_six_bits(scales, &mut unit[1 + 3 * r..][..3], lane);
        }
        let at = |g: usize| 7 + 6 * g + 3 * r;
        for g in [0, 4] {
            pack_words(blocks, 4 * g, unit, [0, 1, 2, 3].map(|k| at(g + k)), four);
        }
        for g in (0..8).step_by(2) {
            let pairs = [at(g) + 1, at(g) + 2, at(g + 1) + 1, at(g + 1) + 2];
            pack_words(blocks, 32 + 8 * g, unit, pairs, four);
        }
    }
    #[inline(always)]
    fn arrange<S: Lanes>(s: S, unit: &mut [Line], r: usize) {
        arrange_bits(s, unit, |g| 7 + 6 * g + 3 * r);
        arrange_bit_pairs(s, unit, |g, h| 8 + 6 * g + 3 * r + h);
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
    fn pack(blocks: Four<'_>, unit: &mut [Line], r: usize, four: usize) {
        unit[0].set_four_shorts(r, four, shorts(blocks, 80));
        unit[1].set_four_shorts(r, four, shorts(blocks, 82));
        pack_words(blocks, 0, unit, [2, 3, 4, 5].map(|line| 4 * r + line), four);
        let at = |g: usize| 10 + 4 * g + 2 * r;
        for g in (0..8).step_by(2) {
            pack_words(blocks, 16 + 8 * g, unit, [at(g), at(g) + 1, at(g + 1), at(g + 1) + 1], four);
        }
    }
    #[inline(always)]
    fn arrange<S: Lanes>(s: S, unit: &mut [Line], r: usize) {
        for line in &mut unit[2 + 4 * r..][..4] {
            line.set_words(s, paired(s, line.words(s)));
        }
        arrange_bit_pairs(s, unit, |g, h| 10 + 4 * g + 2 * r + h);
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

/// Four bytes in the order of [`PAIRED`].
#[inline(always)]
fn paired<S: Lanes>(s: S, x: S::I) -> S::I {
    let outer = s.and(x, s.splat_i(0xff00_00ff_u32.cast_signed()));
    let inner = s.or(s.shl(s.and(x, s.splat_i(0xff00)), 8), s.and(s.shr(x, 8), s.splat_i(0xff00)));
    s.or(outer, inner)
}

/// Puts the file's three words of scales and minima of Q4_K and Q5_K, which follow `d` and `dmin`, into three lines.
#[inline(always)]
fn pack_scales(blocks: Four<'_>, lines: &mut [Line], four: usize) {
    let [_, scales @ ..] = columns(blocks, 0);
    for i in 0..3 {
        lines[i].set_four_words(four, scales[i]);
    }
}

/// Turns the file's three words of scales and minima of Q4_K and Q5_K (`get_scale_min_k4` of ggml) into the eight
/// scales and then the eight minima, as [`pack_six_bits`] spreads them.
#[inline(always)]
fn arrange_scale_min<S: Lanes>(s: S, lines: &mut [Line]) {
    let [a, b, c] = [lines[0].words(s), lines[1].words(s), lines[2].words(s)];
    let six = s.bytes(63);
    let upper = s.bytes(48);
    let scales = s.or(s.and(c, s.bytes(15)), s.and(s.shr(a, 2), upper));
    let minima = s.or(s.and(s.shr(c, 4), s.bytes(15)), s.and(s.shr(b, 2), upper));
    for (w, first) in [s.and(a, six), scales, s.and(b, six)].into_iter().enumerate() {
        let last = s.shl(s.and(s.shr(minima, 2 * w as u32), s.bytes(3)), 6);
        lines[w].set_words(s, paired(s, s.or(first, last)));
    }
}

/// Turns the file's eight words of nibbles of columns `32 g..` (low, `g` even) and `32 (g + 1)..` (high) into four
/// nibble lines for each, at `at`.
#[inline(always)]
fn arrange_nibbles<S: Lanes>(s: S, unit: &mut [Line], at: [usize; 2]) {
    for i in 0..4 {
        let [a, b] = at.map(|at| unit[at + i].words(s));
        unit[at[0] + i].set_words(s, low_nibbles_of(s, a, b));
        unit[at[1] + i].set_words(s, high_nibbles_of(s, a, b));
    }
}

/// The low nibbles of the bytes of `a`, and above them those of `b`.
#[inline(always)]
fn low_nibbles_of<S: Lanes>(s: S, a: S::I, b: S::I) -> S::I {
    s.or(s.and(a, s.bytes(15)), s.shl(s.and(b, s.bytes(15)), 4))
}

/// The high nibbles of the bytes of `a`, and above them those of `b`.
#[inline(always)]
fn high_nibbles_of<S: Lanes>(s: S, a: S::I, b: S::I) -> S::I {
    s.or(s.and(s.shr(a, 4), s.bytes(15)), s.and(b, s.bytes(240)))
}

/// Turns the file's eight words of single bits, at `at(0..8)`, into a line for each 32 columns: bit `q` of byte `b` is
/// the file's bit of column `32 g + 4 q + b`, which is bit `g` of byte `4 q + b`.
#[inline(always)]
fn arrange_bits<S: Lanes>(s: S, unit: &mut [Line], at: impl Fn(usize) -> usize) {
    let file: [Line; 8] = std::array::from_fn(|q| unit[at(q)]);
    for g in 0..8 {
        let mut line = s.splat_i(0);
        for (q, bits) in file.iter().enumerate() {
            let bit = s.and(s.shr(bits.words(s), g as u32), s.bytes(1));
            line = s.or(line, s.shl(bit, q as u32));
        }
        unit[at(g)].set_words(s, line);
    }
}

/// Turns the file's sixteen words of pairs of bits, at `at(g, h)` in their order, into a line for each 16 columns: bits
/// `2 q` of byte `b` are the file's pair of column `32 g + 16 h + 4 q + b`.
#[inline(always)]
fn arrange_bit_pairs<S: Lanes>(s: S, unit: &mut [Line], at: impl Fn(usize, usize) -> usize) {
    let file: [Line; 16] = std::array::from_fn(|w| unit[at(w / 2, w % 2)]);
    for g in 0..8 {
        for h in 0..2 {
            let mut line = s.splat_i(0);
            for q in 0..4 {
                let words = file[8 * (g / 4) + 4 * h + q].words(s);
                let pair = s.and(s.shr(words, 2 * (g % 4) as u32), s.bytes(3));
                line = s.or(line, s.shl(pair, 2 * q as u32));
            }
            unit[at(g, h)].set_words(s, line);
        }
    }
}
