//! The pages of the key/value cache: who holds them, and what the free ones still remember.
//!
//! A page is *held* by one or more sequences (counted), or it is *free*. A free page that was full keeps its contents
//! and its key until it is handed out again: that is the prefix cache. Keys are chained hashes of the ids from the
//! start of the sequence, and the ids themselves are compared, so a collision cannot lend a wrong page.

use std::collections::{BTreeMap, HashMap};

use glimmer_tensor::{PAGE_SLOTS, PageId};

/// What a full page contains: the page before it, its own ids, and whatever else its keys and values depend on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct PageKey {
    /// The page that precedes it, by key number; 0 for the first.
    parent: u64,
    /// Everything besides the ids up to here that the contents depend on (a bidirectional context, an adapter).
    salt: u64,
    ids: [u32; PAGE_SLOTS],
}

/// A page's state.
#[derive(Clone, Debug)]
struct Page {
    holders: u32,
    /// Number of its key, 0 for none.
    key: u64,
    /// When it became free, the key of `free`.
    freed: u64,
}

/// The pool, sized up front.
#[derive(Debug)]
pub struct PagePool {
    pages: Vec<Page>,
    /// Free pages, the one to be handed out next first: those that remember nothing, then the longest unused.
    free: BTreeMap<u64, PageId>,
    /// Key to its number and page.
    keys: HashMap<PageKey, (u64, PageId)>,
    /// Number of a key to the key.
    by_number: HashMap<u64, PageKey>,
    /// How many of the free pages remember something.
    remembered: usize,
    clock: u64,
    next_number: u64,
}

impl PagePool {
    /// A pool of `pages` free pages that remember nothing.
    pub fn new(pages: usize) -> Self {
        PagePool {
            pages: (0..pages).map(|p| Page { holders: 0, key: 0, freed: p as u64 }).collect(),
            free: (0..pages).map(|p| (p as u64, p as PageId)).collect(),
            keys: HashMap::new(),
            by_number: HashMap::new(),
            remembered: 0,
            clock: pages as u64,
            next_number: 1,
        }
    }

    /// Number of pages.
    pub fn len(&self) -> usize {
        self.pages.len()
    }

    /// Whether the pool has no pages at all.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// Pages nobody holds.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Pages nobody holds that still remember what they were full of.
    pub fn remembered(&self) -> usize {
        self.remembered
    }

    /// Hands out a free page, forgetting what it remembered.
    pub fn take(&mut self) -> Option<PageId> {
        let (_, id) = self.free.pop_first()?;
        let page = &mut self.pages[id as usize];
        page.holders = 1;
        let number = std::mem::take(&mut page.key);
        if let Some(key) = self.by_number.remove(&number) {
            self.keys.remove(&key);
            self.remembered -= 1;
        }
        Some(id)
    }

    /// One holder fewer. The last one makes the page free: to be handed out last if it remembers something.
    pub fn release(&mut self, id: PageId) {
        let page = &mut self.pages[id as usize];
        assert!(page.holders > 0, "page {id} is given back by nobody who holds it");
        page.holders -= 1;
        if page.holders == 0 {
            // Pages without a key sort before every clock value: they keep the low numbers.
            page.freed = if page.key == 0 { u64::from(id) } else { self.clock };
            self.remembered += usize::from(page.key != 0);
            self.clock += 1;
            self.free.insert(page.freed, id);
        }
    }

    /// Remembers that a held page is full of `ids`, after the page numbered `parent` (0 for none). Answers the number
    /// for the page after it: that of an equal page, where one is known already.
    pub fn remember(&mut self, id: PageId, parent: u64, salt: u64, ids: &[u32]) -> u64 {
        let Ok(ids) = <[u32; PAGE_SLOTS]>::try_from(ids) else { return 0 };
        let key = PageKey { parent, salt, ids };
        if let Some(&(number, _)) = self.keys.get(&key) {
            return number;
        }
        let number = self.next_number;
        self.next_number += 1;
        self.pages[id as usize].key = number;
        self.by_number.insert(number, key.clone());
        self.keys.insert(key, (number, id));
        number
    }

    /// The page that holds `ids` after `parent`, with its number; the caller becomes a holder.
    pub fn borrow(&mut self, parent: u64, salt: u64, ids: &[u32]) -> Option<(u64, PageId)> {
        let ids = <[u32; PAGE_SLOTS]>::try_from(ids).ok()?;
        let &(number, id) = self.keys.get(&PageKey { parent, salt, ids })?;
        let page = &mut self.pages[id as usize];
        if page.holders == 0 {
            self.free.remove(&page.freed);
            self.remembered -= 1;
        }
        page.holders += 1;
        Some((number, id))
    }

    /// Panics unless every page is either free or held as often as `held` says. For tests.
    pub fn check(&self, held: impl IntoIterator<Item = PageId>) {
        let mut count = vec![0u32; self.pages.len()];
        held.into_iter().for_each(|p| count[p as usize] += 1);
        for (id, page) in self.pages.iter().enumerate() {
            assert_eq!(page.holders, count[id], "holders of page {id}");
            let listed = self.free.get(&page.freed) == Some(&(id as PageId));
            assert!(page.holders > 0 || listed, "page {id} is neither held nor free");
        }
        assert_eq!(self.free.len(), count.iter().filter(|&&c| c == 0).count());
        assert_eq!(self.keys.len(), self.by_number.len());
        let remembering = self.pages.iter().filter(|page| page.holders == 0 && page.key != 0);
        assert_eq!(self.remembered, remembering.count());
        for (number, page) in self.keys.values() {
            assert_eq!(self.pages[*page as usize].key, *number);
        }
    }
}
