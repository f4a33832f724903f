//! [`CpuDevice`]: the seam's operations over the pool, the packed weights, the cache and the planned buffers.

use crate::attention::Attention;
use crate::finite::first_not_finite;
use crate::isa::{Isa, IsaError};
use crate::kv::KvCache;
use crate::lanes::dispatch;
use crate::linear::{Activations, Finish, PackedMatrix, Packer, linear};
use crate::memory::{Arena, Parts, Slab, share};
use crate::norm::NormRows;
use crate::os;
use crate::pool::{MAX_THREADS, Pool};
use crate::step::Step;
use crate::topology::Topology;
use glimmer_tensor::{
    Batch, BufferId, Compute, Device, DeviceBatch, DeviceError, DeviceMemory, Epilogue, Heads, MatrixId,
    MatrixUse, MatrixView, Norm, Place, Plan, Role, Rope, RopeId, Taken, VectorId,
};

/// Below this many elements an operation is done before the other threads have heard of it.
const WORTH_SHARING: usize = 8192;

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
}

/// A planned buffer `[rows, width]`.
struct Buffer {
    role: Role,
    width: usize,
    values: Slab<f32>,
}

/// What is made by [`Device::plan`].
struct Planned {
    plan: Plan,
    cache: KvCache,
    attention: Attention,
    activations: Activations,
    steps: [Step; 2],
    /// Which of the steps the next upload takes.
    next: usize,
}

/// A [`Device`] that computes on the processor's cores.
pub struct CpuDevice {
    pool: Pool,
    isa: Isa,
    compute: Compute,
    matrices: Vec<PackedMatrix>,
    /// For each thread, where its share of the matrices lies.
    arenas: Vec<Arena>,
    vectors: Vec<Vec<f32>>,
    ropes: Vec<Rope>,
    planned: Option<Planned>,
    buffers: Vec<Buffer>,
    not_finite: Option<DeviceError>,
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
            matrices: Vec::new(),
            arenas: (0..pool.threads()).map(|_| Arena::default()).collect(),
            pool,
            vectors: Vec::new(),
            ropes: Vec::new(),
            planned: None,
            buffers: Vec::new(),
            not_finite: None,
        })
    }

    fn planned(&self) -> &Planned {
        self.planned.as_ref().expect("plan() comes before any step")
    }

    fn step(&self, batch: DeviceBatch) -> &Step {
        &self.planned().steps[batch.0 as usize]
    }

    /// Rows of `buffer` that `batch` uses.
    fn rows(&self, batch: DeviceBatch, buffer: BufferId) -> usize {
        let step = self.step(batch);
        let by_logits = self.buffers[buffer.0 as usize].role.of_logits_rows();
        if by_logits { step.logits_rows.len() } else { step.rows() }
    }

    fn norm_rows(&mut self, batch: DeviceBatch, x: BufferId, norm: &Norm, out: BufferId, add: bool) {
        let rows = self.rows(batch, x);
        let weight = &self.vectors[norm.weight.0 as usize];
        let bias = norm.bias.map(|bias| self.vectors[bias.0 as usize].as_slice());
        let [x, out] = two(&mut self.buffers, x, out);
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
}

/// Two different buffers, the second one to be written.
fn two(buffers: &mut [Buffer], x: BufferId, out: BufferId) -> [&mut Buffer; 2] {
    buffers.get_disjoint_mut([x.0 as usize, out.0 as usize]).expect("an operation's buffers differ")
}

/// The buffers of a product: what is multiplied, what is added when that is not the output itself, the output.
fn operands(
    buffers: &mut [Buffer],
    x: BufferId,
    epilogue: Epilogue,
    out: BufferId,
) -> (&[f32], Option<&[f32]>, &mut [f32]) {
    match epilogue {
        Epilogue::Residual { from, .. } if from == x => {
            let [x, out] = two(buffers, x, out);
            (&x.values, Some(&x.values), &mut out.values)
        }
        Epilogue::Residual { from, .. } if from != out => {
            let ids = [x, from, out].map(|buffer| buffer.0 as usize);
            let [x, from, out] = buffers.get_disjoint_mut(ids).expect("an operation's buffers differ");
            (&x.values, Some(&from.values), &mut out.values)
        }
        _ => {
            let [x, out] = two(buffers, x, out);
            (&x.values, None, &mut out.values)
        }
    }
}

