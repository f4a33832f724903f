//! Where a model's files are, and how a name becomes such a place.

use std::path::{Path, PathBuf};

use crate::{DEMO, Error, demo};

/// Where a model's files are.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// A directory in Hugging Face layout, or one file of weights (`.gguf`, `.safetensors`, `.bin`).
    Path(PathBuf),
    /// Files at a path that does not say what they are, such as one in a hub's cache.
    Named {
        /// The directory or file.
        path: PathBuf,
        /// What to call the model.
        name: String,
    },
    /// A GGUF that the program itself holds.
    Embedded {
        /// What messages call it.
        name: &'static str,
        /// The file.
        gguf: &'static [u8],
    },
}

/// Turns the name that a person or a request gives a model into the place of its files. A hub of models is one; [`Local`]
/// is another.
pub trait Resolver: Send + Sync {
    /// The place of the model called `name`.
    ///
    /// # Errors
    /// When there is no model of this name, or it cannot be had.
    fn resolve(&self, name: &Path) -> Result<Source, Error>;
}

/// Paths of this machine, and [`DEMO`]. Whether there is anything at a path is seen when it is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Local;

impl Resolver for Local {
    fn resolve(&self, name: &Path) -> Result<Source, Error> {
        Ok(Source::from(name))
    }
}

impl From<&Path> for Source {
    fn from(name: &Path) -> Self {
        if name == Path::new(DEMO) { demo::source() } else { Source::Path(name.to_owned()) }
    }
}

impl From<&str> for Source {
    fn from(name: &str) -> Self {
        Source::from(Path::new(name))
    }
}

impl Source {
    /// The path, as messages show it.
    pub fn path(&self) -> &Path {
        match self {
            Source::Path(path) | Source::Named { path, .. } => path,
            Source::Embedded { name, .. } => Path::new(name),
        }
    }

    /// What to call the model: the last part of its path, without `.gguf`.
    pub fn name(&self) -> String {
        let path = match self {
            Source::Path(path) => path.canonicalize().unwrap_or_else(|_| path.clone()),
            Source::Named { name, .. } => return name.clone(),
            Source::Embedded { name, .. } => return (*name).to_owned(),
        };
        let is_gguf = path.extension().is_some_and(|extension| extension == "gguf");
        let name = if is_gguf { path.file_stem() } else { path.file_name() };
        name.unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
    }

    /// The directory that holds the model's files.
    pub fn directory(&self) -> &Path {
        match self {
            Source::Path(path) | Source::Named { path, .. } if path.is_dir() => path,
            _ => match self.path().parent() {
                Some(parent) if parent != Path::new("") => parent,
                _ => Path::new("."),
            },
        }
    }

    /// Whether it is the model that the program brings along.
    pub fn is_demo(&self) -> bool {
        *self == demo::source()
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.path().display())
    }
}
