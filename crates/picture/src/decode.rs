//! Bytes -> RGB. What a file is, its content says, never its name. Sizes are known and bounded before pixels are made.

use std::io::Cursor;

use image::codecs::{
    bmp::BmpDecoder, gif::GifDecoder, jpeg::JpegDecoder, png::PngDecoder, tiff::TiffDecoder,
    webp::WebPDecoder,
};
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, RgbImage};

use crate::{Picture, PictureError};

/// What a stranger's picture may take. The default is a camera's picture of 64 million pixels, which holds 460 MB at its peak.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a file.
    pub bytes: usize,
    /// Columns, and rows.
    pub side: u32,
    /// Columns times rows.
    pub pixels: u64,
    /// Bytes that its decoder may hold at once, beside the file's.
    pub memory: u64,
    /// Frames of an animation or a folder.
    pub frames: usize,
    /// Pixels of all frames that are kept of a video; eight times as many are decoded.
    pub video_pixels: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            bytes: 64 << 20,
            side: 65_535,
            pixels: 64 << 20,
            memory: 256 << 20,
            frames: 8_192,
            video_pixels: 64 << 20,
        }
    }
}

/// Makes a picture of a file's bytes: of an animation its first frame, turned upright as its EXIF data says. Transparency
/// is left away, as Pillow's `convert("RGB")` does: what a transparent pixel holds is seen.
///
/// # Errors
/// When the bytes are no picture of a kind that is read, are damaged, or would take more than the limits.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Picture, PictureError> {
    let format = format_of(bytes, limits)?;
    let name = name_of(format);
    let failed = |error| decoder_error(name, limits, error);
    let cursor = Cursor::new(bytes);
    match format {
        ImageFormat::Png => {
            let decoder = PngDecoder::with_limits(cursor, decoder_limits(limits)).map_err(failed)?;
            finish(decoder, name, None, limits)
        }
        ImageFormat::Jpeg => {
            if !is_whole_jpeg(bytes) {
                return Err(PictureError::Damaged { format: name, what: "it has no end".to_owned() });
            }
            finish(JpegDecoder::new(cursor).map_err(failed)?, name, None, limits)
        }
        ImageFormat::Gif => finish(GifDecoder::new(cursor).map_err(failed)?, name, behind_gif(bytes), limits),
        ImageFormat::WebP => finish(WebPDecoder::new(cursor).map_err(failed)?, name, None, limits),
        ImageFormat::Tiff => finish(TiffDecoder::new(cursor).map_err(failed)?, name, None, limits),
        _ => finish(BmpDecoder::new(cursor).map_err(failed)?, name, None, limits),
    }
}

/// The kind of file, one of six, by how it begins.
pub(crate) fn format_of(bytes: &[u8], limits: &Limits) -> Result<ImageFormat, PictureError> {
    if bytes.is_empty() {
        return Err(PictureError::Empty);
    }
    if bytes.len() > limits.bytes {
        return Err(PictureError::TooManyBytes { bytes: bytes.len(), limit: limits.bytes });
    }
    match image::guess_format(bytes) {
        Ok(format) if READ.iter().any(|(read, _)| *read == format) => Ok(format),
        _ => Err(PictureError::NotAPicture { found: what_it_looks_like(bytes) }),
    }
}

const READ: [(ImageFormat, &str); 6] = [
    (ImageFormat::Png, "PNG"),
    (ImageFormat::Jpeg, "JPEG"),
    (ImageFormat::Gif, "GIF"),
    (ImageFormat::WebP, "WebP"),
    (ImageFormat::Tiff, "TIFF"),
    (ImageFormat::Bmp, "BMP"),
];

pub(crate) fn name_of(format: ImageFormat) -> &'static str {
    READ.iter().find(|(read, _)| *read == format).map_or("picture", |(_, name)| name)
}

/// For an error: what people send in place of a picture.
fn what_it_looks_like(bytes: &[u8]) -> &'static str {
    let start = bytes[..bytes.len().min(512)].trim_ascii_start().to_ascii_lowercase();
    let has = |needle: &[u8]| start.windows(needle.len()).any(|window| window == needle);
    let box_type = |brand: &[u8]| bytes.get(4..12).is_some_and(|head| head == [b"ftyp", brand].concat());
    match () {
        () if has(b"<svg") => "an SVG",
        () if has(b"<html") || has(b"<!doctype html") => "an HTML page",
        () if start.starts_with(b"<?xml") => "XML",
        () if start.starts_with(b"%pdf-") => "a PDF",
        () if box_type(b"avif") => "an AVIF",
        () if box_type(b"heic") || box_type(b"mif1") => "a HEIC",
        () if bytes.get(4..8) == Some(b"ftyp") => "a video (MP4)",
        () if bytes.starts_with(&[0x1a, 0x45, 0xdf, 0xa3]) => "a video (Matroska)",
        () if start.starts_with(b"data:") => "a data URI that was not decoded",
        () if bytes.iter().take(512).all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace()) => "text",
        () => "no picture",
    }
}

pub(crate) fn decoder_limits(limits: &Limits) -> image::Limits {
    let mut bounds = image::Limits::default();
    bounds.max_alloc = Some(limits.memory);
    bounds
}

