//! Every GGUF weight type against llama.cpp on the same file: its logits on exactly decoded weights, tightly, and the
//! distances of the fast mode, which are printed and bounded by what 8-bit activations cost.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed; figures are shown"
)]

mod support;

use glimmer_tensor::KvType;
use support::{Runner, Stored, argmax, device, distance, root};

const FILES: [&str; 17] = [
    "F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K",
    "IQ4_NL", "IQ4_XS", "mix-edge", "mix-0414",
];

fn logits(file: &str, on: &str, kv: KvType, ids: &[u32]) -> Vec<f32> {
    let path = root().join(format!("crates/models/tests/data/llamacpp/{file}.gguf"));
    Runner::new(&path, device(on), kv, 64, 64).whole(ids)
}

fn expected(file: &str) -> Stored {
    Stored::open(&root().join(format!("crates/models/tests/data/llamacpp/{file}.safetensors")))
}

/// Mean over rows of KL(reference || found), and the share of rows with the same best token.
fn divergence(reference: &[f32], found: &[f32], vocab: usize) -> (f64, f64) {
    let log_softmax = |row: &[f32]| -> Vec<f64> {
        let max = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let sum: f64 = row.iter().map(|&v| (f64::from(v) - max).exp()).sum();
        row.iter().map(|&v| f64::from(v) - max - sum.ln()).collect()
    };
    let rows = reference.len() / vocab;
    let (mut kl, mut same) = (0.0, 0.0);
    for (r, f) in reference.chunks_exact(vocab).zip(found.chunks_exact(vocab)) {
        let (p, q) = (log_softmax(r), log_softmax(f));
        kl += p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
        same += f64::from(u8::from(argmax(r) == argmax(f)));
    }
    (kl / rows as f64, same / rows as f64)
}

#[test]
fn exact_mode_equals_llamacpp_on_decoded_weights() {
    for file in FILES {
        let expected = expected(file);
        let ids = expected.ids("input_ids");
        for on in ["reference", "cpu-f32-1", "cpu-f32-2"] {
            let d = distance(&logits(file, on, KvType::F32, &ids), expected.f32("logits_f32"));
            println!("{file:9} {on:10} {d:.2e}");
            assert!(d <= 1e-4, "{file} on {on}: {d}");
        }
    }
}

/// The fast mode's distance from the exact one may be no larger than twice what llama.cpp's own 8-bit activations cost
/// on the same file, or what an f16 cache costs where llama.cpp rounds nothing.
#[test]
fn fast_mode_is_as_near_as_llamacpp() {
    println!(
        "{:9} {:>9} {:>9} {:>6}   llama.cpp: {:>9} {:>9} {:>6}",
        "type", "max", "KL", "same", "max", "KL", "same"
    );
    for file in FILES {
        let expected = expected(file);
        let ids = expected.ids("input_ids");
        let exact = expected.f32("logits_f32");
        let vocab = expected.shape("logits")[1];
        let fast = logits(file, "cpu-auto-2", KvType::F16, &ids);
        let (kl, same) = divergence(exact, &fast, vocab);
        let (their_kl, their_same) = divergence(exact, expected.f32("logits"), vocab);
        let (max, their_max) = (distance(&fast, exact), distance(expected.f32("logits"), exact));
        println!(
            "{file:9} {max:9.2e} {kl:9.2e} {same:6.3}              {their_max:9.2e} {their_kl:9.2e} {their_same:6.3}"
        );
        assert!(kl <= 2.0 * their_kl + 1e-5, "{file}: mean KL {kl:.2e}, llama.cpp's {their_kl:.2e}");
    }
}
