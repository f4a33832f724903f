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
/// scores of a chunk (128 KiB) to stay in the second-level cache. Measured: 64 make a prompt's attention 10 % slower.
const UNIT_QUERIES: usize = 128;

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

/// All tasks of a step's attention, the same for every layer with the same heads.
#[derive(Debug)]
pub(crate) struct Schedule {
    /// The units.
    pub(crate) units: Vec<Unit>,
    /// The tasks, the long ones first.
    pub(crate) items: Vec<Item>,
    /// Whether units are split into chunks.
    pub(crate) split: bool,
}

impl Schedule {
    /// An empty schedule with room for `rows` rows and for as many chunks of split units as [`Schedule::plan`] would
    /// allow with the same `room`.
    pub(crate) fn with_capacity(rows: usize, heads: &Heads, room: usize) -> Self {
        let units = rows * heads.kv_heads;
        Schedule {
            units: Vec::with_capacity(units),
            items: Vec::with_capacity(units.max(room / heads.group())),
            split: false,
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::Step;
    use glimmer_tensor::{Batch, Capacity, KvType, PAGE_SLOTS, Plan};

    const HEADS: Heads = Heads::new(16, 4, 8);

    /// The schedule of sequences given as (rows, length).
    fn schedule(heads: Heads, threads: usize, room: usize, sequences: &[(usize, usize)]) -> (Step, Schedule) {
        let capacity = Capacity { rows: 4096, logits_rows: 1, pages: 4096 };
        let plan = Plan { capacity, vocab: 1, layers: vec![heads], kv_type: KvType::F32, axes: 1 };
        let mut batch = Batch::default();
        for &(rows, len) in sequences {
            let pages = vec![0; len.div_ceil(PAGE_SLOTS)];
            batch.push(&vec![0; rows], len - rows..len, &vec![0.0; rows], 0, pages, []);
        }
        let mut step = Step::with_capacity(&plan, |_| room);
        step.load(&batch, &plan, &[]);
        let mut schedule = Schedule::with_capacity(4096, &heads, room);
        schedule.plan(&step.sequences, &step.visible, &heads, threads, room);
        (step, schedule)
    }

    #[test]
    fn every_row_and_head_sees_every_chunk_once() {
        for heads in [HEADS, Heads::new(3, 3, 8), Heads::new(72, 1, 8)] {
            for sequences in [&[(1, 1)][..], &[(1, 5000)], &[(300, 900), (1, 4000), (17, 17)], &[(600, 600)]]
            {
                for (threads, room) in [(1, 0), (2, 1 << 20), (16, 1 << 20), (16, 3)] {
                    let (step, schedule) = schedule(heads, threads, room, sequences);
                    let mut seen = std::collections::HashSet::new();
                    let mut partials = 0;
                    for item in &schedule.items {
                        let unit = &schedule.units[item.unit];
                        for row in unit.rows.clone() {
                            assert!(step.visible[row] as usize <= unit.visible);
                            for chunk in item.chunks.clone() {
                                assert!(seen.insert((row, unit.kv_head, chunk)));
                            }
                        }
                    }
                    for (row, &visible) in step.visible.iter().enumerate() {
                        for kv_head in 0..heads.kv_heads {
                            for chunk in 0..(visible as usize).div_ceil(CHUNK_SLOTS) {
                                assert!(seen.contains(&(row, kv_head, chunk)));
                            }
                        }
                    }
                    for unit in &schedule.units {
                        assert_eq!(unit.first_partial, partials);
                        partials += unit.rows.len() * heads.group() * unit.chunks();
                    }
                    assert!(!schedule.split || partials <= room);
                }
            }
        }
    }

    #[test]
    fn a_long_sequence_that_generates_is_split_and_a_prompt_is_not() {
        assert!(schedule(HEADS, 8, 1 << 20, &[(1, 5000)]).1.split);
        assert!(schedule(HEADS, 8, 1 << 20, &[(1, 50), (1, 5000), (1, 60)]).1.split);
        assert!(!schedule(HEADS, 1, 1 << 20, &[(1, 5000)]).1.split, "one thread has nobody to share with");
        assert!(!schedule(HEADS, 8, 100, &[(1, 5000)]).1.split, "16 heads and 20 chunks do not fit");
        assert!(!schedule(HEADS, 8, 1 << 20, &[(1, 200)]).1.split, "one chunk cannot be split");
        let (_, prompt) = schedule(HEADS, 8, 1 << 20, &[(512, 5000)]);
        assert!(!prompt.split);
        let cost = |item: &Item| prompt.units[item.unit].rows.len() * prompt.units[item.unit].visible;
        assert!(prompt.items.windows(2).all(|pair| cost(&pair[0]) >= cost(&pair[1])), "long ones first");
    }
}
