//! Choosing a token from logits.
//!
//! In order: logit bias, repetition penalty (Keskar et al., "CTRL", 2019), presence and frequency penalties (as the
//! OpenAI API defines them), temperature, top-k, top-p (Holtzman et al., 2020), min-p (Nguyen et al., 2024): the order
//! that transformers and vLLM share. The random number of a choice is a function of the request's seed and the token's
//! index alone, so that an answer does not depend on what else is being computed.

use rustc_hash::FxHashMap;

use crate::EngineError;

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

impl Sampling {
    /// Refuses numbers that no choice can be made with.
    ///
    /// # Errors
    /// [`EngineError::Sampling`] names the first.
    pub fn check(&self) -> Result<(), EngineError> {
        let numbers = [
            ("temperature", self.temperature),
            ("top_p", self.top_p),
            ("min_p", self.min_p),
            ("repetition_penalty", self.repetition_penalty),
            ("presence_penalty", self.presence_penalty),
            ("frequency_penalty", self.frequency_penalty),
        ];
        let bad = numbers.into_iter().find(|&(name, value)| {
            let negative = matches!(name, "temperature" | "top_p" | "min_p") && value < 0.0;
            !value.is_finite() || negative || (name == "repetition_penalty" && value <= 0.0)
        });
        // Minus infinity forbids a token.
        let bias = self.logit_bias.iter().find(|(_, bias)| bias.is_nan() || *bias == f32::INFINITY);
        match bad.or(bias.map(|&(_, value)| ("logit_bias", value))) {
            Some((name, value)) => Err(EngineError::Sampling { name, value }),
            None => Ok(()),
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
    lottery: Lottery,
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
        let index = answer.len() as u64;
        Sampler { sampling, seen, index, adjusted: Vec::new(), lottery: Lottery::default() }
    }

    /// Chooses the next token of the answer from its `logits` (`[vocab]`) and remembers it.
    pub fn next(&mut self, logits: &[f32]) -> u32 {
        self.next_but(logits, &[])
    }

    /// As [`Sampler::next`], and none of the `forbidden` ids where there is another.
    pub fn next_but(&mut self, logits: &[f32], forbidden: &[u32]) -> u32 {
        let id = self.pick(logits, forbidden, None);
        self.take(id);
        id
    }

    /// As [`Sampler::next_but`], among the ids whose bits are set (`i % 32` of word `i / 32` for id `i`). `None` where no
    /// bit is.
    pub fn next_under(&mut self, logits: &[f32], forbidden: &[u32], mask: &[u32]) -> Option<u32> {
        let id = self.pick(logits, forbidden, Some(mask));
        let is_allowed = |id: u32| mask.get(id as usize / 32).is_some_and(|word| word >> (id % 32) & 1 == 1);
        // Where bias and `forbidden` leave nothing, the first is as good as any.
        let first = || (0..logits.len() as u32).find(|&id| is_allowed(id));
        let id = Some(id).filter(|&id| is_allowed(id)).or_else(first)?;
        self.take(id);
        Some(id)
    }

    /// Remembers a token of the answer that was not chosen from logits. Its random number is skipped.
    pub fn take(&mut self, id: u32) {
        self.index += 1;
        *self.seen.entry(id).or_default() += 1;
    }

    fn pick(&mut self, logits: &[f32], forbidden: &[u32], mask: Option<&[u32]>) -> u32 {
        let s = &self.sampling;
        let penalties =
            s.repetition_penalty != 1.0 || s.presence_penalty != 0.0 || s.frequency_penalty != 0.0;
        let is_plain = !penalties && s.logit_bias.is_empty() && forbidden.is_empty() && mask.is_none();
        let logits = if is_plain {
            logits
        } else {
            adjust(s, penalties.then_some(&self.seen), logits, &mut self.adjusted);
            for &id in forbidden {
                if let Some(logit) = self.adjusted.get_mut(id as usize) {
                    *logit = f32::NEG_INFINITY;
                }
            }
            if let Some(mask) = mask {
                leave(mask, &mut self.adjusted);
            }
            &self.adjusted
        };
        if s.temperature > 0.0 {
            self.lottery.draw(s, logits, uniform(s.seed, self.index))
        } else {
            argmax(logits)
        }
    }
}

/// Takes all chances from tokens that a mask does not have.
fn leave(mask: &[u32], logits: &mut [f32]) {
    let (words, rest) = logits.as_chunks_mut::<32>();
    let mut mask = mask.iter().copied().chain(std::iter::repeat(0));
    for (logits, word) in words.iter_mut().zip(&mut mask) {
        match word {
            0 => logits.fill(f32::NEG_INFINITY),
            u32::MAX => {}
            _ => leave_bits(word, logits),
        }
    }
    leave_bits(mask.next().unwrap_or(0), rest);
}

fn leave_bits(word: u32, logits: &mut [f32]) {
    for (bit, logit) in logits.iter_mut().enumerate() {
        if word >> bit & 1 == 0 {
            *logit = f32::NEG_INFINITY;
        }
    }
}

/// Bias and penalties.
fn adjust(s: &Sampling, seen: Option<&FxHashMap<u32, u32>>, logits: &[f32], adjusted: &mut Vec<f32>) {
    adjusted.clear();
    adjusted.extend_from_slice(logits);
    for &(id, bias) in &s.logit_bias {
        if let Some(logit) = adjusted.get_mut(id as usize) {
            *logit += bias;
        }
    }
    for (&id, &count) in seen.into_iter().flatten() {
        let Some(logit) = adjusted.get_mut(id as usize) else { continue };
        *logit = if *logit > 0.0 { *logit / s.repetition_penalty } else { *logit * s.repetition_penalty };
        if count > 0 {
            *logit -= s.presence_penalty + s.frequency_penalty * count as f32;
        }
    }
}

/// Draws a token by its weight among those that no limit excludes. Nothing is sorted but a few tokens of nearly equal
/// weight at each limit.
#[derive(Clone, Debug, Default)]
struct Lottery {
    /// `exp((logit - best) / temperature)` of every token: the best one's is 1.
    weights: Vec<f32>,
    /// Sums over tokens whose weights share their upper 16 bits.
    buckets: Vec<f64>,
    /// The tokens of one bucket.
    bucket: Vec<(f32, u32)>,
}

/// The last token of those that are kept, in order of weight and then of id.
#[derive(Clone, Copy, Debug)]
struct Limit {
    weight: f32,
    id: u32,
}

impl Limit {
    fn keeps(self, weight: f32, id: u32) -> bool {
        weight > self.weight || (weight == self.weight && id <= self.id)
    }
}

impl Lottery {
    /// Draws with a number in `[0, 1)`.
    fn draw(&mut self, s: &Sampling, logits: &[f32], number: f64) -> u32 {
        let best = max(logits);
        self.weights.clear();
        self.weights.extend(logits.iter().map(|&logit| exp((logit - best) / s.temperature)));
        let mut limit = Limit { weight: s.min_p.max(f32::MIN_POSITIVE), id: u32::MAX };
        if s.top_k > 0 && s.top_k < logits.len() {
            limit = self.tightened(limit, s.top_k as f64, |_| 1.0);
        }
        if s.top_p < 1.0 {
            let all = self.total(limit);
            limit = self.tightened(limit, f64::from(s.top_p) * all, f64::from);
        }
        let mut left = number * self.total(limit);
        let mut last = None;
        for (&weight, id) in self.weights.iter().zip(0..) {
            if limit.keeps(weight, id) {
                left -= f64::from(weight);
                last = Some(id);
                if left < 0.0 {
                    return id;
                }
            }
        }
        // What rounding left over is the last one's; where bias has forbidden everything, the first is as good as any.
        last.unwrap_or_else(|| argmax(logits))
    }

