//! A device that writes down what it is asked for.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use glimmer_checkpoint::Checkpoint;
use glimmer_cpu::{CpuDevice, CpuOptions};
use glimmer_models::{Decoder, ModelWeights, load, understand};
use glimmer_tensor::{
    Batch, BufferId, Candidates, Compute, Device, DeviceBatch, DeviceError, DeviceMemory, Epilogue, Heads,
    MatrixId, MatrixUse, MatrixView, Norm, Place, Plan, Role, Rope, RopeId, Taken, VectorId,
};

/// What happened, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// A batch of so many rows was uploaded.
    Upload(usize),
    /// The last operation of a step with logits was asked for.
    Launched,
    /// So many rows of logits were read: the likeliest tokens, candidates, all of them.
    Likeliest(usize),
    Candidates(usize),
    Logits(usize),
    /// A sink heard of a token.
    Told,
}

pub(crate) type Acts = Arc<Mutex<Vec<Act>>>;

/// A processor that looks like a device of its own where that is wanted.
struct Recorded {
    device: CpuDevice,
    runs_ahead: bool,
    acts: Acts,
}

impl Recorded {
    fn note(&self, act: Act) {
        self.acts.lock().unwrap().push(act);
    }
}

/// The decoder of a fixture on such a device, and what happens to it.
pub(crate) fn recorded(name: &str, runs_ahead: bool) -> (Decoder, Acts) {
    let checkpoint = Checkpoint::open(&super::fixture(name)).unwrap();
    let understood = understand(&checkpoint, None).unwrap();
    let options = CpuOptions { threads: Some(1), compute: Compute::F32, isa: None };
    let acts = Acts::default();
    let device = Recorded { device: CpuDevice::new(options).unwrap(), runs_ahead, acts: Arc::clone(&acts) };
    (load(ModelWeights::stored(&checkpoint, &understood), Box::new(device), &mut |_, _| {}).unwrap(), acts)
}

impl Device for Recorded {
    fn describe(&self) -> String {
        self.device.describe()
    }

    fn runs_ahead(&self) -> bool {
        self.runs_ahead
    }

    fn memory(&self) -> DeviceMemory {
        self.device.memory()
    }

    fn load_matrix(
        &mut self,
        parts: &[MatrixView<'_>],
        bias: Option<&[f32]>,
        used_for: MatrixUse,
        taken: Taken<'_>,
    ) -> Result<MatrixId, DeviceError> {
        self.device.load_matrix(parts, bias, used_for, taken)
    }

    fn load_vector(&mut self, values: &[f32]) -> VectorId {
        self.device.load_vector(values)
    }

    fn load_rope(&mut self, rope: &Rope) -> RopeId {
        self.device.load_rope(rope)
    }

    fn plan(&mut self, plan: &Plan) -> Result<(), DeviceError> {
        self.device.plan(plan)
    }

    fn buffer(&mut self, layer: usize, role: Role, width: usize) -> Result<BufferId, DeviceError> {
        self.device.buffer(layer, role, width)
    }

    fn upload(&mut self, batch: &Batch) -> Result<DeviceBatch, DeviceError> {
        self.note(Act::Upload(batch.rows()));
        self.device.upload(batch)
    }

    fn write(&mut self, batch: DeviceBatch, x: BufferId, first: usize, values: &[f32]) {
        self.device.write(batch, x, first, values);
    }

    fn embed(&mut self, batch: DeviceBatch, table: MatrixId, out: BufferId) {
        self.device.embed(batch, table, out);
    }

    fn norm(&mut self, batch: DeviceBatch, x: BufferId, norm: &Norm, out: BufferId) {
        self.device.norm(batch, x, norm, out);
    }

    fn norm_add(&mut self, batch: DeviceBatch, x: BufferId, norm: &Norm, into: BufferId) {
        self.device.norm_add(batch, x, norm, into);
    }

    fn linear(&mut self, batch: DeviceBatch, x: BufferId, w: MatrixId, epilogue: Epilogue, out: BufferId) {
        self.device.linear(batch, x, w, epilogue, out);
    }

    fn rope(&mut self, batch: DeviceBatch, qkv: BufferId, heads: Heads, rope: RopeId) {
        self.device.rope(batch, qkv, heads, rope);
    }

    fn kv_write(&mut self, batch: DeviceBatch, layer: usize, qkv: BufferId, heads: Heads) {
        self.device.kv_write(batch, layer, qkv, heads);
    }

    fn attention(&mut self, batch: DeviceBatch, layer: usize, qkv: BufferId, heads: Heads, out: BufferId) {
        self.device.attention(batch, layer, qkv, heads, out);
    }

    fn gather(&mut self, batch: DeviceBatch, x: BufferId, out: BufferId) {
        self.device.gather(batch, x, out);
    }

    fn check_finite(&mut self, batch: DeviceBatch, x: BufferId, place: Place) {
        self.device.check_finite(batch, x, place);
        if place == Place::Logits {
            self.note(Act::Launched);
        }
    }

    fn read(
        &mut self,
        batch: DeviceBatch,
        x: BufferId,
        rows: Range<usize>,
        out: &mut Vec<f32>,
    ) -> Result<(), DeviceError> {
        self.note(Act::Logits(rows.len()));
        self.device.read(batch, x, rows, out)
    }

    fn read_largest(
        &mut self,
        batch: DeviceBatch,
        x: BufferId,
        rows: usize,
        out: &mut Vec<u32>,
    ) -> Result<(), DeviceError> {
        self.note(Act::Likeliest(rows));
        self.device.read_largest(batch, x, rows, out)
    }

    fn read_candidates(
        &mut self,
        batch: DeviceBatch,
        x: BufferId,
        temperatures: &[f32],
        out: &mut Vec<Candidates>,
    ) -> Result<(), DeviceError> {
        self.note(Act::Candidates(temperatures.len()));
        self.device.read_candidates(batch, x, temperatures, out)
    }
}
