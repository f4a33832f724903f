//! The key/values of a GGUF file and typed access to them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::strings::Strings;
use crate::error::CheckpointError;

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Unsigned byte.
    U8(u8),
    /// Signed byte.
    I8(i8),
    /// Unsigned 16-bit integer.
    U16(u16),
    /// Signed 16-bit integer.
    I16(i16),
    /// Unsigned 32-bit integer.
    U32(u32),
    /// Signed 32-bit integer.
    I32(i32),
    /// Unsigned 64-bit integer.
    U64(u64),
    /// Signed 64-bit integer.
    I64(i64),
    /// 32-bit float.
    F32(f32),
    /// 64-bit float.
    F64(f64),
    /// Truth value.
    Bool(bool),
    /// Text.
    Str(String),
    /// Several values of one kind.
    Array(Array),
}

/// Several values of one kind. (GGUF knows arrays of arrays; no model uses them and llama.cpp refuses them, as we do.)
#[derive(Debug, Clone, PartialEq)]
pub enum Array {
    /// Unsigned bytes.
    U8(Vec<u8>),
    /// Signed bytes.
    I8(Vec<i8>),
    /// Unsigned 16-bit integers.
    U16(Vec<u16>),
    /// Signed 16-bit integers.
    I16(Vec<i16>),
    /// Unsigned 32-bit integers.
    U32(Vec<u32>),
    /// Signed 32-bit integers.
    I32(Vec<i32>),
    /// Unsigned 64-bit integers.
    U64(Vec<u64>),
    /// Signed 64-bit integers.
    I64(Vec<i64>),
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 64-bit floats.
    F64(Vec<f64>),
    /// Truth values.
    Bool(Vec<bool>),
    /// Texts.
    Str(Strings),
}

/// The key/values of a file, in the file's order.
#[derive(Debug, Clone)]
pub struct Metadata {
    path: Arc<Path>,
    entries: Vec<(String, Value)>,
    index: HashMap<String, usize>,
}

impl Metadata {
    /// No key/values yet; `path` is the file that errors name.
    pub fn new(path: &Path) -> Self {
        Metadata { path: Arc::from(path), entries: Vec::new(), index: HashMap::new() }
    }

    /// The file these key/values come from or go to.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sets a key, replacing the value it had; returns that value.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) -> Option<Value> {
        let value = value.into();
        if let Some(&at) = self.index.get(key) {
            return Some(std::mem::replace(&mut self.entries[at].1, value));
        }
        self.index.insert(key.to_owned(), self.entries.len());
        self.entries.push((key.to_owned(), value));
        None
    }

    /// All pairs in the file's order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of a key.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.index.get(key).map(|&at| &self.entries[at].1)
    }

    /// The value of a key that may be absent: `u32`, `u64`, `usize`, `i32`, `f32`, `bool`, `&str`, `&Strings`,
    /// `Vec<u32>`, `Vec<i32>`, `Vec<f32>` or `Vec<bool>`. Integers of any stored width convert when they fit.
    ///
    /// # Errors
    /// [`CheckpointError::WrongKey`] when the key is there with a value of another kind.
    pub fn get<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<Option<T>, CheckpointError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match T::from_value(value) {
            Some(value) => Ok(Some(value)),
            None => Err(CheckpointError::WrongKey {
                path: self.path.to_path_buf(),
                key: key.to_owned(),
                wanted: T::WANTED,
                found: value.kind(),
            }),
        }
    }

    /// The value of a key that must be there; types as for [`Metadata::get`].
    ///
    /// # Errors
    /// [`CheckpointError::MissingKey`] or [`CheckpointError::WrongKey`].
    pub fn need<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<T, CheckpointError> {
        self.get(key)?
            .ok_or_else(|| CheckpointError::MissingKey { path: self.path.to_path_buf(), key: key.to_owned() })
    }
}

impl Value {
    /// The value's kind in words.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::U8(_) => "a u8",
            Value::I8(_) => "an i8",
            Value::U16(_) => "a u16",
            Value::I16(_) => "an i16",
            Value::U32(_) => "a u32",
            Value::I32(_) => "an i32",
            Value::U64(_) => "a u64",
            Value::I64(_) => "an i64",
            Value::F32(_) => "an f32",
            Value::F64(_) => "an f64",
            Value::Bool(_) => "a truth value",
            Value::Str(_) => "a string",
            Value::Array(array) => match array {
                Array::U8(_) => "an array of u8",
                Array::I8(_) => "an array of i8",
                Array::U16(_) => "an array of u16",
                Array::I16(_) => "an array of i16",
                Array::U32(_) => "an array of u32",
                Array::I32(_) => "an array of i32",
                Array::U64(_) => "an array of u64",
                Array::I64(_) => "an array of i64",
                Array::F32(_) => "an array of f32",
                Array::F64(_) => "an array of f64",
                Array::Bool(_) => "an array of truth values",
                Array::Str(_) => "an array of strings",
            },
        }
    }

    fn integer(&self) -> Option<i128> {
        Some(match *self {
            Value::U8(v) => v.into(),
            Value::I8(v) => v.into(),
            Value::U16(v) => v.into(),
            Value::I16(v) => v.into(),
            Value::U32(v) => v.into(),
            Value::I32(v) => v.into(),
            Value::U64(v) => v.into(),
            Value::I64(v) => v.into(),
            _ => return None,
        })
    }
}

