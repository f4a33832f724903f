//! A decoder computing one sequence by hand, for the verbs that look at more than its answer.

use anyhow::ensure;
use glimmer_models::{Decoder, PositionLayout};
use glimmer_tensor::{Batch, Capacity, KvType, PAGE_SLOTS};

/// A decoder with the cache of one sequence.
pub(crate) struct Sequence {
    pub(crate) decoder: Decoder,
    pages: Vec<u32>,
    layout: Option<PositionLayout>,
    len: usize,
}

impl Sequence {
    /// Plans for a sequence of `slots` tokens in steps of at most `rows`, `logits_rows` of which have logits.
    pub(crate) fn plan(
        mut decoder: Decoder,
        slots: usize,
        rows: usize,
        logits_rows: usize,
        kv_type: KvType,
    ) -> anyhow::Result<Self> {
        let pages = slots.div_ceil(PAGE_SLOTS);
        decoder.plan(Capacity { rows, logits_rows, pages }, kv_type)?;
        Ok(Sequence { decoder, pages: (0..pages as u32).collect(), layout: None, len: 0 })
    }

    /// Forgets what was computed. `prompt` says which positions the next tokens have.
    pub(crate) fn begin(&mut self, prompt: &[u32]) -> anyhow::Result<()> {
        self.layout = Some(PositionLayout::of_prompt(self.decoder.spec().positions, prompt)?);
        self.len = 0;
        Ok(())
    }

    /// The step that computes `ids` next; `wanted` of its rows have logits.
    pub(crate) fn batch(
        &mut self,
        ids: &[u32],
        wanted: impl IntoIterator<Item = usize>,
    ) -> anyhow::Result<Batch> {
        let layout = self.layout.as_ref().expect("a sequence is begun before it is computed");
        let slots = self.len..self.len + ids.len();
        ensure!(slots.end <= self.pages.len() * PAGE_SLOTS, "{} tokens do not fit the cache", slots.end);
        self.len = slots.end;
        let mut rope_pos = Vec::new();
        layout.extend(slots.clone(), &mut rope_pos);
        let mut batch = Batch::default();
        batch.push(ids, slots, &rope_pos, layout.prefix_len(), self.pages.clone(), wanted);
        Ok(batch)
    }
}
