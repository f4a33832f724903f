//! Scores of texts, held to those of nltk, jieba and rouge_chinese (`tools/make_generation_scores.py`).
#![allow(clippy::unwrap_used, reason = "test code")]

use glimmer_train::score::{Scores, Segmenter, bleu4, rouge};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    written: String,
    wanted: String,
    words: Vec<String>,
    bleu: f64,
    rouge: Option<[f64; 3]>,
}

#[test]
fn as_the_python_packages() {
    let segmenter = Segmenter::new();
    let mut count = 0;
    for line in include_str!("data/generation_scores.jsonl").lines() {
        let case: Case = serde_json::from_str(line).unwrap();
        assert_eq!(segmenter.words(&case.written), case.words);
        assert!((bleu4(&case.written, &case.wanted) - case.bleu).abs() < 1e-12, "{line}");
        let [written, wanted] = [&case.written, &case.wanted].map(|text| segmenter.words(text).join(" "));
        let own = rouge(&written, &wanted);
        let expected = case.rouge.unwrap_or([0.0; 3]);
        assert!(own.iter().zip(expected).all(|(own, other)| (own - other).abs() < 1e-12), "{own:?} {line}");
        count += 1;
    }
    assert_eq!(count, 200);
}

#[test]
fn the_mean_of_what_the_script_prints() {
    let segmenter = Segmenter::new();
    let same = Scores::of(&segmenter, "你好", "你好");
    assert_eq!(same.bleu4, 59.4604);
    let other = Scores::of(&segmenter, "", "你好");
    assert_eq!(other, Scores::default());
    assert_eq!(Scores::mean(&[same, other]).bleu4, 29.7302);
    assert_eq!(Scores::mean(&[]), Scores::default());
}
