//! Names with values: taken one by one, and whatever is left is unknown.

use std::path::{Path, PathBuf};

use glimmer_config::{FileError, Quoted};
use serde_json::{Map, Value};

/// What is wrong with a configuration. One line of fewer than 300 characters.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not written as its kind is.
    #[error("{}: {}", Quoted(&path.display().to_string()), Quoted(what))]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        what: String,
    },
    /// A name that nobody knows.
    #[error("unknown key `{}`; the nearest known one is `{nearest}`", Quoted(key))]
    Unknown {
        /// The name with its section.
        key: String,
        /// A known one.
        nearest: String,
    },
    /// A value that is not possible.
    #[error("`{}` {}", Quoted(key), what)]
    Value {
        /// The name with its section.
        key: String,
        /// What it should be.
        what: String,
    },
    /// Something that has to be said was not.
    #[error("{0}")]
    Missing(String),
}

/// Values by name within a section.
pub(super) struct Keys {
    section: String,
    values: Map<String, Value>,
    known: Vec<&'static str>,
}

/// What a value can be read as.
pub(super) trait FromValue: Sized {
    /// What such a value is, for errors.
    const WHAT: &'static str;
    fn from_value(value: &Value) -> Option<Self>;
}

impl Keys {
    /// Those of a section; `path` is its name, empty for a whole file.
    pub(super) fn new(section: &str, values: Map<String, Value>) -> Self {
        Keys { section: section.to_owned(), values, known: Vec::new() }
    }

    /// The name with its section.
    pub(super) fn full(&self, key: &str) -> String {
        if self.section.is_empty() { key.to_owned() } else { format!("{}.{key}", self.section) }
    }

    pub(super) fn wrong(&self, key: &str, what: impl Into<String>) -> ConfigError {
        ConfigError::Value { key: self.full(key), what: what.into() }
    }

