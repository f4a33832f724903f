//! The files beside a model: what they say, and what becomes of what does not belong there.

#![allow(clippy::unwrap_used, reason = "test code outside a #[test] function")]

use std::path::Path;

use glimmer_config::{Configuration, GgufValues, file};
use serde_json::json;

fn write(directory: &Path, name: &str, content: impl AsRef<[u8]>) {
    std::fs::write(directory.join(name), content).unwrap();
}

/// The error of reading a directory, which is one short line that names the file.
fn refusal(directory: &Path, name: &str) -> String {
    let message = Configuration::read(directory).unwrap_err().to_string();
    assert!(message.contains(name), "{message}");
    assert!(!message.contains('\n') && message.chars().count() < 300, "{message}");
    message
}

fn refused(content: impl AsRef<[u8]>) -> String {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "config.json", content);
    refusal(directory.path(), "config.json")
}

#[test]
fn nothing_says_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let nothing = Configuration::read(directory.path()).unwrap();
    assert!(nothing.config().is_none() && nothing.generation_config().is_none());
    assert_eq!((nothing.stop_ids(), nothing.named_tokens()), (vec![], vec![]));
    assert_eq!(nothing.chat_template().unwrap(), None);
    assert_eq!(nothing.sampling().temperature(), None);
}

#[test]
fn a_file_that_is_no_json_object() {
    for content in [&b"{"[..], b"[]", b"nonsense", b"{\"a\":1}}", b"{\"a\": NaN}"] {
        refused(content);
    }
    assert!(refused(b"[]").contains("a JSON object is expected"));
    assert!(refused(b"").contains("the file is empty; download it again"));
    assert!(refused(b"{\"a\": \"\xff\"}").contains("byte 7 is not UTF-8"));
    refused("[".repeat(100_000));
    refused("{\"\n".repeat(1000));
}

#[test]
fn a_byte_order_mark_is_skipped() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "config.json", b"\xef\xbb\xbf{\"eos_token_id\": 2}");
    write(directory.path(), "chat_template.jinja", b"\xef\xbb\xbf{{ x }}");
    let configuration = Configuration::read(directory.path()).unwrap();
    assert_eq!(configuration.stop_ids(), [2]);
    assert_eq!(configuration.chat_template().unwrap().as_deref(), Some("{{ x }}"));
}

#[test]
fn a_git_lfs_pointer_is_said_to_be_one() {
    let message = refused("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n");
    for words in ["Git LFS pointer", "12345 bytes", "git lfs pull"] {
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn a_file_of_any_size_is_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(directory.path().join("tokenizer_config.json")).unwrap();
    file.set_len(1 << 40).unwrap();
    assert!(refusal(directory.path(), "tokenizer_config.json").contains("1099511627776 bytes"));
    let exact = directory.path().join("exact");
    write(directory.path(), "exact", [b'a'; 8]);
    assert_eq!(file::read_bytes(&exact, 8).unwrap().unwrap().len(), 8);
    assert!(file::read_bytes(&exact, 7).is_err());
}

/// A text of megabytes may ask for a tree of gigabytes: the dearest one is seven bytes long and becomes an object, its
/// table, a key and a number. Vocabularies of thousands of added tokens, as models publish them, are nothing like it.
#[test]
fn a_file_of_small_values_is_refused_and_a_large_one_is_read() {
    for dense in [r#"{"":0},"#.repeat(500_000), "0,".repeat(1_900_000)] {
        let message = refused(format!("{{\"a\":[{dense}0]}}"));
        assert!(message.contains("too many small values"), "{message}");
    }
    let flags =
        json!({"lstrip": false, "normalized": false, "rstrip": false, "single_word": false, "special": true});
    let token = |id: usize| {
        let mut token = flags.clone();
        token["content"] = format!("<|token {id}|>").into();
        (id.to_string(), token)
    };
    let tokens = serde_json::Map::from_iter((0..20_000).map(token));
    let directory = tempfile::tempdir().unwrap();
    let text = json!({"added_tokens_decoder": tokens}).to_string();
    assert!(text.len() > 2_000_000);
    write(directory.path(), "tokenizer_config.json", text);
    let evidence = Configuration::read(directory.path()).unwrap().evidence();
    assert_eq!(evidence.special_tokens.len(), 20_000);
}

#[test]
fn what_is_no_file_is_refused_and_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("generation_config.json")).unwrap();
    assert!(refusal(directory.path(), "generation_config.json").contains("not a regular file"));
}

#[cfg(unix)]
#[test]
fn a_pipe_or_a_device_is_refused_and_not_waited_for() {
    for name in ["config.json", "generation_config.json", "tokenizer_config.json", "chat_template.jinja"] {
        let directory = tempfile::tempdir().unwrap();
        let made = std::process::Command::new("mkfifo").arg(directory.path().join(name)).status();
        assert!(made.unwrap().success());
        let message = match Configuration::read(directory.path()) {
            Ok(configuration) => configuration.chat_template().unwrap_err().to_string(),
            Err(error) => error.to_string(),
        };
        assert!(message.contains(name) && message.contains("not a regular file"), "{message}");
    }
    let directory = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/zero", directory.path().join("config.json")).unwrap();
    assert!(refusal(directory.path(), "config.json").contains("not a regular file"));
}

