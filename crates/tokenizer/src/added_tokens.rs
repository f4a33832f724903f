//! Tokens outside the model's own segmentation: roles, masks, tool tags.
//!
//! Their spellings are recognised in text only where the official tokenizer does so, with the flags and the
//! leftmost-longest rule of Hugging Face's `added_vocabulary.rs`
//! (<https://github.com/huggingface/tokenizers>).

use std::collections::HashMap;
use std::ops::Range;

use unicode_general_category::{GeneralCategory, get_general_category};

use crate::trie::Trie;
use crate::{TokenId, TokenizerError};

/// The most added tokens accepted; GLM's largest list has 36.
const COUNT_LIMIT: usize = 1 << 16;
/// The longest spelling accepted, in bytes.
const SPELLING_LIMIT: usize = 512;

/// A token added beside a model's vocabulary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedToken {
    /// Its spelling.
    pub content: String,
    /// Its id.
    pub id: TokenId,
    /// Whether decoding may leave it out ([`crate::Tokenizer::decode_skip_special`]).
    pub special: bool,
    /// Whether it is recognised only where no word character touches it.
    pub single_word: bool,
    /// Whether it swallows the white space to its left.
    pub lstrip: bool,
    /// Whether it swallows the white space to its right.
    pub rstrip: bool,
    /// Whether it is looked for after normalisation.
    pub normalized: bool,
}

impl AddedToken {
    /// A special token with every other flag off.
    pub fn special(content: &str, id: TokenId) -> Self {
        Self {
            content: content.into(),
            id,
            special: true,
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: false,
        }
    }
}

/// All added tokens of a tokenizer and the search for their spellings.
#[derive(Clone, Debug)]
pub(crate) struct AddedTokens {
    tokens: Vec<AddedToken>,
    by_id: HashMap<TokenId, usize>,
    by_content: HashMap<String, usize>,
    /// Spellings looked for first, and those looked for in what lies between them.
    plain: Finder,
    normalized: Finder,
}

/// A stretch of text: an added token, or text between added tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stretch {
    Token(TokenId),
    Text(Range<usize>),
}

impl AddedTokens {
    /// Only the tokens that `recognised` accepts are ever found in text.
    pub(crate) fn new(
        tokens: Vec<AddedToken>,
        recognised: impl Fn(&AddedToken) -> bool,
    ) -> Result<Self, TokenizerError> {
        let too_large = |what: &str, size: usize, limit: usize| {
            Err(TokenizerError::TooLarge { what: what.into(), size: size as u64, limit: limit as u64 })
        };
        if tokens.len() > COUNT_LIMIT {
            return too_large("the number of added tokens", tokens.len(), COUNT_LIMIT);
        }
        let mut added = Self {
            by_id: HashMap::with_capacity(tokens.len()),
            by_content: HashMap::with_capacity(tokens.len()),
            plain: Finder::new(),
            normalized: Finder::new(),
            tokens,
        };
        for (at, token) in added.tokens.iter().enumerate() {
            let malformed = |what: &str| {
                let what = format!("added token {:?} (id {}) {what}", token.content, token.id);
                Err(TokenizerError::malformed("added tokens", what))
            };
            if token.content.is_empty() {
                return malformed("is empty");
            }
            if token.content.len() > SPELLING_LIMIT {
                return too_large("the length of an added token", token.content.len(), SPELLING_LIMIT);
            }
            if token.id >= crate::vocab::ID_LIMIT {
                return too_large(
                    "the id of an added token",
                    token.id as usize,
                    crate::vocab::ID_LIMIT as usize,
                );
            }
            if added.by_id.insert(token.id, at).is_some() {
                return malformed("shares its id with another");
            }
            if added.by_content.insert(token.content.clone(), at).is_some() {
                return malformed("is listed twice");
            }
            if recognised(token) {
                let finder = if token.normalized { &mut added.normalized } else { &mut added.plain };
                finder.insert(&token.content, at);
            }
        }
        Ok(added)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &AddedToken> {
        self.tokens.iter()
    }

    pub(crate) fn by_id(&self, id: TokenId) -> Option<&AddedToken> {
        self.by_id.get(&id).map(|at| &self.tokens[*at])
    }

    pub(crate) fn id_of(&self, content: &str) -> Option<TokenId> {
        self.by_content.get(content).map(|at| self.tokens[*at].id)
    }

    /// Cuts `text` at every recognised spelling. Empty stretches are left out.
    pub(crate) fn split(&self, text: &str) -> Vec<Stretch> {
        let mut stretches = Vec::new();
        for stretch in self.find(&self.plain, text, 0..text.len()) {
            match stretch {
                Stretch::Text(range) => stretches.extend(self.find(&self.normalized, text, range)),
                token => stretches.push(token),
            }
        }
        stretches
    }

    fn find(&self, finder: &Finder, text: &str, range: Range<usize>) -> Vec<Stretch> {
        let mut stretches = Vec::new();
        let (offset, text) = (range.start, &text[range]);
        let mut done = 0;
        let mut from = 0;
        while let Some((start, end, at)) = finder.next(text, from) {
            from = end;
            let token = &self.tokens[at];
            let (before, after) = (&text[..start], &text[end..]);
            let touches_word =
                before.chars().next_back().is_some_and(is_word) || after.chars().next().is_some_and(is_word);
            if token.single_word && touches_word {
                continue;
            }
            let start = if token.lstrip { done.max(before.trim_end_matches(is_space).len()) } else { start };
            let end = if token.rstrip {
                end + (after.len() - after.trim_start_matches(is_space).len())
            } else {
                end
            };
            if done < start {
                stretches.push(Stretch::Text(offset + done..offset + start));
            }
            stretches.push(Stretch::Token(token.id));
            done = end;
        }
        if done < text.len() {
            stretches.push(Stretch::Text(offset + done..offset + text.len()));
        }
        stretches
    }
}

/// Leftmost-longest search for a set of spellings.
#[derive(Clone, Debug)]
struct Finder {
    trie: Trie,
    first_bytes: Box<[bool; 256]>,
}

impl Finder {
    fn new() -> Self {
        Self { trie: Trie::new(), first_bytes: Box::new([false; 256]) }
    }

