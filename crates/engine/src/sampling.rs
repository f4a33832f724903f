//! Choosing a token from logits.
//!
//! In order: logit bias, repetition penalty (Keskar et al., "CTRL", 2019), presence and frequency penalties (as the
//! OpenAI API defines them), temperature, top-k, top-p (Holtzman et al., 2020), min-p (Nguyen et al., 2024): the order
//! that transformers and vLLM share. The random number of a choice is a function of the request's seed and the token's
//! index alone, so that an answer does not depend on what else is being computed.
//!
//! A choice from a row's candidates is the one that all of its logits lead to, or none is made (`lottery.rs`).

use glimmer_tensor::{CANDIDATES, Candidates, best_of, exp, first_largest, largest};
use rustc_hash::FxHashMap;

use crate::EngineError;
use crate::lottery::{Limits, Lottery};

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
    fn limits(&self) -> Limits {
        let Sampling { temperature, top_k, top_p, min_p, .. } = *self;
        Limits { temperature, top_k, top_p, min_p }
    }

    fn has_penalties(&self) -> bool {
        self.repetition_penalty != 1.0 || self.presence_penalty != 0.0 || self.frequency_penalty != 0.0
    }

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

    /// One that chooses the next tokens as this one will, and can be thrown away.
    pub(crate) fn ahead(&self) -> Self {
        Sampler {
            sampling: self.sampling.clone(),
            // Without penalties nobody looks at it.
            seen: if self.sampling.has_penalties() { self.seen.clone() } else { FxHashMap::default() },
            index: self.index,
            adjusted: Vec::new(),
            lottery: Lottery::default(),
        }
    }

    /// Remembers a token of the answer that was not chosen from logits. Its random number is skipped.
    pub fn take(&mut self, id: u32) {
        self.index += 1;
        *self.seen.entry(id).or_default() += 1;
    }

    fn pick(&mut self, logits: &[f32], forbidden: &[u32], mask: Option<&[u32]>) -> u32 {
        let s = &self.sampling;
        let penalties = s.has_penalties();
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
            self.lottery.draw(s.limits(), logits, uniform(s.seed, self.index))
        } else {
            first_largest(logits)
        }
    }

    /// As [`Sampler::next`], from the candidates of a row of logits; `None`, and nothing is remembered, where they are too
    /// few to tell.
    pub fn next_of(&mut self, candidates: &Candidates) -> Option<u32> {
        let s = &self.sampling;
        let id = match self.reads() {
            Reads::Likeliest => candidates.best.first()?.1,
            Reads::Candidates { .. } => {
                self.lottery.draw_of(s.limits(), candidates, uniform(s.seed, self.index))?
            }
            Reads::Logits => return None,
        };
        self.take(id);
        Some(id)
    }

    /// Whether candidates tell the next token, which depends on nothing that is still to come.
    pub fn can_choose_of(&mut self, candidates: &Candidates) -> bool {
        match self.reads() {
            Reads::Likeliest => true,
            Reads::Candidates { .. } => self.lottery.suffice(self.sampling.limits(), candidates),
            Reads::Logits => false,
        }
    }

    /// What of a row of logits it needs.
    pub fn reads(&self) -> Reads {
        let s = &self.sampling;
        if s.has_penalties() || !s.logit_bias.is_empty() {
            return Reads::Logits;
        }
        match s.top_k {
            _ if s.temperature <= 0.0 => Reads::Likeliest,
            0 if s.top_p >= 1.0 && s.min_p <= 0.0 => Reads::Logits,
            // The last candidate is there to be seen below them.
            CANDIDATES.. => Reads::Logits,
            _ => Reads::Candidates { temperature: s.temperature },
        }
    }
}

/// What of a row of logits a choice needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reads {
    /// Which is the largest.
    Likeliest,
    /// Its candidates, at this temperature; now and then all.
    Candidates {
        /// The temperature.
        temperature: f32,
    },
    /// All.
    Logits,
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

/// A number in `[0, 1)`: two rounds of SplitMix64 (Steele et al., 2014) over seed and index.
pub(crate) fn uniform(seed: u64, index: u64) -> f64 {
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
    let best = largest(logits);
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
    fn what_a_choice_reads() {
        let reads = |sampling| Sampler::new(sampling, &[], 0).reads();
        let candidates = Reads::Candidates { temperature: 1.0 };
        assert_eq!(reads(Sampling::default()), Reads::Likeliest);
        assert_eq!(reads(WARM), Reads::Logits);
        for sampling in
            [Sampling { top_p: 0.9, ..WARM }, Sampling { top_k: 63, ..WARM }, Sampling { min_p: 0.1, ..WARM }]
        {
            assert_eq!(reads(sampling.clone()), candidates);
            let biased = Sampling { logit_bias: vec![(1, 1.0)], ..sampling.clone() };
            for sampling in [biased, Sampling { frequency_penalty: 0.5, ..sampling }] {
                assert_eq!(reads(sampling), Reads::Logits);
            }
        }
        assert_eq!(reads(Sampling { top_k: 64, ..WARM }), Reads::Logits);
    }

    /// Of rows of every shape, with every kind of limit: a choice from candidates is the choice from all.
    #[test]
    fn candidates_lead_to_the_same_choice() {
        let mut random = 0u64;
        let mut uniform = move || {
            random += 1;
            uniform(7, random)
        };
        let (mut made, mut left) = (0, 0);
        for round in 0..4_000u64 {
            let vocab = [3, 63, 64, 65, 300, 5_000][(uniform() * 6.0) as usize];
            let steep = [0.0, 0.01, 1.0, 3.0, 12.0][(uniform() * 5.0) as usize];
            // Some rows have few different values.
            let coarse = if uniform() < 0.3 { 2.0 } else { 1e-7 };
            let logit = |u: f64| ((steep * (-(u + 1e-9).ln()) / coarse).round() * coarse) as f32 - 5.0;
            let logits: Vec<f32> = (0..vocab).map(|_| logit(uniform())).collect();
            let mut one_of = |all: [f64; 4]| all[(uniform() * 4.0) as usize];
            let sampling = Sampling {
                temperature: one_of([0.0, 0.3, 0.8, 2.0]) as f32,
                top_k: one_of([0.0, 1.0, 20.0, 63.0]) as usize,
                top_p: one_of([0.3, 0.8, 0.95, 1.0]) as f32,
                min_p: one_of([0.0, 0.0, 0.05, 0.5]) as f32,
                seed: round,
                ..WARM
            };
            let mut of_all = Sampler::new(sampling, &[], 0);
            let temperature = match of_all.reads() {
                Reads::Candidates { temperature } => temperature,
                Reads::Likeliest => 1.0,
                Reads::Logits => continue,
            };
            let mut of_few = of_all.clone();
            let candidates = Candidates::of(&logits, temperature);
            let can = of_few.can_choose_of(&candidates);
            let found = of_few.next_of(&candidates);
            assert_eq!(found.is_some(), can);
            match found {
                Some(id) => assert_eq!(id, of_all.next(&logits), "{:?}, {vocab}, {steep}", of_all.sampling),
                None => assert!(vocab > CANDIDATES),
            }
            *(if can { &mut made } else { &mut left }) += 1;
        }
        assert!(made > 2_000 && left > 200, "{made} choices, {left} left open");
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
