//! Gradients of whole losses against finite differences: everything that can be trained, on every family.
//!
//! DoRA's norms count as constants, as PEFT has it, so of its tensors only magnitudes have the gradient that differences show;
//! the others are held to PEFT's in `peft.rs`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::path::Path;

use glimmer_checkpoint::Checkpoint;
use glimmer_models::export::Quantization;
use glimmer_models::{ModelWeights, Positions, Quantize, understand};
use glimmer_train::{Example, LowRankSpec, PrefixSpec, ProjectionSpec, Room, Tape, Trainable};
use support::{device, root};

const FAMILIES: [&str; 5] =
    ["chatglm-6b", "glm4-9b-orig", "glm-4-9b-chat-hf", "glm4-9b-0414", "glm-edge-1.5b-chat"];

/// Parameters that are looked at, of a tape that has more.
const PARAMETERS: usize = 24;

/// A small generator: the tests are the same every time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 33
    }

    /// From -1 to 1.
    fn even(&mut self) -> f32 {
        self.next() as f32 / (1u64 << 30) as f32 - 1.0
    }
}

/// Two examples of different lengths.
fn examples(positions: Positions) -> Vec<Example> {
    let of = |ids: Vec<u32>, first: usize| {
        let labels = ids.iter().enumerate().map(|(i, &id)| (i >= first).then_some(id)).collect();
        Example { ids, labels }
    };
    match positions {
        Positions::ChatGlm6b { gmask, sop, .. } => {
            vec![of(vec![5, 90, 17, gmask, sop, 33, 41, 17, 8], 4), of(vec![12, gmask, sop, 64, 70, 71], 2)]
        }
        _ => {
            vec![of(vec![5, 50, 17, 44, 33, 41, 17, 8], 3), of(vec![12, 60, 61, 62, 12], 1)]
        }
    }
}

struct Check {
    tape: Tape,
    examples: Vec<Example>,
    what: String,
}

impl Check {
    fn new(family: &str, trainable: &Trainable, quantize: Option<Quantization>) -> Self {
        Self::over(&root().join("fixtures").join(family), trainable, quantize)
    }

    fn over(path: &Path, trainable: &Trainable, quantize: Option<Quantization>) -> Self {
        let checkpoint = Checkpoint::open(path).unwrap();
        let understood = understand(&checkpoint, None).unwrap();
        let quantize = quantize.map(|to| Quantize { to, threads: 1 });
        let weights = ModelWeights { checkpoint: &checkpoint, understood: &understood, quantize };
        let room = Room { rows: 32, examples: 2, logits_rows: 5, kept_layers: 0 };
        let mut tape = Tape::open(weights, device("reference"), trainable, room, 3, &mut |_, _| {}).unwrap();
        if *trainable != Trainable::Full {
            // Pairs begin with zeros, whose gradients would be, too.
            let mut numbers = Numbers(5);
            for number in 0..tape.parameters().len() {
                let values = tape.value_mut(number).iter_mut();
                values.for_each(|value| *value = *value * 0.5 + 0.1 * numbers.even());
            }
        }
        let examples = examples(understood.spec.positions);
        Check { tape, examples, what: format!("{}, {trainable:?}", path.display()) }
    }

    fn loss(&mut self) -> f64 {
        self.tape.evaluate(&self.examples.iter().collect::<Vec<_>>()).unwrap().sum
    }

    /// How fast the loss changes along `direction`, by steps of `h` both ways.
    fn slope(&mut self, number: usize, direction: &[f32], h: f32) -> f64 {
        let before = self.tape.value(number).to_vec();
        let at = |check: &mut Self, h: f32| {
            let values = check.tape.value_mut(number).iter_mut().zip(&before).zip(direction);
            values.for_each(|((value, before), direction)| *value = before + h * direction);
            check.loss()
        };
        let (up, down) = (at(self, h), at(self, -h));
        at(self, 0.0);
        (up - down) / (2.0 * f64::from(h))
    }

    /// Along the gradient, where it should be its length, along a random direction, and of two entries by themselves.
    fn all(mut self, of: impl Fn(&str) -> bool) {
        self.tape.zero_gradients();
        self.tape.forward_backward(&self.examples.iter().collect::<Vec<_>>(), 1.0, 0).unwrap();
        let chosen: Vec<usize> =
            (0..self.tape.parameters().len()).filter(|&n| of(&self.tape.parameters()[n].name)).collect();
        assert!(!chosen.is_empty());
        let mut numbers = Numbers(11);
        for &number in chosen.iter().step_by(chosen.len().div_ceil(PARAMETERS)) {
            let gradient = self.tape.gradient(number).to_vec();
            let length = gradient.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>().sqrt();
            assert!(length > 1e-4, "{}: no gradient of {}", self.what, self.tape.parameters()[number].name);
            let along: Vec<f32> = gradient.iter().map(|g| g / length as f32).collect();
            self.compare(number, &gradient, &along, length);
            let random: Vec<f32> = gradient.iter().map(|_| numbers.even()).collect();
            let norm = random.iter().map(|v| v * v).sum::<f32>().sqrt();
            self.compare(number, &gradient, &random.iter().map(|v| v / norm).collect::<Vec<_>>(), length);
            for _ in 0..2 {
                let mut one = vec![0.0; gradient.len()];
                one[numbers.next() as usize % gradient.len()] = 1.0;
                self.compare(number, &gradient, &one, length);
            }
        }
    }

