//! A machine that only counts: everything is laid out on it, nothing is computed. So what a card will hold is known before
//! anything is read.

use crate::driver::{CardLimits, Driver, DriverError, Memory};
use glimmer_tensor::FreeMemory;

/// Has all the memory that is asked for and none of its contents.
pub(crate) struct Counted {
    limits: CardLimits,
    /// Where the next piece begins.
    next: u64,
}

impl Counted {
    /// A machine with another's limits.
    pub(crate) fn new(limits: CardLimits) -> Self {
        Counted { limits, next: 256 }
    }
}

impl Driver for Counted {
    fn describe(&self) -> String {
        "a card that only counts".to_owned()
    }

    fn limits(&self) -> CardLimits {
        self.limits
    }

    fn free_memory(&mut self) -> Option<FreeMemory> {
        None
    }

    fn alloc(&mut self, bytes: usize) -> Result<Memory, DriverError> {
        let here = self.next;
        let end = bytes.checked_next_multiple_of(256).and_then(|bytes| here.checked_add(bytes as u64));
        self.next = end.ok_or(DriverError::OutOfMemory(bytes))?;
        Ok(Memory(here))
    }

    fn free(&mut self, _: Memory) {}

    fn copy_in(&mut self, _: Memory, _: usize, _: &[u8]) {}

    fn copy_out(&mut self, _: Memory, _: usize, _: &mut [u8]) {}

    fn launch(&mut self, _: &'static str, _: [u32; 3], _: u32, _: u32, _: &[u8]) {}

    fn begin_step(&mut self) {}

    fn end_step(&mut self) {}

    fn synchronize(&mut self) -> Result<(), DriverError> {
        Ok(())
    }
}
