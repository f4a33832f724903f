//! An opened model: its tensors by name, wherever they lie, and the JSON files beside them.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use glimmer_config::Configuration;
use glimmer_tensor::DType;
use glimmer_tensor::quant::check_scales;
use serde_json::Value;

use crate::entry::Foreign;
use crate::error::{CheckpointError, Fault};
use crate::gguf::Metadata;
use crate::layout::Layout;
use crate::map::FileBytes;
use crate::packed::{self, wrong_shape, wrong_type};
use crate::{floats, strided};

/// The format of a model's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckpointFormat {
    /// One or more `.safetensors` files.
    Safetensors,
    /// One or more `.bin` files of `torch.save`.
    PyTorch,
    /// One `.gguf`, or all parts of a split one.
    Gguf,
    /// A directory without weights.
    None,
}

/// What a tensor is and where its bytes lie.
#[derive(Debug, Clone)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// Element type as stored. ChatGLM's packed weights are [`DType::I8`] here, see [`Checkpoint::matrix`].
    pub dtype: DType,
    /// Shape, outermost first as in PyTorch: `[rows, cols]`. (A GGUF stores it reversed.)
    pub shape: Vec<usize>,
    /// Bytes of its elements.
    pub bytes: usize,
    /// The file that holds it.
    pub file: Arc<Path>,
    /// Offset of its first byte in the file.
    pub offset: u64,
}

/// A tensor's bytes.
#[derive(Debug, Clone, Copy)]
pub struct TensorView<'a> {
    /// What it is.
    pub info: &'a TensorInfo,
    /// Its elements in row-major order, little-endian: `info.bytes` bytes, at no particular alignment.
    pub data: &'a [u8],
}

/// An opened model: a directory in Hugging Face layout, a `.gguf` (any part of a split one), or a lone `.safetensors`
/// or `.bin` file.
pub struct Checkpoint {
    path: PathBuf,
    kind: CheckpointFormat,
    files: Vec<FileBytes>,
    tensors: Vec<TensorInfo>,
    places: Vec<Place>,
    by_name: HashMap<String, usize>,
    foreign: BTreeMap<String, (Foreign, Arc<Path>)>,
    metadata: Option<Metadata>,
    configuration: Configuration,
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}, {} tensors", self.path.display(), self.kind, self.tensors.len())
    }
}

/// Where a tensor lies, beyond what its [`TensorInfo`] says.
struct Place {
    /// Index into `files`.
    file: usize,
    strides: Option<Vec<usize>>,
    /// The row-major copy of a strided tensor, made when it is first asked for.
    gathered: OnceLock<Box<[u8]>>,
}

