//! Memory for weights, caches and activations: aligned to cache lines, zeroed without being touched, backed by huge
//! pages where the system allows; and how the threads of a task share a slice that they write to.

use crate::os;
use glimmer_tensor::DeviceError;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;

/// Every slab starts at a multiple of this: a cache line, and the widest vector.
pub(crate) const LINE: usize = 64;

/// Slabs of at least this many bytes start at a multiple of it and ask for huge pages.
const HUGE: usize = 2 << 20;

/// A slice of plain numbers that starts at a cache line and is zero at first.
///
/// The system hands out zeroed pages when they are first touched, so a large slab costs memory as it is used.
pub(crate) struct Slab<T> {
    /// What the allocator gave, to be given back.
    block: NonNull<u8>,
    layout: Layout,
    /// The first element, `block` moved up to the alignment.
    start: NonNull<T>,
    len: usize,
    owns: PhantomData<T>,
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
        let out_of_memory = || DeviceError::OutOfMemory { what, bytes: len.saturating_mul(size_of::<T>()) };
        let bytes = len.checked_mul(size_of::<T>()).ok_or_else(out_of_memory)?;
        let align = if bytes >= HUGE { HUGE } else { LINE };
        // The alignment is made by hand: the system's allocator gives untouched zero pages only for a small one.
        let layout = Layout::from_size_align(bytes.checked_add(align).ok_or_else(out_of_memory)?, 16)
            .map_err(|_| out_of_memory())?;
        // SAFETY: the layout's size is at least `align`, so not zero.
        let block = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(out_of_memory)?;
        let skip = block.as_ptr().align_offset(align);
        assert!(skip <= align, "bytes can be aligned to anything");
        // SAFETY: `skip + bytes <= layout.size()`, so the result lies in the block or at its end.
        let start = unsafe { block.add(skip) };
        if bytes >= HUGE {
            // SAFETY: the `bytes` bytes from `start` lie in the block, which nobody else refers to.
            os::advise_huge(unsafe {
                std::slice::from_raw_parts_mut(start.as_ptr().cast::<MaybeUninit<u8>>(), bytes)
            });
        }
        Ok(Slab { block, layout, start: start.cast(), len, owns: PhantomData })
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
        // SAFETY: `zeroed` made `len` elements from `start`, aligned to a line, all zero, which is a value of any Pod.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for Slab<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `self` is borrowed for as long as the slice.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T> Drop for Slab<T> {
    fn drop(&mut self) {
        // SAFETY: `block` was allocated with this layout, and elements that are Pod need no drop.
        unsafe { dealloc(self.block.as_ptr(), self.layout) };
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
    fn shares_cover_everything_once() {
        for (count, threads) in [(0, 3), (1, 2), (7, 3), (64, 5), (5, 8)] {
            let all: Vec<usize> = (0..threads).flat_map(|i| share(count, threads, i)).collect();
            assert_eq!(all, (0..count).collect::<Vec<_>>());
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
            let error = Slab::<f32>::zeroed(len, "a test").err();
            assert!(matches!(error, Some(DeviceError::OutOfMemory { what: "a test", .. })), "{len}");
        }
    }
}
