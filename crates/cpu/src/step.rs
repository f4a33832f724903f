//! An uploaded batch: flat copies of its indices, the cosines and sines of its rows, and the plan of its attention.

use crate::schedule::Schedule;
use glimmer_tensor::{AdapterSlot, Batch, Heads, PAGE_SLOTS, PageId, Plan, Role, Rope};
use std::ops::Range;

/// A batch as the device keeps it. Its vectors are used again by later uploads.
pub(crate) struct Step {
    pub(crate) tokens: Vec<u32>,
    pub(crate) slots: Vec<u32>,
    /// How many slots, counted from 0, each row sees.
    pub(crate) visible: Vec<u32>,
    pub(crate) sequences: Vec<Span>,
    /// The pages of all sequences.
    pages: Vec<PageId>,
    pub(crate) logits_rows: Vec<u32>,
    /// The adapter of each row, and of each whose logits are wanted; nothing where no sequence has one.
    adapters: [Vec<Option<AdapterSlot>>; 2],
    /// `(cos, sin)` of the rows, `[rows, pair_count]` for each loaded table.
    pub(crate) cos_sin: Vec<Vec<(f32, f32)>>,
    /// Who computes which part of attention, for each kind of layer.
    schedules: Vec<(Heads, Schedule)>,
}

/// A sequence's part of a step.
pub(crate) struct Span {
    /// Its rows in the batch.
    pub(crate) rows: Range<usize>,
    /// Its pages in the step's list.
    pages: Range<usize>,
}

impl Step {
    /// An empty step with room for all that `plan` allows; for `room` see [`Schedule::plan`].
    pub(crate) fn with_capacity(plan: &Plan, room: impl Fn(&Heads) -> usize) -> Self {
        let rows = plan.capacity.rows;
        let schedule = |heads| (heads, Schedule::with_capacity(rows, &heads, room(&heads)));
        Step {
            tokens: Vec::with_capacity(rows),
            slots: Vec::with_capacity(rows),
            visible: Vec::with_capacity(rows),
            sequences: Vec::with_capacity(rows),
            pages: Vec::with_capacity(plan.capacity.pages + rows),
            logits_rows: Vec::with_capacity(plan.capacity.logits_rows),
            adapters: [const { Vec::new() }; 2],
            cos_sin: Vec::new(),
            schedules: plan.distinct_heads().into_iter().map(schedule).collect(),
        }
    }

    /// Takes over a checked batch.
    pub(crate) fn load(&mut self, batch: &Batch, plan: &Plan, ropes: &[Rope]) {
        self.tokens.clone_from(&batch.tokens);
        self.slots.clone_from(&batch.slots);
        self.logits_rows.clone_from(&batch.logits_rows);
        self.adapters = [false, true].map(|of_logits| batch.adapters(of_logits));
        self.visible.clear();
        self.sequences.clear();
        self.pages.clear();
        for sequence in &batch.sequences {
            let first = self.pages.len();
            self.pages.extend_from_slice(&sequence.pages[..sequence.kv_len.div_ceil(PAGE_SLOTS)]);
            self.sequences.push(Span { rows: sequence.row_range(), pages: first..self.pages.len() });
            self.visible.extend(sequence.row_range().map(|row| sequence.visible(batch.slots[row]) as u32));
        }
        self.cos_sin.resize_with(ropes.len(), Vec::new);
        for (table, rope) in self.cos_sin.iter_mut().zip(ropes) {
            table.clear();
            table.reserve(plan.capacity.rows * rope.pair_count());
            batch.rope_pos.chunks_exact(plan.axes).for_each(|pos| rope.cos_sin(pos, table));
        }
    }

    /// Shares its attention out among threads; see [`Schedule::plan`].
    pub(crate) fn plan_attention(&mut self, threads: usize, room: impl Fn(&Heads) -> usize) {
        for (heads, schedule) in &mut self.schedules {
            schedule.plan(&self.sequences, &self.visible, heads, threads, room(heads));
        }
    }

    /// How the attention of layers with these heads is shared out.
    pub(crate) fn schedule_of(&self, heads: &Heads) -> &Schedule {
        let of = self.schedules.iter().find(|(own, _)| own == heads);
        &of.expect("the heads are those of the plan").1
    }

    /// The adapters of the rows that a buffer for `role` has; nothing where no sequence has one.
    pub(crate) fn adapters(&self, role: Role) -> &[Option<AdapterSlot>] {
        let [rows, logits] = &self.adapters;
        role.pick(rows, logits)
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.tokens.len()
    }

    /// The pages of a sequence.
    pub(crate) fn pages_of(&self, sequence: &Span) -> &[PageId] {
        &self.pages[sequence.pages.clone()]
    }
}
