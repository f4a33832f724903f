//! The floor of Glimmer: element types, quantized block layouts and their scalar truth, the ragged batch, the
//! [`Device`] seam, and the reference device that computes every op in plain loops.
//!
//! It knows nothing of files, models, text or threads.
#![forbid(unsafe_code)]

mod batch;
mod buffers;
mod candidates;
mod device;
mod dtype;
mod features;
mod gelu;
mod handles;
mod kv;
mod largest;
mod matrix;
pub mod quant;
mod reference;
mod rope;
mod routing;
mod steps;
mod training;

pub use batch::{AdapterSlot, Batch, BatchError, CHUNK_SLOTS, Capacity, PAGE_SLOTS, PageId, SequenceRows};
pub use buffers::{Buffer, Buffers, Role};
pub use candidates::{CANDIDATES, Candidates, best_of, exp, total_weight, weight};
pub use device::{
    Compute, Device, DeviceError, DeviceMemory, Epilogue, Expert, ExpertBuffers, Experts, FreeMemory,
    LatentRows, MatrixUse, NeededMatrix, Needs, Norm, NormKind, Pair, Place, Plan, Taken,
};
pub use dtype::DType;
pub use features::{FeatureRows, Features};
pub use gelu::{gelu_erf, gelu_tanh};
pub use handles::{BufferId, Handle, MatrixId, RopeId, Table, VectorId};
pub use kv::{Heads, KV_BLOCK, KvType, q8_scale};
pub use largest::{first_largest, largest};
pub use matrix::{MatrixError, MatrixShape, MatrixView};
pub use reference::ReferenceDevice;
pub use rope::{Rope, RopePairs, RopeSection};
pub use routing::{Chooser, Routing};
pub use steps::{DeviceBatch, Planned, Steps};
pub use training::{AttentionGradient, Dropout, TrainingDevice};
