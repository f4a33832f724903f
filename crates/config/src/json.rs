//! JSON as a tree that takes no more memory than its text may ask for. A `0,` of two bytes becomes a value of 72, with its
//! digits in a place of their own: without a bound, a text of megabytes becomes a tree of gigabytes.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::Quoted;

/// Bytes that the tree of a file may take. A conversation of many short messages takes twelve times its text, so this is
/// one of 80,000; a long text takes what it has.
pub const FILE_ROOM: usize = 32 << 20;

/// Bytes that what is made of a request's text may take: four times the text's, and enough for any short one.
pub fn room(text: &str) -> usize {
    (256 << 10) + text.len().saturating_mul(4)
}

/// Why a text does not become a tree.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// It is no JSON.
    #[error("{}", Quoted(&.0.to_string()))]
    Syntax(serde_json::Error),
    /// The tree would be larger than the room for it.
    #[error("it holds too many small values")]
    TooLarge,
}

/// Reads a text as a tree of at most `room` bytes.
///
/// # Errors
/// When it is no JSON, or would take more.
pub fn tree(text: &str, room: usize) -> Result<Value, TreeError> {
    let mut left = Left { bytes: room, is_short: false };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Node(&mut left).deserialize(&mut deserializer);
    match value.and_then(|value| deserializer.end().map(|()| value)) {
        Ok(value) => Ok(value),
        Err(_) if left.is_short => Err(TreeError::TooLarge),
        Err(error) => Err(TreeError::Syntax(error)),
    }
}

/// Reads whatever comes as a tree of at most [`FILE_ROOM`] bytes: for types that are made of one.
///
/// # Errors
/// Those of the deserializer, and one when the tree would take more.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    Node(&mut Left { bytes: FILE_ROOM, is_short: false }).deserialize(deserializer)
}

/// How serde_json's `arbitrary_precision` hands over a number, whose digits it keeps: as an object with this one name.
const NUMBER: &str = "$serde_json::private::Number";

struct Left {
    bytes: usize,
    is_short: bool,
}

impl Left {
    fn take<E: Error>(&mut self, bytes: usize) -> Result<(), E> {
        match self.bytes.checked_sub(bytes) {
            Some(left) => self.bytes = left,
            None => {
                self.is_short = true;
                return Err(E::custom("it holds too many small values; leave some out"));
            }
        }
        Ok(())
    }

    /// A string on the heap, with what an allocator adds.
    fn take_text<E: Error>(&mut self, text: &str) -> Result<(), E> {
        self.take(text.len() + 16)
    }
}

struct Node<'a>(&'a mut Left);

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.0.take(size_of::<Value>())?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    // Numbers whose digits say no more than the number itself may come as such.
    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Value, E> {
        Ok(Number::from_i128(value).map_or(Value::Null, Value::Number))
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Value, E> {
        Ok(Number::from_u128(value).map_or(Value::Null, Value::Number))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        self.0.take_text(text)?;
        Ok(text.into())
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Value, E> {
        self.0.take_text(&text)?;
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Node(self.0))? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            if name == NUMBER && map.is_empty() {
                let digits: String = entries.next_value()?;
                self.0.take_text(&digits)?;
                return digits.parse().map(Value::Number).map_err(A::Error::custom);
            }
            // A place in the table beside the entry itself.
            self.0.take_text(&name)?;
            self.0.take(size_of::<String>() + 2 * size_of::<usize>())?;
            map.insert(name, entries.next_value_seed(Node(self.0))?);
        }
        Ok(map.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_what_serde_json_makes_of_the_text() {
        for text in [
            r#"{"a": [1, -2, 0.5, 1e300, "x\u00e9", null, true, {}], "b": {"c": []}, "a": 2}"#,
            "[]",
            " \"\" ",
            "18446744073709551615",
            "[18446744073709551616, -0, 1E3, 1e999, 123456789012345678901234567890.50]",
        ] {
            assert_eq!(tree(text, 1 << 20).unwrap(), serde_json::from_str::<Value>(text).unwrap(), "{text}");
        }
        for text in ["", "[", "[1,]", "{\"a\"}", "1 2", "01", &"[".repeat(200)] {
            assert!(matches!(tree(text, 1 << 20), Err(TreeError::Syntax(_))), "{text}");
        }
    }

    /// From a tree numbers come as such where that loses no digit, and texts are moved.
    #[test]
    fn a_tree_of_a_tree_is_the_same() {
        for text in [
            r#"{"a": [1, -2, 0.5, 1e300, "x", null, true, {}]}"#,
            "[18446744073709551616, -9223372036854775809, 1E3, 1e999, 123456789012345678901234567890.50]",
        ] {
            let value: Value = serde_json::from_str(text).unwrap();
            assert_eq!(deserialize(value.clone()).unwrap(), value);
        }
    }

    #[test]
    fn a_tree_takes_no_more_than_its_room() {
        let zeros = format!("[{}0]", "0,".repeat(200_000));
        assert!(matches!(tree(&zeros, room(&zeros)), Err(TreeError::TooLarge)));
        assert!(tree(&zeros, 90 * 200_002).is_ok());
        let nested = format!("[{}{{}}]", r#"{"":""},"#.repeat(100_000));
        assert!(matches!(tree(&nested, room(&nested)), Err(TreeError::TooLarge)));
        let text = format!("[\"{}\"]", "x".repeat(1 << 20));
        assert!(tree(&text, room(&text)).is_ok());
    }
}
