//! A model with what is trained of it on a device: forward, backward, and nothing else.
//!
//! Of the values between segments only the residual stream is kept. Backward computes a segment again, unless it is one of the
//! last of which more is kept, then goes through it in reverse; all buffers are planned before the first step, and segments
//! share them.

use glimmer_models::{DecoderSpec, ModelWeights, PositionLayout, needs};
use glimmer_tensor::{
    Batch, BatchError, BufferId, Capacity, DeviceError, DeviceMemory, KvType, MatrixUse, PAGE_SLOTS, PageId,
    Place, Plan, TrainingDevice,
};

use crate::backward::{SegmentBackward, Step, derive};
use crate::liveness::Buffers;
use crate::machine::{Machine, Moment, caches};
use crate::magnitudes::Scales;
use crate::prefix::{self, PrefixOnDevice, PrefixTensors};
use crate::random::Random;
use crate::recorder::{Recording, record};
use crate::{Example, TrainError, Trainable, sum_of_squares};

/// A tensor that is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Its name in the format that it is kept in: PEFT's, ChatGLM's, or the base's own.
    pub name: String,
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub width: usize,
    /// Its values on the device `[rows, width]`.
    pub value: BufferId,
    /// Their gradient, the same shape.
    pub gradient: BufferId,
    /// Whether it may decay: biases and norms do not by convention.
    pub decay: bool,
}

/// The losses of some tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Losses {
    /// Their sum, in nats.
    pub sum: f64,
    /// How many tokens have one.
    pub tokens: usize,
}

/// What one call of [`Tape::forward_backward`] has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Tokens of all examples together.
    pub rows: usize,
    /// Examples.
    pub examples: usize,
    /// Rows of logits at a time: more are computed one piece after the other.
    pub logits_rows: usize,
    /// How many layers, the last ones, are not computed again by backward, because all that it reads is kept: faster, and
    /// more memory. No bit depends on it.
    pub kept_layers: usize,
}

impl Room {
    fn capacity(&self, prefix_slots: usize) -> Capacity {
        let pages = self.rows.div_ceil(PAGE_SLOTS) + self.examples * (1 + prefix_slots.div_ceil(PAGE_SLOTS));
        Capacity { rows: self.rows, logits_rows: self.logits_rows, pages }
    }
}

/// Bytes that a training takes, but for its optimizer's moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrainingMemory {
    /// The frozen weights, as the device lays them out.
    pub base: usize,
    /// The tensors that are trained.
    pub tensors: usize,
    /// Their gradients.
    pub gradients: usize,
    /// Residual streams and what segments share, keys and values, and the device's scratch.
    pub activations: usize,
}

impl TrainingMemory {
    /// All of it.
    pub fn total(&self) -> usize {
        [self.tensors, self.gradients, self.activations].iter().fold(self.base, |a, b| a.saturating_add(*b))
    }
}

/// A model that learns.
pub struct Tape {
    pub(crate) machine: Machine,
    backwards: Vec<SegmentBackward>,
    parameters: Vec<Parameter>,
    spec: DecoderSpec,
    trainable: Trainable,
    room: Room,
    /// Whether a tensor may have changed since the device was told.
    stale: bool,
}

/// A program with its backward passes and buffers, on a device or on none.
struct Layout {
    recording: Recording,
    prefix: Option<PrefixTensors>,
    backwards: Vec<SegmentBackward>,
    buffers: Buffers,
}

