//! The seam: what a decoder asks of the machine that computes it.
//!
//! A decoder loads its weights, plans its buffers once, and then describes each step as a short sequence of coarse
//! operations over a [`Batch`]. Everything lives on the device and is named by small handles, so that an operation
//! can be queued, captured in a graph or recorded on a tape: operations return nothing and may run later;
//! [`Device::read`] is the only wait, and it reports what went wrong in its step.
//!
//! Handles of one device mean nothing to another. Passing a wrong handle or mismatched widths is a bug of the caller
//! and panics; anything that depends on outside data is an error.

use std::ops::Range;

use crate::{
    AdapterSlot, Batch, BatchError, BufferId, Candidates, Capacity, DeviceBatch, Heads, KvType, MatrixId,
    MatrixShape, MatrixView, Role, Rope, RopeId, Routing, VectorId,
};

/// What a matrix will be used for; the device chooses its layout by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatrixUse {
    /// `linear`, and `embed` where a head is tied to its embedding.
    Linear,
    /// `linear` with [`Epilogue::SwiGlu`]: the first half of the rows is the gate, the second the value.
    Gated,
    /// [`Device::linear_heads`]: a run of rows for each of so many heads.
    PerHead(usize),
    /// `embed` only: single rows are looked up.
    Rows,
}

/// Which statistics a norm divides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// `x / sqrt(mean(x^2) + eps) * weight` (Zhang and Sennrich, 2019).
    Rms,
    /// `(x - mean) / sqrt(var + eps) * weight + bias` (Ba et al., 2016).
    Layer,
}

/// A norm with its weights `[width]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    /// Which norm.
    pub kind: NormKind,
    /// Scale.
    pub weight: VectorId,
    /// Shift, LayerNorm only.
    pub bias: Option<VectorId>,
    /// Added to the variance.
    pub eps: f32,
}

/// What happens to `y = x W^T + b` before it is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Epilogue {
    /// Nothing: `out = y`.
    None,
    /// `out = from * scale + y`; `from` may be `out`.
    Residual {
        /// The other addend, of the output's shape.
        from: BufferId,
        /// Its factor (ChatGLM-6B's alpha; 1 otherwise).
        scale: f32,
    },
    /// `out[i] = silu(y[i]) * y[n/2 + i]`, half as wide as the matrix has rows.
    SwiGlu,
    /// `out = gelu(y)` in its tanh form, as ChatGLM-6B computes it.
    Gelu,
    /// `out = gelu(y)` with the error function, as GLM-4V's tower computes it. On devices that can see
    /// ([`Device::can_see`]).
    GeluErf,
}

impl Epilogue {
    /// Width of what becomes of a product with a matrix of `rows` rows.
    pub fn width(self, rows: usize) -> usize {
        if self == Epilogue::SwiGlu { rows / 2 } else { rows }
    }
}

/// What an adapter has beside a matrix `W` `[rows, cols]`: for a row `x` of a sequence with it, `W x` becomes
/// `row_scale (W x) + B A x`, before the bias and the epilogue.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// Rows of `A`, at least one.
    pub rank: usize,
    /// `A` `[rank, cols]`.
    pub a: &'a [f32],
    /// `B` `[rows, rank]`.
    pub b: &'a [f32],
    /// `[rows]`; ones where there is none.
    pub row_scale: Option<&'a [f32]>,
}

impl Pair<'_> {
    /// Whether it fits a matrix.
    ///
    /// # Errors
    /// [`DeviceError::Weight`] where it does not.
    pub fn check(&self, rows: usize, cols: usize) -> Result<(), DeviceError> {
        let Pair { rank, a, b, row_scale } = *self;
        let fits = rank > 0 && a.len() == rank * cols && b.len() == rows * rank;
        if fits && row_scale.is_none_or(|scale| scale.len() == rows) {
            return Ok(());
        }
        Err(DeviceError::Weight(format!("a pair of rank {rank} does not fit a matrix of {rows} x {cols}")))
    }
}

/// A feed-forward among many: `down(silu(gate(x)) * up(x))`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expert {
    /// Gate and up, for [`MatrixUse::Gated`] `[2 inner, hidden]`.
    pub up: MatrixId,
    /// Back to the residual stream `[hidden, inner]`.
    pub down: MatrixId,
}

/// The experts of a layer, and how rows choose among them.
#[derive(Clone, Copy, Debug)]
pub struct Experts<'a> {
    /// How.
    pub routing: Routing,
    /// What is added to an expert's score where it is chosen by `[experts]`.
    pub correction: VectorId,
    /// Each of them.
    pub each: &'a [Expert],
}

