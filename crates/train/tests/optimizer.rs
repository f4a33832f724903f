//! AdamW and the schedules against torch, transformers and bitsandbytes (`tools/make_optimizer_trace.py`).
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use glimmer_train::{AdamW, Decay, Optimizer, Schedule, clip_scale, sum_of_squares};
use serde_json::Value;

const SETTINGS: AdamW = AdamW { betas: (0.9, 0.98), epsilon: 1e-8, weight_decay: 0.1, eight_bits: false };
const RATE: f64 = 2e-2;

fn stored() -> Value {
    serde_json::from_str(include_str!("data/optimizer.json")).unwrap()
}

fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// The numbers of the script.
fn made_up(count: u64, salt: u64) -> Vec<f32> {
    let number = |i| ((i * 7919 + salt * 104_729 + 13) * 48271 % 65521) as f64 / 32760.5 - 1.0;
    (0..count).map(|i| number(i) as f32).collect()
}

fn gradient(count: u64, step: usize) -> Vec<f32> {
    let scale = 10f64.powi(-(step as i32 % 4)) as f32;
    made_up(count, step as u64 + 1).iter().map(|value| value * scale).collect()
}

/// Goes the steps of a stored trace and returns the largest difference from it.
fn difference(trace: &Value, settings: AdamW) -> f64 {
    let count = trace["count"].as_u64().unwrap();
    let mut values = made_up(count, 0);
    let mut optimizer = Optimizer::new(settings, &[(values.len(), true)], 2);
    let mut largest = 0.0f64;
    for (step, expected) in trace["values"].as_array().unwrap().iter().enumerate() {
        let gradient = gradient(count, step);
        let norm = sum_of_squares(&gradient).sqrt();
        if let Some(expected) = trace["norms"][step].as_f64() {
            assert!((norm / expected - 1.0).abs() < 1e-6, "step {step}: norm {norm}, torch has {expected}");
        }
        optimizer.begin(RATE, clip_scale(norm, trace["clip"].as_f64()));
        optimizer.update(0, &mut values, &gradient);
        for (value, expected) in values.iter().zip(numbers(expected)) {
            largest = largest.max((f64::from(*value) - expected).abs());
        }
    }
    largest
}

#[test]
fn adamw_is_torchs() {
    for trace in stored()["adamw"].as_array().unwrap() {
        let difference = difference(trace, SETTINGS);
        assert!(difference < 5e-7, "{difference}");
    }
}

#[test]
fn moments_in_8_bits_are_those_of_bitsandbytes() {
    let difference = difference(&stored()["eight_bits"], AdamW { eight_bits: true, ..SETTINGS });
    assert!(difference < 2e-6, "{difference}");
}

#[test]
fn schedules_are_those_of_transformers() {
    for (decay, name) in Decay::NAMES {
        let schedule = Schedule { decay, peak: 3e-4, warmup: 5, steps: 35 };
        for (step, expected) in numbers(&stored()["rates"][name]).into_iter().enumerate() {
            let rate = schedule.rate(step as u64);
            // transformers' cosine comes up again after the last step, to which nobody goes.
            if decay == Decay::Cosine && step > 35 {
                continue;
            }
            assert!((rate - expected).abs() <= 1e-19, "{name}, step {step}: {rate}, not {expected}");
        }
    }
}

#[test]
fn threads_change_no_bit() {
    let trained = |threads, eight_bits| {
        let settings = AdamW { eight_bits, ..SETTINGS };
        let mut values = made_up(300_001, 0);
        let mut optimizer = Optimizer::new(settings, &[(values.len(), false)], threads);
        for step in 0..3 {
            optimizer.begin(RATE, 0.5);
            optimizer.update(0, &mut values, &gradient(300_001, step));
        }
        values
    };
    for eight_bits in [false, true] {
        let alone = trained(1, eight_bits);
        for threads in [2, 3, 5] {
            assert!(trained(threads, eight_bits) == alone, "{threads} threads");
        }
    }
}
