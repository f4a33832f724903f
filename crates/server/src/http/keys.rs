//! API keys: a file with one a line, read again when the operator says so.

use std::path::{Path, PathBuf};
use std::sync::RwLock;

use axum::http::{HeaderMap, header};

use crate::error::{ServerError, read_file};

/// Bytes of a key file that are read at most.
const MOST: u64 = 1 << 20;

/// The keys that are accepted.
pub(crate) struct Keys {
    path: Option<PathBuf>,
    keys: RwLock<Vec<Vec<u8>>>,
}

impl Keys {
    /// Reads the file; without one nobody is asked.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, ServerError> {
        let keys = path.map(read).transpose()?.unwrap_or_default();
        Ok(Keys { path: path.map(Path::to_owned), keys: RwLock::new(keys) })
    }

    /// Whether anybody is asked.
    pub(crate) fn are_wanted(&self) -> bool {
        self.path.is_some()
    }

    /// Reads the file again; answers how many keys it has. A file that cannot be used changes nothing.
    pub(crate) fn reload(&self) -> Result<usize, ServerError> {
        let keys = self.path.as_deref().map(read).transpose()?.unwrap_or_default();
        let count = keys.len();
        *self.keys.write().unwrap_or_else(std::sync::PoisonError::into_inner) = keys;
        Ok(count)
    }

    /// Whether the request carries one of the keys: `Authorization: Bearer KEY`.
    pub(crate) fn admit(&self, headers: &HeaderMap) -> bool {
        if !self.are_wanted() {
            return true;
        }
        let given = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
        let Some(given) = given
            .and_then(|value| value.split_at_checked(7))
            .and_then(|(scheme, key)| scheme.eq_ignore_ascii_case(b"bearer ").then_some(key.trim_ascii()))
        else {
            return false;
        };
        let keys = self.keys.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        // All of them, whole: how long it takes tells nothing.
        keys.iter().fold(false, |found, key| found | same(key, given))
    }
}

/// Compares in a time that depends on the lengths alone.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

fn read(path: &Path) -> Result<Vec<Vec<u8>>, ServerError> {
    let fault = |what: String| ServerError::File { path: path.display().to_string(), what };
    let text = read_file(path, MOST)?;
    let lines = text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    let keys: Vec<_> =
        lines.filter(|line| !line.is_empty() && !line.starts_with(b"#")).map(<[u8]>::to_vec).collect();
    if keys.is_empty() {
        return Err(fault("there is no key in it (one a line)".to_owned()));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_keys_open() {
        let keys =
            Keys { path: Some(PathBuf::new()), keys: RwLock::new(vec![b"abc".to_vec(), b"def".to_vec()]) };
        let admit = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            keys.admit(&headers)
        };
        assert!(admit("Bearer abc") && admit("bearer def"));
        assert!(!admit("Bearer ab") && !admit("Bearer abcd") && !admit("abc") && !admit("Bearer "));
        assert!(!keys.admit(&HeaderMap::new()));
    }
}
