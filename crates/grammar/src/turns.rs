//! Turns at work that takes a processor and memory.

use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::available_parallelism;

/// As many at a time as leave most processors to others: a quarter of them, and one at least.
pub(crate) struct Turns {
    free: Mutex<usize>,
    freed: Condvar,
}

/// A turn. Dropping it lets the next one have it.
pub(crate) struct Turn<'t>(&'t Turns);

impl Turns {
    pub(crate) fn new() -> Self {
        let most = available_parallelism().map_or(1, |processors| processors.get().div_ceil(4));
        Turns { free: Mutex::new(most), freed: Condvar::new() }
    }

    /// Waits for a turn.
    pub(crate) fn take(&self) -> Turn<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self.freed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Turn(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}
