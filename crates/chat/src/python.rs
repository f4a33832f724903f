//! The few spellings of Python that the official chat code leaves in a prompt: `json.dumps`, `str()` and
//! `repr()` of plain data, and what `str.strip` takes for white space.
//!
//! Source: CPython's `json.encoder` (with `ensure_ascii=False`), `float.__repr__` and `str.isspace`.
//! Integers keep the digits they were given with, however many; floats become what Python's own would.

use serde_json::Value;
use std::fmt::Write as _;

/// White space as `str.isspace` has it: Unicode's, and the four ASCII separators U+001C to U+001F.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `text.strip()`.
pub(crate) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `json.dumps(value, ensure_ascii=False)`: one line, `", "` and `": "` between items.
pub(crate) fn dumps(value: &Value) -> String {
    let mut out = String::new();
    write_json(&mut out, value, None, 0);
    out
}

/// `json.dumps(value, ensure_ascii=False, indent=indent)`.
pub(crate) fn dumps_indented(value: &Value, indent: usize) -> String {
    let mut out = String::new();
    write_json(&mut out, value, Some(indent), 0);
    out
}

/// The inside of a JSON string literal.
pub(crate) fn escape_into(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{08}' => out.push_str("\\b"),
            '\u{0c}' => out.push_str("\\f"),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
}

/// `repr(number)` for a float: the shortest digits that read back, in Python's choice of notation.
pub(crate) fn float(number: f64) -> String {
    if !number.is_finite() {
        return if number.is_nan() {
            "nan"
        } else if number > 0.0 {
            "inf"
        } else {
            "-inf"
        }
        .to_owned();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = format!("{number}");
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// `str(value)` of decoded JSON: strings as they are, everything else as `repr`.
pub(crate) fn str(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => repr(other),
    }
}

/// `repr(value)` of decoded JSON: `None`, `True`, `'text'`, `[1, 2]`, `{'a': 1}`.
pub(crate) fn repr(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(given) => match number(given) {
            Number::Int(digits) => digits,
            Number::Float(value) => float(value),
        },
        Value::String(text) => repr_str(text),
        Value::Array(items) => format!("[{}]", items.iter().map(repr).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let items: Vec<String> =
                map.iter().map(|(k, v)| format!("{}: {}", repr_str(k), repr(v))).collect();
            format!("{{{}}}", items.join(", "))
        }
    }
}

/// Whether a keyword argument can have this name: letters, digits and `_`, no digit first.
pub(crate) fn is_identifier(text: &str) -> bool {
    let part = |c: char| c == '_' || c.is_alphanumeric();
    text.chars().all(part) && text.chars().next().is_some_and(|first| !first.is_numeric())
}

/// `repr(text)`: single quotes unless the text holds those and no double ones; unprintable characters escaped.
pub(crate) fn repr_str(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if is_printable(c) => out.push(c),
            c => {
                let code = u32::from(c);
                let _ = match code {
                    0..=0xff => write!(out, "\\x{code:02x}"),
                    0x100..=0xffff => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
            }
        }
    }
    out.push(quote);
    out
}

/// `str.isprintable`, short of the unassigned code points, which need the Unicode tables.
fn is_printable(c: char) -> bool {
    c == ' '
        || !(c.is_control()
            || is_space(c)
            || matches!(u32::from(c), 0xad | 0x200b..=0x200f | 0x202a..=0x202e | 0x2060..=0x206f | 0xfeff)
            || matches!(u32::from(c), 0xe000..=0xf8ff | 0xf0000..=0x10ffff))
}

/// A JSON number as `json.loads` reads it.
pub(crate) enum Number {
    /// An `int`, by its digits.
    Int(String),
    /// A `float`; infinite where it is out of range.
    Float(f64),
}

/// `json.loads` of a number: a `float` if it has a fraction or an exponent.
pub(crate) fn number(given: &serde_json::Number) -> Number {
    let text = given.to_string();
    match text.as_str() {
        "-0" => Number::Int("0".to_owned()),
        float if float.contains(['.', 'e', 'E']) => Number::Float(float.parse().unwrap_or(f64::NAN)),
        _ => Number::Int(text),
    }
}

/// `json.dumps(number)` of a float.
pub(crate) fn json_float(number: f64) -> String {
    match number {
        f64::INFINITY => "Infinity".to_owned(),
        f64::NEG_INFINITY => "-Infinity".to_owned(),
        number if number.is_nan() => "NaN".to_owned(),
        number => float(number),
    }
}

