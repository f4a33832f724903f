//! Encoding to the K-quants: for each sub-block a small search for scale and minimum, then the super-block's
//! rounding of those, then the quants.
//!
//! The searches are those of `ggml-quants.c` without importance matrix (`make_qkx2_quants`, `make_q3_quants`,
//! `make_qx_quants`), operation for operation, so that the bytes agree. They are laid out with one lane per
//! sub-block: the sub-blocks of a super-block are independent, so the loops over lanes become vector code, while
//! every lane sums its elements in the reference's order.

use super::kquants::{Q2K, Q3K, Q4K, Q5K, Q6K};
use half::f16;

/// Sub-blocks whose largest magnitude is smaller are taken for zero.
const TINY: f32 = 1e-15;

/// A super-block with its sub-blocks as lanes: `[element of the sub-block][sub-block]`.
type Lanes<T, const SUBS: usize, const LEN: usize> = [[T; SUBS]; LEN];

impl Q2K<'_> {
    /// The block that stands for `x`.
    pub fn encode(x: &[f32; 256]) -> [u8; 84] {
        let lanes = to_lanes::<16, 16>(x);
        let weights = lanes.map(|row| row.map(f32::abs));
        let fit =
            fit_affine(&lanes, &weights, &AffineSearch { nmax: 3, first: -0.5, steps: 16, squared: false });
        let (max_scale, max_min) = (largest(&fit.scale), largest(&fit.min));

        let mut out = [0; 84];
        let scale_step = if max_scale > 0.0 { 15.0 / max_scale } else { 0.0 };
        let min_step = if max_min > 0.0 { 15.0 / max_min } else { 0.0 };
        for (s, byte) in out[..16].iter_mut().enumerate() {
            let scale = nearest(scale_step * fit.scale[s]) as u8;
            let min = nearest(min_step * fit.min[s]) as u8;
            *byte = scale | min << 4;
        }
        out[80..82].copy_from_slice(&half_bytes(if max_scale > 0.0 { max_scale / 15.0 } else { 0.0 }));
        out[82..84].copy_from_slice(&half_bytes(if max_min > 0.0 { max_min / 15.0 } else { 0.0 }));

        let block = Q2K(&out);
        let mut quants = from_lanes(&fit.quants);
        round_affine::<16>(x, &mut quants, 3, |s| {
            let (scale, min) = block.scale_min(s);
            (block.d() * f32::from(scale), block.dmin() * f32::from(min))
        });
        out[16..80].copy_from_slice(&pack_bit_pairs(&quants));
        out
    }
}

impl Q3K<'_> {
    /// The block that stands for `x`.
    pub fn encode(x: &[f32; 256]) -> [u8; 110] {
        let fit = fit_symmetric_by_descent(&to_lanes::<16, 16>(x), 4);
        let max_scale = largest_magnitude(&fit.scale);

        let mut out = [0; 110];
        if max_scale != 0.0 {
            let step = -32.0 / max_scale;
            for s in 0..16 {
                let scale = (nearest(step * fit.scale[s]) as i8).clamp(-32, 31) + 32;
                let scale = scale.cast_unsigned();
                out[96 + s % 8] |= (scale & 15) << (4 * (s / 8));
                out[104 + s % 4] |= (scale >> 4) << (2 * (s / 4));
            }
            out[108..110].copy_from_slice(&half_bytes(1.0 / step));
        }

        let block = Q3K(&out);
        let mut quants = from_lanes(&fit.quants);
        round_symmetric(x, &mut quants, 4, |s| block.d() * f32::from(block.scale(s)));
        for (k, group) in quants.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            for (q, bits) in group.iter_mut().zip(&mut out[..32]) {
                *bits |= (*q >> 2) << k;
                *q &= 3;
            }
        }
        out[32..96].copy_from_slice(&pack_bit_pairs(&quants));
        out
    }
}

impl Q4K<'_> {
    /// The block that stands for `x`.
    pub fn encode(x: &[f32; 256]) -> [u8; 144] {
        let mut out = [0; 144];
        let search = AffineSearch { nmax: 15, first: -1.0, steps: 21, squared: true };
        let (head, mut quants) = six_bit_scales(x, &search);
        out[..16].copy_from_slice(&head);
        let block = Q4K(&out);
        round_affine::<32>(x, &mut quants, 15, |s| {
            let (scale, min) = block.scale_min(s);
            (block.d() * f32::from(scale), block.dmin() * f32::from(min))
        });
        out[16..].copy_from_slice(&pack_nibbles(&quants));
        out
    }
}

