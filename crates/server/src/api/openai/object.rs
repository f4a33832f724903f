//! What objects of the OpenAI API have in common.

use std::collections::VecDeque;

use glimmer::{Token, Tokenizer};
use serde_json::{Value, json};

use crate::api::generation_request::StreamUsage;
use crate::http::sse::Event;
use crate::models::generation::Generations;

/// What this server and its arithmetic are: with the same seed, the same answer.
pub(crate) fn fingerprint() -> String {
    format!("glimmer-{}", env!("CARGO_PKG_VERSION"))
}

/// Numbers of tokens as the OpenAI API gives them, and where the prompt departs from what was computed for the turn before.
pub(crate) fn usage(generations: &Generations) -> Value {
    let usage = generations.usage();
    let mut shown = json!({
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "accepted_prediction_tokens": usage.accepted,
            "rejected_prediction_tokens": usage.rejected,
        },
    });
    if generations.picture_tokens() > 0 {
        shown["prompt_tokens_details"]["image_tokens"] = generations.picture_tokens().into();
    }
    if let Some(departure) = generations.departure() {
        shown["prompt_tokens_details"]["prefix_break"] =
            json!({"message": departure.message, "token": departure.token});
    }
    shown
}

/// A token with its log-probability and those of the likeliest ones.
pub(crate) fn shown_token(tokenizer: &Tokenizer, token: &Token) -> Value {
    let one = |id: u32, logprob: f32| {
        let bytes = tokenizer.token_bytes(id).unwrap_or_default();
        json!({"token": String::from_utf8_lossy(&bytes), "logprob": logprob, "bytes": bytes})
    };
    let mut shown = one(token.id, token.logprob.unwrap_or(f32::NAN));
    shown["top_logprobs"] = token.top.iter().map(|&(id, logprob)| one(id, logprob)).collect();
    shown
}

/// What a chunk of a stream that is not the last says of usage.
pub(crate) fn chunk_usage(chunk: &mut Value, wanted: StreamUsage, generations: &Generations) {
    match wanted {
        StreamUsage::None => {}
        StreamUsage::Last => chunk["usage"] = Value::Null,
        StreamUsage::Every => chunk["usage"] = usage(generations),
    }
}

/// Closes a stream: with the usage in `last`, a chunk without choices, where that is wanted, and with `[DONE]`.
pub(crate) fn close(
    ready: &mut VecDeque<Event>,
    mut last: Value,
    wanted: StreamUsage,
    generations: &Generations,
) {
    if wanted != StreamUsage::None {
        last["usage"] = usage(generations);
        ready.push_back(Event::of(&last));
    }
    ready.push_back(Event::text("[DONE]".to_owned()));
}
