//! Frames of an animation or of a folder, sampled with their timestamps as the reference processors do.

use std::ffi::OsString;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use glimmer_config::{FileError, file};
use image::codecs::{gif::GifDecoder, webp::WebPDecoder};
use image::{AnimationDecoder, DynamicImage, ImageDecoder, ImageFormat};

use crate::decode::{check_size, decoder_error, decoder_limits, format_of, name_of};
use crate::{Limits, Picture, PictureError, decode};

/// The frames of a video that a model is shown, and when each was.
#[derive(Clone, Debug)]
pub struct Video {
    frames: Vec<Picture>,
    seconds: Vec<f64>,
}

/// What a video has: so many frames, so many a second.
#[derive(Clone, Copy, Debug)]
pub struct Frames {
    /// All frames.
    pub count: usize,
    /// Frames a second.
    pub rate: f64,
}

/// How a processor chooses frames and writes their times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VideoRules {
    sampling: Sampling,
    style: TimeStyle,
}

/// Which frames are taken (transformers 5.23.0).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Sampling {
    /// Glm4v: so many a second; of a longer video as many as of one of `seconds`.
    Even { fps: f64, seconds: u64 },
    /// Glm46V: 6, 2 or 1 a second by the video's length, 640 at most.
    Tiered,
    /// Glm5Next: so many a second, `frames` at most.
    Capped { fps: f64, seconds: Option<u64>, frames: usize },
}

/// How a time stands in the prompt, after each pair of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeStyle {
    /// `3`: Glm4v.
    Seconds,
    /// `3.5 seconds`: Glm46V and Glm5Next.
    Tenths,
}

impl TimeStyle {
    /// The time as text.
    pub fn text(self, seconds: f64) -> String {
        match self {
            TimeStyle::Seconds => format!("{}", seconds.trunc()),
            TimeStyle::Tenths => format!("{seconds:.1} seconds"),
        }
    }
}

impl VideoRules {
    pub(crate) fn new(sampling: Sampling, style: TimeStyle) -> Self {
        VideoRules { sampling, style }
    }

    /// How times are written.
    pub fn style(&self) -> TimeStyle {
        self.style
    }

    /// The frames that are taken, an even number of them: the last is taken twice where that is needed.
    ///
    /// # Errors
    /// When there are no frames or the rate is none.
    pub fn sample(&self, frames: Frames) -> Result<Vec<usize>, PictureError> {
        if frames.count == 0 {
            return Err(PictureError::NoFrames);
        }
        if !(frames.rate > 0.0 && frames.rate <= 1_000.0) {
            return Err(PictureError::Rate(frames.rate));
        }
        let mut chosen = match self.sampling {
            Sampling::Even { fps, seconds } => even(frames, fps, seconds),
            Sampling::Tiered => {
                let fps = match frames.seconds() {
                    ..=30.0 => 6.0,
                    ..=300.0 => 2.0,
                    _ => 1.0,
                };
                steps(frames, fps, 2_400.0, 640)
            }
            Sampling::Capped { fps, seconds, frames: most } => {
                steps(frames, fps, seconds.map_or(f64::INFINITY, |seconds| seconds as f64), most)
            }
        };
        chosen.dedup();
        if chosen.is_empty() {
            // A video shorter than a step: the references fail.
            chosen.push(0);
        }
        if chosen.len() % 2 == 1 {
            chosen.extend(chosen.last().copied());
        }
        Ok(chosen)
    }
}

impl Frames {
    fn seconds(self) -> f64 {
        self.count as f64 / self.rate
    }
}

/// `sample_frames` of Glm4vVideoProcessor.
fn even(frames: Frames, fps: f64, most_seconds: u64) -> Vec<usize> {
    let last = frames.count - 1;
    let at = |second: f64| ((second * frames.rate).ceil() as usize).min(last);
    if frames.seconds() <= most_seconds as f64 {
        let count = ((frames.seconds() * fps).floor() as usize).max(1);
        return (0..count).map(|i| ((i as f64 * frames.rate / fps).ceil() as usize).min(last)).collect();
    }
    let count = (most_seconds as f64 * fps) as usize;
    if count >= frames.count {
        return (0..frames.count).collect();
    }
    linspace(0.0, frames.seconds(), count).map(at).collect()
}