    /// The weight of all that are kept.
    fn total(&self, limit: Limit) -> f64 {
        let kept = |(&weight, id)| if limit.keeps(weight, id) { f64::from(weight) } else { 0.0 };
        self.weights.iter().zip(0..).map(kept).sum()
    }

    /// A limit that keeps the heaviest tokens that together measure `enough`, at least one, or all when there is less.
    fn tightened(&mut self, limit: Limit, enough: f64, measure: impl Fn(f32) -> f64) -> Limit {
        // Positive floats are in the order of their bits.
        let bucket_of = |weight: f32| (weight.to_bits() >> 16) as usize;
        self.buckets.clear();
        self.buckets.resize(bucket_of(1.0) + 1, 0.0);
        for (&weight, id) in self.weights.iter().zip(0..) {
            if limit.keeps(weight, id) {
                self.buckets[bucket_of(weight)] += measure(weight);
            }
        }
        let mut sum = 0.0;
        let reached = |bucket: &(usize, &f64)| {
            let reached = *bucket.1 > 0.0 && sum + bucket.1 >= enough;
            sum += if reached { 0.0 } else { *bucket.1 };
            reached
        };
        let Some((boundary, _)) = self.buckets.iter().enumerate().rev().find(reached) else { return limit };
        self.bucket.clear();
        self.bucket.extend(self.weights.iter().zip(0..).filter_map(|(&weight, id)| {
            (bucket_of(weight) == boundary && limit.keeps(weight, id)).then_some((weight, id))
        }));
        self.bucket.sort_unstable_by(by_weight);
        let reached = |&&(weight, _): &&(f32, u32)| {
            sum += measure(weight);
            sum >= enough
        };
        let last = self.bucket.iter().find(reached).or(self.bucket.last());
        last.map_or(limit, |&(weight, id)| Limit { weight, id })
    }
}

/// Heavier first, equal weights by id.
fn by_weight(a: &(f32, u32), b: &(f32, u32)) -> std::cmp::Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

/// The largest logit.
fn max(logits: &[f32]) -> f32 {
    const LANES: usize = 16;
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let (chunks, rest) = logits.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, &logit)| *lane = larger(*lane, logit));
    }
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, larger)
}

