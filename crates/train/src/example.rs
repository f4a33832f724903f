//! What is learned from: ids, and which of them.

/// A sequence of ids and the tokens of it that a model is to learn to write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Example {
    /// The ids, as the server would compute them for the same conversation.
    pub ids: Vec<u32>,
    /// As many as ids: at `i` the id whose probability counts there, given the ids before `i`; `None` where there is no loss.
    /// As in PyTorch's scripts, the row of logits that belongs to the label at `i` is row `i - 1`; a label at 0 has none.
    pub labels: Vec<Option<u32>>,
}

impl Example {
    /// The rows of logits that have a loss, in order, each with the id that should follow: (row, id).
    pub fn targets(&self) -> impl Iterator<Item = (usize, u32)> + '_ {
        self.labels.iter().skip(1).enumerate().filter_map(|(row, label)| Some((row, (*label)?)))
    }

    /// Adds ids that are read only.
    pub(crate) fn read(&mut self, ids: &[u32]) {
        self.ids.extend_from_slice(ids);
        self.labels.resize(self.ids.len(), None);
    }

    /// Adds ids that are to be written.
    pub(crate) fn learn(&mut self, ids: &[u32]) {
        self.ids.extend_from_slice(ids);
        self.labels.extend(ids.iter().copied().map(Some));
    }

    /// Cuts it to a length and returns how many tokens went.
    pub(crate) fn truncate(&mut self, len: usize) -> usize {
        let cut = self.ids.len().saturating_sub(len);
        self.ids.truncate(len);
        self.labels.truncate(len);
        cut
    }
}
