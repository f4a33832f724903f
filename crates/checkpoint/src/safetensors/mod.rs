//! safetensors: an 8-byte header length, a JSON header, then the tensors' bytes without gaps.
//!
//! Reading is as strict as the reference implementation: the header is bounded, every tensor's bytes follow from type
//! and shape, and the tensors cover the data section exactly once. Element types that no GLM checkpoint needs are
//! refused by name. Source: <https://huggingface.co/docs/safetensors> (format) and its README's format section.

mod read;
mod write;

pub use read::{Header, parse};
pub use write::{SafetensorsFile, SafetensorsWriter};

use glimmer_tensor::DType;

/// The element types that are read and written, with the names the header uses.
const TYPES: [(&str, DType); 10] = [
    ("F64", DType::F64),
    ("F32", DType::F32),
    ("F16", DType::F16),
    ("BF16", DType::BF16),
    ("I64", DType::I64),
    ("I32", DType::I32),
    ("I16", DType::I16),
    ("I8", DType::I8),
    ("U8", DType::U8),
    ("BOOL", DType::Bool),
];

/// The longest header that is read, the reference implementation's own limit.
const MAX_HEADER: u64 = 100_000_000;