    /// To 3e-3 of the gradient's length: losses have the rounding of f32, steps their curvature.
    fn compare(&mut self, number: usize, gradient: &[f32], direction: &[f32], length: f64) {
        let expected: f64 = gradient.iter().zip(direction).map(|(&g, &d)| f64::from(g) * f64::from(d)).sum();
        // The loss changes by some hundredths, or by what a step of that size still sees as straight.
        let h = (0.03 / length).clamp(1e-4, 1e-2) as f32;
        let found = self.slope(number, direction, h);
        let name = &self.tape.parameters()[number].name;
        assert!(
            (found - expected).abs() <= 3e-3 * length,
            "{}: {name} has a slope of {found}, its gradient says {expected} (length {length})",
            self.what
        );
    }
}

fn pairs(magnitudes: bool, by_root: bool, targets: &[&str]) -> Trainable {
    Trainable::LowRank(LowRankSpec {
        rank: 3,
        alpha: 6.0,
        by_root,
        magnitudes,
        dropout: 0.0,
        targets: targets.iter().map(|&target| target.to_owned()).collect(),
        layers: None,
    })
}

fn prefix(projection: Option<ProjectionSpec>, shifts_positions: bool) -> Trainable {
    Trainable::Prefix(PrefixSpec { slots: 3, projection, dropout: 0.0, shifts_positions })
}

#[test]
fn pairs_beside_all_matrices() {
    for family in FAMILIES {
        Check::new(family, &pairs(false, false, &["all-linear"]), None).all(|_| true);
    }
}

#[test]
fn pairs_beside_fused_and_apart() {
    for (family, targets) in [
        ("chatglm-6b", &["query_key_value"][..]),
        ("glm4-9b-orig", &["query_key_value", "dense_h_to_4h"]),
        ("glm-4-9b-chat-hf", &["k_proj", "down_proj"]),
        ("glm4-9b-0414", &["q_proj", "v_proj", "gate_up_proj"]),
    ] {
        Check::new(family, &pairs(false, true, targets), None).all(|_| true);
    }
}

#[test]
fn magnitudes() {
    for family in FAMILIES {
        let of = |name: &str| name.ends_with("magnitude_vector");
        Check::new(family, &pairs(true, false, &["all-linear"]), None).all(of);
    }
}

#[test]
fn pairs_in_one_layer() {
    let Trainable::LowRank(all) = pairs(false, false, &["q_proj"]) else { unreachable!() };
    let check = Check::new(
        "glm-4-9b-chat-hf",
        &Trainable::LowRank(LowRankSpec { layers: Some(vec![1]), ..all }),
        None,
    );
    assert_eq!(check.tape.parameters().len(), 2);
    check.all(|_| true);
}

#[test]
fn pairs_over_quantized_weights() {
    for quantize in [Quantization::FourBit, Quantization::EightBit] {
        Check::new("glm-edge-k256", &pairs(false, false, &["all-linear"]), Some(quantize)).all(|_| true);
    }
    for family in ["chatglm-6b-int4", "chatglm-6b-int8"] {
        Check::new(family, &pairs(false, false, &["query_key_value"]), None).all(|_| true);
    }
}

/// Tensors are named as in a directory.
#[test]
fn pairs_over_ggufs() {
    for dtype in ["Q4_K", "Q5_0", "Q6_K", "IQ4_XS"] {
        let path = root().join(format!("crates/models/tests/data/llamacpp/{dtype}.gguf"));
        let check = Check::over(&path, &pairs(false, false, &["q_proj", "gate_up_proj", "o_proj"]), None);
        let name = &check.tape.parameters()[0].name;
        assert_eq!(name, "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight");
        check.all(|_| true);
    }
}

#[test]
fn prefixes() {
    for family in FAMILIES {
        Check::new(family, &prefix(None, false), None).all(|_| true);
        let projection = Some(ProjectionSpec { width: 10, middle: 6 });
        Check::new(family, &prefix(projection, family != "chatglm-6b"), None).all(|_| true);
    }
}

#[test]
fn all_weights() {
    for family in FAMILIES {
        Check::new(family, &Trainable::Full, None).all(|_| true);
        let outside = |name: &str| !name.contains("layers.");
        Check::new(family, &Trainable::Full, None).all(outside);
    }
}
