//! Encoding to the blocks of 32 by plain rounding (`quantize_row_*_ref` of `ggml-quants.c`).

use super::legacy::{Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
use half::f16;

impl Q4_0<'_> {
    /// The block that stands for `x`: the element of the largest magnitude becomes quant -8.
    pub fn encode(x: &[f32; 32]) -> [u8; 18] {
        let d = peak(x) / -8.0;
        let inverse = invert(d);
        let quants = x.map(|x| ((x * inverse + 8.5) as u8).min(15));
        let mut out = [0; 18];
        out[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
        out[2..].copy_from_slice(&pack(&quants));
        out
    }
}

impl Q4_1<'_> {
    /// The block that stands for `x`: the smallest element becomes quant 0, the largest 15.
    pub fn encode(x: &[f32; 32]) -> [u8; 20] {
        let (min, max) = range(x);
        let d = (max - min) / 15.0;
        let inverse = invert(d);
        let quants = x.map(|x| (((x - min) * inverse + 0.5) as u8).min(15));
        let mut out = [0; 20];
        out[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
        out[2..4].copy_from_slice(&f16::from_f32(min).to_le_bytes());
        out[4..].copy_from_slice(&pack(&quants));
        out
    }
}

impl Q5_0<'_> {
    /// The block that stands for `x`: the element of the largest magnitude becomes quant -16.
    pub fn encode(x: &[f32; 32]) -> [u8; 22] {
        let d = peak(x) / -16.0;
        let inverse = invert(d);
        let quants = x.map(|x| ((x * inverse + 16.5) as u8).min(31));
        let mut out = [0; 22];
        out[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
        out[2..6].copy_from_slice(&fifth_bits(&quants).to_le_bytes());
        out[6..].copy_from_slice(&pack(&quants));
        out
    }
}

impl Q5_1<'_> {
    /// The block that stands for `x`: the smallest element becomes quant 0, the largest 31.
    pub fn encode(x: &[f32; 32]) -> [u8; 24] {
        let (min, max) = range(x);
        let d = (max - min) / 31.0;
        let inverse = invert(d);
        let quants = x.map(|x| (((x - min) * inverse + 0.5) as u8).min(31));
        let mut out = [0; 24];
        out[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
        out[2..4].copy_from_slice(&f16::from_f32(min).to_le_bytes());
        out[4..8].copy_from_slice(&fifth_bits(&quants).to_le_bytes());
        out[8..].copy_from_slice(&pack(&quants));
        out
    }
}

impl Q8_0<'_> {
    /// The block that stands for `x`: the largest magnitude becomes 127.
    pub fn encode(x: &[f32; 32]) -> [u8; 34] {
        let d = peak(x).abs() / 127.0;
        let inverse = invert(d);
        let mut out = [0; 34];
        out[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
        out[2..].copy_from_slice(&x.map(|x| round_half_away(x * inverse) as u8));
        out
    }
}

/// The first element of the largest magnitude.
fn peak(x: &[f32; 32]) -> f32 {
    // Magnitudes of finite numbers order as their bits do, and integer maxima vectorise.
    let largest = x.iter().fold(0, |max, x| (x.to_bits() & i32::MAX as u32).cast_signed().max(max));
    let peak = x.iter().find(|x| (x.to_bits() & i32::MAX as u32).cast_signed() == largest);
    if largest == 0 { 0.0 } else { peak.copied().unwrap_or(0.0) }
}

/// The smallest and the largest element.
fn range(x: &[f32; 32]) -> (f32, f32) {
    x.iter()
        .fold((x[0], x[0]), |(min, max), &x| (if x < min { x } else { min }, if x > max { x } else { max }))
}

fn invert(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// C's `roundf` for `|x| < 2^22`: adding the number just below a half keeps 0.49999997 from rounding up.
#[inline]
fn round_half_away(x: f32) -> i32 {
    (x + 0.499_999_97_f32.copysign(x)) as i32
}

/// Element `j` in the low and `j + 16` in the high nibble of byte `j`.
fn pack(quants: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|j| quants[j] & 15 | quants[j + 16] << 4)
}

/// Bit `e` is the fifth bit of quant `e`.
fn fifth_bits(quants: &[u8; 32]) -> u32 {
    quants.iter().enumerate().fold(0, |bits, (e, q)| bits | u32::from(q >> 4) << e)
}
