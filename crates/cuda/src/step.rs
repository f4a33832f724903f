//! An uploaded batch: one block of memory, whose parts lie where the *bucket* of the batch's rows says.
//!
//! Everything that changes from step to step is in that block, and a bucket is a power of two: steps of the same bucket
//! in the same block are launched with the same arguments and grids, which is what lets a card replay them.

use crate::driver::{Driver, DriverError, Memory};
use bytemuck::{Pod, Zeroable};
use glimmer_tensor::{Batch, PAGE_SLOTS, Rope};

/// Mirror of `Step` in `kernels/args.cuh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct StepArgs {
    pub(crate) counts: Memory,
    pub(crate) tokens: Memory,
    pub(crate) slots: Memory,
    pub(crate) visible: Memory,
    pub(crate) sequence_of: Memory,
    pub(crate) logits_rows: Memory,
    pub(crate) sequences: Memory,
    pub(crate) pages: Memory,
}

/// Mirror of `Sequence` in `kernels/args.cuh`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct SequenceArgs {
    pub(crate) first_row: u32,
    pub(crate) rows: u32,
    pub(crate) kv_len: u32,
    pub(crate) prefix_len: u32,
    pub(crate) first_page: u32,
}

/// Mirror of `Count` in `kernels/args.cuh`: places in the block's first words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    /// Rows.
    Rows,
    /// Rows that want logits.
    LogitsRows,
    /// Two words: the step's first value that is not finite, with its place; see `kernels/finite.cu`.
    NotFinite,
}

/// The step has had no value that is not finite.
pub(crate) const ALL_FINITE: u64 = u64::MAX;

/// Where among the counts attention's schedule for a kind of layer is described in four words: where it begins, in words
/// from the pages, and the three numbers that its kernels and grids go by.
pub(crate) const fn work_at(kind: usize) -> usize {
    4 + 4 * kind
}

/// Each part of a block begins at a multiple of this many words: 16 bytes.
const UNIT: usize = 4;

/// Writes attention's schedule for a kind of layer behind the pages and returns the three numbers.
pub(crate) type Schedule<'a> = &'a dyn Fn(usize, &Batch, &mut Vec<u32>) -> [u32; 3];

/// A block on the machine and the batch that it holds.
pub(crate) struct Step {
    memory: Memory,
    /// Words that the block has room for.
    room: usize,
    /// The words as they were copied last.
    words: Vec<u32>,
    /// One rope's cosines and sines.
    turns: Vec<(f32, f32)>,
    rows: usize,
    logits_rows: usize,
    args: StepArgs,
    /// For each rope its `[rows, pairs]`.
    cos_sin: Vec<Memory>,
    /// For each kind of layer the three numbers of attention's schedule.
    pub(crate) work: Vec<[u32; 3]>,
}

/// The rows that grids are made for.
pub(crate) fn bucket(rows: usize) -> usize {
    rows.next_power_of_two()
}

impl Step {
    /// A block for batches of up to `rows` rows and `pages` named pages, for layers of `kinds` kinds; it grows when a batch
    /// needs more.
    pub(crate) fn new(
        driver: &mut dyn Driver,
        rows: usize,
        pages: usize,
        kinds: usize,
        ropes: &[Rope],
    ) -> Result<Self, DriverError> {
        let pairs: usize = ropes.iter().map(|rope| 2 * rope.pair_count() + UNIT).sum();
        let per_row = 5 + size_of::<SequenceArgs>() / 4 + pairs;
        let room = bucket(rows).saturating_mul(per_row).saturating_add(pages) + 16 * UNIT + work_at(kinds);
        let memory = driver.alloc(room.saturating_mul(4))?;
        let nowhere = StepArgs::zeroed();
        Ok(Step {
            memory,
            room,
            words: Vec::with_capacity(room),
            turns: Vec::new(),
            rows: 0,
            logits_rows: 0,
            args: nowhere,
            cos_sin: Vec::new(),
            work: vec![[0; 3]; kinds],
        })
    }

