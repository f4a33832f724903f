//! Random weights, made as the blocks of their type: nothing is encoded, so that a file is written as fast as a disk
//! takes it.
//!
//! Integers are spread evenly over what a type has and scales vary by a quarter, so that every bit of a kernel is used;
//! means are zero and deviations those of a trained model, so that activations stay in bounds through any number of
//! layers. Block layouts: `glimmer_tensor::quant`.

use glimmer_tensor::DType;
use glimmer_tensor::quant::iq4;
use half::f16;

use crate::random::Random;

/// The standard deviation of all weights: that of numbers spread evenly over -1/32 ..= 1/32.
pub(super) const DEVIATION: f32 = 0.018_042;

/// What a tensor's numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Values {
    /// Of a weight or a bias: mean 0, [`DEVIATION`].
    Weights,
    /// A norm's scale: near 1.
    NearOne,
    /// ChatGLM's INT8: -127 ..= 127.
    Bytes,
    /// ChatGLM's INT4: two of -7 ..= 7.
    Nibbles,
    /// The row scales of INT8.
    ScalesOfBytes,
    /// The row scales of INT4.
    ScalesOfNibbles,
}

/// Fills `out`, a whole number of `dtype`'s blocks.
pub(super) fn fill(dtype: DType, values: Values, random: &mut Random, out: &mut [u8]) {
    random.bytes(out);
    match values {
        Values::Weights => weights(dtype, out),
        Values::NearOne => near_one(dtype, out),
        Values::Bytes => out.iter_mut().for_each(|byte| *byte = symmetric(*byte)),
        Values::Nibbles => out.iter_mut().for_each(|byte| *byte = NIBBLES[usize::from(*byte)]),
        Values::ScalesOfBytes => each(out, |b: &mut [u8; 2]| *b = scale(*b, BYTE).to_le_bytes()),
        Values::ScalesOfNibbles => each(out, |b: &mut [u8; 2]| *b = scale(*b, NIBBLE).to_le_bytes()),
    }
}

/// Root mean squares of integers that are equally likely.
const BYTE: f32 = 73.47; // -127 ..= 127, 0 twice
const NIBBLE: f32 = 4.183; // -7 ..= 7, 0 twice
const SIGNED: [f32; 6] = [0.5, 1.2247, 2.3452, 4.637, 9.2466, 18.48]; // -2^(n-1) .. 2^(n-1), by n - 1
const CENTRED: [f32; 6] = [0.5, 1.118, 2.2913, 4.6098, 9.2331, 18.473]; // the same plus a half
const SCALE_8_15: f32 = 11.726;
const SCALE_32_63: f32 = 48.389;
const SCALE_BYTE: f32 = 73.902; // -128 ..= 127

/// Every random byte as the byte whose nibbles are -7 ..= 7: -8 becomes 0.
const NIBBLES: [u8; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let (high, low) = (i >> 4, i & 15);
        table[i] = ((if high == 8 { 0 } else { high }) << 4 | (if low == 8 { 0 } else { low })) as u8;
        i += 1;
    }
    table
};

/// -128, whose negative is no signed byte, becomes 0.
fn symmetric(byte: u8) -> u8 {
    if byte == 0x80 { 0 } else { byte }
}

