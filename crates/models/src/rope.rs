//! Rotary frequencies of each generation.
//!
//! Frequencies and angles are rounded to f32 where the reference implementations round them: positions of 100,000
//! magnify the last bit of a frequency into a visible angle, so "more exact" would be different.

use glimmer_tensor::{Rope, RopePairs, RopeSection};
use half::f16;

/// YaRN's parameters (Peng et al., "YaRN", 2023; transformers' `_compute_yarn_parameters`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Yarn {
    /// How many times the original context.
    pub factor: f64,
    /// Length the model was trained for before scaling.
    pub original_context: f64,
    /// Rotations above which a frequency is left alone; 32 by default.
    pub beta_fast: f64,
    /// Rotations below which it is interpolated outright; 1 by default.
    pub beta_slow: f64,
    /// Factor on cosine and sine; `0.1 ln(factor) + 1` when absent.
    pub attention_factor: Option<f64>,
    /// Whether the ramp's ends are rounded outwards to whole dimensions (they are, by default).
    pub truncate: bool,
}

/// `base^(2i / dims)` for every even `2i < dims` (of which an odd `dims` has one more than half), each step rounded to f32.
fn wavelengths(base: f64, dims: usize) -> impl Iterator<Item = f32> {
    (0..dims.div_ceil(2)).map(move |i| base.powf(f64::from((2 * i) as f32 / dims as f32)) as f32)
}

/// Plain frequencies `1 / base^(2i / dims)`, `[dims / 2]`, rounded up.
pub fn inv_freq(base: f64, dims: usize) -> Vec<f32> {
    wavelengths(base, dims).map(|w| 1.0 / w).collect()
}

/// YaRN's frequencies and its factor on cosine and sine.
pub fn yarn(base: f64, dims: usize, yarn: &Yarn) -> (Vec<f32>, f32) {
    let dim_of = |rotations: f64| {
        dims as f64 * (yarn.original_context / (rotations * std::f64::consts::TAU)).ln() / (2.0 * base.ln())
    };
    let (mut low, mut high) = (dim_of(yarn.beta_fast), dim_of(yarn.beta_slow));
    if yarn.truncate {
        (low, high) = (low.floor(), high.ceil());
    }
    let (low, mut high) = (low.max(0.0), high.min(dims as f64 - 1.0));
    if low == high {
        high += 0.001;
    }
    let frequencies = wavelengths(base, dims)
        .enumerate()
        .map(|(i, w)| {
            let ramp = ((i as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
            let extrapolated = 1.0 - ramp;
            1.0 / (yarn.factor as f32 * w) * (1.0 - extrapolated) + 1.0 / w * extrapolated
        })
        .collect();
    let magnitude = yarn.attention_factor.unwrap_or(yarn_magnitude(yarn.factor, 1.0));
    (frequencies, magnitude as f32)
}

/// The factor on cosine and sine that YaRN's authors found for a context `factor` times as long.
/// `mscale` strengthens it.
pub(crate) fn yarn_magnitude(factor: f64, mscale: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 }
}

/// One section of interleaved pairs over the first elements of each head: ChatGLM2/3, GLM-4, GLM-Edge.
pub fn interleaved(inv_freq: Vec<f32>, magnitude: f32) -> Rope {
    Rope {
        pairs: RopePairs::Interleaved,
        sections: vec![RopeSection { axis: 0, first_dim: 0, inv_freq }],
        magnitude,
    }
}

/// ChatGLM-6B: the first half of each head turns with the position, the second with the block position. The original
/// keeps its frequencies in f16 even where it computes in f32.
pub fn chatglm_6b(head_dim: usize) -> Rope {
    let half_dim = head_dim / 2;
    let inv_freq: Vec<f32> =
        inv_freq(10_000.0, half_dim).iter().map(|&f| f16::from_f32(f).to_f32()).collect();
    let section = |axis| RopeSection { axis, first_dim: axis * half_dim, inv_freq: inv_freq.clone() };
    Rope { pairs: RopePairs::Halves, sections: vec![section(0), section(1)], magnitude: 1.0 }
}
