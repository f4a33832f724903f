//! What stands behind the `?` of an address.

use axum::http::Uri;

use crate::error::ApiError;

/// The value of a name there, decoded; of several the last. A name without a value has an empty one.
pub(crate) fn value(uri: &Uri, name: &str) -> Option<String> {
    let mut pairs = uri.query()?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.rfind(|(key, _)| decoded(key) == name).map(|(_, value)| decoded(value))
}

/// All values of a name there, decoded.
pub(crate) fn values(uri: &Uri, name: &str) -> Vec<String> {
    let pairs = uri.query().unwrap_or_default().split('&');
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.filter(|(key, _)| decoded(key) == name).map(|(_, value)| decoded(value)).collect()
}

/// Whether it says yes, as FastAPI reads it; `default` where it is not there.
pub(crate) fn flag(uri: &Uri, name: &str, default: bool) -> Result<bool, ApiError> {
    match value(uri, name).map(|value| value.to_ascii_lowercase()).as_deref() {
        Some("true" | "1" | "yes" | "on" | "t" | "y") => Ok(true),
        Some("false" | "0" | "no" | "off" | "f" | "n") => Ok(false),
        Some(_) => Err(ApiError::parameter(name, format!("`{name}` is to be true or false"))),
        None => Ok(default),
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped =
            digits.filter(|_| *first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (escaped, first) {
            (Some(byte), _) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            (None, b'+') => {
                bytes.push(b' ');
                rest = after;
            }
            (None, other) => {
                bytes.push(*other);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded() {
        let uri: Uri = "/v1/models?wait_ready=False&name=glm%2Dedge+%E4%BD%A0&x=%zz%4&x=%&y".parse().unwrap();
        assert_eq!(value(&uri, "name").unwrap(), "glm-edge 你");
        assert_eq!((value(&uri, "x").unwrap().as_str(), value(&uri, "y").unwrap().as_str()), ("%", ""));
        assert!(!flag(&uri, "wait_ready", true).unwrap() && flag(&uri, "other", true).unwrap());
        assert!(flag(&uri, "y", false).is_err());
        assert_eq!(value(&"/v1/models".parse().unwrap(), "x"), None);
    }
}
