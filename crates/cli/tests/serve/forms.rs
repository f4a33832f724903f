//! Answers that must have a form: the words of three APIs for it, and what is said of bad ones.

use serde_json::{Value, json};

use crate::client::Server;

fn chat(more: Value) -> Value {
    let mut body = json!({
        "model": "demo", "messages": [{"role": "user", "content": "Tell me about a town."}], "max_tokens": 1000,
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn person() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 12},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "tags": {"type": "array", "items": {"enum": ["kind", "tall", "old"]}, "maxItems": 3}
        },
        "required": ["name", "age", "tags"],
        "additionalProperties": false
    })
}

fn content(answer: &Value) -> String {
    assert_eq!(answer["choices"][0]["finish_reason"], "stop", "{answer}");
    answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
}

fn is_person(text: &str) -> bool {
    let value: Value = serde_json::from_str(text).unwrap();
    let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["name", "age", "tags"], "{text}");
    value["name"].as_str().unwrap().chars().count() <= 12
        && value["age"].as_u64().unwrap() <= 150
        && value["tags"].as_array().unwrap().len() <= 3
}

#[test]
fn answers_have_the_form_that_is_asked_for() {
    let server = Server::start(&[]);
    let ask = |more: Value| content(&server.ask("/v1/chat/completions", &chat(more)));
    for temperature in [0.0, 1.0] {
        for strict in [Some(true), Some(false), None] {
            let mut schema = person();
            let mut format =
                json!({"type": "json_schema", "json_schema": {"name": "person", "description": "a person"}});
            if let Some(strict) = strict {
                format["json_schema"]["strict"] = strict.into();
            } else {
                // instructor says nothing of it.
                schema["$schema"] = "http://json-schema.org/draft-07/schema#".into();
                schema["title"] = "Person".into();
            }
            format["json_schema"]["schema"] = schema;
            assert!(is_person(&ask(
                json!({"response_format": format, "temperature": temperature, "seed": 5})
            )));
        }
        for (name, value) in [
            ("guided_json", person()),
            ("guided_json", person().to_string().into()),
            ("json_schema", person()),
            ("structured_outputs", json!({"json": person()})),
            ("response_format", json!({"type": "json_object", "schema": person()})),
        ] {
            assert!(is_person(&ask(json!({name: value, "temperature": temperature, "seed": 6}))), "{name}");
        }
        for (name, value) in [
            ("guided_choice", json!(["north", "south"])),
            ("structured_outputs", json!({"choice": ["north", "south"]})),
            ("guided_regex", json!("north|south")),
            ("structured_outputs", json!({"regex": "(nor|sou)th"})),
            ("guided_grammar", json!("root ::= (\"nor\" | \"sou\") \"th\"")),
            ("guided_grammar", json!("start: \"north\" | \"south\"")),
            ("structured_outputs", json!({"grammar": "root ::= (\"nor\" | \"sou\") \"th\""})),
            ("grammar", json!("root ::= (\"nor\" | \"sou\") \"th\"")),
        ] {
            let answer = ask(json!({name: value, "temperature": temperature, "seed": 7}));
            assert!(["north", "south"].contains(&answer.as_str()), "{name} {value}: {answer}");
        }
    }
    let any = server.ask(
        "/v1/chat/completions",
        &chat(json!({"response_format": {"type": "json_object"}, "temperature": 0, "max_tokens": 300})),
    );
    let text = any["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(text.trim_start().starts_with('{'), "{text}");
    assert!(any["choices"][0]["finish_reason"] == "length" || serde_json::from_str::<Value>(text).is_ok());
}

#[test]
fn texts_streams_and_copies_have_it_too() {
    let server = Server::start(&[]);
    let body = json!({
        "model": "demo", "prompt": ["It is", "He said"], "guided_regex": "[a-c]{3,5}!", "temperature": 1, "n": 3,
        "seed": 3, "ignore_eos": true, "logprobs": 1, "max_tokens": 50,
    });
    let answer = server.ask("/v1/completions", &body);
    for choice in answer["choices"].as_array().unwrap() {
        let text = choice["text"].as_str().unwrap();
        let (letters, mark) = text.split_at(text.len() - 1);
        assert!((3..=5).contains(&letters.len()) && mark == "!", "{text}");
        assert!(letters.bytes().all(|b| (b'a'..=b'c').contains(&b)), "{text}");
        assert_eq!(choice["finish_reason"], "stop");
    }
    let streamed = server.stream(
        "/v1/chat/completions",
        &chat(json!({"stream": true, "guided_json": person(), "temperature": 1, "seed": 9})),
    );
    let text: String = streamed
        .iter()
        .filter_map(|event| serde_json::from_str::<Value>(event).ok())
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
        .collect();
    assert!(is_person(&text));
    let whole = server
        .ask("/v1/chat/completions", &chat(json!({"guided_json": person(), "temperature": 1, "seed": 9})));
    assert_eq!(content(&whole), text);
    assert!(whole["choices"][0].get("schema_check").is_none(), "it was held to all of it");
}

#[test]
fn what_masks_cannot_keep_is_checked_and_said() {
    let server = Server::start(&[]);
    let schema = json!({
        "type": "array", "items": {"enum": [1, 2]}, "minItems": 2, "maxItems": 2, "uniqueItems": true
    });
    let mut seen = [false; 2];
    for seed in 0..40 {
        let answer = server.ask(
            "/v1/chat/completions",
            &chat(json!({"guided_json": schema, "temperature": 2, "seed": seed})),
        );
        let list: Vec<u64> = serde_json::from_str(&content(&answer)).unwrap();
        let check = &answer["choices"][0]["schema_check"];
        assert_eq!(check["valid"], list[0] != list[1], "{answer}");
        assert_eq!(check["error"].is_null(), list[0] != list[1], "{answer}");
        seen[usize::from(list[0] != list[1])] = true;
    }
    assert!(seen.contains(&true));
    let format =
        json!({"type": "json_schema", "json_schema": {"name": "x", "strict": true, "schema": schema}});
    let error = server.refused("/v1/chat/completions", &chat(json!({"response_format": format})), 400);
    assert_eq!(error["param"], "response_format");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("`uniqueItems` at \"\""), "{message}");
}

