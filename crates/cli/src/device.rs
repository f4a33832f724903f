//! From `--device`, `--threads`, `--compute` and `--kv-type` to a device and the precision of its cache.

use glimmer_cpu::{CpuDevice, CpuOptions};
use glimmer_tensor::{Compute, Device, KvType, ReferenceDevice};

use crate::args::{DeviceArgs, DeviceName};

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
pub(crate) fn open(args: &DeviceArgs, compute: Compute) -> anyhow::Result<Box<dyn Device>> {
    match args.device {
        DeviceName::Cpu => {
            Ok(Box::new(CpuDevice::new(CpuOptions { threads: args.threads, compute, isa: None })?))
        }
        DeviceName::Reference => Ok(Box::new(ReferenceDevice::new())),
    }
}
