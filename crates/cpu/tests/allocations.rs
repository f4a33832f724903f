//! After its first steps the device allocates nothing but what `read` appends to. A program of its own, so that nobody
//! else allocates meanwhile.

use glimmer_cpu::{CpuDevice, CpuOptions};
use glimmer_tensor::{
    Batch, BufferId, Capacity, Compute, DType, Device, Epilogue, Heads, KvType, MatrixId, MatrixUse,
    MatrixView, Norm, NormKind, Place, Plan, Role, Rope, RopeId, RopePairs, RopeSection,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator, counting.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(block, layout) };
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const HEADS: Heads = Heads::new(8, 2, 64);

/// One layer of a model.
struct Layer {
    embedding: MatrixId,
    qkv_proj: MatrixId,
    out_proj: MatrixId,
    gate_up: MatrixId,
    norm: Norm,
    rope: RopeId,
    buffers: [BufferId; 7],
}

impl Layer {
    fn load(device: &mut dyn Device) -> Layer {
        let mut matrix = |rows: usize, used_for| {
            let data: Vec<u8> =
                (0..rows * 512 / 32).flat_map(|_| [0, 0x20].into_iter().chain([7; 32])).collect();
            let view = MatrixView::new(DType::Q8_0, rows, 512, &data, None).expect("whole blocks");
            device.load_matrix(&[view], None, used_for, &|_| ()).expect("memory")
        };
        let embedding = matrix(64, MatrixUse::Linear);
        let (qkv_proj, out_proj) =
            (matrix(HEADS.qkv_width(), MatrixUse::Linear), matrix(512, MatrixUse::Linear));
        let gate_up = matrix(1024, MatrixUse::Gated);
        let norm =
            Norm { kind: NormKind::Rms, weight: device.load_vector(&[1.0; 512]), bias: None, eps: 1e-5 };
        let section = RopeSection { axis: 0, first_dim: 0, inv_freq: vec![0.1; 32] };
        let rope = Rope { pairs: RopePairs::Halves, sections: vec![section], magnitude: 1.0 };
        let rope = device.load_rope(&rope);
        let capacity = Capacity { rows: 64, logits_rows: 4, pages: 64 };
        let plan = Plan { capacity, vocab: 64, layers: vec![HEADS], kv_type: KvType::Q8_0, axes: 1 };
        device.plan(&plan).expect("memory");
        let roles =
            [Role::Hidden, Role::Normed, Role::Qkv, Role::Attended, Role::Inner, Role::Last, Role::Logits];
        let widths = [512, 512, HEADS.qkv_width(), HEADS.attended_width(), 512, 512, 64];
        let mut buffer = |i: usize| device.buffer(0, roles[i], widths[i]).expect("memory");
        let buffers = std::array::from_fn(&mut buffer);
        Layer { embedding, qkv_proj, out_proj, gate_up, norm, rope, buffers }
    }

    fn step(&self, device: &mut dyn Device, batch: &Batch, logits: &mut Vec<f32>) {
        let [hidden, normed, qkv, attended, inner, last, out] = self.buffers;
        let rows = batch.logits_rows.len();
        let batch = device.upload(batch).expect("a batch within the plan");
        let residual = Epilogue::Residual { from: hidden, scale: 1.0 };
        device.embed(batch, self.embedding, hidden);
        device.norm(batch, hidden, &self.norm, normed);
        device.linear(batch, normed, self.qkv_proj, Epilogue::None, qkv);
        device.rope(batch, qkv, HEADS, self.rope);
        device.kv_write(batch, 0, qkv, HEADS);
        device.attention(batch, 0, qkv, HEADS, attended);
        device.linear(batch, attended, self.out_proj, residual, hidden);
        device.check_finite(batch, hidden, Place::Attention(0));
        device.norm(batch, hidden, &self.norm, normed);
        device.linear(batch, normed, self.gate_up, Epilogue::SwiGlu, inner);
        device.linear(batch, inner, self.out_proj, residual, hidden);
        device.gather(batch, hidden, last);
        device.linear(batch, last, self.embedding, Epilogue::None, out);
        device.read(batch, out, 0..rows, logits).expect("finite logits");
    }
}

fn main() {
    for compute in [Compute::F32, Compute::Auto] {
        let options = CpuOptions { threads: Some(2), compute, isa: None };
        let mut device = CpuDevice::new(options).expect("a device");
        let layer = Layer::load(&mut device);
        let mut logits = Vec::with_capacity(1 << 16);
        let pages: Vec<u32> = (0..64).collect();
        // A prompt in pieces, then generation beside another prompt, past a chunk's border so that units are split.
        let mut at = 0;
        for (rows, counted) in
            [(64, false), (64, false), (1, false), (64, true), (64, true), (64, true), (1, true)]
        {
            let mut batch = Batch::default();
            batch.push(&vec![3; rows], at..at + rows, &vec![0.5; rows], 0, pages.clone(), [rows - 1]);
            at += rows;
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            layer.step(&mut device, &batch, &mut logits);
            let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
            assert!(!counted || allocations == 0, "{allocations} in a step of {rows} rows");
        }
    }
}
