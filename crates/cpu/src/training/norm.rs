//! The backward of norms. Sums are in f64, as those of [`crate::norm`].

use crate::lanes::{Kernel, Lanes};
use crate::norm::{LANES, fold, sum};
use glimmer_tensor::NormKind;
use std::ops::Range;

/// Columns whose sums over rows are added up together.
pub(super) const COLUMNS: usize = 64;

/// Adds to `dx` what `dy` brings, row by row, and leaves each row's mean and the factor that it was scaled by.
pub(super) struct NormBackward<'a> {
    pub(super) kind: NormKind,
    pub(super) weight: &'a [f32],
    pub(super) eps: f32,
    pub(super) x: &'a [f32],
    pub(super) dy: &'a [f32],
    pub(super) dx: &'a mut [f32],
    pub(super) statistics: &'a mut [[f64; 2]],
}

impl Kernel for NormBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, _: S) {
        let NormBackward { kind, weight, eps, x, dy, dx, statistics } = self;
        let width = weight.len();
        let n = width as f64;
        let rows = x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(dx.chunks_exact_mut(width));
        for (((x, dy), dx), statistics) in rows.zip(statistics) {
            let mean = if kind == NormKind::Layer { sum(x, |v| v) / n } else { 0.0 };
            let variance = sum(x, |v| (v - mean) * (v - mean)) / n;
            let inverse = 1.0 / (variance + f64::from(eps)).sqrt();
            let [all, shared] = means(x, dy, weight, mean, inverse);
            let shared = if kind == NormKind::Layer { shared } else { 0.0 };
            for (((&x, &d), &w), dx) in x.iter().zip(dy).zip(weight).zip(dx) {
                let normed = (f64::from(x) - mean) * inverse;
                let d_normed = f64::from(d) * f64::from(w);
                *dx += (inverse * (d_normed - shared - normed * all)) as f32;
            }
            *statistics = [mean, inverse];
        }
    }
}

/// The means over a row of the gradients by its normed values times these, and of the gradients alone.
#[inline(always)]
fn means(x: &[f32], dy: &[f32], weight: &[f32], mean: f64, inverse: f64) -> [f64; 2] {
    let mut sums = [[0f64; LANES]; 2];
    let blocks = x.chunks(LANES).zip(dy.chunks(LANES)).zip(weight.chunks(LANES));
    for ((x, dy), weight) in blocks {
        for (i, ((&x, &d), &w)) in x.iter().zip(dy).zip(weight).enumerate() {
            let d_normed = f64::from(d) * f64::from(w);
            sums[0][i] += d_normed * ((f64::from(x) - mean) * inverse);
            sums[1][i] += d_normed;
        }
    }
    sums.map(|lanes| fold(lanes) / x.len() as f64)
}

/// Adds to some columns what `dy` comes to over all rows; where there are normed rows, times these.
pub(super) struct ColumnSums<'a> {
    pub(super) width: usize,
    pub(super) dy: &'a [f32],
    /// Rows before the norm, and their statistics.
    pub(super) normed: Option<(&'a [f32], &'a [[f64; 2]])>,
    pub(super) columns: Range<usize>,
    pub(super) to: &'a mut [f32],
}

impl Kernel for ColumnSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, _: S) {
        let ColumnSums { width, dy, normed, columns, to } = self;
        let mut sums = [0f64; COLUMNS];
        for (row, dy) in dy.chunks_exact(width).enumerate() {
            let elements = dy[columns.clone()].iter().zip(&mut sums);
            match normed {
                None => elements.for_each(|(&d, sum)| *sum += f64::from(d)),
                Some((x, statistics)) => {
                    let [mean, inverse] = statistics[row];
                    for (&x, (&d, sum)) in x[row * width..][columns.clone()].iter().zip(elements) {
                        *sum += f64::from(d) * ((f64::from(x) - mean) * inverse);
                    }
                }
            }
        }
        to.iter_mut().zip(sums).for_each(|(to, sum)| *to = (f64::from(*to) + sum) as f32);
    }
}
