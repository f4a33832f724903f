//! The CPU device: thread pool, packed weights, paged attention, chosen at run time for the processor it runs on.
//!
//! It computes what [`glimmer_tensor::ReferenceDevice`] computes, fast, and so that the bits of a row depend on
//! nothing but the row: not on the batch it is in, nor on the number of threads.

mod attention;
mod device;
mod finite;
mod gemm;
mod isa;
mod kv;
mod lanes;
mod linear;
mod memory;
mod norm;
mod os;
mod pool;
mod rates;
mod schedule;
mod step;
mod tiles;
mod topology;
mod training;

pub use device::{CpuDevice, CpuError, CpuOptions, default_threads, working_bytes};
pub use isa::{Isa, IsaError, is_amd};
pub use linear::RunsError;
pub use os::{free_memory, give_back_freed};
pub use rates::Rates;
