//! `glimmer serve` with the demo model, over real sockets.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(unreachable_pub, reason = "a test has no users")]

mod adapters;
mod anthropic;
mod batch;
mod bodies;
mod bombs;
mod client;
mod connections;
mod embeddings;
mod faults;
mod forms;
mod glm;
mod load;
mod ollama;
mod openai;
mod operations;
mod page;
mod pictures;
mod prefix;
mod repetition;
mod rerank;
mod responses;
mod same;
mod several;
#[path = "../support/mod.rs"]
mod support;
mod thinking;
mod tools;
mod traces;
