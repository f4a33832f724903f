//! Adapters that requests name as models: from the command line, loaded and let go of while the model is served.

use glimmer_models::names::TensorNaming;
use glimmer_models::{LowRank, LowRankAdapter, PeftSettings, WeightAddress, WeightRole, understand};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::Server;
use crate::support::fixture;

const BASE: &str = "lm-eval";

/// An adapter of the base that changes what it says.
fn adapter(seed: usize) -> TempDir {
    let checkpoint = glimmer_checkpoint::Checkpoint::open(&fixture(BASE)).unwrap();
    let spec = understand(&checkpoint, None).unwrap().spec;
    let numbers = |len: usize, seed: usize| {
        (0..len).map(|i| ((i * 7919 + seed * 31) % 199) as f32 / 99.5 - 1.0).collect()
    };
    let pair = |layer: usize| {
        let address = WeightAddress { layer: Some(layer), role: WeightRole::FfnDown };
        let (a, b) = (numbers(2 * 160, seed + layer), numbers(64 * 2, seed + 2 * layer));
        (address, LowRank { rank: 2, a, b, scale: 0.5, magnitude: None })
    };
    let adapter = LowRankAdapter { pairs: (0..3).map(pair).collect() };
    let directory = tempfile::tempdir().unwrap();
    let settings =
        PeftSettings { naming: TensorNaming::Hf, base: BASE.to_owned(), dropout: 0.0, use_rslora: false };
    adapter.write(directory.path(), &spec, &settings).unwrap();
    directory
}

fn question(model: &str) -> Value {
    json!({
        "model": model, "prompt": "Once upon a time", "max_tokens": 16, "temperature": 0, "logprobs": 0,
        "ignore_eos": true,
    })
}

/// What an answer is made of.
fn answer(server: &Server, model: &str) -> Value {
    let answer = server.ask("/v1/completions", &question(model));
    assert_eq!(answer["model"], model);
    answer["choices"][0].clone()
}

fn ids(server: &Server) -> Vec<String> {
    let all = server.get("/v1/models").json();
    all["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn adapters_are_models_by_name() {
    let (one, two) = (adapter(1), adapter(2));
    let flag = |name: &str, at: &TempDir| format!("{name}={}", at.path().display());
    let base = fixture(BASE);
    let flags = [base.to_str().unwrap(), "--lora", &flag("one", &one), "--lora", &flag("two", &two)];
    let server = Server::start(&flags);
    assert_eq!(ids(&server), [BASE, "one", "two"]);
    let shown = server.get("/v1/models/two").json();
    assert_eq!((&shown["parent"], &shown["object"]), (&json!(BASE), &json!("model")));
    assert_eq!(shown["root"], two.path().to_str().unwrap());
    let alone = [BASE, "one", "two"].map(|model| answer(&server, model));
    assert!(alone[0] != alone[1] && alone[1] != alone[2] && alone[0] != alone[2]);
    std::thread::scope(|scope| {
        let asks: Vec<_> = (0..12)
            .map(|i| {
                let (server, alone) = (&server, &alone);
                scope.spawn(move || assert_eq!(answer(server, [BASE, "one", "two"][i % 3]), alone[i % 3]))
            })
            .collect();
        asks.into_iter().for_each(|ask| ask.join().unwrap());
    });
    // Nobody may name a file of this machine unless the operator lets clients launch.
    let load = json!({"lora_name": "three", "lora_path": one.path()});
    let refused = server.refused("/v1/load_lora_adapter", &load, 403);
    assert_eq!(refused["code"], "launching_disabled");
    server.refused("/v1/unload_lora_adapter", &json!({"lora_name": "one"}), 403);
}

#[test]
fn adapters_come_and_go_while_a_model_is_served() {
    let (one, two) = (adapter(1), adapter(2));
    let server = Server::start(&[fixture(BASE).to_str().unwrap(), "--launch"]);
    let base = answer(&server, BASE);
    let load = |name: &str, at: &TempDir, more: Value| {
        let mut body = json!({"lora_name": name, "lora_path": at.path()});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let path = "/v1/load_lora_adapter";
    let loaded = server.post(path, &load("sql", &one, json!({})));
    assert_eq!(
        (loaded.status, loaded.text().as_str()),
        (200, "Success: LoRA adapter 'sql' added successfully.")
    );
    let first = answer(&server, "sql");
    assert_ne!(first, base);
    let again = server.refused(path, &load("sql", &two, json!({})), 400);
    assert!(again["message"].as_str().unwrap().contains("load_inplace"), "{again}");
    assert_eq!(answer(&server, "sql"), first);
    assert_eq!(server.post(path, &load("sql", &two, json!({"load_inplace": true}))).status, 200);
    assert_ne!(answer(&server, "sql"), first);
    // What cannot be had is named, and changes nothing.
    for (name, body, words) in [
        ("a model's name", load(BASE, &one, json!({})), "already"),
        (
            "no adapter",
            json!({"lora_name": "x", "lora_path": fixture("text2vec-bert")}),
            "adapter_config.json",
        ),
        (
            "another model's",
            json!({"lora_name": "x", "lora_path": fixture("lora-glm4-9b-orig")}),
            "query_key_value",
        ),
    ] {
        let refused = server.refused(path, &body, 400);
        assert!(refused["message"].as_str().unwrap().contains(words), "{name}: {refused}");
    }
    server.refused(path, &load("x", &one, json!({"base_model_name": "nobody"})), 404);
    server.refused(path, &json!({"lora_name": "x"}), 400);
    assert_eq!(ids(&server), [BASE, "sql"]);
    let gone = server.post("/v1/unload_lora_adapter", &json!({"lora_name": "sql"}));
    assert_eq!(
        (gone.status, gone.text().as_str()),
        (200, "Success: LoRA adapter 'sql' removed successfully.")
    );
    server.refused("/v1/unload_lora_adapter", &json!({"lora_name": "sql"}), 404);
    server.refused("/v1/completions", &question("sql"), 404);
    assert_eq!(ids(&server), [BASE]);
    assert_eq!(answer(&server, BASE), base);
}

#[test]
fn bad_adapters_stop_a_server_before_it_serves() {
    let base = fixture(BASE);
    let base = base.to_str().unwrap();
    let other = format!("x={}", fixture("lora-glm4-9b-orig").display());
    let ran = crate::support::run(["serve", base, "-p", "0", "--lora", &other].map(Into::into));
    ran.fails_saying(&["query_key_value", "lora"]);
    let ran = crate::support::run(["serve", base, "-p", "0", "--lora", "nameless"].map(Into::into));
    ran.refuses_usage(&["--lora", "="]);
}
