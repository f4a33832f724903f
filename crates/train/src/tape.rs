//! A model with what is trained of it on a device: forward, backward, and nothing else.

use glimmer_models::ModelWeights;
use glimmer_tensor::{BufferId, DeviceMemory, TrainingDevice};

use crate::{Example, TrainError, Trainable};

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
}

/// A model that learns.
pub struct Tape {
    device: Box<dyn TrainingDevice + Send>,
    parameters: Vec<Parameter>,
}

impl Tape {
    /// Loads a model onto a device that holds nothing yet, with everything that the steps need. `seed` is for what is
    /// random about the tensors' first values.
    ///
    /// # Errors
    /// Those of loading; when a target is not there; when memory runs out.
    pub fn open(
        _weights: ModelWeights<'_>,
        _device: Box<dyn TrainingDevice + Send>,
        _trainable: &Trainable,
        _room: Room,
        _seed: u64,
        _progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Tape, TrainError> {
        Err(TrainError::Setting("the tape cannot record yet".to_owned()))
    }

    /// Computes the losses of some examples, each by itself, and adds the gradients of their sum times `scale` to those of
    /// the parameters. `seed` decides what is dropped, if anything is.
    ///
    /// # Errors
    /// When the examples do not fit, or a value or gradient is not finite: the message names the layer.
    pub fn forward_backward(
        &mut self,
        _examples: &[&Example],
        _scale: f32,
        _seed: u64,
    ) -> Result<Losses, TrainError> {
        Err(TrainError::Setting("the tape cannot record yet".to_owned()))
    }

    /// The losses alone; nothing is dropped.
    ///
    /// # Errors
    /// Those of [`Tape::forward_backward`].
    pub fn evaluate(&mut self, _examples: &[&Example]) -> Result<Losses, TrainError> {
        Err(TrainError::Setting("the tape cannot record yet".to_owned()))
    }

    /// What is trained.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The values of a parameter, by its number.
    pub fn value(&self, parameter: usize) -> &[f32] {
        self.device.values(self.parameters[parameter].value)
    }

    /// Its gradient: what was added since [`Tape::zero_gradients`].
    pub fn gradient(&self, parameter: usize) -> &[f32] {
        self.device.values(self.parameters[parameter].gradient)
    }

    /// Its values, to be changed by its gradient.
    pub fn value_and_gradient(&mut self, parameter: usize) -> (&mut [f32], &[f32]) {
        let Parameter { value, gradient, .. } = self.parameters[parameter];
        self.device.values_beside(value, gradient)
    }

    /// Before what is summed up into one step.
    pub fn zero_gradients(&mut self) {
        for parameter in &self.parameters {
            self.device.values_mut(parameter.gradient).fill(0.0);
        }
    }

    /// Bytes held.
    pub fn memory(&self) -> DeviceMemory {
        self.device.memory()
    }
}
