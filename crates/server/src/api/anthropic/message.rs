//! What an answer looks like, whole or in parts.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::api::answer_format::show_end;
use crate::app::App;
use crate::http::keys::Caller;
use crate::models::generation::{End, Generations};

/// What all parts of one answer have in common.
pub(crate) struct Frame {
    pub(crate) app: Arc<App>,
    pub(crate) caller: Caller,
    /// What its id and those of its calls are made of.
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) shows_thoughts: bool,
}

impl Frame {
    /// The message, which has no end yet.
    pub(crate) fn message(&self, content: Vec<Value>, usage: Value) -> Value {
        json!({
            "id": format!("msg_{:016x}", self.id),
            "type": "message",
            "role": "assistant",
            "model": self.name,
            "content": content,
            "stop_reason": null,
            "stop_sequence": null,
            "usage": usage,
        })
    }

    /// A block of thoughts, as far as they are shown.
    pub(crate) fn thinking(&self, thoughts: &str) -> Value {
        let shown = if self.shows_thoughts { thoughts } else { "" };
        json!({"type": "thinking", "thinking": shown, "signature": ""})
    }

    /// What brings thoughts back to this server as they were, whatever is shown of them.
    pub(crate) fn signature(&self, thoughts: &str) -> String {
        self.app.seal.seal(&self.caller, thoughts)
    }

    /// One of the answer's calls.
    pub(crate) fn call(&self, at: usize, name: &str, input: Value) -> Value {
        json!({"type": "tool_use", "id": format!("toolu_{:016x}{at:02x}", self.id), "name": name, "input": input})
    }
}

/// A block of text.
pub(crate) fn text(text: &str) -> Value {
    json!({"type": "text", "text": text, "citations": null})
}

/// Tokens so far. Those that were remembered are apart from the others of the prompt; none are paid for being kept.
pub(crate) fn usage(generations: &Generations) -> Value {
    let usage = generations.usage();
    json!({
        "input_tokens": usage.prompt - usage.cached,
        "cache_read_input_tokens": usage.cached,
        "cache_creation_input_tokens": 0,
        "output_tokens": usage.completion,
        "output_tokens_details": {"thinking_tokens": usage.reasoning},
        "service_tier": "standard",
    })
}

/// Shows why an answer ended. One in which a call was cut off has not reached its end, whatever ended it: clients make of a
/// part of a call what they can, and are not to run that.
pub(crate) fn show_stop(shown: &mut Value, end: &End, is_cut: bool) {
    show_end(shown, end);
    shown["stop_reason"] = match end {
        _ if is_cut => "max_tokens",
        End { stop_string: Some(_), .. } => "stop_sequence",
        End { reason: "tool_calls", .. } => "tool_use",
        End { reason: "length", .. } => "max_tokens",
        _ => "end_turn",
    }
    .into();
    shown["stop_sequence"] = end.stop_string.clone().into();
}
