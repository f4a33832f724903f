//! Tool calls over the OpenAI API: the demo model's own, and those of models that say one thing.

use std::path::Path;

use glimmer_tokenizer::Tokenizer;
use serde_json::{Value, json};

use crate::client::Server;
use crate::support::{chain, root};

const PATH: &str = "/v1/chat/completions";

/// Tools as clients make them from types of their languages.
fn tools() -> Value {
    let city = json!({"type": "string", "description": "The city", "title": "City", "examples": ["Oslo"]});
    json!([
        {"type": "function", "function": {
            "name": "get_time", "description": "Get the current local time in a city", "strict": null,
            "parameters": {"type": "object", "properties": {"city": city}, "required": ["city"]}}},
        {"type": "function", "function": {
            "name": "get_weather", "description": "Get the current weather in a city", "strict": false,
            "parameters": {"type": "object", "properties": {
                "city": {"type": "string", "description": "The name of the city"}}, "required": ["city"]}}},
    ])
}

fn body(messages: &[Value], more: Value) -> Value {
    let mut body = json!({"model": "demo", "messages": messages, "tools": tools(), "temperature": 0});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// The text that the model reads.
fn prompt(server: &Server, messages: &[Value], tools: &Value) -> String {
    let answer = server.ask("/apply-template", &json!({"messages": messages, "tools": tools}));
    answer["prompt"].as_str().unwrap().to_owned()
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

/// A stream's message put together as clients do it, and why it ended. What may come once is held to come once.
fn put_together(events: &[String]) -> (Value, String) {
    assert_eq!(events.last().unwrap(), "[DONE]");
    let (mut content, mut reasoning) = (String::new(), String::new());
    let (mut calls, mut finish): (Vec<Value>, Option<String>) = (Vec::new(), None);
    for (at, data) in events[..events.len() - 1].iter().enumerate() {
        let chunk: Value = serde_json::from_str(data).unwrap();
        let Some(choice) = chunk["choices"].get(0) else { continue };
        assert!(finish.is_none(), "something follows the end: {data}");
        let delta = &choice["delta"];
        assert_eq!(delta["role"].is_string(), at == 0, "{data}");
        content += delta["content"].as_str().unwrap_or_default();
        assert_eq!(delta.get("reasoning"), delta.get("reasoning_content"));
        assert!(delta.get("reasoning").is_none_or(|text| text != ""), "{data}");
        reasoning += delta["reasoning"].as_str().unwrap_or_default();
        for part in delta["tool_calls"].as_array().into_iter().flatten() {
            let index = part["index"].as_u64().unwrap() as usize;
            if index == calls.len() {
                assert_eq!((&part["type"], &part["function"]["arguments"]), (&json!("function"), &json!("")));
                let mut call = part.clone();
                call.as_object_mut().unwrap().remove("index");
                calls.push(call);
                continue;
            }
            // Only the call that is under way goes on, and its id and name do not come again.
            assert_eq!(index, calls.len() - 1);
            assert!(part.get("id").is_none() && part["function"].get("name").is_none(), "{data}");
            let more = part["function"]["arguments"].as_str().unwrap();
            let arguments = &mut calls[index]["function"]["arguments"];
            *arguments = (arguments.as_str().unwrap().to_owned() + more).into();
        }
        finish = choice["finish_reason"].as_str().map(str::to_owned);
    }
    let mut message = json!({"role": "assistant", "content": content, "refusal": null});
    if !reasoning.is_empty() {
        message["reasoning_content"] = reasoning.as_str().into();
        message["reasoning"] = reasoning.into();
    }
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
        if message["content"] == "" {
            message["content"] = Value::Null;
        }
    }
    (message, finish.unwrap())
}

/// Asks, and holds the stream of the same answer to the whole one but for its ids, which are new each time.
pub fn ask(server: &Server, body: &Value) -> Value {
    let whole = server.ask(PATH, body);
    let mut streamed = body.clone();
    streamed["stream"] = true.into();
    let (message, finish) = put_together(&server.stream(PATH, &streamed));
    let choice = &whole["choices"][0];
    assert_eq!(choice["finish_reason"], finish);
    let without_ids = |message: &Value| {
        let mut message = message.clone();
        for call in message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
            assert!(call["id"].take().as_str().unwrap().starts_with("call_"));
        }
        message
    };
    assert_eq!(without_ids(&choice["message"]), without_ids(&message));
    let own = |message: &Value| message["tool_calls"][0]["id"].clone();
    assert!(own(&message).is_null() || own(&message) != own(&choice["message"]));
    whole
}

