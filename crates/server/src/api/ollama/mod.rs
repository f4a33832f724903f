//! Ollama's API, as release 0.33 has it.

pub(crate) mod answer;
pub(crate) mod chat;
pub(crate) mod copies;
pub(crate) mod create;
pub(crate) mod embed;
pub(crate) mod generate;
pub(crate) mod keep_alive;
pub(crate) mod messages;
pub(crate) mod modelfile;
pub(crate) mod models;
pub(crate) mod names;
pub(crate) mod options;
pub(crate) mod pull;
pub(crate) mod request;
