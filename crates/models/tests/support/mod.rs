//! What the tests of this crate share: stored tensors, devices to run on, and a decoder driven one batch at a time.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
#[cfg(any(feature = "emulate", feature = "cuda"))]
use std::sync::{LazyLock, Mutex};

use glimmer_checkpoint::Checkpoint;
use glimmer_cpu::{CpuDevice, CpuOptions};
#[cfg(any(feature = "emulate", feature = "cuda"))]
use glimmer_cuda::{CudaDevice, CudaOptions};
use glimmer_models::{
    Adapter, Decoder, DeviceLayers, Family, ModelWeights, PositionLayout, Stage, Understood, load_split,
    understand,
};
use glimmer_tensor::{
    AdapterSlot, Batch, Capacity, Compute, Device, KvType, PAGE_SLOTS, PageId, ReferenceDevice,
};
use safetensors::{Dtype, SafeTensors};

/// The repository's root; cargo says where, also to a test that was built elsewhere.
pub fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&here).join("../..")
}

/// Tensors of a safetensors file, floats and integers apart.
pub struct Stored {
    floats: HashMap<String, (Vec<usize>, Vec<f32>)>,
    integers: HashMap<String, (Vec<usize>, Vec<i64>)>,
}

impl Stored {
    pub fn open(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let (mut floats, mut integers) = (HashMap::new(), HashMap::new());
        for (name, t) in file.tensors() {
            let shape = t.shape().to_vec();
            let data = t.data();
            match t.dtype() {
                Dtype::F32 => {
                    let values =
                        data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
                    floats.insert(name, (shape, values));
                }
                Dtype::I64 => {
                    let values =
                        data.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap())).collect();
                    integers.insert(name, (shape, values));
                }
                Dtype::I32 => {
                    let values = data
                        .chunks_exact(4)
                        .map(|b| i32::from_le_bytes(b.try_into().unwrap()).into())
                        .collect();
                    integers.insert(name, (shape, values));
                }
                Dtype::U8 => {
                    integers.insert(name, (shape, data.iter().map(|&b| b.into()).collect()));
                }
                other => panic!("{name}: {other:?}"),
            }
        }
        Stored { floats, integers }
    }

    pub fn has(&self, name: &str) -> bool {
        self.floats.contains_key(name) || self.integers.contains_key(name)
    }

    pub fn f32(&self, name: &str) -> &[f32] {
        &self.floats.get(name).unwrap_or_else(|| panic!("no {name}")).1
    }

    pub fn i64(&self, name: &str) -> &[i64] {
        &self.integers.get(name).unwrap_or_else(|| panic!("no {name}")).1
    }

    pub fn ids(&self, name: &str) -> Vec<u32> {
        self.i64(name).iter().map(|&i| i as u32).collect()
    }

    pub fn shape(&self, name: &str) -> &[usize] {
        self.floats.get(name).map(|t| &t.0).or_else(|| self.integers.get(name).map(|t| &t.0)).unwrap()
    }
}

/// A device by name: `reference`, `cpu-MODE-THREADS`, or `cuda-MODE`.
pub fn device(name: &str) -> Box<dyn Device> {
    match name {
        "reference" => Box::new(ReferenceDevice::new()),
        "cpu-f32-1" => cpu(Compute::F32, 1),
        "cpu-f32-2" => cpu(Compute::F32, 2),
        "cpu-auto-1" => cpu(Compute::Auto, 1),
        "cpu-auto-2" => cpu(Compute::Auto, 2),
        #[cfg(any(feature = "emulate", feature = "cuda"))]
        "cuda-f32" => cuda(Compute::F32),
        _ => panic!("no device {name}"),
    }
}

pub fn cpu(compute: Compute, threads: usize) -> Box<dyn Device> {
    Box::new(CpuDevice::new(CpuOptions { threads: Some(threads), compute, isa: None }).unwrap())
}

/// A card, or an emulated one.
#[cfg(any(feature = "emulate", feature = "cuda"))]
pub fn cuda(compute: Compute) -> Box<dyn Device> {
    // One stays open, and with it the driver's context: to make one takes longer than most tests.
    static OPEN: LazyLock<Mutex<CudaDevice>> =
        LazyLock::new(|| Mutex::new(CudaDevice::new(CudaOptions::default()).unwrap()));
    LazyLock::force(&OPEN);
    Box::new(CudaDevice::new(CudaOptions { compute, ..Default::default() }).unwrap())
}

