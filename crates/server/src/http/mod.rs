//! HTTP: connections and their limits, bodies in, responses out. Nothing here knows a model or an API.

pub(crate) mod body;
pub(crate) mod connection;
pub(crate) mod hosts;
pub(crate) mod keys;
pub(crate) mod ndjson;
pub(crate) mod params;
pub(crate) mod places;
pub(crate) mod query;
pub(crate) mod response;
pub(crate) mod sse;
mod stall;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) mod tls;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[path = "no_tls.rs"]
pub(crate) mod tls;
mod unread;
