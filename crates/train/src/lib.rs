//! Fine-tuning: conversations and a model in, an adapter out.
#![forbid(unsafe_code)]

mod error;
mod example;
mod tape;
mod trainable;

pub use error::TrainError;
pub use example::Example;
pub use tape::{Losses, Parameter, Room, Tape};
pub use trainable::{LowRankSpec, PrefixSpec, ProjectionSpec, Trainable};