/// The buffers that the rows of one expert after the other go through.
#[derive(Clone, Copy, Debug)]
pub struct ExpertBuffers {
    /// Its rows `[rows, hidden]`.
    pub gathered: BufferId,
    /// Their inner activations `[rows, inner]`.
    pub inner: BufferId,
    /// What it makes of them `[rows, hidden]`.
    pub made: BufferId,
}

/// Where the parts of a row are that latent attention meets (see [`Device::join_heads`]).
#[derive(Clone, Copy, Debug)]
pub struct LatentRows {
    /// Queries `[rows, heads * plain | heads * turned]`.
    pub queries: BufferId,
    /// Their plain parts in the space of the latents `[rows, heads * value_dim]`.
    pub absorbed: BufferId,
    /// Latents and the part of the keys that is turned `[rows, value_dim | turned]`.
    pub latent: BufferId,
}

/// Numeric mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Compute {
    /// f32 activations, weights decoded exactly: the truth that fixtures are held to.
    F32,
    /// The device's fast choice: int8 activations for quantized weights.
    #[default]
    Auto,
}

/// What is fixed before the first step, so that no step allocates.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Rows, logits rows and pages.
    pub capacity: Capacity,
    /// Token ids are below this.
    pub vocab: usize,
    /// The heads of each layer; they say what it keeps in the cache.
    pub layers: Vec<Heads>,
    /// Precision of the cache.
    pub kv_type: KvType,
    /// Rotary positions per row.
    pub axes: usize,
}

impl Plan {
    /// Bytes of the key/value pool.
    pub fn kv_bytes(&self) -> usize {
        let slot: usize = self.layers.iter().map(|heads| heads.kv_bytes(self.kv_type)).sum();
        self.capacity.pages * crate::PAGE_SLOTS * slot
    }

    /// The heads that layers have, each once.
    pub fn distinct_heads(&self) -> Vec<Heads> {
        let mut distinct = Vec::new();
        for heads in &self.layers {
            if !distinct.contains(heads) {
                distinct.push(*heads);
            }
        }
        distinct
    }
}

/// Bytes that a device holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceMemory {
    /// Weights in the device's own layout.
    pub weights: usize,
    /// The key/value pool.
    pub kv: usize,
    /// Activation buffers and scratch.
    pub buffers: usize,
}

impl DeviceMemory {
    /// All of it.
    pub fn total(&self) -> usize {
        self.weights.saturating_add(self.kv).saturating_add(self.buffers)
    }
}

impl std::iter::Sum for DeviceMemory {
    fn sum<I: Iterator<Item = Self>>(each: I) -> Self {
        each.fold(DeviceMemory::default(), |a, b| DeviceMemory {
            weights: a.weights + b.weights,
            kv: a.kv + b.kv,
            buffers: a.buffers + b.buffers,
        })
    }
}

/// Memory that a device can have, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreeMemory {
    /// What nobody uses now.
    pub free: usize,
    /// What the machine has.
    pub total: usize,
}

/// What a device is to be asked for, by shapes: of the weights nothing is read.
#[derive(Clone, Debug)]
pub struct Needs {
    /// Its matrices.
    pub matrices: Vec<NeededMatrix>,
    /// The lengths of its vectors.
    pub vectors: Vec<usize>,
    /// Its rotary table.
    pub rope: Rope,
    /// Its plan.
    pub plan: Plan,
    /// Its buffers: what for and how wide.
    pub buffers: Vec<(Role, usize)>,
}

/// A matrix as [`Device::load_matrix`] gets it.
#[derive(Clone, Debug)]
pub struct NeededMatrix {
    /// Its rows.
    pub parts: Vec<MatrixShape>,
    /// Whether there is a bias.
    pub biased: bool,
    /// What it is for.
    pub used_for: MatrixUse,
}

