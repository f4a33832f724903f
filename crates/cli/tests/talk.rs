//! `glimmer run` with text: a fixture that was given a small tokenizer. Its weights are random, so that what it says means
//! nothing; what is tested is the way there and back.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::path::Path;

use serde_json::{Map, Value, json};
use support::{copy_of, run, run_with_input};

/// GLM-4's special tokens, of which a chat format needs some.
const SPECIAL: [&str; 14] = [
    "<|endoftext|>",
    "[MASK]",
    "[gMASK]",
    "[sMASK]",
    "<sop>",
    "<eop>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
    "<|begin_of_image|>",
    "<|end_of_image|>",
    "<|begin_of_video|>",
    "<|end_of_video|>",
];

/// GPT-2's alphabet: a printable character for each byte.
fn alphabet() -> Vec<char> {
    let printable = |byte: u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut next = 256;
    (0..256)
        .map(|byte| {
            let code = if printable(byte) {
                byte
            } else {
                next += 1;
                next - 1
            };
            char::from_u32(code).unwrap()
        })
        .collect()
}

/// A `tokenizer.json` with a token for each byte and GLM-4's special tokens after them.
fn write_tokenizer(directory: &Path) {
    let vocab: Map<String, Value> =
        alphabet().into_iter().enumerate().map(|(byte, c)| (c.to_string(), json!(byte))).collect();
    let added: Vec<Value> = SPECIAL
        .iter()
        .enumerate()
        .map(|(i, token)| {
            json!({"id": 256 + i, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true})
        })
        .collect();
    let splitter = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": splitter}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        ]},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": true,
            "vocab": vocab, "merges": []},
    });
    std::fs::write(directory.join("tokenizer.json"), tokenizer.to_string()).unwrap();
}

fn talking(name: &str) -> tempfile::TempDir {
    let copy = copy_of(name);
    write_tokenizer(copy.path());
    copy
}

#[test]
fn a_message_goes_through_the_chat_format() {
    let copy = talking("glm4-9b-0414");
    let model = copy.path();
    let messages = br#"[{"role": "user", "content": "Hi"}]"#;
    let rendered =
        run_with_input(args!["template", model, "--chat-format", "glm-4-0414", "--json"], messages);
    let rendered: Value = serde_json::from_str(&rendered.quiet_success()).unwrap();
    assert_eq!(rendered["ids"], json!([258, 260, 263, 10, 72, 105, 264]));
    let ids: Vec<String> = rendered["ids"].as_array().unwrap().iter().map(Value::to_string).collect();
    let by_ids = run(args!["run", model, "--ids", ids.join(","), "--print-ids", "-n", "12"]).quiet_success();

    let format = ["--chat-format", "glm-4-0414"];
    let by_text =
        run(args!["run", model, "Hi", format[0], format[1], "--print-ids", "-n", "12"]).quiet_success();
    assert_eq!(by_text, by_ids);
    // The format is known without being named, a pipe's last line break does not count, and so on.
    for (input, flags) in [("Hi", vec![]), ("Hi\n", vec!["-"]), ("Hi\r\n", vec!["--family", "glm-4-0414"])] {
        let mut command = vec!["run".into(), model.as_os_str().to_owned()];
        command.extend(flags.iter().map(Into::into));
        command.extend(["--chat-format", "glm-4-0414", "--print-ids", "-n", "12"].iter().map(Into::into));
        assert_eq!(run_with_input(command, input.as_bytes()).quiet_success(), by_ids);
    }
}

#[test]
fn text_is_what_the_ids_decode_to() {
    let copy = talking("glm-edge-k256");
    let model = copy.path();
    let flags = ["--raw", "--ignore-eos", "-n", "40", "--temperature", "3", "--seed", "5"];
    let mut command = vec!["run".into(), model.as_os_str().to_owned(), "Once".into()];
    command.extend(flags.iter().map(Into::into));
    let text = run(command.clone()).quiet_success();
    command.push("--print-ids".into());
    let ids = run(command).quiet_success();
    assert_eq!(ids.split(',').count(), 40);
    let decoded = run(args!["detokenize", model, ids.trim_end(), "--skip-special"]).quiet_success();
    assert_eq!(text, decoded);
    // With ids in and text out.
    let prompt = run(args!["tokenize", model, "Once", "--add-special"]).quiet_success();
    let again = run(args![
        "run",
        model,
        "--ids",
        prompt.trim_end(),
        "--ignore-eos",
        "-n",
        "40",
        "--temperature",
        "3",
        "--seed",
        "5"
    ]);
    assert_eq!(again.quiet_success(), text);
}

#[test]
fn a_gguf_brings_its_vocabulary_along() {
    let copy = talking("glm4-9b-0414");
    let directory = tempfile::tempdir().unwrap();
    let gguf = directory.path().join("model.gguf");
    assert_eq!(run(args!["convert", copy.path(), gguf]).status, 0);
    let text = "Hi <|user|>\u{4f60}";
    let answers = |model: &Path| {
        let tokens = run(args!["tokenize", model, text, "--json"]).quiet_success();
        let parsed = run(args!["tokenize", model, text, "--parse-special"]).quiet_success();
        let answer =
            run(args!["run", model, "Hi", "--chat-format", "glm-4-0414", "-n", "20", "--compute", "f32"]);
        let inspected = run(args!["inspect", model, "--json"]).quiet_success();
        let report: Value = serde_json::from_str(&inspected).unwrap();
        (
            tokens,
            parsed,
            answer.quiet_success(),
            report["config"].clone(),
            report["tokenizer"]["special_tokens"].clone(),
        )
    };
    assert_eq!(answers(copy.path()), answers(&gguf));
}

