//! What a file must be: SHA-256 where the hub says it, else the name that git gives it.

use std::fs::File;
use std::io::{self, Read};

use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::RepoFile;

/// Bytes of a file that are read at once.
pub(crate) const STEP: u64 = 1 << 20;

/// A digest that is growing.
pub(crate) enum Growing {
    Sha256(Sha256),
    Git(Sha1),
}

/// What a file's digest must be, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Sha256(String),
    /// SHA-1 of `blob SIZE\0` and the bytes.
    Git(String, u64),
}

impl Expected {
    /// What the hub says of a file, if it says anything.
    pub(crate) fn of(file: &RepoFile) -> Option<Self> {
        let sha256 = file.sha256.clone().map(Expected::Sha256);
        sha256.or_else(|| file.git.clone().map(|oid| Expected::Git(oid, file.size)))
    }

    /// What the name of a blob of Hugging Face's cache says of a file of so many bytes.
    pub(crate) fn of_blob(name: &str, size: u64) -> Option<Self> {
        let is_hex = name.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
        match name.len() {
            64 if is_hex => Some(Expected::Sha256(name.to_owned())),
            40 if is_hex => Some(Expected::Git(name.to_owned(), size)),
            _ => None,
        }
    }

    /// The digest in hexadecimal.
    pub(crate) fn text(&self) -> &str {
        match self {
            Expected::Sha256(text) | Expected::Git(text, _) => text,
        }
    }

    /// The digest of no bytes yet.
    pub(crate) fn start(&self) -> Growing {
        match self {
            Expected::Sha256(_) => Growing::Sha256(Sha256::new()),
            Expected::Git(_, size) => Growing::Git(Sha1::new_with_prefix(format!("blob {size}\0"))),
        }
    }
}

impl Growing {
    /// Takes further bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Growing::Sha256(digest) => digest.update(bytes),
            Growing::Git(digest) => digest.update(bytes),
        }
    }

    /// The digest in hexadecimal.
    pub(crate) fn text(self) -> String {
        match self {
            Growing::Sha256(digest) => hexadecimal(&digest.finalize()),
            Growing::Git(digest) => hexadecimal(&digest.finalize()),
        }
    }
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The digest of a whole file; `go_on` is asked now and then.
pub(crate) fn of_file(mut file: File, expected: &Expected, go_on: &dyn Fn() -> bool) -> io::Result<String> {
    let mut growing = expected.start();
    let mut buffer = vec![0; STEP as usize];
    loop {
        if !go_on() {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "stopped"));
        }
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(growing.text());
        }
        growing.update(&buffer[..read]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_names_a_blob_by_its_size_and_bytes() {
        // `printf 'hello\n' | git hash-object --stdin`
        let name = "ce013625030ba8dba906f756967f9e9ca394464a";
        let expected = Expected::of_blob(name, 6).unwrap();
        let mut growing = expected.start();
        growing.update(b"hello\n");
        assert_eq!(growing.text(), name);
        assert_eq!(Expected::of_blob("not-a-digest", 6), None);
    }
}