/// The name and the arguments of the only call.
fn call(answer: &Value) -> (String, Value) {
    let calls =
        answer["choices"][0]["message"]["tool_calls"].as_array().unwrap_or_else(|| panic!("{answer}"));
    assert_eq!(calls.len(), 1);
    let function = &calls[0]["function"];
    let arguments = serde_json::from_str(function["arguments"].as_str().unwrap()).unwrap();
    (function["name"].as_str().unwrap().to_owned(), arguments)
}

/// The acceptance conversations of the demo model, every turn over HTTP, and each prompt remembered from the turn before.
#[test]
fn calls_and_results_go_to_and_fro() {
    let server = Server::start(&[]);
    let file = std::fs::read_to_string(root().join("tools/demo/acceptance_tools.jsonl")).unwrap();
    let (mut tools, mut messages, mut remembered) = (Value::Null, Vec::new(), 0);
    for item in file.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        if let Some(list) = item.get("tools") {
            (tools, messages, remembered) = (list.clone(), Vec::new(), 0);
            continue;
        }
        if let Some(text) = item["user"].as_str() {
            messages.push(user(text));
        } else {
            let last: &Value = messages.last().unwrap();
            let id = last["tool_calls"][0]["id"].clone();
            messages.push(json!({"role": "tool", "tool_call_id": id, "content": item["observation"]}));
        }
        let answer = ask(&server, &body(&messages, json!({"tools": tools})));
        let choice = &answer["choices"][0];
        let message = &choice["message"];
        let cached = answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
        assert!(cached >= remembered, "{cached} of {remembered}");
        // All full pages of what was said so far.
        remembered = (answer["usage"]["total_tokens"].as_u64().unwrap() - 1) / 32 * 32;
        if let Some(name) = item["call"].as_str() {
            assert_eq!(call(&answer), (name.to_owned(), item["arguments"].clone()));
            assert_eq!((&choice["finish_reason"], &message["content"]), (&json!("tool_calls"), &Value::Null));
        } else {
            assert_eq!(choice["finish_reason"], "stop");
            assert!(message.get("tool_calls").is_none());
            let said = message["content"].as_str().unwrap();
            assert!(
                item["contains"].as_array().unwrap().iter().all(|part| said.contains(part.as_str().unwrap())),
                "{said}"
            );
        }
        messages.push(message.clone());
    }
}

