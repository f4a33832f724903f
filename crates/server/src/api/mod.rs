//! The APIs: what each asks, and how it shows what a model writes.

pub(crate) mod adapters;
mod answer_format;
pub(crate) mod anthropic;
pub(crate) mod catalogue;
pub(crate) mod chat_request;
pub(crate) mod conversation;
pub(crate) mod dialect;
pub(crate) mod generation_request;
pub(crate) mod glm;
pub(crate) mod ollama;
pub(crate) mod openai;
pub(crate) mod page;
pub(crate) mod rerank;
pub(crate) mod status;
pub(crate) mod thinking;
pub(crate) mod tokens;
pub(crate) mod tools;
pub(crate) mod xinference;
