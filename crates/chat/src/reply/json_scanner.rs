//! Follows JSON text as it comes: whether it can still become one whole object or array, and where that ends.

/// Levels within one another, as serde_json's reader has it.
const MAX_DEPTH: usize = 127;

/// Where the scanner stands.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Expect {
    Value,
    /// The first value of an array, or its end.
    ValueOrEnd,
    Key,
    /// The first key of an object, or its end.
    KeyOrEnd,
    Colon,
    CommaOrEnd,
    String {
        key: bool,
    },
    Escape {
        key: bool,
        digits: u8,
    },
    /// The letters that complete `true`, `false` or `null`.
    Literal(&'static str),
    Number(Number),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    Minus,
    Zero,
    Digits,
    Point,
    Fraction,
    E,
    Sign,
    Exponent,
}

/// What a stretch of text did.
#[derive(Debug, PartialEq)]
pub(super) enum Scan {
    /// All of it belongs to the value, which goes on.
    More,
    /// The value ends after so many bytes.
    End(usize),
    /// The byte at this place cannot stand there.
    Invalid(usize),
}

/// Reads one JSON object, or an array; what serde_json refuses it refuses, halves of surrogate pairs among it.
#[derive(Debug)]
pub(super) struct JsonScanner {
    /// The brackets that it may begin with.
    roots: &'static [u8],
    expect: Expect,
    /// The digits of an escape so far.
    code: u16,
    /// Whether the other half of a surrogate pair has to follow.
    is_half: bool,
    /// Whether each open bracket is an object's.
    open: Vec<bool>,
    /// Whether the first key and its colon, or the end, were seen.
    pub(super) first_member: bool,
}

impl JsonScanner {
    pub(super) fn of_object() -> JsonScanner {
        JsonScanner {
            roots: b"{",
            expect: Expect::Value,
            code: 0,
            is_half: false,
            open: Vec::new(),
            first_member: false,
        }
    }

    pub(super) fn of_object_or_array() -> JsonScanner {
        JsonScanner { roots: b"{[", ..JsonScanner::of_object() }
    }

    /// Whether it stands within a string, or within a key.
    pub(super) fn is_in_string(&self) -> bool {
        matches!(self.expect, Expect::String { .. })
    }

    pub(super) fn scan(&mut self, text: &str) -> Scan {
        for (at, byte) in text.bytes().enumerate() {
            match self.byte(byte) {
                None => return Scan::Invalid(at),
                Some(()) if self.open.is_empty() && self.expect == Expect::CommaOrEnd => {
                    self.first_member = true;
                    return Scan::End(at + 1);
                }
                Some(()) => {}
            }
        }
        Scan::More
    }

