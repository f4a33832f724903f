//! The engine: requests become ragged batches. It knows token ids, not text.
#![forbid(unsafe_code)]

mod adapters;
mod audience;
mod computed;
mod constraint;
mod draft_model;
mod engine;
mod lottery;
mod masks;
mod pace;
pub mod page_key;
mod pages;
mod picture;
mod repetition;
mod request;
mod sampling;
#[doc(hidden)] // For its tests.
pub mod scheduler;
mod speculation;
mod statistics;
mod viewer;
mod worker;

pub use adapters::AdapterId;
pub use constraint::{Constraint, ConstraintMaker, TokenMask};
pub use engine::{Companions, Engine, EngineOptions};
pub use page_key::{Extra, PageKey};
pub use pages::{PageEvent, PageListener};
pub use picture::PromptPicture;
pub use repetition::RepetitionDetection;
pub use request::{
    EngineError, Event, Finish, Foretold, PromptProgress, Request, Score, Sink, Speculation, Token,
    room_for_answer,
};
pub use sampling::{Reads, Sampler, Sampling, log_probabilities};
pub use statistics::Statistics;