    fn insert(&mut self, content: &str, at: usize) {
        self.trie.insert(content, at as u32);
        self.first_bytes[content.as_bytes()[0] as usize] = true;
    }

    /// The first match at or after `from`: its start, its end, and the index of its token.
    fn next(&self, text: &str, mut from: usize) -> Option<(usize, usize, usize)> {
        if self.trie.is_empty() {
            return None;
        }
        loop {
            let rest = text.as_bytes().get(from..)?;
            from += rest.iter().position(|byte| self.first_bytes[*byte as usize])?;
            if let Some((len, at)) = self.trie.longest_prefix(&text[from..]) {
                return Some((from, from + len, at as usize));
            }
            from += text[from..].chars().next().map_or(1, char::len_utf8);
        }
    }
}

/// `\w` of Rust's regex crate.
fn is_word(c: char) -> bool {
    use GeneralCategory as G;
    c.is_alphabetic()
        || matches!(
            get_general_category(c),
            G::NonspacingMark
                | G::SpacingMark
                | G::EnclosingMark
                | G::DecimalNumber
                | G::ConnectorPunctuation
        )
        || matches!(c, '\u{200C}' | '\u{200D}')
}

/// White space as Python's `str.strip` and the regex `\s` agree on it, and U+001C to U+001F, which only
/// Python strips (ChatGLM-6B's wrapper is Python; no other GLM token strips anything).
fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1C}'..='\u{1F}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(content: &str, id: TokenId) -> AddedToken {
        AddedToken::special(content, id)
    }

    fn text(range: Range<usize>) -> Stretch {
        Stretch::Text(range)
    }

    #[test]
    fn leftmost_longest_without_empty_stretches() {
        let added = AddedTokens::new(vec![token("<a>", 1), token("<a>b", 2)], |_| true).unwrap();
        assert_eq!(added.split("x<a>b<a>"), [text(0..1), Stretch::Token(2), Stretch::Token(1)]);
        assert_eq!(added.split(""), []);
        assert_eq!(added.split("<<a>"), [text(0..1), Stretch::Token(1)]);
    }

    #[test]
    fn flags() {
        let strip = AddedToken { lstrip: true, rstrip: true, ..token("<s>", 1) };
        let word = AddedToken { single_word: true, ..token("cat", 2) };
        let late = AddedToken { normalized: true, ..token("x<s", 3) };
        let added = AddedTokens::new(vec![strip, word, late], |_| true).unwrap();
        assert_eq!(
            added.split("a \t<s>\u{3000}<s> b"),
            [text(0..1), Stretch::Token(1), Stretch::Token(1), text(13..14)]
        );
        assert_eq!(added.split("cats cat"), [text(0..5), Stretch::Token(2)]);
        assert_eq!(added.split("x<s>"), [text(0..1), Stretch::Token(1)]);
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        assert!(AddedTokens::new(vec![token("", 1)], |_| true).is_err());
        assert!(AddedTokens::new(vec![token("a", 1), token("b", 1)], |_| true).is_err());
        assert!(AddedTokens::new(vec![token("a", 1), token("a", 2)], |_| true).is_err());
        assert!(AddedTokens::new(vec![token("a", u32::MAX)], |_| true).is_err());
    }
}
