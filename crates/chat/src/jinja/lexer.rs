//! Cuts a template into text and tags, and the tags into tokens.
//!
//! White space goes as in Jinja2 with `trim_blocks` and `lstrip_blocks`, the way chat templates are run: the
//! newline after a block or comment goes, blanks before one go if nothing else stands before it on its line,
//! `-` takes all white space on its side, `+` keeps it. A last newline of the source is dropped.

use super::{Error, MAX_SOURCE};
use crate::python;

/// A piece of the template and the line it begins on, from 1.
#[derive(Debug, PartialEq)]
pub(super) struct Piece {
    pub(super) line: usize,
    pub(super) kind: PieceKind,
}

/// What a piece is.
#[derive(Debug, PartialEq)]
pub(super) enum PieceKind {
    /// Text that is written out as it is.
    Text(String),
    /// `{{ … }}`.
    Print(Vec<Token>),
    /// `{% … %}`.
    Block(Vec<Token>),
}

/// A token and the line it stands on, from 1.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) line: usize,
}

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Name(String),
    Str(String),
    Int(i128),
    Float(f64),
    /// An operator or bracket.
    Op(&'static str),
}

/// Two-character operators first, so that the longest is found.
const OPERATORS: [&str; 26] = [
    "==", "!=", ">=", "<=", "//", "**", "+", "-", "*", "/", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<",
    "=", ".", ":", "|", ",", ";",
];

pub(super) fn pieces(source: &str) -> Result<Vec<Piece>, Error> {
    if source.len() > MAX_SOURCE {
        return Err(Error::limit(1, "the source is longer than 1 MiB"));
    }
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let source = source.strip_suffix('\n').unwrap_or(&source);
    Lexer { rest: source, line: 1, at_line_start: true, pieces: Vec::new() }.run()
}

struct Lexer<'s> {
    rest: &'s str,
    line: usize,
    /// Whether the text that follows begins a line.
    at_line_start: bool,
    pieces: Vec<Piece>,
}

impl<'s> Lexer<'s> {
    fn run(mut self) -> Result<Vec<Piece>, Error> {
        while !self.rest.is_empty() {
            let Some((at, opening)) = next_opening(self.rest) else {
                self.take_text(self.rest.len(), None);
                break;
            };
            let sign = self.rest[at + 2..].chars().next().filter(|c| matches!(c, '-' | '+'));
            self.take_text(at, Some((opening, sign)));
            self.advance(2 + sign.map_or(0, char::len_utf8));
            let line = self.line;
            let kind = match opening {
                '#' => {
                    self.comment()?;
                    continue;
                }
                '{' => PieceKind::Print(self.tokens("}}", false)?),
                _ if self.raw_begins() => {
                    self.raw()?;
                    continue;
                }
                _ => PieceKind::Block(self.tokens("%}", true)?),
            };
            self.pieces.push(Piece { line, kind });
        }
        Ok(self.pieces)
    }

    /// The text before the next tag, less the white space that the tag takes.
    fn take_text(&mut self, len: usize, tag: Option<(char, Option<char>)>) {
        let text = &self.rest[..len];
        let kept = match tag {
            Some((_, Some('-'))) => text.trim_end_matches(python::is_space),
            Some(('%' | '#', None)) => {
                let line_start = text.rfind('\n').map_or(0, |at| at + 1);
                let starts_line = line_start > 0 || self.at_line_start;
                let blank = text[line_start..].chars().all(|c| matches!(c, ' ' | '\t'));
                if starts_line && blank { &text[..line_start] } else { text }
            }
            _ => text,
        };
        self.push_text(kept);
        self.advance(len);
    }

    fn push_text(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        match self.pieces.last_mut() {
            Some(Piece { kind: PieceKind::Text(before), .. }) => before.push_str(text),
            _ => self.pieces.push(Piece { line: self.line, kind: PieceKind::Text(text.to_owned()) }),
        }
    }

    fn advance(&mut self, len: usize) {
        let (passed, rest) = self.rest.split_at(len);
        self.line += passed.matches('\n').count();
        self.at_line_start = if passed.is_empty() { self.at_line_start } else { passed.ends_with('\n') };
        self.rest = rest;
    }

    /// After the two characters that end a tag: the white space that belongs to it.
    fn end_tag(&mut self, strips: bool, keeps: bool, trims: bool) {
        self.at_line_start = false;
        if strips {
            let blank = self.rest.len() - self.rest.trim_start_matches(python::is_space).len();
            self.advance(blank);
        } else if trims && !keeps && self.rest.starts_with('\n') {
            self.advance(1);
        }
    }

    fn comment(&mut self) -> Result<(), Error> {
        let line = self.line;
        let Some(end) = self.rest.find("#}") else {
            return Err(Error::syntax(line, "a comment is never closed"));
        };
        let sign = self.rest[..end].chars().next_back();
        self.advance(end + 2);
        self.end_tag(sign == Some('-'), sign == Some('+'), true);
        Ok(())
    }

