//! The floor of Glimmer: element types, quantized block layouts and their scalar truth, the ragged batch, the
//! [`Device`] seam, and the reference device that computes every op in plain loops.
//!
//! It knows nothing of files, models, text or threads.
#![forbid(unsafe_code)]

mod batch;
mod device;
mod dtype;
mod kv;
mod matrix;
pub mod quant;
mod reference;
mod rope;

pub use batch::{Batch, BatchError, CHUNK_SLOTS, Capacity, PAGE_SLOTS, PageId, Sequence};
pub use device::{
    BufferId, Compute, Device, DeviceBatch, DeviceError, DeviceMemory, Epilogue, MatrixId, MatrixUse, Norm,
    NormKind, Place, Plan, Role, RopeId, Taken, VectorId,
};
pub use dtype::DType;
pub use kv::{Heads, KV_BLOCK, KvType, q8_scale};
pub use matrix::{MatrixError, MatrixView};
pub use reference::ReferenceDevice;
pub use rope::{Rope, RopePairs, RopeSection};
