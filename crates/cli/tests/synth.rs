//! `glimmer synth`: what it writes is a model that everything else reads without a warning, the same for the same seed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde_json::Value;
use support::{Ran, Stored, run};

/// The smallest of the published models.
const NAME: &str = "glm-edge-1.5b-chat";

fn synth(out: &Path, flags: &[&str]) -> Ran {
    let mut command = support::glimmer();
    command.args(["-q", "synth", NAME, "-o"]).arg(out).args(flags).output().unwrap().into()
}

fn inspect(model: &Path) -> Value {
    serde_json::from_str(&run(args!["inspect", model, "--json"]).quiet_success()).unwrap()
}

#[test]
fn a_gguf_is_read_without_a_warning_and_answers() {
    let directory = tempfile::tempdir().unwrap();
    let model = directory.path().join("model.gguf");
    synth(&model, &["--type", "Q2_K_M", "--layers", "2"]).quiet_success();

    let report = inspect(&model);
    assert_eq!(report["warnings"], Value::Array(Vec::new()));
    assert_eq!(report["family"], "glm-edge");
    assert_eq!(report["chat_format"], "glm-edge");
    assert_eq!(report["config"]["layers"], 2);
    assert_eq!(report["config"]["head"], "stored");
    assert_eq!(report["tokenizer"]["tokens"], 59_260);
    let ends: Vec<_> = report["stop_ids"].as_array().unwrap().iter().map(|stop| &stop["id"]).collect();
    assert_eq!(ends, [59_246, 59_253, 59_255]);
    let types: Vec<_> = report["types"].as_array().unwrap().iter().map(|t| &t["type"]).collect();
    assert_eq!(types, ["F32", "Q2_K", "Q3_K", "Q4_K", "Q6_K"]);

    // Text becomes ids, ids become logits.
    let ids = run(args!["tokenize", model, "<|user|>\nHello, 世界", "--parse-special"]).quiet_success();
    let out = directory.path().join("logits.safetensors");
    run(args!["logits", model, "--ids", ids.trim(), "-o", out]).quiet_success();
    let logits = Stored::open(&out).f32("logits");
    assert!(logits.iter().all(|logit| logit.is_finite()));
    let mean_square = logits.iter().map(|logit| logit * logit).sum::<f32>() / logits.len() as f32;
    assert!((0.3..3.0).contains(&mean_square.sqrt()), "{mean_square}");
}

#[test]
fn a_directory_has_what_transformers_needs() {
    let directory = tempfile::tempdir().unwrap();
    let model = directory.path().join("model");
    synth(&model, &["--type", "bf16", "--layers", "1"]).quiet_success();
    let report = inspect(&model);
    assert_eq!(report["warnings"], Value::Array(Vec::new()));
    assert_eq!(report["config"]["layers"], 1);
    assert_eq!(report["types"].as_array().unwrap().len(), 1);
    for name in ["generation_config.json", "tokenizer.json", "tokenizer_config.json"] {
        let text = std::fs::read_to_string(model.join(name)).unwrap();
        assert!(serde_json::from_str::<Value>(&text).unwrap().is_object(), "{name}");
    }
    let config: Value = serde_json::from_slice(&std::fs::read(model.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["architectures"][0], "GlmForCausalLM");
    assert_eq!(config["_name_or_path"], "glm-edge-1.5b-chat-random");
    run(args!["run", model, "--ids", "59253,10,500", "--print-ids", "-n", "2", "--ignore-eos"])
        .quiet_success();

    // A model may be replaced, on demand; anything else may not.
    synth(&model, &["--type", "bf16", "--layers", "1"]).fails_saying(&["exists", "--force"]);
    std::fs::remove_file(model.join("config.json")).unwrap();
    synth(&model, &["--type", "bf16", "--layers", "1", "--force"])
        .fails_saying(&["does not look like a model"]);
}

/// NOTICE says whose vocabulary the program carries: what Zhipu AI publishes, token for token. The text of a token is
/// bytes spelt in GPT-2's alphabet (`bytes_to_unicode` of openai/gpt-2's encoder.py).
#[test]
fn the_vocabulary_inside_is_the_published_one() {
    let Some(shared) = support::shared() else { return };
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let others = (0..=u8::MAX).filter(|byte| !printable(byte)).zip('\u{100}'..);
    let bytes: HashMap<char, u8> = (0..=u8::MAX)
        .filter(printable)
        .map(|byte| (char::from(byte), byte))
        .chain(others.map(|(byte, letter)| (letter, byte)))
        .collect();
    let inside = tiktoken::get_encoding("glm4").unwrap();
    for name in ["glm-4-0414", "glm-4.5"] {
        let file = std::fs::read(shared.join("tokenizers").join(name).join("tokenizer.json")).unwrap();
        let published: Value = serde_json::from_slice(&file).unwrap();
        let ranks = published["model"]["vocab"].as_object().unwrap();
        assert_eq!(ranks.len(), 151_329, "{name}");
        let distinct: HashSet<_> = ranks.values().map(|rank| rank.as_u64().unwrap()).collect();
        assert_eq!(distinct.len(), ranks.len(), "{name}");
        for (token, rank) in ranks {
            let token: Vec<u8> = token.chars().map(|letter| bytes[&letter]).collect();
            assert_eq!(inside.decode(&[rank.as_u64().unwrap() as u32]), token, "{name}: {rank}");
        }
        // What follows the ranks inside are special tokens: there is no further one.
        assert_eq!(inside.decode(&[151_329]), b"<|endoftext|>");
    }
}

#[test]
fn bytes_depend_on_the_seed_alone() {
    let directory = tempfile::tempdir().unwrap();
    let model = directory.path().join("model.gguf");
    let made = |flags: &[&str]| {
        let all = [&["--type", "Q2_K", "--layers", "1", "--force"], flags].concat();
        synth(&model, &all).quiet_success();
        std::fs::read(&model).unwrap()
    };
    let first = made(&["--threads", "1"]);
    assert!(first == made(&["--threads", "3"]));
    let other = made(&["--seed", "1"]);
    assert!(first.len() == other.len() && first != other);
    synth(&model, &["--layers", "1"]).fails_saying(&["exists", "--force"]);
}

#[test]
fn what_cannot_be_written_is_refused_before_anything_is() {
    let directory = tempfile::tempdir().unwrap();
    let gguf = directory.path().join("model.gguf");
    synth(&gguf, &["--type", "INT4"]).refuses_usage(&["INT4", "directory"]);
    synth(&gguf, &["--layers", "29"]).refuses_usage(&["29", "28"]);
    run(args!["synth", "glm-4.5-air", "-o", gguf, "--layers", "1"])
        .refuses_usage(&["--layers 1", "no experts"]);
    synth(&gguf, &["--type", "Q9"]).refuses_usage(&["Q9", "Q4_K_M", "IQ4_XS", "INT8"]);
    synth(&directory.path().join("model"), &["--type", "Q4_K_M"]).refuses_usage(&[".gguf"]);
    synth(&directory.path().join("model"), &["--type", "INT8"]).refuses_usage(&["chatglm-6b"]);
    synth(&directory.path().join("none/model.gguf"), &["--layers", "1"]).fails_saying(&["none"]);
    run(args!["synth", "glm-5", "-o", gguf]).refuses_usage(&["glm-5", "glm-4-9b-chat-1m"]);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}
