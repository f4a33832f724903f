//! What a model's files say of its input, and what that makes of pictures.

mod read;
mod rows;
mod sizing;

use crate::resize::{Arithmetic, Filter, resize};
use crate::{Picture, PictureError, ProcessorError};

pub use crate::video::VideoRules;
pub use read::{Kind, ProcessorFiles};
pub use rows::Rows;
pub(crate) use sizing::Sizing;

/// Mean and deviation of CLIP's training pictures, by channel.
const CLIP: ([f64; 3], [f64; 3]) =
    ([0.481_454_66, 0.457_827_5, 0.408_210_73], [0.268_629_54, 0.261_302_58, 0.275_777_11]);

/// How pictures become rows: the values of a `preprocessor_config.json`, with what its class adds.
#[derive(Clone, Debug, PartialEq)]
pub struct Processor {
    picture: Recipe,
    video: Option<(Recipe, VideoRules)>,
    /// Keys of the files that mean nothing here, for whoever wants to tell.
    unread: Vec<String>,
}

/// Size, colours and patches of one kind of input.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Recipe {
    pub(crate) sizing: Sizing,
    pub(crate) filter: Filter,
    pub(crate) colours: Colours,
    /// Pixels of a patch's side.
    pub(crate) patch: usize,
    /// Patches of a block's side: a block's patches follow each other, and the tower makes one token of them.
    pub(crate) merge: usize,
    /// Frames that one patch spans.
    pub(crate) span: usize,
}

/// What becomes of a level between 0 and 255.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Colours {
    pub(crate) arithmetic: Arithmetic,
    pub(crate) mean: [f64; 3],
    pub(crate) std: [f64; 3],
    /// What a level is multiplied by; `None`: nothing.
    pub(crate) scale: Option<f64>,
    pub(crate) is_normalized: bool,
}

impl Processor {
    /// GLM-4V-9B's, which its code has and no file: stretched to a square of `side`, bicubic, CLIP's colours.
    ///
    /// # Errors
    /// When the side is no multiple of the patch, or either is larger than is possible.
    pub fn stretched(side: usize, patch: usize) -> Result<Self, ProcessorError> {
        let colours = Colours::new(Arithmetic::Pillow, CLIP.0, CLIP.1);
        Self::square(Sizing::Stretched { side }, Filter::Bicubic, colours, patch)
    }

    /// GLM-Edge-V's where no file says otherwise: fitted into a square of `side`, black to the right and below, bicubic
    /// (OpenVINO GenAI says so of its `preprocessor_config.json`).
    ///
    /// # Errors
    /// Those of [`stretched`](Self::stretched).
    pub fn fitted(side: usize, patch: usize) -> Result<Self, ProcessorError> {
        let colours = Colours::new(Arithmetic::Pillow, [0.5; 3], [0.5; 3]);
        Self::square(Sizing::Fitted { side }, Filter::Bicubic, colours, patch)
    }

    fn square(
        sizing: Sizing,
        filter: Filter,
        colours: Colours,
        patch: usize,
    ) -> Result<Self, ProcessorError> {
        let picture = Recipe { sizing, filter, colours, patch, merge: 1, span: 1 };
        picture.check()?;
        Ok(Processor { picture, video: None, unread: Vec::new() })
    }

    /// The same with another reference's arithmetic: transformers has each of these processors twice.
    pub fn with_arithmetic(mut self, arithmetic: Arithmetic) -> Self {
        self.picture.colours.arithmetic = arithmetic;
        if let Some((video, _)) = &mut self.video {
            video.colours.arithmetic = arithmetic;
        }
        self
    }

    /// Keys of the files that are neither used nor known to mean nothing here.
    pub fn unread(&self) -> &[String] {
        &self.unread
    }

    /// How frames are chosen and timed, if the model takes videos.
    pub fn video(&self) -> Option<&VideoRules> {
        self.video.as_ref().map(|(_, rules)| rules)
    }

    /// The rows of one picture. Their digest is this processor's and the picture's.
    ///
    /// # Errors
    /// When the picture is too thin for the processor, or its bounds have no room for it.
    pub fn rows(&self, picture: &Picture) -> Result<Rows, PictureError> {
        self.picture.rows(&[picture])
    }

    /// The rows of a video's frames, which are all of one size.
    ///
    /// # Errors
    /// Those of [`rows`](Self::rows), and when there are no frames or the model takes no videos.
    pub fn video_rows(&self, frames: &[Picture]) -> Result<Rows, PictureError> {
        let (recipe, _) = self.video.as_ref().ok_or(PictureError::NoVideo)?;
        recipe.rows(&frames.iter().collect::<Vec<_>>())
    }

