//! BLEU (Papineni et al., 2002) of one text against one other, by characters.

use std::collections::HashMap;

/// BLEU-4 from 0 to 1. A precision of none gets half of what one match would give, the next one a quarter, and so on (Chen and
/// Cherry, 2014, method 3; as nltk has it, an order that the text is too short for counts as one n-gram that does not match).
pub fn bleu4(written: &str, wanted: &str) -> f64 {
    let [written, wanted] = [written, wanted].map(|text| text.chars().collect::<Vec<char>>());
    let mut missed = 0;
    let mut logarithms = 0.0;
    for n in 1..=4 {
        let (matches, count) = precision(&written, &wanted, n);
        if n == 1 && matches == 0 {
            return 0.0;
        }
        let share = if matches == 0 {
            missed += 1;
            0.5f64.powi(missed) / count as f64
        } else {
            matches as f64 / count as f64
        };
        logarithms += share.ln() / 4.0;
    }
    let brevity = (1.0 - wanted.len() as f64 / written.len() as f64).min(0.0);
    (brevity + logarithms).exp()
}

/// The n-grams of a text that the other has, each at most as often as there, and how many there are, at least 1.
fn precision(written: &[char], wanted: &[char], n: usize) -> (usize, usize) {
    let mut there: HashMap<&[char], usize> = HashMap::new();
    for gram in wanted.windows(n) {
        *there.entry(gram).or_default() += 1;
    }
    let mut matches = 0;
    for gram in written.windows(n) {
        if let Some(left) = there.get_mut(gram).filter(|left| **left > 0) {
            *left -= 1;
            matches += 1;
        }
    }
    (matches, (written.len() + 1).saturating_sub(n).max(1))
}

#[cfg(test)]
mod tests {
    use super::bleu4;

    #[test]
    fn known_values() {
        assert_eq!(bleu4("今天天气", "今天天气"), 1.0);
        assert!((bleu4("你好", "你好") - 0.594_603_557_501_360_5).abs() < 1e-15);
        assert_eq!(bleu4("", "你好"), 0.0);
        assert_eq!(bleu4("你好", ""), 0.0);
        assert_eq!(bleu4("天气", "你好"), 0.0);
    }
}