/// Rows to append to one sequence in a step.
pub struct Piece<'a> {
    /// Which sequence.
    pub sequence: usize,
    /// Its new ids.
    pub ids: &'a [u32],
    /// Rotary positions in place of the layout's: `[ids, axes]`.
    pub positions: Option<&'a [f32]>,
}

/// A sequence's place in the cache.
#[derive(Clone)]
pub struct Seat {
    pub len: usize,
    pub pages: Vec<PageId>,
    pub layout: Option<PositionLayout>,
    /// The adapter whose pairs its rows meet.
    pub adapter: Option<AdapterSlot>,
    /// Slots that a prefix has before it.
    pub lead: usize,
}

/// A decoder with a cache, fed batch by batch; every row's logits are returned.
pub struct Runner {
    pub decoder: Decoder,
    pub seats: Vec<Seat>,
    free: Vec<PageId>,
}

pub fn open(dir: &Path, family: Option<Family>) -> (Checkpoint, Understood) {
    let checkpoint = Checkpoint::open(dir).unwrap();
    let understood = understand(&checkpoint, family).unwrap();
    (checkpoint, understood)
}

impl Runner {
    pub fn new(dir: &Path, device: Box<dyn Device>, kv: KvType, rows: usize, slots: usize) -> Self {
        Self::split(dir, vec![device], &[], kv, rows, slots)
    }

    /// On several devices, the second and later ones of which begin with these layers.
    pub fn split(
        dir: &Path,
        devices: Vec<Box<dyn Device>>,
        begins: &[usize],
        kv: KvType,
        rows: usize,
        slots: usize,
    ) -> Self {
        let (checkpoint, understood) = open(dir, None);
        Self::load(ModelWeights::stored(&checkpoint, &understood), devices, begins, kv, rows, slots)
    }

    /// [`Runner::split`] of weights that may be quantized on their way.
    pub fn load(
        weights: ModelWeights<'_>,
        devices: Vec<Box<dyn Device>>,
        begins: &[usize],
        kv: KvType,
        rows: usize,
        slots: usize,
    ) -> Self {
        let bounds = [&[0], begins, &[weights.understood.spec.layers.len()]].concat();
        let layers = bounds.windows(2).map(|range| range[1] - range[0]);
        let devices =
            devices.into_iter().zip(layers).map(|(device, layers)| DeviceLayers { device, layers }).collect();
        let mut decoder = load_split(weights, devices, &mut |_, _| {}).unwrap();
        let pages = slots.div_ceil(PAGE_SLOTS) + 16;
        decoder.plan(Capacity { rows, logits_rows: rows, pages }, kv).unwrap();
        // Pages are handed out in a scattered order on purpose.
        let mut free: Vec<PageId> = (0..pages as PageId).collect();
        free.sort_by_key(|p| p.wrapping_mul(2_654_435_761) >> 7);
        Runner { decoder, seats: Vec::new(), free }
    }

    pub fn vocab(&self) -> usize {
        self.decoder.spec().vocab
    }

    /// A new empty sequence.
    pub fn sit(&mut self) -> usize {
        self.seats.push(Seat { len: 0, pages: Vec::new(), layout: None, adapter: None, lead: 0 });
        self.seats.len() - 1
    }

    /// A new sequence with what an adapter that is attached at `slot` has.
    pub fn sit_adapted(&mut self, slot: AdapterSlot, adapter: &Adapter) -> usize {
        let sequence = self.sit();
        self.seats[sequence].adapter = Some(slot);
        if let Adapter::Prefix(prefix) = adapter {
            let pages: Vec<PageId> = (0..prefix.slots.div_ceil(PAGE_SLOTS))
                .map(|_| self.free.pop().expect("the pool is large enough"))
                .collect();
            self.decoder.write_prefix(prefix, 0..prefix.slots, &pages).unwrap();
            self.seats[sequence].pages = pages;
            self.seats[sequence].lead = prefix.slots;
        }
        sequence
    }