impl Layout {
    fn new(
        weights: ModelWeights<'_>,
        device: Option<Box<dyn TrainingDevice + Send>>,
        trainable: &Trainable,
        kept_layers: usize,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, TrainError> {
        trainable.check()?;
        let (slots, context) = (trainable.prefix_slots(), weights.understood.spec.context);
        if slots >= context {
            let what = format!("a prefix of {slots} slots leaves no room in a context of {context}");
            return Err(TrainError::Setting(what));
        }
        let mut recording = record(weights, device, trainable, progress)?;
        let prefix = match trainable {
            Trainable::Prefix(spec) => {
                Some(prefix::tensors(&mut recording, spec, prefix::width(&weights.understood.spec))?)
            }
            Trainable::LowRank(_) | Trainable::Full => None,
        };
        let backwards = derive(&mut recording.program, prefix.is_some(), kept_layers);
        let buffers = Buffers::plan(&recording.program, &backwards);
        Ok(Layout { recording, prefix, backwards, buffers })
    }
}

fn plan_of(spec: &DecoderSpec, capacity: Capacity) -> Plan {
    let layers = caches(spec);
    Plan { layers, ..spec.plan(0..spec.layers.len(), capacity, KvType::F32) }
}

/// The bytes that [`Tape::open`] will take of a device like this, without reading a weight.
///
/// # Errors
/// When a tensor is missing or has another shape or type than the configuration says; when a target is not there.
pub fn training_memory(
    weights: ModelWeights<'_>,
    device: &dyn TrainingDevice,
    trainable: &Trainable,
    room: Room,
) -> Result<TrainingMemory, TrainError> {
    let spec = &weights.understood.spec;
    let as_stored = ModelWeights { quantize: None, ..weights };
    let layout = Layout::new(as_stored, None, trainable, room.kept_layers, &mut |_, _| {})?;
    let capacity = room.capacity(trainable.prefix_slots());
    let mut needs = needs(weights, 0..spec.layers.len(), capacity, KvType::F32)?;
    needs.plan = plan_of(spec, capacity);
    needs.buffers.clear();
    needs.matrices.iter_mut().filter(|m| m.used_for == MatrixUse::Gated).for_each(|m| {
        m.used_for = MatrixUse::Linear;
    });
    if *trainable == Trainable::Full {
        needs.matrices.clear();
    }
    let memory = device.needed(&needs)?;
    let program = &layout.recording.program;
    let tensors = program.tensors.iter().map(|tensor| 4 * tensor.rows * tensor.width).sum();
    let rows = |logits: bool| if logits { capacity.logits_rows } else { capacity.rows };
    let mut activations: usize =
        layout.buffers.shapes.iter().map(|shape| 4 * rows(shape.logits) * shape.width).sum();
    if let (Some(tensors), Trainable::Prefix(prefix)) = (layout.prefix, trainable) {
        let rooms = PrefixOnDevice::rooms(tensors, prefix, spec);
        activations += rooms.iter().map(|(rows, width)| 8 * rows * width).sum::<usize>();
    }
    Ok(TrainingMemory {
        base: memory.weights,
        tensors,
        gradients: tensors,
        activations: activations + memory.kv + memory.buffers + device.training_needed(&needs.plan),
    })
}

impl Tape {
    /// Loads a model onto a device that holds nothing yet, with everything that the steps need. `seed` is for what is
    /// random about the tensors' first values.
    ///
    /// # Errors
    /// Those of loading; when a target is not there; when memory runs out.
    pub fn open(
        weights: ModelWeights<'_>,
        device: Box<dyn TrainingDevice + Send>,
        trainable: &Trainable,
        room: Room,
        seed: u64,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Tape, TrainError> {
        let spec = weights.understood.spec.clone();
        let Layout { recording, prefix, backwards, buffers } =
            Layout::new(weights, Some(device), trainable, room.kept_layers, progress)?;
        let Recording { program, device, tensors, rope, .. } = recording;
        let mut device = device.expect("a device was given");
        let mut gradients = Vec::new();
        for tensor in &program.tensors {
            gradients.push(device.tensor(tensor.rows, tensor.width)?);
        }
        device.plan(&plan_of(&spec, room.capacity(trainable.prefix_slots())))?;
        let mut physical = Vec::new();
        for shape in &buffers.shapes {
            physical.push(device.own_buffer(shape.role(), shape.width)?);
        }
        let mut places = vec![None; program.values.len()];
        buffers.of.iter().for_each(|(value, &buffer)| places[value.0] = Some(physical[buffer]));
        let prefix = match (prefix, trainable) {
            (Some(tensors), Trainable::Prefix(prefix)) => {
                Some(PrefixOnDevice::new(device.as_mut(), tensors, prefix, &spec)?)
            }
            _ => None,
        };
        let parameters = program.tensors.iter().zip(tensors.iter().zip(&gradients));
        let parameters = parameters.map(|(tensor, (&value, &gradient))| Parameter {
            name: tensor.name.clone(),
            rows: tensor.rows,
            width: tensor.width,
            value,
            gradient,
            decay: tensor.decay,
        });
        let parameters = parameters.collect();
        let scales = program.matrices.iter().map(|matrix| Scales::of(matrix, device.as_ref())).collect();
        let caches = caches(&spec);
        let machine = Machine { device, program, places, tensors, gradients, scales, prefix, caches, rope };
        let trainable = trainable.clone();
        let mut tape = Tape { machine, backwards, parameters, spec, trainable, room, stale: true };
        tape.begin(seed);
        Ok(tape)
    }

    /// Gives tensors that are not the model's own what PEFT and PyTorch begin with.
    fn begin(&mut self, seed: u64) {
        let mut random = Random::new(seed);
        let mut fill = |tape: &mut Tape, tensor: usize, next: &mut dyn FnMut(&mut Random) -> f32| {
            let values = tape.machine.device.values_mut(tape.machine.tensors[tensor]);
            values.iter_mut().for_each(|value| *value = next(&mut random));
        };
        match self.trainable.clone() {
            Trainable::Full => {}
            Trainable::LowRank(_) => {
                let pairs: Vec<(usize, usize)> = self
                    .machine
                    .program
                    .matrices
                    .iter()
                    .flat_map(|matrix| matrix.pairs.iter().map(|pair| (pair.a, matrix.cols)))
                    .collect();
                for (a, cols) in pairs {
                    let bound = 1.0 / (cols as f64).sqrt();
                    fill(self, a, &mut |random| random.even(bound));
                }
            }
            Trainable::Prefix(_) => {
                let Some(prefix) = &self.machine.prefix else { return };
                let PrefixTensors { embedding, projection } = prefix.tensors();
                fill(self, embedding, &mut Random::normal);
                if let Some(projection) = projection {
                    for [weight, bias] in
                        [[projection.inner, projection.inner_bias], [projection.outer, projection.outer_bias]]
                    {
                        let bound = 1.0 / (self.parameters[weight].width as f64).sqrt();
                        fill(self, weight, &mut |random| random.even(bound));
                        fill(self, bias, &mut |random| random.even(bound));
                    }
                }
            }
        }
        let Machine { device, scales, tensors, .. } = &mut self.machine;
        scales.iter_mut().flatten().for_each(|scales| scales.begin(device.as_mut(), tensors));
    }

    /// Gives what is trained of the model itself random values to begin with, as transformers' GLM classes do: matrices
    /// normal ones with a deviation of 0.02 (`initializer_range`), biases zeros, scales of norms ones.
    pub fn forget(&mut self, seed: u64) {
        const DEVIATION: f32 = 0.02;
        let mut random = Random::new(seed);
        for number in 0..self.parameters.len() {
            let Parameter { decay: is_matrix, ref name, .. } = self.parameters[number];
            let constant = if name.ends_with(".bias") { 0.0 } else { 1.0 };
            for value in self.value_mut(number) {
                *value = if is_matrix { DEVIATION * random.normal() } else { constant };
            }
        }
    }

    /// Computes the losses of some examples, each by itself, and adds the gradients of their sum times `scale` to those of
    /// the parameters. `seed` decides what is dropped, if anything is.
    ///
    /// # Errors
    /// When the examples do not fit, or a value or gradient is not finite: the message names the layer.
    pub fn forward_backward(
        &mut self,
        examples: &[&Example],
        scale: f32,
        seed: u64,
    ) -> Result<Losses, TrainError> {
        self.turn(|tape| tape.compute(examples, Some((scale, seed))))
    }

    /// The losses alone; nothing is dropped.
    ///
    /// # Errors
    /// Those of [`Tape::forward_backward`].
    pub fn evaluate(&mut self, examples: &[&Example]) -> Result<Losses, TrainError> {
        self.turn(|tape| tape.compute(examples, None))
    }

    /// The logits of every row of a sequence `[ids, vocab]`; nothing is dropped.
    ///
    /// # Errors
    /// Those of [`Tape::forward_backward`].
    pub fn logits(&mut self, ids: &[u32]) -> Result<Vec<f32>, TrainError> {
        let labels = ids.iter().chain([&0]).map(|&id| Some(id)).collect();
        let example = Example { ids: ids.iter().copied().chain([0]).collect(), labels };
        self.turn(|tape| {
            let (batch, _) = tape.batch(&[&example])?;
            tape.trunk(&batch, None)?;
            let mut logits = Vec::new();
            let head = tape.machine.program.segments.last().cloned().expect("a program has a head");
            for rows in batch.logits_rows.chunks(tape.room.logits_rows) {
                let moment =
                    tape.machine.upload(&Batch { logits_rows: rows.to_vec(), ..batch.clone() }, None)?;
                tape.machine.segment(&moment, &head);
                tape.machine.read(&moment, head.exit, &mut logits)?;
            }
            Ok(logits)
        })
    }

    fn turn<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, TrainError>) -> Result<T, TrainError> {
        self.machine.device.begin_turn();
        let result = work(self);
        self.machine.device.end_turn();
        result
    }

