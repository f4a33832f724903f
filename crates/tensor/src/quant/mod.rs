//! Quantized block formats: the scalar truth of decoding and encoding.
//!
//! Every weight type is decoded here by plain loops whose `f32` operations stand in the same order as in
//! llama.cpp's `dequantize_row_*`, so that the numbers agree bit for bit; faster kernels elsewhere are proven
//! against them. The block views ([`legacy`], [`kquants`], [`iq4`]) name the fields of a block, for kernels that
//! repack them. Encoding is plain rounding, without an importance matrix.
//!
//! Source of the layouts: `ggml-common.h`; of the arithmetic: `ggml-quants.c` (ggml 0.25).

pub mod iq4;
pub mod kquants;
mod kquants_encode;
pub mod legacy;
mod legacy_encode;
pub mod rows;

use crate::{DType, MatrixView};
use half::{bf16, f16};
use std::ops::Range;

/// Why a row can be neither decoded nor encoded.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum QuantError {
    /// The type holds no weights.
    #[error("{0} is not a weight type")]
    NotAWeightType(DType),
    /// The type's scales lie beside the row; see [`decode_matrix_rows`].
    #[error("{0} rows need the scale that is kept beside them")]
    NeedsRowScale(DType),
    /// Bytes and values do not match.
    #[error("{values} values of {dtype} do not take {bytes} bytes")]
    WrongLength {
        /// The element type.
        dtype: DType,
        /// Bytes given.
        bytes: usize,
        /// Values given.
        values: usize,
    },
    /// A matrix was asked for rows that it does not have.
    #[error("rows {start}..{end} of a matrix with {rows} rows")]
    NoSuchRows {
        /// First row asked for.
        start: usize,
        /// One past the last row asked for.
        end: usize,
        /// Rows of the matrix.
        rows: usize,
    },
    /// No encoder for the type.
    #[error("{0} can be read but not written: choose one of F32, F16, BF16, Q4_0 to Q8_0, Q2_K to Q6_K")]
    NoEncoder(DType),
    /// A value to encode is NaN, infinite or beyond every type's reach.
    #[error("value {index} is {value}, which {dtype} cannot hold")]
    Unencodable {
        /// The element type.
        dtype: DType,
        /// Index of the value.
        index: usize,
        /// The value.
        value: f32,
    },
    /// A stored scale, minimum or number is NaN or infinite.
    #[error("{dtype} block {block} (byte offset {offset}): its {field} is {value}")]
    NotFinite {
        /// The element type.
        dtype: DType,
        /// Index of the block within the bytes given (of the row, for a scale kept beside the rows).
        block: usize,
        /// Offset of the field within the bytes given (within the scales, for a scale kept beside the rows).
        offset: usize,
        /// Name of the field.
        field: &'static str,
        /// Its value.
        value: f32,
    },
}

/// Decodes one row: `out.len()` elements of `dtype`.
///
/// # Errors
/// [`QuantError::WrongLength`] when `bytes` does not hold exactly `out.len()` elements; [`QuantError::NeedsRowScale`]
/// for `RowI8` and `RowI4`; [`QuantError::NotAWeightType`] for all types outside [`DType::WEIGHTS`].
/// NaN and infinite scales are no error here: see [`check_scales`].
pub fn decode_row(dtype: DType, bytes: &[u8], out: &mut [f32]) -> Result<(), QuantError> {
    if !DType::WEIGHTS.contains(&dtype) {
        return Err(QuantError::NotAWeightType(dtype));
    }
    if dtype.bytes_for(out.len()) != Some(bytes.len()) {
        return Err(QuantError::WrongLength { dtype, bytes: bytes.len(), values: out.len() });
    }
    match dtype {
        DType::F32 => rows::decode_f32(bytes, out),
        DType::F16 => rows::decode_f16(bytes, out),
        DType::BF16 => rows::decode_bf16(bytes, out),
        DType::Q4_0 => each_block(bytes, out, |b, o| legacy::Q4_0(b).decode(o)),
        DType::Q4_1 => each_block(bytes, out, |b, o| legacy::Q4_1(b).decode(o)),
        DType::Q5_0 => each_block(bytes, out, |b, o| legacy::Q5_0(b).decode(o)),
        DType::Q5_1 => each_block(bytes, out, |b, o| legacy::Q5_1(b).decode(o)),
        DType::Q8_0 => each_block(bytes, out, |b, o| legacy::Q8_0(b).decode(o)),
        DType::Q2_K => each_block(bytes, out, |b, o| kquants::Q2K(b).decode(o)),
        DType::Q3_K => each_block(bytes, out, |b, o| kquants::Q3K(b).decode(o)),
        DType::Q4_K => each_block(bytes, out, |b, o| kquants::Q4K(b).decode(o)),
        DType::Q5_K => each_block(bytes, out, |b, o| kquants::Q5K(b).decode(o)),
        DType::Q6_K => each_block(bytes, out, |b, o| kquants::Q6K(b).decode(o)),
        DType::IQ4_NL => each_block(bytes, out, |b, o| iq4::Iq4Nl(b).decode(o)),
        DType::IQ4_XS => each_block(bytes, out, |b, o| iq4::Iq4Xs(b).decode(o)),
        _ => return Err(QuantError::NeedsRowScale(dtype)),
    }
    Ok(())
}