impl Needs {
    /// Bytes of the weights as they are stored and of all else without padding or scratch.
    pub fn stored(&self) -> DeviceMemory {
        let matrix = |matrix: &NeededMatrix| -> usize {
            let bias = if matrix.biased { 4 } else { 0 };
            let part = |p: &MatrixShape| p.bytes().unwrap_or(usize::MAX) + p.scale_bytes() + bias * p.rows;
            matrix.parts.iter().map(part).sum()
        };
        let capacity = self.plan.capacity;
        let mut distinct: Vec<(Role, usize)> = Vec::new();
        for buffer in &self.buffers {
            if !distinct.contains(buffer) {
                distinct.push(*buffer);
            }
        }
        let buffer =
            |&(role, width): &(Role, usize)| 4 * width * role.pick(capacity.rows, capacity.logits_rows);
        DeviceMemory {
            weights: self.matrices.iter().map(matrix).sum::<usize>() + 4 * self.vectors.iter().sum::<usize>(),
            kv: self.plan.kv_bytes(),
            buffers: distinct.iter().map(buffer).sum(),
        }
    }
}

/// Where in the model a value was computed, for the message when it is not finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The token embedding.
    Embedding,
    /// Layer `.0`, after attention was added.
    Attention(usize),
    /// Layer `.0`, after the feed-forward was added.
    FeedForward(usize),
    /// The logits.
    Logits,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Embedding => f.write_str("the token embedding"),
            Place::Attention(layer) => write!(f, "layer {layer}, attention"),
            Place::FeedForward(layer) => write!(f, "layer {layer}, feed-forward"),
            Place::Logits => f.write_str("the logits"),
        }
    }
}

/// What a device can report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The batch does not fit the plan or itself.
    #[error("bad batch: {0}")]
    Batch(#[from] BatchError),
    /// A weight cannot be used as asked.
    #[error("{0}")]
    Weight(String),
    /// A computed value was infinite or not a number.
    #[error("{place}: a value is not finite ({value}); the checkpoint or its precision is at fault")]
    NotFinite {
        /// Where it was first seen.
        place: Place,
        /// The value, as text.
        value: String,
    },
    /// The memory could not be had.
    #[error("cannot allocate {bytes} bytes for {what}")]
    OutOfMemory {
        /// What it was for.
        what: &'static str,
        /// How much.
        bytes: usize,
    },
    /// The machine itself failed: its driver, or a program that it ran.
    #[error("the device failed: {0}")]
    Failed(String),
    /// The machine is gone, and whatever is asked of it from here on fails in the same way.
    #[error("the device is lost, and nothing more can be computed in this process: {0}")]
    Lost(String),
}

