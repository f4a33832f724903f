//! Which machine computes, and how precisely.

use glimmer_cpu::{CpuDevice, CpuOptions};
use glimmer_tensor::{Compute, Device, KvType, ReferenceDevice};

use crate::{Error, Progress};

/// What computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// An NVIDIA card where there is one, else the processor.
    Auto,
    /// The processor.
    Cpu,
    /// An NVIDIA card.
    Cuda,
    /// Plain loops: slow, what the others are measured against.
    Reference,
}

impl Default for DeviceKind {
    /// A program that was built for cards uses one where it can.
    fn default() -> Self {
        if cfg!(feature = "cuda") { DeviceKind::Auto } else { DeviceKind::Cpu }
    }
}

/// What computes and how precisely. What is left open is the device's or the user's own choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceOptions {
    /// What computes.
    pub kind: DeviceKind,
    /// Threads of the processor; one for each physical core where nothing is said.
    pub threads: Option<usize>,
    /// Numeric mode; what [`DeviceOptions::open`] is given where nothing is said.
    pub compute: Option<Compute>,
    /// Precision of the cache; f32 beside [`Compute::F32`], else f16.
    pub kv_type: Option<KvType>,
}

/// A device that is ready to take weights.
pub struct OpenDevice {
    pub(crate) device: Box<dyn Device>,
    /// What was opened; never [`DeviceKind::Auto`].
    pub kind: DeviceKind,
    /// Precision of the cache.
    pub kv_type: KvType,
}

impl OpenDevice {
    /// What it is, for people: "CPU, AVX-512 VNNI, 2 threads".
    pub fn describe(&self) -> String {
        self.device.describe()
    }
}

impl DeviceOptions {
    /// The numeric mode: what was asked for, else `default`.
    pub fn compute_or(&self, default: Compute) -> Compute {
        self.compute.unwrap_or(default)
    }

    /// The cache's precision in a numeric mode: what was asked for, else exact where the rest is.
    pub fn kv_type_with(&self, compute: Compute) -> KvType {
        self.kv_type.unwrap_or(match compute {
            Compute::F32 => KvType::F32,
            Compute::Auto => KvType::F16,
        })
    }

    /// Opens the device; `default` is the numeric mode where none was asked for.
    ///
    /// # Errors
    /// When there is no such device, or it cannot be had. With [`DeviceKind::Auto`] the processor stands in for a card,
    /// and `progress` is told why.
    pub fn open(
        &self,
        default: Compute,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<OpenDevice, Error> {
        let compute = self.compute_or(default);
        let mut kind = self.kind;
        let device = match kind {
            DeviceKind::Auto => match cuda(compute) {
                Ok(device) => {
                    kind = DeviceKind::Cuda;
                    device
                }
                Err(why) => {
                    progress(Progress::Note(&format!("computing on the CPU: {why}")));
                    kind = DeviceKind::Cpu;
                    self.cpu(compute)?
                }
            },
            DeviceKind::Cpu => self.cpu(compute)?,
            DeviceKind::Cuda => cuda(compute)?,
            DeviceKind::Reference => Box::new(ReferenceDevice::new()),
        };
        Ok(OpenDevice { device, kind, kv_type: self.kv_type_with(compute) })
    }

    fn cpu(&self, compute: Compute) -> Result<Box<dyn Device>, Error> {
        let device = CpuDevice::new(CpuOptions { threads: self.threads, compute, isa: None });
        Ok(Box::new(device.map_err(|error| Error::NoDevice(error.to_string()))?))
    }
}

/// The driver's first card; `CUDA_VISIBLE_DEVICES` says which one that is.
#[cfg(any(feature = "cuda", feature = "emulate"))]
fn cuda(compute: Compute) -> Result<Box<dyn Device>, Error> {
    let options = glimmer_cuda::CudaOptions { card: 0, compute };
    let device = glimmer_cuda::CudaDevice::new(options);
    Ok(Box::new(device.map_err(|error| Error::NoDevice(error.to_string()))?))
}

#[cfg(not(any(feature = "cuda", feature = "emulate")))]
fn cuda(_: Compute) -> Result<Box<dyn Device>, Error> {
    Err(Error::NoDevice(
        "this program was built without CUDA: build it with `cargo build --release --features cuda`, which needs \
         nvcc 13.0"
            .to_owned(),
    ))
}