/// `sample_frames` of Glm46VVideoProcessor and Glm5NextVideoProcessor: a frame whenever the time for the next has come,
/// spread evenly where those are too few or too many.
fn steps(frames: Frames, fps: f64, most_seconds: f64, most_frames: usize) -> Vec<usize> {
    let wanted = ((frames.seconds().min(most_seconds) * fps) as usize).min(most_frames);
    let spread = |from: usize, to: usize| -> Vec<usize> {
        linspace(from as f64, to as f64, wanted).map(|at| at as usize).collect()
    };
    let last = frames.count - 1;
    if frames.count < wanted {
        return spread(0, last);
    }
    let (step, end) = (1.0 / fps, frames.seconds().trunc());
    let a_frame = 1.0 / frames.rate;
    let mut next = 0.0;
    let mut chosen = Vec::new();
    for frame in 0..frames.count {
        if frame as f64 * a_frame >= next {
            next += step;
            chosen.push(frame);
            if next >= end {
                break;
            }
        }
    }
    match chosen.len() {
        len if len < wanted => spread(chosen[0], chosen[len - 1]),
        len if len > wanted => spread(0, last),
        _ => chosen,
    }
}

/// NumPy's: the end is among the numbers, exactly.
fn linspace(from: f64, to: f64, count: usize) -> impl Iterator<Item = f64> {
    let step = (to - from) / count.saturating_sub(1).max(1) as f64;
    (0..count).map(move |i| if i > 0 && i + 1 == count { to } else { i as f64 * step + from })
}

impl Video {
    /// The frames of a GIF or WebP that the rules choose. Its rate is the mean one: its frames by its duration.
    ///
    /// # Errors
    /// Those of [`decode()`], when it has one frame alone, too many, or too many pixels.
    pub fn of_animation(bytes: &[u8], rules: &VideoRules, limits: &Limits) -> Result<Self, PictureError> {
        let mut delays = Vec::new();
        each_frame(bytes, limits, |delay, _| {
            delays.push(delay);
            Ok(())
        })?;
        let seconds: f64 = delays.iter().sum();
        // As browsers and ffmpeg have it: a GIF without times runs at ten frames a second.
        let rate = if seconds > 0.0 { (delays.len() as f64 / seconds).min(1_000.0) } else { 10.0 };
        let chosen = rules.sample(Frames { count: delays.len(), rate })?;
        let mut frames: Vec<Picture> = Vec::new();
        let mut at = 0;
        each_frame(bytes, limits, |_, image| {
            let times = chosen.iter().filter(|frame| **frame == at).count();
            at += 1;
            if times > 0 {
                let picture = Picture::from(image.into_rgb8());
                check_video(frames.len() + times, &picture, limits)?;
                frames.extend(std::iter::repeat_n(picture, times));
            }
            Ok(())
        })?;
        Ok(Video { frames, seconds: chosen.iter().map(|frame| *frame as f64 / rate).collect() })
    }

    /// The pictures of a folder in the order of their names, numbers in them as numbers: with a rate those that the rules
    /// choose, without one all of them, as 24 a second.
    ///
    /// # Errors
    /// When the folder cannot be read, holds no picture or too many, or one of them is no picture or of another size.
    pub fn of_folder(
        folder: &Path,
        rate: Option<f64>,
        rules: &VideoRules,
        limits: &Limits,
    ) -> Result<Self, PictureError> {
        let paths = files_of(folder, limits)?;
        let chosen = match rate {
            Some(rate) => rules.sample(Frames { count: paths.len(), rate })?,
            None => (0..paths.len()).collect(),
        };
        let mut frames: Vec<Picture> = Vec::new();
        for (number, frame) in chosen.iter().enumerate() {
            let path = &paths[*frame];
            let bytes = file::read_bytes(path, limits.bytes as u64)?.unwrap_or_default();
            let picture = decode(&bytes, limits)
                .map_err(|source| PictureError::Frame { path: path.clone(), source: Box::new(source) })?;
            if let Some(first) = frames.first().filter(|first| !is_same_size(first, &picture)) {
                return Err(PictureError::FramesDiffer {
                    frame: number + 1,
                    width: picture.width(),
                    height: picture.height(),
                    first_width: first.width(),
                    first_height: first.height(),
                });
            }
            check_video(frames.len() + 1, &picture, limits)?;
            frames.push(picture);
        }
        let rate = rate.unwrap_or(24.0);
        Ok(Video { frames, seconds: chosen.iter().map(|frame| *frame as f64 / rate).collect() })
    }

    /// The frames, all of one size.
    pub fn frames(&self) -> &[Picture] {
        &self.frames
    }

    /// The times that stand in the prompt, in seconds, one after each pair of frames: when its first was shown. The
    /// references count pairs, whatever a patch spans.
    pub fn times(&self) -> Vec<f64> {
        self.seconds.iter().copied().step_by(2).collect()
    }
}

