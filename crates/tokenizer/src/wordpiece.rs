//! BERT's tokenizer: clean-up, Chinese characters apart, lower case without accents, then the longest
//! vocabulary entries from the left (WordPiece).
//!
//! The reference is Hugging Face's Rust implementation (`normalizers/bert.rs`, `pre_tokenizers/bert.rs`,
//! `models/wordpiece`), down to its Unicode tables: `unicode_categories` is the crate it uses, and the older
//! Unicode version of that crate decides what counts as an accent or as punctuation.

use unicode_categories::UnicodeCategories;
use unicode_normalization::UnicodeNormalization;

use crate::vocab::Vocab;
use crate::{TokenId, TokenizerError};

const FORMAT: &str = "WordPiece vocabulary";

/// How a BERT tokenizer prepares text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WordPieceOptions {
    /// Drops control characters and turns all white space into blanks.
    pub clean_text: bool,
    /// Makes every Chinese character a word of its own.
    pub split_chinese: bool,
    /// Drops accents; `None` means: if lower-casing.
    pub strip_accents: Option<bool>,
    /// Lower-cases.
    pub lowercase: bool,
}

impl Default for WordPieceOptions {
    fn default() -> Self {
        Self { clean_text: true, split_chinese: true, strip_accents: None, lowercase: true }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct WordPiece {
    pub(crate) vocab: Vocab,
    pub(crate) options: WordPieceOptions,
    pub(crate) unknown_id: TokenId,
    /// What marks an entry that continues a word: `##`.
    pub(crate) continuation: String,
    /// Words with more characters than this are unknown.
    pub(crate) word_limit: usize,
    /// Whether decoding removes the blanks before punctuation.
    pub(crate) cleanup: bool,
}

impl WordPiece {
    /// The defaults of BERT for everything but the text preparation.
    pub(crate) fn new(vocab: Vocab, options: WordPieceOptions) -> Result<Self, TokenizerError> {
        let missing = || TokenizerError::malformed(FORMAT, "the unknown token \"[UNK]\" is not in it");
        let unknown_id = vocab.find(b"[UNK]").ok_or_else(missing)?;
        Ok(Self { vocab, options, unknown_id, continuation: "##".into(), word_limit: 100, cleanup: true })
    }

    /// Reads `vocab.txt`: one entry a line, its id the number of the line.
    pub(crate) fn parse_vocab_txt(file: &[u8], options: WordPieceOptions) -> Result<Self, TokenizerError> {
        let text = std::str::from_utf8(file).map_err(|error| {
            TokenizerError::malformed(FORMAT, format!("byte {} is not UTF-8", error.valid_up_to()))
        })?;
        let mut vocab = Vocab::new();
        for (id, line) in (0..).zip(text.lines()) {
            let entry = line.trim_end();
            // A line may repeat another or be blank; the first one keeps the spelling.
            let findable = !entry.is_empty() && vocab.find(entry.as_bytes()).is_none();
            vocab.insert(id, entry.as_bytes(), findable, FORMAT)?;
        }
        Self::new(vocab, options)
    }

    /// Appends the ids of `text`, without `[CLS]` and `[SEP]`.
    pub(crate) fn encode(&self, text: &str, ids: &mut Vec<TokenId>) {
        let normalized = self.options.normalize(text);
        let mut entry = Vec::new();
        for chunk in normalized.split(char::is_whitespace) {
            let mut word_start = 0;
            for (at, c) in chunk.char_indices() {
                if is_punctuation(c) {
                    self.encode_word(&chunk[word_start..at], &mut entry, ids);
                    word_start = at + c.len_utf8();
                    self.encode_word(&chunk[at..word_start], &mut entry, ids);
                }
            }
            self.encode_word(&chunk[word_start..], &mut entry, ids);
        }
    }

    fn encode_word(&self, word: &str, entry: &mut Vec<u8>, ids: &mut Vec<TokenId>) {
        if word.is_empty() {
            return;
        }
        let count = ids.len();
        if word.chars().nth(self.word_limit).is_some() || self.match_longest(word, entry, ids).is_none() {
            ids.truncate(count);
            ids.push(self.unknown_id);
        }
    }

    /// The longest entries from the left; `None` if some part has none.
    fn match_longest(&self, word: &str, entry: &mut Vec<u8>, ids: &mut Vec<TokenId>) -> Option<()> {
        let mut rest = word;
        while !rest.is_empty() {
            entry.clear();
            if rest.len() < word.len() {
                entry.extend_from_slice(self.continuation.as_bytes());
            }
            let mark = entry.len();
            entry.extend_from_slice(rest.as_bytes());
            let ends = rest.char_indices().rev().map(|(at, c)| at + c.len_utf8());
            let (end, id) =
                ends.filter_map(|end| Some((end, self.vocab.find(&entry[..mark + end])?))).next()?;
            ids.push(id);
            rest = &rest[end..];
        }
        Some(())
    }

    /// One token as decoding renders it, given whether it is the first.
    pub(crate) fn render(&self, id: TokenId, first: bool) -> String {
        let entry = self.vocab.bytes(id).map(String::from_utf8_lossy).unwrap_or_default();
        let rendered = match entry.strip_prefix(&self.continuation) {
            _ if first => entry.into_owned(),
            Some(rest) => rest.to_string(),
            None => format!(" {entry}"),
        };
        // Without one of these, none of the replacements below applies.
        if !self.cleanup || !rendered.contains(['.', '?', '!', ',', '\'']) && !rendered.contains(" do not") {
            return rendered;
        }
        const REPLACEMENTS: [(&str, &str); 11] = [
            (" .", "."),
            (" ?", "?"),
            (" !", "!"),
            (" ,", ","),
            (" ' ", "'"),
            (" n't", "n't"),
            (" 'm", "'m"),
            (" do not", " don't"),
            (" 's", "'s"),
            (" 've", "'ve"),
            (" 're", "'re"),
        ];
        REPLACEMENTS.iter().fold(rendered, |text, (from, to)| text.replace(from, to))
    }
}

impl WordPieceOptions {
    fn normalize(&self, text: &str) -> String {
        let mut text = text.to_string();
        if self.clean_text {
            let kept = text.chars().filter(|c| !matches!(c, '\0' | '\u{FFFD}') && !is_control(*c));
            text = kept.map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
        }
        if self.split_chinese {
            let mut spaced = String::with_capacity(text.len() * 2);
            for c in text.chars() {
                if is_chinese(c) {
                    spaced.extend([' ', c, ' ']);
                } else {
                    spaced.push(c);
                }
            }
            text = spaced;
        }
        if self.strip_accents.unwrap_or(self.lowercase) {
            text = text.nfd().filter(|c| !c.is_mark_nonspacing()).collect();
        }
        if self.lowercase {
            text = text.chars().flat_map(char::to_lowercase).collect();
        }
        text
    }
}

fn is_control(c: char) -> bool {
    !matches!(c, '\t' | '\n' | '\r') && c.is_other()
}

fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation() || c.is_punctuation()
}

fn is_chinese(c: char) -> bool {
    matches!(
        u32::from(c),
        0x4E00..=0x9FFF
            | 0x3400..=0x4DBF
            | 0x20000..=0x2A6DF
            | 0x2A700..=0x2B73F
            | 0x2B740..=0x2B81F
            | 0x2B920..=0x2CEAF
            | 0xF900..=0xFAFF
            | 0x2F800..=0x2FA1F
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(text: &str) -> Vec<TokenId> {
        let vocab = "[PAD]\n[UNK]\nun\n##aff\n##able\naff\n,\n好\n吗\ncafe\n";
        let wordpiece = WordPiece::parse_vocab_txt(vocab.as_bytes(), WordPieceOptions::default()).unwrap();
        let mut ids = Vec::new();
        wordpiece.encode(text, &mut ids);
        ids
    }

    #[test]
    fn longest_entries_from_the_left() {
        assert_eq!(encode("unaffable, AFF"), [2, 3, 4, 6, 5]);
        assert_eq!(encode("好吗 Café"), [7, 8, 9]);
        assert_eq!(encode("unx un"), [1, 2]);
        assert_eq!(encode(&"un".repeat(51)), [1]);
        assert!(encode(" \t\n").is_empty());
    }

    #[test]
    fn a_vocabulary_needs_its_unknown_token() {
        assert!(WordPiece::parse_vocab_txt(b"a\nb\n", WordPieceOptions::default()).is_err());
        assert!(WordPiece::parse_vocab_txt(b"\xFF", WordPieceOptions::default()).is_err());
    }
}
