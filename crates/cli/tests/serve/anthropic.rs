//! The Anthropic API: what its clients send, and what they are shown.

use std::io::{BufRead, BufReader};
use std::path::Path;

use glimmer_tokenizer::Tokenizer;
use serde_json::{Value, json};

use crate::client::{Response, Server};
use crate::support::{chain, root};
use crate::tools::of_one_reply;

const PATH: &str = "/v1/messages";
const COUNT: &str = "/v1/messages/count_tokens";

fn tools() -> Value {
    let schema = |description: &str| {
        json!({"type": "object", "properties": {"city": {"type": "string", "description": description}},
            "required": ["city"]})
    };
    json!([
        {"name": "get_time", "description": "Get the current local time in a city", "input_schema": schema("The city")},
        {"name": "get_weather", "description": "Get the current weather in a city",
            "input_schema": schema("The name of the city"), "type": "custom", "cache_control": {"type": "ephemeral"}},
    ])
}

fn user(content: impl Into<Value>) -> Value {
    json!({"role": "user", "content": content.into()})
}

fn assistant(content: Value) -> Value {
    json!({"role": "assistant", "content": content})
}

fn body(messages: &[Value], more: Value) -> Value {
    let mut body = json!({"model": "demo", "max_tokens": 200, "messages": messages, "temperature": 0});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// The events of a stream, each with its name beside it.
fn events(response: &Response) -> Vec<Value> {
    assert_eq!(response.header("content-type"), Some("text/event-stream"));
    let text = response.text();
    let mut all = Vec::new();
    for event in text.split_terminator("\n\n").filter(|event| !event.starts_with(':')) {
        let (name, data) = event.split_once('\n').expect("a name and data");
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").expect("data")).unwrap();
        assert_eq!(name.strip_prefix("event: "), data["type"].as_str(), "{event}");
        all.push(data);
    }
    all
}

/// A stream's message put together as clients do it. What has an order is held to it.
fn put_together(events: &[Value]) -> Value {
    let mut events = events.iter().filter(|event| event["type"] != "ping");
    let start = events.next().expect("a beginning");
    assert_eq!(start["type"], "message_start");
    let mut message = start["message"].clone();
    assert!(message["usage"]["input_tokens"].is_u64() && message["content"] == json!([]));
    let (mut open, mut input, mut is_over) = (false, String::new(), false);
    for event in events {
        let content = message["content"].as_array_mut().unwrap();
        let is_last = |at: &Value, length: usize| at.as_u64() == Some(length as u64 - 1);
        match event["type"].as_str().unwrap() {
            "content_block_start" => {
                assert!(!open && !is_over, "{event}");
                content.push(event["content_block"].clone());
                assert!(is_last(&event["index"], content.len()));
                (open, input) = (true, String::new());
            }
            "content_block_delta" => {
                assert!(open && is_last(&event["index"], content.len()), "{event}");
                let (block, delta) = (content.last_mut().unwrap(), &event["delta"]);
                let name = match delta["type"].as_str().unwrap() {
                    "text_delta" => "text",
                    "thinking_delta" => "thinking",
                    "signature_delta" => "signature",
                    "input_json_delta" => {
                        input += delta["partial_json"].as_str().unwrap();
                        continue;
                    }
                    other => panic!("{other}"),
                };
                block[name] =
                    (block[name].as_str().unwrap().to_owned() + delta[name].as_str().unwrap()).into();
            }
            "content_block_stop" => {
                assert!(open && is_last(&event["index"], content.len()), "{event}");
                let block = content.last_mut().unwrap();
                if block["type"] == "tool_use" {
                    // What was cut off is no JSON.
                    block["input"] = serde_json::from_str(&input).unwrap_or(Value::Null);
                }
                open = false;
            }
            "message_delta" => {
                assert!(!open && !std::mem::replace(&mut is_over, true));
                let delta = event["delta"].as_object().unwrap().clone();
                message.as_object_mut().unwrap().extend(delta);
                message["usage"] = event["usage"].clone();
            }
            "message_stop" => assert!(is_over),
            other => panic!("{other}"),
        }
    }
    assert!(is_over);
    message
}

/// A message without what differs between any two: ids, signatures, and what was remembered of the prompt.
fn without_marks(message: &Value) -> Value {
    let mut message = message.clone();
    assert!(message["id"].as_str().unwrap().starts_with("msg_"));
    message["id"] = Value::Null;
    for block in message["content"].as_array_mut().unwrap() {
        match block["type"].as_str().unwrap() {
            "tool_use" => assert!(block["id"].take().as_str().unwrap().starts_with("toolu_")),
            "thinking" => assert!(!block["signature"].take().as_str().unwrap().is_empty()),
            _ => {}
        }
    }
    let usage = &mut message["usage"];
    usage["prompt"] = prompt_tokens(usage).into();
    usage["input_tokens"] = Value::Null;
    usage["cache_read_input_tokens"] = Value::Null;
    message
}

/// Tokens of the prompt, remembered ones too.
fn prompt_tokens(usage: &Value) -> u64 {
    assert_eq!(usage["cache_creation_input_tokens"], 0);
    usage["input_tokens"].as_u64().unwrap() + usage["cache_read_input_tokens"].as_u64().unwrap()
}

/// A whole answer, whose stream is the same and whose prompt has as many tokens as are counted.
#[track_caller]
fn ask(server: &Server, body: &Value) -> Value {
    let whole = server.ask(PATH, body);
    let mut body = body.clone();
    let counted = server.ask(COUNT, &body)["input_tokens"].as_u64().unwrap();
    assert_eq!(counted, prompt_tokens(&whole["usage"]));
    body["stream"] = true.into();
    let response = server.post(PATH, &body);
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(without_marks(&put_together(&events(&response))), without_marks(&whole), "{body}");
    whole
}

/// A refusal's message.
#[track_caller]
fn refused(server: &Server, body: &Value, status: u16, kind: &str) -> String {
    let response = server.post(PATH, body);
    assert_eq!(response.status, status, "{body} => {}", response.text());
    assert!(response.header("request-id").is_some_and(|id| id.starts_with("req")));
    let error = response.json();
    assert_eq!((&error["type"], &error["error"]["type"]), (&json!("error"), &json!(kind)), "{error}");
    let message = error["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.chars().count() <= 300, "{message}");
    message
}

#[test]
fn a_conversation_with_a_tool() {
    let server = Server::start(&[]);
    let question = user("And what's the weather like in Oslo today?");
    let answer = ask(&server, &body(std::slice::from_ref(&question), json!({"tools": tools()})));
    assert_eq!((&answer["stop_reason"], &answer["stop_sequence"]), (&json!("tool_use"), &Value::Null));
    let [call] = answer["content"].as_array().unwrap().as_slice() else { panic!("{answer}") };
    assert_eq!((&call["name"], &call["input"]), (&json!("get_weather"), &json!({"city": "Oslo"})));
    let observed = "{\"temperature\": -4, \"condition\": \"snow\"}";
    let result =
        |content: Value| json!({"type": "tool_result", "tool_use_id": call["id"], "content": content});
    for content in [json!(observed), json!([{"type": "text", "text": observed, "cache_control": null}])] {
        let messages =
            [question.clone(), assistant(answer["content"].clone()), user(json!([result(content)]))];
        let said = ask(&server, &body(&messages, json!({"tools": tools(), "tool_choice": {"type": "auto"}})));
        assert_eq!(said["stop_reason"], "end_turn");
        assert_eq!(said["content"][0]["text"], "It is -4 degrees in Oslo: snow.");
    }
    for (choice, expected) in [
        (json!({"type": "any"}), Some("get_weather")),
        (json!({"type": "tool", "name": "get_time", "disable_parallel_tool_use": true}), Some("get_time")),
        (json!({"type": "none"}), None),
    ] {
        let more = json!({"tools": tools(), "tool_choice": choice});
        let answer = ask(&server, &body(std::slice::from_ref(&question), more));
        let called = answer["content"][0].get("name").and_then(Value::as_str);
        assert_eq!(called, expected, "{choice}: {answer}");
    }
    // A failure is told.
    let failed =
        json!({"type": "tool_result", "tool_use_id": call["id"], "content": "no network", "is_error": true});
    let count = |result: Value| {
        let messages = [question.clone(), assistant(answer["content"].clone()), user(json!([result]))];
        server.ask(COUNT, &body(&messages, json!({"tools": tools()})))["input_tokens"].as_u64().unwrap()
    };
    assert_eq!(count(failed), count(result("Error: no network".into())));
}

/// The same conversation has the same prompt and the same answer as over the OpenAI API.
#[test]
fn the_same_as_over_another_api() {
    let server = Server::start(&[]);
    let functions: Vec<Value> = tools()
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| {
            json!({"type": "function", "function": {"name": tool["name"], "description": tool["description"],
                "parameters": tool["input_schema"]}})
        })
        .collect();
    let mine = [
        user("Weather in Oslo, and the time?"),
        assistant(json!([
            {"type": "text", "text": "Let me see."},
            {"type": "tool_use", "id": "a", "name": "get_weather", "input": {"city": "Oslo"}},
            {"type": "tool_use", "id": "b", "name": "get_time", "input": {}},
        ])),
        user(json!([
            {"type": "tool_result", "tool_use_id": "b"},
            {"type": "tool_result", "tool_use_id": "a", "content": "snow"},
            {"type": "text", "text": "And?"},
        ])),
    ];
    let call = |id: &str, name: &str, arguments: Value| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments.to_string()}});
    let theirs = json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather in Oslo, and the time?"},
        {"role": "assistant", "content": "Let me see.", "tool_calls": [
            call("a", "get_weather", json!({"city": "Oslo"})), call("b", "get_time", json!({}))]},
        {"role": "tool", "tool_call_id": "b", "content": ""},
        {"role": "tool", "tool_call_id": "a", "content": "snow"},
        {"role": "user", "content": "And?"},
    ]);
    let more =
        json!({"max_tokens": 24, "temperature": 0.9, "seed": 7, "tools": tools(), "system": "Be brief."});
    let answer = ask(&server, &body(&mine, more));
    let other = server.ask(
        "/v1/chat/completions",
        &json!({"model": "demo", "messages": theirs, "tools": functions,
        "max_tokens": 24, "temperature": 0.9, "seed": 7}),
    );
    assert_eq!(prompt_tokens(&answer["usage"]), other["usage"]["prompt_tokens"].as_u64().unwrap());
    assert_eq!(answer["usage"]["output_tokens"], other["usage"]["completion_tokens"]);
    let text = |content: &Value| content.as_str().unwrap_or_default().to_owned();
    assert_eq!(text(&answer["content"][0]["text"]), text(&other["choices"][0]["message"]["content"]));
}

