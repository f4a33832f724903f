//! `glimmer fit`: what a model takes, how fast it will be, and what is recommended.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use serde_json::Value;
use support::{Ran, fixture, glimmer};
use unicode_width::UnicodeWidthStr;

/// Runs with so many columns and a home that has no models.
fn narrow(columns: usize, args: &[&str]) -> Ran {
    let mut command = glimmer();
    command.env("COLUMNS", columns.to_string()).env("XDG_DATA_HOME", "/nowhere").arg("fit").args(args);
    command.output().unwrap().into()
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&narrow(80, &[args, &["--json"]].concat()).quiet_success()).unwrap()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value}"))
}

/// Rows are the sums of their parts, what fits does, and a longer context does not.
fn holds_together(report: &Value) {
    let beside = number(&report["cache"]) + number(&report["scratch"]);
    for row in report["quantizations"].as_array().unwrap() {
        let total = number(&row["total"]);
        assert_eq!(total, number(&row["bytes"]) + beside, "{row}");
        assert_eq!(row["fits"], total <= number(&report["room"]), "{row}");
        let longest = number(&row["longest_context"]);
        assert_eq!(row["fits"], longest >= number(&report["context"]), "{row}");
        assert!(row["predicted"]["tokens_per_second"].as_f64().unwrap() > 0.0, "{row}");
    }
}

/// The memory of a published model is computed by hand in `show`'s tests: here it is that of the context and the users.
#[test]
fn on_a_card() {
    let report = json(&["glm-4-9b-chat", "--gpu", "rtx 4090"]);
    holds_together(&report);
    assert_eq!(number(&report["context"]), 8192);
    assert_eq!(number(&report["cache"]), 8192 * 40_960);
    assert_eq!(report["predicted_from"]["measured"], false);
    assert_eq!(report["recommended"]["quantization"], "F16");
    let first = &report["quantizations"][0];
    assert!(first["predicted"]["first_token_seconds"].is_null());
    // 1,008 GB/s, 17.8 GB a token.
    let speed = first["predicted"]["tokens_per_second"].as_f64().unwrap();
    assert!((50.0..58.0).contains(&speed), "{speed}");

    let many = json(&["glm-4-9b-chat", "--gpu", "RTX 4090", "--users", "64", "--kv-type", "q8_0"]);
    holds_together(&many);
    assert_eq!(number(&many["cache"]), 64 * 8192 * 40_960 * 34 / 64);
    let text = narrow(80, &["glm-4-9b-chat", "--gpu", "RTX 4090"]).quiet_success();
    assert!(text.contains("at most") && !text.contains("first token"), "{text}");
}

#[test]
fn on_this_machine() {
    let report = json(&["glm-edge-chat:1.5b", "--ram", "2.5G", "--ctx", "2048"]);
    holds_together(&report);
    assert_eq!(number(&report["room"]), 5 << 29);
    assert_eq!(report["predicted_from"]["measured"], true);
    let rows = report["quantizations"].as_array().unwrap();
    let of = |name: &str| rows.iter().find(|row| row["quantization"] == name).unwrap();
    assert!(of("F16")["fits"] == false && of("Q8_0")["fits"] == true);
    assert!(report["recommended"]["quantization"].is_string());
    let figure = |name: &str, key: &str| of(name)["predicted"][key].as_f64().unwrap();
    assert!(figure("Q4_K_M", "tokens_per_second") > figure("Q8_0", "tokens_per_second"));
    assert!(figure("Q4_K_M", "first_token_seconds") > 0.0);
}

/// In any width, and what is in no catalogue.
#[test]
fn files_are_taken_as_they_are() {
    let path = fixture("glm-edge-1.5b-chat");
    let path = path.to_str().unwrap();
    let inspected = glimmer().args(["inspect", path, "--json"]).output().unwrap();
    let inspected: Value = serde_json::from_slice(&inspected.stdout).unwrap();
    let report = json(&[path, "--ctx", "100", "--ram", "1G"]);
    holds_together(&report);
    let rows = report["quantizations"].as_array().unwrap();
    assert_eq!((rows.len(), &rows[0]["quantization"]), (1, &Value::from("as stored")));
    assert_eq!(rows[0]["bytes"], inspected["memory"]["weights"]);
    let text = narrow(60, &["demo", "--ram", "1G"]).quiet_success();
    for word in ["exact", "predicted", "recommended", "as stored", "tokens/s"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(text.lines().all(|line| line.width() <= 60), "{text}");
}

#[test]
fn nothing_fits() {
    let report = json(&["glm-4-9b-chat", "--ram", "2G", "--quant", "q4_k_m"]);
    holds_together(&report);
    assert_eq!(report["recommended"]["quantization"], Value::Null);
    assert!(report["recommended"]["reason"].as_str().unwrap().starts_with("nothing fits: Q4_K_M needs"));
}

#[test]
fn cards_with_the_context_that_fits() {
    let report = json(&["glm-4-9b-chat", "--cards", "--quant", "Q4_K_M", "--ctx", "32768"]);
    let cards = report["cards"].as_array().unwrap();
    assert!(cards.len() > 20 && cards.iter().all(|card| number(&card["context"]) >= 32_768));
    let names = |report: &Value| {
        let cards = report["cards"].as_array().unwrap().iter();
        cards.map(|card| card["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let fewer = json(&["glm-4-9b-chat", "--cards", "--ctx", "32768", "--users", "8"]);
    assert!(names(&fewer).len() < names(&report).len());
    assert!(names(&fewer).iter().all(|name| names(&report).contains(name)));
    for columns in [60, 80, 120] {
        let text = narrow(columns, &["glm-4-9b-chat", "--cards"]).quiet_success();
        assert!(text.contains("GeForce RTX 4090"), "{text}");
        assert!(text.lines().all(|line| line.width() <= columns), "{text}");
    }
}

#[test]
fn what_cannot_be_said() {
    narrow(80, &["glm-4-9b-caht"]).fails_saying(&["glm-4-9b-caht", "did you mean glm-4-9b-chat"]);
    narrow(80, &["glm-edge-chat"]).fails_saying(&["several sizes", "glm-edge-1.5b-chat"]);
    narrow(80, &["glm-5"]).fails_saying(&["no decoder of glm-5"]);
    narrow(80, &["glm-4-9b-chat", "--quant", "IQ1_S"]).fails_saying(&["--quant", "Q4_K_M"]);
    narrow(80, &["glm-4-9b-chat", "--gpu", "RTX 4091"]).fails_saying(&["did you mean RTX 4090"]);
    narrow(80, &["glm-4-9b-chat", "--gpu", "GTX 1080"]).fails_saying(&["GTX 1080", "no card that"]);
    narrow(80, &["no-such.gguf"]).fails_saying(&["no-such.gguf", "no such file"]);
}

/// Sizes that no machine has are told, not tried.
#[test]
fn the_largest_there_may_be() {
    let report = json(&["chatglm-6b", "--gpu", "H100 PCIe 80 GB", "--ctx", "16777216", "--users", "16384"]);
    holds_together(&report);
    assert_eq!(report["recommended"]["quantization"], Value::Null);
}
