//! `glimmer run` with a form that its answer is to have.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use serde_json::{Value, json};

#[test]
fn an_answer_has_the_form_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let schema = json!({
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 3, "maximum": 12}, "ok": {"type": "boolean"}},
        "required": ["n", "ok"], "additionalProperties": false,
    });
    let run = |flags: &[&str]| {
        let mut command = support::glimmer();
        command.args(["run", "demo", "What is a tide?", "--temperature", "2", "--seed", "4"]);
        let output = command.args(flags).output().unwrap();
        (
            output.status.success(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let path = file("schema.json", &schema.to_string());
    let (good, answer, _) = run(&["--json-schema", &path]);
    let value: Value = serde_json::from_str(&answer).unwrap();
    assert!(good && (3..=12).contains(&value["n"].as_i64().unwrap()) && value["ok"].is_boolean(), "{answer}");
    let (good, answer, _) = run(&["--json-schema", &path, "--json"]);
    let record: Value = serde_json::from_str(&answer).unwrap();
    assert!(
        good && serde_json::from_str::<Value>(record["text"].as_str().unwrap()).unwrap()["n"].is_number()
    );
    for grammar in ["root ::= \"tides \" (\"rise\" | \"fall\")", "start: \"tides \" (\"rise\" | \"fall\")"] {
        let (good, answer, _) = run(&["--grammar", &file("grammar", grammar)]);
        assert!(good && ["tides rise", "tides fall"].contains(&answer.trim()), "{answer}");
    }
    // With tools it may be calls of them instead.
    let tools = json!([{"type": "function", "function": {"name": "tide", "parameters": schema}}]);
    let (good, answer, _) =
        run(&["--json-schema", &path, "--tools", &file("tools.json", &tools.to_string()), "--json"]);
    let record: Value = serde_json::from_str(&answer).unwrap();
    let calls = record["tool_calls"].as_array().into_iter().flatten();
    let texts: Vec<&str> = calls
        .map(|call| &call["arguments"])
        .chain([&record["text"]])
        .map(|text| text.as_str().unwrap())
        .collect();
    let value: Value = serde_json::from_str(texts[0]).unwrap();
    assert!(good && value["n"].is_number() && (texts.len() == 1 || texts.last() == Some(&"")), "{answer}");
    let (good, _, error) = run(&["--json-schema", &file("bad.json", "{\"type\": \"nothing\"}")]);
    assert!(!good && error.contains("/type"), "{error}");
    let (good, _, error) = run(&["--grammar", &file("bad", "root ::= a")]);
    assert!(!good && error.contains("the rule `a` is not defined"), "{error}");
}
