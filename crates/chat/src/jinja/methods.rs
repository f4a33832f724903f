//! Python's methods of strings, dictionaries and lists, as far as they change nothing.

use super::Error;
use super::arguments::{Arguments, optional_int, optional_text, text};
use super::interpreter::Interpreter;
use super::value::{Text, TextBuilder, VALUE_SIZE, Value};
use crate::python;

impl Interpreter<'_> {
    /// `receiver.name(args)`.
    pub(super) fn method(&mut self, receiver: &Value, name: &str, args: Arguments) -> Result<Value, Error> {
        match receiver {
            Value::Str(text) => self.str_method(text, name, args),
            Value::Dict(_) => self.dict_method(receiver, name, args),
            Value::List(_) => self.list_method(receiver, name, args),
            Value::Loop(state) => match name {
                "cycle" if !args.positional.is_empty() => {
                    let at = state.index % args.positional.len();
                    Ok(args.positional[at].clone())
                }
                "changed" => {
                    let now = Value::list(args.positional)?;
                    let before = state.changed.replace(Some(now.clone()));
                    Ok(Value::Bool(
                        before.map_or(Ok(true), |before| self.equal(&before, &now).map(|same| !same))?,
                    ))
                }
                _ => Err(unknown(receiver, name)),
            },
            Value::Cycler(cycler) => {
                args.none(name)?;
                match name {
                    "next" => {
                        let at = cycler.at.get();
                        cycler.at.set((at + 1) % cycler.items.len());
                        Ok(cycler.items[at].clone())
                    }
                    "reset" => {
                        cycler.at.set(0);
                        Ok(Value::None)
                    }
                    _ => Err(unknown(receiver, name)),
                }
            }
            Value::Undefined(what) => {
                Err(Error::value(format!("`{what}` is undefined, so it has no method `{name}`")))
            }
            other => Err(unknown(other, name)),
        }
    }

    fn str_method(&mut self, receiver: &Text, name: &str, args: Arguments) -> Result<Value, Error> {
        let s = receiver.as_str();
        self.charge(receiver.size() + 8)?;
        match name {
            "strip" | "lstrip" | "rstrip" => {
                let [characters] = args.bind(name, ["chars"])?;
                let characters = optional_text(name, characters)?;
                let set: Option<Vec<char>> = characters.map(|c| c.as_str().chars().collect());
                if let Some(set) = &set {
                    self.charge(set.len().saturating_mul(s.len()))?;
                }
                let strips =
                    |c: char| set.as_ref().map_or_else(|| python::is_space(c), |set| set.contains(&c));
                let mut part = s;
                if name != "rstrip" {
                    part = part.trim_start_matches(strips);
                }
                if name != "lstrip" {
                    part = part.trim_end_matches(strips);
                }
                Ok(Value::Str(receiver.part(part)))
            }
            "split" | "rsplit" => {
                let [separator, max] = args.bind(name, ["sep", "maxsplit"])?;
                let separator = optional_text(name, separator)?;
                let max = optional_int(name, max)?.and_then(|max| usize::try_from(max).ok());
                let parts = split(s, separator.as_ref().map(Text::as_str), max, name == "rsplit")?;
                self.parts(receiver, &parts)
            }
            "splitlines" => {
                let [keep] = args.bind(name, ["keepends"])?;
                let parts = lines(s, keep.is_some_and(|keep| keep.truth()));
                self.parts(receiver, &parts)
            }
            "partition" | "rpartition" => {
                let [separator] = args.bind(name, ["sep"])?;
                let separator = text(name, separator)?;
                if separator.len() == 0 {
                    return Err(Error::value("an empty separator"));
                }
                let first = name == "partition";
                let at = if first { s.find(separator.as_str()) } else { s.rfind(separator.as_str()) };
                let whole = (0, s.len());
                let cuts = match at {
                    Some(at) => [(0, at), (at, at + separator.len()), (at + separator.len(), s.len())],
                    None if first => [whole, (s.len(), s.len()), (s.len(), s.len())],
                    None => [(0, 0), (0, 0), whole],
                };
                Value::tuple(cuts.iter().map(|(a, b)| Value::Str(receiver.slice(*a, *b))).collect())
            }
            "startswith" | "endswith" => {
                let [affix] = args.bind(name, ["prefix"])?;
                let affixes = match affix {
                    Some(Value::List(list)) => list.items.clone(),
                    Some(one) => vec![one],
                    None => Vec::new(),
                };
                for affix in affixes {
                    let affix = text(name, Some(affix))?;
                    let affix = affix.as_str();
                    if if name == "startswith" { s.starts_with(affix) } else { s.ends_with(affix) } {
                        return Ok(Value::Bool(true));
                    }
                }
                Ok(Value::Bool(false))
            }
            "removeprefix" | "removesuffix" => {
                let [affix] = args.bind(name, ["affix"])?;
                let affix = text(name, affix)?;
                let rest = if name == "removeprefix" {
                    s.strip_prefix(affix.as_str())
                } else {
                    s.strip_suffix(affix.as_str())
                };
                Ok(Value::Str(rest.map_or_else(|| receiver.clone(), |rest| receiver.part(rest))))
            }
            "replace" => {
                let [old, new, count] = args.bind(name, ["old", "new", "count"])?;
                let (old, new) = (text(name, old)?, text(name, new)?);
                let count = optional_int(name, count)?.and_then(|count| usize::try_from(count).ok());
                self.replace(receiver, &old, &new, count.unwrap_or(usize::MAX))
            }
            "find" | "rfind" | "index" | "rindex" | "count" => {
                let [part, start, end] = args.bind(name, ["sub", "start", "end"])?;
                let part = text(name, part)?;
                let (start, end) = (optional_int(name, start)?, optional_int(name, end)?);
                let bounds = [start, end, None];
                let within = self.slice(&Value::Str(receiver.clone()), bounds)?;
                let Value::Str(within) = within else { return Ok(Value::Int(-1)) };
                let s = within.as_str();
                if name == "count" {
                    return Ok(Value::Int(s.matches(part.as_str()).count() as i128));
                }
                let at = if name.starts_with('r') { s.rfind(part.as_str()) } else { s.find(part.as_str()) };
                let before = match start {
                    Some(start) if start < 0 => start.saturating_add(self.characters(receiver)?).max(0),
                    start => start.unwrap_or(0),
                };
                match at {
                    Some(at) => Ok(Value::Int(before + s[..at].chars().count() as i128)),
                    None if name.ends_with("find") => Ok(Value::Int(-1)),
                    None => Err(Error::value("the text is not there")),
                }
            }
            "join" => {
                let [items] = args.bind(name, ["iterable"])?;
                let items = self.items(&items.unwrap_or(Value::None))?;
                self.joined(&items, receiver)
            }
            "format" => self.brace_format(receiver, &args),
            "center" | "ljust" | "rjust" | "zfill" => {
                let [width, fill] = args.bind(name, ["width", "fillchar"])?;
                let width = optional_int(name, width)?.ok_or_else(|| Error::value("a width is missing"))?;
                let fill = optional_text(name, fill)?.unwrap_or_else(|| Text::template(" "));
                let mut fill = fill.as_str().chars();
                let (Some(fill), None) = (fill.next(), fill.next()) else {
                    return Err(Error::value("a field is filled with one character"));
                };
                if name == "zfill" {
                    return self.zero_filled(receiver, width);
                }
                let align = match name {
                    "center" => '|',
                    "ljust" => '<',
                    _ => '>',
                };
                self.pad(receiver, fill, align, width).map(Value::Str)
            }
            "upper" | "lower" | "casefold" | "capitalize" | "title" | "swapcase" => {
                args.none(name)?;
                Ok(Value::Str(receiver.derived(&recased(s, name))))
            }
            "isdigit" | "isnumeric" | "isdecimal" | "isalpha" | "isalnum" | "isspace" | "isupper"
            | "islower" | "isascii" => {
                args.none(name)?;
                Ok(Value::Bool(classified(s, name)))
            }
            _ => Err(unknown(&Value::Str(receiver.clone()), name)),
        }
    }

    /// `len(text)`.
    pub(super) fn characters(&mut self, text: &Text) -> Result<i128, Error> {
        self.charge(text.size())?;
        Ok(text.as_str().chars().count() as i128)
    }

    fn parts(&mut self, receiver: &Text, parts: &[&str]) -> Result<Value, Error> {
        self.charge(parts.len() * VALUE_SIZE)?;
        Value::list(parts.iter().map(|part| Value::Str(receiver.part(part))).collect())
    }

    fn replace(&mut self, receiver: &Text, old: &Text, new: &Text, count: usize) -> Result<Value, Error> {
        let s = receiver.as_str();
        let mut out = TextBuilder::default();
        let mut from = 0;
        for (at, found) in s.match_indices(old.as_str()).take(count) {
            self.charge(at - from + new.size())?;
            out.push_slice(receiver, from, at);
            out.push(new);
            from = at + found.len();
        }
        out.push_slice(receiver, from, s.len());
        Ok(Value::Str(out.finish()))
    }

    /// `str.zfill`: zeros after the sign.
    fn zero_filled(&mut self, receiver: &Text, width: i128) -> Result<Value, Error> {
        let sign = usize::from(receiver.as_str().starts_with(['+', '-']));
        let (sign, digits) = (receiver.slice(0, sign), receiver.slice(sign, receiver.len()));
        let digits = self.pad(&digits, '0', '>', width.saturating_sub(sign.len() as i128))?;
        self.joined(&[Value::Str(sign), Value::Str(digits)], &Text::template(""))
    }

    fn dict_method(&mut self, receiver: &Value, name: &str, args: Arguments) -> Result<Value, Error> {
        let Value::Dict(dict) = receiver else { return Err(unknown(receiver, name)) };
        self.charge(dict.entries.len() * 2 * VALUE_SIZE)?;
        match name {
            "get" => {
                let [key, default] = args.bind(name, ["key", "default"])?;
                let key = key.unwrap_or(Value::None);
                self.charge_search(dict.entries.len(), &key)?;
                let found = dict.at(&key).cloned();
                Ok(found.or(default).unwrap_or(Value::None))
            }
            "items" => {
                args.none(name)?;
                let pairs =
                    dict.entries.iter().map(|(key, value)| Value::tuple(vec![key.clone(), value.clone()]));
                Value::list(pairs.collect::<Result<_, _>>()?)
            }
            "keys" => {
                args.none(name)?;
                Value::list(dict.entries.iter().map(|(key, _)| key.clone()).collect())
            }
            "values" => {
                args.none(name)?;
                Value::list(dict.entries.iter().map(|(_, value)| value.clone()).collect())
            }
            "copy" => args.none(name).map(|()| receiver.clone()),
            _ => Err(unknown(receiver, name)),
        }
    }

    fn list_method(&mut self, receiver: &Value, name: &str, args: Arguments) -> Result<Value, Error> {
        let Value::List(list) = receiver else { return Err(unknown(receiver, name)) };
        match name {
            "index" | "count" => {
                let [wanted] = args.bind(name, ["value"])?;
                let wanted = wanted.unwrap_or(Value::None);
                let mut count = 0;
                for (at, item) in list.items.iter().enumerate() {
                    if self.equal(item, &wanted)? {
                        if name == "index" {
                            return Ok(Value::Int(at as i128));
                        }
                        count += 1;
                    }
                }
                if name == "count" {
                    Ok(Value::Int(count))
                } else {
                    Err(Error::value("the value is not in the list"))
                }
            }
            "copy" => args.none(name).map(|()| receiver.clone()),
            _ => Err(unknown(receiver, name)),
        }
    }
}

