//! Reading little-endian values from untrusted bytes: every read is checked, every error knows its offset.

use crate::error::{Damage, Fault};

/// A position in some bytes that lie `base` bytes into their file.
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    base: u64,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8], base: u64) -> Self {
        Cursor { bytes, at: 0, base }
    }

    /// Offset in the file of the next byte.
    pub(crate) fn offset(&self) -> u64 {
        self.base + self.at as u64
    }

    /// Bytes not read yet.
    pub(crate) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next `len` bytes.
    pub(crate) fn take(&mut self, len: u64, what: &'static str) -> Result<&'a [u8], Damage> {
        let left = self.left();
        match usize::try_from(len) {
            Ok(len) if len <= left => {
                let taken = &self.bytes[self.at..self.at + len];
                self.at += len;
                Ok(taken)
            }
            _ => Err(Fault::Truncated { what, needed: len, left: left as u64 }.at(self.offset())),
        }
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Damage> {
        let taken = self.take(N as u64, what)?;
        Ok(taken.try_into().expect("take returns exactly the bytes asked for"))
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, Damage> {
        self.array(what).map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, Damage> {
        self.array(what).map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, Damage> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, Damage> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// The next `len` bytes as text.
    pub(crate) fn text(&mut self, len: u64, what: &'static str) -> Result<&'a str, Damage> {
        let offset = self.offset();
        let taken = self.take(len, what)?;
        std::str::from_utf8(taken).map_err(|_| Fault::NotUtf8(what).at(offset))
    }

    /// Text up to a line feed that must come within `limit` bytes; the line feed is read and left out.
    pub(crate) fn line(&mut self, limit: usize, what: &'static str) -> Result<&'a str, Damage> {
        let rest = &self.bytes[self.at..];
        let Some(len) = rest.iter().take(limit).position(|&b| b == b'\n') else {
            let fault = if rest.len() < limit {
                Fault::Truncated { what, needed: rest.len() as u64 + 1, left: rest.len() as u64 }
            } else {
                Fault::Broken("a name in the pickle is too long")
            };
            return Err(fault.at(self.offset()));
        };
        let text = self.text(len as u64, what)?;
        self.at += 1;
        Ok(text)
    }
}