#[test]
fn a_person_cannot_speak_in_the_models_voice() {
    let copy = talking("glm4-9b-0414");
    let model = copy.path();
    let ids = |flags: &[&str]| {
        let mut command = vec!["run".into(), model.as_os_str().to_owned(), "<|assistant|>".into()];
        command.extend(
            ["--chat-format", "glm-4-0414", "--print-ids", "-n", "8"].iter().chain(flags).map(Into::into),
        );
        run(command).quiet_success()
    };
    assert_ne!(ids(&[]), ids(&["--parse-special"]));
}

#[test]
fn what_cannot_be_answered() {
    let copy = talking("glm4-9b-0414");
    let model = copy.path();
    run_with_input(args!["run", model], b"").fails_saying(&["the prompt is empty"]);
    run_with_input(args!["run", model], b"\n").fails_saying(&["the prompt is empty"]);
    run_with_input(args!["run", model], b"\xff").fails_saying(&["standard input", "UTF-8"]);
    run(args!["run", model, "Hi", "--ctx", "5"]).fails_saying(&["7 tokens", "context 5", "--ctx"]);
    run(args!["run", model, "Hi", "--ids", "1"]).refuses_usage(&["--ids"]);
    run(args!["run", model, "Hi", "--raw", "--chat-format", "glm-4"]).refuses_usage(&["--raw"]);
    run(args!["run", support::fixture("glm4-9b-0414"), "Hi"]).fails_saying(&["no tokenizer"]);
    let nameless = tempfile::tempdir().unwrap();
    write_tokenizer(nameless.path());
    let text = std::fs::read_to_string(nameless.path().join("tokenizer.json")).unwrap();
    let anonymous = text.replace("<|observation|>", "<|nobody|>").replace("[gMASK]", "[other]");
    std::fs::write(nameless.path().join("tokenizer.json"), anonymous).unwrap();
    run(args!["run", nameless.path(), "Hi"]).fails_saying(&["--chat-format", "--raw"]);
}

#[test]
fn reasoning_is_no_part_of_the_answer() {
    let copy = talking("glm4-9b-0414");
    // GLM-Z1's prompt opens the reasoning, which random weights will hardly ever close.
    let command = args![
        "run",
        copy.path(),
        "Hi",
        "--chat-format",
        "glm-z1",
        "-n",
        "30",
        "--temperature",
        "1",
        "--seed",
        "1"
    ];
    let ran = run(command.clone());
    assert_eq!((ran.status, ran.stdout.as_str()), (0, "\n"), "{}", ran.stderr);
    assert!(ran.stderr.len() > 10 && !ran.stderr.contains("\u{1b}[2m"), "{:?}", ran.stderr);
    let quiet = run(command.clone().into_iter().chain(["--quiet".into()]));
    assert_eq!(quiet.quiet_success(), "\n");
    // A budget closes it, and the answer goes on.
    for budget in ["0", "3"] {
        let budgeted = args!["--thinking-budget", budget, "--json"];
        let record = run(command.clone().into_iter().chain(budgeted)).quiet_success();
        let record: serde_json::Value = serde_json::from_str(&record).unwrap();
        let thought = record["usage"]["reasoning_tokens"].as_u64().unwrap();
        // The tag is a few tokens of text here, as it is to GLM-Z1.
        assert!(thought <= budget.parse::<u64>().unwrap() + 9, "{record}");
        assert!(!record["text"].as_str().unwrap().is_empty(), "{record}");
    }
    run(args!["run", copy.path(), "Hi", "--raw", "--thinking-budget", "3"]).refuses_usage(&["--raw"]);
    run(args!["run", copy.path(), "Hi", "--thinking-budget", "-3"]).refuses_usage(&["-3"]);
}

#[test]
fn a_lone_question_is_for_the_demo() {
    let asked = run(args!["run", "demo", "What can you do?", "-n", "8", "--quiet"]).quiet_success();
    let lone = run(args!["run", "What can you do?", "-n", "8"]);
    assert_eq!((lone.status, &lone.stdout), (0, &asked), "{}", lone.stderr);
    for words in ["note: ", "demo model", "glimmer run MODEL PROMPT"] {
        assert!(lone.stderr.contains(words), "{words:?} is not in: {}", lone.stderr);
    }
    for command in [args!["run"], args!["run", "-"], args!["run", "demo"], args!["run", "demo", "-"]] {
        let piped =
            run_with_input(command.into_iter().chain(args!["-n", "8", "--quiet"]), b"What can you do?\n");
        assert_eq!(piped.quiet_success(), asked);
    }
    // What looks like a model is one, and ids are no question.
    run(args!["run", "./what"]).fails_saying(&["./what: no such file"]);
    run(args!["run", "what", "--ids", "1"]).fails_saying(&["what: no such file"]);
}
