//! [`CpuDevice`]: the seam's operations over the pool, the packed weights, the cache and the planned buffers.

use std::ops::Range;

use crate::attention::Attention;
use crate::finite::first_not_finite;
use crate::isa::{Isa, IsaError};
use crate::kv::KvCache;
use crate::lanes::dispatch;
use crate::linear::{
    Activations, Beside, Finish, PackedMatrix, PackedPair, Packer, RunsError, Turns, linear, linear_heads,
};
use crate::memory::{Arena, Parts, Slab, share};
use crate::norm::{JoinHeads, NormHeads, NormRows, QueriesAndKeys};
use crate::os;
use crate::pool::{MAX_THREADS, Pool};
use crate::step::Step;
use crate::topology::Topology;
use crate::training::Training;
use glimmer_tensor::{
    AdapterSlot, Batch, Buffer, BufferId, Buffers, Candidates, Chooser, Compute, Device, DeviceBatch,
    DeviceError, DeviceMemory, Epilogue, Expert, ExpertBuffers, Experts, FreeMemory, Handle, Heads,
    LatentRows, MatrixId, MatrixUse, MatrixView, Needs, Norm, Pair, Place, Plan, Planned, Role, Rope, RopeId,
    Steps, Table, Taken, VectorId, first_largest,
};

/// Below this many elements an operation is done before the other threads have heard of it.
const WORTH_SHARING: usize = 8192;

/// A row that meets an expert.
#[derive(Clone, Copy)]
struct Visit {
    expert: u32,
    row: u32,
    weight: f32,
}

/// All visits of a step's rows, and the room that it takes to find them.
#[derive(Default)]
struct Visits {
    chooser: Chooser,
    chosen: Vec<(u32, f32)>,
    all: Vec<Visit>,
}

impl Visits {
    /// Those of rows with these scores, by expert, and each expert's by row.
    fn of(&mut self, scores: &[f32], width: usize, experts: &Experts<'_>, correction: &[f32]) -> &[Visit] {
        let Visits { chooser, chosen, all } = self;
        all.clear();
        for (row, scores) in scores.chunks_exact(width).enumerate() {
            chosen.clear();
            chooser.choose(&experts.routing, scores, correction, chosen);
            all.extend(chosen.iter().map(|&(expert, weight)| Visit { expert, row: row as u32, weight }));
        }
        all.sort_unstable_by_key(|visit| (visit.expert, visit.row));
        all
    }
}

/// How a [`CpuDevice`] is to work.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuOptions {
    /// Threads, the caller's included; one per physical core when `None`.
    pub threads: Option<usize>,
    /// Numeric mode.
    pub compute: Compute,
    /// Instruction set; the one that `GLIMMER_ISA` names or the processor's best when `None`.
    pub isa: Option<Isa>,
}

