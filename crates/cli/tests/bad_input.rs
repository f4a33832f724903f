//! What goes wrong outside the program: each one line on standard error that says what and where, exit status 1 (2 for
//! wrong usage), never a panic.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::path::Path;
use std::process::Command;

use support::{copy_of, fixture, run, run_with_input};

fn logits(model: &Path, ids: &str) -> support::Ran {
    let directory = tempfile::tempdir().unwrap();
    let ran = run(args!["logits", model, "--ids", ids, "-o", directory.path().join("out")]);
    assert_eq!(
        std::fs::read_dir(directory.path()).unwrap().count(),
        usize::from(ran.status == 0),
        "half a file is left"
    );
    ran
}

#[test]
fn missing_models() {
    for verb in ["inspect", "verify"] {
        run(args![verb, "does/not/exist"]).fails_saying(&["does/not/exist", "no such file"]);
    }
    logits(Path::new("does/not/exist.gguf"), "1").fails_saying(&["does/not/exist.gguf", "no such file"]);
    let empty = tempfile::tempdir().unwrap();
    logits(empty.path(), "1").fails_saying(&["config.json", "not found"]);
}

#[test]
fn a_model_without_weights() {
    let copy = copy_of("glm4-9b-0414");
    for entry in std::fs::read_dir(copy.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("model") {
            std::fs::remove_file(path).unwrap();
        }
    }
    logits(copy.path(), "1").fails_saying(&["holds no weights"]);
    let shown = run(args!["inspect", copy.path()]).quiet_success();
    assert!(shown.contains("no weights"), "{shown}");
}

#[test]
fn truncated_weights() {
    let copy = copy_of("glm-edge-1.5b-chat");
    let path = copy.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    for len in [0, 4, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..len]).unwrap();
        logits(copy.path(), "1").fails_saying(&["model.safetensors"]);
    }
    let copy = copy_of("chatglm2-6b-int4");
    let path = copy.path().join("pytorch_model.bin");
    let bytes = std::fs::read(&path).unwrap();
    for len in [0, 4, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..len]).unwrap();
        logits(copy.path(), "1").fails_saying(&["pytorch_model.bin"]);
    }
}

#[test]
fn a_git_lfs_pointer_in_place_of_weights() {
    let copy = copy_of("glm-edge-1.5b-chat");
    let pointer = format!(
        "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 3188000000\n",
        "0".repeat(64)
    );
    std::fs::write(copy.path().join("model.safetensors"), pointer).unwrap();
    logits(copy.path(), "1").fails_saying(&["model.safetensors", "Git LFS pointer", "git lfs pull"]);
}