impl Checkpoint {
    /// Opens a model: maps its files and checks all headers. A directory without weights, without `config.json` or
    /// without both opens too.
    ///
    /// # Errors
    /// When a file is missing, cannot be read, or does not hold together.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        Checkpoint::of(path, Layout::read(path)?)
    }

    /// A GGUF that the program itself holds; `name` is what messages call it.
    ///
    /// # Errors
    /// When it does not hold together.
    pub fn embedded(name: &Path, gguf: &'static [u8]) -> Result<Self, CheckpointError> {
        Checkpoint::of(name, Layout::embedded(name, gguf)?)
    }

    fn of(path: &Path, layout: Layout) -> Result<Self, CheckpointError> {
        let Layout { kind, parts, metadata } = layout;
        let configuration = match &metadata {
            Some(metadata) => Configuration::of_gguf(path, metadata.configuration_values()?),
            None => Configuration::read(path)?,
        };
        let mut checkpoint = Checkpoint {
            path: path.to_owned(),
            kind,
            files: Vec::with_capacity(parts.len()),
            tensors: Vec::new(),
            places: Vec::new(),
            by_name: HashMap::new(),
            foreign: BTreeMap::new(),
            metadata,
            configuration,
        };
        for part in parts {
            let file = checkpoint.files.len();
            for entry in part.tensors {
                checkpoint.by_name.insert(entry.name.clone(), checkpoint.tensors.len());
                checkpoint.places.push(Place { file, strides: entry.strides, gathered: OnceLock::new() });
                checkpoint.tensors.push(TensorInfo {
                    name: entry.name,
                    dtype: entry.dtype,
                    shape: entry.shape,
                    bytes: entry.bytes,
                    file: Arc::clone(part.file.path()),
                    offset: entry.offset,
                });
            }
            let path = part.file.path();
            let foreign = part.foreign.into_iter();
            checkpoint.foreign.extend(foreign.map(|f| (f.name.clone(), (f, Arc::clone(path)))));
            checkpoint.files.push(part.file);
        }
        Ok(checkpoint)
    }

    /// What a directory at `path` with this `config.json` and nothing else would be. Nothing is opened.
    pub fn without_weights(path: &Path, config: Value) -> Self {
        Checkpoint {
            path: path.to_owned(),
            kind: CheckpointFormat::None,
            files: Vec::new(),
            tensors: Vec::new(),
            places: Vec::new(),
            by_name: HashMap::new(),
            foreign: BTreeMap::new(),
            metadata: None,
            configuration: Configuration::of_config(path, config),
        }
    }

    /// The format of the weights.
    pub fn kind(&self) -> CheckpointFormat {
        self.kind
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All tensors, file after file, in each file's order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// What a tensor is, when it is there.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.by_name.get(name).map(|&at| &self.tensors[at])
    }

    /// The tensors of types that are not read. They stop nobody who does not ask for them.
    pub fn foreign(&self) -> impl ExactSizeIterator<Item = &Foreign> {
        self.foreign.values().map(|(foreign, _)| foreign)
    }

    /// Whether there is a tensor of this name, of whatever type.
    pub fn holds(&self, name: &str) -> bool {
        self.by_name.contains_key(name) || self.foreign.contains_key(name)
    }

    /// A tensor's bytes: a view of the file, or of a row-major copy when a PyTorch file holds it with other strides.
    ///
    /// # Errors
    /// [`CheckpointError::MissingTensor`] with the nearest names, [`CheckpointError::NoWeights`]; damage that names the
    /// type where that is not read.
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>, CheckpointError> {
        let Some(&at) = self.by_name.get(name) else { return Err(self.missing(name)) };
        let (info, place) = (&self.tensors[at], &self.places[at]);
        let file = self.files[place.file].bytes();
        // All headers were checked against the length of their files.
        let begin = info.offset as usize;
        let data = match &place.strides {
            None => &file[begin..begin + info.bytes],
            Some(strides) => place.gathered.get_or_init(|| {
                strided::gather(&file[begin..], info.dtype.block_bytes(), &info.shape, strides)
            }),
        };
        Ok(TensorView { info, data })
    }

    /// A tensor of any shape and any plain float type as f32.
    ///
    /// # Errors
    /// When it is missing, or of another type.
    pub fn vector_f32(&self, name: &str) -> Result<Vec<f32>, CheckpointError> {
        let TensorView { info, data } = self.tensor(name)?;
        floats::decode(info.dtype, data).ok_or_else(|| wrong_type(info, "where a plain float type is needed"))
    }

    /// The vector of `len` elements that a model needs, as f32.
    ///
    /// # Errors
    /// As for [`Checkpoint::vector_f32`], and [`CheckpointError::WrongShape`] when it is not `[len]`.
    pub fn vector_of(&self, name: &str, len: usize) -> Result<Vec<f32>, CheckpointError> {
        match self.info(name) {
            Some(info) if info.shape != [len] => Err(wrong_shape(info, &[len])),
            _ => self.vector_f32(name),
        }
    }

    /// The `len` elements that a model needs, in whatever shape, as f32.
    ///
    /// # Errors
    /// As for [`Checkpoint::vector_of`].
    pub fn values_of(&self, name: &str, len: usize) -> Result<Vec<f32>, CheckpointError> {
        match self.info(name) {
            Some(info) if info.shape.iter().product::<usize>() != len => Err(wrong_shape(info, &[len])),
            _ => self.vector_f32(name),
        }
    }

    /// Refuses NaN and infinity among a tensor's block scales, or among its numbers when it is a plain float type. For
    /// ChatGLM's packings the row scales are looked at.
    ///
    /// # Errors
    /// [`CheckpointError::NotFinite`] names the tensor's place in the file and the first such number's in the tensor.
    pub fn check_finite(&self, info: &TensorInfo) -> Result<(), CheckpointError> {
        let scales = self.info(&packed::scale_name(&info.name));
        for part in [Some(info), scales.filter(|_| info.dtype == DType::I8)].into_iter().flatten() {
            let TensorView { info, data } = self.tensor(&part.name)?;
            check_scales(info.dtype, data).map_err(|source| CheckpointError::NotFinite {
                path: info.file.to_path_buf(),
                tensor: info.name.clone(),
                offset: info.offset,
                source,
            })?;
        }
        Ok(())
    }

    /// What the model's files say beside its weights: of a directory the JSON files, of a GGUF its keys.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// `config.json`, an object.
    pub fn config(&self) -> Option<&Value> {
        self.configuration.config()
    }

    /// The key/values of a GGUF.
    pub fn metadata(&self) -> Option<&Metadata> {
        self.metadata.as_ref()
    }

    /// Bytes of all weight files together.
    pub fn file_bytes(&self) -> u64 {
        self.files.iter().map(|f| f.bytes().len() as u64).sum()
    }

    /// Tells the system that a tensor's pages are not needed now (its weights were repacked, say). It stays readable:
    /// pages come back from the file.
    pub fn release(&self, info: &TensorInfo) {
        if let Some(&at) = self.by_name.get(&info.name)
            && self.places[at].strides.is_none()
        {
            let begin = self.tensors[at].offset as usize;
            self.files[self.places[at].file].release(begin..begin + self.tensors[at].bytes);
        }
    }

    /// [`Checkpoint::release`] for a part of a tensor's bytes, of whoever goes through a large one piece by piece.
    pub fn release_bytes(&self, bytes: &[u8]) {
        if let Some((file, range)) = self.files.iter().find_map(|file| Some((file, file.place_of(bytes)?))) {
            file.release(range);
        }
    }

    fn missing(&self, name: &str) -> CheckpointError {
        if let Some((foreign, path)) = self.foreign.get(name) {
            return Fault::UnsupportedType(foreign.type_name.clone())
                .tensor(name, foreign.offset)
                .within(path);
        }
        let (path, tensor) = (self.path.clone(), name.to_owned());
        if self.kind == CheckpointFormat::None {
            return CheckpointError::NoWeights { path, tensor };
        }
        CheckpointError::MissingTensor { path, tensor, near: self.nearest(name) }
    }

    /// The three names that share most of their beginning and end with `name`.
    fn nearest(&self, name: &str) -> Vec<String> {
        let likeness = |other: &str| {
            let same = |(a, b): &(u8, u8)| a == b;
            let prefix = name.bytes().zip(other.bytes()).take_while(same).count();
            let suffix = name.bytes().rev().zip(other.bytes().rev()).take_while(same).count();
            (prefix + suffix).min(other.len())
        };
        let mut ranked: Vec<_> = self.tensors.iter().map(|t| (likeness(&t.name), &t.name)).collect();
        ranked.sort_by_key(|&(likeness, _)| std::cmp::Reverse(likeness));
        ranked.into_iter().take(3).filter(|&(likeness, _)| likeness > 0).map(|(_, n)| n.clone()).collect()
    }
}