impl Q5K<'_> {
    /// The block that stands for `x`.
    pub fn encode(x: &[f32; 256]) -> [u8; 176] {
        let mut out = [0; 176];
        let search = AffineSearch { nmax: 31, first: -0.5, steps: 16, squared: true };
        let (head, mut quants) = six_bit_scales(x, &search);
        out[..16].copy_from_slice(&head);
        let block = Q5K(&out);
        round_affine::<32>(x, &mut quants, 31, |s| {
            let (scale, min) = block.scale_min(s);
            (block.d() * f32::from(scale), block.dmin() * f32::from(min))
        });
        for (k, group) in quants.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            for (q, bits) in group.iter_mut().zip(&mut out[16..48]) {
                *bits |= (*q >> 4) << k;
                *q &= 15;
            }
        }
        out[48..].copy_from_slice(&pack_nibbles(&quants));
        out
    }
}

impl Q6K<'_> {
    /// The block that stands for `x`.
    pub fn encode(x: &[f32; 256]) -> [u8; 210] {
        let fit = fit_symmetric_by_steps(&to_lanes::<16, 16>(x), 32);
        let max_scale = largest_magnitude(&fit.scale);

        let mut out = [0; 210];
        if max_scale.abs() < TINY {
            return out;
        }
        let step = -128.0 / max_scale;
        for s in 0..16 {
            out[192 + s] = nearest(step * fit.scale[s]).min(127) as u8;
        }
        out[208..].copy_from_slice(&half_bytes(1.0 / step));

        let block = Q6K(&out);
        let mut quants = from_lanes(&fit.quants);
        round_symmetric(x, &mut quants, 32, |s| block.d() * f32::from(block.scale(s)));
        for (n, half) in quants.as_chunks::<128>().0.iter().enumerate() {
            for j in 0..64 {
                out[64 * n + j] = half[j] & 15 | half[j + 64] << 4;
            }
        }
        out[128..192].copy_from_slice(&pack_bit_pairs(&quants.map(|q| q >> 4)));
        out
    }
}

/// The range of scales that [`fit_affine`] tries.
struct AffineSearch {
    /// Quants are `0..=nmax`.
    nmax: i32,
    /// The first try stretches the range to `nmax + first` steps; each further try adds 0.1.
    first: f32,
    /// Number of tries.
    steps: usize,
    /// Whether the error is the square (else the magnitude) of the deviation.
    squared: bool,
}

/// Found scale, minimum and quants of each sub-block: element = scale * quant - min.
struct Affine<const SUBS: usize, const LEN: usize> {
    scale: [f32; SUBS],
    min: [f32; SUBS],
    quants: Lanes<u8, SUBS, LEN>,
}

/// Found scale and quants of each sub-block: element = scale * (quant - nmax).
struct Symmetric<const SUBS: usize, const LEN: usize> {
    scale: [f32; SUBS],
    quants: Lanes<u8, SUBS, LEN>,
}

