//! A request's JSON object, taken apart field by field: every field is used or refused.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::error::ApiError;

/// Fields not yet taken. `null` stands for a field that is not there.
#[derive(Debug)]
pub(crate) struct Params {
    fields: Map<String, Value>,
}

impl Params {
    /// Reads an object.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(fields)) => Ok(Params { fields }),
            Ok(_) => Err(ApiError::invalid("the request's body is to be a JSON object")),
            Err(error) => Err(ApiError::invalid(format!("the request's body is no JSON: {error}"))),
        }
    }

    /// An object as a value.
    pub(crate) fn of(name: &str, value: Value) -> Result<Self, ApiError> {
        match value {
            Value::Object(fields) => Ok(Params { fields }),
            _ => Err(wrong(name, "an object")),
        }
    }

    /// Whether the field is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.fields.get(name).is_some_and(|value| !value.is_null())
    }

    /// The field, whatever it holds.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.fields.shift_remove(name).filter(|value| !value.is_null())
    }

    /// Puts a value in the field's place.
    pub(crate) fn put(&mut self, name: &str, value: Value) {
        self.fields.insert(name.to_owned(), value);
    }

    /// A field that must be there.
    pub(crate) fn need(&mut self, name: &str) -> Result<Value, ApiError> {
        self.take(name).ok_or_else(|| ApiError::parameter(name, format!("`{name}` is missing")))
    }

    /// A string.
    pub(crate) fn string(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(wrong(name, "a string")),
        }
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(_) => Err(wrong(name, "true or false")),
        }
    }

    /// A number within bounds.
    pub(crate) fn number(
        &mut self,
        name: &str,
        bounds: RangeInclusive<f64>,
    ) -> Result<Option<f64>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value.as_f64() {
            Some(number) if bounds.contains(&number) => Ok(Some(number)),
            _ => Err(wrong(name, &format!("a number from {} to {}", bounds.start(), bounds.end()))),
        }
    }

    /// A whole number within bounds.
    pub(crate) fn integer(
        &mut self,
        name: &str,
        bounds: RangeInclusive<i64>,
    ) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        // Some clients write 5.0.
        let whole = value
            .as_i64()
            .or_else(|| value.as_f64().filter(|x| x.fract() == 0.0 && x.abs() < 9e15).map(|x| x as i64));
        match whole {
            Some(number) if bounds.contains(&number) => Ok(Some(number)),
            _ => Err(wrong(name, &format!("a whole number from {} to {}", bounds.start(), bounds.end()))),
        }
    }

    /// A list.
    pub(crate) fn list(&mut self, name: &str) -> Result<Option<Vec<Value>>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(_) => Err(wrong(name, "a list")),
        }
    }

    /// An object, to be taken apart in turn.
    pub(crate) fn object(&mut self, name: &str) -> Result<Option<Params>, ApiError> {
        self.take(name).map(|value| Params::of(name, value)).transpose()
    }

    /// A switch of which only one position is implemented.
    pub(crate) fn only(&mut self, name: &str, position: bool) -> Result<(), ApiError> {
        match self.boolean(name)? {
            Some(other) if other != position => {
                Err(ApiError::unsupported(name, format!("`{name}` can only be {position} here")))
            }
            _ => Ok(()),
        }
    }

    /// A field that changes nothing about the answer, whatever it holds: notes of the client to itself.
    pub(crate) fn ignore(&mut self, name: &str) {
        self.take(name);
    }

    /// A field that asks for something that is not there yet, unless it is empty.
    pub(crate) fn not_yet(&mut self, name: &str) -> Result<(), ApiError> {
        match self.take(name) {
            None | Some(Value::Bool(false)) => Ok(()),
            Some(Value::Array(items)) if items.is_empty() => Ok(()),
            Some(_) => Err(ApiError::unsupported(name, format!("`{name}` is not supported yet"))),
        }
    }

    /// What is left, for a place where anything may stand.
    pub(crate) fn rest(self) -> Map<String, Value> {
        self.fields
    }

    /// Nothing may be left.
    pub(crate) fn done(self) -> Result<(), ApiError> {
        match self.fields.into_iter().find(|(_, value)| !value.is_null()) {
            None => Ok(()),
            Some((name, _)) => Err(ApiError::unknown(&name)),
        }
    }
}

/// The complaint about a field of the wrong kind or size.
pub(crate) fn wrong(name: &str, wanted: &str) -> ApiError {
    ApiError::parameter(name, format!("`{name}` is to be {wanted}"))
}

/// A list of ids below `vocab`.
pub(crate) fn ids(name: &str, values: &[Value], vocab: usize) -> Result<Vec<u32>, ApiError> {
    let id = |value: &Value| {
        let id = value.as_u64().filter(|&id| id < vocab as u64);
        let fault = || ApiError::parameter(name, format!("`{name}`: {value} is no token id below {vocab}"));
        id.map(|id| id as u32).ok_or_else(fault)
    };
    values.iter().map(id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(text: &str) -> Params {
        Params::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_is_not_taken_is_refused() {
        let mut p = params(r#"{"a": 1, "b": null, "c": "x"}"#);
        assert_eq!(p.integer("a", 0..=5).unwrap(), Some(1));
        assert_eq!(p.string("c").unwrap().as_deref(), Some("x"));
        assert!(p.done().is_ok());
        assert!(params(r#"{"top_pp": 1}"#).done().unwrap_err().json()["error"]["param"] == "top_pp");
    }

    #[test]
    fn bounds_and_kinds_hold() {
        assert!(params(r#"{"t": 3}"#).number("t", 0.0..=2.0).is_err());
        assert!(params(r#"{"t": "1"}"#).number("t", 0.0..=2.0).is_err());
        assert_eq!(params(r#"{"n": 2.0}"#).integer("n", 0..=9).unwrap(), Some(2));
        assert!(params(r#"{"n": 2.5}"#).integer("n", 0..=9).is_err());
        assert!(Params::parse(b"[1]").is_err());
        assert!(params(r#"{"tools": []}"#).not_yet("tools").is_ok());
        assert!(params(r#"{"tools": [1]}"#).not_yet("tools").is_err());
    }
}