/// A Rust type that some GGUF values convert to without loss.
pub trait FromValue<'a>: Sized {
    /// The type in words, for the error.
    const WANTED: &'static str;

    /// Converts, or returns `None` when the value is of another kind or does not fit.
    fn from_value(value: &'a Value) -> Option<Self>;
}

macro_rules! integers {
    ($($ty:ty => $wanted:literal, $array:literal;)*) => {$(
        impl FromValue<'_> for $ty {
            const WANTED: &'static str = $wanted;

            fn from_value(value: &Value) -> Option<Self> {
                <$ty>::try_from(value.integer()?).ok()
            }
        }

        impl FromValue<'_> for Vec<$ty> {
            const WANTED: &'static str = $array;

            fn from_value(value: &Value) -> Option<Self> {
                let Value::Array(array) = value else { return None };
                match array {
                    Array::U8(v) => v.iter().map(|&v| v.try_into().ok()).collect(),
                    Array::I8(v) => v.iter().map(|&v| v.try_into().ok()).collect(),
                    Array::U16(v) => v.iter().map(|&v| v.try_into().ok()).collect(),
                    Array::I16(v) => v.iter().map(|&v| v.try_into().ok()).collect(),
                    Array::U32(v) => v.iter().map(|&v| v.try_into().ok()).collect(),
                    Array::I32(v) => v.iter().map(|&v| v.try_into().ok()).collect(),
                    Array::U64(v) => v.iter().map(|&v| v.try_into().ok()).collect(),
                    Array::I64(v) => v.iter().map(|&v| v.try_into().ok()).collect(),
                    _ => None,
                }
            }
        }
    )*};
}

integers! {
    u32 => "an integer from 0 to 4294967295", "an array of such integers";
    u64 => "an integer that is not negative", "an array of such integers";
    usize => "an integer that is not negative", "an array of such integers";
    i32 => "a 32-bit integer", "an array of 32-bit integers";
}

impl FromValue<'_> for f32 {
    const WANTED: &'static str = "a float";

    fn from_value(value: &Value) -> Option<Self> {
        match *value {
            Value::F32(v) => Some(v),
            Value::F64(v) => Some(v as f32),
            _ => None,
        }
    }
}

impl FromValue<'_> for Vec<f32> {
    const WANTED: &'static str = "an array of floats";

    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Array(Array::F32(v)) => Some(v.clone()),
            Value::Array(Array::F64(v)) => Some(v.iter().map(|&v| v as f32).collect()),
            _ => None,
        }
    }
}

impl FromValue<'_> for bool {
    const WANTED: &'static str = "a truth value";

    fn from_value(value: &Value) -> Option<Self> {
        match *value {
            Value::Bool(v) => Some(v),
            _ => None,
        }
    }
}

impl FromValue<'_> for Vec<bool> {
    const WANTED: &'static str = "an array of truth values";

    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Array(Array::Bool(v)) => Some(v.clone()),
            _ => None,
        }
    }
}

impl<'a> FromValue<'a> for &'a str {
    const WANTED: &'static str = "a string";

    fn from_value(value: &'a Value) -> Option<Self> {
        match value {
            Value::Str(v) => Some(v),
            _ => None,
        }
    }
}

impl<'a> FromValue<'a> for &'a Strings {
    const WANTED: &'static str = "an array of strings";

    fn from_value(value: &'a Value) -> Option<Self> {
        match value {
            Value::Array(Array::Str(v)) => Some(v),
            _ => None,
        }
    }
}

impl<'a> FromValue<'a> for &'a [u8] {
    const WANTED: &'static str = "an array of bytes";

    fn from_value(value: &'a Value) -> Option<Self> {
        match value {
            Value::Array(Array::U8(v)) => Some(v),
            // gguf-py writes byte strings (SentencePiece's character map) with signed elements.
            Value::Array(Array::I8(v)) => Some(bytemuck::cast_slice(v)),
            _ => None,
        }
    }
}

macro_rules! into_value {
    ($($ty:ty => $variant:ident;)*) => {$(
        impl From<$ty> for Value {
            fn from(value: $ty) -> Value {
                Value::$variant(value)
            }
        }

        impl From<Vec<$ty>> for Value {
            fn from(values: Vec<$ty>) -> Value {
                Value::Array(Array::$variant(values))
            }
        }
    )*};
}

into_value! {
    u8 => U8;
    i8 => I8;
    u16 => U16;
    i16 => I16;
    u32 => U32;
    i32 => I32;
    u64 => U64;
    i64 => I64;
    f32 => F32;
    f64 => F64;
    bool => Bool;
}

impl From<String> for Value {
    fn from(value: String) -> Value {
        Value::Str(value)
    }
}

impl From<Strings> for Value {
    fn from(values: Strings) -> Value {
        Value::Array(Array::Str(values))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Value {
        Value::Str(value.to_owned())
    }
}
