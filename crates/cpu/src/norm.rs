//! RMSNorm (Zhang and Sennrich, 2019) and LayerNorm (Ba et al., 2016) over rows.
//!
//! Sums go over sixteen lanes and then a tree, in f64 and without fused operations: the bits of a row are the same in
//! any batch, on any number of threads and on every instruction set. Norms are a thousandth of a step's work, and
//! ChatGLM-6B multiplies what they return by 7.5 at each of its 56 residuals: only the result is rounded to f32.

use crate::lanes::{Kernel, Lanes};
use glimmer_tensor::{Heads, NormKind};

/// Lanes of the sums.
pub(crate) const LANES: usize = 16;

/// A norm over the rows of `x` `[rows, width]`, `width` being that of `weight`.
pub(crate) struct NormRows<'a> {
    pub(crate) kind: NormKind,
    pub(crate) weight: &'a [f32],
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) eps: f32,
    /// Whether the result is added to `out` instead of stored.
    pub(crate) add: bool,
    pub(crate) x: &'a [f32],
    pub(crate) out: &'a mut [f32],
}

impl Kernel for NormRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, _: S) {
        let width = self.weight.len();
        for (x, out) in self.x.chunks_exact(width).zip(self.out.chunks_exact_mut(width)) {
            let (mean, inverse) = statistics(self.kind, self.eps, x);
            let scaled =
                x.iter().zip(self.weight).map(|(&v, &w)| (f64::from(v) - mean) * inverse * f64::from(w));
            match (self.bias, self.add) {
                (None, false) => out.iter_mut().zip(scaled).for_each(|(o, y)| *o = y as f32),
                (None, true) => out.iter_mut().zip(scaled).for_each(|(o, y)| *o += y as f32),
                (Some(b), false) => {
                    out.iter_mut().zip(scaled.zip(b)).for_each(|(o, (y, &b))| *o = (y + f64::from(b)) as f32);
                }
                (Some(b), true) => {
                    out.iter_mut()
                        .zip(scaled.zip(b))
                        .for_each(|(o, (y, &b))| *o += (y + f64::from(b)) as f32);
                }
            }
        }
    }
}

/// The mean of a row, 0 where none is taken away, and one over its deviation.
#[inline(always)]
fn statistics(kind: NormKind, eps: f32, x: &[f32]) -> (f64, f64) {
    let mean = match kind {
        NormKind::Rms => 0.0,
        NormKind::Layer => sum(x, |v| v) / x.len() as f64,
    };
    let variance = sum(x, |v| (v - mean) * (v - mean)) / x.len() as f64;
    (mean, 1.0 / (variance + f64::from(eps)).sqrt())
}

/// Puts together the queries and keys of latent attention, row by row `[width]`; see
/// [`glimmer_tensor::Device::join_heads`].
pub(crate) struct JoinHeads<'a> {
    pub(crate) heads: Heads,
    /// The norm of latents.
    pub(crate) norm: NormHeads<'a>,
    /// The rows of [`glimmer_tensor::LatentRows`].
    pub(crate) queries: &'a [f32],
    /// Elements of a row of them.
    pub(crate) query_width: usize,
    pub(crate) absorbed: &'a [f32],
    pub(crate) latent: &'a [f32],
    pub(crate) out: &'a mut [f32],
}

impl Kernel for JoinHeads<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        let JoinHeads { heads: Heads { heads, head_dim, value_dim, .. }, norm, query_width, .. } = self;
        let turned = head_dim - value_dim;
        let out = self.out.chunks_exact_mut(head_dim * (heads + 1));
        let rows = self.queries.chunks_exact(query_width).zip(self.absorbed.chunks_exact(heads * value_dim));
        for (((queries, absorbed), latent), out) in rows.zip(self.latent.chunks_exact(head_dim)).zip(out) {
            let own = queries[queries.len() - heads * turned..].chunks_exact(turned);
            let (joined, key) = out.split_at_mut(heads * head_dim);
            let parts = absorbed.chunks_exact(value_dim).zip(own);
            for ((plain, own), query) in parts.zip(joined.chunks_exact_mut(head_dim)) {
                query[..value_dim].copy_from_slice(plain);
                query[value_dim..].copy_from_slice(own);
            }
            let (latent, own) = latent.split_at(value_dim);
            let (normed, key) = key.split_at_mut(value_dim);
            let NormHeads { kind, weight, bias, eps } = norm;
            NormRows { kind, weight, bias, eps, add: false, x: latent, out: normed }.run(s);
            key.copy_from_slice(own);
        }
    }
}

/// A norm of heads, as wide as they are.
#[derive(Clone, Copy)]
pub(crate) struct NormHeads<'a> {
    pub(crate) kind: NormKind,
    pub(crate) weight: &'a [f32],
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) eps: f32,
}

/// Norms the heads at the beginning of each row `[width]` in place: those of queries, then those of keys, each with the
/// width of all of them.
pub(crate) struct QueriesAndKeys<'a> {
    pub(crate) width: usize,
    pub(crate) parts: [(NormHeads<'a>, usize); 2],
    pub(crate) out: &'a mut [f32],
}

impl Kernel for QueriesAndKeys<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, _: S) {
        for row in self.out.chunks_exact_mut(self.width) {
            let mut rest = row;
            for (norm, width) in self.parts {
                let (part, after) = rest.split_at_mut(width);
                rest = after;
                for head in part.chunks_exact_mut(norm.weight.len()) {
                    let (mean, inverse) = statistics(norm.kind, norm.eps, head);
                    for (i, v) in head.iter_mut().enumerate() {
                        let scaled = (f64::from(*v) - mean) * inverse * f64::from(norm.weight[i]);
                        *v = (scaled + norm.bias.map_or(0.0, |bias| f64::from(bias[i]))) as f32;
                    }
                }
            }
        }
    }
}

/// The sum of `f` over a row, lane by lane.
#[inline(always)]
pub(crate) fn sum(row: &[f32], f: impl Fn(f64) -> f64) -> f64 {
    let mut lanes = [0f64; LANES];
    let (blocks, rest) = row.as_chunks::<LANES>();
    for block in blocks {
        for (lane, &v) in lanes.iter_mut().zip(block) {
            *lane += f(f64::from(v));
        }
    }
    for (lane, &v) in lanes.iter_mut().zip(rest) {
        *lane += f(f64::from(v));
    }
    fold(lanes)
}

/// The sum of lanes, as a tree.
#[inline(always)]
pub(crate) fn fold(mut lanes: [f64; LANES]) -> f64 {
    let mut n = LANES;
    while n > 1 {
        n /= 2;
        for i in 0..n {
            lanes[i] += lanes[i + n];
        }
    }
    lanes[0]
}
