//! What clients are given to keep and bring back, sealed so that they can neither read nor change it, for one caller alone.
//! The key is a file's, so that it outlives the server; servers that share the file take each other's.
//!
//! XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03): its nonces are long enough to be drawn by lot.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chacha20poly1305::aead::{Aead, Generate, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};

use crate::error::{ServerError, read_file};
use crate::http::keys::Caller;

/// Bytes of a nonce.
const NONCE: usize = 24;

/// Bytes of a file that is taken for a key.
const MOST: u64 = 1024;

/// Seals.
pub(crate) struct Seal(XChaCha20Poly1305);

impl Seal {
    /// With the key of this file, which is made where it is not there. Where it cannot be made the key is as long-lived as the
    /// server, and the second value says why.
    ///
    /// # Errors
    /// When the file is there and cannot be read, or is no key.
    pub(crate) fn open(path: Option<&Path>) -> Result<(Self, Option<String>), ServerError> {
        let new = Key::generate();
        let Some(path) = path else { return Ok((Seal(XChaCha20Poly1305::new(&new)), None)) };
        let trouble = if path.exists() { None } else { keep(path, &new).err() };
        let (key, trouble) = match trouble {
            Some(error) if !path.exists() => (new, Some(format!("{}: {error}", path.display()))),
            _ => (read(path)?, None),
        };
        Ok((Seal(XChaCha20Poly1305::new(&key)), trouble))
    }

    /// A text that only this caller can bring back.
    pub(crate) fn seal(&self, caller: &Caller, text: &str) -> String {
        let nonce = XNonce::generate();
        let payload = Payload { msg: text.as_bytes(), aad: caller.id() };
        // Fails for texts of 256 GiB alone.
        let sealed = self.0.encrypt(&nonce, payload).unwrap_or_default();
        BASE64.encode([nonce.as_slice(), &sealed].concat())
    }

    /// The text of [`Seal::seal`]; `None` of what is anything else.
    pub(crate) fn open_sealed(&self, caller: &Caller, sealed: &str) -> Option<String> {
        let bytes = BASE64.decode(sealed).ok()?;
        let (nonce, msg) = bytes.split_at_checked(NONCE)?;
        let nonce = XNonce::try_from(nonce).ok()?;
        String::from_utf8(self.0.decrypt(&nonce, Payload { msg, aad: caller.id() }).ok()?).ok()
    }
}

/// Writes a new key where no file is, for its owner alone: as a whole or not at all.
fn keep(path: &Path, key: &Key) -> std::io::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let new = path.with_extension(format!("{}.new", std::process::id()));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&new)?;
    writeln!(file, "{}", BASE64.encode(key))?;
    file.sync_all()?;
    // Fails where somebody else has been faster.
    let linked = std::fs::hard_link(&new, path);
    std::fs::remove_file(&new)?;
    linked
}

fn read(path: &Path) -> Result<Key, ServerError> {
    let text = read_file(path, MOST)?;
    let bytes = BASE64.decode(text.trim_ascii()).ok();
    bytes.and_then(|bytes| Key::try_from(bytes.as_slice()).ok()).ok_or_else(|| ServerError::File {
        path: path.display().to_string(),
        what: "this is no key that a server has made (32 bytes in base64); remove it, and a new one is made"
            .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_opens_for_its_caller_and_outlives_the_server() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state/seal.key");
        let open = || Seal::open(Some(&path)).unwrap().0;
        let (seal, one, other) = (open(), Caller::of(b"one"), Caller::of(b"other"));
        let sealed = seal.seal(&one, "thoughts");
        let later = open();
        assert_eq!(later.open_sealed(&one, &sealed).as_deref(), Some("thoughts"));
        assert_eq!(later.open_sealed(&other, &sealed), None);
        for garbage in ["", "x", "AAAA", &sealed[4..], &sealed[..sealed.len() - 4]] {
            assert_eq!(later.open_sealed(&one, garbage), None);
        }
        assert_eq!(Seal::open(None).unwrap().0.open_sealed(&one, &sealed), None);
    }

    #[test]
    fn a_file_that_is_no_key_is_said_and_one_that_cannot_be_made_is_done_without() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("seal.key");
        std::fs::write(&path, "what?").unwrap();
        assert!(Seal::open(Some(&path)).is_err());
        let (seal, trouble) = Seal::open(Some(&path.join("below a file"))).unwrap();
        assert!(trouble.is_some());
        let caller = Caller::of(b"");
        assert!(seal.open_sealed(&caller, &seal.seal(&caller, "x")).is_some());
    }
}
