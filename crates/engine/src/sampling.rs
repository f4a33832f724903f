//! Choosing a token from logits.
//!
//! The random number of a choice is a function of the request's seed and the token's index alone, so that an answer
//! does not depend on what else is being computed.

/// How a request's tokens are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by this before the softmax; 0 takes the best token.
    pub temperature: f32,
    /// Seed of the request.
    pub seed: u64,
}

impl Sampling {
    /// The best token, always.
    pub const GREEDY: Sampling = Sampling { temperature: 0.0, seed: 0 };
}

/// Chooses the token at `index` (counted from the first generated token) from `logits` (`[vocab]`).
pub fn sample(logits: &[f32], sampling: &Sampling, index: u64) -> u32 {
    let best = argmax(logits);
    if sampling.temperature <= 0.0 {
        return best as u32;
    }
    let max = f64::from(logits[best]);
    let temperature = f64::from(sampling.temperature);
    let weight = |logit: f32| ((f64::from(logit) - max) / temperature).exp();
    let total: f64 = logits.iter().map(|&l| weight(l)).sum();
    let mut left = uniform(sampling.seed, index) * total;
    for (id, &logit) in logits.iter().enumerate() {
        left -= weight(logit);
        if left < 0.0 {
            return id as u32;
        }
    }
    best as u32
}

/// The first of the largest logits.
fn argmax(logits: &[f32]) -> usize {
    let mut best = 0;
    for (i, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = i;
        }
    }
    best
}

/// A number in `[0, 1)`: two rounds of SplitMix64 (Steele et al., 2014) over seed and index.
fn uniform(seed: u64, index: u64) -> f64 {
    let mix = |mut z: u64| {
        z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    (mix(mix(seed) ^ index) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greedy_takes_the_first_best() {
        assert_eq!(sample(&[0.0, 3.0, 3.0, -1.0], &Sampling::GREEDY, 7), 1);
    }

    #[test]
    fn choices_depend_on_seed_and_index_only() {
        let logits: Vec<f32> = (0..50).map(|i| (i as f32 * 0.7).sin()).collect();
        let draw = |seed, index| sample(&logits, &Sampling { temperature: 1.0, seed }, index);
        let first: Vec<u32> = (0..200).map(|i| draw(1, i)).collect();
        assert_eq!(first, (0..200).map(|i| draw(1, i)).collect::<Vec<_>>());
        assert_ne!(first, (0..200).map(|i| draw(2, i)).collect::<Vec<_>>());
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let logits = [0.0f32, 1.0, 2.0];
        let total: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
        let mut counts = [0f64; 3];
        let draws = 100_000;
        for i in 0..draws {
            counts[sample(&logits, &Sampling { temperature: 1.0, seed: 5 }, i) as usize] += 1.0;
        }
        for (count, logit) in counts.iter().zip(logits) {
            let expected = f64::from(logit).exp() / total;
            assert!((count / draws as f64 - expected).abs() < 0.006, "{counts:?}");
        }
    }
}
