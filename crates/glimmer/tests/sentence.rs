//! Encoders against sentence-transformers: every kind of modules, settings and prompts, with files of its old releases and
//! of 6.2.0 (`tests/data/sentence`, which `tools/make_sentence_vectors.py` makes).
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use glimmer::Embedder;
use safetensors::SafeTensors;
use serde_json::{Value, json};

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/sentence")
}

fn json_of<T: serde::de::DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&fs::read(data().join(name)).unwrap()).unwrap()
}

/// Copies a directory into another, over what is there.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(from, to).unwrap();
        }
    }
}

/// A model of this kind: the shared transformer, and what is the kind's own.
fn model(kind: &str) -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    let own = data().join(kind);
    let folder = if own.join("0_Transformer").exists() { "0_Transformer" } else { "" };
    copy(&data().join("bert"), &place.path().join(folder));
    copy(&own, place.path());
    place
}

/// The vectors of all texts, those too long cut as sentence-transformers cuts them.
fn vectors(embedder: &Embedder, texts: &[String], prompt: Option<&str>) -> Vec<Vec<f32>> {
    let encode = |text: &String| {
        let mut text = embedder.encode(text, prompt).unwrap();
        text.cut(embedder.max_tokens());
        text
    };
    embedder.embed_encoded(&texts.iter().map(encode).collect::<Vec<_>>()).unwrap()
}

#[test]
fn vectors_of_every_kind_are_those_of_sentence_transformers() {
    let texts: Vec<String> = json_of("texts.json");
    let limits: BTreeMap<String, usize> = json_of("limits.json");
    let stored = fs::read(data().join("expected.safetensors")).unwrap();
    let stored = SafeTensors::deserialize(&stored).unwrap();
    let mut kinds = 0;
    for name in stored.names() {
        let (kind, prompt) = name.split_once('.').map_or((name, None), |(kind, prompt)| (kind, Some(prompt)));
        let place = model(kind);
        let embedder = Embedder::open(place.path()).unwrap();
        assert_eq!(embedder.max_tokens(), limits[kind], "{name}");
        let expected = stored.tensor(name).unwrap();
        assert_eq!(expected.shape(), [texts.len(), embedder.width()], "{name}");
        let expected = expected.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        let found = vectors(&embedder, &texts, prompt);
        for (at, (found, expected)) in found.iter().flatten().zip(expected).enumerate() {
            let (text, element) = (at / embedder.width(), at % embedder.width());
            assert!(
                (found - expected).abs() <= 1e-5,
                "{name}: text {text}, element {element}: {found} {expected}"
            );
        }
        kinds += 1;
    }
    assert!(kinds >= 22, "{kinds} stored sets of vectors");
}

#[test]
fn a_text_too_long_for_max_seq_length_is_refused_and_an_unknown_prompt_too() {
    let place = model("old_short");
    let embedder = Embedder::open(place.path()).unwrap();
    let error = embedder.embed(&["a", "a a a a a a"]).unwrap_err().to_string();
    assert_eq!(error, "text 1 has 8 tokens, the encoder takes 7");
    let error = embedder.encode("a", Some("x\n")).unwrap_err().to_string();
    assert_eq!(error, r#"the model has no prompt called "x\n"; it has document, query"#);
}

/// The message that opening ends with when a file of a model says this instead.
fn refused(kind: &str, file: &str, content: &Value) -> String {
    let place = model(kind);
    let file = place.path().join(file);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, content.to_string()).unwrap();
    let message = Embedder::open(place.path()).err().unwrap().to_string();
    assert!(!message.contains(|c: char| c.is_control()) && message.chars().count() <= 300 + 80, "{message}");
    message
}

