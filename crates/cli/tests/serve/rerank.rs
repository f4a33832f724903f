//! Scores of pairs over HTTP, against sentence-transformers' CrossEncoder (`crates/glimmer/tests/data/pairs`).

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::client::Server;
use crate::support::{fixture, root};

fn data() -> PathBuf {
    root().join("crates/glimmer/tests/data/pairs")
}

fn json_of(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(data().join(name)).unwrap()).unwrap()
}

/// The demo, an encoder, and the stored cross-encoder as `head`.
fn server() -> Server {
    let (head, encoder) = (data().join("head"), fixture("text2vec-bert"));
    Server::start(&["demo", head.to_str().unwrap(), encoder.to_str().unwrap()])
}

fn assert_close(found: &Value, expected: &Value) {
    let (found, expected) = (found.as_f64().unwrap(), expected.as_f64().unwrap());
    assert!((found - expected).abs() <= 1e-5, "{found} {expected}");
}

#[test]
fn scores_are_those_of_cross_encoder() {
    let server = server();
    let (pairs, expected) = (json_of("pairs.json"), json_of("scores.json")["head"].clone());
    let side =
        |at: usize| -> Vec<Value> { pairs.as_array().unwrap().iter().map(|pair| pair[at].clone()).collect() };
    let (first, second) = (side(0), side(1));
    let tokens: usize =
        expected["ids"].as_array().unwrap().iter().map(|ids| ids.as_array().unwrap().len()).sum();
    for (path, one, other) in [
        ("/score", "text_1", "text_2"),
        ("/v1/score", "queries", "documents"),
        ("/score", "queries", "items"),
        ("/v1/score", "data_1", "data_2"),
    ] {
        let answer = server.ask(path, &json!({"model": "head", one: first, other: second}));
        assert_eq!((&answer["object"], &answer["model"]), (&json!("list"), &json!("head")));
        assert_eq!(answer["usage"], json!({"prompt_tokens": tokens, "total_tokens": tokens}));
        assert_eq!(answer["data"].as_array().unwrap().len(), first.len());
        for (at, entry) in answer["data"].as_array().unwrap().iter().enumerate() {
            assert_eq!((&entry["index"], &entry["object"]), (&json!(at), &json!("score")));
            assert_close(&entry["score"], &expected["scores"][at]);
        }
    }
    // One goes with all, and the head's own numbers are there for those who want them.
    let raw =
        server.ask("/score", &json!({"text_1": first[0], "text_2": [second[0]], "use_activation": false}));
    assert_close(&raw["data"][0]["score"], &expected["raw"][0]);
    let all = server.ask("/score", &json!({"text_1": first[7], "text_2": [second[8], {"text": second[7]}]}));
    assert_close(&all["data"][1]["score"], &expected["scores"][7]);
    // Cut as CrossEncoder cuts that reads no more.
    let short = &json_of("scores.json")["short"];
    let cut = server.ask("/score", &json!({"text_1": first, "text_2": second, "truncate_prompt_tokens": 15}));
    for (entry, expected) in cut["data"].as_array().unwrap().iter().zip(short["scores"].as_array().unwrap()) {
        assert_close(&entry["score"], expected);
    }
}

#[test]
fn documents_are_ranked() {
    let server = server();
    let documents = ["a bird", "one two three", "the moon", "a bird", &"fire ".repeat(100)];
    let query = "the cat sees a red bird";
    let scores = server.ask("/score", &json!({"text_1": query, "text_2": documents}));
    let score = |at: usize| scores["data"][at]["score"].clone();
    let body = json!({"model": "head", "query": query, "documents": documents});
    let answers = ["/rerank", "/v1/rerank", "/v2/rerank"].map(|path| server.ask(path, &body));
    for answer in &answers {
        assert_eq!(answer["results"], answers[0]["results"]);
        assert_eq!((&answer["object"], &answer["model"]), (&json!("list"), &json!("head")));
        assert_eq!(answer["usage"], scores["usage"]);
        assert_eq!(answer["meta"]["tokens"]["input_tokens"], scores["usage"]["prompt_tokens"]);
    }
    let results = answers[0]["results"].as_array().unwrap();
    assert_eq!(results.len(), documents.len());
    for result in results {
        let index = result["index"].as_u64().unwrap() as usize;
        assert_eq!(result["relevance_score"], score(index));
        assert_eq!(result["document"], json!({"text": documents[index]}));
    }
    let order: Vec<f64> = results.iter().map(|result| result["relevance_score"].as_f64().unwrap()).collect();
    assert!(order.is_sorted_by(|a, b| a >= b), "{order:?}");
    // Those that are as good as another stay in their order.
    let place = |index: usize| results.iter().position(|result| result["index"] == index).unwrap();
    assert_eq!(place(3), place(0) + 1);

    let few = json!({
        "query": {"text": query}, "documents": documents.map(|text| json!({"text": text})), "top_n": 2,
        "return_documents": false, "return_len": false, "max_chunks_per_doc": null, "kwargs": "{\"user\": \"x\"}",
        "user": "x", "rank_fields": ["text"], "truncate_prompt_tokens": -1, "max_tokens_per_doc": 4096,
    });
    let few = server.ask("/v1/rerank", &few);
    assert_eq!(few["results"].as_array().unwrap().len(), 2);
    for (found, all) in few["results"].as_array().unwrap().iter().zip(results) {
        let expected = json!({"index": all["index"], "relevance_score": all["relevance_score"]});
        assert_eq!(*found, expected);
    }
    assert_eq!(few["meta"]["tokens"], Value::Null);
    // A document's first tokens, and a query's.
    let cut =
        json!({"query": "a b", "documents": "c d e", "max_tokens_per_query": 1, "max_tokens_per_doc": 2});
    let cut = server.ask("/rerank", &cut);
    let short = server.ask("/rerank", &json!({"query": "a", "documents": ["c d"], "top_n": 0}));
    assert_eq!(cut["results"][0]["relevance_score"], short["results"][0]["relevance_score"]);
    assert_eq!(cut["usage"]["prompt_tokens"], 6);
}

