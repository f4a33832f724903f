//! The K-quants: super-blocks of 256 elements whose sub-block scales are themselves quantized.
//!
//! `d` and `dmin` are little-endian binary16. Q2_K, Q4_K and Q5_K subtract a minimum; Q3_K and Q6_K are symmetric.

use super::{field, half_at};

/// 84 bytes: 16 bytes of scale (low nibble) and minimum (high nibble), 64 bytes of 2-bit quants, `d`, `dmin`;
/// element = d * scale * quant - dmin * minimum, sub-blocks of 16.
#[derive(Clone, Copy, Debug)]
pub struct Q2K<'a>(pub &'a [u8; 84]);

/// 110 bytes: 32 bytes of third bits, 64 bytes of 2-bit quants, 12 bytes of 6-bit scales, `d`;
/// element = d * (scale - 32) * (quant - 4), sub-blocks of 16.
#[derive(Clone, Copy, Debug)]
pub struct Q3K<'a>(pub &'a [u8; 110]);

/// 144 bytes: `d`, `dmin`, 12 bytes of 6-bit scales and minima, 128 nibble bytes;
/// element = d * scale * quant - dmin * minimum, sub-blocks of 32.
#[derive(Clone, Copy, Debug)]
pub struct Q4K<'a>(pub &'a [u8; 144]);

/// 176 bytes: as Q4_K with 32 bytes of fifth bits before the nibbles.
#[derive(Clone, Copy, Debug)]
pub struct Q5K<'a>(pub &'a [u8; 176]);

/// 210 bytes: 128 bytes of low nibbles, 64 bytes of upper bit pairs, 16 signed scales, `d`;
/// element = d * scale * (quant - 32), sub-blocks of 16.
#[derive(Clone, Copy, Debug)]
pub struct Q6K<'a>(pub &'a [u8; 210]);

impl<'a> Q2K<'a> {
    /// The scale of the scales.
    #[inline]
    pub fn d(self) -> f32 {
        half_at(self.0, 80)
    }

    /// The scale of the minima.
    #[inline]
    pub fn dmin(self) -> f32 {
        half_at(self.0, 82)
    }

    /// Scale and minimum of sub-block `s` (of 16), each 0..=15.
    #[inline]
    pub fn scale_min(self, s: usize) -> (u8, u8) {
        (self.0[s] & 15, self.0[s] >> 4)
    }

    /// The 2-bit quants as stored (see [`Q2K::quants`] for the order).
    #[inline]
    pub fn packed(self) -> &'a [u8; 64] {
        field(self.0, 16)
    }

    /// The integers in element order, 0..=3.
    #[inline]
    pub fn quants(self) -> [u8; 256] {
        bit_pairs(self.packed())
    }

    /// The elements.
    #[inline]
    pub fn decode(self, out: &mut [f32; 256]) {
        let (d, dmin) = (self.d(), self.dmin());
        decode_with_minima::<16>(out, &self.quants(), |s| {
            let (scale, min) = self.scale_min(s);
            (d * f32::from(scale), dmin * f32::from(min))
        });
    }
}

impl<'a> Q3K<'a> {
    /// The scale of the scales.
    #[inline]
    pub fn d(self) -> f32 {
        half_at(self.0, 108)
    }

    /// The scale of sub-block `s` (of 16), -32..=31.
    #[inline]
    pub fn scale(self, s: usize) -> i8 {
        let packed: &[u8; 12] = field(self.0, 96);
        let low = packed[s % 8] >> (4 * (s / 8)) & 15;
        let high = packed[8 + s % 4] >> (2 * (s / 4)) & 3;
        (low | high << 4).cast_signed() - 32
    }

