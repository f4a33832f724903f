//! Fine-tuning: conversations and a model in, an adapter out.
#![forbid(unsafe_code)]

mod backward;
mod checksum;
mod columns;
pub mod config;
pub mod data;
mod error;
mod events;
mod example;
#[doc(hidden)]
pub mod fuzz_entry;
mod liveness;
mod machine;
mod magnitudes;
mod metrics;
mod opening;
mod optimizer;
mod outcome;
mod plot;
mod prefix;
mod program;
mod random;
mod recorder;
mod schedule;
pub mod score;
mod start;
mod state;
mod tape;
mod trainable;
mod trainer;

pub use error::TrainError;
pub use example::Example;
pub use metrics::{Figures, METRICS, Metrics, curve};
pub use opening::{Arithmetic, Base, MemoryPlan, attention_targets};
pub use optimizer::{AdamW, Optimizer, clip_scale, sum_of_squares};
pub use plot::{Curve, Smoothed, plot, smoothed};
pub use schedule::{Decay, Schedule};
pub use state::{
    SavedState, StateError, StateHead, StateTensor, remove_old_states, remove_unfinished_states, save_state,
    state_path, states,
};
pub use tape::{Losses, Parameter, Room, Tape, TrainingMemory, training_memory};
pub use trainable::{LowRankSpec, PrefixSpec, ProjectionSpec, Trainable};
pub use trainer::{Best, Course, Ending, Onlooker, Output, Progress, StepReport, Trainer};
