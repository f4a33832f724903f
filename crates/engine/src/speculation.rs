//! Guessing an answer's next tokens from the tokens it has (prompt lookup: Saxena, 2023; the check is that of
//! Leviathan et al., "Fast Inference from Transformers via Speculative Decoding", 2023, for a certain draft).
//!
//! What followed the last occurrence of the last few tokens is likely to follow again: in code, in quotations of the
//! prompt, in lists. A guess costs nothing to make; computing its row together with the row before it costs less than
//! a step of its own, because a step reads all weights anyway. The token is still chosen from the logits, with the
//! random number of its index, so an answer is the same with and without; a wrong guess only wastes its row.

use rustc_hash::FxHashMap;

/// Most tokens guessed at once.
pub(crate) const MOST: usize = 8;

/// Tokens that must have occurred before.
const GRAM: usize = 3;

/// Guesses for one request.
#[derive(Debug)]
pub(crate) struct Drafter {
    /// Every run of `GRAM` tokens to the place after its last occurrence.
    places: FxHashMap<[u32; GRAM], usize>,
    /// Tokens before this are in `places`.
    known: usize,
    /// The share of recent guesses that was right.
    acceptance: f64,
    /// The guesses made last, to be held against what is chosen.
    guesses: Vec<u32>,
}

impl Drafter {
    pub(crate) fn new() -> Self {
        Drafter { places: FxHashMap::default(), known: GRAM, acceptance: 0.5, guesses: Vec::new() }
    }

    /// Guesses what follows `tokens`, which only ever grow: at most `most`, often nothing.
    pub(crate) fn guess(&mut self, tokens: &[u32], most: usize) -> &[u32] {
        for place in self.known..tokens.len() {
            if let Some(&gram) = tokens[place - GRAM..place].as_array::<GRAM>() {
                self.places.insert(gram, place);
            }
        }
        self.known = self.known.max(tokens.len());
        self.guesses.clear();
        let last = tokens.last_chunk::<GRAM>();
        if let Some(&place) = last.and_then(|gram| self.places.get(gram)) {
            for at in place..place + most.min(MOST) {
                // What repeats itself goes on within the guess.
                let id = tokens.get(at).or_else(|| self.guesses.get(at - tokens.len()));
                self.guesses.extend(id.copied());
            }
        }
        &self.guesses
    }

    /// Takes the last guesses back: they were not computed.
    pub(crate) fn forget(&mut self) {
        self.guesses.clear();
    }

    /// Learns from the `index`-th token chosen after the guess, as long as all before it had been guessed.
    pub(crate) fn learn(&mut self, index: usize, chosen: u32) {
        if let Some(&guess) = self.guesses.get(index) {
            let right = if guess == chosen { 1.0 } else { 0.0 };
            self.acceptance += 0.1 * (right - self.acceptance);
            if guess != chosen {
                // Others may have guessed better; those after it follow from it.
                self.guesses.truncate(index + 1);
            }
        }
    }

    pub(crate) fn acceptance(&self) -> f64 {
        self.acceptance
    }
}

/// What a step costs by its number of rows: a straight line through recent steps, older ones counting less.
#[derive(Debug, Default)]
pub(crate) struct StepCosts {
    weight: f64,
    rows: f64,
    seconds: f64,
    rows_rows: f64,
    rows_seconds: f64,
}

/// What a further row is assumed to cost, as a share of what a row costs otherwise, while that has not been measured.
const UNMEASURED: f64 = 0.3;

/// How much an older step counts beside the next one.
const FADING: f64 = 0.98;

impl StepCosts {
    /// Records a step that had nothing but rows of answers.
    pub(crate) fn observe(&mut self, rows: usize, seconds: f64) {
        let rows = rows as f64;
        // A step that was interrupted by something else says nothing about rows.
        let usual = if self.weight < 4.0 { seconds } else { self.seconds / self.weight };
        let seconds = seconds.min(3.0 * usual);
        for (sum, value) in [
            (&mut self.weight, 1.0),
            (&mut self.rows, rows),
            (&mut self.seconds, seconds),
            (&mut self.rows_rows, rows * rows),
            (&mut self.rows_seconds, rows * seconds),
        ] {
            *sum = *sum * FADING + value;
        }
    }

