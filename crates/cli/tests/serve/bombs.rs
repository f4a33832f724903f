//! Schemas, grammars and tools that are to take all time or memory: each is answered, or refused with what is too much of it.

use std::io::{BufReader, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::client::{Response, Server};

const CHAT: &str = "/v1/chat/completions";
/// One request's time, on a machine that does other things.
const TIME: Duration = Duration::from_secs(30);

fn chat(more: Value) -> Value {
    let mut body = json!({
        "model": "demo", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 8, "temperature": 1, "seed": 1,
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// Definitions each of which is made of the next.
fn chain(length: usize, link: impl Fn(Value) -> Value) -> Value {
    let mut all: Map<String, Value> = (0..length)
        .map(|at| (format!("d{at}"), link(json!({"$ref": format!("#/$defs/d{}", at + 1)}))))
        .collect();
    all.insert(format!("d{length}"), json!({"type": "string"}));
    json!({"$defs": all, "$ref": "#/$defs/d0"})
}

fn each(count: usize, make: impl Fn(usize) -> Value) -> Vec<Value> {
    (0..count).map(make).collect()
}

fn properties(count: usize, schema: impl Fn(usize) -> Value) -> Value {
    let all: Map<String, Value> = (0..count).map(|at| (format!("p{at}"), schema(at))).collect();
    json!({"type": "object", "properties": all})
}

fn schemas() -> Vec<(&'static str, Value)> {
    let deep = |depth: usize| (0..depth).fold(json!({}), |inner, _| json!({"properties": {"a": inner}}));
    let text = || json!({"type": "string"});
    let key = |at: usize| format!("k{at}");
    vec![
        ("nested", deep(60)),
        ("nested too deep", deep(100)),
        ("100,000 values", json!({"enum": each(100_000, |at| format!("v{at}").into())})),
        ("4,000 values", json!({"enum": each(4000, |at| format!("v{at}").into())})),
        ("a megabyte", properties(8000, |_| json!({"type": "string", "description": "x".repeat(100)}))),
        ("a long text", json!({"const": "x".repeat(200_000)})),
        ("a long name", json!({"type": "object", "properties": {"k".repeat(200_000): {}}})),
        ("references", chain(700, |next| json!({"type": "object", "properties": {"a": next, "b": next}}))),
        ("a doubling of all", chain(30, |next| json!({"allOf": [next, next]}))),
        ("a doubling of any", chain(30, |next| json!({"anyOf": [next, next]}))),
        (
            "a doubling of both",
            chain(
                20,
                |next| json!({"anyOf": [{"allOf": [next, {"minLength": 1}]}, {"allOf": [next, {"maxLength": 9}]}]}),
            ),
        ),
        (
            "all of any",
            json!({"allOf": each(10, |at| json!({"anyOf": each(10, |inner| json!({"required": [format!("p{at}_{inner}")]}))}))}),
        ),
        (
            "one of many",
            json!({"oneOf": each(300, |at| json!({"type": "object", "properties": {key(at): text()}}))}),
        ),
        ("many items", json!({"type": "array", "items": text(), "minItems": 100_000})),
        (
            "the same items",
            json!({"type": "array", "items": {"const": true}, "minItems": 100_000, "maxItems": 100_000}),
        ),
        ("no end of items", json!({"type": "array", "items": text(), "maxItems": 1_000_000_000})),
        ("a least length", json!({"type": "string", "minLength": 1_000_000})),
        ("a most length", json!({"type": "string", "maxLength": 1_000_000_000})),
        ("lengths", properties(300, |at| json!({"type": "string", "minLength": at, "maxLength": 4000 + at}))),
        ("counted properties", json!({"type": "object", "minProperties": 1000})),
        (
            "patterns of names",
            json!({"type": "object", "patternProperties": (0..1000).map(|at| (format!("^{at}x{at}$"), text())).collect::<Map<_, _>>()}),
        ),
        ("a pattern", json!({"type": "string", "pattern": "^(a|b|c)*a(a|b|c){200}$"})),
        (
            "patterns together",
            json!({"allOf": each(20, |at| json!({"type": "string", "pattern": format!("^.*{at}.{{{}}}$", at + 5)}))}),
        ),
        (
            "multiples",
            json!({"allOf": each(9, |at| json!({"type": "integer", "multipleOf": 2 * at + 10_001}))}),
        ),
        ("bounds", json!({"type": "integer", "minimum": -1e300, "maximum": 1e300})),
        (
            "conditions",
            json!({"type": "object", "allOf": each(30, |at| json!({
                "if": {"properties": {key(at): {"const": 1}}}, "then": {"required": [key(at + 1)]}, "else": {"required": [key(at + 2)]}
            }))}),
        ),
        (
            "what is left over",
            json!({"allOf": each(300, |at| json!({"properties": {key(at): text()}})), "unevaluatedProperties": false}),
        ),
    ]
}

fn grammars() -> Vec<(&'static str, Value)> {
    let regex = |source: &str| json!({"structured_outputs": {"regex": source}});
    let grammar = |source: &str| json!({"structured_outputs": {"grammar": source}});
    let lark_doubling: String =
        (0..40).map(|at| format!("X{at}: X{} | X{} \"b\"\n", at + 1, at + 1)).collect();
    let words = |joined: &str| (0..2000).map(|at| format!(".*w{at}")).collect::<Vec<_>>().join(joined);
    vec![
        ("counts of counts", regex("((a{0,100}){0,100}){0,100}")),
        ("what came long before", regex("^(a|b|c)*a(a|b|c){200}$")),
        ("anything between", regex("(?s:(.*a.{20}){20})")),
        ("classes", regex(r"(\p{L}{100}\s){100}")),
        ("alternatives", regex(&words("|"))),
        ("deep", regex(&format!("{}a{}", "(".repeat(120), ")*".repeat(120)))),
        ("too deep", regex(&"(".repeat(300))),
        ("long", regex(&"a".repeat(300_000))),
        ("ambiguous", grammar("root ::= root root | \"a\"")),
        ("empty", grammar("root ::= x*\nx ::= y*\ny ::= \"\" | \"a\"")),
        ("the same without end", grammar("root ::= x{1000}\nx ::= y{1000}\ny ::= \"a\"{1000}")),
        ("no end", grammar("root ::= root")),
        ("doubled terminals", grammar(&format!("start: X0\n{lark_doubling}X40: \"a\"\n"))),
        ("both of two", grammar("start: T\nT: /(?s:.)*a.{100}/ & ~/(?s:.)*b.{99}/\n")),
        (
            "a schema within",
            grammar("start: %json {\"minItems\": 100000, \"items\": {\"minLength\": 1000}}\n"),
        ),
        ("an end within", grammar("start: <|user|> /.*/ <[0-100]>\n")),
        ("choices", json!({"structured_outputs": {"choice": each(5000, |at| format!("c{at}").into())}})),
    ]
}

fn requests() -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for (name, schema) in schemas() {
        let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
        all.push((format!("schema, {name}"), chat(json!({"response_format": format}))));
        let Value::Object(mut value) = schema else { continue };
        let definitions = value.remove("$defs").unwrap_or_default();
        let parameters =
            json!({"type": "object", "properties": {"v": value}, "required": ["v"], "$defs": definitions});
        for (choice, strict) in [("auto", false), ("required", false), ("required", true)] {
            let parameters = if parameters["$defs"].is_null() {
                without_definitions(&parameters)
            } else {
                parameters.clone()
            };
            let function = json!({"name": "get", "parameters": parameters, "strict": strict});
            let body = json!({"tools": [{"type": "function", "function": function}], "tool_choice": choice});
            all.push((format!("tool, {choice}, {strict}, {name}"), chat(body)));
        }
    }
    all.extend(grammars().into_iter().map(|(name, grammar)| (format!("grammar, {name}"), chat(grammar))));
    let tools = each(
        1024,
        |at| json!({"type": "function", "function": {"name": format!("get{at}"), "parameters": {}}}),
    );
    all.push(("1,024 tools".to_owned(), chat(json!({"tools": tools, "tool_choice": "required"}))));
    all
}

fn without_definitions(schema: &Value) -> Value {
    let mut schema = schema.clone();
    schema.as_object_mut().unwrap().shift_remove("$defs");
    schema
}

/// The most memory that the server has had, in MiB.
fn peak(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
}

#[test]
fn each_is_answered_or_refused_in_bounded_time_and_memory() {
    let server = Server::start(&["--ctx", "2048", "--parallel", "4"]);
    let requests = requests();
    let (next, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    // Several at once, so that what one takes is there several times.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some((name, body)) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let begin = Instant::now();
                    let response = server.post(CHAT, body);
                    let took = begin.elapsed();
                    assert!(took < TIME, "{name}: {took:?}");
                    if response.status == 200 {
                        continue;
                    }
                    refused.fetch_add(1, Ordering::Relaxed);
                    assert!(
                        [400, 413].contains(&response.status),
                        "{name}: {} {}",
                        response.status,
                        response.text()
                    );
                    let error = response.json()["error"].clone();
                    let message = error["message"].as_str().unwrap();
                    let is_named = !error["param"].is_null() || message.contains("the prompt has");
                    assert!(is_named && message.chars().count() <= 300, "{name}: {error}");
                    assert!(!message.contains("panic"), "{name}: {error}");
                }
            });
        }
    });
    let refused = refused.into_inner();
    assert!(refused >= 20 && refused < requests.len() - 20, "{refused} of {}", requests.len());
    server.rest();
    assert!(!server.log().contains("panicked"), "{}", server.log());
    let peak = peak(&server);
    assert!(peak < 1024, "{peak} MiB");
}

