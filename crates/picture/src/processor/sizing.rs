//! The sizes that the reference processors choose (transformers 5.23.0), with Python's rounding.

use super::Recipe;
use crate::PictureError;

/// The most pixels that any processor may make of one frame, whatever its file says.
const MOST_PIXELS: u64 = 64 << 20;

/// The most pixels that it may make of all frames: what Glm5Next's own 240,000 tokens are, and some.
const MOST_VIDEO_PIXELS: u64 = 512 << 20;

/// How a picture's size is chosen. Sides are multiples of a block's side, `patch * merge`, but for the squares.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Sizing {
    /// Glm4v, Glm46V: nearest multiples, within bounds on the pixels of all frames.
    Budget { min: u64, max: u64 },
    /// Glm5Next: never larger than it is, black up to multiples of `expand` blocks, within bounds on tokens.
    Padded { min: u64, max: u64, expand: usize },
    /// GLM-4V: a square, whatever the shape was.
    Stretched { side: usize },
    /// Mllama with one tile: as large as fits into a square, black beside it.
    Fitted { side: usize },
}

/// What a picture becomes: the picture itself in its new size, and the whole with what is padded.
pub(crate) struct Target {
    pub(crate) content_width: usize,
    pub(crate) content_height: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
}

impl Target {
    fn whole(width: usize, height: usize) -> Self {
        Target { content_width: width, content_height: height, width, height }
    }
}

/// A ratio of sides from which on Glm4v and Glm46V refuse.
const MOST_RATIO: usize = 200;

impl Sizing {
    /// Frames are counted as the reference counts them: a still picture as many times as a patch spans.
    pub(crate) fn target(
        &self,
        recipe: &Recipe,
        frames: usize,
        width: usize,
        height: usize,
    ) -> Result<Target, PictureError> {
        let block = recipe.patch * recipe.merge;
        let target = match *self {
            Sizing::Stretched { side } => Some(Target::whole(side, side)),
            Sizing::Fitted { side } => Some(fitted(side, width, height)),
            Sizing::Budget { min, max } => {
                if is_too_thin(block, width, height) {
                    return Err(PictureError::TooThin { width, height, ratio: MOST_RATIO });
                }
                Some(budget(min, max, block, recipe.span, frames, width, height))
            }
            Sizing::Padded { min, max, expand } => {
                canvas(min, max, block * expand, recipe.span, frames, width, height)
            }
        };
        let is_within = |target: &Target| {
            let pixels = (target.width as u64).saturating_mul(target.height as u64);
            pixels <= MOST_PIXELS && pixels.saturating_mul(frames as u64) <= MOST_VIDEO_PIXELS
        };
        target.filter(is_within).ok_or(PictureError::NoRoom { frames, width, height })
    }
}

/// Sides of at least a block: a smaller picture is made larger before anything else.
fn at_least_a_block(block: usize, width: usize, height: usize) -> (f64, f64) {
    let (width, height, block) = (width as f64, height as f64, block as f64);
    if height >= block && width >= block {
        return (width, height);
    }
    let scale = (block / height).max(block / width);
    ((width * scale).floor(), (height * scale).floor())
}

fn is_too_thin(block: usize, width: usize, height: usize) -> bool {
    let (width, height) = at_least_a_block(block, width, height);
    width.max(height) / width.min(height) > MOST_RATIO as f64
}

/// `smart_resize` of Glm4v and Glm46V. Python's `round` goes to the even neighbour from the middle.
fn budget(
    min: u64,
    max: u64,
    block: usize,
    span: usize,
    frames: usize,
    width: usize,
    height: usize,
) -> Target {
    let (width, height) = at_least_a_block(block, width, height);
    let (block, span, frames) = (block as f64, span as f64, frames as f64);
    let (min, max) = (min as f64, max as f64);
    let mut size = [width, height].map(|side| (side / block).round_ties_even() * block);
    let all = (frames / span).round_ties_even() * span * size[0] * size[1];
    if all > max {
        let shrink = ((frames * height * width) / max).sqrt();
        size = [width, height].map(|side| ((side / shrink / block).floor() * block).max(block));
    } else if all < min {
        let grow = (min / (frames * height * width)).sqrt();
        size = [width, height].map(|side| (side * grow / block).ceil() * block);
    }
    Target::whole(size[0] as usize, size[1] as usize)
}

