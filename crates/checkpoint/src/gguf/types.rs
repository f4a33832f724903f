//! ggml's type numbers (`enum ggml_type` in `ggml.h`).

use glimmer_tensor::DType;

/// The types that are read and written.
const SUPPORTED: [(u32, DType); 20] = [
    (0, DType::F32),
    (1, DType::F16),
    (2, DType::Q4_0),
    (3, DType::Q4_1),
    (6, DType::Q5_0),
    (7, DType::Q5_1),
    (8, DType::Q8_0),
    (10, DType::Q2_K),
    (11, DType::Q3_K),
    (12, DType::Q4_K),
    (13, DType::Q5_K),
    (14, DType::Q6_K),
    (20, DType::IQ4_NL),
    (23, DType::IQ4_XS),
    (24, DType::I8),
    (25, DType::I16),
    (26, DType::I32),
    (27, DType::I64),
    (28, DType::F64),
    (30, DType::BF16),
];

/// Types that exist elsewhere, by whose names they are passed over or refused.
const UNSUPPORTED: [(u32, &str); 20] = [
    (4, "Q4_2 (removed from ggml)"),
    (5, "Q4_3 (removed from ggml)"),
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (29, "IQ1_M"),
    (31, "Q4_0_4_4 (removed from ggml)"),
    (32, "Q4_0_4_8 (removed from ggml)"),
    (33, "Q4_0_8_8 (removed from ggml)"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (36, "IQ4_NL_4_4 (removed from ggml)"),
    (39, "MXFP4"),
    (40, "NVFP4"),
    (41, "Q1_0"),
];

/// ggml's number of a type; `None` for those ggml does not have (unsigned bytes, truth values, ChatGLM's packings).
pub fn ggml_type(dtype: DType) -> Option<u32> {
    SUPPORTED.iter().find(|(_, d)| *d == dtype).map(|(number, _)| *number)
}

/// The type with a number, or the name of one that is not read.
pub(super) fn from_number(number: u32) -> Result<DType, String> {
    if let Some((_, dtype)) = SUPPORTED.iter().find(|(n, _)| *n == number) {
        return Ok(*dtype);
    }
    match UNSUPPORTED.iter().find(|(n, _)| *n == number) {
        Some((_, name)) => Err(format!("{name} (number {number})")),
        None => Err(format!("number {number} (unknown to this program)")),
    }
}
