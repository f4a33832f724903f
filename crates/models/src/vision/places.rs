//! Where patches are: their order, their positions, and which of them become one row.

use std::ops::Range;

use glimmer_picture::Rows;

/// What a tower reads: rows of patches, made when they are asked for.
pub trait Patches: Send + Sync {
    /// Groups of frames, rows of patches, patches in a row.
    fn grid(&self) -> [usize; 3];

    /// Values of a patch.
    fn width(&self) -> usize;

    /// Patches in a row of the blocks in which they follow each other: 1 where they go along rows.
    fn block(&self) -> usize;

    /// Writes the patches of a range, `[patches, width]`.
    fn write(&self, patches: Range<usize>, out: &mut [f32]);
}

impl Patches for Rows {
    fn grid(&self) -> [usize; 3] {
        Rows::grid(self)
    }

    fn width(&self) -> usize {
        Rows::width(self)
    }

    fn block(&self) -> usize {
        Rows::merge(self)
    }

    fn write(&self, patches: Range<usize>, out: &mut [f32]) {
        Rows::write(self, patches, out);
    }
}

/// The order of the patches of a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Patches in a row of the blocks in which they follow each other.
    pub(super) block: usize,
}

impl Order {
    /// Row and column of a patch.
    pub(super) fn place(self, patch: usize) -> [usize; 2] {
        let Order { columns, block, .. } = self;
        let line = columns * block;
        let (band, at) = (patch / line, patch % line);
        let (across, within) = (at / (block * block), at % (block * block));
        [band * block + within / block, across * block + within % block]
    }

    /// The patch at a row and a column.
    pub(super) fn patch(self, [row, column]: [usize; 2]) -> usize {
        let Order { columns, block, .. } = self;
        let within = row % block * block + column % block;
        row / block * columns * block + column / block * block * block + within
    }

    /// The patches of a block of `merge` x `merge` that becomes one row, along its rows.
    pub(super) fn merged(self, token: usize, merge: usize) -> impl Iterator<Item = usize> {
        let blocks = self.columns / merge;
        let [row, column] = [token / blocks * merge, token % blocks * merge];
        (0..merge * merge).map(move |i| self.patch([row + i / merge, column + i % merge]))
    }
}

/// Adds to `row` what a learned grid `[side * side, width]` has at a place: bicubic, as PyTorch's `grid_sample` with
/// `align_corners=False` and `padding_mode="border"`.
pub(super) fn add_sampled(grid: &[f32], side: usize, order: Order, place: [usize; 2], row: &mut [f32]) {
    let (down, across) = (taps(place[0], order.rows, side), taps(place[1], order.columns, side));
    for (y, by_row) in down {
        for (x, by_column) in across {
            let learned = &grid[(y * side + x) * row.len()..][..row.len()];
            row.iter_mut().zip(learned).for_each(|(row, learned)| *row += by_row * by_column * learned);
        }
    }
}

/// Where a place among `count` lies among `side` learned ones: the four nearest and their weights, which are those of cubic
/// convolution with a = -0.75 (Keys, 1981).
fn taps(place: usize, count: usize, side: usize) -> [(usize, f32); 4] {
    const A: f32 = -0.75;
    // In the reference's steps: from -1 to 1, then to the learned grid.
    let normed = (place as f32 + 0.5) / count as f32 * 2.0 - 1.0;
    let at = ((normed + 1.0) * side as f32 - 1.0) / 2.0;
    let (floor, t) = (at.floor(), at - at.floor());
    let near = |d: f32| ((A + 2.0) * d - (A + 3.0)) * d * d + 1.0;
    let far = |d: f32| ((A * d - 5.0 * A) * d + 8.0 * A) * d - 4.0 * A;
    let weights = [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)];
    [0, 1, 2, 3].map(|i| ((floor as isize + i as isize - 1).clamp(0, side as isize - 1) as usize, weights[i]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_go_along_rows_or_block_by_block() {
        for block in [1, 2] {
            let order = Order { rows: 4, columns: 6, block };
            let places: Vec<_> = (0..24).map(|patch| order.place(patch)).collect();
            assert!((0..24).all(|patch| order.patch(places[patch]) == patch));
            let expected = if block == 1 { [0, 5] } else { [0, 3] };
            assert_eq!(places[5], expected);
            let merged: Vec<_> = order.merged(4, 2).map(|patch| places[patch]).collect();
            assert_eq!(merged, [[2, 2], [2, 3], [3, 2], [3, 3]]);
        }
    }

    #[test]
    fn a_grid_sampled_at_its_own_places_is_itself() {
        let grid: Vec<f32> = (0..16).map(|i| (i * i) as f32).collect();
        let order = Order { rows: 4, columns: 4, block: 1 };
        for patch in 0..16 {
            let mut row = [1.0];
            add_sampled(&grid, 4, order, order.place(patch), &mut row);
            assert!((row[0] - grid[patch] - 1.0).abs() < 1e-3, "{row:?}");
        }
    }

    /// Values of `torch.nn.functional.grid_sample` are in the fixtures; these follow from the weights being a partition of
    /// one, and from the border's places counting for those beyond.
    #[test]
    fn weights_add_up_to_one_and_stay_within_the_grid() {
        for (count, side) in [(1, 1), (3, 24), (24, 3), (97, 24)] {
            for place in 0..count {
                let taps = taps(place, count, side);
                assert!((taps.iter().map(|(_, weight)| weight).sum::<f32>() - 1.0).abs() < 1e-5);
                assert!(taps.iter().all(|&(at, _)| at < side));
            }
        }
    }
}