    /// Takes over a checked batch.
    ///
    /// # Errors
    /// When it is larger than any before and memory runs out.
    pub(crate) fn load(
        &mut self,
        driver: &mut dyn Driver,
        batch: &Batch,
        axes: usize,
        ropes: &[Rope],
        schedule: Schedule<'_>,
    ) -> Result<(), DriverError> {
        let bucket = bucket(batch.rows());
        let mut place = Placer { words: &mut self.words, bucket };
        place.words.clear();
        place.words.resize(work_at(self.work.len()), 0);
        let tokens = place.part(1, batch.tokens.iter().copied());
        let slots = place.part(1, batch.slots.iter().copied());
        let visible = batch
            .sequences
            .iter()
            .flat_map(|s| s.row_range().map(move |row| s.visible(batch.slots[row]) as u32));
        let visible = place.part(1, visible);
        let of = batch.sequences.iter().enumerate().flat_map(|(i, s)| s.row_range().map(move |_| i as u32));
        let sequence_of = place.part(1, of);
        let logits_rows = place.part(1, batch.logits_rows.iter().copied());
        let mut first_page = 0;
        let sequences = batch.sequences.iter().flat_map(|s| {
            let args = SequenceArgs {
                first_row: s.first_row as u32,
                rows: s.rows as u32,
                kv_len: s.kv_len as u32,
                prefix_len: s.prefix_len.min(s.kv_len) as u32,
                first_page,
            };
            first_page += s.kv_len.div_ceil(PAGE_SLOTS) as u32;
            bytemuck::cast::<SequenceArgs, [u32; 5]>(args)
        });
        let sequences = place.part(size_of::<SequenceArgs>() / 4, sequences);
        let mut cos_sin = Vec::with_capacity(ropes.len());
        for rope in ropes {
            self.turns.clear();
            batch.rope_pos.chunks_exact(axes).for_each(|pos| rope.cos_sin(pos, &mut self.turns));
            let turns = self.turns.iter().flat_map(|&(cos, sin)| [cos.to_bits(), sin.to_bits()]);
            cos_sin.push(place.part(2 * rope.pair_count(), turns));
        }
        let pages = self.words.len();
        for s in &batch.sequences {
            self.words.extend_from_slice(&s.pages[..s.kv_len.div_ceil(PAGE_SLOTS)]);
        }
        for (kind, work) in self.work.iter_mut().enumerate() {
            self.words.resize(self.words.len().next_multiple_of(UNIT), 0);
            let from = (self.words.len() - pages) as u32;
            *work = schedule(kind, batch, &mut self.words);
            let [split, whole, rows] = *work;
            self.words[work_at(kind)..][..4].copy_from_slice(&[from, split, whole, rows]);
        }
        self.words[Count::Rows as usize] = batch.rows() as u32;
        self.words[Count::LogitsRows as usize] = batch.logits_rows.len() as u32;
        self.words[Count::NotFinite as usize..][..2].copy_from_slice(bytemuck::cast_slice(&[ALL_FINITE]));

        if self.words.len() > self.room {
            let room = self.words.len().next_power_of_two();
            let memory = driver.alloc(room * 4)?;
            driver.free(std::mem::replace(&mut self.memory, memory));
            self.room = room;
        }
        driver.copy_in(self.memory, 0, bytemuck::cast_slice(&self.words));
        let at = |word: usize| self.memory.at(4 * word);
        self.args = StepArgs {
            counts: at(0),
            tokens: at(tokens),
            slots: at(slots),
            visible: at(visible),
            sequence_of: at(sequence_of),
            logits_rows: at(logits_rows),
            sequences: at(sequences),
            pages: at(pages),
        };
        self.cos_sin = cos_sin.into_iter().map(at).collect();
        self.rows = batch.rows();
        self.logits_rows = batch.logits_rows.len();
        Ok(())
    }

    /// Rows of the batch.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Rows that want logits.
    pub(crate) fn logits_rows(&self) -> usize {
        self.logits_rows
    }

    /// Where its parts lie.
    pub(crate) fn args(&self) -> StepArgs {
        self.args
    }

    /// Where a rope's cosines and sines lie: `[rows, pairs, 2]`.
    pub(crate) fn cos_sin(&self, rope: usize) -> Memory {
        self.cos_sin[rope]
    }

    /// Where one of the counts lies.
    pub(crate) fn count(&self, count: Count) -> Memory {
        self.memory.at(4 * count as usize)
    }

    /// Where kernels note the step's first value that is not finite.
    pub(crate) fn not_finite(&self) -> Memory {
        self.count(Count::NotFinite)
    }

    /// Bytes of the block.
    pub(crate) fn bytes(&self) -> usize {
        4 * self.room
    }
}

/// Puts parts one behind the other.
struct Placer<'a> {
    words: &'a mut Vec<u32>,
    bucket: usize,
}

impl Placer<'_> {
    /// Appends `values`, `per_row` words for each row there is, with room for a bucket of rows. Returns where.
    fn part(&mut self, per_row: usize, values: impl Iterator<Item = u32>) -> usize {
        let at = self.words.len();
        self.words.extend(values);
        let end = at + per_row * self.bucket;
        debug_assert!(self.words.len() <= end, "a bucket holds the rows");
        self.words.resize(end.next_multiple_of(UNIT), 0);
        at
    }
}
