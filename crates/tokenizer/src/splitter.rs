//! Cuts text into the pieces within which byte-level BPE merges.
//!
//! GLM-4 and every later generation use one pattern, here written by hand because it is the hot path and
//! because its only lookahead makes a general engine backtrack. Any other pattern of a `tokenizer.json` runs
//! on `fancy-regex` with a limit on backtracking.

use std::sync::OnceLock;

use unicode_general_category::{GeneralCategory, get_general_category};

use crate::TokenizerError;

/// The pattern of `ChatGLM4Tokenizer` and of every later GLM `tokenizer.json`.
pub(crate) const GLM4_PATTERN: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

#[derive(Clone, Debug)]
pub(crate) enum Splitter {
    Glm4,
    Pattern(Box<fancy_regex::Regex>),
}

impl Splitter {
    pub(crate) fn from_pattern(pattern: &str) -> Result<Self, TokenizerError> {
        const PATTERN_LIMIT: usize = 16 << 10;
        if pattern == GLM4_PATTERN {
            return Ok(Self::Glm4);
        }
        if pattern.len() > PATTERN_LIMIT {
            return Err(TokenizerError::TooLarge {
                what: "the split pattern in bytes".into(),
                size: pattern.len() as u64,
                limit: PATTERN_LIMIT as u64,
            });
        }
        fancy_regex::RegexBuilder::new(pattern)
            .backtrack_limit(100_000)
            .delegate_size_limit(8 << 20)
            .delegate_dfa_size_limit(8 << 20)
            .build()
            .map(|regex| Self::Pattern(Box::new(regex)))
            .map_err(|error| TokenizerError::malformed("split pattern", format!("{pattern:?}: {error}")))
    }

    /// Calls `piece` with every piece of `text`, in order and without gaps.
    pub(crate) fn split<'t>(&self, text: &'t str, mut piece: impl FnMut(&'t str)) {
        match self {
            Self::Glm4 => {
                let cursor = Cursor { text, classes: classes() };
                let mut start = 0;
                while start < text.len() {
                    let end = cursor.piece_end(start);
                    piece(&text[start..end]);
                    start = end;
                }
            }
            Self::Pattern(regex) => {
                let mut start = 0;
                for found in regex.find_iter(text) {
                    // A pattern that exceeds the backtracking limit leaves the rest of the text one piece:
                    // the ids still spell the text, and the time stays bounded.
                    let Ok(found) = found else { break };
                    if found.start() > start {
                        piece(&text[start..found.start()]);
                    }
                    if found.end() > found.start() {
                        piece(found.as_str());
                    }
                    start = start.max(found.end());
                }
                if start < text.len() {
                    piece(&text[start..]);
                }
            }
        }
    }
}

/// What the GLM-4 pattern distinguishes: `\p{L}`, `\p{N}`, `\s` and the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Letter,
    Number,
    Space,
    Other,
}

/// Beyond this code point nothing is a letter, a number or a space (Unicode 16: private use, tags, variation
/// selectors, unassigned planes).
const CLASSIFIED: usize = 0x40000;

/// The class of every code point below [`CLASSIFIED`], computed once.
fn classes() -> &'static [Class; CLASSIFIED] {
    static CLASSES: OnceLock<Box<[Class; CLASSIFIED]>> = OnceLock::new();
    CLASSES.get_or_init(|| {
        let mut table = Box::new([Class::Other; CLASSIFIED]);
        for (code, class) in table.iter_mut().enumerate() {
            *class = char::from_u32(code as u32).map_or(Class::Other, classify);
        }
        table
    })
}

fn classify(c: char) -> Class {
    use GeneralCategory as G;
    match get_general_category(c) {
        G::UppercaseLetter | G::LowercaseLetter | G::TitlecaseLetter | G::ModifierLetter | G::OtherLetter => {
            Class::Letter
        }
        G::DecimalNumber | G::LetterNumber | G::OtherNumber => Class::Number,
        _ if c.is_whitespace() => Class::Space,
        _ => Class::Other,
    }
}

struct Cursor<'t> {
    text: &'t str,
    classes: &'static [Class; CLASSIFIED],
}

