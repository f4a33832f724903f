//! What training asks of a device beyond the seam of inference: buffers that are not shared, the parts of fused
//! operations, and each operation's backward.
//!
//! `d` before a name is the gradient of the loss by it, of the same shape. Gradients are added to what is there (`+=`)
//! unless an operation says otherwise, for a value may be used more than once; activations are set (`=`). The weights of
//! a loaded matrix are frozen: they have no gradient, and no copy of them in f32 is ever held whole. What is trained lies
//! in tensors of f32, which are buffers `[rows, width]` of a fixed number of rows.
//!
//! Sums over rows and columns run in an order that depends on shapes alone, so that a run repeated with the same number
//! of threads, or with another, gives the same bits.

use crate::{
    BufferId, Device, DeviceBatch, DeviceError, Heads, MatrixId, Norm, PageId, Plan, Role, RopeId, VectorId,
};

/// Dropout: each element is 0 with the given probability and divided by the rest of it otherwise. Which elements,
/// depends on the seed and the element's index alone, so that backward and a second forward drop the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// One for each place and step.
    pub seed: u64,
    /// From 0 (nothing is dropped) to below 1.
    pub probability: f32,
}

impl Dropout {
    /// What the element `index` is multiplied by: 0, or 1 over the probability of being kept.
    #[inline(always)]
    pub fn factor(&self, index: usize) -> f32 {
        // SplitMix64 (Steele et al., 2014) is a hash of its counter.
        let mut z = self.seed.wrapping_add((index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        // 24 bits are all that an f32 tells apart.
        let uniform = (z >> 40) as f32 / (1u32 << 24) as f32;
        if uniform < self.probability { 0.0 } else { 1.0 / (1.0 - self.probability) }
    }
}

/// The buffers of [`TrainingDevice::attention_backward`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionGradient {
    /// Rotated queries, keys and values `[rows, qkv_width]`, as [`Device::attention`] read them.
    pub qkv: BufferId,
    /// Keys and values of slots that stand before every sequence and that no row computed, `[slots, k_width + v_width]`.
    pub prefix: Option<BufferId>,
    /// What attention returned `[rows, attended_width]`.
    pub attended: BufferId,
    /// Its gradient.
    pub d_attended: BufferId,
    /// Set: the gradient by `qkv`.
    pub d_qkv: BufferId,
    /// Added to: the gradient by `prefix`, over all sequences.
    pub d_prefix: Option<BufferId>,
}

/// A device that can train. `rows` are those of the batch, of its logits, or a tensor's own: the buffers' first rows.
pub trait TrainingDevice: Device {
    // ---- before the first step ----

    /// Bytes of what training would work in with such a plan, beside what [`Device::needed`] says and what its tensors and
    /// buffers take.
    fn training_needed(&self, plan: &Plan) -> usize;

    /// A buffer as [`Device::buffer`] gives it, `role` saying whether it has a row for each row of the plan or for each
    /// row of logits, but shared with nothing.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`].
    fn own_buffer(&mut self, role: Role, width: usize) -> Result<BufferId, DeviceError>;

    /// A tensor of zeros `[rows, width]`.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`].
    fn tensor(&mut self, rows: usize, width: usize) -> Result<BufferId, DeviceError>;

    /// The values of a buffer or tensor, all its rows.
    fn values(&self, x: BufferId) -> &[f32];

    /// The same, to be changed.
    fn values_mut(&mut self, x: BufferId) -> &mut [f32];

    /// Values to be changed, and others that say how: a tensor and its gradient.
    fn values_beside(&mut self, changed: BufferId, other: BufferId) -> (&mut [f32], &[f32]);

    /// Changes a vector that [`Device::load_vector`] made.
    fn set_vector(&mut self, vector: VectorId, values: &[f32]);

    /// Rows `first ..` of a loaded matrix without its bias, as many as `out` has room for: `[rows, cols]`.
    fn decode_rows(&mut self, matrix: MatrixId, first: usize, out: &mut [f32]);

    /// The bias of a loaded matrix, one value per row.
    fn bias(&self, matrix: MatrixId) -> Option<Vec<f32>>;

    // ---- parts of fused operations ----

    /// `out[r] = table[token of r]` of a tensor.
    fn embed_tensor(&mut self, batch: DeviceBatch, table: BufferId, out: BufferId);

    /// Adds a tensor `[1, width]` to each row of `x`.
    fn add_bias(&mut self, rows: usize, bias: BufferId, x: BufferId);

    /// `out = from * scale + y`; `out` may be `from` or `y`.
    fn add(&mut self, rows: usize, from: BufferId, scale: f32, y: BufferId, out: BufferId);

