//! Zeroed memory for weights, caches and activations: aligned to cache lines, backed by huge pages where the system
//! allows, allocated without touching it.

use crate::os;
use glimmer_tensor::DeviceError;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
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
    fn impossible_sizes_are_errors() {
        for len in [usize::MAX, usize::MAX / 4, isize::MAX as usize / 4 + 1] {
            let error = Slab::<f32>::zeroed(len, "a test").err();
            assert!(matches!(error, Some(DeviceError::OutOfMemory { what: "a test", .. })), "{len}");
        }
    }
}
