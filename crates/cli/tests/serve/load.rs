//! Many at once: each answer is what it would be alone, and nothing is left behind.

use std::io::{BufReader, Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::client::{Response, Server, events, text_of};

/// A request and whether its client stays for the answer.
struct Asked {
    path: &'static str,
    body: String,
    stays: bool,
}

/// 64 requests of every kind.
fn requests() -> Vec<Asked> {
    let questions = ["Hello!", "3 + 4?", "What can you do?", "你好", "How do I serve a model?", "再见"];
    (0..64)
        .map(|at| {
            let question = questions[at % questions.len()];
            let warm = if at % 2 == 0 { 0.0 } else { 1.0 };
            let messages = json!([{"role": "user", "content": question}]);
            let mut stays = true;
            let (path, body) = match at % 8 {
                0 => ("/v1/chat/completions", json!({"messages": messages, "temperature": warm, "seed": at})),
                1 => ("/v1/chat/completions", json!({
                    "messages": messages, "temperature": warm, "seed": at, "n": 3, "max_tokens": 20
                })),
                2 => ("/v1/chat/completions", json!({
                    "messages": messages, "stream": true, "temperature": 0.7, "seed": at, "logprobs": true,
                    "top_logprobs": 2, "stream_options": {"include_usage": true}
                })),
                3 => ("/v1/completions", json!({
                    "prompt": [question, "x", [5, 6, 7, 8]], "max_tokens": 30, "temperature": warm, "seed": at,
                    "frequency_penalty": 0.5, "ignore_eos": true
                })),
                4 => {
                    stays = false;
                    ("/v1/completions", json!({"prompt": "x", "stream": true, "max_tokens": 1500, "ignore_eos": true}))
                }
                5 => ("/v1/completions", json!({"prompt": "word ".repeat(20_000)})),
                6 => ("/v1/chat/completions", json!({"messages": messages, "temperature": "hot"})),
                _ => ("/chat-stream", json!({"prompt": question, "temperature": 0, "history": [["a", "b"]]})),
            };
            Asked { path, body: body.to_string(), stays }
        })
        .collect()
}

/// What of a response must not depend on when it was made.
fn essence(response: &Response) -> Vec<Value> {
    fn strip(mut value: Value) -> Value {
        if let Some(fields) = value.as_object_mut() {
            for name in ["id", "created"] {
                fields.shift_remove(name);
            }
            if let Some(usage) = fields.get_mut("usage").and_then(Value::as_object_mut) {
                usage.shift_remove("prompt_tokens_details");
                // What is guessed is a matter of time, too.
                let details = usage.get_mut("completion_tokens_details").and_then(Value::as_object_mut);
                if let Some(details) = details {
                    details.shift_remove("accepted_prediction_tokens");
                    details.shift_remove("rejected_prediction_tokens");
                }
            }
        }
        value
    }
    let mut essence = vec![json!(response.status)];
    if response.header("content-type") == Some("text/event-stream") {
        let data = events(&response.text());
        essence.extend(data.iter().map(|data| strip(serde_json::from_str(data).unwrap_or(json!(data)))));
    } else {
        essence.push(strip(response.json()));
    }
    // Which of several answers in a stream is first to speak is a matter of time; here there is one.
    essence
}

#[test]
fn answers_do_not_depend_on_company() {
    let server = Server::start(&["--parallel", "16", "--cache-tokens", "20000"]);
    let requests = requests();
    let alone: Vec<Option<Vec<Value>>> = requests
        .iter()
        .map(|asked| asked.stays.then(|| essence(&server.request("POST", asked.path, &[], &asked.body))))
        .collect();
    let differs = AtomicUsize::new(0);
    for _ in 0..2 {
        std::thread::scope(|scope| {
            for (asked, alone) in requests.iter().zip(&alone) {
                let (server, differs) = (&server, &differs);
                scope.spawn(move || {
                    let mut stream = server.send("POST", asked.path, &[], &asked.body);
                    let Some(alone) = alone else {
                        stream.read_exact(&mut [0; 700]).unwrap();
                        return;
                    };
                    let company = essence(&Response::read(&mut BufReader::new(stream)));
                    if company != *alone {
                        differs.fetch_add(1, Ordering::Relaxed);
                        eprintln!("{} {}\nalone {alone:?}\nin company {company:?}", asked.path, asked.body);
                    }
                });
            }
        });
    }
    assert_eq!(differs.into_inner(), 0);
    server.rest();
}

#[test]
fn memory_stays_flat() {
    let count = std::env::var("SMALL_REQUESTS").map_or(1500, |count| count.parse().unwrap());
    let server = Server::start(&["--parallel", "8"]);
    let resident = || {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.map_or(0, |line| line.trim().trim_end_matches(" kB").parse::<u64>().unwrap())
    };
    let run = |count: usize| {
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let server = &server;
                scope.spawn(move || {
                    let mut stream = BufReader::new(server.connect());
                    for at in 0..count / 4 {
                        let body = json!({
                            "prompt": format!("{thread} {at}"), "max_tokens": 3, "stream": at % 2 == 0, "ignore_eos": true
                        });
                        let text = text_of("POST", "/v1/completions", &[], &body.to_string(), "keep-alive");
                        stream.get_mut().write_all(text.as_bytes()).unwrap();
                        assert_eq!(Response::read(&mut stream).status, 200);
                    }
                });
            }
        });
    };
    run(count / 3);
    let before = resident();
    run(count);
    let after = resident();
    println!("{before} KiB resident before {count} requests, {after} KiB after");
    assert!(after <= before + 4096, "{before} KiB before {count} requests, {after} KiB after");
    server.rest();
}
