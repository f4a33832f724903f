//! Which machine computes, and how precisely.

use glimmer_cpu::{CpuDevice, CpuOptions, default_threads};
use glimmer_models::Quantize;
use glimmer_models::export::Quantization;
use glimmer_tensor::{Compute, Device, KvType, ReferenceDevice};

use crate::{CardUse, Error, GpuLayers, Progress, card_use};

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
    /// The last layers are on cards and the others on the processor; where nothing is said one device has all.
    pub gpu_layers: Option<GpuLayers>,
    /// What weights become while they are loaded; where nothing is said they stay as they are stored.
    pub quantize: Option<Quantization>,
}

/// A device that is ready to take weights, or several that share a model.
pub struct OpenDevice {
    /// Where layers are shared the cards and, behind them, the processor.
    pub(crate) devices: Vec<Box<dyn Device>>,
    pub(crate) gpu_layers: Option<GpuLayers>,
    pub(crate) quantize: Option<Quantize>,
    /// How another is opened beside them.
    options: DeviceOptions,
    compute: Compute,
    /// What was opened; never [`DeviceKind::Auto`].
    pub kind: DeviceKind,
    /// Precision of the cache.
    pub kv_type: KvType,
}

impl OpenDevice {
    /// One more for what is not the decoder's: the processor, or plain loops where these compute.
    pub(crate) fn beside(&self) -> Result<Box<dyn Device>, Error> {
        match self.kind {
            DeviceKind::Reference => Ok(Box::new(ReferenceDevice::new())),
            _ => self.options.cpu(self.compute),
        }
    }

    /// What it is, for people: "CPU, AVX-512 VNNI, 2 threads".
    pub fn describe(&self) -> String {
        self.devices.iter().map(|device| device.describe()).collect::<Vec<_>>().join(" + ")
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

    /// Bytes that models may hold there now: what is free, but a 32nd. `None` where nobody tells. Where layers are shared,
    /// cards and processor count together.
    pub fn room(&self) -> Option<u64> {
        const SPARE: u64 = 32;
        let is_cpu_alone = self.kind == DeviceKind::Cpu || self.gpu_layers == Some(GpuLayers::Last(0));
        let cards = if is_cpu_alone { Vec::new() } else { card_use() };
        let processor = glimmer_cpu::free_memory().map(|memory| memory.free as u64);
        let of_card = |card: &CardUse| card.memory_total.saturating_sub(card.memory_used);
        let free = match cards.as_slice() {
            [] => processor?,
            [first, ..] if self.gpu_layers.is_none() => of_card(first),
            all => all.iter().map(of_card).fold(processor?, u64::saturating_add),
        };
        Some(free - free / SPARE)
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
        let kind = match self.kind {
            DeviceKind::Auto | DeviceKind::Cuda if self.gpu_layers == Some(GpuLayers::Last(0)) => {
                DeviceKind::Cpu
            }
            kind => kind,
        };
        let (devices, kind) = match (kind, self.devices(kind, compute)) {
            (DeviceKind::Auto, Ok(devices)) => (devices, DeviceKind::Cuda),
            (DeviceKind::Auto, Err(why)) => {
                progress(Progress::Note(&format!("computing on the CPU: {why}")));
                (vec![self.cpu(compute)?], DeviceKind::Cpu)
            }
            (kind, devices) => (devices?, kind),
        };
        let gpu_layers = self.gpu_layers.filter(|_| kind == DeviceKind::Cuda);
        let threads = self.threads.unwrap_or_else(default_threads);
        let quantize = self.quantize.map(|to| Quantize { to, threads });
        let kv_type = self.kv_type_with(compute);
        Ok(OpenDevice { devices, gpu_layers, quantize, options: *self, compute, kind, kv_type })
    }

    /// Those of a kind as [`OpenDevice`] has them; for [`DeviceKind::Auto`] cards.
    fn devices(&self, kind: DeviceKind, compute: Compute) -> Result<Vec<Box<dyn Device>>, Error> {
        let is_shared = self.gpu_layers.is_some_and(|layers| layers != GpuLayers::Last(0));
        Ok(match kind {
            DeviceKind::Cpu | DeviceKind::Reference if is_shared => {
                // A program without cards says that first.
                cards(compute)?;
                let message =
                    "layers are shared with a card by `--device cuda` or `auto`, not by another device";
                return Err(Error::NoDevice(message.to_owned()));
            }
            DeviceKind::Cpu => vec![self.cpu(compute)?],
            DeviceKind::Reference => vec![Box::new(ReferenceDevice::new())],
            DeviceKind::Auto | DeviceKind::Cuda if is_shared => {
                let mut devices = cards(compute)?;
                devices.push(self.cpu(compute)?);
                devices
            }
            DeviceKind::Auto | DeviceKind::Cuda => vec![card(0, compute)?],
        })
    }

    fn cpu(&self, compute: Compute) -> Result<Box<dyn Device>, Error> {
        let device = CpuDevice::new(CpuOptions { threads: self.threads, compute, isa: None });
        Ok(Box::new(device.map_err(|error| Error::NoDevice(error.to_string()))?))
    }
}

/// A card by the driver's number; `CUDA_VISIBLE_DEVICES` says which one that is.
#[cfg(any(feature = "cuda", feature = "emulate"))]
fn card(card: usize, compute: Compute) -> Result<Box<dyn Device>, Error> {
    let device = glimmer_cuda::CudaDevice::new(glimmer_cuda::CudaOptions { card, compute });
    Ok(Box::new(device.map_err(|error| Error::NoDevice(error.to_string()))?))
}

/// All cards that the driver shows.
fn cards(compute: Compute) -> Result<Vec<Box<dyn Device>>, Error> {
    #[cfg(any(feature = "cuda", feature = "emulate"))]
    let count = glimmer_cuda::cards().map_err(|error| Error::NoDevice(error.to_string()))?;
    #[cfg(not(any(feature = "cuda", feature = "emulate")))]
    let count = 0;
    // Where there is none, opening the first says so.
    (0..count.max(1)).map(|number| card(number, compute)).collect()
}

#[cfg(not(any(feature = "cuda", feature = "emulate")))]
fn card(_: usize, _: Compute) -> Result<Box<dyn Device>, Error> {
    Err(Error::NoDevice(
        "this program was built without CUDA: build it with `cargo build --release --features cuda`, which needs \
         nvcc 13.0"
            .to_owned(),
    ))
}
