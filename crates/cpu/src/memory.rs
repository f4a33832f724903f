//! Memory for weights, caches and activations: aligned to cache lines, zeroed without being touched, backed by huge
//! pages where the system allows; and how the threads of a task share a slice that they write to.

use crate::os;
use glimmer_tensor::DeviceError;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;
use std::sync::Arc;

/// Every slab starts at a multiple of this: a cache line, and the widest vector.
pub(crate) const LINE: usize = 64;

/// Slabs of at least this many bytes start at a multiple of it and ask for huge pages.
const HUGE: usize = 2 << 20;

/// What an [`Arena`] takes from the system at a time, none of it before it is touched. The last huge page of a block is
/// seldom full: few large blocks waste less.
const CHUNK: usize = 4 << 30;

/// Memory that slabs lie in, given back when the last of them is gone.
struct Block {
    /// What the allocator gave.
    memory: NonNull<u8>,
    layout: Layout,
    /// How far behind `memory` the first aligned byte is, and how many bytes follow it.
    skip: usize,
    bytes: usize,
}

// SAFETY: a block owns its memory and does nothing with it but give it back.
unsafe impl Send for Block {}
// SAFETY: a shared block gives out nothing but its address.
unsafe impl Sync for Block {}

impl Block {
    /// `bytes` zeros.
    fn zeroed(bytes: usize, what: &'static str) -> Result<Self, DeviceError> {
        let out_of_memory = || DeviceError::OutOfMemory { what, bytes };
        let align = if bytes >= HUGE { HUGE } else { LINE };
        // The alignment is made by hand: the system's allocator gives untouched zero pages only for a small one.
        let layout = Layout::from_size_align(bytes.checked_add(align).ok_or_else(out_of_memory)?, 16)
            .map_err(|_| out_of_memory())?;
        // SAFETY: the layout's size is at least `align`, so not zero.
        let memory = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(out_of_memory)?;
        let skip = memory.as_ptr().align_offset(align);
        assert!(skip <= align, "bytes can be aligned to anything");
        let block = Block { memory, layout, skip, bytes };
        if bytes >= HUGE {
            // SAFETY: these bytes lie in the block, which nobody else refers to.
            os::advise_huge(unsafe {
                std::slice::from_raw_parts_mut(block.start().as_ptr().cast::<MaybeUninit<u8>>(), bytes)
            });
        }
        Ok(block)
    }

    /// The first byte.
    fn start(&self) -> NonNull<u8> {
        // SAFETY: `skip + bytes <= layout.size()`, so the result lies in the allocation or at its end.
        unsafe { self.memory.add(self.skip) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: `memory` was allocated with this layout.
        unsafe { dealloc(self.memory.as_ptr(), self.layout) };
    }
}

/// Slabs one behind the other: what is read in the order in which it was made is read as one stream.
#[derive(Default)]
pub(crate) struct Arena {
    block: Option<Arc<Block>>,
    /// Bytes of the block that slabs have.
    used: usize,
}

impl Arena {
    /// `len` zeros behind those of the last call.
    ///
    /// # Errors
    /// As [`Slab::zeroed`].
    pub(crate) fn zeroed<T: bytemuck::Pod>(
        &mut self,
        len: usize,
        what: &'static str,
    ) -> Result<Slab<T>, DeviceError> {
        let bytes = bytes_of::<T>(len, what)?;
        let whole = bytes.checked_next_multiple_of(LINE).ok_or(DeviceError::OutOfMemory { what, bytes })?;
        let block = match &self.block {
            Some(block) if whole <= block.bytes - self.used => Arc::clone(block),
            _ => {
                self.used = 0;
                // What is never touched costs nothing, unless the system counts what is promised.
                let block = Block::zeroed(whole.max(CHUNK), what).or_else(|_| Block::zeroed(whole, what))?;
                Arc::clone(self.block.insert(Arc::new(block)))
            }
        };
        // SAFETY: `used + whole <= bytes` of the block.
        let start = unsafe { block.start().add(self.used) };
        self.used += whole;
        Ok(Slab { start: start.cast(), len, owns: PhantomData, block })
    }
}

/// Bytes of `len` elements.
fn bytes_of<T>(len: usize, what: &'static str) -> Result<usize, DeviceError> {
    len.checked_mul(size_of::<T>()).ok_or(DeviceError::OutOfMemory { what, bytes: usize::MAX })
}

/// A slice of plain numbers that starts at a cache line and is zero at first.
///
/// The system hands out zeroed pages when they are first touched, so a large slab costs memory as it is used.
pub(crate) struct Slab<T> {
    /// The first element.
    start: NonNull<T>,
    len: usize,
    owns: PhantomData<T>,
    /// Where it lies; no other slab of the block overlaps it.
    #[allow(dead_code, reason = "it is kept for as long as the slab is")]
    block: Arc<Block>,
}

// SAFETY: a slab owns its memory, as a `Vec<T>` does.
unsafe impl<T: Send> Send for Slab<T> {}
// SAFETY: a shared slab gives out shared elements only, as a `Vec<T>` does.
unsafe impl<T: Sync> Sync for Slab<T> {}

impl<T: bytemuck::Pod> Slab<T> {
    /// `len` zeros.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`], naming `what` the memory was for.
    pub(crate) fn zeroed(len: usize, what: &'static str) -> Result<Self, DeviceError> {
        let block = Block::zeroed(bytes_of::<T>(len, what)?, what)?;
        Ok(Slab { start: block.start().cast(), len, owns: PhantomData, block: Arc::new(block) })
    }

