//! The loop: some batches, their gradients, a step; now and then an evaluation, a save, a line of figures.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Map, Value};

use crate::data::{BatchLimits, Batches, Dataset, Position};
use crate::{
    Example, Figures, Losses, Metrics, Optimizer, SavedState, Schedule, Smoothed, StateError, StateHead,
    StateTensor, Tape, TrainError, clip_scale, remove_old_states, remove_unfinished_states, save_state,
    state_path,
};

/// What the loop does when.
#[derive(Clone, Debug, PartialEq)]
pub struct Course {
    /// The learning rate, and how many steps there are.
    pub schedule: Schedule,
    /// How much is computed at a time.
    pub limits: BatchLimits,
    /// Batches whose gradients make one step; fewer at the end of an epoch.
    pub accumulate: usize,
    /// The largest norm of a step's gradient; larger ones are scaled down to it.
    pub clip: Option<f64>,
    /// Of the order of the data and of dropout.
    pub seed: u64,
    /// Whether the data are shuffled.
    pub shuffles: bool,
    /// Steps between lines of figures.
    pub log_every: u64,
    /// Steps between states that are saved; the last step's always is.
    pub save_every: Option<u64>,
    /// States that are kept.
    pub keep: usize,
    /// Steps between evaluations; with data for it, there is one at the end, too.
    pub evaluate_every: Option<u64>,
    /// Evaluations in a row without a better loss after which the training ends.
    pub patience: Option<u64>,
}

/// A step that was done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Its number, from 1.
    pub step: u64,
    /// The mean loss of its tokens.
    pub loss: f64,
    /// The mean of losses so far, the last ones counting most.
    pub smoothed: f64,
    /// The learning rate.
    pub rate: f64,
    /// The norm of the gradient before it was clipped.
    pub norm: f64,
    /// The epochs that are done.
    pub epoch: u64,
    /// Tokens that were computed, and those of them that were learned from.
    pub tokens: usize,
    /// See `tokens`.
    pub learned: usize,
    /// How long it took.
    pub seconds: f64,
}

/// Who looks on while a model is trained. Nothing is asked of it while a step is computed.
pub trait Onlooker {
    /// Whether the training is to end after this step.
    fn wants_end(&self) -> bool;
    /// A step was done.
    fn stepped(&mut self, report: &StepReport);
    /// An evaluation was made.
    fn evaluated(&mut self, step: u64, loss: f64, is_best: bool);
    /// A state was saved.
    fn saved(&mut self, path: &Path);
    /// Something went wrong that the training survives.
    fn warned(&mut self, message: &str);
}

/// Why a training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All steps were done.
    Complete,
    /// The evaluation was not better for so long as was allowed.
    Stale,
    /// The onlooker wanted it.
    Interrupted,
}

/// The best evaluation.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Best {
    /// The step after which it was made.
    pub step: u64,
    /// Its loss.
    pub loss: f64,
}

/// Where a training is: with tensors and moments all that the next step depends on. What is random comes from the seed and
/// the number of the step.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Progress {
    /// Steps that are done.
    pub step: u64,
    /// Where in the data the next one begins.
    pub position: Position,
    /// The running mean of the loss.
    pub smoothed: Smoothed,
    /// The best evaluation so far.
    pub best: Option<Best>,
    /// Evaluations since.
    pub stale: u64,
}

/// Writes what a training is for, in a directory.
pub type Output<'a> = Box<dyn Fn(&Tape, &Path) -> Result<(), TrainError> + 'a>;

/// What a training consists of.
pub struct Trainer<'d> {
    /// The model.
    pub tape: Tape,
    /// Over all parameters of the tape.
    pub optimizer: Optimizer,
    /// What is learned from.
    pub data: &'d Dataset<'d>,
    /// What is evaluated with.
    pub evaluation: Option<&'d Dataset<'d>>,
    /// What happens when.
    pub course: Course,
    /// What must not change while a training goes on from a state.
    pub settings: Map<String, Value>,
    /// Where states, figures and what comes out are written.
    pub directory: PathBuf,
    /// What is written of each state, and at the end.
    pub output: Output<'d>,
    /// Where it is.
    pub progress: Progress,
}

