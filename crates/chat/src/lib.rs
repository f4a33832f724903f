//! Messages to tokens and back, for every generation of the GLM family.
//!
//! A [`Conversation`] goes through a [`ChatTemplate`] and becomes a [`Rendered`] prompt, whose pieces know
//! whether the format or a person wrote them; its ids follow in a safe and in the official way. Formats that are
//! known by heart are rendered natively, any other by the checkpoint's own Jinja.
//!
//! Conversations are read from JSON and written to it here alone (`wire`). This crate knows no model and no HTTP: ids come
//! from `glimmer-tokenizer`, and what stands around a conversation in requests and answers is the server's.
#![forbid(unsafe_code)]

mod detect;
mod error;
mod format;
mod formats;
#[doc(hidden)]
pub mod fuzz_entry;
mod jinja;
mod message;
mod python;
mod rendered;
pub mod reply;
mod sight;
mod template;
mod wire;

pub use error::ChatError;
pub use format::stop_ids;
pub use glimmer_config::{Evidence, Family};
pub use message::{Conversation, Message, Role, ToolCall};
pub use rendered::{Rendered, Segment};
pub use sight::{Medium, Placed, Seen, Sight};
pub use template::ChatTemplate;
pub use wire::rounds;