    /// The lower two bits of the quants as stored.
    #[inline]
    pub fn packed(self) -> &'a [u8; 64] {
        field(self.0, 32)
    }

    /// The third bits: bit `e / 32` of byte `e % 32` belongs to element `e`.
    #[inline]
    pub fn high_bits(self) -> &'a [u8; 32] {
        field(self.0, 0)
    }

    /// The integers in element order, -4..=3.
    #[inline]
    pub fn quants(self) -> [i8; 256] {
        let mut low = bit_pairs(self.packed());
        for (k, group) in low.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            for (q, bits) in group.iter_mut().zip(self.high_bits()) {
                *q |= (bits >> k & 1) << 2;
            }
        }
        low.map(|q| q.cast_signed() - 4)
    }

    /// The elements.
    #[inline]
    pub fn decode(self, out: &mut [f32; 256]) {
        let d = self.d();
        decode_symmetric(out, &self.quants(), |s| d * f32::from(self.scale(s)));
    }
}

impl<'a> Q4K<'a> {
    /// The scale of the scales.
    #[inline]
    pub fn d(self) -> f32 {
        half_at(self.0, 0)
    }

    /// The scale of the minima.
    #[inline]
    pub fn dmin(self) -> f32 {
        half_at(self.0, 2)
    }

    /// Scale and minimum of sub-block `s` (of 8), each 0..=63.
    #[inline]
    pub fn scale_min(self, s: usize) -> (u8, u8) {
        unpack_scale_min(field(self.0, 4), s)
    }

    /// The nibbles as stored: byte `32 c + j` holds element `64 c + j` low and `64 c + 32 + j` high.
    #[inline]
    pub fn packed(self) -> &'a [u8; 128] {
        field(self.0, 16)
    }

    /// The integers in element order, 0..=15.
    #[inline]
    pub fn quants(self) -> [u8; 256] {
        nibbles_by_64(self.packed())
    }

    /// The elements.
    #[inline]
    pub fn decode(self, out: &mut [f32; 256]) {
        let (d, dmin) = (self.d(), self.dmin());
        decode_with_minima::<32>(out, &self.quants(), |s| {
            let (scale, min) = self.scale_min(s);
            (d * f32::from(scale), dmin * f32::from(min))
        });
    }
}

impl<'a> Q5K<'a> {
    /// The scale of the scales.
    #[inline]
    pub fn d(self) -> f32 {
        half_at(self.0, 0)
    }

    /// The scale of the minima.
    #[inline]
    pub fn dmin(self) -> f32 {
        half_at(self.0, 2)
    }

    /// Scale and minimum of sub-block `s` (of 8), each 0..=63.
    #[inline]
    pub fn scale_min(self, s: usize) -> (u8, u8) {
        unpack_scale_min(field(self.0, 4), s)
    }

    /// The lower four bits as stored, ordered as in [`Q4K::packed`].
    #[inline]
    pub fn packed(self) -> &'a [u8; 128] {
        field(self.0, 48)
    }

    /// The fifth bits: bit `e / 32` of byte `e % 32` belongs to element `e`.
    #[inline]
    pub fn high_bits(self) -> &'a [u8; 32] {
        field(self.0, 16)
    }

    /// The integers in element order, 0..=31.
    #[inline]
    pub fn quants(self) -> [u8; 256] {
        let mut quants = nibbles_by_64(self.packed());
        for (k, group) in quants.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            for (q, bits) in group.iter_mut().zip(self.high_bits()) {
                *q |= (bits >> k & 1) << 4;
            }
        }
        quants
    }

    /// The elements.
    #[inline]
    pub fn decode(self, out: &mut [f32; 256]) {
        let (d, dmin) = (self.d(), self.dmin());
        decode_with_minima::<32>(out, &self.quants(), |s| {
            let (scale, min) = self.scale_min(s);
            (d * f32::from(scale), dmin * f32::from(min))
        });
    }
}

impl<'a> Q6K<'a> {
    /// The scale of the scales.
    #[inline]
    pub fn d(self) -> f32 {
        half_at(self.0, 208)
    }

    /// The scale of sub-block `s` (of 16), -128..=127.
    #[inline]
    pub fn scale(self, s: usize) -> i8 {
        self.0[192 + s].cast_signed()
    }

