//! Choosing a token from logits.
//!
//! In order: logit bias, repetition penalty (Keskar et al., "CTRL", 2019), presence and frequency penalties (as the
//! OpenAI API defines them), temperature, top-k, top-p (Holtzman et al., 2020), min-p (Nguyen et al., 2024): the order
//! that transformers and vLLM share. The random number of a choice is a function of the request's seed and the token's
//! index alone, so that an answer does not depend on what else is being computed.

use rustc_hash::FxHashMap;

/// How a request's tokens are chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by this before the softmax; 0 takes the best token.
    pub temperature: f32,
    /// Only this many best tokens; 0 for all.
    pub top_k: usize,
    /// Only the best tokens that together reach this probability; 1 for all.
    pub top_p: f32,
    /// Only tokens at least this probable, relative to the best; 0 for all.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens in prompt and answer; 1 for none.
    pub repetition_penalty: f32,
    /// Subtracted from the logits of tokens in the answer.
    pub presence_penalty: f32,
    /// Subtracted from the logits of tokens in the answer, as often as they occur.
    pub frequency_penalty: f32,
    /// Added to the logits of these ids.
    pub logit_bias: Vec<(u32, f32)>,
    /// Seed of the request.
    pub seed: u64,
}

impl Default for Sampling {
    /// The best token, always.
    fn default() -> Self {
        Sampling {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: 0,
        }
    }
}

/// One request's choices: its parameters, what it has seen, and scratch that is reused.
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    /// Tokens of prompt and answer, with the number of times each stands in the answer.
    seen: FxHashMap<u32, u32>,
    index: u64,
    adjusted: Vec<f32>,
    candidates: Vec<(f32, u32)>,
}

impl Sampler {
    /// A sampler for a request with this prompt, the last `continued` tokens of which are part of the answer.
    pub fn new(sampling: Sampling, prompt: &[u32], continued: usize) -> Self {
        let (prompt, answer) = prompt.split_at(prompt.len().saturating_sub(continued));
        let mut seen = FxHashMap::default();
        if sampling.repetition_penalty != 1.0 {
            seen.extend(prompt.iter().map(|&id| (id, 0)));
        }
        answer.iter().for_each(|&id| *seen.entry(id).or_default() += 1);
        Sampler { sampling, seen, index: answer.len() as u64, adjusted: Vec::new(), candidates: Vec::new() }
    }

    /// Chooses the next token of the answer from its `logits` (`[vocab]`) and remembers it.
    pub fn next(&mut self, logits: &[f32]) -> u32 {
        self.adjust(logits);
        let id = if self.sampling.temperature > 0.0 { self.draw() } else { argmax(&self.adjusted) };
        self.index += 1;
        *self.seen.entry(id).or_default() += 1;
        id
    }

    /// Bias and penalties.
    fn adjust(&mut self, logits: &[f32]) {
        let s = &self.sampling;
        self.adjusted.clear();
        self.adjusted.extend_from_slice(logits);
        for &(id, bias) in &s.logit_bias {
            if let Some(logit) = self.adjusted.get_mut(id as usize) {
                *logit += bias;
            }
        }
        if s.repetition_penalty == 1.0 && s.presence_penalty == 0.0 && s.frequency_penalty == 0.0 {
            return;
        }
        for (&id, &count) in &self.seen {
            let Some(logit) = self.adjusted.get_mut(id as usize) else { continue };
            *logit = if *logit > 0.0 { *logit / s.repetition_penalty } else { *logit * s.repetition_penalty };
            if count > 0 {
                *logit -= s.presence_penalty + s.frequency_penalty * count as f32;
            }
        }
    }

