//! Bytes of a picture, or of a few frames, -> the rows that a vision tower reads.
//!
//! The bytes are a stranger's. [`decode()`] makes a [`Picture`] of them within [`Limits`], by decoders in Rust alone and with
//! the colours that Pillow's `convert("RGB")` gives. A [`Processor`] is what a model's files say of its input, as data: it
//! cuts a picture to size, normalises it and lays it out in [`Rows`], to the bit as the reference processors do. [`Video`]
//! has the frames of an animation or a folder, sampled with their timestamps.
//!
//! Nothing here knows a tensor, a token or a model's weights.
#![forbid(unsafe_code)]

mod decode;
mod error;
#[doc(hidden)]
pub mod fuzz_entry;
mod pages;
#[cfg(feature = "pdf")]
mod pdf;
mod picture;
mod processor;
mod resize;
mod video;

pub use decode::{Limits, decode};
pub use error::{PictureError, ProcessorError};
pub use pages::Pages;
pub use picture::Picture;
pub use processor::{Kind, Processor, ProcessorFiles, Rows, VideoRules};
pub use resize::{Arithmetic, Filter, resize};
pub use video::{Frames, TimeStyle, Video};
