//! Python's two ways of formatting: `'%05d' % value` and `'{:>8.2f}'.format(value)`.
//!
//! Source: the Python library reference, "printf-style String Formatting" and "Format Specification Mini-Language".

use super::Error;
use super::arguments::Arguments;
use super::interpreter::Interpreter;
use super::value::{Number, Text, TextBuilder, Value, write_repr};
use crate::python;
use std::iter::repeat_n;

/// Widest field, and most digits after a point.
const MAX_WIDTH: usize = 4096;
const MAX_PRECISION: usize = 512;

/// How one value is laid out.
#[derive(Clone, Copy)]
struct Layout {
    fill: char,
    /// `<`, `>`, `^` or `=`: the padding stands after the sign.
    align: Option<char>,
    /// What stands before numbers that are not negative: `+`, a blank, or for `-` nothing.
    sign: char,
    /// `#`: prefixes of bases, points and zeros that would be left out.
    alternate: bool,
    width: usize,
    grouping: Option<char>,
    precision: Option<usize>,
}

impl Default for Layout {
    fn default() -> Layout {
        Layout {
            fill: ' ',
            align: None,
            sign: '-',
            alternate: false,
            width: 0,
            grouping: None,
            precision: None,
        }
    }
}

/// A number's digits, with what stands before them.
struct Digits {
    negative: bool,
    prefix: &'static str,
    digits: String,
}

