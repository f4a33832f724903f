//! The 4-bit types with a table of uneven steps: IQ4_NL and IQ4_XS. Read only: their encoder is a search that
//! belongs with importance matrices.

use super::{field, half_at, nibbles};

/// What each nibble stands for, in units of the block's scale.
pub const VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// 18 bytes for 32 elements: scale, 16 nibble bytes (element `j` low, `j + 16` high);
/// element = scale * [`VALUES`]`[nibble]`.
#[derive(Clone, Copy, Debug)]
pub struct Iq4Nl<'a>(pub &'a [u8; 18]);

/// 136 bytes for 256 elements: scale, high and low bits of eight 6-bit sub-scales, eight groups of 16 nibble bytes;
/// element = scale * (sub-scale - 32) * [`VALUES`]`[nibble]`.
#[derive(Clone, Copy, Debug)]
pub struct Iq4Xs<'a>(pub &'a [u8; 136]);

impl<'a> Iq4Nl<'a> {
    /// The scale.
    #[inline]
    pub fn d(self) -> f32 {
        half_at(self.0, 0)
    }

    /// The nibbles as stored.
    #[inline]
    pub fn packed(self) -> &'a [u8; 16] {
        field(self.0, 2)
    }

    /// The table values in element order.
    #[inline]
    pub fn quants(self) -> [i8; 32] {
        nibbles(self.packed()).map(|q| VALUES[usize::from(q)])
    }

    /// The elements.
    #[inline]
    pub fn decode(self, out: &mut [f32; 32]) {
        let d = self.d();
        for (o, q) in out.iter_mut().zip(self.quants()) {
            *o = d * f32::from(q);
        }
    }
}

impl<'a> Iq4Xs<'a> {
    /// The scale of the super-block.
    #[inline]
    pub fn d(self) -> f32 {
        half_at(self.0, 0)
    }

    /// The scale of sub-block `s` (of 8, each 32 elements), -32..=31, in units of `d`.
    #[inline]
    pub fn scale(self, s: usize) -> i8 {
        let high = u16::from_le_bytes([self.0[2], self.0[3]]) >> (2 * s) & 3;
        let low = self.0[4 + s / 2] >> (4 * (s % 2)) & 15;
        (low | (high as u8) << 4).cast_signed() - 32
    }

    /// The nibbles of sub-block `s` as stored: element `j` low, `j + 16` high.
    #[inline]
    pub fn packed(self, s: usize) -> &'a [u8; 16] {
        field(self.0, 8 + 16 * s)
    }

    /// The table values of sub-block `s` in element order.
    #[inline]
    pub fn quants(self, s: usize) -> [i8; 32] {
        nibbles(self.packed(s)).map(|q| VALUES[usize::from(q)])
    }

    /// The elements.
    #[inline]
    pub fn decode(self, out: &mut [f32; 256]) {
        let d = self.d();
        for (s, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let scale = d * f32::from(self.scale(s));
            for (o, q) in out.iter_mut().zip(self.quants(s)) {
                *o = scale * f32::from(q);
            }
        }
    }
}
