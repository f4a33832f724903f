//! Tokens of a part of a text, for tokenizers that cut nothing before they look for tokens (SentencePiece): what stands around
//! the part counts, but only as far as a token can reach.

use std::collections::HashSet;

use glimmer_tokenizer::{TokenId, Tokenizer};

/// Stands before a part instead of what does, and takes the blank that a text begins with.
const LEAD: &str = "\n";
/// Bytes of forced text that are looked at.
const AHEAD: usize = 1024;

/// Which characters can be neighbours in a token. Between two others every text is cut, whatever else is in it: tokens are
/// merged of neighbours, and a path through tokens has none across.
pub(crate) struct Context {
    neighbours: HashSet<(char, char)>,
    tokenizer: Tokenizer,
    lead: Vec<TokenId>,
}

impl Context {
    /// That of a tokenizer whose tokens spell these words.
    pub(crate) fn new(tokenizer: &Tokenizer, words: &[Vec<u8>]) -> Self {
        let mut neighbours = HashSet::new();
        for word in words.iter().filter_map(|word| std::str::from_utf8(word).ok()) {
            neighbours.extend(word.chars().zip(word.chars().skip(1)));
        }
        Context { neighbours, tokenizer: tokenizer.clone(), lead: tokenizer.encode(LEAD) }
    }

    /// The tokens with which a text goes on for sure that has `written` tokens, from its beginning if `is_whole`, and then
    /// these bytes and others. `spell` returns a token's bytes.
    pub(crate) fn tokens<'t>(
        &self,
        written: &[TokenId],
        is_whole: bool,
        bytes: &[u8],
        spell: impl Fn(TokenId) -> &'t [u8],
    ) -> Vec<TokenId> {
        let mut all: Vec<u8> = written.iter().flat_map(|&id| spell(id)).copied().collect();
        let begun = all.len();
        all.extend(&bytes[..bytes.len().min(AHEAD)]);
        // Neither what is no text counts, nor a special token.
        let whole = std::str::from_utf8(&all).map_or_else(|error| error.valid_up_to(), str::len);
        let text = std::str::from_utf8(&all[..whole]).unwrap_or_default();
        if text.len() < begun {
            return Vec::new();
        }
        let cuts = |range: std::ops::Range<usize>| range.rev().find(|&at| self.is_cut(text, at));
        let Some(end) = cuts(begun + 1..text.len()) else { return Vec::new() };
        // The latest token that begins at a cut, or the first of all.
        let mut at = begun;
        let mut first = written.len();
        while !self.is_cut(text, at) {
            let Some(before) = first.checked_sub(1) else {
                if is_whole {
                    break;
                }
                return Vec::new();
            };
            first = before;
            at -= spell(written[first]).len();
        }
        let tokens = self.encode(&text[at..end]);
        let is_same = |tokens: &Vec<TokenId>| {
            tokens.iter().flat_map(|&id| spell(id)).eq(&all[at..end]) && tokens.starts_with(&written[first..])
        };
        tokens.filter(is_same).map_or_else(Vec::new, |mut tokens| tokens.split_off(written.len() - first))
    }

    /// The tokens of a text as it stands within another.
    fn encode(&self, text: &str) -> Option<Vec<TokenId>> {
        let tokens = self.tokenizer.encode(&format!("{LEAD}{text}"));
        tokens.strip_prefix(self.lead.as_slice()).map(<[TokenId]>::to_vec)
    }

    /// Whether no token reaches across a place in a text. Where a character may join the one before it, that is not sure.
    fn is_cut(&self, text: &str, at: usize) -> bool {
        let Some((before, after)) = text.split_at_checked(at) else { return false };
        let (Some(before), Some(after)) = (before.chars().next_back(), after.chars().next()) else {
            return false;
        };
        let is_plain = |c: char| c.is_ascii() || ('\u{4e00}'..='\u{9fff}').contains(&c);
        is_plain(before) && is_plain(after) && !self.neighbours.contains(&(before, after))
    }
}
