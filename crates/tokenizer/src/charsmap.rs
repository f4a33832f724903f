//! SentencePiece's compiled normalisation rules (`precompiled_charsmap`), such as `nmt_nfkc`.
//!
//! The blob is the length of a double-array trie (Darts-clone) as a little-endian u32, the trie itself, and
//! NUL-terminated replacements that its values point into (SentencePiece `normalizer.cc`). The longest rule
//! that matches wins. Written here because the blob is hostile: every index is checked.

use crate::TokenizerError;

/// No rule of NFKC is longer than a few dozen bytes.
const RULE_BYTES_LIMIT: usize = 256;
/// U+FDFA, the worst of NFKC, becomes 33 bytes.
const REPLACEMENT_BYTES_LIMIT: usize = 64;

#[derive(Clone, Debug)]
pub(crate) struct Charsmap {
    units: Vec<u32>,
    replacements: String,
    blob: Vec<u8>,
}

impl Charsmap {
    pub(crate) fn parse(blob: &[u8]) -> Result<Self, TokenizerError> {
        let malformed = |what: &str| TokenizerError::malformed("precompiled_charsmap", what);
        let (len, rest) = blob.split_first_chunk().ok_or_else(|| malformed("it is shorter than 4 bytes"))?;
        let len = u32::from_le_bytes(*len) as usize;
        if len >= rest.len() || !len.is_multiple_of(4) {
            return Err(malformed("the length of its trie is wrong"));
        }
        let (trie, replacements) = rest.split_at(len);
        let units = trie.as_chunks().0.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
        let replacements =
            std::str::from_utf8(replacements).map_err(|_| malformed("its replacements are not UTF-8"))?;
        if replacements.split('\0').any(|entry| entry.len() > REPLACEMENT_BYTES_LIMIT) {
            return Err(malformed("a replacement is longer than 64 bytes"));
        }
        Ok(Self { units, replacements: replacements.into(), blob: blob.into() })
    }

    /// The longest rule that `text` starts with: how many bytes it replaces, and by what.
    pub(crate) fn longest_prefix(&self, text: &str) -> Option<(usize, &str)> {
        let mut longest = None;
        let mut at = self.unit(0)?.offset();
        for (byte, len) in text.bytes().take(RULE_BYTES_LIMIT).zip(1..) {
            at ^= byte as usize;
            let Some(unit) = self.unit(at) else { break };
            if unit.label() != u32::from(byte) {
                break;
            }
            at ^= unit.offset();
            if unit.has_leaf()
                && let Some(leaf) = self.unit(at)
            {
                longest = Some((len, leaf.value()));
            }
        }
        let (len, value) = longest?;
        // A rule may only end between characters; a blob that says otherwise is ignored there.
        if !text.is_char_boundary(len) {
            return None;
        }
        let replacement = self.replacements.get(value..)?;
        Some((len, replacement.split('\0').next().unwrap_or_default()))
    }

    /// The bytes this was parsed from.
    pub(crate) fn blob(&self) -> &[u8] {
        &self.blob
    }

    fn unit(&self, at: usize) -> Option<Unit> {
        self.units.get(at).copied().map(Unit)
    }
}

/// One cell of a Darts-clone double array.
struct Unit(u32);

impl Unit {
    fn has_leaf(&self) -> bool {
        self.0 >> 8 & 1 == 1
    }

    fn value(&self) -> usize {
        (self.0 & (u32::MAX >> 1)) as usize
    }

    /// The byte that leads here; a leaf has the top bit set and so equals none.
    fn label(&self) -> u32 {
        self.0 & (1 << 31 | 0xFF)
    }

    fn offset(&self) -> usize {
        ((self.0 >> 10) as usize) << ((self.0 & 1 << 9) >> 6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_not_a_charsmap() {
        assert!(Charsmap::parse(b"").is_err());
        assert!(Charsmap::parse(&[255, 255, 255, 255, 0]).is_err());
        assert!(Charsmap::parse(&[4, 0, 0, 0, 1, 2, 3, 4, 0xFF]).is_err());
        let long = [&[4, 0, 0, 0, 1, 2, 3, 4][..], &[b'a'; 2000]].concat();
        assert!(Charsmap::parse(&long).is_err());
    }

    #[test]
    fn survives_any_trie() {
        let mut state = 1u32;
        for _ in 0..200 {
            let mut blob = vec![64, 0, 0, 0];
            for _ in 0..16 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                blob.extend(state.to_le_bytes());
            }
            blob.extend(b"a\0b\0");
            let charsmap = Charsmap::parse(&blob).unwrap();
            for text in ["", "a", "好吗", "\u{1F600}", "\u{7f}"] {
                charsmap.longest_prefix(text);
            }
        }
    }
}