/// `smart_resize` and the sizes of `resize` of Glm5Next; `None` when not even a block is within the bounds.
fn canvas(
    min: u64,
    max: u64,
    block: usize,
    span: usize,
    frames: usize,
    width: usize,
    height: usize,
) -> Option<Target> {
    let per_token = (span * block * block) as u64;
    let (min, max) = (min.checked_mul(per_token)?, max.checked_mul(per_token)?);
    let align = |side: usize| side.div_ceil(block) * block;
    let groups = ((frames as f64 / span as f64).round_ties_even() as usize * span).max(span);
    let pixels = |width: usize, height: usize| (groups * width * height) as u64;
    let (mut whole_width, mut whole_height) = (align(width), align(height));
    if pixels(whole_width, whole_height) < min {
        let grow = (min as f64 / (frames * height * width) as f64).sqrt();
        let grown = |side: usize| align(((side as f64 * grow).ceil() as usize).max(1));
        (whole_width, whole_height) = (grown(width), grown(height));
    }
    if pixels(whole_width, whole_height) > max {
        if max < pixels(block, block) {
            return None;
        }
        // The highest content that is within the bounds, by bisection.
        (whole_width, whole_height) = (block, block);
        let (mut low, mut high) = (1, height);
        while low <= high {
            let middle = (low + high) / 2;
            let candidate = (align((width * middle / height).max(1)), align(middle));
            if pixels(candidate.0, candidate.1) <= max {
                (whole_width, whole_height) = candidate;
                low = middle + 1;
            } else {
                high = middle - 1;
            }
        }
    }
    let mut scale = (whole_height as f64 / height as f64).min(whole_width as f64 / width as f64);
    if (frames * height * width) as u64 >= min {
        scale = scale.min(1.0);
    }
    let content = |side: usize, whole: usize| ((side as f64 * scale).floor() as usize).min(whole).max(1);
    Some(Target {
        content_width: content(width, whole_width),
        content_height: content(height, whole_height),
        width: whole_width,
        height: whole_height,
    })
}

/// `get_image_size_fit_to_canvas` of Mllama for one tile.
fn fitted(side: usize, width: usize, height: usize) -> Target {
    let (across, down) = (side as f64 / width as f64, side as f64 / height as f64);
    let other = |length: usize, scale: f64| ((length as f64 * scale).floor() as usize).clamp(1, side);
    let (content_width, content_height) =
        if across < down { (side, other(height, across)) } else { (other(width, down), side) };
    Target { content_width, content_height, width: side, height: side }
}

#[cfg(test)]
mod tests {
    use crate::{Kind, Processor};

    /// Sizes of transformers 5.23.0 (Glm4vImageProcessor, Glm5NextImageProcessor) with their defaults.
    #[test]
    fn sizes_are_the_references() {
        let glm4v = Processor::published(Kind::Glm4v);
        for ((height, width), grid) in
            [((70, 350), [1, 4, 24]), ((60, 90), [1, 6, 8]), ((20, 100), [1, 4, 14])]
        {
            assert_eq!(glm4v.grid(width, height).unwrap(), grid, "{height} x {width}");
        }
        let glm5 = Processor::published(Kind::Glm5Next);
        let recipe = &glm5.picture;
        let target = recipe.sizing.target(recipe, 2, 150, 100).unwrap();
        assert_eq!((target.content_width, target.content_height), (150, 100));
        assert_eq!((target.width, target.height), (168, 112));
    }

    #[test]
    fn any_size_has_a_target_or_a_reason() {
        let sides = [1, 2, 13, 14, 27, 28, 29, 200, 5_599, 5_600, 5_601, 65_535];
        for kind in [Kind::Glm4v, Kind::Glm46V, Kind::Glm5Next, Kind::Mllama] {
            let processor = Processor::published(kind);
            let most = processor.most_patches();
            for (width, height) in sides.iter().flat_map(|width| sides.map(|height| (*width, height))) {
                match processor.grid(width, height) {
                    Ok([1, rows, columns]) => {
                        assert!(rows > 0 && columns > 0 && rows * columns <= most, "{width} x {height}");
                    }
                    Ok(grid) => panic!("{grid:?}"),
                    Err(error) => assert!(error.to_string().len() < 300),
                }
            }
        }
    }
}
