//! A device set up for one operation: inputs get into buffers through an embedding table of f32 rows, whose last row is
//! poison.

use crate::Make;
use glimmer_tensor::{
    Batch, BufferId, Capacity, DType, Device, DeviceBatch, Heads, KvType, MatrixId, MatrixUse, MatrixView,
    Norm, NormKind, PAGE_SLOTS, PageId, Plan, Role,
};

/// Numbers that are the same in every run (SplitMix64; Steele et al., 2014).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// About normal: the sum of twelve uniform numbers.
    pub fn normal(&mut self) -> f32 {
        (0..12).map(|_| (self.bits() >> 40) as f32 / (1u64 << 24) as f32).sum::<f32>() - 6.0
    }

    /// `n` normal numbers.
    pub fn normals(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.normal()).collect()
    }

    /// The numbers below `n` in any order.
    pub fn shuffled(&mut self, n: usize) -> Vec<PageId> {
        let mut all: Vec<PageId> = (0..n as PageId).collect();
        (1..n).rev().for_each(|i| all.swap(i, self.below(i + 1)));
        all
    }
}

/// The heads of a plan for which attention does not matter.
pub const NO_HEADS: Heads = Heads::new(1, 1, 16);

/// A matrix of random bytes with sane scales.
pub struct Weights {
    dtype: DType,
    rows: usize,
    cols: usize,
    data: Vec<u8>,
    row_scale: Option<Vec<u8>>,
}

impl Weights {
    /// Weights of about the size of 0.1.
    pub fn random(rng: &mut Random, dtype: DType, rows: usize, cols: usize) -> Weights {
        let mut half = |size: f32| half::f16::from_f32(size * (1.0 + rng.normal().abs())).to_le_bytes();
        // The f16 fields of a block: offset and ten times the size.
        let fields: &[(usize, f32)] = match dtype {
            DType::Q4_0 | DType::IQ4_NL => &[(0, 0.1)],
            DType::Q5_0 => &[(0, 0.05)],
            DType::Q8_0 => &[(0, 0.01)],
            DType::Q4_1 => &[(0, 0.1), (2, -0.8)],
            DType::Q5_1 => &[(0, 0.05), (2, -0.8)],
            DType::Q2_K => &[(80, 0.02), (82, 0.05)],
            DType::Q3_K => &[(108, 0.01)],
            DType::Q4_K => &[(0, 0.002), (2, 0.01)],
            DType::Q5_K => &[(0, 0.001), (2, 0.01)],
            DType::Q6_K => &[(208, 0.0005)],
            DType::IQ4_XS => &[(0, 0.0005)],
            _ => &[],
        };
        let row_scale = matches!(dtype, DType::RowI8 | DType::RowI4).then(|| {
            let size = if dtype == DType::RowI8 { 0.001 } else { 0.02 };
            (0..rows).flat_map(|_| half(size)).collect()
        });
        let bytes = dtype.bytes_for(cols).expect("whole blocks") * rows;
        let mut data: Vec<u8> = match dtype {
            DType::F32 => (0..rows * cols).flat_map(|_| (0.1 * rng.normal()).to_le_bytes()).collect(),
            DType::F16 => {
                (0..rows * cols).flat_map(|_| half::f16::from_f32(0.1 * rng.normal()).to_le_bytes()).collect()
            }
            DType::BF16 => (0..rows * cols)
                .flat_map(|_| half::bf16::from_f32(0.1 * rng.normal()).to_le_bytes())
                .collect(),
            _ => (0..bytes).map(|_| rng.bits() as u8).collect(),
        };
        for block in data.chunks_exact_mut(dtype.block_bytes()) {
            for &(at, size) in fields {
                let size = 0.1 * size * (1.0 + rng.normal().abs());
                block[at..at + 2].copy_from_slice(&half::f16::from_f32(size).to_le_bytes());
            }
        }
        Weights { dtype, rows, cols, data, row_scale }
    }

