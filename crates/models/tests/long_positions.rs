//! Rotary embedding where GLM's known faults live: tables to position 1,048,575, and logits against transformers' on
//! sequences whose positions jump to 131,071 (1M: 1,048,575) and on dense prompts of 8,200 and 32,800 tokens.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed; figures are shown"
)]

mod support;

use glimmer_models::rope::{Yarn, interleaved, inv_freq, yarn};
use glimmer_tensor::{KvType, Rope};
use support::{Piece, Runner, Stored, device, distance, root};

fn data() -> std::path::PathBuf {
    root().join("crates/models/tests/data/long_positions")
}

/// The published rotary shapes by the names of `rope_tables.safetensors`.
fn published() -> Vec<(&'static str, f64, usize, Rope)> {
    let plain = |name, base, dims| (name, base, dims, interleaved(inv_freq(base, dims), 1.0));
    let card = Yarn {
        factor: 4.0,
        original_context: 32768.0,
        beta_fast: 32.0,
        beta_slow: 1.0,
        attention_factor: None,
        truncate: true,
    };
    let (frequencies, magnitude) = yarn(1e4, 64, &card);
    vec![
        plain("chatglm3-6b", 1e4, 64),
        plain("chatglm3-6b-32k", 5e5, 64),
        plain("glm-4-9b-chat", 5e6, 64),
        plain("glm-4-9b-chat-1m", 1e8, 64),
        plain("glm-4-0414", 1e4, 64),
        plain("glm-edge", 1e4, 128),
        plain("rotated-10", 1e4, 10),
        ("glm-4-0414-yarn", 1e4, 64, interleaved(frequencies, magnitude)),
    ]
}

fn table(rope: &Rope, positions: &[i64]) -> Vec<f32> {
    let mut found = Vec::new();
    positions.iter().for_each(|&p| rope.cos_sin(&[p as f32], &mut found));
    found.into_iter().flat_map(|(c, s)| [c, s]).collect()
}

#[test]
fn tables_equal_transformers() {
    let stored = Stored::open(&data().join("rope_tables.safetensors"));
    let positions = stored.i64("positions");
    assert_eq!(positions.last(), Some(&1_048_575));
    for (name, _, _, rope) in published() {
        let ulps = rope.sections[0]
            .inv_freq
            .iter()
            .zip(stored.f32(&format!("{name}.inv_freq")))
            .map(|(a, b)| (a.to_bits() as i64 - b.to_bits() as i64).abs())
            .max();
        // One of the 32 powers of 1e8 is 1 ulp off in torch itself; its cosine moves by 2e-7.
        assert!(ulps <= Some(i64::from(name == "glm-4-9b-chat-1m")), "{name}: {ulps:?}");
        let d = distance(&table(&rope, positions), stored.f32(&format!("{name}.cos_sin")));
        assert!(d <= 3e-7, "{name}: {d}");
    }
}

/// Against the formula in f64: an f32 angle of frequency rounding (two roundings and the exponent's) and product
/// rounding is off by at most `angle * 2^-21`, a cosine by no more than its angle.
#[test]
fn tables_are_near_the_exact_formula() {
    let stored = Stored::open(&data().join("rope_tables.safetensors"));
    let mut positions = stored.i64("positions").to_vec();
    positions.extend((0..20).flat_map(|i| [(1 << i) - 1, 1 << i]));
    for (name, base, dims, rope) in published() {
        if rope.magnitude != 1.0 {
            continue;
        }
        for &p in &positions {
            let found = table(&rope, &[p]);
            for i in 0..dims / 2 {
                let angle = p as f64 * base.powf(-((2 * i) as f64) / dims as f64);
                let allowed = angle * 2f64.powi(-21) + 6e-8;
                let (sin, cos) = angle.sin_cos();
                for (found, exact) in [(found[2 * i], cos), (found[2 * i + 1], sin)] {
                    let d = (f64::from(found) - exact).abs();
                    assert!(d <= allowed, "{name} at {p}, pair {i}: {d} > {allowed}");
                }
            }
        }
    }
}

struct Case {
    name: &'static str,
    on: &'static str,
    expected: Stored,
    manifest: serde_json::Value,
    runner: Runner,
}

impl Case {
    fn open(name: &'static str, on: &'static str, rows: usize, slots: usize) -> Self {
        let dir = data().join(name);
        let expected = Stored::open(&dir.join("expected.safetensors"));
        let manifest = serde_json::from_slice(&std::fs::read(dir.join("manifest.json")).unwrap()).unwrap();
        Case { name, on, expected, manifest, runner: Runner::new(&dir, device(on), KvType::F32, rows, slots) }
    }

    fn compare(&self, tensor: &str, found: &[f32]) {
        let noise = self.manifest["float32_vs_float64"][tensor]["max_abs"].as_f64().unwrap();
        let tolerance = (10.0 * noise).max(1e-4) as f32;
        let d = distance(found, self.expected.f32(tensor));
        println!("{} on {}: {tensor} {d:.2e}", self.name, self.on);
        assert!(d <= tolerance, "{} on {}: {tensor} differs by {d}, allowed {tolerance}", self.name, self.on);
    }

    fn far(&mut self) {
        let ids = self.expected.ids("far.input_ids");
        let positions: Vec<f32> = self.expected.i64("far.position_ids").iter().map(|&p| p as f32).collect();
        let sequence = self.runner.sit();
        let logits = self.runner.step(&[Piece { sequence, ids: &ids, positions: Some(&positions) }]);
        self.runner.leave(sequence);
        self.compare("far.logits", &logits);
    }

    fn dense(&mut self, key: &str, chunk: usize) {
        let ids = self.expected.ids(&format!("{key}.input_ids"));
        let wanted = self.expected.i64(&format!("{key}.rows")).to_vec();
        let vocab = self.runner.vocab();
        let sequence = self.runner.sit();
        let mut found = Vec::new();
        for (i, ids) in ids.chunks(chunk).enumerate() {
            let logits = self.runner.step(&[Piece { sequence, ids, positions: None }]);
            for row in wanted.iter().map(|&w| w as usize).filter(|w| w / chunk == i) {
                found.extend_from_slice(&logits[row % chunk * vocab..(row % chunk + 1) * vocab]);
            }
        }
        self.runner.leave(sequence);
        self.compare(&format!("{key}.logits"), &found);
    }
}

const CASES: [&str; 5] = ["glm-chat", "glm-chat-1m", "glm-edge", "glm4-0414", "glm4-0414-yarn"];

#[test]
fn far_positions() {
    for name in CASES {
        for on in ["reference", "cpu-f32-1", "cpu-f32-2"] {
            Case::open(name, on, 32, 64).far();
        }
    }
}

#[test]
fn dense_prompts_of_8200_tokens() {
    for name in CASES {
        Case::open(name, "cpu-f32-2", 512, 8200).dense("dense", 512);
    }
}

#[test]
fn a_dense_prompt_of_32800_tokens_with_yarn() {
    Case::open("glm4-0414-yarn", "cpu-f32-2", 1024, 32800).dense("dense32800", 1024);
}
