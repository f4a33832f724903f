//! `tokenize`, `detokenize`, `template` and text that is continued: the reference libraries' vectors through the binary,
//! and the conventions of `--json` and `--jsonl`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use glimmer_tokenizer::{Encoding, Tokenizer};
use serde_json::{Value, json};
use support::{Ran, chain, further_words, glimmer, root, run, run_with_input, shared};

/// A small tokenizer of the repository.
fn synthetic(name: &str) -> PathBuf {
    root().join("crates/tokenizer/tests/data").join(name)
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Runs a verb with `--jsonl` on the given lines.
fn jsonl(verb: &str, model: &Path, flags: &[&str], questions: &[Value]) -> Vec<Value> {
    let input: String = questions.iter().map(|question| format!("{question}\n")).collect();
    let mut command = vec![verb.into(), model.as_os_str().to_owned(), "--jsonl".into()];
    command.extend(flags.iter().map(Into::into));
    lines(&run_with_input(command, input.as_bytes()).quiet_success())
}

/// Ids and decoding of every vector. `parsed` says whether the tokenizer recognises special spellings when asked.
fn check_text(model: &Path, vectors: &Path, parsed: bool) {
    let vectors: Vec<Value> = lines(&std::fs::read_to_string(vectors).unwrap());
    let vectors: Vec<Value> = vectors.into_iter().filter(|vector| !vector["ids"].is_null()).collect();
    let answers = jsonl("tokenize", model, &[], &vectors);
    assert_eq!(answers.len(), vectors.len());
    for (vector, answer) in vectors.iter().zip(&answers) {
        assert_eq!(answer["ids"], vector["ids"], "{}: {}", model.display(), vector["id"]);
        assert_eq!(answer["tokens"].as_array().unwrap().len(), answer["ids"].as_array().unwrap().len());
    }
    let decoded = jsonl("detokenize", model, &[], &vectors);
    for (vector, answer) in vectors.iter().zip(&decoded) {
        let expected = vector.get("decoded").unwrap_or(&vector["text"]);
        assert_eq!(&answer["text"], expected, "{}: {}", model.display(), vector["id"]);
    }
    if parsed {
        let answers = jsonl("tokenize", model, &["--parse-special"], &vectors);
        for (vector, answer) in vectors.iter().zip(&answers) {
            let expected = vector.get("ids_with_special").unwrap_or(&vector["ids"]);
            assert_eq!(&answer["ids"], expected, "{}: {}", model.display(), vector["id"]);
        }
    }
}

#[test]
fn small_tokenizers_agree_with_the_reference_libraries() {
    for (name, vectors, parsed) in [
        ("chatglm-6b", "chatglm-6b", false),
        ("chatglm2-6b", "chatglm2-6b", false),
        ("glm4-tiktoken", "glm4-tiktoken", true),
        ("glm4-hf", "glm4-tiktoken", true),
        ("glm-edge", "glm-edge", true),
        ("glm45", "glm45", true),
        ("bert", "bert", false),
    ] {
        check_text(&synthetic(name), &synthetic(vectors).join("vectors.jsonl"), parsed);
    }
}

#[test]
fn published_tokenizers_agree_with_the_reference_libraries() {
    let Some(shared) = shared() else { return };
    let shared = shared.join("tokenizers");
    for (name, vectors, parsed) in [
        ("chatglm-6b", "chatglm-6b", false),
        ("chatglm2-6b", "chatglm2-6b", false),
        ("chatglm3-6b", "chatglm2-6b", false),
        ("codegeex2-6b", "codegeex2-6b", false),
        ("glm-4-9b-chat", "glm-4-9b", true),
        ("glm-4-9b-chat-hf", "glm-4-9b", true),
        ("glm-4-0414", "glm-4-9b", true),
        ("glm-4.5", "glm-4.5", true),
        ("text2vec-large-chinese", "text2vec-large-chinese", false),
    ] {
        check_text(&shared.join(name), &shared.join(format!("vectors/text/{vectors}.jsonl")), parsed);
    }
}

#[test]
fn published_chat_formats_agree_with_the_official_prompts() {
    let Some(shared) = shared() else { return };
    let shared = shared.join("tokenizers");
    for (vectors, name, flags) in [
        ("chatglm-6b", "chatglm-6b", &[][..]),
        ("chatglm2-6b", "chatglm2-6b", &[]),
        ("chatglm3-6b", "chatglm3-6b", &[]),
        ("glm-4-9b-chat", "glm-4-9b-chat", &[]),
        ("glm-4-9b-chat", "glm-4-9b-chat-hf", &[]),
        ("glm-4v-9b", "glm-4-9b-chat", &["--chat-format", "glm-4v"]),
        ("glm-4-0414", "glm-4-0414", &[]),
        ("glm-z1-0414", "glm-4-0414", &["--chat-format", "glm-z1"]),
        ("glm-4.5", "glm-4.5", &[]),
        ("glm-4.7", "glm-4.5", &["--chat-format", "glm-4.7"]),
    ] {
        let cases =
            lines(&std::fs::read_to_string(shared.join(format!("vectors/chat/{vectors}.jsonl"))).unwrap());
        let flags = [flags, &["--parse-special"]].concat();
        let answers = jsonl("template", &shared.join(name), &flags, &cases);
        for (case, answer) in cases.iter().zip(&answers) {
            for key in ["prompt", "ids"] {
                if !case[key].is_null() {
                    assert_eq!(answer[key], case[key], "{name}: {} {key}", case["name"]);
                }
            }
        }
    }
}

#[test]
fn ids_and_text_in_every_form() {
    let model = synthetic("glm4-tiktoken");
    let plain = run(args!["tokenize", model, "Hello, world"]).quiet_success();
    let ids: Value = serde_json::from_str(&format!("[{}]", plain.trim_end())).unwrap();
    assert_eq!(run_with_input(args!["tokenize", model, "-"], b"Hello, world").quiet_success(), plain);
    assert_eq!(run_with_input(args!["tokenize", model], b"Hello, world").quiet_success(), plain);
    // Standard input counts to the last byte.
    assert_ne!(run_with_input(args!["tokenize", model], b"Hello, world\n").quiet_success(), plain);
    let answer: Value =
        serde_json::from_str(&run(args!["tokenize", model, "Hello, world", "--json"]).quiet_success())
            .unwrap();
    assert_eq!(answer["ids"], ids);
    let tokens: Vec<&str> =
        answer["tokens"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
    assert_eq!(tokens.concat(), "Hello, world");

    for form in [plain.trim_end().to_owned(), ids.to_string()] {
        assert_eq!(run(args!["detokenize", model, form]).quiet_success(), "Hello, world\n");
    }
    assert_eq!(
        run_with_input(args!["detokenize", model], plain.as_bytes()).quiet_success(),
        "Hello, world\n"
    );
    let stdout = run(args!["detokenize", model, plain.trim_end(), "--json"]).quiet_success();
    assert_eq!(stdout, "{\"text\":\"Hello, world\"}\n");
    assert_eq!(run(args!["tokenize", model, ""]).quiet_success(), "\n");
}

#[test]
fn special_tokens_only_when_asked_for() {
    let model = synthetic("glm4-tiktoken");
    let ids = |flags: &[&str]| {
        let mut command = vec!["tokenize".into(), model.clone().into_os_string(), "<|user|>".into()];
        command.extend(flags.iter().map(Into::into));
        run(command).quiet_success().trim_end().to_owned()
    };
    let plain = ids(&[]);
    assert!(plain.contains(','), "{plain}");
    let parsed = ids(&["--parse-special"]);
    assert_eq!(parsed, "2010");
    assert_eq!(ids(&["--add-special"]), format!("2005,2007,{plain}"));
    assert_eq!(ids(&["--add-special", "--parse-special"]), format!("2005,2007,{parsed}"));
    assert_eq!(run(args!["detokenize", model, "2010"]).quiet_success(), "<|user|>\n");
    assert_eq!(run(args!["detokenize", model, "2010", "--skip-special"]).quiet_success(), "\n");
}

#[test]
fn a_conversation_in_every_form() {
    let model = synthetic("glm4-tiktoken");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("messages.json");
    let messages =
        json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi <|user|>"}]);
    std::fs::write(&file, messages.to_string()).unwrap();
    let expected = "[gMASK]<sop><|system|>\nBe brief.<|user|>\nHi <|user|><|assistant|>";
    assert_eq!(run(args!["template", model, file]).quiet_success(), format!("{expected}\n"));
    let object = json!({"messages": messages}).to_string();
    assert_eq!(
        run_with_input(args!["template", model], object.as_bytes()).quiet_success(),
        format!("{expected}\n")
    );

    let ids = |flags: &[&str]| {
        let mut command =
            vec!["template".into(), model.clone().into_os_string(), file.clone().into_os_string()];
        command.extend(["--json"].iter().chain(flags).map(Into::into));
        let answer: Value = serde_json::from_str(&run(command).quiet_success()).unwrap();
        assert_eq!(answer["prompt"], expected);
        answer["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect::<Vec<_>>()
    };
    let users = |ids: &[u64]| ids.iter().filter(|id| **id == 2010).count();
    let safe = ids(&[]);
    assert_eq!((&safe[..3], safe.last()), (&[2005, 2007, 2009][..], Some(&2011)));
    assert_eq!(users(&safe), 1, "a person's words are no special token");
    assert_eq!(users(&ids(&["--parse-special"])), 2);
}

#[test]
fn tools_from_a_file_and_from_the_conversation() {
    let model = synthetic("glm4-tiktoken");
    let directory = tempfile::tempdir().unwrap();
    let (tools, file) = (directory.path().join("tools.json"), directory.path().join("messages.json"));
    let tool = |name: &str| json!([{"type": "function", "function": {"name": name, "parameters": {}}}]);
    std::fs::write(&tools, tool("from_file").to_string()).unwrap();
    let messages = json!([{"role": "user", "content": "Hi"}]);
    std::fs::write(&file, messages.to_string()).unwrap();
    let prompt = run(args!["template", model, file, "--tools", tools]).quiet_success();
    assert!(prompt.contains("## from_file"), "{prompt}");
    let own = json!({"messages": messages, "tools": tool("its_own")}).to_string();
    let prompt = run_with_input(args!["template", model, "--tools", tools], own.as_bytes()).quiet_success();
    assert!(prompt.contains("## its_own") && !prompt.contains("from_file"), "{prompt}");
    run(args!["template", model, file, "--tools", file.with_extension("none")])
        .fails_saying(&["messages.none"]);
    std::fs::write(&tools, "{}").unwrap();
    run(args!["template", model, file, "--tools", tools]).fails_saying(&["tools.json", "list of tools"]);
}

#[test]
fn a_template_needs_no_tokenizer_for_its_text() {
    let Some(shared) = shared() else { return };
    let directory = tempfile::tempdir().unwrap();
    let template = shared.join("tokenizers/templates/glm-4-0414.jinja");
    std::fs::copy(template, directory.path().join("chat_template.jinja")).unwrap();
    let messages = br#"[{"role": "user", "content": "Hi"}]"#;
    let prompt = run_with_input(args!["template", directory.path()], messages).quiet_success();
    assert_eq!(prompt, "[gMASK]<sop><|user|>\nHi<|assistant|>\n");
    run_with_input(args!["template", directory.path(), "--json"], messages).fails_saying(&["no tokenizer"]);
}

#[test]
fn a_template_of_the_models_own() {
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(synthetic("glm-edge").join("tokenizer.json"), copy.path().join("tokenizer.json")).unwrap();
    let config = json!({
        "bos_token": {"content": "<sop>"},
        "chat_template": [
            {"name": "other", "template": "no"},
            {"name": "default", "template": "{{ bos_token }}{% for m in messages %}{{ m.role }}={{ m.content }};{% endfor %}"},
        ],
    });
    std::fs::write(copy.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    let messages = br#"[{"role": "user", "content": "Hi <sop>"}]"#;
    let answer = run_with_input(args!["template", copy.path(), "--json"], messages).quiet_success();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["prompt"], "<sop>user=Hi <sop>;");
    let sops = answer["ids"].as_array().unwrap().iter().filter(|id| **id == 1260).count();
    assert_eq!(sops, 1, "{answer}");
    std::fs::write(copy.path().join("chat_template.jinja"), "\n{% for %}").unwrap();
    run_with_input(args!["template", copy.path()], messages).fails_saying(&["chat template", "line 2"]);
}

#[test]
fn answers_stay_beside_their_questions() {
    let model = synthetic("glm4-tiktoken");
    let input =
        "{\"text\": \"a\"}\n\nnonsense\n{\"text\": 1}\n{\"ids\": [1]}\n{\"text\": \"b\", \"more\": 1}";
    let ran = run_with_input(args!["tokenize", model, "--jsonl"], input.as_bytes());
    let stdout = ran.fails_saying(&["4 of 6 lines", "first line 2"]);
    let answers = lines(&stdout);
    let has: Vec<bool> = answers.iter().map(|answer| answer.get("error").is_none()).collect();
    assert_eq!(has, [true, false, false, false, false, true]);
    assert!(answers[4]["error"].as_str().unwrap().contains("`text`"), "{stdout}");

    let ran =
        run_with_input(args!["detokenize", model, "--jsonl"], b"{\"ids\": [99999999]}\n{\"ids\": []}\n");
    let answers = lines(&ran.fails_saying(&["1 of 2 lines"]));
    assert!(answers[0]["error"].as_str().unwrap().contains("99999999"));
    assert_eq!(answers[1]["text"], "");

    let ran =
        run_with_input(args!["template", model, "--jsonl"], b"{\"messages\": [{\"role\": \"nobody\"}]}\n");
    let answers = lines(&ran.fails_saying(&["1 of 1 lines"]));
    assert!(answers[0]["error"].as_str().unwrap().contains("nobody"));

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("lines.jsonl");
    std::fs::write(&file, "{\"text\": \"a\"}\n").unwrap();
    assert_eq!(lines(&run(args!["tokenize", model, file, "--jsonl"]).quiet_success()).len(), 1);
    run(args!["tokenize", model, "not/there", "--jsonl"]).fails_saying(&["not/there"]);
    assert_eq!(run_with_input(args!["tokenize", model, "--jsonl"], b"").quiet_success(), "");
}

#[test]
fn every_line_is_answered_before_the_next_is_asked() {
    let mut child = glimmer()
        .args(args!["tokenize", synthetic("glm4-tiktoken"), "--jsonl"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    for _ in 0..3 {
        writeln!(stdin, "{{\"text\": \"a\"}}").unwrap();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert!(line.starts_with("{\"ids\":["), "{line}");
    }
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_reader_that_goes_away_ends_the_lines_quietly() {
    let mut child = glimmer()
        .args(args!["tokenize", synthetic("glm4-tiktoken"), "--jsonl"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().unwrap();
    while stdin.write_all(b"{\"text\": \"a\"}\n").is_ok() {}
    drop(stdin);
    let ran = Ran::from(child.wait_with_output().unwrap());
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
}

#[test]
fn what_is_no_tokenizer() {
    let empty = tempfile::tempdir().unwrap();
    run(args!["tokenize", empty.path(), "a"]).fails_saying(&["no tokenizer", "tokenizer.json"]);
    run(args!["tokenize", "does/not/exist", "a"]).fails_saying(&["does/not/exist", "no such file"]);
    run(args!["tokenize", "does/not/exist.gguf", "a"]).fails_saying(&["does/not/exist.gguf", "no such file"]);
    for (name, content) in [
        ("tokenizer.json", &b"{"[..]),
        ("tokenizer.json", b"{\"model\": {\"type\": \"Foo\nBar\"}}"),
        ("tokenizer.model", b"\x00\x01\x02"),
        ("ice_text.model", b""),
        ("tokenizer.json", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(name), content).unwrap();
        run(args!["tokenize", directory.path(), "a"]).fails_saying(&[name]);
    }
    let model = synthetic("glm4-tiktoken");
    run_with_input(args!["tokenize", model], b"\xff").fails_saying(&["standard input", "byte 0", "UTF-8"]);
    run(args!["detokenize", model, "1,x"]).fails_saying(&["\"x\""]);
    run(args!["detokenize", model, "2017"]).fails_saying(&["id 2017", "last id is 2016"]);
    run(args!["tokenize", model, "a", "--json", "--jsonl"]).refuses_usage(&["--jsonl"]);
    run(args!["template", model, "not/there.json"]).fails_saying(&["not/there.json"]);
    run_with_input(args!["template", model], b"{").fails_saying(&["standard input"]);
    run_with_input(args!["template", model], b"3").fails_saying(&["standard input", "messages"]);
}

#[test]
fn weights_do_not_matter_to_a_tokenizer() {
    let directory = tempfile::tempdir().unwrap();
    let from = synthetic("glm4-hf").join("tokenizer.json");
    std::fs::copy(from, directory.path().join("tokenizer.json")).unwrap();
    std::fs::write(
        directory.path().join("model.safetensors"),
        "version https://git-lfs.github.com/spec/v1\n",
    )
    .unwrap();
    run(args!["tokenize", directory.path(), "a"]).quiet_success();
    let messages = br#"[{"role": "user", "content": "Hi"}]"#;
    run_with_input(args!["template", directory.path(), "--json"], messages).quiet_success();
}

/// The continuation of a text is what decoding prompt and answer together adds to the prompt: SentencePiece takes away a
/// blank at the beginning of a text, and an answer is no beginning.
#[test]
fn the_first_blank_of_a_continuation_stays() {
    for name in ["chatglm-6b", "chatglm2-6b", "glm4-tiktoken", "glm4-hf", "glm-edge", "glm45"] {
        let tokenizer = Tokenizer::from_dir(&synthetic(name)).unwrap();
        let answer = further_words(&tokenizer);
        let model = tempfile::tempdir().unwrap();
        chain(model.path(), &synthetic(name), tokenizer.len() + 8, &answer);
        let prompt = tokenizer.encode_as("Hello", Encoding { add_special: true, parse_special: false });
        let whole = tokenizer.decode(&[prompt.as_slice(), &answer].concat());
        let wanted = whole.strip_prefix(&tokenizer.decode(&prompt)).unwrap();
        assert!(wanted.starts_with(" w"), "{name}: {wanted:?}");
        let count = answer.len().to_string();
        let run = |flags: &[&str]| {
            let mut command =
                args!["run", model.path(), "Hello", "--raw", "--max-tokens", count, "--ignore-eos"];
            command.extend(flags.iter().map(Into::into));
            run(command).quiet_success()
        };
        assert_eq!(run(&[]), format!("{wanted}\n"), "{name}");
        let record: Value = serde_json::from_str(&run(&["--json"])).unwrap();
        assert!(record.to_string().contains(&json!(wanted).to_string()), "{name}: {record}");
    }
}

/// What a file begins with where an editor wrote it.
const MARK: &str = "\u{feff}";

#[test]
fn a_byte_order_mark_is_no_part_of_json() {
    let model = synthetic("glm4-tiktoken");
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, format!("{MARK}{text}")).unwrap();
        path
    };
    let messages = r#"[{"role": "user", "content": "Hi"}]"#;
    let expected = run_with_input(args!["template", model], messages.as_bytes()).quiet_success();
    let marked = format!("{MARK}{messages}");
    assert_eq!(run_with_input(args!["template", model], marked.as_bytes()).quiet_success(), expected);
    let conversation = file("messages.json", messages);
    assert_eq!(run(args!["template", model, conversation]).quiet_success(), expected);
    let tools = file("tools.json", r#"[{"type": "function", "function": {"name": "f"}}]"#);
    let prompt = run(args!["template", model, conversation, "--tools", tools]).quiet_success();
    assert!(prompt.contains("## f"), "{prompt}");
    // Files put together keep their marks.
    let two = format!("{MARK}{{\"text\": \"a\"}}\n{MARK}{{\"text\": \"b\"}}\n");
    let answers = lines(&run_with_input(args!["tokenize", model, "--jsonl"], two.as_bytes()).quiet_success());
    assert_eq!((&answers[0]["tokens"], &answers[1]["tokens"]), (&json!(["a"]), &json!(["b"])));
    // A model's own files.
    let copy = tempfile::tempdir().unwrap();
    let json = std::fs::read_to_string(synthetic("glm45").join("tokenizer.json")).unwrap();
    std::fs::write(copy.path().join("tokenizer.json"), format!("{MARK}{json}")).unwrap();
    std::fs::write(copy.path().join("tokenizer_config.json"), format!("{MARK}{{}}")).unwrap();
    assert_eq!(
        run(args!["tokenize", copy.path(), "Hi"]).quiet_success(),
        run(args!["tokenize", synthetic("glm45"), "Hi"]).quiet_success()
    );
    // In text it counts.
    assert_ne!(
        run_with_input(args!["tokenize", model], format!("{MARK}a").as_bytes()).quiet_success(),
        run_with_input(args!["tokenize", model], b"a").quiet_success()
    );
}

#[test]
fn ids_of_rows_without_a_token_stand_for_no_text() {
    let model = tempfile::tempdir().unwrap();
    std::fs::copy(synthetic("glm4-hf").join("tokenizer.json"), model.path().join("tokenizer.json")).unwrap();
    let end = Tokenizer::from_dir(model.path()).unwrap().len() as u32;
    let ids = format!("{end},{}", end + 7);
    run(args!["detokenize", model.path(), ids]).fails_saying(&[&format!("last id is {}", end - 1)]);
    for key in ["vocab_size", "padded_vocab_size"] {
        let config = json!({"model_type": "glm4", (key): end + 8});
        std::fs::write(model.path().join("config.json"), config.to_string()).unwrap();
        assert_eq!(run(args!["detokenize", model.path(), ids]).quiet_success(), "\n");
        let question = [json!({"ids": [end + 7]})];
        assert_eq!(jsonl("detokenize", model.path(), &[], &question), [json!({"text": ""})]);
        run(args!["detokenize", model.path(), (end + 8).to_string()])
            .fails_saying(&[&format!("last id is {}", end + 7)]);
    }
}

#[test]
fn a_template_that_is_only_a_name() {
    let model = tempfile::tempdir().unwrap();
    let config = |template: Value| {
        let config = json!({"chat_template": template});
        std::fs::write(model.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    };
    let messages = br#"[{"role": "user", "content": "Hi"}]"#;
    let template = || run_with_input(args!["template", model.path()], messages);
    config("chatglm4".into());
    assert_eq!(template().quiet_success(), "[gMASK]<sop><|user|>\nHi<|assistant|>\n");
    config("chatglm3".into());
    assert_eq!(template().quiet_success(), "[gMASK]sop<|user|>\nHi<|assistant|>\n");
    config("glmedge".into());
    assert_eq!(template().quiet_success(), "<|user|>\nHi<|assistant|>\n\n");
    config("chatml".into());
    template().fails_saying(&["`chatml`", "chat format"]);
    config("You are helpful.".into());
    template().fails_saying(&["messages"]);
    // The format can be named, and nothing else is asked of the template.
    let named = args!["template", model.path(), "--chat-format", "glm-edge"];
    assert_eq!(run_with_input(named, messages).quiet_success(), "<|user|>\nHi<|assistant|>\n\n");
}

/// As transformers 5 chooses among named templates.
#[test]
fn tools_take_the_template_that_is_named_for_them() {
    let model = tempfile::tempdir().unwrap();
    let plain = "{% for m in messages %}{{ m.content }}{% endfor %}";
    let named = json!([
        {"name": "default", "template": plain},
        {"name": "tool_use", "template": format!("{{{{ tools|tojson }}}}{plain}")},
    ]);
    let write = |config: Value| {
        std::fs::write(model.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    };
    write(json!({"chat_template": named}));
    let with = br#"{"messages": [{"role": "user", "content": "Hi"}], "tools": [{"name": "f", "n": 18446744073709551616}]}"#;
    let without = br#"{"messages": [{"role": "user", "content": "Hi"}], "tools": []}"#;
    let template = |input: &[u8]| run_with_input(args!["template", model.path()], input);
    assert_eq!(template(with).quiet_success(), "[{\"name\": \"f\", \"n\": 18446744073709551616}]Hi\n");
    assert_eq!(template(without).quiet_success(), "Hi\n");
    // Without it, tools would vanish.
    write(json!({"chat_template": plain}));
    template(with).fails_saying(&["`tools`"]);
    write(json!({"chat_template": [{"name": "rag", "template": plain}]}));
    template(without).fails_saying(&["tokenizer_config.json", "`default`"]);
}
