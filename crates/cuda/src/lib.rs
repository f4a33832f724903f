//! The CUDA device: kernels for NVIDIA cards, from Turing to Hopper, and an emulation of a card that runs the same
//! kernels on the processor, for tests.
//!
//! It computes what [`glimmer_tensor::ReferenceDevice`] computes, fast, and so that the bits of a row depend on nothing
//! but the row. Feature `cuda` compiles the kernels with nvcc; the driver is opened when a device is made, so a program
//! with this crate in it starts where there is none. Feature `emulate` compiles them with a C++ compiler. Without
//! either there is no machine and no device can be made, but everything that runs on the host is compiled and tested.
#![cfg_attr(
    not(any(feature = "cuda", feature = "emulate")),
    allow(dead_code, reason = "without a machine nothing makes a device")
)]

mod args;
mod attention;
mod candidates;
#[cfg(feature = "cuda")]
mod card;
mod counted;
mod device;
mod driver;
mod embed;
#[cfg(feature = "emulate")]
mod emulated;
mod linear;
#[cfg(any(feature = "cuda", feature = "emulate"))]
mod nvml;
mod rates;
mod step;
mod watched;
mod weights;

pub use device::{CudaDevice, CudaOptions};
pub use driver::DriverError;
#[cfg(any(feature = "cuda", feature = "emulate"))]
pub use driver::cards;
#[cfg(feature = "emulate")]
pub use emulated::try_emulation;
#[cfg(any(feature = "cuda", feature = "emulate"))]
pub use nvml::{CardUse, card_use};
pub use rates::Rates;
