//! The Anthropic API: conversations, and how many tokens they have.

mod conversation;
mod message;
pub(crate) mod messages;
mod request;
mod stream;
mod tools;
