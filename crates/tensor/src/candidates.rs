//! What a row of logits is chosen from: the largest of them, and what all of them weigh together.
//!
//! Every device returns the same bits, so that it does not matter for a choice where the logits lie. A weight is
//! `exp((value - largest) / temperature)` in f32, of the exponential that is written here. Weights are summed in f64: in
//! chunks of [`CHUNK`], a chunk in [`LANES`] lanes (value `i` in lane `i % LANES`, in order), its lanes by halves (lane `i`
//! takes lane `i + 128`, then `i + 64`, and so on), and the chunks in their order.

use crate::largest;

/// How many of a row's largest values are brought.
pub const CANDIDATES: usize = 64;

/// Values whose weights are summed by themselves.
const CHUNK: usize = 4096;

/// Sums that a chunk has.
const LANES: usize = 256;

/// The candidates of a row of values, none of which is NaN.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidates {
    /// The [`CANDIDATES`] largest values, or all where there are fewer, and where they are: the largest first, equal ones in
    /// order. A zero has no sign.
    pub best: Vec<(f32, u32)>,
    /// What all values weigh.
    pub total: f64,
    /// How many values there are.
    pub of: usize,
}

impl Candidates {
    /// Those of `values`, weighed at a temperature above 0.
    pub fn of(values: &[f32], temperature: f32) -> Self {
        let best = largest(values);
        let mut weights = [0f32; CHUNK];
        let chunk = |values: &[f32]| {
            let weights = &mut weights[..values.len()];
            weights.iter_mut().zip(values).for_each(|(w, &value)| *w = weight(value, best, temperature));
            chunk_weight(weights)
        };
        let total = values.chunks(CHUNK).map(chunk).sum();
        Candidates { best: best_of(values, CANDIDATES), total, of: values.len() }
    }
}

/// What a value weighs beside the largest one, whose weight is 1, at a temperature above 0.
#[inline]
pub fn weight(value: f32, largest: f32, temperature: f32) -> f32 {
    exp((value - largest) / temperature)
}

/// The sum of weights.
pub fn total_weight(weights: &[f32]) -> f64 {
    weights.chunks(CHUNK).map(chunk_weight).sum()
}

fn chunk_weight(weights: &[f32]) -> f64 {
    let mut lanes = [0f64; LANES];
    for weights in weights.chunks(LANES) {
        lanes.iter_mut().zip(weights).for_each(|(lane, &weight)| *lane += f64::from(weight));
    }
    let mut half = LANES / 2;
    while half > 0 {
        let (lower, upper) = lanes.split_at_mut(half);
        lower.iter_mut().zip(upper).for_each(|(a, b)| *a += *b);
        half /= 2;
    }
    lanes[0]
}

/// The `n` largest values and where they are, as [`Candidates::best`] has them.
pub fn best_of(values: &[f32], n: usize) -> Vec<(f32, u32)> {
    // Beyond these only what is larger than the least of them is looked at, which is rare.
    let (first, rest) = values.split_at(n.saturating_mul(2).min(values.len()));
    let unsigned = |(value, at): (f32, u32)| (value + 0.0, at);
    let mut best: Vec<(f32, u32)> = first.iter().copied().zip(0..).map(unsigned).collect();
    let shrink = |best: &mut Vec<(f32, u32)>| {
        best.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        best.truncate(n);
        best.last().map_or(f32::INFINITY, |least| least.0)
    };
    let mut least = shrink(&mut best);
    for (&value, at) in rest.iter().zip(first.len() as u32..) {
        if value > least {
            best.push(unsigned((value, at)));
            if best.len() >= 2 * n {
                least = shrink(&mut best);
            }
        }
    }
    shrink(&mut best);
    best
}

/// `e^x` for `x <= 0`, at most 1, to two units in the last place: the reduction and polynomial of Cephes' `expf`
/// (Moshier, 1992), written so that a compiler makes vector code of it. The same on every machine.
#[inline]
pub fn exp(x: f32) -> f32 {
    // Adding this rounds to a whole number, which then stands in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let low = x < -87.0;
    let x = if low { 0.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * r + c;
    }
    let power = (shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127)) << 23;
    let y = (p * r * r + r + 1.0) * f32::from_bits(power);
    if low {
        0.0
    } else if y > 1.0 {
        1.0
    } else {
        y
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::first_largest;

    #[test]
    fn exponentials_are_those_of_the_library() {
        for i in 0..200_000 {
            let x = -(i as f32) * 5e-4;
            let expected = if x < -87.0 { 0.0 } else { f64::from(x).exp() };
            assert!((f64::from(exp(x)) - expected).abs() <= 3e-7 * expected, "{x}: {} {expected}", exp(x));
        }
        assert_eq!((exp(0.0), exp(f32::NEG_INFINITY), exp(-0.0)), (1.0, 0.0, 1.0));
    }

    #[test]
    fn the_best_are_found_among_many() {
        let values: Vec<f32> = (0..5_000).map(|i| (i * 7919 % 5_003) as f32 / 3.0).collect();
        let mut sorted: Vec<(f32, u32)> = values.iter().copied().zip(0..).collect();
        sorted.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for n in [0, 1, 2, 5, 20, 4_999, 5_000, usize::MAX] {
            assert_eq!(best_of(&values, n), sorted[..n.min(5_000)]);
        }
        assert_eq!(best_of(&[1.0; 9], 3), [(1.0, 0), (1.0, 1), (1.0, 2)]);
        assert_eq!(best_of(&[-0.0, -1.0, 0.0], 2).iter().map(|best| best.1).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(first_largest(&values), sorted[0].1);
    }

    #[test]
    fn weights_are_summed_whole_and_in_the_order_that_is_told() {
        for n in [0, 1, 255, 256, 257, 4095, 4096, 4097, 20_000] {
            let weights: Vec<f32> = (0..n).map(|i| exp(-((i * 37 % 1_009) as f32) * 0.01)).collect();
            let exact: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
            assert!((total_weight(&weights) - exact).abs() <= 1e-12 * exact, "{n}");
        }
        let mut weights = vec![0.0; 2 * CHUNK];
        // In f64 nothing is left of 1 beside 2^60, but two of them make it 2^60 + 256 where they meet first.
        let huge = 2f32.powi(60);
        (weights[0], weights[1], weights[129]) = (huge, 128.0, 128.0);
        assert_eq!(
            total_weight(&weights),
            f64::from(huge) + 256.0,
            "lanes 1 and 129 meet before lane 0 does"
        );
        (weights[129], weights[CHUNK]) = (0.0, 128.0);
        assert_eq!(total_weight(&weights), f64::from(huge), "chunks are added in order");
    }
}
