use std::fmt;
use std::ops::Range;

use sha2::{Digest, Sha256};

use super::Recipe;
use crate::Picture;

/// What a vision tower reads: a row a patch, made when it is asked for. A picture of 15,000 tokens is so 18 MB instead of
/// 280.
///
/// Patches follow each other block by block (`merge` x `merge` of them), blocks along rows, rows from the top, groups of
/// frames in time. Within a row: channels, frames, lines of the patch, its columns.
pub struct Rows {
    /// All of one size, and as many as the grid's frames times `span`, but for a still picture, which is all of them.
    frames: Vec<Picture>,
    levels: Box<[[f32; 256]; 3]>,
    grid: [usize; 3],
    patch: usize,
    merge: usize,
    span: usize,
}

impl Rows {
    pub(super) fn new(frames: Vec<Picture>, recipe: &Recipe) -> Self {
        let (width, height) = frames.first().map_or((0, 0), |frame| (frame.width(), frame.height()));
        Rows {
            grid: [frames.len().div_ceil(recipe.span), height / recipe.patch, width / recipe.patch],
            frames,
            levels: Box::new(recipe.colours.levels()),
            patch: recipe.patch,
            merge: recipe.merge,
            span: recipe.span,
        }
    }

    /// The same, each group of frames by itself: a tower sees one at a time.
    pub fn into_groups(self) -> Vec<Rows> {
        let Rows { frames, levels, grid: [groups, rows, columns], patch, merge, span } = self;
        if groups <= 1 {
            let grid = [groups, rows, columns];
            return vec![Rows { frames, levels, grid, patch, merge, span }];
        }
        let mut frames = frames.into_iter();
        let of = |_| {
            let frames = frames.by_ref().take(span).collect();
            Rows { frames, levels: levels.clone(), grid: [1, rows, columns], patch, merge, span }
        };
        (0..groups).map(of).collect()
    }

    /// Groups of frames, rows of patches, patches in a row: the reference's `image_grid_thw`.
    pub fn grid(&self) -> [usize; 3] {
        self.grid
    }

    /// Patches in a row of the blocks in which they follow each other.
    pub fn merge(&self) -> usize {
        self.merge
    }

    /// Rows.
    pub fn count(&self) -> usize {
        self.grid.iter().product()
    }

    /// Values of one row.
    pub fn width(&self) -> usize {
        3 * self.span * self.patch * self.patch
    }

    /// Tokens that the tower makes of all rows.
    pub fn tokens(&self) -> usize {
        self.count() / (self.merge * self.merge)
    }

    /// The pictures that are cut to patches, of the size that the processor chose.
    pub fn frames(&self) -> &[Picture] {
        &self.frames
    }

    /// Writes the rows of a range, `[rows, width]`.
    ///
    /// # Panics
    /// When the range goes beyond the rows, or `out` has another length.
    pub fn write(&self, rows: Range<usize>, out: &mut [f32]) {
        assert!(
            rows.end <= self.count() && out.len() == rows.len() * self.width(),
            "rows and their room agree"
        );
        for (row, out) in rows.zip(out.chunks_exact_mut(self.width())) {
            self.write_row(row, out);
        }
    }

    /// All rows, `[count, width]`.
    pub fn values(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.count() * self.width()];
        self.write(0..self.count(), &mut values);
        values
    }

    fn write_row(&self, row: usize, out: &mut [f32]) {
        let [_, rows, columns] = self.grid;
        let block = self.merge * self.merge;
        let blocks = columns / self.merge;
        let (group, at) = (row / (rows * columns), row % (rows * columns));
        let (row_of_blocks, rest) = (at / (block * blocks), at % (block * blocks));
        let (block_at, within) = (rest / block, rest % block);
        let top = (row_of_blocks * self.merge + within / self.merge) * self.patch;
        let left = (block_at * self.merge + within % self.merge) * self.patch;
        let mut lines = out.chunks_exact_mut(self.patch);
        for (channel, levels) in self.levels.iter().enumerate() {
            for frame in 0..self.span {
                let frame = &self.frames[(group * self.span + frame).min(self.frames.len() - 1)];
                for line in top..top + self.patch {
                    let start = (line * frame.width() + left) * 3;
                    let pixels = frame.pixels()[start..start + self.patch * 3].chunks_exact(3);
                    let out = lines.next().into_iter().flatten();
                    out.zip(pixels).for_each(|(out, pixel)| *out = levels[usize::from(pixel[channel])]);
                }
            }
        }
    }

    /// What a cache knows the rows by: SHA-256 of everything that they are made of. Stable between runs and machines.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for number in [self.patch, self.merge, self.span].into_iter().chain(self.grid) {
            hash.update((number as u64).to_le_bytes());
        }
        self.levels.iter().flatten().for_each(|level| hash.update(level.to_le_bytes()));
        self.frames.iter().for_each(|frame| hash.update(frame.digest()));
        hash.finalize().into()
    }
}

impl fmt::Debug for Rows {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Rows({:?} of {})", self.grid, self.width())
    }
}
