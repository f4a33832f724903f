//! Chinese text in words, as jieba 0.42.1 cuts it. Its dictionary is in the program, packed (`tools/make_word_list.py`).
//!
//! jieba-rs 0.11 keeps letters and digits together across `-`, `_` and the like (`6B-chat`), which jieba cuts there; that is
//! made good here. It takes rare characters (CJK's extensions, and those above U+9FD5) for parts of words, jieba each for one.

use std::io::BufReader;

use flate2::read::GzDecoder;
use jieba_rs::Jieba;

const DICTIONARY: &[u8] = include_bytes!("../../assets/jieba.dict.gz");

/// The dictionary, unpacked: 350,000 words.
#[derive(Debug)]
pub struct Segmenter(Jieba);

impl Segmenter {
    /// Unpacks it, which takes a moment.
    pub fn new() -> Segmenter {
        let jieba = Jieba::with_dict(&mut BufReader::new(GzDecoder::new(DICTIONARY)));
        Segmenter(jieba.expect("the dictionary is a constant that unpacks"))
    }

    /// The words of a text, blanks among them, found in the dictionary or guessed from their characters.
    pub fn words<'t>(&self, text: &'t str) -> Vec<&'t str> {
        let mut words = Vec::new();
        for token in self.0.cut(text, true) {
            let word = token.word;
            if word.len() > 1 && word.is_ascii() && !self.0.has_word(word) {
                cut_unknown(word, &mut words);
            } else {
                words.push(word);
            }
        }
        words
    }
}

impl Default for Segmenter {
    fn default() -> Self {
        Segmenter::new()
    }
}

/// Cuts ASCII that no dictionary has: numbers and words (`[a-zA-Z0-9]+(?:\.\d+)?%?` in jieba), and what is between them.
fn cut_unknown<'t>(text: &'t str, words: &mut Vec<&'t str>) {
    let run = |text: &str, is: fn(&u8) -> bool| text.bytes().take_while(is).count();
    let mut rest = text;
    while !rest.is_empty() {
        let mut len = run(rest, u8::is_ascii_alphanumeric);
        if len == 0 {
            len = run(rest, |byte| !byte.is_ascii_alphanumeric());
        } else {
            if let Some(fraction) = rest[len..].strip_prefix('.') {
                let digits = run(fraction, u8::is_ascii_digit);
                len += if digits > 0 { 1 + digits } else { 0 };
            }
            len += usize::from(rest[len..].starts_with('%'));
        }
        let (word, after) = rest.split_at(len);
        words.push(word);
        rest = after;
    }
}
