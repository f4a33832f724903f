//! A device that computes nothing: a decoder that runs on it once leaves a [`Program`] behind.
//!
//! Weights go on to the real device as they are loaded; those that are trained become tensors there. Without a device
//! nothing is read but shapes: that is how a plan is made.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use glimmer_models::{ModelWeights, Part, PartKind};
use glimmer_tensor::quant::decode_matrix_rows;
use glimmer_tensor::{
    Batch, BufferId, Buffers, Capacity, Device, DeviceBatch, DeviceError, DeviceMemory, Epilogue, Handle,
    Heads, KvType, MatrixId, MatrixUse, MatrixView, Norm, NormKind, Place, Plan, Role, Rope, RopeId, Steps,
    Taken, TrainingDevice, VectorId,
};

use crate::program::{
    Matrix, MatrixKind, NormOf, Operation, Pair, Program, Shape, TensorNumber, Value, Vector,
};
use crate::trainable::Target;
use crate::{LowRankSpec, TrainError, Trainable};

/// What a recording leaves behind.
pub(crate) struct Recording {
    pub(crate) program: Program,
    pub(crate) device: Option<Box<dyn TrainingDevice + Send>>,
    /// The tensors' values on the device, by number; none without a device.
    pub(crate) tensors: Vec<BufferId>,
    pub(crate) rope: RopeId,
    trainable: Trainable,
    targets: Vec<Target>,
    /// What will be loaded next, by the number of its part; a norm's shift apart from its scale.
    upcoming: VecDeque<(usize, &'static str)>,
    /// What each of the decoder's buffers holds.
    buffers: Buffers<Value>,
    steps: Steps<()>,
    /// What went wrong where the seam has no place for an error.
    failed: Option<DeviceError>,
}

/// Runs a model's decoder on a recorder.
///
/// # Errors
/// Those of loading, and of what is to be trained.
pub(crate) fn record(
    weights: ModelWeights<'_>,
    device: Option<Box<dyn TrainingDevice + Send>>,
    trainable: &Trainable,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Recording, TrainError> {
    let recording = Recording::new(weights, device, trainable)?;
    let recorder = Arc::new(Mutex::new(recording));
    let mut decoder = glimmer_models::load(weights, Box::new(Recorder(recorder.clone())), progress)?;
    decoder.plan(Capacity { rows: 1, logits_rows: 1, pages: 1 }, KvType::F32)?;
    decoder.forward(&Batch { logits_rows: vec![0], ..Batch::default() })?;
    drop(decoder);
    let recording = Arc::into_inner(recorder).and_then(|recorder| recorder.into_inner().ok());
    let mut recording = recording.expect("the decoder is gone, and with it the only other handle");
    recording.failed.take().map_or(Ok(recording), |error| Err(error.into()))
}

impl Recording {
    fn new(
        weights: ModelWeights<'_>,
        device: Option<Box<dyn TrainingDevice + Send>>,
        trainable: &Trainable,
    ) -> Result<Self, TrainError> {
        let understood = weights.understood;
        let parts = understood.spec.parts(understood.has_own_head(Some(weights.checkpoint)));
        let targets = match trainable {
            Trainable::LowRank(low_rank) => low_rank.targets(understood, &parts)?,
            Trainable::Prefix(_) | Trainable::Full => Vec::new(),
        };
        let names = |(number, part): (usize, &Part)| match &part.kind {
            PartKind::Norm(norm, _) if norm.kind == NormKind::Layer => {
                vec![(number, "weight"), (number, "bias")]
            }
            _ => vec![(number, "weight")],
        };
        let upcoming = parts.iter().enumerate().flat_map(names).collect();
        let naming = Trainable::naming(understood);
        Ok(Recording {
            program: Program::new(parts, naming),
            device,
            tensors: Vec::new(),
            rope: RopeId::new(0),
            trainable: trainable.clone(),
            targets,
            upcoming,
            buffers: Buffers::default(),
            steps: Steps::new([(), ()]),
            failed: None,
        })
    }

    /// A tensor, on the device if there is one.
    pub(crate) fn tensor(
        &mut self,
        name: String,
        rows: usize,
        width: usize,
        decay: bool,
    ) -> Result<TensorNumber, DeviceError> {
        if let Some(device) = &mut self.device {
            self.tensors.push(device.tensor(rows, width)?);
        }
        Ok(self.program.tensor(name, rows, width, decay))
    }

    /// The base's own name of a part that is loaded.
    fn name(&self, part: usize, vector: &str) -> String {
        let Part { layer, role, .. } = self.program.parts[part];
        let name = self.program.naming.name(layer, role);
        format!("{}.{vector}", name.unwrap_or_else(|| format!("{role:?}")))
    }

    fn next(&mut self) -> (usize, &'static str) {
        self.upcoming.pop_front().expect("weights are loaded in the order of the parts")
    }

    fn load_matrix(
        &mut self,
        views: &[MatrixView<'_>],
        bias: Option<&[f32]>,
        used_for: MatrixUse,
        taken: Taken<'_>,
    ) -> Result<MatrixId, DeviceError> {
        let (part, _) = self.next();
        let rows = views.iter().map(|view| view.rows).sum();
        let cols = views.first().map_or(0, |view| view.cols);
        // Epilogues are operations of their own here, so gate and up stay in their order.
        let used_for = if used_for == MatrixUse::Gated { MatrixUse::Linear } else { used_for };
        let number = self.program.matrices.len();
        let kind = match (&self.trainable, &mut self.device) {
            (Trainable::Full, _) => self.load_trained(part, views, bias, taken)?,
            (_, Some(device)) => MatrixKind::Frozen(device.load_matrix(views, bias, used_for, taken)?),
            (_, None) => MatrixKind::Frozen(MatrixId::new(number)),
        };
        let pairs = match self.trainable.clone() {
            Trainable::LowRank(low_rank) => self.pairs(&low_rank, part, cols)?,
            Trainable::Prefix(_) | Trainable::Full => Vec::new(),
        };
        self.program.matrices.push(Matrix { kind, pairs, rows, cols });
        Ok(MatrixId::new(number))
    }

    /// A matrix all of which is trained.
    fn load_trained(
        &mut self,
        part: usize,
        views: &[MatrixView<'_>],
        bias: Option<&[f32]>,
        taken: Taken<'_>,
    ) -> Result<MatrixKind, DeviceError> {
        let (rows, cols) = (views.iter().map(|view| view.rows).sum(), views[0].cols);
        let weight = self.tensor(self.name(part, "weight"), rows, cols, true)?;
        let bias_tensor = match bias {
            Some(bias) => Some(self.tensor(self.name(part, "bias"), 1, bias.len(), false)?),
            None => None,
        };
        if let Some(device) = &mut self.device {
            let mut rest = device.values_mut(self.tensors[weight]);
            for view in views {
                let (mine, others) = rest.split_at_mut(view.rows * cols);
                decode_matrix_rows(view, 0..view.rows, mine)
                    .map_err(|e| DeviceError::Weight(e.to_string()))?;
                taken(view);
                rest = others;
            }
            if let (Some(tensor), Some(bias)) = (bias_tensor, bias) {
                device.values_mut(self.tensors[tensor]).copy_from_slice(bias);
            }
        }
        Ok(MatrixKind::Trained { weight, bias: bias_tensor })
    }

    /// The pairs beside a part, of zeros.
    fn pairs(&mut self, low_rank: &LowRankSpec, part: usize, cols: usize) -> Result<Vec<Pair>, DeviceError> {
        let targets: Vec<Target> =
            self.targets.iter().filter(|target| target.part == part).cloned().collect();
        let mut pairs = Vec::new();
        for Target { rows, module, .. } in targets {
            let name = |piece: &str| format!("base_model.model.{module}.lora_{piece}");
            let a = self.tensor(name("A.weight"), low_rank.rank, cols, true)?;
            let b = self.tensor(name("B.weight"), rows.len(), low_rank.rank, true)?;
            let magnitude = match low_rank.magnitudes {
                true => Some(self.tensor(name("magnitude_vector"), 1, rows.len(), true)?),
                false => None,
            };
            let (scale, dropout) = (low_rank.scale(), low_rank.dropout);
            pairs.push(Pair { rows, a, b, scale, dropout, magnitude });
        }
        Ok(pairs)
    }

    fn load_vector(&mut self, values: &[f32]) -> Result<VectorId, DeviceError> {
        let (part, vector) = self.next();
        let tensor = match self.trainable {
            Trainable::Full => Some(self.tensor(self.name(part, vector), 1, values.len(), false)?),
            _ => None,
        };
        let number = self.program.vectors.len();
        let id = match &mut self.device {
            Some(device) => {
                if let Some(tensor) = tensor {
                    device.values_mut(self.tensors[tensor]).copy_from_slice(values);
                }
                device.load_vector(values)
            }
            None => VectorId::new(number),
        };
        self.program.vectors.push(Vector { id, tensor });
        Ok(VectorId::new(number))
    }

    /// What a buffer of the decoder's holds now.
    fn held(&self, buffer: BufferId) -> Value {
        self.buffers[buffer].values
    }

    fn push(&mut self, operation: Operation) {
        self.program.operations.push(operation);
    }

    /// A new value of a buffer.
    fn renew(&mut self, buffer: BufferId) -> Value {
        let shape = self.program.shape(self.held(buffer));
        let value = self.program.value(shape);
        self.buffers[buffer].values = value;
        value
    }

    fn norm_of(norm: &Norm) -> NormOf {
        let Norm { kind, weight, bias, eps } = *norm;
        NormOf { kind, eps, weight: weight.index(), bias: bias.map(Handle::index) }
    }
}

/// A handle to a recording, for the decoder.
struct Recorder(Arc<Mutex<Recording>>);

impl Recorder {
    fn recording(&self) -> MutexGuard<'_, Recording> {
        self.0.lock().expect("nobody panicked while recording")
    }
}

/// What a decoder never asks of a device on which it only runs once.
fn not_recorded() -> DeviceError {
    DeviceError::Failed("what is recorded is not computed".to_owned())
}

/// An operation that has no backward.
fn not_trained(what: &str) -> DeviceError {
    DeviceError::Failed(format!("models with {what} cannot be trained yet"))
}

impl Device for Recorder {
    fn describe(&self) -> String {
        "recorder".to_owned()
    }

    fn memory(&self) -> DeviceMemory {
        DeviceMemory::default()
    }

    fn load_matrix(
        &mut self,
        parts: &[MatrixView<'_>],
        bias: Option<&[f32]>,
        used_for: MatrixUse,
        taken: Taken<'_>,
    ) -> Result<MatrixId, DeviceError> {
        self.recording().load_matrix(parts, bias, used_for, taken)
    }

    fn load_vector(&mut self, values: &[f32]) -> VectorId {
        let mut recording = self.recording();
        let loaded = recording.load_vector(values);
        loaded.unwrap_or_else(|error| {
            recording.failed.get_or_insert(error);
            VectorId::new(0)
        })
    }

    fn load_rope(&mut self, rope: &Rope) -> RopeId {
        let mut recording = self.recording();
        recording.rope = recording.device.as_mut().map_or(RopeId::new(0), |device| device.load_rope(rope));
        recording.rope
    }

    fn plan(&mut self, _plan: &Plan) -> Result<(), DeviceError> {
        Ok(())
    }

    fn buffer(&mut self, _layer: usize, role: Role, width: usize) -> Result<BufferId, DeviceError> {
        let recording = &mut *self.recording();
        let shape = Shape { logits: role.pick(false, true), width };
        let program = &mut recording.program;
        recording.buffers.shared(role, width, || Ok(program.value(shape)))
    }

    fn upload(&mut self, _batch: &Batch) -> Result<DeviceBatch, DeviceError> {
        self.recording().steps.upload(|()| Ok(()))
    }

    fn write(&mut self, _batch: DeviceBatch, _x: BufferId, _first: usize, _values: &[f32]) {}

    fn embed(&mut self, _batch: DeviceBatch, table: MatrixId, out: BufferId) {
        let mut recording = self.recording();
        let out = recording.renew(out);
        recording.push(Operation::Embed { matrix: table.index(), out });
    }

    fn norm(&mut self, _batch: DeviceBatch, x: BufferId, norm: &Norm, out: BufferId) {
        let mut recording = self.recording();
        let x = recording.held(x);
        let out = recording.renew(out);
        recording.push(Operation::Norm { x, norm: Recording::norm_of(norm), out });
    }

    fn norm_add(&mut self, _batch: DeviceBatch, x: BufferId, norm: &Norm, into: BufferId) {
        let mut recording = self.recording();
        let (x, from) = (recording.held(x), recording.held(into));
        let shape = recording.program.shape(x);
        let y = recording.program.value(shape);
        recording.push(Operation::Norm { x, norm: Recording::norm_of(norm), out: y });
        let out = recording.renew(into);
        recording.push(Operation::Add { from, scale: 1.0, y, out });
    }

    fn linear(&mut self, _batch: DeviceBatch, x: BufferId, w: MatrixId, epilogue: Epilogue, out: BufferId) {
        let mut recording = self.recording();
        let x = recording.held(x);
        let y = recording.program.product(x, w.index());
        let from = match epilogue {
            Epilogue::None => {
                recording.buffers[out].values = y;
                return;
            }
            Epilogue::Residual { from, .. } => recording.held(from),
            Epilogue::SwiGlu | Epilogue::Gelu => y,
            Epilogue::GeluErf => {
                recording.failed.get_or_insert(not_trained("GELU with the error function"));
                y
            }
        };
        let out = recording.renew(out);
        recording.push(match epilogue {
            Epilogue::Residual { scale, .. } => Operation::Add { from, scale, y, out },
            Epilogue::SwiGlu => Operation::SwiGlu { y, out },
            Epilogue::Gelu | Epilogue::GeluErf | Epilogue::None => Operation::Gelu { y, out },
        });
    }

    fn norm_heads(&mut self, _batch: DeviceBatch, _qkv: BufferId, _heads: Heads, _q: &Norm, _k: &Norm) {
        self.recording().failed.get_or_insert(not_trained("norms of queries and keys"));
    }

    fn rope(&mut self, _batch: DeviceBatch, qkv: BufferId, heads: Heads, _rope: RopeId) {
        let mut recording = self.recording();
        let qkv = recording.held(qkv);
        recording.push(Operation::Rope { qkv, heads });
    }

    /// Part of attention here.
    fn kv_write(&mut self, _batch: DeviceBatch, _layer: usize, _qkv: BufferId, _heads: Heads) {}

    fn attention(&mut self, _batch: DeviceBatch, layer: usize, qkv: BufferId, heads: Heads, out: BufferId) {
        let mut recording = self.recording();
        let qkv = recording.held(qkv);
        let out = recording.renew(out);
        recording.push(Operation::Attention { layer, heads, qkv, out });
    }

    fn gather(&mut self, _batch: DeviceBatch, x: BufferId, out: BufferId) {
        let mut recording = self.recording();
        let x = recording.held(x);
        let out = recording.renew(out);
        recording.push(Operation::Gather { x, out });
    }

    /// A layer ends where its result is looked at.
    fn check_finite(&mut self, _batch: DeviceBatch, x: BufferId, place: Place) {
        let mut recording = self.recording();
        let x = recording.held(x);
        recording.push(Operation::Check { x, place });
        match place {
            Place::Embedding | Place::FeedForward(_) | Place::Logits => {
                recording.program.end_segment(x, place)
            }
            Place::Attention(_) => {}
        }
    }

    fn read(
        &mut self,
        _batch: DeviceBatch,
        _x: BufferId,
        _rows: Range<usize>,
        _out: &mut Vec<f32>,
    ) -> Result<(), DeviceError> {
        Err(not_recorded())
    }

    fn read_largest(
        &mut self,
        _batch: DeviceBatch,
        _x: BufferId,
        _rows: usize,
        _out: &mut Vec<u32>,
    ) -> Result<(), DeviceError> {
        Err(not_recorded())
    }
}