/// Makes blocks of `dtype` of random bytes.
fn weights(dtype: DType, out: &mut [u8]) {
    match dtype {
        DType::F32 => each(out, |b| *b = even::<23, 121>(u32::from_le_bytes(*b)).to_le_bytes()),
        DType::F16 => each(out, |b| *b = (even::<10, 9>(u16::from_le_bytes(*b).into()) as u16).to_le_bytes()),
        DType::BF16 => {
            each(out, |b| *b = (even::<7, 121>(u16::from_le_bytes(*b).into()) as u16).to_le_bytes());
        }
        DType::Q4_0 => each(out, |b: &mut [u8; 18]| set_signed(b, 0, SIGNED[3])),
        DType::Q5_0 => each(out, |b: &mut [u8; 22]| set_signed(b, 0, SIGNED[4])),
        DType::IQ4_NL => each(out, |b: &mut [u8; 18]| set_signed(b, 0, table_deviation())),
        DType::Q8_0 => each(out, |b: &mut [u8; 34]| {
            set(b, 0, BYTE);
            b[2..].iter_mut().for_each(|byte| *byte = symmetric(*byte));
        }),
        DType::Q4_1 => each(out, |b: &mut [u8; 20]| set_with_minimum(b, 0, CENTRED[3], -7.5)),
        DType::Q5_1 => each(out, |b: &mut [u8; 24]| set_with_minimum(b, 0, CENTRED[4], -15.5)),
        DType::Q2_K => each(out, |b: &mut [u8; 84]| {
            // The same number for scale and minimum, 8 ..= 15.
            b[..16].iter_mut().for_each(|byte| *byte = (*byte & 15 | 8) * 0x11);
            set_with_minimum(b, 80, SCALE_8_15 * CENTRED[1], 1.5);
        }),
        DType::Q3_K => each(out, |b: &mut [u8; 110]| set_signed(b, 108, SIGNED[5] * SIGNED[2])),
        DType::Q4_K => each(out, |b: &mut [u8; 144]| {
            equal_minima(&mut b[4..16]);
            set_with_minimum(b, 0, SCALE_32_63 * CENTRED[3], 7.5);
        }),
        DType::Q5_K => each(out, |b: &mut [u8; 176]| {
            equal_minima(&mut b[4..16]);
            set_with_minimum(b, 0, SCALE_32_63 * CENTRED[4], 15.5);
        }),
        DType::Q6_K => each(out, |b: &mut [u8; 210]| set_signed(b, 208, SCALE_BYTE * SIGNED[5])),
        DType::IQ4_XS => each(out, |b: &mut [u8; 136]| set_signed(b, 0, SIGNED[5] * table_deviation())),
        // The others hold no weights, or have their scales elsewhere.
        _ => {}
    }
}

/// The 6-bit scales of Q4_K and Q5_K, 32 ..= 63, each with a minimum of the same number.
fn equal_minima(packed: &mut [u8]) {
    for j in 0..4 {
        packed[j] |= 0xa0;
        packed[4 + j] = packed[j];
        packed[8 + j] = (packed[8 + j] & 15) * 0x11;
    }
}

/// The root mean square of the values that IQ4's nibbles stand for.
fn table_deviation() -> f32 {
    let squares: i32 = iq4::VALUES.iter().map(|&v| i32::from(v) * i32::from(v)).sum();
    (squares as f32 / iq4::VALUES.len() as f32).sqrt()
}

/// A positive scale from random bits: what gives integers of this root mean square our deviation, times 0.75 to 1.25.
fn scale(bits: [u8; 2], deviation: f32) -> f16 {
    let spread = 0.75 + f32::from(u16::from_le_bytes(bits) & 0x7fff) / 65536.0;
    f16::from_f32(spread * DEVIATION / deviation)
}

/// Sets the scale at `at`.
fn set(block: &mut [u8], at: usize, deviation: f32) {
    let scale = scale([block[at], block[at + 1]], deviation);
    block[at..at + 2].copy_from_slice(&scale.to_le_bytes());
}

/// Sets a scale of either sign, where the integers' mean is not zero.
fn set_signed(block: &mut [u8], at: usize, deviation: f32) {
    let sign = block[at + 1] & 0x80;
    set(block, at, deviation);
    block[at + 1] |= sign;
}

/// Sets scale and minimum, `centre` scales.
fn set_with_minimum(block: &mut [u8], at: usize, deviation: f32, centre: f32) {
    set(block, at, deviation);
    let scale = f16::from_le_bytes([block[at], block[at + 1]]);
    let minimum = f16::from_f32(centre * scale.to_f32());
    block[at + 2..at + 4].copy_from_slice(&minimum.to_le_bytes());
}

/// Random bits as a float with `MANTISSA` bits after the point, spread evenly over -1/32 ..= 1/32; `TOP` is the
/// exponent of 1/64 as stored. Each smaller exponent is half as likely as the one above it.
#[inline]
fn even<const MANTISSA: u32, const TOP: u32>(bits: u32) -> u32 {
    let lot = bits >> MANTISSA & 31;
    let exponent = TOP - 5 + [1, 2, 4, 8, 16].iter().map(|&least| u32::from(lot >= least)).sum::<u32>();
    let width = if MANTISSA == 23 { 32 } else { 16 };
    bits & (1 << (width - 1) | ((1 << MANTISSA) - 1)) | exponent << MANTISSA
}

