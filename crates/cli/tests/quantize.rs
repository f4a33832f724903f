//! `--quantize`: what is quantized while it is loaded computes what `convert` makes of the same files, to the bit.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::path::Path;

use support::{FIXTURES, Ran, Stored, fixture, glimmer, run};

/// What is said of weights that were rounded before.
fn second_rounding(said: &str) -> Option<String> {
    said.lines().find(|line| line.contains("a second time")).map(str::to_owned)
}

/// Logits of some ids, as bits, and what is said of a second rounding.
fn logits(model: &Path, ids: &str, flags: &[&str]) -> (Vec<u32>, Option<String>) {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("logits.safetensors");
    let mut command = glimmer();
    command.arg("logits").arg(model).args(["--ids", ids, "-o"]).arg(&out).args(flags);
    let ran = Ran::from(command.output().unwrap());
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    let bits = Stored::open(&out).f32("logits").iter().map(|logit| logit.to_bits()).collect();
    (bits, second_rounding(&ran.stderr))
}

fn convert(from: &Path, to: &Path, dtype: &str) -> Option<String> {
    let ran = run(args!["convert", from, to, "--type", dtype, "--quiet"]);
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    second_rounding(&ran.stderr)
}

const QUANTIZATIONS: [(&str, &str); 2] = [("4-bit", "Q4_K"), ("8-bit", "Q8_0")];

/// Every layout: matrices fused and apart, interleaved, packed by ChatGLM; widths of 64 to 512.
#[test]
fn what_is_loaded_is_what_convert_writes() {
    let directory = tempfile::tempdir().unwrap();
    for name in FIXTURES {
        let expected = Stored::open(&fixture(name).join("expected.safetensors"));
        let ids = expected.ids("short.input_ids");
        for (bits, dtype) in QUANTIZATIONS {
            let file = directory.path().join(format!("{name}-{dtype}.gguf"));
            let warned = convert(&fixture(name), &file, dtype);
            // Both modes, by turns.
            let flags = ["--compute", if bits == "4-bit" { "auto" } else { "f32" }, "--threads", "2"];
            let (written, _) = logits(&file, &ids, &flags);
            let (loaded, said) = logits(&fixture(name), &ids, &[&flags[..], &["--quantize", bits]].concat());
            assert!(loaded == written, "{name}, {bits}");
            assert_eq!(said, warned, "{name}, {bits}");
        }
    }
}

/// What is quantized already is rounded again by the same rule, which is told; what has the type stays the same bytes.
#[test]
fn quantized_files_are_quantized_again() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["glm4-9b-orig-k256", "chatglm3-6b"] {
        for stored in ["Q4_K_M", "Q8_0"] {
            let from = directory.path().join(format!("{name}.{stored}.gguf"));
            convert(&fixture(name), &from, stored);
            for (bits, dtype) in QUANTIZATIONS {
                let again = directory.path().join(format!("{name}.{stored}.{dtype}.gguf"));
                let warned = convert(&from, &again, dtype);
                let (written, _) = logits(&again, "3,4,5", &[]);
                let (loaded, said) = logits(&from, "3,4,5", &["--quantize", bits]);
                assert!(loaded == written, "{name}, {stored} to {bits}");
                assert_eq!(said, warned, "{name}, {stored} to {bits}");
                assert_eq!(said.is_some(), stored != dtype, "{name}, {stored} to {bits}");
            }
        }
    }
}

/// Bytes that it takes are told by `bench`, and are those of the file.
#[test]
fn bench_knows_what_is_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let (name, file) = ("glm4-9b-orig-k256", directory.path().join("k256.gguf"));
    convert(&fixture(name), &file, "Q4_K");
    let report = |model: &Path, flags: &[&str]| {
        let mut command = glimmer();
        command.arg("bench").arg(model).args(["-p", "3", "-n", "0", "-r", "1", "-t", "1", "-o", "json"]);
        let ran = Ran::from(command.args(flags).output().unwrap());
        assert_eq!(ran.status, 0, "{}", ran.stderr);
        serde_json::from_str::<serde_json::Value>(&ran.stdout).unwrap()
    };
    let (stored, loaded) = (report(&file, &[]), report(&fixture(name), &["--quantize", "4-bit"]));
    for key in ["types", "size_bytes", "parameters"] {
        assert_eq!(loaded[key], stored[key], "{key}");
    }
    assert_eq!(loaded["memory"]["weights_bytes"], stored["memory"]["weights_bytes"]);
}

#[test]
fn what_cannot_be_is_told() {
    let model = fixture("glm4-9b-0414");
    run(args!["run", model, "--ids", "1", "--quantize", "5-bit"]).refuses_usage(&["4-bit", "8-bit"]);
    let peer = args!["bench", model, "--quantize", "4-bit", "--compare", "llama-bench"];
    run(peer).refuses_usage(&["--quantize", "--compare"]);

    // A weight that no block holds: 2^100 in the middle of BF16.
    let broken = support::copy_of("glm4-9b-0414");
    let name = "model.layers.1.mlp.down_proj.weight";
    let checkpoint = glimmer_checkpoint::Checkpoint::open(broken.path()).unwrap();
    let (file, at) = checkpoint.info(name).map(|t| (t.file.to_path_buf(), t.offset as usize + 400)).unwrap();
    drop(checkpoint);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[at..at + 2].copy_from_slice(&0x7180u16.to_le_bytes());
    std::fs::write(&file, &bytes).unwrap();
    let out = broken.path().join("logits.safetensors");
    let ran = || run(args!["logits", broken.path(), "--ids", "1", "-o", out, "--quantize", "8-bit"]);
    ran().fails_saying(&[name, "value 200 is 12676506", "which F16 cannot hold"]);
    bytes[at..at + 2].copy_from_slice(&0x7fc0u16.to_le_bytes());
    std::fs::write(&file, &bytes).unwrap();
    ran().fails_saying(&[name, "NaN"]);
}