    /// As a device takes it.
    pub fn view(&self) -> MatrixView<'_> {
        MatrixView::new(self.dtype, self.rows, self.cols, &self.data, self.row_scale.as_deref())
            .expect("a well-formed matrix")
    }
}

/// A device with a plan.
pub struct Rig {
    /// The device.
    pub device: Box<dyn Device>,
    capacity: Capacity,
    axes: usize,
    /// What was uploaded last.
    last: Option<DeviceBatch>,
}

impl Rig {
    /// A device whose inputs have at most `rows` rows, with a pool of `pages`. `load` loads what else is needed before
    /// the plan.
    pub fn new<T>(
        make: Make<'_>,
        rows: usize,
        pages: usize,
        layers: &[Heads],
        kv_type: KvType,
        axes: usize,
        load: impl FnOnce(&mut dyn Device) -> T,
    ) -> (Rig, T) {
        let mut device = make();
        let loaded = load(device.as_mut());
        let capacity = Capacity { rows, logits_rows: rows, pages };
        let plan = Plan { capacity, vocab: rows + 1, layers: layers.to_vec(), kv_type, axes };
        device.plan(&plan).expect("memory for a small plan");
        (Rig { device, capacity, axes, last: None }, loaded)
    }

    /// Loads values for the planned number of rows, with a row of poison after them.
    pub fn input(device: &mut dyn Device, rows: usize, width: usize, values: &[f32]) -> MatrixId {
        let mut bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(bytes.len(), rows * width * 4);
        bytes.extend((0..width).flat_map(|_| f32::NAN.to_le_bytes()));
        let view = MatrixView::new(DType::F32, rows + 1, width, &bytes, None).expect("f32 rows");
        device.load_matrix(&[view], None, MatrixUse::Rows, &|_| ()).expect("an f32 table")
    }

    /// A buffer.
    pub fn buffer(&mut self, role: Role, width: usize) -> BufferId {
        self.device.buffer(0, role, width).expect("memory for a small buffer")
    }

    /// A batch of one sequence whose rows take the rows `tokens` of an input.
    pub fn rows(&mut self, tokens: &[u32]) -> DeviceBatch {
        self.rows_at(tokens, &vec![0.0; tokens.len() * self.axes])
    }

    /// The same, with rotary positions.
    pub fn rows_at(&mut self, tokens: &[u32], rope_pos: &[f32]) -> DeviceBatch {
        let mut batch = Batch::default();
        let pages = (0..tokens.len().div_ceil(PAGE_SLOTS) as PageId).collect();
        batch.push(tokens, 0..tokens.len(), rope_pos, 0, pages, 0..tokens.len());
        self.upload(&batch)
    }

    /// Any batch.
    pub fn upload(&mut self, batch: &Batch) -> DeviceBatch {
        *self.last.insert(self.device.upload(batch).expect("a batch within the plan"))
    }

    /// Fills all planned rows of a buffer with NaN. `table` is any input of the buffer's width.
    pub fn poison(&mut self, table: MatrixId, buffer: BufferId) {
        let batch = self.rows(&vec![self.capacity.rows as u32; self.capacity.rows]);
        self.device.embed(batch, table, buffer);
    }

    /// The first `rows` rows of a buffer as the last step left them.
    pub fn read(&mut self, buffer: BufferId, rows: usize) -> Vec<f32> {
        let mut out = Vec::new();
        let last = self.last.expect("a step before what it computes is read");
        self.device.read(last, buffer, 0..rows, &mut out).expect("no check failed");
        out
    }
}

/// A norm with random weights.
pub fn norm(rng: &mut Random, device: &mut dyn Device, kind: NormKind, width: usize) -> Norm {
    let weight = device.load_vector(&rng.normals(width));
    let bias = (kind == NormKind::Layer).then(|| device.load_vector(&rng.normals(width)));
    Norm { kind, weight, bias, eps: 1e-5 }
}

/// The bits of a slice, for comparisons that know no equal zeros and unequal NaN.
pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}
