//! From `--device`, `--threads`, `--compute` and `--kv-type` to a device and the precision of its cache.

use glimmer_cpu::{CpuDevice, CpuOptions};
use glimmer_tensor::{Compute, Device, KvType, ReferenceDevice};

use crate::args::{DeviceArgs, DeviceName};
use crate::terminal::Terminal;

/// The numeric mode: what was asked for, else the verb's own.
pub(crate) fn compute(args: &DeviceArgs, default: Compute) -> Compute {
    args.compute.unwrap_or(default)
}

/// The cache's precision: what was asked for, else exact where the rest is.
pub(crate) fn kv_type(args: &DeviceArgs, compute: Compute) -> KvType {
    args.kv_type.unwrap_or(match compute {
        Compute::F32 => KvType::F32,
        Compute::Auto => KvType::F16,
    })
}

/// The device that was asked for.
pub(crate) fn open(
    args: &DeviceArgs,
    compute: Compute,
    terminal: &Terminal,
) -> anyhow::Result<Box<dyn Device>> {
    match args.device {
        DeviceName::Auto => cuda(compute).or_else(|why| {
            terminal.note(&format!("computing on the CPU: {why:#}"));
            cpu(args, compute)
        }),
        DeviceName::Cpu => cpu(args, compute),
        DeviceName::Cuda => cuda(compute),
        DeviceName::Reference => Ok(Box::new(ReferenceDevice::new())),
    }
}

fn cpu(args: &DeviceArgs, compute: Compute) -> anyhow::Result<Box<dyn Device>> {
    Ok(Box::new(CpuDevice::new(CpuOptions { threads: args.threads, compute, isa: None })?))
}

/// The driver's first card; `CUDA_VISIBLE_DEVICES` says which one that is.
#[cfg(feature = "cuda")]
fn cuda(compute: Compute) -> anyhow::Result<Box<dyn Device>> {
    let options = glimmer_cuda::CudaOptions { card: 0, compute };
    Ok(Box::new(glimmer_cuda::CudaDevice::new(options)?))
}

#[cfg(not(feature = "cuda"))]
fn cuda(_: Compute) -> anyhow::Result<Box<dyn Device>> {
    anyhow::bail!(
        "this program was built without CUDA: build it with `cargo build --release --features cuda`, which needs \
         nvcc 13.0"
    )
}
