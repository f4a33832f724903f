//! Tool calls in the deltas of an answer, whatever the model writes: its tokens are made up here.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::mpsc::channel;
use std::time::Instant;

use glimmer::{
    AnswerFormat, Conversation, Delta, Event, Family, FinishReason, GenerationParams, Limits, Model,
    OpenOptions, Overrides, Reply, ReplyPart, Sampling, Token,
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
    let token = |id| {
        glimmer::Event::Token(Token {
            id,
            at: Instant::now(),
            guessed: false,
            rejected: 0,
            logprob: None,
            top: Vec::new(),
        })
    };
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

/// Answers without calls are the same tokens whether calls would be held to their form or not.
#[test]
fn plain_text_keeps_its_bits() {
    let model = Model::open("demo", &OpenOptions::default(), &mut |_| {}).unwrap();
    let engine = model.start(&Limits::default()).unwrap();
    let mut conversation = Conversation::of_user("Tell me something about tools, please.");
    conversation.tools = vec![json!({"name": "one"}), json!({"name": "two"})];
    let prompt = engine.text().prompt(&conversation).unwrap();
    for seed in 0..12 {
        let temperature = [0.0, 1.0, 4.0][seed as usize % 3];
        let params = GenerationParams {
            sampling: Sampling { temperature, seed, ..Sampling::default() },
            max_tokens: Some(60),
            ..GenerationParams::default()
        };
        let (sender, events) = channel();
        let sink = move |event| {
            let _ = sender.send(event);
            std::ops::ControlFlow::Continue(())
        };
        engine.submit(engine.request(&prompt, &params), vec![Box::new(sink)]);
        let free: Vec<u32> = events
            .iter()
            .filter_map(|event| if let Event::Token(token) = event { Some(token.id) } else { None })
            .collect();
        let held = engine.generate(&prompt, params).unwrap().complete().unwrap();
        assert!(held.reply.tool_calls.is_empty(), "{:?}", held.reply);
        assert_eq!(held.tokens.iter().map(|token| token.id).collect::<Vec<_>>(), free);
    }
}

#[test]
fn required_calls_come_whatever_the_model_would_say() {
    let mut conversation = Conversation::of_user("Hello!");
    let parameters = json!({"type": "object", "properties": {
        "unit": {"enum": ["C", "F"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}}, "required": ["unit", "days"]});
    let tool = json!({"type": "function", "function": {"name": "forecast", "strict": true, "parameters": parameters}});
    conversation.tools = vec![tool];
    let format = AnswerFormat::Calls { tools: conversation.tools.clone(), required: true, single: true };
    let mut called = 0;
    let validator = jsonschema::validator_for(&conversation.tools[0]["function"]["parameters"]).unwrap();
    for family in [Family::Glm4, Family::Glm40414, Family::GlmZ1, Family::Glm45, Family::Glm47] {
        let overrides = Overrides { chat_format: Some(family), ..Overrides::default() };
        let options = OpenOptions { overrides, ..OpenOptions::default() };
        let engine = Model::open("demo", &options, &mut |_| {}).unwrap().start(&Limits::default()).unwrap();
        let prompt = engine.text().prompt(&conversation).unwrap();
        for seed in 0..4 {
            let params = GenerationParams {
                sampling: Sampling { temperature: 2.0, seed, ..Sampling::default() },
                max_tokens: Some(400),
                form: engine.text().form(&format).unwrap(),
                ..GenerationParams::default()
            };
            let answer = engine.generate(&prompt, params).unwrap().complete().unwrap();
            // Some of these think first, and a model that writes at random may never stop.
            if answer.finish == FinishReason::MaxTokens {
                continue;
            }
            assert_eq!(answer.finish, FinishReason::ToolCalls, "{family}: {:?}", answer.reply);
            let call = &answer.reply.tool_calls[0];
            let arguments = serde_json::from_str(call.arguments.as_str().unwrap()).unwrap();
            assert!(call.name == "forecast" && validator.is_valid(&arguments), "{family}: {arguments}");
            called += 1;
        }
    }
    assert!(called >= 8, "{called}");
}