    /// The lower four bits as stored: in half `n`, byte `64 n + j` holds element `128 n + j` low and
    /// `128 n + 64 + j` high (`j < 64`).
    #[inline]
    pub fn packed(self) -> &'a [u8; 128] {
        field(self.0, 0)
    }

    /// The upper bit pairs as stored, ordered as in [`Q2K::packed`].
    #[inline]
    pub fn high_bits(self) -> &'a [u8; 64] {
        field(self.0, 128)
    }

    /// The integers in element order, -32..=31.
    #[inline]
    pub fn quants(self) -> [i8; 256] {
        let mut quants = bit_pairs(self.high_bits());
        let halves = quants.as_chunks_mut::<128>().0.iter_mut().zip(self.packed().as_chunks::<64>().0);
        for (half, packed) in halves {
            for (j, byte) in packed.iter().enumerate() {
                half[j] = half[j] << 4 | byte & 15;
                half[j + 64] = half[j + 64] << 4 | byte >> 4;
            }
        }
        quants.map(|q| q.cast_signed() - 32)
    }

    /// The elements.
    #[inline]
    pub fn decode(self, out: &mut [f32; 256]) {
        let d = self.d();
        decode_symmetric(out, &self.quants(), |s| d * f32::from(self.scale(s)));
    }
}

/// Unpacks pairs of bits: in half `n`, bits `2 k..2 k + 2` of byte `32 n + j` belong to element `128 n + 32 k + j`.
#[inline]
fn bit_pairs(packed: &[u8; 64]) -> [u8; 256] {
    let mut out = [0; 256];
    for (half, packed) in out.as_chunks_mut::<128>().0.iter_mut().zip(packed.as_chunks::<32>().0) {
        for (k, group) in half.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            for (q, byte) in group.iter_mut().zip(packed) {
                *q = byte >> (2 * k) & 3;
            }
        }
    }
    out
}

/// Unpacks nibbles: byte `32 c + j` holds element `64 c + j` low and `64 c + 32 + j` high.
#[inline]
fn nibbles_by_64(packed: &[u8; 128]) -> [u8; 256] {
    let mut out = [0; 256];
    for (group, packed) in out.as_chunks_mut::<64>().0.iter_mut().zip(packed.as_chunks::<32>().0) {
        for (j, byte) in packed.iter().enumerate() {
            group[j] = byte & 15;
            group[j + 32] = byte >> 4;
        }
    }
    out
}

/// The 6-bit scale and minimum of sub-block `s` of Q4_K and Q5_K: the first four stand whole in bytes `s` and
/// `s + 4`; of the last four, byte `s + 4` has the low nibbles and the top bits of those eight bytes the rest.
#[inline]
fn unpack_scale_min(packed: &[u8; 12], s: usize) -> (u8, u8) {
    if s < 4 {
        (packed[s] & 63, packed[s + 4] & 63)
    } else {
        let low = packed[s + 4];
        (low & 15 | packed[s - 4] >> 6 << 4, low >> 4 | packed[s] >> 6 << 4)
    }
}

/// `scale * quant - min` with scale and minimum by sub-block of `SUB` elements.
#[inline]
fn decode_with_minima<const SUB: usize>(
    out: &mut [f32; 256],
    quants: &[u8; 256],
    scale_min: impl Fn(usize) -> (f32, f32),
) {
    let subs = out.as_chunks_mut::<SUB>().0.iter_mut().zip(quants.as_chunks::<SUB>().0);
    for (s, (out, quants)) in subs.enumerate() {
        let (scale, min) = scale_min(s);
        for (o, q) in out.iter_mut().zip(quants) {
            *o = scale * f32::from(*q) - min;
        }
    }
}

/// `scale * quant` with the scale by sub-block of 16 elements.
#[inline]
fn decode_symmetric(out: &mut [f32; 256], quants: &[i8; 256], scale: impl Fn(usize) -> f32) {
    let subs = out.as_chunks_mut::<16>().0.iter_mut().zip(quants.as_chunks::<16>().0);
    for (s, (out, quants)) in subs.enumerate() {
        let scale = scale(s);
        for (o, q) in out.iter_mut().zip(quants) {
            *o = scale * f32::from(*q);
        }
    }
}
