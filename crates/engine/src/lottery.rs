//! A token drawn by its weight among those that top-k, top-p and min-p leave.
//!
//! From all logits or from their [`Candidates`] the same token is drawn, because every sum is made of the same numbers in the
//! same order. No other token weighs more than `beyond`: the last candidate's weight, and a little for the exponential's
//! error, which is below 3e-7. Limits are found from the heaviest tokens down, a bucket of nearly equal weights at a time, and
//! of the buckets above that of `beyond` all tokens are known; a limit that is not found among them leaves the draw open. The
//! sum that top-p is a part of where nothing else limits is that of all weights in the order that `tensor` tells, which comes
//! with the candidates; every other sum is over kept tokens in the order of their ids.

use glimmer_tensor::{Candidates, first_largest, largest, total_weight, weight};

/// What limits a draw: these fields of [`crate::Sampling`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) temperature: f32,
    pub(crate) top_k: usize,
    pub(crate) top_p: f32,
    pub(crate) min_p: f32,
}

/// Scratch of draws. Nothing is sorted but a few tokens of nearly equal weight at each limit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lottery {
    /// `exp((logit - best) / temperature)` of every token that is known, in the order of ids: the best one's is 1.
    weights: Vec<f32>,
    /// Their ids, of candidates.
    ids: Vec<u32>,
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

/// Tokens that are known.
#[derive(Clone, Copy)]
struct Known<'a, I> {
    weights: &'a [f32],
    /// In order.
    ids: I,
    /// No other token weighs more.
    beyond: f32,
    /// How many tokens there are.
    of: usize,
}

impl<I: Iterator<Item = u32> + Clone> Known<'_, I> {
    fn tokens(&self) -> impl Iterator<Item = (f32, u32)> {
        self.weights.iter().copied().zip(self.ids.clone())
    }

    /// The weight of all that are kept.
    fn total(&self, limit: Limit) -> f64 {
        self.tokens().map(|(weight, id)| if limit.keeps(weight, id) { f64::from(weight) } else { 0.0 }).sum()
    }

    /// The last bucket of which not all tokens are known.
    fn open_bucket(&self) -> usize {
        bucket_of(self.beyond)
    }

    /// Whether all that a limit keeps are known.
    fn has_all(&self, limit: Limit) -> bool {
        bucket_of(limit.weight) > self.open_bucket()
    }

    /// The kept token that a number in `[0, 1)` stands for.
    fn at(&self, limit: Limit, number: f64) -> Option<u32> {
        let mut left = number * self.total(limit);
        let mut last = None;
        for (weight, id) in self.tokens() {
            if limit.keeps(weight, id) {
                left -= f64::from(weight);
                last = Some(id);
                if left < 0.0 {
                    return last;
                }
            }
        }
        // What rounding left over is the last one's.
        last
    }
}

/// Positive floats are in the order of their bits.
fn bucket_of(weight: f32) -> usize {
    (weight.to_bits() >> 16) as usize
}

impl Lottery {
    /// Draws with a number in `[0, 1)` from all logits.
    pub(crate) fn draw(&mut self, limits: Limits, logits: &[f32], number: f64) -> u32 {
        let best = largest(logits);
        let mut weights = std::mem::take(&mut self.weights);
        weights.clear();
        weights.extend(logits.iter().map(|&logit| weight(logit, best, limits.temperature)));
        let known = Known { weights: &weights, ids: 0.., beyond: 0.0, of: logits.len() };
        let limit = self.limit(limits, &known, || total_weight(&weights));
        let id = limit.and_then(|limit| known.at(limit, number));
        self.weights = weights;
        // Where bias has forbidden everything, the first is as good as any.
        id.unwrap_or_else(|| first_largest(logits))
    }

    /// The same from candidates, where they are enough.
    pub(crate) fn draw_of(&mut self, limits: Limits, candidates: &Candidates, number: f64) -> Option<u32> {
        self.of_candidates(limits, candidates, |known, limit| known.at(limit, number))?
    }

    /// Whether they are.
    pub(crate) fn suffice(&mut self, limits: Limits, candidates: &Candidates) -> bool {
        self.of_candidates(limits, candidates, |_, _| ()).is_some()
    }

