//! Models with adapters, against what PEFT and ChatGLM's own code compute with the same files.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed; figures are shown"
)]

mod support;

use std::path::PathBuf;

use glimmer_models::{Adapter, Combination, DecoderSpec, LowRankAdapter, PrefixEncoder};
use glimmer_tensor::{AdapterSlot, KvType};
use support::{Piece, Runner, Stored, argmax, device, distance, root};

const DEVICES: [&str; 3] = ["reference", "cpu-f32-1", "cpu-f32-2"];

/// One of the fixtures that are too large for the repository; says so where it is not there.
fn shared(name: &str) -> Option<PathBuf> {
    let path = root().join("../shared/fixtures").join(name);
    if !path.is_dir() {
        println!("skipped: {} is not there", path.display());
        return None;
    }
    Some(path)
}

fn attach(runner: &mut Runner, slot: AdapterSlot, adapter: &Adapter) {
    if let Adapter::LowRank(pairs) = adapter {
        runner.decoder.attach(slot, pairs).unwrap();
    }
}

/// max(1e-4, 10 x the reference's own float32-to-float64 distance).
fn tolerance(dir: &std::path::Path, tensor: &str) -> f32 {
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.join("manifest.json")).unwrap()).unwrap();
    let noise = &manifest["float32_vs_float64"][tensor];
    let noise = noise["max_abs"].as_f64().or(noise.as_f64()).unwrap_or(0.0);
    (10.0 * noise).max(1e-4) as f32
}

/// Logits with and without an adapter; then both in one batch, bit for bit.
fn adapter_on_and_off(base: &std::path::Path, adapter: &std::path::Path, expected: &std::path::Path) {
    let stored = Stored::open(&expected.join("expected.safetensors"));
    let ids = stored.ids("lora.input_ids");
    let allowed = tolerance(expected, "lora.logits");
    for name in DEVICES {
        let mut runner = Runner::new(base, device(name), KvType::F32, 160, 1024);
        let adapter = Adapter::read(adapter, runner.decoder.spec()).unwrap();
        attach(&mut runner, 2, &adapter);
        let without = runner.whole(&ids);
        let sequence = runner.sit_adapted(2, &adapter);
        let with = runner.step(&[Piece { sequence, ids: &ids, positions: None }]);
        let off = distance(&without, stored.f32("lora.base_logits"));
        let on = distance(&with, stored.f32("lora.logits"));
        println!("{name}: off {off:.1e}, on {on:.1e}, allowed {allowed:.1e}");
        assert!(off <= allowed && on <= allowed, "{name}: {off}, {on}");
        assert!(distance(&with, &without) > 100.0 * allowed);
        let (plain, adapted) = (runner.sit(), runner.sit_adapted(2, &adapter));
        let pieces = [plain, adapted].map(|sequence| Piece { sequence, ids: &ids, positions: None });
        assert_eq!(runner.step(&pieces), [without.as_slice(), &with].concat(), "{name}: together");
        runner.decoder.detach(2);
        let sequence = runner.sit_adapted(2, &adapter);
        assert_eq!(runner.step(&[Piece { sequence, ids: &ids, positions: None }]), without);
    }
}

#[test]
fn fused_pairs_of_glm_4_9b() {
    let fixtures = root().join("fixtures");
    let adapter = fixtures.join("lora-glm4-9b-orig");
    adapter_on_and_off(&fixtures.join("glm4-9b-orig"), &adapter, &adapter);
}

#[test]
fn split_pairs_of_transformers_class() {
    let Some(path) = shared("lora-train-glm-hf") else { return };
    adapter_on_and_off(&path, &path.join("adapter"), &path);
}

/// LoRA with patterns of ranks and alphas, rsLoRA and DoRA, split and fused, and combined ones, as PEFT 0.21.2 computes them
/// (`tools/make_peft_references.py`).
#[test]
fn every_kind_that_peft_writes() {
    let data = root().join("crates/models/tests/data/peft");
    let stored = Stored::open(&data.join("expected.safetensors"));
    let ids = stored.ids("ids");
    for device_name in DEVICES {
        let base = root().join("fixtures/glm-4-9b-chat-hf");
        let mut runner = Runner::new(&base, device(device_name), KvType::F32, 160, 1024);
        let read = |name: &str, spec: &DecoderSpec| match Adapter::read(&data.join(name), spec).unwrap() {
            Adapter::LowRank(adapter) => adapter,
            Adapter::Prefix(_) => panic!("a prefix"),
        };
        let spec = runner.decoder.spec().clone();
        let [split, second] = ["split", "second"].map(|name| read(name, &spec));
        let both = [(&split, 0.7), (&second, -0.4)];
        let combined = |how| LowRankAdapter::combined(&both, how).unwrap();
        let adapters = [
            ("fused", read("fused", &spec)),
            ("rslora", read("rslora", &spec)),
            ("dora", read("dora", &spec)),
            ("linear", combined(Combination::Linear)),
            ("cat", combined(Combination::Cat)),
            ("split", split.clone()),
        ];
        let base = runner.whole(&ids);
        assert!(distance(&base, stored.f32("base")) < 1e-4);
        for (slot, (name, adapter)) in adapters.into_iter().enumerate() {
            runner.decoder.attach(slot as AdapterSlot, &adapter).unwrap();
            let sequence = runner.sit_adapted(slot as AdapterSlot, &Adapter::LowRank(adapter));
            let logits = runner.step(&[Piece { sequence, ids: &ids, positions: None }]);
            let off = distance(&logits, stored.f32(name));
            println!("{device_name}, {name}: {off:.1e}, {:.1} from the base", distance(&logits, &base));
            assert!(off < 1e-4, "{device_name}, {name}: {off}");
            assert!(distance(&logits, &base) > 0.1, "{name} changes something");
        }
    }
}

