//! What every header says of a tensor, in one form, and the checks that all formats share.

use glimmer_tensor::DType;

use crate::error::{Damage, Fault};

/// The most tensors that one file may have: several times what the largest published model has in all its files.
pub(crate) const MAX_TENSORS: usize = 1 << 19;

/// The most dimensions that a tensor may have.
pub(crate) const MAX_DIMS: usize = 8;

/// The most bytes that a name may have.
pub(crate) const MAX_NAME: u64 = 1 << 16;

/// A tensor as a file's header describes it, checked against the file's length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Shape, outermost first.
    pub shape: Vec<usize>,
    /// Bytes of its elements.
    pub bytes: usize,
    /// Where its first element lies, from the beginning of the file.
    pub offset: u64,
    /// Strides in elements, when the elements do not lie one after another in row-major order (PyTorch only).
    pub strides: Option<Vec<usize>>,
}

/// Bytes of a tensor, or what is wrong with its shape.
pub(crate) fn size_of(dtype: DType, shape: &[usize]) -> Result<usize, Fault> {
    let overflow = || Fault::Overflow(shape.iter().map(|&d| d as u64).collect());
    // A zero anywhere must not hide an overflow: readers multiply in any order.
    let all = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d.max(1))).ok_or_else(overflow)?;
    let elements = if shape.contains(&0) { 0 } else { all };
    let cols = shape.last().copied().unwrap_or(1);
    if !cols.is_multiple_of(dtype.block_len()) {
        return Err(Fault::BrokenBlock { dtype, cols });
    }
    match dtype.bytes_for(elements) {
        Some(bytes) if isize::try_from(bytes).is_ok() => Ok(bytes),
        _ => Err(overflow()),
    }
}

/// Refuses two entries that share a name or a byte.
pub(crate) fn check_disjoint(entries: &[Entry]) -> Result<(), Damage> {
    let mut names = std::collections::HashSet::with_capacity(entries.len());
    for entry in entries {
        if !names.insert(entry.name.as_str()) {
            return Err(Fault::DuplicateTensor.tensor(&entry.name, entry.offset));
        }
    }
    let spans = entries.iter().map(|e| (e.offset, e.offset + e.bytes as u64));
    match overlap(spans) {
        Some((first, second)) => {
            Err(Fault::Overlap(entries[first].name.clone())
                .tensor(&entries[second].name, entries[second].offset))
        }
        None => Ok(()),
    }
}

/// Two of the spans `[begin, end)` that share a byte, the one that begins first first.
pub(crate) fn overlap(spans: impl Iterator<Item = (u64, u64)>) -> Option<(usize, usize)> {
    let mut order: Vec<_> = spans.enumerate().filter(|(_, (begin, end))| begin < end).collect();
    order.sort_unstable_by_key(|&(_, span)| span);
    order.windows(2).find(|pair| pair[1].1.0 < pair[0].1.1).map(|pair| (pair[0].0, pair[1].0))
}
