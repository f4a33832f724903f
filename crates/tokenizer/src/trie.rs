//! A prefix tree over characters: unigram pieces, user-defined symbols and added tokens.

use crate::pair_map::PairMap;

const NONE: u32 = u32::MAX;

#[derive(Clone, Debug)]
pub(crate) struct Trie {
    children: PairMap<u32>,
    values: Vec<u32>,
}

impl Trie {
    pub(crate) const ROOT: u32 = 0;

    pub(crate) fn new() -> Self {
        Self { children: PairMap::with_capacity(0), values: vec![NONE] }
    }

    /// Adds a key; `false` if it was there already (the first value stays).
    pub(crate) fn insert(&mut self, key: &str, value: u32) -> bool {
        let mut node = Self::ROOT;
        for c in key.chars() {
            let fresh = self.values.len() as u32;
            node = self.children.insert_new(node, c as u32, fresh).unwrap_or_else(|| {
                self.values.push(NONE);
                fresh
            });
        }
        let slot = &mut self.values[node as usize];
        if *slot != NONE {
            return false;
        }
        *slot = value;
        true
    }

    #[inline]
    pub(crate) fn child(&self, node: u32, c: char) -> Option<u32> {
        self.children.get(node, c as u32)
    }

    #[inline]
    pub(crate) fn value(&self, node: u32) -> Option<u32> {
        let value = self.values[node as usize];
        (value != NONE).then_some(value)
    }

    /// The longest key that `text` starts with: its length in bytes and its value.
    #[inline]
    pub(crate) fn longest_prefix(&self, text: &str) -> Option<(usize, u32)> {
        let mut node = Self::ROOT;
        let mut longest = None;
        for (at, c) in text.char_indices() {
            let Some(next) = self.child(node, c) else { break };
            node = next;
            if let Some(value) = self.value(node) {
                longest = Some((at + c.len_utf8(), value));
            }
        }
        longest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.values.len() == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_prefix_wins() {
        let mut trie = Trie::new();
        assert!(trie.is_empty());
        assert!(trie.insert("<|a|>", 1));
        assert!(trie.insert("<|a|>b", 2));
        assert!(!trie.insert("<|a|>", 3));
        assert_eq!(trie.longest_prefix("<|a|>x"), Some((5, 1)));
        assert_eq!(trie.longest_prefix("<|a|>b"), Some((6, 2)));
        assert_eq!(trie.longest_prefix("<|a|"), None);
    }
}