/// Told of the rows of a matrix that a device has taken over and will not read again: once of each row, many rows at a
/// time, from any thread.
pub type Taken<'a> = &'a (dyn Fn(&MatrixView<'_>) + Sync);

/// A machine that computes. Implemented by [`crate::ReferenceDevice`] (plain loops) and the `cpu` crate.
pub trait Device: Send {
    /// What it is, for people: "CPU, AVX-512 VNNI, 2 threads".
    fn describe(&self) -> String;

    /// Whether operations are queued and computed by themselves, so that whoever asked for them has time until it reads.
    fn runs_ahead(&self) -> bool {
        false
    }

    /// Whether it has what vision towers need beside what decoders do: [`Device::norm_heads`] and [`Epilogue::GeluErf`].
    fn can_see(&self) -> bool {
        false
    }

    /// Bytes held now.
    fn memory(&self) -> DeviceMemory;

    /// What it can still have; `None` where nobody knows.
    fn free_memory(&mut self) -> Option<FreeMemory> {
        None
    }

    /// Whether it has [`Device::experts`].
    fn has_experts(&self) -> bool {
        false
    }

    /// Whether it has what latent attention needs: [`Device::linear_heads`], [`Device::join_heads`] and joint heads.
    fn has_latents(&self) -> bool {
        false
    }

    /// Bytes that a device like this would hold with all of `needs` and nothing else: exact, or about
    /// [`Needs::stored`] where the device does not lay out ahead.
    ///
    /// # Errors
    /// Those of loading and planning, [`DeviceError::OutOfMemory`] only where a size overflows.
    fn needed(&self, needs: &Needs) -> Result<DeviceMemory, DeviceError> {
        Ok(needs.stored())
    }

    // ---- before the first step ----

    /// Takes a matrix whose rows are those of `parts`, in order; parts may differ in type but not in `cols`.
    /// `bias` has one value per row. `taken` hears of rows while others are still to be read, so that whoever holds
    /// them can let go: a large matrix is never in memory twice.
    ///
    /// # Errors
    /// When the type is not supported or memory runs out.
    fn load_matrix(
        &mut self,
        parts: &[MatrixView<'_>],
        bias: Option<&[f32]>,
        used_for: MatrixUse,
        taken: Taken<'_>,
    ) -> Result<MatrixId, DeviceError>;

    /// Takes a vector.
    fn load_vector(&mut self, values: &[f32]) -> VectorId;

    /// Takes a rotary table.
    fn load_rope(&mut self, rope: &Rope) -> RopeId;

    /// Sizes the key/value pool and everything that depends on the number of rows. Called once, after loading and
    /// before [`Device::buffer`].
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`], or [`DeviceError::Failed`] when a layer's heads are none that the device has kernels
    /// for.
    fn plan(&mut self, plan: &Plan) -> Result<(), DeviceError>;

    /// A buffer for `role` in `layer`, `width` wide, with a row per row (or logits row) of the plan.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`].
    fn buffer(&mut self, layer: usize, role: Role, width: usize) -> Result<BufferId, DeviceError>;

    // ---- adapters, between steps ----

    /// Puts a pair beside a matrix, in place of one of the same slot that is there.
    ///
    /// # Errors
    /// [`DeviceError::Failed`] where the device has no kernels for it, [`DeviceError::Weight`] when it does not fit the
    /// matrix, [`DeviceError::OutOfMemory`].
    fn attach(&mut self, matrix: MatrixId, slot: AdapterSlot, pair: Pair<'_>) -> Result<(), DeviceError> {
        let _ = (matrix, slot, pair);
        Err(DeviceError::Failed(format!("{} cannot compute with adapters yet", self.describe())))
    }

    /// Takes a slot's pairs away from all matrices.
    fn detach(&mut self, slot: AdapterSlot) {
        let _ = slot;
    }

    /// The numbers `[cols]` of a row of a matrix as the device has it.
    ///
    /// # Errors
    /// [`DeviceError::Failed`] where the device does not bring weights back.
    fn matrix_row(&self, matrix: MatrixId, row: usize, out: &mut [f32]) -> Result<(), DeviceError> {
        let _ = (matrix, row, out);
        Err(DeviceError::Failed(format!("{} brings no weights back", self.describe())))
    }

    // ---- a step ----

    /// Waits until no other device of the process computes where this one does, and keeps them from it until
    /// [`Device::end_turn`]: steps of several models on the same processors come one after another, in the order of asking.
    /// Operations outside of a turn take one each. Nothing where a driver sees to that.
    fn begin_turn(&mut self) {}

    /// Leaves the processors to the next.
    fn end_turn(&mut self) {}

    /// Checks a batch and brings it to the device, with the cosines and sines of its positions.
    ///
    /// # Errors
    /// When it does not fit the plan or names a token that does not exist.
    fn upload(&mut self, batch: &Batch) -> Result<DeviceBatch, DeviceError>;

    /// Fills rows of `x` from the batch's row `first` on with `values` `[rows, width]`, as they are: what another device has
    /// computed.
    fn write(&mut self, batch: DeviceBatch, x: BufferId, first: usize, values: &[f32]);

    /// `out[r] = table[token of r]`.
    fn embed(&mut self, batch: DeviceBatch, table: MatrixId, out: BufferId);

    /// `out = norm(x)`.
    fn norm(&mut self, batch: DeviceBatch, x: BufferId, norm: &Norm, out: BufferId);

    /// `into += norm(x)`: the post-norms of GLM-4-0414.
    fn norm_add(&mut self, batch: DeviceBatch, x: BufferId, norm: &Norm, into: BufferId);

    /// `out = epilogue(x W^T + b)`, with what the adapter of a row's sequence has beside `W`. Rows without one keep their
    /// bits whatever is beside them, and rows with one theirs.
    fn linear(&mut self, batch: DeviceBatch, x: BufferId, w: MatrixId, epilogue: Epilogue, out: BufferId);

    /// Norms each head of the queries of `qkv` and each of the keys, in place: the norms are as wide as a head. On devices
    /// that can see ([`Device::can_see`]).
    ///
    /// # Panics
    /// On others.
    fn norm_heads(&mut self, batch: DeviceBatch, qkv: BufferId, heads: Heads, q: &Norm, k: &Norm) {
        let _ = (batch, qkv, heads, q, k);
        unreachable!("{} cannot see, and was asked to norm heads", self.describe());
    }

    /// `into[r] += sum of w_e down_e(silu(gate_e(x[r])) * up_e(x[r]))` over the experts that a row chooses by `scores[r]`, in
    /// their order, each with its weight. An expert's matrices are read once for all of its rows, and what becomes of a row
    /// depends on no other.
    ///
    /// # Panics
    /// Where the device has none, which is known before weights are loaded.
    fn experts(
        &mut self,
        batch: DeviceBatch,
        x: BufferId,
        scores: BufferId,
        experts: Experts<'_>,
        through: ExpertBuffers,
        into: BufferId,
    ) {
        let _ = (batch, x, scores, experts, through, into);
        unreachable!("{} has no experts, and was asked for some", self.describe());
    }

    /// For each head a product of its own: of a matrix with as many runs of rows as heads ([`MatrixUse::PerHead`]), run `h` is
    /// multiplied with the elements `h * cols..` of a row of `x`, and its outputs follow those of run `h - 1` in `out`.
    /// `through` is room for that part of `x`.
    ///
    /// # Panics
    /// Where the device has no latents ([`Device::has_latents`]).
    fn linear_heads(
        &mut self,
        batch: DeviceBatch,
        x: BufferId,
        w: MatrixId,
        through: BufferId,
        out: BufferId,
    ) {
        let _ = (batch, x, w, through, out);
        unreachable!("{} has no latents, and was asked for products by head", self.describe());
    }

    /// Puts together the queries and the key of latent attention: a query is what it was absorbed to, then its part that is to
    /// be turned; the key is the normed latent, then its part. `heads` are joint, with `value_dim` elements of a latent.
    ///
    /// # Panics
    /// Where the device has no latents.
    fn join_heads(&mut self, batch: DeviceBatch, rows: LatentRows, norm: &Norm, heads: Heads, qkv: BufferId) {
        let _ = (batch, rows, norm, heads, qkv);
        unreachable!("{} has no latents, and was asked to join heads", self.describe());
    }

    /// Rotates the queries and keys of `qkv` in place.
    fn rope(&mut self, batch: DeviceBatch, qkv: BufferId, heads: Heads, rope: RopeId);

    /// Stores the keys and values of `qkv` in `layer`'s pages, at each row's slot. `heads` are those of the plan.
    fn kv_write(&mut self, batch: DeviceBatch, layer: usize, qkv: BufferId, heads: Heads);

    /// `out = softmax(q k^T / sqrt(scale_dim)) v` over the visible slots of each row's sequence. `heads` are those of the
    /// plan.
    fn attention(&mut self, batch: DeviceBatch, layer: usize, qkv: BufferId, heads: Heads, out: BufferId);

    /// `out[i] = x[logits_rows[i]]`.
    fn gather(&mut self, batch: DeviceBatch, x: BufferId, out: BufferId);

    /// Remembers `place` when a value of `x` is not finite. A check belongs to its batch: [`Device::read`] of this one
    /// reports it, and of no other.
    fn check_finite(&mut self, batch: DeviceBatch, x: BufferId, place: Place);

    /// Waits for the queued operations and appends `rows` of the rows of `x`, which `batch` has filled, to `out`.
    ///
    /// # Errors
    /// [`DeviceError::NotFinite`], once, when a check of `batch` failed: the first of them along the model. A check is kept
    /// until it is reported or its batch is no longer valid, so a step that was given up blames no later one.
    fn read(
        &mut self,
        batch: DeviceBatch,
        x: BufferId,
        rows: Range<usize>,
        out: &mut Vec<f32>,
    ) -> Result<(), DeviceError>;

    /// Waits as [`Device::read`] does, and appends where in each of the first `rows` rows of `x` the largest value is: the
    /// first of equal ones, as [`crate::first_largest`].
    ///
    /// # Errors
    /// Those of [`Device::read`].
    fn read_largest(
        &mut self,
        batch: DeviceBatch,
        x: BufferId,
        rows: usize,
        out: &mut Vec<u32>,
    ) -> Result<(), DeviceError>;

    /// Waits as [`Device::read`] does, and appends what the first rows of `x` are chosen from, a row for each of the
    /// `temperatures` (above 0): [`Candidates::of`] to the bit.
    ///
    /// # Errors
    /// Those of [`Device::read`].
    fn read_candidates(
        &mut self,
        batch: DeviceBatch,
        x: BufferId,
        temperatures: &[f32],
        out: &mut Vec<Candidates>,
    ) -> Result<(), DeviceError> {
        let mut values = Vec::new();
        self.read(batch, x, 0..temperatures.len(), &mut values)?;
        let width = values.len() / temperatures.len().max(1);
        let rows = values.chunks_exact(width.max(1)).zip(temperatures);
        out.extend(rows.map(|(row, &temperature)| Candidates::of(row, temperature)));
        Ok(())
    }
}
