//! The server: the OpenAI API and the GLM API over HTTP. The only crate that knows wire JSON.
//!
//! It is given models that are ready ([`Served`]: an engine, a tokenizer, a way of conversing) and opens none itself; it
//! knows neither files nor devices. Tool calls, constrained answers and other vendors' APIs are not there: what asks for
//! them is refused.
//!
//! # Who calls whom
//!
//! | file | holds |
//! |---|---|
//! | `listen` | [`Server`]: the socket, connections and their limits, signals, the orderly end. `stall`, `tls`, `notify` are its parts |
//! | `app` | what all requests share, and the table of paths |
//! | `access` | around every request: its key, its number, its line in the log |
//! | `body`, `params` | JSON in: every field is taken or refused. `error` is JSON out |
//! | `wanted`, `conversation` | parameters that endpoints share; messages to a prompt |
//! | `speaking` | from the engine's events to pieces of text. All endpoints that write go through it |
//! | `chat`, `completions`, `glm` | one API each: what it asks, and how it shows pieces, whole or as `sse` |
//! | `embeddings` | vectors of texts, by an encoder beside the models |
//! | `tokens`, `models`, `status` | endpoints that compute nothing |
//! | `batch` | the same paths from a file, without a socket |
//! | `served`, `options` | what the program hands in: models, and what the operator decides |
//! | `auth`, `log`, `metrics`, `traces` | keys, the log, figures, spans for a collector |
//!
//! # One request
//!
//! `POST /v1/chat/completions` with `stream: true`:
//!
//! 1. `access` checks the key and makes an entry; `body` reads at most `limits.body` bytes within `limits.body_time`.
//! 2. `chat` takes the parameters, and complains about what is left. `conversation` renders and encodes the messages on a
//!    thread for slow things: a long prompt stops nobody else's stream. A prompt that does not fit is refused here.
//! 3. `Speaking::start` submits one request per answer (`n`) to the engine. Its sink runs on the engine's thread and only
//!    ever *tries* to put an event into a bounded channel.
//! 4. The first event is waited for, for a second: a refusal (queue full) can still become a status. Then the head of the
//!    response goes out.
//! 5. The response's body pulls: hyper asks for bytes when the socket takes some, `sse` asks `chat`'s stream for a chunk,
//!    that asks `Speaking` for a delta, that waits for events and has the reply parser read them.
//! 6. At the end usage, `[DONE]`, and the entry's line.
//!
//! A response that is not a stream is the same with the deltas folded.
//!
//! # Cancellation
//!
//! Dropping is the only way. A client that goes away has hyper drop the response's body (or the handler), with it the
//! `Speaking`, with it the channel's receiver; the sink finds the channel closed and breaks off, and the engine frees the
//! pages at its next step. A stop string found in one of several answers breaks off that answer alone by a flag. The same
//! goes for a time limit and for a client that fell behind.
//!
//! # Limits
//!
//! | what | bound |
//! |---|---|
//! | head, body, answer, a write that nobody takes | `Limits::{head_time, body_time, answer_time, stall_time}` |
//! | body's bytes, answers of a request, tokens of an answer | `Limits::{body, choices, answer_tokens}` |
//! | events that a stream's client may be behind | `Limits::behind` per answer; then the answer ends with an error event |
//! | connections | `Limits::connections`; others wait in the system's queue |
//! | answers waiting | the engine's queue; then 429 with `Retry-After`, an average answer's time |
//!
//! An answer that is not a stream is held whole; its size is bounded by its tokens. Memory that a connection can take is
//! therefore bounded, whatever its client does.
#![forbid(unsafe_code)]

mod access;
mod app;
mod auth;
mod batch;
mod body;
mod chat;
mod completions;
mod conversation;
mod embeddings;
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
mod traces;
mod wanted;

pub use batch::{Batch, BatchSummary};
pub use embeddings::{Embed, Embedder};
pub use error::ServerError;
pub use listen::Server;
pub use options::{Limits, Options};
pub use served::{Chat, Served, Text};