#[test]
fn what_calls_cannot_be_held_to_is_checked_and_said() {
    let server = Server::start(&[]);
    let list = json!({"type": "array", "items": {"enum": [1, 2]}, "minItems": 2, "maxItems": 2, "uniqueItems": true});
    let tool = |strict: bool| {
        let parameters = json!({"type": "object", "properties": {"list": list}, "required": ["list"]});
        json!({"type": "function", "function": {"name": "pick", "strict": strict, "parameters": parameters}})
    };
    let mut seen = [false; 2];
    for seed in 0..12 {
        let body = json!({"tools": [tool(false)], "tool_choice": "required", "parallel_tool_calls": false,
            "temperature": 2, "seed": seed});
        let answer = server.ask("/v1/chat/completions", &chat(body.clone()));
        let choice = &answer["choices"][0];
        let arguments = choice["message"]["tool_calls"][0]["function"]["arguments"].as_str().unwrap();
        let list: Value = serde_json::from_str(arguments).unwrap();
        let is_valid = list["list"][0] != list["list"][1];
        assert_eq!(choice["schema_check"]["valid"], is_valid, "{answer}");
        let error = choice["schema_check"]["error"].as_str().unwrap_or_default();
        assert_eq!(error.contains("\"pick\"") && error.contains("`uniqueItems`"), !is_valid, "{answer}");
        let streamed = server.stream(
            "/v1/chat/completions",
            &chat({
                let mut body = body;
                body["stream"] = true.into();
                body
            }),
        );
        let last: Value = serde_json::from_str(&streamed[streamed.len() - 2]).unwrap();
        assert_eq!(last["choices"][0]["schema_check"], choice["schema_check"], "{last}");
        seen[usize::from(is_valid)] = true;
    }
    assert!(seen[0], "{seen:?}");
    for choice in ["required", "auto"] {
        let body = chat(json!({"tools": [tool(true)], "tool_choice": choice}));
        let error = server.refused("/v1/chat/completions", &body, 400);
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("`uniqueItems` at \"/pick/properties/list\""), "{message}");
    }
}

#[test]
fn a_bad_form_is_refused_with_its_place() {
    let server = Server::start(&[]);
    for (more, param, said) in [
        (
            json!({"guided_json": {"properties": {"a": {"type": "nothing"}}}}),
            "guided_json",
            "/properties/a/type",
        ),
        (json!({"guided_json": {"properties": {"a": {"$ref": "#/b"}}}}), "guided_json", "/properties/a"),
        (json!({"guided_json": "{"}), "guided_json", "is to be a JSON schema"),
        (json!({"guided_json": false}), "guided_json", "no answer can satisfy"),
        (json!({"guided_regex": "a("}), "guided_regex", "regular expression"),
        (json!({"guided_choice": []}), "guided_choice", "list of choices"),
        (json!({"guided_choice": [1]}), "guided_choice", "is to be a list of texts"),
        (json!({"grammar": "root ::= what"}), "grammar", "the rule `what` is not defined"),
        (json!({"grammar": "root = what"}), "grammar", "line 1: `::=` is expected"),
        (json!({"structured_outputs": {"json": {}, "taste": 1}}), "structured_outputs.taste", "unknown"),
        (json!({"response_format": {"type": "xml"}}), "response_format.type", "one of text"),
        (json!({"response_format": {"type": "json_schema"}}), "json_schema", "is missing"),
        (json!({"guided_regex": "a", "grammar": "root ::= \"a\""}), "grammar", "both say"),
        (json!({"guided_regex": "(".repeat(300)}), "guided_regex", "too large"),
        (json!({"guided_regex": "a".repeat(300_000)}), "guided_regex", "too large"),
        (
            json!({"guided_regex": "((a{1000}){1000}){1000}"}),
            "guided_regex",
            "every answer begins with the same",
        ),
    ] {
        let error = server.refused("/v1/chat/completions", &chat(more), 400);
        assert_eq!(error["param"], param, "{error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(said) && message.chars().count() <= 300, "{message}");
    }
}
