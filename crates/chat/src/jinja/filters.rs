//! Jinja2's filters: `value | trim`, `value | tojson(indent=4)`, …

use super::Error;
use super::arguments::{Arguments, optional_int, optional_text, text};
use super::interpreter::Interpreter;
use super::value::{JsonLayout, Number, Text, TextBuilder, VALUE_SIZE, Value, write_json};
use std::cmp::Ordering;

/// The filters that there are.
pub(super) const NAMES: [&str; 46] = [
    "abs",
    "attr",
    "batch",
    "capitalize",
    "center",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "first",
    "float",
    "forceescape",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "truncate",
    "unique",
    "upper",
    "wordcount",
];

/// Jinja2's other filters: for web pages, by chance, or with tables of their own.
const LEFT_OUT: [&str; 8] =
    ["filesizeformat", "pprint", "random", "striptags", "urlencode", "urlize", "wordwrap", "xmlattr"];

/// What is wrong with a filter of this name.
pub(super) fn unknown(name: &str) -> String {
    if LEFT_OUT.contains(&name) {
        format!("the filter `{name}` of Jinja2 is left out here")
    } else {
        format!("the filter `{name}` is not known here")
    }
}

/// Widest indentation of `tojson` and `indent`.
const MAX_INDENT: i128 = 64;
/// Most parts of `batch` and `slice`.
const MAX_PARTS: usize = 100_000;

