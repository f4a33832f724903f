//! `/v1/responses`: items and their events, what is kept and for whom, and what is refused.

use std::io::Read;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::Server;
use crate::tools::of_one_reply;

const PATH: &str = "/v1/responses";
const QUESTION: &str = "And what's the weather like in Oslo today?";
const OBSERVED: &str = "{\"temperature\": -4, \"condition\": \"snow\"}";

fn tools() -> Value {
    let parameters = json!({"type": "object", "properties": {
        "city": {"type": "string", "description": "The name of the city"}}, "required": ["city"]});
    json!([{"type": "function", "name": "get_weather", "parameters": parameters, "strict": null,
        "description": "Get the current weather in a city"}])
}

fn body(input: impl Into<Value>, more: Value) -> Value {
    let mut body = json!({"model": "demo", "input": input.into(), "temperature": 0});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// The events of a stream, whose names and numbers are right.
#[track_caller]
fn events(server: &Server, body: &Value) -> Vec<Value> {
    let response = server.post(PATH, body);
    assert_eq!(response.status, 200, "{body} => {}", response.text());
    assert_eq!(response.header("content-type"), Some("text/event-stream"));
    let text = response.text();
    let blocks = text.split("\n\n").filter(|block| !block.is_empty() && !block.starts_with(':'));
    let event = |(at, block): (usize, &str)| {
        let (name, data) = block.split_once('\n').unwrap();
        let event: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(name.strip_prefix("event: "), event["type"].as_str());
        assert_eq!(event["sequence_number"], at, "{event}");
        event
    };
    blocks.enumerate().map(event).collect()
}

/// A stream's items put together as clients do it: what is begun before it goes on, and goes on to what it is in the end.
fn put_together(events: &[Value]) -> Value {
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds[..2], ["response.created", "response.in_progress"]);
    assert_eq!(events[0]["response"]["status"], "in_progress");
    let (last, between) = events[2..].split_last().unwrap();
    let mut output: Vec<Value> = Vec::new();
    for event in between {
        let kind = event["type"].as_str().unwrap();
        let at = event["output_index"].as_u64().unwrap() as usize;
        if kind == "response.output_item.added" {
            assert_eq!(at, output.len());
            assert_eq!(event["item"]["status"], "in_progress");
            output.push(event["item"].clone());
            continue;
        }
        assert_eq!(at, output.len() - 1, "only the last item goes on: {event}");
        let item = &mut output[at];
        let push = |to: &mut Value| {
            *to = (to.as_str().unwrap().to_owned() + event["delta"].as_str().unwrap()).into()
        };
        if kind != "response.output_item.done" {
            assert_eq!(event["item_id"], item["id"]);
        }
        match kind {
            "response.content_part.added" => {
                item["content"].as_array_mut().unwrap().push(event["part"].clone())
            }
            "response.output_text.delta" => {
                let more = event["logprobs"].as_array().unwrap().clone();
                push(&mut item["content"][0]["text"]);
                item["content"][0]["logprobs"].as_array_mut().unwrap().extend(more);
            }
            "response.reasoning_text.delta" => push(&mut item["content"][0]["text"]),
            "response.function_call_arguments.delta" => push(&mut item["arguments"]),
            "response.custom_tool_call_input.delta" => push(&mut item["input"]),
            "response.output_text.done" | "response.reasoning_text.done" => {
                assert_eq!(event["text"], item["content"][0]["text"]);
            }
            "response.content_part.done" => assert_eq!(event["part"], item["content"][0]),
            "response.function_call_arguments.done" => assert_eq!(event["arguments"], item["arguments"]),
            "response.custom_tool_call_input.done" => assert_eq!(event["input"], item["input"]),
            "response.output_item.done" => {
                let is_sealed = event["item"].get("encrypted_content").cloned();
                item["status"] = event["item"]["status"].clone();
                is_sealed.into_iter().for_each(|sealed| item["encrypted_content"] = sealed);
                assert_eq!(event["item"], *item);
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!(last["response"]["output"], Value::from(output));
    assert_eq!(last["type"], format!("response.{}", last["response"]["status"].as_str().unwrap()));
    last["response"].clone()
}

/// Of a response what is the same each time: ids, times and seals are not, nor is what the last turn left in the cache.
fn without_ids(response: &Value) -> Value {
    let mut response = response.clone();
    for name in ["id", "created_at", "completed_at", "previous_response_id"] {
        response[name] = Value::Null;
    }
    response["usage"]["input_tokens_details"] = Value::Null;
    for item in response["output"].as_array_mut().unwrap() {
        let (_, id) = item["id"]
            .take()
            .as_str()
            .unwrap()
            .split_once('_')
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .unwrap();
        assert_eq!(id.len(), 24);
        for name in ["call_id", "encrypted_content"] {
            item.as_object_mut().unwrap().remove(name);
        }
    }
    response
}

/// Asks, and holds the stream of the same answer to the whole one.
#[track_caller]
fn ask(server: &Server, body: &Value) -> Value {
    let whole = server.ask(PATH, body);
    let mut streamed = body.clone();
    streamed["stream"] = true.into();
    let streamed = put_together(&events(server, &streamed));
    assert_eq!(without_ids(&whole), without_ids(&streamed));
    assert_ne!(whole["id"], streamed["id"]);
    whole
}

fn text(response: &Value) -> &str {
    let message = response["output"].as_array().unwrap().iter().find(|item| item["type"] == "message");
    message.unwrap_or_else(|| panic!("{response}"))["content"][0]["text"].as_str().unwrap()
}

#[test]
fn a_response_has_all_that_the_api_says() {
    let server = Server::start(&[]);
    let response = ask(&server, &body("Hello! How are you?", json!({"max_output_tokens": 200})));
    let chat = json!({"messages": [{"role": "user", "content": "Hello! How are you?"}], "temperature": 0});
    let chat = server.ask("/v1/chat/completions", &chat);
    assert_eq!(text(&response), chat["choices"][0]["message"]["content"].as_str().unwrap());
    for (name, value) in [
        ("object", json!("response")),
        ("status", json!("completed")),
        ("model", json!("demo")),
        ("error", Value::Null),
        ("incomplete_details", Value::Null),
        ("instructions", Value::Null),
        ("metadata", json!({})),
        ("parallel_tool_calls", json!(true)),
        ("previous_response_id", Value::Null),
        ("store", json!(true)),
        ("background", json!(false)),
        ("tools", json!([])),
        ("tool_choice", json!("auto")),
        ("temperature", json!(0.0)),
        ("max_output_tokens", json!(200)),
        ("truncation", json!("disabled")),
        ("text", json!({"format": {"type": "text"}, "verbosity": "medium"})),
        ("reasoning", json!({"effort": null, "summary": null})),
    ] {
        assert_eq!(response[name], value, "{name}");
    }
    assert!(response["id"].as_str().unwrap().starts_with("resp_"));
    assert!(response["created_at"].as_u64().unwrap() <= response["completed_at"].as_u64().unwrap());
    let (usage, known) = (&response["usage"], &chat["usage"]);
    for (name, same) in [
        ("input_tokens", "prompt_tokens"),
        ("output_tokens", "completion_tokens"),
        ("total_tokens", "total_tokens"),
    ] {
        assert_eq!(usage[name], known[same]);
    }
    assert!(usage["input_tokens_details"]["cached_tokens"].is_u64());
    assert_eq!(usage["output_tokens_details"]["reasoning_tokens"], 0);
    // What clients say of a response to themselves they are told again, and empty fields ask for nothing.
    let more = json!({
        "metadata": {"a": "b"}, "user": "me", "safety_identifier": "s", "prompt_cache_key": "k", "include": [], "tools": [],
        "text": {}, "reasoning": {"effort": "none", "summary": "auto"}, "service_tier": "auto", "max_output_tokens": 3,
        "stream_options": null, "truncation": "disabled", "instructions": "Be short.", "parallel_tool_calls": false,
    });
    let response = ask(&server, &body(json!([{"role": "user", "content": "Hello!"}]), more));
    assert_eq!((&response["metadata"], &response["user"]), (&json!({"a": "b"}), &json!("me")));
    assert_eq!((&response["safety_identifier"], &response["prompt_cache_key"]), (&json!("s"), &json!("k")));
    assert_eq!(response["reasoning"], json!({"effort": "none", "summary": "auto"}));
    assert_eq!(
        (&response["instructions"], &response["parallel_tool_calls"]),
        (&json!("Be short."), &json!(false))
    );
    assert_eq!((&response["status"], &response["completed_at"]), (&json!("incomplete"), &Value::Null));
    assert_eq!(response["incomplete_details"], json!({"reason": "max_output_tokens"}));
    assert_eq!(
        (&response["output"][0]["status"], &response["usage"]["output_tokens"]),
        (&json!("incomplete"), &json!(3))
    );
    // Log-probabilities, asked for in either way.
    for more in [json!({"include": ["message.output_text.logprobs"]}), json!({"top_logprobs": 2})] {
        let response = ask(&server, &body("Hello!", more.clone()));
        let logprobs = response["output"][0]["content"][0]["logprobs"].as_array().unwrap();
        let said: String = logprobs.iter().map(|token| token["token"].as_str().unwrap()).collect();
        assert!(said.contains(text(&response)), "{said}");
        assert_eq!(
            logprobs[0]["top_logprobs"].as_array().unwrap().len() as u64,
            more["top_logprobs"].as_u64().unwrap_or(0)
        );
    }
}

/// The same conversation is the same prompt, and has the same answer, whichever API it comes by.
#[test]
fn conversations_are_those_of_chat() {
    let server = Server::start(&[]);
    let call = json!({"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "get_weather", "arguments": "{\"city\": \"Oslo\"}", "status": "completed"});
    let chat_call = json!({"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": "{\"city\": \"Oslo\"}"}});
    let result = |output: Value| json!({"type": "function_call_output", "call_id": "c1", "output": output});
    let user = |text: &str| json!({"role": "user", "content": text});
    let said = |text: &str| {
        json!({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
        "content": [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]})
    };
    let chat_result = json!({"role": "tool", "tool_call_id": "c1", "content": OBSERVED});
    for (input, instructions, messages) in [
        (
            json!("Hello!"),
            json!("Be short."),
            json!([{"role": "system", "content": "Be short."}, user("Hello!")]),
        ),
        (
            json!([{"role": "developer", "content": "Be short."}, {"type": "message", "role": "user", "content": [
                {"type": "input_text", "text": "Hel"}, {"type": "input_text", "text": "lo!"}]}]),
            Value::Null,
            json!([{"role": "system", "content": "Be short."}, user("Hello!")]),
        ),
        (
            json!([user("Hello!"), said("Hi."), user("How are you?")]),
            Value::Null,
            json!([user("Hello!"), {"role": "assistant", "content": "Hi."}, user("How are you?")]),
        ),
        (
            json!([user("Hello!"), {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}, user("Why?")]),
            Value::Null,
            json!([user("Hello!"), {"role": "assistant", "content": "No."}, user("Why?")]),
        ),
        (
            json!([user(QUESTION), call, result(json!(OBSERVED))]),
            Value::Null,
            json!([user(QUESTION), {"role": "assistant", "content": null, "tool_calls": [chat_call]}, chat_result]),
        ),
        (
            json!([
                user(QUESTION),
                said("Well:"),
                call,
                result(json!([{"type": "input_text", "text": OBSERVED}]))
            ]),
            Value::Null,
            json!([user(QUESTION), {"role": "assistant", "content": "Well:", "tool_calls": [chat_call]}, chat_result]),
        ),
    ] {
        let functions: Vec<Value> = tools().as_array().unwrap().iter().map(|tool| {
            json!({"type": "function", "function": {"name": tool["name"], "description": tool["description"], "parameters": tool["parameters"]}})
        }).collect();
        let response =
            ask(&server, &body(input.clone(), json!({"instructions": instructions, "tools": tools()})));
        let chat = json!({"messages": messages, "temperature": 0, "tools": functions});
        let chat = server.ask("/v1/chat/completions", &chat);
        assert_eq!(response["usage"]["input_tokens"], chat["usage"]["prompt_tokens"], "{input}");
        let item = &response["output"][0];
        match item["type"].as_str().unwrap() {
            "message" => assert_eq!(item["content"][0]["text"], chat["choices"][0]["message"]["content"]),
            _ => assert_eq!(
                item["arguments"],
                chat["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]
            ),
        }
    }
}

#[test]
fn a_call_its_result_and_what_is_said_of_it() {
    let server = Server::start(&[]);
    let first = ask(&server, &body(QUESTION, json!({"tools": tools()})));
    let call = &first["output"][0];
    assert_eq!((&call["type"], &call["name"]), (&json!("function_call"), &json!("get_weather")));
    assert_eq!((&call["arguments"], &call["status"]), (&json!("{\"city\": \"Oslo\"}"), &json!("completed")));
    let result = json!({"type": "function_call_output", "call_id": call["call_id"], "output": OBSERVED});
    // By the server's memory, by the client's own, and by naming an item.
    let by_id = json!({"tools": tools(), "previous_response_id": first["id"]});
    let by_id = ask(&server, &body(json!([result]), by_id));
    let question = json!({"role": "user", "content": QUESTION});
    let by_items =
        ask(&server, &body(json!([question, call, result]), json!({"tools": tools(), "store": false})));
    let by_name = json!([question, {"type": "item_reference", "id": call["id"]}, result]);
    let by_name = ask(&server, &body(by_name, json!({"tools": tools()})));
    let by_short_name = json!([question, {"id": call["id"]}, result]);
    let by_short_name = ask(&server, &body(by_short_name, json!({"tools": tools()})));
    for answer in [&by_id, &by_items, &by_name, &by_short_name] {
        assert!(text(answer).contains("-4") && text(answer).contains("snow"), "{answer}");
        assert_eq!(answer["usage"]["input_tokens"], by_items["usage"]["input_tokens"]);
    }
    assert_eq!(by_id["previous_response_id"], first["id"]);
    // Whether and what is called can be said.
    let named = json!({"type": "function", "name": "get_weather"});
    let allowed = json!({"type": "allowed_tools", "mode": "required", "tools": [named]});
    for choice in [json!("required"), named, allowed] {
        let more = json!({"tools": tools(), "tool_choice": choice, "parallel_tool_calls": false, "max_output_tokens": 300});
        let response = ask(&server, &body("Hello! How are you?", more));
        assert_eq!(
            (&response["output"][0]["type"], &response["tool_choice"]),
            (&json!("function_call"), &choice)
        );
    }
    let none = ask(&server, &body(QUESTION, json!({"tools": tools(), "tool_choice": "none"})));
    let without = ask(&server, &body(QUESTION, json!({})));
    assert_eq!(none["usage"]["input_tokens"], without["usage"]["input_tokens"]);
    assert_eq!(none["tools"], tools());
}

#[test]
fn custom_tools_take_a_text() {
    let server = Server::start(&[]);
    let tool = |format: Value| json!([{"type": "custom", "name": "run", "description": "Runs a line", "format": format}]);
    let regex = json!({"type": "grammar", "syntax": "regex", "definition": "ls|cat [a-z]{1,9}"});
    let named = json!({"type": "custom", "name": "run"});
    for (format, seed) in [(Value::Null, 1), (json!({"type": "text"}), 2), (regex.clone(), 3), (regex, 4)] {
        let more = json!({"tools": tool(format.clone()), "tool_choice": named, "max_output_tokens": 200, "temperature": 1, "seed": seed});
        let response = ask(&server, &body("Hello!", more));
        let call = &response["output"][0];
        assert_eq!((&call["type"], &call["name"]), (&json!("custom_tool_call"), &json!("run")), "{response}");
        let input = call["input"].as_str().unwrap();
        if format["type"] == "grammar" {
            assert!(input == "ls" || input.starts_with("cat "), "{input}");
        }
        let result =
            json!({"type": "custom_tool_call_output", "call_id": call["call_id"], "output": "nothing"});
        let more =
            json!({"tools": tool(format), "previous_response_id": response["id"], "max_output_tokens": 4});
        let by_id = ask(&server, &body(json!([result]), more.clone()));
        let history = json!([{"role": "user", "content": "Hello!"}, call, result]);
        let by_items = ask(&server, &body(history, json!({"tools": more["tools"], "max_output_tokens": 4})));
        assert_eq!(by_id["usage"]["input_tokens"], by_items["usage"]["input_tokens"]);
        assert_eq!(by_id["output"][0]["content"], by_items["output"][0]["content"]);
    }
}

#[test]
fn answers_of_a_form() {
    let server = Server::start(&[]);
    let schema = json!({"type": "object", "properties": {"city": {"enum": ["Bergen", "Moss"]}}, "required": ["city"], "additionalProperties": false});
    let format = json!({"type": "json_schema", "name": "town", "schema": schema, "strict": true});
    let response = ask(&server, &body("Hello!", json!({"text": {"format": format, "verbosity": "low"}})));
    let town: Value = serde_json::from_str(text(&response)).unwrap();
    assert!(["Bergen", "Moss"].contains(&town["city"].as_str().unwrap()));
    assert_eq!(response["text"], json!({"format": format, "verbosity": "low"}));
    let object = ask(
        &server,
        &body("Hello!", json!({"text": {"format": {"type": "json_object"}}, "max_output_tokens": 300})),
    );
    assert!(
        object["status"] == "incomplete" || serde_json::from_str::<Value>(text(&object)).unwrap().is_object()
    );
    let checked = json!({"type": "json_schema", "name": "x", "schema": {"type": "array", "uniqueItems": true, "maxItems": 3, "items": {"type": "boolean"}}});
    let checked = ask(&server, &body("Hello!", json!({"text": {"format": checked}})));
    assert!(checked["schema_check"]["valid"].is_boolean(), "{checked}");
}

#[test]
fn thoughts_are_items_and_may_be_sealed() {
    let directory = tempfile::tempdir().unwrap();
    let server = of_one_reply(directory.path(), "So.</think>\nYes", "glm-4.7");
    let sealed = json!(["reasoning.encrypted_content"]);
    let first = ask(&server, &body("?", json!({"include": sealed, "store": false})));
    let thoughts = &first["output"][0];
    assert_eq!((&thoughts["type"], &thoughts["summary"]), (&json!("reasoning"), &json!([])));
    assert_eq!(thoughts["content"], json!([{"type": "reasoning_text", "text": "So."}]));
    assert_eq!(first["output"][1]["content"][0]["text"], "Yes");
    assert!(first["usage"]["output_tokens_details"]["reasoning_tokens"].as_u64().unwrap() > 0);
    let plain = ask(&server, &body("?", json!({})));
    assert_eq!(plain["output"][0].get("encrypted_content"), None);
    // They go on with their turn, however they come back.
    let secret = thoughts["encrypted_content"].as_str().unwrap();
    assert!(!secret.contains("So."));
    let tokens = |thoughts: Value| {
        let call = json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"});
        let result = json!({"type": "function_call_output", "call_id": "c", "output": "1"});
        let mut input = vec![json!({"role": "user", "content": "?"}), call, result];
        if !thoughts.is_null() {
            input.insert(1, thoughts);
        }
        let tool = json!([{"type": "function", "name": "f", "parameters": null}]);
        ask(&server, &body(input, json!({"tools": tool})))["usage"]["input_tokens"].as_u64().unwrap()
    };
    let reasoning = |more: Value| {
        let mut item = json!({"type": "reasoning", "id": "rs_1", "summary": []});
        item.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        item
    };
    let known = tokens(reasoning(json!({"content": [{"type": "reasoning_text", "text": "So."}]})));
    assert!(known > tokens(Value::Null) && known > tokens(reasoning(json!({"encrypted_content": null}))));
    for more in [
        json!({"encrypted_content": secret}),
        json!({"encrypted_content": "of another", "content": [{"type": "reasoning_text", "text": "So."}]}),
        json!({"summary": [{"type": "summary_text", "text": "So."}]}),
        json!({"id": plain["output"][0]["id"]}),
    ] {
        assert_eq!(tokens(reasoning(more.clone())), known, "{more}");
    }
    let error = server.refused(
        PATH,
        &body(json!([reasoning(json!({"encrypted_content": "of another"}))]), json!({})),
        400,
    );
    assert_eq!(error["code"], "invalid_encrypted_content");
    // Not shown, or sealed alone.
    let hidden = ask(&server, &body("?", json!({"include_reasoning": false})));
    assert_eq!(hidden["output"].as_array().unwrap().len(), 1);
    let alone = ask(&server, &body("?", json!({"include_reasoning": false, "include": sealed})));
    assert_eq!(alone["output"][0]["content"], json!([]));
    assert_eq!(tokens(alone["output"][0].clone()), known);
    // Asked for later.
    let later = server
        .get(&format!("{PATH}/{}?include[]=reasoning.encrypted_content", plain["id"].as_str().unwrap()))
        .json();
    assert_eq!(
        tokens(reasoning(json!({"encrypted_content": later["output"][0]["encrypted_content"]}))),
        known
    );
    // None at all, and those that a limit cuts off.
    assert_eq!(
        ask(&server, &body("?", json!({"reasoning": {"effort": "none"}})))["output"][0]["type"],
        "message"
    );
    let cut = ask(&server, &body("?", json!({"max_output_tokens": 1})));
    assert_eq!(
        (cut["output"].as_array().unwrap().len(), &cut["output"][0]["status"]),
        (1, &json!("incomplete"))
    );
}

/// The prompt opens the thoughts, and the model answers at once: a stream has told them, and then that there were none.
#[test]
fn thoughts_that_were_none() {
    let directory = tempfile::tempdir().unwrap();
    let server = of_one_reply(directory.path(), "Well, hello", "glm-4.7");
    let whole = server.ask(PATH, &body("?", json!({})));
    assert_eq!(whole["output"].as_array().unwrap().len(), 1);
    assert_eq!(text(&whole), "Well, hello");
    let events = events(&server, &body("?", json!({"stream": true})));
    let last = &events.last().unwrap()["response"];
    assert_eq!(
        (&last["output"][0]["type"], &last["output"][0]["content"]),
        (&json!("reasoning"), &json!([]))
    );
    assert_eq!(text(last), "Well, hello");
}

#[test]
fn what_is_kept_is_shown_and_forgotten() {
    let server = Server::start(&[]);
    let input = json!([{"role": "user", "content": "One"}, {"type": "message", "role": "assistant", "content": "Two"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "3"}, {"id": "mine", "role": "user", "content": "Four"}]);
    let response = ask(&server, &body(input, json!({"max_output_tokens": 5, "metadata": {"a": "b"}})));
    let id = response["id"].as_str().unwrap();
    let at = format!("{PATH}/{id}");
    assert_eq!(server.get(&at).json(), response);
    let items = |query: &str| {
        let list = server.get(&format!("{at}/input_items{query}"));
        assert_eq!(list.status, 200, "{}", list.text());
        list.json()
    };
    let all = items("?order=asc");
    let data = all["data"].as_array().unwrap();
    assert_eq!(data[0]["content"], json!([{"type": "input_text", "text": "One"}]));
    assert_eq!(data[1]["content"], json!([{"type": "output_text", "text": "Two", "annotations": []}]));
    assert!(
        data.iter()
            .all(|item| item["id"].is_string() && item["status"] == "completed" && item["type"].is_string())
    );
    assert_eq!((data.len(), &data[4]["id"], &all["has_more"]), (5, &json!("mine"), &json!(false)));
    assert_eq!((&all["first_id"], &all["last_id"]), (&data[0]["id"], &data[4]["id"]));
    assert_eq!(items("")["first_id"], "mine");
    let page = items(&format!("?order=asc&limit=2&after={}", data[1]["id"].as_str().unwrap()));
    assert_eq!((&page["data"], &page["has_more"]), (&json!(data[2..4]), &json!(true)));
    for (query, param) in [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("order=up", "order"),
        ("after=x", "after"),
        ("include[]=x", "include"),
    ] {
        let refused = server.get(&format!("{at}/input_items?{query}"));
        assert_eq!((refused.status, &refused.json()["error"]["param"]), (400, &json!(param)));
    }
    for query in ["stream=true", "starting_after=3", "stream=maybe", "include=web_search_call.results"] {
        assert_eq!(server.get(&format!("{at}?{query}")).status, 400, "{query}");
    }
    assert_eq!(server.request("POST", &format!("{at}/cancel"), &[], "").status, 400);
    let deleted = server.request("DELETE", &at, &[], "");
    assert_eq!(deleted.json(), json!({"id": id, "object": "response", "deleted": true}));
    // What is not there is said so, by whichever path.
    let unkept = ask(&server, &body("Hello!", json!({"store": false, "max_output_tokens": 2})));
    assert_eq!(unkept["store"], false);
    for id in [id, unkept["id"].as_str().unwrap(), "resp_1", "resp_00000000000000000", "x"] {
        for (method, path) in [("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")] {
            let gone = server.request(method, &format!("{PATH}/{id}{path}"), &[], "");
            assert_eq!(
                (gone.status, gone.json()["error"]["message"].as_str().unwrap().contains(id)),
                (404, true)
            );
        }
        let error = server.refused(PATH, &body("Hello!", json!({"previous_response_id": id})), 400);
        assert_eq!(
            (&error["param"], &error["code"]),
            (&json!("previous_response_id"), &json!("previous_response_not_found"))
        );
    }
    let error =
        server.refused(PATH, &body(json!([{"type": "item_reference", "id": data[0]["id"]}]), json!({})), 404);
    assert_eq!(error["param"], "input");
}

#[test]
fn a_conversation_goes_on_by_its_latest_response() {
    let server = Server::start(&[]);
    let mut items = Vec::new();
    let mut latest = Value::Null;
    for turn in 0..4 {
        let question = json!({"role": "user", "content": format!("Turn {turn}")});
        items.push(question.clone());
        let more = |id: &Value| json!({"previous_response_id": id, "max_output_tokens": 8, "instructions": format!("Number {turn}.")});
        let kept = ask(&server, &body(json!([question]), more(&latest)));
        let sent = ask(&server, &body(items.clone(), more(&Value::Null)));
        assert_eq!(kept["output"][0]["content"], sent["output"][0]["content"]);
        assert_eq!(kept["usage"]["input_tokens"], sent["usage"]["input_tokens"]);
        items.extend(kept["output"].as_array().unwrap().iter().cloned());
        latest = kept["id"].clone();
    }
    // A turn that was forgotten is missing in all that came after it.
    let third =
        server.get(&format!("{PATH}/{}", latest.as_str().unwrap())).json()["previous_response_id"].clone();
    server.request("DELETE", &format!("{PATH}/{}", third.as_str().unwrap()), &[], "");
    let error = server.refused(PATH, &body("?", json!({"previous_response_id": latest})), 400);
    assert!(error["message"].as_str().unwrap().contains(third.as_str().unwrap()), "{error}");
}

#[test]
fn one_keys_responses_are_not_anothers() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keys");
    std::fs::write(&file, "sk-one\nsk-two\n").unwrap();
    let server = Server::start(&["--api-keys", file.to_str().unwrap()]);
    let asked = |key: &str, method: &str, path: &str, body: &str| {
        server.request(method, path, &[&format!("Authorization: Bearer {key}")], body)
    };
    let more = json!({"max_output_tokens": 4, "include": ["reasoning.encrypted_content"]});
    let mine = asked("sk-one", "POST", PATH, &body("Hello!", more).to_string()).json();
    let at = format!("{PATH}/{}", mine["id"].as_str().unwrap());
    for (method, path) in [("GET", ""), ("GET", "/input_items"), ("POST", "/cancel"), ("DELETE", "")] {
        assert_eq!(asked("sk-two", method, &format!("{at}{path}"), "").status, 404);
    }
    let by_id = body("?", json!({"previous_response_id": mine["id"]})).to_string();
    let by_name =
        body(json!([{"type": "item_reference", "id": mine["output"][0]["id"]}]), json!({})).to_string();
    assert_eq!(asked("sk-two", "POST", PATH, &by_id).status, 400);
    assert_eq!(asked("sk-two", "POST", PATH, &by_name).status, 404);
    assert_eq!(asked("sk-one", "GET", &at, "").json(), mine);
    assert_eq!(asked("sk-one", "POST", PATH, &by_id).status, 200);
    assert_eq!(asked("sk-one", "POST", PATH, &by_name).status, 200);
}

#[test]
fn what_is_kept_has_bounds() {
    let server = Server::start(&["--max-responses", "100000"]);
    let text = "x ".repeat(500);
    let ids: Vec<String> = (0..80)
        .map(|_| {
            server.ask(PATH, &body(text.as_str(), json!({"max_output_tokens": 1})))["id"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    let there = ids.iter().map(|id| server.get(&format!("{PATH}/{id}")).status == 200).collect::<Vec<_>>();
    let kept = there.iter().filter(|there| **there).count();
    assert!((10..60).contains(&kept) && there.is_sorted(), "{there:?}");
    // What is larger than all room is answered, and not kept.
    let large = json!({"max_output_tokens": 1, "instructions": "Hello!", "tools": [{"type": "function", "name": "f", "description": "y".repeat(2000),
        "parameters": {"type": "object", "$comment": "z".repeat(100_000)}}], "tool_choice": "none"});
    let large = server.ask(PATH, &body("Hello!", large));
    assert_eq!(server.get(&format!("{PATH}/{}", large["id"].as_str().unwrap())).status, 404);
    // Nothing at all is kept where the operator wants it so.
    let server = Server::start(&["--max-responses", "0"]);
    let response = server.ask(PATH, &body("Hello!", json!({"max_output_tokens": 1})));
    assert_eq!(response["store"], false);
    assert_eq!(server.get(&format!("{PATH}/{}", response["id"].as_str().unwrap())).status, 404);
}

#[test]
fn in_the_background() {
    let server = Server::start(&[]);
    let at = |response: &Value| format!("{PATH}/{}", response["id"].as_str().unwrap());
    let asked = server.ask(PATH, &body("Hello! How are you?", json!({"background": true})));
    assert_eq!(
        (&asked["status"], &asked["background"], &asked["output"]),
        (&json!("in_progress"), &json!(true), &json!([]))
    );
    let deadline = Instant::now() + Duration::from_secs(60);
    let made = loop {
        let now = server.get(&at(&asked)).json();
        if now["status"] != "in_progress" {
            break now;
        }
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(text(&made), text(&server.ask(PATH, &body("Hello! How are you?", json!({})))));
    assert_eq!(made["status"], "completed");
    // It has ended, and stays.
    assert_eq!(server.request("POST", &format!("{}/cancel", at(&asked)), &[], "").json(), made);
    // One that goes on for long is cancelled, another forgotten: neither goes on.
    let long = json!({"background": true, "ignore_eos": true, "temperature": 1});
    let (one, two) = (server.ask(PATH, &body("?", long.clone())), server.ask(PATH, &body("?", long)));
    let error = server.refused(PATH, &body("?", json!({"previous_response_id": one["id"]})), 400);
    assert!(error["message"].as_str().unwrap().contains("not complete"), "{error}");
    let cancelled = server.request("POST", &format!("{}/cancel", at(&one)), &[], "").json();
    assert_eq!((&cancelled["status"], &cancelled["id"]), (&json!("cancelled"), &one["id"]));
    assert_eq!(server.get(&at(&one)).json(), cancelled);
    assert_eq!(server.request("DELETE", &at(&two), &[], "").status, 200);
    server.rest();
    for (more, param) in [
        (json!({"background": true, "store": false}), "background"),
        (json!({"background": true, "stream": true}), "stream"),
    ] {
        assert_eq!(server.refused(PATH, &body("?", more), 400)["param"], param);
    }
}

#[test]
fn a_client_that_leaves_leaves_nothing() {
    let server = Server::start(&[]);
    let more = json!({"stream": true, "ignore_eos": true});
    let mut stream = server.send("POST", PATH, &[], &body("Hello!", more).to_string());
    let mut first = [0; 1024];
    stream.read_exact(&mut first).unwrap();
    drop(stream);
    server.rest();
    // What goes wrong on the way is the last event.
    let server = Server::start(&["--timeout", "1"]);
    let long = json!({"stream": true, "ignore_eos": true, "max_output_tokens": 1_000_000});
    let text = server.post(PATH, &body("Hello!", long)).text();
    let last = text.trim_end().rsplit("\n\n").next().unwrap();
    if last.starts_with("event: response.failed") {
        let event: Value = serde_json::from_str(last.split_once("data: ").unwrap().1).unwrap();
        assert_eq!(event["response"]["error"]["code"], "server_error");
        assert_eq!(event["response"]["status"], "failed");
    } else {
        // The demo model's context was full before.
        assert!(last.starts_with("event: response.incomplete"), "{last}");
    }
}

#[test]
fn what_is_refused_is_refused_by_name() {
    let server = Server::start(&[]);
    for (more, param) in [
        (json!({"mood": 1}), "mood"),
        (json!({"conversation": "conv_1"}), "conversation"),
        (json!({"prompt": {"id": "x"}}), "prompt"),
        (json!({"context_management": [{"type": "compaction"}]}), "context_management"),
        (json!({"moderation": {"model": "x"}}), "moderation"),
        (json!({"background_options": {}}), "background_options"),
        (json!({"access_programs": {}}), "access_programs"),
        (json!({"image": {}}), "image"),
        (json!({"prompt_cache_options": {"mode": "explicit"}}), "prompt_cache_options"),
        (json!({"truncation": "some"}), "truncation"),
        (json!({"n": 2}), "n"),
        (json!({"messages": []}), "messages"),
        (json!({"include": ["file_search_call.results"]}), "include"),
        (json!({"include": "x"}), "include"),
        (json!({"include": [7]}), "include"),
        (json!({"max_output_tokens": -1}), "max_output_tokens"),
        (json!({"max_output_tokens": "many"}), "max_output_tokens"),
        (json!({"max_tool_calls": 0}), "max_tool_calls"),
        (json!({"metadata": []}), "metadata"),
        (json!({"metadata": {"a": 1}}), "metadata"),
        (json!({"metadata": {"a": "x".repeat(513)}}), "metadata"),
        (json!({"text": {"format": {"type": "yaml"}}}), "text.format.type"),
        (json!({"text": {"format": {"type": "json_schema", "name": "x"}}}), "schema"),
        (json!({"text": {"format": {"type": "json_object"}}, "guided_regex": "a"}), "text.format"),
        (json!({"text": {"mood": 1}}), "text.mood"),
        (json!({"reasoning": {"effort": "some"}}), "reasoning.effort"),
        (json!({"reasoning": {"mode": "pro"}}), "reasoning.mode"),
        (json!({"top_logprobs": 21}), "top_logprobs"),
        (json!({"previous_response_id": 5}), "previous_response_id"),
        (json!({"tool_choice": {"type": "web_search"}}), "tool_choice"),
        (json!({"tool_choice": {"type": "function", "name": "f"}}), "tool_choice"),
        (json!({"tool_choice": {"type": "custom", "name": "get_weather"}, "tools": tools()}), "tool_choice"),
        (
            json!({"tool_choice": {"type": "function", "name": "get_weather", "mood": 1}, "tools": tools()}),
            "tool_choice",
        ),
        (json!({"tool_choice": 7}), "tool_choice"),
    ] {
        let error = server.refused(PATH, &body("Hello!", more), 400);
        assert_eq!(error["param"], param, "{error}");
        assert!(error["message"].as_str().unwrap().chars().count() <= 300);
    }
    for tool in [
        json!({"type": "web_search"}),
        json!({"type": "file_search", "vector_store_ids": []}),
        json!({"type": "computer_use_preview"}),
        json!({"type": "code_interpreter", "container": {"type": "auto"}}),
        json!({"type": "mcp", "server_label": "x"}),
        json!({"type": "image_generation"}),
        json!({"type": "local_shell"}),
        json!({"name": "f"}),
        json!({"type": "function"}),
        json!({"type": "function", "name": "f", "parameters": 7}),
        json!({"type": "function", "function": {"name": "f"}}),
        json!({"type": "function", "name": "f", "defer_loading": true}),
        json!({"type": "function", "name": "f", "allowed_callers": ["programmatic"]}),
        json!({"type": "custom", "name": "f", "mood": 1}),
        json!({"type": "custom", "name": "f", "format": {"type": "text", "mood": 1}}),
        json!({"type": "custom", "name": "f", "format": {"type": "grammar", "syntax": "lark", "definition": "start: \"a\""}}),
        json!({"type": "custom", "name": "f", "format": {"type": "grammar", "syntax": "regex", "definition": "("}}),
        json!(7),
    ] {
        let error = server.refused(PATH, &body("Hello!", json!({"tools": [tool]})), 400);
        assert_eq!(error["param"], "tools", "{tool}: {error}");
    }
    let call = |more: Value| {
        let mut item = json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"});
        item.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        item
    };
    for item in [
        json!({"type": "computer_call_output", "call_id": "c"}),
        json!({"type": "web_search_call", "id": "w"}),
        json!({"type": "compaction", "id": "w"}),
        json!({"type": 5}),
        json!({}),
        json!(5),
        json!({"role": "user"}),
        json!({"role": "robot", "content": "x"}),
        json!({"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}),
        json!({"role": "user", "content": [{"type": "input_file", "file_id": "x"}]}),
        json!({"role": "user", "content": [{"type": "input_text"}]}),
        json!({"role": "user", "content": ["x"]}),
        json!({"role": "user", "content": "x", "mood": 1}),
        json!({"role": "user", "content": "x", "status": "done"}),
        json!({"role": "assistant", "content": "x", "phase": 1}),
        json!({"role": "user", "content": "x", "id": "x".repeat(600)}),
        call(json!({"call_id": null})),
        call(json!({"name": 5})),
        call(json!({"arguments": {}})),
        call(json!({"namespace": "x"})),
        call(json!({"caller": {"type": "program", "caller_id": "x"}})),
        json!({"type": "function_call_output", "call_id": "c"}),
        json!({"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image"}]}),
        json!({"type": "custom_tool_call", "call_id": "c", "name": "f", "input": 5}),
        json!({"type": "reasoning", "summary": "x"}),
    ] {
        let error = server.refused(PATH, &body(json!([item]), json!({})), 400);
        assert_eq!(error["param"], "input", "{item}: {error}");
        assert!(error["message"].as_str().unwrap().chars().count() <= 300);
    }
    for input in [json!([]), json!(5), json!({}), Value::Null] {
        assert_eq!(server.refused(PATH, &body(input, json!({})), 400)["param"], "input");
    }
}

/// The oldest turns are left out, and no more of them than must be; instructions are not.
#[test]
fn what_does_not_fit_is_left_out_where_that_is_asked() {
    let server = Server::start(&[]);
    let user = |text: &str| json!({"role": "user", "content": text});
    let turn = "All work and no play. ".repeat(20);
    let said = json!({"role": "assistant", "content": "Yes."});
    let mut items: Vec<Value> = (0..400).flat_map(|_| [user(&turn), said.clone()]).collect();
    items.push(user("Hello!"));
    let more = |truncation: &str| json!({"truncation": truncation, "max_output_tokens": 4, "instructions": "Be short."});
    let error = server.refused(PATH, &body(items.clone(), more("disabled")), 400);
    assert_eq!(error["code"], "context_length_exceeded");
    let response = ask(&server, &body(items.clone(), more("auto")));
    assert_eq!(response["truncation"], "auto");
    let fits = |turns: usize| {
        server.post(PATH, &body(items[items.len() - 1 - 2 * turns..].to_vec(), more("disabled")))
    };
    let one = fits(1).json()["usage"]["input_tokens"].as_u64().unwrap()
        - fits(0).json()["usage"]["input_tokens"].as_u64().unwrap();
    let turns = (response["usage"]["input_tokens"].as_u64().unwrap()
        - fits(0).json()["usage"]["input_tokens"].as_u64().unwrap())
        / one;
    assert_eq!(fits(turns as usize).json()["usage"]["input_tokens"], response["usage"]["input_tokens"]);
    assert_eq!((fits(turns as usize).status, fits(turns as usize + 1).status), (200, 400));
    // It is gone on with all the same.
    let next = json!({"truncation": "auto", "max_output_tokens": 4, "previous_response_id": response["id"]});
    ask(&server, &body("And?", next));
}

/// Bodies that are to take all memory or time: each is refused, or answered.
#[test]
fn hostile_bodies() {
    let server = Server::start(&["--max-body", "4000000"]);
    let deep = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let many = |item: &str, count: usize| format!("[{}]", vec![item; count].join(","));
    for input in [
        deep(100_000),
        format!("[{{\"role\":\"user\",\"content\":{}}}]", deep(100_000)),
        many("{}", 900_000),
        many("{\"role\":\"user\",\"content\":\"\"}", 100_000),
        many("{\"type\":\"reasoning\",\"id\":\"rs_0000000000000000\",\"summary\":[]}", 50_000),
        many("{\"id\":\"msg_0000000000000000\"}", 100_000),
        format!(
            "[{{\"role\":\"user\",\"content\":{}}}]",
            many("{\"type\":\"input_text\",\"text\":\"\"}", 80_000)
        ),
        format!("\"{}\"", "x".repeat(1_000_000)),
    ] {
        let start = Instant::now();
        let body = format!("{{\"model\": \"demo\", \"max_output_tokens\": 1, \"input\": {input}}}");
        let response = server.request("POST", PATH, &[], &body);
        assert!([400, 404, 413].contains(&response.status), "{}: {}", response.status, response.text());
        assert!(response.text().chars().count() < 1000 && start.elapsed() < Duration::from_secs(30));
    }
    server.ask(PATH, &body("Hello!", json!({"max_output_tokens": 1})));
}

#[test]
fn what_items_name_is_bounded() {
    let server = Server::start(&["demo", "--max-body", "1000000"]);
    let said = json!([
        {"role": "assistant", "content": [{"type": "output_text", "text": "Hi", "annotations": ["x".repeat(200_000)]}]},
        {"role": "user", "content": "Hi"},
    ]);
    let kept = server.ask("/v1/responses", &json!({"model": "demo", "input": said, "max_output_tokens": 1}));
    let items =
        server.get(&format!("/v1/responses/{}/input_items?order=asc", kept["id"].as_str().unwrap())).json();
    let name = json!({"type": "item_reference", "id": items["data"][0]["id"]});
    let named = |count: usize| {
        let mut input = vec![name.clone(); count];
        input.push(json!({"role": "user", "content": "Hi"}));
        json!({"model": "demo", "input": input, "store": false, "max_output_tokens": 1})
    };
    server.ask("/v1/responses", &named(4));
    let error = server.refused("/v1/responses", &named(500), 400);
    assert!(error["message"].as_str().unwrap().contains("more than 1000000 bytes together"), "{error}");
}