/// Searches scale and minimum by weighted least squares over a few stretches of the range (`make_qkx2_quants`).
///
/// A found minimum is where the next stretch starts from, so the tries depend on each other; the lanes do not.
fn fit_affine<const SUBS: usize, const LEN: usize>(
    x: &Lanes<f32, SUBS, LEN>,
    weights: &Lanes<f32, SUBS, LEN>,
    search: &AffineSearch,
) -> Affine<SUBS, LEN> {
    let nmax = search.nmax as f32;
    let (mut min, mut max) = (x[0], x[0]);
    let (mut sum_w, mut sum_x) = ([0.0; SUBS], [0.0; SUBS]);
    for (x, w) in x.iter().zip(weights) {
        for s in 0..SUBS {
            min[s] = if x[s] < min[s] { x[s] } else { min[s] };
            max[s] = if x[s] > max[s] { x[s] } else { max[s] };
            sum_w[s] += w[s];
            sum_x[s] += w[s] * x[s];
        }
    }
    let min = &mut min.map(|m| if m > 0.0 { 0.0 } else { m });

    let error_of = |scale: &[f32; SUBS], min: &[f32; SUBS], quants: &Lanes<f32, SUBS, LEN>| {
        let mut error = [0.0; SUBS];
        for i in 0..LEN {
            for s in 0..SUBS {
                let diff = scale[s] * quants[i][s] + min[s] - x[i][s];
                error[s] += weights[i][s] * if search.squared { diff * diff } else { diff.abs() };
            }
        }
        error
    };
    let quantize = |stretch: &[f32; SUBS], min: &[f32; SUBS]| {
        let mut quants = [[0.0; SUBS]; LEN];
        for (quants, x) in quants.iter_mut().zip(x) {
            for s in 0..SUBS {
                quants[s] = nearest(stretch[s] * (x[s] - min[s])).clamp(0, search.nmax) as f32;
            }
        }
        quants
    };
    let stretch_to = |steps: f32, min: &[f32; SUBS]| std::array::from_fn(|s| steps / (max[s] - min[s]));

    // A constant sub-block has an infinite stretch and with it scale 0, quants 0, and no better try.
    let mut best_stretch: [f32; SUBS] = stretch_to(nmax, min);
    let mut best_origin = *min;
    let mut scale = best_stretch.map(|s| 1.0 / s);
    let mut best_error = error_of(&scale, min, &quantize(&best_stretch, min));
    for step in 0..search.steps {
        let stretch = stretch_to(search.first + 0.1 * step as f32 + nmax, min);
        let quants = quantize(&stretch, min);
        let (mut sum_l, mut sum_l2, mut sum_xl) = ([0.0; SUBS], [0.0; SUBS], [0.0; SUBS]);
        for i in 0..LEN {
            for s in 0..SUBS {
                let (l, wl) = (quants[i][s], weights[i][s] * quants[i][s]);
                sum_l[s] += wl;
                sum_l2[s] += wl * l;
                sum_xl[s] += wl * x[i][s];
            }
        }
        let (mut det, mut try_scale, mut try_min) = ([0.0; SUBS], [0.0; SUBS], [0.0; SUBS]);
        for s in 0..SUBS {
            det[s] = sum_w[s] * sum_l2[s] - sum_l[s] * sum_l[s];
            let fitted = (sum_l2[s] * sum_x[s] - sum_l[s] * sum_xl[s]) / det[s];
            if fitted > 0.0 {
                try_scale[s] = sum_xl[s] / sum_l2[s];
            } else {
                try_scale[s] = (sum_w[s] * sum_xl[s] - sum_x[s] * sum_l[s]) / det[s];
                try_min[s] = fitted;
            }
        }
        let error = error_of(&try_scale, &try_min, &quants);
        for s in 0..SUBS {
            if det[s] > 0.0 && error[s] < best_error[s] {
                (best_error[s], best_stretch[s], best_origin[s]) = (error[s], stretch[s], min[s]);
                (scale[s], min[s]) = (try_scale[s], try_min[s]);
            }
        }
    }
    let quants = quantize(&best_stretch, &best_origin).map(|row| row.map(|q| q as u8));
    Affine { scale, min: min.map(|m| -m), quants }
}

/// Searches a scale by moving one quant at a time while the weighted fit improves (`make_q3_quants`).
fn fit_symmetric_by_descent<const SUBS: usize, const LEN: usize>(
    x: &Lanes<f32, SUBS, LEN>,
    nmax: i32,
) -> Symmetric<SUBS, LEN> {
    let max = signed_peaks(x);
    let (mut sum_lx, mut sum_l2) = ([0.0; SUBS], [0.0; SUBS]);
    let mut quants = [[0.0; SUBS]; LEN];
    for i in 0..LEN {
        for s in 0..SUBS {
            let (x, w) = (x[i][s], x[i][s] * x[i][s]);
            let l = nearest(-(nmax as f32) / max[s] * x).clamp(-nmax, nmax - 1) as f32;
            quants[i][s] = l;
            sum_lx[s] += w * x * l;
            sum_l2[s] += w * l * l;
        }
    }
    for _ in 0..5 {
        let mut changed = false;
        for i in 0..LEN {
            for s in 0..SUBS {
                let (x, w, l) = (x[i][s], x[i][s] * x[i][s], quants[i][s]);
                let (rest_lx, rest_l2) = (sum_lx[s] - w * x * l, sum_l2[s] - w * l * l);
                let new = nearest(x * rest_l2 / rest_lx).clamp(-nmax, nmax - 1) as f32;
                let (new_lx, new_l2) = (rest_lx + w * x * new, rest_l2 + w * new * new);
                let better = new_lx * new_lx * sum_l2[s] > sum_lx[s] * sum_lx[s] * new_l2;
                if rest_lx > 0.0 && new != l && new_l2 > 0.0 && better {
                    (quants[i][s], sum_lx[s], sum_l2[s]) = (new, new_lx, new_l2);
                    changed = true;
                }
            }
        }
        if !changed {
            break;
        }
    }
    let scale = std::array::from_fn(|s| if sum_l2[s] > 0.0 { sum_lx[s] / sum_l2[s] } else { 0.0 });
    zero_where_tiny(&max, scale, quants.map(|row| row.map(|l| l as i32 + nmax)))
}

