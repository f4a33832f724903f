//! In how many runs of memory a thread reads its share of the weights for few rows: as one, or some in turns.
//!
//! Which is fastest differs by processor, type and rows, by up to a half: with AVX2, Zen 3 brings 66 to 75 % of what memory
//! gives in one run and 98 % in four; Zen 5 reads Q8_0 at 76 GB/s in one and at 55 in four, floats at 71 in one, 85 in two and 68
//! in four. None of it changes a bit. So nobody guesses: the first products of each kind try them all, which takes about one
//! token, and the fastest is kept.

use std::fmt;

use glimmer_tensor::DType;

/// Runs of memory that are tried.
const CHOICES: [usize; 3] = [1, 2, 4];

/// The most that there are.
pub(super) const RUNS: usize = CHOICES[CHOICES.len() - 1];

/// Products of a kind that are timed: two dozen of each choice.
const TIMED: usize = 24 * CHOICES.len();

/// Bytes of a matrix from which on memory bounds its product.
const WORTH_TIMING: usize = 1 << 20;

/// The choice for each kind of product.
#[derive(Debug)]
pub(crate) struct Turns {
    fixed: Option<usize>,
    kinds: Vec<Kind>,
}

/// Products of matrices of one type with about as many rows.
#[derive(Debug)]
struct Kind {
    dtype: DType,
    /// Rows, rounded up to a power of two.
    rows: usize,
    timed: usize,
    /// The fewest seconds a byte that each choice took.
    best: [f64; CHOICES.len()],
}

/// `GLIMMER_RUNS` names none of the choices.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("GLIMMER_RUNS={0}: weights are read as 1, 2 or 4 runs of memory")]
pub struct RunsError(String);

impl Turns {
    /// Nothing is known; or the environment variable `GLIMMER_RUNS` says it.
    ///
    /// # Errors
    /// When the variable is something else than one of the choices.
    pub(crate) fn detect() -> Result<Self, RunsError> {
        let fixed = match std::env::var("GLIMMER_RUNS") {
            Ok(text) if !text.is_empty() => Some(chosen(&text)?),
            _ => None,
        };
        Ok(Turns { fixed, kinds: Vec::new() })
    }

    /// The runs for the next product of `rows` rows with a matrix of `dtype`.
    pub(super) fn runs(&self, dtype: DType, rows: usize) -> usize {
        self.fixed.unwrap_or_else(|| {
            let rows = rows.next_power_of_two();
            let known = self.kinds.iter().find(|kind| (kind.dtype, kind.rows) == (dtype, rows));
            known.map_or(CHOICES[0], Kind::runs)
        })
    }

    /// A product of `rows` rows with `bytes` bytes of `dtype` took so long with the runs that [`Turns::runs`] said.
    pub(super) fn took(&mut self, dtype: DType, rows: usize, bytes: usize, seconds: f64) {
        if self.fixed.is_some() || bytes < WORTH_TIMING {
            return;
        }
        let rows = rows.next_power_of_two();
        let at = self.kinds.iter().position(|kind| (kind.dtype, kind.rows) == (dtype, rows));
        let at = at.unwrap_or_else(|| {
            self.kinds.push(Kind { dtype, rows, timed: 0, best: [f64::INFINITY; CHOICES.len()] });
            self.kinds.len() - 1
        });
        let kind = &mut self.kinds[at];
        if kind.timed < TIMED {
            let best = &mut kind.best[kind.on_trial()];
            *best = best.min(seconds / bytes as f64);
            kind.timed += 1;
        }
    }
}

/// The choice that a text names.
fn chosen(text: &str) -> Result<usize, RunsError> {
    let runs = text.parse().ok().filter(|runs| CHOICES.contains(runs));
    runs.ok_or_else(|| RunsError(text.chars().take(20).flat_map(char::escape_default).collect()))
}

