//! Thirty steps beside PEFT's (LoRA, rsLoRA, DoRA) and beside P-Tuning v2's mathematics with a projection: each step's loss and
//! norm, and what the tensors become. `tools/make_training_traces.py` made what is compared with, in f64.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed; figures are shown"
)]

mod support;

use std::path::PathBuf;

use glimmer_train::{Example, LowRankSpec, PrefixSpec, ProjectionSpec, Room, Trainable};
use support::{AdamW, Stored, distance, root, tape};

const STEPS: usize = 30;

fn traces() -> PathBuf {
    root().join("crates/train/tests/data/traces")
}

/// The examples of each step.
fn batches() -> Vec<Vec<Example>> {
    let stored = Stored::open(&traces().join("batches.safetensors"));
    let label = |&label: &i64| u32::try_from(label).ok();
    let (tokens, per_step) = (12, 2);
    let (ids, labels) = (stored.ids("input_ids"), stored.i64("labels"));
    let rows = ids.chunks_exact(tokens).zip(labels.chunks_exact(tokens));
    let examples: Vec<Example> = rows
        .map(|(ids, labels)| Example { ids: ids.to_vec(), labels: labels.iter().map(label).collect() })
        .collect();
    examples.chunks_exact(per_step).map(<[Example]>::to_vec).collect()
}

fn follow(name: &str, on: &str, trainable: &Trainable) {
    let stored = Stored::open(&traces().join(format!("{name}.safetensors")));
    let mut tape =
        tape(&traces(), on, trainable, Room { rows: 32, examples: 2, logits_rows: 8, kept_layers: 1 });
    let names: Vec<String> = tape.parameters().iter().map(|parameter| parameter.name.clone()).collect();
    let of = |kind: &str, name: &str| stored.f32(&format!("{kind}.{name}")).to_vec();
    for (number, name) in names.iter().enumerate() {
        tape.value_mut(number).copy_from_slice(&of("before", name));
    }
    assert_eq!(names.len(), stored.names().filter(|name| name.starts_with("before.")).count());
    let mut adam = AdamW::new(&tape, 2e-3, 0.01);
    let mut worst = 0f64;
    for (step, examples) in batches().iter().enumerate() {
        let labels: usize = examples.iter().map(|example| example.targets().count()).sum();
        tape.zero_gradients();
        let losses = tape
            .forward_backward(&examples.iter().collect::<Vec<_>>(), 1.0 / labels as f32, step as u64)
            .unwrap();
        let norm = tape.gradient_norm().unwrap();
        for (what, found, expected) in [
            ("losses", losses.sum / labels as f64, stored.f32("losses")[step]),
            ("norms", norm, stored.f32("norms")[step]),
        ] {
            let difference = (found / f64::from(expected) - 1.0).abs();
            worst = worst.max(difference);
            assert!(difference <= 1e-4, "{name} on {on}: {what} of step {step}: {found}, not {expected}");
        }
        adam.clipped_step(&mut tape, (1.0 / (norm + 1e-6)).min(1.0));
    }
    assert_eq!(batches().len(), STEPS);
    for (number, tensor) in names.iter().enumerate() {
        let difference = distance(tape.value(number), &of("after", tensor));
        assert!(difference <= 1e-4, "{name} on {on}: {tensor} is {difference} away");
    }
    println!("{name:8} {on:10} worst loss or norm {worst:.1e}");
}

fn pairs(alpha: f32, targets: [&str; 4]) -> LowRankSpec {
    LowRankSpec {
        rank: 4,
        alpha,
        by_root: false,
        magnitudes: false,
        dropout: 0.0,
        targets: targets.map(str::to_owned).to_vec(),
        layers: None,
    }
}

fn lora(on: &str) {
    let spec = pairs(8.0, ["q_proj", "v_proj", "gate_up_proj", "down_proj"]);
    follow("lora", on, &Trainable::LowRank(spec));
}

fn rslora(on: &str) {
    let spec = pairs(4.0, ["q_proj", "k_proj", "v_proj", "o_proj"]);
    follow("rslora", on, &Trainable::LowRank(LowRankSpec { by_root: true, ..spec }));
}

fn dora(on: &str) {
    let spec = pairs(8.0, ["q_proj", "v_proj", "o_proj", "gate_up_proj"]);
    follow("dora", on, &Trainable::LowRank(LowRankSpec { magnitudes: true, ..spec }));
}

fn prefix(on: &str) {
    let projection = Some(ProjectionSpec { width: 32, middle: 24 });
    let spec = PrefixSpec { slots: 5, projection, dropout: 0.0, shifts_positions: false };
    follow("prefix", on, &Trainable::Prefix(spec));
}

macro_rules! on_devices {
    ($($device:ident: $name:literal,)*) => {$(
        mod $device {
            #[test]
            fn lora() {
                super::lora($name);
            }

            #[test]
            fn rslora() {
                super::rslora($name);
            }

            #[test]
            fn dora() {
                super::dora($name);
            }

            #[test]
            fn prefix() {
                super::prefix($name);
            }
        }
    )*};
}

on_devices! {
    reference: "reference",
    cpu_one_thread: "cpu-1",
    cpu_two_threads: "cpu-2",
}
