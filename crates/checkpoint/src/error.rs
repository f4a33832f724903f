//! What can be wrong with a model file, each said in one line that names file, tensor and byte offset.
//!
//! [`Fault`] is what is wrong, [`Damage`] adds where inside the file, [`CheckpointError`] adds which file. Names come
//! from untrusted files, so they are printed without control characters and cut when they are long.

use std::fmt;
use std::path::{Path, PathBuf};

use glimmer_config::{FileError, Quoted, is_harmful};
use glimmer_tensor::quant::QuantError;
use glimmer_tensor::{DType, MatrixError};

/// Why a model cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// A file is missing, cannot be read, is none, or is no JSON.
    #[error(transparent)]
    File(#[from] FileError),
    /// The first bytes belong to no format that is read here.
    #[error("{}: neither GGUF nor safetensors nor a PyTorch archive", file(path))]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// `torch.save` before PyTorch 1.6, or with `_use_new_zipfile_serialization=False`.
    #[error(
        "{}: the legacy torch.save format of PyTorch before 1.6 is not read; load it once in PyTorch and save it again, best as safetensors",
        file(path)
    )]
    LegacyPickle {
        /// The file.
        path: PathBuf,
    },
    /// The bytes of a file do not hold together.
    #[error("{}: {damage}", file(path))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        damage: Damage,
    },
    /// The model is a directory without any weight file.
    #[error(
        "{}: holds no weights (no model.safetensors, pytorch_model.bin or index of either); tensor `{}` is needed",
        file(path),
        Quoted(tensor)
    )]
    NoWeights {
        /// The directory.
        path: PathBuf,
        /// The tensor that was asked for.
        tensor: String,
    },
    /// No tensor has this name.
    #[error("{}: tensor `{}` is missing{}", file(path), Quoted(tensor), nearest(near))]
    MissingTensor {
        /// The model.
        path: PathBuf,
        /// The name that was asked for.
        tensor: String,
        /// The names most like it.
        near: Vec<String>,
    },
    /// An index or a split file names a file that is not there.
    #[error("{}: this part of the model is missing{}", file(path), tensor.as_ref().map_or(String::new(), |t| format!("; it holds tensor `{}`", Quoted(t))))]
    MissingShard {
        /// The file that should be there.
        path: PathBuf,
        /// One of the tensors it should hold, where that is known.
        tensor: Option<String>,
    },
    /// The index puts a tensor into a file that does not have it.
    #[error("{}: tensor `{}` is missing, though {} says it is here", file(path), Quoted(tensor), file(index))]
    NotInShard {
        /// The part of the model.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The index file.
        index: PathBuf,
    },
    /// Two parts of a model hold a tensor of the same name.
    #[error("{}: tensor `{}` at byte {offset} is in {} as well", file(path), Quoted(tensor), file(other))]
    InTwoFiles {
        /// The later file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Where its bytes begin in the later file.
        offset: u64,
        /// The earlier file.
        other: PathBuf,
    },
    /// The parts of a split GGUF do not belong together.
    #[error("{}: {what}", file(path))]
    Split {
        /// The part.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// A tensor has another shape than the model needs.
    #[error(
        "{}: tensor `{}` at byte {offset} has shape {found:?}, the model needs {expected:?}",
        file(path),
        Quoted(tensor)
    )]
    WrongShape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Where its bytes begin.
        offset: u64,
        /// The shape that was asked for.
        expected: Vec<usize>,
        /// The shape that is stored.
        found: Vec<usize>,
    },
    /// A tensor is needed as a matrix and has not two dimensions.
    #[error(
        "{}: tensor `{}` at byte {offset} has shape {found:?}, two dimensions are needed",
        file(path),
        Quoted(tensor)
    )]
    NoMatrix {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Where its bytes begin.
        offset: u64,
        /// The shape that is stored.
        found: Vec<usize>,
    },
    /// A tensor has an element type that its use does not allow.
    #[error("{}: tensor `{}` at byte {offset} is {found}, {wanted}", file(path), Quoted(tensor))]
    WrongType {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Where its bytes begin.
        offset: u64,
        /// The stored type.
        found: DType,
        /// What would do.
        wanted: &'static str,
    },
    /// A tensor is no weight matrix.
    #[error("{}: tensor `{}` at byte {offset}: {source}", file(path), Quoted(tensor))]
    Matrix {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Where its bytes begin.
        offset: u64,
        /// What does not fit.
        source: MatrixError,
    },
    /// A stored number that must be finite is not.
    #[error("{}: tensor `{}` at byte {offset}: {source}", file(path), Quoted(tensor))]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Where its bytes begin.
        offset: u64,
        /// The number, its block, and its offset from where the tensor begins.
        source: QuantError,
    },
    /// Weights cannot be had in the type that was asked for.
    #[error("tensor {}: {source}", Quoted(tensor))]
    Unencodable {
        /// The tensor, by the name that it has where it goes.
        tensor: String,
        /// Which value of it, and why.
        source: QuantError,
    },
    /// An index of shards cannot be understood.
    #[error("{}: {what}", file(path))]
    Index {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column where the parser gave them.
        what: String,
    },
    /// A GGUF key is not there.
    #[error("{}: the GGUF key `{}` is missing", file(path), Quoted(key))]
    MissingKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// A GGUF key has a value of another kind.
    #[error("{}: the GGUF key `{}` holds {found}, not {wanted}", file(path), Quoted(key))]
    WrongKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What would do.
        wanted: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// A file or directory to be written is already there and must not be replaced.
    #[error("{}: already exists; give another name or remove it first", file(path))]
    Exists {
        /// The target.
        path: PathBuf,
    },
    /// A tensor or value cannot be written as asked.
    #[error("{}: cannot write `{}`: {what}", file(path), Quoted(name))]
    Unwritable {
        /// The target.
        path: PathBuf,
        /// The tensor or key.
        name: String,
        /// Why not.
        what: String,
    },
}