    /// Patches of the largest grid that it makes of any picture.
    pub fn most_patches(&self) -> usize {
        let Recipe { patch, merge, span, .. } = self.picture;
        let most = match self.picture.sizing {
            Sizing::Budget { max, .. } => max / (span * patch * patch) as u64,
            Sizing::Padded { max, expand, .. } => {
                max.saturating_mul((merge * expand * merge * expand) as u64)
            }
            Sizing::Stretched { side } | Sizing::Fitted { side } => (side / patch * (side / patch)) as u64,
        };
        // Whatever the bounds say, there is one block.
        usize::try_from(most).unwrap_or(usize::MAX).max(merge * merge)
    }

    /// Rows that a picture of this size becomes, as `[frames, rows, columns]` of patches: without making it.
    ///
    /// # Errors
    /// Those of [`rows`](Self::rows).
    pub fn grid(&self, width: usize, height: usize) -> Result<[usize; 3], PictureError> {
        let size = self.picture.sizing.target(&self.picture, self.picture.span, width, height)?;
        Ok([1, size.height / self.picture.patch, size.width / self.picture.patch])
    }
}

/// The largest side of a patch, and of the squares that some processors make.
const MOST_PATCH: usize = 64;
const MOST_SIDE: usize = 4_096;

impl Recipe {
    /// That squares are made of whole blocks; other sizes always are.
    fn check(&self) -> Result<(), ProcessorError> {
        if !(1..=MOST_PATCH).contains(&self.patch) {
            let found = self.patch.to_string();
            return Err(ProcessorError::Value { key: "patch_size", found, expected: "at most 64" });
        }
        match self.sizing {
            Sizing::Stretched { side } | Sizing::Fitted { side }
                if !(1..=MOST_SIDE).contains(&side) || side % (self.patch * self.merge) != 0 =>
            {
                let expected = "a multiple of the patch, at most 4096,";
                Err(ProcessorError::Value { key: "size", found: side.to_string(), expected })
            }
            _ => Ok(()),
        }
    }

    /// A still picture stands for all frames of its patches; of a video, the last frame is repeated until patches are full.
    fn rows(&self, frames: &[&Picture]) -> Result<Rows, PictureError> {
        let first = frames.first().ok_or(PictureError::NoFrames)?;
        let count = if frames.len() == 1 { self.span } else { frames.len() };
        let size = self.sizing.target(self, count, first.width(), first.height())?;
        let made = frames.iter().map(|frame| {
            let content =
                resize(frame, size.content_width, size.content_height, self.filter, self.colours.arithmetic);
            padded(content, size.width, size.height)
        });
        Ok(Rows::new(made.collect(), self))
    }
}

/// The picture with black to its right and below it.
fn padded(picture: Picture, width: usize, height: usize) -> Picture {
    if (picture.width(), picture.height()) == (width, height) {
        return picture;
    }
    let mut pixels = vec![0; width * height * 3];
    for (out, row) in
        pixels.chunks_exact_mut(width * 3).zip(picture.pixels().chunks_exact(picture.width() * 3))
    {
        out[..row.len()].copy_from_slice(row);
    }
    Picture::new(width, height, pixels).unwrap_or(picture)
}

impl Colours {
    fn new(arithmetic: Arithmetic, mean: [f64; 3], std: [f64; 3]) -> Self {
        Colours { arithmetic, mean, std, scale: Some(1.0 / 255.0), is_normalized: true }
    }

    /// What each of the 256 levels becomes, by channel, each operation rounded as the reference rounds it.
    fn levels(&self) -> [[f32; 256]; 3] {
        std::array::from_fn(|channel| {
            let (mean, std) = (self.mean[channel] as f32, self.std[channel] as f32);
            std::array::from_fn(|level| match (self.arithmetic, self.scale, self.is_normalized) {
                (_, None, false) => level as f32,
                (_, None, true) => (level as f32 - mean) / std,
                (Arithmetic::Torch, Some(scale), false) => level as f32 * scale as f32,
                (Arithmetic::Torch, Some(scale), true) => {
                    let back = (1.0 / scale) as f32;
                    (level as f32 - mean * back) / (std * back)
                }
                (Arithmetic::Pillow, Some(scale), false) => (level as f64 * scale) as f32,
                (Arithmetic::Pillow, Some(scale), true) => ((level as f64 * scale) as f32 - mean) / std,
            })
        })
    }
}
