//! The values that a template works with. Every string knows which of its characters came from outside.

use super::Error;
use crate::python;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Levels of lists and dictionaries within one another. Real conversations have a dozen; JSON readers stop at 128.
const MAX_NESTING: u32 = 200;

/// Text that remembers its origin: which stretches came from the conversation and not from the template.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    text: Rc<str>,
    /// Ends of stretches of one origin, in bytes, and whether each came from outside; they alternate.
    origin: Rc<[(usize, bool)]>,
}

impl Text {
    pub(super) fn new(text: &str, outside: bool) -> Text {
        let mut builder = TextBuilder::default();
        builder.push_str(text, outside);
        builder.finish()
    }

    pub(super) fn template(text: &str) -> Text {
        Text::new(text, false)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    /// Bytes that the text takes: its own, and those of its origin.
    pub(super) fn size(&self) -> usize {
        self.text.len() + self.origin.len() * size_of::<(usize, bool)>()
    }

    /// Whether any of it came from outside.
    pub(super) fn any_outside(&self) -> bool {
        self.origin.iter().any(|(_, outside)| *outside)
    }

    /// The stretches of one origin each, in order.
    pub(crate) fn stretches(&self) -> impl Iterator<Item = (&str, bool)> {
        let starts = std::iter::once(0).chain(self.origin.iter().map(|(end, _)| *end));
        starts.zip(self.origin.iter()).map(|(start, (end, outside))| (&self.text[start..*end], *outside))
    }

    /// The bytes `start..end`, which lie on character boundaries.
    pub(super) fn slice(&self, start: usize, end: usize) -> Text {
        let mut builder = TextBuilder::default();
        builder.push_slice(self, start, end);
        builder.finish()
    }

    /// A part of this text that `str` methods gave back.
    pub(super) fn part(&self, part: &str) -> Text {
        let start = part.as_ptr() as usize - self.text.as_ptr() as usize;
        self.slice(start, start + part.len())
    }

    /// Text made anew from this one, character by character unrecognisable: all of it counts as from outside if
    /// any of this does.
    pub(super) fn derived(&self, text: &str) -> Text {
        Text::new(text, self.any_outside())
    }
}

/// Collects text and its origin.
#[derive(Debug, Default)]
pub(super) struct TextBuilder {
    text: String,
    origin: Vec<(usize, bool)>,
}

impl TextBuilder {
    pub(super) fn push_str(&mut self, text: &str, outside: bool) {
        if text.is_empty() {
            return;
        }
        self.text.push_str(text);
        match self.origin.last_mut() {
            Some((end, last)) if *last == outside => *end = self.text.len(),
            _ => self.origin.push((self.text.len(), outside)),
        }
    }

    pub(super) fn push(&mut self, text: &Text) {
        for (stretch, outside) in text.stretches() {
            self.push_str(stretch, outside);
        }
    }

    pub(super) fn push_slice(&mut self, text: &Text, start: usize, end: usize) {
        let first = text.origin.partition_point(|(to, _)| *to <= start);
        let mut from = start;
        for &(to, outside) in &text.origin[first..] {
            if from >= end {
                break;
            }
            self.push_str(&text.text[from..to.min(end)], outside);
            from = to;
        }
    }

    pub(super) fn finish(self) -> Text {
        Text { text: self.text.into(), origin: self.origin.into() }
    }
}

/// Bytes that a value of its own takes, beyond those of its text.
pub(super) const VALUE_SIZE: usize = 128;

/// What is charged for the mere visit of a value.
pub(super) const NODE_SIZE: usize = 32;

/// A value.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Nothing by this name: prints as nothing, counts as false, fails when looked into.
    Undefined(Rc<str>),
    None,
    Bool(bool),
    Int(i128),
    /// A whole number of the conversation that no 128 bits hold, by its digits. It is compared and written, not computed with.
    Big(Rc<str>),
    Float(f64),
    Str(Text),
    List(Rc<List>),
    Dict(Rc<Dict>),
    /// The one thing that can be changed: `namespace(…)`.
    Namespace(Rc<RefCell<Names>>),
    /// A macro, by its number.
    Macro(usize),
    /// A function that is always there.
    Function(Function),
    /// `loop` inside a loop.
    Loop(Rc<Loop>),
    /// `cycler(…)`.
    Cycler(Rc<Cycler>),
    /// `joiner(…)`.
    Joiner(Rc<Joiner>),
}

