//! The checkpoint crate's tests: what Python's tools read, what they wrote, what strangers may send, what we write.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod fixtures;
mod gguf_samples;
mod hostile_gguf;
mod hostile_layouts;
mod hostile_pickle;
mod hostile_safetensors;
mod properties;
mod replay;
mod support;
mod writers;
