//! Adapters: what a fine-tuning leaves beside a base model, as files.
//!
//! - [`peft`]: LoRA, rsLoRA and DoRA as PEFT keeps them (`adapter_config.json` and `adapter_model.safetensors` or `.bin`).
//! - [`mod@prefix`]: P-Tuning v2 as ChatGLM's own scripts keep it (`transformer.prefix_encoder.*`), [`peft_prefix`] as PEFT
//!   does (`PREFIX_TUNING`).
//! - [`low_rank`]: what both of a pair's matrices are, on which weight.
//!
//! An adapter belongs to a model's shape: what it holds that the model does not is refused by name, and so is a shape that
//! does not fit, before a tensor is decoded.

mod combine;
mod low_rank;
mod peft;
mod peft_prefix;
mod prefix;

use std::path::{Path, PathBuf};

use glimmer_checkpoint::{Checkpoint, TensorInfo};
use glimmer_config::{Quoted, file};
use glimmer_tensor::RopePairs;

pub use combine::Combination;
pub(crate) use low_rank::WholePair;
pub use low_rank::{LowRank, LowRankAdapter, WeightAddress};
pub use peft::PeftSettings;
pub use prefix::{Prefix, PrefixEncoder, PrefixLayer, PrefixProjection};

use crate::{DecoderSpec, ModelError, Positions};

/// What is added to a model of one shape.
#[derive(Clone, Debug, PartialEq)]
pub enum Adapter {
    /// Pairs of narrow matrices beside weights (LoRA, Hu et al., 2021).
    LowRank(LowRankAdapter),
    /// Keys and values before every sequence, in every layer (P-Tuning v2, Liu et al., 2021).
    Prefix(Prefix),
}

impl Adapter {
    /// Reads an adapter for a model of this shape: a directory with `adapter_config.json`, or one with `config.json` and
    /// ChatGLM's prefix; or a file in one of them.
    ///
    /// # Errors
    /// When a file is missing or damaged; when the adapter is of another kind, holds what the model does not, has another
    /// shape than the model needs, or a number that is not finite: each with the name of the tensor or setting.
    pub fn read(path: &Path, spec: &DecoderSpec) -> Result<Self, ModelError> {
        let directory = directory_of(path);
        // Adapters were trained on weights as transformers has them.
        if spec.positions == Positions::OfGrid && spec.rope.pairs == RopePairs::Across {
            let what = "llama.cpp's files of this model have the rows of queries and keys in another order;                         load it from the model's folder of safetensors";
            return Err(refused(path, what));
        }
        if let Some(config) = file::read_object(&directory.join(peft::CONFIG)).map_err(file_error)? {
            if config.get("peft_type").is_some_and(|kind| kind == "PREFIX_TUNING") {
                return Ok(Adapter::Prefix(peft_prefix::read(directory, &config, spec)?.prefix(spec)));
            }
            return peft::read(directory, &config, spec).map(Adapter::LowRank);
        }
        let config = file::read_object(&directory.join("config.json")).map_err(file_error)?;
        if let Some(config) = config.filter(|config| config.get(prefix::LENGTH).is_some()) {
            let encoder = PrefixEncoder::read(path, &config, spec)?;
            return Ok(Adapter::Prefix(encoder.prefix(spec)));
        }
        let what =
            "no adapter: neither adapter_config.json (PEFT) nor a config.json with pre_seq_len (P-Tuning v2)";
        Err(refused(path, what))
    }

    /// Slots that it takes before every sequence.
    pub fn slots(&self) -> usize {
        match self {
            Adapter::LowRank(_) => 0,
            Adapter::Prefix(prefix) => prefix.slots,
        }
    }

    /// Bytes that its numbers take.
    pub fn bytes(&self) -> usize {
        match self {
            Adapter::LowRank(adapter) => adapter.pairs.iter().map(|(_, pair)| pair.bytes()).sum(),
            Adapter::Prefix(prefix) => prefix.bytes(),
        }
    }
}

/// The directory that a path names, or that holds the file that it names.
fn directory_of(path: &Path) -> &Path {
    if path.is_dir() { path } else { path.parent().unwrap_or(path) }
}

fn file_error(error: glimmer_config::FileError) -> ModelError {
    glimmer_checkpoint::CheckpointError::from(error).into()
}

/// What is wrong with the adapter at `path`.
fn refused(path: &Path, what: impl Into<String>) -> ModelError {
    ModelError::Adapter { path: PathBuf::from(path), what: what.into() }
}

/// The numbers of a tensor of this shape, all of them finite.
fn values(checkpoint: &Checkpoint, info: &TensorInfo, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
    if info.shape != shape {
        let what = format!(
            "tensor `{}` has shape {:?}, the model needs {shape:?}; is it for another model?",
            Quoted(&info.name),
            info.shape
        );
        return Err(refused(&info.file, what));
    }
    let values = checkpoint.vector_f32(&info.name)?;
    checkpoint.check_finite(info)?;
    Ok(values)
}

/// f32 numbers as files hold them.
fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
