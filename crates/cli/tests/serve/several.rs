//! Several models in one server: more than memory has room for, and those that cannot be had.

use std::io::{BufReader, Write};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Response, Server, events};
use crate::support::{fixture, root};

/// A directory with two models: `edge`, a directory in Hugging Face layout, and `small`, a GGUF.
fn shelf() -> TempDir {
    let shelf = tempfile::tempdir().unwrap();
    copy(&fixture("lm-eval"), &shelf.path().join("edge"));
    let demo = root().join("crates/glimmer/assets/demo.gguf");
    std::fs::copy(demo, shelf.path().join("small.gguf")).unwrap();
    // What is no model is none.
    std::fs::create_dir(shelf.path().join("notes")).unwrap();
    std::fs::write(shelf.path().join("README.md"), "models").unwrap();
    shelf
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

fn on(shelf: &TempDir, flags: &[&str]) -> Server {
    Server::start(&[&["--models-dir", shelf.path().to_str().unwrap()], flags].concat())
}

fn question(model: &str, number: usize) -> Value {
    json!({
        "model": model, "prompt": format!("Once upon {number} times"), "max_tokens": 4 + number % 9,
        "temperature": number % 2, "seed": number, "stream": number.is_multiple_of(3), "ignore_eos": true,
    })
}

/// The text of an answer, streamed or not.
fn answer(response: &Response) -> String {
    assert_eq!(response.status, 200, "{}", response.text());
    if response.header("content-type") != Some("text/event-stream") {
        return response.json()["choices"][0]["text"].as_str().unwrap().to_owned();
    }
    let events = events(&response.text());
    assert_eq!(events.last().unwrap(), "[DONE]");
    let chunks = events[..events.len() - 1].iter();
    let text = |chunk: &String| serde_json::from_str::<Value>(chunk).unwrap()["choices"][0]["text"].clone();
    chunks.map(|chunk| text(chunk).as_str().unwrap_or_default().to_owned()).collect()
}

fn ask(server: &Server, body: &Value) -> String {
    answer(&server.post("/v1/completions", body))
}

/// Asks these from eight clients; each answer must be the one that it was alone. Returns what each took.
fn ask_at_once(server: &Server, alone: &[(Value, String)]) -> Vec<Duration> {
    let (next, times) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some((body, alone)) = alone.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let begin = Instant::now();
                    assert_eq!(&ask(server, body), alone, "{body}");
                    times.lock().unwrap().push(begin.elapsed());
                }
            });
        }
    });
    times.into_inner().unwrap()
}

/// A model's entry in `/v1/models`.
fn status(server: &Server, model: &str) -> Value {
    server.get(&format!("/v1/models/{model}")).json()["status"].clone()
}

#[track_caller]
fn until(server: &Server, model: &str, value: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while status(server, model)["value"] != value {
        assert!(Instant::now() < deadline, "{model} is {}", status(server, model));
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a model holds when it is loaded.
fn memory(server: &Server, model: &str) -> u64 {
    server.metric(&format!("glimmer_model_memory_bytes{{model=\"{model}\"}}")) as u64
}

#[test]
fn two_models_under_a_cap_that_holds_one() {
    const REQUESTS: usize = 200;
    let shelf = shelf();
    let (alone, cap) = {
        let server = on(&shelf, &[]);
        let body = |number: usize| question(["edge", "small"][number % 7 % 2], number);
        let alone: Vec<(Value, String)> =
            (0..REQUESTS).map(|number| (body(number), ask(&server, &body(number)))).collect();
        let bytes = ["edge", "small"].map(|model| memory(&server, model));
        // Both at once, in turns at the same threads.
        ask_at_once(&server, &alone);
        (alone, bytes[0].max(bytes[1]) + bytes[0].min(bytes[1]) / 2)
    };
    let server = on(&shelf, &["--memory", &cap.to_string()]);
    let (is_over, most) = (AtomicBool::new(false), Mutex::new(0_f64));
    let mut waits = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let held = server.metric("glimmer_models_memory_bytes");
                let mut most = most.lock().unwrap();
                *most = most.max(held);
            }
        });
        let waits = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ask_at_once(&server, &alone)));
        is_over.store(true, Ordering::Relaxed);
        waits.unwrap()
    });
    waits.sort();
    let loads = ["edge", "small"]
        .map(|model| server.metric(&format!("glimmer_model_loads_total{{model=\"{model}\"}}")));
    let seconds: f64 = ["edge", "small"]
        .iter()
        .map(|model| server.metric(&format!("glimmer_model_load_seconds_total{{model=\"{model}\"}}")))
        .sum();
    let most = most.into_inner().unwrap();
    println!(
        "{loads:?} loads of {:.1} ms; p50 {:?}, p99 {:?}, longest {:?}; at most {most} of {cap} bytes",
        1000.0 * seconds / (loads[0] + loads[1]),
        waits[REQUESTS / 2],
        waits[REQUESTS * 99 / 100],
        waits[REQUESTS - 1],
    );
    assert_eq!(waits.len(), REQUESTS);
    assert!(loads.iter().all(|&loads| loads >= 2.0), "{loads:?}");
    assert!(most > 0.0 && most <= cap as f64, "{most} of {cap}");
    // What was counted before a swap counts.
    let finished = ["edge", "small"]
        .map(|model| server.metric(&format!("glimmer_answers_total{{model=\"{model}\",end=\"length\"}}")));
    assert_eq!(finished.iter().sum::<f64>(), REQUESTS as f64);
}

