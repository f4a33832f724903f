//! What a model's files say of it beside its weights, read in one place: which generation it is ([`Evidence`]), what ends
//! its answers, how it is sampled, its chat template ([`Configuration`]).
//!
//! The files are input from strangers: [`mod@file`] reads them bounded and only if they are files, [`mod@json`] makes
//! trees of them that are bounded, too. Nothing here knows tensors, tokens or text; of a GGUF its keys come in as plain
//! values ([`GgufValues`]).
#![forbid(unsafe_code)]

mod configuration;
mod error;
mod evidence;
mod family;
pub mod file;
pub mod json;
mod sampling;
mod text;

pub use configuration::{Configuration, GgufValues};
pub use error::FileError;
pub use evidence::{Decision, Evidence};
pub use family::Family;
pub use sampling::{GGUF_SAMPLING, SamplingDefaults, shortest_decimal};
pub use text::{Escaped, Quoted, is_harmful, json_line};
