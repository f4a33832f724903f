//! How many rows of prompts go into a step that has answers, so that these wait little longer for their next tokens than
//! they would without.
//!
//! Prompts have half as long as answers take by themselves, so that a long one slows others down by about half and has a third of
//! all time at least. Where more requests wait for their prompts than answer, prompts have more, in proportion:
//! steps of few rows read all weights for little, and a crowd is served soonest by steps that are full.

/// Time for prompts in a step with answers, by what the answers take alone.
const SHARE: f64 = 0.5;

/// Seconds longer that nobody notices.
const UNNOTICED: f64 = 0.005;

/// Rows of prompts that go with answers in any case: no prompt waits until nobody answers.
const FEWEST: usize = 4;

/// Steps with both after which answers have one to themselves, so that what they take alone is known.
const UNTIL_ALONE: usize = 32;

/// Learns it from steps that had prompts.
#[derive(Debug, Default)]
pub(crate) struct PromptPace {
    /// Seconds of a row of prompts, as last seen.
    row: f64,
    /// Rows that the next step might have.
    allowed: usize,
    /// Steps with both since answers had one to themselves.
    together: usize,
}

impl PromptPace {
    /// Rows of prompts in the next step, should so many answer, which take so long by themselves, while so many wait for their
    /// prompts; 0 when answers are to be alone.
    pub(crate) fn rows(&mut self, answering: usize, alone: Option<f64>, waiting: usize) -> usize {
        if self.together >= UNTIL_ALONE {
            return 0;
        }
        let crowd = (waiting as f64 / answering as f64).max(1.0);
        let spare = alone.map_or(0.0, |alone| SHARE * crowd * alone).max(UNNOTICED);
        // Without limit while no row has been seen.
        self.allowed = ((spare / self.row) as usize).max(FEWEST);
        self.allowed
    }

    /// A step had nothing but answers.
    pub(crate) fn answers(&mut self) {
        self.together = 0;
    }

    /// A step had nothing but so many rows of prompts.
    pub(crate) fn prompts(&mut self, rows: usize, seconds: f64) {
        self.row = seconds / rows as f64;
    }

    /// A step had so many rows of prompts, and answers that take so long `alone`. Few rows beside answers cost little or
    /// nothing; many as much as by themselves.
    pub(crate) fn both(&mut self, rows: usize, seconds: f64, alone: f64) {
        self.together += 1;
        let row = ((seconds - alone) / rows as f64).max(self.row / 2.0);
        // A step that had fewer than it might tells only of rows that are too many.
        if row > self.row || rows >= self.allowed {
            self.row = row;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALONE: f64 = 0.020;

    /// After a prompt by itself, steps of answers and prompts of so many seconds a row: rows of the last, and its time.
    fn settled(row: f64) -> (usize, f64) {
        let mut pace = PromptPace::default();
        assert!(pace.rows(1, None, 1) > 1000, "nothing is known");
        pace.prompts(256, 0.6);
        let mut last = (0, 0.0);
        for _ in 0..100 {
            match pace.rows(4, Some(ALONE), 1) {
                0 => pace.answers(),
                rows => {
                    last = (rows, ALONE + rows as f64 * row);
                    pace.both(rows, last.1, ALONE);
                }
            }
        }
        last
    }

    #[test]
    fn answers_wait_half_as_long_again_at_most() {
        for row in [1e-5, 3e-4, 2.4e-3] {
            let (rows, seconds) = settled(row);
            assert!(seconds < 1.501 * ALONE && rows as f64 * row > 0.007, "{row}: {rows} rows, {seconds} s");
        }
        assert_eq!(settled(0.05).0, FEWEST);
    }

    #[test]
    fn a_short_last_piece_slows_nothing_down() {
        let mut pace = PromptPace::default();
        pace.prompts(100, 0.099);
        assert_eq!(pace.rows(4, Some(ALONE), 1), 10);
        pace.both(3, 0.021, ALONE);
        assert_eq!(pace.rows(4, Some(ALONE), 1), 10);
        pace.both(10, 0.0249, ALONE);
        assert_eq!(pace.rows(4, Some(ALONE), 1), 20);
        assert_eq!(pace.rows(4, Some(ALONE), 40), 202, "a crowd waits");
        assert_eq!(pace.rows(4, Some(0.001), 1), 10, "so short a wait is none");
    }
}
