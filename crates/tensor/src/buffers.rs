//! Activation buffers by what they are for.

use crate::{BufferId, Table};

/// What a buffer is for. Inference gives all layers the same memory for a role, a tape does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The residual stream `[rows, hidden]`.
    Hidden,
    /// A normed copy of it `[rows, hidden]`.
    Normed,
    /// Queries, keys and values `[rows, qkv_width]`.
    Qkv,
    /// What attention returns `[rows, attended_width]`.
    Attended,
    /// Queries in few dimensions `[rows, query_rank]`.
    LowRank,
    /// The same, normed.
    LowRankNormed,
    /// Queries before they are put together with what attention needs `[rows, heads * (plain + turned)]`.
    Queries,
    /// Latents and the turned part of keys `[rows, rank + turned]`.
    Latent,
    /// A part of a row for each head, one head after the other `[rows, heads * dims]`.
    ByHead,
    /// What becomes of attended latents in each head `[rows, heads * value]`.
    Values,
    /// What a block adds when it is normed before the addition `[rows, hidden]`.
    Branch,
    /// The feed-forward's inner activations `[rows, ffn]`.
    Inner,
    /// What the router says of each row: a score for every expert `[rows, experts]`.
    Scores,
    /// The rows of an expert, one after the other `[rows, hidden]`.
    Gathered,
    /// Their inner activations in an expert `[rows, inner]`.
    ExpertInner,
    /// What an expert makes of them `[rows, hidden]`.
    Made,
    /// The final hidden state of the rows that want logits `[logits_rows, hidden]`.
    Last,
    /// The same, normed `[logits_rows, hidden]`.
    LastNormed,
    /// Logits `[logits_rows, vocab]`.
    Logits,
    /// What is trained, its gradient and the like, with rows of its own ([`crate::TrainingDevice::tensor`]).
    Tensor,
}

impl Role {
    /// Whichever the buffer has a row for: each row of the batch, or each row that wants logits.
    pub fn pick<T>(self, rows: T, logits_rows: T) -> T {
        match self {
            Role::Last | Role::LastNormed | Role::Logits => logits_rows,
            _ => rows,
        }
    }
}

/// A planned buffer `[rows, width]`.
#[derive(Clone, Copy, Debug)]
pub struct Buffer<T> {
    /// What it is for.
    pub role: Role,
    /// Elements per row.
    pub width: usize,
    /// Whether all layers that ask for such a buffer have this one.
    pub shared: bool,
    /// Where they are.
    pub values: T,
}

/// The buffers of a device: those that layers share, and those of a tape, which nobody shares.
pub type Buffers<T> = Table<BufferId, Buffer<T>>;

impl<T> Buffers<T> {
    /// The buffer that all layers have for `role` and `width`, made when it is first asked for.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn shared<E>(
        &mut self,
        role: Role,
        width: usize,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<BufferId, E> {
        let same = |buffer: &Buffer<T>| buffer.shared && buffer.role == role && buffer.width == width;
        match self.position(same) {
            Some(buffer) => Ok(buffer),
            None => Ok(self.push(Buffer { role, width, shared: true, values: make()? })),
        }
    }

    /// A buffer that is shared with nothing.
    pub fn own(&mut self, role: Role, width: usize, values: T) -> BufferId {
        self.push(Buffer { role, width, shared: false, values })
    }
}
