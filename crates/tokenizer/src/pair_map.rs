//! A hash map keyed by two 32-bit numbers: the inner loop of every merge and every trie walk.
//!
//! The standard hasher is too slow here and an unseeded fast one would let a crafted vocabulary make every
//! key collide, so this is one multiplication folded to 64 bits, with seeds drawn per process.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

#[derive(Clone, Debug)]
pub(crate) struct PairMap<V>(HashMap<u64, V, FoldSeeds>);

impl<V: Copy> PairMap<V> {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self(HashMap::with_capacity_and_hasher(capacity, FoldSeeds::default()))
    }

    #[inline]
    pub(crate) fn get(&self, first: u32, second: u32) -> Option<V> {
        self.0.get(&key(first, second)).copied()
    }

    /// Keeps the value already there, if any, and returns it.
    pub(crate) fn insert_new(&mut self, first: u32, second: u32, value: V) -> Option<V> {
        match self.0.entry(key(first, second)) {
            std::collections::hash_map::Entry::Occupied(taken) => Some(*taken.get()),
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(value);
                None
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = ((u32, u32), V)> + '_ {
        self.0.iter().map(|(key, value)| (((key >> 32) as u32, *key as u32), *value))
    }
}

#[inline]
fn key(first: u32, second: u32) -> u64 {
    u64::from(first) << 32 | u64::from(second)
}

#[derive(Clone, Debug)]
pub(crate) struct FoldSeeds {
    add: u64,
    multiply: u64,
}

impl Default for FoldSeeds {
    fn default() -> Self {
        let random = RandomState::new();
        Self { add: random.hash_one(0), multiply: random.hash_one(1) | 1 }
    }
}

impl BuildHasher for FoldSeeds {
    type Hasher = FoldHasher;

    #[inline]
    fn build_hasher(&self) -> FoldHasher {
        FoldHasher { state: self.add, multiply: self.multiply }
    }
}

pub(crate) struct FoldHasher {
    state: u64,
    multiply: u64,
}

impl Hasher for FoldHasher {
    #[inline]
    fn write_u64(&mut self, value: u64) {
        let product = u128::from(self.state ^ value) * u128::from(self.multiply);
        self.state = (product as u64) ^ (product >> 64) as u64;
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.write_u64(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            self.write_u64(rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
        }
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.state
    }
}
