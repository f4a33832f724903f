//! Products of plain f32 matrices, for models that run beside the decoder and outside any [`glimmer_tensor::Device`].
//!
//! The right-hand matrix is stored in panels of [`LANES`] outputs, so that the inner loop is the same few vector
//! operations for every input. Every output is one sum over the inputs in order: its bits depend on its own row only,
//! not on the other rows or on threads.

/// Outputs of a panel: two SSE registers, one AVX register.
const LANES: usize = 8;

/// Rows that share a pass over a panel.
const ROWS: usize = 4;

/// A matrix `[outputs, inputs]`, packed.
#[derive(Clone, Debug)]
pub(crate) struct Panels {
    outputs: usize,
    inputs: usize,
    /// `[outputs / LANES, inputs, LANES]`, the last panel filled up with zeros.
    data: Vec<f32>,
}

impl Panels {
    /// Packs the matrix whose element `(output, input)` is `at(output, input)`.
    pub(crate) fn pack(outputs: usize, inputs: usize, at: impl Fn(usize, usize) -> f32) -> Self {
        let mut data = vec![0.0; outputs.div_ceil(LANES) * inputs * LANES];
        for (p, panel) in data.chunks_exact_mut(inputs * LANES).enumerate() {
            for lane in 0..LANES.min(outputs - p * LANES) {
                for input in 0..inputs {
                    panel[input * LANES + lane] = at(p * LANES + lane, input);
                }
            }
        }
        Panels { outputs, inputs, data }
    }

    /// Width of a result.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Width of an input.
    pub(crate) fn inputs(&self) -> usize {
        self.inputs
    }

    /// `out[r] = x[r] W^T` for `rows` rows. Row `r` of `x` starts at `r * x_stride`, that of `out` at `r * out_stride`.
    pub(crate) fn multiply(
        &self,
        x: &[f32],
        x_stride: usize,
        rows: usize,
        out: &mut [f32],
        out_stride: usize,
    ) {
        if rows == 0 || self.inputs == 0 {
            return;
        }
        // `[rows / ROWS, inputs, ROWS]`, the last group filled up with zeros.
        let mut groups = vec![0.0; rows.div_ceil(ROWS) * self.inputs * ROWS];
        for row in 0..rows {
            let group = &mut groups[row / ROWS * self.inputs * ROWS..][..self.inputs * ROWS];
            let from = &x[row * x_stride..][..self.inputs];
            from.iter().enumerate().for_each(|(input, &v)| group[input * ROWS + row % ROWS] = v);
        }
        for (p, panel) in self.data.chunks_exact(self.inputs * LANES).enumerate() {
            let first = p * LANES;
            let width = LANES.min(self.outputs - first);
            for (g, group) in groups.chunks_exact(self.inputs * ROWS).enumerate() {
                let sums = tile(group, panel);
                for (row, sums) in (g * ROWS..rows).zip(&sums) {
                    out[row * out_stride + first..][..width].copy_from_slice(&sums[..width]);
                }
            }
        }
    }
}

/// `ROWS` rows times one panel.
fn tile(group: &[f32], panel: &[f32]) -> [[f32; LANES]; ROWS] {
    let mut sums = [[0.0; LANES]; ROWS];
    let (x, _) = group.as_chunks::<ROWS>();
    let (w, _) = panel.as_chunks::<LANES>();
    for (x, w) in x.iter().zip(w) {
        for (sums, &x) in sums.iter_mut().zip(x) {
            for (sum, &w) in sums.iter_mut().zip(w) {
                *sum += x * w;
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_plain_loops() {
        for (rows, outputs, inputs) in [(1, 1, 1), (3, 9, 5), (4, 8, 16), (13, 21, 7)] {
            let x: Vec<f32> = (0..rows * inputs).map(|i| (i as f32 * 0.37).sin()).collect();
            let w: Vec<f32> = (0..outputs * inputs).map(|i| (i as f32 * 0.71).cos()).collect();
            let mut out = vec![0.0; rows * outputs];
            let panels = Panels::pack(outputs, inputs, |o, i| w[o * inputs + i]);
            panels.multiply(&x, inputs, rows, &mut out, outputs);
            for r in 0..rows {
                for o in 0..outputs {
                    let sum = (0..inputs).fold(0.0f32, |s, i| s + x[r * inputs + i] * w[o * inputs + i]);
                    assert_eq!(out[r * outputs + o], sum);
                }
            }
        }
    }
}
