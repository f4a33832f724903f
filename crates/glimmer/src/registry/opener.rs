//! How a model that is not loaded is known.

use std::sync::Arc;
use std::time::Duration;

use super::LoadedModel;
use crate::{ModelFacts, Progress};

/// Why a model cannot be opened.
pub type OpenError = Box<dyn std::error::Error + Send + Sync>;

/// What a model makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelKind {
    /// Text.
    Text,
    /// Vectors of texts.
    Vectors,
    /// Scores of pairs of texts.
    Scores,
}

/// Opens a model, again and again.
pub trait Opener: Send + Sync {
    /// Reads the headers of its files: everything but the weights.
    ///
    /// # Errors
    /// When they are not there any more, or are none that can be run.
    fn prepare(&self) -> Result<Prepared, OpenError>;

    /// What its files say of it, without its weights.
    ///
    /// # Errors
    /// Those of [`Opener::prepare`].
    fn facts(&self) -> Result<ModelFacts, OpenError> {
        Ok(ModelFacts::default())
    }
}

/// A model whose weights are still to be read.
pub struct Prepared {
    /// Bytes that it will hold: weights, cache and buffers.
    pub memory: u64,
    /// Reads the weights and starts it, telling how far it is.
    pub open: Box<Open>,
}

/// See [`Prepared::open`].
pub type Open = dyn FnOnce(&mut dyn FnMut(Progress<'_>)) -> Result<LoadedModel, OpenError>;

/// A model that is loaded when somebody asks for it.
pub struct KnownModel {
    /// What it is called; the first is its name in lists and figures.
    pub names: Vec<String>,
    /// What it makes, as far as can be told before it is opened.
    pub kind: ModelKind,
    /// When its files were made, in seconds since 1970; 0 where nobody knows.
    pub created: u64,
    /// What opens it.
    pub opener: Arc<dyn Opener>,
    /// How long it stays when nobody uses it; without an end, until another needs its room.
    pub keep_alive: Option<Duration>,
}

/// A place where models are found, such as a directory.
pub trait Shelf: Send + Sync {
    /// All that are there now, in their order.
    fn models(&self) -> Vec<KnownModel>;
}