/// The names of a namespace, in order of their setting.
pub(super) type Names = Vec<(Rc<str>, Value)>;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Function {
    Range,
    Namespace,
    Dict,
    Cycler,
    Joiner,
    RaiseException,
    StrftimeNow,
    /// A method that was looked at and not called.
    Method,
}

/// A list or a tuple, and the levels of nesting below it.
#[derive(Debug)]
pub(super) struct List {
    pub(super) items: Vec<Value>,
    /// Prints in round brackets, and equals no list.
    pub(super) tuple: bool,
    nesting: u32,
}

/// A dictionary in order of insertion, and the levels of nesting below it.
#[derive(Debug)]
pub(super) struct Dict {
    pub(super) entries: Vec<(Value, Value)>,
    nesting: u32,
}

/// Where a loop stands.
#[derive(Debug)]
pub(super) struct Loop {
    pub(super) index: usize,
    pub(super) items: Rc<[Value]>,
    /// Loops around this one.
    pub(super) depth: usize,
    /// What `loop.changed` was last given.
    pub(super) changed: Rc<RefCell<Option<Value>>>,
}

/// Items that are given in turn.
#[derive(Debug)]
pub(super) struct Cycler {
    pub(super) items: Vec<Value>,
    pub(super) at: Cell<usize>,
}

/// A separator that is given from the second time on.
#[derive(Debug)]
pub(super) struct Joiner {
    pub(super) separator: Text,
    pub(super) used: Cell<bool>,
}

impl Value {
    pub(super) fn undefined(name: &str) -> Value {
        Value::Undefined(name.into())
    }

    pub(super) fn template(text: &str) -> Value {
        Value::Str(Text::template(text))
    }

    pub(super) fn list(items: Vec<Value>) -> Result<Value, Error> {
        let nesting = nesting_above(items.iter())?;
        Ok(Value::List(Rc::new(List { items, tuple: false, nesting })))
    }

    pub(super) fn tuple(items: Vec<Value>) -> Result<Value, Error> {
        let nesting = nesting_above(items.iter())?;
        Ok(Value::List(Rc::new(List { items, tuple: true, nesting })))
    }

    pub(super) fn dict(entries: Vec<(Value, Value)>) -> Result<Value, Error> {
        let nesting = nesting_above(entries.iter().flat_map(|(key, value)| [key, value]))?;
        Ok(Value::Dict(Rc::new(Dict { entries, nesting })))
    }

    /// JSON from the conversation: every string in it came from outside.
    pub(super) fn from_json(json: &serde_json::Value) -> Result<Value, Error> {
        Ok(match json {
            serde_json::Value::Null => Value::None,
            serde_json::Value::Bool(b) => Value::Bool(*b),
            serde_json::Value::Number(number) => match python::number(number) {
                python::Number::Int(digits) => {
                    digits.parse().map_or_else(|_| Value::Big(digits.into()), Value::Int)
                }
                python::Number::Float(float) => Value::Float(float),
            },
            serde_json::Value::String(text) => Value::Str(Text::new(text, true)),
            serde_json::Value::Array(items) => {
                Value::list(items.iter().map(Value::from_json).collect::<Result<_, _>>()?)?
            }
            serde_json::Value::Object(map) => {
                let entries = map
                    .iter()
                    .map(|(key, value)| Ok((Value::Str(Text::new(key, true)), Value::from_json(value)?)));
                Value::dict(entries.collect::<Result<_, Error>>()?)?
            }
        })
    }

