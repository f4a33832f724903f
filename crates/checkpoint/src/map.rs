//! The bytes of one file: memory-mapped where the system allows it, read into memory where it does not, or part of the
//! program.
//!
//! This is the crate's only file with `unsafe`. A mapped file must not be shortened or rewritten in place while it is
//! in use; replacing it by renaming another file over it (as every downloader and this crate's writers do) is safe.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use glimmer_config::FileError;
use glimmer_config::file::{open_regular, refuse_lfs_pointer};
use memmap2::Mmap;

use crate::error::CheckpointError;

/// How far around a page that is touched Linux maps others that it has at hand (`fault_around_bytes`).
const NEIGHBOURS: usize = 64 << 10;

/// The bytes of one file.
pub(crate) struct FileBytes {
    path: Arc<Path>,
    backing: Backing,
}

enum Backing {
    Mapped(Mmap),
    Read(Vec<u8>),
    Embedded(&'static [u8]),
}

impl FileBytes {
    /// Opens and maps a file.
    ///
    /// # Errors
    /// When it is not there, no regular file, empty, or a Git LFS pointer.
    pub(crate) fn open(path: &Path) -> Result<Self, CheckpointError> {
        FileBytes::open_with(path, map)
    }

    fn open_with(path: &Path, map: fn(&File) -> std::io::Result<Mmap>) -> Result<Self, CheckpointError> {
        let (file, len) = open_weights(path)?;
        let backing = match map(&file) {
            Ok(map) => Backing::Mapped(map),
            Err(_) => Backing::Read(read_all(&file, len, path)?),
        };
        let bytes = FileBytes { path: Arc::from(path), backing };
        refuse_lfs_pointer(path, bytes.bytes())?;
        Ok(bytes)
    }

    /// Bytes that the program holds; `path` is what errors call them.
    pub(crate) fn embedded(path: &Path, bytes: &'static [u8]) -> Self {
        FileBytes { path: Arc::from(path), backing: Backing::Embedded(bytes) }
    }

    pub(crate) fn path(&self) -> &Arc<Path> {
        &self.path
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.backing {
            Backing::Mapped(map) => map,
            Backing::Read(bytes) => bytes,
            Backing::Embedded(bytes) => bytes,
        }
    }

    /// Where in the file `part` lies, when it is a part of [`FileBytes::bytes`].
    pub(crate) fn place_of(&self, part: &[u8]) -> Option<Range<usize>> {
        let start = part.as_ptr().addr().checked_sub(self.bytes().as_ptr().addr())?;
        let end = start.checked_add(part.len()).filter(|&end| end <= self.bytes().len())?;
        Some(start..end)
    }

    /// Tells the system that the pages of `range` are not needed now. Reading them again brings them back.
    pub(crate) fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Backing::Mapped(map) = &self.backing
            && !range.is_empty()
            && range.end <= map.len()
        {
            // Touching a page maps its neighbours, too, let go of or not.
            let start = range.start - range.start % NEIGHBOURS;
            #[allow(unsafe_code)]
            // SAFETY: the mapping is a shared, read-only one of a file (see `map`), so a dropped page comes back from
            // the file with the same contents when it is touched again: no borrowed byte ever changes.
            let released = unsafe {
                map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, range.end - start)
            };
            // It is a hint: a system that ignores it only uses more memory.
            drop(released);
        }
        #[cfg(not(unix))]
        let _ = range;
    }
}

/// Maps a file read-only.
#[allow(unsafe_code)]
fn map(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the file is a regular one opened for reading, and nobody in this program writes to a model file in
    // place: our own writers write to a temporary file and rename it. That no other program shortens it while it is
    // mapped is the condition under which this module documents itself.
    unsafe { Mmap::map(file) }
}

/// Opens a weight file, which has bytes, and returns it with its length.
fn open_weights(path: &Path) -> Result<(File, u64), CheckpointError> {
    match open_regular(path)? {
        (_, 0) => Err(FileError::Empty { path: path.to_owned() }.into()),
        opened => Ok(opened),
    }
}

fn read_all(file: &File, len: u64, path: &Path) -> Result<Vec<u8>, CheckpointError> {
    let mut bytes = Vec::new();
    let wanted = usize::try_from(len).unwrap_or(usize::MAX);
    bytes.try_reserve_exact(wanted).map_err(|e| CheckpointError::io(path, std::io::Error::other(e)))?;
    file.take(len).read_to_end(&mut bytes).map_err(|e| CheckpointError::io(path, e))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::FileBytes;

    #[test]
    fn a_file_that_cannot_be_mapped_is_read() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let mapped = FileBytes::open(&file).unwrap();
        let read = FileBytes::open_with(&file, |_| Err(std::io::ErrorKind::Unsupported.into())).unwrap();
        assert!(matches!(read.backing, super::Backing::Read(_)));
        assert_eq!(read.bytes(), mapped.bytes());
        read.release(0..read.bytes().len());
        assert_eq!(read.bytes(), mapped.bytes());
    }
}
