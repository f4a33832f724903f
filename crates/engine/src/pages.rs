//! The pages of the key/value cache: who holds them, and what the free ones still remember.
//!
//! A page is *held* by one or more sequences (counted), or it is *free*. A page that is full is remembered under its
//! [`PageKey`], and a free one keeps its contents and its key until it is handed out again: that is the prefix cache.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use glimmer_tensor::{PAGE_SLOTS, PageId};

use crate::PageKey;

/// What happened to a page that others might want to know of: a router that sends a request to where its beginning is
/// remembered, a cache on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageEvent {
    /// A full page is remembered from now on.
    Stored {
        /// Its key.
        key: PageKey,
        /// The key of the page before it in its sequence; none for the first. That page may be gone by now.
        parent: Option<PageKey>,
        /// Its token ids.
        ids: [u32; PAGE_SLOTS],
    },
    /// A page is not remembered any more.
    Removed {
        /// Its key.
        key: PageKey,
    },
}

/// Receives the events of an engine's pages, in order.
pub type PageListener = Box<dyn FnMut(PageEvent) + Send>;

/// A page's state.
#[derive(Clone, Debug)]
struct Page {
    holders: u32,
    /// What it is remembered under.
    key: Option<PageKey>,
    /// When it became free, the key of `free`.
    freed: u64,
}

/// The pool, sized up front.
#[derive(Debug)]
pub struct PagePool {
    pages: Vec<Page>,
    /// Free pages, the one to be handed out next first: those that remember nothing, then the longest unused.
    free: BTreeMap<u64, PageId>,
    /// The pages that are remembered.
    keys: HashMap<PageKey, PageId>,
    /// How many of the free pages remember something.
    remembered: usize,
    clock: u64,
    /// What happened since somebody asked last, where anybody does.
    events: Option<Vec<PageEvent>>,
}

impl PagePool {
    /// A pool of `pages` free pages that remember nothing.
    pub fn new(pages: usize) -> Self {
        PagePool {
            pages: (0..pages).map(|p| Page { holders: 0, key: None, freed: p as u64 }).collect(),
            free: (0..pages).map(|p| (p as u64, p as PageId)).collect(),
            keys: HashMap::new(),
            remembered: 0,
            clock: pages as u64,
            events: None,
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

    /// The pages that are remembered, held or free, with their keys.
    pub fn keys(&self) -> impl Iterator<Item = (PageKey, PageId)> {
        self.keys.iter().map(|(&key, &id)| (key, id))
    }

    /// Keeps events from now on, until [`PagePool::events`] fetches them.
    pub(crate) fn keep_events(&mut self) {
        self.events.get_or_insert_default();
    }

    /// The events since the last call.
    pub(crate) fn events(&mut self) -> Vec<PageEvent> {
        self.events.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Hands out a free page, forgetting what it remembered.
    pub fn allocate(&mut self) -> Option<PageId> {
        let (_, id) = self.free.pop_first()?;
        let page = &mut self.pages[id as usize];
        page.holders = 1;
        if let Some(key) = page.key.take() {
            self.keys.remove(&key);
            self.remembered -= 1;
            self.note(PageEvent::Removed { key });
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
            page.freed = if page.key.is_none() { u64::from(id) } else { self.clock };
            self.remembered += usize::from(page.key.is_some());
            self.clock += 1;
            self.free.insert(page.freed, id);
        }
    }

    /// Remembers that a held page is full of `ids`, unless an equal one is remembered already.
    pub fn remember(&mut self, id: PageId, key: PageKey, parent: Option<PageKey>, ids: &[u32; PAGE_SLOTS]) {
        if let Entry::Vacant(entry) = self.keys.entry(key) {
            entry.insert(id);
            self.pages[id as usize].key = Some(key);
            self.note(PageEvent::Stored { key, parent, ids: *ids });
        }
    }

    /// The page that is remembered under a key; the caller becomes a holder.
    pub fn borrow(&mut self, key: &PageKey) -> Option<PageId> {
        let &id = self.keys.get(key)?;
        let page = &mut self.pages[id as usize];
        if page.holders == 0 {
            self.free.remove(&page.freed);
            self.remembered -= 1;
        }
        page.holders += 1;
        Some(id)
    }

    fn note(&mut self, event: PageEvent) {
        if let Some(events) = &mut self.events {
            events.push(event);
        }
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
        let remembering = self.pages.iter().filter(|page| page.holders == 0 && page.key.is_some());
        assert_eq!(self.remembered, remembering.count());
        assert_eq!(self.keys.len(), self.pages.iter().filter(|page| page.key.is_some()).count());
        for (key, page) in &self.keys {
            assert_eq!(self.pages[*page as usize].key, Some(*key));
        }
    }
}