    /// Bytes of the value's text, and some for every value in it.
    pub(super) fn weight(&self) -> usize {
        NODE_SIZE
            + match self {
                Value::Str(text) => text.len(),
                Value::Big(digits) => digits.len(),
                Value::List(list) => list.items.iter().map(Value::weight).sum(),
                Value::Dict(dict) => {
                    dict.entries.iter().map(|(key, value)| key.weight() + value.weight()).sum()
                }
                _ => 0,
            }
    }

    /// What Python takes for true.
    pub(super) fn truth(&self) -> bool {
        match self {
            Value::Undefined(_) | Value::None => false,
            Value::Bool(b) => *b,
            Value::Int(int) => *int != 0,
            Value::Float(float) => *float != 0.0,
            Value::Str(text) => text.len() > 0,
            Value::List(list) => !list.items.is_empty(),
            Value::Dict(dict) => !dict.entries.is_empty(),
            Value::Big(_)
            | Value::Namespace(_)
            | Value::Macro(_)
            | Value::Function(_)
            | Value::Loop(_)
            | Value::Cycler(_)
            | Value::Joiner(_) => true,
        }
    }

    /// The name of the kind of value, as Python has it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Undefined(_) => "undefined",
            Value::None => "None",
            Value::Bool(_) => "bool",
            Value::Int(_) | Value::Big(_) => "int",
            Value::Float(_) => "float",
            Value::Str(_) => "str",
            Value::List(_) => "list",
            Value::Dict(_) => "dict",
            Value::Namespace(_) => "namespace",
            Value::Macro(_) => "macro",
            Value::Function(_) => "function",
            Value::Loop(_) => "loop",
            Value::Cycler(_) => "cycler",
            Value::Joiner(_) => "joiner",
        }
    }

    /// `float(value)` of a number.
    pub(super) fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Big(digits) => digits.parse().ok(),
            other => other.number().map(Number::as_f64),
        }
    }

    /// Whether the two are one key of a dictionary.
    pub(super) fn same_key(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Str(a), Value::Str(b)) => a.as_str() == b.as_str(),
            (Value::None, Value::None) => true,
            (Value::Big(a), Value::Big(b)) => a == b,
            (Value::List(a), Value::List(b)) if a.tuple && b.tuple => {
                a.items.len() == b.items.len() && a.items.iter().zip(&b.items).all(|(a, b)| a.same_key(b))
            }
            _ => match (self.number(), other.number()) {
                (Some(Number::Int(a)), Some(Number::Int(b))) => a == b,
                (Some(a), Some(b)) => a.as_f64() == b.as_f64(),
                _ => false,
            },
        }
    }

    /// Whether the value can be a key of a dictionary: what cannot change, and tuples of that. Tuples of tuples are no keys
    /// here: they may hold one another so often that nobody can compare them.
    pub(super) fn is_key(&self) -> bool {
        let is_plain = |value: &Value| {
            matches!(value, Value::Str(_) | Value::None | Value::Big(_)) || value.number().is_some()
        };
        match self {
            Value::List(list) => list.tuple && list.items.iter().all(is_plain),
            other => is_plain(other),
        }
    }

    /// The number that a value counts as in arithmetic: Python's booleans are 0 and 1.
    pub(super) fn number(&self) -> Option<Number> {
        match self {
            Value::Bool(b) => Some(Number::Int(i128::from(*b))),
            Value::Int(int) => Some(Number::Int(*int)),
            Value::Float(float) => Some(Number::Float(*float)),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    Int(i128),
    Float(f64),
}

impl Number {
    pub(super) fn as_f64(self) -> f64 {
        match self {
            Number::Int(int) => int as f64,
            Number::Float(float) => float,
        }
    }
}

impl Dict {
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        let found = self.entries.iter().find(|(k, _)| matches!(k, Value::Str(k) if k.as_str() == key));
        found.map(|(_, value)| value)
    }

    pub(super) fn at(&self, key: &Value) -> Option<&Value> {
        self.entries.iter().find(|(k, _)| k.same_key(key)).map(|(_, value)| value)
    }
}