    /// `out[i] = silu(y[i]) * y[n/2 + i]`.
    fn swiglu(&mut self, rows: usize, y: BufferId, out: BufferId);

    /// `out = gelu(y)`, tanh form.
    fn gelu(&mut self, rows: usize, y: BufferId, out: BufferId);

    /// `out = x` with elements dropped; `out` may be `x`.
    fn dropout(&mut self, rows: usize, x: BufferId, dropout: Dropout, out: BufferId);

    /// Puts `prefix` `[slots, k_width + v_width]` into slots `0 ..` of a sequence's pages in `layer`'s cache: as
    /// [`Device::kv_write`] does, keys and values as they are (nothing rotates them).
    fn prefix_write(&mut self, layer: usize, pages: &[PageId], prefix: BufferId, heads: Heads);

    // ---- products with tensors ----

    /// `out = x W^T * scale` of a tensor `w` `[n, k]`, added to what is in `out` if `adds`. `x` `[rows, k]`, `out`
    /// `[rows, n]`.
    fn multiply(&mut self, rows: usize, x: BufferId, w: BufferId, scale: f32, adds: bool, out: BufferId);

    /// Its gradient by `x`: `dx = dy W * scale`, added if `adds`.
    fn multiply_backward(
        &mut self,
        rows: usize,
        dy: BufferId,
        w: BufferId,
        scale: f32,
        adds: bool,
        dx: BufferId,
    );

    /// Its gradient by `w`: `dw += dy^T x * scale`, summed over rows in order.
    fn weight_gradient(&mut self, rows: usize, dy: BufferId, x: BufferId, scale: f32, dw: BufferId);

    /// The gradient of a bias `[1, n]`, or of what else is added to all rows: `db += sum of the rows of dy`.
    fn bias_gradient(&mut self, rows: usize, dy: BufferId, db: BufferId);

    // ---- backward ----

    /// Of [`Device::linear`] with no epilogue, by `x`: `dx = dy W`, added if `adds`. In [`crate::Compute::Auto`] `dy` and weights
    /// other than those of f32 may be rounded to bfloat16.
    fn linear_backward(&mut self, rows: usize, dy: BufferId, w: MatrixId, adds: bool, dx: BufferId);

    /// Of [`Device::norm`]: `dx +=`; and `[1, width]` each, `d_weight +=` and `d_bias +=` where they are wanted.
    #[allow(clippy::too_many_arguments)]
    fn norm_backward(
        &mut self,
        rows: usize,
        x: BufferId,
        norm: &Norm,
        dy: BufferId,
        dx: BufferId,
        d_weight: Option<BufferId>,
        d_bias: Option<BufferId>,
    );

    /// Of [`TrainingDevice::swiglu`]: sets `dy` `[rows, n]` from `d_out` `[rows, n / 2]`.
    fn swiglu_backward(&mut self, rows: usize, y: BufferId, d_out: BufferId, dy: BufferId);

    /// Of [`TrainingDevice::gelu`]: sets `dy`, which may be `d_out`.
    fn gelu_backward(&mut self, rows: usize, y: BufferId, d_out: BufferId, dy: BufferId);

    /// Of [`Device::rope`]: turns the gradients of queries and keys back, in place.
    fn rope_backward(&mut self, batch: DeviceBatch, d_qkv: BufferId, heads: Heads, rope: RopeId);

    /// Of [`Device::attention`] in a batch all of whose keys are its own rows' and the prefix's (row `r` of a sequence is
    /// at slot `prefix slots + r`): scores are computed again, never held for all rows at once.
    fn attention_backward(&mut self, batch: DeviceBatch, heads: Heads, gradient: &AttentionGradient);

    /// Of [`Device::gather`]: `dx[logits_rows[i]] += d_out[i]`.
    fn gather_backward(&mut self, batch: DeviceBatch, d_out: BufferId, dx: BufferId);

    /// Of [`TrainingDevice::embed_tensor`]: `d_table[token of r] += d_out[r]`, in the order of rows.
    fn embed_backward(&mut self, batch: DeviceBatch, d_out: BufferId, d_table: BufferId);

    /// Cross entropy of rows of logits with the tokens that should have been likely: appends each row's
    /// `-log softmax(logits)[target]` to `losses` and replaces the logits by their gradient,
    /// `weight * (softmax(logits) - onehot(target))`.
    fn cross_entropy(&mut self, logits: BufferId, targets: &[u32], weights: &[f32], losses: &mut Vec<f32>);
}
