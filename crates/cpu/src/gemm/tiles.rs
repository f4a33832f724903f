//! Tiles of packed rows times packed columns.

use super::{Area, DEPTH, tile_columns};
use crate::lanes::{FloatLanes, Kernel, Lanes};

/// Rows of a tile: so many that its sums, twice as many vectors, stay in registers beside what they are made of.
pub(super) const fn rows<S: FloatLanes>() -> usize {
    match S::LANES {
        16 => 12,
        8 => 6,
        _ => 4,
    }
}

/// How packed rows lie.
#[derive(Clone, Copy)]
pub(super) enum Form {
    /// One row behind the other, [`DEPTH`] elements apart.
    Rows,
    /// For each term all rows of a panel.
    Terms,
    /// As rows, each element two terms as bfloat16, and so each element of the columns.
    Pairs,
}

/// All tiles of some packed rows and columns.
pub(super) struct Tiles<'a, 'b> {
    /// Panels of [`rows`] rows.
    pub(super) left: &'a [f32],
    pub(super) form: Form,
    /// Panels of two vectors of columns, for each term (or pair of terms).
    pub(super) right: &'a [f32],
    /// How many terms (or pairs) there are.
    pub(super) depth: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) scale: f32,
    pub(super) adds: bool,
    /// Where the products go, from this row and column on.
    pub(super) area: &'a mut Area<'b>,
    pub(super) row: usize,
    pub(super) column: usize,
}

impl Kernel for Tiles<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        match S::LANES {
            16 => self.of::<S, 12>(s),
            8 => self.of::<S, 6>(s),
            _ => self.of::<S, 4>(s),
        }
    }
}

impl Tiles<'_, '_> {
    #[inline(always)]
    fn of<S: Lanes, const R: usize>(mut self, s: S) {
        let width = tile_columns::<S>();
        let (tiles_down, tiles_across) = (self.rows.div_ceil(R), self.columns.div_ceil(width));
        assert!(self.depth <= DEPTH && tiles_down * R * DEPTH <= self.left.len());
        assert!(tiles_across * width * self.depth <= self.right.len());
        for across in 0..tiles_across {
            let right = self.right[across * width * self.depth..].as_ptr();
            for down in 0..tiles_down {
                let left = self.left[down * R * DEPTH..].as_ptr();
                // SAFETY: as was checked, the panels hold so many terms.
                let sums = unsafe {
                    match self.form {
                        Form::Rows => tile::<S, R, false>(s, left, right, self.depth),
                        Form::Terms => tile::<S, R, true>(s, left, right, self.depth),
                        Form::Pairs => pair_tile::<S, R>(s, left.cast(), right.cast(), self.depth),
                    }
                };
                self.finish(s, &sums, down * R, across * width);
            }
        }
    }

    /// Puts the sums of a tile in their place.
    #[inline(always)]
    fn finish<S: Lanes, const R: usize>(&mut self, s: S, sums: &[[S::F; 2]; R], row: usize, column: usize) {
        let width = tile_columns::<S>();
        let n = (self.columns - column).min(width);
        let scale = s.splat(self.scale);
        for (r, sums) in sums.iter().enumerate().take(self.rows - row) {
            let to = self.area.at(self.row + row + r, self.column + column, n);
            let mut rest = [0f32; 32];
            // SAFETY: `n` elements of the area, or an array of the widest tile's columns, of which `n` are the area's.
            unsafe {
                let at = if n == width { to } else { rest.as_mut_ptr() };
                if n < width {
                    std::ptr::copy_nonoverlapping(to, at, n);
                }
                for (i, &sum) in sums.iter().enumerate() {
                    let at = at.add(i * S::LANES);
                    let value = if self.adds { s.mul_add(sum, scale, s.load(at)) } else { s.mul(sum, scale) };
                    s.store(value, at);
                }
                if n < width {
                    std::ptr::copy_nonoverlapping(at, to, n);
                }
            }
        }
    }
}

/// The sums of a tile of `R` rows.
///
/// # Safety
/// `right` are two vectors for each term, `left` `R` elements for each, where [`Tiles`] has them.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "rows index sums and elements at once")]
unsafe fn tile<S: Lanes, const R: usize, const BY_TERMS: bool>(
    s: S,
    left: *const f32,
    right: *const f32,
    depth: usize,
) -> [[S::F; 2]; R] {
    let mut sums = [[s.splat(0.0); 2]; R];
    for k in 0..depth {
        // SAFETY: the caller's promise.
        let columns = unsafe {
            let at = right.add(k * tile_columns::<S>());
            [s.load(at), s.load(at.add(S::LANES))]
        };
        for r in 0..R {
            let at = if BY_TERMS { k * R + r } else { r * DEPTH + k };
            // SAFETY: the caller's promise.
            let x = s.splat(unsafe { *left.add(at) });
            sums[r][0] = s.mul_add(x, columns[0], sums[r][0]);
            sums[r][1] = s.mul_add(x, columns[1], sums[r][1]);
        }
    }
    sums
}

/// The sums of a tile of `R` rows of pairs.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "rows index sums and elements at once")]
unsafe fn pair_tile<S: Lanes, const R: usize>(
    s: S,
    left: *const u32,
    right: *const u32,
    depth: usize,
) -> [[S::F; 2]; R] {
    let mut sums = [[s.splat(0.0); 2]; R];
    for k in 0..depth {
        // SAFETY: the caller's promise.
        let columns = unsafe {
            let at = right.add(k * tile_columns::<S>());
            [s.load_u32(at), s.load_u32(at.add(S::LANES))]
        };
        for r in 0..R {
            // SAFETY: the caller's promise.
            let x = s.splat_i(unsafe { *left.add(r * DEPTH + k) }.cast_signed());
            sums[r][0] = s.dot_pairs(sums[r][0], x, columns[0]);
            sums[r][1] = s.dot_pairs(sums[r][1], x, columns[1]);
        }
    }
    sums
}
