//! A file that is being fetched in pieces, in any order, by a process that may be killed at any moment.
//!
//! It has the bytes where they belong, and behind them a journal of how far each piece has come; a piece grows from its
//! beginning. Bytes are written before the journal says so. Once all is there and checked, the journal is cut off and the
//! file gets its name.
//!
//! Journal: `GLMPART1`, size and length of a piece (u64, little-endian), then of each piece the bytes that are there (u64).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::HubError;
use crate::digest::Growing;

const MAGIC: &[u8; 8] = b"GLMPART1";
const HEAD: u64 = 24;
/// Pieces of a file: more than this room for its journal is not taken.
const MOST_PIECES: u64 = 1 << 20;

/// A file of which parts may be missing.
#[derive(Debug)]
pub(crate) struct Partial {
    path: PathBuf,
    file: File,
    size: u64,
    /// Bytes of each piece, of the last one maybe fewer.
    length: u64,
    /// Of each piece, the bytes that are there.
    done: Vec<AtomicU64>,
}

impl Partial {
    /// Goes on with what lies at a path, or begins anew, with pieces of so many bytes, where that is nothing of ours.
    pub(crate) fn open(path: &Path, size: u64, length: u64) -> Result<Self, HubError> {
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(HubError::io(folder))?;
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path);
        let file = file.map_err(HubError::io(path))?;
        let (length, done) = match journal(&file, size).map_err(HubError::io(path))? {
            Some(found) => found,
            None => (length, begin(&file, size, length).map_err(HubError::io(path))?),
        };
        let done = done.into_iter().map(AtomicU64::new).collect();
        Ok(Partial { path: path.to_owned(), file, size, length, done })
    }

    /// The bytes that a file which was broken off has already.
    pub(crate) fn bytes_at(path: &Path, size: u64) -> u64 {
        let journal = File::open(path).and_then(|file| journal(&file, size));
        journal.ok().flatten().map_or(0, |(_, done)| done.iter().sum())
    }

    /// The bytes that are there.
    pub(crate) fn bytes(&self) -> u64 {
        self.done.iter().map(|done| done.load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The number of pieces.
    pub(crate) fn pieces(&self) -> usize {
        self.done.len()
    }

    /// What is missing of a piece, as offsets of the file.
    pub(crate) fn missing(&self, piece: usize) -> (u64, u64) {
        let begin = piece as u64 * self.length;
        (begin + self.done[piece].load(Ordering::Relaxed), (begin + self.length).min(self.size))
    }

    pub(crate) fn is_whole(&self, piece: usize) -> bool {
        let (from, to) = self.missing(piece);
        from == to
    }

    /// Writes the next bytes of a piece.
    pub(crate) fn write(&self, piece: usize, bytes: &[u8]) -> Result<(), HubError> {
        let (from, to) = self.missing(piece);
        debug_assert!(bytes.len() as u64 <= to - from, "whoever writes has looked");
        let done = self.done[piece].load(Ordering::Relaxed) + bytes.len() as u64;
        self.file.write_all_at(bytes, from).map_err(HubError::io(&self.path))?;
        let entry = self.size + HEAD + 8 * piece as u64;
        self.file.write_all_at(&done.to_le_bytes(), entry).map_err(HubError::io(&self.path))?;
        self.done[piece].store(done, Ordering::Relaxed);
        Ok(())
    }

    /// Adds a piece that is whole to a digest.
    pub(crate) fn digest(&self, piece: usize, digest: &mut Growing) -> Result<(), HubError> {
        let begin = piece as u64 * self.length;
        let end = (begin + self.length).min(self.size);
        let mut buffer = vec![0; (end - begin).min(1 << 20) as usize];
        let mut at = begin;
        while at < end {
            let bytes = &mut buffer[..(end - at).min(1 << 20) as usize];
            self.file.read_exact_at(bytes, at).map_err(HubError::io(&self.path))?;
            digest.update(bytes);
            at += bytes.len() as u64;
        }
        Ok(())
    }

    /// Gives the file its name.
    pub(crate) fn finish(self, name: &Path) -> Result<(), HubError> {
        self.file.set_len(self.size).map_err(HubError::io(&self.path))?;
        std::fs::rename(&self.path, name).map_err(HubError::io(name))
    }

    /// Removes it, because its bytes are not those that were wanted.
    pub(crate) fn discard(self) -> Result<(), HubError> {
        std::fs::remove_file(&self.path).map_err(HubError::io(&self.path))
    }
}

/// What a file's journal says: the length of its pieces, and of each the bytes that are there. None when it is no journal of
/// a file of this size.
fn journal(file: &File, size: u64) -> io::Result<Option<(u64, Vec<u64>)>> {
    let all = file.metadata()?.len();
    if all == size && size > 0 {
        // It was killed between the cut and the name.
        return Ok(Some((size, vec![size])));
    }
    let mut head = [0; HEAD as usize];
    if all < size.saturating_add(HEAD) || file.read_exact_at(&mut head, size).is_err() {
        return Ok(None);
    }
    let number = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().unwrap_or_default());
    let length = number(16);
    if head[..8] != *MAGIC || number(8) != size || length == 0 {
        return Ok(None);
    }
    let pieces = size.div_ceil(length);
    if pieces > MOST_PIECES
        || pieces.checked_mul(8).and_then(|bytes| bytes.checked_add(size + HEAD)) != Some(all)
    {
        return Ok(None);
    }
    let mut entries = vec![0; (all - size - HEAD) as usize];
    file.read_exact_at(&mut entries, size + HEAD)?;
    let done = entries.chunks_exact(8).map(|entry| u64::from_le_bytes(entry.try_into().unwrap_or_default()));
    let done: Vec<u64> = done.collect();
    let room = |piece: usize| length.min(size - piece as u64 * length);
    let is_sound = done.iter().enumerate().all(|(piece, done)| *done <= room(piece));
    Ok(is_sound.then_some((length, done)))
}

