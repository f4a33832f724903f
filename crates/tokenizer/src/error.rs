//! What can be wrong with a tokenizer file. Encoding and decoding themselves cannot fail.

use std::path::{Path, PathBuf};

use glimmer_config::FileError;

/// Why a tokenizer could not be loaded or converted.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// A fault in one file, with its path.
    #[error("{}: {source}", path.display())]
    File {
        /// The file at fault.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<TokenizerError>,
    },
    /// A file of the model cannot be read.
    #[error(transparent)]
    Unreadable(#[from] FileError),
    /// The directory holds none of the known tokenizer files.
    #[error("no tokenizer in {}: looked for {looked_for}", dir.display())]
    Missing {
        /// The directory searched.
        dir: PathBuf,
        /// The names of the files looked for.
        looked_for: &'static str,
    },
    /// The JSON cannot be read as a tokenizer.
    #[error("is not a readable tokenizer JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A part that this program does not implement; nothing is ever approximated in its place.
    #[error("{component} is not supported (supported: {supported})")]
    Unsupported {
        /// The part, as the file calls it.
        component: String,
        /// What could stand in its place.
        supported: &'static str,
    },
    /// The bytes contradict their format.
    #[error("malformed {format}: {what}")]
    Malformed {
        /// The format being read.
        format: &'static str,
        /// What is wrong, and where.
        what: String,
    },
    /// Something is larger than any tokenizer has reason to be.
    #[error("{what} is {size}, beyond the limit of {limit}")]
    TooLarge {
        /// What is too large.
        what: String,
        /// Its size.
        size: u64,
        /// The largest size accepted.
        limit: u64,
    },
}

impl TokenizerError {
    pub(crate) fn malformed(format: &'static str, what: impl Into<String>) -> Self {
        Self::Malformed { format, what: what.into() }
    }

    pub(crate) fn unsupported(component: impl Into<String>, supported: &'static str) -> Self {
        Self::Unsupported { component: component.into(), supported }
    }

    pub(crate) fn in_file(self, path: &Path) -> Self {
        match self {
            Self::File { .. } | Self::Unreadable(_) | Self::Missing { .. } => self,
            other => Self::File { path: path.to_path_buf(), source: Box::new(other) },
        }
    }
}