    /// Gives a sequence's pages back; their contents stay as they are.
    pub fn leave(&mut self, sequence: usize) {
        self.free.append(&mut self.seats[sequence].pages);
        self.seats[sequence].len = 0;
        self.seats[sequence].layout = None;
    }

    fn batch(&mut self, pieces: &[Piece<'_>]) -> Batch {
        let mut batch = Batch::default();
        for piece in pieces {
            let positions = self.decoder.spec().positions;
            let seat = &mut self.seats[piece.sequence];
            let layout = seat
                .layout
                .get_or_insert_with(|| PositionLayout::of_prompt(positions, piece.ids).unwrap())
                .clone();
            let slots = seat.len..seat.len + piece.ids.len();
            let lead = seat.lead;
            while seat.pages.len() * PAGE_SLOTS < lead + slots.end {
                seat.pages.push(self.free.pop().expect("the pool is large enough"));
            }
            seat.len = slots.end;
            let mut rope_pos = Vec::new();
            layout.extend(slots.clone(), &mut rope_pos);
            if let Some(positions) = piece.positions {
                rope_pos = positions.to_vec();
            }
            let all = 0..piece.ids.len();
            let context = if layout.prefix_len() > 0 { lead + layout.prefix_len() } else { 0 };
            let slots = lead + slots.start..lead + slots.end;
            batch.push(piece.ids, slots, &rope_pos, context, seat.pages.clone(), all);
            batch.adapt(seat.adapter);
        }
        batch
    }

    /// Runs a batch: logits of every row, piece after piece.
    pub fn step(&mut self, pieces: &[Piece<'_>]) -> Vec<f32> {
        let batch = self.batch(pieces);
        let mut logits = Vec::new();
        self.decoder.forward(&batch).unwrap();
        self.decoder.logits(batch.rows(), &mut logits).unwrap();
        logits
    }

    /// Runs one sequence's piece and shows the hidden states.
    pub fn step_observed(&mut self, piece: Piece<'_>, observer: &mut dyn FnMut(Stage, &[f32])) -> Vec<f32> {
        let batch = self.batch(&[piece]);
        let mut logits = Vec::new();
        self.decoder.forward_observed(&batch, observer).unwrap();
        self.decoder.logits(batch.rows(), &mut logits).unwrap();
        logits
    }

    /// All logits of one sequence in one step.
    pub fn whole(&mut self, ids: &[u32]) -> Vec<f32> {
        let sequence = self.sit();
        let logits = self.step(&[Piece { sequence, ids, positions: None }]);
        self.leave(sequence);
        logits
    }

    /// Greedy continuation of several prompts at once: new ids and each step's logits, by sequence.
    pub fn greedy(&mut self, prompts: &[Vec<u32>], steps: usize) -> Vec<(Vec<u32>, Vec<f32>)> {
        let seats: Vec<usize> = prompts.iter().map(|_| self.sit()).collect();
        let mut next: Vec<Vec<u32>> = prompts.to_vec();
        let mut results = vec![(Vec::new(), Vec::new()); prompts.len()];
        for _ in 0..steps {
            let pieces: Vec<Piece<'_>> = seats
                .iter()
                .zip(&next)
                .map(|(&sequence, ids)| Piece { sequence, ids, positions: None })
                .collect();
            let logits = self.step(&pieces);
            let mut end = 0;
            for ((ids, all), next) in results.iter_mut().zip(&mut next) {
                end += next.len();
                let row = &logits[(end - 1) * self.decoder.spec().vocab..end * self.decoder.spec().vocab];
                let best = argmax(row);
                ids.push(best);
                all.extend_from_slice(row);
                *next = vec![best];
            }
        }
        seats.into_iter().for_each(|s| self.leave(s));
        results
    }
}

pub fn argmax(row: &[f32]) -> u32 {
    let mut best = 0;
    for (i, v) in row.iter().enumerate() {
        if *v > row[best] {
            best = i;
        }
    }
    best as u32
}

/// Largest absolute difference; NaN anywhere is infinite.
pub fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |m, d| if d.is_nan() { f32::INFINITY } else { m.max(d) })
}
