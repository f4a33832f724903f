use std::fmt;

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, RgbImage};
use sha2::{Digest, Sha256};

use crate::resize::{Arithmetic, Filter, resize};

/// A picture: rows of RGB from the top, a byte a value.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Picture {
    /// `pixels` are `[height, width, 3]`; `None` when they are not that many, or none.
    pub fn new(width: usize, height: usize, pixels: Vec<u8>) -> Option<Self> {
        let values = width.checked_mul(height)?.checked_mul(3)?;
        (values > 0 && values == pixels.len()).then_some(Picture { width, height, pixels })
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// `[height, width, 3]`.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The picture, no larger than this; its shape stays.
    pub fn within(&self, width: usize, height: usize) -> Picture {
        let scale = (width as f64 / self.width as f64).min(height as f64 / self.height as f64);
        if scale >= 1.0 {
            return self.clone();
        }
        let side = |side: usize| ((side as f64 * scale).round() as usize).max(1);
        resize(self, side(self.width), side(self.height), Filter::Bilinear, Arithmetic::Pillow)
    }

    /// A PNG of it.
    pub fn to_png(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let (width, height) = (self.width as u32, self.height as u32);
        PngEncoder::new(&mut bytes)
            .write_image(&self.pixels, width, height, ExtendedColorType::Rgb8)
            .expect("the pixels are as many as the sides say, and memory takes them");
        bytes
    }

    /// What a cache knows the picture by: SHA-256 of its size and pixels. Two files that show the same have the same.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update((self.width as u64).to_le_bytes());
        hash.update((self.height as u64).to_le_bytes());
        hash.update(&self.pixels);
        hash.finalize().into()
    }
}

impl fmt::Debug for Picture {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Picture({} x {})", self.width, self.height)
    }
}

impl From<RgbImage> for Picture {
    fn from(image: RgbImage) -> Self {
        let (width, height) = image.dimensions();
        Picture { width: width as usize, height: height as usize, pixels: image.into_raw() }
    }
}
