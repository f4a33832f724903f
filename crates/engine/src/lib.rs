//! The engine: requests become ragged batches. It knows token ids, not text.
#![forbid(unsafe_code)]

mod engine;
mod pages;
mod sampling;

pub use engine::{Engine, EngineError, EngineOptions, Finish, Outcome, Request};
pub use pages::PagePool;
pub use sampling::{Sampler, Sampling, log_probability};
