//! What all that is said of one response has in common: the object as it was asked for.

use std::sync::Arc;

use glimmer::Tokenizer;
use serde_json::{Value, json};

use crate::api::answer_format::show_end;
use crate::api::openai::responses::ids;
use crate::app::App;
use crate::clock::now;
use crate::error::ApiError;
use crate::http::keys::Caller;
use crate::models::generation::{End, Generations};

/// What all that is said of one response has in common.
pub(crate) struct Frame {
    pub(crate) app: Arc<App>,
    pub(crate) caller: Caller,
    /// What its id and those of its items are made of.
    pub(crate) id: u64,
    /// The response, before anything came of it.
    pub(crate) asked: Value,
    pub(crate) tokenizer: Tokenizer,
    /// The names of the custom tools.
    pub(crate) custom: Vec<String>,
    pub(crate) has_logprobs: bool,
    pub(crate) shows_reasoning: bool,
    /// Whether thoughts come sealed, too.
    pub(crate) has_sealed_reasoning: bool,
}

impl Frame {
    /// Whether there are items of thoughts.
    pub(crate) fn has_reasoning(&self) -> bool {
        self.shows_reasoning || self.has_sealed_reasoning
    }

    /// A text that only this caller can bring back.
    pub(crate) fn seal(&self, text: &str) -> String {
        self.app.seal.seal(&self.caller, text)
    }

    /// The response so far, without what was said.
    pub(crate) fn object(&self, status: &str) -> Value {
        let mut object = self.asked.clone();
        object["id"] = ids::response(self.id).into();
        object["status"] = status.into();
        object
    }

    /// The response that ended so, with these items.
    pub(crate) fn ended(&self, end: &End, output: Vec<Value>, generations: &Generations) -> Value {
        let is_cut = end.reason == "length";
        let mut object = self.object(if is_cut { "incomplete" } else { "completed" });
        if is_cut {
            object["incomplete_details"] = json!({"reason": "max_output_tokens"});
        } else {
            object["completed_at"] = now().into();
        }
        object["output"] = output.into();
        object["usage"] = usage(generations);
        show_end(&mut object, end);
        object
    }

    /// The response that broke off, with these items.
    pub(crate) fn failed(&self, error: &ApiError, output: Vec<Value>) -> Value {
        let mut object = self.object("failed");
        object["error"] = json!({"code": code(error), "message": error.message()});
        object["output"] = output.into();
        object
    }
}

/// The API's word for what went wrong: it has few.
fn code(error: &ApiError) -> &'static str {
    match error.status().as_u16() {
        429 => "rate_limit_exceeded",
        400..=499 => "invalid_prompt",
        _ => "server_error",
    }
}

/// Numbers of tokens, and where the prompt departs from what was computed for the turn before.
fn usage(generations: &Generations) -> Value {
    let usage = generations.usage();
    let mut shown = json!({
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": 0},
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.prompt + usage.completion,
    });
    if let Some(departure) = generations.departure() {
        shown["input_tokens_details"]["prefix_break"] =
            json!({"message": departure.message, "token": departure.token});
    }
    shown
}