/// Encodes one row and appends its bytes to `out`: plain rounding, the same bytes as llama.cpp's
/// `quantize_row_*_ref`. After an error `out` is as it was.
///
/// # Errors
/// [`QuantError::NoEncoder`] for the IQ4 types and ChatGLM's; [`QuantError::NotAWeightType`];
/// [`QuantError::WrongLength`] when the row is no whole number of blocks; [`QuantError::Unencodable`] for NaN,
/// infinity, and numbers whose block would get an infinite scale.
pub fn encode_row(dtype: DType, values: &[f32], out: &mut Vec<u8>) -> Result<(), QuantError> {
    if !DType::WEIGHTS.contains(&dtype) {
        return Err(QuantError::NotAWeightType(dtype));
    }
    let Some(bytes) = dtype.bytes_for(values.len()) else {
        let bytes = values.len() / dtype.block_len() * dtype.block_bytes();
        return Err(QuantError::WrongLength { dtype, bytes, values: values.len() });
    };
    refuse_above(dtype, values, if dtype.is_quantized() { LARGEST_QUANTIZABLE } else { f32::MAX })?;
    let start = out.len();
    out.resize(start + bytes, 0);
    let row = &mut out[start..];
    match dtype {
        DType::F32 => encode_blocks(values, row, |v: &[f32; 1]| v[0].to_le_bytes()),
        DType::F16 => encode_blocks(values, row, |v: &[f32; 1]| f16::from_f32(v[0]).to_le_bytes()),
        DType::BF16 => encode_blocks(values, row, |v: &[f32; 1]| bf16::from_f32(v[0]).to_le_bytes()),
        DType::Q4_0 => encode_blocks(values, row, legacy::Q4_0::encode),
        DType::Q4_1 => encode_blocks(values, row, legacy::Q4_1::encode),
        DType::Q5_0 => encode_blocks(values, row, legacy::Q5_0::encode),
        DType::Q5_1 => encode_blocks(values, row, legacy::Q5_1::encode),
        DType::Q8_0 => encode_blocks(values, row, legacy::Q8_0::encode),
        DType::Q2_K => encode_blocks(values, row, kquants::Q2K::encode),
        DType::Q3_K => encode_blocks(values, row, kquants::Q3K::encode),
        DType::Q4_K => encode_blocks(values, row, kquants::Q4K::encode),
        DType::Q5_K => encode_blocks(values, row, kquants::Q5K::encode),
        DType::Q6_K => encode_blocks(values, row, kquants::Q6K::encode),
        _ => {
            out.truncate(start);
            return Err(QuantError::NoEncoder(dtype));
        }
    }
    if let Err(QuantError::NotFinite { block, .. }) = check_scales(dtype, &out[start..]) {
        out.truncate(start);
        let first = block * dtype.block_len();
        let largest = (first..first + dtype.block_len())
            .max_by(|&a, &b| values[a].abs().total_cmp(&values[b].abs()))
            .unwrap_or(first);
        return Err(QuantError::Unencodable { dtype, index: largest, value: values[largest] });
    }
    Ok(())
}

/// Decodes the rows `range` of a matrix into `out` `[range.len(), cols]`.
///
/// # Errors
/// [`QuantError::NoSuchRows`] when the range leaves the matrix; [`QuantError::WrongLength`] when `out` has another
/// size.
pub fn decode_matrix_rows(
    matrix: &MatrixView<'_>,
    range: Range<usize>,
    out: &mut [f32],
) -> Result<(), QuantError> {
    if range.start > range.end || range.end > matrix.rows {
        return Err(QuantError::NoSuchRows { start: range.start, end: range.end, rows: matrix.rows });
    }
    let part = matrix.slice_rows(range);
    if part.rows.checked_mul(part.cols) != Some(out.len()) {
        return Err(QuantError::WrongLength { dtype: part.dtype, bytes: part.data.len(), values: out.len() });
    }
    let Some(scales) = part.row_scale else { return decode_row(part.dtype, part.data, out) };
    if out.is_empty() {
        return Ok(());
    }
    let rows = part.data.chunks_exact(part.row_bytes()).zip(out.chunks_exact_mut(part.cols));
    for (row, (bytes, out)) in rows.enumerate() {
        let scale = half_at(scales, 2 * row);
        match part.dtype {
            DType::RowI8 => rows::decode_i8(bytes, scale, out),
            DType::RowI4 => rows::decode_i4(bytes, scale, out),
            other => return Err(QuantError::NotAWeightType(other)),
        }
    }
    Ok(())
}