#[test]
fn models_are_listed_with_where_they_are() {
    let shelf = shelf();
    let server = on(&shelf, &["--keep-alive", "0"]);
    let listed = server.get("/v1/models").json();
    let ids: Vec<&str> =
        listed["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["edge", "small"]);
    assert_eq!(listed["data"][0]["status"], json!({"value": "unloaded"}));
    assert!(listed["data"][0]["created"].as_u64().unwrap() > 1_600_000_000);
    assert_eq!(server.get("/health").status, 200);
    // Who names none means the first.
    let answer = server.ask("/v1/completions", &json!({"prompt": "x", "max_tokens": 2, "ignore_eos": true}));
    assert_eq!(answer["model"], "edge");
    // One that nobody uses goes at once.
    until(&server, "edge", "unloaded");
    let stream = server.send("POST", "/v1/completions", &[], &{
        let long =
            json!({"model": "small", "prompt": "x", "max_tokens": 300, "ignore_eos": true, "stream": true});
        long.to_string()
    });
    until(&server, "small", "loaded");
    let small = server.get("/v1/models/small").json();
    assert!(small["max_model_len"].as_u64().unwrap() > 0 && small["meta"]["n_vocab"].as_u64().unwrap() > 0);
    assert_eq!(Response::read(&mut BufReader::new(stream)).status, 200);
    until(&server, "small", "unloaded");
    assert_eq!(server.metric("glimmer_model_unloads_total{model=\"small\"}"), 1.0);
    // Unknown names are told of at once, with what there is.
    let error = server.refused("/v1/completions", &json!({"model": "smal", "prompt": "x"}), 404);
    assert!(error["message"].as_str().unwrap().ends_with("edge, small"), "{error}");
    // What comes later is found when it is asked for, and what goes is not there.
    std::fs::rename(shelf.path().join("small.gguf"), shelf.path().join("tiny.gguf")).unwrap();
    ask(&server, &question("tiny", 1));
    server.refused("/v1/completions", &json!({"model": "small", "prompt": "x"}), 404);
    assert_eq!(server.log().matches(" loaded ").count(), 3, "{}", server.log());
}

#[test]
fn a_server_without_models_says_so() {
    let empty = tempfile::tempdir().unwrap();
    let server = on(&empty, &[]);
    assert_eq!(server.get("/health").status, 200);
    assert_eq!(server.get("/v1/models").json()["data"], json!([]));
    let messages = json!([{"role": "user", "content": "Hello!"}]);
    for (path, body) in [
        ("/v1/chat/completions", json!({"messages": messages})),
        ("/v1/chat/completions", json!({"messages": messages, "model": "demo"})),
        ("/v1/completions", json!({"prompt": "x"})),
        ("/v1/embeddings", json!({"input": "x"})),
        ("/v1/rerank", json!({"query": "x", "documents": ["y"]})),
        ("/score", json!({"text_1": "x", "text_2": "y"})),
        ("/tokenize", json!({"prompt": "x"})),
        ("/chat", json!({"prompt": "x"})),
        ("/embedding", json!({"prompt": ["x"]})),
        ("/", json!({"prompt": "x"})),
    ] {
        let error = server.refused(path, &body, 404);
        assert_eq!(error["code"], "model_not_found", "{path}");
        assert!(error["message"].as_str().unwrap().contains("no model"), "{error}");
    }
    // Vectors and text from one place.
    copy(&fixture("text2vec-bert"), &empty.path().join("vectors"));
    let answer = server.ask("/v1/embeddings", &json!({"input": "x"}));
    assert_eq!(answer["model"], "vectors");
    assert!(memory(&server, "vectors") > 10_000);
    server.refused("/v1/completions", &json!({"prompt": "x"}), 404);
}

#[test]
fn a_model_that_cannot_be_loaded_says_why() {
    let shelf = shelf();
    let weights = shelf.path().join("edge/model.safetensors");
    let whole = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &whole[..whole.len() / 2]).unwrap();
    let server = on(&shelf, &[]);
    let refused = || server.refused("/v1/completions", &question("edge", 1), 503);
    let error = refused();
    assert_eq!(error["code"], "model_not_loaded");
    assert!(error["message"].as_str().unwrap().contains("safetensors"), "{error}");
    let shown = status(&server, "edge");
    assert_eq!((&shown["value"], &shown["failed"]), (&json!("unloaded"), &json!(true)));
    assert!(error["message"].as_str().unwrap().contains(shown["error"].as_str().unwrap().get(..60).unwrap()));
    // In a pause nobody tries again; who asks is told when.
    std::fs::write(&weights, &whole).unwrap();
    let response = server.post("/v1/completions", &question("edge", 1));
    assert_eq!(response.status, 503);
    let seconds: u64 = response.header("retry-after").unwrap().parse().unwrap();
    assert!(seconds <= 5);
    ask(&server, &question("small", 1));
    std::thread::sleep(Duration::from_secs(seconds + 1));
    ask(&server, &question("edge", 1));
    assert_eq!(server.metric("glimmer_model_load_failures_total{model=\"edge\"}"), 1.0);
    // More than there may be: told, not tried.
    let server = on(&shelf, &["--memory", "1000"]);
    let error = server.refused("/v1/completions", &question("small", 1), 503);
    assert!(error["message"].as_str().unwrap().contains("1000"), "{error}");
}

