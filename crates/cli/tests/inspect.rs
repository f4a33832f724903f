//! `glimmer inspect`: the whole report of one model, word for word, and the figures of all.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use support::{FIXTURES, Ran, add_tensors, copy_of, fixture, glimmer, root, run, shared};

#[test]
fn every_fixture_is_understood() {
    for name in FIXTURES {
        let stdout = run(args!["inspect", fixture(name), "--json"]).quiet_success();
        let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        let family = report["family"].as_str().unwrap();
        let expected = match name {
            _ if name.starts_with("chatglm-6b") => "chatglm-6b",
            _ if name.starts_with("chatglm2") => "chatglm2",
            _ if name.starts_with("chatglm3") => "chatglm3",
            _ if name.ends_with("0414") => "glm-4-0414",
            // With its vocabulary cut down, only the directory's name tells it from GLM-4-9B-hf.
            _ if name.starts_with("glm-edge") => "glm-edge",
            _ => "glm-4",
        };
        assert_eq!(family, expected, "{name}");
        let total: u64 =
            report["types"].as_array().unwrap().iter().map(|t| t["bytes"].as_u64().unwrap()).sum();
        assert_eq!(report["memory"]["weights"], total, "{name}");
        assert!(!report["tensors"].as_array().unwrap().is_empty());
    }
}

#[test]
fn the_whole_report() {
    let directory = root().canonicalize().unwrap();
    let output =
        glimmer().current_dir(directory).args(["inspect", "fixtures/glm4-32b-0414"]).output().unwrap();
    let expected = "\
model      fixtures/glm4-32b-0414 (safetensors)
family     glm-4-0414
decoder    2 layers, hidden 72, feed-forward 104 (SwiGLU), vocabulary 320
attention  8 heads of 20, 4 of keys and values
block      norms before and after each part, RMSNorm (eps 1e-5)
positions  in order; rotary base 10000, 10 of 20 elements
biases     none
head       stored
trained    512 tokens of context
chat       glm-4-0414
stop ids   301, 302, 303
memory     1.4 MiB = weights 314.0 KiB + 320.0 KiB of cache for 512 tokens in f16 + activations 801.8 KiB
type       BF16     23 tensors, 314.0 KiB
tensor     BF16  [320, 72]        model.embed_tokens.weight
tensor     BF16  [72]             model.layers.{0-1}.input_layernorm.weight
tensor     BF16  [72, 104]        model.layers.{0-1}.mlp.down_proj.weight
tensor     BF16  [208, 72]        model.layers.{0-1}.mlp.gate_up_proj.weight
tensor     BF16  [72]             model.layers.{0-1}.post_attention_layernorm.weight
tensor     BF16  [72]             model.layers.{0-1}.post_mlp_layernorm.weight
tensor     BF16  [72]             model.layers.{0-1}.post_self_attn_layernorm.weight
tensor     BF16  [80, 72]         model.layers.{0-1}.self_attn.k_proj.weight
tensor     BF16  [72, 160]        model.layers.{0-1}.self_attn.o_proj.weight
tensor     BF16  [160, 72]        model.layers.{0-1}.self_attn.q_proj.weight
tensor     BF16  [80, 72]         model.layers.{0-1}.self_attn.v_proj.weight
tensor     BF16  [320, 72]        lm_head.weight
tensor     BF16  [72]             model.norm.weight
";
    assert_eq!(Ran::from(output).quiet_success(), expected);
}

/// Whether a text could do anything to a terminal but end its lines.
fn is_harmless(text: &str) -> bool {
    let turns = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !text.contains(|c: char| c.is_control() && c != '\n' || turns(c) || matches!(c, '\u{2028}' | '\u{2029}'))
}

