//! Numbers that llguidance's arithmetic has room for: it reckons whole bounds in `i64` and multiples in `u32`, unchecked.

use serde_json::Value;

/// Digits of a number that others are to be multiples of.
const DIGITS: usize = 9;
/// Where schemas with multiples meet, two common multiples are multiplied.
const COMMON: u64 = u16::MAX as u64;
/// Keywords by which several schemas hold for one value.
const MEETINGS: [&str; 9] =
    ["allOf", "anyOf", "oneOf", "not", "if", "$ref", "dependentSchemas", "dependencies", "patternProperties"];

/// Whether the bound of a range is one that can be kept to; in old drafts a truth value says whether it is exclusive.
pub(super) fn is_bound(value: &Value) -> bool {
    // What `i64::MAX` is as a double. Its negative has no counterpart.
    const LARGEST: f64 = 9_223_372_036_854_775_808.0;
    !value.is_number() || value.as_f64().is_some_and(|x| -LARGEST < x && x <= LARGEST)
}

/// Whether a number is short enough for others to be multiples of it.
pub(super) fn is_short(number: &Value) -> bool {
    number.to_string().trim_start_matches(['0', '.']).bytes().filter(u8::is_ascii_digit).count() <= DIGITS
}

/// Whether the `multipleOf`s of a schema, wherever they stand, may meet for one value.
pub(super) fn multiples_may_meet(schema: &Value) -> bool {
    let mut found = Found::default();
    found.walk(schema);
    if !found.meets {
        return true;
    }
    let places = found.multiples.iter().map(|(_, places)| *places).max().unwrap_or(0);
    let common = found.multiples.iter().try_fold(1_u64, |common, (digits, own)| {
        let scaled = digits.checked_mul(10_u64.checked_pow(places - own)?)?;
        Some(common / gcd(common, scaled) * scaled).filter(|common| *common <= COMMON)
    });
    common.is_some()
}

#[derive(Default)]
struct Found {
    /// Digits, and how many of them stand behind the point.
    multiples: Vec<(u64, u32)>,
    meets: bool,
}

impl Found {
    fn walk(&mut self, schema: &Value) {
        match schema {
            Value::Object(fields) => {
                for (name, value) in fields {
                    self.meets |= MEETINGS.contains(&name.as_str());
                    if name == "multipleOf" && is_short(value) {
                        self.multiples.extend(value.as_f64().map(decimal));
                    }
                    self.walk(value);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.walk(item)),
            _ => {}
        }
    }
}

/// A short number as digits, and how many of them stand behind the point.
fn decimal(number: f64) -> (u64, u32) {
    let (mut digits, mut places) = (number.abs(), 0);
    while digits.fract() != 0.0 && places < 400 {
        digits *= 10.0;
        places += 1;
    }
    (digits as u64, places)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a.max(1) } else { gcd(b, a % b) }
}