#[test]
fn ends_and_what_was_remembered() {
    let server = Server::start(&[]);
    let hello = [user("Hello!")];
    let all = ask(&server, &body(&hello, json!({})));
    assert_eq!(
        (&all["stop_reason"], &all["type"], &all["role"]),
        (&json!("end_turn"), &json!("message"), &json!("assistant"))
    );
    let text = all["content"][0]["text"].as_str().unwrap();
    let word = text.split(' ').nth(1).unwrap();
    let more = json!({"stop_sequences": ["never said", format!(" {word}")]});
    let answer = ask(&server, &body(&hello, more));
    assert_eq!(answer["stop_reason"], "stop_sequence");
    assert_eq!(answer["stop_sequence"], format!(" {word}"));
    assert_eq!(answer["content"][0]["text"].as_str().unwrap(), text.split(' ').next().unwrap());
    let answer = ask(&server, &body(&hello, json!({"max_tokens": 2})));
    assert_eq!(
        (&answer["stop_reason"], &answer["usage"]["output_tokens"]),
        (&json!("max_tokens"), &json!(2))
    );
    // The prompt is read, and nothing is written.
    let answer = ask(&server, &body(&hello, json!({"max_tokens": 0})));
    assert_eq!((&answer["content"], &answer["stop_reason"]), (&json!([]), &json!("max_tokens")));
    // Whole pages of a prompt are remembered, and are not among the others.
    let long = body(
        &[user("Hello, hello. ".repeat(40))],
        json!({"max_tokens": 1, "cache_control": {"type": "ephemeral"}}),
    );
    let first = server.ask(PATH, &long)["usage"].clone();
    let second = server.ask(PATH, &long)["usage"].clone();
    assert_eq!(first["cache_read_input_tokens"], 0);
    assert!(second["cache_read_input_tokens"].as_u64().unwrap() >= 64, "{second}");
    assert_eq!(prompt_tokens(&first), prompt_tokens(&second));
    let start =
        events(&server.post(
            PATH,
            &body(&[user("Hello, hello. ".repeat(40))], json!({"max_tokens": 1, "stream": true})),
        ));
    assert_eq!(start[0]["message"]["usage"]["cache_read_input_tokens"], second["cache_read_input_tokens"]);
}