impl Interpreter<'_> {
    /// `pattern % values`.
    pub(super) fn percent_format(&mut self, pattern: &Text, values: &Value) -> Result<Text, Error> {
        let mut given = match values {
            Value::List(list) if list.tuple => list.items.clone(),
            one => vec![one.clone()],
        }
        .into_iter();
        let mut next = || given.next().ok_or_else(|| Error::value("`%` was given too few values"));
        let mut out = TextBuilder::default();
        let mut rest = pattern.as_str();
        self.charge(rest.len())?;
        while let Some(at) = rest.find('%') {
            let start = pattern.len() - rest.len();
            out.push_slice(pattern, start, start + at);
            let mut spec = Cursor(&rest[at + 1..]);
            let key = if spec.eat('(') {
                let end = spec.0.find(')').ok_or_else(|| Error::value("`%(` is never closed"))?;
                let key = &spec.0[..end];
                spec.0 = &spec.0[end + 1..];
                Some(key)
            } else {
                None
            };
            let mut layout = Layout::default();
            while let Some(flag) = spec.one_of("#0- +") {
                match flag {
                    '#' => layout.alternate = true,
                    '0' if layout.align.is_none() => (layout.fill, layout.align) = ('0', Some('=')),
                    '-' => (layout.fill, layout.align) = (' ', Some('<')),
                    ' ' if layout.sign == '-' => layout.sign = ' ',
                    '+' => layout.sign = '+',
                    _ => {}
                }
            }
            let mut size = |spec: &mut Cursor<'_>, most| match spec.eat('*') {
                true => match next()? {
                    Value::Int(int) => bounded(int, most),
                    _ => Err(Error::value("`*` takes an int")),
                },
                false => spec.size(most).map(Option::unwrap_or_default),
            };
            layout.width = size(&mut spec, MAX_WIDTH)?;
            if spec.eat('.') {
                layout.precision = Some(size(&mut spec, MAX_PRECISION)?);
            }
            spec.one_of("hlL");
            let conversion = spec.next().ok_or_else(|| Error::value("a format ends after `%`"))?;
            rest = spec.0;
            if conversion == '%' {
                out.push_str("%", false);
                continue;
            }
            let value = match (key, values) {
                (None, _) => next()?,
                (Some(key), Value::Dict(dict)) => {
                    dict.get(key).cloned().ok_or_else(|| Error::value(format!("`%` was given no `{key}`")))?
                }
                (Some(_), _) => return Err(Error::value("`%(name)s` takes a dictionary")),
            };
            self.converted(&mut out, &value, conversion, layout)?;
        }
        out.push_slice(pattern, pattern.len() - rest.len(), pattern.len());
        let mapping = matches!(values, Value::Dict(_)) || matches!(values, Value::List(list) if !list.tuple);
        if given.next().is_some() && !mapping {
            return Err(Error::value("`%` was given too many values"));
        }
        Ok(out.finish())
    }

    fn converted(
        &mut self,
        out: &mut TextBuilder,
        value: &Value,
        conversion: char,
        mut layout: Layout,
    ) -> Result<(), Error> {
        let number = value.number();
        let cannot =
            || Error::value(format!("`%{conversion}` cannot write a value of kind {}", value.kind()));
        match conversion {
            's' | 'r' | 'a' => {
                let text = if conversion == 's' { self.text_of(value)? } else { self.repr_of(value)? };
                // Zeros are for numbers.
                layout.fill = ' ';
                layout.align = layout.align.filter(|align| *align == '<').or(Some('>'));
                self.padded(out, &text, layout)
            }
            'c' => {
                let text = match (value, number) {
                    (Value::Str(text), _) if text.as_str().chars().count() == 1 => text.clone(),
                    (_, Some(Number::Int(code))) => {
                        let c = u32::try_from(code).ok().and_then(char::from_u32).ok_or_else(cannot)?;
                        Text::template(&c.to_string())
                    }
                    _ => return Err(cannot()),
                };
                layout.align = layout.align.filter(|align| *align == '<').or(Some('>'));
                self.padded(out, &text, Layout { fill: ' ', precision: None, ..layout })
            }
            'd' | 'i' | 'u' | 'o' | 'x' | 'X' => {
                let mut digits = match (value, number) {
                    (Value::Big(digits), _) if matches!(conversion, 'd' | 'i' | 'u') => big(digits),
                    (_, Some(Number::Int(int))) => int_digits(int, conversion, layout.alternate),
                    (_, Some(Number::Float(float)))
                        if float.is_finite() && matches!(conversion, 'd' | 'i' | 'u') =>
                    {
                        big(&format!("{:.0}", float.trunc()))
                    }
                    _ => return Err(cannot()),
                };
                let least = layout.precision.unwrap_or(0);
                let missing = least.saturating_sub(digits.digits.len());
                digits.digits.insert_str(0, &"0".repeat(missing));
                self.number(out, digits, layout)
            }
            'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
                let float = value.as_f64().ok_or_else(cannot)?;
                let precision = layout.precision.unwrap_or(6);
                self.number(out, float_digits(float, conversion, precision, layout.alternate), layout)
            }
            _ => Err(Error::value(format!("`%` has no conversion {conversion:?}"))),
        }
    }

    /// `pattern.format(…)`.
    pub(super) fn brace_format(&mut self, pattern: &Text, args: &Arguments) -> Result<Value, Error> {
        let mut out = TextBuilder::default();
        let mut automatic = 0;
        self.braces(&mut out, pattern, args, &mut automatic, 0)?;
        Ok(Value::Str(out.finish()))
    }

    fn braces(
        &mut self,
        out: &mut TextBuilder,
        pattern: &Text,
        args: &Arguments,
        automatic: &mut usize,
        depth: usize,
    ) -> Result<(), Error> {
        let single = || Error::value("a single `{` or `}` in a format; twice is itself");
        let s = pattern.as_str();
        let mut from = 0;
        while let Some(at) = s[from..].find(['{', '}']).map(|at| from + at) {
            out.push_slice(pattern, from, at);
            if s[at + 1..].starts_with(&s[at..at + 1]) {
                out.push_slice(pattern, at, at + 1);
                from = at + 2;
                continue;
            }
            if s[at..].starts_with('}') {
                return Err(single());
            }
            let end = closing(&s[at + 1..]).map(|len| at + 1 + len).ok_or_else(single)?;
            let field = &s[at + 1..end];
            from = end + 1;
            let cut = field.find(['!', ':']).unwrap_or(field.len());
            let (name, mut rest) = field.split_at(cut);
            let value = self.field(name, args, automatic)?;
            let value = match rest.strip_prefix('!') {
                None => value,
                Some(conversion) => {
                    let kind = conversion.chars().next();
                    rest = kind.map_or(conversion, |c| &conversion[c.len_utf8()..]);
                    match kind {
                        Some('s') => Value::Str(self.text_of(&value)?),
                        Some('r' | 'a') => Value::Str(self.repr_of(&value)?),
                        _ => return Err(Error::value("a format's `!` takes s, r or a")),
                    }
                }
            };
            let spec = match rest.strip_prefix(':') {
                None if rest.is_empty() => Text::template(""),
                None => return Err(Error::value("a format's field ends with `:` and a layout")),
                Some(_) if depth > 0 => return Err(Error::value("a format's layouts are nested too deeply")),
                Some(spec) => {
                    let mut text = TextBuilder::default();
                    self.braces(&mut text, &pattern.part(spec), args, automatic, depth + 1)?;
                    text.finish()
                }
            };
            self.laid_out(out, &value, spec.as_str())?;
        }
        out.push_slice(pattern, from, s.len());
        Ok(())
    }

    /// The value of a field: `""`, `0`, `name`, with `.attribute` and `[item]` after it.
    fn field(&mut self, name: &str, args: &Arguments, automatic: &mut usize) -> Result<Value, Error> {
        let end = name.find(['.', '[']).unwrap_or(name.len());
        let (first, mut path) = name.split_at(end);
        let value = match first.parse::<usize>() {
            Ok(index) => args.positional.get(index),
            Err(_) if first.is_empty() => {
                *automatic += 1;
                args.positional.get(*automatic - 1)
            }
            Err(_) => args.named.iter().find(|(name, _)| name == first).map(|(_, value)| value),
        };
        let missing = || Error::value(format!("`format` was given no value for `{{{first}}}`"));
        let mut value = value.cloned().ok_or_else(missing)?;
        while !path.is_empty() {
            let unclosed = || Error::value("a format's `[` is never closed");
            if let Some(inside) = path.strip_prefix('[') {
                let end = inside.find(']').ok_or_else(unclosed)?;
                let index = &inside[..end];
                let index = index.parse().map_or_else(|_| Value::template(index), Value::Int);
                value = self.item(&value, &index)?;
                path = &inside[end + 1..];
            } else {
                let inside = path.strip_prefix('.').ok_or_else(unclosed)?;
                let end = inside.find(['.', '[']).unwrap_or(inside.len());
                value = self.attribute(&value, &inside[..end])?;
                path = &inside[end..];
            }
        }
        Ok(value)
    }

    /// `format(value, spec)`.
    fn laid_out(&mut self, out: &mut TextBuilder, value: &Value, spec: &str) -> Result<(), Error> {
        if spec.is_empty() {
            let text = self.text_of(value)?;
            self.charge(text.size())?;
            out.push(&text);
            return Ok(());
        }
        let bad = || Error::value(format!("a value of kind {} has no layout {spec:?}", value.kind()));
        let mut layout = Layout::default();
        let mut cursor = Cursor(spec);
        let mut chars = spec.chars();
        if let (Some(fill), Some(align @ ('<' | '>' | '^' | '='))) = (chars.next(), chars.next()) {
            (layout.fill, layout.align) = (fill, Some(align));
            cursor.0 = chars.as_str();
        } else {
            layout.align = cursor.one_of("<>^=");
        }
        layout.sign = cursor.one_of("+- ").unwrap_or('-');
        cursor.eat('z');
        layout.alternate = cursor.eat('#');
        if cursor.0.starts_with('0') && layout.align.is_none() {
            layout.fill = '0';
            layout.align = matches!(value, Value::Str(_)).then_some('<').or(Some('='));
        }
        layout.width = cursor.size(MAX_WIDTH)?.unwrap_or(0);
        layout.grouping = cursor.one_of(",_");
        if cursor.eat('.') {
            layout.precision = Some(cursor.size(MAX_PRECISION)?.ok_or_else(bad)?);
        }
        let kind = cursor.next();
        if !cursor.0.is_empty() {
            return Err(bad());
        }
        match (value, kind) {
            (Value::Str(text), None | Some('s')) if layout.align != Some('=') && layout.sign == '-' => {
                layout.align = layout.align.or(Some('<'));
                self.padded(out, text, layout)
            }
            (Value::Str(_), _) => Err(bad()),
            (Value::Big(digits), None | Some('d' | 'n')) => self.number(out, big(digits), layout),
            _ => match (value.number().ok_or_else(bad)?, kind) {
                (Number::Int(int), None | Some('d' | 'n' | 'b' | 'o' | 'x' | 'X'))
                    if layout.precision.is_none() =>
                {
                    self.number(out, int_digits(int, kind.unwrap_or('d'), layout.alternate), layout)
                }
                (Number::Int(code), Some('c')) => {
                    let c = u32::try_from(code).ok().and_then(char::from_u32).ok_or_else(bad)?;
                    layout.align = layout.align.or(Some('<'));
                    self.padded(out, &Text::template(&c.to_string()), layout)
                }
                (number, Some('%')) => {
                    let precision = layout.precision.unwrap_or(6);
                    let mut digits = float_digits(number.as_f64() * 100.0, 'f', precision, layout.alternate);
                    digits.digits.push('%');
                    self.number(out, digits, layout)
                }
                (number, Some(kind @ ('e' | 'E' | 'f' | 'F' | 'g' | 'G'))) => {
                    let precision = layout.precision.unwrap_or(6);
                    self.number(out, float_digits(number.as_f64(), kind, precision, layout.alternate), layout)
                }
                (Number::Float(float), None | Some('n')) => {
                    let digits = match layout.precision {
                        Some(precision) => float_digits(
                            float,
                            if kind.is_none() { 'r' } else { 'g' },
                            precision,
                            layout.alternate,
                        ),
                        None => big(&python::float(float)),
                    };
                    self.number(out, digits, layout)
                }
                _ => Err(bad()),
            },
        }
    }

    /// `repr(value)`.
    fn repr_of(&mut self, value: &Value) -> Result<Text, Error> {
        let mut out = TextBuilder::default();
        write_repr(&mut out, value, &mut |amount| self.charge(amount))?;
        Ok(out.finish())
    }

    /// A text of at most `precision` characters, in a field.
    pub(super) fn pad(&mut self, text: &Text, fill: char, align: char, width: i128) -> Result<Text, Error> {
        let width = bounded(width.max(0), MAX_WIDTH)?;
        let mut out = TextBuilder::default();
        self.padded(&mut out, text, Layout { fill, align: Some(align), width, ..Layout::default() })?;
        Ok(out.finish())
    }

    fn padded(&mut self, out: &mut TextBuilder, text: &Text, layout: Layout) -> Result<(), Error> {
        self.charge(text.size() + layout.width)?;
        let cut = layout.precision.and_then(|most| text.as_str().char_indices().nth(most));
        let text = cut.map_or_else(|| text.clone(), |(end, _)| text.slice(0, end));
        let missing = layout.width.saturating_sub(text.as_str().chars().count());
        let before = match layout.align {
            Some('<') => 0,
            // As CPython's str.center does it for a `|`, and its format for a `^`.
            Some('|') => missing / 2 + (missing & layout.width & 1),
            Some('^') => missing / 2,
            _ => missing,
        };
        out.push_str(&repeat_n(layout.fill, before).collect::<String>(), false);
        out.push(&text);
        out.push_str(&repeat_n(layout.fill, missing - before).collect::<String>(), false);
        Ok(())
    }

    fn number(&mut self, out: &mut TextBuilder, digits: Digits, layout: Layout) -> Result<(), Error> {
        let sign = match layout.sign {
            _ if digits.negative => "-",
            '+' => "+",
            ' ' => " ",
            _ => "",
        };
        let head = format!("{sign}{}", digits.prefix);
        let zeros = layout.fill == '0' && layout.align == Some('=');
        let least = if zeros { layout.width.saturating_sub(head.len()) } else { 0 };
        let every = if digits.prefix.is_empty() { 3 } else { 4 };
        let body = match layout.grouping {
            Some(separator) => grouped(&digits.digits, separator, every, least),
            None => digits.digits,
        };
        self.charge(head.len() + body.len() + layout.width)?;
        if layout.align == Some('=') {
            let missing = layout.width.saturating_sub(head.len() + body.len());
            let fill: String = repeat_n(layout.fill, missing).collect();
            out.push_str(&format!("{head}{fill}{body}"), false);
            return Ok(());
        }
        let align = layout.align.or(Some('>'));
        self.padded(out, &Text::template(&(head + &body)), Layout { align, precision: None, ..layout })
    }
}

