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
use super::lanes::{Lanes, Line};
use super::legacy::{five_bit_lines, nibble_line, pack_words};
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
        s.half(&unit[0], r)
    }
    #[inline(always)]
    fn dmin<S: Lanes>(s: S, unit: &[Line], r: usize) -> S::F {
        s.half(&unit[1], r)
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
        pack_scale_min(|s| block.scale_min(s), &mut unit[2 + 3 * r..][..3], lane);
        for g in 0..8 {
            pack_nibbles(block.packed(), g, &mut unit[8 + 8 * g + 4 * r..][..4], lane);
        }
    }
}

impl By256 for Q5K {
    const UNIT: usize = 88;
    const SUB: usize = 32;
    const MIN: bool = true;
    const WIDE: bool = true;
    const OFFSET: i32 = 0;
    type Columns<const N: usize> = WithPairs<N>;

    #[inline(always)]
    fn integers<S: Lanes>(s: S, unit: &[Line], r: usize, g: usize, i: usize) -> [S::I; 2] {
        let at = 8 + 10 * g + 5 * r;
        five_bit_lines(s, &unit[at], &unit[at + 1 + i], i)
    }
    #[inline(always)]
    fn d<S: Lanes>(s: S, unit: &[Line], r: usize) -> S::F {
        s.half(&unit[0], r)
    }
    #[inline(always)]
    fn dmin<S: Lanes>(s: S, unit: &[Line], r: usize) -> S::F {
        s.half(&unit[1], r)
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
        pack_scale_min(|s| block.scale_min(s), &mut unit[2 + 3 * r..][..3], lane);
        for g in 0..8 {
            let lines = &mut unit[8 + 10 * g + 5 * r..][..5];
            lines[0].set_word(lane, bits_by_quad(block.high_bits(), g));
            pack_nibbles(block.packed(), g, &mut lines[1..], lane);
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
        let upper = s.load(&unit[at]);
        let bits = s.bytes(48);
        if i.is_multiple_of(2) {
            [s.or(low, s.and(s.shl(upper, 4), bits)), s.or(high, s.and(upper, bits))]
        } else {
            [s.or(low, s.and(s.shl(upper, 2), bits)), s.or(high, s.and(s.shr(upper, 2), bits))]
        }
    }
    #[inline(always)]
    fn d<S: Lanes>(s: S, unit: &[Line], r: usize) -> S::F {
        s.half(&unit[0], r)
    }
    #[inline(always)]
    fn scales<S: Lanes>(s: S, unit: &[Line], r: usize) -> [S::I; 4] {
        let lines = &unit[1 + 4 * r..][..4];
        [s.load(&lines[0]), s.load(&lines[1]), s.load(&lines[2]), s.load(&lines[3])]
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
            let (half, k) = (g / 4, g % 4);
            // Nibbles: bytes 32 (k % 2).. of the half's 64, low for k < 2, high above; see `file::Q6K::packed`.
            let nibbles =
                |q| word(block.packed(), 16 * half + 8 * (k % 2) + q) >> (4 * (k / 2)) & (15 * ONES);
            for h in 0..2 {
                let lines = &mut unit[9 + 12 * g + 6 * r + 3 * h..][..3];
                lines[0].set_word(lane, bit_pairs_by_quad(block.high_bits(), g, h));
                for (i, line) in lines[1..].iter_mut().enumerate() {
                    line.set_word(lane, nibbles(4 * h + i) | nibbles(4 * h + i + 2) << 4);
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
        let third = s.load(&unit[at]);
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
        s.half(&unit[0], r)
    }
    #[inline(always)]
    fn scales<S: Lanes>(s: S, unit: &[Line], r: usize) -> [S::I; 4] {
        six_bits(s, &unit[1 + 3 * r..][..3])
    }
    #[inline(always)]
    fn scale<S: Lanes>(s: S, scales: &[S::I; 4], sub: usize) -> S::I {
        s.sub(paired_scale(s, scales, sub), s.splat(32))
    }
    #[inline(always)]
    fn pack(bytes: &[u8], unit: &mut [Line], r: usize, lane: usize) {
        let block = file::Q3K(block(bytes));
        unit[0].set_short(r, lane, short(bytes, 108));
        let scales = std::array::from_fn(|s| (block.scale(s) + 32).cast_unsigned());
        pack_six_bits(scales, &mut unit[1 + 3 * r..][..3], lane);
        for g in 0..8 {
            let lines = &mut unit[7 + 6 * g + 3 * r..][..3];
            lines[0].set_word(lane, bits_by_quad(block.high_bits(), g));
            for h in 0..2 {
                lines[1 + h].set_word(lane, bit_pairs_by_quad(block.packed(), g, h));
            }
        }
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
        s.half(&unit[0], r)
    }
    #[inline(always)]
    fn dmin<S: Lanes>(s: S, unit: &[Line], r: usize) -> S::F {
        s.half(&unit[1], r)
    }
    #[inline(always)]
    fn scales<S: Lanes>(s: S, unit: &[Line], r: usize) -> [S::I; 4] {
        let lines = &unit[2 + 4 * r..][..4];
        [s.load(&lines[0]), s.load(&lines[1]), s.load(&lines[2]), s.load(&lines[3])]
    }
    #[inline(always)]
    fn scale<S: Lanes>(s: S, scales: &[S::I; 4], sub: usize) -> S::I {
        s.and(s.shr(scales[sub / 4], 8 * PAIRED[sub % 4] as u32), s.splat(15))
    }
    #[inline(always)]
    fn minima<S: Lanes>(s: S, scales: &[S::I; 4], p: usize) -> S::I {
        s.and(s.shr(scales[p / 2], 4 + 8 * (p % 2) as u32), s.splat(0x000f_000f))
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
            for h in 0..2 {
                let pairs = bit_pairs_by_quad(block.packed(), g, h);
                unit[10 + 4 * g + 2 * r + h].set_word(lane, pairs);
            }
        }
    }
}

/// The quads `i % 2` and `i % 2 + 2` of a line of 2-bit integers.
#[inline(always)]
fn two_bit_line<S: Lanes>(s: S, line: &Line, i: usize) -> [S::I; 2] {
    let x = s.load(line);
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
    let [a, b, c] = [s.load(&lines[0]), s.load(&lines[1]), s.load(&lines[2])];
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
    s.and(s.shr(scales[sub / 4], 8 * PAIRED[sub % 4] as u32), s.splat(255))
}

/// The numbers `8 + 2 p` and `8 + 2 p + 1` of four words of four.
#[inline(always)]
fn minima_after_scales<S: Lanes>(s: S, scales: &[S::I; 4], p: usize) -> S::I {
    s.and(s.shr(scales[2 + p / 2], 8 * (p % 2) as u32), s.splat(0x00ff_00ff))
}

/// The eight scales and then the eight minima of Q4_K and Q5_K.
#[inline(always)]
fn pack_scale_min(scale_min: impl Fn(usize) -> (u8, u8), lines: &mut [Line], lane: usize) {
    let mut numbers = [0; 16];
    for sub in 0..8 {
        (numbers[sub], numbers[sub + 8]) = scale_min(sub);
    }
    pack_six_bits(numbers, lines, lane);
}

/// The nibbles of columns `32 g..` of Q4_K and Q5_K: the file has them low in 32 bytes for even `g`, high for odd.
#[inline(always)]
fn pack_nibbles(packed: &[u8; 128], g: usize, lines: &mut [Line], lane: usize) {
    let nibbles = |q| word(packed, g / 2 * 8 + q) >> (4 * (g % 2)) & (15 * ONES);
    for (i, line) in lines.iter_mut().enumerate() {
        line.set_word(lane, nibbles(i) | nibbles(i + 4) << 4);
    }
}

/// Bit `q` of byte `b`: the file's bit of column `32 g + 4 q + b`, which is bit `g` of byte `4 q + b`.
#[inline(always)]
fn bits_by_quad(bits: &[u8; 32], g: usize) -> u32 {
    (0..8).fold(0, |out, q| out | (word(bits, q) >> g & ONES) << q)
}

/// Bits `2 q` of byte `b`: the file's pair of bits of column `32 g + 16 h + 4 q + b`.
#[inline(always)]
fn bit_pairs_by_quad(packed: &[u8; 64], g: usize, h: usize) -> u32 {
    let pairs = |q| word(packed, 8 * (g / 4) + q) >> (2 * (g % 4)) & (3 * ONES);
    (0..4).fold(0, |out, q| out | pairs(4 * h + q) << (2 * q))
}