#[test]
fn which_tools_may_be_called() {
    let server = Server::start(&[]);
    let question = user("And what's the weather like in Oslo today?");
    let answer = |more: Value| ask(&server, &body(std::slice::from_ref(&question), more));
    let oslo = ("get_weather".to_owned(), json!({"city": "Oslo"}));
    assert_eq!(call(&answer(json!({}))), oslo);
    assert_eq!(call(&answer(json!({"tool_choice": "auto", "parallel_tool_calls": false}))), oslo);
    // None at all: the model does not even see them.
    let none = answer(json!({"tool_choice": "none"}));
    let without = answer(json!({"tools": []}));
    assert_eq!(none["usage"]["prompt_tokens"], without["usage"]["prompt_tokens"]);
    assert!(none["choices"][0]["message"]["tool_calls"].is_null());
    // Some of them: as if there were no others.
    let allow = |name: &str, mode: &str| {
        let tools = json!([{"type": "function", "function": {"name": name}}]);
        json!({"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}})
    };
    let allowed = answer(allow("get_weather", "auto"));
    assert_eq!(call(&allowed), oslo);
    let alone = answer(json!({"tools": [tools()[1]]}));
    assert_eq!(allowed["usage"]["prompt_tokens"], alone["usage"]["prompt_tokens"]);
    // Without tools there is nothing to be required: some clients send it all the same.
    assert_eq!(
        answer(json!({"tools": null, "tool_choice": "required"}))["choices"][0]["finish_reason"],
        "stop"
    );
    // What servers alone read is not shown to the model.
    let mut plain = tools();
    for tool in plain.as_array_mut().unwrap() {
        tool["function"].as_object_mut().unwrap().remove("strict");
    }
    let prompt = |tools: &Value| prompt(&server, std::slice::from_ref(&question), tools);
    assert_eq!(prompt(&plain), prompt(&tools()));
    assert!(prompt(&plain).contains("\"title\": \"City\""));
    // What is not there cannot be called.
    for (choice, code) in [
        (json!({"type": "function", "function": {"name": "get_tide"}}), "invalid_value"),
        (allow("get_tide", "auto")["tool_choice"].clone(), "invalid_value"),
        (json!({"type": "custom", "custom": {"name": "get_time"}}), "invalid_value"),
        (json!("any"), "invalid_value"),
        (json!(7), "invalid_value"),
    ] {
        let error =
            server.refused(PATH, &body(std::slice::from_ref(&question), json!({"tool_choice": choice})), 400);
        assert_eq!((&error["param"], &error["code"]), (&json!("tool_choice"), &json!(code)), "{error}");
    }
}

/// A question that needs no tool, and calls all the same: valid ones, whoever writes them.
#[test]
fn calls_that_are_required() {
    let server = Server::start(&[]);
    let question = user("Hello! How are you?");
    let asked = |more: Value| body(std::slice::from_ref(&question), more);
    let named = |name: &str| json!({"type": "function", "function": {"name": name}});
    let allowed =
        json!({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [named("get_time")]}});
    assert!(ask(&server, &asked(json!({})))["choices"][0]["message"]["tool_calls"].is_null());
    for (choice, name) in [
        (json!("required"), None),
        (named("get_time"), Some("get_time")),
        (named("get_weather"), Some("get_weather")),
        (allowed, Some("get_time")),
    ] {
        for (temperature, seed) in [(0.0, 1), (2.0, 2), (2.0, 3)] {
            let more = json!({"tool_choice": choice, "parallel_tool_calls": false, "temperature": temperature, "seed": seed, "max_tokens": 400});
            let answer = ask(&server, &asked(more));
            let choice = &answer["choices"][0];
            if choice["finish_reason"] == "length" {
                continue;
            }
            assert_eq!(
                (&choice["finish_reason"], &choice["message"]["content"]),
                (&json!("tool_calls"), &Value::Null)
            );
            let (called, arguments) = call(&answer);
            assert!(
                name.is_none_or(|name| name == called)
                    && ["get_time", "get_weather"].contains(&called.as_str())
            );
            let arguments = arguments.as_object().unwrap();
            assert!(arguments.len() == 1 && arguments["city"].is_string(), "{arguments:?}");
        }
    }
    // What is too long for its limit is cut off.
    let cut = server.ask(PATH, &asked(json!({"tool_choice": "required", "max_tokens": 2})));
    assert_eq!(cut["choices"][0]["finish_reason"], "length");
    // The API's first form.
    let function = tools()[0]["function"].clone();
    let first = json!({"messages": [question], "functions": [function], "function_call": {"name": "get_time"}, "temperature": 0});
    let choice = &server.ask(PATH, &first)["choices"][0];
    assert_eq!(
        (&choice["finish_reason"], &choice["message"]["function_call"]["name"]),
        (&json!("function_call"), &json!("get_time"))
    );
}

#[test]
fn arguments_are_held_to_their_schemas() {
    let server = Server::start(&[]);
    let question = user("And what's the weather like in Oslo today?");
    let tool = |schema: Value, strict: bool| {
        json!([{"type": "function", "function": {"name": "get_weather", "description": "Get the current weather in a city",
            "strict": strict, "parameters": {"type": "object", "properties": {"city": schema}, "required": ["city"]}}}])
    };
    let ask = |tools: Value, choice: &str| {
        ask(&server, &body(std::slice::from_ref(&question), json!({"tools": tools, "tool_choice": choice})))
    };
    for strict in [false, true] {
        for choice in ["auto", "required"] {
            // Not what the model would write by itself.
            let answer = ask(tool(json!({"enum": ["Bergen", "Moss"]}), strict), choice);
            let (name, arguments) = call(&answer);
            let city = arguments["city"].as_str().unwrap();
            assert!(name == "get_weather" && ["Bergen", "Moss"].contains(&city), "{arguments}");
        }
    }
    let odd = json!({"type": "array", "contains": {"type": "integer"}});
    assert_eq!(call(&ask(tool(odd.clone(), false), "auto")).0, "get_weather");
    let refused = |tools: Value, choice: &str| {
        server.refused(
            PATH,
            &body(std::slice::from_ref(&question), json!({"tools": tools, "tool_choice": choice})),
            400,
        )
    };
    for choice in ["auto", "required"] {
        let error = refused(tool(odd.clone(), true), choice);
        let message = error["message"].as_str().unwrap();
        assert_eq!(error["param"], "tools");
        assert!(
            message.contains("contains") && message.contains("/get_weather/properties/city"),
            "{message}"
        );
    }
}

/// With tools and a form the answer is calls or a text of the form, whichever the model begins; what it is to be can be said.
#[test]
fn calls_or_a_form() {
    let server = Server::start(&[]);
    let weather = user("And what's the weather like in Oslo today?");
    let schema = json!({"type": "object", "properties": {"city": {"enum": ["Bergen", "Moss"]}}, "required": ["city"], "additionalProperties": false});
    let format =
        json!({"type": "json_schema", "json_schema": {"name": "town", "strict": true, "schema": schema}});
    let asked = |question: &Value, more: Value| {
        let mut body =
            body(std::slice::from_ref(question), json!({"response_format": format, "max_tokens": 300}));
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ask(&server, &body)
    };
    let is_town = |answer: &Value| {
        let choice = &answer["choices"][0];
        assert_eq!(
            (&choice["finish_reason"], choice["message"].get("tool_calls")),
            (&json!("stop"), None),
            "{answer}"
        );
        let value: Value = serde_json::from_str(choice["message"]["content"].as_str().unwrap()).unwrap();
        assert!(["Bergen", "Moss"].contains(&value["city"].as_str().unwrap()), "{value}");
    };
    // What it would do by itself it does: a call as without the form.
    let oslo = ("get_weather".to_owned(), json!({"city": "Oslo"}));
    assert_eq!(call(&asked(&weather, json!({}))), oslo);
    assert_eq!(call(&asked(&weather, json!({"parallel_tool_calls": false}))), oslo);
    is_town(&asked(&weather, json!({"tool_choice": "none"})));
    is_town(&asked(&user("Hello! How are you?"), json!({"tool_choice": "none"})));
    assert_eq!(
        call(&asked(
            &user("Hello! How are you?"),
            json!({"tool_choice": "required", "parallel_tool_calls": false})
        ))
        .1
        .as_object()
        .unwrap()
        .len(),
        1
    );
    // Calls are no text that would be checked.
    let checked = json!({"type": "json_object", "schema": {"type": "array", "uniqueItems": true}});
    let answer = asked(&weather, json!({"response_format": checked}));
    assert_eq!((call(&answer), answer["choices"][0].get("schema_check")), (oslo, None));
    let mut seen = [0; 2];
    for seed in 0..12 {
        let answer = asked(
            &user("Hello! How are you?"),
            json!({"temperature": 3, "seed": seed, "parallel_tool_calls": false}),
        );
        let message = &answer["choices"][0]["message"];
        if answer["choices"][0]["finish_reason"] == "length" {
            continue;
        }
        if message["tool_calls"].is_array() {
            assert!(call(&answer).1["city"].is_string());
        } else {
            is_town(&answer);
        }
        seen[usize::from(message["tool_calls"].is_array())] += 1;
    }
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
    // What is wrong with either is said with its field.
    let mut bad =
        body(&[weather], json!({"response_format": {"type": "json_object", "schema": {"type": "nothing"}}}));
    for choice in ["auto", "required"] {
        bad["tool_choice"] = choice.into();
        assert_eq!(server.refused(PATH, &bad, 400)["param"], "response_format");
    }
}

/// In an answer that is a text of a form nothing is a call, whatever it spells.
#[test]
fn a_form_may_speak_of_calls() {
    let directory = tempfile::tempdir().unwrap();
    let server = of_one_reply(directory.path(), "</think>It", "glm-4.7");
    let text = "It is <tool_call>get_time</tool_call>";
    let more = json!({"guided_choice": [text], "max_tokens": 100});
    let answer = ask(&server, &body(&[user("?")], more));
    assert_eq!(answer["choices"][0]["message"]["content"], text);
}

#[test]
fn the_first_form_of_the_api() {
    let server = Server::start(&[]);
    let functions: Vec<Value> =
        tools().as_array().unwrap().iter().map(|tool| tool["function"].clone()).collect();
    let messages = [user("And what's the weather like in Oslo today?")];
    let body = |messages: &[Value], stream: bool| json!({"messages": messages, "functions": functions, "function_call": "auto", "temperature": 0, "stream": stream});
    let answer = server.ask(PATH, &body(&messages, false));
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "function_call");
    let called = &choice["message"]["function_call"];
    assert_eq!(
        (&called["name"], &called["arguments"]),
        (&json!("get_weather"), &json!("{\"city\": \"Oslo\"}"))
    );
    let mut parts = Vec::new();
    for data in server.stream(PATH, &body(&messages, true)).iter().filter(|data| *data != "[DONE]") {
        let delta =
            serde_json::from_str::<Value>(data).unwrap()["choices"][0]["delta"]["function_call"].clone();
        parts.extend(Some(delta).filter(|delta| !delta.is_null()));
    }
    assert_eq!(parts[0], json!({"name": "get_weather", "arguments": ""}));
    let arguments: String = parts.iter().map(|part| part["arguments"].as_str().unwrap()).collect();
    assert_eq!(arguments, "{\"city\": \"Oslo\"}");
    let result = json!({"role": "function", "name": "get_weather", "content": "{\"temperature\": -4, \"condition\": \"snow\"}"});
    let history = [messages[0].clone(), choice["message"].clone(), result];
    let said = server.ask(PATH, &body(&history, false))["choices"][0]["message"]["content"].clone();
    assert!(said.as_str().unwrap().contains("-4"), "{said}");
}

