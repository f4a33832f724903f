//! `glimmer inspect`: the whole report of one model, word for word, and the figures of all.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use support::{FIXTURES, fixture, run};

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
            // GLM-Edge as well: with its vocabulary cut down, nothing in these configurations tells it from GLM-4-9B-hf.
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
fn memory_follows_context_and_precision() {
    let kv = |ctx: &str, kv: &str| {
        let stdout = support::glimmer()
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