/// Searches a scale over 18 stretches around the one that reaches the peak (`make_qx_quants`, weights `x^2`).
fn fit_symmetric_by_steps<const SUBS: usize, const LEN: usize>(
    x: &Lanes<f32, SUBS, LEN>,
    nmax: i32,
) -> Symmetric<SUBS, LEN> {
    let max = signed_peaks(x);
    let sums_of = |stretch: &[f32; SUBS]| {
        let (mut sum_lx, mut sum_l2) = ([0.0; SUBS], [0.0; SUBS]);
        for x in x {
            for s in 0..SUBS {
                let w = x[s] * x[s];
                let l = nearest(stretch[s] * x[s]).clamp(-nmax, nmax - 1) as f32;
                sum_lx[s] += w * x[s] * l;
                sum_l2[s] += w * l * l;
            }
        }
        (sum_lx, sum_l2)
    };
    let mut best_stretch = max.map(|m| -(nmax as f32) / m);
    let (sum_lx, sum_l2) = sums_of(&best_stretch);
    let mut scale: [f32; SUBS] =
        std::array::from_fn(|s| if sum_l2[s] != 0.0 { sum_lx[s] / sum_l2[s] } else { 0.0 });
    let mut best: [f32; SUBS] = std::array::from_fn(|s| scale[s] * sum_lx[s]);
    for step in (-9..=9).filter(|&step| step != 0) {
        let stretch = max.map(|m| -(nmax as f32 + 0.1 * step as f32) / m);
        let (sum_lx, sum_l2) = sums_of(&stretch);
        for s in 0..SUBS {
            if sum_l2[s] > 0.0 && sum_lx[s] * sum_lx[s] > best[s] * sum_l2[s] {
                scale[s] = sum_lx[s] / sum_l2[s];
                best[s] = scale[s] * sum_lx[s];
                best_stretch[s] = stretch[s];
            }
        }
    }
    let mut quants = [[0; SUBS]; LEN];
    for (quants, x) in quants.iter_mut().zip(x) {
        for s in 0..SUBS {
            quants[s] = nearest(best_stretch[s] * x[s]).clamp(-nmax, nmax - 1) + nmax;
        }
    }
    zero_where_tiny(&max, scale, quants)
}

/// The first element of the largest magnitude in each sub-block.
fn signed_peaks<const SUBS: usize, const LEN: usize>(x: &Lanes<f32, SUBS, LEN>) -> [f32; SUBS] {
    let mut peak = [0.0f32; SUBS];
    for x in x {
        for s in 0..SUBS {
            peak[s] = if x[s].abs() > peak[s].abs() { x[s] } else { peak[s] };
        }
    }
    peak
}

/// Sub-blocks without a peak have scale and quants 0 (the smallest, not the middle: these bytes decode to zero).
fn zero_where_tiny<const SUBS: usize, const LEN: usize>(
    peak: &[f32; SUBS],
    scale: [f32; SUBS],
    quants: Lanes<i32, SUBS, LEN>,
) -> Symmetric<SUBS, LEN> {
    let tiny = peak.map(|p| p.abs() < TINY);
    Symmetric {
        scale: std::array::from_fn(|s| if tiny[s] { 0.0 } else { scale[s] }),
        quants: quants.map(|row| std::array::from_fn(|s| if tiny[s] { 0 } else { row[s] as u8 })),
    }
}