impl Cursor<'_> {
    /// Where the piece that starts at `start` ends: the alternatives of [`GLM4_PATTERN`] in their order.
    fn piece_end(&self, start: usize) -> usize {
        let Some((first, class, second_at)) = self.at(start) else { return self.text.len() };
        if first == '\''
            && let Some(end) = self.contraction_end(second_at)
        {
            return end;
        }
        let second = self.at(second_at);
        let second_is = |wanted| second.is_some_and(|(_, class, _)| class == wanted);
        match class {
            Class::Letter => self.run_end(start, Class::Letter),
            // [^\r\n\p{L}\p{N}]?\p{L}+
            _ if class != Class::Number && !is_newline(first) && second_is(Class::Letter) => {
                self.run_end(second_at, Class::Letter)
            }
            Class::Number => self.number_end(start),
            //  ?[^\s\p{L}\p{N}]+[\r\n]*
            Class::Other => self.newlines_end(self.run_end(start, Class::Other)),
            Class::Space if first == ' ' && second_is(Class::Other) => {
                self.newlines_end(self.run_end(second_at, Class::Other))
            }
            Class::Space => self.space_end(start),
        }
    }

    /// `\s*[\r\n]+|\s+(?!\S)|\s+`: up to the last line break of the run; else all but its last character,
    /// which goes with the word that follows; else all of it.
    fn space_end(&self, start: usize) -> usize {
        let mut end = start;
        let mut last_start = start;
        let mut after_newline = None;
        while let Some((c, Class::Space, next)) = self.at(end) {
            if is_newline(c) {
                after_newline = Some(next);
            }
            last_start = end;
            end = next;
        }
        match after_newline {
            Some(after) => after,
            None if end == self.text.len() || last_start == start => end,
            None => last_start,
        }
    }

    /// `(?i:'s|'t|'re|'ve|'m|'ll|'d)` after the apostrophe. U+017F (long s) folds to s; no other letter of
    /// these has a fold outside ASCII.
    fn contraction_end(&self, at: usize) -> Option<usize> {
        let rest = &self.text.as_bytes()[at..];
        let lower = |i: usize| rest.get(i).map(u8::to_ascii_lowercase);
        match (lower(0)?, lower(1)) {
            (b's' | b't' | b'm' | b'd', _) => Some(at + 1),
            (b'r' | b'v', Some(b'e')) | (b'l', Some(b'l')) => Some(at + 2),
            (0xC5, Some(0xBF)) => Some(at + 2),
            _ => None,
        }
    }

    /// `\p{N}{1,3}`
    fn number_end(&self, start: usize) -> usize {
        let mut end = start;
        for _ in 0..3 {
            match self.at(end) {
                Some((_, Class::Number, next)) => end = next,
                _ => break,
            }
        }
        end
    }

    fn run_end(&self, start: usize, class: Class) -> usize {
        let mut end = start;
        while let Some((_, found, next)) = self.at(end)
            && found == class
        {
            end = next;
        }
        end
    }

    fn newlines_end(&self, start: usize) -> usize {
        let rest = &self.text.as_bytes()[start..];
        start + rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count()
    }

    /// The character at byte `at`, its class, and where the next one starts.
    #[inline]
    fn at(&self, at: usize) -> Option<(char, Class, usize)> {
        let c = self.text[at..].chars().next()?;
        let class = self.classes.get(c as usize).copied().unwrap_or(Class::Other);
        Some((c, class, at + c.len_utf8()))
    }
}

fn is_newline(c: char) -> bool {
    matches!(c, '\r' | '\n')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pieces<'t>(splitter: &Splitter, text: &'t str) -> Vec<&'t str> {
        let mut pieces = Vec::new();
        splitter.split(text, |piece| pieces.push(piece));
        pieces
    }

    fn by_regex() -> Splitter {
        Splitter::Pattern(Box::new(fancy_regex::Regex::new(GLM4_PATTERN).unwrap()))
    }

    #[test]
    fn the_pattern_is_recognised() {
        assert!(matches!(Splitter::from_pattern(GLM4_PATTERN).unwrap(), Splitter::Glm4));
        assert!(matches!(Splitter::from_pattern(r"\s+|\S+").unwrap(), Splitter::Pattern(_)));
        assert!(Splitter::from_pattern("(").is_err());
    }

    #[test]
    fn contractions_spaces_and_numbers() {
        let split = |text| pieces(&Splitter::Glm4, text);
        assert_eq!(
            split("I'LL go, it'\u{17f} 12345"),
            ["I", "'LL", " go", ",", " it", "'\u{17f}", " ", "123", "45"]
        );
        assert_eq!(split("a   b \n\n  c  "), ["a", "  ", " b", " \n\n", " ", " c", "  "]);
        assert_eq!(split("x!?\r\ny 好吗。"), ["x", "!?\r\n", "y", " 好吗", "。"]);
    }

    /// The regex engine has the same Unicode tables as the general-category crate for every code point.
    #[test]
    fn every_code_point_is_cut_as_the_pattern_cuts_it() {
        let regex = by_regex();
        let mut text = String::new();
        for block in (0..0x110000u32).collect::<Vec<_>>().chunks(0x1000) {
            text.clear();
            for c in block.iter().filter_map(|code| char::from_u32(*code)) {
                text.extend(['a', c, 'b', ' ', c, '1', c, '!', '\n']);
            }
            assert_eq!(pieces(&Splitter::Glm4, &text), pieces(&regex, &text), "block at U+{:04X}", block[0]);
        }
    }

    proptest! {
        #[test]
        fn as_the_pattern(text in "([ \t\n\r]|'[sStTrRvVmMlLdD\u{17f}]|[a-zA-Z]|[0-9]|\u{85}|\u{a0}|\u{3000}|\u{301}|[好吗。!?٣Ⅳ½]|\\PC){0,40}") {
            prop_assert_eq!(pieces(&Splitter::Glm4, &text), pieces(&by_regex(), &text));
        }
    }
}
