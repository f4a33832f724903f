//! API keys: a file with one a line, read again when the operator says so; and who a request is from by its key.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};

use axum::http::{HeaderMap, header};
use sha2::{Digest, Sha256};

use crate::error::{ServerError, read_file};

/// Bytes of a key file that are read at most.
const MOST: u64 = 1 << 20;

/// Who asks, as far as a key tells: what is kept for one caller is no other's. Where no key is wanted all are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Caller([u8; 32]);

impl Caller {
    /// Whoever has this key.
    pub(crate) fn of(key: &[u8]) -> Self {
        Caller(Sha256::digest(key).into())
    }

    /// What tells it from all others, in every run of the program.
    pub(crate) fn id(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The keys that are accepted.
pub(crate) struct Keys {
    path: Option<PathBuf>,
    keys: RwLock<Vec<String>>,
    /// Held by whoever reads the file again.
    reading: Mutex<()>,
}

impl Keys {
    /// Reads the file; without one nobody is asked.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, ServerError> {
        let keys = path.map(read).transpose()?.unwrap_or_default();
        Ok(Keys { path: path.map(Path::to_owned), keys: RwLock::new(keys), reading: Mutex::default() })
    }

    /// Whether anybody is asked.
    pub(crate) fn are_wanted(&self) -> bool {
        self.path.is_some()
    }

    /// Reads the file again; returns how many keys it has, `None` where there is no file or it is being read already. A
    /// file that cannot be used changes nothing.
    pub(crate) fn reload(&self) -> Option<Result<usize, ServerError>> {
        let path = self.path.as_deref()?;
        let _turn = self.reading.try_lock().ok()?;
        Some(read(path).map(|keys| {
            let count = keys.len();
            *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
            count
        }))
    }

    /// Who the request is from, if it carries one of the keys: `Authorization: Bearer KEY`, `x-api-key: KEY` or `api-key: KEY`, as
    /// clients of Anthropic's and Azure's APIs have it.
    pub(crate) fn admit(&self, headers: &HeaderMap) -> Option<Caller> {
        if !self.are_wanted() {
            return Some(Caller::of(b""));
        }
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
            let (scheme, key) = value.as_bytes().split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii())
        });
        let plain = ["x-api-key", "api-key"].map(|name| Some(headers.get(name)?.as_bytes().trim_ascii()));
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        // All of them, whole: how long it takes tells nothing.
        let is_key = |given: &[u8]| keys.iter().fold(false, |found, key| found | same(key.as_bytes(), given));
        bearer.into_iter().chain(plain.into_iter().flatten()).find(|given| is_key(given)).map(Caller::of)
    }
}

/// Compares in a time that depends on the lengths alone.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

/// The keys of a file. Whatever could not be a key in a header is a sign that the file is not what it should be.
fn read(path: &Path) -> Result<Vec<String>, ServerError> {
    let fault = |what: String| ServerError::File { path: path.display().to_string(), what };
    let bytes = read_file(path, MOST)?;
    let text = String::from_utf8(bytes).map_err(|_| fault("this is no text in UTF-8".to_owned()))?;
    let mut keys = Vec::new();
    for (line, number) in text.lines().map(str::trim_ascii).zip(1..) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if !line.chars().all(|c| c.is_ascii_graphic()) {
            return Err(fault(format!(
                "line {number}: a key is one word of visible ASCII characters (and the file has no byte order mark)"
            )));
        }
        keys.push(line.to_owned());
    }
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
        let keys = Keys {
            path: Some(PathBuf::new()),
            keys: RwLock::new(vec!["abc".to_owned(), "def".to_owned()]),
            reading: Mutex::default(),
        };
        let admit = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            keys.admit(&headers).is_some()
        };
        let bearer = |value: &str| admit("authorization", value);
        assert!(bearer("Bearer abc") && bearer("bearer def"));
        assert!(!bearer("Bearer ab") && !bearer("Bearer abcd") && !bearer("abc") && !bearer("Bearer "));
        for name in ["x-api-key", "api-key"] {
            assert!(
                admit(name, "abc") && !admit(name, "ab") && !admit(name, "") && !admit(name, "Bearer abc")
            );
        }
        assert!(keys.admit(&HeaderMap::new()).is_none());
    }
}
