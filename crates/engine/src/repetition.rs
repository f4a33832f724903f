//! Whether an answer repeats itself.

use std::collections::VecDeque;

/// Tokens that a pattern may have.
const PATTERN: usize = 4096;
/// Occurrences that may be waited for.
const COUNT: usize = 1_000_000;

/// When an answer is taken to repeat itself, and ends: its last tokens are one pattern several times in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepetitionDetection {
    min_pattern_size: usize,
    max_pattern_size: usize,
    min_count: usize,
}

impl RepetitionDetection {
    /// What its bounds are, for people.
    pub const BOUNDS: &str = "patterns of 1 to 4096 tokens, 2 to 1000000 times";

    /// Patterns of `min_pattern_size` to `max_pattern_size` tokens, `min_count` times; `None` beyond
    /// [`RepetitionDetection::BOUNDS`], or where no pattern has a size.
    pub fn new(min_pattern_size: usize, max_pattern_size: usize, min_count: usize) -> Option<Self> {
        let sizes = 1..=PATTERN;
        let is_good = sizes.contains(&min_pattern_size)
            && sizes.contains(&max_pattern_size)
            && min_pattern_size <= max_pattern_size
            && (2..=COUNT).contains(&min_count);
        is_good.then_some(RepetitionDetection { min_pattern_size, max_pattern_size, min_count })
    }

    /// How often a pattern occurs before the answer ends.
    pub fn min_count(&self) -> usize {
        self.min_count
    }
}

/// One answer's tokens, as far as they may be repeated. Each costs a comparison for every size of a pattern.
pub(crate) struct Repetitions {
    wanted: RepetitionDetection,
    /// The latest first, as many as the longest pattern has.
    latest: VecDeque<u32>,
    /// Of each size: how many tokens in a row, the latest among them, are each the same as that which stands so many before.
    same: Vec<usize>,
}

impl Repetitions {
    /// Of an answer that begins with these tokens.
    pub(crate) fn new(wanted: RepetitionDetection, begun: &[u32]) -> Self {
        let sizes = wanted.max_pattern_size - wanted.min_pattern_size + 1;
        let mut own = Repetitions { wanted, latest: VecDeque::new(), same: vec![0; sizes] };
        for &id in begun {
            own.push(id);
        }
        own
    }

    /// Takes the next token, and returns whether the answer now ends with a repetition.
    pub(crate) fn push(&mut self, id: u32) -> bool {
        let RepetitionDetection { min_pattern_size: least, max_pattern_size: most, min_count } = self.wanted;
        let mut repeats = false;
        let before = self.latest.iter().skip(least - 1);
        for ((size, same), before) in (least..).zip(&mut self.same).zip(before) {
            *same = if *before == id { *same + 1 } else { 0 };
            // The first occurrence is the same as nothing.
            repeats |= *same >= size * (min_count - 1);
        }
        self.latest.push_front(id);
        self.latest.truncate(most);
        repeats
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What it means, read off the whole answer.
    fn repeats(answer: &[u32], wanted: RepetitionDetection) -> bool {
        (wanted.min_pattern_size..=wanted.max_pattern_size).any(|size| {
            let Some(begin) = answer.len().checked_sub(size * wanted.min_count) else { return false };
            let pattern = &answer[begin..begin + size];
            answer[begin..].chunks(size).all(|chunk| chunk == pattern)
        })
    }

    /// Words of few letters, some of them said again and again.
    fn answers() -> impl Strategy<Value = Vec<u32>> {
        let word = (proptest::collection::vec(0..3_u32, 1..7), 1..6_usize);
        let words = proptest::collection::vec(word, 0..12);
        words.prop_map(|words| words.into_iter().flat_map(|(word, times)| word.repeat(times)).collect())
    }

    proptest! {
        #[test]
        fn it_is_found_where_the_definition_has_it(
            answer in answers(),
            (least, more, count) in (1..5_usize, 0..5_usize, 2..5_usize),
            begun in 0..20_usize,
        ) {
            let wanted = RepetitionDetection::new(least, least + more, count).unwrap();
            let begun = begun.min(answer.len());
            let mut repetitions = Repetitions::new(wanted, &answer[..begun]);
            for at in begun..answer.len() {
                prop_assert_eq!(repetitions.push(answer[at]), repeats(&answer[..=at], wanted), "{} of {:?}", at, answer);
            }
            prop_assert!(repetitions.latest.len() <= least + more);
        }
    }

    #[test]
    fn bounds() {
        for (least, most, count) in [(0, 3, 2), (4, 3, 2), (1, 4097, 2), (1, 3, 1), (1, 3, 1_000_001)] {
            assert_eq!(RepetitionDetection::new(least, most, count), None);
        }
        assert!(RepetitionDetection::new(4096, 4096, 1_000_000).is_some());
    }
}
