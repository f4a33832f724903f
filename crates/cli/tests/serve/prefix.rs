//! Where the prompt of a conversation's next turn departs from what was read and written in the one before.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::Server;

const PATH: &str = "/v1/chat/completions";

fn ask(server: &Server, messages: &[Value]) -> Value {
    let body = json!({"model": "demo", "messages": messages, "temperature": 0, "max_tokens": 40});
    server.ask(PATH, &body)
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

fn prefix_break(answer: &Value) -> &Value {
    &answer["usage"]["prompt_tokens_details"]["prefix_break"]
}

#[test]
fn a_conversation_that_goes_on_is_remembered_and_one_that_was_changed_is_told_where() {
    let server = Server::start(&[]);
    let mut messages =
        vec![json!({"role": "system", "content": "You are brief."}), user("Hello! Who are you?")];
    for question in ["What can you do?", "And what is a token?", "Thank you.", "Bye!"] {
        let answer = ask(&server, &messages);
        assert!(prefix_break(&answer).is_null(), "{answer}");
        messages.push(answer["choices"][0]["message"].clone());
        messages.push(user(question));
    }
    let figure = |server: &Server| {
        let text = server.get("/metrics").text();
        let line = text.lines().find(|line| line.starts_with("glimmer_prefix_breaks_total{"));
        line.unwrap().rsplit(' ').next().unwrap().to_owned()
    };
    assert_eq!(figure(&server), "0");

    // Another answer than the model's.
    let at = messages.len() - 2;
    messages[at]["content"] = "I said something else.".into();
    let answer = ask(&server, &messages);
    let said = prefix_break(&answer);
    assert_eq!(said["message"], at, "{answer}");
    let cached = &answer["usage"]["prompt_tokens_details"]["cached_tokens"];
    let (cached, token) = (cached.as_u64().unwrap(), said["token"].as_u64().unwrap());
    assert!(cached <= token && cached > 0 && cached + 32 > token, "{answer}: whole pages before it");
    assert_eq!(figure(&server), "1");
    // The log has a thread of its own.
    let deadline = Instant::now() + Duration::from_secs(10);
    while !server.log().contains(&format!("prefix_break_message={at} prefix_break_token={token}")) {
        assert!(Instant::now() < deadline, "{}", server.log());
        std::thread::sleep(Duration::from_millis(10));
    }

    // In a stream the last chunk says so; tools that were added come before all messages.
    messages.push(answer["choices"][0]["message"].clone());
    messages.push(user("So long."));
    let tool = json!({"type": "function", "function": {"name": "get_time"}});
    let body = json!({"model": "demo", "messages": messages, "tools": [tool], "temperature": 0, "max_tokens": 4,
        "stream": true, "stream_options": {"include_usage": true}});
    let events = server.stream(PATH, &body);
    let last: Value = serde_json::from_str(&events[events.len() - 2]).unwrap();
    assert_eq!(prefix_break(&last)["message"], Value::Null, "{last}");
    assert!(prefix_break(&last)["token"].is_u64(), "{last}");
}
