//! The server: the OpenAI API and the GLM API over HTTP. The only crate that knows wire JSON.
#![forbid(unsafe_code)]

mod access;
mod app;
mod auth;
mod body;
mod chat;
mod completions;
mod conversation;
mod error;
mod glm;
mod listen;
mod log;
mod metrics;
mod models;
mod notify;
mod options;
mod params;
mod served;
mod speaking;
mod sse;
mod stall;
mod status;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod tls;
mod tokens;
mod wanted;

pub use error::ServerError;
pub use listen::Server;
pub use options::{Limits, Options};
pub use served::{Chat, Served, Text};
