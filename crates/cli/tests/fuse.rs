//! `glimmer fuse`: a model with an adapter merged in computes what the model does with the adapter beside it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::path::{Path, PathBuf};

use glimmer_checkpoint::Checkpoint;
use support::{Ran, Stored, distance, fixture, root, run};

const BASE: &str = "glm-4-9b-chat-hf";

fn peft(name: &str) -> PathBuf {
    root().join("crates/models/tests/data/peft").join(name)
}

fn fuse(from: &Path, to: &Path, flags: &[&str]) -> Ran {
    support::glimmer().arg("fuse").args([from, to]).args(flags).output().unwrap().into()
}

fn lora(path: &Path) -> String {
    format!("--lora={}", path.display())
}

#[track_caller]
fn fused(from: &Path, to: &Path, flags: &[&str]) {
    let ran = fuse(from, to, flags);
    assert_eq!((ran.status, ran.stdout.as_str()), (0, ""), "{}", ran.stderr);
}

/// A model's logits of these ids.
fn logits(model: &Path, ids: &str) -> Vec<f32> {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("logits.safetensors");
    run(args!["logits", model, "--ids", ids, "-o", out]).quiet_success();
    Stored::open(&out).f32("logits")
}

#[test]
fn a_fused_model_computes_what_the_adapter_did() {
    let expected = Stored::open(&peft("expected.safetensors"));
    let (directory, ids) = (tempfile::tempdir().unwrap(), expected.ids("ids"));
    for name in ["split", "fused", "rslora", "dora"] {
        for (out, kind) in [(format!("{name}.gguf"), "F32"), (name.to_owned(), "F32")] {
            let out = directory.path().join(out);
            fused(&fixture(BASE), &out, &[&lora(&peft(name)), "--type", kind]);
            let d = distance(&logits(&out, &ids), &expected.f32(name));
            assert!(d < 1e-4, "{}: {d}", out.display());
        }
    }
    for how in ["linear", "cat"] {
        let out = directory.path().join(format!("{how}.gguf"));
        let weighted = [("split", "0.7"), ("second", "-0.4")]
            .map(|(name, weight)| format!("--lora={}:{weight}", peft(name).display()));
        fused(&fixture(BASE), &out, &[&weighted[0], &weighted[1], "--combine", how, "--type", "F32"]);
        let d = distance(&logits(&out, &ids), &expected.f32(how));
        assert!(d < 1e-4, "{how}: {d}");
    }
}

/// The original layout's fused matrix, into a GGUF that keeps it and a directory that does not.
#[test]
fn a_fused_matrix_keeps_its_sections() {
    let adapter = fixture("lora-glm4-9b-orig");
    let expected = Stored::open(&adapter.join("expected.safetensors"));
    let directory = tempfile::tempdir().unwrap();
    for out in ["fused.gguf", "apart"] {
        let out = directory.path().join(out);
        fused(&fixture("glm4-9b-orig"), &out, &[&lora(&adapter), "--type", "F32"]);
        let found = logits(&out, &expected.ids("lora.input_ids"));
        let d = distance(&found, &expected.f32("lora.logits"));
        assert!(d < 5.2e-4, "{}: {d}", out.display());
    }
}

/// A quantized base is decoded, changed and quantized again; what is not changed keeps its bytes.
#[test]
fn a_quantized_base_is_quantized_again() {
    let expected = Stored::open(&peft("expected.safetensors"));
    let directory = tempfile::tempdir().unwrap();
    let (base, out) = (directory.path().join("base.gguf"), directory.path().join("out.gguf"));
    assert_eq!(run(args!["convert", fixture(BASE), base, "--type", "Q8_0"]).status, 0);
    fused(&base, &out, &[&lora(&peft("split"))]);
    let (before, after) = (Checkpoint::open(&base).unwrap(), Checkpoint::open(&out).unwrap());
    let mut changed = 0;
    for info in before.tensors() {
        let (old, new) = (before.tensor(&info.name).unwrap(), after.tensor(&info.name).unwrap());
        assert_eq!(old.info.dtype, new.info.dtype);
        let is_own =
            info.name.contains("attn_") && info.name.ends_with("weight") && !info.name.contains("norm");
        assert_eq!(old.data != new.data, is_own, "{}", info.name);
        changed += usize::from(is_own);
    }
    assert!(changed > 0);
    let (found, exact) = (logits(&out, &expected.ids("ids")), expected.f32("split"));
    let largest = exact.iter().fold(0f32, |m, v| m.max(v.abs()));
    let d = distance(&found, &exact);
    assert!(d < 0.05 * largest, "{d} of {largest}");
}

#[test]
fn what_cannot_be_fused_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out.gguf");
    let base = fixture(BASE);
    fuse(&base, &out, &[&lora(&fixture("text2vec-bert"))]).fails_saying(&["--lora", "adapter_config.json"]);
    fuse(&base, &out, &[&lora(&peft("dora")), &lora(&peft("split"))]).fails_saying(&["DoRA"]);
    fuse(&base, &out, &[]).refuses_usage(&["--lora"]);
    assert!(!out.exists());
}