/// The inside of a field up to its `}`, which further fields may stand before.
fn closing(text: &str) -> Option<usize> {
    let mut open = 0;
    text.char_indices().find_map(|(at, c)| match c {
        '{' => {
            open += 1;
            None
        }
        '}' if open == 0 => Some(at),
        '}' => {
            open -= 1;
            None
        }
        _ => None,
    })
}

fn bounded(size: i128, most: usize) -> Result<usize, Error> {
    let size = usize::try_from(size).ok().filter(|size| *size <= most);
    size.ok_or_else(|| Error::value(format!("a width or a precision is not between 0 and {most}")))
}

/// What is left of a format.
struct Cursor<'s>(&'s str);

impl Cursor<'_> {
    fn next(&mut self) -> Option<char> {
        let c = self.0.chars().next()?;
        self.0 = &self.0[c.len_utf8()..];
        Some(c)
    }

    fn one_of(&mut self, set: &str) -> Option<char> {
        if self.0.starts_with(|c| set.contains(c)) { self.next() } else { None }
    }

    fn eat(&mut self, c: char) -> bool {
        self.one_of(c.encode_utf8(&mut [0; 4])).is_some()
    }

    fn size(&mut self, most: usize) -> Result<Option<usize>, Error> {
        let len = self.0.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.0.len());
        let (digits, rest) = self.0.split_at(len);
        self.0 = rest;
        match digits {
            "" => Ok(None),
            digits => bounded(digits.parse().unwrap_or(i128::MAX), most).map(Some),
        }
    }
}

