//! ChatGLM3's calls, `tool_call(city='北京', days=3)`: keyword arguments of Python literals, read and never run.

use crate::python;
use serde_json::{Map, Number, Value};

/// Levels of lists and dictionaries within one another.
const MAX_DEPTH: usize = 64;

/// The arguments of a call of `tool_call`, if the text is one and nothing else.
pub(super) fn arguments(text: &str) -> Option<Map<String, Value>> {
    let mut reader = Reader { rest: text.trim() };
    reader.expect("tool_call")?;
    reader.expect("(")?;
    let mut arguments = Map::new();
    while !reader.eat(")") {
        if reader.eat("**") {
            let Value::Object(more) = reader.value(0)? else { return None };
            arguments.extend(more);
        } else {
            let name = reader.name()?;
            reader.expect("=")?;
            arguments.insert(name, reader.value(0)?);
        }
        if !reader.eat(",") {
            reader.expect(")")?;
            break;
        }
    }
    reader.space();
    reader.rest.is_empty().then_some(arguments)
}

struct Reader<'t> {
    rest: &'t str,
}

impl Reader<'_> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, text: &str) -> bool {
        self.space();
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, text: &str) -> Option<()> {
        self.eat(text).then_some(())
    }

    fn name(&mut self) -> Option<String> {
        self.space();
        let len = self.rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(len);
        self.rest = rest;
        python::is_identifier(name).then(|| name.to_owned())
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.space();
        match self.rest.chars().next()? {
            '\'' | '"' => {
                let mut text = String::new();
                loop {
                    self.string(&mut text)?;
                    self.space();
                    if !self.rest.starts_with(['\'', '"']) {
                        return Some(Value::String(text));
                    }
                }
            }
            open @ ('[' | '(') => {
                let close = if open == '[' { "]" } else { ")" };
                self.rest = &self.rest[1..];
                let mut items = Vec::new();
                while !self.eat(close) {
                    items.push(self.value(depth + 1)?);
                    if !self.eat(",") {
                        self.expect(close)?;
                        break;
                    }
                }
                Some(Value::Array(items))
            }
            '{' => {
                self.rest = &self.rest[1..];
                let mut map = Map::new();
                while !self.eat("}") {
                    let key = match self.value(depth + 1)? {
                        Value::String(key) => key,
                        Value::Number(number) => number.to_string(),
                        _ => return None,
                    };
                    self.expect(":")?;
                    map.insert(key, self.value(depth + 1)?);
                    if !self.eat(",") {
                        self.expect("}")?;
                        break;
                    }
                }
                Some(Value::Object(map))
            }
            '0'..='9' | '-' | '+' | '.' => self.number(),
            _ => match self.name()?.as_str() {
                "True" | "true" => Some(Value::Bool(true)),
                "False" | "false" => Some(Value::Bool(false)),
                "None" | "null" => Some(Value::Null),
                _ => None,
            },
        }
    }

    fn number(&mut self) -> Option<Value> {
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '+' | '-');
        let mut len = self.rest.find(|c| !word(c)).unwrap_or(self.rest.len());
        // A sign belongs to the number at its start and after an exponent's letter only.
        for (at, c) in self.rest[..len].char_indices().skip(1) {
            if matches!(c, '+' | '-') && !self.rest[..at].ends_with(['e', 'E']) {
                len = at;
                break;
            }
        }
        let (text, rest) = self.rest.split_at(len);
        self.rest = rest;
        let digits = text.replace('_', "");
        let digits = digits.strip_prefix('+').unwrap_or(&digits);
        let whole = digits.strip_prefix('-').unwrap_or(digits);
        if whole.starts_with(|c| matches!(c, '1'..='9')) && whole.bytes().all(|c| c.is_ascii_digit()) {
            return digits.parse().ok().map(Value::Number);
        }
        if let Ok(int) = digits.parse::<i64>() {
            return Some(Value::Number(int.into()));
        }
        if !digits.contains(|c: char| c.is_ascii_digit())
            || digits.contains(|c: char| c.is_ascii_alphabetic() && !matches!(c, 'e' | 'E'))
        {
            return None;
        }
        digits.parse::<f64>().ok().and_then(Number::from_f64).map(Value::Number)
    }

    /// One string literal, single or triple, appended to `out`.
    fn string(&mut self, out: &mut String) -> Option<()> {
        let quote = self.rest.chars().next()?;
        let triple = quote.to_string().repeat(3);
        let end = if self.rest.starts_with(&triple) { triple } else { quote.to_string() };
        self.rest = &self.rest[end.len()..];
        loop {
            if let Some(rest) = self.rest.strip_prefix(end.as_str()) {
                self.rest = rest;
                return Some(());
            }
            let c = self.rest.chars().next()?;
            self.rest = &self.rest[c.len_utf8()..];
            match c {
                '\\' => self.escape(out)?,
                '\n' if end.len() == 1 => return None,
                c => out.push(c),
            }
        }
    }

    fn escape(&mut self, out: &mut String) -> Option<()> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        let digits = match c {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        match c {
            '\n' => {}
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            '0' => out.push('\0'),
            '\\' | '\'' | '"' => out.push(c),
            'x' | 'u' | 'U' => {
                let hex = self.rest.get(..digits)?;
                out.push(char::from_u32(u32::from_str_radix(hex, 16).ok()?)?);
                self.rest = &self.rest[digits..];
            }
            other => {
                out.push('\\');
                out.push(other);
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    // As ast.literal_eval reads each argument.
    #[test]
    fn literals_are_read() {
        let read = |text| arguments(text).map(Value::Object);
        assert_eq!(read("tool_call(city='北京', days=3)"), Some(json!({"city": "北京", "days": 3})));
        assert_eq!(read("tool_call()"), Some(json!({})));
        assert_eq!(
            read("tool_call(\n    a=[1, -2.5, 1e3, +4,],\n    b={'k': None, \"t\": (True, False)},\n)"),
            Some(json!({"a": [1, -2.5, 1000.0, 4], "b": {"k": null, "t": [true, false]}}))
        );
        assert_eq!(
            read(
                r#"tool_call(s='it\'s\n\u4f60' "and", t="""a"b
c""")"#
            ),
            Some(json!({"s": "it's\n你and", "t": "a\"b\nc"}))
        );
    }

    #[test]
    fn numbers_keep_their_digits() {
        let digits = "123456789012345678901234567890123456789012345";
        for (literal, json) in [
            (digits, digits),
            ("-18_446_744_073_709_551_616", "-18446744073709551616"),
            ("-0", "0"),
            ("1e3", "1000.0"),
        ] {
            let read = arguments(&format!("tool_call(n={literal})")).unwrap();
            assert_eq!(read["n"].to_string(), json);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "tool_call(a=__import__('os').system('x'))",
            "tool_call(a=1+1)",
            "tool_call(a=f())",
            "tool_call('positional')",
            "tool_call(a='open)",
            "tool_call(a=1",
            "tool_call(a=1) tool_call(b=2)",
            "tool_call(a=nan)",
            "tool_call(a=0x10)",
            "print(1)",
            "",
        ] {
            assert_eq!(arguments(text), None, "{text}");
        }
        assert_eq!(arguments(&format!("tool_call(a={})", "[".repeat(100_000))), None);
    }
}