/// A norm's scales, 1 give or take a quarter.
fn near_one(dtype: DType, out: &mut [u8]) {
    weights(dtype, out);
    match dtype {
        DType::F32 => each(out, |b| *b = (1.0 + 8.0 * f32::from_le_bytes(*b)).to_le_bytes()),
        DType::F16 => each(out, |b| {
            *b = f16::from_f32(1.0 + 8.0 * f16::from_le_bytes(*b).to_f32()).to_le_bytes();
        }),
        DType::BF16 => each(out, |b| {
            *b = half::bf16::from_f32(1.0 + 8.0 * half::bf16::from_le_bytes(*b).to_f32()).to_le_bytes();
        }),
        _ => {}
    }
}

/// Does it to every `N` bytes.
#[inline]
fn each<const N: usize>(out: &mut [u8], make: impl Fn(&mut [u8; N])) {
    out.as_chunks_mut::<N>().0.iter_mut().for_each(make);
}

#[cfg(test)]
mod tests {
    use super::*;
    use glimmer_tensor::MatrixView;
    use glimmer_tensor::quant::{check_scales, decode_matrix_rows, decode_row};

    const LEN: usize = 1 << 18;

    fn moments(values: &[f32]) -> (f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let variance = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
        (mean, variance.sqrt())
    }

    fn hold(what: &str, values: &[f32]) {
        let (mean, deviation) = moments(values);
        let wanted = f64::from(DEVIATION);
        assert!(values.iter().all(|v| v.is_finite()), "{what}");
        assert!((deviation / wanted - 1.0).abs() < 0.03, "{what}: deviation {deviation}");
        // Four times what chance gives.
        assert!(mean.abs() < 4.0 * wanted / (LEN as f64).sqrt().min(512.0), "{what}: mean {mean}");
        let largest = values.iter().fold(0f32, |m, v| m.max(v.abs()));
        assert!(largest < 6.0 * DEVIATION, "{what}: {largest}");
    }

    #[test]
    fn every_type_has_the_same_moments() {
        for dtype in DType::WEIGHTS {
            if matches!(dtype, DType::RowI8 | DType::RowI4) {
                continue;
            }
            let mut bytes = vec![0; dtype.bytes_for(LEN).unwrap()];
            fill(dtype, Values::Weights, &mut Random::new(&[7]), &mut bytes);
            check_scales(dtype, &bytes).unwrap();
            let mut values = vec![0f32; LEN];
            decode_row(dtype, &bytes, &mut values).unwrap();
            hold(dtype.name(), &values);
        }
    }

    #[test]
    fn so_have_chatglms_packings() {
        const ROWS: usize = 256;
        for (dtype, integers, scales) in [
            (DType::RowI8, Values::Bytes, Values::ScalesOfBytes),
            (DType::RowI4, Values::Nibbles, Values::ScalesOfNibbles),
        ] {
            let cols = LEN / ROWS;
            let mut data = vec![0; dtype.bytes_for(LEN).unwrap()];
            fill(DType::I8, integers, &mut Random::new(&[1]), &mut data);
            let mut row_scale = vec![0; 2 * ROWS];
            fill(DType::F16, scales, &mut Random::new(&[2]), &mut row_scale);
            let view = MatrixView::new(dtype, ROWS, cols, &data, Some(&row_scale)).unwrap();
            let mut values = vec![0f32; LEN];
            decode_matrix_rows(&view, 0..ROWS, &mut values).unwrap();
            hold(dtype.name(), &values);
        }
    }

    #[test]
    fn scales_of_norms_are_near_one() {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let mut bytes = vec![0; dtype.bytes_for(4096).unwrap()];
            fill(dtype, Values::NearOne, &mut Random::new(&[3]), &mut bytes);
            let mut values = vec![0f32; 4096];
            decode_row(dtype, &bytes, &mut values).unwrap();
            assert!(values.iter().all(|v| (v - 1.0).abs() <= 0.25), "{dtype}");
            assert!((moments(&values).0 - 1.0).abs() < 0.02, "{dtype}");
        }
    }
}