impl Interpreter<'_> {
    pub(super) fn filter(&mut self, name: &str, value: Value, args: Arguments) -> Result<Value, Error> {
        match name {
            "default" | "d" => {
                let [default, falsy] = args.bind(name, ["default_value", "boolean"])?;
                let missing = matches!(value, Value::Undefined(_))
                    || (falsy.is_some_and(|falsy| falsy.truth()) && !value.truth());
                Ok(if missing { default.unwrap_or_else(|| Value::template("")) } else { value })
            }
            "safe" => args.none(name).map(|()| value),
            "string" => {
                args.none(name)?;
                self.text_of(&value).map(Value::Str)
            }
            "tojson" => self.tojson(&value, args),
            "trim" => {
                let [characters] = args.bind(name, ["chars"])?;
                let text = self.text_of(&value)?;
                let arguments = Arguments { positional: characters.into_iter().collect(), named: Vec::new() };
                self.method(&Value::Str(text), "strip", arguments)
            }
            "title" => {
                args.none(name)?;
                let text = self.text_of(&value)?;
                self.charge(text.size())?;
                Ok(Value::Str(text.derived(&title(text.as_str()))))
            }
            "upper" | "lower" | "capitalize" | "replace" => {
                let text = self.text_of(&value)?;
                let mut args = args;
                if name == "replace" {
                    args = positional(args, ["old", "new", "count"])?;
                    for value in args.positional.iter_mut().take(2) {
                        *value = Value::Str(self.text_of(value)?);
                    }
                }
                self.method(&Value::Str(text), name, args)
            }
            "length" | "count" => {
                args.none(name)?;
                self.length(&value)
            }
            "items" => match value {
                Value::Undefined(_) => Value::list(Vec::new()),
                dict => self.method(&dict, "items", args),
            },
            "join" => self.join(&value, args),
            "indent" => self.indent(&value, args),
            "format" => {
                let text = self.text_of(&value)?;
                let values = match (args.named.is_empty(), args.positional.is_empty()) {
                    (true, _) => Value::tuple(args.positional)?,
                    (false, true) => {
                        let named =
                            args.named.into_iter().map(|(name, value)| (Value::template(&name), value));
                        Value::dict(named.collect())?
                    }
                    _ => return Err(Error::value("`format` takes values with names or without")),
                };
                self.percent_format(&text, &values).map(Value::Str)
            }
            "center" => {
                let [width] = args.bind(name, ["width"])?;
                let text = self.text_of(&value)?;
                let width = optional_int(name, width)?.unwrap_or(80);
                self.pad(&text, ' ', '|', width).map(Value::Str)
            }
            "truncate" => self.truncate(&value, args),
            "wordcount" => {
                args.none(name)?;
                let text = self.text_of(&value)?;
                self.charge(text.size())?;
                let words = text.as_str().split(|c: char| c != '_' && !c.is_alphanumeric());
                Ok(Value::Int(words.filter(|word| !word.is_empty()).count() as i128))
            }
            "escape" | "e" | "forceescape" => {
                args.none(name)?;
                let mut escaped = Value::Str(self.text_of(&value)?);
                for (from, to) in
                    [("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("'", "&#39;"), ("\"", "&#34;")]
                {
                    let positional = vec![Value::template(from), Value::template(to)];
                    escaped =
                        self.method(&escaped, "replace", Arguments { positional, named: Vec::new() })?;
                }
                Ok(escaped)
            }
            "attr" => {
                let [attribute] = args.bind(name, ["name"])?;
                self.attribute(&value, text(name, attribute)?.as_str())
            }
            "abs" | "int" | "float" | "round" => self.numeric(name, &value, args),
            _ => self.list_filter(name, value, args),
        }
    }

    fn list_filter(&mut self, name: &str, value: Value, args: Arguments) -> Result<Value, Error> {
        match name {
            "list" => {
                args.none(name)?;
                Value::list(self.items(&value)?)
            }
            "first" | "last" => {
                args.none(name)?;
                let mut items = self.items(&value)?;
                let item = if name == "last" { items.pop() } else { items.into_iter().next() };
                Ok(item.unwrap_or_else(|| Value::undefined("the item of an empty list")))
            }
            "reverse" => {
                args.none(name)?;
                let mut items = self.items(&value)?;
                items.reverse();
                match value {
                    Value::Str(_) => self.joined(&items, &Text::template("")),
                    _ => Value::list(items),
                }
            }
            "sum" => {
                let [attribute, start] = args.bind(name, ["attribute", "start"])?;
                let mut sum = start.unwrap_or(Value::Int(0));
                for item in self.items(&value)? {
                    let item = self.keyed(&item, &attribute)?;
                    sum = self.binary(super::ast::BinaryOp::Add, &sum, &item)?;
                }
                Ok(sum)
            }
            "min" | "max" | "sort" | "unique" => {
                let names = if name == "sort" {
                    ["reverse", "case_sensitive", "attribute"]
                } else {
                    ["case_sensitive", "attribute", ""]
                };
                let [a, b, c] = args.bind(name, names)?;
                let (reverse, case, attribute) = if name == "sort" { (a, b, c) } else { (None, a, b) };
                let case = case.is_some_and(|case| case.truth());
                self.ordered(name, &value, reverse.is_some_and(|reverse| reverse.truth()), case, attribute)
            }
            "dictsort" => {
                let [case, by, reverse] = args.bind(name, ["case_sensitive", "by", "reverse"])?;
                let by_value = matches!(&by, Some(Value::Str(by)) if by.as_str() == "value");
                let items = self.method(&value, "items", Arguments::default())?;
                let key = Some(Value::Int(i128::from(by_value)));
                let case = case.is_some_and(|case| case.truth());
                self.ordered("sort", &items, reverse.is_some_and(|reverse| reverse.truth()), case, key)
            }
            "groupby" => {
                let [attribute, _default] = args.bind(name, ["attribute", "default"])?;
                let Value::List(sorted) = self.ordered("sort", &value, false, true, attribute.clone())?
                else {
                    return Err(Error::value("`groupby` takes a list"));
                };
                let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
                for item in &sorted.items {
                    let key = self.keyed(item, &attribute)?;
                    match groups.last_mut() {
                        Some((last, group)) if self.equal(last, &key)? => group.push(item.clone()),
                        _ => groups.push((key, vec![item.clone()])),
                    }
                }
                let groups =
                    groups.into_iter().map(|(key, group)| Value::list(vec![key, Value::list(group)?]));
                Value::list(groups.collect::<Result<_, _>>()?)
            }
            "batch" | "slice" => {
                let [count, fill] = args.bind(name, ["count", "fill_with"])?;
                let count = optional_int(name, count)?.and_then(|count| usize::try_from(count).ok());
                let count = count.filter(|count| (1..=MAX_PARTS).contains(count));
                let count = count
                    .ok_or_else(|| Error::value(format!("`{name}` takes a count of 1 to {MAX_PARTS}")))?;
                let fill = fill.filter(|fill| !matches!(fill, Value::None));
                let items = self.items(&value)?;
                self.charge((items.len() + count) * VALUE_SIZE)?;
                let parts =
                    if name == "batch" { batch(items, count, fill) } else { slice(items, count, fill) };
                Value::list(parts.into_iter().map(Value::list).collect::<Result<_, _>>()?)
            }
            "map" => self.map(&value, args),
            "select" | "reject" | "selectattr" | "rejectattr" => self.select(name, &value, args),
            _ => Err(Error::value(unknown(name))),
        }
    }

    fn length(&mut self, value: &Value) -> Result<Value, Error> {
        let len = match value {
            Value::Undefined(_) => 0,
            Value::Str(text) => {
                self.charge(text.size())?;
                text.as_str().chars().count()
            }
            Value::List(list) => list.items.len(),
            Value::Dict(dict) => dict.entries.len(),
            other => return Err(Error::value(format!("a value of kind {} has no length", other.kind()))),
        };
        Ok(Value::Int(len as i128))
    }

    fn truncate(&mut self, value: &Value, args: Arguments) -> Result<Value, Error> {
        let [length, kill, end, leeway] = args.bind("truncate", ["length", "killwords", "end", "leeway"])?;
        let text = self.text_of(value)?;
        let end = optional_text("truncate", end)?.unwrap_or_else(|| Text::template("..."));
        let length = optional_int("truncate", length)?.unwrap_or(255);
        let leeway = optional_int("truncate", leeway)?.unwrap_or(5);
        let room = length.saturating_sub(self.characters(&end)?);
        if room < 0 || leeway < 0 {
            return Err(Error::value("`truncate` takes a length that its end fits into"));
        }
        if self.characters(&text)? <= length.saturating_add(leeway) {
            return Ok(Value::Str(text));
        }
        let kept = text
            .as_str()
            .char_indices()
            .nth(room as usize)
            .map_or(text.as_str(), |(at, _)| &text.as_str()[..at]);
        let whole_words = kept.rsplit_once(' ').map_or(kept, |(words, _)| words);
        let kept = if kill.is_some_and(|kill| kill.truth()) { kept } else { whole_words };
        self.joined(&[Value::Str(text.part(kept)), Value::Str(end)], &Text::template(""))
    }

    fn tojson(&mut self, value: &Value, args: Arguments) -> Result<Value, Error> {
        let [indent, ascii, separators, sort_keys] =
            args.bind("tojson", ["indent", "ensure_ascii", "separators", "sort_keys"])?;
        let indent = optional_int("tojson", indent)?;
        if indent.is_some_and(|indent| !(0..=MAX_INDENT).contains(&indent)) {
            return Err(Error::value("`tojson` indents by 0 to 64"));
        }
        let (mut item, mut key) = (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned());
        match &separators {
            None | Some(Value::None) => {}
            Some(Value::List(pair)) if pair.items.len() == 2 => {
                item = self.text_of(&pair.items[0])?.as_str().to_owned();
                key = self.text_of(&pair.items[1])?.as_str().to_owned();
            }
            Some(_) => return Err(Error::value("`tojson` takes a pair of separators")),
        }
        let layout = JsonLayout {
            indent: indent.map(|indent| indent as usize),
            item_separator: &item,
            key_separator: &key,
            ascii: ascii.is_some_and(|ascii| ascii.truth()),
            sort_keys: sort_keys.is_some_and(|sort| sort.truth()),
        };
        let mut out = TextBuilder::default();
        let each = item.len() + key.len();
        write_json(&mut out, value, layout, 0, &mut |amount| self.charge(amount + each))?;
        Ok(Value::Str(out.finish()))
    }

    fn join(&mut self, value: &Value, args: Arguments) -> Result<Value, Error> {
        let [separator, attribute] = args.bind("join", ["d", "attribute"])?;
        let separator = optional_text("join", separator)?.unwrap_or_else(|| Text::template(""));
        let mut items = Vec::new();
        for item in self.items(value)? {
            items.push(self.keyed(&item, &attribute)?);
        }
        self.joined(&items, &separator)
    }

    /// The items' text with the separator between.
    pub(super) fn joined(&mut self, items: &[Value], separator: &Text) -> Result<Value, Error> {
        let mut out = TextBuilder::default();
        for (i, item) in items.iter().enumerate() {
            let text = self.text_of(item)?;
            self.charge(text.size() + separator.size())?;
            if i > 0 {
                out.push(separator);
            }
            out.push(&text);
        }
        Ok(Value::Str(out.finish()))
    }

    fn indent(&mut self, value: &Value, args: Arguments) -> Result<Value, Error> {
        let [width, first, blank] = args.bind("indent", ["width", "first", "blank"])?;
        let text = self.text_of(value)?;
        let indent = match width {
            Some(Value::Str(indent)) => indent,
            width => {
                let width = optional_int("indent", width)?.unwrap_or(4);
                if !(0..=MAX_INDENT).contains(&width) {
                    return Err(Error::value("`indent` indents by 0 to 64"));
                }
                Text::template(&" ".repeat(width as usize))
            }
        };
        let (first, blank) = (first.is_some_and(|v| v.truth()), blank.is_some_and(|v| v.truth()));
        let mut out = TextBuilder::default();
        for (i, line) in text.as_str().split('\n').enumerate() {
            self.charge(line.len() + indent.size() + VALUE_SIZE)?;
            if i > 0 {
                out.push_str("\n", text.any_outside());
            }
            if (i > 0 || first) && (blank || !line.is_empty() || (i == 0 && first)) {
                out.push(&indent);
            }
            let line = text.part(line);
            out.push(&line);
        }
        Ok(Value::Str(out.finish()))
    }

    fn numeric(&mut self, name: &str, value: &Value, args: Arguments) -> Result<Value, Error> {
        match name {
            "abs" => {
                args.none(name)?;
                match value.number() {
                    None if matches!(value, Value::Big(_)) => {
                        let digits = self.text_of(value)?;
                        Ok(Value::Big(digits.as_str().trim_start_matches('-').into()))
                    }
                    Some(Number::Int(int)) => Ok(Value::Int(int.saturating_abs())),
                    Some(Number::Float(float)) => Ok(Value::Float(float.abs())),
                    None => Err(Error::value("`abs` takes a number")),
                }
            }
            "int" => {
                let [default, base] = args.bind(name, ["default", "base"])?;
                let base = optional_int(name, base)?.unwrap_or(10);
                defined(name, value)?;
                if matches!(value, Value::Big(_)) {
                    return Ok(value.clone());
                }
                let whole = match (value, value.number()) {
                    (_, Some(Number::Int(int))) => Some(int),
                    (_, Some(Number::Float(float))) => float.is_finite().then_some(float as i128),
                    (Value::Str(text), _) => {
                        let text = text.as_str().trim();
                        if base != 10 {
                            return Ok(based(text, base)
                                .map(Value::Int)
                                .or(default)
                                .unwrap_or(Value::Int(0)));
                        }
                        let float = || text.parse::<f64>().ok().filter(|f| f.is_finite()).map(|f| f as i128);
                        based(text, 10).or_else(float)
                    }
                    _ => None,
                };
                Ok(whole.map(Value::Int).or(default).unwrap_or(Value::Int(0)))
            }
            "float" => {
                let [default] = args.bind(name, ["default"])?;
                defined(name, value)?;
                let float = match value {
                    Value::Str(text) => text.as_str().trim().parse().ok(),
                    other => other.as_f64(),
                };
                Ok(float.map(Value::Float).or(default).unwrap_or(Value::Float(0.0)))
            }
            _ => {
                let [precision, method] = args.bind(name, ["precision", "method"])?;
                let precision = optional_int(name, precision)?.unwrap_or(0);
                let number = value.number().ok_or_else(|| Error::value("`round` takes a number"))?;
                let method = optional_text(name, method)?;
                let method = method.as_ref().map_or("common", Text::as_str);
                if method == "common" && (0..=300).contains(&precision) {
                    // As Python: the decimal digits are rounded, not a product.
                    let digits = format!("{:.*}", precision as usize, number.as_f64());
                    return Ok(Value::Float(digits.parse().unwrap_or(f64::NAN)));
                }
                let scale = 10f64.powi(precision.clamp(-300, 300) as i32);
                let scaled = number.as_f64() * scale;
                let rounded = match method {
                    "ceil" => scaled.ceil(),
                    "floor" => scaled.floor(),
                    "common" => scaled.round_ties_even(),
                    _ => return Err(Error::value("`round` rounds common, ceil or floor")),
                };
                Ok(Value::Float(rounded / scale))
            }
        }
    }

    /// What a filter's `attribute` selects of an item: the item itself, one of its members, or one of theirs.
    fn keyed(&mut self, item: &Value, attribute: &Option<Value>) -> Result<Value, Error> {
        match attribute {
            None | Some(Value::None) => Ok(item.clone()),
            Some(Value::Int(index)) => match item {
                Value::List(list) => Ok(usize::try_from(*index)
                    .ok()
                    .and_then(|index| list.items.get(index).cloned())
                    .unwrap_or_else(|| Value::undefined("the item"))),
                _ => Ok(Value::undefined("the item")),
            },
            Some(Value::Str(path)) => {
                let mut value = item.clone();
                for name in path.as_str().split('.') {
                    value = self.attribute(&value, name)?;
                }
                Ok(value)
            }
            Some(_) => Err(Error::value("an attribute is named by a str or an int")),
        }
    }

    fn ordered(
        &mut self,
        name: &str,
        value: &Value,
        reverse: bool,
        case_sensitive: bool,
        attribute: Option<Value>,
    ) -> Result<Value, Error> {
        let mut keyed = Vec::new();
        for item in self.items(value)? {
            let key = match &attribute {
                // The one filter that sorts by several at once.
                Some(Value::Str(several)) if name == "sort" && several.as_str().contains(',') => {
                    let mut keys = Vec::new();
                    for path in several.as_str().split(',') {
                        let key = self.keyed(&item, &Some(Value::template(path)))?;
                        keys.push(self.folded(key, case_sensitive)?);
                    }
                    Value::list(keys)?
                }
                _ => {
                    let key = self.keyed(&item, &attribute)?;
                    self.folded(key, case_sensitive)?
                }
            };
            keyed.push((key, item));
        }
        if name == "unique" {
            let mut unique: Vec<(Value, Value)> = Vec::new();
            for (key, item) in keyed {
                let mut seen = false;
                for (other, _) in &unique {
                    seen = seen || self.equal(other, &key)?;
                }
                if !seen {
                    unique.push((key, item));
                }
            }
            return Value::list(unique.into_iter().map(|(_, item)| item).collect());
        }
        // Of several that are largest, the first counts.
        let keyed = self.merge_sorted(keyed, reverse || name == "max")?;
        let mut items = keyed.into_iter().map(|(_, item)| item);
        let none = || Value::undefined("the item of an empty list");
        match name {
            "min" | "max" => Ok(items.next().unwrap_or_else(none)),
            _ => Value::list(items.collect()),
        }
    }

    /// What a value is compared by: text in small letters unless case counts.
    fn folded(&mut self, key: Value, case_sensitive: bool) -> Result<Value, Error> {
        let (Value::Str(text), false) = (&key, case_sensitive) else { return Ok(key) };
        self.charge(text.size())?;
        Ok(Value::Str(text.derived(&text.as_str().to_lowercase())))
    }

    /// Sorts by key and keeps the order of equals. The standard sort may panic where the order is none, as it is
    /// among floats that are no number.
    fn merge_sorted(
        &mut self,
        mut left: Vec<(Value, Value)>,
        reverse: bool,
    ) -> Result<Vec<(Value, Value)>, Error> {
        if left.len() < 2 {
            return Ok(left);
        }
        let right = left.split_off(left.len() / 2);
        self.charge(VALUE_SIZE * (left.len() + right.len()))?;
        let mut left = self.merge_sorted(left, reverse)?.into_iter().peekable();
        let mut right = self.merge_sorted(right, reverse)?.into_iter().peekable();
        let mut merged = Vec::with_capacity(left.len() + right.len());
        while let (Some((a, _)), Some((b, _))) = (left.peek(), right.peek()) {
            let order = if reverse { self.order(a, b)?.map(Ordering::reverse) } else { self.order(a, b)? };
            merged.extend(if order == Some(Ordering::Greater) { right.next() } else { left.next() });
        }
        merged.extend(left.chain(right));
        Ok(merged)
    }

    fn map(&mut self, value: &Value, mut args: Arguments) -> Result<Value, Error> {
        let named = |args: &mut Arguments, name: &str| {
            let at = args.named.iter().position(|(n, _)| n == name)?;
            Some(args.named.remove(at).1)
        };
        let attribute = named(&mut args, "attribute");
        let default = named(&mut args, "default");
        let mut mapped = Vec::new();
        if attribute.is_some() {
            args.none("map")?;
            for item in self.items(value)? {
                let found = self.keyed(&item, &attribute)?;
                let missing = matches!(found, Value::Undefined(_));
                mapped.push(if missing { default.clone().unwrap_or(found) } else { found });
            }
        } else {
            if args.positional.is_empty() {
                return Err(Error::value("`map` takes a filter's name or an attribute"));
            }
            let filter = text("map", Some(args.positional.remove(0)))?;
            for item in self.items(value)? {
                let arguments = Arguments { positional: args.positional.clone(), named: args.named.clone() };
                self.charge(VALUE_SIZE * (1 + arguments.positional.len() + arguments.named.len()))?;
                mapped.push(self.deeper(|this| this.filter(filter.as_str(), item, arguments))?);
            }
        }
        Value::list(mapped)
    }

    fn select(&mut self, name: &str, value: &Value, mut args: Arguments) -> Result<Value, Error> {
        let wanted = name.starts_with("select");
        let attribute = if name.ends_with("attr") {
            if args.positional.is_empty() {
                return Err(Error::value(format!("`{name}` takes an attribute's name")));
            }
            Some(args.positional.remove(0))
        } else {
            None
        };
        let test = if args.positional.is_empty() {
            None
        } else {
            Some(text(name, Some(args.positional.remove(0)))?)
        };
        let mut kept = Vec::new();
        for item in self.items(value)? {
            let subject = self.keyed(&item, &attribute)?;
            self.charge(VALUE_SIZE * (1 + args.positional.len() + args.named.len()))?;
            let passes = match &test {
                None => subject.truth(),
                Some(test) => {
                    let arguments =
                        Arguments { positional: args.positional.clone(), named: args.named.clone() };
                    self.test(test.as_str(), &subject, arguments)?
                }
            };
            if passes == wanted {
                kept.push(item);
            }
        }
        Value::list(kept)
    }
}

/// The filter, unlike the method, begins a word only after white space, a hyphen or an opening bracket.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_word = false;
    for c in text.chars() {
        let between = c.is_whitespace() || matches!(c, '-' | '(' | '{' | '[' | '<');
        if in_word {
            out.extend(c.to_lowercase())
        } else {
            out.extend(c.to_uppercase())
        }
        in_word = !between;
    }
    out
}

