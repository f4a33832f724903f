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
//! Rows stand side by side in panels of `N`, quad after quad, as the kernels read them. Beside the integers lies what
//! the weight type needs of their sums: where weights are stored `OFFSET` higher than they are, what the kernels begin to
//! sum with in each sub-block ([`Lanes::start`], `-OFFSET * sum`); where they have minima, the sums that those are
//! multiplied with. No type needs both.

use super::line::Line;
use crate::lanes::{Integers, Kernel, Lanes};

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
    /// How much higher weights are stored than they are, and how large the integers are then; `None` where they are stored
    /// as they are, and their size makes no difference to the activations.
    raised: Option<(i32, Integers)>,
}

/// 32 columns of `N` rows, [`Family::By32`].
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Block32<const N: usize> {
    /// The quads.
    pub(super) quads: [[i32; N]; 8],
    /// What sums begin with; without an offset, the bits of the sum of the integers times the scale.
    sum: [i32; N],
    /// The scale.
    pub(super) scale: [f32; N],
}

impl<const N: usize> Block32<N> {
    /// What the sums of row `c` begin with, for a type with an offset.
    #[inline(always)]
    pub(super) fn start(&self, c: usize) -> i32 {
        self.sum[c]
    }

    /// The sum of the integers times the scale of row `c`, for a type without an offset.
    #[inline(always)]
    pub(super) fn scaled_sum(&self, c: usize) -> f32 {
        f32::from_bits(self.sum[c].cast_unsigned())
    }
}

/// 256 columns of `N` rows, [`Family::By256`].
pub(super) trait Block256<const N: usize>: bytemuck::Pod {
    /// Quad `q` of columns `32 g..`.
    fn quad(&self, g: usize, q: usize) -> &[i32; N];
    /// What the sums of sub-block `h` of columns `32 g..` begin with: 0 without an offset.
    fn start(&self, g: usize, h: usize) -> &[i32; N];
    /// The sums of sub-blocks `2 p` (low half) and `2 p + 1` (high half), 0 with an offset.
    fn pair(&self, p: usize) -> &[i32; N];
    /// The scale.
    fn scale(&self) -> &[f32; N];
}

/// A [`Block256`] for types without an offset.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct WithPairs<const N: usize> {
    quads: [[[i32; N]; 8]; 8],
    pairs: [[i32; N]; 8],
    scale: [f32; N],
}

/// A [`Block256`] for types with an offset.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct WithStarts<const N: usize> {
    quads: [[[i32; N]; 8]; 8],
    starts: [[[i32; N]; 2]; 8],
    scale: [f32; N],
}

impl<const N: usize> Block256<N> for WithPairs<N> {
    #[inline(always)]
    fn quad(&self, g: usize, q: usize) -> &[i32; N] {
        &self.quads[g][q]
    }
    #[inline(always)]
    fn start(&self, _g: usize, _h: usize) -> &[i32; N] {
        &[0; N]
    }
    #[inline(always)]
    fn pair(&self, p: usize) -> &[i32; N] {
        &self.pairs[p]
    }
    #[inline(always)]
    fn scale(&self) -> &[f32; N] {
        &self.scale
    }
}

impl<const N: usize> Block256<N> for WithStarts<N> {
    #[inline(always)]
    fn quad(&self, g: usize, q: usize) -> &[i32; N] {
        &self.quads[g][q]
    }
    #[inline(always)]
    fn start(&self, g: usize, h: usize) -> &[i32; N] {
        &self.starts[g][h]
    }
    #[inline(always)]
    fn pair(&self, _p: usize) -> &[i32; N] {
        &[0; N]
    }
    #[inline(always)]
    fn scale(&self) -> &[f32; N] {
        &self.scale
    }
}

// SAFETY: arrays of 32-bit numbers without padding, of which zeros are a value.
unsafe impl<const N: usize> bytemuck::Zeroable for Block32<N> {}
// SAFETY: arrays of 32-bit numbers without padding, any bits of which are a value.
unsafe impl<const N: usize> bytemuck::Pod for Block32<N> {}
// SAFETY: arrays of 32-bit numbers without padding, of which zeros are a value.
unsafe impl<const N: usize> bytemuck::Zeroable for WithPairs<N> {}
// SAFETY: arrays of 32-bit numbers without padding, any bits of which are a value.
unsafe impl<const N: usize> bytemuck::Pod for WithPairs<N> {}
// SAFETY: arrays of 32-bit numbers without padding, of which zeros are a value.
unsafe impl<const N: usize> bytemuck::Zeroable for WithStarts<N> {}
// SAFETY: arrays of 32-bit numbers without padding, any bits of which are a value.
unsafe impl<const N: usize> bytemuck::Pod for WithStarts<N> {}

