//! A file of pages: a picture is one of one page, a TIFF may have several, and so may a PDF.

use crate::decode::format_of;
#[cfg(feature = "pdf")]
use crate::pdf::Pdf;
use crate::{Limits, Picture, PictureError, decode};

/// Pages that are counted of a TIFF; whoever chains more is not followed.
const MOST_PAGES: usize = 16_384;

/// A file of one or more pages. Its pages are decoded one at a time, when they are asked for.
pub struct Pages {
    bytes: Vec<u8>,
    kind: Kind,
}

enum Kind {
    Picture,
    /// Where each page's directory of fields begins.
    Tiff(Vec<u64>),
    #[cfg(feature = "pdf")]
    Pdf(Box<Pdf>),
}

impl Pages {
    /// Looks at the bytes of a file, which may be a stranger's. PDFs are read with feature `pdf`.
    ///
    /// # Errors
    /// When they begin like nothing that has pages.
    pub fn open(bytes: Vec<u8>, limits: &Limits) -> Result<Self, PictureError> {
        if is_pdf(&bytes) && bytes.len() <= limits.bytes {
            return Self::open_pdf(bytes);
        }
        let kind = match format_of(&bytes, limits)? {
            image::ImageFormat::Tiff => Kind::Tiff(directories(&bytes)),
            _ => Kind::Picture,
        };
        Ok(Pages { bytes, kind })
    }

    #[cfg(feature = "pdf")]
    fn open_pdf(bytes: Vec<u8>) -> Result<Self, PictureError> {
        Ok(Pages { kind: Kind::Pdf(Box::new(Pdf::open(bytes)?)), bytes: Vec::new() })
    }

    #[cfg(not(feature = "pdf"))]
    fn open_pdf(_: Vec<u8>) -> Result<Self, PictureError> {
        Err(PictureError::NoPdf)
    }

    /// How many pages there are, at least one.
    pub fn count(&self) -> usize {
        match &self.kind {
            Kind::Picture => 1,
            Kind::Tiff(directories) => directories.len().max(1),
            #[cfg(feature = "pdf")]
            Kind::Pdf(pdf) => pdf.count(),
        }
    }

    /// The page of this index, upright; of a PDF as it is drawn with so many dots per inch, or fewer where the limits are less.
    ///
    /// # Errors
    /// Those of [`decode`](crate::decode()).
    ///
    /// # Panics
    /// When there is no such page.
    pub fn page(&mut self, index: usize, dots: f32, limits: &Limits) -> Result<Picture, PictureError> {
        assert!(index < self.count(), "there is such a page");
        #[cfg(not(feature = "pdf"))]
        let _ = dots;
        match &self.kind {
            Kind::Picture => {}
            Kind::Tiff(directories) => {
                if let Some(directory) = directories.get(index) {
                    begin_with(&mut self.bytes, *directory);
                }
            }
            #[cfg(feature = "pdf")]
            Kind::Pdf(pdf) => return pdf.page(index, dots, limits),
        }
        decode(&self.bytes, limits)
    }
}

/// Whether these bytes begin like a PDF.
fn is_pdf(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(b"%PDF-")
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