/// What clients send of earlier turns: results without an id or with another's, empty ones, several in a turn; calls without
/// arguments; tools in the history and none in the request.
#[test]
fn histories() {
    let server = Server::start(&[]);
    let function = |name: &str, arguments: &str| json!({"id": name, "type": "function", "function": {"name": name, "arguments": arguments}});
    let messages = [
        user("Weather in Oslo, and the time?"),
        json!({"role": "assistant", "tool_calls": [function("get_weather", "{\"city\": \"Oslo\"}"), function("get_time", "")]}),
        json!({"role": "tool", "tool_call_id": "nobody's", "content": [{"type": "text", "text": "snow"}]}),
        json!({"role": "tool", "content": ""}),
    ];
    let prompt = |tools: &Value| prompt(&server, &messages, tools);
    let turn = "<|user|>\nWeather in Oslo, and the time?<|assistant|>get_weather\n{\"city\": \"Oslo\"}<|assistant|>get_time\n{}\
        <|observation|>\nsnow<|observation|>\n<|assistant|>";
    let with = prompt(&tools());
    assert!(with.ends_with(turn) && with.contains("## get_time"), "{with}");
    assert_eq!(prompt(&Value::Null), format!("[gMASK]<sop>{turn}"));
    // A generation that knows no tools is not asked to do without.
    for (format, messages) in
        [("glm-edge", &messages[..]), ("glm-edge", &messages[..1]), ("chatglm2", &messages[..1])]
    {
        let server = Server::start(&["--chat-format", format]);
        let error = server.refused(PATH, &body(messages, json!({"max_tokens": 1})), 400);
        assert!(error["message"].as_str().unwrap().contains("tool"), "{error}");
    }
}