/// Gives each thread a run of `rows` rows `[rows, width]` of `out`.
fn each_row(
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

impl Device for CpuDevice {
    fn describe(&self) -> String {
        let threads = self.pool.threads();
        let isa = match self.isa {
            Isa::Avx512Vnni => "AVX-512 VNNI",
            Isa::Avx2 => "AVX2",
            Isa::Portable => "portable code",
        };
        format!("CPU, {isa}, {threads} thread{}", if threads == 1 { "" } else { "s" })
    }

    fn memory(&self) -> DeviceMemory {
        let planned = self.planned.as_ref();
        DeviceMemory {
            weights: self.matrices.iter().map(PackedMatrix::bytes).sum::<usize>()
                + self.vectors.iter().map(|v| size_of_val(v.as_slice())).sum::<usize>(),
            kv: planned.map_or(0, |p| p.cache.bytes()),
            buffers: self.buffers.iter().map(|b| b.values.bytes()).sum::<usize>()
                + planned.map_or(0, |p| p.attention.bytes() + p.activations.bytes()),
        }
    }

    fn load_matrix(
        &mut self,
        parts: &[MatrixView<'_>],
        bias: Option<&[f32]>,
        used_for: MatrixUse,
        taken: Taken<'_>,
    ) -> Result<MatrixId, DeviceError> {
        let packer = Packer { pool: &self.pool, arenas: &mut self.arenas, taken };
        self.matrices.push(PackedMatrix::pack(parts, bias, used_for, packer)?);
        Ok(MatrixId(self.matrices.len() as u32 - 1))
    }

    fn load_vector(&mut self, values: &[f32]) -> VectorId {
        self.vectors.push(values.to_vec());
        VectorId(self.vectors.len() as u32 - 1)
    }

    fn load_rope(&mut self, rope: &Rope) -> RopeId {
        self.ropes.push(rope.clone());
        RopeId(self.ropes.len() as u32 - 1)
    }

    fn plan(&mut self, plan: &Plan) -> Result<(), DeviceError> {
        // What reading the model's files has freed.
        os::give_back_freed();
        let threads = self.pool.threads();
        let cache = KvCache::new(plan)?;
        let attention = Attention::new(plan, &cache, threads)?;
        let cols = self.matrices.iter().map(PackedMatrix::cols).max().unwrap_or(0);
        let rows = plan.capacity.rows.max(plan.capacity.logits_rows);
        let activations = Activations::new(rows, cols, threads)?;
        let steps = [(); 2].map(|()| Step::with_capacity(plan, attention.room()));
        self.planned = Some(Planned { plan: plan.clone(), cache, attention, activations, steps, next: 0 });
        Ok(())
    }

    fn buffer(&mut self, _layer: usize, role: Role, width: usize) -> Result<BufferId, DeviceError> {
        if let Some(i) = self.buffers.iter().position(|b| b.role == role && b.width == width) {
            return Ok(BufferId(i as u32));
        }
        let capacity = self.planned().plan.capacity;
        let rows = if role.of_logits_rows() { capacity.logits_rows } else { capacity.rows };
        let values = Slab::zeroed(rows.saturating_mul(width), "an activation buffer")?;
        self.buffers.push(Buffer { role, width, values });
        Ok(BufferId(self.buffers.len() as u32 - 1))
    }

    fn upload(&mut self, batch: &Batch) -> Result<DeviceBatch, DeviceError> {
        let planned = self.planned.as_mut().expect("plan() comes before any step");
        let Planned { plan, attention, steps, next, .. } = planned;
        batch.check(plan.axes, plan.vocab, &plan.capacity)?;
        let at = *next;
        *next = 1 - at;
        steps[at].load(batch, plan, &self.ropes);
        steps[at].plan_attention(&plan.heads, self.pool.threads(), attention.room());
        Ok(DeviceBatch(at as u32))
    }

    fn embed(&mut self, batch: DeviceBatch, table: MatrixId, out: BufferId) {
        let step = &self.planned.as_ref().expect("plan() comes before any step").steps[batch.0 as usize];
        let table = &self.matrices[table.0 as usize];
        let out = &mut self.buffers[out.0 as usize];
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
        let w = &self.matrices[w.0 as usize];
        let [x_width, out_width] = [x, out].map(|buffer| self.buffers[buffer.0 as usize].width);
        assert_eq!(x_width, w.cols(), "the matrix's columns are the buffer's width");
        let results = if epilogue == Epilogue::SwiGlu { w.rows() / 2 } else { w.rows() };
        assert_eq!(out_width, results, "the output's width fits the matrix and its epilogue");
        let (x, from, out) = operands(&mut self.buffers, x, epilogue, out);
        let (x, out) = (&x[..rows * x_width], &mut out[..rows * out_width]);
        let finish = match epilogue {
            Epilogue::None => Finish::Store,
            Epilogue::Residual { scale, .. } => {
                Finish::Residual { from: from.map(|from| &from[..rows * out_width]), scale }
            }
            Epilogue::SwiGlu => Finish::SwiGlu,
            Epilogue::Gelu => Finish::Gelu,
        };
        let activations = &mut self.planned.as_mut().expect("plan() comes before any step").activations;
        linear(&self.pool, self.isa, self.compute, x, rows, w, finish, activations, out);
    }

    fn rope(&mut self, batch: DeviceBatch, qkv: BufferId, heads: Heads, rope: RopeId) {
        let step = &self.planned.as_ref().expect("plan() comes before any step").steps[batch.0 as usize];
        let table = &step.cos_sin[rope.0 as usize];
        let rope = &self.ropes[rope.0 as usize];
        let qkv = &mut self.buffers[qkv.0 as usize];
        let (width, pairs) = (heads.qkv_width(), rope.pair_count());
        assert_eq!(qkv.width, width, "the heads fill the buffer");
        let rotated = heads.q_width() + heads.kv_width();
        each_row(&self.pool, step.rows(), width, &mut qkv.values, |rows, out| {
            for (row, out) in rows.zip(out.chunks_exact_mut(width)) {
                let cos_sin = &table[row * pairs..(row + 1) * pairs];
                for head in out[..rotated].chunks_exact_mut(heads.head_dim) {
                    rope.rotate(head, cos_sin);
                }
            }
        });
    }

    fn kv_write(&mut self, batch: DeviceBatch, layer: usize, qkv: BufferId, heads: Heads) {
        let Planned { plan, cache, steps, .. } = self.planned.as_mut().expect("plan() comes before any step");
        assert_eq!(heads, plan.heads, "the heads are those of the plan");
        let qkv = &self.buffers[qkv.0 as usize];
        assert_eq!(qkv.width, heads.qkv_width(), "the heads fill the buffer");
        cache.write(&self.pool, self.isa, &steps[batch.0 as usize], layer, &qkv.values);
    }

    fn attention(&mut self, batch: DeviceBatch, layer: usize, qkv: BufferId, heads: Heads, out: BufferId) {
        let planned = self.planned.as_mut().expect("plan() comes before any step");
        let Planned { plan, cache, attention, steps, .. } = planned;
        assert_eq!(heads, plan.heads, "the heads are those of the plan");
        let [qkv, out] = two(&mut self.buffers, qkv, out);
        assert!(qkv.width == heads.qkv_width() && out.width == heads.q_width(), "the heads fill the buffers");
        let step = &steps[batch.0 as usize];
        attention.run(&self.pool, self.isa, step, cache, layer, &qkv.values, &mut out.values);
    }

    fn gather(&mut self, batch: DeviceBatch, x: BufferId, out: BufferId) {
        let step = &self.planned.as_ref().expect("plan() comes before any step").steps[batch.0 as usize];
        let [x, out] = two(&mut self.buffers, x, out);
        let width = x.width;
        assert_eq!(width, out.width, "rows keep their width");
        for (&row, out) in step.logits_rows.iter().zip(out.values.chunks_exact_mut(width)) {
            out.copy_from_slice(&x.values[row as usize * width..][..width]);
        }
    }

    fn check_finite(&mut self, batch: DeviceBatch, x: BufferId, place: Place) {
        let rows = self.rows(batch, x);
        let x = &self.buffers[x.0 as usize];
        if let Some(value) = first_not_finite(&self.pool, self.isa, &x.values[..rows * x.width]) {
            self.not_finite.get_or_insert(DeviceError::NotFinite { place, value: value.to_string() });
        }
    }

    fn read(&mut self, x: BufferId, rows: usize, out: &mut Vec<f32>) -> Result<(), DeviceError> {
        if let Some(error) = self.not_finite.take() {
            return Err(error);
        }
        let x = &self.buffers[x.0 as usize];
        out.extend_from_slice(&x.values[..rows * x.width]);
        Ok(())
    }
}
