//! What the next step depends on, in a directory that is there whole or not at all: `state.json` (settings, progress, sums)
//! and `state.safetensors` (tensors and moments), with the adapter of that step beside them.
//!
//! What is read is untrusted: every tensor must have the shape that is expected and the sum that was noted, and nothing else
//! may be there.

use std::path::{Path, PathBuf};

use glimmer_checkpoint::safetensors::SafetensorsFile;
use glimmer_checkpoint::{
    Checkpoint, CheckpointError, NewDirectory, NewTensor, remove_directory, remove_leftovers,
};
use glimmer_config::{FileError, Quoted, file};
use glimmer_tensor::DType;
use serde_json::{Map, Value, json};

use crate::checksum::Checksum;
use crate::optimizer::{Blocks, Moments, Optimizer};

const HEAD: &str = "state.json";
const TENSORS: &str = "state.safetensors";
const FORMAT: &str = "glimmer training state";
const VERSION: u64 = 1;
/// A state's name is this and its step, as in transformers.
const PREFIX: &str = "checkpoint-";

/// Why a state cannot be written or gone on from.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file cannot be written, read, or does not hold together.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// It is no state, or another training's.
    #[error("{}: {what}", path.display())]
    Foreign {
        /// The state.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

impl From<FileError> for StateError {
    fn from(error: FileError) -> Self {
        StateError::Checkpoint(error.into())
    }
}

/// A tensor that is trained.
#[derive(Clone, Copy, Debug)]
pub struct StateTensor<'a> {
    /// Its name.
    pub name: &'a str,
    /// Rows and columns.
    pub shape: [usize; 2],
    /// Its values.
    pub values: &'a [f32],
}

/// Where the state of a step lies below the directory of a training.
#[must_use]
pub fn state_path(output: &Path, step: u64) -> PathBuf {
    output.join(format!("{PREFIX}{step}"))
}

/// The states that lie there, by step.
#[must_use]
pub fn states(output: &Path) -> Vec<(u64, PathBuf)> {
    let entries = std::fs::read_dir(output).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .filter_map(|entry| {
            let step = entry.file_name().to_str()?.strip_prefix(PREFIX)?.parse().ok()?;
            entry.path().join(HEAD).is_file().then(|| (step, entry.path()))
        })
        .collect();
    found.sort_unstable();
    found
}

/// Removes the oldest states beyond so many; `spared` stays whatever its age.
///
/// # Errors
/// When the system refuses.
pub fn remove_old_states(output: &Path, keep: usize, spared: Option<u64>) -> Result<(), StateError> {
    let mut old = states(output);
    old.truncate(old.len().saturating_sub(keep.max(1)));
    for (_, path) in old.into_iter().filter(|(step, _)| Some(*step) != spared) {
        remove_directory(&path)?;
    }
    Ok(())
}

/// Removes what a training has left that was killed while it saved.
pub fn remove_unfinished_states(output: &Path) {
    let entries = std::fs::read_dir(output).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let target = name.to_str().and_then(|name| name.strip_prefix('.')?.split('.').next());
        if let Some(target) = target.filter(|target| target.starts_with(PREFIX)) {
            remove_leftovers(&output.join(target));
        }
    }
}

/// What is noted of a state besides its tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct StateHead {
    /// What must be the same when it is gone on with.
    pub settings: Map<String, Value>,
    /// Where it is.
    pub progress: Value,
}

