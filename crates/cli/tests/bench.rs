//! `glimmer bench`: every column in every form, on models small enough for figures to mean nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::path::{Path, PathBuf};

use serde_json::Value;
use support::{Ran, fixture, run};

fn bench(model: &Path, flags: &[&str]) -> Ran {
    support::glimmer().arg("bench").arg(model).args(flags).output().unwrap().into()
}

fn json(model: &Path, flags: &[&str]) -> Value {
    let all = [flags, &["--output", "json"]].concat();
    serde_json::from_str(&bench(model, &all).quiet_success()).unwrap()
}

fn gguf(directory: &Path) -> PathBuf {
    let path = directory.join("model.gguf");
    run(args!["convert", fixture("glm-edge-k256"), path, "--type", "Q4_K", "-q"]);
    assert!(path.exists());
    path
}

#[test]
fn json_has_every_figure() {
    let flags =
        ["-p", "8,40", "-n", "3", "-d", "0,50", "--parallel", "1,2", "-r", "2", "--ubatch-size", "16"];
    let report = json(&fixture("glm-edge-1.5b-chat"), &flags);
    let tests: Vec<_> = report["results"].as_array().unwrap().iter().map(|row| &row["test"]).collect();
    assert_eq!(tests.len(), 12);
    assert_eq!(tests[..6], ["pp8", "pp40", "tg3", "pp8 @ d50", "pp40 @ d50", "tg3 @ d50"]);
    assert_eq!(tests[6], "pp8 x2");
    for row in report["results"].as_array().unwrap() {
        assert_eq!(row["samples_ts"].as_array().unwrap().len(), 2);
        for key in ["avg_ts", "stddev_ts", "best_ts", "floor_ts", "percent_of_floor"] {
            assert!(row[key].as_f64().unwrap() >= 0.0, "{key} of {row}");
        }
        assert!(row["best_ts"].as_f64() >= row["avg_ts"].as_f64());
        assert!(row["bound"] == "memory" || row["bound"] == "arithmetic");
    }
    for key in ["read_gb_s", "int8_gop_s", "f32_gflop_s"] {
        assert!(report["limits"][key].as_f64().unwrap() > 0.0, "{key}");
    }
    assert!(report["first_token"]["best_s"].as_f64().unwrap() > 0.0);
    assert_eq!(report["first_token"]["samples_s"].as_array().unwrap().len(), 2);
    if cfg!(target_os = "linux") {
        assert!(report["memory"]["peak_bytes"].as_u64().unwrap() > 1 << 20);
    }
    assert_eq!(report["types"], "BF16");
}

#[test]
fn tables_have_every_column() {
    let flags = ["-p", "8", "-n", "2", "-r", "1", "-t", "1"];
    let model = fixture("glm4-9b-0414");
    let table = bench(&model, &flags).quiet_success();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(
        lines[0],
        "| model | size | params | threads | test | t/s | best | floor | of floor | bound by |"
    );
    assert!(lines[2].contains("| pp8 |") && lines[3].contains("| tg2 |"), "{table}");
    assert!(lines[..4].iter().all(|line| line.matches('|').count() == 11), "{table}");
    for words in ["limits: memory ", "GB/s, int8 ", "start to first token", "peak resident memory: "] {
        assert!(table.contains(words), "{words:?} is not in: {table}");
    }

    let csv = bench(&model, &[&flags[..], &["--output", "csv"]].concat()).quiet_success();
    let lines: Vec<&str> = csv.lines().collect();
    let names: Vec<&str> = lines[0].split(',').collect();
    assert_eq!(lines.len(), 3);
    for line in &lines[1..] {
        // The device's own name has commas, between quotation marks.
        let cells = line.split('"').enumerate().map(|(i, part)| if i % 2 == 1 { "" } else { part });
        assert_eq!(cells.collect::<String>().split(',').count(), names.len(), "{line}");
    }
    assert!(names.contains(&"percent_of_floor") && names.contains(&"int8_gop_s"));
}