    fn raw_begins(&self) -> bool {
        self.rest.trim_start().strip_prefix("raw").is_some_and(|after| {
            let after = after.trim_start();
            after.starts_with("%}") || after.starts_with("-%}")
        })
    }

    fn raw(&mut self) -> Result<(), Error> {
        let line = self.line;
        self.tokens("%}", false)?;
        let mut from = 0;
        while let Some(at) = self.rest[from..].find("{%").map(|at| from + at) {
            let inside = &self.rest[at + 2..];
            let sign = inside.chars().next().filter(|c| matches!(c, '-' | '+'));
            let body = inside[sign.map_or(0, char::len_utf8)..].trim_start();
            if let Some(after) = body.strip_prefix("endraw") {
                let after = after.trim_start();
                if after.starts_with("%}") || after.starts_with("-%}") {
                    self.take_text(at, Some(('%', sign)));
                    self.advance(2 + sign.map_or(0, char::len_utf8));
                    self.tokens("%}", true)?;
                    return Ok(());
                }
            }
            from = at + 2;
        }
        Err(Error::syntax(line, "a raw block is never closed"))
    }

    /// The tokens up to the end of the tag, which is passed, and with `trims` the newline after it.
    fn tokens(&mut self, end: &str, trims: bool) -> Result<Vec<Token>, Error> {
        let opened = self.line;
        let mut tokens = Vec::new();
        let mut brackets: Vec<char> = Vec::new();
        loop {
            let blank = self.rest.len() - self.rest.trim_start_matches(python::is_space).len();
            self.advance(blank);
            let Some(c) = self.rest.chars().next() else {
                return Err(Error::syntax(opened, "a tag is never closed"));
            };
            if brackets.is_empty() {
                let sign = Some(c).filter(|c| *c == '-' || (*c == '+' && end == "%}"));
                let after_sign = &self.rest[sign.map_or(0, char::len_utf8)..];
                if after_sign.starts_with(end) {
                    self.advance(sign.map_or(0, char::len_utf8) + 2);
                    self.end_tag(sign == Some('-'), sign == Some('+'), trims);
                    return Ok(tokens);
                }
            }
            let line = self.line;
            let kind = match c {
                '"' | '\'' => self.string(c)?,
                '0'..='9' => self.number()?,
                c if c == '_' || c.is_alphabetic() => {
                    let len =
                        self.rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(self.rest.len());
                    let name = self.rest[..len].to_owned();
                    self.advance(len);
                    Kind::Name(name)
                }
                _ => {
                    let Some(op) = OPERATORS.iter().find(|op| self.rest.starts_with(**op)) else {
                        return Err(Error::syntax(line, format!("unexpected character {c:?}")));
                    };
                    match c {
                        '(' => brackets.push(')'),
                        '[' => brackets.push(']'),
                        '{' => brackets.push('}'),
                        ')' | ']' | '}' if brackets.pop() != Some(c) => {
                            return Err(Error::syntax(line, format!("unexpected {c:?}")));
                        }
                        _ => {}
                    }
                    self.advance(op.len());
                    Kind::Op(op)
                }
            };
            tokens.push(Token { kind, line });
        }
    }

    /// A string literal with Python's escapes.
    fn string(&mut self, quote: char) -> Result<Kind, Error> {
        let line = self.line;
        let unclosed = || Error::syntax(line, "a string is never closed");
        let mut out = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                c if c == quote => {
                    self.advance(at + 1);
                    return Ok(Kind::Str(out));
                }
                '\\' => {
                    let (_, escaped) = chars.next().ok_or_else(unclosed)?;
                    let digits = match escaped {
                        'x' => 2,
                        'u' => 4,
                        'U' => 8,
                        _ => 0,
                    };
                    match escaped {
                        '\n' => {}
                        'n' => out.push('\n'),
                        't' => out.push('\t'),
                        'r' => out.push('\r'),
                        'b' => out.push('\u{8}'),
                        'f' => out.push('\u{c}'),
                        'v' => out.push('\u{b}'),
                        'a' => out.push('\u{7}'),
                        '0' => out.push('\0'),
                        '\\' | '\'' | '"' => out.push(escaped),
                        'x' | 'u' | 'U' => {
                            let hex: String = chars.by_ref().take(digits).map(|(_, c)| c).collect();
                            let code = u32::from_str_radix(&hex, 16).ok().filter(|_| hex.len() == digits);
                            let c = code.and_then(char::from_u32).ok_or_else(|| {
                                Error::syntax(line, format!("\\{escaped}{hex} is no character"))
                            })?;
                            out.push(c);
                        }
                        other => {
                            out.push('\\');
                            out.push(other);
                        }
                    }
                }
                c => out.push(c),
            }
        }
        Err(unclosed())
    }

    fn number(&mut self) -> Result<Kind, Error> {
        if let Some(int) = self.prefixed_int() {
            return int;
        }
        let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
        let mut len = digits(self.rest);
        let mut float = false;
        let fraction = self.rest[len..].strip_prefix('.').map_or(0, digits);
        if fraction > 0 && self.rest.as_bytes().get(len + 1).is_some_and(u8::is_ascii_digit) {
            float = true;
            len += 1 + fraction;
        }
        if let Some(exponent) = self.rest[len..].strip_prefix(['e', 'E']) {
            let sign = usize::from(exponent.starts_with(['+', '-']));
            let n = digits(&exponent[sign..]);
            if n > 0 {
                float = true;
                len += 1 + sign + n;
            }
        }
        let text = self.rest[..len].replace('_', "");
        let line = self.line;
        self.advance(len);
        let bad = || Error::syntax(line, format!("the number {text} is out of range"));
        if float {
            text.parse().map(Kind::Float).map_err(|_| bad())
        } else {
            text.parse().map(Kind::Int).map_err(|_| bad())
        }
    }
}

