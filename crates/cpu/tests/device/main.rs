//! The CPU device held to the reference device, and to itself.
#![allow(clippy::unwrap_used, reason = "a test")]

mod invariance;
mod ops;
mod suite;

use glimmer_cpu::{CpuDevice, CpuOptions, Isa};
use glimmer_tensor::{Compute, Device};

/// A device of this kind.
fn device(isa: Isa, threads: usize, compute: Compute) -> Box<dyn Device> {
    let options = CpuOptions { threads: Some(threads), compute, isa: Some(isa) };
    Box::new(CpuDevice::new(options).expect("an available instruction set"))
}