    fn of_candidates<T>(
        &mut self,
        limits: Limits,
        candidates: &Candidates,
        done: impl FnOnce(&Known<'_, std::iter::Copied<std::slice::Iter<'_, u32>>>, Limit) -> T,
    ) -> Option<T> {
        let Candidates { best, total, of } = candidates;
        let (largest, least) = (best.first()?.0, best.last()?.0);
        let weight = |logit: f32| weight(logit, largest, limits.temperature);
        self.bucket.clear();
        self.bucket.extend(best.iter().map(|&(logit, id)| (weight(logit), id)));
        self.bucket.sort_unstable_by_key(|&(_, id)| id);
        let (mut weights, mut ids) = (std::mem::take(&mut self.weights), std::mem::take(&mut self.ids));
        weights.clear();
        ids.clear();
        self.bucket.iter().for_each(|&(weight, id)| {
            weights.push(weight);
            ids.push(id);
        });
        let beyond = if best.len() == *of { 0.0 } else { weight(least) * (1.0 + 1e-6) };
        let known = Known { weights: &weights, ids: ids.iter().copied(), beyond, of: *of };
        let done = self.limit(limits, &known, || *total).map(|limit| done(&known, limit));
        (self.weights, self.ids) = (weights, ids);
        done
    }

    /// What is kept, where the known tokens tell; `all` is the weight of all tokens.
    fn limit<I: Iterator<Item = u32> + Clone>(
        &mut self,
        limits: Limits,
        known: &Known<'_, I>,
        all: impl FnOnce() -> f64,
    ) -> Option<Limit> {
        // The least weight that is not 0.
        let any = f32::MIN_POSITIVE;
        let mut limit = Limit { weight: limits.min_p.max(any), id: u32::MAX };
        let is_few = limits.top_k > 0 && limits.top_k < known.of;
        if is_few {
            limit = self.tightened(known, limit, limits.top_k as f64, |_| 1.0);
        }
        if limits.top_p < 1.0 {
            let total = match known.has_all(limit) {
                _ if !is_few && limit.weight == any => all(),
                true => known.total(limit),
                false => return None,
            };
            limit = self.tightened(known, limit, f64::from(limits.top_p) * total, f64::from);
        }
        Some(limit).filter(|&limit| known.has_all(limit))
    }

    /// A limit that keeps the heaviest tokens that together measure `enough`, at least one, or all when there is less.
    fn tightened<I: Iterator<Item = u32> + Clone>(
        &mut self,
        known: &Known<'_, I>,
        limit: Limit,
        enough: f64,
        measure: impl Fn(f32) -> f64,
    ) -> Limit {
        let lowest = known.open_bucket() + 1;
        let kept = |&(weight, id): &(f32, u32)| limit.keeps(weight, id) && bucket_of(weight) >= lowest;
        self.buckets.clear();
        self.buckets.resize((bucket_of(1.0) + 1).saturating_sub(lowest), 0.0);
        for (weight, _) in known.tokens().filter(kept) {
            self.buckets[bucket_of(weight) - lowest] += measure(weight);
        }
        let mut sum = 0.0;
        let reached = |bucket: &(usize, &f64)| {
            let reached = *bucket.1 > 0.0 && sum + bucket.1 >= enough;
            sum += if reached { 0.0 } else { *bucket.1 };
            reached
        };
        let Some((boundary, _)) = self.buckets.iter().enumerate().rev().find(reached) else { return limit };
        let is_there = |token: &(f32, u32)| bucket_of(token.0) == lowest + boundary && kept(token);
        self.bucket.clear();
        self.bucket.extend(known.tokens().filter(is_there));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_keep_what_sorting_everything_would() {
        let flat: Vec<f32> = (0..10_000).map(|i| (i % 7) as f32 * 1e-3).collect();
        let steep: Vec<f32> = (0..3_000).map(|i| -((i * 37 % 3_000) as f32) * 0.01).collect();
        for logits in [flat, steep] {
            let mut lottery = Lottery::default();
            lottery.draw(Limits { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0 }, &logits, 0.5);
            let weights = lottery.weights.clone();
            let known = Known { weights: &weights, ids: 0.., beyond: 0.0, of: weights.len() };
            let mut sorted: Vec<(f32, u32)> = known.tokens().collect();
            sorted.sort_by(by_weight);
            let all = Limit { weight: f32::MIN_POSITIVE, id: u32::MAX };
            let total: f64 = known.total(all);
            let kept = |limit: Limit| known.tokens().filter(|&(w, id)| limit.keeps(w, id)).count();
            for k in [1, 2, 6, 1_429, 2_999] {
                let limit = lottery.tightened(&known, all, k as f64, |_| 1.0);
                assert_eq!((kept(limit), limit.id), (k, sorted[k - 1].1));
            }
            for p in [0.0, 0.1, 0.37, 0.9, 0.999] {
                let mut sum = 0.0;
                let enough = |c: &(f32, u32)| {
                    sum += f64::from(c.0);
                    sum >= p * total
                };
                let expected = sorted.iter().position(enough).unwrap() + 1;
                let limit = lottery.tightened(&known, all, p * total, f64::from);
                assert!(kept(limit).abs_diff(expected) <= 1, "{p}");
            }
        }
    }
}
