//! What the tests of this crate share: stored tensors, tapes over fixtures, and an AdamW in f64.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use glimmer_checkpoint::Checkpoint;
use glimmer_cpu::{CpuDevice, CpuOptions};
use glimmer_models::{ModelWeights, understand};
use glimmer_tensor::{Compute, ReferenceDevice, TrainingDevice};
use glimmer_train::{Example, Room, Tape, Trainable};
use safetensors::{Dtype, SafeTensors};

/// The repository's root; cargo says where, also to a test that was built elsewhere.
pub fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&here).join("../..")
}

/// A fixture of the folder of reference files that is not part of the repository; without it, says so.
#[allow(clippy::print_stdout, reason = "a test that was skipped is seen")]
pub fn shared(fixture: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("GLIMMER_SHARED").map_or_else(|| root().join("../shared"), PathBuf::from);
    let path = folder.join("fixtures").join(fixture);
    if !path.is_dir() {
        println!("skipped: ../shared not present");
    }
    path.is_dir().then_some(path)
}

/// Tensors of a safetensors file, floats and integers apart.
pub struct Stored {
    floats: HashMap<String, (Vec<usize>, Vec<f32>)>,
    integers: HashMap<String, (Vec<usize>, Vec<i64>)>,
}

impl Stored {
    pub fn open(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let (mut floats, mut integers) = (HashMap::new(), HashMap::new());
        for (name, t) in file.tensors() {
            let (shape, data) = (t.shape().to_vec(), t.data());
            match t.dtype() {
                Dtype::F32 => {
                    let values = data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
                    floats.insert(name, (shape, values));
                }
                Dtype::I64 => {
                    let values = data.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect();
                    integers.insert(name, (shape, values));
                }
                other => panic!("{name}: {other:?}"),
            }
        }
        Stored { floats, integers }
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.floats.keys().map(String::as_str)
    }

    pub fn f32(&self, name: &str) -> &[f32] {
        &self.floats.get(name).unwrap_or_else(|| panic!("no {name}")).1
    }

    pub fn i64(&self, name: &str) -> &[i64] {
        &self.integers.get(name).unwrap_or_else(|| panic!("no {name}")).1
    }

    pub fn ids(&self, name: &str) -> Vec<u32> {
        self.i64(name).iter().map(|&i| i as u32).collect()
    }

    /// The rows of `train.*` as examples; -100 is no label.
    pub fn examples(&self, prefix: &str) -> Vec<Example> {
        let (shape, _) = &self.integers[&format!("{prefix}.input_ids")];
        let ids = self.ids(&format!("{prefix}.input_ids"));
        let labels = self.i64(&format!("{prefix}.labels"));
        let rows = ids.chunks_exact(shape[1]).zip(labels.chunks_exact(shape[1]));
        let label = |&label: &i64| u32::try_from(label).ok();
        rows.map(|(ids, labels)| Example { ids: ids.to_vec(), labels: labels.iter().map(label).collect() })
            .collect()
    }
}

/// A device by name: `reference`, or `cpu-THREADS`.
pub fn device(name: &str) -> Box<dyn TrainingDevice + Send> {
    match name.split_once('-') {
        None => Box::new(ReferenceDevice::new()),
        Some((_, threads)) => {
            let options =
                CpuOptions { threads: Some(threads.parse().unwrap()), compute: Compute::F32, isa: None };
            Box::new(CpuDevice::new(options).unwrap())
        }
    }
}

/// A tape over a checkpoint.
pub fn tape(dir: &Path, on: &str, trainable: &Trainable, room: Room) -> Tape {
    let checkpoint = Checkpoint::open(dir).unwrap();
    let understood = understand(&checkpoint, None).unwrap();
    let weights = ModelWeights::stored(&checkpoint, &understood);
    Tape::open(weights, device(on), trainable, room, 7, &mut |_, _| {}).unwrap()
}

/// The number of a parameter.
pub fn parameter(tape: &Tape, name: &str) -> usize {
    let named = tape.parameters().iter().position(|parameter| parameter.name == name);
    named.unwrap_or_else(|| panic!("no parameter {name}"))
}

/// Sets parameters to the tensors of a file.
pub fn set_all(tape: &mut Tape, stored: &Stored) {
    for number in 0..tape.parameters().len() {
        let name = tape.parameters()[number].name.clone();
        tape.value_mut(number).copy_from_slice(stored.f32(&name));
    }
}

/// AdamW (Loshchilov and Hutter, 2019) in f64: the oracle.
pub struct AdamW {
    rate: f64,
    decay: f64,
    steps: i32,
    moments: Vec<Vec<(f64, f64)>>,
}

impl AdamW {
    pub fn new(tape: &Tape, rate: f64, decay: f64) -> Self {
        let zeros = |parameter: &glimmer_train::Parameter| vec![(0.0, 0.0); parameter.rows * parameter.width];
        AdamW { rate, decay, steps: 0, moments: tape.parameters().iter().map(zeros).collect() }
    }

    pub fn step(&mut self, tape: &mut Tape) {
        self.clipped_step(tape, 1.0);
    }

    /// With gradients that count `scale` times.
    pub fn clipped_step(&mut self, tape: &mut Tape, scale: f64) {
        self.steps += 1;
        let (first, second) = (1.0 - 0.9f64.powi(self.steps), 1.0 - 0.999f64.powi(self.steps));
        for (number, moments) in self.moments.iter_mut().enumerate() {
            let (values, gradients) = tape.value_and_gradient(number);
            for ((value, &gradient), (mean, square)) in values.iter_mut().zip(gradients).zip(moments) {
                let gradient = f64::from(gradient) * scale;
                *mean = 0.9 * *mean + 0.1 * gradient;
                *square = 0.999 * *square + 0.001 * gradient * gradient;
                let step = self.rate * (*mean / first) / ((*square / second).sqrt() + 1e-8);
                *value = (f64::from(*value) * (1.0 - self.rate * self.decay) - step) as f32;
            }
        }
    }
}

/// Largest absolute difference; NaN anywhere is infinite.
pub fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let difference = |(a, b): (&f32, &f32)| (a - b).abs();
    a.iter().zip(b).map(difference).fold(0.0, |m, d| if d.is_nan() { f32::INFINITY } else { m.max(d) })
}

pub fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |largest, value| largest.max(value.abs()))
}