/// `PREFIX_TUNING`: positions count from behind the prefix, and what is written again is PEFT's.
#[test]
fn a_prefix_of_pefts() {
    let path = root().join("crates/models/tests/data/peft");
    let stored = Stored::open(&path.join("expected.safetensors"));
    let ids = stored.ids("ids");
    for name in DEVICES {
        let base = root().join("fixtures/glm-4-9b-chat-hf");
        let mut runner = Runner::new(&base, device(name), KvType::F32, 160, 1024);
        let spec = runner.decoder.spec().clone();
        let adapter = Adapter::read(&path.join("prefix"), &spec).unwrap();
        let Adapter::Prefix(prefix) = &adapter else { panic!("no prefix") };
        assert!(prefix.shifts_positions && prefix.slots == 5);
        let sequence = runner.sit_adapted(0, &adapter);
        let positions: Vec<f32> = (0..ids.len()).map(|row| (prefix.slots + row) as f32).collect();
        let logits = runner.step(&[Piece { sequence, ids: &ids, positions: Some(&positions) }]);
        let off = distance(&logits, stored.f32("prefix"));
        println!("{name}: {off:.1e}");
        assert!(off < 1e-4, "{name}: {off}");
        let folder = tempfile::tempdir().unwrap();
        PrefixEncoder::open(&path.join("prefix"), &spec)
            .unwrap()
            .write(folder.path(), &spec, "base")
            .unwrap();
        assert_eq!(Adapter::read(folder.path(), &spec).unwrap(), adapter);
    }
}

#[test]
fn what_cannot_be_combined_is_named() {
    let spec = support::open(&root().join("fixtures/glm-4-9b-chat-hf"), None).1.spec;
    let read = |name: &str| {
        let path = root().join("crates/models/tests/data/peft").join(name);
        let Adapter::LowRank(adapter) = Adapter::read(&path, &spec).unwrap() else { panic!("a prefix") };
        adapter
    };
    let (split, dora, rslora) = (read("split"), read("dora"), read("rslora"));
    let error =
        |pairs: &[(&LowRankAdapter, f32)], how| LowRankAdapter::combined(pairs, how).unwrap_err().to_string();
    assert!(error(&[(&split, 1.0), (&dora, 1.0)], Combination::Cat).contains("DoRA"));
    assert!(error(&[(&split, f32::NAN)], Combination::Cat).contains("NaN"));
    assert!(error(&[(&split, 1.0), (&rslora, 1.0)], Combination::Linear).contains("ranks differ"));
}

/// P-Tuning v2: keys and values before every sequence, not rotated, seen by all, and no position shifts.
#[test]
fn a_prefix_of_chatglm_6b() {
    let Some(path) = shared("ptuning-chatglm-6b") else { return };
    let stored = Stored::open(&path.join("expected.safetensors"));
    for name in DEVICES {
        let mut runner = Runner::new(&path, device(name), KvType::F32, 160, 1024);
        let adapter = Adapter::read(&path.join("prefix_init"), runner.decoder.spec()).unwrap();
        let ids = stored.ids("train.input_ids");
        let rows: Vec<usize> = (0..2).map(|_| runner.sit_adapted(0, &adapter)).collect();
        let pieces: Vec<Piece<'_>> = rows
            .iter()
            .zip(ids.chunks_exact(20))
            .map(|(&sequence, ids)| Piece { sequence, ids, positions: None })
            .collect();
        let together = runner.step(&pieces);
        let off = distance(&together, stored.f32("before.logits"));
        let sequence = runner.sit_adapted(0, &adapter);
        let (mut next, mut found, mut steps) = (stored.ids("gen.input_ids"), Vec::new(), Vec::new());
        let vocab = runner.vocab();
        for _ in 0..stored.shape("gen.new_ids")[1] {
            let logits = runner.step(&[Piece { sequence, ids: &next, positions: None }]);
            let row = &logits[logits.len() - vocab..];
            steps.extend_from_slice(row);
            found.push(argmax(row));
            next = vec![argmax(row)];
        }
        let steps = distance(&steps, stored.f32("gen.step_logits"));
        println!("{name}: {off:.1e}, steps {steps:.1e}");
        assert_eq!(found, stored.ids("gen.new_ids"), "{name}");
        assert!(off <= 1e-4 && steps <= 1e-4, "{name}: {off}, {steps}");
        let alone = runner.sit_adapted(0, &adapter);
        let alone = runner.step(&[Piece { sequence: alone, ids: &ids[..20], positions: None }]);
        assert_eq!(alone, together[..alone.len()], "{name}: alone");
    }
}

#[test]
fn an_adapter_for_another_model_is_refused() {
    let fixtures = root().join("fixtures");
    let spec: DecoderSpec = support::open(&fixtures.join("chatglm-6b"), None).1.spec;
    let error = Adapter::read(&fixtures.join("lora-glm4-9b-orig"), &spec).unwrap_err().to_string();
    assert!(error.contains("query_key_value") || error.contains("another model"), "{error}");
}
