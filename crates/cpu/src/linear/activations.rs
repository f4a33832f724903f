//! Activations as signed bytes, for weights that are integers.
//!
//! A row is quantized by itself and once for a matrix: what comes out depends on nothing but the row and the family
//! of the weight type.
//!
//! - [`Family::By32`]: every 32 columns have their own scale, the greatest magnitude / 127.
//! - [`Family::By256`]: one scale for 256 columns, so that the integer scales of sub-blocks can be applied to integer
//!   sums. It is the greatest magnitude / 127, or more where a sum would leave 16 bits: in Q4_K
//!   15 * max(sum of the positive, sum of the negative) over 32 columns, in Q6_K 32 * sum of magnitudes over 16 columns
//!   stay within +-32767. On ordinary activations that never binds; where it does (all of 32 columns of about the
//!   same size), it costs less than one bit. Every type of the family gets the same integers.
//!
//! A block with a value that is not finite gets a scale that is not a number, and so do all outputs of its row. A
//! block below 1e-36 everywhere counts as zero.
//!
//! Rows stand side by side in panels of `N`, quad after quad, as the kernels read them; beside the integers lie
//! `-OFFSET * sum` of each sub-block, with which the kernels begin to sum because weights are stored `OFFSET` higher
//! than they are, and the sums that minima are multiplied with.

use super::lanes::{Task, Wide};

/// How activations are quantized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// A scale for 32 columns.
    By32,
    /// A scale for 256 columns; weights have sub-blocks of `sub` columns.
    By256 {
        /// 16 or 32.
        sub: usize,
    },
}

/// What a weight type wants of the activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scheme {
    /// How they are quantized.
    pub(super) family: Family,
    /// How much higher weights are stored than they are.
    pub(super) offset: i32,
}

/// 32 columns of `N` rows, [`Family::By32`].
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Block32<const N: usize> {
    /// `-OFFSET * sum`.
    pub(super) start: [i32; N],
    /// The quads.
    pub(super) quads: [[i32; N]; 8],
    /// The scale.
    pub(super) scale: [f32; N],
    /// The sum of the integers times the scale.
    pub(super) sum: [f32; N],
}

/// 256 columns of `N` rows, [`Family::By256`].
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Block256<const N: usize> {
    /// 32 columns each.
    pub(super) parts: [Part<N>; 8],
    /// The sums of sub-blocks `2 p` (low half) and `2 p + 1` (high half).
    pub(super) sums: [[i32; N]; 8],
    /// The scale.
    pub(super) scale: [f32; N],
}

/// 32 columns of a [`Block256`].
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Part<const N: usize> {
    /// `-OFFSET * sum` of each sub-block; only the first when it has 32 columns.
    pub(super) start: [[i32; N]; 2],
    /// The quads.
    pub(super) quads: [[i32; N]; 8],
}

// SAFETY: arrays of 32-bit numbers without padding, of which zeros are a value.
unsafe impl<const N: usize> bytemuck::Zeroable for Block32<N> {}
// SAFETY: arrays of 32-bit numbers without padding, any bits of which are a value.
unsafe impl<const N: usize> bytemuck::Pod for Block32<N> {}
// SAFETY: arrays of 32-bit numbers without padding, of which zeros are a value.
unsafe impl<const N: usize> bytemuck::Zeroable for Block256<N> {}
// SAFETY: arrays of 32-bit numbers without padding, any bits of which are a value.
unsafe impl<const N: usize> bytemuck::Pod for Block256<N> {}

/// Words of a [`Block32`] for each of its rows.
const WORDS_32: usize = size_of::<Block32<1>>() / 4;
/// Words of a [`Block256`] for each of its rows.
const WORDS_256: usize = size_of::<Block256<1>>() / 4;
/// Words of a [`Part`] for each of its rows.
const WORDS_PART: usize = size_of::<Part<1>>() / 4;

impl Family {
    /// Words that `cols` columns take for each row of a panel.
    pub(super) fn words(self, cols: usize) -> usize {
        match self {
            Family::By32 => cols.div_ceil(32) * WORDS_32,
            Family::By256 { .. } => cols / 256 * WORDS_256,
        }
    }
}