/// Why there is no device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CpuError {
    /// The number of threads is out of range.
    #[error("{0} threads: the CPU device takes 1 to {MAX_THREADS}")]
    Threads(usize),
    /// The instruction set that was asked for is unknown or the processor lacks it.
    #[error(transparent)]
    Isa(#[from] IsaError),
    /// `GLIMMER_RUNS` is nothing that weights can be read in.
    #[error(transparent)]
    Runs(#[from] RunsError),
}

/// What is made by [`Device::plan`].
pub(crate) struct Workspace {
    pub(crate) plan: Plan,
    pub(crate) cache: KvCache,
    attention: Attention,
    activations: Activations,
    pub(crate) steps: Steps<Step>,
}

/// A [`Device`] that computes on the processor's cores.
pub struct CpuDevice {
    pub(crate) pool: Pool,
    pub(crate) isa: Isa,
    pub(crate) compute: Compute,
    turns: Turns,
    pub(crate) matrices: Table<MatrixId, PackedMatrix>,
    /// For each matrix what adapters have beside it, by slot; matrices without any may be left out at the end.
    beside: Vec<Vec<Option<PackedPair>>>,
    /// `A x` of the rows of a product, `[rows, projected]` for the widest pair.
    projected: Option<Slab<f32>>,
    /// Floats that this takes for a row.
    projected_width: usize,
    /// For each thread, where its share of the matrices lies.
    arenas: Vec<Arena>,
    pub(crate) vectors: Table<VectorId, Vec<f32>>,
    ropes: Table<RopeId, Rope>,
    pub(crate) buffers: Buffers<Slab<f32>>,
    visits: Visits,
    pub(crate) work: Planned<Workspace>,
    pub(crate) training: Option<Training>,
}

impl CpuDevice {
    /// Starts the threads and chooses the kernels.
    ///
    /// # Errors
    /// When the options ask for what is not there.
    pub fn new(options: CpuOptions) -> Result<Self, CpuError> {
        let threads = options.threads.unwrap_or_else(|| Topology::detect().default_threads());
        if threads == 0 || threads > MAX_THREADS {
            return Err(CpuError::Threads(threads));
        }
        let isa = match options.isa {
            None => Isa::detect()?,
            Some(isa) if isa.is_available() => isa,
            Some(wanted) => return Err(IsaError::Missing { wanted, best: Isa::available()[0] }.into()),
        };
        let pool = Pool::new(threads);
        Ok(CpuDevice {
            isa,
            compute: options.compute,
            turns: Turns::detect()?,
            matrices: Table::default(),
            beside: Vec::new(),
            projected: None,
            projected_width: 0,
            arenas: (0..pool.threads()).map(|_| Arena::default()).collect(),
            pool,
            vectors: Table::default(),
            ropes: Table::default(),
            buffers: Buffers::default(),
            visits: Visits::default(),
            work: Planned::default(),
            training: None,
        })
    }

    /// Rows of `buffer` that `batch` uses.
    fn rows(&self, batch: DeviceBatch, buffer: BufferId) -> usize {
        let step = &self.work.steps[batch];
        self.buffers[buffer].role.pick(step.rows(), step.logits_rows.len())
    }

    fn norm_rows(&mut self, batch: DeviceBatch, x: BufferId, norm: &Norm, out: BufferId, add: bool) {
        let rows = self.rows(batch, x);
        let weight = &self.vectors[norm.weight];
        let bias = norm.bias.map(|bias| self.vectors[bias].as_slice());
        let [x, out] = self.buffers.together([x, out]);
        let width = weight.len();
        assert!(x.width == width && out.width == width, "a norm is as wide as its buffers");
        assert!(bias.is_none_or(|bias| bias.len() == width), "a norm's shift is as wide as its scale");
        let (isa, kind, eps) = (self.isa, norm.kind, norm.eps);
        let x = &x.values[..rows * width];
        each_row(&self.pool, rows, width, &mut out.values, |rows, out| {
            let x = &x[rows.start * width..rows.end * width];
            dispatch(isa, NormRows { kind, weight, bias, eps, add, x, out });
        });
    }

    /// Turns the queries and keys of `qkv` by the angles of its rows.
    pub(crate) fn turn_heads(
        &mut self,
        batch: DeviceBatch,
        qkv: BufferId,
        heads: Heads,
        rope: RopeId,
        turn: impl Fn(&Rope, &mut [f32], &[(f32, f32)]) + Sync,
    ) {
        let step = &self.work.steps[batch];
        let table = &step.cos_sin[rope.index()];
        let rope = &self.ropes[rope];
        let qkv = &mut self.buffers[qkv];
        let (width, pairs) = (heads.qkv_width(), rope.pair_count());
        assert_eq!(qkv.width, width, "the heads fill the buffer");
        let rotated = heads.q_width() + heads.k_width();
        each_row(&self.pool, step.rows(), width, &mut qkv.values, |rows, out| {
            for (row, out) in rows.zip(out.chunks_exact_mut(width)) {
                let cos_sin = &table[row * pairs..(row + 1) * pairs];
                for head in out[..rotated].chunks_exact_mut(heads.head_dim) {
                    turn(rope, head, cos_sin);
                }
            }
        });
    }
}

/// The buffers of a product: what is multiplied, what is added when that is not the output itself, the output.
fn operands(
    buffers: &mut Buffers<Slab<f32>>,
    x: BufferId,
    epilogue: Epilogue,
    out: BufferId,
) -> (&[f32], Option<&[f32]>, &mut [f32]) {
    match epilogue {
        Epilogue::Residual { from, .. } if from == x => {
            let [x, out] = buffers.together([x, out]);
            (&x.values, Some(&x.values), &mut out.values)
        }
        Epilogue::Residual { from, .. } if from != out => {
            let [x, from, out] = buffers.together([x, from, out]);
            (&x.values, Some(&from.values), &mut out.values)
        }
        _ => {
            let [x, out] = buffers.together([x, out]);
            (&x.values, None, &mut out.values)
        }
    }
}

/// Gives each thread a run of `rows` rows `[rows, width]` of `out`.
pub(crate) fn each_row(
    pool: &Pool,
    rows: usize,
    width: usize,
    out: &mut [f32],
    work: impl Fn(std::ops::Range<usize>, &mut [f32]) + Sync,
) {
    if rows * width < WORTH_SHARING {
        return work(0..rows, &mut out[..rows * width]);
    }
    let (threads, out) = (pool.threads(), Parts::new(out));
    pool.run(&|thread| {
        let rows = share(rows, threads, thread);
        // SAFETY: the threads' shares are disjoint.
        let out = unsafe { out.range(rows.start * width..rows.end * width) };
        work(rows, out);
    });
}

/// Threads where nobody says how many: one for each physical core that may be used.
pub fn default_threads() -> usize {
    Topology::detect().default_threads()
}

/// Bytes of what a [`CpuDevice`] works in beside the buffers that it is asked for: attention's states and activations as
/// integers, of matrices of at most `cols` columns.
pub fn working_bytes(plan: &Plan, cols: usize, threads: usize) -> usize {
    let rows = plan.capacity.rows.max(plan.capacity.logits_rows);
    let activations = Activations::needed(rows, cols, threads).unwrap_or(usize::MAX);
    activations.saturating_add(Attention::needed(plan, threads))
}

impl Device for CpuDevice {
    fn describe(&self) -> String {
        let threads = self.pool.threads();
        let isa = match self.isa {
            Isa::Avx512Vnni => "AVX-512 VNNI",
            Isa::Avx2 => "AVX2",
            Isa::Portable => "portable code",
        };
        format!("CPU, {isa}, {threads} thread{}{}", if threads == 1 { "" } else { "s" }, self.turns)
    }

    fn can_see(&self) -> bool {
        true
    }

    fn memory(&self) -> DeviceMemory {
        let work = self.work.get();
        DeviceMemory {
            weights: self.matrices.all().iter().map(PackedMatrix::bytes).sum::<usize>()
                + self.vectors.all().iter().map(|v| size_of_val(v.as_slice())).sum::<usize>()
                + self.beside.iter().flatten().flatten().map(PackedPair::bytes).sum::<usize>(),
            kv: work.map_or(0, |work| work.cache.bytes()),
            buffers: self.buffers.all().iter().map(|b| b.values.bytes()).sum::<usize>()
                + work.map_or(0, |work| work.attention.bytes() + work.activations.bytes())
                + self.training.as_ref().map_or(0, Training::bytes)
                + self.projected.as_ref().map_or(0, Slab::bytes),
        }
    }

    fn free_memory(&mut self) -> Option<FreeMemory> {
        os::free_memory()
    }

    fn needed(&self, needs: &Needs) -> Result<DeviceMemory, DeviceError> {
        let cols = needs.matrices.iter().flat_map(|matrix| &matrix.parts).map(|part| part.cols).max();
        let mut memory = needs.stored();
        let working = working_bytes(&needs.plan, cols.unwrap_or(0), self.pool.threads());
        memory.buffers = memory.buffers.saturating_add(working);
        Ok(memory)
    }

    fn load_matrix(
        &mut self,
        parts: &[MatrixView<'_>],
        bias: Option<&[f32]>,
        used_for: MatrixUse,
        taken: Taken<'_>,
    ) -> Result<MatrixId, DeviceError> {
        // Piece by piece it would wait for a step of another model each time.
        self.pool.begin_turn();
        let packer = Packer { isa: self.isa, pool: &self.pool, arenas: &mut self.arenas, taken };
        let packed = PackedMatrix::pack(parts, bias, used_for, packer);
        self.pool.end_turn();
        Ok(self.matrices.push(packed?))
    }

    fn load_vector(&mut self, values: &[f32]) -> VectorId {
        self.vectors.push(values.to_vec())
    }

    fn load_rope(&mut self, rope: &Rope) -> RopeId {
        self.ropes.push(rope.clone())
    }

    fn plan(&mut self, plan: &Plan) -> Result<(), DeviceError> {
        // What reading the model's files has freed.
        os::give_back_freed();
        let threads = self.pool.threads();
        let cache = KvCache::new(plan)?;
        let attention = Attention::new(plan, threads)?;
        let cols = self.matrices.all().iter().map(PackedMatrix::cols).max().unwrap_or(0);
        let rows = plan.capacity.rows.max(plan.capacity.logits_rows);
        let activations = Activations::new(rows, cols, threads)?;
        let steps = Steps::new([(); 2].map(|()| Step::with_capacity(plan, |heads| attention.room(heads))));
        self.work.set(Workspace { plan: plan.clone(), cache, attention, activations, steps });
        Ok(())
    }

    fn begin_turn(&mut self) {
        self.pool.begin_turn();
    }

    fn end_turn(&mut self) {
        self.pool.end_turn();
    }

    fn buffer(&mut self, _layer: usize, role: Role, width: usize) -> Result<BufferId, DeviceError> {
        let capacity = self.work.plan.capacity;
        let len = role.pick(capacity.rows, capacity.logits_rows).saturating_mul(width);
        self.buffers.shared(role, width, || Slab::zeroed(len, "an activation buffer"))
    }

    fn attach(&mut self, matrix: MatrixId, slot: AdapterSlot, pair: Pair<'_>) -> Result<(), DeviceError> {
        let packed = PackedPair::pack(&self.matrices[matrix], pair)?;
        if packed.projected() > self.projected_width {
            let capacity = self.work.plan.capacity;
            let rows = capacity.rows.max(capacity.logits_rows);
            let len = rows.saturating_mul(packed.projected());
            self.projected = Some(Slab::zeroed(len, "an adapter's products")?);
            self.projected_width = packed.projected();
        }
        let (matrix, slot) = (matrix.index(), slot as usize);
        if self.beside.len() <= matrix {
            self.beside.resize_with(matrix + 1, Vec::new);
        }
        let pairs = &mut self.beside[matrix];
        if pairs.len() <= slot {
            pairs.resize_with(slot + 1, || None);
        }
        pairs[slot] = Some(packed);
        Ok(())
    }

    fn detach(&mut self, slot: AdapterSlot) {
        for pairs in &mut self.beside {
            if let Some(pair) = pairs.get_mut(slot as usize) {
                *pair = None;
            }
        }
    }

    fn matrix_row(&self, matrix: MatrixId, row: usize, out: &mut [f32]) -> Result<(), DeviceError> {
        self.matrices[matrix].decode_row(self.isa, row, out);
        Ok(())
    }

    fn upload(&mut self, batch: &Batch) -> Result<DeviceBatch, DeviceError> {
        let Workspace { plan, attention, steps, .. } = &mut *self.work;
        batch.check(plan.axes, plan.vocab, &plan.capacity)?;
        steps.upload(|step| {
            step.load(batch, plan, self.ropes.all());
            step.plan_attention(self.pool.threads(), |heads| attention.room(heads));
            Ok(())
        })
    }

    fn write(&mut self, batch: DeviceBatch, x: BufferId, first: usize, values: &[f32]) {
        let rows = self.rows(batch, x);
        let x = &mut self.buffers[x];
        x.values[first * x.width..rows * x.width][..values.len()].copy_from_slice(values);
    }

    fn embed(&mut self, batch: DeviceBatch, table: MatrixId, out: BufferId) {
        let step = &self.work.steps[batch];
        let table = &self.matrices[table];
        let out = &mut self.buffers[out];
        let (isa, width) = (self.isa, table.cols());
        assert_eq!(width, out.width, "an embedding is as wide as its buffer");
        each_row(&self.pool, step.rows(), width, &mut out.values, |rows, out| {
            for (&token, out) in step.tokens[rows].iter().zip(out.chunks_exact_mut(width)) {
                table.decode_row(isa, token as usize, out);
            }
        });
    }

    fn norm(&mut self, batch: DeviceBatch, x: BufferId, norm: &Norm, out: BufferId) {
        self.norm_rows(batch, x, norm, out, false);
    }

    fn norm_add(&mut self, batch: DeviceBatch, x: BufferId, norm: &Norm, into: BufferId) {
        self.norm_rows(batch, x, norm, into, true);
    }

    fn linear(&mut self, batch: DeviceBatch, x: BufferId, w: MatrixId, epilogue: Epilogue, out: BufferId) {
        let rows = self.rows(batch, x);
        let pairs = self.beside.get(w.index()).map_or(&[][..], Vec::as_slice);
        let w = &self.matrices[w];
        let Workspace { steps, activations, .. } = &mut *self.work;
        let adapters = steps[batch].adapters(self.buffers[x].role);
        let [x_width, out_width] = [x, out].map(|buffer| self.buffers[buffer].width);
        assert_eq!(x_width, w.cols(), "the matrix's columns are the buffer's width");
        assert_eq!(out_width, epilogue.width(w.rows()), "the output fits the matrix and its epilogue");
        let (x, from, out) = operands(&mut self.buffers, x, epilogue, out);
        let (x, out) = (&x[..rows * x_width], &mut out[..rows * out_width]);
        let finish = match epilogue {
            Epilogue::None => Finish::Store,
            Epilogue::Residual { scale, .. } => {
                Finish::Residual { from: from.map(|from| &from[..rows * out_width]), scale }
            }
            Epilogue::SwiGlu => Finish::SwiGlu,
            Epilogue::Gelu => Finish::Gelu,
            Epilogue::GeluErf => Finish::GeluErf,
        };
        let beside = match (&mut self.projected, adapters) {
            (None, _) | (_, []) => None,
            (Some(projected), _) => {
                let stride = self.projected_width;
                Beside::project(&self.pool, self.isa, x, adapters, pairs, projected, stride)
            }
        };
        let (pool, isa, compute, turns) = (&self.pool, self.isa, self.compute, &mut self.turns);
        linear(pool, isa, compute, turns, x, rows, w, beside, finish, activations, out);
    }

    fn norm_heads(&mut self, batch: DeviceBatch, qkv: BufferId, heads: Heads, q: &Norm, k: &Norm) {
        let rows = self.rows(batch, qkv);
        let qkv = &mut self.buffers[qkv];
        assert_eq!(qkv.width, heads.qkv_width(), "the heads fill the buffer");
        let [q, k] = [(q, heads.q_width()), (k, heads.k_width())].map(|(norm, width)| {
            let weight = self.vectors[norm.weight].as_slice();
            assert_eq!(weight.len(), heads.head_dim, "a norm is as wide as a head");
            let bias = norm.bias.map(|bias| self.vectors[bias].as_slice());
            (NormHeads { kind: norm.kind, weight, bias, eps: norm.eps }, width)
        });
        let (isa, width) = (self.isa, qkv.width);
        each_row(&self.pool, rows, width, &mut qkv.values, |_, out| {
            dispatch(isa, QueriesAndKeys { width, parts: [q, k], out });
        });
    }

    fn has_experts(&self) -> bool {
        true
    }

    fn experts(
        &mut self,
        batch: DeviceBatch,
        x: BufferId,
        scores: BufferId,
        experts: Experts<'_>,
        through: ExpertBuffers,
        into: BufferId,
    ) {
        let rows = self.rows(batch, x);
        let ExpertBuffers { gathered, inner, made } = through;
        let scores = &self.buffers[scores];
        let (width, scores) = (scores.width, &scores.values[..rows * scores.width]);
        let visits = self.visits.of(scores, width, &experts, &self.vectors[experts.correction]);
        let [x, gathered, inner, made, into] = self.buffers.together([x, gathered, inner, made, into]);
        let activations = &mut self.work.activations;
        let (width, inner_width) = (x.width, inner.width);
        assert_eq!([gathered.width, made.width, into.width], [width; 3], "experts go from rows to rows");
        let (pool, isa, compute, turns) = (&self.pool, self.isa, self.compute, &mut self.turns);
        for of_one in visits.chunk_by(|a, b| a.expert == b.expert) {
            let Expert { up, down } = experts.each[of_one[0].expert as usize];
            let [up, down] = [up, down].map(|matrix| &self.matrices[matrix]);
            let n = of_one.len();
            for (visit, to) in of_one.iter().zip(gathered.values.chunks_exact_mut(width)) {
                to.copy_from_slice(&x.values[visit.row as usize * width..][..width]);
            }
            let (gathered, inner) = (&gathered.values[..n * width], &mut inner.values[..n * inner_width]);
            linear(pool, isa, compute, turns, gathered, n, up, None, Finish::SwiGlu, activations, inner);
            let made = &mut made.values[..n * width];
            linear(pool, isa, compute, turns, inner, n, down, None, Finish::Store, activations, made);
            for (visit, made) in of_one.iter().zip(made.chunks_exact(width)) {
                let into = &mut into.values[visit.row as usize * width..][..width];
                into.iter_mut().zip(made).for_each(|(into, made)| *into += visit.weight * made);
            }
        }
    }

    fn has_latents(&self) -> bool {
        true
    }

    fn linear_heads(
        &mut self,
        batch: DeviceBatch,
        x: BufferId,
        w: MatrixId,
        through: BufferId,
        out: BufferId,
    ) {
        let rows = self.rows(batch, x);
        let w = &self.matrices[w];
        let [x, through, out] = self.buffers.together([x, through, out]);
        let (heads, cols) = (w.heads(), w.cols());
        let width = heads * cols;
        assert!(width <= through.width.min(x.width), "all heads have their part of a row");
        assert_eq!(out.width, w.rows(), "the output is as wide as the matrix has rows");
        let gathered = &mut through.values[..rows * width];
        for (head, of_head) in gathered.chunks_exact_mut((rows * cols).max(1)).enumerate() {
            for (x, to) in x.values.chunks_exact(x.width).zip(of_head.chunks_exact_mut(cols)) {
                to.copy_from_slice(&x[head * cols..][..cols]);
            }
        }
        let (pool, isa, compute) = (&self.pool, self.isa, self.compute);
        let (scratch, out) = (&mut self.work.activations, &mut out.values[..rows * w.rows()]);
        linear_heads(pool, isa, compute, gathered, rows, w, scratch, out);
    }

    fn join_heads(&mut self, batch: DeviceBatch, rows: LatentRows, norm: &Norm, heads: Heads, qkv: BufferId) {
        let count = self.rows(batch, qkv);
        let weight = self.vectors[norm.weight].as_slice();
        assert_eq!(weight.len(), heads.value_dim, "the norm is as wide as a latent");
        let bias = norm.bias.map(|bias| self.vectors[bias].as_slice());
        let norm = NormHeads { kind: norm.kind, weight, bias, eps: norm.eps };
        let LatentRows { queries, absorbed, latent } = rows;
        let [queries, absorbed, latent, qkv] = self.buffers.together([queries, absorbed, latent, qkv]);
        let widths = [heads.attended_width(), heads.head_dim, heads.qkv_width()];
        assert_eq!([absorbed.width, latent.width, qkv.width], widths, "the heads fill the buffers");
        let query_width = queries.width;
        assert_eq!((heads.kv_heads, heads.joint), (1, true), "latents are joint");
        let isa = self.isa;
        let of = |buffer: &Buffer<Slab<f32>>, rows: &Range<usize>| {
            rows.start * buffer.width..rows.end * buffer.width
        };
        each_row(&self.pool, count, qkv.width, &mut qkv.values, |rows, out| {
            let [queries, absorbed, latent] =
                [&*queries, &*absorbed, &*latent].map(|buffer| &buffer.values[of(buffer, &rows)]);
            dispatch(isa, JoinHeads { heads, norm, queries, query_width, absorbed, latent, out });
        });
    }

    fn rope(&mut self, batch: DeviceBatch, qkv: BufferId, heads: Heads, rope: RopeId) {
        self.turn_heads(batch, qkv, heads, rope, Rope::rotate);
    }

    fn kv_write(&mut self, batch: DeviceBatch, layer: usize, qkv: BufferId, heads: Heads) {
        let Workspace { cache, steps, .. } = &mut *self.work;
        let qkv = &self.buffers[qkv];
        assert_eq!(qkv.width, heads.qkv_width(), "the heads fill the buffer");
        let layer = cache.layer(layer, heads);
        layer.write(&self.pool, self.isa, &steps[batch], &qkv.values);
    }

    fn attention(&mut self, batch: DeviceBatch, layer: usize, qkv: BufferId, heads: Heads, out: BufferId) {
        let Workspace { cache, attention, steps, .. } = &mut *self.work;
        let [qkv, out] = self.buffers.together([qkv, out]);
        let widths = [heads.qkv_width(), heads.attended_width()];
        assert_eq!([qkv.width, out.width], widths, "the heads fill the buffers");
        let (step, layer) = (&steps[batch], cache.layer(layer, heads));
        attention.run(&self.pool, self.isa, step, layer, &qkv.values, &mut out.values);
    }

    fn gather(&mut self, batch: DeviceBatch, x: BufferId, out: BufferId) {
        let step = &self.work.steps[batch];
        let [x, out] = self.buffers.together([x, out]);
        let width = x.width;
        assert_eq!(width, out.width, "rows keep their width");
        for (&row, out) in step.logits_rows.iter().zip(out.values.chunks_exact_mut(width)) {
            out.copy_from_slice(&x.values[row as usize * width..][..width]);
        }
    }

    fn check_finite(&mut self, batch: DeviceBatch, x: BufferId, place: Place) {
        let rows = self.rows(batch, x);
        let x = &self.buffers[x];
        if let Some(value) = first_not_finite(&self.pool, self.isa, &x.values[..rows * x.width]) {
            self.work.steps.note_not_finite(batch, place, value);
        }
    }

    fn read(
        &mut self,
        batch: DeviceBatch,
        x: BufferId,
        rows: Range<usize>,
        out: &mut Vec<f32>,
    ) -> Result<(), DeviceError> {
        self.work.steps.report(batch)?;
        let x = &self.buffers[x];
        out.extend_from_slice(&x.values[rows.start * x.width..rows.end * x.width]);
        Ok(())
    }

    fn read_largest(
        &mut self,
        batch: DeviceBatch,
        x: BufferId,
        rows: usize,
        out: &mut Vec<u32>,
    ) -> Result<(), DeviceError> {
        self.work.steps.report(batch)?;
        let x = &self.buffers[x];
        out.extend(x.values.chunks_exact(x.width).take(rows).map(first_largest));
        Ok(())
    }

    fn read_candidates(
        &mut self,
        batch: DeviceBatch,
        x: BufferId,
        temperatures: &[f32],
        out: &mut Vec<Candidates>,
    ) -> Result<(), DeviceError> {
        self.work.steps.report(batch)?;
        let x = &self.buffers[x];
        let rows = x.values.chunks_exact(x.width).zip(temperatures);
        out.extend(rows.map(|(row, &temperature)| Candidates::of(row, temperature)));
        Ok(())
    }
}