/// An empty file with an empty journal. Nothing is written where bytes will be.
fn begin(file: &File, size: u64, length: u64) -> io::Result<Vec<u64>> {
    let pieces = size.div_ceil(length);
    file.set_len(0)?;
    file.set_len(size + HEAD + 8 * pieces)?;
    let head = [&MAGIC[..], &size.to_le_bytes(), &length.to_le_bytes()].concat();
    file.write_all_at(&head, size)?;
    Ok(vec![0; pieces as usize])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Expected;

    #[test]
    fn what_was_written_is_there_when_it_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/x.incomplete");
        let partial = Partial::open(&path, 25, 10).unwrap();
        assert_eq!((partial.pieces(), partial.bytes()), (3, 0));
        partial.write(2, b"uvwxy").unwrap();
        partial.write(0, b"abc").unwrap();
        drop(partial);
        assert_eq!(Partial::bytes_at(&path, 25), 8);
        let partial = Partial::open(&path, 25, 10).unwrap();
        assert_eq!((partial.missing(0), partial.missing(1), partial.is_whole(2)), ((3, 10), (10, 20), true));
        partial.write(0, b"defghij").unwrap();
        partial.write(1, b"klmnopqrst").unwrap();
        let mut digest = Expected::of_blob(&"0".repeat(40), 25).unwrap().start();
        (0..3).for_each(|piece| partial.digest(piece, &mut digest).unwrap());
        let mut whole = Expected::of_blob(&"0".repeat(40), 25).unwrap().start();
        whole.update(b"abcdefghijklmnopqrstuvwxy");
        assert_eq!(digest.text(), whole.text());
        partial.finish(&folder.path().join("x")).unwrap();
        assert_eq!(std::fs::read(folder.path().join("x")).unwrap(), b"abcdefghijklmnopqrstuvwxy");
        assert!(!path.exists());
    }

    #[test]
    fn what_is_no_journal_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        Partial::open(&path, 25, 10).unwrap().write(0, b"abc").unwrap();
        let good = std::fs::read(&path).unwrap();
        let mut far = good.clone();
        far[25 + 24] = 11;
        let mut other = good.clone();
        other[25] = b'X';
        for bad in [&b""[..], b"abc", &far, &other, &good[..good.len() - 1], &[0; 200]] {
            std::fs::write(&path, bad).unwrap();
            assert_eq!(Partial::open(&path, 25, 10).unwrap().bytes(), 0);
        }
        std::fs::write(&path, &good).unwrap();
        assert_eq!(Partial::open(&path, 24, 10).unwrap().bytes(), 0);
    }

    #[test]
    fn a_file_that_was_killed_before_it_got_its_name_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, [7; 25]).unwrap();
        let partial = Partial::open(&path, 25, 10).unwrap();
        assert_eq!((partial.bytes(), partial.is_whole(0)), (25, true));
    }
}