    /// Forward, and with a scale and a seed backward.
    fn compute(&mut self, examples: &[&Example], learns: Option<(f32, u64)>) -> Result<Losses, TrainError> {
        let (batch, targets) = self.batch(examples)?;
        if targets.is_empty() {
            return Ok(Losses::default());
        }
        let seed = learns.map(|(_, seed)| seed);
        self.trunk(&batch, seed)?;
        let losses = self.head(&batch, &targets, learns)?;
        if let Some(seed) = seed {
            self.backward(&batch, seed)?;
        }
        let sum = losses.iter().map(|loss| f64::from(*loss)).sum();
        Ok(Losses { sum, tokens: losses.len() })
    }

    /// The segments before the head.
    fn trunk(&mut self, batch: &Batch, seed: Option<u64>) -> Result<(), TrainError> {
        if std::mem::take(&mut self.stale) {
            self.machine.refresh();
        }
        self.machine.begin(seed);
        let moment = self.machine.upload(&Batch { logits_rows: Vec::new(), ..batch.clone() }, seed)?;
        let segments = self.machine.program.segments.clone();
        let Some((_, trunk)) = segments.split_last() else { return Ok(()) };
        trunk.iter().for_each(|segment| self.machine.segment(&moment, segment));
        trunk.last().map_or(Ok(()), |last| self.machine.report(&moment, last.exit))
    }

