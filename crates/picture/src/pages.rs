//! A file of pages: a picture is one of one page, a TIFF may have several.

use crate::decode::format_of;
use crate::{Limits, Picture, PictureError, decode};

/// Pages that are counted of a TIFF; whoever chains more is not followed.
const MOST_PAGES: usize = 16_384;

/// A file of one or more pages. Its pages are decoded one at a time, when they are asked for.
#[derive(Debug)]
pub struct Pages {
    bytes: Vec<u8>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Picture,
    /// Where each page's directory of fields begins.
    Tiff(Vec<u64>),
}

impl Pages {
    /// Looks at the bytes of a file, which may be a stranger's.
    ///
    /// # Errors
    /// When they begin like nothing that has pages.
    pub fn open(bytes: Vec<u8>, limits: &Limits) -> Result<Self, PictureError> {
        let kind = match format_of(&bytes, limits)? {
            image::ImageFormat::Tiff => Kind::Tiff(directories(&bytes)),
            _ => Kind::Picture,
        };
        Ok(Pages { bytes, kind })
    }

    /// How many pages there are, at least one.
    pub fn count(&self) -> usize {
        match &self.kind {
            Kind::Picture => 1,
            Kind::Tiff(directories) => directories.len().max(1),
        }
    }

    /// The page of this index, upright.
    ///
    /// # Errors
    /// Those of [`decode`](crate::decode()).
    ///
    /// # Panics
    /// When there is no such page.
    pub fn page(&mut self, index: usize, limits: &Limits) -> Result<Picture, PictureError> {
        assert!(index < self.count(), "there is such a page");
        if let Kind::Tiff(directories) = &self.kind
            && let Some(directory) = directories.get(index)
        {
            begin_with(&mut self.bytes, *directory);
        }
        decode(&self.bytes, limits)
    }
}

/// Where a TIFF's head says that its first directory is.
const HEAD: u64 = 4;

/// A number of a TIFF, whose first letters tell whether its least byte comes first.
fn number(bytes: &[u8], at: u64, size: usize) -> Option<u64> {
    let at = usize::try_from(at).ok()?;
    let own = bytes.get(at..at.checked_add(size)?)?;
    let digit = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
    Some(if bytes.starts_with(b"II") { own.iter().rev().fold(0, digit) } else { own.iter().fold(0, digit) })
}

/// Where the directory after the one at `at` begins: behind a count of fields and twelve bytes for each.
fn after(bytes: &[u8], at: u64) -> Option<u64> {
    number(bytes, at + 2 + 12 * number(bytes, at, 2)?, 4)
}

/// Where a TIFF's directories begin, in the order in which they name each other: as far as that goes without going back.
fn directories(bytes: &[u8]) -> Vec<u64> {
    let mut found = Vec::new();
    let mut next = number(bytes, HEAD, 4);
    while let Some(at) = next.filter(|at| *at != 0 && found.len() < MOST_PAGES && !found.contains(at)) {
        found.push(at);
        next = after(bytes, at);
    }
    found
}

/// Has a TIFF's head name another directory, which is the one that a decoder reads.
fn begin_with(bytes: &mut [u8], directory: u64) {
    let place = directory as u32;
    let place = if bytes.starts_with(b"II") { place.to_le_bytes() } else { place.to_be_bytes() };
    if let Some(head) = bytes.get_mut(HEAD as usize..HEAD as usize + 4) {
        head.copy_from_slice(&place);
    }
}