impl Lexer<'_> {
    /// `0xff`, `0o17` or `0b101`, if one begins here.
    fn prefixed_int(&mut self) -> Option<Result<Kind, Error>> {
        let radix = match self.rest.get(..2)?.to_ascii_lowercase().as_str() {
            "0x" => 16,
            "0o" => 8,
            "0b" => 2,
            _ => return None,
        };
        let inside = &self.rest[2..];
        let len = inside.find(|c: char| !c.is_digit(radix) && c != '_').unwrap_or(inside.len());
        let digits = inside[..len].replace('_', "");
        if digits.is_empty() {
            return None;
        }
        let line = self.line;
        self.advance(2 + len);
        let int = i128::from_str_radix(&digits, radix);
        Some(
            int.map(Kind::Int)
                .map_err(|_| Error::syntax(line, format!("the number {digits} is out of range"))),
        )
    }
}

/// The first `{{`, `{%` or `{#`: its place and second character.
fn next_opening(text: &str) -> Option<(usize, char)> {
    text.match_indices('{').find_map(|(at, _)| match text[at + 1..].chars().next() {
        Some(c @ ('{' | '%' | '#')) => Some((at, c)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(source: &str) -> String {
        let show =
            |tokens: Vec<Token>| tokens.into_iter().map(|t| format!(" {:?}", t.kind)).collect::<String>();
        pieces(source)
            .unwrap()
            .into_iter()
            .map(|piece| match piece.kind {
                PieceKind::Text(text) => format!("{text:?};"),
                PieceKind::Print(tokens) => format!("print{};", show(tokens)),
                PieceKind::Block(tokens) => format!("block{};", show(tokens)),
            })
            .collect()
    }

    // As Jinja2 3.1 cuts the same sources with trim_blocks and lstrip_blocks.
    #[test]
    fn white_space_goes_as_in_jinja2() {
        assert_eq!(
            shown("a\n  {% x %}\n  b {% x %} \n"),
            "\"a\\n\";block Name(\"x\");\"  b \";block Name(\"x\");\" \";"
        );
        assert_eq!(shown("a\n  {%+ x +%}\nb"), "\"a\\n  \";block Name(\"x\");\"\\nb\";");
        assert_eq!(
            shown("a \n{%- x -%}\n b\n{{- y -}} \n c"),
            "\"a\";block Name(\"x\");\"b\";print Name(\"y\");\"c\";"
        );
        assert_eq!(shown("  {# c #}\n  {{ y }}\nz\n"), "\"  \";print Name(\"y\");\"\\nz\";");
        assert_eq!(shown("{% raw %}{{ x }}\n  {% endraw %}\nb"), "\"{{ x }}\\nb\";");
        assert_eq!(shown("{% x %}  {% y %}"), "block Name(\"x\");\"  \";block Name(\"y\");");
        assert_eq!(shown("{% x %}\n  {% y %}"), "block Name(\"x\");block Name(\"y\");");
    }

    #[test]
    fn tags_end_outside_brackets_only() {
        assert_eq!(
            shown("{{ {'a': {}} }}"),
            "print Op(\"{\") Str(\"a\") Op(\":\") Op(\"{\") Op(\"}\") Op(\"}\");"
        );
        assert!(pieces("{{ (1] }}").is_err());
        assert!(pieces("{{ 'abc }}").is_err());
        assert!(pieces("{% if").is_err());
    }

    #[test]
    fn literals_are_read_as_python_reads_them() {
        assert_eq!(shown("{{ 0xFf 0b1_01 0o17 0 }}"), "print Int(255) Int(5) Int(15) Int(0);");
        assert_eq!(
            shown(r#"{{ 'a\n\'\u4f60\x41\d' 1.5 1_000 2e3 a.b 1.x }}"#),
            "print Str(\"a\\n'你A\\\\d\") Float(1.5) Int(1000) Float(2000.0) Name(\"a\") Op(\".\") Name(\"b\") \
             Int(1) Op(\".\") Name(\"x\");"
        );
    }
}
