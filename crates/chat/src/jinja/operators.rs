//! Arithmetic, comparison and containment, as Python has them.

use super::Error;
use super::ast::{BinaryOp, CompareOp};
use super::interpreter::Interpreter;
use super::value::{NODE_SIZE, Number, Text, TextBuilder, VALUE_SIZE, Value};
use std::cmp::Ordering;

impl Interpreter<'_> {
    pub(super) fn negate(&mut self, value: &Value) -> Result<Value, Error> {
        match value.number() {
            None if matches!(value, Value::Big(_)) => Err(overflow()),
            Some(Number::Int(int)) => int.checked_neg().map(Value::Int).ok_or_else(overflow),
            Some(Number::Float(float)) => Ok(Value::Float(-float)),
            None => Err(Error::value(format!("a value of kind {} cannot be negated", value.kind()))),
        }
    }

    pub(super) fn binary(&mut self, op: BinaryOp, left: &Value, right: &Value) -> Result<Value, Error> {
        match (op, left, right) {
            (BinaryOp::Concat, _, _) => {
                let (left, right) = (self.text_of(left)?, self.text_of(right)?);
                self.join_two(&left, &right)
            }
            (BinaryOp::Add, Value::Str(a), Value::Str(b)) => self.join_two(a, b),
            (BinaryOp::Add, Value::List(a), Value::List(b)) if a.tuple == b.tuple => {
                self.charge((a.items.len() + b.items.len()) * VALUE_SIZE)?;
                let items = a.items.iter().chain(&b.items).cloned().collect();
                if a.tuple { Value::tuple(items) } else { Value::list(items) }
            }
            (BinaryOp::Mul, Value::Str(text), other) | (BinaryOp::Mul, other, Value::Str(text)) => {
                let times = self.times(other, text.size())?;
                let mut out = TextBuilder::default();
                (0..times).for_each(|_| out.push(text));
                Ok(Value::Str(out.finish()))
            }
            (BinaryOp::Mul, Value::List(list), other) | (BinaryOp::Mul, other, Value::List(list)) => {
                let times = self.times(other, list.items.len() * VALUE_SIZE)?;
                Value::list((0..times).flat_map(|_| list.items.iter().cloned()).collect())
            }
            (BinaryOp::Rem, Value::Str(pattern), _) => self.percent_format(pattern, right).map(Value::Str),
            (_, Value::Big(_), _) | (_, _, Value::Big(_)) => Err(overflow()),
            _ => match (left.number(), right.number()) {
                (Some(a), Some(b)) => arithmetic(op, a, b),
                _ => Err(Error::value(format!("no {op:?} of {} and {}", left.kind(), right.kind()))),
            },
        }
    }

    fn join_two(&mut self, left: &Text, right: &Text) -> Result<Value, Error> {
        self.charge(left.size() + right.size())?;
        let mut out = TextBuilder::default();
        out.push(left);
        out.push(right);
        Ok(Value::Str(out.finish()))
    }

    /// How often something of this size is repeated, charged for.
    fn times(&mut self, count: &Value, size: usize) -> Result<usize, Error> {
        let Some(Number::Int(count)) = count.number() else {
            return Err(Error::value(format!("nothing is repeated {} times", count.kind())));
        };
        let count = usize::try_from(count.max(0)).map_err(|_| overflow())?;
        self.charge(size.max(1).saturating_mul(count).min(1 << 40))?;
        Ok(count)
    }

    pub(super) fn compare(&mut self, op: CompareOp, left: &Value, right: &Value) -> Result<bool, Error> {
        Ok(match op {
            CompareOp::Eq => self.equal(left, right)?,
            CompareOp::Ne => !self.equal(left, right)?,
            CompareOp::In => self.contains(right, left)?,
            CompareOp::NotIn => !self.contains(right, left)?,
            CompareOp::Lt => self.order(left, right)? == Some(Ordering::Less),
            CompareOp::Le => matches!(self.order(left, right)?, Some(Ordering::Less | Ordering::Equal)),
            CompareOp::Gt => self.order(left, right)? == Some(Ordering::Greater),
            CompareOp::Ge => matches!(self.order(left, right)?, Some(Ordering::Greater | Ordering::Equal)),
        })
    }

    pub(super) fn equal(&mut self, left: &Value, right: &Value) -> Result<bool, Error> {
        self.charge(NODE_SIZE)?;
        Ok(match (left, right) {
            (Value::Undefined(_), Value::Undefined(_)) | (Value::None, Value::None) => true,
            (Value::Str(a), Value::Str(b)) => {
                self.charge(a.len().min(b.len()))?;
                a.as_str() == b.as_str()
            }
            (Value::List(a), Value::List(b)) => {
                if a.items.len() != b.items.len() || a.tuple != b.tuple {
                    return Ok(false);
                }
                for (a, b) in a.items.iter().zip(&b.items) {
                    if !self.equal(a, b)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Value::Dict(a), Value::Dict(b)) => {
                if a.entries.len() != b.entries.len() {
                    return Ok(false);
                }
                for (key, value) in &a.entries {
                    self.charge_search(b.entries.len(), key)?;
                    match b.at(key) {
                        Some(other) if self.equal(value, other)? => {}
                        _ => return Ok(false),
                    }
                }
                true
            }
            (Value::Big(a), Value::Big(b)) => a == b,
            _ => match (left.number(), right.number()) {
                (Some(Number::Int(a)), Some(Number::Int(b))) => a == b,
                (Some(a), Some(b)) => a.as_f64() == b.as_f64(),
                _ => false,
            },
        })
    }

    /// The order of two values of one kind; none of floats that are no number.
    pub(super) fn order(&mut self, left: &Value, right: &Value) -> Result<Option<Ordering>, Error> {
        self.charge(NODE_SIZE)?;
        match (left, right) {
            (Value::Str(a), Value::Str(b)) => {
                self.charge(a.len().min(b.len()))?;
                Ok(Some(a.as_str().cmp(b.as_str())))
            }
            (Value::List(a), Value::List(b)) => {
                for (a, b) in a.items.iter().zip(&b.items) {
                    if !self.equal(a, b)? {
                        return self.order(a, b);
                    }
                }
                Ok(Some(a.items.len().cmp(&b.items.len())))
            }
            (Value::Big(a), Value::Big(b)) => Ok(Some(order_of_digits(a, b))),
            // Bigger than any that fits, or smaller.
            (Value::Big(a), Value::Int(_) | Value::Bool(_)) => Ok(Some(sign_of_digits(a))),
            (Value::Int(_) | Value::Bool(_), Value::Big(b)) => Ok(Some(sign_of_digits(b).reverse())),
            (Value::Big(_), Value::Float(_)) | (Value::Float(_), Value::Big(_)) => {
                Ok(left.as_f64().partial_cmp(&right.as_f64()))
            }
            _ => match (left.number(), right.number()) {
                (Some(Number::Int(a)), Some(Number::Int(b))) => Ok(Some(a.cmp(&b))),
                (Some(a), Some(b)) => Ok(a.as_f64().partial_cmp(&b.as_f64())),
                _ => Err(Error::value(format!("{} and {} have no order", left.kind(), right.kind()))),
            },
        }
    }

    pub(super) fn contains(&mut self, container: &Value, item: &Value) -> Result<bool, Error> {
        match (container, item) {
            (Value::Undefined(_), _) => Ok(false),
            (Value::Str(text), Value::Str(part)) => {
                self.charge(text.len() + part.len())?;
                Ok(text.as_str().contains(part.as_str()))
            }
            (Value::List(list), _) => {
                for other in &list.items {
                    if self.equal(other, item)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            (Value::Dict(dict), key) => {
                self.charge_search(dict.entries.len(), key)?;
                Ok(dict.at(key).is_some())
            }
            _ => Err(Error::value(format!("a value of kind {} holds no {}", container.kind(), item.kind()))),
        }
    }
}

fn arithmetic(op: BinaryOp, left: Number, right: Number) -> Result<Value, Error> {
    let by_zero = || Error::value("division by zero");
    if let (Number::Int(a), Number::Int(b)) = (left, right) {
        let result = match op {
            BinaryOp::Add => a.checked_add(b),
            BinaryOp::Sub => a.checked_sub(b),
            BinaryOp::Mul => a.checked_mul(b),
            BinaryOp::Div | BinaryOp::FloorDiv | BinaryOp::Rem if b == 0 => return Err(by_zero()),
            BinaryOp::Div => return Ok(Value::Float(a as f64 / b as f64)),
            // Python rounds towards minus infinity and its remainder has the divisor's sign.
            BinaryOp::FloorDiv => {
                a.checked_div(b).map(|q| if a % b != 0 && (a < 0) != (b < 0) { q - 1 } else { q })
            }
            BinaryOp::Rem => a.checked_rem(b).map(|r| if r != 0 && (r < 0) != (b < 0) { r + b } else { r }),
            BinaryOp::Pow if b < 0 => return Ok(Value::Float((a as f64).powf(b as f64))),
            BinaryOp::Pow => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
            BinaryOp::Concat => None,
        };
        return result.map(Value::Int).ok_or_else(overflow);
    }
    let (a, b) = (left.as_f64(), right.as_f64());
    Ok(Value::Float(match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div | BinaryOp::FloorDiv | BinaryOp::Rem if b == 0.0 => return Err(by_zero()),
        BinaryOp::Div => a / b,
        BinaryOp::FloorDiv => (a / b).floor(),
        BinaryOp::Rem => a - b * (a / b).floor(),
        BinaryOp::Pow => a.powf(b),
        BinaryOp::Concat => return Err(Error::value("numbers are no text")),
    }))
}

/// The order of whole numbers that are written as JSON writes them.
fn order_of_digits(a: &str, b: &str) -> Ordering {
    match (a.strip_prefix('-'), b.strip_prefix('-')) {
        (None, None) => (a.len(), a).cmp(&(b.len(), b)),
        (Some(a), Some(b)) => (b.len(), b).cmp(&(a.len(), a)),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
    }
}

fn sign_of_digits(digits: &str) -> Ordering {
    if digits.starts_with('-') { Ordering::Less } else { Ordering::Greater }
}

fn overflow() -> Error {
    Error::value("a number is out of range")
}
