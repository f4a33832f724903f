//! Columns of buffers: small work between products, on the host's own threads.

use glimmer_tensor::{BufferId, TrainingDevice};

/// A buffer, its width and the first of the columns that are meant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Columns {
    pub(crate) buffer: BufferId,
    pub(crate) width: usize,
    pub(crate) first: usize,
}

/// What becomes of the values that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    Set,
    Add,
}

/// The first `rows` rows of `count` columns, from one buffer to another.
pub(crate) fn copy(
    device: &mut dyn TrainingDevice,
    (rows, count): (usize, usize),
    from: Columns,
    to: Columns,
    put: Put,
) {
    let (changed, other) = device.values_beside(to.buffer, from.buffer);
    let rows = changed.chunks_exact_mut(to.width).zip(other.chunks_exact(from.width)).take(rows);
    for (changed, other) in rows {
        let (changed, other) = (&mut changed[to.first..][..count], &other[from.first..][..count]);
        match put {
            Put::Set => changed.copy_from_slice(other),
            Put::Add => changed.iter_mut().zip(other).for_each(|(to, from)| *to += from),
        }
    }
}