fn unknown(receiver: &Value, name: &str) -> Error {
    Error::value(format!("a value of kind {} has no method `{name}` here", receiver.kind()))
}

/// `str.split` and `str.rsplit`.
fn split<'s>(
    s: &'s str,
    separator: Option<&str>,
    max: Option<usize>,
    right: bool,
) -> Result<Vec<&'s str>, Error> {
    let limit = max.map_or(usize::MAX, |max| max.saturating_add(1));
    match separator {
        Some("") => Err(Error::value("an empty separator")),
        Some(separator) if right => {
            let mut parts: Vec<&str> = s.rsplitn(limit, separator).collect();
            parts.reverse();
            Ok(parts)
        }
        Some(separator) => Ok(s.splitn(limit, separator).collect()),
        None if right && max.is_some() => {
            let mut parts = Vec::new();
            let mut rest = s.trim_end_matches(python::is_space);
            while !rest.is_empty() {
                let cut = if parts.len() + 1 < limit { rest.rfind(python::is_space) } else { None };
                let at = cut.map_or(0, |at| at + rest[at..].chars().next().map_or(0, char::len_utf8));
                parts.push(&rest[at..]);
                rest = rest[..at].trim_end_matches(python::is_space);
            }
            parts.reverse();
            Ok(parts)
        }
        None => {
            let mut parts = Vec::new();
            let mut rest = s.trim_start_matches(python::is_space);
            while !rest.is_empty() {
                let cut = if parts.len() + 1 < limit { rest.find(python::is_space) } else { None };
                let at = cut.unwrap_or(rest.len());
                parts.push(&rest[..at]);
                rest = rest[at..].trim_start_matches(python::is_space);
            }
            Ok(parts)
        }
    }
}