/// The first 16 bytes of Q4_K and Q5_K (`d`, `dmin`, 6-bit scales and minima) and the searched quants.
fn six_bit_scales(x: &[f32; 256], search: &AffineSearch) -> ([u8; 16], [u8; 256]) {
    let lanes = to_lanes::<8, 32>(x);
    let mut sum_x2 = [0.0; 8];
    for row in &lanes {
        for s in 0..8 {
            sum_x2[s] += row[s] * row[s];
        }
    }
    let typical = sum_x2.map(|sum| (sum / 32.0f32).sqrt());
    let weights = lanes.map(|row| std::array::from_fn(|s| typical[s] + row[s].abs()));
    let fit = fit_affine(&lanes, &weights, search);
    let (max_scale, max_min) = (largest(&fit.scale), largest(&fit.min));

    let mut out = [0; 16];
    out[..2].copy_from_slice(&half_bytes(max_scale / 63.0));
    out[2..4].copy_from_slice(&half_bytes(max_min / 63.0));
    let scale_step = if max_scale > 0.0 { 63.0 / max_scale } else { 0.0 };
    let min_step = if max_min > 0.0 { 63.0 / max_min } else { 0.0 };
    let packed = &mut out[4..];
    for s in 0..8 {
        let scale = (nearest(scale_step * fit.scale[s]) as u8).min(63);
        let min = (nearest(min_step * fit.min[s]) as u8).min(63);
        if s < 4 {
            packed[s] = scale;
            packed[s + 4] = min;
        } else {
            packed[s + 4] = scale & 15 | min << 4;
            packed[s - 4] |= scale >> 4 << 6;
            packed[s] |= min >> 4 << 6;
        }
    }
    (out, from_lanes(&fit.quants))
}

/// Rounds the elements to quants `0..=nmax` of the scales and minima as stored. A sub-block whose stored scale is 0
/// keeps the quants that the search found.
fn round_affine<const LEN: usize>(
    x: &[f32; 256],
    quants: &mut [u8; 256],
    nmax: i32,
    scale_min: impl Fn(usize) -> (f32, f32),
) {
    let subs = x.as_chunks::<LEN>().0.iter().zip(quants.as_chunks_mut::<LEN>().0);
    for (s, (x, quants)) in subs.enumerate() {
        let (scale, min) = scale_min(s);
        if scale != 0.0 {
            *quants = x.map(|x| nearest((x + min) / scale).clamp(0, nmax) as u8);
        }
    }
}

/// Rounds the elements to quants `-nmax..nmax`, stored plus `nmax`, of the scales as stored; scale 0 as in
/// [`round_affine`].
fn round_symmetric(x: &[f32; 256], quants: &mut [u8; 256], nmax: i32, scale: impl Fn(usize) -> f32) {
    let subs = x.as_chunks::<16>().0.iter().zip(quants.as_chunks_mut::<16>().0);
    for (s, (x, quants)) in subs.enumerate() {
        let scale = scale(s);
        if scale != 0.0 {
            *quants = x.map(|x| (nearest(x / scale).clamp(-nmax, nmax - 1) + nmax) as u8);
        }
    }
}

/// The nearest integer, ties to even, for `|x| < 2^22`; beyond that what the low bits of the sum give, which the
/// callers clamp.
#[inline]
fn nearest(x: f32) -> i32 {
    const MAGIC: f32 = 12_582_912.0; // 1.5 * 2^23: the sum's mantissa holds x rounded, plus 2^22.
    ((x + MAGIC).to_bits() & 0x007f_ffff).cast_signed() - 0x0040_0000
}

/// The largest of the values, at least 0.
fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |max, &v| if v > max { v } else { max })
}

/// The first value of the largest magnitude.
fn largest_magnitude(values: &[f32]) -> f32 {
    values.iter().fold(0.0f32, |max, &v| if v.abs() > max.abs() { v } else { max })
}

fn half_bytes(value: f32) -> [u8; 2] {
    f16::from_f32(value).to_le_bytes()
}

fn to_lanes<const SUBS: usize, const LEN: usize>(x: &[f32; 256]) -> Lanes<f32, SUBS, LEN> {
    std::array::from_fn(|i| std::array::from_fn(|s| x[s * LEN + i]))
}

fn from_lanes<const SUBS: usize, const LEN: usize>(lanes: &Lanes<u8, SUBS, LEN>) -> [u8; 256] {
    std::array::from_fn(|e| lanes[e % LEN][e / LEN])
}

/// The inverse of `bit_pairs` in `kquants.rs`.
fn pack_bit_pairs(quants: &[u8; 256]) -> [u8; 64] {
    std::array::from_fn(|b| {
        let at = b / 32 * 128 + b % 32;
        quants[at] & 3 | (quants[at + 32] & 3) << 2 | (quants[at + 64] & 3) << 4 | quants[at + 96] << 6
    })
}

/// The inverse of `nibbles_by_64` in `kquants.rs`.
fn pack_nibbles(quants: &[u8; 256]) -> [u8; 128] {
    std::array::from_fn(|b| {
        let at = b / 32 * 64 + b % 32;
        quants[at] & 15 | quants[at + 32] << 4
    })
}
