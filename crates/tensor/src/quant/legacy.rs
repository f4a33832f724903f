//! The blocks of 32: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0.
//!
//! All scales and minima are little-endian binary16. In the 4- and 5-bit types byte `j` of the nibbles holds
//! element `j` low and element `j + 16` high; the fifth bits are one little-endian `u32`, bit `e` for element `e`.

use super::{field, half_at, nibbles};

/// 18 bytes: scale, 16 nibble bytes; element = scale * (nibble - 8).
#[derive(Clone, Copy, Debug)]
pub struct Q4_0<'a>(pub &'a [u8; 18]);

/// 20 bytes: scale, minimum, 16 nibble bytes; element = scale * nibble + minimum.
#[derive(Clone, Copy, Debug)]
pub struct Q4_1<'a>(pub &'a [u8; 20]);

/// 22 bytes: scale, fifth bits, 16 nibble bytes; element = scale * (quant - 16).
#[derive(Clone, Copy, Debug)]
pub struct Q5_0<'a>(pub &'a [u8; 22]);

/// 24 bytes: scale, minimum, fifth bits, 16 nibble bytes; element = scale * quant + minimum.
#[derive(Clone, Copy, Debug)]
pub struct Q5_1<'a>(pub &'a [u8; 24]);

/// 34 bytes: scale, 32 signed bytes; element = scale * byte.
#[derive(Clone, Copy, Debug)]
pub struct Q8_0<'a>(pub &'a [u8; 34]);

impl<'a> Q4_0<'a> {
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

    /// The integers in element order, -8..=7.
    #[inline]
    pub fn quants(self) -> [i8; 32] {
        nibbles(self.packed()).map(|q| q.cast_signed() - 8)
    }

    /// The elements.
    #[inline]
    pub fn decode(self, out: &mut [f32; 32]) {
        scaled(self.d(), &self.quants(), out);
    }
}

impl<'a> Q4_1<'a> {
    /// The scale.
    #[inline]
    pub fn d(self) -> f32 {
        half_at(self.0, 0)
    }

    /// The minimum, which is added.
    #[inline]
    pub fn m(self) -> f32 {
        half_at(self.0, 2)
    }

    /// The nibbles as stored.
    #[inline]
    pub fn packed(self) -> &'a [u8; 16] {
        field(self.0, 4)
    }

    /// The integers in element order, 0..=15.
    #[inline]
    pub fn quants(self) -> [u8; 32] {
        nibbles(self.packed())
    }

    /// The elements.
    #[inline]
    pub fn decode(self, out: &mut [f32; 32]) {
        scaled_plus(self.d(), self.m(), &self.quants(), out);
    }
}

impl<'a> Q5_0<'a> {
    /// The scale.
    #[inline]
    pub fn d(self) -> f32 {
        half_at(self.0, 0)
    }

    /// The fifth bits: bit `e` belongs to element `e`.
    #[inline]
    pub fn high_bits(self) -> u32 {
        u32::from_le_bytes(*field(self.0, 2))
    }

    /// The nibbles as stored.
    #[inline]
    pub fn packed(self) -> &'a [u8; 16] {
        field(self.0, 6)
    }

    /// The integers in element order, -16..=15.
    #[inline]
    pub fn quants(self) -> [i8; 32] {
        with_fifth_bits(nibbles(self.packed()), self.high_bits()).map(|q| q.cast_signed() - 16)
    }

    /// The elements.
    #[inline]
    pub fn decode(self, out: &mut [f32; 32]) {
        scaled(self.d(), &self.quants(), out);
    }
}

impl<'a> Q5_1<'a> {
    /// The scale.
    #[inline]
    pub fn d(self) -> f32 {
        half_at(self.0, 0)
    }

    /// The minimum, which is added.
    #[inline]
    pub fn m(self) -> f32 {
        half_at(self.0, 2)
    }

    /// The fifth bits: bit `e` belongs to element `e`.
    #[inline]
    pub fn high_bits(self) -> u32 {
        u32::from_le_bytes(*field(self.0, 4))
    }

    /// The nibbles as stored.
    #[inline]
    pub fn packed(self) -> &'a [u8; 16] {
        field(self.0, 8)
    }

    /// The integers in element order, 0..=31.
    #[inline]
    pub fn quants(self) -> [u8; 32] {
        with_fifth_bits(nibbles(self.packed()), self.high_bits())
    }

    /// The elements.
    #[inline]
    pub fn decode(self, out: &mut [f32; 32]) {
        scaled_plus(self.d(), self.m(), &self.quants(), out);
    }
}

impl<'a> Q8_0<'a> {
    /// The scale.
    #[inline]
    pub fn d(self) -> f32 {
        half_at(self.0, 0)
    }

    /// The integers as stored: two's complement, in element order.
    #[inline]
    pub fn packed(self) -> &'a [u8; 32] {
        field(self.0, 2)
    }

    /// The integers in element order.
    #[inline]
    pub fn quants(self) -> [i8; 32] {
        self.packed().map(u8::cast_signed)
    }

    /// The elements.
    #[inline]
    pub fn decode(self, out: &mut [f32; 32]) {
        scaled(self.d(), &self.quants(), out);
    }
}

/// Adds bit `e` of `high` as the fifth bit of quant `e`.
#[inline]
fn with_fifth_bits(mut quants: [u8; 32], high: u32) -> [u8; 32] {
    for (e, q) in quants.iter_mut().enumerate() {
        *q |= ((high >> e & 1) as u8) << 4;
    }
    quants
}

#[inline]
fn scaled(d: f32, quants: &[i8; 32], out: &mut [f32; 32]) {
    for (o, q) in out.iter_mut().zip(quants) {
        *o = f32::from(*q) * d;
    }
}

#[inline]
fn scaled_plus(d: f32, m: f32, quants: &[u8; 32], out: &mut [f32; 32]) {
    for (o, q) in out.iter_mut().zip(quants) {
        *o = f32::from(*q) * d + m;
    }
}
