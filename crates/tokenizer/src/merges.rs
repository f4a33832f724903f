//! Byte-pair merging: repeatedly join the adjacent pair with the best priority, leftmost first.
//!
//! One core for tiktoken ranks, `tokenizer.json` merges, GGUF merges and SentencePiece BPE scores (Sennrich
//! et al. 2016, <https://arxiv.org/abs/1508.07909>). Short inputs are scanned; long ones use a heap, so that
//! a megabyte without a boundary costs n log n.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::TokenId;
use crate::pair_map::PairMap;

/// What a pair of adjacent tokens becomes, and how soon: a smaller priority merges first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Merge {
    pub(crate) priority: u32,
    pub(crate) merged: TokenId,
}

#[derive(Clone, Debug)]
pub(crate) struct Merges(PairMap<Merge>);

/// Up to this many symbols, scanning for the best pair beats keeping a heap.
const SCAN_LIMIT: usize = 20;
/// The most symbols merged at once: positions must fit in 32 bits.
const SYMBOLS_LIMIT: usize = 1 << 30;
const NO_MERGE: u32 = u32::MAX;
const NOWHERE: u32 = u32::MAX;

impl Merges {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self(PairMap::with_capacity(capacity))
    }

    /// Reads merges, of which the earlier ones come first; `find` may leave one out. Where there are many, some threads do.
    ///
    /// # Errors
    /// The first one of `find`.
    pub(crate) fn read<T: Sync, E: Send>(
        entries: &[T],
        find: impl Fn(u32, &T) -> Result<Option<(TokenId, TokenId, Merge)>, E> + Sync,
    ) -> Result<Self, E> {
        /// Fewer are read before a thread has started.
        const WORTH_A_THREAD: usize = 1 << 14;
        const MOST_THREADS: usize = 8;
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
        let each = entries.len().div_ceil(threads).max(WORTH_A_THREAD);
        let find = &find;
        let read = |(first, entries): (usize, &[T])| -> Result<Vec<_>, E> {
            let found = (first as u32..).zip(entries).map(|(priority, entry)| find(priority, entry));
            found.filter_map(Result::transpose).collect()
        };
        let mut merges = Merges::with_capacity(entries.len());
        let mut parts = (0..).step_by(each).zip(entries.chunks(each));
        let own = parts.next();
        std::thread::scope(|scope| {
            let others: Vec<_> = parts.map(|part| scope.spawn(move || read(part))).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            for found in own.map(read).into_iter().chain(others.into_iter().map(join)) {
                for (left, right, merge) in found? {
                    merges.insert(left, right, merge);
                }
            }
            Ok(())
        })?;
        Ok(merges)
    }

    /// Adds a merge; a pair that has one keeps it.
    pub(crate) fn insert(&mut self, left: TokenId, right: TokenId, merge: Merge) {
        self.0.insert_new(left, right, merge);
    }

    /// Every merge, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = ((TokenId, TokenId), Merge)> + '_ {
        self.0.iter()
    }

    /// Merges `symbols` as far as it goes and appends the result to `ids`.
    pub(crate) fn apply(&self, symbols: &[TokenId], scratch: &mut Scratch, ids: &mut Vec<TokenId>) {
        for symbols in symbols.chunks(SYMBOLS_LIMIT) {
            scratch.symbols.clear();
            scratch.symbols.extend(symbols.iter().map(|id| Symbol::new(*id)));
            for at in 1..symbols.len() {
                self.pair_up(&mut scratch.symbols, at - 1, at);
            }
            if symbols.len() <= SCAN_LIMIT {
                self.merge_by_scan(&mut scratch.symbols);
                ids.extend(scratch.symbols.iter().map(|symbol| symbol.id));
            } else {
                self.merge_by_heap(scratch);
                let mut at = 0;
                while at != NOWHERE {
                    let symbol = &scratch.symbols[at as usize];
                    ids.push(symbol.id);
                    at = symbol.next;
                }
            }
        }
    }

    #[inline]
    fn pair_up(&self, symbols: &mut [Symbol], left: usize, right: usize) {
        let merge = self.0.get(symbols[left].id, symbols[right].id);
        symbols[left].merge = merge.unwrap_or(Merge { priority: NO_MERGE, merged: 0 });
    }

    fn merge_by_scan(&self, symbols: &mut Vec<Symbol>) {
        while let Some(at) = best_pair(symbols) {
            symbols[at] = Symbol::new(symbols[at].merge.merged);
            symbols.remove(at + 1);
            if at + 1 < symbols.len() {
                self.pair_up(symbols, at, at + 1);
            }
            if at > 0 {
                self.pair_up(symbols, at - 1, at);
            }
        }
    }

    /// Every merge pushes at most two pairs, so at most three pairs per symbol pass through the heap.
    fn merge_by_heap(&self, scratch: &mut Scratch) {
        let Scratch { symbols, heap } = scratch;
        heap.clear();
        let count = symbols.len();
        for (at, symbol) in symbols.iter_mut().enumerate() {
            symbol.previous = (at as u32).wrapping_sub(1);
            symbol.next = if at + 1 < count { at as u32 + 1 } else { NOWHERE };
            symbol.push(at, heap);
        }
        while let Some(Reverse(entry)) = heap.pop() {
            let (priority, at) = ((entry >> 32) as u32, (entry & u64::from(u32::MAX)) as usize);
            // An entry is stale if its symbol was merged away or now pairs otherwise.
            if symbols[at].merge.priority != priority {
                continue;
            }
            let right = symbols[at].next as usize;
            let after = symbols[right].next;
            symbols[right].merge.priority = NO_MERGE;
            symbols[at].id = symbols[at].merge.merged;
            symbols[at].next = after;
            symbols[at].merge.priority = NO_MERGE;
            if after != NOWHERE {
                symbols[after as usize].previous = at as u32;
                self.pair_up(symbols, at, after as usize);
                symbols[at].push(at, heap);
            }
            let before = symbols[at].previous;
            if before != NOWHERE {
                self.pair_up(symbols, before as usize, at);
                symbols[before as usize].push(before as usize, heap);
            }
        }
    }
}

