//! What an answer must be, as masks over token ids.
//!
//! A [`TokenTable`] holds the bytes of every id of a tokenizer, a [`Compiler`] makes a [`Compiled`] of a [`Grammar`]
//! (any JSON, a JSON schema, a regular expression, one of some texts, GBNF, Lark, calls of tools), and a [`Matcher`] is one answer's
//! way through it. The automata are llguidance's; what it does not know of JSON schemas is rewritten into what it knows
//! where that is exact (`schema`), and is otherwise named by [`Compiled::unmasked`] and checked when an answer is
//! finished. Every source is hostile: sizes, depths, states and steps are bounded.
//!
//! This crate knows a tokenizer, no model and no engine.
#![forbid(unsafe_code)]

mod call_check;
mod calls;
mod compiler;
mod context;
mod error;
#[doc(hidden)]
pub mod fuzz_entry;
mod gbnf;
mod grammar;
mod matcher;
mod schema;
mod token_table;
mod turns;

pub use calls::{CallForm, CallTool, Calls};
pub use compiler::{Compiled, Compiler};
pub use error::GrammarError;
pub use grammar::Grammar;
pub use matcher::{Beginning, Matcher};
pub use schema::Unmasked;
pub use token_table::TokenTable;
