//! The ragged batch: many sequences, any number of new rows each, computed in one step.
//!
//! A *row* is one new position of one sequence. A *slot* is a position in a sequence's key/value cache; slots live
//! in *pages* of [`PAGE_SLOTS`]. Attention goes by slot, rotary embedding by `rope_pos`: ChatGLM-6B's stuck
//! positions, GLM-4V's shared ones and ChatGLM2-32K's divided ones all need the two apart.

use std::ops::Range;
use std::sync::Arc;

use crate::{FeatureRows, Features};

/// Slots per page of the key/value cache.
pub const PAGE_SLOTS: usize = 32;

/// Keys per attention chunk. Scores are summed within a chunk and chunks are merged in slot order, whatever the
/// batch, the threads and the number of rows: this is what makes a row's bits independent of its company.
pub const CHUNK_SLOTS: usize = 8 * PAGE_SLOTS;

/// A page of the device's key/value pool.
pub type PageId = u32;

/// A place on a device for an adapter's pairs: small numbers, used again.
pub type AdapterSlot = u32;

/// One step's work.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Token id of each row: `[rows]`.
    pub tokens: Vec<u32>,
    /// Slot of each row in its sequence's cache: `[rows]`.
    pub slots: Vec<u32>,
    /// Rotary positions, one to three per row: `[rows, axes]`.
    pub rope_pos: Vec<f32>,
    /// The sequences, covering the rows in order without gaps.
    pub sequences: Vec<SequenceRows>,
    /// Rows whose logits are wanted, ascending: `[logits_rows]`.
    pub logits_rows: Vec<u32>,
    /// Rows that have features in place of their tokens' embeddings. Their token ids are looked up and overwritten.
    pub features: Vec<FeatureRows>,
}

/// One sequence's part of a [`Batch`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SequenceRows {
    /// First row in the batch.
    pub first_row: usize,
    /// Number of new rows, at least one.
    pub rows: usize,
    /// Slots that hold keys and values once this step has written its own.
    pub kv_len: usize,
    /// Slots before this are visible to every row (ChatGLM-6B's context); the rest is causal.
    pub prefix_len: usize,
    /// `pages[i]` holds slots `i * PAGE_SLOTS ..`; at least `kv_len` slots.
    pub pages: Vec<PageId>,
    /// The adapter whose pairs its rows meet.
    pub adapter: Option<AdapterSlot>,
}

impl SequenceRows {
    /// The batch rows of this sequence.
    pub fn row_range(&self) -> Range<usize> {
        self.first_row..self.first_row + self.rows
    }

    /// How many slots, counted from 0, the row at `slot` may see: a key is visible when its slot is below
    /// `prefix_len` or at most the query's.
    pub fn visible(&self, slot: u32) -> usize {
        (slot as usize + 1).max(self.prefix_len).min(self.kv_len)
    }
}

/// What a device was planned for; a batch must stay within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Rows per step.
    pub rows: usize,
    /// Rows per step whose logits are computed.
    pub logits_rows: usize,
    /// Pages in the key/value pool.
    pub pages: usize,
}

/// Why a batch cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The batch has no rows.
    #[error("the batch is empty")]
    Empty,
    /// An array's length does not fit the number of rows.
    #[error("{what} has {found} entries where {expected} are needed")]
    Length {
        /// The array.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The length it should have.
        expected: usize,
    },
    /// More of something than the device was planned for.
    #[error("{found} {what} in one step, planned for {planned}")]
    OverCapacity {
        /// What there is too much of.
        what: &'static str,
        /// The batch's count.
        found: usize,
        /// The plan's count.
        planned: usize,
    },
    /// The sequences do not cover the rows in order.
    #[error("sequence {0} does not start where the one before it ends, or has no rows")]
    Gap(usize),
    /// A row's slot lies outside what its sequence holds.
    #[error("row {row} has slot {slot}, its sequence holds {kv_len}")]
    Slot {
        /// The row.
        row: usize,
        /// Its slot.
        slot: u32,
        /// The sequence's slots.
        kv_len: usize,
    },
    /// A sequence has too few pages or names one that is not in the pool.
    #[error("sequence {0} has too few pages or one outside the pool")]
    Pages(usize),
    /// A token id has no row in the embedding.
    #[error("token id {id} is outside the vocabulary of {vocab}")]
    Token {
        /// The id.
        id: u32,
        /// Rows of the embedding.
        vocab: usize,
    },
    /// Features do not fit the rows that are to have them.
    #[error("features {0} do not fit the batch")]
    Features(usize),
    /// A logits row does not exist or the rows are not ascending.
    #[error("logits rows must be ascending rows of the batch")]
    LogitsRows,
}