    /// Takes a value; `null`, and nothing, are none.
    pub(super) fn take<T: FromValue>(&mut self, key: &'static str) -> Result<Option<T>, ConfigError> {
        self.known.push(key);
        match self.values.remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match T::from_value(&value) {
                Some(value) => Ok(Some(value)),
                None => Err(self.wrong(key, format!("is {}, not {}", T::WHAT, Quoted(&value.to_string())))),
            },
        }
    }

    /// Takes a value into its place, if there is one.
    pub(super) fn set<T: FromValue>(&mut self, key: &'static str, place: &mut T) -> Result<(), ConfigError> {
        if let Some(value) = self.take(key)? {
            *place = value;
        }
        Ok(())
    }

    /// A number that 0 makes no sense for.
    pub(super) fn set_count(&mut self, key: &'static str, place: &mut usize) -> Result<(), ConfigError> {
        match self.take(key)? {
            Some(0) => Err(self.wrong(key, "is at least 1")),
            count => {
                *place = count.unwrap_or(*place);
                Ok(())
            }
        }
    }

    /// The first of several names for the same.
    pub(super) fn first<T: FromValue>(&mut self, keys: &[&'static str]) -> Result<Option<T>, ConfigError> {
        let mut found = None;
        for key in keys {
            let value = self.take(key)?;
            found = found.or(value);
        }
        Ok(found)
    }

    /// Takes a section within this one.
    pub(super) fn section(&mut self, key: &'static str) -> Result<Option<Keys>, ConfigError> {
        self.known.push(key);
        match self.values.remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(values)) => Ok(Some(Keys::new(&self.full(key), values))),
            Some(_) => Err(self.wrong(key, "is a section with keys")),
        }
    }

    /// Takes names that change nothing here, and returns those that were there.
    pub(super) fn without_effect(&mut self, keys: &[&'static str]) -> Vec<String> {
        self.known.extend_from_slice(keys);
        let present = keys.iter().filter(|key| self.values.remove(**key).is_some());
        present.map(|key| (*key).to_owned()).collect::<Vec<_>>().iter().map(|key| self.full(key)).collect()
    }

    /// Refuses names that would change the result, unless their value says that they do not.
    pub(super) fn refuse(&mut self, keys: &[&'static str]) -> Result<(), ConfigError> {
        for key in keys {
            self.known.push(key);
            let value = self.values.remove(*key).unwrap_or(Value::Null);
            let off = match &value {
                Value::Null | Value::Bool(false) => true,
                Value::Number(number) => number.as_f64() == Some(0.0),
                Value::String(text) => matches!(text.as_str(), "" | "0" | "0.0" | "false" | "False" | "none"),
                Value::Array(items) => items.is_empty(),
                Value::Object(fields) => fields.is_empty(),
                Value::Bool(true) => false,
            };
            if !off {
                return Err(self.wrong(key, "is not supported; leave it out"));
            }
        }
        Ok(())
    }

    /// Whether a name is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// Nothing may be left.
    pub(super) fn finish(self) -> Result<(), ConfigError> {
        let Some(key) = self.values.keys().next() else { return Ok(()) };
        let near = |known: &&&str| distance(known, key);
        let nearest = self.known.iter().min_by_key(near).copied().unwrap_or("");
        Err(ConfigError::Unknown { key: self.full(key), nearest: self.full(nearest) })
    }
}

/// Changes of one character that make one word of another (Levenshtein, 1966), of long words' beginnings.
fn distance(a: &str, b: &str) -> usize {
    const MOST: usize = 64;
    let b: Vec<char> = b.chars().take(MOST).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(MOST).enumerate() {
        let mut before = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let changed = before + usize::from(x != *y);
            before = row[j + 1];
            row[j + 1] = changed.min(before + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// Reads a small file of a person.
pub(super) fn text_of(path: &Path) -> Result<String, ConfigError> {
    match glimmer_config::file::read_text(path)? {
        Some(text) => Ok(text.strip_prefix('\u{feff}').map_or(text.clone(), str::to_owned)),
        None => Err(FileError::NotFound { path: path.to_owned() }.into()),
    }
}

impl FromValue for bool {
    const WHAT: &'static str = "true or false";
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Bool(value) => Some(*value),
            Value::String(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "1" => Some(true),
                "false" | "no" | "0" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }
}

impl FromValue for f64 {
    const WHAT: &'static str = "a number";
    fn from_value(value: &Value) -> Option<Self> {
        let number = match value {
            Value::Number(number) => number.as_f64()?,
            // YAML of its first versions takes 5e-4 for a word.
            Value::String(text) => text.trim().parse().ok()?,
            _ => return None,
        };
        number.is_finite().then_some(number)
    }
}

impl FromValue for i64 {
    const WHAT: &'static str = "a whole number";
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        }
    }
}

impl FromValue for u64 {
    const WHAT: &'static str = "a whole number that is not negative";
    fn from_value(value: &Value) -> Option<Self> {
        i64::from_value(value)?.try_into().ok()
    }
}

impl FromValue for usize {
    const WHAT: &'static str = "a whole number that is not negative";
    fn from_value(value: &Value) -> Option<Self> {
        i64::from_value(value)?.try_into().ok()
    }
}

impl FromValue for String {
    const WHAT: &'static str = "a text";
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(value) => Some(value.to_string()),
            _ => None,
        }
    }
}

impl FromValue for PathBuf {
    const WHAT: &'static str = "a path";
    fn from_value(value: &Value) -> Option<Self> {
        value.as_str().filter(|path| !path.is_empty()).map(PathBuf::from)
    }
}

/// A list, or words with commas between them.
impl FromValue for Vec<String> {
    const WHAT: &'static str = "a list of names";
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(text.split(',').map(|word| word.trim().to_owned()).collect()),
            Value::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
            _ => None,
        }
    }
}

impl FromValue for Vec<usize> {
    const WHAT: &'static str = "a list of whole numbers";
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => text.split(',').map(|word| word.trim().parse().ok()).collect(),
            Value::Array(items) => items.iter().map(usize::from_value).collect(),
            single => Some(vec![usize::from_value(single)?]),
        }
    }
}