/// Digits that may begin with a minus.
fn big(text: &str) -> Digits {
    let digits = text.strip_prefix('-');
    Digits { negative: digits.is_some(), prefix: "", digits: digits.unwrap_or(text).to_owned() }
}

fn int_digits(int: i128, kind: char, alternate: bool) -> Digits {
    let size = int.unsigned_abs();
    let (prefix, digits) = match kind {
        'b' => ("0b", format!("{size:b}")),
        'o' => ("0o", format!("{size:o}")),
        'x' => ("0x", format!("{size:x}")),
        'X' => ("0X", format!("{size:X}")),
        _ => ("", size.to_string()),
    };
    Digits { negative: int < 0, prefix: if alternate { prefix } else { "" }, digits }
}

/// `e`, `f`, `g` and their capitals; `r` is a float's layout without a kind: as `g`, but a float for the eye.
fn float_digits(float: f64, kind: char, precision: usize, alternate: bool) -> Digits {
    let size = float.abs();
    let mut digits = match kind.to_ascii_lowercase() {
        _ if size.is_nan() => "nan".to_owned(),
        _ if size.is_infinite() => "inf".to_owned(),
        'f' => point(format!("{size:.precision$}"), alternate),
        'e' => exponential(size, precision, alternate),
        _ => general(size, precision.max(1), kind == 'r', alternate),
    };
    if kind.is_ascii_uppercase() {
        digits.make_ascii_uppercase();
    }
    Digits { negative: float.is_sign_negative() && !float.is_nan(), prefix: "", digits }
}

