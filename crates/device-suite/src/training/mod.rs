//! Training: each operation with its backward is a [`Case`], which is played on a device. The reference device's gradients are
//! held to finite differences ([`differences`]), those of other devices to the reference's.

pub mod attention;
pub mod cases;
pub mod differences;

use crate::rig::{NO_HEADS, Random, bits};
use glimmer_tensor::{
    Batch, BufferId, Capacity, Compute, DeviceBatch, Heads, KvType, PAGE_SLOTS, Plan, ReferenceDevice,
    TrainingDevice,
};
use std::collections::HashMap;

/// Makes devices of one kind.
pub type Make<'a> = &'a dyn Fn() -> Box<dyn TrainingDevice>;

/// A kind of device to be tested.
pub struct Candidate {
    /// For messages.
    pub name: String,
    /// Makes one.
    pub make: Box<dyn Fn() -> Box<dyn TrainingDevice>>,
    /// Its numeric mode.
    pub compute: Compute,
    /// Candidates of the same family must give the same bits: the same machine with other numbers of threads.
    pub family: String,
}

/// A tensor that an operation reads, and how its gradient is returned.
#[derive(Clone)]
pub struct Input {
    /// Its rows.
    pub rows: usize,
    /// Elements per row.
    pub width: usize,
    /// Its values.
    pub values: Vec<f32>,
    /// Whether the gradient is added to what is there, or set.
    pub added: bool,
}

impl Input {
    /// Normal numbers; the gradient is set.
    pub fn normal(rng: &mut Random, rows: usize, width: usize) -> Input {
        Input { rows, width, values: rng.normals(rows * width), added: false }
    }

    /// The same, but the gradient is added.
    pub fn added(self) -> Input {
        Input { added: true, ..self }
    }
}

type Forward = Box<dyn Fn(&mut dyn TrainingDevice, DeviceBatch, &[BufferId], BufferId)>;
type Load = Box<dyn Fn(&mut dyn TrainingDevice) -> Operation>;
type Backward = Box<dyn Fn(&mut dyn TrainingDevice, DeviceBatch, &Played<'_>, &[BufferId])>;

/// An operation on a device that has what it needs.
pub struct Operation {
    /// Computes the output from the inputs.
    pub forward: Forward,
    /// Computes the gradients by the inputs.
    pub backward: Backward,
}

/// What an operation's backward may read.
pub struct Played<'a> {
    /// The inputs.
    pub inputs: &'a [BufferId],
    /// The output.
    pub out: BufferId,
    /// Its gradient.
    pub d_out: BufferId,
}

/// An operation with its inputs.
pub struct Case {
    /// For messages.
    pub name: String,
    /// What the gradients are by.
    pub inputs: Vec<Input>,
    /// Rows and width of the output.
    pub out: (usize, usize),
    /// What is uploaded.
    pub batch: Batch,
    /// The heads of the plan's only layer.
    pub heads: Heads,
    /// Whether it may be computed with less precision in [`Compute::Auto`]: the gradients with sides of bfloat16, the output as
    /// other tests allow.
    pub rounds: bool,
    /// Loads what is needed before the plan.
    pub load: Load,
}

impl Case {
    /// A case over `rows` rows without attention.
    pub fn of_rows(
        name: String,
        rows: usize,
        inputs: Vec<Input>,
        width: usize,
        load: impl Fn(&mut dyn TrainingDevice) -> Operation + 'static,
    ) -> Case {
        let mut batch = Batch::default();
        let pages = (0..rows.div_ceil(PAGE_SLOTS) as u32).collect();
        batch.push(&vec![0; rows], 0..rows, &vec![0.0; rows], 0, pages, 0..rows);
        let load = Box::new(load);
        Case { name, inputs, out: (rows, width), batch, heads: NO_HEADS, rounds: false, load }
    }
}

/// A case on a device.
pub struct Stage {
    /// The device.
    pub device: Box<dyn TrainingDevice>,
    operation: Operation,
    batch: DeviceBatch,
    /// Where the inputs are.
    pub inputs: Vec<BufferId>,
    out: BufferId,
    d_out: BufferId,
    gradients: Vec<BufferId>,
}

/// What gradients that are added are added to.
const BEFORE: f32 = 0.25;