/// Writes a state; one that is at `path` gives way. `beside` adds files to the directory that it is given.
///
/// # Errors
/// When the system refuses: then what was there is there still, and nothing of this.
pub fn save_state<E: From<StateError>>(
    path: &Path,
    head: &StateHead,
    tensors: &[StateTensor<'_>],
    optimizer: &Optimizer,
    beside: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let directory = NewDirectory::create(path, true).map_err(StateError::from)?;
    let sums = write_tensors(&directory.path_of(TENSORS), tensors, optimizer).map_err(StateError::from)?;
    beside(&directory.path_of(""))?;
    let head = json!({
        "format": FORMAT,
        "version": VERSION,
        "settings": head.settings,
        "progress": head.progress,
        "optimizer_steps": optimizer.steps(),
        "sums": sums,
    });
    let written = directory.write(HEAD, format!("{head:#}\n").as_bytes()).and_then(|()| directory.finish());
    Ok(written.map_err(StateError::from)?)
}

/// Writes tensors with their moments, and returns the sum of each.
fn write_tensors(
    path: &Path,
    tensors: &[StateTensor<'_>],
    optimizer: &Optimizer,
) -> Result<Map<String, Value>, CheckpointError> {
    let parts: Vec<Part<'_>> =
        tensors.iter().enumerate().flat_map(|(at, tensor)| parts(tensor, optimizer.moments(at))).collect();
    let announced: Vec<_> = parts.iter().map(Part::announce).collect();
    let mut file = SafetensorsFile::create(path, &announced, &[])?;
    let mut sums = Map::new();
    for part in &parts {
        let mut sum = Checksum::default();
        part.numbers.each_piece(|bytes| {
            sum.add(bytes);
            file.write(&part.name, bytes)
        })?;
        sums.insert(part.name.clone(), sum.value().into());
    }
    file.finish()?;
    Ok(sums)
}

/// A part of a state's file.
struct Part<'a> {
    name: String,
    shape: Vec<usize>,
    numbers: Numbers<'a>,
}

enum Numbers<'a> {
    Floats(&'a [f32]),
    Codes(&'a [u8]),
}

impl Part<'_> {
    fn announce(&self) -> NewTensor {
        NewTensor { name: self.name.clone(), dtype: self.numbers.dtype(), shape: self.shape.clone() }
    }
}

impl Numbers<'_> {
    fn dtype(&self) -> DType {
        match self {
            Numbers::Floats(_) => DType::F32,
            Numbers::Codes(_) => DType::U8,
        }
    }

    /// Hands on the bytes in order.
    fn each_piece<E>(&self, mut take: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        const PIECE: usize = 1 << 16;
        match self {
            Numbers::Codes(codes) => take(codes),
            Numbers::Floats(values) => values.chunks(PIECE).try_for_each(|values| {
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                take(&bytes)
            }),
        }
    }
}

/// What a tensor and its moments are in a file.
fn parts<'a>(tensor: &StateTensor<'a>, moments: &'a Moments) -> Vec<Part<'a>> {
    let part = |what: &str, shape: &[usize], numbers| Part {
        name: format!("{what}.{}", tensor.name),
        shape: shape.to_vec(),
        numbers,
    };
    let shape = tensor.shape;
    let mut parts = vec![part("value", &shape, Numbers::Floats(tensor.values))];
    match moments {
        Moments::Exact { mean, square } => {
            parts.push(part("mean", &shape, Numbers::Floats(mean)));
            parts.push(part("square", &shape, Numbers::Floats(square)));
        }
        Moments::EightBits { mean, square } => {
            for (what, Blocks { codes, scales }) in [("mean", mean), ("square", square)] {
                parts.push(part(what, &shape, Numbers::Codes(codes)));
                parts.push(part(&format!("{what}_scales"), &[scales.len()], Numbers::Floats(scales)));
            }
        }
    }
    parts
}

/// A state that was saved.
#[derive(Debug)]
pub struct SavedState {
    path: PathBuf,
    head: StateHead,
    optimizer_steps: u64,
    sums: Map<String, Value>,
    tensors: Checkpoint,
}

