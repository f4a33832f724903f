//! What the text of an answer passes through on its way out: white space at its ends, the finishing touches of
//! the ChatGLM models, stop strings. Each holds back only what may still change.

use crate::python;

/// Drops white space before the first and after the last character, as `str.strip` does.
#[derive(Debug, Default)]
pub(super) struct Trim {
    started: bool,
    held: String,
}

impl Trim {
    pub(super) fn feed(&mut self, text: &str) -> String {
        let text = if self.started { text } else { text.trim_start_matches(python::is_space) };
        let end = text.trim_end_matches(python::is_space).len();
        if end == 0 {
            self.held.push_str(text);
            return String::new();
        }
        self.started = true;
        let mut out = std::mem::take(&mut self.held);
        out.push_str(&text[..end]);
        self.held.push_str(&text[end..]);
        out
    }

    /// Forgets what was held; what follows is a text of its own.
    pub(super) fn finish(&mut self) {
        *self = Trim::default();
    }
}

/// `process_response` of the ChatGLM models: `[[训练时间]]` becomes the year it stands for, and in ChatGLM-6B, whose
/// tokenizer makes every comma a half-width one, punctuation beside a Chinese character becomes full-width again.
#[derive(Debug, Default)]
pub(super) struct ChatGlmText {
    punctuation: bool,
    /// Text that may be the beginning of the marker.
    held: String,
    /// The last character passed on.
    before: Option<char>,
    /// A mark of punctuation that waits for the character after it.
    waiting: Option<char>,
}

const TRAINING_TIME: &str = "[[训练时间]]";
const YEAR: &str = "2023年";

impl ChatGlmText {
    pub(super) fn with_full_width_punctuation() -> ChatGlmText {
        ChatGlmText { punctuation: true, ..ChatGlmText::default() }
    }

    pub(super) fn feed(&mut self, text: &str) -> String {
        self.held.push_str(text);
        let replaced = self.held.replace(TRAINING_TIME, YEAR);
        let keep = partial_suffix(&replaced, TRAINING_TIME);
        self.held = replaced[replaced.len() - keep..].to_owned();
        self.punctuate(&replaced[..replaced.len() - keep])
    }

    pub(super) fn finish(&mut self) -> String {
        let held = std::mem::take(&mut self.held);
        let mut out = self.punctuate(&held);
        out.extend(self.waiting.take());
        self.before = None;
        out
    }

    fn punctuate(&mut self, text: &str) -> String {
        if !self.punctuation {
            return text.to_owned();
        }
        let mut out = String::with_capacity(text.len() + 8);
        for c in text.chars() {
            if let Some(mark) = self.waiting.take() {
                out.push(if is_chinese(c) { full_width(mark) } else { mark });
                self.before = Some(mark);
            }
            if full_width(c) == c {
                out.push(c);
                self.before = Some(c);
            } else if self.before.is_some_and(is_chinese) {
                out.push(full_width(c));
                self.before = Some(c);
            } else {
                self.waiting = Some(c);
            }
        }
        out
    }
}

fn is_chinese(c: char) -> bool {
    ('\u{4e00}'..='\u{9fff}').contains(&c)
}

fn full_width(c: char) -> char {
    match c {
        ',' => '，',
        '!' => '！',
        ':' => '：',
        ';' => '；',
        '?' => '？',
        other => other,
    }
}

/// Ends the text before the first stop string.
#[derive(Debug, Default)]
pub(super) struct StopStrings {
    strings: Vec<String>,
    held: String,
    found: Option<usize>,
}

impl StopStrings {
    /// Empty strings stop nothing.
    pub(super) fn new(strings: Vec<String>) -> StopStrings {
        let strings = strings.into_iter().filter(|s| !s.is_empty()).collect();
        StopStrings { strings, held: String::new(), found: None }
    }

    pub(super) fn found(&self) -> Option<&str> {
        self.found.map(|at| self.strings[at].as_str())
    }