impl Stage {
    /// Sets a case up; `d_out` is the gradient of its output.
    pub fn set(case: &Case, make: Make<'_>, d_out: &[f32]) -> Stage {
        let mut device = make();
        let operation = (case.load)(device.as_mut());
        let pages = case.batch.sequences.iter().map(|s| s.pages.len()).sum();
        let capacity =
            Capacity { rows: case.batch.rows(), logits_rows: case.batch.logits_rows.len().max(1), pages };
        let vocab = case.batch.tokens.iter().max().map_or(1, |&t| t as usize + 1);
        let plan = Plan { capacity, vocab, layers: vec![case.heads], kv_type: KvType::F32, axes: 1 };
        device.plan(&plan).unwrap();
        let batch = device.upload(&case.batch).unwrap();
        let mut inputs = Vec::new();
        let mut gradients = Vec::new();
        for input in &case.inputs {
            inputs.push(device.tensor(input.rows, input.width).unwrap());
            device.values_mut(inputs[inputs.len() - 1]).copy_from_slice(&input.values);
            gradients.push(device.tensor(input.rows, input.width).unwrap());
        }
        let (rows, width) = case.out;
        let [out, to] = [(); 2].map(|()| device.tensor(rows, width).unwrap());
        device.values_mut(to).copy_from_slice(d_out);
        Stage { device, operation, batch, inputs, out, d_out: to, gradients }
    }

    /// The output.
    pub fn forward(&mut self) -> Vec<f32> {
        self.device.values_mut(self.out).fill(f32::NAN);
        (self.operation.forward)(self.device.as_mut(), self.batch, &self.inputs, self.out);
        self.device.values(self.out).to_vec()
    }

    /// The gradients by the inputs, after [`Stage::forward`].
    pub fn backward(&mut self, case: &Case) -> Vec<Vec<f32>> {
        for (&gradient, input) in self.gradients.iter().zip(&case.inputs) {
            self.device.values_mut(gradient).fill(if input.added { BEFORE } else { f32::NAN });
        }
        let played = Played { inputs: &self.inputs, out: self.out, d_out: self.d_out };
        (self.operation.backward)(self.device.as_mut(), self.batch, &played, &self.gradients);
        let gradients = self.gradients.iter().zip(&case.inputs).map(|(&gradient, input)| {
            let before = if input.added { BEFORE } else { 0.0 };
            self.device.values(gradient).iter().map(|v| v - before).collect()
        });
        gradients.collect()
    }
}

/// How far off a device may be, relative to the largest value of a tensor: sums of hundreds of terms in f32.
const TOLERANCE: f32 = 1e-5;

/// The same for gradients of a product whose sides may be rounded to bfloat16, each by up to 0.2 % of what it is.
const ROUNDED: f32 = 1e-2;

/// Holds candidates to the reference, and those of a family to the same bits.
pub fn hold(candidates: &[Candidate], cases: Vec<Case>) {
    for case in cases {
        let (rows, width) = case.out;
        let d_out = Random(7).normals(rows * width);
        let mut stage = Stage::set(&case, &|| Box::new(ReferenceDevice::new()), &d_out);
        let (out, gradients) = (stage.forward(), stage.backward(&case));
        let mut families = HashMap::new();
        for candidate in candidates {
            let what = format!("{}: {}", candidate.name, case.name);
            let mut stage = Stage::set(&case, &candidate.make, &d_out);
            let found_out = stage.forward();
            let rounds = case.rounds && candidate.compute == Compute::Auto;
            if !rounds {
                close(&what, &found_out, &out, TOLERANCE);
            }
            let mut all = bits(&found_out);
            for (i, (found, expected)) in stage.backward(&case).iter().zip(&gradients).enumerate() {
                let tolerance = if rounds { ROUNDED } else { TOLERANCE };
                close(&format!("{what}, gradient {i}"), found, expected, tolerance);
                all.extend(bits(found));
            }
            let first = families.entry(&candidate.family).or_insert_with(|| all.clone());
            assert!(*first == all, "{what}: other bits than the family's");
        }
    }
}

/// Every value within `tolerance` of the largest.
fn close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    let largest = expected.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let off = (found - expected).abs() / largest;
        assert!(off <= tolerance, "{what}: {found} instead of {expected} at {i}, off by {off}");
    }
}

/// The tests of training, for all candidates that a function `fn() -> Vec<training::Candidate>` returns.
#[macro_export]
macro_rules! training_suite {
    ($candidates:path) => {
        $crate::training_suite! { $candidates: rows, products, frozen_products, attention }
    };
    ($candidates:path: $($cases:ident),*) => {$(
        #[test] fn $cases() { $crate::training::hold(&$candidates(), $crate::training::cases::$cases()); }
    )*};
}