/// A schema that no other number has.
fn own(number: usize) -> (Value, String, usize) {
    let name = format!("word_{number}");
    let most = 3 + number % 5;
    let schema = json!({
        "type": "object",
        "properties": {
            &name: {"type": "string", "pattern": format!("^[a-f]{{1,{most}}}$")},
            "list": {"type": "array", "items": {"type": "integer", "minimum": number, "maximum": number + 9}, "maxItems": 3},
        },
        "required": [name, "list"], "additionalProperties": false,
    });
    (schema, name, most)
}

#[test]
fn as_many_forms_as_clients() {
    let server = Server::start(&["--parallel", "64", "--cache-tokens", "32768"]);
    std::thread::scope(|scope| {
        for number in 0..64 {
            let server = &server;
            scope.spawn(move || {
                let (schema, name, most) = own(number);
                let mut body = chat(json!({"guided_json": schema, "max_tokens": 400, "seed": number}));
                body["messages"][0]["content"] = format!("{number}").into();
                let answer = server.ask(CHAT, &body);
                let choice = &answer["choices"][0];
                assert_eq!(choice["finish_reason"], "stop", "{answer}");
                let value: Value =
                    serde_json::from_str(choice["message"]["content"].as_str().unwrap()).unwrap();
                let word = value[&name].as_str().unwrap();
                assert!(
                    (1..=most).contains(&word.len()) && word.bytes().all(|b| b"abcdef".contains(&b)),
                    "{value}"
                );
                let list = value["list"].as_array().unwrap();
                let range = number as u64..=number as u64 + 9;
                assert!(
                    list.len() <= 3 && list.iter().all(|n| range.contains(&n.as_u64().unwrap())),
                    "{value}"
                );
            });
        }
    });
    server.rest();
    let peak = peak(&server);
    assert!(peak < 512, "{peak} MiB");
}

#[test]
fn who_goes_away_in_a_call_is_not_called_for() {
    let server = Server::start(&["--parallel", "2"]);
    let parameters = json!({"type": "object", "properties": {"text": {"type": "string", "minLength": 3000}}, "required": ["text"]});
    let body = chat(json!({
        "tools": [{"type": "function", "function": {"name": "write", "parameters": parameters}}],
        "tool_choice": "required", "max_tokens": 1500, "stream": true,
    }));
    for _ in 0..6 {
        let mut stream = server.send("POST", CHAT, &[], &body.to_string());
        // Into the arguments.
        stream.read_exact(&mut [0; 3000]).unwrap();
        drop(stream);
    }
    server.rest();
    assert_eq!(server.metric("glimmer_answers_total{model=\"demo\",end=\"abort\"}"), 6.0);
    let mut whole = body.clone();
    whole["max_tokens"] = 20.into();
    let response = Response::read(&mut BufReader::new(server.send("POST", CHAT, &[], &whole.to_string())));
    assert_eq!(response.status, 200);
}
