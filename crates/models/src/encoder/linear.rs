//! Products and norms of plain f32, on the threads of one encoder.

use std::num::NonZero;

use glimmer_checkpoint::Checkpoint;

use super::panels::Panels;
use crate::ModelError;

/// Below this many multiplications a product is not worth a second thread.
const WORTH_A_THREAD: usize = 4_000_000;

/// How many threads share rows.
#[derive(Clone, Copy)]
pub(super) struct Threads(usize);

impl Threads {
    /// One for each processor.
    pub(super) fn all() -> Self {
        Threads(std::thread::available_parallelism().map_or(1, NonZero::get))
    }

    /// Fills `[rows, width]`, threads sharing the rows: `fill(first row, rows, their part)`.
    pub(super) fn by_rows(
        self,
        rows: usize,
        width: usize,
        work: usize,
        fill: impl Fn(usize, usize, &mut [f32]) + Sync,
    ) -> Vec<f32> {
        let mut out = vec![0.0; rows * width];
        let threads = (work / WORTH_A_THREAD).clamp(1, self.0);
        let share = rows.div_ceil(threads).next_multiple_of(4);
        std::thread::scope(|scope| {
            let mut parts = out.chunks_mut(share * width).enumerate();
            let own = parts.next();
            for (i, part) in parts {
                let fill = &fill;
                scope.spawn(move || fill(i * share, part.len() / width, part));
            }
            if let Some((_, part)) = own {
                fill(0, part.len() / width, part);
            }
        });
        out
    }
}

/// `y = x W^T + b`.
pub(super) struct Linear {
    weight: Panels,
    /// Empty where there is none.
    bias: Vec<f32>,
}

impl Linear {
    /// Length of a result.
    pub(super) fn outputs(&self) -> usize {
        self.weight.outputs()
    }

    /// `[rows, inputs]` to `[rows, outputs]`.
    pub(super) fn apply(&self, x: &[f32], threads: Threads) -> Vec<f32> {
        let (inputs, outputs) = (self.weight.inputs(), self.weight.outputs());
        let rows = x.len() / inputs;
        let work = rows * outputs * inputs;
        threads.by_rows(rows, outputs, work, |first, count, out| {
            self.weight.multiply(&x[first * inputs..], inputs, count, out, outputs);
            for row in out.chunks_exact_mut(outputs) {
                add(row, &self.bias);
            }
        })
    }
}

/// `y = (x - mean) / sqrt(var + eps) * weight + bias`.
pub(super) struct LayerNorm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    eps: f64,
}

impl LayerNorm {
    pub(super) fn apply(&self, x: &mut [f32]) {
        let width = self.weight.len();
        for row in x.chunks_exact_mut(width) {
            let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / width as f64;
            let var = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / width as f64;
            let scale = 1.0 / (var + self.eps).sqrt();
            for ((v, w), b) in row.iter_mut().zip(&self.weight).zip(&self.bias) {
                *v = ((f64::from(*v) - mean) * scale) as f32 * w + b;
            }
        }
    }
}

/// `x += y`.
pub(super) fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

/// The tensors of a checkpoint, whose names may have something before them.
pub(super) struct Weights<'a> {
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) prefix: &'static str,
}

impl Weights<'_> {
    /// `[rows, cols]`
    pub(super) fn table(&self, name: &str, rows: usize, cols: usize) -> Result<Vec<f32>, ModelError> {
        let name = format!("{}{name}.weight", self.prefix);
        self.checkpoint.matrix_of(&name, rows, cols)?;
        let values = self.checkpoint.vector_f32(&name)?;
        if let Some(info) = self.checkpoint.info(&name) {
            self.checkpoint.check_finite(info)?;
            self.checkpoint.release(info);
        }
        Ok(values)
    }

    /// Linears of equal shape below each other.
    pub(super) fn linear(
        &self,
        names: &[String],
        outputs: usize,
        inputs: usize,
    ) -> Result<Linear, ModelError> {
        let mut linear = self.linear_without_bias(names, outputs, inputs)?;
        for name in names {
            linear.bias.extend(self.vector(name, "bias", outputs)?);
        }
        Ok(linear)
    }

    pub(super) fn linear_without_bias(
        &self,
        names: &[String],
        outputs: usize,
        inputs: usize,
    ) -> Result<Linear, ModelError> {
        let mut weight = Vec::new();
        for name in names {
            weight.extend(self.table(name, outputs, inputs)?);
        }
        let weight = Panels::pack(names.len() * outputs, inputs, |o, i| weight[o * inputs + i]);
        Ok(Linear { weight, bias: Vec::new() })
    }

    pub(super) fn norm(&self, name: &str, width: usize, eps: f64) -> Result<LayerNorm, ModelError> {
        let (weight, bias) = (self.vector(name, "weight", width)?, self.vector(name, "bias", width)?);
        Ok(LayerNorm { weight, bias, eps })
    }

    fn vector(&self, name: &str, part: &str, len: usize) -> Result<Vec<f32>, ModelError> {
        Ok(self.checkpoint.vector_of(&format!("{}{name}.{part}", self.prefix), len)?)
    }
}