/// The leftmost of the pairs with the smallest priority.
fn best_pair(symbols: &[Symbol]) -> Option<usize> {
    let (at, best) = symbols.iter().enumerate().min_by_key(|(_, symbol)| symbol.merge.priority)?;
    (best.merge.priority != NO_MERGE).then_some(at)
}

/// Memory reused from one piece to the next.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    symbols: Vec<Symbol>,
    heap: BinaryHeap<Reverse<u64>>,
}

#[derive(Clone, Debug)]
struct Symbol {
    id: TokenId,
    /// What this symbol and the next one become.
    merge: Merge,
    previous: u32,
    next: u32,
}

impl Symbol {
    fn new(id: TokenId) -> Self {
        Self { id, merge: Merge { priority: NO_MERGE, merged: 0 }, previous: NOWHERE, next: NOWHERE }
    }

    fn push(&self, at: usize, heap: &mut BinaryHeap<Reverse<u64>>) {
        if self.merge.priority != NO_MERGE {
            heap.push(Reverse(u64::from(self.merge.priority) << 32 | at as u64));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_merges_are_read_in_their_order() {
        let entries: Vec<u32> = (0..100_000).collect();
        // Every pair twice, and every seventh left out.
        let find = |priority: u32, entry: &u32| {
            let merge = Merge { priority, merged: *entry };
            Ok::<_, u32>((!entry.is_multiple_of(7)).then_some((entry % 50_000, 1, merge)))
        };
        let merges = Merges::read(&entries, find).unwrap();
        for pair in 0..50_000u32 {
            let first = [pair, pair + 50_000].into_iter().find(|entry| !entry.is_multiple_of(7)).unwrap();
            assert_eq!(merges.0.get(pair, 1), Some(Merge { priority: first, merged: first }));
        }
        let broken = |_, entry: &u32| match entry % 40_000 {
            39_999 => Err(*entry),
            _ => Ok(None),
        };
        assert_eq!(Merges::read(&entries, broken).err(), Some(39_999));
        assert_eq!(Merges::read(&[], find).unwrap().iter().count(), 0);
    }
    use proptest::prelude::*;

    /// Merging as its definition reads: find the best pair, join it, start again.
    fn by_definition(merges: &Merges, mut ids: Vec<TokenId>) -> Vec<TokenId> {
        loop {
            let pairs = ids.windows(2).enumerate();
            let best = pairs.filter_map(|(at, pair)| Some((merges.0.get(pair[0], pair[1])?, at)));
            let Some((merge, at)) = best.min_by_key(|(merge, at)| (merge.priority, *at)) else { return ids };
            ids.splice(at..at + 2, [merge.merged]);
        }
    }

    proptest! {
        #[test]
        fn scan_and_heap_agree_with_the_definition(
            rules in prop::collection::vec((0..12u32, 0..12u32), 1..40),
            ids in prop::collection::vec(0..4u32, 0..200),
        ) {
            let mut merges = Merges::with_capacity(0);
            for (priority, (left, right)) in (0u32..).zip(rules) {
                merges.insert(left, right, Merge { priority, merged: 4 + priority % 8 });
            }
            let mut merged = Vec::new();
            merges.apply(&ids, &mut Scratch::default(), &mut merged);
            prop_assert_eq!(merged, by_definition(&merges, ids));
        }
    }
}
