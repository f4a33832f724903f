//! A decoder computing one sequence by hand, for those who look at more than its answer.

use glimmer_models::{Decoder, DecoderSpec, PositionLayout};
use glimmer_tensor::{Batch, Capacity, KvType, PAGE_SLOTS};

use crate::Error;

/// A decoder with the cache of one sequence.
pub struct Session {
    /// The decoder.
    pub decoder: Decoder,
    pages: Vec<u32>,
    rows: usize,
    layout: Option<PositionLayout>,
    len: usize,
}

impl Session {
    /// What a session is planned for: see [`crate::Model::session`].
    pub fn capacity(slots: usize, rows: usize, logits_rows: usize) -> Capacity {
        Capacity { rows, logits_rows, pages: slots.div_ceil(PAGE_SLOTS) }
    }

    /// Plans for a sequence of `slots` tokens in steps of at most `rows`, `logits_rows` of which have logits.
    pub(crate) fn plan(
        mut decoder: Decoder,
        slots: usize,
        rows: usize,
        logits_rows: usize,
        kv_type: KvType,
    ) -> Result<Self, Error> {
        let capacity = Session::capacity(slots, rows, logits_rows);
        decoder.plan(capacity, kv_type)?;
        Ok(Session { decoder, pages: (0..capacity.pages as u32).collect(), rows, layout: None, len: 0 })
    }

    /// Forgets what was computed. `prompt` says which positions the next tokens have.
    ///
    /// # Errors
    /// When the prompt is none that the model can read.
    pub fn begin(&mut self, prompt: &[u32]) -> Result<(), Error> {
        self.layout = Some(PositionLayout::of_prompt(self.decoder.spec().positions, prompt)?);
        self.len = 0;
        Ok(())
    }

    /// The step that computes `ids` next; `wanted` of its rows have logits.
    ///
    /// # Errors
    /// When they do not fit.
    pub fn batch(&mut self, ids: &[u32], wanted: impl IntoIterator<Item = usize>) -> Result<Batch, Error> {
        let layout = self.layout.as_ref().expect("a sequence is begun before it is computed");
        let slots = self.len..self.len + ids.len();
        if slots.end > self.pages.len() * PAGE_SLOTS {
            return Err(Error::CacheFull { tokens: slots.end, slots: self.pages.len() * PAGE_SLOTS });
        }
        self.len = slots.end;
        let mut rope_pos = Vec::new();
        layout.extend(slots.clone(), &mut rope_pos);
        let mut batch = Batch::default();
        batch.push(ids, slots, &rope_pos, layout.prefix_len(), self.pages.clone(), wanted);
        Ok(batch)
    }

    /// The logits of every position of a prompt, computed from its first token: `each` is given the rows of a step,
    /// `[tokens, vocab]`.
    ///
    /// # Errors
    /// When the prompt does not fit, has ids outside the vocabulary, or `each` fails.
    pub fn logits<E: From<Error>>(
        &mut self,
        prompt: &[u32],
        each: &mut dyn FnMut(&[f32]) -> Result<(), E>,
    ) -> Result<(), E> {
        check_ids(prompt, self.decoder.spec())?;
        self.begin(prompt)?;
        let mut logits = Vec::new();
        for chunk in prompt.chunks(self.rows) {
            let batch = self.batch(chunk, 0..chunk.len())?;
            self.decoder.forward(&batch).map_err(Error::from)?;
            logits.clear();
            self.decoder.logits(chunk.len(), &mut logits).map_err(Error::from)?;
            each(&logits)?;
        }
        Ok(())
    }
}

/// Refuses ids without a row in the embedding.
///
/// # Errors
/// [`Error::OutsideVocabulary`] names the first one.
pub fn check_ids(ids: &[u32], spec: &DecoderSpec) -> Result<(), Error> {
    match ids.iter().position(|&id| id as usize >= spec.vocab) {
        Some(at) => Err(Error::OutsideVocabulary { id: ids[at], number: at + 1, vocab: spec.vocab }),
        None => Ok(()),
    }
}
