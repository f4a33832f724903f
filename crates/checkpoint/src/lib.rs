//! Model files: GGUF, safetensors, PyTorch `.bin`, ChatGLM's INT8 and INT4 packings; reading and writing.
//!
//! Everything that is read here is untrusted. Every length is checked against the bytes that are there before it is
//! used, every count has a limit, and every error names the file, the tensor and the byte offset where they exist.
//! Weights stay where they are: files are mapped into memory and tensors are views of them.
//!
//! This crate knows files, not models: which tensor plays which part is decided elsewhere.
#![deny(unsafe_code)]

mod checkpoint;
mod cursor;
mod encode;
mod entry;
mod error;
mod floats;
#[doc(hidden)]
pub mod fuzz_entry;
pub mod gguf;
mod json;
mod layout;
mod map;
mod output;
mod packed;
pub mod pickle;
pub mod safetensors;
mod strided;

pub use checkpoint::{Checkpoint, CheckpointFormat, TensorInfo, TensorView};
pub use encode::ChangeRow;
pub use entry::{Entry, Foreign};
pub use error::{CheckpointError, Damage, Fault};
pub use output::{NewDirectory, NewTensor, OutputFile, remove_directory, remove_leftovers};
