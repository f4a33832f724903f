//! Tool calls in the deltas of an answer, whatever the model writes: its tokens are made up here.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Instant;

use glimmer::{
    Conversation, Delta, FinishReason, GenerationParams, Limits, Model, OpenOptions, Reply, ReplyPart, Token,
};
use serde_json::json;

/// The deltas of an answer of this text, up to the first that ends it. `<|assistant|>` in it is the token.
fn deltas(text: &str, params: &GenerationParams) -> Vec<Delta> {
    let model = Model::open("demo", &OpenOptions::default(), &mut |_| {}).unwrap();
    let engine = model.start(&Limits::default()).unwrap();
    let mut conversation = Conversation::of_user("?");
    conversation.tools = vec![json!({"name": "one"}), json!({"name": "two"})];
    let prompt = engine.text().prompt(&conversation).unwrap();
    let mut reader = engine.reader(&prompt, params).unwrap();
    let ids = engine.text().tokenizer().unwrap().encode_parse_special(text);
    let token = |id| glimmer::Event::Token(Token { id, at: Instant::now(), logprob: None, top: Vec::new() });
    let mut deltas = Vec::new();
    for event in ids.into_iter().map(token) {
        deltas.extend(reader.push(event).unwrap());
        if reader.finish().is_some() {
            assert!(reader.usage().completion > 0);
            return deltas;
        }
    }
    deltas.extend(reader.push(glimmer::Event::Finished(glimmer_engine::Finish::Stop(0))).unwrap());
    deltas
}

const TWO: &str = "\nLet me see.<|assistant|>one\n{\"a\": \"x y\"}<|assistant|>two\n{}";

fn reply(deltas: Vec<Delta>) -> (Reply, Option<FinishReason>) {
    let finish = deltas.last().and_then(|delta| delta.finish.clone());
    (deltas.into_iter().flat_map(|delta| delta.parts).collect(), finish)
}

#[test]
fn calls_come_in_order() {
    let (all, finish) = reply(deltas(TWO, &GenerationParams::default()));
    let names: Vec<&str> = all.tool_calls.iter().map(|call| call.name.as_str()).collect();
    assert_eq!((all.text.as_str(), names.as_slice()), ("Let me see.", &["one", "two"][..]));
    assert_eq!(finish, Some(FinishReason::ToolCalls));
}

#[test]
fn one_call_ends_an_answer_of_which_no_more_is_wanted() {
    let params = GenerationParams { single_call: true, ..GenerationParams::default() };
    let deltas = deltas(TWO, &params);
    assert_eq!(deltas.last().unwrap().parts.last(), Some(&ReplyPart::ToolCallEnd));
    let (all, finish) = reply(deltas);
    assert_eq!((all.tool_calls.len(), all.tool_calls[0].name.as_str()), (1, "one"));
    assert_eq!(finish, Some(FinishReason::ToolCalls));
}
