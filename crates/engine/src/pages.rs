//! The pages of the key/value cache that are free.

use glimmer_tensor::{PAGE_SLOTS, PageId};

/// Hands out pages of a pool sized up front.
#[derive(Debug)]
pub struct PagePool {
    free: Vec<PageId>,
    total: usize,
}

impl PagePool {
    /// A pool of `pages` free pages.
    pub fn new(pages: usize) -> Self {
        PagePool { free: (0..pages as PageId).rev().collect(), total: pages }
    }

    /// Slots that fit when every page is free.
    pub fn slots(&self) -> usize {
        self.total * PAGE_SLOTS
    }

    /// Pages nobody holds.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Extends `held` until it covers `slots`. Answers whether there were enough free pages; if not, nothing changes.
    pub fn grow(&mut self, held: &mut Vec<PageId>, slots: usize) -> bool {
        let missing = slots.div_ceil(PAGE_SLOTS).saturating_sub(held.len());
        if missing > self.free.len() {
            return false;
        }
        held.extend(self.free.drain(self.free.len() - missing..).rev());
        true
    }

    /// Takes pages back.
    pub fn release(&mut self, held: &mut Vec<PageId>) {
        self.free.extend(held.drain(..).rev());
        debug_assert!(self.free.len() <= self.total, "a page was given back twice");
    }
}