#[test]
fn what_is_no_tool() {
    let server = Server::start(&[]);
    for tools in [
        json!({}),
        json!(["get_time"]),
        json!([{"type": "function"}]),
        json!([{"type": "web_search"}]),
        json!([{"type": "function", "function": {}}]),
        json!([{"type": "function", "function": {"name": ""}}]),
        json!([{"type": "function", "function": {"name": "get time"}}]),
        json!([{"type": "function", "function": {"name": "<|user|>"}}]),
        json!([{"type": "function", "function": {"name": "n".repeat(129)}}]),
        json!([{"type": "function", "function": {"name": "f", "description": 7}}]),
        json!([{"type": "function", "function": {"name": "f", "parameters": "none"}}]),
        json!([{"type": "function", "function": {"name": "f", "strict": "yes"}}]),
        json!([{"type": "function", "function": {"name": "f"}, "mood": 1}]),
        json!([{"type": "function", "function": {"name": "f"}}, {"function": {"name": "f"}}]),
        json!(vec![json!({"type": "function", "function": {"name": "f"}}); 1025]),
    ] {
        let error = server.refused(PATH, &body(&[user("Hello!")], json!({"tools": tools})), 400);
        assert_eq!(error["param"], "tools", "{error}");
        assert!(error["message"].as_str().unwrap().chars().count() <= 300);
    }
    let both = json!({"functions": [{"name": "f"}]});
    assert_eq!(server.refused(PATH, &body(&[user("Hello!")], both), 400)["param"], "functions");
    // What is unusual and fine.
    let tools = json!([
        {"type": "function", "function": {"name": "mcp-server.list_files/2", "parameters": {
            "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "properties": {}}}},
        {"type": "function", "function": {"name": "查询", "description": null, "parameters": null}},
    ]);
    server.ask(PATH, &body(&[user("Hello!")], json!({"tools": tools, "max_tokens": 4})));
}

/// The same tool as published clients write it, and the call's message as they send it back.
#[test]
fn tools_as_clients_write_them() {
    let server = Server::start(&[]);
    let question = user("And what's the weather like in Oslo today?");
    let file = std::fs::read_to_string(root().join("crates/cli/tests/data/tools_of_clients.jsonl")).unwrap();
    for line in file.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let client = &line["client"];
        let name = line["body"]["tools"][0]["function"]["name"].as_str().unwrap();
        let mut asked = body(std::slice::from_ref(&question), line["body"].clone());
        let answer = ask(&server, &asked);
        assert_eq!(call(&answer), (name.to_owned(), json!({"city": "Oslo"})), "{client}");
        let message = answer["choices"][0]["message"].clone();
        assert_eq!(message["content"], Value::Null);
        let mut without = message.clone();
        without.as_object_mut().unwrap().retain(|name, _| name != "content" && name != "refusal");
        let mut empty = message.clone();
        empty["content"] = "".into();
        let result = json!({"role": "tool", "tool_call_id": message["tool_calls"][0]["id"],
            "content": "{\"temperature\": -4, \"condition\": \"snow\"}"});
        asked["tool_choice"] = Value::Null;
        for message in [message, without, empty] {
            asked["messages"] = json!([question, message, result]);
            let said = &server.ask(PATH, &asked)["choices"][0]["message"]["content"];
            assert_eq!(said, "It is -4 degrees in Oslo: snow.", "{client}");
        }
    }
}

/// A server of a model that answers everything with `reply`, in a chat format.
pub fn of_one_reply(directory: &Path, reply: &str, format: &str) -> Server {
    let from = root().join("crates/tokenizer/tests/data/glm45");
    let tokenizer = Tokenizer::from_dir(&from).unwrap();
    let mut ids = tokenizer.encode_parse_special(reply);
    ids.extend(tokenizer.special_id("<|observation|>"));
    chain(directory, &from, tokenizer.len() + 8, &ids);
    Server::start(&[directory.to_str().unwrap(), "--chat-format", format, "--served-model-name", "demo"])
}

#[test]
fn reasoning_text_and_calls_come_apart() {
    let directory = tempfile::tempdir().unwrap();
    let reply = "So.</think>\nWell:<tool_call>get_time<arg_key>city</arg_key><arg_value>北京 \"x\"</arg_value></tool_call>";
    let server = of_one_reply(directory.path(), reply, "glm-4.7");
    let answer = ask(&server, &body(&[user("Hello!")], json!({})));
    let choice = &answer["choices"][0];
    assert_eq!(call(&answer), ("get_time".to_owned(), json!({"city": "北京 \"x\""})));
    let message = &choice["message"];
    assert_eq!((&message["content"], &message["reasoning"]), (&json!("Well:"), &json!("So.")));
    assert_eq!(
        (&message["reasoning_content"], &choice["finish_reason"]),
        (&json!("So."), &json!("tool_calls"))
    );
    let details = &answer["usage"]["completion_tokens_details"];
    assert!((1..9).contains(&details["reasoning_tokens"].as_u64().unwrap()), "{details}");
    // Without tools it is text, and where reasoning is not wanted it is left out.
    let answer = ask(&server, &body(&[user("Hello!")], json!({"tools": null, "include_reasoning": false})));
    let message = &answer["choices"][0]["message"];
    assert!(
        message["content"].as_str().unwrap().starts_with("Well:<tool_call>get_time")
            && message.get("reasoning").is_none()
    );
    // The limit cuts a call off.
    let count = answer["usage"]["completion_tokens"].as_u64().unwrap();
    let cut = ask(&server, &body(&[user("Hello!")], json!({"max_tokens": count - 2})));
    assert_eq!(cut["choices"][0]["finish_reason"], "length");
    assert_eq!(cut["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "get_time");
    // The turn goes on after its result, with its reasoning.
    let history = [
        user("Hello!"),
        choice["message"].clone(),
        json!({"role": "tool", "tool_call_id": choice["message"]["tool_calls"][0]["id"], "content": "09:41"}),
    ];
    let prompt = prompt(&server, &history, &tools());
    assert!(
        prompt.contains("<|assistant|><think>So.</think>Well:<tool_call>get_time<arg_key>city</arg_key>"),
        "{prompt}"
    );
}