#[test]
fn files_that_change_while_a_model_is_away() {
    let shelf = shelf();
    let server = on(&shelf, &["--keep-alive", "0"]);
    let before = ask(&server, &question("edge", 2));
    until(&server, "edge", "unloaded");
    // Another model under the same name.
    std::fs::remove_dir_all(shelf.path().join("edge")).unwrap();
    let error = server.refused("/v1/completions", &question("edge", 2), 503);
    assert!(error["message"].as_str().unwrap().contains("no such file"), "{error}");
    let small = ask(&server, &question("small", 2));
    assert_ne!(small, before);
    assert_eq!(server.get("/v1/models/edge").status, 404, "looking forgets it");
    std::fs::rename(shelf.path().join("small.gguf"), shelf.path().join("edge.gguf")).unwrap();
    assert_eq!(ask(&server, &question("edge", 2)), small);
}

#[test]
fn who_leaves_while_a_model_loads_leaves_nothing_behind() {
    let shelf = shelf();
    let server = on(&shelf, &[]);
    for round in 0..10 {
        let mut stream = server.send("POST", "/v1/completions", &[], &question("edge", 1).to_string());
        stream.flush().unwrap();
        std::thread::sleep(Duration::from_millis(round));
        drop(stream);
    }
    ask(&server, &question("edge", 1));
    server.rest();
    assert_eq!(server.metric("glimmer_model_requests_waiting{model=\"edge\"}"), 0.0);
    assert_eq!(server.metric("glimmer_model_loads_total{model=\"edge\"}"), 1.0);
}

#[test]
fn the_end_waits_for_those_who_wait_for_a_model() {
    let shelf = shelf();
    let mut server = on(&shelf, &[]);
    let streams: Vec<_> = ["edge", "small", "edge"]
        .iter()
        .map(|model| server.send("POST", "/v1/completions", &[], &question(model, 3).to_string()))
        .collect();
    let waits = || ["edge", "small"].iter().all(|model| status(&server, model)["value"] != "unloaded");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !waits() {
        assert!(Instant::now() < deadline);
    }
    server.signal("-TERM");
    for stream in streams {
        answer(&Response::read(&mut BufReader::new(stream)));
    }
    assert_eq!(server.end(), 0);
}

#[test]
fn named_models_that_do_not_fit_together_take_turns() {
    let shelf = shelf();
    let (edge, small) = (shelf.path().join("edge"), shelf.path().join("small.gguf"));
    let models = [edge.to_str().unwrap(), small.to_str().unwrap()];
    let server = Server::start(&models);
    assert_eq!(status(&server, "edge")["value"], "loaded");
    assert_eq!(status(&server, "small")["value"], "loaded");
    let cap = memory(&server, "edge").max(memory(&server, "small")).to_string();
    let answers = ["edge", "small"].map(|model| ask(&server, &question(model, 4)));
    drop(server);
    let server = Server::start(&[&models[..], &["--memory", &cap]].concat());
    assert!(server.log().contains("it is loaded when it is asked for"), "{}", server.log());
    assert_eq!(status(&server, "edge")["value"], "loaded");
    let seconds = || server.metric("glimmer_model_seconds_total{model=\"edge\"}");
    let mut before = 0.0;
    for round in 0..3 {
        for (model, alone) in ["small", "edge"].iter().zip([&answers[1], &answers[0]]) {
            assert_eq!(&ask(&server, &question(model, 4)), alone, "{round}");
            assert_eq!(status(&server, model)["value"], "loaded");
            // What was counted before it went counts.
            let now = seconds();
            assert!(now > 0.0 || round == 0);
            assert!(now >= before, "{now} after {before}");
            before = now;
        }
    }
}