/// Words of any block for each of its rows, at most.
const MOST_WORDS: usize = size_of::<WithStarts<1>>() / 4;

impl Scheme {
    /// What weights want that are stored as `integers`, `offset` higher than they are.
    pub(super) fn new(family: Family, integers: Integers, offset: i32) -> Self {
        Scheme { family, raised: (offset != 0).then_some((offset, integers)) }
    }

    /// Columns of a block.
    pub(super) fn columns(self) -> usize {
        match self.family {
            Family::By32 => 32,
            Family::By256 { .. } => 256,
        }
    }

    /// Words of a block for each of its rows.
    pub(super) fn block_words(self) -> usize {
        let bytes = match self.family {
            Family::By32 => size_of::<Block32<1>>(),
            Family::By256 { .. } if self.raised.is_none() => size_of::<WithPairs<1>>(),
            Family::By256 { .. } => size_of::<WithStarts<1>>(),
        };
        bytes / 4
    }

    /// Words that `cols` columns take for each row of a panel.
    pub(super) fn words(self, cols: usize) -> usize {
        cols.div_ceil(self.columns()) * self.block_words()
    }
}

/// Words that `cols` columns take for each row of a panel, whatever the scheme.
pub(super) fn most_words(cols: usize) -> usize {
    [(Family::By32, 0), (Family::By256 { sub: 16 }, 1)]
        .map(|(family, offset)| Scheme::new(family, Integers::Narrow, offset).words(cols))
        .into_iter()
        .fold(0, usize::max)
}

/// Quantizes at most `N` rows of `cols` values, those after the other, into a panel of `N` rows; rows that are not
/// there become zero.
pub(super) struct Quantize<'a, const N: usize> {
    pub(super) scheme: Scheme,
    pub(super) rows: &'a [f32],
    pub(super) cols: usize,
    pub(super) panel: &'a mut [u32],
}

impl<const N: usize> Kernel for Quantize<'_, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        let Quantize { scheme, rows, cols, panel } = self;
        let mut blocks = [[0; MOST_WORDS]; N];
        let words = scheme.block_words();
        for (b, panel) in panel.as_chunks_mut::<N>().0.chunks_exact_mut(words).enumerate() {
            let columns = b * scheme.columns()..cols.min((b + 1) * scheme.columns());
            for (row, block) in rows.chunks_exact(cols.max(1)).zip(&mut blocks) {
                let x = &row[columns.clone()];
                match (scheme.family, x.as_array()) {
                    (Family::By32, Some(x)) => quantize_32(s, x, scheme, block),
                    (Family::By32, None) => {
                        let mut padded = [0f32; 32];
                        padded[..x.len()].copy_from_slice(x);
                        quantize_32(s, &padded, scheme, block);
                    }
                    (Family::By256 { sub }, _) => {
                        let x = x.as_array().expect("rows are whole blocks of 256");
                        quantize_256(s, x, scheme, sub, block);
                    }
                }
            }
            for (w, panel) in panel.iter_mut().enumerate() {
                for (word, block) in panel.iter_mut().zip(&blocks) {
                    *word = block[w];
                }
            }
        }
    }
}

/// Quantizes a [`Block32`] of one row.
#[inline(always)]
fn quantize_32<S: Lanes>(s: S, x: &[f32; 32], scheme: Scheme, out: &mut [u32; MOST_WORDS]) {
    let (scale, inverse) = scales(greatest(x));
    let mut quants = [0i8; 32];
    quantize(x, inverse, &mut quants);
    let halves = halves(&quants);
    for (word, quad) in out.iter_mut().zip(quants.as_chunks().0) {
        *word = u32::from_le_bytes(quad.map(i8::cast_unsigned));
    }
    out[8] = match scheme.raised {
        Some((offset, integers)) => s.start(integers, offset, halves).cast_unsigned(),
        None => (scale * (halves[0] + halves[1]) as f32).to_bits(),
    };
    out[9] = scale.to_bits();
}

