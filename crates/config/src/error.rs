//! What can be wrong with a file beside a model: each said in one line that names the file and what to do.

use std::io;
use std::path::{Path, PathBuf};

use crate::text::is_harmful;

/// Why a file cannot be read. Its text has one line of fewer than 300 characters, whatever the file holds.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// Nothing lies at the path.
    #[error("{}: no such file or directory", shown(path))]
    NotFound {
        /// The path as given.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("{}: {source}", shown(path))]
    Io {
        /// The file at hand.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A pipe, a device or a directory stands where a file belongs.
    #[error("{}: not a regular file; name or put a file there", shown(path))]
    NotAFile {
        /// The path as given.
        path: PathBuf,
    },
    /// The file has no bytes.
    #[error("{}: the file is empty; download it again", shown(path))]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A Git LFS pointer was checked out instead of the file it stands for.
    #[error(
        "{}: is a Git LFS pointer in place of the file{}; fetch it with `git lfs pull` in {}",
        shown(path), size.map_or(String::new(), |n| format!(" of {n} bytes")), shown(parent(path))
    )]
    LfsPointer {
        /// The pointer file.
        path: PathBuf,
        /// Size of the real file in bytes, when the pointer says it.
        size: Option<u64>,
    },
    /// The file is larger than its kind has reason to be.
    #[error("{}: the file has {size} bytes, at most {limit} are read; download it again", shown(path))]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// The most bytes that are read.
        limit: u64,
    },
    /// The text is not UTF-8.
    #[error("{}: byte {at} is not UTF-8; save it as UTF-8 or download it again", shown(path))]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Offset of the first byte that belongs to no character.
        at: usize,
    },
    /// The text is not JSON, or not the JSON that is needed.
    #[error("{}: {what}; correct it or download it again", shown(path))]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column where the parser gave them.
        what: String,
    },
}

impl FileError {
    /// An error of the operating system about `path`.
    pub fn io(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => FileError::NotFound { path: path.to_owned() },
            _ => FileError::Io { path: path.to_owned(), source },
        }
    }
}

/// A path on one line; of a long one the end, which tells the file.
fn shown(path: &Path) -> String {
    const MOST: usize = 100;
    let text: String =
        path.to_string_lossy().chars().map(|c| if is_harmful(c) { '\u{fffd}' } else { c }).collect();
    match text.chars().count().checked_sub(MOST) {
        None | Some(0) => text,
        Some(over) => format!("...{}", text.chars().skip(over).collect::<String>()),
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}
