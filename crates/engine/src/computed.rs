//! What is read of a step's rows of logits: of each no more than its choice needs.

use std::ops::Range;

use glimmer_models::{Decoder, ModelError};
use glimmer_tensor::Candidates;

use crate::Reads;
use crate::scheduler::SequenceId;

/// The rows of a step, by the sequences that they are of.
#[derive(Default)]
pub(crate) struct Computed {
    /// The first row of each sequence that has some.
    firsts: Vec<(SequenceId, usize)>,
    rows: Vec<Read>,
    likeliest: Vec<u32>,
    candidates: Vec<Candidates>,
    logits: Vec<f32>,
    vocab: usize,
}

/// What was read of a row.
#[derive(Clone, Copy)]
enum Read {
    Likeliest,
    Candidates,
    /// All; these are the row's.
    Logits(usize),
}

/// A row as it was read.
#[derive(Clone, Copy)]
pub(crate) enum Row<'a> {
    Likeliest(u32),
    Candidates(&'a Candidates),
    Logits(&'a [f32]),
}

impl Computed {
    /// Forgets the last step.
    pub(crate) fn clear(&mut self) {
        self.firsts.clear();
        self.rows.clear();
        self.likeliest.clear();
        self.candidates.clear();
        self.logits.clear();
    }

    /// Waits for the decoder's step and reads its rows: as many of each sequence as are named, in order, as it wants them.
    /// `suffice` tells whether candidates are enough for a sequence's next choice.
    pub(crate) fn read(
        &mut self,
        decoder: &mut Decoder,
        wanted: &[(SequenceId, usize, Reads)],
        mut suffice: impl FnMut(SequenceId, &Candidates) -> bool,
    ) -> Result<(), ModelError> {
        self.vocab = decoder.spec().vocab;
        let mut rows = Vec::new();
        for &(id, count, reads) in wanted {
            self.firsts.push((id, rows.len()));
            rows.extend(std::iter::repeat_n((id, reads), count));
        }
        let temperature =
            |reads| if let Reads::Candidates { temperature } = reads { temperature } else { 1.0 };
        let has_candidates = rows.iter().any(|(_, reads)| matches!(reads, Reads::Candidates { .. }));
        if has_candidates {
            let temperatures: Vec<f32> = rows.iter().map(|&(_, reads)| temperature(reads)).collect();
            decoder.candidates(&temperatures, &mut self.candidates)?;
        } else if rows.iter().any(|(_, reads)| *reads == Reads::Likeliest) {
            decoder.likeliest(rows.len(), &mut self.likeliest)?;
        } else if rows.is_empty() {
            decoder.logits(0, &mut self.logits)?;
        }
        for (row, &(id, reads)) in rows.iter().enumerate() {
            let read = match reads {
                Reads::Logits => Read::Logits(0),
                _ if has_candidates && !suffice(id, &self.candidates[row]) => Read::Logits(0),
                _ if has_candidates => Read::Candidates,
                _ => Read::Likeliest,
            };
            self.rows.push(read);
        }
        self.read_logits(decoder)
    }

    /// Reads the rows of which all is wanted, neighbours together.
    fn read_logits(&mut self, decoder: &mut Decoder) -> Result<(), ModelError> {
        let (mut first, mut len) = (0, 0);
        for row in 0..=self.rows.len() {
            if let Some(Read::Logits(own)) = self.rows.get_mut(row) {
                *own = self.logits.len() / self.vocab + len;
                first = if len == 0 { row } else { first };
                len += 1;
            } else if len > 0 {
                decoder.logits_of(first..first + len, &mut self.logits)?;
                len = 0;
            }
        }
        Ok(())
    }

    /// Where the rows of a sequence begin; `None` where the step did not have it.
    pub(crate) fn first(&self, id: SequenceId) -> Option<usize> {
        self.firsts.iter().find(|(of, _)| *of == id).map(|(_, first)| *first)
    }

    /// One row.
    pub(crate) fn row(&self, row: usize) -> Row<'_> {
        match self.rows[row] {
            Read::Likeliest => Row::Likeliest(self.likeliest[row]),
            Read::Candidates => Row::Candidates(&self.candidates[row]),
            Read::Logits(own) => Row::Logits(&self.logits[own * self.vocab..(own + 1) * self.vocab]),
        }
    }

    /// Those of the rows of which all was read.
    pub(crate) fn logits(&self, rows: Range<usize>) -> impl Iterator<Item = &[f32]> {
        rows.filter_map(|row| if let Row::Logits(logits) = self.row(row) { Some(logits) } else { None })
    }
}