/// The first of the largest logits.
fn argmax(logits: &[f32]) -> u32 {
    let best = max(logits);
    logits.iter().position(|&logit| logit == best).unwrap_or(0) as u32
}

/// `e^x` for `x <= 0`, at most 1, to two units in the last place: the reduction and polynomial of Cephes' `expf`
/// (Moshier, 1992), written so that a compiler makes vector code of it. The same on every machine.
fn exp(x: f32) -> f32 {
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
    const LANES: usize = 16;
    let best = max(logits);
    let (chunks, rest) = logits.as_chunks::<LANES>();
    let mut lanes = [0.0f64; LANES];
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, &logit)| *lane += f64::from(exp(logit - best)));
    }
    let rest: f64 = rest.iter().map(|&logit| f64::from(exp(logit - best))).sum();
    let sum = (lanes.iter().sum::<f64>() + rest).ln();
    let log = |logit: f32| (f64::from(logit) - f64::from(best) - sum) as f32;
    let top = best_of(logits, n).into_iter().map(|(logit, id)| (id, log(logit))).collect();
    (log(logits[id as usize]), top)
}

/// The `n` largest logits and their ids, best first.
fn best_of(logits: &[f32], n: usize) -> Vec<(f32, u32)> {
    // Beyond these only what is larger than the least of them is looked at, which is rare.
    let (first, rest) = logits.split_at(n.saturating_mul(2).min(logits.len()));
    let mut best: Vec<(f32, u32)> = first.iter().copied().zip(0..).collect();
    let shrink = |best: &mut Vec<(f32, u32)>| {
        best.sort_unstable_by(by_weight);
        best.truncate(n);
        best.last().map_or(f32::INFINITY, |least| least.0)
    };
    let mut least = shrink(&mut best);
    for (&logit, id) in rest.iter().zip(first.len() as u32..) {
        if logit > least {
            best.push((logit, id));
            if best.len() >= 2 * n {
                least = shrink(&mut best);
            }
        }
    }
    shrink(&mut best);
    best
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
    fn what_is_forbidden_is_not_chosen() {
        for temperature in [0.0, 1.0] {
            for seed in 0..200 {
                let mut sampler = Sampler::new(Sampling { seed, temperature, ..WARM }, &[], 0);
                assert!([0, 3].contains(&sampler.next_but(&[0.0, 9.0, 9.0, -1.0], &[1, 2, 99])));
            }
        }
        // Where everything is, something is chosen all the same.
        assert!(Sampler::new(WARM, &[], 0).next_but(&[0.0, 1.0], &[0, 1]) < 2);
    }

    #[test]
    fn only_what_a_mask_has_is_chosen() {
        let logits: Vec<f32> = (0..75).map(|i| (i as f32 * 0.7).sin()).collect();
        for temperature in [0.0, 1.0] {
            for seed in 0..200 {
                let mut sampler = Sampler::new(Sampling { seed, temperature, ..WARM }, &[], 0);
                // Ids 1, 33 and 74, and one that the model does not have.
                let mask = [2, 2, 1 << 10 | 1 << 31];
                let id = sampler.next_under(&logits, &[74], &mask).unwrap();
                assert!([1, 33].contains(&id));
                assert_eq!(sampler.next_under(&logits, &[33], &[0, 2]), Some(33), "there is no other");
                assert_eq!(sampler.next_under(&logits, &[], &[0, 0, 1 << 20]), None);
                assert_eq!(sampler.next_under(&logits, &[], &[]), None);
            }
        }
        let all = [u32::MAX; 3];
        let run = |masked: bool| {
            let mut sampler = Sampler::new(Sampling { top_p: 0.9, ..WARM }, &[], 0);
            let mut next = || {
                if masked { sampler.next_under(&logits, &[], &all).unwrap() } else { sampler.next(&logits) }
            };
            (0..200).map(|_| next()).collect::<Vec<_>>()
        };
        assert_eq!(run(true), run(false));
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
    fn limits_keep_what_sorting_everything_would() {
        let flat: Vec<f32> = (0..10_000).map(|i| (i % 7) as f32 * 1e-3).collect();
        let steep: Vec<f32> = (0..3_000).map(|i| -((i * 37 % 3_000) as f32) * 0.01).collect();
        for logits in [flat, steep] {
            let mut lottery = Lottery::default();
            lottery.draw(&WARM, &logits, 0.5);
            let mut sorted: Vec<(f32, u32)> = lottery.weights.iter().copied().zip(0..).collect();
            sorted.sort_by(by_weight);
            let all = Limit { weight: f32::MIN_POSITIVE, id: u32::MAX };
            let total: f64 = lottery.total(all);
            let kept = |lottery: &Lottery, limit: Limit| {
                lottery.weights.iter().zip(0..).filter(|&(&w, id)| limit.keeps(w, id)).count()
            };
            for k in [1, 2, 6, 1_429, 2_999] {
                let limit = lottery.tightened(all, k as f64, |_| 1.0);
                assert_eq!((kept(&lottery, limit), limit.id), (k, sorted[k - 1].1));
            }
            for p in [0.0, 0.1, 0.37, 0.9, 0.999] {
                let mut sum = 0.0;
                let enough = |c: &(f32, u32)| {
                    sum += f64::from(c.0);
                    sum >= p * total
                };
                let expected = sorted.iter().position(enough).unwrap() + 1;
                let limit = lottery.tightened(all, p * total, f64::from);
                assert!(kept(&lottery, limit).abs_diff(expected) <= 1, "{p}");
            }
        }
    }

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
        let logits: Vec<f32> = (0..5_000).map(|i| (i * 7919 % 5_003) as f32 / 3.0).collect();
        let mut sorted: Vec<(f32, u32)> = logits.iter().copied().zip(0..).collect();
        sorted.sort_by(by_weight);
        for n in [0, 1, 2, 5, 20, 4_999, 5_000, usize::MAX] {
            assert_eq!(best_of(&logits, n), sorted[..n.min(5_000)]);
        }
        assert_eq!(best_of(&[1.0; 9], 3), [(1.0, 0), (1.0, 1), (1.0, 2)]);
        assert_eq!(argmax(&logits), sorted[0].1);
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