    /// The head, as many rows at a time as there is room for: losses, and the gradient of its entry.
    fn head(
        &mut self,
        batch: &Batch,
        targets: &[u32],
        learns: Option<(f32, u64)>,
    ) -> Result<Vec<f32>, TrainError> {
        let head = self.machine.program.segments.last().cloned().expect("a program has a head");
        let backward = self.backwards.last().cloned().unwrap_or_default();
        let mut losses = Vec::new();
        let pieces =
            batch.logits_rows.chunks(self.room.logits_rows).zip(targets.chunks(self.room.logits_rows));
        for (piece, (rows, targets)) in pieces.enumerate() {
            let seed = learns.map(|(_, seed)| seed);
            let moment = self.machine.upload(&Batch { logits_rows: rows.to_vec(), ..batch.clone() }, seed)?;
            self.machine.segment(&moment, &head);
            self.machine.report(&moment, head.exit)?;
            self.machine.cross_entropy(
                head.exit,
                targets,
                learns.map_or(0.0, |(scale, _)| scale),
                &mut losses,
            );
            if learns.is_none() {
                continue;
            }
            // The pieces' gradients of the entry are added up.
            let is_begun =
                |step: &Step| piece > 0 && backward.d_entry.is_some_and(|d| *step == Step::Zero(d));
            let steps = backward.steps.iter().filter(|step| !is_begun(step));
            steps.for_each(|step| self.machine.step(&moment, *step));
            self.check(&moment, &backward, head.place)?;
        }
        Ok(losses)
    }

    /// The segments before the head, last first.
    fn backward(&mut self, batch: &Batch, seed: u64) -> Result<(), TrainError> {
        let moment = self.machine.upload(&Batch { logits_rows: Vec::new(), ..batch.clone() }, Some(seed))?;
        if let Some(prefix) = &self.machine.prefix {
            prefix.begin_backward(self.machine.device.as_mut());
        }
        for number in (0..self.backwards.len().saturating_sub(1)).rev() {
            let backward = self.backwards[number].clone();
            if backward.d_exit.is_none() {
                break;
            }
            backward.again.iter().for_each(|operation| self.machine.forward(&moment, *operation));
            backward.steps.iter().for_each(|step| self.machine.step(&moment, *step));
            self.check(&moment, &backward, self.machine.program.segments[number].place)?;
        }
        let Machine { device, prefix, tensors, gradients, .. } = &mut self.machine;
        if let Some(prefix) = prefix {
            prefix.learn(device.as_mut(), tensors, gradients, seed);
        }
        Ok(())
    }

    /// Whether the gradient that goes on to the segment before is finite.
    fn check(&self, moment: &Moment, backward: &SegmentBackward, place: Place) -> Result<(), TrainError> {
        match backward.d_entry {
            Some(d_entry) if !self.machine.is_finite(moment, d_entry) => {
                let place = match place {
                    Place::Embedding | Place::Logits => "behind the last layer".to_owned(),
                    Place::Attention(layer) | Place::FeedForward(layer) => format!("before layer {layer}"),
                };
                Err(TrainError::Gradient { place })
            }
            _ => Ok(()),
        }
    }

