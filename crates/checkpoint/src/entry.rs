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

/// A tensor of a type that nothing here computes with. It is known, so that whoever needs it can be told; its bytes are
/// not looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// Its name.
    pub name: String,
    /// Its type, as the file spells it.
    pub type_name: String,
    /// Bytes of its elements. Of a GGUF's other types nothing here knows how many that is: all up to the next tensor.
    pub bytes: u64,
    /// Where its first element lies, from the beginning of the file.
    pub offset: u64,
}

/// Elements of a shape whose product is a number.
pub(crate) fn elements(shape: &[usize]) -> Result<usize, Fault> {
    // A zero anywhere must not hide an overflow: readers multiply in any order.
    let all =
        shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d.max(1))).ok_or_else(|| overflow(shape))?;
    Ok(if shape.contains(&0) { 0 } else { all })
}

/// The complaint about a shape that is too large.
pub(crate) fn overflow(shape: &[usize]) -> Fault {
    Fault::Overflow(shape.iter().map(|&d| d as u64).collect())
}

/// Bytes of a tensor, or what is wrong with its shape.
pub(crate) fn size_of(dtype: DType, shape: &[usize]) -> Result<usize, Fault> {
    let elements = elements(shape)?;
    let cols = shape.last().copied().unwrap_or(1);
    if !cols.is_multiple_of(dtype.block_len()) {
        return Err(Fault::BrokenBlock { dtype, cols });
    }
    match dtype.bytes_for(elements) {
        Some(bytes) if isize::try_from(bytes).is_ok() => Ok(bytes),
        _ => Err(overflow(shape)),
    }
}

/// Refuses two tensors that share a name or a byte.
pub(crate) fn check_disjoint(entries: &[Entry], foreign: &[Foreign]) -> Result<(), Damage> {
    let entries = entries.iter().map(|e| (e.name.as_str(), e.offset, e.bytes as u64));
    let foreign = foreign.iter().map(|f| (f.name.as_str(), f.offset, f.bytes));
    let tensors: Vec<(&str, u64, u64)> = entries.chain(foreign).collect();
    let mut names = std::collections::HashSet::with_capacity(tensors.len());
    if let Some((name, offset, _)) = tensors.iter().find(|(name, ..)| !names.insert(*name)) {
        return Err(Fault::DuplicateTensor.tensor(name, *offset));
    }
    match overlap(tensors.iter().map(|(_, offset, bytes)| (*offset, offset + bytes))) {
        Some((first, second)) => {
            let (name, offset, _) = tensors[second];
            Err(Fault::Overlap(tensors[first].0.to_owned()).tensor(name, offset))
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