    /// A copy of `values`.
    ///
    /// # Errors
    /// As [`Slab::zeroed`].
    pub(crate) fn copied(values: &[T], what: &'static str) -> Result<Self, DeviceError> {
        let mut slab = Slab::zeroed(values.len(), what)?;
        slab.copy_from_slice(values);
        Ok(slab)
    }

    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.len * size_of::<T>()
    }
}

impl<T> Deref for Slab<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `len` elements from `start`, aligned to a line, are this slab's alone; they were zero at first, which is
        // a value of any Pod.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for Slab<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `self` is borrowed for as long as the slice.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

/// A slice whose parts are written by different threads of one task.
pub(crate) struct Parts<'a, T> {
    start: NonNull<T>,
    len: usize,
    borrows: PhantomData<&'a mut [T]>,
}

// SAFETY: it gives out mutable slices of `T`, whose overlap `Parts::range` forbids.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    /// Takes the slice to be parted.
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Parts { len: slice.len(), start: NonNull::from(slice).cast(), borrows: PhantomData }
    }

    /// The elements `range`.
    ///
    /// # Panics
    /// When the range leaves the slice.
    ///
    /// # Safety
    /// While the result lives, no other call may be given a range that overlaps this one.
    #[allow(clippy::mut_from_ref, reason = "the caller promises that ranges are disjoint")]
    pub(crate) unsafe fn range(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {}", self.len);
        // SAFETY: the range lies in the slice, which is borrowed for 'a, and the caller promises that it is free.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().add(range.start), range.len()) }
    }
}

/// The share of `count` things that belongs to thread `index` of `threads`: contiguous and as even as can be.
pub(crate) fn share(count: usize, threads: usize, index: usize) -> Range<usize> {
    count * index / threads..count * (index + 1) / threads
}

/// The thread to whose [`share`] the thing `at`, one of `count`, belongs.
pub(crate) fn owner(count: usize, threads: usize, at: usize) -> usize {
    ((at + 1) * threads - 1) / count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slabs_are_aligned_and_zero() {
        for len in [0, 1, 15, 1000, (HUGE / 4) - 1, HUGE / 4, HUGE] {
            let mut slab = Slab::<f32>::zeroed(len, "a test").unwrap();
            assert_eq!(slab.len(), len);
            assert!(slab.as_ptr().addr().is_multiple_of(if slab.bytes() >= HUGE { HUGE } else { LINE }));
            assert!(slab.iter().all(|&v| v == 0.0));
            slab.fill(1.0);
            assert_eq!(slab.iter().sum::<f32>(), len as f32);
        }
        assert_eq!(&*Slab::copied(&[1u8, 2, 3], "a test").unwrap(), &[1, 2, 3]);
    }

    #[test]
    fn slabs_of_an_arena_follow_each_other_and_outlive_it() {
        let mut arena = Arena::default();
        let mut slabs: Vec<Slab<u32>> =
            [1, 16, 0, 17, 1 << 20].map(|len| arena.zeroed(len, "a test").unwrap()).into();
        let large = arena.zeroed::<u8>(CHUNK, "a test").unwrap();
        drop(arena);
        assert!(slabs.iter().flat_map(|slab| slab.iter()).all(|&v| v == 0));
        for (i, slab) in slabs.iter_mut().enumerate() {
            slab.fill(i as u32 + 1);
        }
        for (i, slab) in slabs.iter().enumerate() {
            assert!(slab.as_ptr().addr().is_multiple_of(LINE) && slab.iter().all(|&v| v == i as u32 + 1));
        }
        let ends = slabs.iter().map(|slab| (slab.as_ptr().addr() + slab.bytes()).next_multiple_of(LINE));
        assert!(ends.zip(&slabs[1..]).all(|(end, next)| end == next.as_ptr().addr()));
        assert!(large.len() == CHUNK && large[CHUNK - 1] == 0, "a block of its own");
    }

    #[test]
    fn shares_cover_everything_once() {
        for (count, threads) in [(0, 3), (1, 2), (7, 3), (64, 5), (5, 8)] {
            let all: Vec<usize> = (0..threads).flat_map(|i| share(count, threads, i)).collect();
            assert_eq!(all, (0..count).collect::<Vec<_>>());
            for at in 0..count {
                assert!(share(count, threads, owner(count, threads, at)).contains(&at));
            }
        }
    }

    #[test]
    fn parts_of_a_slice_are_written_together() {
        let mut values = [0usize; 10];
        let parts = Parts::new(&mut values);
        std::thread::scope(|scope| {
            for i in 0..2 {
                let parts = &parts;
                // SAFETY: the two shares are disjoint.
                scope.spawn(move || unsafe { parts.range(share(10, 2, i)) }.fill(i + 1));
            }
        });
        assert_eq!(values, [1, 1, 1, 1, 1, 2, 2, 2, 2, 2]);
    }

    #[test]
    fn impossible_sizes_are_errors() {
        for len in [usize::MAX, usize::MAX / 4, isize::MAX as usize / 4 + 1] {
            let errors = [
                Slab::<f32>::zeroed(len, "a test").err(),
                Arena::default().zeroed::<f32>(len, "a test").err(),
            ];
            for error in errors {
                assert!(matches!(error, Some(DeviceError::OutOfMemory { what: "a test", .. })), "{len}");
            }
        }
    }
}
