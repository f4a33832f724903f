//! Operations on elements, in place: a kernel changes `out` by what stands beside it.

use super::vectors::{for_two, for_vectors, load, store};
use crate::lanes::{Kernel, Lanes, exp};
use crate::linear::{gelu, gelu_slope, silu};
use glimmer_tensor::Dropout;

/// `out = out * scale + y * y_scale`.
pub(super) struct Add<'a> {
    pub(super) out: &'a mut [f32],
    pub(super) scale: f32,
    pub(super) y: &'a [f32],
    pub(super) y_scale: f32,
}

impl Kernel for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        let (scale, y_scale) = (s.splat(self.scale), s.splat(self.y_scale));
        // Rounded apart: the same over either addend.
        for_two(s, self.out, self.y, |x, y, _| s.add(s.mul(x, scale), s.mul(y, y_scale)));
    }
}

/// Adds a row to rows.
pub(super) struct AddBias<'a> {
    pub(super) rows: &'a mut [f32],
    pub(super) bias: &'a [f32],
}

impl Kernel for AddBias<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        for row in self.rows.chunks_exact_mut(self.bias.len()) {
            for_two(s, row, self.bias, |x, bias, _| s.add(x, bias));
        }
    }
}

/// Drops elements, the first of which is the `first`th of the operation.
pub(super) struct Drop<'a> {
    pub(super) out: &'a mut [f32],
    pub(super) dropout: Dropout,
    pub(super) first: usize,
}

impl Kernel for Drop<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, _: S) {
        for (i, x) in self.out.iter_mut().enumerate() {
            *x *= self.dropout.factor(self.first + i);
        }
    }
}

/// `out = gelu(out)`.
pub(super) struct Gelu<'a>(pub(super) &'a mut [f32]);

impl Kernel for Gelu<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        for_vectors(s, self.0, |x, _| gelu(s, x));
    }
}

/// `d *= gelu'(y)`.
pub(super) struct GeluBackward<'a> {
    pub(super) d: &'a mut [f32],
    pub(super) y: &'a [f32],
}

impl Kernel for GeluBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        for_two(s, self.d, self.y, |d, y, _| s.mul(d, gelu_slope(s, y)));
    }
}

/// `out = silu(gate) * value` of rows `y` of gates and values.
pub(super) struct SwiGlu<'a> {
    pub(super) y: &'a [f32],
    pub(super) width: usize,
    pub(super) out: &'a mut [f32],
}

impl Kernel for SwiGlu<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        let half = self.width / 2;
        for (y, out) in self.y.chunks_exact(self.width).zip(self.out.chunks_exact_mut(half)) {
            let (gate, value) = y.split_at(half);
            out.copy_from_slice(gate);
            for_two(s, out, value, |gate, value, _| s.mul(silu(s, gate), value));
        }
    }
}

/// Its gradients by gates and values.
pub(super) struct SwiGluBackward<'a> {
    pub(super) y: &'a [f32],
    pub(super) width: usize,
    pub(super) d_out: &'a [f32],
    pub(super) dy: &'a mut [f32],
}

impl Kernel for SwiGluBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        let half = self.width / 2;
        let one = s.splat(1.0);
        let rows = self.y.chunks_exact(self.width).zip(self.d_out.chunks_exact(half));
        for ((y, d_out), dy) in rows.zip(self.dy.chunks_exact_mut(self.width)) {
            let (gates, values) = y.split_at(half);
            let (d_gates, d_values) = dy.split_at_mut(half);
            for at in (0..half).step_by(S::LANES) {
                let some = at..half.min(at + S::LANES);
                let [gate, value, d] = [&gates[some.clone()], &values[some.clone()], &d_out[some.clone()]]
                    .map(|from| load(s, from));
                // At -88 and below the slope is nothing that f32 keeps.
                let power = exp(s, s.min(s.splat(88.0), s.sub(s.splat(0.0), gate)));
                let logistic = s.div(one, s.add(one, power));
                let slope = s.mul(logistic, s.mul_add(gate, s.sub(one, logistic), one));
                store(s, s.mul(s.mul(d, value), slope), &mut d_gates[some.clone()]);
                store(s, s.mul(d, s.mul(gate, logistic)), &mut d_values[some]);
            }
        }
    }
}

/// Cross entropy of a row of logits, which become `weight * (softmax - onehot)`; returns the loss.
pub(super) struct CrossEntropy<'a> {
    pub(super) logits: &'a mut [f32],
    pub(super) target: usize,
    pub(super) weight: f32,
}

/// Exponentials that are added up in f32 before they join the sum.
const RUN: usize = 1024;

impl Kernel for CrossEntropy<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) -> f32 {
        let CrossEntropy { logits, target, weight } = self;
        let mut greatest = s.splat(f32::NEG_INFINITY);
        for_vectors(s, logits, |x, n| {
            greatest = s.max(greatest, s.first(n, x, s.splat(f32::NEG_INFINITY)));
            x
        });
        let greatest = s.greatest(greatest);
        let right = logits[target];
        let mut sum = 0f64;
        for run in logits.chunks_mut(RUN) {
            let mut some = s.splat(0.0);
            for_vectors(s, run, |x, n| {
                let power = s.first(n, exp(s, s.sub(x, s.splat(greatest))), s.splat(0.0));
                some = s.add(some, power);
                power
            });
            sum += f64::from(s.sum(some));
        }
        let factor = s.splat((f64::from(weight) / sum) as f32);
        for_vectors(s, logits, |power, _| s.mul(power, factor));
        logits[target] -= weight;
        (sum.ln() - (f64::from(right) - f64::from(greatest))) as f32
    }
}