/// Words that `cols` columns take for each row of a panel, whatever the family.
pub(super) fn most_words(cols: usize) -> usize {
    Family::By32.words(cols).max(Family::By256 { sub: 32 }.words(cols))
}

/// Quantizes `rows` of `cols` values into a panel of `width` rows (at least as many as there are; the others become
/// zero).
pub(super) struct Quantize<'a> {
    pub(super) scheme: Scheme,
    pub(super) rows: &'a [f32],
    pub(super) cols: usize,
    pub(super) width: usize,
    pub(super) panel: &'a mut [u32],
}

impl Task for Quantize<'_> {
    #[inline(always)]
    fn run<S: Wide>(self, _s: S) {
        let Quantize { scheme: Scheme { family, offset }, rows, cols, width, panel } = self;
        if rows.len() < width * cols {
            panel.fill(0);
        }
        if cols == 0 {
            return;
        }
        for (c, row) in rows.chunks_exact(cols).enumerate() {
            match family {
                Family::By32 => {
                    for (x, words) in row.chunks(32).zip(panel.chunks_exact_mut(WORDS_32 * width)) {
                        quantize_32(x, offset, &mut Column { words, width, c });
                    }
                }
                Family::By256 { sub } => {
                    let blocks = row.as_chunks::<256>().0;
                    for (x, words) in blocks.iter().zip(panel.chunks_exact_mut(WORDS_256 * width)) {
                        quantize_256(x, offset, sub, &mut Column { words, width, c });
                    }
                }
            }
        }
    }
}

/// One row of a block of a panel.
struct Column<'a> {
    words: &'a mut [u32],
    width: usize,
    c: usize,
}

impl Column<'_> {
    /// Sets the `i`th word of the row.
    #[inline(always)]
    fn set(&mut self, i: usize, word: u32) {
        self.words[i * self.width + self.c] = word;
    }
}

#[inline(always)]
fn quantize_32(x: &[f32], offset: i32, out: &mut Column<'_>) {
    let mut padded = [0f32; 32];
    padded[..x.len()].copy_from_slice(x);
    let (scale, inverse) = scales(greatest(&padded));
    let mut quants = [0i32; 32];
    quantize(&padded, inverse, &mut quants);
    let sum: i32 = quants.iter().sum();
    out.set(0, (-offset * sum).cast_unsigned());
    for (i, quad) in quants.as_chunks::<4>().0.iter().enumerate() {
        out.set(1 + i, bytes(quad));
    }
    out.set(9, scale.to_bits());
    out.set(10, (scale * sum as f32).to_bits());
}

#[inline(always)]
fn quantize_256(x: &[f32; 256], offset: i32, sub: usize, out: &mut Column<'_>) {
    let (mut scale, mut inverse) = scales(greatest(x));
    let mut quants = [0i32; 256];
    quantize(x, inverse, &mut quants);
    // Sums of the integers, and of their magnitudes, over 16 columns.
    let (mut sums, mut sizes) = sums_by_16(&quants);
    let excess = excess(&sums, &sizes);
    if excess > 1.0 {
        // Not after a scale that is not finite: all integers are zero then.
        scale *= excess;
        inverse = 1.0 / scale;
        quantize(x, inverse, &mut quants);
        (sums, sizes) = sums_by_16(&quants);
    }
    debug_assert!(fits(&sums, &sizes), "sums of sub-blocks stay within 16 bits");
    for (g, quants) in quants.as_chunks::<32>().0.iter().enumerate() {
        let at = g * WORDS_PART;
        let [low, high] = [sums[2 * g], sums[2 * g + 1]];
        let starts = if sub == 16 { [low, high] } else { [low + high, 0] };
        out.set(at, (-offset * starts[0]).cast_unsigned());
        out.set(at + 1, (-offset * starts[1]).cast_unsigned());
        for (i, quad) in quants.as_chunks::<4>().0.iter().enumerate() {
            out.set(at + 2 + i, bytes(quad));
        }
    }
    for p in 0..8 {
        let pair = match sub {
            16 => [sums[2 * p], sums[2 * p + 1]],
            _ if p < 4 => [sums[4 * p] + sums[4 * p + 1], sums[4 * p + 2] + sums[4 * p + 3]],
            _ => [0; 2],
        };
        out.set(8 * WORDS_PART + p, (pair[0] & 0xffff | pair[1] << 16).cast_unsigned());
    }
    out.set(8 * WORDS_PART + 8, scale.to_bits());
}

