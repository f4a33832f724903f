//! How fast a step of LoRA is, what it takes, and how far gradients of the device's fast mode are from those of f32.
//!
//! ```text
//! cargo run --release -p glimmer-train --example step_speed MODEL [ROWS] [THREADS] [KEPT_LAYERS] [f32|auto|both]
//! ```
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program to measure with")]

use std::path::Path;
use std::time::Instant;

use glimmer_checkpoint::Checkpoint;
use glimmer_cpu::{CpuDevice, CpuOptions};
use glimmer_models::{ModelWeights, understand};
use glimmer_tensor::Compute;
use glimmer_train::{Example, LowRankSpec, Room, Tape, Trainable};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let model = arguments.first().expect("a model");
    let mut numbers = arguments[1..].iter().filter_map(|a| a.parse().ok());
    let (rows, threads): (usize, usize) = (numbers.next().unwrap_or(512), numbers.next().unwrap_or(2));
    let kept_layers = numbers.next().unwrap_or(0);
    let mode = arguments.last().map_or("both", String::as_str);
    let computes = match mode {
        "f32" => vec![Compute::F32],
        "auto" => vec![Compute::Auto],
        _ => vec![Compute::F32, Compute::Auto],
    };
    let checkpoint = Checkpoint::open(Path::new(model)).unwrap();
    let understood = understand(&checkpoint, None).unwrap();
    let vocab = understood.spec.vocab;
    let ids: Vec<u32> = (0..rows).map(|i| (i * i * 31 + i * 7) as u32 % vocab as u32).collect();
    let labels = ids.iter().skip(1).map(|&id| Some(id)).chain([None]).collect();
    let example = Example { ids, labels };
    let targets = vec!["all-linear".to_owned()];
    let spec = LowRankSpec {
        rank: 8,
        alpha: 16.0,
        by_root: false,
        magnitudes: false,
        dropout: 0.0,
        targets,
        layers: None,
    };
    let mut gradients: Vec<Vec<f32>> = Vec::new();
    for compute in computes {
        let device =
            Box::new(CpuDevice::new(CpuOptions { threads: Some(threads), compute, isa: None }).unwrap());
        let weights = ModelWeights::stored(&checkpoint, &understood);
        let room = Room { rows, examples: 1, logits_rows: rows.min(256), kept_layers };
        let mut tape =
            Tape::open(weights, device, &Trainable::LowRank(spec.clone()), room, 7, &mut |_, _| {}).unwrap();
        for number in 0..tape.parameters().len() {
            // What begins as zeros would leave the other half without gradients.
            for (i, value) in tape.value_mut(number).iter_mut().enumerate().filter(|(_, v)| **v == 0.0) {
                *value = ((i * 37 % 101) as f32 - 50.0) * 1e-4;
            }
        }
        let mut best = f64::INFINITY;
        for _ in 0..3 {
            tape.zero_gradients();
            let start = Instant::now();
            let losses = tape.forward_backward(&[&example], 1.0, 1).unwrap();
            best = best.min(start.elapsed().as_secs_f64());
            print!("loss {:.5} ", losses.sum / losses.tokens as f64);
        }
        println!("{compute:?}: {:.1} tokens/s, {best:.3} s", rows as f64 / best);
        gradients
            .push((0..tape.parameters().len()).flat_map(|number| tape.gradient(number).to_vec()).collect());
    }
    if let [exact, fast] = &gradients[..] {
        let norm =
            |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        let apart = norm(&mut exact.iter().zip(fast).map(|(a, b)| a - b));
        println!(
            "gradients are apart by {:.3} % of their norm",
            100.0 * apart / norm(&mut exact.iter().copied())
        );
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().filter(|line| line.starts_with("VmHWM")).for_each(|line| println!("{line}"));
}