/// Refuses NaN and infinite block scales and minima; for F32, F16 and BF16 NaN and infinite numbers.
///
/// `bytes` is any whole number of blocks: a row, a matrix, a tensor. `RowI8` and `RowI4` keep their scales elsewhere
/// (see [`check_matrix`]) and always pass, as do types that hold no weights.
///
/// # Errors
/// [`QuantError::NotFinite`] names the first offending block and its byte offset; [`QuantError::WrongLength`] when
/// `bytes` ends within a block.
pub fn check_scales(dtype: DType, bytes: &[u8]) -> Result<(), QuantError> {
    let size = dtype.block_bytes();
    if !bytes.len().is_multiple_of(size) {
        let values = bytes.len() / size * dtype.block_len();
        return Err(QuantError::WrongLength { dtype, bytes: bytes.len(), values });
    }
    let fields: &[(&'static str, usize)] = match dtype {
        DType::F32 => {
            let number = f32::from_le_bytes;
            return rows::check_numbers(dtype, bytes, |b| number(b).is_finite(), number);
        }
        DType::F16 => {
            let number = f16::from_le_bytes;
            return rows::check_numbers(dtype, bytes, |b| number(b).is_finite(), |b| number(b).to_f32());
        }
        DType::BF16 => {
            let number = bf16::from_le_bytes;
            return rows::check_numbers(dtype, bytes, |b| number(b).is_finite(), |b| number(b).to_f32());
        }
        DType::Q4_0 | DType::Q5_0 | DType::Q8_0 | DType::IQ4_NL | DType::IQ4_XS => &[("scale", 0)],
        DType::Q4_1 | DType::Q5_1 | DType::Q4_K | DType::Q5_K => &[("scale", 0), ("minimum", 2)],
        DType::Q2_K => &[("scale", 80), ("minimum", 82)],
        DType::Q3_K => &[("scale", 108)],
        DType::Q6_K => &[("scale", 208)],
        _ => return Ok(()),
    };
    for (index, block) in bytes.chunks_exact(size).enumerate() {
        for &(name, at) in fields {
            let value = f16::from_le_bytes(*field(block, at));
            if !value.is_finite() {
                let offset = index * size + at;
                let value = value.to_f32();
                return Err(QuantError::NotFinite { dtype, block: index, offset, field: name, value });
            }
        }
    }
    Ok(())
}

/// [`check_scales`] on a matrix, including the row scales of `RowI8` and `RowI4`.
///
/// # Errors
/// [`QuantError::NotFinite`]; for a row scale `block` is the row and `offset` counts from the start of the scales.
pub fn check_matrix(matrix: &MatrixView<'_>) -> Result<(), QuantError> {
    let dtype = matrix.dtype;
    for (row, bytes) in matrix.row_scale.unwrap_or_default().as_chunks::<2>().0.iter().enumerate() {
        let value = f16::from_le_bytes(*bytes).to_f32();
        if !value.is_finite() {
            return Err(QuantError::NotFinite {
                dtype,
                block: row,
                offset: 2 * row,
                field: "row scale",
                value,
            });
        }
    }
    check_scales(dtype, matrix.data)
}

/// A magnitude above what any block can hold (binary16's largest scale times Q6_K's 128 * 32), and small enough for
/// the sums of cubes in the encoders' searches.
const LARGEST_QUANTIZABLE: f32 = 4e8;

/// Refuses values that are not finite or larger than `limit`.
fn refuse_above(dtype: DType, values: &[f32], limit: f32) -> Result<(), QuantError> {
    // Written so that NaN is refused.
    let fits = |v: f32| v.abs() <= limit;
    if values.iter().fold(true, |all, v| all & fits(*v)) {
        return Ok(());
    }
    match values.iter().position(|v| !fits(*v)) {
        Some(index) => Err(QuantError::Unencodable { dtype, index, value: values[index] }),
        None => Ok(()),
    }
}

/// Runs `encode` over the blocks of a row; the caller has checked that both slices hold the same whole blocks.
fn encode_blocks<const BYTES: usize, const LEN: usize>(
    values: &[f32],
    out: &mut [u8],
    encode: impl Fn(&[f32; LEN]) -> [u8; BYTES],
) {
    for (block, out) in values.as_chunks::<LEN>().0.iter().zip(out.as_chunks_mut::<BYTES>().0) {
        *out = encode(block);
    }
}

/// Runs `decode` over the blocks of a row; the caller has checked that both slices hold the same whole blocks.
fn each_block<const BYTES: usize, const LEN: usize>(
    bytes: &[u8],
    out: &mut [f32],
    decode: impl Fn(&[u8; BYTES], &mut [f32; LEN]),
) {
    for (block, out) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<LEN>().0) {
        decode(block, out);
    }
}

/// The little-endian binary16 at byte `at`, widened.
#[inline]
fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// The low nibbles of `packed`, then its high nibbles: the order of all blocks of 32.
#[inline]
fn nibbles(packed: &[u8; 16]) -> [u8; 32] {
    let mut out = [0; 32];
    for (j, byte) in packed.iter().enumerate() {
        out[j] = byte & 15;
        out[j + 16] = byte >> 4;
    }
    out
}

/// `N` bytes from `at` as an array.
#[inline]
fn field<const N: usize>(bytes: &[u8], at: usize) -> &[u8; N] {
    bytes[at..].first_chunk().expect("the fields of a block lie within it")
}