/// Nesting of a collection of these: bounded, and nothing that can change may be inside, lest it hold itself.
fn nesting_above<'v>(items: impl Iterator<Item = &'v Value>) -> Result<u32, Error> {
    let mut nesting = 0;
    for item in items {
        nesting = nesting.max(match item {
            Value::List(list) => list.nesting + 1,
            Value::Dict(dict) => dict.nesting + 1,
            Value::Namespace(_) | Value::Loop(_) | Value::Cycler(_) | Value::Joiner(_) => {
                return Err(Error::value(format!("a {} cannot be put into another value", item.kind())));
            }
            _ => 0,
        });
    }
    if nesting > MAX_NESTING {
        return Err(Error::limit(0, "values are nested too deeply"));
    }
    Ok(nesting)
}

/// `str(value)`, appended. `charge` is told of every byte before it is written.
pub(super) fn write_str(
    out: &mut TextBuilder,
    value: &Value,
    charge: &mut dyn FnMut(usize) -> Result<(), Error>,
) -> Result<(), Error> {
    match value {
        Value::Undefined(_) => Ok(()),
        Value::Str(text) => {
            charge(text.size())?;
            out.push(text);
            Ok(())
        }
        other => write_repr(out, other, charge),
    }
}

/// `repr(value)`, appended.
pub(super) fn write_repr(
    out: &mut TextBuilder,
    value: &Value,
    charge: &mut dyn FnMut(usize) -> Result<(), Error>,
) -> Result<(), Error> {
    charge(NODE_SIZE)?;
    match value {
        Value::Undefined(_) => out.push_str("Undefined", false),
        Value::None => out.push_str("None", false),
        Value::Bool(true) => out.push_str("True", false),
        Value::Bool(false) => out.push_str("False", false),
        Value::Int(int) => out.push_str(&int.to_string(), false),
        Value::Big(digits) => write_big(out, digits, charge)?,
        Value::Float(float) => out.push_str(&python::float(*float), false),
        Value::Str(text) => {
            charge(text.size())?;
            out.push_str(&python::repr_str(text.as_str()), text.any_outside());
        }
        Value::List(list) => {
            let [open, close] = match (list.tuple, list.items.len()) {
                (false, _) => ["[", "]"],
                (true, 1) => ["(", ",)"],
                (true, _) => ["(", ")"],
            };
            out.push_str(open, false);
            for (i, item) in list.items.iter().enumerate() {
                if i > 0 {
                    out.push_str(", ", false);
                }
                write_repr(out, item, charge)?;
            }
            out.push_str(close, false);
        }
        Value::Dict(dict) => {
            out.push_str("{", false);
            for (i, (key, item)) in dict.entries.iter().enumerate() {
                if i > 0 {
                    out.push_str(", ", false);
                }
                write_repr(out, key, charge)?;
                out.push_str(": ", false);
                write_repr(out, item, charge)?;
            }
            out.push_str("}", false);
        }
        Value::Namespace(_)
        | Value::Macro(_)
        | Value::Function(_)
        | Value::Loop(_)
        | Value::Cycler(_)
        | Value::Joiner(_) => return Err(Error::value(format!("a {} has no text", value.kind()))),
    }
    Ok(())
}

fn write_big(
    out: &mut TextBuilder,
    digits: &str,
    charge: &mut dyn FnMut(usize) -> Result<(), Error>,
) -> Result<(), Error> {
    charge(digits.len())?;
    out.push_str(digits, false);
    Ok(())
}

/// How JSON is laid out.
#[derive(Clone, Copy)]
pub(super) struct JsonLayout<'a> {
    pub(super) indent: Option<usize>,
    pub(super) item_separator: &'a str,
    pub(super) key_separator: &'a str,
    pub(super) ascii: bool,
    pub(super) sort_keys: bool,
}