/// `str.splitlines`.
fn lines(s: &str, keep_ends: bool) -> Vec<&str> {
    let ends = |c: char| matches!(c, '\n'..='\r' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}');
    let mut lines = Vec::new();
    let mut rest = s;
    while !rest.is_empty() {
        let at = rest.find(ends).unwrap_or(rest.len());
        let end = match rest[at..].chars().next() {
            Some('\r') if rest[at..].starts_with("\r\n") => at + 2,
            Some(c) => at + c.len_utf8(),
            None => at,
        };
        lines.push(&rest[..if keep_ends { end } else { at }]);
        rest = &rest[end..];
    }
    lines
}

fn recased(s: &str, name: &str) -> String {
    match name {
        "upper" => s.to_uppercase(),
        "lower" | "casefold" => s.to_lowercase(),
        "swapcase" => {
            s.chars()
                .map(|c| {
                    if c.is_uppercase() { c.to_lowercase().to_string() } else { c.to_uppercase().to_string() }
                })
                .collect()
        }
        "capitalize" => {
            let mut chars = s.chars();
            let first: String = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
            first + &chars.as_str().to_lowercase()
        }
        _ => {
            let mut out = String::with_capacity(s.len());
            let mut in_word = false;
            for c in s.chars() {
                if in_word {
                    out.extend(c.to_lowercase())
                } else {
                    out.extend(c.to_uppercase())
                }
                in_word = c.is_alphabetic();
            }
            out
        }
    }
}

fn classified(s: &str, name: &str) -> bool {
    let all = |test: fn(char) -> bool| !s.is_empty() && s.chars().all(test);
    match name {
        "isdigit" | "isdecimal" | "isnumeric" => all(char::is_numeric),
        "isalpha" => all(char::is_alphabetic),
        "isalnum" => all(char::is_alphanumeric),
        "isspace" => all(python::is_space),
        "isupper" => s.chars().any(char::is_uppercase) && !s.chars().any(char::is_lowercase),
        "islower" => s.chars().any(char::is_lowercase) && !s.chars().any(char::is_uppercase),
        _ => s.is_ascii(),
    }
}
