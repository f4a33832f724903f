//! The floor of Glimmer: element types, quantized block layouts and their scalar truth, the ragged batch, the
//! [`Device`] seam, and the reference device that computes every op in plain loops.
//!
//! It knows nothing of files, models, text or threads.
#![forbid(unsafe_code)]

mod dtype;
mod matrix;
pub mod quant;

pub use dtype::DType;
pub use matrix::{MatrixError, MatrixView};
