//! Writing so that a file or directory appears whole or not at all.
//!
//! Everything is written under a temporary name beside the target, made durable, and renamed at the end. Dropping a
//! writer before that removes what it wrote; the target is never touched before it is complete. Only what is no regular
//! file, such as a pipe or a device, is written into as it is. What a killed process has left, [`remove_leftovers`] tells
//! by a lock from what somebody is writing.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use glimmer_tensor::DType;

use crate::entry;
use crate::error::CheckpointError;

/// A tensor that is going to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTensor {
    /// Its name.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Shape, outermost first.
    pub shape: Vec<usize>,
}

impl NewTensor {
    /// Bytes of its elements, or the error that says why there cannot be such a tensor in `path`.
    pub(crate) fn bytes(&self, path: &Path) -> Result<u64, CheckpointError> {
        entry::size_of(self.dtype, &self.shape)
            .map(|bytes| bytes as u64)
            .map_err(|fault| unwritable(path, &self.name, fault.to_string()))
    }
}

/// A file that is being written. A new or a regular one appears under its name when it is complete; a link leads to the
/// file that it names. A pipe or a device is written into, from the first byte on.
pub struct OutputFile {
    // Before `temporary`, so that it is closed when the temporary file is removed.
    file: BufWriter<File>,
    /// None where the target itself is written into.
    temporary: Option<Temporary>,
    target: PathBuf,
    position: u64,
}

impl OutputFile {
    /// Begins a file.
    ///
    /// # Errors
    /// [`CheckpointError::Exists`] where a directory lies; when nothing can be written there.
    pub fn create(path: &Path) -> Result<Self, CheckpointError> {
        const BUFFER: usize = 1 << 18;
        let io = |error| CheckpointError::io(path, error);
        let there = std::fs::metadata(path).ok();
        let (file, temporary) = match &there {
            Some(there) if there.is_dir() => return Err(CheckpointError::Exists { path: path.to_owned() }),
            Some(there) if !there.is_file() => (OpenOptions::new().write(true).open(path).map_err(io)?, None),
            _ => {
                let (temporary, file) = Temporary::beside(&end_of_links(path).map_err(io)?, |temporary| {
                    OpenOptions::new().write(true).create_new(true).open(temporary)
                })?;
                if let Some(there) = there {
                    // Who may read the old file may read the new one, and nobody else.
                    file.set_permissions(there.permissions()).map_err(io)?;
                }
                (file, Some(temporary))
            }
        };
        let file = BufWriter::with_capacity(BUFFER, file);
        Ok(OutputFile { file, temporary, target: path.to_owned(), position: 0 })
    }

