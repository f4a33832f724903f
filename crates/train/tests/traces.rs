//! Training traces of the reference implementations, step by step: losses, gradients, parameters; LoRA and full with
//! transformers and PEFT, P-Tuning v2 with ChatGLM-6B's own code.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed; figures are shown"
)]

mod support;

use glimmer_train::{Example, LowRankSpec, PrefixSpec, Room, Tape, Trainable};
use support::{AdamW, Stored, distance, largest, parameter, set_all, shared, tape};

/// Losses to 1e-5 relative at step 1, to 1e-4 after.
fn compare_loss(step: usize, found: f64, expected: f32) {
    let expected = f64::from(expected);
    let (difference, allowed) = ((found - expected).abs() / expected, if step == 0 { 1e-5 } else { 1e-4 });
    assert!(difference <= allowed, "loss of step {step}: {found}, not {expected}");
}

/// Gradients to 1e-4 of their largest.
fn compare_gradient(name: &str, found: &[f32], expected: &[f32]) {
    let (difference, largest) = (distance(found, expected), largest(expected));
    assert!(difference <= 1e-4 * largest, "gradient of {name} is {difference} away, its largest {largest}");
}

/// Parameters to 1e-4, but for 0.1 % of them that may be 2e-3 away: AdamW makes a whole step of a gradient that is nothing
/// but rounding.
fn compare_parameter(name: &str, found: &[f32], expected: &[f32]) {
    let far = found.iter().zip(expected).filter(|(a, b)| (*a - *b).abs() > 1e-4).count();
    assert!(far * 1000 <= found.len(), "{name}: {far} of {} are further away than 1e-4", found.len());
    assert!(distance(found, expected) <= 2e-3, "{name} is {} away", distance(found, expected));
}

/// A batch and what becomes of it over some steps.
struct Trace {
    tape: Tape,
    examples: Vec<Example>,
    adam: AdamW,
}

impl Trace {
    fn new(tape: Tape, examples: Vec<Example>, decay: f64) -> Self {
        let adam = AdamW::new(&tape, 1e-3, decay);
        Trace { tape, examples, adam }
    }

    /// The mean loss before the step.
    fn gradients(&mut self) -> f64 {
        let examples: Vec<&Example> = self.examples.iter().collect();
        let labels: usize = examples.iter().map(|example| example.targets().count()).sum();
        self.tape.zero_gradients();
        let losses = self.tape.forward_backward(&examples, 1.0 / labels as f32, 0).unwrap();
        assert_eq!(losses.tokens, labels);
        losses.sum / labels as f64
    }

    fn loss(&mut self) -> f64 {
        let losses = self.tape.evaluate(&self.examples.iter().collect::<Vec<_>>()).unwrap();
        losses.sum / losses.tokens as f64
    }

    fn learn(&mut self) {
        self.adam.step(&mut self.tape);
    }
}

const ROOM: Room = Room { rows: 64, examples: 4, logits_rows: 16, kept_layers: 0 };

fn lora() -> Trainable {
    Trainable::LowRank(LowRankSpec {
        rank: 4,
        alpha: 12.0,
        by_root: false,
        magnitudes: false,
        dropout: 0.0,
        targets: ["q_proj", "k_proj", "v_proj", "o_proj"].map(str::to_owned).to_vec(),
        layers: None,
    })
}

/// Follows three steps of the reference's. `own` is our name of one of its tensors, whose values may be the first of ours.
fn follow(trace: &mut Trace, expected: &Stored, kind: &str, own: impl Fn(&str) -> String) {
    let names = |what: &str| -> Vec<(String, String)> {
        let prefix = format!("{kind}.{what}.");
        let own = |name: &str| Some((name.to_owned(), own(name.strip_prefix(&prefix)?)));
        expected.names().filter_map(own).collect()
    };
    let (losses, norms) =
        (expected.f32(&format!("{kind}.losses")), expected.f32(&format!("{kind}.grad_norms")));
    for (step, (&loss, &norm)) in losses.iter().zip(norms).enumerate() {
        compare_loss(step, trace.gradients(), loss);
        let found = trace.tape.gradient_norm().unwrap();
        assert!((found / f64::from(norm) - 1.0).abs() <= 1e-4, "norm of step {step}: {found}, not {norm}");
        for (name, own) in names("grad0").iter().filter(|_| step == 0) {
            let gradient = trace.tape.gradient(parameter(&trace.tape, own));
            let expected = expected.f32(name);
            compare_gradient(name, &gradient[..expected.len()], expected);
        }
        trace.learn();
    }
    compare_loss(3, trace.loss(), losses[3]);
    for (name, own) in names("after") {
        let value = trace.tape.value(parameter(&trace.tape, &own));
        let expected = expected.f32(&name);
        compare_parameter(&name, &value[..expected.len()], expected);
    }
}

