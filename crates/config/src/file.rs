//! Reading the small files of a model: bounded, and only where a regular file lies.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use crate::{FileError, json};

/// The most bytes that a configuration or a chat template may have; the largest published ones have a few hundred
/// kilobytes.
const MAX_CONFIGURATION: u64 = 4 << 20;

/// How every Git LFS pointer begins (<https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md>).
const LFS_PREFIX: &[u8] = b"version https://git-lfs.github.com/spec/";

/// A pointer file is shorter than this by its specification.
const LFS_LIMIT: usize = 1024;

/// Opens a regular file for reading and returns it with its length in bytes. A pipe or a device in its place is refused,
/// never waited for.
///
/// # Errors
/// When it is not there, cannot be opened, or is no regular file.
pub fn open_regular(path: &Path) -> Result<(File, u64), FileError> {
    let error = |source| FileError::io(path, source);
    let not_a_file = || FileError::NotAFile { path: path.to_owned() };
    // Asked before opening, because to open a device may do something; and again afterwards, of what was opened.
    if !std::fs::metadata(path).map_err(error)?.is_file() {
        return Err(not_a_file());
    }
    let mut options = OpenOptions::new();
    options.read(true);
    // Should a pipe have taken the file's place since, this open does not wait for its writer.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    let file = options.open(path).map_err(error)?;
    let metadata = file.metadata().map_err(error)?;
    if metadata.is_file() { Ok((file, metadata.len())) } else { Err(not_a_file()) }
}

/// Reads a file whole, at most `limit` bytes; `None` when it does not exist.
///
/// # Errors
/// When it cannot be read, is no regular file, is larger, or is a Git LFS pointer.
pub fn read_bytes(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, FileError> {
    let (file, len) = match open_regular(path) {
        Err(FileError::NotFound { .. }) => return Ok(None),
        opened => opened?,
    };
    let too_large = |size| FileError::TooLarge { path: path.to_owned(), size, limit };
    if len > limit {
        return Err(too_large(len));
    }
    let mut bytes = Vec::new();
    // A file that grows while it is read is bounded, too.
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|source| FileError::io(path, source))?;
    if bytes.len() as u64 > limit {
        return Err(too_large(bytes.len() as u64));
    }
    refuse_lfs_pointer(path, &bytes)?;
    Ok(Some(bytes))
}

/// Reads a text file of the size of a configuration, without the byte order mark that it may begin with; `None` when it
/// does not exist.
///
/// # Errors
/// Those of [`read_bytes`], and [`FileError::NotUtf8`].
pub fn read_text(path: &Path) -> Result<Option<String>, FileError> {
    let Some(bytes) = read_bytes(path, MAX_CONFIGURATION)? else { return Ok(None) };
    let mut text = String::from_utf8(bytes).map_err(|error| FileError::NotUtf8 {
        path: path.to_owned(),
        at: error.utf8_error().valid_up_to(),
    })?;
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    Ok(Some(text))
}

/// Reads a file that holds a JSON object; `None` when it does not exist.
///
/// # Errors
/// Those of [`read_text`], [`FileError::Empty`], and [`FileError::Json`] when it holds something else.
pub fn read_object(path: &Path) -> Result<Option<Value>, FileError> {
    read_json(path, "a JSON object", Value::is_object)
}

/// Reads a file that holds a JSON array; `None` when it does not exist.
///
/// # Errors
/// Those of [`read_object`].
pub fn read_array(path: &Path) -> Result<Option<Value>, FileError> {
    read_json(path, "a JSON array", Value::is_array)
}

fn read_json(path: &Path, kind: &str, is_kind: fn(&Value) -> bool) -> Result<Option<Value>, FileError> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    if text.is_empty() {
        return Err(FileError::Empty { path: path.to_owned() });
    }
    let value = json::tree(&text, json::FILE_ROOM);
    let value = value.map_err(|error| FileError::Json { path: path.to_owned(), what: error.to_string() })?;
    if !is_kind(&value) {
        return Err(FileError::Json { path: path.to_owned(), what: format!("{kind} is expected") });
    }
    Ok(Some(value))
}

/// Refuses bytes that only point to a file; `path` is where they lie.
///
/// # Errors
/// [`FileError::LfsPointer`].
pub fn refuse_lfs_pointer(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    if bytes.len() >= LFS_LIMIT || !bytes.starts_with(LFS_PREFIX) {
        return Ok(());
    }
    let text = String::from_utf8_lossy(bytes);
    let size = text.lines().find_map(|line| line.strip_prefix("size ")?.trim().parse().ok());
    Err(FileError::LfsPointer { path: path.to_owned(), size })
}
