//! Jinja2's tests: `value is defined`, `value is string`, …

use super::Error;
use super::arguments::Arguments;
use super::ast::CompareOp;
use super::interpreter::Interpreter;
use super::value::{Number, Value};

/// The tests that there are.
pub(super) const NAMES: [&str; 39] = [
    "defined",
    "undefined",
    "none",
    "true",
    "false",
    "boolean",
    "integer",
    "float",
    "number",
    "string",
    "mapping",
    "iterable",
    "sequence",
    "callable",
    "sameas",
    "odd",
    "even",
    "divisibleby",
    "in",
    "eq",
    "equalto",
    "==",
    "ne",
    "!=",
    "lt",
    "<",
    "lessthan",
    "le",
    "<=",
    "gt",
    ">",
    "greaterthan",
    "ge",
    ">=",
    "lower",
    "upper",
    "escaped",
    "filter",
    "test",
];

impl Interpreter<'_> {
    pub(super) fn test(&mut self, name: &str, value: &Value, args: Arguments) -> Result<bool, Error> {
        let compared = |op: CompareOp, this: &mut Self, args: Arguments| {
            let [other] = args.bind(name, ["other"])?;
            let other = other.ok_or_else(|| Error::value(format!("the test `{name}` takes a value")))?;
            this.compare(op, value, &other)
        };
        match name {
            "sameas" => {
                let [other] = args.bind(name, ["other"])?;
                let same = other.filter(|other| other.kind() == value.kind());
                return same.map_or(Ok(false), |other| self.equal(value, &other));
            }
            "eq" | "equalto" | "==" => return compared(CompareOp::Eq, self, args),
            "ne" | "!=" => return compared(CompareOp::Ne, self, args),
            "lt" | "lessthan" | "<" => return compared(CompareOp::Lt, self, args),
            "le" | "<=" => return compared(CompareOp::Le, self, args),
            "gt" | "greaterthan" | ">" => return compared(CompareOp::Gt, self, args),
            "ge" | ">=" => return compared(CompareOp::Ge, self, args),
            "in" => return compared(CompareOp::In, self, args),
            "divisibleby" => {
                let [divisor] = args.bind(name, ["num"])?;
                let divisor = divisor.as_ref().and_then(Value::number);
                return match (value.number(), divisor) {
                    (Some(Number::Int(a)), Some(Number::Int(b))) if b != 0 => {
                        Ok(a.checked_rem(b).unwrap_or(0) == 0)
                    }
                    _ => Err(Error::value("the test `divisibleby` takes two whole numbers")),
                };
            }
            _ => args.none(name)?,
        }
        Ok(match name {
            "defined" => !matches!(value, Value::Undefined(_)),
            "undefined" => matches!(value, Value::Undefined(_)),
            "none" => matches!(value, Value::None),
            "true" => matches!(value, Value::Bool(true)),
            "false" => matches!(value, Value::Bool(false)),
            "boolean" => matches!(value, Value::Bool(_)),
            "integer" => matches!(value, Value::Int(_) | Value::Big(_)),
            "float" => matches!(value, Value::Float(_)),
            "number" => value.as_f64().is_some(),
            "string" => matches!(value, Value::Str(_)),
            "mapping" => matches!(value, Value::Dict(_)),
            "iterable" | "sequence" => {
                matches!(value, Value::Str(_) | Value::List(_) | Value::Dict(_) | Value::Undefined(_))
            }
            "callable" => matches!(value, Value::Macro(_) | Value::Function(_) | Value::Joiner(_)),
            "odd" | "even" => match value.number() {
                None if matches!(value, Value::Big(_)) => {
                    let digits = self.text_of(value)?;
                    digits.as_str().ends_with(['1', '3', '5', '7', '9']) == (name == "odd")
                }
                Some(Number::Int(int)) => (int.rem_euclid(2) == 1) == (name == "odd"),
                _ => return Err(Error::value(format!("the test `{name}` takes a whole number"))),
            },
            "lower" | "upper" => {
                let text = self.text_of(value)?;
                self.charge(text.size())?;
                let cased: Vec<char> =
                    text.as_str().chars().filter(|c| c.is_lowercase() || c.is_uppercase()).collect();
                !cased.is_empty() && cased.iter().all(|c| c.is_lowercase() == (name == "lower"))
            }
            "escaped" => false,
            "filter" => matches!(value, Value::Str(text) if super::filters::NAMES.contains(&text.as_str())),
            "test" => matches!(value, Value::Str(text) if NAMES.contains(&text.as_str())),
            _ => return Err(Error::value(format!("the test `{name}` is not known here"))),
        })
    }
}