    fn draw(&mut self) -> u32 {
        let s = &self.sampling;
        let max = self.adjusted.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weight = |logit: f32| ((logit - max) / s.temperature).exp();
        // The best token has weight 1, so min-p is a plain threshold.
        self.candidates.clear();
        self.candidates.extend(self.adjusted.iter().enumerate().filter_map(|(id, &logit)| {
            let weight = weight(logit);
            (weight >= s.min_p && weight > 0.0).then_some((weight, id as u32))
        }));
        if s.top_k > 0 && s.top_k < self.candidates.len() {
            best_first(&mut self.candidates, s.top_k);
            self.candidates.truncate(s.top_k);
        }
        if s.top_p < 1.0 {
            keep_nucleus(&mut self.candidates, f64::from(s.top_p));
        }
        let total: f64 = self.candidates.iter().map(|c| f64::from(c.0)).sum();
        let mut left = uniform(s.seed, self.index) * total;
        for &(weight, id) in &self.candidates {
            left -= f64::from(weight);
            if left < 0.0 {
                return id;
            }
        }
        self.candidates.last().map_or_else(|| argmax(&self.adjusted), |c| c.1)
    }
}

/// Heavier first, equal weights by id.
fn by_weight(a: &(f32, u32), b: &(f32, u32)) -> std::cmp::Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

/// Brings the `k` heaviest to the front, sorted, without sorting the rest.
fn best_first(candidates: &mut [(f32, u32)], k: usize) {
    if k < candidates.len() {
        candidates.select_nth_unstable_by(k, by_weight);
    }
    let k = k.min(candidates.len());
    candidates[..k].sort_unstable_by(by_weight);
}

/// Keeps the heaviest candidates that together reach the share `p` of the whole, at least one.
fn keep_nucleus(candidates: &mut Vec<(f32, u32)>, p: f64) {
    let total: f64 = candidates.iter().map(|c| f64::from(c.0)).sum();
    let mut k = 64;
    loop {
        best_first(candidates, k);
        let mut sum = 0.0;
        for (i, c) in candidates[..k.min(candidates.len())].iter().enumerate() {
            sum += f64::from(c.0);
            if sum >= p * total {
                candidates.truncate(i + 1);
                return;
            }
        }
        if k >= candidates.len() {
            return;
        }
        k *= 8;
    }
}

/// The first of the largest logits.
fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (i, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = i;
        }
    }
    best as u32
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

