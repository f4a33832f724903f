use std::path::PathBuf;

use glimmer_config::{FileError, Quoted};

/// Why bytes do not become a picture, or a picture not rows: one line, what is wrong and what is taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    /// There are no bytes.
    #[error("the picture has no bytes")]
    Empty,
    /// More bytes than are looked at.
    #[error("the picture has {bytes} bytes, at most {limit} are taken; make it smaller")]
    TooManyBytes {
        /// Bytes of the file.
        bytes: usize,
        /// [`Limits::bytes`](crate::Limits).
        limit: usize,
    },
    /// The bytes begin like no kind of picture that is read.
    #[error("this is {found}; pictures are taken as PNG, JPEG, GIF, WebP, TIFF or BMP")]
    NotAPicture {
        /// What they look like.
        found: &'static str,
    },
    /// A PDF, in a build that has no reader of them.
    #[error(
        "PDFs are read by release archives and builds with `--features pdf`; `pdftoppm -r 144 -png FILE page` makes pictures of its pages"
    )]
    NoPdf,
    /// Wider, higher or larger than is decoded.
    #[error(
        "the picture is {width} x {height}, at most {side} on a side and {pixels} pixels are taken; make it smaller"
    )]
    TooLarge {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
        /// [`Limits::side`](crate::Limits).
        side: u32,
        /// [`Limits::pixels`](crate::Limits).
        pixels: u64,
    },
    /// Decoding it would take more memory than is given for that.
    #[error("decoding this {format} would take more than {limit} bytes of memory; make it smaller")]
    TooMuchMemory {
        /// The kind of file.
        format: &'static str,
        /// [`Limits::memory`](crate::Limits).
        limit: u64,
    },
    /// The file is cut off or damaged.
    #[error("the {format} is cut off or damaged ({}); send it again", Quoted(what))]
    Damaged {
        /// The kind of file.
        format: &'static str,
        /// What its decoder says.
        what: String,
    },
    /// A form of the kind that is not read.
    #[error("this form of {format} is not read ({}); save it as a plain PNG or JPEG", Quoted(what))]
    Unsupported {
        /// The kind of file.
        format: &'static str,
        /// What its decoder says.
        what: String,
    },
    /// So thin that the reference processor refuses it, too.
    #[error(
        "a picture of {width} x {height} is too thin: one side may be at most {ratio} times the other; crop it"
    )]
    TooThin {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
        /// The largest ratio.
        ratio: usize,
    },
    /// The processor's own bounds leave no room for it.
    #[error(
        "the model's processor has no room for {frames} frames of {width} x {height}; make them smaller or fewer"
    )]
    NoRoom {
        /// Frames.
        frames: usize,
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
    },
    /// More frames than are taken.
    #[error("the video has more than {limit} frames; shorten it")]
    TooManyFrames {
        /// [`Limits::frames`](crate::Limits).
        limit: usize,
    },
    /// A folder without pictures, or a list without frames.
    #[error("there are no frames; a video is taken as a folder of pictures, a GIF or a WebP")]
    NoFrames,
    /// A picture where frames are wanted.
    #[error("a {format} has no frames; a video is taken as a folder of pictures, a GIF or a WebP")]
    NotAnimated {
        /// The kind of file.
        format: &'static str,
    },
    /// Frames of more than one size.
    #[error(
        "frame {frame} is {width} x {height}, the frames before it {first_width} x {first_height}; make them alike"
    )]
    FramesDiffer {
        /// Counted from 1.
        frame: usize,
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
        /// Columns of the first.
        first_width: usize,
        /// Rows of the first.
        first_height: usize,
    },
    /// The model takes pictures and no video.
    #[error("this model takes pictures, no videos")]
    NoVideo,
    /// A frame's rate that is no rate.
    #[error("{0} frames a second is no rate; it is more than 0 and at most 1000")]
    Rate(f64),
    /// A file of a folder.
    #[error("{}: {source}", Quoted(&path.display().to_string()))]
    Frame {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<PictureError>,
    },
    /// A file that cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Why a model's files do not say how its pictures are prepared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessorError {
    /// A processor of a name that is not known.
    #[error("the picture processor {} is not known; GLM's are Glm4v, Glm46V, Glm5Next and Mllama", Quoted(.0))]
    Unknown(String),
    /// No file names one.
    #[error(
        "no file says how pictures are prepared; preprocessor_config.json is missing or has no image_processor_type"
    )]
    Missing,
    /// A value that cannot be.
    #[error("{key} of the picture processor is {}; {expected} is expected", Quoted(found))]
    Value {
        /// Its name in the file.
        key: &'static str,
        /// What stands there, as JSON.
        found: String,
        /// What may stand there.
        expected: &'static str,
    },
}
