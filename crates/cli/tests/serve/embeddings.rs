//! Vectors over HTTP, against transformers'.

use serde_json::{Value, json};

use crate::client::Server;
use crate::support::{Stored, distance, fixture};

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

#[test]
fn vectors_are_the_references() {
    let dir = fixture("text2vec-bert");
    let server = Server::start(&["--embedding-model", dir.to_str().unwrap()]);
    let text = std::fs::read_to_string(dir.join("texts.json")).unwrap();
    let texts: Vec<String> = serde_json::from_str(&text).unwrap();
    let stored = Stored::open(&dir.join("expected.safetensors"));
    let width = stored.shape("batch.embeddings")[1];
    let expected: Vec<Vec<f32>> =
        stored.f32("batch.embeddings").chunks_exact(width).map(<[f32]>::to_vec).collect();

    // The GLM API cuts long texts, as the reference did.
    let answer = server.ask("/embedding", &json!({"prompt": texts}));
    assert_eq!(answer["model"], "text2vec-large-chinese");
    assert_eq!(answer["object"], "embedding");
    for (found, expected) in answer["data"].as_array().unwrap().iter().zip(&expected) {
        assert!(distance(&floats(found), expected) <= 1e-5);
    }
    let short: Vec<&String> = texts.iter().filter(|text| text.chars().count() < 60).collect();
    let answer = server.ask("/v1/embeddings", &json!({"model": "text2vec-bert", "input": short}));
    assert_eq!(answer["data"].as_array().unwrap().len(), short.len());
    for (at, entry) in answer["data"].as_array().unwrap().iter().enumerate() {
        assert_eq!(entry["index"], at);
        assert!(distance(&floats(&entry["embedding"]), &expected[at]) <= 1e-5);
    }
    assert_eq!(answer["usage"]["prompt_tokens"], answer["usage"]["total_tokens"]);
    let first = server.ask("/v1/embeddings", &json!({"input": texts[0]}))["data"][0]["embedding"].clone();
    assert_eq!(first, answer["data"][0]["embedding"]);
    // Every model has this prompt, empty where its files say nothing.
    let query = server.ask("/v1/embeddings", &json!({"input": texts[0], "prompt_name": "query"}));
    assert_eq!(first, query["data"][0]["embedding"]);
    let coded = server.ask("/v1/embeddings", &json!({"input": texts[0], "encoding_format": "base64"}));
    let coded = coded["data"][0]["embedding"].as_str().unwrap().to_owned();
    assert_eq!(coded.len(), (width * 4).div_ceil(3) * 4);

    // Long texts are cut where that is asked for, as vLLM has it; kinds of input mean nothing to these models.
    let cut = json!({"input": texts.last().unwrap(), "truncate_prompt_tokens": -1, "input_type": "query"});
    let cut = server.ask("/v1/embeddings", &cut)["data"][0]["embedding"].clone();
    assert!(distance(&floats(&cut), expected.last().unwrap()) <= 1e-5);
    let few = server.ask("/v1/embeddings", &json!({"input": texts[0], "truncate_prompt_tokens": 3}));
    assert_eq!(few["usage"]["prompt_tokens"], 3);

    let refused = |body: Value| server.refused("/v1/embeddings", &body, 400);
    assert_eq!(refused(json!({"input": texts.last().unwrap()}))["code"], "context_length_exceeded");
    assert_eq!(refused(json!({"input": "x", "dimensions": 3}))["param"], "dimensions");
    assert_eq!(refused(json!({"input": "x", "model": "demo"}))["param"], "model");
    assert_eq!(
        refused(json!({"input": "x", "truncate_prompt_tokens": 0}))["param"],
        "truncate_prompt_tokens"
    );
    assert_eq!(refused(json!({"input": "x", "prompt_name": "other"}))["param"], "prompt_name");
    refused(json!({"input": []}));
    refused(json!({"input": [[]]}));
    refused(json!({"input": [99_999]}));
    let error = server.refused("/v1/embeddings", &json!({"input": "x", "model": "other"}), 404);
    assert_eq!(error["code"], "model_not_found");
    assert_eq!(server.get("/v1/models/text2vec-bert").json()["meta"]["n_embd"], width);
}