    /// The rows that losses depend on, and the ids that should follow them.
    fn batch(&self, examples: &[&Example]) -> Result<(Batch, Vec<u32>), TrainError> {
        let (mut batch, mut targets) = (Batch::default(), Vec::new());
        let mut next: PageId = 0;
        let slots_before = self.trainable.prefix_slots();
        let shift = match &self.trainable {
            Trainable::Prefix(prefix) if prefix.shifts_positions => slots_before,
            _ => 0,
        };
        for example in examples {
            let Some((last, _)) = example.targets().last() else { continue };
            let layout = PositionLayout::of_prompt(self.spec.positions, &example.ids)?;
            // What follows the last loss changes none.
            let rows = (last + 1).max(layout.prefix_len()).min(example.ids.len());
            let mut rope_pos = Vec::new();
            layout.extend(0..rows, &mut rope_pos);
            rope_pos.iter_mut().for_each(|position| *position += shift as f32);
            let slots = slots_before..slots_before + rows;
            let pages = slots.end.div_ceil(PAGE_SLOTS) as PageId;
            let visible = slots_before + layout.prefix_len();
            let wants = example.targets().map(|(row, _)| row);
            batch.push(
                &example.ids[..rows],
                slots,
                &rope_pos,
                visible,
                (next..next + pages).collect(),
                wants,
            );
            next += pages;
            targets.extend(example.targets().map(|(_, id)| id));
        }
        self.check_room(&batch, &targets)?;
        Ok((batch, targets))
    }

    fn check_room(&self, batch: &Batch, targets: &[u32]) -> Result<(), TrainError> {
        let Room { rows, examples, .. } = self.room;
        for (what, found, room) in
            [("tokens", batch.rows(), rows), ("examples", batch.sequences.len(), examples)]
        {
            if found > room {
                return Err(TrainError::Room { what, found, room });
            }
        }
        let vocab = self.spec.vocab;
        match targets.iter().find(|&&id| id as usize >= vocab) {
            Some(&id) => Err(DeviceError::from(BatchError::Token { id, vocab }).into()),
            None => Ok(()),
        }
    }

    /// The model's shape.
    pub(crate) fn spec(&self) -> &DecoderSpec {
        &self.spec
    }

    /// What was asked to be trained.
    pub fn trainable(&self) -> &Trainable {
        &self.trainable
    }

    /// What is trained.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The values of a parameter, by its number.
    pub fn value(&self, parameter: usize) -> &[f32] {
        self.machine.device.values(self.parameters[parameter].value)
    }

    /// The same, to be changed.
    pub fn value_mut(&mut self, parameter: usize) -> &mut [f32] {
        self.stale = true;
        self.machine.device.values_mut(self.parameters[parameter].value)
    }

    /// Its gradient: what was added since [`Tape::zero_gradients`].
    pub fn gradient(&self, parameter: usize) -> &[f32] {
        self.machine.device.values(self.parameters[parameter].gradient)
    }

    /// Its values, to be changed by its gradient.
    pub fn value_and_gradient(&mut self, parameter: usize) -> (&mut [f32], &[f32]) {
        self.stale = true;
        let Parameter { value, gradient, .. } = self.parameters[parameter];
        self.machine.device.values_beside(value, gradient)
    }

    /// Before what is summed up into one step.
    pub fn zero_gradients(&mut self) {
        for parameter in &self.parameters {
            self.machine.device.values_mut(parameter.gradient).fill(0.0);
        }
    }

    /// The length of all gradients together, which clipping holds to a bound.
    ///
    /// # Errors
    /// When one is not finite: the message names the tensor.
    pub fn gradient_norm(&self) -> Result<f64, TrainError> {
        let mut squares = 0.0;
        for (number, parameter) in self.parameters.iter().enumerate() {
            let sum = sum_of_squares(self.gradient(number));
            if !sum.is_finite() {
                return Err(TrainError::Gradient { place: format!("of {}", parameter.name) });
            }
            squares += sum;
        }
        Ok(squares.sqrt())
    }

    /// Bytes held.
    pub fn memory(&self) -> DeviceMemory {
        self.machine.device.memory()
    }
}