fn write_json(out: &mut String, value: &Value, indent: Option<usize>, level: usize) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Number(given) => match number(given) {
            Number::Int(digits) => out.push_str(&digits),
            Number::Float(value) => out.push_str(&json_float(value)),
        },
        Value::String(text) => {
            out.push('"');
            escape_into(out, text);
            out.push('"');
        }
        Value::Array(items) if items.is_empty() => out.push_str("[]"),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                begin_item(out, i, indent, level + 1);
                write_json(out, item, indent, level + 1);
            }
            end_items(out, indent, level);
            out.push(']');
        }
        Value::Object(map) if map.is_empty() => out.push_str("{}"),
        Value::Object(map) => {
            out.push('{');
            for (i, (key, item)) in map.iter().enumerate() {
                begin_item(out, i, indent, level + 1);
                out.push('"');
                escape_into(out, key);
                out.push_str("\": ");
                write_json(out, item, indent, level + 1);
            }
            end_items(out, indent, level);
            out.push('}');
        }
    }
}

fn begin_item(out: &mut String, index: usize, indent: Option<usize>, level: usize) {
    if index > 0 {
        out.push_str(if indent.is_some() { "," } else { ", " });
    }
    new_line(out, indent, level);
}

fn end_items(out: &mut String, indent: Option<usize>, level: usize) {
    new_line(out, indent, level);
}

fn new_line(out: &mut String, indent: Option<usize>, level: usize) {
    if let Some(indent) = indent {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', indent * level));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    // The right-hand sides were printed by CPython 3.11.
    #[test]
    fn json_is_written_as_python_writes_it() {
        let value = json!({"a": [1, 2.5, true, null], "k": {}, "l": [], "s": "é\"\\/\n\u{8}\u{1f}\u{7f}<&'"});
        assert_eq!(
            dumps(&value),
            "{\"a\": [1, 2.5, true, null], \"k\": {}, \"l\": [], \"s\": \"é\\\"\\\\/\\n\\b\\u001f\u{7f}<&'\"}"
        );
        assert_eq!(
            dumps_indented(&json!({"a": [1, {"b": 2}], "c": []}), 4),
            "{\n    \"a\": [\n        1,\n        {\n            \"b\": 2\n        }\n    ],\n    \"c\": []\n}"
        );
    }

    #[test]
    fn floats_are_written_as_python_writes_them() {
        for (number, text) in [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (1e-4, "0.0001"),
            (1e-5, "1e-05"),
            (1.25e-7, "1.25e-07"),
            (123456.789, "123456.789"),
        ] {
            assert_eq!(float(number), text);
        }
    }

    /// As CPython 3.11 prints `json.dumps(json.loads(text))` and `repr(json.loads(text))`.
    #[test]
    fn numbers_are_written_as_python_writes_them() {
        for (text, dumped, shown) in [
            ("18446744073709551616", "18446744073709551616", "18446744073709551616"),
            ("-9223372036854775809", "-9223372036854775809", "-9223372036854775809"),
            (
                "123456789012345678901234567890123456789012345",
                "123456789012345678901234567890123456789012345",
                "123456789012345678901234567890123456789012345",
            ),
            ("-0", "0", "0"),
            ("-0.0", "-0.0", "-0.0"),
            ("1E2", "100.0", "100.0"),
            ("2.50", "2.5", "2.5"),
            ("1e20", "1e+20", "1e+20"),
            ("1e400", "Infinity", "inf"),
            ("-1e400", "-Infinity", "-inf"),
            ("0.1000000000000000055511151231257827", "0.1", "0.1"),
        ] {
            let value: Value = serde_json::from_str(text).unwrap();
            assert_eq!((dumps(&value).as_str(), repr(&value).as_str()), (dumped, shown), "{text}");
        }
    }

    #[test]
    fn plain_data_prints_as_in_python() {
        assert_eq!(
            repr(&json!({"a": null, "b": [true, "it's", "\"", "x\ny\u{0}"]})),
            "{'a': None, 'b': [True, \"it's\", '\"', 'x\\ny\\x00']}"
        );
        assert_eq!(str(&json!("plain")), "plain");
        assert_eq!(strip("\u{a0}\u{1c} a \u{3000}\n"), "a");
        assert_eq!(strip("\u{200b}a"), "\u{200b}a");
    }
}
