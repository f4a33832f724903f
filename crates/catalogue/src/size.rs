//! Sizes of models, as Xinference spells them.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

/// Billions of parameters: `1_5` in a file is 1.5.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Size(String);

impl Size {
    /// Reads `1_5`, `1.5`, `1.5B` and `9`.
    pub fn parse(text: &str) -> Option<Self> {
        let number = text.strip_suffix(['b', 'B']).unwrap_or(text);
        let mut parts = number.split(['_', '.']);
        let digits =
            |part: &str| !part.is_empty() && part.len() <= 6 && part.bytes().all(|b| b.is_ascii_digit());
        let whole = parts.next().filter(|part| digits(part))?;
        let spelt = match (parts.next(), parts.next()) {
            (None, _) => whole.to_owned(),
            (Some(tenths), None) if digits(tenths) => format!("{whole}_{tenths}"),
            _ => return None,
        };
        Some(Size(spelt))
    }

    /// As files and launch lines spell it: `1_5`.
    pub fn spelt(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Size {
    /// For people: `1.5B`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}B", self.0.replace('_', ".")))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let text = match &value {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let error = || serde::de::Error::custom("a size is a number of billions such as 9 or \"1_5\"");
        Size::parse(&text).ok_or_else(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_spelt_with_an_underscore() {
        for (text, spelt, shown) in
            [("1_5", "1_5", "1.5B"), ("1.5", "1_5", "1.5B"), ("1.5b", "1_5", "1.5B"), ("355", "355", "355B")]
        {
            let size = Size::parse(text).unwrap();
            assert_eq!((size.spelt(), size.to_string().as_str()), (spelt, shown), "{text}");
        }
        for text in ["", "B", "_5", "1_", "1_5_2", "-1", "1e3", "Q4_0", "1234567"] {
            assert_eq!(Size::parse(text), None, "{text}");
        }
        assert_eq!(serde_json::from_str::<Size>("32").unwrap().spelt(), "32");
        assert!(serde_json::from_str::<Size>("[1]").is_err());
    }
}
