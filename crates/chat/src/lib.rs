//! Messages to tokens and back, for every generation of the GLM family.
//!
//! A [`Conversation`] goes through a [`ChatTemplate`] and becomes a [`Rendered`] prompt, whose pieces know
//! whether the format or a person wrote them; its ids follow in a safe and in the official way. Formats that are
//! known by heart are rendered natively, any other by the checkpoint's own Jinja.
//!
//! This crate knows no model and no wire protocol: ids come from `glimmer-tokenizer`, JSON shapes of requests stay
//! with the server.
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
mod template;

pub use detect::Hints;
pub use error::ChatError;
pub use format::{Format, SamplingDefaults, stop_ids};
pub use message::{Conversation, Message, Role, ToolCall};
pub use rendered::{Rendered, Segment};
pub use template::ChatTemplate;