#[test]
fn what_scores_no_pairs_is_refused_by_name() {
    let server = server();
    let pair = |model: &str| json!({"model": model, "query": "a", "documents": ["b"]});
    for (model, does) in [("demo", "writes text"), ("text2vec-bert", "makes vectors")] {
        let error = server.refused("/v1/rerank", &pair(model), 400);
        assert_eq!(error["param"], "model");
        let message = error["message"].as_str().unwrap();
        assert!(
            message.contains(model) && message.contains(does) && message.contains("no head"),
            "{message}"
        );
    }
    server.refused("/v1/rerank", &pair("nobody"), 404);
    let error = server.refused("/v1/embeddings", &json!({"model": "head", "input": "a"}), 400);
    assert!(error["message"].as_str().unwrap().contains("makes no vectors"), "{error}");
    let error = server.refused("/v1/completions", &json!({"model": "head", "prompt": "a"}), 400);
    assert!(error["message"].as_str().unwrap().contains("writes no text"), "{error}");
    // Who names no model means the one that can.
    assert_eq!(server.ask("/rerank", &json!({"query": "a", "documents": "b"}))["model"], "head");
    let shown = server.get("/v1/models/head").json();
    assert_eq!((&shown["model_type"], &shown["model_ability"]), (&json!("rerank"), &json!(["rerank"])));
    assert_eq!(shown["max_model_len"], 48);

    let without = Server::start(&["demo"]);
    let error = without.refused("/score", &json!({"text_1": "a", "text_2": "b"}), 400);
    assert!(error["message"].as_str().unwrap().contains("`demo` writes text"), "{error}");
}

#[test]
fn every_field_is_used_or_refused() {
    let server = server();
    let refused = |field: &str, value: Value| {
        let mut body = json!({"model": "head", "query": "a", "documents": ["b"]});
        body[field] = value;
        server.refused("/v1/rerank", &body, 400)["param"].clone()
    };
    for (field, value) in [
        ("query", Value::Null),
        ("query", json!(["a", "b"])),
        ("query", json!({"image": "a"})),
        ("documents", json!([])),
        ("documents", json!(["b", 5])),
        ("top_n", json!(-1)),
        ("max_chunks_per_doc", json!(10)),
        ("rank_fields", json!(["title"])),
        ("relevant_spans", json!({"mode": "enabled"})),
        ("return_documents", json!("yes")),
        ("truncate_prompt_tokens", json!(3)),
        ("truncation_side", json!("left")),
        ("max_tokens_per_doc", json!(-1)),
        ("use_activation", json!(1)),
        ("priority", json!(1)),
        ("texts", json!(["b"])),
        ("instruction", json!("x")),
        ("kwargs", json!("x")),
    ] {
        let param = refused(field, value.clone());
        assert!(param.as_str().unwrap().starts_with(field), "{field} {value}: {param}");
    }
    assert_eq!(refused("kwargs", json!("{\"instruction\": \"x\"}")), "kwargs.instruction");
    assert_eq!(refused("documents", json!([{"text": "b", "image": "c"}])), "documents.image");
    let many: Vec<String> = (0..2049).map(|at| at.to_string()).collect();
    assert_eq!(refused("documents", json!(many)), "documents");
    let score = |body: Value| server.refused("/score", &body, 400)["param"].clone();
    assert_eq!(score(json!({"text_1": "a"})), "text_2");
    assert_eq!(score(json!({"text_1": ["a", "b"], "text_2": ["c"]})), "text_1");
    assert_eq!(score(json!({"text_1": "a", "text_2": "b", "queries": "c"})), "queries");
    assert_eq!(score(json!({"text_1": "a", "text_2": "b", "top_n": 1})), "top_n");
}

#[test]
fn a_head_of_several_labels_is_not_served() {
    let place = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(data().join("head")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, place.path().join(path.file_name().unwrap())).unwrap();
    }
    let mut config = json_of("head/config.json");
    config["id2label"] = json!({"0": "no", "1": "yes"});
    std::fs::write(place.path().join("config.json"), config.to_string()).unwrap();
    let ran = crate::support::run(["serve".into(), "--port".into(), "0".into(), place.path().into()]);
    ran.fails_saying(&["2 labels", "single label"]);
}