fn defined(filter: &str, value: &Value) -> Result<(), Error> {
    match value {
        Value::Undefined(what) => {
            Err(Error::value(format!("`{filter}` was given `{what}`, which is undefined")))
        }
        _ => Ok(()),
    }
}

/// Rows of so many items, the last filled up.
fn batch(items: Vec<Value>, count: usize, fill: Option<Value>) -> Vec<Vec<Value>> {
    let mut rows: Vec<Vec<Value>> = items.chunks(count).map(<[Value]>::to_vec).collect();
    if let (Some(fill), Some(last)) = (fill, rows.last_mut()) {
        last.resize(count, fill);
    }
    rows
}

/// So many columns, the first ones longer by one, the others filled up.
fn slice(items: Vec<Value>, count: usize, fill: Option<Value>) -> Vec<Vec<Value>> {
    let (each, longer) = (items.len() / count, items.len() % count);
    let mut items = items.into_iter();
    let column = |at: usize| {
        let mut column: Vec<Value> = items.by_ref().take(each + usize::from(at < longer)).collect();
        column.extend(fill.clone().filter(|_| at >= longer));
        column
    };
    (0..count).map(column).collect()
}

/// `int(text, base)`.
fn based(text: &str, base: i128) -> Option<i128> {
    let base = u32::try_from(base).ok().filter(|base| (2..=36).contains(base))?;
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let prefix = match base {
        16 => ["0x", "0X"],
        8 => ["0o", "0O"],
        2 => ["0b", "0B"],
        _ => ["", ""],
    };
    let digits = prefix.iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(text);
    // `_` may stand between two digits; a second sign may stand nowhere.
    if digits.starts_with(['_', '+', '-']) || digits.ends_with('_') || digits.contains("__") {
        return None;
    }
    let size = i128::from_str_radix(&digits.replace('_', ""), base).ok()?;
    Some(if negative { -size } else { size })
}

/// Named arguments put in their places.
fn positional<const N: usize>(args: Arguments, names: [&str; N]) -> Result<Arguments, Error> {
    let bound = args.bind("the filter", names)?;
    Ok(Arguments { positional: bound.into_iter().flatten().collect(), named: Vec::new() })
}
