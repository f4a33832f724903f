//! How near what a model wrote is to what it should have written, as the evaluation of ChatGLM-6B's `ptuning/main.py` says it:
//! BLEU-4 of characters (nltk's `sentence_bleu` with its smoothing method 3) and ROUGE-1, -2 and -L of words (`rouge_chinese`
//! behind `jieba.cut`), each times 100 and rounded to 4 places, the mean over all.

mod bleu;
mod rouge;
mod words;

pub use bleu::bleu4;
pub use rouge::rouge;
pub use words::Segmenter;

/// What one text scores against another, or many on average; each from 0 to 100.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Scores {
    /// BLEU-4 of characters.
    #[serde(rename = "bleu-4")]
    pub bleu4: f64,
    /// F of words.
    #[serde(rename = "rouge-1")]
    pub rouge1: f64,
    /// F of pairs of words.
    #[serde(rename = "rouge-2")]
    pub rouge2: f64,
    /// F of the longest common subsequence of words.
    #[serde(rename = "rouge-l")]
    pub rouge_l: f64,
}

impl Scores {
    /// Those of a text. An empty one scores nothing (the script breaks off there).
    pub fn of(segmenter: &Segmenter, written: &str, wanted: &str) -> Scores {
        let [hypothesis, reference] = [written, wanted].map(|text| segmenter.words(text).join(" "));
        let [rouge1, rouge2, rouge_l] = rouge(&hypothesis, &reference).map(rounded);
        Scores { bleu4: rounded(bleu4(written, wanted)), rouge1, rouge2, rouge_l }
    }

    /// The mean of some; zeros of none.
    pub fn mean(all: &[Scores]) -> Scores {
        let mean = |of: fn(&Scores) -> f64| all.iter().map(of).sum::<f64>() / all.len().max(1) as f64;
        Scores {
            bleu4: mean(|s| s.bleu4),
            rouge1: mean(|s| s.rouge1),
            rouge2: mean(|s| s.rouge2),
            rouge_l: mean(|s| s.rouge_l),
        }
    }
}

/// Times 100, to 4 places.
fn rounded(share: f64) -> f64 {
    (share * 100.0 * 1e4).round() / 1e4
}