/// What is wrong inside a file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Damage {
    /// Byte offset from the beginning of the file.
    pub offset: u64,
    /// The tensor at hand, where there is one.
    pub tensor: Option<String>,
    /// What is wrong.
    pub fault: Fault,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tensor {
            Some(tensor) => write!(f, "tensor `{}` at byte {}: {}", Quoted(tensor), self.offset, self.fault),
            None => write!(f, "byte {}: {}", self.offset, self.fault),
        }
    }
}

/// What is wrong with some bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The file ends inside something.
    #[error("the file is truncated: {what} needs {needed} bytes, {left} are left")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Bytes it takes.
        needed: u64,
        /// Bytes there are.
        left: u64,
    },
    /// Tensor data lies beyond the end of the file.
    #[error("its {bytes} bytes reach beyond the file's end at {end}; the file is truncated or damaged")]
    OutsideFile {
        /// Bytes the tensor takes.
        bytes: u64,
        /// Length of the file, or of the data section.
        end: u64,
    },
    /// A count or a length is over the limit.
    #[error("{what}: {count} is over the limit of {limit}")]
    TooMany {
        /// What was counted.
        what: &'static str,
        /// The number in the file.
        count: u64,
        /// The most that is accepted.
        limit: u64,
    },
    /// Text is not UTF-8.
    #[error("{0} is not UTF-8")]
    NotUtf8(&'static str),
    /// A JSON header cannot be parsed.
    #[error("{0}")]
    Json(String),
    /// A name occurs twice.
    #[error("this name occurs twice")]
    DuplicateTensor,
    /// A metadata key occurs twice.
    #[error("the key `{}` occurs twice", Quoted(.0))]
    DuplicateKey(String),
    /// Two tensors, or two members of an archive, share bytes.
    #[error("its bytes overlap those of `{}`", Quoted(.0))]
    Overlap(String),
    /// Bytes belong to no tensor where the format leaves no room for any.
    #[error("the data section has {found} bytes, its tensors take {expected}")]
    Unclaimed {
        /// Bytes of all tensors.
        expected: u64,
        /// Bytes of the data section.
        found: u64,
    },
    /// The number of bytes does not follow from type and shape.
    #[error("{dtype} {shape:?} takes {expected} bytes, the file gives {found}")]
    WrongSize {
        /// Element type.
        dtype: DType,
        /// Shape, outermost first.
        shape: Vec<usize>,
        /// Bytes that type and shape demand.
        expected: u64,
        /// Bytes that the file says.
        found: u64,
    },
    /// The shape's product is no size that memory can have.
    #[error("the shape {0:?} is too large")]
    Overflow(Vec<u64>),
    /// A row is not a whole number of blocks.
    #[error("rows of {cols} elements are no multiple of {dtype}'s block of {}", dtype.block_len())]
    BrokenBlock {
        /// Element type.
        dtype: DType,
        /// Elements per row.
        cols: usize,
    },
    /// The element type is none that is read here.
    #[error("element type {} is not supported", Quoted(.0))]
    UnsupportedType(String),
    /// Another version of the format.
    #[error("version {0} of the format is not supported")]
    Version(u32),
    /// The file is for machines of the other byte order.
    #[error("the file is big-endian; only little-endian files are read")]
    BigEndian,
    /// A pickle asks for a Python object that no weights need.
    #[error("the pickle refers to `{}`, which is not on the list of harmless names; nothing of it was run", Quoted(.0))]
    ForbiddenGlobal(String),
    /// A pickle uses an instruction that no weights need.
    #[error("the pickle uses opcode 0x{0:02x}, which is not on the list of harmless ones")]
    ForbiddenOpcode(u8),
    /// A member of the archive is compressed.
    #[error(
        "archive member `{}` is compressed (method {method}); PyTorch stores its members plain",
        Quoted(member)
    )]
    Compressed {
        /// The member's name.
        member: String,
        /// The zip compression method.
        method: u16,
    },
    /// A member of the archive is not there.
    #[error("archive member `{}` is missing", Quoted(.0))]
    MissingMember(String),
    /// A member of the archive is not as the directory says.
    #[error("archive member `{}`: {what}", Quoted(member))]
    BrokenMember {
        /// The member's name.
        member: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A strided view reaches out of its storage.
    #[error(
        "the view {shape:?} with strides {strides:?} from element {start} leaves its storage of {len} elements"
    )]
    OutsideStorage {
        /// Shape, outermost first.
        shape: Vec<usize>,
        /// Strides in elements.
        strides: Vec<usize>,
        /// First element.
        start: u64,
        /// Elements in the storage.
        len: u64,
    },
    /// Some other rule of the format is broken.
    #[error("{0}")]
    Broken(&'static str),
}

impl Fault {
    /// This fault at byte `offset`.
    pub(crate) fn at(self, offset: u64) -> Damage {
        Damage { offset, tensor: None, fault: self }
    }

    /// This fault in a tensor.
    pub(crate) fn tensor(self, name: &str, offset: u64) -> Damage {
        Damage { offset, tensor: Some(name.to_owned()), fault: self }
    }
}

impl Damage {
    /// This damage in a file.
    pub(crate) fn within(self, path: &Path) -> CheckpointError {
        CheckpointError::Damaged { path: path.to_owned(), damage: self }
    }
}

impl CheckpointError {
    /// An error of the operating system about `path`.
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        FileError::io(path, source).into()
    }
}

fn file(path: &Path) -> String {
    path.to_string_lossy().chars().map(|c| if is_harmful(c) { '\u{fffd}' } else { c }).collect()
}

fn nearest(names: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    let names: Vec<_> = names.iter().map(|n| format!("`{}`", Quoted(n))).collect();
    format!("; the nearest names are {}", names.join(", "))
}
