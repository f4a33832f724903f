//! Follows JSON text as it comes: whether it can still become one whole object, and where that ends.

/// Levels within one another, as serde_json's reader has it.
const MAX_DEPTH: usize = 128;

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
    /// All of it belongs to the object, which goes on.
    More,
    /// The object ends after so many bytes.
    End(usize),
    /// The byte at this place cannot stand there.
    Invalid(usize),
}

/// Reads one JSON object.
#[derive(Debug)]
pub(super) struct JsonScanner {
    expect: Expect,
    /// Whether each open bracket is an object's.
    open: Vec<bool>,
    /// Whether the first key and its colon, or the end, were seen.
    pub(super) first_member: bool,
}

impl JsonScanner {
    pub(super) fn new() -> JsonScanner {
        JsonScanner { expect: Expect::Value, open: Vec::new(), first_member: false }
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
                b'"' => self.expect = if key { Expect::Colon } else { Expect::CommaOrEnd },
                b'\\' => self.expect = Expect::Escape { key, digits: 0 },
                0..=0x1f => return None,
                _ => {}
            },
            Expect::Escape { key, digits: 0 } => match byte {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {
                    self.expect = Expect::String { key }
                }
                b'u' => self.expect = Expect::Escape { key, digits: 4 },
                _ => return None,
            },
            Expect::Escape { key, digits } => {
                if !byte.is_ascii_hexdigit() {
                    return None;
                }
                self.expect = if digits == 1 {
                    Expect::String { key }
                } else {
                    Expect::Escape { key, digits: digits - 1 }
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

    fn begin_value(&mut self, byte: u8) -> Option<()> {
        if self.open.is_empty() && byte != b'{' || self.open.len() >= MAX_DEPTH {
            return None;
        }
        self.expect = match byte {
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
        ] {
            let mut scanner = JsonScanner::new();
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
        ] {
            assert_eq!(JsonScanner::new().scan(text), Scan::Invalid(at), "{text}");
        }
        let deep = format!("{{\"a\": {}", "[".repeat(1_000_000));
        assert!(matches!(JsonScanner::new().scan(&deep), Scan::Invalid(_)));
        assert_eq!(JsonScanner::new().scan("{\"a\": \"unfinished"), Scan::More);
    }
}
