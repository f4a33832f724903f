//! What objects of the OpenAI API have in common.

use glimmer::Usage;
use serde_json::{Value, json};

/// What this server and its arithmetic are: with the same seed, the same answer.
pub(crate) fn fingerprint() -> String {
    format!("glimmer-{}", env!("CARGO_PKG_VERSION"))
}

/// Numbers of tokens as the OpenAI API gives them.
pub(crate) fn usage(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    })
}