    /// What a step of so many rows costs; `None` before one was seen. While rows have not been told apart, a further one is
    /// taken to cost a share of the first.
    pub(crate) fn seconds(&self, rows: usize) -> Option<f64> {
        if self.weight == 0.0 {
            return None;
        }
        let (mean_rows, mean_seconds) = (self.rows / self.weight, self.seconds / self.weight);
        let slope = self.slope().unwrap_or(UNMEASURED * mean_seconds / mean_rows).max(0.0);
        Some((mean_seconds + slope * (rows as f64 - mean_rows)).max(0.1 * mean_seconds))
    }

    /// Seconds of a further row, once steps differed.
    fn slope(&self) -> Option<f64> {
        let (mean_rows, mean_seconds) = (self.rows / self.weight, self.seconds / self.weight);
        let variance = self.rows_rows / self.weight - mean_rows * mean_rows;
        // Steps that were all alike tell nothing.
        let told_apart = self.weight >= 4.0 && variance >= 0.05;
        told_apart.then(|| (self.rows_seconds / self.weight - mean_rows * mean_seconds) / variance)
    }

    /// What a further row costs, as a share of what each of `rows` rows costs.
    fn price(&self, rows: usize) -> f64 {
        let Some(slope) = self.slope() else { return UNMEASURED };
        let step = self.seconds / self.weight + slope * (rows as f64 - self.rows / self.weight);
        if slope <= 0.0 || step <= 0.0 { 0.0 } else { slope * rows as f64 / step }
    }

    /// How many guesses are worth their rows in a step of `rows` answers: the `n`-th is used with the probability that
    /// all up to it are right, and must be cheaper than that share of a token.
    pub(crate) fn worthwhile(&self, acceptance: f64, rows: usize) -> usize {
        let price = self.price(rows.max(1));
        (1..=MOST).take_while(|&n| acceptance.powi(n as i32) > price).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_followed_before_is_guessed_again() {
        let mut drafter = Drafter::new();
        assert!(drafter.guess(&[1, 2, 3, 4], 4).is_empty());
        assert_eq!(drafter.guess(&[1, 2, 3, 4, 5, 1, 2, 3], 2), [4, 5]);
        assert_eq!(drafter.guess(&[1, 2, 3, 4, 5, 1, 2, 3, 9, 1, 2, 3], 3), [9, 1, 2]);
        // A period shorter than the guess.
        let mut drafter = Drafter::new();
        assert_eq!(drafter.guess(&[7, 8, 7, 8, 7], 5), [8, 7, 8, 7, 8]);
        assert_eq!(drafter.guess(&[7, 8, 7, 8, 7], 0), [0u32; 0]);
    }

    #[test]
    fn guesses_are_bought_while_they_are_cheaper_than_they_are_likely() {
        let mut flat = StepCosts::default();
        let mut steep = StepCosts::default();
        for rows in (1..9).cycle().take(100) {
            flat.observe(rows, 1.0 + 0.02 * rows as f64);
            steep.observe(rows, 0.1 + rows as f64);
        }
        assert_eq!(flat.worthwhile(0.9, 1), MOST);
        assert_eq!(flat.worthwhile(0.5, 1), 5);
        assert_eq!(steep.worthwhile(0.8, 1), 0);
        assert_eq!(StepCosts::default().worthwhile(0.5, 1), 1);
    }

    #[test]
    fn a_drafter_learns_how_often_it_is_right() {
        let mut drafter = Drafter::new();
        for right in [true, false] {
            for _ in 0..50 {
                let guess = drafter.guess(&[1, 2, 3, 4, 1, 2, 3], 1)[0];
                drafter.learn(0, if right { guess } else { guess + 1 });
                drafter.learn(1, 0);
            }
            assert_eq!(drafter.acceptance() > 0.9, right);
            assert_eq!(drafter.acceptance() < 0.1, !right);
        }
    }
}