/// `modules.json` of the modules after the transformer.
fn modules(types: &[&str]) -> Value {
    let class = |name: &str| {
        if name.contains('.') { name.to_owned() } else { format!("sentence_transformers.models.{name}") }
    };
    let module = |(i, name): (usize, &&str)| json!({"path": format!("{i}_{name}"), "type": class(name)});
    let rest = types.iter().enumerate().map(|(i, name)| module((i + 1, name)));
    let first = json!({"path": "", "type": class("Transformer")});
    std::iter::once(first).chain(rest).collect()
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    for (types, named) in [
        (&["Pooling", "LSTM"][..], "sentence_transformers.models.LSTM"),
        (&["Pooling", "Pooling"], "module 2"),
        (&["WordEmbeddings"], "sentence_transformers.models.WordEmbeddings"),
        (&["Normalize", "Pooling"], "module 1"),
        (&["Pooling", "modeling_own.Normalize"], "modeling_own.Normalize"),
        (&["Pooling", "x\u{1b}[31m.y"], r"x\u{1b}[31m.y"),
        (&[], "a Transformer and a Pooling are needed"),
    ] {
        let message = refused("old_cls", "modules.json", &modules(types));
        assert!(message.contains("modules.json: ") && message.contains(named), "{message}");
    }
    for path in ["../1_Pooling", "/1_Pooling", "a/../../b"] {
        let mut list = modules(&["Pooling"]);
        list[1]["path"] = path.into();
        assert!(refused("old_cls", "modules.json", &list).contains("leads elsewhere"));
    }
    for (kind, file, content, named) in [
        ("old_cls", "1_Pooling/config.json", json!({"pooling_mode": "median"}), r#"pooling_mode "median""#),
        ("old_cls", "1_Pooling/config.json", json!({"pooling_mode": []}), "pooling_mode names none"),
        ("old_cls", "1_Pooling/config.json", json!({"pooling_mode": ["cls", "cls"]}), "twice"),
        ("old_cls", "1_Pooling/config.json", json!({"pooling_mode_median": true}), "pooling_mode_median"),
        ("old_cls", "1_Pooling/config.json", json!({"embedding_dimension": 17}), "17"),
        ("old_cls", "1_Pooling/config.json", json!([]), "a JSON object"),
        ("old_cls", "modules.json", json!({}), "a JSON array"),
        ("old_cls", "modules.json", json!([1, 2]), "no type"),
        ("old_cls", "sentence_bert_config.json", json!({"max_seq_length": 0}), "\"0\""),
        ("old_cls", "sentence_bert_config.json", json!({"max_seq_length": "x"}), "x"),
        ("old_cls", "sentence_bert_config.json", json!({"query_length": 32}), "query_length"),
        (
            "old_cls",
            "sentence_bert_config.json",
            json!({"transformer_task": "fill-mask"}),
            "transformer_task",
        ),
        (
            "old_cls",
            "config_sentence_transformers.json",
            json!({"model_type": "SparseEncoder"}),
            "SparseEncoder",
        ),
        ("old_cls", "config_sentence_transformers.json", json!({"default_prompt_name": "p"}), "\"p\""),
        ("old_cls", "config_sentence_transformers.json", json!({"prompts": {"p": 1}}), "\"p\""),
        (
            "old_dense",
            "2_Dense/config.json",
            json!({"in_features": 0, "out_features": 12}),
            "in_features is 0",
        ),
        (
            "old_dense",
            "2_Dense/config.json",
            json!({"in_features": 16, "out_features": 1u64 << 40}),
            "linear.weight",
        ),
        ("old_dense", "2_Dense/config.json", json!({"out_features": 12}), "in_features"),
        (
            "old_dense",
            "2_Dense/config.json",
            json!({"in_features": 16, "out_features": 12, "activation_function": "torch.nn.Softmax"}),
            "torch.nn.Softmax",
        ),
        (
            "old_dense",
            "2_Dense/config.json",
            json!({"in_features": 16, "out_features": 12, "module_input_name": "token_embeddings"}),
            "token_embeddings",
        ),
        ("old_dense", "1_Pooling/config.json", json!({"pooling_mode": ["cls", "mean"]}), "vectors of 32"),
        ("old_dense", "3_Normalize/config.json", json!({"module_input_name": "x"}), "a Normalize of"),
    ] {
        let message = refused(kind, file, &content);
        assert!(message.contains(named), "{file} {content}: {message}");
    }
}