/// A context that is seen both ways, packed weights, the exact mode, the plain device.
#[test]
fn every_generation_runs() {
    let flags = ["-p", "40", "-n", "2", "-d", "0,30", "-r", "1", "--ubatch-size", "8"];
    for (name, types, more) in [
        ("chatglm-6b-int4", "INT4", &["--parallel", "2"][..]),
        ("chatglm2-6b-32k", "F16", &["--compute", "f32"]),
        ("glm4-9b-orig", "BF16", &["--device", "reference"]),
        ("chatglm3-6b", "F16", &["--kv-type", "q8_0", "--family", "chatglm3"]),
    ] {
        let report = json(&fixture(name), &[&flags[..], more].concat());
        assert_eq!(report["results"].as_array().unwrap().len(), 4, "{name}");
        assert_eq!(report["types"], types, "{name}");
    }
    bench(&fixture("chatglm-6b"), &["-p", "1"]).refuses_usage(&["pp1", "ChatGLM-6B"]);
    bench(&fixture("chatglm3-6b"), &["-p", "0", "-n", "0"]).refuses_usage(&["-p", "-n"]);
}

#[cfg(unix)]
#[test]
fn the_peer_is_measured_in_turns() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let model = gguf(directory.path());
    let program = directory.path().join("llama-bench");
    let script = |body: &str| {
        std::fs::write(&program, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    let log = directory.path().join("log");
    let answer = r#"[{"n_prompt": 8, "n_gen": 0, "n_depth": 0, "avg_ts": 1.0, "samples_ts": [10.0], "other": null},
        {"n_prompt": 0, "n_gen": 2, "avg_ts": 2.0}]"#;
    script(&format!("echo \"$@\" >> {}\ncat <<'END'\n{answer}\nEND", log.display()));
    let flags = ["-p", "8", "-n", "2", "-r", "3", "-t", "2", "--parallel", "1,2"];
    let program_name = program.to_str().unwrap();
    let compared = json(
        &model,
        &[&flags[..], &["--compare", program_name, "--compare-args", "-fa 1 --repack 0"]].concat(),
    );

    let calls = std::fs::read_to_string(&log).unwrap();
    let expected = format!("-m {} -p 8 -n 2 -t 2 -r 1 -o json -fa 1 --repack 0\n", model.display());
    assert_eq!(calls, expected.repeat(3));
    assert_eq!(compared["types"], "Q4_K");
    let rows = compared["results"].as_array().unwrap();
    assert_eq!(rows[0]["peer"]["samples_ts"], serde_json::json!([10.0, 10.0, 10.0]));
    assert_eq!(rows[1]["peer"]["median_ts"], 2.0);
    let ours = rows[1]["samples_ts"].as_array().unwrap();
    let mut ours: Vec<f64> = ours.iter().map(|sample| sample.as_f64().unwrap()).collect();
    ours.sort_by(f64::total_cmp);
    // Numbers read back from JSON may be off in the last bit.
    let ratio = rows[1]["peer"]["ratio"].as_f64().unwrap() / (ours[1] / 2.0);
    assert!((ratio - 1.0).abs() < 1e-12, "{ratio}");
    // llama-bench has no several sequences.
    assert!(rows[2..].iter().all(|row| row.get("peer").is_none()));
    let table = bench(&model, &["-p", "8", "-n", "2", "-r", "1", "--compare", program_name]).quiet_success();
    assert!(table.starts_with("| model |") && table.contains("| median | peer median | ratio |"), "{table}");

    script("echo 'no such file' >&2; exit 3");
    bench(&model, &["-r", "1", "--compare", program_name]).fails_saying(&["llama-bench", "no such file"]);
    script("echo '[]'");
    bench(&model, &["-r", "1", "--compare", program_name]).fails_saying(&["pp512"]);
    bench(&fixture("glm-edge-k256"), &["--compare", program_name]).fails_saying(&[".gguf"]);
}

#[test]
fn the_stress_test_is_glm_4s() {
    bench(&fixture("glm-edge-1.5b-chat"), &["--stress"]).fails_saying(&["151337", "300"]);
    bench(&fixture("glm-edge-1.5b-chat"), &["--stress", "-p", "1,2"]).refuses_usage(&["-p"]);
}
