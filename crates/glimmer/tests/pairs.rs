//! Rerankers against sentence-transformers' CrossEncoder: every way in which its files name an activation and a limit, old
//! ones and those of 6.2.0 (`tests/data/pairs`, which `tools/make_pair_scores.py` makes).
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use glimmer::{Embedder, EncodedPair, ModelFiles, ModelKind, Overrides, Reranker};
use serde::Deserialize;
use serde_json::{Value, json};

/// What CrossEncoder makes of all pairs.
#[derive(Deserialize)]
struct Expected {
    max_tokens: usize,
    scores: Vec<f32>,
    raw: Vec<f32>,
    ids: Vec<Vec<u32>>,
}

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/pairs")
}

fn json_of<T: serde::de::DeserializeOwned>(path: &Path) -> T {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn pairs() -> Vec<[String; 2]> {
    json_of(&data().join("pairs.json"))
}

/// A model of this kind: the files that all share, and its own over them.
fn model(kind: &str) -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    let own = data().join(kind);
    for directory in [data().join("head"), own.clone()] {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, place.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    if own.join("pytorch_model.bin").exists() {
        fs::remove_file(place.path().join("model.safetensors")).unwrap();
    }
    place
}

fn encoded(reranker: &Reranker) -> Vec<EncodedPair> {
    let encode = |[first, second]: [String; 2]| {
        reranker.pair(&reranker.encode(&first), &reranker.encode(&second), reranker.max_tokens())
    };
    pairs().into_iter().map(encode).collect()
}

#[test]
fn scores_are_those_of_cross_encoder() {
    let expected: BTreeMap<String, Expected> = json_of(&data().join("scores.json"));
    assert_eq!(expected.len(), 7);
    for (kind, expected) in expected {
        let place = model(&kind);
        let kind_of_files = ModelFiles::new(place.path(), Overrides::default()).kind();
        assert_eq!(kind_of_files, ModelKind::Scores, "{kind}");
        let reranker = Reranker::open(place.path()).unwrap();
        assert_eq!(reranker.max_tokens(), expected.max_tokens, "{kind}");
        let pairs = encoded(&reranker);
        assert!(pairs.iter().map(|pair| &pair.ids).eq(&expected.ids), "{kind}: the ids are others");
        let raw = reranker.scores(&pairs).unwrap();
        for (at, raw) in raw.into_iter().enumerate() {
            let score = reranker.activate(raw);
            let (other, other_raw) = (expected.scores[at], expected.raw[at]);
            assert!((score - other).abs() <= 1e-5, "{kind}: pair {at}: {score} {other}");
            assert!(
                (raw - other_raw).abs() <= 1e-5,
                "{kind}: pair {at}: {raw} {other_raw} without activation"
            );
        }
    }
}

#[test]
fn a_score_has_the_same_bits_alone_and_in_any_company() {
    let place = model("head");
    let reranker = Reranker::open(place.path()).unwrap();
    let pairs = encoded(&reranker);
    let alone: Vec<f32> =
        pairs.iter().map(|pair| reranker.scores(std::slice::from_ref(pair)).unwrap()[0]).collect();
    // Enough for several batches, in another order.
    let many: Vec<EncodedPair> = (0..200).map(|i| pairs[i * 5 % pairs.len()].clone()).collect();
    for (i, found) in reranker.scores(&many).unwrap().into_iter().enumerate() {
        assert_eq!(found.to_bits(), alone[i * 5 % pairs.len()].to_bits());
    }
    let [query, document] = &crate::pairs()[0];
    let ranked = reranker.rank(query, &[document, "", query]).unwrap();
    assert_eq!(ranked[0], reranker.activate(alone[0]));
    assert!(reranker.rank(query, &[]).unwrap().is_empty());
}

#[test]
fn the_longer_text_is_cut_first() {
    let place = model("head");
    let reranker = Reranker::open(place.path()).unwrap();
    let lengths = |first: usize, second: usize, most: usize| {
        let pair = reranker.pair(&vec![5; first], &vec![6; second], most);
        assert!(
            pair.ids.len() <= most.max(3) && pair.ids.last() == Some(&3) && pair.ids[pair.second - 1] == 3
        );
        (pair.second - 2, pair.ids.len() - pair.second - 1)
    };
    assert_eq!(lengths(2, 3, 8), (2, 3));
    assert_eq!(lengths(2, 9, 8), (2, 3));
    assert_eq!(lengths(9, 2, 8), (3, 2));
    assert_eq!(lengths(9, 9, 8), (2, 3));
    assert_eq!(lengths(9, 8, 8), (3, 2));
    assert_eq!(lengths(1, 1, 4), (0, 1));
    assert_eq!(lengths(5, 5, 0), (0, 0));
}

/// The message that opening ends with when a file of the model says this instead.
fn refused(kind: &str, file: &str, content: &Value) -> String {
    let place = model(kind);
    fs::write(place.path().join(file), content.to_string()).unwrap();
    let message = Reranker::open(place.path()).err().unwrap().to_string();
    assert!(!message.contains(|c: char| c.is_control()) && message.chars().count() <= 300 + 80, "{message}");
    message
}

#[test]
fn what_would_be_computed_otherwise_is_refused_by_name() {
    let config = |key: &str, value: Value| {
        let mut config: Value = json_of(&data().join("head/config.json"));
        config[key] = value;
        refused("head", "config.json", &config)
    };
    assert!(config("id2label", json!({"0": "a", "1": "b", "2": "c"})).contains("3 labels"));
    assert!(config("id2label", Value::Null).contains("2 labels"));
    assert!(config("model_type", json!("xlm-roberta")).contains("xlm-roberta"));
    assert!(config("type_vocab_size", json!(0)).contains("type_vocab_size"));
    let softmax = json!({"activation_fn": "torch.nn.modules.activation.Softmax\n"});
    assert!(config("sentence_transformers", softmax).contains("Softmax\\n"));
    let saved = |file: &str, content: Value| refused("saved", file, &content);
    let prompted = json!({"model_type": "CrossEncoder", "prompts": {"a": "b"}, "default_prompt_name": "a"});
    assert!(saved("config_sentence_transformers.json", prompted).contains("default_prompt_name"));
    let other = json!({"model_type": "SparseEncoder"});
    assert!(saved("config_sentence_transformers.json", other).contains("SparseEncoder"));
    let module = |class: &str| json!({"path": "", "type": format!("sentence_transformers.{class}")});
    assert!(saved("modules.json", json!([module("models.Router")])).contains("Router"));
    let two = json!([module("models.Transformer"), module("models.Dense")]);
    assert!(saved("modules.json", two).contains("2 modules"));
    let states = json!({"transformer_task": "feature-extraction"});
    assert!(saved("sentence_bert_config.json", states).contains("transformer_task"));
}

#[test]
fn vectors_and_scores_are_not_taken_for_each_other() {
    let place = model("head");
    let error = Embedder::open(place.path()).err().unwrap().to_string();
    assert!(error.contains("makes no vectors"), "{error}");
    let encoder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/sentence/bert");
    let error = Reranker::open(encoder.as_path()).err().unwrap().to_string();
    assert!(error.contains("no head") && error.contains("classifier.weight"), "{error}");
}
