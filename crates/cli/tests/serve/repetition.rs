//! Answers that repeat themselves, and requests that want them ended for it.

use serde_json::{Value, json};

use crate::args;
use crate::client::Server;
use crate::support::run;

const CHAT: &str = "/v1/chat/completions";

/// A request whose answer can only be the same words again and again.
fn clock(more: Value) -> Value {
    let mut body = json!({
        "model": "demo", "messages": [{"role": "user", "content": "Hello!"}],
        "guided_regex": "(tick tock ){100}", "max_tokens": 400,
        "repetition_detection": {"max_pattern_size": 16, "min_pattern_size": 2, "min_count": 4},
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// What tells that an answer was ended, in a choice of any API.
fn is_ended(choice: &Value) -> bool {
    choice["finish_reason"] == "stop" && choice["stop_reason"] == "repetition_detected"
}

#[test]
fn an_answer_that_repeats_itself_is_ended_where_that_is_asked_for() {
    let server = Server::start(&[]);
    let answer = server.ask(CHAT, &clock(json!({"n": 2, "temperature": 1})));
    let tokens = answer["usage"]["completion_tokens"].as_u64().unwrap();
    assert!(tokens < 120, "{answer}");
    for choice in answer["choices"].as_array().unwrap() {
        let text = choice["message"]["content"].as_str().unwrap();
        let ticks = text.matches("tick").count();
        assert!(is_ended(choice) && (4..=5).contains(&ticks), "{choice}");
    }
    for off in [json!(null), json!({}), json!({"max_pattern_size": 0, "min_count": 0})] {
        let whole = server.ask(CHAT, &clock(json!({"repetition_detection": off})));
        let choice = &whole["choices"][0];
        assert!(choice.get("stop_reason").is_none() && choice["finish_reason"] != "tool_calls");
        assert!(whole["usage"]["completion_tokens"].as_u64().unwrap() >= 200);
    }
    let text = json!({
        "model": "demo", "prompt": "x", "logit_bias": {"100": 100}, "temperature": 0, "max_tokens": 60,
        "repetition_detection": {"max_pattern_size": 4, "min_count": 7},
    });
    let answer = server.ask("/v1/completions", &text);
    assert!(is_ended(&answer["choices"][0]), "{answer}");
    assert_eq!(answer["usage"]["completion_tokens"], 7);
    assert_eq!(server.metric("glimmer_answers_total{model=\"demo\",end=\"repetition\"}"), 3.0);
}

#[test]
fn streams_and_batches_say_so_too() {
    let server = Server::start(&[]);
    let events = server.stream(CHAT, &clock(json!({"stream": true})));
    let chunks: Vec<Value> = events.iter().filter_map(|event| serde_json::from_str(event).ok()).collect();
    let (last, before) = chunks.split_last().unwrap();
    assert!(is_ended(&last["choices"][0]), "{last}");
    assert!(before.iter().all(|chunk| chunk["choices"][0].get("stop_reason").is_none()));
    let text: String = before.iter().filter_map(|c| c["choices"][0]["delta"]["content"].as_str()).collect();
    let whole = server.ask(CHAT, &clock(json!({})));
    assert_eq!(whole["choices"][0]["message"]["content"], text);

    let directory = tempfile::tempdir().unwrap();
    let (input, output) = (directory.path().join("in.jsonl"), directory.path().join("out.jsonl"));
    let line = json!({"custom_id": "a", "method": "POST", "url": CHAT, "body": clock(json!({}))});
    std::fs::write(&input, format!("{line}\n")).unwrap();
    run(args!["batch", "--quiet", input, "-o", output]).quiet_success();
    let answer: Value = serde_json::from_str(&std::fs::read_to_string(output).unwrap()).unwrap();
    assert_eq!(answer["response"]["body"]["choices"], whole["choices"]);
}

#[test]
fn the_same_call_again_and_again_is_ended() {
    let server = Server::start(&[]);
    let ends: Vec<u64> = ["<|user|>", "<|observation|>", "<|endoftext|>"]
        .iter()
        .map(|text| {
            server.ask("/tokenize", &json!({"content": text, "parse_special": true}))["tokens"][0]
                .as_u64()
                .unwrap()
        })
        .collect();
    let bias: Value =
        ends.iter().map(|id| (id.to_string(), json!(-100))).collect::<serde_json::Map<_, _>>().into();
    let body = |more: Value| {
        let mut body = json!({
            "model": "demo", "messages": [{"role": "user", "content": "What time is it?"}], "temperature": 0,
            "tools": [{"type": "function", "function": {"name": "now"}}], "tool_choice": "required",
            "logit_bias": bias, "max_tokens": 120,
        });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let free = server.ask(CHAT, &body(json!({})));
    let count = |answer: &Value| answer["choices"][0]["message"]["tool_calls"].as_array().unwrap().len();
    assert!(count(&free) > 6, "{free}");
    // The pattern is longer than those that are looked for: it is the calls that count.
    let wanted = json!({"repetition_detection": {"max_pattern_size": 1, "min_count": 3}});
    let ended = server.ask(CHAT, &body(wanted));
    let choice = &ended["choices"][0];
    assert_eq!((count(&ended), &choice["finish_reason"]), (3, &json!("tool_calls")), "{ended}");
    assert_eq!(choice["stop_reason"], "repetition_detected");
}

#[test]
fn what_is_no_wish_is_refused() {
    let server = Server::start(&[]);
    for (wanted, param) in [
        (json!({"max_pattern_size": 4, "min_count": 1}), "repetition_detection"),
        (json!({"max_pattern_size": 4}), "repetition_detection"),
        (json!({"max_pattern_size": 4, "min_pattern_size": 5, "min_count": 2}), "repetition_detection"),
        (json!({"min_pattern_size": 5, "min_count": 2}), "repetition_detection"),
        (json!({"max_pattern_size": 5000, "min_count": 2}), "repetition_detection"),
        (json!({"max_pattern_size": -1, "min_count": 2}), "repetition_detection.max_pattern_size"),
        (json!({"max_pattern_size": 4, "min_count": 2, "more": 1}), "repetition_detection.more"),
        (json!(true), "repetition_detection"),
    ] {
        let error = server.refused(CHAT, &clock(json!({"repetition_detection": wanted})), 400);
        assert_eq!(error["param"], param, "{error}");
    }
}

#[test]
fn a_run_says_so() {
    let ended = run(args![
        "run",
        "demo",
        "x",
        "--raw",
        "--logit-bias",
        "100=100",
        "--temperature",
        "0",
        "-n",
        "60",
        "--repetition-detection",
        "4,7",
        "--json",
    ]);
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    let record: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(
        (&record["finish_reason"], &record["stop_reason"]),
        (&json!("stop"), &json!("repetition_detected"))
    );
    assert_eq!(record["usage"]["completion_tokens"], 7);
}
