//! Token id <-> byte string, for vocabularies of every kind.
//!
//! All strings lie in one arena and the index is open addressing over it, so a vocabulary of 151,329 tokens
//! costs three allocations and loads in milliseconds.

use std::hash::{BuildHasher, Hasher};

use crate::pair_map::FoldSeeds;
use crate::{TokenId, TokenizerError};

/// Ids at or above this are refused: the largest GLM vocabulary has 154,856 ids.
pub(crate) const ID_LIMIT: u32 = 1 << 22;
/// The longest token accepted, in bytes; GLM-4's longest has 512.
pub(crate) const TOKEN_BYTES_LIMIT: usize = 4096;
/// The most bytes all tokens together may have; GLM-4's have one million. It also bounds the merges and the
/// trie nodes that are made from them.
const ARENA_LIMIT: usize = 1 << 24;

const EMPTY: u64 = u64::MAX;
const ABSENT: Span = Span { start: u32::MAX, len: 0 };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: u32,
    len: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Vocab {
    arena: Vec<u8>,
    spans: Vec<Span>,
    /// High half: the high half of the hash; low half: the id. Linear probing, at most half full.
    slots: Vec<u64>,
    indexed: usize,
    hasher: FoldSeeds,
    /// Sum of the squares of the lengths: what splitting every token everywhere costs.
    split_cost: u64,
}

impl Vocab {
    pub(crate) fn new() -> Self {
        Self {
            arena: Vec::new(),
            spans: Vec::new(),
            slots: vec![EMPTY; 64],
            indexed: 0,
            hasher: FoldSeeds::default(),
            split_cost: 0,
        }
    }

    /// Gives `id` the spelling `bytes`. Only a `findable` token takes part in [`Self::find`].
    pub(crate) fn insert(
        &mut self,
        id: TokenId,
        bytes: &[u8],
        findable: bool,
        format: &'static str,
    ) -> Result<(), TokenizerError> {
        let too_large = |what: String, size: usize, limit: usize| {
            Err(TokenizerError::TooLarge { what, size: size as u64, limit: limit as u64 })
        };
        if id >= ID_LIMIT {
            return too_large(format!("the id of token {}", show(bytes)), id as usize, ID_LIMIT as usize - 1);
        }
        if bytes.len() > TOKEN_BYTES_LIMIT {
            return too_large(format!("the length of token {id} in bytes"), bytes.len(), TOKEN_BYTES_LIMIT);
        }
        if self.arena.len() + bytes.len() > ARENA_LIMIT {
            return too_large("the vocabulary in bytes".into(), self.arena.len() + bytes.len(), ARENA_LIMIT);
        }
        if self.bytes(id).is_some() {
            return Err(TokenizerError::malformed(format, format!("id {id} is given to two tokens")));
        }
        if findable && let Some(other) = self.find(bytes) {
            let what = format!("token {} has two ids, {other} and {id}", show(bytes));
            return Err(TokenizerError::malformed(format, what));
        }
        if self.spans.len() <= id as usize {
            self.spans.resize(id as usize + 1, ABSENT);
        }
        self.spans[id as usize] = Span { start: self.arena.len() as u32, len: bytes.len() as u32 };
        self.arena.extend_from_slice(bytes);
        if findable {
            self.split_cost += (bytes.len() * bytes.len()) as u64;
            if (self.indexed + 1) * 2 > self.slots.len() {
                self.grow();
            }
            self.place(bytes_hash(&self.hasher, bytes), id);
            self.indexed += 1;
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn find(&self, bytes: &[u8]) -> Option<TokenId> {
        let hash = bytes_hash(&self.hasher, bytes);
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let slot = self.slots[at];
            if slot == EMPTY {
                return None;
            }
            if slot >> 32 == hash >> 32 && self.bytes(slot as u32) == Some(bytes) {
                return Some(slot as u32);
            }
            at = (at + 1) & mask;
        }
    }

    #[inline]
    pub(crate) fn bytes(&self, id: TokenId) -> Option<&[u8]> {
        let span = *self.spans.get(id as usize)?;
        if span == ABSENT {
            return None;
        }
        Some(&self.arena[span.start as usize..(span.start + span.len) as usize])
    }

    /// One more than the largest id.
    pub(crate) fn id_end(&self) -> u32 {
        self.spans.len() as u32
    }

    /// Every token in the order of its id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (TokenId, &[u8])> {
        (0..self.id_end()).filter_map(|id| Some((id, self.bytes(id)?)))
    }

    /// Refuses a vocabulary whose tokens are so long that trying every split of every token would take
    /// more than a few seconds.
    pub(crate) fn check_split_cost(&self) -> Result<(), TokenizerError> {
        const LIMIT: u64 = 1 << 31;
        if self.split_cost > LIMIT {
            let what = "the sum of the squared lengths of all tokens".into();
            return Err(TokenizerError::TooLarge { what, size: self.split_cost, limit: LIMIT });
        }
        Ok(())
    }

    fn place(&mut self, hash: u64, id: TokenId) {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        while self.slots[at] != EMPTY {
            at = (at + 1) & mask;
        }
        self.slots[at] = (hash >> 32) << 32 | u64::from(id);
    }

    fn grow(&mut self) {
        let old = std::mem::take(&mut self.slots);
        self.slots = vec![EMPTY; old.len() * 2];
        for slot in old {
            if slot != EMPTY {
                let id = slot as u32;
                let hash = self.bytes(id).map_or(0, |bytes| bytes_hash(&self.hasher, bytes));
                self.place(hash, id);
            }
        }
    }
}

#[inline]
fn bytes_hash(seeds: &FoldSeeds, bytes: &[u8]) -> u64 {
    let mut hasher = seeds.build_hasher();
    hasher.write(bytes);
    hasher.write_usize(bytes.len());
    hasher.finish()
}

/// A token as an error message shows it: short and printable.
pub(crate) fn show(bytes: &[u8]) -> String {
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(64)]);
    format!("{shown:?}{}", if bytes.len() > 64 { "..." } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_inserted_and_nothing_else() {
        let mut vocab = Vocab::new();
        for id in 0..1000u32 {
            vocab.insert(id * 3, format!("token {id}").as_bytes(), id % 2 == 0, "test").unwrap();
        }
        for id in 0..1000u32 {
            let spelling = format!("token {id}");
            assert_eq!(vocab.bytes(id * 3), Some(spelling.as_bytes()));
            assert_eq!(vocab.find(spelling.as_bytes()), (id % 2 == 0).then_some(id * 3));
        }
        assert_eq!(vocab.bytes(1), None);
        assert_eq!(vocab.find(b"token"), None);
        assert_eq!(vocab.iter().count(), 1000);
    }

    #[test]
    fn refuses_duplicates_and_giants() {
        let mut vocab = Vocab::new();
        vocab.insert(0, b"a", true, "test").unwrap();
        assert!(vocab.insert(0, b"b", true, "test").is_err());
        assert!(vocab.insert(1, b"a", true, "test").is_err());
        assert!(vocab.insert(ID_LIMIT, b"c", true, "test").is_err());
        assert!(vocab.insert(2, &[0; TOKEN_BYTES_LIMIT + 1], true, "test").is_err());
    }
}