/// `json.dumps(value)`, appended.
pub(super) fn write_json(
    out: &mut TextBuilder,
    value: &Value,
    layout: JsonLayout<'_>,
    level: usize,
    charge: &mut dyn FnMut(usize) -> Result<(), Error>,
) -> Result<(), Error> {
    let new_line =
        |out: &mut TextBuilder, level: usize, charge: &mut dyn FnMut(usize) -> Result<(), Error>| {
            let Some(indent) = layout.indent else { return Ok(()) };
            charge(1 + indent * level)?;
            out.push_str("\n", false);
            out.push_str(&" ".repeat(indent * level), false);
            Ok(())
        };
    charge(NODE_SIZE)?;
    match value {
        Value::None => out.push_str("null", false),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }, false),
        Value::Int(int) => out.push_str(&int.to_string(), false),
        Value::Big(digits) => write_big(out, digits, charge)?,
        Value::Float(float) => out.push_str(&python::json_float(*float), false),
        Value::Str(text) => json_string(out, text, layout.ascii, charge)?,
        Value::List(list) if list.items.is_empty() => out.push_str("[]", false),
        Value::List(list) => {
            out.push_str("[", false);
            for (i, item) in list.items.iter().enumerate() {
                if i > 0 {
                    out.push_str(layout.item_separator, false);
                }
                new_line(out, level + 1, charge)?;
                write_json(out, item, layout, level + 1, charge)?;
            }
            new_line(out, level, charge)?;
            out.push_str("]", false);
        }
        Value::Dict(dict) if dict.entries.is_empty() => out.push_str("{}", false),
        Value::Dict(dict) => {
            let mut entries = Vec::new();
            for (key, item) in &dict.entries {
                entries.push((json_key(key)?, item));
            }
            if layout.sort_keys {
                entries.sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
            }
            out.push_str("{", false);
            for (i, (key, item)) in entries.into_iter().enumerate() {
                if i > 0 {
                    out.push_str(layout.item_separator, false);
                }
                new_line(out, level + 1, charge)?;
                json_string(out, &key, layout.ascii, charge)?;
                out.push_str(layout.key_separator, false);
                write_json(out, item, layout, level + 1, charge)?;
            }
            new_line(out, level, charge)?;
            out.push_str("}", false);
        }
        other => return Err(Error::value(format!("a value of kind {} is no JSON", other.kind()))),
    }
    Ok(())
}

/// The string that a key becomes in JSON.
fn json_key(key: &Value) -> Result<Text, Error> {
    Ok(match key {
        Value::Str(key) => key.clone(),
        Value::None => Text::template("null"),
        Value::Bool(b) => Text::template(if *b { "true" } else { "false" }),
        Value::Int(int) => Text::template(&int.to_string()),
        Value::Big(digits) => Text::template(digits),
        Value::Float(float) => Text::template(&python::json_float(*float)),
        other => return Err(Error::value(format!("a value of kind {} is no key of JSON", other.kind()))),
    })
}

fn json_string(
    out: &mut TextBuilder,
    text: &Text,
    ascii: bool,
    charge: &mut dyn FnMut(usize) -> Result<(), Error>,
) -> Result<(), Error> {
    charge(text.size() * 2)?;
    out.push_str("\"", false);
    for (stretch, outside) in text.stretches() {
        let mut escaped = String::with_capacity(stretch.len());
        python::escape_into(&mut escaped, stretch);
        if ascii && !escaped.is_ascii() {
            let mut units = String::new();
            for c in escaped.chars() {
                if c.is_ascii() {
                    units.push(c);
                } else {
                    let mut buffer = [0; 2];
                    for unit in c.encode_utf16(&mut buffer) {
                        units.push_str(&format!("\\u{unit:04x}"));
                    }
                }
            }
            escaped = units;
        }
        out.push_str(&escaped, outside);
    }
    out.push_str("\"", false);
    Ok(())
}
