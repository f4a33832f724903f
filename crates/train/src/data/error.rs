//! What can be wrong with data: each said with the file and the line.

use std::path::{Path, PathBuf};

use glimmer_config::{FileError, Quoted};

/// Why a file or a row of it is no data to learn from. One line of fewer than 300 characters.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is none of the known kinds, or its parts do not hold together.
    #[error("{}: {why}", shown(path))]
    Whole {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        why: String,
    },
    /// A row cannot be learned from.
    #[error("{}, line {line}: {why}", shown(path))]
    Row {
        /// The file.
        path: PathBuf,
        /// The line on which the row begins, or where in it something is wrong; from 1.
        line: u64,
        /// What is wrong and what to do.
        why: String,
    },
}

/// The end of a path, which names the file; the whole where it is short.
fn shown(path: &Path) -> String {
    let text = path.display().to_string();
    match text.char_indices().nth_back(79) {
        Some((from, _)) if from > 0 => format!("...{}", Quoted(&text[from..])),
        _ => Quoted(&text).to_string(),
    }
}