    /// The text up to the stop string that begins first, or as far as none can have begun.
    pub(super) fn feed(&mut self, text: &str) -> String {
        if self.found.is_some() {
            return String::new();
        }
        self.held.push_str(text);
        let first = self.strings.iter().enumerate().filter_map(|(i, s)| Some((self.held.find(s)?, i))).min();
        let keep = self.strings.iter().map(|s| partial_suffix(&self.held, s)).max().unwrap_or(0);
        let safe = self.held.len() - keep;
        match first {
            // A longer string that began earlier may still be completed.
            Some((at, _)) if at > safe => self.held.drain(..safe).collect(),
            Some((at, which)) => {
                self.found = Some(which);
                self.held.truncate(at);
                std::mem::take(&mut self.held)
            }
            None => self.held.drain(..safe).collect(),
        }
    }

    /// What was held for the beginning of a stop string that never came.
    pub(super) fn finish(&mut self) -> String {
        let mut held = std::mem::take(&mut self.held);
        if self.found.is_none()
            && let Some((at, which)) =
                self.strings.iter().enumerate().filter_map(|(i, s)| Some((held.find(s)?, i))).min()
        {
            self.found = Some(which);
            held.truncate(at);
        }
        held
    }
}

/// Length of the longest end of `text` that is a beginning of `tag`, but not all of it.
pub(super) fn partial_suffix(text: &str, tag: &str) -> usize {
    let longest = text.len().min(tag.len() - 1);
    (1..=longest)
        .rev()
        .find(|len| {
            text.is_char_boundary(text.len() - len)
                && tag.as_bytes().starts_with(&text.as_bytes()[text.len() - len..])
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_character(text: &str, mut feed: impl FnMut(&str) -> String) -> String {
        text.chars().map(|c| feed(c.encode_utf8(&mut [0; 4]))).collect()
    }

    // The right-hand sides were made by process_response of ChatGLM-6B's modeling_chatglm.py.
    #[test]
    fn chatglm_6b_gets_its_full_width_punctuation_back() {
        for (raw, finished) in [
            ("你好,世界!", "你好，世界！"),
            ("a,b,中,c", "a,b，中，c"),
            ("中,,中?!", "中，，中？!"),
            ("现在是[[训练时间]],对吗?Yes, ok: fine;", "现在是2023年，对吗？Yes, ok: fine;"),
            ("[[训练", "[[训练"),
            (",中 ,a", "，中 ,a"),
        ] {
            let mut filter = ChatGlmText::with_full_width_punctuation();
            let whole = filter.feed(raw) + &filter.finish();
            assert_eq!(whole, finished);
            let mut filter = ChatGlmText::with_full_width_punctuation();
            let streamed = by_character(raw, |c| filter.feed(c)) + &filter.finish();
            assert_eq!(streamed, finished);
        }
    }

    #[test]
    fn white_space_at_the_ends_goes() {
        let mut trim = Trim::default();
        assert_eq!(by_character("\n  a b\n\nc \n ", |c| trim.feed(c)), "a b\n\nc");
    }

    #[test]
    fn the_first_stop_string_ends_the_text() {
        for (stops, text, kept, found) in [
            (vec!["END"], "some ENtext END more", "some ENtext ", Some("END")),
            (vec!["b", "abc"], "xabcy", "x", Some("abc")),
            (vec!["abcd", "b"], "xabcy", "xa", Some("b")),
            (vec!["停"], "不停止", "不", Some("停")),
            (vec!["aab"], "aaab", "a", Some("aab")),
            (vec!["never", ""], "text nev", "text nev", None),
        ] {
            let stops: Vec<String> = stops.into_iter().map(str::to_owned).collect();
            let mut whole = StopStrings::new(stops.clone());
            let text_whole = whole.feed(text) + &whole.finish();
            assert_eq!((text_whole.as_str(), whole.found()), (kept, found));
            let mut streamed = StopStrings::new(stops);
            let text_streamed = by_character(text, |c| streamed.feed(c)) + &streamed.finish();
            assert_eq!((text_streamed.as_str(), streamed.found()), (kept, found));
        }
    }
}
