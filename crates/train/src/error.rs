//! What can go wrong while a model is trained.

use std::path::PathBuf;

use glimmer_config::Quoted;
use glimmer_models::ModelError;
use glimmer_tensor::{DeviceError, Place};

use crate::data::DataError;
use crate::{METRICS, StateError};

/// Why there is no step.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The model's files.
    #[error(transparent)]
    Files(#[from] glimmer::Error),
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The device; where a value is not finite it names the layer.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The data.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A state that is written or gone on from.
    #[error(transparent)]
    State(#[from] StateError),
    /// Figures cannot be written.
    #[error("{METRICS} or TensorBoard's events: {0}")]
    Metrics(#[from] std::io::Error),
    /// No weight has a name that was asked for.
    #[error("no weight of the model ends in {target}; it has {known}")]
    Target {
        /// The name.
        target: String,
        /// The names that there are.
        known: String,
    },
    /// A setting that means nothing.
    #[error("{0}")]
    Setting(String),
    /// An adapter to begin with that is not what is trained.
    #[error("{}: {what}", Quoted(&path.display().to_string()))]
    Start {
        /// The adapter.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// More examples or tokens than a step has room for.
    #[error("{found} {what} in one step; there is room for {room}")]
    Room {
        /// What there is too much of.
        what: &'static str,
        /// How many.
        found: usize,
        /// The room.
        room: usize,
    },
    /// A value that is no number any more, which it was before the first step.
    #[error(
        "{place}: a value is not finite after {steps} steps; a lower learning rate, clipping or other data may help"
    )]
    Diverged {
        /// Where.
        place: Place,
        /// Steps that were done.
        steps: u64,
    },
    /// A gradient that is no number any more.
    #[error("the gradient {place} is not finite; a lower learning rate, clipping or other data may help")]
    Gradient {
        /// Where: before a layer, or of a tensor.
        place: String,
    },
}

impl TrainError {
    /// The same after some steps: what was finite before them is not the checkpoint's fault.
    pub(crate) fn after(self, steps: u64) -> Self {
        match self {
            TrainError::Device(DeviceError::NotFinite { place, .. }) if steps > 0 => {
                TrainError::Diverged { place, steps }
            }
            other => other,
        }
    }
}
