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

/// Refuses NaN and infinity among F32, F16 or BF16 numbers of `N` bytes; `is_finite` and `widen` read one of them.
pub(super) fn check_numbers<const N: usize>(
    dtype: DType,
    bytes: &[u8],
    is_finite: impl Fn([u8; N]) -> bool,
    widen: impl Fn([u8; N]) -> f32,
) -> Result<(), QuantError> {
    // A whole run at a time, without an exit in between, becomes vector code.
    const RUN: usize = 256;
    let numbers = bytes.as_chunks::<N>().0;
    for (run, chunk) in numbers.chunks(RUN).enumerate() {
        if chunk.iter().fold(true, |all, b| all & is_finite(*b)) {
            continue;
        }
        if let Some(at) = chunk.iter().position(|b| !is_finite(*b)) {
            let (block, value) = (run * RUN + at, widen(chunk[at]));
            return Err(QuantError::NotFinite { dtype, block, offset: N * block, field: "value", value });
        }
    }
    Ok(())
}
