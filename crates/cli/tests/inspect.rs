//! `glimmer inspect`: the whole report of one model, word for word, and the figures of all.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use support::{FIXTURES, Ran, fixture, glimmer, root, run};

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