/// The log-probability of `id`, and the `n` most probable ids with theirs, best first.
pub fn log_probabilities(logits: &[f32], id: u32, n: usize) -> (f32, Vec<(u32, f32)>) {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&l| (f64::from(l) - max).exp()).sum();
    let log = |logit: f32| (f64::from(logit) - max - sum.ln()) as f32;
    let mut best: Vec<(f32, u32)> = Vec::new();
    if n > 0 {
        best.extend(logits.iter().enumerate().map(|(i, &l)| (l, i as u32)));
        best_first(&mut best, n);
        best.truncate(n);
    }
    (log(logits[id as usize]), best.into_iter().map(|(l, id)| (id, log(l))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(logits: &[f32], sampling: &Sampling, n: u64) -> Vec<f64> {
        let mut counts = vec![0f64; logits.len()];
        for seed in 0..n {
            let mut sampler = Sampler::new(Sampling { seed, ..sampling.clone() }, &[], 0);
            counts[sampler.next(logits) as usize] += 1.0 / n as f64;
        }
        counts
    }

    fn close(found: &[f64], expected: &[f64]) {
        for (f, e) in found.iter().zip(expected) {
            assert!((f - e).abs() < 0.012, "{found:?} {expected:?}");
        }
    }

    fn softmax(logits: &[f32]) -> Vec<f64> {
        let total: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
        logits.iter().map(|&l| f64::from(l).exp() / total).collect()
    }

    const WARM: Sampling = Sampling {
        temperature: 1.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        repetition_penalty: 1.0,
        presence_penalty: 0.0,
        frequency_penalty: 0.0,
        logit_bias: Vec::new(),
        seed: 0,
    };

    #[test]
    fn greedy_takes_the_first_best() {
        let mut sampler = Sampler::new(Sampling::default(), &[], 0);
        assert_eq!(sampler.next(&[0.0, 3.0, 3.0, -1.0]), 1);
    }

    #[test]
    fn choices_depend_on_seed_and_index_only() {
        let logits: Vec<f32> = (0..50).map(|i| (i as f32 * 0.7).sin()).collect();
        let run = |seed| {
            let mut sampler = Sampler::new(Sampling { seed, ..WARM }, &[], 0);
            (0..200).map(|_| sampler.next(&logits)).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let logits = [0.0f32, 1.0, 2.0, -1.0];
        close(&draws(&logits, &WARM, 20_000), &softmax(&logits));
        let cool: Vec<f32> = logits.iter().map(|l| l / 0.5).collect();
        close(&draws(&logits, &Sampling { temperature: 0.5, ..WARM }, 20_000), &softmax(&cool));
    }

    #[test]
    fn top_k_top_p_and_min_p_cut_the_tail() {
        let logits = [0.0f32, 1.0, 2.0, 3.0];
        let p = softmax(&logits);
        let top2 = [0.0, 0.0, p[2] / (p[2] + p[3]), p[3] / (p[2] + p[3])];
        close(&draws(&logits, &Sampling { top_k: 2, ..WARM }, 20_000), &top2);
        close(&draws(&logits, &Sampling { top_p: 0.8, ..WARM }, 20_000), &top2);
        close(&draws(&logits, &Sampling { top_p: 0.5, ..WARM }, 2_000), &[0.0, 0.0, 0.0, 1.0]);
        close(&draws(&logits, &Sampling { min_p: 0.3, ..WARM }, 20_000), &top2);
    }

    #[test]
    fn the_nucleus_of_a_flat_distribution_is_found_without_sorting_it_whole() {
        let logits: Vec<f32> = (0..10_000).map(|i| (i % 7) as f32 * 1e-3).collect();
        let mut all: Vec<(f32, u32)> = logits.iter().enumerate().map(|(i, &l)| (l.exp(), i as u32)).collect();
        let mut sorted = all.clone();
        keep_nucleus(&mut all, 0.37);
        sorted.sort_by(by_weight);
        assert_eq!(all[..], sorted[..all.len()]);
        assert!((3_600..3_800).contains(&all.len()));
    }

    #[test]
    fn penalties_and_bias_move_logits() {
        let logits = [2.0f32, 1.9, -1.0, 0.0];
        let choose = |sampling: Sampling, prompt: &[u32], steps: usize| {
            let mut sampler = Sampler::new(sampling, prompt, 0);
            (0..steps).map(|_| sampler.next(&logits)).collect::<Vec<_>>()
        };
        let plain = Sampling::default();
        assert_eq!(choose(Sampling { repetition_penalty: 1.2, ..plain.clone() }, &[0], 1), [1]);
        assert_eq!(choose(Sampling { presence_penalty: 0.5, ..plain.clone() }, &[0], 3), [0, 1, 0]);
        assert_eq!(choose(Sampling { frequency_penalty: 0.5, ..plain.clone() }, &[0], 4), [0, 1, 0, 1]);
        assert_eq!(choose(Sampling { logit_bias: vec![(2, 10.0), (99, 1.0)], ..plain }, &[], 1), [2]);
    }

    #[test]
    fn log_probabilities_are_those_of_the_softmax() {
        let logits = [0.5f32, -2.0, 7.0];
        let (own, top) = log_probabilities(&logits, 0, 3);
        let p = softmax(&logits);
        assert!((f64::from(own) - p[0].ln()).abs() < 1e-6);
        assert_eq!(top.iter().map(|t| t.0).collect::<Vec<_>>(), [2, 0, 1]);
        assert!(top.iter().all(|&(id, l)| (f64::from(l) - p[id as usize].ln()).abs() < 1e-6));
    }
}
