//! Pages of a PDF, drawn as pictures.

use std::panic::{AssertUnwindSafe, catch_unwind};

use hayro::hayro_interpret::InterpreterSettings;
use hayro::hayro_syntax::{DecryptionError, LoadPdfError, Pdf as Document};
use hayro::vello_cpu::Pixmap;
use hayro::vello_cpu::color::palette::css::WHITE;
use hayro::{PixmapSettings, RenderCache, RenderSettings, render};

use crate::{Limits, Picture, PictureError};

/// Of an inch, by which a PDF measures.
const UNITS: f32 = 72.0;

/// A PDF whose pages can be found.
pub(crate) struct Pdf(Document);

impl Pdf {
    pub(crate) fn open(bytes: Vec<u8>) -> Result<Self, PictureError> {
        let document = guarded(|| Document::new(bytes))?.map_err(|error| match error {
            LoadPdfError::Decryption(DecryptionError::PasswordProtected) => {
                PictureError::Unsupported { format: "PDF", what: "it wants a password".to_owned() }
            }
            LoadPdfError::Decryption(_) => {
                PictureError::Unsupported { format: "PDF", what: "its encryption is not known".to_owned() }
            }
            LoadPdfError::Invalid => damaged("its pages cannot be found"),
        })?;
        if document.pages().is_empty() {
            return Err(damaged("it has no pages"));
        }
        Ok(Pdf(document))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.pages().len()
    }

    /// Draws a page on white.
    pub(crate) fn page(&self, index: usize, dots: f32, limits: &Limits) -> Result<Picture, PictureError> {
        let page = self.0.pages().get(index).ok_or_else(|| damaged("the page is missing"))?;
        let (width, height) = page.render_dimensions();
        let scale = scale(width, height, dots, limits).ok_or_else(|| damaged("the page has no size"))?;
        let pixmap = guarded(|| {
            let size = PixmapSettings { x_scale: scale, y_scale: scale, bg_color: WHITE };
            // What is kept between pages grows with them, so each has its own.
            render(
                page,
                &RenderCache::new(),
                &InterpreterSettings::default(),
                &RenderSettings::default(),
                &size,
            )
        })?;
        picture(&pixmap).ok_or_else(|| damaged("the page has no size"))
    }
}

/// What draws a page is given a stranger's bytes; what it trips over is theirs.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, PictureError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| damaged("drawing it failed"))
}

fn damaged(what: &str) -> PictureError {
    PictureError::Damaged { format: "PDF", what: what.to_owned() }
}

/// Pixels to a unit, so that a page has at least one and keeps within the limits.
fn scale(width: f32, height: f32, dots: f32, limits: &Limits) -> Option<f32> {
    let most_side = limits.side.min(u32::from(u16::MAX)) as f32;
    let wanted = dots / UNITS;
    let by_side = most_side / width.max(height);
    let by_pixels = (limits.pixels as f32 / (width * height)).sqrt();
    let scale = wanted.min(by_side).min(by_pixels);
    let has_size = scale.is_finite() && scale * width.min(height) >= 1.0;
    has_size.then_some(scale)
}

/// On white nothing shines through, so that colours are as they are.
fn picture(pixmap: &Pixmap) -> Option<Picture> {
    let pixels = pixmap.data().iter().flat_map(|pixel| [pixel.r, pixel.g, pixel.b]).collect();
    Picture::new(usize::from(pixmap.width()), usize::from(pixmap.height()), pixels)
}
