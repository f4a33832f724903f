//! Which layers of a model go to which device: decided, and told, before anything is read.

use std::ops::Range;

use glimmer_models::{DeviceLayers, ModelWeights, Quantize, needs};
use glimmer_tensor::{Capacity, Device, DeviceError, DeviceMemory, FreeMemory, KvType};

use crate::tower::PlacedTower;
use crate::{DeviceKind, Error, ModelFiles, OpenDevice, Progress};

/// How many of a model's last layers cards take. The head goes with the last layer, the embedding with the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GpuLayers {
    /// As many as fit beside their cache and buffers.
    Auto,
    /// So many; all where the model has fewer.
    Last(usize),
}

/// Layers and the machine that has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Which card; `None` for the processor.
    pub card: Option<usize>,
    /// Its layers.
    pub layers: Range<usize>,
}

/// What a device is going to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevicePlan {
    /// The device, for people.
    pub device: String,
    /// What is on it.
    pub placed: Placed,
    /// Bytes.
    pub memory: DeviceMemory,
    /// What it has free.
    pub free: Option<FreeMemory>,
}

/// Devices and how many layers each takes, in their order.
pub struct Placement {
    pub(crate) devices: Vec<DeviceLayers>,
    /// Beside them, where the model sees.
    pub(crate) tower: Option<PlacedTower>,
    /// What each of them has.
    pub placed: Vec<Placed>,
    pub(crate) kind: DeviceKind,
    pub(crate) kv_type: KvType,
    pub(crate) quantize: Option<Quantize>,
}

/// The part of a card's memory that [`GpuLayers::Auto`] leaves alone: the driver's own, and what else comes.
const SPARE: usize = 32;

impl OpenDevice {
    /// What a model will hold with steps and a cache of `capacity`. Where cards share its layers with the processor, that is
    /// counted as if the first had all.
    ///
    /// # Errors
    /// When a tensor is missing or of another shape than the configuration says.
    pub fn needed(&self, files: &ModelFiles, capacity: Capacity) -> Result<DeviceMemory, Error> {
        let layers = 0..files.spec()?.layers.len();
        let shape = Shape { weights: files.weights(self.quantize)?, capacity, kv_type: self.kv_type };
        let decoder = shape.needed(self.devices[0].as_ref(), layers)?;
        Ok([decoder, self.needed_by_tower(files, capacity)?].into_iter().sum())
    }

    /// Decides which layers go where, for steps and a cache of `capacity`. What several devices are going to hold is told
    /// through `progress`.
    ///
    /// # Errors
    /// When a tensor is missing or of another shape than the configuration says, or the layers do not fit that were asked
    /// for.
    pub fn place(
        self,
        files: &ModelFiles,
        capacity: Capacity,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Placement, Error> {
        let tower = self.place_tower(files, capacity)?;
        let OpenDevice { mut devices, gpu_layers, quantize, kind, kv_type, .. } = self;
        let layers = files.spec()?.layers.len();
        let Some(wanted) = gpu_layers else {
            let device = devices.swap_remove(0);
            let placed = vec![Placed { card: (kind == DeviceKind::Cuda).then_some(0), layers: 0..layers }];
            let devices = vec![DeviceLayers { device, layers }];
            return Ok(Placement { devices, tower, placed, kind, kv_type, quantize });
        };
        let model = Shape { weights: files.weights(quantize)?, capacity, kv_type };
        let processor = devices.pop().expect("the processor stands behind the cards");
        let mut shares = model.on_cards(devices, layers, wanted)?;
        let rest = layers - shares.iter().map(|(_, plan)| plan.placed.layers.len()).sum::<usize>();
        if rest > 0 {
            shares.push(model.share(processor, Placed { card: None, layers: 0..rest })?);
        }
        shares.reverse();
        let plans: Vec<DevicePlan> = shares.iter().map(|(_, plan)| plan.clone()).collect();
        progress(Progress::Placed(&plans));
        let placed = plans.into_iter().map(|plan| plan.placed).collect();
        let share = |(device, plan): Share| DeviceLayers { device, layers: plan.placed.layers.len() };
        let devices = shares.into_iter().map(share).collect();
        Ok(Placement { devices, tower, placed, kind, kv_type, quantize })
    }
}

/// A device and what it is going to hold.
type Share = (Box<dyn Device>, DevicePlan);

/// A model that runs with so much room.
struct Shape<'a> {
    weights: ModelWeights<'a>,
    capacity: Capacity,
    kv_type: KvType,
}

impl Shape<'_> {
    /// The last layers, on as few cards as hold them: the first card has the very last.
    fn on_cards(
        &self,
        cards: Vec<Box<dyn Device>>,
        layers: usize,
        wanted: GpuLayers,
    ) -> Result<Vec<Share>, Error> {
        let most = match wanted {
            GpuLayers::Auto => layers,
            GpuLayers::Last(wanted) => wanted.min(layers),
        };
        let (first, mut end) = (layers - most, layers);
        let mut shares = Vec::new();
        for (number, mut card) in cards.into_iter().enumerate() {
            let begin = self.first_that_fits(card.as_mut(), first..end, wanted)?;
            if begin < end {
                shares.push(self.share(card, Placed { card: Some(number), layers: begin..end })?);
                end = begin;
            }
        }
        match wanted {
            GpuLayers::Last(_) if end > first => {
                Err(Error::LayersDoNotFit { wanted: most, fit: layers - end })
            }
            _ => Ok(shares),
        }
    }

    /// The first of `layers` from which on they fit a card together; their end where none does.
    fn first_that_fits(
        &self,
        card: &mut dyn Device,
        layers: Range<usize>,
        wanted: GpuLayers,
    ) -> Result<usize, Error> {
        let room = match (card.free_memory(), wanted) {
            (Some(memory), GpuLayers::Auto) => memory.free.saturating_sub(memory.total / SPARE),
            (Some(memory), GpuLayers::Last(_)) => memory.free,
            (None, GpuLayers::Last(_)) => usize::MAX,
            (None, GpuLayers::Auto) => {
                let message = "the card does not tell how much memory is free; --gpu-layers N goes without";
                return Err(DeviceError::Failed(message.to_owned()).into());
            }
        };
        for begin in layers.clone() {
            if self.needed(card, begin..layers.end)?.total() <= room {
                return Ok(begin);
            }
        }
        Ok(layers.end)
    }

    fn share(&self, mut device: Box<dyn Device>, placed: Placed) -> Result<Share, Error> {
        let memory = self.needed(device.as_ref(), placed.layers.clone())?;
        let plan = DevicePlan { device: device.describe(), placed, memory, free: device.free_memory() };
        Ok((device, plan))
    }

    /// What a device holds that has these layers.
    fn needed(&self, device: &dyn Device, layers: Range<usize>) -> Result<DeviceMemory, Error> {
        Ok(device.needed(&needs(self.weights, layers, self.capacity, self.kv_type)?)?)
    }
}