fn lora_of_glm(on: &str) {
    let Some(dir) = shared("lora-train-glm-hf") else { return };
    let expected = Stored::open(&dir.join("expected.safetensors"));
    let mut tape = tape(&dir, on, &lora(), ROOM);
    set_all(&mut tape, &Stored::open(&dir.join("adapter/adapter_model.safetensors")));
    let logits = tape.logits(&expected.ids("lora.input_ids")).unwrap();
    let difference = distance(&logits, expected.f32("lora.logits"));
    assert!(difference <= 2e-4, "logits of the adapter are {difference} away");

    set_all(&mut tape, &Stored::open(&dir.join("adapter_init/adapter_model.safetensors")));
    let mut trace = Trace::new(tape, expected.examples("train"), 0.0);
    follow(&mut trace, &expected, "lora_train", |name| name.replace(".default", ""));
    let trained = Stored::open(&dir.join("adapter_trained/adapter_model.safetensors"));
    for (number, parameter) in trace.tape.parameters().iter().enumerate() {
        compare_parameter(&parameter.name, trace.tape.value(number), trained.f32(&parameter.name));
    }
}

fn full_of_glm(on: &str) {
    let Some(dir) = shared("lora-train-glm-hf") else { return };
    let expected = Stored::open(&dir.join("expected.safetensors"));
    let mut trace = Trace::new(tape(&dir, on, &Trainable::Full, ROOM), expected.examples("train"), 0.01);
    follow(&mut trace, &expected, "full_train", |name| name.replace("q_proj", "qkv_proj"));
}

fn prefix_of_chatglm(on: &str) {
    let Some(dir) = shared("ptuning-chatglm-6b") else { return };
    let expected = Stored::open(&dir.join("expected.safetensors"));
    let prefix = PrefixSpec { slots: 8, projection: None, dropout: 0.0, shifts_positions: false };
    let mut tape = tape(&dir, on, &Trainable::Prefix(prefix), ROOM);
    tape.value_mut(0).copy_from_slice(expected.f32("prefix.before"));
    let examples = expected.examples("train");
    let mut logits = Vec::new();
    examples.iter().for_each(|example| logits.extend(tape.logits(&example.ids).unwrap()));
    let difference = distance(&logits, expected.f32("before.logits"));
    println!("{on}: logits of the prefix are {difference:e} away");
    assert!(difference <= 1e-4, "logits of the prefix are {difference} away");

    let mut trace = Trace::new(tape, examples, 0.0);
    let losses = expected.f32("losses");
    for (step, &loss) in losses[..3].iter().enumerate() {
        compare_loss(step, trace.gradients(), loss);
        if step == 0 {
            compare_gradient("the prefix", trace.tape.gradient(0), expected.f32("step0.grad"));
        }
        trace.learn();
        if step == 0 {
            compare_parameter("the prefix", trace.tape.value(0), expected.f32("step0.prefix"));
        }
    }
    compare_loss(3, trace.loss(), losses[3]);
    compare_parameter("the prefix", trace.tape.value(0), expected.f32("step2.prefix"));
}

macro_rules! traces {
    ($($device:ident: $name:literal,)*) => {$(
        mod $device {
            #[test]
            fn lora() {
                super::lora_of_glm($name);
            }

            #[test]
            fn full() {
                super::full_of_glm($name);
            }

            #[test]
            fn prefix() {
                super::prefix_of_chatglm($name);
            }
        }
    )*};
}

traces! {
    reference: "reference",
    cpu_one_thread: "cpu-1",
    cpu_two_threads: "cpu-2",
}