#[test]
fn configurations_that_make_no_sense() {
    for (what, words) in [
        ("{", &["config.json"][..]),
        ("[]", &["config.json", "object"]),
        ("{}", &["config.json", "architecture"]),
        (r#"{"architectures": ["LlamaForCausalLM"]}"#, &["LlamaForCausalLM", "not supported"]),
        (r#"{"architectures": ["GlmForCausalLM"], "vocab_size": -1}"#, &["vocab_size"]),
        (r#"{"architectures": ["Glm\nForCausalLM"]}"#, &["not supported"]),
    ] {
        let copy = copy_of("glm-edge-1.5b-chat");
        std::fs::write(copy.path().join("config.json"), what).unwrap();
        logits(copy.path(), "1").fails_saying(words);
    }
}

#[test]
fn an_ambiguous_generation_asks_for_the_family() {
    let copy = copy_of("chatglm3-6b-32k");
    let path = copy.path().join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config.as_object_mut().unwrap().remove("_name_or_path");
    std::fs::write(&path, config.to_string()).unwrap();
    logits(copy.path(), "1").fails_saying(&["--family chatglm2", "--family chatglm3"]);
    let named = tempfile::tempdir().unwrap();
    let out = named.path().join("out");
    run(args!["logits", copy.path(), "--family", "chatglm3", "--ids", "1", "-o", out]).quiet_success();
}

#[test]
fn a_family_without_a_decoder_is_refused() {
    let model = fixture("glm4-9b-0414");
    run(args!["inspect", model, "--family", "glm-4.5"]).fails_saying(&["glm-4.5", "not supported"]);
    run(args!["verify", model, "--family", "glm-4.7"]).fails_saying(&["glm-4.7", "not supported"]);
}

#[cfg(unix)]
#[test]
fn a_pipe_in_place_of_a_file_is_not_waited_for() {
    for name in ["config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json"] {
        let copy = copy_of("lm-eval");
        let path = copy.path().join(name);
        std::fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        run(args!["run", copy.path(), "Hi", "--raw"]).fails_saying(&[name, "not a regular file"]);
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_in_place_of_a_file_that_is_named_is_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let model = fixture("lm-eval");
    let golden = fixture("glm4-9b-0414");
    let out = directory.path().join("out");
    for command in [
        args!["run", "demo", "Hi", "--tools", pipe],
        args!["chat", "--tools", pipe],
        args!["chat", "--load", pipe],
        args!["template", "demo", pipe],
        args!["template", "demo", "--tools", pipe],
        args!["template", "demo", pipe, "--jsonl"],
        args!["tokenize", model, pipe, "--jsonl"],
        args!["detokenize", model, pipe, "--jsonl"],
        args!["verify", golden, "--golden", pipe],
        args!["batch", pipe, "-o", out],
        args!["inspect", pipe],
    ] {
        run(command).fails_saying(&["pipe", "not a regular file"]);
    }
}

#[test]
fn errors_are_short_however_much_they_quote() {
    let directory = tempfile::tempdir().unwrap();
    let long = "x".repeat(2_000_000);
    let file = directory.path().join("tools.json");
    std::fs::write(&file, format!("{{\"name\": \"{long}\"}}")).unwrap();
    let conversation = format!(r#"[{{"role": "{long}", "content": ""}}]"#);
    let path = "y".repeat(4000);
    for ran in [
        run(args!["run", "demo", "Hi", "--tools", file]),
        run_with_input(args!["template", "demo"], conversation.as_bytes()),
        run_with_input(args!["run", "demo", "--ids", "-"], long.as_bytes()),
        run(args!["inspect", path]),
    ] {
        let line = ran.stderr.trim_end().chars().count();
        assert!(line < 300, "{line} characters");
        ran.fails_saying(&[]);
    }
    // The command line itself.
    for command in [args![path], args!["run", "demo", "--ids", path], args!["inspect", "--ctx", path]] {
        let ran = run(command);
        assert!(ran.stderr.lines().all(|line| line.chars().count() < 300), "{}", ran.stderr);
        ran.refuses_usage(&["yyyy"]);
    }
}

/// The dearest JSON there is, seven bytes for an object, its table, a key and a number: 14 MB of it would become 900.
/// The system holds the program to less (`ulimit -v`, in KiB), wherever a file of JSON is named.
#[test]
fn json_of_small_values_takes_no_memory() {
    let directory = tempfile::tempdir().unwrap();
    let dense = format!("[{}0]", r#"{"":0},"#.repeat(2_000_000));
    let file = |name: &str, text: String| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let plain = file("plain.json", r#"[{"role": "user", "content": "a"}]"#.to_owned());
    let talk =
        file("talk.json", format!(r#"{{"messages": [{{"role": "user", "content": "a"}}], "x": {dense}}}"#));
    let tools = file("tools.json", format!("[{{\"x\": {dense}}}]"));
    let body = format!(r#"{{"model": "demo", "prompt": "a", "x": {dense}}}"#);
    let request =
        format!(r#"{{"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {body}}}"#);
    let requests = file("requests.jsonl", request);
    let answers = directory.path().join("answers.jsonl");
    for (command, words) in [
        (args!["template", "demo", talk], "too many small values"),
        (args!["template", "demo", "--jsonl", talk], "1 of 1 lines"),
        (args!["template", "demo", plain, "--tools", tools], "too many small values"),
        (args!["run", "demo", "Hi", "--tools", tools, "--threads", "1"], "too many small values"),
        (
            args!["batch", "--quiet", requests, "-o", answers, "--ctx", "256", "--threads", "1"],
            "1 of 1 requests",
        ),
    ] {
        let bounded = "ulimit -v 600000 && exec \"$0\" \"$@\"";
        let program = env!("CARGO_BIN_EXE_glimmer");
        let output = Command::new("sh").args(["-c", bounded, program]).args(command).output().unwrap();
        support::Ran::from(output).fails_saying(&[words]);
    }
    let answer: serde_json::Value = serde_json::from_slice(&std::fs::read(&answers).unwrap()).unwrap();
    assert_eq!(answer["response"]["body"]["error"]["param"], "x", "{answer}");
    let long =
        file("long.json", format!("[{{\"role\": \"user\", \"content\": \"{}\"}}]", "a ".repeat(9 << 20)));
    run(args!["template", "demo", long]).fails_saying(&["long.json", "more than 16777216 bytes"]);
}

#[test]
fn a_missing_model_says_what_a_model_is() {
    for verb in ["chat", "run", "inspect", "verify", "serve", "tokenize", "template", "bench"] {
        run(args![verb, "glm-4-9b-chatt", "hi"].into_iter().take(if ["run", "tokenize"].contains(&verb) {
            3
        } else {
            2
        }))
        .fails_saying(&[
            "glm-4-9b-chatt: no such file",
            ".gguf",
            "`demo`",
            "glimmer pull",
            "mean glm-4-9b-chat",
        ]);
    }
    run(args!["run", "glm-4-9b-chatt"]).fails_saying(&["glm-4-9b-chatt: no such file", "glimmer pull"]);
}

#[cfg(not(any(feature = "cuda", feature = "emulate")))]
#[test]
fn a_program_without_cuda() {
    let model = fixture("glm-edge-1.5b-chat");
    run(args!["verify", &model, "--device", "cuda"]).fails_saying(&["without CUDA", "--features cuda"]);
    let ran = run(args!["verify", &model, "--device", "auto"]);
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("computing on the CPU"), "{}", ran.stderr);
}

#[test]
fn ids_that_are_none() {
    let model = fixture("glm4-9b-0414");
    logits(&model, "1,320").fails_saying(&["id 320", "number 2", "vocabulary of 320"]);
    logits(&model, "4294967295").fails_saying(&["id 4294967295"]);
    logits(&model, "").fails_saying(&["no ids"]);
    for wrong in ["x", "1,-2", "4294967296", "1.5"] {
        run(args!["logits", model, "--ids", wrong, "-o", "out"]).refuses_usage(&["--ids", "no token id"]);
    }
    let stdin =
        |input: &[u8]| run_with_input(args!["run", model, "--ids", "-", "--print-ids", "-n", "1"], input);
    assert_eq!(stdin(b"[1, 2,\n3]\n").status, 0);
    stdin(b"1,x").fails_saying(&["standard input", "\"x\""]);
    stdin(b"1,\xff").fails_saying(&["standard input", "byte 2", "UTF-8"]);
    stdin(b"").fails_saying(&["no ids"]);
}

#[test]
fn prompts_that_do_not_fit() {
    let model = fixture("glm4-9b-0414");
    let run = |ctx: &str| {
        support::run(args!["run", model, "--ids", "1,2,3,4", "--print-ids", "-n", "1", "--ctx", ctx])
    };
    run("3").fails_saying(&["4 tokens", "context 3"]);
    run("4").fails_saying(&["4 tokens", "context 4"]);
    assert_eq!(run("5").status, 0);
    assert_eq!(run("max").status, 0);
    let beyond = run("100000");
    assert_eq!(beyond.status, 0);
    assert!(beyond.stderr.starts_with("warning: "), "{}", beyond.stderr);
}

#[test]
fn chatglm_6b_without_its_special_tokens() {
    logits(&fixture("chatglm-6b"), "1,2,3").fails_saying(&["<sop>"]);
}

#[test]
fn outputs_that_cannot_be_written() {
    let model = fixture("glm4-9b-0414");
    let directory = tempfile::tempdir().unwrap();
    let to = |path: &Path| run(args!["logits", model, "--ids", "1", "-o", path]);
    to(&directory.path().join("no/such/directory/out")).fails_saying(&["no/such/directory/out"]);
    to(directory.path()).fails_saying(&["already exists"]);
    run(args!["verify", model, "--make", "--golden", directory.path()]).fails_saying(&["already exists"]);
    // A file of answers lies beside a model, and the demo lies nowhere.
    run(args!["verify", "demo"]).fails_saying(&["demo", "--golden"]);
    run(args!["verify", "demo", "--make"]).fails_saying(&["demo", "--golden"]);
    if Path::new("/dev/full").exists() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let ran = support::glimmer().args(["inspect"]).arg(&model).stdout(full).output().unwrap();
        support::Ran::from(ran).fails_saying(&["standard output", "No space"]);
    }
}

#[cfg(unix)]
#[test]
fn outputs_that_are_links_pipes_or_devices() {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
    let model = fixture("glm4-9b-0414");
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let to = |path: &Path| run(args!["logits", model, "--ids", "1,2", "-o", path]).quiet_success();
    to(&at("plain"));
    let expected = std::fs::read(at("plain")).unwrap();
    // A link stays one and leads to the file, whether or not that is there yet; who could read it still can.
    std::fs::create_dir(at("there")).unwrap();
    std::fs::write(at("there/old"), "old").unwrap();
    std::fs::set_permissions(at("there/old"), PermissionsExt::from_mode(0o600)).unwrap();
    for name in ["old", "new"] {
        symlink(Path::new("there").join(name), at(name)).unwrap();
        to(&at(name));
        assert!(at(name).is_symlink());
        assert_eq!(std::fs::read(at("there").join(name)).unwrap(), expected);
    }
    assert_eq!(std::fs::metadata(at("there/old")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(at("there")).unwrap().count(), 2, "a temporary file is left");
    symlink("round", at("round")).unwrap();
    run(args!["logits", model, "--ids", "1,2", "-o", at("round")]).fails_saying(&["round"]);
    // A pipe and a device are written into and stay what they are.
    assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
    let path = at("pipe");
    let reader = std::thread::spawn(move || std::fs::read(path).unwrap());
    to(&at("pipe"));
    assert_eq!(reader.join().unwrap(), expected);
    assert!(std::fs::metadata(at("pipe")).unwrap().file_type().is_fifo());
    symlink("/dev/null", at("null")).unwrap();
    to(&at("null"));
    assert!(at("null").is_symlink() && !Path::new("/dev/null").is_file());
    run(args!["verify", model, "--make", "--golden", at("null"), "--quiet"]).quiet_success();
    // Weights come in the order of the file, so that a GGUF can go through a pipe as well.
    let convert = |to: &str, force: Option<&str>| {
        let ran = run(args!["convert", model, at(to)].into_iter().chain(force.map(Into::into)));
        assert_eq!(ran.status, 0, "{}", ran.stderr);
    };
    convert("model.gguf", None);
    let expected = std::fs::read(at("model.gguf")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(at("pipe.gguf")).status().unwrap().success());
    let path = at("pipe.gguf");
    let reader = std::thread::spawn(move || std::fs::read(path).unwrap());
    convert("pipe.gguf", None);
    assert!(reader.join().unwrap() == expected);
    // A link to a directory, empty or to be replaced.
    std::fs::create_dir(at("models")).unwrap();
    symlink("models", at("link")).unwrap();
    for force in [None, Some("--force")] {
        convert("link", force);
        assert!(at("link").is_symlink() && at("models/config.json").is_file());
    }
}

#[test]
fn values_that_are_not_finite() {
    let copy = copy_of("glm-edge-1.5b-chat");
    let path = copy.path().join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.len();
    // Tensors lie in alphabetical order, so that the last bytes are a layer's.
    for pair in bytes[end - 64..].chunks_exact_mut(2) {
        pair.copy_from_slice(&[0x80, 0x7f]);
    }
    std::fs::write(&path, bytes).unwrap();
    logits(copy.path(), "1,2,3").fails_saying(&["finite"]);
}

#[test]
fn wrong_usage() {
    let model = fixture("glm4-9b-0414");
    run(args!["frobnicate"]).refuses_usage(&["frobnicate"]);
    run(args!["logits", model, "--ids", "1"]).refuses_usage(&["--output"]);
    run(args!["logits", model, "-o", "x"]).refuses_usage(&["--ids"]);
    run(args!["run", model, "--ids", "1", "--threads", "0"]).refuses_usage(&["--threads"]);
    run(args!["run", model, "--ids", "1", "--temperature", "nan"]).refuses_usage(&["--temperature"]);
    run(args!["run", model, "--ids", "1", "--ctx", "0"]).refuses_usage(&["--ctx"]);
    run(args!["inspect", model, "--kv-type", "f64"]).refuses_usage(&["q8_0"]);
    run(args!["inspect", model, "--family", "llama"]).refuses_usage(&["chatglm2"]);
    run(args!["completions", "tcl"]).refuses_usage(&["zsh"]);
    run(args!["man", "frobnicate"]).refuses_usage(&["frobnicate"]);
}