impl Kind {
    /// Which choice is timed next: one after the other, beginning with another one now and then, so that each meets every
    /// matrix of a layer, however many there are.
    fn on_trial(&self) -> usize {
        (self.timed + self.timed / 12) % CHOICES.len()
    }

    fn runs(&self) -> usize {
        if self.timed < TIMED {
            return CHOICES[self.on_trial()];
        }
        let fastest = (0..CHOICES.len()).min_by(|&a, &b| self.best[a].total_cmp(&self.best[b]));
        CHOICES[fastest.unwrap_or(0)]
    }
}

/// What was chosen for a row at a time: `, reads F16 in 2 runs`.
impl fmt::Display for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(runs) = self.fixed {
            return write!(f, ", reads weights in {runs} runs, as GLIMMER_RUNS says");
        }
        for kind in self.kinds.iter().filter(|kind| kind.rows == 1 && kind.timed == TIMED) {
            let runs = kind.runs();
            write!(f, ", reads {} in {runs} run{}", kind.dtype, if runs == 1 { "" } else { "s" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times products until the choice is made, which takes as long as `seconds` says of each number of runs.
    fn settled(turns: &mut Turns, dtype: DType, rows: usize, seconds: impl Fn(usize, usize) -> f64) {
        for i in 0..TIMED {
            let runs = turns.runs(dtype, rows);
            turns.took(dtype, rows, WORTH_TIMING, seconds(i, runs));
        }
    }

    #[test]
    fn the_fastest_is_kept_for_each_kind() {
        let mut turns = Turns { fixed: None, kinds: Vec::new() };
        settled(&mut turns, DType::Q8_0, 1, |_, runs| runs as f64);
        // Three rows count as four; a product that was held up does not spoil a choice.
        settled(&mut turns, DType::Q8_0, 3, |i, runs| if i % 5 == 0 { 9.0 } else { 5.0 - runs as f64 });
        settled(&mut turns, DType::F16, 1, |_, runs| if runs == 2 { 0.5 } else { 1.0 });
        let runs = [(DType::Q8_0, 1), (DType::Q8_0, 4), (DType::F16, 1), (DType::F16, 8)];
        assert_eq!(runs.map(|(dtype, rows)| turns.runs(dtype, rows)), [1, 4, 2, 1]);
        assert_eq!(turns.to_string(), ", reads Q8_0 in 1 run, reads F16 in 2 runs");
        // Later products are not timed.
        turns.took(DType::Q8_0, 1, WORTH_TIMING, 0.0);
        assert_eq!(turns.runs(DType::Q8_0, 1), 1);
    }

    #[test]
    fn every_choice_meets_every_matrix_of_a_layer() {
        for matrices in 1..=8 {
            let mut turns = Turns { fixed: None, kinds: Vec::new() };
            let mut met = vec![[false; RUNS + 1]; matrices];
            for i in 0..TIMED {
                met[i % matrices][turns.runs(DType::F16, 1)] = true;
                turns.took(DType::F16, 1, WORTH_TIMING, 1.0);
            }
            assert!(met.iter().all(|met| CHOICES.iter().all(|&runs| met[runs])), "{matrices} matrices");
        }
    }

    #[test]
    fn small_matrices_say_nothing_and_a_variable_everything() {
        let mut turns = Turns { fixed: None, kinds: Vec::new() };
        (0..TIMED).for_each(|_| turns.took(DType::F16, 1, WORTH_TIMING - 1, 1.0));
        assert!(turns.kinds.is_empty());
        assert_eq!([chosen("4"), chosen("1")], [Ok(4), Ok(1)]);
        for text in ["3", "0", "many", "\u{1b}[2J"] {
            let error = chosen(text).expect_err(text).to_string();
            assert!(error.starts_with("GLIMMER_RUNS=") && !error.contains('\u{1b}'), "{error}");
        }
        let fixed = Turns { fixed: Some(4), kinds: Vec::new() };
        assert_eq!(fixed.runs(DType::Q8_0, 1), 4);
    }
}
