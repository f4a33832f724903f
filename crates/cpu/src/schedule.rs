//! How the attention of a step is shared out among threads.
//!
//! A *unit* is a run of rows of one sequence with all query heads of one key/value head, so that each key and value is
//! loaded once for all of them. Where there are enough units, a thread takes a unit and goes through its chunks of
//! keys; where there are few (a long sequence that generates), units are split into chunks, whose results are merged
//! afterwards. Both ways compute the same numbers in the same order: a chunk's slots are fixed, and chunks are merged
//! by slot.

use crate::step::Span;
use glimmer_tensor::{CHUNK_SLOTS, Heads};
use std::cmp::Reverse;
use std::ops::Range;

/// Queries (rows times heads) that a unit aims at: enough to use a widened tile many times, few enough for their
/// scores of a chunk to stay in the second-level cache.
const UNIT_QUERIES: usize = 64;

/// Rows of a unit.
pub(crate) const fn unit_rows(heads: &Heads) -> usize {
    let rows = UNIT_QUERIES / heads.group();
    if rows == 0 { 1 } else { rows }
}

/// Some rows of a sequence and all query heads of one key/value head.
#[derive(Debug)]
pub(crate) struct Unit {
    /// The sequence.
    pub(crate) sequence: usize,
    /// The key/value head.
    pub(crate) kv_head: usize,
    /// Rows of the batch.
    pub(crate) rows: Range<usize>,
    /// The most slots that one of the rows sees.
    pub(crate) visible: usize,
    /// Where its results by chunk start, counted in queries; used when units are split.
    pub(crate) first_partial: usize,
}

impl Unit {
    /// Number of chunks that its rows see.
    pub(crate) fn chunks(&self) -> usize {
        self.visible.div_ceil(CHUNK_SLOTS)
    }
}

/// A task for one thread: some chunks of a unit.
#[derive(Debug)]
pub(crate) struct Item {
    /// Index of the unit.
    pub(crate) unit: usize,
    /// The chunks: all of the unit's, or one.
    pub(crate) chunks: Range<usize>,
}

/// All tasks of a step's attention, the same for every layer.
#[derive(Default, Debug)]
pub(crate) struct Schedule {
    /// The units.
    pub(crate) units: Vec<Unit>,
    /// The tasks, the long ones first.
    pub(crate) items: Vec<Item>,
    /// Whether units are split into chunks.
    pub(crate) split: bool,
}

impl Schedule {
    /// Plans the attention of sequences whose rows see `visible` slots. `room` is the number of (query, chunk) results
    /// that can be kept until they are merged.
    pub(crate) fn plan(
        &mut self,
        sequences: &[Span],
        visible: &[u32],
        heads: &Heads,
        threads: usize,
        room: usize,
    ) {
        self.units.clear();
        self.items.clear();
        let (mut partials, mut total, mut largest, mut most_chunks) = (0, 0, 0, 0);
        for (index, sequence) in sequences.iter().enumerate() {
            for kv_head in 0..heads.kv_heads {
                for first in sequence.rows.clone().step_by(unit_rows(heads)) {
                    let rows = first..(first + unit_rows(heads)).min(sequence.rows.end);
                    let seen = visible[rows.clone()].iter().copied().max().unwrap_or(0) as usize;
                    let cost = rows.len() * seen;
                    let unit =
                        Unit { sequence: index, kv_head, rows, visible: seen, first_partial: partials };
                    total += cost;
                    largest = largest.max(cost);
                    most_chunks = most_chunks.max(unit.chunks());
                    partials += unit.rows.len() * heads.group() * unit.chunks();
                    self.units.push(unit);
                }
            }
        }
        // A unit that is more than half of a thread's fair share would leave other threads waiting.
        self.split = threads > 1 && most_chunks > 1 && largest * threads * 2 > total && partials <= room;
        for (index, unit) in self.units.iter().enumerate() {
            if self.split {
                self.items.extend((0..unit.chunks()).map(|c| Item { unit: index, chunks: c..c + 1 }));
            } else {
                self.items.push(Item { unit: index, chunks: 0..unit.chunks() });
            }
        }
        if !self.split {
            let units = &self.units;
            self.items
                .sort_unstable_by_key(|item| Reverse(units[item.unit].rows.len() * units[item.unit].visible));
        }
    }
}