impl Batch {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.tokens.len()
    }

    /// Appends a sequence and its rows; `slots` and `rope_pos` run parallel to `tokens`.
    /// `wants_logits` says which of the new rows (counted from 0) are to have logits.
    #[allow(clippy::too_many_arguments, reason = "each is one column of the batch")]
    pub fn push(
        &mut self,
        tokens: &[u32],
        slots: Range<usize>,
        rope_pos: &[f32],
        prefix_len: usize,
        pages: Vec<PageId>,
        wants_logits: impl IntoIterator<Item = usize>,
    ) {
        debug_assert_eq!(tokens.len(), slots.len());
        let first_row = self.rows();
        self.tokens.extend_from_slice(tokens);
        self.rope_pos.extend_from_slice(rope_pos);
        self.sequences.push(SequenceRows {
            first_row,
            rows: tokens.len(),
            kv_len: slots.end,
            prefix_len,
            pages,
            adapter: None,
        });
        self.slots.extend(slots.map(|s| s as u32));
        self.logits_rows.extend(wants_logits.into_iter().map(|r| (first_row + r) as u32));
    }

    /// Gives rows of the sequence that was pushed last, counted from its first, features in place of embeddings.
    pub fn see(&mut self, rows: Range<usize>, features: &Arc<Features>, first: usize) {
        let start = self.sequences.last().map_or(0, |sequence| sequence.first_row);
        let rows = start + rows.start..start + rows.end;
        self.features.push(FeatureRows { rows, features: Arc::clone(features), first });
    }

    /// Gives the sequence that was pushed last an adapter.
    pub fn adapt(&mut self, adapter: Option<AdapterSlot>) {
        if let Some(sequence) = self.sequences.last_mut() {
            sequence.adapter = adapter;
        }
    }

    /// The adapter of each row, or, of those alone whose logits are wanted, of each of them; none at all where no
    /// sequence has one.
    pub fn adapters(&self, of_logits: bool) -> Vec<Option<AdapterSlot>> {
        if self.sequences.iter().all(|sequence| sequence.adapter.is_none()) {
            return Vec::new();
        }
        let of_row = |sequence: &SequenceRows| std::iter::repeat_n(sequence.adapter, sequence.rows);
        let all: Vec<_> = self.sequences.iter().flat_map(of_row).collect();
        if of_logits { self.logits_rows.iter().map(|&row| all[row as usize]).collect() } else { all }
    }

    /// Checks every index against itself and against what the device was planned for.
    ///
    /// # Errors
    /// [`BatchError`] names the first thing that does not fit.
    pub fn check(&self, axes: usize, vocab: usize, capacity: &Capacity) -> Result<(), BatchError> {
        let rows = self.rows();
        if rows == 0 {
            return Err(BatchError::Empty);
        }
        for (what, found, expected) in
            [("slots", self.slots.len(), rows), ("rope_pos", self.rope_pos.len(), rows * axes)]
        {
            if found != expected {
                return Err(BatchError::Length { what, found, expected });
            }
        }
        for (what, found, planned) in
            [("rows", rows, capacity.rows), ("logits rows", self.logits_rows.len(), capacity.logits_rows)]
        {
            if found > planned {
                return Err(BatchError::OverCapacity { what, found, planned });
            }
        }
        if let Some(&id) = self.tokens.iter().find(|&&id| id as usize >= vocab) {
            return Err(BatchError::Token { id, vocab });
        }
        let mut next = 0;
        for (i, s) in self.sequences.iter().enumerate() {
            if s.first_row != next || s.rows == 0 || s.rows > rows - next {
                return Err(BatchError::Gap(i));
            }
            next += s.rows;
            if s.pages.len() * PAGE_SLOTS < s.kv_len || s.pages.iter().any(|&p| p as usize >= capacity.pages)
            {
                return Err(BatchError::Pages(i));
            }
            for row in s.row_range() {
                if self.slots[row] as usize >= s.kv_len {
                    return Err(BatchError::Slot { row, slot: self.slots[row], kv_len: s.kv_len });
                }
            }
        }
        if next != rows {
            return Err(BatchError::Gap(self.sequences.len()));
        }
        let fits =
            |one: &FeatureRows| one.rows.end <= rows && one.first + one.rows.len() <= one.features.rows();
        if let Some(at) = self.features.iter().position(|one| !fits(one)) {
            return Err(BatchError::Features(at));
        }
        let ascending = self.logits_rows.windows(2).all(|w| w[0] < w[1]);
        if !ascending || self.logits_rows.last().is_some_and(|&r| r as usize >= rows) {
            return Err(BatchError::LogitsRows);
        }
        Ok(())
    }
}
