//! Models of a user's own, in Xinference's form.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::PathBuf;

use glimmer_catalogue::{Catalogue, Format, HubKind};
use tempfile::TempDir;

const NEW: &str = r#"{
  "version": 2, "model_name": "our-glm", "context_length": 131072, "model_lang": ["en", "zh"],
  "model_ability": ["chat", "tools"], "model_description": "GLM-4 that knows our products \u7684.",
  "model_family": "glm4-chat", "stop_token_ids": [151329], "chat_template": "{{ messages }}",
  "model_specs": [
    {"model_format": "pytorch", "model_size_in_billions": 9, "model_src": {
      "huggingface": {"quantizations": ["none"], "model_id": "us/our-glm", "model_revision": "main"},
      "openmind_hub": {"quantizations": ["none"], "model_id": "us/our-glm"}}},
    {"model_format": "ggufv2", "model_size_in_billions": 9, "model_src": {
      "modelscope": {"quantizations": ["Q4_K_M"], "model_id": "us/our-glm-gguf",
                     "model_file_name_template": "our-{quantization}.gguf"}}}]}"#;

const OLD: &str = r#"[{
  "version": 1, "model_name": "our-edge", "model_lang": ["zh"], "model_ability": ["chat"],
  "model_specs": [
    {"model_format": "pytorch", "model_size_in_billions": "1_5", "quantizations": ["4-bit", "none"],
     "model_id": "us/edge", "model_uri": "file:///models/edge"},
    {"model_format": "ggufv2", "model_size_in_billions": 4, "quantizations": ["q4_0"], "model_hub": "modelscope",
     "model_id": "us/edge-4", "model_file_name_template": "e.{quantization}.gguf"}]}]"#;

fn file(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("models.json");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

#[test]
fn models_of_both_forms_join_the_published_ones() {
    let (folder, _) = file(NEW);
    std::fs::write(folder.path().join("old.json"), OLD).unwrap();
    std::fs::write(folder.path().join("notes.txt"), "no JSON").unwrap();
    let catalogue = Catalogue::with(&[folder.path().to_owned()]).unwrap();
    assert_eq!(catalogue.entries().len(), Catalogue::published().entries().len() + 2);

    let member = catalogue.member("Our-GLM:q4_k_m").unwrap();
    assert_eq!((member.entry.family.as_str(), member.entry.context), ("glm-4", Some(131_072)));
    assert_eq!(member.entry.chat_format.as_deref(), Some("glm-4"));
    let published = member.published.unwrap();
    assert_eq!((published.format, published.repositories[0].hub), (Format::Ggufv2, HubKind::ModelScope));
    assert_eq!(published.file("Q4_K_M").unwrap(), "our-Q4_K_M.gguf");
    // Its shape is that of the published model of its family.
    let (like, shape) = catalogue.shape(member.model.unwrap()).unwrap();
    assert_eq!((like, shape.layers), ("glm-4-9b-chat", 40));

    let member = catalogue.member("our-edge:1.5b").unwrap();
    let published = member.published.unwrap();
    assert_eq!(published.uri.as_deref(), Some("file:///models/edge"));
    assert_eq!(published.quantizations, ["4-bit", "none"]);
    assert_eq!(catalogue.member("our-edge-4b").unwrap().entry.name, "our-edge");
    assert!(catalogue.shape(member.model.unwrap()).is_none());
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let without = |part: &str| NEW.replace(part, "\"x\": 0");
    for (text, expected) in [
        ("", "EOF"),
        ("{", "line 1"),
        ("[1]", "model 1: an object"),
        ("{}", "model 1: missing field `model_name`"),
        (&format!("[{NEW}, {NEW}]"), "model 2: the name our-glm is taken; choose another"),
        (&NEW.replace("our-glm\"", "glm-4-9b-chat\""), "the name glm-4-9b-chat is taken"),
        (&NEW.replace("\"our-glm\"", "\"a\\u001bb\""), "model_name is empty, longer"),
        (&without("\"model_format\": \"pytorch\""), "model 1, model_specs[0]: missing field `model_format`"),
        (&NEW.replace("ggufv2", "exe"), "model 1, model_specs[1]: unknown variant `exe`"),
        (
            &NEW.replace(
                "\"model_size_in_billions\": 9, \"model_src\": {\n      \"h",
                "\"model_size_in_billions\": [], \"model_src\": {\n      \"h",
            ),
            "model_specs[0]: a size is",
        ),
        (
            &NEW.replace("\"us/our-glm-gguf\"", "7"),
            "model 1, model_specs[1], model_src.modelscope: invalid type",
        ),
        (&NEW.replace("131072", "-1"), "model 1: invalid number"),
        (&format!("[{}]", vec!["{}"; 1001].join(",")), "more than 1000 models; leave some out"),
        (&format!("[{}0]", "0,".repeat(1 << 20)), "too many small values"),
    ] {
        let (_folder, path) = file(text);
        let error = Catalogue::with(&[path]).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("models.json"), "{error}\n(expected {expected})");
        assert!(!error.contains(['\n', '\u{1b}']) && error.chars().count() <= 300, "{error}");
    }
    let nowhere = PathBuf::from("nowhere/models.json");
    let error = Catalogue::with(&[nowhere]).unwrap_err().to_string();
    assert_eq!(error, "nowhere/models.json: no such file or directory");
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.json");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    if made.is_ok_and(|status| status.success()) {
        assert!(Catalogue::with(&[pipe]).unwrap_err().to_string().contains("not a regular file"));
    }
}