    /// The path as given.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Goes to a place to write on from. Where there is no going back, what lies between is filled with zeros.
    fn seek(&mut self, position: u64) -> io::Result<()> {
        if self.temporary.is_some() {
            self.file.seek(SeekFrom::Start(position))?;
        } else {
            let zeros = position.checked_sub(self.position).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::NotSeekable,
                    "not a regular file, and it cannot be written in order",
                )
            })?;
            io::copy(&mut io::Read::take(io::repeat(0), zeros), &mut self.file)?;
        }
        self.position = position;
        Ok(())
    }

    /// Makes the file durable and gives it its name.
    ///
    /// # Errors
    /// When the last bytes cannot be written or the name cannot be given.
    pub fn finish(mut self) -> Result<(), CheckpointError> {
        let io = |error| CheckpointError::io(&self.target, error);
        self.file.flush().map_err(io)?;
        if let Some(temporary) = self.temporary {
            self.file.get_ref().sync_all().map_err(io)?;
            drop(self.file);
            temporary.rename()?;
        }
        Ok(())
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.position += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Where a path leads when all its links are followed, to a file that need not exist.
fn end_of_links(path: &Path) -> io::Result<PathBuf> {
    // As many as Linux follows.
    const MOST: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..MOST {
        match std::fs::read_link(&path) {
            Ok(to) => path = path.parent().unwrap_or(Path::new("")).join(to),
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("too many links"))
}

/// A file of which header and layout are known before the tensors' bytes come, in any order.
pub(crate) struct TensorFile {
    file: OutputFile,
    len: u64,
    slots: Vec<Slot>,
    by_name: HashMap<String, usize>,
}

/// A tensor's place in the file.
pub(crate) struct Slot {
    pub(crate) name: String,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    written: u64,
}

impl Slot {
    pub(crate) fn new(name: String, offset: u64, bytes: u64) -> Self {
        Slot { name, offset, bytes, written: 0 }
    }
}

impl TensorFile {
    /// Begins a file of `len` bytes. Bytes that no slot claims stay zero.
    pub(crate) fn create(
        path: &Path,
        header: &[u8],
        slots: Vec<Slot>,
        len: u64,
    ) -> Result<Self, CheckpointError> {
        let mut by_name = HashMap::with_capacity(slots.len());
        for (at, slot) in slots.iter().enumerate() {
            if by_name.insert(slot.name.clone(), at).is_some() {
                return Err(unwritable(path, &slot.name, "the name occurs twice".to_owned()));
            }
        }
        let mut file = OutputFile::create(path)?;
        file.write_all(header).map_err(|e| CheckpointError::io(path, e))?;
        Ok(TensorFile { file, len, slots, by_name })
    }

    /// Appends bytes to a tensor.
    pub(crate) fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), CheckpointError> {
        let target = self.file.target();
        let Some(&at) = self.by_name.get(name) else {
            return Err(unwritable(target, name, "it was not announced".to_owned()));
        };
        let slot = &mut self.slots[at];
        let left = slot.bytes - slot.written;
        if bytes.len() as u64 > left {
            let what = format!("it has room for {left} more bytes, {} were given", bytes.len());
            return Err(unwritable(target, name, what));
        }
        let position = slot.offset + slot.written;
        slot.written += bytes.len() as u64;
        self.write_at(position, bytes)
    }

    fn write_at(&mut self, position: u64, bytes: &[u8]) -> Result<(), CheckpointError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let there = if position == self.file.position { Ok(()) } else { self.file.seek(position) };
        there
            .and_then(|()| self.file.write_all(bytes))
            .map_err(|e| CheckpointError::io(self.file.target(), e))
    }

    /// Makes the file durable and gives it its name.
    pub(crate) fn finish(mut self) -> Result<(), CheckpointError> {
        if let Some(slot) = self.slots.iter().find(|slot| slot.written < slot.bytes) {
            let what = format!("only {} of its {} bytes were given", slot.written, slot.bytes);
            return Err(unwritable(self.file.target(), &slot.name, what));
        }
        // An empty tensor at the end claims a place and writes nothing there.
        let filled = self.slots.iter().filter(|slot| slot.bytes > 0);
        let end = filled.map(|slot| slot.offset + slot.bytes).max().unwrap_or(0);
        if end.max(self.file.position) < self.len {
            self.write_at(self.len - 1, &[0])?;
        }
        self.file.finish()
    }
}

/// A directory that is filled under a temporary name, and appears under its own when it is complete.
pub struct NewDirectory {
    temporary: Temporary,
    /// Whether a directory that is there gives way.
    replaces: bool,
}

impl NewDirectory {
    /// Begins a directory; nothing but an empty directory may be at `path`, or any that it `replaces`.
    ///
    /// # Errors
    /// [`CheckpointError::Exists`]; when the system refuses.
    pub fn create(path: &Path, replaces: bool) -> Result<Self, CheckpointError> {
        let path = end_of_links(path).map_err(|e| CheckpointError::io(path, e))?;
        if !replaces {
            refuse_occupied(&path)?;
        }
        let (temporary, ()) = Temporary::beside(&path, |temporary| std::fs::create_dir(temporary))?;
        Ok(NewDirectory { temporary, replaces })
    }

    /// Where a file of the directory is written now.
    #[must_use]
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.temporary.path.join(name)
    }

    /// Where the directory will be.
    pub(crate) fn target(&self) -> &Path {
        &self.temporary.target
    }

    /// Writes a small file.
    ///
    /// # Errors
    /// When it is there; when the system refuses.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), CheckpointError> {
        let written = File::create_new(self.path_of(name)).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        written.map_err(|e| CheckpointError::io(&self.target().join(name), e))
    }

    /// Makes the directory durable and gives it its name.
    ///
    /// # Errors
    /// When something has come in its way; when the system refuses. Then there is no directory.
    pub fn finish(self) -> Result<(), CheckpointError> {
        let target = &self.temporary.target;
        // The names of its files; not every system can do this to a directory.
        drop(File::open(&self.temporary.path).and_then(|directory| directory.sync_all()));
        if self.replaces && target.is_dir() {
            let old = hidden(target, OLD)?;
            std::fs::rename(target, &old).map_err(|e| CheckpointError::io(target, e))?;
            self.temporary.rename()?;
            return std::fs::remove_dir_all(&old).map_err(|e| CheckpointError::io(&old, e));
        }
        refuse_occupied(target)?;
        // Some systems do not rename over a directory even when it is empty.
        match std::fs::remove_dir(target) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(CheckpointError::io(target, e)),
            _ => {}
        }
        self.temporary.rename()
    }
}