impl Trainer<'_> {
    /// Goes on from a state.
    ///
    /// # Errors
    /// When it is of another training, or damaged.
    pub fn resume(&mut self, state: &SavedState) -> Result<(), TrainError> {
        state.check_settings(&self.settings)?;
        let names: Vec<_> = self.tape.parameters().iter().map(|parameter| parameter.name.as_str()).collect();
        state.check_names(&names)?;
        self.restore_tensors(state)?;
        let progress = serde_json::from_value(state.head().progress.clone());
        self.progress = progress.map_err(|error| state.damaged(&format!("its progress: {error}")))?;
        Ok(())
    }

    fn restore_tensors(&mut self, state: &SavedState) -> Result<(), StateError> {
        for number in 0..self.tape.parameters().len() {
            let parameter = &self.tape.parameters()[number];
            let (name, shape) = (parameter.name.clone(), [parameter.rows, parameter.width]);
            let (values, _) = self.tape.value_and_gradient(number);
            state.restore(number, &name, shape, values, &mut self.optimizer)?;
        }
        Ok(())
    }

    /// Trains to the end, and writes what comes out: of the step whose evaluation was best, where there were any.
    ///
    /// # Errors
    /// When a value is not finite, with the layer; when data cannot be read; when the last state or what comes out cannot
    /// be written. The states before stay.
    pub fn run(&mut self, onlooker: &mut dyn Onlooker) -> Result<Ending, TrainError> {
        remove_unfinished_states(&self.directory);
        let mut metrics = Metrics::open(&self.directory, self.progress.step)?;
        let order = self.course.shuffles.then_some(self.course.seed);
        let mut batches = Batches::new(self.data, order, self.course.limits, self.progress.position);
        let mut saved = (self.progress.step > 0).then_some(self.progress.step);
        let ending = loop {
            if self.progress.step >= self.course.schedule.steps {
                break Ending::Complete;
            }
            let before = self.progress.step;
            let report = self.step(&mut batches).map_err(|error| error.after(before))?;
            let step = report.step;
            onlooker.stepped(&report);
            if is_due(step, Some(self.course.log_every)) || step == self.course.schedule.steps {
                metrics.add(&figures(&report))?;
            }
            let is_last = step == self.course.schedule.steps;
            let is_best = self.evaluate_if_due(is_last, &mut metrics, onlooker)?;
            if is_best || (is_due(step, self.course.save_every) && !is_last) {
                match self.save() {
                    Ok(path) => {
                        saved = Some(step);
                        onlooker.saved(&path);
                    }
                    Err(error) => onlooker.warned(&format!("the state of step {step} is not saved: {error}")),
                }
            }
            if self.course.patience.is_some_and(|patience| self.progress.stale >= patience.max(1)) {
                break Ending::Stale;
            }
            if onlooker.wants_end() && !is_last {
                break Ending::Interrupted;
            }
        };
        if saved != Some(self.progress.step) {
            let path = self.save()?;
            onlooker.saved(&path);
        }
        if ending != Ending::Interrupted {
            self.write_best()?;
        }
        Ok(ending)
    }

    /// One step: batches, gradients, and what they change.
    fn step(&mut self, batches: &mut Batches<'_>) -> Result<StepReport, TrainError> {
        let began = Instant::now();
        let step = self.progress.step;
        let mut micro = Vec::with_capacity(self.course.accumulate);
        let epoch = batches.position().epoch;
        while micro.len() < self.course.accumulate.max(1) && batches.position().epoch == epoch {
            micro.push(batches.next_batch()?);
        }
        let all = || micro.iter().flatten();
        let learned: usize = all().map(|example| example.targets().count()).sum();
        let tokens = all().map(|example| example.ids.len()).sum();
        let losses = self.gradients(&micro, learned)?;
        let norm = self.tape.gradient_norm()?;

        let rate = self.course.schedule.rate(step);
        self.optimizer.begin(rate, clip_scale(norm, self.course.clip));
        for number in 0..self.tape.parameters().len() {
            let (values, gradient) = self.tape.value_and_gradient(number);
            self.optimizer.update(number, values, gradient);
        }
        let loss = losses.sum / losses.tokens.max(1) as f64;
        let smoothed = self.progress.smoothed.next(loss);
        self.progress.step = step + 1;
        self.progress.position = batches.position();
        let (step, epoch, seconds) = (step + 1, self.progress.position.epoch, began.elapsed().as_secs_f64());
        Ok(StepReport { step, loss, smoothed, rate, norm, epoch, tokens, learned, seconds })
    }

    /// The gradients of the mean loss over all tokens of some batches.
    fn gradients(&mut self, batches: &[Vec<Example>], learned: usize) -> Result<Losses, TrainError> {
        self.tape.zero_gradients();
        let scale = 1.0 / learned.max(1) as f32;
        let mut losses = Losses::default();
        for (number, batch) in batches.iter().enumerate() {
            let batch: Vec<&Example> = batch.iter().collect();
            let seed = mixed(mixed(self.course.seed, self.progress.step), number as u64);
            let Losses { sum, tokens } = self.tape.forward_backward(&batch, scale, seed)?;
            losses.sum += sum;
            losses.tokens += tokens;
        }
        Ok(losses)
    }

    /// Evaluates if it is time, and returns whether that is the best so far.
    fn evaluate_if_due(
        &mut self,
        is_last: bool,
        metrics: &mut Metrics,
        onlooker: &mut dyn Onlooker,
    ) -> Result<bool, TrainError> {
        let step = self.progress.step;
        let Some(data) = self.evaluation else { return Ok(false) };
        if !is_last && !is_due(step, self.course.evaluate_every) {
            return Ok(false);
        }
        let Losses { sum, tokens } = self.evaluate(data).map_err(|error| error.after(step))?;
        let loss = sum / tokens.max(1) as f64;
        let is_best = self.progress.best.is_none_or(|best| loss < best.loss);
        if is_best {
            self.progress.best = Some(Best { step, loss });
        }
        self.progress.stale = if is_best { 0 } else { self.progress.stale + 1 };
        metrics.add(&Figures { step, is_evaluation: true, figures: vec![("loss", loss)] })?;
        onlooker.evaluated(step, loss, is_best);
        Ok(is_best)
    }

    /// The losses over data, once.
    fn evaluate(&mut self, data: &Dataset<'_>) -> Result<Losses, TrainError> {
        let mut batches = Batches::new(data, None, self.course.limits, Position::default());
        let mut losses = Losses::default();
        while batches.position().epoch == 0 {
            let batch = batches.next_batch()?;
            let batch: Vec<&Example> = batch.iter().collect();
            let Losses { sum, tokens } = self.tape.evaluate(&batch)?;
            losses.sum += sum;
            losses.tokens += tokens;
        }
        Ok(losses)
    }

    /// Saves a state, and lets old ones go once it is there.
    fn save(&self) -> Result<PathBuf, TrainError> {
        let path = state_path(&self.directory, self.progress.step);
        let progress =
            serde_json::to_value(self.progress).map_err(|error| TrainError::Setting(error.to_string()))?;
        let head = StateHead { settings: self.settings.clone(), progress };
        let parameters = self.tape.parameters().iter().enumerate();
        let tensors: Vec<_> = parameters
            .map(|(number, parameter)| StateTensor {
                name: &parameter.name,
                shape: [parameter.rows, parameter.width],
                values: self.tape.value(number),
            })
            .collect();
        save_state(&path, &head, &tensors, &self.optimizer, |directory| {
            (self.output)(&self.tape, directory)
        })?;
        remove_old_states(&self.directory, self.course.keep, self.progress.best.map(|best| best.step))?;
        Ok(path)
    }

    /// Writes what comes out: the values of the best state, or of the last.
    fn write_best(&mut self) -> Result<(), TrainError> {
        if let Some(best) = self.progress.best.filter(|best| best.step != self.progress.step) {
            self.restore_tensors(&SavedState::open(&state_path(&self.directory, best.step))?)?;
        }
        (self.output)(&self.tape, &self.directory)
    }
}

fn is_due(step: u64, every: Option<u64>) -> bool {
    every.is_some_and(|every| step.is_multiple_of(every.max(1)))
}

fn figures(report: &StepReport) -> Figures {
    let StepReport { step, loss, rate, norm, epoch, tokens, seconds, .. } = *report;
    let figures = vec![
        ("loss", loss),
        ("learning_rate", rate),
        ("grad_norm", norm),
        ("epoch", epoch as f64),
        ("tokens_per_second", tokens as f64 / seconds.max(1e-9)),
    ];
    Figures { step, is_evaluation: false, figures }
}

/// A seed of two numbers: a round of SplitMix64 (Steele et al., 2014).
fn mixed(seed: u64, number: u64) -> u64 {
    let mut z = seed ^ number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