/// The greatest magnitude; infinite or not a number when a value is.
#[inline(always)]
fn greatest(x: &[f32]) -> f32 {
    // Without their sign, the bits of floats are ordered as the floats are, with what is not finite on top.
    f32::from_bits(x.iter().fold(0, |most, v| most.max(v.to_bits() & 0x7fff_ffff)))
}

/// The scale of a block and what its values are multiplied with.
#[inline(always)]
fn scales(greatest: f32) -> (f32, f32) {
    if !greatest.is_finite() {
        (f32::NAN, 0.0)
    } else if greatest < 1e-36 {
        (0.0, 0.0)
    } else {
        (greatest / 127.0, 127.0 / greatest)
    }
}

/// The nearest integers (ties to even) of `x * inverse`, which is within +-127.
#[inline(always)]
fn quantize(x: &[f32], inverse: f32, out: &mut [i32]) {
    // Adding 1.5 * 2^23 leaves the rounded value in the low bits.
    const ROUND: f32 = 12_582_912.0;
    if inverse == 0.0 {
        return out.fill(0);
    }
    for (x, out) in x.iter().zip(out) {
        *out = (x * inverse + ROUND).to_bits().wrapping_sub(ROUND.to_bits()).cast_signed();
    }
}

#[inline(always)]
fn sums_by_16(quants: &[i32; 256]) -> ([i32; 16], [i32; 16]) {
    let (mut sums, mut sizes) = ([0; 16], [0; 16]);
    for (s, quants) in quants.as_chunks::<16>().0.iter().enumerate() {
        sums[s] = quants.iter().sum();
        sizes[s] = quants.iter().map(|q| q.abs()).sum();
    }
    (sums, sizes)
}

/// The greatest one-signed sum over 32 columns that Q4_K bears: 15 * 2184 < 2^15.
const ONE_SIGNED: i32 = 2184;
/// The greatest sum of magnitudes over 16 columns that Q6_K bears: 32 * 1023 < 2^15.
const MAGNITUDES: i32 = 1023;

/// By how much the scale must grow for the sums to fit; rounding anew changes an integer by at most 1/2.
#[inline(always)]
fn excess(sums: &[i32; 16], sizes: &[i32; 16]) -> f32 {
    let mut excess = 0f32;
    for (sums, sizes) in sums.as_chunks::<2>().0.iter().zip(sizes.as_chunks::<2>().0) {
        let one_signed = one_signed(sums, sizes);
        if one_signed > ONE_SIGNED {
            excess = excess.max((one_signed + 16) as f32 / (ONE_SIGNED - 16) as f32);
        }
        let magnitudes = sizes[0].max(sizes[1]);
        if magnitudes > MAGNITUDES {
            excess = excess.max((magnitudes + 8) as f32 / (MAGNITUDES - 8) as f32);
        }
    }
    excess
}

/// The greater of the sum of the positive and the sum of the negative integers of 32 columns.
#[inline(always)]
fn one_signed(sums: &[i32; 2], sizes: &[i32; 2]) -> i32 {
    (sizes[0] + sizes[1] + (sums[0] + sums[1]).abs()) / 2
}

fn fits(sums: &[i32; 16], sizes: &[i32; 16]) -> bool {
    let pairs = sums.as_chunks::<2>().0.iter().zip(sizes.as_chunks::<2>().0);
    sizes.iter().all(|&s| s <= MAGNITUDES) && pairs.into_iter().all(|(a, b)| one_signed(a, b) <= ONE_SIGNED)
}

/// Four integers as the bytes of a word.
#[inline(always)]
fn bytes(quad: &[i32; 4]) -> u32 {
    u32::from_le_bytes(quad.map(|q| q as u8))
}