#[test]
fn a_long_path_keeps_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let deep = directory.path().join("a".repeat(200)).join("b".repeat(200));
    std::fs::create_dir_all(&deep).unwrap();
    write(&deep, "config.json", "version https://git-lfs.github.com/spec/v1\nsize 1\n");
    refusal(&deep, "config.json");
}

#[test]
fn files_tell_ends_sampling_template_and_tokens() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    write(path, "config.json", r#"{"eos_token_id": [7, 3, -1, "x"]}"#);
    write(path, "generation_config.json", r#"{"eos_token_id": 5, "temperature": 0.5, "top_k": 3}"#);
    let several = json!([{"name": "tools", "template": "t"}, {"name": "default", "template": "d"}]);
    let tokens = json!({"bos_token": "<s>", "eos_token": {"content": "</s>"}, "chat_template": several});
    write(path, "tokenizer_config.json", tokens.to_string());
    let read = || Configuration::read(path).unwrap();
    let configuration = read();
    assert_eq!(configuration.stop_ids(), [3, 5, 7]);
    assert_eq!(
        (configuration.sampling().temperature(), configuration.sampling().top_k),
        (Some(0.5), Some(3))
    );
    assert_eq!(configuration.chat_template().unwrap().as_deref(), Some("d"));
    assert_eq!(configuration.tool_use_template().unwrap(), None);
    let named = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    assert_eq!(configuration.named_tokens(), [named("bos_token", "<s>"), named("eos_token", "</s>")]);
    write(path, "tokenizer_config.json", r#"{"chat_template": "only"}"#);
    assert_eq!(read().chat_template().unwrap().as_deref(), Some("only"));
    write(path, "chat_template.jinja", "own");
    assert_eq!(read().chat_template().unwrap().as_deref(), Some("own"));
    // As transformers reads them: files of their own stand for all in tokenizer_config.json.
    let named = json!([{"name": "tool_use", "template": "with tools"}, {"name": "default", "template": "d"}]);
    write(path, "tokenizer_config.json", json!({"chat_template": named}).to_string());
    assert_eq!(read().tool_use_template().unwrap(), None);
    std::fs::remove_file(path.join("chat_template.jinja")).unwrap();
    assert_eq!(read().tool_use_template().unwrap().as_deref(), Some("with tools"));
    std::fs::create_dir(path.join("additional_chat_templates")).unwrap();
    write(path, "additional_chat_templates/tool_use.jinja", "\u{feff}own with tools");
    assert_eq!(read().tool_use_template().unwrap().as_deref(), Some("own with tools"));
    write(path, "tokenizer_config.json", r#"{"chat_template": [{"name": "rag", "template": "r"}]}"#);
    assert!(read().chat_template().unwrap_err().to_string().contains("`default`"));
    // A file of the model stands for its directory.
    write(path, "model.safetensors", "");
    assert_eq!(Configuration::read(&path.join("model.safetensors")).unwrap().stop_ids(), [3, 5, 7]);
}

#[test]
fn a_gguf_says_the_same_in_keys() {
    let of = |values| Configuration::of_gguf(Path::new("x.gguf"), values);
    let full = of(GgufValues {
        stop_ids: vec![9, 4, 4],
        padding_id: Some(1),
        temperature: Some(0.8),
        top_p: Some(0.7),
        top_k: Some(40),
        chat_template: Some("t".to_owned()),
        tool_use_template: Some("u".to_owned()),
        ..GgufValues::default()
    });
    let config = json!({"eos_token_id": [9, 4], "pad_token_id": 1, "temperature": 0.8, "top_p": 0.7, "top_k": 40,
        "do_sample": true});
    assert_eq!((full.generation_config(), full.config()), (Some(&config), None));
    assert_eq!(full.stop_ids(), [4, 9]);
    assert_eq!(full.chat_template().unwrap().as_deref(), Some("t"));
    assert_eq!(full.tool_use_template().unwrap().as_deref(), Some("u"));
    let greedy = of(GgufValues { temperature: Some(0.0), ..GgufValues::default() });
    assert_eq!(greedy.generation_config(), Some(&json!({"do_sample": false})));
    assert_eq!(greedy.sampling().temperature(), Some(0.0));
    let silent = of(GgufValues::default());
    assert_eq!((silent.generation_config(), silent.sampling().temperature()), (Some(&json!({})), None));
    let only_top_k = of(GgufValues { top_k: Some(3), ..GgufValues::default() });
    assert_eq!(only_top_k.sampling().temperature(), Some(1.0));
}