/// Holds a file's own word about its size to the limits, and says what its pixels take.
pub(crate) fn check_size(
    decoder: &impl ImageDecoder,
    format: &'static str,
    limits: &Limits,
) -> Result<(), PictureError> {
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err(PictureError::Damaged { format, what: format!("it is {width} x {height}") });
    }
    if width.max(height) > limits.side || pixels > limits.pixels {
        return Err(PictureError::TooLarge { width, height, side: limits.side, pixels: limits.pixels });
    }
    if decoder.total_bytes() > limits.memory {
        return Err(PictureError::TooMuchMemory { format, limit: limits.memory });
    }
    Ok(())
}

fn finish(
    mut decoder: impl ImageDecoder,
    format: &'static str,
    behind: Option<[u8; 3]>,
    limits: &Limits,
) -> Result<Picture, PictureError> {
    let failed = |error| decoder_error(format, limits, error);
    check_size(&decoder, format, limits)?;
    decoder.set_limits(decoder_limits(limits)).map_err(failed)?;
    // Data that cannot be read says of no turn, and costs nobody the picture.
    let orientation = decoder.orientation().ok();
    let mut image =
        DynamicImage::ImageRgb8(rgb(DynamicImage::from_decoder(decoder).map_err(failed)?, format, behind)?);
    if let Some(orientation) = orientation {
        image.apply_orientation(orientation);
    }
    Ok(image.into_rgb8().into())
}

/// Colours as Pillow's `convert("RGB")` gives them. Of two bytes a value the upper one counts, except in grey without
/// alpha: that Pillow keeps whole (its mode `I;16`), and cuts off at 255. What shows nothing has the colour `behind`, if there
/// is one.
fn rgb(image: DynamicImage, format: &'static str, behind: Option<[u8; 3]>) -> Result<RgbImage, PictureError> {
    let (width, height) = (image.width(), image.height());
    let upper = |value: &u16| (value >> 8) as u8;
    let pixels: Vec<u8> = match &image {
        DynamicImage::ImageRgb8(_) => return Ok(image.into_rgb8()),
        DynamicImage::ImageLuma8(grey) => grey.iter().flat_map(|v| [*v; 3]).collect(),
        DynamicImage::ImageLumaA8(grey) => grey.pixels().flat_map(|p| [p.0[0]; 3]).collect(),
        DynamicImage::ImageRgba8(colours) => {
            let seen = |[r, g, b, a]: [u8; 4]| behind.filter(|_| a == 0).unwrap_or([r, g, b]);
            colours.pixels().flat_map(|pixel| seen(pixel.0)).collect()
        }
        DynamicImage::ImageLuma16(grey) => grey.iter().flat_map(|v| [(*v).min(255) as u8; 3]).collect(),
        DynamicImage::ImageLumaA16(grey) => grey.pixels().flat_map(|p| [upper(&p.0[0]); 3]).collect(),
        DynamicImage::ImageRgb16(colours) => colours.iter().map(upper).collect(),
        DynamicImage::ImageRgba16(colours) => {
            colours.pixels().flat_map(|p| [upper(&p.0[0]), upper(&p.0[1]), upper(&p.0[2])]).collect()
        }
        _ => return Err(PictureError::Unsupported { format, what: "values of 32 bits".to_owned() }),
    };
    RgbImage::from_raw(width, height, pixels)
        .ok_or_else(|| PictureError::Damaged { format, what: "pixels are missing".to_owned() })
}

/// The colour that Pillow fills a GIF with before its first frame is laid on it: the transparent one, else the first. In the
/// frame itself the transparent pixels have it, too.
fn behind_gif(bytes: &[u8]) -> Option<[u8; 3]> {
    let mut reader = gif::DecodeOptions::new().read_info(bytes).ok()?;
    let shared = reader.global_palette().map(<[u8]>::to_vec);
    let frame = reader.next_frame_info().ok()??;
    let palette = frame.palette.as_deref().or(shared.as_deref())?;
    palette.as_chunks().0.get(usize::from(frame.transparent.unwrap_or(0))).copied()
}

/// Whether a JPEG's data ends: its decoder fills up with grey what is missing. Up to the data segments have lengths; in the
/// data 0xFF is followed by the end's 0xD9 nowhere else.
fn is_whole_jpeg(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&[first, marker, high, low]) = bytes.get(at..at + 4) {
        match (first, marker) {
            (0xff, 0xff) => at += 1,
            (0xff, 0xda) => return bytes[at..].windows(2).any(|pair| pair == [0xff, 0xd9]),
            (0xff, _) => at += 2 + usize::from(u16::from_be_bytes([high, low])),
            // Bytes that belong to no segment are skipped by every decoder.
            _ => at += 1,
        }
    }
    false
}

pub(crate) fn decoder_error(format: &'static str, limits: &Limits, error: ImageError) -> PictureError {
    match error {
        ImageError::Limits(_) => PictureError::TooMuchMemory { format, limit: limits.memory },
        ImageError::Unsupported(error) => PictureError::Unsupported { format, what: error.to_string() },
        error => PictureError::Damaged { format, what: error.to_string() },
    }
}
