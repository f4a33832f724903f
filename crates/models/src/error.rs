//! What can be wrong with a model.

use std::path::PathBuf;

use glimmer_checkpoint::CheckpointError;
use glimmer_config::Escaped;
use glimmer_tensor::DeviceError;

use crate::WeightRole;
use crate::names::TensorNaming;

/// Why a model cannot be read or run.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file itself.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A key of the configuration is missing, of the wrong kind or out of bounds.
    #[error("{file}: {message}")]
    Config {
        /// `config.json` or the GGUF file.
        file: String,
        /// What is wrong with which key.
        message: String,
    },
    /// The architecture is none of ours.
    #[error("{file}: architecture {found} is not supported; Glimmer reads {known}")]
    Architecture {
        /// `config.json` or the GGUF file.
        file: String,
        /// What it says.
        found: String,
        /// What is read.
        known: &'static str,
    },
    /// Two generations fit and they differ.
    #[error("{0}")]
    Ambiguous(String),
    /// A layout cannot hold the model.
    #[error("a layout named as {naming:?} has no tensor for {role:?}")]
    Unnamed {
        /// The layout's naming.
        naming: TensorNaming,
        /// The weight that it does not know.
        role: WeightRole,
    },
    /// An adapter cannot be read, or does not belong to the model.
    #[error("{}: {what}", Escaped(&path.display().to_string()))]
    Adapter {
        /// Its directory or one of its files.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A tower cannot see a picture.
    #[error("{0}")]
    Picture(String),
    /// The prompt cannot be laid out.
    #[error("{0}")]
    Prompt(String),
}