fn point(digits: String, alternate: bool) -> String {
    if alternate && !digits.contains('.') { digits + "." } else { digits }
}

fn exponential(size: f64, precision: usize, alternate: bool) -> String {
    let text = format!("{size:.precision$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", point(digits.to_owned(), alternate), exponent.abs())
}

fn general(size: f64, precision: usize, eye: bool, alternate: bool) -> String {
    let scientific = format!("{size:.*e}", precision - 1);
    let exponent: i32 = scientific.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    let last = precision as i32 - i32::from(eye);
    let fixed = (-4..last.max(i32::from(size == 0.0))).contains(&exponent);
    let text = if fixed {
        format!("{size:.*}", usize::try_from(precision as i32 - 1 - exponent).unwrap_or(0))
    } else {
        exponential(size, precision - 1, alternate)
    };
    if alternate {
        return point(text, true);
    }
    let (digits, exponent) = text.split_at(text.find('e').unwrap_or(text.len()));
    let short =
        if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits };
    let whole = if eye && fixed && !short.contains('.') { ".0" } else { "" };
    format!("{short}{whole}{exponent}")
}

/// Digits before the point in groups; with zeros before them, to at least so many characters.
fn grouped(digits: &str, separator: char, every: usize, least: usize) -> String {
    let (whole, after) =
        digits.split_at(digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len()));
    let mut places: Vec<char> = Vec::new();
    let mut left = whole.chars().rev();
    let mut place = 0;
    loop {
        let digit = match left.next() {
            Some(digit) => digit,
            None if places.len() + after.len() < least => '0',
            None => break,
        };
        if place > 0 && place % every == 0 {
            places.push(separator);
        }
        places.push(digit);
        place += 1;
    }
    places.iter().rev().collect::<String>() + after
}
