//! DoRA's magnitudes (Liu et al., 2024): the rows of `W + scale B A` are divided by their norms, which count as constants,
//! and multiplied by what is trained instead.

use glimmer_tensor::{BufferId, MatrixId, TrainingDevice};

use crate::program::{Matrix, MatrixKind, Pair};

/// Rows of a matrix that are decoded at a time.
const DECODED_ROWS: usize = 32;

/// A matrix's norms, and what its outputs are multiplied by.
#[derive(Clone, Debug)]
pub(crate) struct Scales {
    id: MatrixId,
    cols: usize,
    pairs: Vec<Pair>,
    /// `|W + scale B A|` of each row, and the magnitude over it: 1 where no pair is.
    norms: Vec<f32>,
    factors: Vec<f32>,
    /// The matrix's own bias, which is not scaled.
    bias: Vec<f32>,
}

impl Scales {
    /// Those of a matrix; nothing where its pairs have no magnitudes.
    pub(crate) fn of(matrix: &Matrix, device: &dyn TrainingDevice) -> Option<Self> {
        let MatrixKind::Frozen(id) = matrix.kind else { return None };
        matrix.pairs.iter().find(|pair| pair.magnitude.is_some())?;
        let ones = vec![1.0; matrix.rows];
        let bias = device.bias(id).unwrap_or_else(|| vec![0.0; matrix.rows]);
        Some(Scales {
            id,
            cols: matrix.cols,
            pairs: matrix.pairs.clone(),
            norms: ones.clone(),
            factors: ones,
            bias,
        })
    }

    /// Computes norms and factors from tensors as they are.
    pub(crate) fn refresh(&mut self, device: &mut dyn TrainingDevice, tensors: &[BufferId]) {
        for pair in self.pairs.clone() {
            let (a, b) = (device.values(tensors[pair.a]).to_vec(), device.values(tensors[pair.b]).to_vec());
            for first in pair.rows.clone().step_by(DECODED_ROWS) {
                let rows = first..pair.rows.end.min(first + DECODED_ROWS);
                let mut weights = vec![0.0; rows.len() * self.cols];
                device.decode_rows(self.id, first, &mut weights);
                for (row, weights) in rows.zip(weights.chunks_exact_mut(self.cols)) {
                    let rank = a.len() / self.cols;
                    let b = &b[(row - pair.rows.start) * rank..][..rank];
                    self.norms[row] = norm_of_sum(weights, pair.scale, b, &a);
                }
            }
            if let Some(magnitude) = pair.magnitude {
                let magnitudes = device.values(tensors[magnitude]);
                for (row, magnitude) in pair.rows.zip(magnitudes) {
                    self.factors[row] = magnitude / self.norms[row];
                }
            }
        }
    }

    /// Sets the magnitudes to the norms: what training begins with.
    pub(crate) fn begin(&mut self, device: &mut dyn TrainingDevice, tensors: &[BufferId]) {
        self.refresh(device, tensors);
        for Pair { rows, magnitude, .. } in &self.pairs {
            if let Some(magnitude) = *magnitude {
                device.values_mut(tensors[magnitude]).copy_from_slice(&self.norms[rows.clone()]);
            }
        }
        self.refresh(device, tensors);
    }

    /// `out = factors (x - bias) + bias`.
    pub(crate) fn forward(&self, device: &mut dyn TrainingDevice, rows: usize, x: BufferId, out: BufferId) {
        let width = self.factors.len();
        let (out, x) = device.values_beside(out, x);
        for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)).take(rows) {
            for ((out, x), (factor, bias)) in out.iter_mut().zip(x).zip(self.factors.iter().zip(&self.bias)) {
                *out = factor * (x - bias) + bias;
            }
        }
    }

    /// Sets `dx = factors d_out`.
    pub(crate) fn backward(
        &self,
        device: &mut dyn TrainingDevice,
        rows: usize,
        d_out: BufferId,
        dx: BufferId,
    ) {
        let width = self.factors.len();
        let (dx, d_out) = device.values_beside(dx, d_out);
        for (dx, d_out) in dx.chunks_exact_mut(width).zip(d_out.chunks_exact(width)).take(rows) {
            for ((dx, d_out), factor) in dx.iter_mut().zip(d_out).zip(&self.factors) {
                *dx = factor * d_out;
            }
        }
    }

    /// Adds the gradients of the magnitudes: of each the sum over rows of `d_out (x - bias) / norm`.
    pub(crate) fn learn(
        &self,
        device: &mut dyn TrainingDevice,
        rows: usize,
        (x, d_out): (BufferId, BufferId),
        gradients: &[BufferId],
    ) {
        let width = self.factors.len();
        let mut sums = vec![0f64; width];
        let both = device.values(x).chunks_exact(width).zip(device.values(d_out).chunks_exact(width));
        for (x, d_out) in both.take(rows) {
            for (sum, ((x, d), bias)) in sums.iter_mut().zip(x.iter().zip(d_out).zip(&self.bias)) {
                *sum += f64::from(*d) * f64::from(x - bias);
            }
        }
        for Pair { rows, magnitude, .. } in &self.pairs {
            let Some(magnitude) = *magnitude else { continue };
            let gradient = device.values_mut(gradients[magnitude]);
            for (gradient, row) in gradient.iter_mut().zip(rows.clone()) {
                *gradient += (sums[row] / f64::from(self.norms[row])) as f32;
            }
        }
    }
}

/// `|w + scale b A|` of a row `w`, which is changed.
fn norm_of_sum(w: &mut [f32], scale: f32, b: &[f32], a: &[f32]) -> f32 {
    for (b, a) in b.iter().zip(a.chunks_exact(w.len())) {
        let factor = scale * b;
        w.iter_mut().zip(a).for_each(|(w, a)| *w += factor * a);
    }
    w.iter().map(|w| f64::from(*w) * f64::from(*w)).sum::<f64>().sqrt() as f32
}