fn refuse_occupied(path: &Path) -> Result<(), CheckpointError> {
    let occupied = match std::fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => path.symlink_metadata().is_ok(),
    };
    if occupied { Err(CheckpointError::Exists { path: path.to_owned() }) } else { Ok(()) }
}

pub(crate) fn unwritable(path: &Path, name: &str, what: String) -> CheckpointError {
    CheckpointError::Unwritable { path: path.to_owned(), name: name.to_owned(), what }
}

/// What is being written is called `.NAME.tmp-PROCESS-NUMBER`, what is about to be removed `.NAME.old-...`.
const NEW: &str = "tmp";
const OLD: &str = "old";

/// A name beside `target` that nothing else has.
fn hidden(target: &Path, what: &str) -> Result<PathBuf, CheckpointError> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let Some(name) = target.file_name() else {
        let what = std::io::Error::new(std::io::ErrorKind::InvalidInput, "no file name to write to");
        return Err(CheckpointError::io(target, what));
    };
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{what}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    Ok(target.with_file_name(hidden))
}

/// Removes a directory so that nobody ever finds a part of it under its name.
///
/// # Errors
/// When the system refuses.
pub fn remove_directory(path: &Path) -> Result<(), CheckpointError> {
    let doomed = hidden(path, NEW)?;
    std::fs::rename(path, &doomed).map_err(|e| CheckpointError::io(path, e))?;
    std::fs::remove_dir_all(&doomed).map_err(|e| CheckpointError::io(path, e))
}

/// Removes what processes have left beside `target` that were killed while they wrote it: the paths of it. What somebody
/// is writing now stays. A directory that was about to be replaced gets its name back.
pub fn remove_leftovers(target: &Path) -> Vec<PathBuf> {
    let target = end_of_links(target).unwrap_or_else(|_| target.to_owned());
    let (Some(name), Ok(entries)) = (target.file_name(), std::fs::read_dir(parent(&target))) else {
        return Vec::new();
    };
    let prefix = [b".", name.as_encoded_bytes(), b"."].concat();
    let mut removed = Vec::new();
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let kind = name.as_encoded_bytes().strip_prefix(prefix.as_slice()).and_then(kind_of_leftover);
        // Pipes are not opened: that would wait for somebody at their other end.
        let is_ours = entry.file_type().is_ok_and(|kind| kind.is_file() || kind.is_dir());
        let (Some(kind), true) = (kind, is_ours) else { continue };
        if kind == OLD && !target.exists() && std::fs::rename(&path, &target).is_ok() {
            continue;
        }
        // Whoever writes holds the lock.
        let is_left = File::open(&path).is_ok_and(|file| file.try_lock().is_ok());
        if is_left && (std::fs::remove_file(&path).is_ok() || std::fs::remove_dir_all(&path).is_ok()) {
            removed.push(path);
        }
    }
    removed
}

/// Of a name like `tmp-123-0`, the word.
fn kind_of_leftover(name: &[u8]) -> Option<&'static str> {
    let parts: Vec<&[u8]> = name.split(|byte| *byte == b'-').collect();
    let [kind, process, number] = parts.as_slice() else { return None };
    let is_number = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    let known = [NEW, OLD].into_iter().find(|known| known.as_bytes() == *kind);
    known.filter(|_| is_number(process) && is_number(number))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."))
}

/// Something under a temporary name beside its target; removed on drop unless it was renamed.
struct Temporary {
    path: PathBuf,
    target: PathBuf,
    renamed: bool,
    /// Locked as long as somebody writes, where the system can; a process that is killed lets go of it.
    _lock: Option<File>,
}

impl Temporary {
    /// Creates something under a name beside `target` that nothing else has.
    fn beside<T>(
        target: &Path,
        create: impl Fn(&Path) -> std::io::Result<T>,
    ) -> Result<(Self, T), CheckpointError> {
        loop {
            let path = hidden(target, NEW)?;
            match create(&path) {
                Ok(created) => {
                    let lock = File::open(&path).ok().filter(|file| file.try_lock().is_ok());
                    let target = target.to_owned();
                    return Ok((Temporary { path, target, renamed: false, _lock: lock }, created));
                }
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(CheckpointError::io(target, e)),
            }
        }
    }

    fn rename(mut self) -> Result<(), CheckpointError> {
        std::fs::rename(&self.path, &self.target).map_err(|e| CheckpointError::io(&self.target, e))?;
        self.renamed = true;
        // So that the new name survives a power cut. Not every system can do this to a directory.
        if let Some(Ok(directory)) = self.target.parent().map(File::open) {
            drop(directory.sync_all());
        }
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            // There is nobody left to tell if this fails; the name says that it is temporary.
            drop(std::fs::remove_file(&self.path).or_else(|_| std::fs::remove_dir_all(&self.path)));
        }
    }
}
