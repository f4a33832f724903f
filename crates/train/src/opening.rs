//! From a model's files to a tape, and what that takes, before a weight is read.

use glimmer::{Error, ModelFiles, Quantization};
use glimmer_cpu::{CpuDevice, CpuOptions, default_threads};
use glimmer_models::names::TensorNaming;
use glimmer_models::{ModelWeights, Quantize};
use glimmer_tensor::{Compute, ReferenceDevice, TrainingDevice};

use crate::checksum::Checksum;
use crate::tape::training_memory;
use crate::{AdamW, Optimizer, Room, Tape, TrainError, Trainable};

/// A model that is to be trained, and on what.
pub struct Base<'f> {
    /// Its files.
    pub files: &'f ModelFiles,
    /// What is trained of it.
    pub trainable: Trainable,
    /// What weights become while they are loaded; where nothing is said they stay as they are stored.
    pub quantize: Option<Quantization>,
    /// Room for the examples of a batch.
    pub room: Room,
    /// Threads to compute with; one for each physical core where nothing is said.
    pub threads: Option<usize>,
    /// What computes.
    pub arithmetic: Arithmetic,
}

/// How a step is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arithmetic {
    /// On the processor, in f32 throughout.
    #[default]
    F32,
    /// On the processor in [`Compute::Auto`]: quantized weights meet activations of 8 bits, and gradients go through frozen
    /// weights in bfloat16 where the processor multiplies pairs of them. Gradients are a few hundredths apart from those of f32.
    Fast,
    /// On the reference device: slowly, in plain loops.
    Reference,
}

/// What gets an adapter where nobody says: queries, keys and values, by the names that PEFT knows them by in this model.
///
/// # Errors
/// When the files do not hold together.
pub fn attention_targets(files: &ModelFiles) -> Result<Vec<String>, Error> {
    let names: &[&str] = match Trainable::naming(files.understood()?) {
        TensorNaming::Hf | TensorNaming::HfSeeing | TensorNaming::HfExperts => {
            &["q_proj", "k_proj", "v_proj"]
        }
        _ => &["query_key_value"],
    };
    Ok(names.iter().map(|name| (*name).to_owned()).collect())
}

/// Bytes that a training takes, by part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryPlan {
    /// The model's weights.
    pub base: u64,
    /// What is trained.
    pub tensors: u64,
    /// Its gradients.
    pub gradients: u64,
    /// The optimizer's moments.
    pub moments: u64,
    /// What a batch takes: values that backward needs, keys and values, scratch.
    pub activations: u64,
}

impl MemoryPlan {
    /// All of it.
    #[must_use]
    pub fn total(&self) -> u64 {
        [self.tensors, self.gradients, self.moments, self.activations]
            .into_iter()
            .fold(self.base, u64::saturating_add)
    }
}

impl Base<'_> {
    fn weights(&self) -> Result<ModelWeights<'_>, Error> {
        let quantize = self.quantize.map(|to| Quantize { to, threads: self.threads() });
        Ok(ModelWeights {
            checkpoint: self.files.checkpoint()?,
            understood: self.files.understood()?,
            quantize,
        })
    }

    /// Threads to compute with.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads.unwrap_or_else(default_threads)
    }

    fn device(&self) -> Result<Box<dyn TrainingDevice + Send>, TrainError> {
        let compute = match self.arithmetic {
            Arithmetic::F32 => Compute::F32,
            Arithmetic::Fast => Compute::Auto,
            Arithmetic::Reference => return Ok(Box::new(ReferenceDevice::new())),
        };
        let options = CpuOptions { threads: self.threads, compute, ..CpuOptions::default() };
        Ok(Box::new(CpuDevice::new(options).map_err(|error| TrainError::Setting(error.to_string()))?))
    }

    /// What it will take.
    ///
    /// # Errors
    /// When the files do not hold together, or a target is not there.
    pub fn memory(&self, optimizer: &AdamW) -> Result<MemoryPlan, TrainError> {
        let device = self.device()?;
        let memory = training_memory(self.weights()?, device.as_ref(), &self.trainable, self.room)?;
        Ok(MemoryPlan {
            base: memory.base as u64,
            tensors: memory.tensors as u64,
            gradients: memory.gradients as u64,
            moments: Optimizer::bytes(optimizer, memory.tensors as u64 / 4),
            activations: memory.activations as u64,
        })
    }

    /// Keeps what backward reads of as many layers as there is room for, so that they are not computed again.
    ///
    /// # Errors
    /// Those of [`Base::memory`].
    pub fn keep_layers(&mut self, optimizer: &AdamW, room: u64) -> Result<(), TrainError> {
        let layers = self.files.spec()?.layers.len();
        let mut total = |kept_layers| {
            self.room.kept_layers = kept_layers;
            self.memory(optimizer).map(|plan| plan.total())
        };
        let (all, none) = (total(layers)?, total(0)?);
        let of_layer = (all.saturating_sub(none) / layers.max(1) as u64).max(1);
        self.room.kept_layers = layers.min((room.saturating_sub(none) / of_layer) as usize);
        Ok(())
    }

    /// Loads it. `progress` is told how many bytes are read, and of how many.
    ///
    /// # Errors
    /// Those of loading; when a target is not there; when memory runs out.
    pub fn open(&self, seed: u64, progress: &mut dyn FnMut(u64, u64)) -> Result<Tape, TrainError> {
        Tape::open(self.weights()?, self.device()?, &self.trainable, self.room, seed, progress)
    }

    /// What tells this model from another one: a sum over all names, types and shapes, and the first bytes of each tensor.
    ///
    /// # Errors
    /// When the files do not hold together.
    pub fn fingerprint(&self) -> Result<String, TrainError> {
        const FIRST: usize = 4096;
        let checkpoint = self.files.checkpoint()?;
        let mut sum = Checksum::default();
        for info in checkpoint.tensors() {
            sum.add(format!("{} {} {:?}", info.name, info.dtype, info.shape).as_bytes());
            let bytes = checkpoint.tensor(&info.name).map_err(Error::from)?.data;
            sum.add(&bytes[..bytes.len().min(FIRST)]);
        }
        Ok(format!("{:08x}", sum.value()))
    }
}
