//! The server: the OpenAI API, Anthropic's, Ollama's and the GLM API over HTTP, and the page that uses them in a browser (`ui/`).
//!
//! It is given models by name (a [`glimmer::Registry`], which loads what requests ask for) and knows neither files nor
//! devices. Who finds further ones by name, as Xinference's API asks for, is a [`Launcher`].
//!
//! # The parts
//!
//! From the floor up; each imports only parts above it in this table, and no two files import each other
//! (`crates/cli/tests/arrows.rs` holds both).
//!
//! | part | holds |
//! |---|---|
//! | `clock`, `options`, `error` | the time of day; what the operator decides; what clients and the operator are told when something is wrong |
//! | `launcher` | what is asked of whoever knows models by name |
//! | `record` | the log, `metrics` and `traces`, and the `entry` of each request, which feeds the three |
//! | `http` | `connection`, `places`, `tls`, `stall`: sockets and their limits; `keys` and `hosts`: who may ask, and by what name; `body` and `params`: JSON in, every field is taken or refused; `response`, `sse` and `ndjson`: JSON out |
//! | `models` | `served`: the registry, and what is kept of each model beside it; `generation`: the answers to a request, through a channel that nobody waits for; `encoder`: vectors of texts, scores of pairs; `instances`: what was launched, and how far it is; `made`: models that clients made of others |
//! | `seal`, `kept` | what clients keep for the server and bring back unchanged; responses that the server keeps for clients |
//! | `app` | what all requests share |
//! | `api` | `page`: the files of the page for browsers; `openai`, `anthropic`, `ollama`, `glm`, `xinference`, `rerank`, `tokens`, `status`: what each API asks, and how it shows what a model writes; `chat_request` (a conversation to be answered), `generation_request`, `answer_format`, `conversation`, `thinking` and `tools`: what they share; `dialect`: how each says that something is wrong |
//! | `access`, `router` | around every request: its key, its entry; the table of paths |
//! | `server`, `batch` | [`Server`]: signals and the orderly end; [`Batch`]: the same paths from a file, without a socket |
//!
//! # One request
//!
//! `POST /v1/chat/completions` with `stream: true`:
//!
//! 1. `access` checks host and key and makes an entry; `body` reads at most `limits.body` bytes within `limits.body_time`,
//!    if there is room for them beside the bodies of others.
//! 2. `chat` takes the parameters, finds the model, which is loaded for that where it is not, and complains of all that is wrong or left. `conversation` renders and encodes the messages on a
//!    thread for slow things: a long prompt stops nobody else's stream. A prompt that does not fit is refused here.
//! 3. `Generations::start` lets go of the body's room and submits one request per answer (`n`) to the engine. Its sink runs on the engine's thread and
//!    only ever *tries* to put an event into a bounded channel.
//! 4. The first event is waited for, for a second: a refusal (queue full) can still become a status. Then the head of the
//!    response goes out.
//! 5. The response's body pulls: hyper asks for bytes when the socket takes some, `sse` asks `chat`'s stream for a chunk,
//!    that asks `Generations` for a delta, that waits for events and has the reply parser read them.
//! 6. At the end usage, `[DONE]`, and the entry's line.
//!
//! A response that is not a stream is the same with the deltas folded.
//!
//! # Cancellation
//!
//! Dropping is the only way. A client that goes away has hyper drop the response's body (or the handler), with it the
//! `Generations`, with it the channel's receiver; the sink finds the channel closed and breaks off, and the engine frees
//! the pages at its next step. A stop string found in one of several answers breaks off that answer alone by a flag. The
//! same goes for a time limit and for a client that fell behind.
//!
//! # Limits
//!
//! | what | bound |
//! |---|---|
//! | head, body, answer, a write that nobody takes | `RequestLimits::{head_time, body_time, answer_time, stall_time}` |
//! | body's bytes, answers of a request, tokens of an answer | `RequestLimits::{body, choices, answer_tokens}` |
//! | events that a stream's client may be behind | `RequestLimits::behind` per answer; then the answer ends with an error event |
//! | all larger bodies that are held | `RequestLimits::bodies`; beyond, 429. Something is made of one of the largest at a time, and what they leave is given back to the system |
//! | what is made of a body before it is ids | a few times its bytes (`glimmer::json::room`); beyond, 413 |
//! | connections | `RequestLimits::connections`; idle ones make room, then others wait in the system's queue |
//! | the log | lines that wait to be written; beyond, they are lost and counted |
//! | requests that wait for a model to be loaded | so many for each, `RequestLimits::load_time`; then 429, or 503 with `Retry-After` |
//! | answers waiting | the engine's queue; then 429 with `Retry-After`, an average answer's time |
//!
//! An answer that is not a stream is held whole; its size is bounded by its tokens. Memory that a connection can take is
//! therefore bounded, whatever its client does.
#![forbid(unsafe_code)]

mod access;
mod api;
mod app;
mod batch;
mod clock;
mod error;
mod http;
mod kept;
mod launcher;
mod models;
mod options;
mod record;
mod router;
mod seal;
mod server;

pub use batch::{Batch, BatchSummary};
pub use error::ServerError;
pub use launcher::{
    CachedModel, EngineForm, Gpus, Launch, LaunchError, LaunchSpec, LaunchWatch, Launcher, ModelDescription,
    ModelType, RegisteredForm, Registration,
};
pub use options::{FetchPicture, Options, PublishedModels, RequestLimits};
pub use server::Server;