/// Quantizes a [`Block256`] of one row.
#[inline(always)]
fn quantize_256<S: Lanes>(s: S, x: &[f32; 256], scheme: Scheme, sub: usize, out: &mut [u32; MOST_WORDS]) {
    let (mut scale, mut inverse) = scales(greatest(x));
    let mut quants = [0i8; 256];
    quantize(x, inverse, &mut quants);
    // Sums of the integers, and of their magnitudes, over 16 columns.
    let (mut sums, mut sizes) = sums_by_16(s, &quants);
    let excess = excess(&sums, &sizes);
    if excess > 1.0 {
        // Not after a scale that is not finite: all integers are zero then.
        scale *= excess;
        inverse = 1.0 / scale;
        quantize(x, inverse, &mut quants);
        (sums, sizes) = sums_by_16(s, &quants);
    }
    debug_assert!(fits(&sums, &sizes), "sums of sub-blocks stay within 16 bits");
    for (word, quad) in out.iter_mut().zip(quants.as_chunks().0) {
        *word = u32::from_le_bytes(quad.map(i8::cast_unsigned));
    }
    if let Some((offset, integers)) = scheme.raised {
        let start = |quants| s.start(integers, offset, halves(quants)).cast_unsigned();
        for (quants, out) in quants.as_chunks::<32>().0.iter().zip(out[64..].as_chunks_mut::<2>().0) {
            *out = if sub == 16 { [start(&quants[..16]), start(&quants[16..])] } else { [start(quants), 0] };
        }
        out[80] = scale.to_bits();
        return;
    }
    for p in 0..8 {
        let pair = match sub {
            16 => [sums[2 * p], sums[2 * p + 1]],
            _ if p < 4 => [sums[4 * p] + sums[4 * p + 1], sums[4 * p + 2] + sums[4 * p + 3]],
            _ => [0; 2],
        };
        out[64 + p] = (pair[0] & 0xffff | pair[1] << 16).cast_unsigned();
    }
    out[72] = scale.to_bits();
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
fn quantize(x: &[f32], inverse: f32, out: &mut [i8]) {
    // Adding 1.5 * 2^23 leaves the rounded value in the low bits.
    const ROUND: f32 = 12_582_912.0;
    if inverse == 0.0 {
        return out.fill(0);
    }
    for (x, out) in x.iter().zip(out) {
        *out = (x * inverse + ROUND).to_bits() as i8;
    }
}

/// The sum of the integers of the first two columns of all quads, and that of the last two.
#[inline(always)]
fn halves(quants: &[i8]) -> [i32; 2] {
    quants.as_chunks::<4>().0.iter().fold([0; 2], |[first, last], &[a, b, c, d]| {
        [first + i32::from(a) + i32::from(b), last + i32::from(c) + i32::from(d)]
    })
}

/// Sums of the integers, and of their magnitudes, over 16 columns.
#[inline(always)]
fn sums_by_16<S: Lanes>(s: S, quants: &[i8; 256]) -> ([i32; 16], [i32; 16]) {
    let (mut sums, mut sizes) = ([0; 16], [0; 16]);
    for (i, quants) in quants.as_chunks::<64>().0.iter().enumerate() {
        // Dot products with ones add up four bytes each.
        let (bytes, magnitudes) = (Line(quants.map(i8::cast_unsigned)), Line(quants.map(i8::unsigned_abs)));
        let [mut by_4, mut sizes_by_4] = [Line::ZERO; 2];
        by_4.set_words(s, s.dot(Integers::Wide, s.splat_i(0), s.bytes(1), bytes.words(s)));
        sizes_by_4.set_words(s, s.dot(Integers::Wide, s.splat_i(0), magnitudes.words(s), s.bytes(1)));
        for (lines, out) in [(by_4, &mut sums), (sizes_by_4, &mut sizes)] {
            for (j, out) in out[4 * i..4 * i + 4].iter_mut().enumerate() {
                *out = (0..4).map(|k| lines.word(4 * j + k).cast_signed()).sum();
            }
        }
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
