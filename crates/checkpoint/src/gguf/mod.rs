//! GGUF, llama.cpp's single-file format: typed key/values, tensor descriptions, aligned tensor data.
//!
//! Versions 2 and 3, little-endian; files split by `gguf-split` are put together by [`crate::Checkpoint`].
//! Source: `docs/gguf.md` of <https://github.com/ggml-org/ggml> and llama.cpp's `ggml/src/gguf.cpp`.

mod configuration;
mod metadata;
mod read;
mod strings;
mod types;
mod write;

pub use metadata::{Array, FromValue, Metadata, Value};
pub use read::{Gguf, parse};
pub use strings::Strings;
pub use types::ggml_type;
pub use write::GgufWriter;

/// The four bytes every GGUF file begins with.
pub(crate) const MAGIC: &[u8; 4] = b"GGUF";

/// Alignment of tensor data when the key is absent.
const DEFAULT_ALIGNMENT: u32 = 32;

/// The key of the alignment of tensor data.
const ALIGNMENT_KEY: &str = "general.alignment";

/// ggml's own limit on dimensions.
const MAX_GGML_DIMS: usize = 4;

/// The longest key that is read or written, the specification's limit.
const MAX_KEY: u64 = (1 << 16) - 1;
