//! Element types: plain numbers and the block-quantized weight formats.
//!
//! Every type is described by the same two numbers: a *block* of `block_len` consecutive elements of a row
//! takes `block_bytes` bytes. Plain numbers have blocks of one element.
//!
//! Sources: the GGUF specification (`ggml/docs/gguf.md`) and `ggml-common.h` for the block layouts and the
//! type numbers; ChatGLM's `quantization.py` for [`DType::RowI8`] and [`DType::RowI4`].

/// The type of a tensor's elements, as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(non_camel_case_types, reason = "the names are llama.cpp's, known to every user")]
pub enum DType {
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// bfloat16.
    BF16,
    /// IEEE binary64.
    F64,
    /// One byte per truth value.
    Bool,
    /// Unsigned 8-bit integer.
    U8,
    /// Signed 8-bit integer.
    I8,
    /// Signed 16-bit integer.
    I16,
    /// Signed 32-bit integer.
    I32,
    /// Signed 64-bit integer.
    I64,
    /// 4-bit, blocks of 32 with an f16 scale.
    Q4_0,
    /// 4-bit, blocks of 32 with an f16 scale and an f16 minimum.
    Q4_1,
    /// 5-bit, blocks of 32 with an f16 scale.
    Q5_0,
    /// 5-bit, blocks of 32 with an f16 scale and an f16 minimum.
    Q5_1,
    /// 8-bit, blocks of 32 with an f16 scale.
    Q8_0,
    /// 2-bit super-blocks of 256: 16 sub-blocks with 4-bit scales and minima.
    Q2_K,
    /// 3-bit super-blocks of 256: 16 sub-blocks with 6-bit scales.
    Q3_K,
    /// 4-bit super-blocks of 256: 8 sub-blocks with 6-bit scales and minima.
    Q4_K,
    /// 5-bit super-blocks of 256: 8 sub-blocks with 6-bit scales and minima.
    Q5_K,
    /// 6-bit super-blocks of 256: 16 sub-blocks with 8-bit scales.
    Q6_K,
    /// 4-bit through a table of 16 values, blocks of 32 with an f16 scale.
    IQ4_NL,
    /// 4-bit through the same table, super-blocks of 256 with 6-bit sub-scales.
    IQ4_XS,
    /// ChatGLM's INT8: signed bytes, one f16 scale per row kept beside the data.
    RowI8,
    /// ChatGLM's INT4: two's-complement nibbles, even column high, one f16 scale per row kept beside the data.
    RowI4,
}

impl DType {
    /// Every type that a weight matrix may have.
    pub const WEIGHTS: [DType; 17] = [
        DType::F32,
        DType::F16,
        DType::BF16,
        DType::Q4_0,
        DType::Q4_1,
        DType::Q5_0,
        DType::Q5_1,
        DType::Q8_0,
        DType::Q2_K,
        DType::Q3_K,
        DType::Q4_K,
        DType::Q5_K,
        DType::Q6_K,
        DType::IQ4_NL,
        DType::IQ4_XS,
        DType::RowI8,
        DType::RowI4,
    ];

    /// Elements per block.
    pub const fn block_len(self) -> usize {
        match self {
            DType::F32
            | DType::F16
            | DType::BF16
            | DType::F64
            | DType::Bool
            | DType::U8
            | DType::I8
            | DType::I16
            | DType::I32
            | DType::I64
            | DType::RowI8 => 1,
            DType::RowI4 => 2,
            DType::Q4_0 | DType::Q4_1 | DType::Q5_0 | DType::Q5_1 | DType::Q8_0 | DType::IQ4_NL => 32,
            DType::Q2_K | DType::Q3_K | DType::Q4_K | DType::Q5_K | DType::Q6_K | DType::IQ4_XS => 256,
        }
    }

    /// Bytes per block (for the `Row*` types without the row's scale).
    pub const fn block_bytes(self) -> usize {
        match self {
            DType::Bool | DType::U8 | DType::I8 | DType::RowI8 | DType::RowI4 => 1,
            DType::F16 | DType::BF16 | DType::I16 => 2,
            DType::F32 | DType::I32 => 4,
            DType::F64 | DType::I64 => 8,
            DType::Q4_0 | DType::IQ4_NL => 18,
            DType::Q4_1 => 20,
            DType::Q5_0 => 22,
            DType::Q5_1 => 24,
            DType::Q8_0 => 34,
            DType::Q2_K => 84,
            DType::Q3_K => 110,
            DType::Q4_K => 144,
            DType::Q5_K => 176,
            DType::Q6_K => 210,
            DType::IQ4_XS => 136,
        }
    }

    /// Bytes of `len` consecutive elements, or `None` when `len` is no multiple of the block or the product overflows.
    pub fn bytes_for(self, len: usize) -> Option<usize> {
        if !len.is_multiple_of(self.block_len()) {
            return None;
        }
        (len / self.block_len()).checked_mul(self.block_bytes())
    }

    /// Whether the type packs several elements into a block.
    pub const fn is_quantized(self) -> bool {
        self.block_len() > 1 || matches!(self, DType::RowI8)
    }

    /// The name users know: `F16`, `Q4_K`, ...
    pub const fn name(self) -> &'static str {
        match self {
            DType::F32 => "F32",
            DType::F16 => "F16",
            DType::BF16 => "BF16",
            DType::F64 => "F64",
            DType::Bool => "BOOL",
            DType::U8 => "U8",
            DType::I8 => "I8",
            DType::I16 => "I16",
            DType::I32 => "I32",
            DType::I64 => "I64",
            DType::Q4_0 => "Q4_0",
            DType::Q4_1 => "Q4_1",
            DType::Q5_0 => "Q5_0",
            DType::Q5_1 => "Q5_1",
            DType::Q8_0 => "Q8_0",
            DType::Q2_K => "Q2_K",
            DType::Q3_K => "Q3_K",
            DType::Q4_K => "Q4_K",
            DType::Q5_K => "Q5_K",
            DType::Q6_K => "Q6_K",
            DType::IQ4_NL => "IQ4_NL",
            DType::IQ4_XS => "IQ4_XS",
            DType::RowI8 => "INT8",
            DType::RowI4 => "INT4",
        }
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