/// Text from a file can neither begin a line of the report nor move the cursor, in whatever name it stands.
#[test]
fn names_cannot_forge_lines() {
    let evil = "a\nhead       the embedding\x1b[2J\r\u{9b}1A\u{7f}\u{202e}\u{2066}\u{2028}名";
    let copy = copy_of("glm-edge-1.5b-chat");
    add_tensors(&copy.path().join("model.safetensors"), &[(evil, "F32"), ("\x1b[31m", "C\x1b[2J")]);
    let shown = run(args!["inspect", copy.path()]).quiet_success();
    assert!(is_harmless(&shown), "{shown:?}");
    assert!(
        shown.contains(
            "a\\nhead       the embedding\\u{1b}[2J\\r\\u{9b}1A\\u{7f}\\u{202e}\\u{2066}\\u{2028}名"
        )
    );
    assert_eq!(shown.lines().filter(|line| line.starts_with("head ")).count(), 1);
    let json = run(args!["inspect", copy.path(), "--json"]).quiet_success();
    assert!(is_harmless(&json), "{json:?}");
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(report["tensors"].as_array().unwrap().iter().any(|tensor| tensor["name"] == evil));
    assert_eq!(report["unread"][0]["name"], "\x1b[31m");

    // In a path, a token, and what errors and warnings quote.
    let named = tempfile::tempdir().unwrap();
    let path = named.path().join("m\n\x1b[2J\u{202e}");
    std::fs::create_dir(&path).unwrap();
    for entry in std::fs::read_dir(copy.path()).unwrap() {
        let from = entry.unwrap().path();
        std::fs::copy(&from, path.join(from.file_name().unwrap())).unwrap();
    }
    assert!(is_harmless(&run(args!["inspect", path]).quiet_success()));
    let config = std::fs::read_to_string(path.join("config.json")).unwrap();
    let with = |key: &str, value: &str| {
        let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
        config[key] = value.into();
        std::fs::write(path.join("config.json"), config.to_string()).unwrap();
        run(args!["inspect", path])
    };
    for key in ["hidden_act", "eos_token_id", "vocab_size", "rope_scaling"] {
        let Ran { stdout, stderr, .. } = with(key, evil);
        assert!(is_harmless(&stdout) && is_harmless(&stderr) && !stderr.is_empty(), "{stdout:?} {stderr:?}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
    let Some(shared) = shared() else { return };
    let shown = run(args!["inspect", shared.join("faults/esc-name")]);
    assert!(is_harmless(&shown.stdout) && is_harmless(&shown.stderr), "{shown:?}");
}

/// A part that cannot be read takes nothing from the rest; the run fails all the same.
#[test]
fn what_can_be_read_is_shown() {
    let copy = copy_of("glm-edge-1.5b-chat");
    std::fs::write(copy.path().join("tokenizer.json"), "{}").unwrap();
    let shown = run(args!["inspect", copy.path()]).fails_saying(&["tokenizer.json"]);
    for begin in ["family     glm-4", "decoder    3 layers", "stop ids   290, 291, 292", "tensor     BF16"] {
        assert!(shown.lines().any(|line| line.starts_with(begin)), "{begin}: {shown}");
    }
    let json = run(args!["inspect", copy.path(), "--json"]).fails_saying(&["tokenizer.json"]);
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(report["warnings"][0].as_str().unwrap().contains("tokenizer.json"), "{report}");
    assert!(report["tokenizer"].is_null() && report["memory"]["total"].as_u64().unwrap() > 0);

    let copy = copy_of("glm-edge-1.5b-chat");
    std::fs::write(copy.path().join("config.json"), r#"{"architectures": ["LlamaForCausalLM"]}"#).unwrap();
    let shown = run(args!["inspect", copy.path()]).fails_saying(&["LlamaForCausalLM", "not supported"]);
    assert!(shown.contains("tensor     BF16") && !shown.contains("decoder "), "{shown}");
}

/// Tensors of other types are listed, and stop nothing that does not need them.
#[test]
fn tensors_of_other_types_are_passed_over() {
    let copy = copy_of("glm-edge-1.5b-chat");
    let path = copy.path().join("model.safetensors");
    add_tensors(&path, &[("extra.scale", "F8_E8M0"), ("extra.weight", "F4")]);
    let shown = run(args!["inspect", copy.path()]).quiet_success();
    assert!(shown.contains("not read   F8_E8M0") && shown.contains("extra.scale"), "{shown}");
    run(args!["verify", copy.path()]).quiet_success();
    let ids = ["logits", "--ids", "1", "-o"];
    let out = copy.path().join("out");
    let logits = |words: &[&str]| {
        run(args![ids[0], copy.path(), ids[1], ids[2], ids[3], out]).fails_saying(words);
    };
    let bytes = std::fs::read(&path).unwrap();
    // The same bytes by another name: no type is said by the bytes.
    let needed = String::from_utf8_lossy(&bytes[8..]).find("model.norm.weight").map(|at| at + 8).unwrap();
    let at = bytes[needed..].windows(4).position(|four| four == b"BF16").unwrap() + needed;
    let mut changed = bytes.clone();
    changed[at..at + 4].copy_from_slice(b"U16\"");
    changed[at + 4] = b' ';
    std::fs::write(&path, changed).unwrap();
    logits(&["model.norm.weight", "U16", "not supported"]);
}

#[test]
fn a_tokenizer_alone_is_shown_too() {
    let shown = run(args!["inspect", root().join("crates/tokenizer/tests/data/glm-edge")]).quiet_success();
    for line in [
        "tokenizer  1270 tokens, 14 of them special, tokenizer.json",
        "chat       glm-edge",
        "stop ids   1256 <|endoftext|>, 1263 <|user|>, 1265 <|observation|>",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{shown}");
    }
}

#[test]
fn memory_follows_context_and_precision() {
    let kv = |ctx: &str, kv: &str| {
        let stdout = glimmer()
            .arg("inspect")
            .arg(fixture("glm4-9b-0414"))
            .args(["--json", "--ctx", ctx, "--kv-type", kv])
            .output()
            .unwrap()
            .stdout;
        let report: serde_json::Value = serde_json::from_slice(&stdout).unwrap();
        report["memory"]["kv"].as_u64().unwrap()
    };
    assert_eq!(kv("256", "f32"), 2 * kv("256", "f16"));
    assert_eq!(kv("512", "f16"), 2 * kv("256", "f16"));
    assert!(kv("256", "q8_0") < kv("256", "f16"));
}
