//! The verbs, one file each.

pub(crate) mod batch;
pub(crate) mod bench;
pub(crate) mod cache;
pub(crate) mod cached;
mod cards;
pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod convert;
pub(crate) mod detokenize;
pub(crate) mod fit;
pub(crate) mod health;
pub(crate) mod inspect;
pub(crate) mod launch;
pub(crate) mod list;
pub(crate) mod logits;
pub(crate) mod man;
pub(crate) mod model_memory;
pub(crate) mod pull;
pub(crate) mod registered;
pub(crate) mod run;
pub(crate) mod running;
pub(crate) mod serve;
pub(crate) mod show;
pub(crate) mod synth;
pub(crate) mod template;
pub(crate) mod tokenize;
pub(crate) mod verify;
