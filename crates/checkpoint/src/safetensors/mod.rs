//! safetensors: an 8-byte header length, a JSON header, then the tensors' bytes without gaps.
//!
//! Reading is as strict as the reference implementation: the header is bounded, every tensor's bytes follow from type
//! and shape, and the tensors cover the data section exactly once. Tensors of element types that no GLM checkpoint needs
//! are passed over. Sources: <https://huggingface.co/docs/safetensors> (format), its README's format section, and the enum
//! `Dtype` of `safetensors/src/tensor.rs`.

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

/// The format's other types, with the bits of an element.
const FOREIGN: [(&str, u64); 12] = [
    ("F4", 4),
    ("F6_E2M3", 6),
    ("F6_E3M2", 6),
    ("F8_E4M3", 8),
    ("F8_E4M3FNUZ", 8),
    ("F8_E5M2", 8),
    ("F8_E5M2FNUZ", 8),
    ("F8_E8M0", 8),
    ("U16", 16),
    ("U32", 32),
    ("U64", 64),
    ("C64", 64),
];

/// The longest header that is read, the reference implementation's own limit.
const MAX_HEADER: u64 = 100_000_000;