const CALL: &str = "So.</think>\nWell:<tool_call>get_time<arg_key>city</arg_key><arg_value>北京 \"x\"</arg_value></tool_call>";

#[test]
fn thoughts_text_and_calls_are_blocks() {
    let directory = tempfile::tempdir().unwrap();
    let server = of_one_reply(directory.path(), CALL, "glm-4.7");
    let hello = [user("Hello!")];
    let more = |more: Value| {
        let mut all = json!({"tools": tools()});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body(&hello, all)
    };
    let answer = ask(&server, &more(json!({"thinking": {"type": "adaptive"}})));
    let kinds: Vec<&str> =
        answer["content"].as_array().unwrap().iter().map(|block| block["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["thinking", "text", "tool_use"]);
    assert_eq!(answer["content"][0]["thinking"], "So.");
    assert_eq!(answer["content"][2]["input"], json!({"city": "北京 \"x\""}));
    assert_eq!(answer["stop_reason"], "tool_use");
    assert!(answer["usage"]["output_tokens_details"]["thinking_tokens"].as_u64().unwrap() > 0);
    let none = ask(&server, &more(json!({"thinking": {"type": "disabled"}})));
    assert_eq!(none["content"][0]["type"], "text");
    // A call that the limit cuts off is none, and the stream that has shown it says that it did not end.
    let most = answer["usage"]["output_tokens"].as_u64().unwrap() - 2;
    let cut = more(json!({"max_tokens": most, "thinking": {"type": "enabled", "budget_tokens": 1024}}));
    let whole = server.ask(PATH, &cut);
    assert_eq!(
        (whole["content"].as_array().unwrap().len(), &whole["stop_reason"]),
        (2, &json!("max_tokens"))
    );
    let mut cut = cut;
    cut["stream"] = true.into();
    let streamed = put_together(&events(&server.post(PATH, &cut)));
    assert_eq!(
        (&streamed["content"][2]["name"], &streamed["stop_reason"]),
        (&json!("get_time"), &json!("max_tokens"))
    );
}

/// A server of a model that answers everything with `reply`, for the holders of these keys.
fn with_keys(directory: &Path, reply: &str, keys: &str) -> Server {
    let from = root().join("crates/tokenizer/tests/data/glm45");
    let tokenizer = Tokenizer::from_dir(&from).unwrap();
    let mut ids = tokenizer.encode_parse_special(reply);
    ids.extend(tokenizer.special_id("<|user|>"));
    let model = directory.join("model");
    std::fs::create_dir_all(&model).unwrap();
    chain(&model, &from, tokenizer.len() + 8, &ids);
    std::fs::write(directory.join("keys"), keys).unwrap();
    let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let (keys, seal) = (path("keys"), path("seal"));
    Server::start(&[
        model.to_str().unwrap(),
        "--chat-format",
        "glm-4.7",
        "--api-keys",
        &keys,
        "--seal-key",
        &seal,
    ])
}

#[test]
fn thoughts_come_back_to_whom_they_were_given() {
    let directory = tempfile::tempdir().unwrap();
    let server = with_keys(directory.path(), "the and of to in</think>\nYes", "one\nother\n");
    let ask = |server: &Server, path: &str, key: &str, body: &Value| {
        let key = format!("x-api-key: {key}");
        let response = server.request("POST", path, &[&key], &body.to_string());
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()
    };
    let body = |messages: &[Value], more: Value| {
        let mut body = body(messages, more);
        body.as_object_mut().unwrap().remove("model");
        body
    };
    let question = user("?");
    let omitted = json!({"thinking": {"type": "enabled", "budget_tokens": 1024, "display": "omitted"}});
    let shown = ask(&server, PATH, "one", &body(std::slice::from_ref(&question), json!({})));
    let hidden = ask(&server, PATH, "one", &body(std::slice::from_ref(&question), omitted));
    assert_eq!(shown["content"][0]["thinking"], "the and of to in");
    assert_eq!(
        (&hidden["content"][0]["thinking"], &hidden["content"][1]["text"]),
        (&json!(""), &json!("Yes"))
    );
    assert_eq!(hidden["usage"]["output_tokens_details"], shown["usage"]["output_tokens_details"]);
    // Thoughts of a turn that goes on after a call are in the prompt.
    let count = |server: &Server, key: &str, block: Value| {
        let call = json!({"type": "tool_use", "id": "a", "name": "get_time", "input": {}});
        let result = json!({"type": "tool_result", "tool_use_id": "a", "content": "noon"});
        let messages = [question.clone(), assistant(json!([block, call])), user(json!([result]))];
        ask(server, COUNT, key, &body(&messages, json!({})))["input_tokens"].as_u64().unwrap()
    };
    let nothing = json!({"type": "text", "text": ""});
    let none = count(&server, "one", nothing.clone());
    let thought = count(&server, "one", shown["content"][0].clone());
    assert!(thought > none);
    assert_eq!(count(&server, "one", hidden["content"][0].clone()), thought);
    let redacted = json!({"type": "redacted_thinking", "data": hidden["content"][0]["signature"]});
    assert_eq!(count(&server, "one", redacted.clone()), thought);
    // What is another's brings nothing, and what is shown is read whoever has signed it.
    for block in [hidden["content"][0].clone(), redacted] {
        assert_eq!(count(&server, "other", block), none);
    }
    for signature in [shown["content"][0]["signature"].clone(), json!("EqQBCg"), json!(""), Value::Null] {
        let block = json!({"type": "thinking", "thinking": "the and of to in", "signature": signature});
        assert_eq!(count(&server, "other", block), thought);
    }
    // A server that has the key's file takes what another gave.
    drop(server);
    let later = with_keys(directory.path(), "Yes", "one\n");
    assert_eq!(count(&later, "one", hidden["content"][0].clone()), thought);
}

/// A model that never closes what its prompt opened: in a stream its text has come as thoughts, which are none when they come back.
#[test]
fn reasoning_that_was_none() {
    let directory = tempfile::tempdir().unwrap();
    let server = of_one_reply(directory.path(), "Yes the and", "glm-4.7");
    let asked = body(&[user("?")], json!({}));
    let whole = server.ask(PATH, &asked);
    let [block] = whole["content"].as_array().unwrap().as_slice() else { panic!("{whole}") };
    assert_eq!((&block["type"], &block["text"]), (&json!("text"), &json!("Yes the and")));
    let streamed = put_together(&events(&server.post(PATH, &body(&[user("?")], json!({"stream": true})))));
    let content = streamed["content"].as_array().unwrap();
    assert_eq!((content.len(), &content[1]["text"]), (2, &json!("Yes the and")));
    let count = |content: &Value| {
        let more =
            json!({"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}});
        server.ask(COUNT, &body(&[user("?"), assistant(content.clone()), user("So?")], more))
    };
    assert_eq!(count(&streamed["content"]), count(&whole["content"]));
}

/// A prompt that takes longer to read than the operator allows.
#[test]
fn what_goes_wrong_in_a_stream_is_an_event() {
    let directory = tempfile::tempdir().unwrap();
    drop(of_one_reply(directory.path(), "Yes", "glm-4.7"));
    let file = directory.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    config["max_position_embeddings"] = 262_144.into();
    std::fs::write(&file, config.to_string()).unwrap();
    let server = Server::start(&[
        directory.path().to_str().unwrap(),
        "--chat-format",
        "glm-4.7",
        "--served-model-name",
        "demo",
        "--ctx",
        "262144",
        "--timeout",
        "1",
    ]);
    let long = body(&[user("one ".repeat(100_000))], json!({"stream": true}));
    let events = events(&server.post(PATH, &long));
    let (last, before) = events.split_last().unwrap();
    assert_eq!((&last["type"], &last["error"]["type"]), (&json!("error"), &json!("timeout_error")), "{last}");
    assert!(before.iter().all(|event| ["message_start", "ping"].contains(&event["type"].as_str().unwrap())));
}

#[test]
fn forms_of_answers() {
    let server = Server::start(&[]);
    let schema = json!({"type": "object", "properties": {"city": {"enum": ["Oslo", "Bergen"]}}, "required": ["city"],
        "additionalProperties": false});
    let format = json!({"type": "json_schema", "schema": schema});
    for more in [
        json!({"output_config": {"format": format, "effort": "high"}}),
        json!({"output_format": format, "output_config": {}}),
    ] {
        let answer = ask(&server, &body(&[user("Where?")], more));
        let read: Value = serde_json::from_str(answer["content"][0]["text"].as_str().unwrap()).unwrap();
        assert!(["Oslo", "Bergen"].contains(&read["city"].as_str().unwrap()));
    }
}

/// What Claude Code sends: its instructions in blocks with a note for whoever bills, its reminders before and after the question.
#[test]
fn a_request_of_claude_code() {
    let server = Server::start(&[]);
    let reminder = "<system-reminder>\nToday is Monday.\n</system-reminder>\n\n";
    let request = |billing: &str| {
        json!({
            "model": "demo", "max_tokens": 32, "temperature": 0,
            "system": [
                {"type": "text", "text": billing},
                {"type": "text", "text": "You are an agent.", "cache_control": {"type": "ephemeral"}},
                {"type": "text", "text": "\nHelp.", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
            ],
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": reminder}, {"type": "text", "text": "Hello!"}]},
                {"role": "system", "content": "Further agents:\n- none"},
            ],
            "tools": tools(),
            "metadata": {"user_id": "{\"session_id\":\"1\"}"},
            "thinking": {"type": "adaptive"},
            "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
            "output_config": {"effort": "high"},
            "stream": true,
        })
    };
    let beta = format!("{PATH}?beta=true");
    let headers = [
        "anthropic-version: 2023-06-01",
        "anthropic-beta: claude-code-20250219",
        "Authorization: Bearer any",
    ];
    let asked = |billing: &str| {
        let response = server.request("POST", &beta, &headers, &request(billing).to_string());
        assert_eq!(response.status, 200, "{}", response.text());
        prompt_tokens(&put_together(&events(&response))["usage"])
    };
    let tokens = asked("x-anthropic-billing-header: cc_version=2.1.197.7c8; cc_entrypoint=cli;");
    assert_eq!(tokens, asked("x-anthropic-billing-header: other"));
    assert!(tokens < asked("Another line."));
    // It looks first whether anybody is there.
    let mut line = String::new();
    BufReader::new(server.send("HEAD", "/", &[], "")).read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 200"), "{line}");
}

#[test]
fn what_is_refused_is_named() {
    let server = Server::start(&[]);
    let hello = || user("Hello!");
    let block = |block: Value| json!([hello(), user(json!([block]))]);
    for (field, value, named) in [
        ("max_tokens", Value::Null, "`max_tokens` is missing"),
        ("messages", json!([]), "`messages`"),
        ("messages", json!([{"role": "tool", "content": ""}]), "message 0: `role`"),
        (
            "messages",
            json!([{"role": "user", "content": "", "name": "x"}]),
            "message 0: unknown field \"name\"",
        ),
        ("messages", json!([{"role": "user"}]), "message 0: `content`"),
        ("messages", json!([hello(), assistant("The answer is (".into())]), "prefill"),
        (
            "messages",
            block(json!({"type": "image", "source": {"type": "base64"}})),
            "message 1, block 0, its source: `media_type` is missing",
        ),
        (
            "messages",
            block(json!({"type": "image", "source": {"type": "file", "file_id": "x"}})),
            "message 1, block 0, its source: `type`",
        ),
        (
            "messages",
            block(json!({"type": "image", "source": {"type": "url", "url": "http://a/", "mood": 1}})),
            "unknown field \"mood\"",
        ),
        (
            "messages",
            block(json!({"type": "image", "source": {"type": "url", "url": "http://a/b.png"}})),
            "demo sees no pictures",
        ),
        (
            "messages",
            json!([hello(), assistant(json!([{"type": "image", "source": {}}])), hello()]),
            "a block \"image\" is not supported of assistant",
        ),
        ("messages", block(json!({"type": "document"})), "\"document\""),
        ("messages", block(json!({"type": "search_result"})), "\"search_result\""),
        ("messages", block(json!({"type": "web_search_tool_result"})), "\"web_search_tool_result\""),
        ("messages", block(json!({"type": "tool_use", "id": "a", "name": "b", "input": {}})), "of user"),
        ("messages", block(json!({"type": "text"})), "message 1, block 0: `text` is missing"),
        ("messages", block(json!({"type": "text", "text": "", "mood": 1})), "unknown field \"mood\""),
        (
            "messages",
            block(json!({"type": "tool_result", "tool_use_id": "a", "content": [{"type": "image"}]})),
            "in its result",
        ),
        (
            "messages",
            json!([hello(), assistant(json!([{"type": "server_tool_use"}])), hello()]),
            "message 1, block 0",
        ),
        (
            "messages",
            json!([
                hello(),
                assistant(json!([{"type": "tool_use", "id": "a", "name": "b", "input": "{}"}])),
                hello()
            ]),
            "`input`",
        ),
        ("system", json!([{"type": "image"}]), "`system`, block 0"),
        ("system", json!(7), "`system`"),
        ("tools", json!([{"type": "web_search_20250305", "name": "web_search"}]), "web_search_20250305"),
        ("tools", json!([{"type": "bash_20250124", "name": "bash"}]), "bash_20250124"),
        ("tools", json!([{"name": "f"}]), "`input_schema` is missing"),
        ("tools", json!([{"name": "f", "input_schema": {}, "defer_loading": true}]), "`defer_loading`"),
        ("tools", json!([{"name": "f", "input_schema": {}, "mood": 1}]), "\"mood\""),
        ("tools", json!([{"name": "f", "input_schema": {}}, {"name": "f", "input_schema": {}}]), "twice"),
        ("tool_choice", json!({"type": "tool", "name": "g"}), "`tool_choice`"),
        ("tool_choice", json!({"type": "required"}), "`tool_choice.type`"),
        ("thinking", json!({"type": "between_tools"}), "`thinking.type`"),
        ("output_config", json!({"task_budget": {"type": "tokens", "total": 9}}), "task_budget"),
        ("output_config", json!({"format": {"type": "grammar"}}), "output_config.format.type"),
        (
            "context_management",
            json!({"edits": [{"type": "compact_20260112"}]}),
            "`context_management.edits`, 0",
        ),
        (
            "context_management",
            json!({"edits": [{"type": "clear_thinking_20251015", "keep": "all", "mood": 1}]}),
            "\"mood\"",
        ),
        (
            "context_management",
            json!({"edits": [{"type": "clear_thinking_20251015", "keep": {"type": "all", "value": 1}}]}),
            "\"value\"",
        ),
        ("container", json!("c"), "`container`"),
        ("mcp_servers", json!([{"type": "url"}]), "`mcp_servers`"),
        ("stop_sequences", json!([""]), "`stop_sequences`"),
        ("thread", json!({"type": "create"}), "`thread`"),
        ("fallbacks", json!("default"), "`fallbacks`"),
        ("n", json!(2), "`n`"),
    ] {
        let message =
            refused(&server, &body(&[hello()], json!({field: value})), 400, "invalid_request_error");
        assert!(message.contains(named), "{field}: {message}");
    }
    let thread =
        server.post(PATH, &body(&[hello()], json!({"thread": {"type": "create"}, "mood": 1}))).json();
    assert_eq!(thread["error"]["details"]["error_code"], "thread_unsupported_request");
    let missing = body(&[hello()], json!({"model": "claude-sonnet-4-5"}));
    assert!(refused(&server, &missing, 404, "not_found_error").contains("demo"));
    let large = body(&[user("x".repeat(40 << 20))], json!({}));
    refused(&server, &large, 413, "request_too_large");
    let response = server.request("GET", PATH, &[], "");
    assert_eq!((response.status, &response.json()["type"]), (405, &json!("error")));
    // What is unusual and fine: several messages of one role, nothing said, parts of texts.
    let messages =
        [hello(), user("Yes?"), user(json!([])), assistant("A".into()), assistant(json!([])), user("B")];
    let mut same = body(&[user("Hello!\nYes?"), assistant("A".into()), user("B")], json!({}));
    let mut one = body(&messages, json!({}));
    assert_eq!(server.ask(COUNT, &one), server.ask(COUNT, &same));
    for body in [&mut one, &mut same] {
        body["system"] = json!([]);
        body["max_tokens"] = 4.into();
    }
    assert_eq!(without_marks(&server.ask(PATH, &one)), without_marks(&server.ask(PATH, &same)));
}

#[test]
fn hostile_bodies_are_bounded() {
    let server = Server::start(&[]);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let blocks = |block: &str, count: usize| format!("[{}]", vec![block; count].join(","));
    let user = |content: &str| format!("[{{\"role\":\"user\",\"content\":{content}}}]");
    let bodies = [
        user(&deep),
        user(&blocks("{}", 1_000_000)),
        user(&blocks("{\"type\":\"tool_result\",\"tool_use_id\":\"\"}", 200_000)),
        blocks("{\"role\":\"user\",\"content\":[]}", 300_000),
        format!(
            "[{}]",
            vec!["{\"role\":\"user\",\"content\":\"\"},{\"role\":\"system\",\"content\":\"\"}"; 200_000]
                .join(",")
        ),
        user(&format!("[{{\"type\":\"tool_result\",\"tool_use_id\":\"a\",\"content\":{deep}}}]")),
    ];
    for messages in bodies {
        let body = format!("{{\"model\":\"demo\",\"max_tokens\":4,\"messages\":{messages}}}");
        let mut stream = BufReader::new(server.send("POST", PATH, &[], &body));
        let response = Response::read(&mut stream);
        assert!([400, 413].contains(&response.status), "{}: {}", response.status, &body[..200]);
        assert_eq!(response.json()["type"], "error");
    }
    server.ask(PATH, &self::body(&[self::user("Hello!")], json!({})));
}

#[test]
fn keys_and_models_as_its_clients_ask() {
    let directory = tempfile::tempdir().unwrap();
    let server = with_keys(directory.path(), "Yes", "one\n");
    let none = server.post(PATH, &body(&[user("Hello!")], json!({})));
    assert_eq!((none.status, &none.json()["error"]["type"]), (401, &json!("authentication_error")));
    for header in ["x-api-key: one", "Authorization: Bearer one"] {
        let list = server.request("GET", "/v1/models?limit=20", &[header], "").json();
        assert_eq!((&list["has_more"], &list["first_id"]), (&json!(false), &list["data"][0]["id"]));
        let model = &list["data"][0];
        assert_eq!((&model["type"], &model["display_name"]), (&json!("model"), &model["id"]));
        assert!(model["created_at"].as_str().unwrap().ends_with('Z'), "{model}");
    }
}

#[test]
fn a_stop_sequence_in_thoughts_that_were_none_is_told() {
    let directory = tempfile::tempdir().unwrap();
    // Thoughts that are never closed are the answer.
    let server = crate::tools::of_one_reply(directory.path(), "the and of", "glm-4.7");
    let body = json!({
        "model": "demo", "max_tokens": 20, "temperature": 0, "stop_sequences": ["and"],
        "messages": [{"role": "user", "content": "?"}],
    });
    let answer = server.ask("/v1/messages", &body);
    assert_eq!(answer["content"][0]["text"], "the ", "{answer}");
    assert_eq!((&answer["stop_reason"], &answer["stop_sequence"]), (&json!("stop_sequence"), &json!("and")));
}

#[test]
fn tools_are_bounded_before_anything_is_made_of_them() {
    let server = Server::start(&["demo"]);
    let tools: Vec<Value> =
        (0..100_000).map(|at| json!({"name": format!("f{at}"), "input_schema": {}})).collect();
    let body = json!({"model": "demo", "max_tokens": 1, "messages": [{"role": "user", "content": "?"}], "tools": tools});
    for path in ["/v1/messages", "/v1/messages/count_tokens"] {
        let error = server.refused(path, &body, 400);
        assert!(error["message"].as_str().unwrap().contains("at most 1024 tools"), "{error}");
    }
}
