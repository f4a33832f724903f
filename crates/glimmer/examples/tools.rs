//! A tool that the model calls: `cargo run --release --example tools -- MODEL`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "examples print")]

use glimmer::{Conversation, Limits, Message, Model, OpenOptions, Role};

const TOOLS: &str = r#"[{"type": "function", "function": {"name": "get_weather",
    "description": "Get the current weather in a city", "parameters": {"type": "object",
    "properties": {"city": {"type": "string", "description": "The city"}}, "required": ["city"]}}}]"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = std::env::args().nth(1).unwrap_or("demo".to_owned());
    let model = Model::open(model.as_str(), &OpenOptions::default(), &mut |_| {})?;
    let engine = model.start(&Limits::default())?;

    let mut conversation = Conversation::of_user("What is the weather like in Oslo?");
    conversation.tools = serde_json::from_str(TOOLS)?;
    let mut reply = engine.chat(&conversation)?.complete()?.reply;
    while !reply.tool_calls.is_empty() {
        let calls = reply.tool_calls.clone();
        conversation.messages.push(reply.into());
        for call in calls {
            println!("{} {}", call.name, call.arguments_text());
            let result = r#"{"temperature": -4, "condition": "snow"}"#;
            conversation.messages.push(Message::new(Role::Observation, result));
        }
        reply = engine.chat(&conversation)?.complete()?.reply;
    }
    println!("{}", reply.text);
    Ok(())
}
