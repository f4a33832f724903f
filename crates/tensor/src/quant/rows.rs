//! Rows without blocks: plain floats, and ChatGLM's INT8 and INT4 whose scales stand beside the matrix.
//!
//! Source of the latter: `quantization.py` of ChatGLM-6B, its CPU path: `scale * q` in `f32` (the CUDA path rounds
//! the product to binary16, which is not done here).

use super::QuantError;
use crate::DType;
use half::{bf16, f16};

/// Little-endian binary32.
pub(super) fn decode_f32(bytes: &[u8], out: &mut [f32]) {
    for (b, o) in bytes.as_chunks::<4>().0.iter().zip(out) {
        *o = f32::from_le_bytes(*b);
    }
}

/// Little-endian binary16.
pub(super) fn decode_f16(bytes: &[u8], out: &mut [f32]) {
    for (b, o) in bytes.as_chunks::<2>().0.iter().zip(out) {
        *o = f16::from_le_bytes(*b).to_f32();
    }
}

/// Little-endian bfloat16.
pub(super) fn decode_bf16(bytes: &[u8], out: &mut [f32]) {
    for (b, o) in bytes.as_chunks::<2>().0.iter().zip(out) {
        *o = bf16::from_le_bytes(*b).to_f32();
    }
}

/// A row of signed bytes times the row's scale.
pub fn decode_i8(bytes: &[u8], scale: f32, out: &mut [f32]) {
    for (b, o) in bytes.iter().zip(out) {
        *o = f32::from(b.cast_signed()) * scale;
    }
}

/// A row of two's-complement nibbles times the row's scale; the even column is the high nibble.
pub fn decode_i4(bytes: &[u8], scale: f32, out: &mut [f32]) {
    for (b, [even, odd]) in bytes.iter().zip(out.as_chunks_mut::<2>().0) {
        let (hi, lo) = int4_pair(*b);
        *even = f32::from(hi) * scale;
        *odd = f32::from(lo) * scale;
    }
}

/// The two numbers in a byte of `RowI4`, even column first.
#[inline]
pub fn int4_pair(byte: u8) -> (i8, i8) {
    (byte.cast_signed() >> 4, (byte << 4).cast_signed() >> 4)
}

/// Refuses NaN and infinity among binary32 numbers.
pub(super) fn check_f32(bytes: &[u8]) -> Result<(), QuantError> {
    match bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .enumerate()
        .find(|v| !v.1.is_finite())
    {
        Some((block, value)) => {
            Err(QuantError::NotFinite { dtype: DType::F32, block, offset: 4 * block, field: "value", value })
        }
        None => Ok(()),
    }
}

/// Refuses NaN and infinity among bfloat16 numbers.
pub(super) fn check_bf16(bytes: &[u8]) -> Result<(), QuantError> {
    match bytes
        .as_chunks::<2>()
        .0
        .iter()
        .map(|b| bf16::from_le_bytes(*b))
        .enumerate()
        .find(|v| !v.1.is_finite())
    {
        Some((block, value)) => Err(QuantError::NotFinite {
            dtype: DType::BF16,
            block,
            offset: 2 * block,
            field: "value",
            value: value.to_f32(),
        }),
        None => Ok(()),
    }
}