    fn byte(&mut self, byte: u8) -> Option<()> {
        let space = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        match self.expect {
            Expect::String { key } => match byte {
                b'\\' => self.expect = Expect::Escape { key, digits: 0 },
                _ if self.is_half => return None,
                b'"' => self.expect = if key { Expect::Colon } else { Expect::CommaOrEnd },
                0..=0x1f => return None,
                _ => {}
            },
            Expect::Escape { key, digits: 0 } => match byte {
                b'u' => self.expect = Expect::Escape { key, digits: 4 },
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' if !self.is_half => {
                    self.expect = Expect::String { key }
                }
                _ => return None,
            },
            Expect::Escape { key, digits } => {
                self.code = self.code << 4 | char::from(byte).to_digit(16)? as u16;
                self.expect = match digits {
                    1 => self.character(key)?,
                    _ => Expect::Escape { key, digits: digits - 1 },
                };
            }
            Expect::Literal(rest) => {
                let (first, rest) = rest.split_at(1);
                if first.as_bytes() != [byte] {
                    return None;
                }
                self.expect = if rest.is_empty() { Expect::CommaOrEnd } else { Expect::Literal(rest) };
            }
            Expect::Number(state) => return self.number(state, byte),
            _ if space => {}
            Expect::Colon if byte == b':' => {
                self.first_member = true;
                self.expect = Expect::Value;
            }
            Expect::Key | Expect::KeyOrEnd if byte == b'"' => self.expect = Expect::String { key: true },
            Expect::KeyOrEnd if byte == b'}' => self.close(),
            Expect::ValueOrEnd if byte == b']' => self.close(),
            Expect::CommaOrEnd => match (byte, self.open.last()) {
                (b',', Some(true)) => self.expect = Expect::Key,
                (b',', Some(false)) => self.expect = Expect::Value,
                (b'}', Some(true)) | (b']', Some(false)) => self.close(),
                _ => return None,
            },
            Expect::Value | Expect::ValueOrEnd => self.begin_value(byte)?,
            _ => return None,
        }
        Some(())
    }

    /// The character of four digits, or a half of one.
    fn character(&mut self, key: bool) -> Option<Expect> {
        let is_second_half = (0xdc00..0xe000).contains(&self.code);
        if is_second_half != self.is_half {
            return None;
        }
        self.is_half = (0xd800..0xdc00).contains(&self.code);
        Some(Expect::String { key })
    }

    fn begin_value(&mut self, byte: u8) -> Option<()> {
        if self.open.is_empty() && !self.roots.contains(&byte) {
            return None;
        }
        self.expect = match byte {
            b'{' | b'[' if self.open.len() >= MAX_DEPTH => return None,
            b'{' => {
                self.open.push(true);
                Expect::KeyOrEnd
            }
            b'[' => {
                self.open.push(false);
                Expect::ValueOrEnd
            }
            b'"' => Expect::String { key: false },
            b't' => Expect::Literal("rue"),
            b'f' => Expect::Literal("alse"),
            b'n' => Expect::Literal("ull"),
            b'-' => Expect::Number(Number::Minus),
            b'0' => Expect::Number(Number::Zero),
            b'1'..=b'9' => Expect::Number(Number::Digits),
            _ => return None,
        };
        Some(())
    }

    fn number(&mut self, state: Number, byte: u8) -> Option<()> {
        let next = match (state, byte) {
            (Number::Minus, b'0') => Number::Zero,
            (Number::Minus | Number::Digits, b'0'..=b'9') => Number::Digits,
            (Number::Zero | Number::Digits, b'.') => Number::Point,
            (Number::Point | Number::Fraction, b'0'..=b'9') => Number::Fraction,
            (Number::Zero | Number::Digits | Number::Fraction, b'e' | b'E') => Number::E,
            (Number::E, b'+' | b'-') => Number::Sign,
            (Number::E | Number::Sign | Number::Exponent, b'0'..=b'9') => Number::Exponent,
            (Number::Zero | Number::Digits | Number::Fraction | Number::Exponent, _) => {
                self.expect = Expect::CommaOrEnd;
                return self.byte(byte);
            }
            _ => return None,
        };
        self.expect = Expect::Number(next);
        Some(())
    }

    fn close(&mut self) {
        self.open.pop();
        self.expect = Expect::CommaOrEnd;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_objects_end_where_they_end() {
        for text in [
            "{}",
            "{\"a\": [1, -0.5e+3, true, null, {\"b\": \"}\\\"\\u4f60\"}], \"c\": {}}",
            " {\n\"a\"\t:\"中\" }",
            "{\"a\": \"\\ud83d\\uDC4B \\u00e9\"}",
        ] {
            let mut scanner = JsonScanner::of_object();
            assert_eq!(scanner.scan(&format!("{text} and more")), Scan::End(text.len()), "{text}");
            assert!(serde_json::from_str::<serde_json::Value>(text).is_ok());
        }
    }

    #[test]
    fn broken_objects_are_told_at_once() {
        for (text, at) in [
            ("[1]", 0),
            ("{'a'", 1),
            ("{city", 1),
            ("{\"a\" 1", 5),
            ("{\"a\": 01", 7),
            ("{\"a\": 1,}", 8),
            ("{\"a\": [}", 7),
            ("{\"a\": \"\n", 7),
            ("{\"a\": tru}", 9),
            ("{\"\\udc00", 7),
            ("{\"\\ud800\"", 8),
            ("{\"\\ud800\\n", 9),
            ("{\"\\ud800\\u0061", 13),
        ] {
            assert_eq!(JsonScanner::of_object().scan(text), Scan::Invalid(at), "{text}");
        }
        for levels in [126, 127] {
            let deep = format!("{{\"a\": {}1{}}}", "[".repeat(levels), "]".repeat(levels));
            let is_whole = JsonScanner::of_object().scan(&deep) == Scan::End(deep.len());
            assert_eq!(is_whole, serde_json::from_str::<serde_json::Value>(&deep).is_ok(), "{levels}");
        }
        let deep = format!("{{\"a\": {}", "[".repeat(1_000_000));
        assert!(matches!(JsonScanner::of_object().scan(&deep), Scan::Invalid(_)));
        assert_eq!(JsonScanner::of_object().scan("{\"a\": \"unfinished"), Scan::More);
    }
}
