//! Fine-tuning: conversations and a model in, an adapter out.
#![forbid(unsafe_code)]

mod example;

pub use example::Example;
