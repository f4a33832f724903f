//! The engine: requests become ragged batches. It knows token ids, not text.
#![forbid(unsafe_code)]

mod engine;
mod pages;
mod request;
mod sampling;
pub mod scheduler;
mod speculation;
mod statistics;
mod worker;

pub use engine::{Engine, EngineOptions};
pub use pages::PagePool;
pub use request::{EngineError, Event, Finish, Prompt, Request, Score, Sink, Speculation, Token};
pub use sampling::{Sampler, Sampling, log_probabilities};
pub use statistics::Statistics;