impl SavedState {
    /// Opens a state and reads its head.
    ///
    /// # Errors
    /// When it is none, or damaged.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let foreign = |what: &str| StateError::Foreign { path: path.to_owned(), what: what.to_owned() };
        let Some(Value::Object(mut head)) = file::read_object(&path.join(HEAD))? else {
            return Err(foreign("no training state: state.json is missing"));
        };
        if head.get("format").and_then(Value::as_str) != Some(FORMAT) {
            return Err(foreign("no training state: state.json is of something else"));
        }
        if head.get("version").and_then(Value::as_u64) != Some(VERSION) {
            return Err(foreign("a training state of another version of this program"));
        }
        let mut take = |key: &str| head.remove(key).unwrap_or_default();
        let (settings, sums) = (take("settings"), take("sums"));
        let (progress, steps) = (take("progress"), take("optimizer_steps"));
        let (Value::Object(settings), Value::Object(sums), Some(optimizer_steps)) =
            (settings, sums, steps.as_u64())
        else {
            return Err(foreign("the training state is damaged: state.json lacks settings, sums or steps"));
        };
        let tensors = Checkpoint::open(&path.join(TENSORS))?;
        let head = StateHead { settings, progress };
        Ok(SavedState { path: path.to_owned(), head, optimizer_steps, sums, tensors })
    }

    /// What it was saved with.
    #[must_use]
    pub fn head(&self) -> &StateHead {
        &self.head
    }

    /// Refuses other settings than those that it was saved with.
    ///
    /// # Errors
    /// [`StateError::Foreign`] names the first setting that differs.
    pub fn check_settings(&self, settings: &Map<String, Value>) -> Result<(), StateError> {
        let names = settings.keys().chain(self.head.settings.keys());
        let differs = |name: &&String| settings.get(*name) != self.head.settings.get(*name);
        let Some(name) = names.into_iter().find(differs) else { return Ok(()) };
        let shown = |settings: &Map<String, Value>| {
            settings
                .get(name)
                .map_or_else(|| "nothing".to_owned(), |value| Quoted(&value.to_string()).to_string())
        };
        let what = format!(
            "this training was begun with {} = {}, now it is {}; begin anew in another directory, or go on as it was",
            Quoted(name),
            shown(&self.head.settings),
            shown(settings)
        );
        Err(self.foreign(what))
    }

    /// Reads the values of the tensor with this number and its moments.
    ///
    /// # Errors
    /// When something of it is missing, has another shape or type, or is damaged.
    pub fn restore(
        &self,
        number: usize,
        name: &str,
        shape: [usize; 2],
        values: &mut [f32],
        optimizer: &mut Optimizer,
    ) -> Result<(), StateError> {
        // Of the same kind as the moments that are there now, whose lengths are known.
        let mut moments = optimizer.moments(number).clone();
        self.floats(&format!("value.{name}"), &shape, values)?;
        match &mut moments {
            Moments::Exact { mean, square } => {
                self.floats(&format!("mean.{name}"), &shape, mean)?;
                self.floats(&format!("square.{name}"), &shape, square)?;
            }
            Moments::EightBits { mean, square } => {
                for (what, Blocks { codes, scales }) in [("mean", mean), ("square", square)] {
                    let stored = self.bytes(&format!("{what}.{name}"), DType::U8, &shape)?;
                    codes.copy_from_slice(stored);
                    self.floats(&format!("{what}_scales.{name}"), &[scales.len()], scales)?;
                }
            }
        }
        optimizer.restore(number, moments);
        optimizer.restore_steps(self.optimizer_steps);
        Ok(())
    }

    /// Refuses a state with more tensors than there are.
    ///
    /// # Errors
    /// [`StateError::Foreign`] names one that has no place.
    pub fn check_names(&self, names: &[&str]) -> Result<(), StateError> {
        let known = |stored: &str| stored.split_once('.').is_some_and(|(_, name)| names.contains(&name));
        match self.tensors.tensors().iter().find(|info| !known(&info.name)) {
            Some(info) => {
                Err(self.foreign(format!("tensor `{}` has no place in this training", Quoted(&info.name))))
            }
            None => Ok(()),
        }
    }

    fn floats(&self, name: &str, shape: &[usize], out: &mut [f32]) -> Result<(), StateError> {
        let bytes = self.bytes(name, DType::F32, shape)?;
        for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *out = f32::from_le_bytes(*bytes);
        }
        Ok(())
    }

    /// The bytes of a tensor of this type and shape, which have the sum that was noted.
    fn bytes(&self, name: &str, dtype: DType, shape: &[usize]) -> Result<&[u8], StateError> {
        let view = self.tensors.tensor(name)?;
        if view.info.dtype != dtype || view.info.shape != shape {
            let what = format!(
                "tensor `{}` is {} {:?}, this training has {dtype} {shape:?}",
                Quoted(name),
                view.info.dtype,
                view.info.shape
            );
            return Err(self.foreign(what));
        }
        let mut sum = Checksum::default();
        sum.add(view.data);
        if self.sums.get(name).and_then(Value::as_u64) != Some(u64::from(sum.value())) {
            return Err(self.foreign(format!(
                "tensor `{}` is damaged: its sum is not the one that was noted",
                Quoted(name)
            )));
        }
        Ok(view.data)
    }

    /// The error of somebody who finds no sense in what was noted.
    #[must_use]
    pub fn damaged(&self, what: &str) -> StateError {
        self.foreign(format!("the training state is damaged: {what}"))
    }

    fn foreign(&self, what: String) -> StateError {
        StateError::Foreign { path: self.path.clone(), what }
    }
}