fn is_same_size(one: &Picture, other: &Picture) -> bool {
    (one.width(), one.height()) == (other.width(), other.height())
}

/// Holds the frames that are kept to the limits.
fn check_video(frames: usize, picture: &Picture, limits: &Limits) -> Result<(), PictureError> {
    let (width, height) = (picture.width(), picture.height());
    if (frames * width * height) as u64 > limits.video_pixels {
        return Err(PictureError::NoRoom { frames, width, height });
    }
    Ok(())
}

/// Hands over each frame as it is seen, with its seconds. All are decoded, because each is a change of the one before it;
/// so their pixels are bounded, too, and with them the time.
fn each_frame(
    bytes: &[u8],
    limits: &Limits,
    mut take: impl FnMut(f64, DynamicImage) -> Result<(), PictureError>,
) -> Result<(), PictureError> {
    let format = format_of(bytes, limits)?;
    let name = name_of(format);
    let failed = |error| decoder_error(name, limits, error);
    let cursor = Cursor::new(bytes);
    let (pixels, frames) = match format {
        ImageFormat::Gif => {
            let mut decoder = GifDecoder::new(cursor).map_err(failed)?;
            check_size(&decoder, name, limits)?;
            decoder.set_limits(decoder_limits(limits)).map_err(failed)?;
            (decoder.total_bytes() / 4, decoder.into_frames())
        }
        ImageFormat::WebP => {
            let mut decoder = WebPDecoder::new(cursor).map_err(failed)?;
            if !decoder.has_animation() {
                return Err(PictureError::NotAnimated { format: name });
            }
            check_size(&decoder, name, limits)?;
            decoder.set_limits(decoder_limits(limits)).map_err(failed)?;
            let (width, height) = decoder.dimensions();
            (u64::from(width) * u64::from(height), decoder.into_frames())
        }
        _ => return Err(PictureError::NotAnimated { format: name }),
    };
    let most = limits.frames.min((8 * limits.video_pixels / pixels.max(1)) as usize).max(1);
    for (number, frame) in frames.enumerate() {
        if number == most {
            return Err(PictureError::TooManyFrames { limit: most });
        }
        let frame = frame.map_err(failed)?;
        let (numerator, denominator) = frame.delay().numer_denom_ms();
        let seconds = f64::from(numerator) / f64::from(denominator.max(1)) / 1_000.0;
        take(seconds, DynamicImage::ImageRgba8(frame.into_buffer()))?;
    }
    Ok(())
}

/// The files of a folder in order, but for hidden ones.
fn files_of(folder: &Path, limits: &Limits) -> Result<Vec<PathBuf>, PictureError> {
    let failed = |error| PictureError::File(FileError::io(folder, error));
    let mut names: Vec<OsString> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b".") || entry.path().is_dir() {
            continue;
        }
        if names.len() == limits.frames {
            return Err(PictureError::TooManyFrames { limit: limits.frames });
        }
        names.push(name);
    }
    if names.is_empty() {
        return Err(PictureError::NoFrames);
    }
    names.sort_by_cached_key(|name| in_order(name.as_encoded_bytes()));
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}

/// A key by which `frame2` is before `frame10`: digits are a number, compared by length and then by digit.
fn in_order(name: &[u8]) -> Vec<(usize, Vec<u8>)> {
    let parts = name.chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit());
    let key = |part: &[u8]| {
        let zeros =
            if part[0].is_ascii_digit() { part.iter().take_while(|b| **b == b'0').count() } else { 0 };
        let digits = part[zeros..].to_vec();
        (if part[0].is_ascii_digit() { digits.len() } else { 0 }, digits)
    };
    parts.map(key).chain([(0, name.to_vec())]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_are_numbers() {
        let mut names = ["f10.png", "f2.png", "f1.png", "f02.png", "a.png", "f.png"];
        names.sort_by_key(|name| in_order(name.as_bytes()));
        assert_eq!(names, ["a.png", "f1.png", "f02.png", "f2.png", "f10.png", "f.png"]);
    }

    #[test]
    fn times_are_written_as_python_writes_them() {
        let text = |seconds| (TimeStyle::Seconds.text(seconds), TimeStyle::Tenths.text(seconds));
        assert_eq!(text(0.0), ("0".to_owned(), "0.0 seconds".to_owned()));
        assert_eq!(text(1.95), ("1".to_owned(), "1.9 seconds".to_owned()));
        assert_eq!(text(0.25), ("0".to_owned(), "0.2 seconds".to_owned()));
        assert_eq!(text(1e9 + 0.75), ("1000000000".to_owned(), "1000000000.8 seconds".to_owned()));
    }
}
