//! Products of matrices of f32 in any orientation, for training: `out (+)= scale * left right`.
//!
//! A thread computes a rectangle of the output by itself, as Goto and van de Geijn do ("Anatomy of High-Performance Matrix
//! Multiplication", 2008): a block of the sums' terms at a time it copies its rows of the left side, then some columns of the
//! right side ([`sides`]), which are decoded where they are a model's weights, and multiplies tiles of both whose sums stay in
//! registers ([`tiles`]); rounded to bfloat16 in [`pairs`] of terms where that is wanted and the processor multiplies these.
//!
//! An output is the sum of its blocks in order, and a block that of its terms: which thread computes it and beside what else
//! does not show in its bits.

mod area;
mod pairs;
mod sides;
mod tiles;

use crate::isa::Isa;
use crate::lanes::{FloatLanes, Lanes, Proof, Register, Work};
use crate::linear::Ready;
use crate::memory::{Slab, share};
use crate::pool::Pool;
use glimmer_tensor::DeviceError;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

pub(crate) use area::Area;
use pairs::PairRows;
pub(crate) use sides::{Matrix, Right};
use tiles::{Form, Tiles};

/// Terms of a sum that are added up before they join it: the columns of a tile then fit the first-level cache.
const DEPTH: usize = 256;

/// Rows that are multiplied with packed columns, at most, whole tiles of every instruction set: about what the second-level
/// cache holds. With fewer, weights would be decoded more often.
const ROWS: usize = 1056;

/// Columns that are packed at a time.
const COLUMNS: usize = 128;

/// Of so many columns threads get whole groups: the widest tile, and what weights are decoded by.
const UNIT: usize = 32;

/// Multiplications that one thread has done before the others have heard of them.
const WORTH_SHARING: usize = 1 << 15;

/// A thread's packed sides.
pub(crate) struct Panels {
    left: Slab<f32>,
    right: Slab<f32>,
    ready: Ready,
}

impl Panels {
    /// Bytes of one.
    pub(crate) const BYTES: usize = size_of::<f32>() * (ROWS + COLUMNS) * DEPTH + Ready::BYTES;

    /// Room for any product.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`].
    pub(crate) fn new() -> Result<Self, DeviceError> {
        let what = "products of training";
        Ok(Panels {
            left: Slab::zeroed(ROWS * DEPTH, what)?,
            right: Slab::zeroed(COLUMNS * DEPTH, what)?,
            ready: Ready::new(what)?,
        })
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.left.bytes() + self.right.bytes() + self.ready.bytes()
    }
}

/// `scale * left right`, `[m, n]`, of `left` `[m, depth]` and `right` `[depth, n]`.
#[derive(Clone, Copy)]
pub(crate) struct Product<'a> {
    pub(crate) left: Matrix<'a>,
    pub(crate) right: Right<'a>,
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) depth: usize,
    pub(crate) scale: f32,
    /// Whether it is added to what is there.
    pub(crate) adds: bool,
}

impl Product<'_> {
    /// Computes it into `out` `[m, n]` on all threads.
    pub(crate) fn run(&self, pool: &Pool, isa: Isa, panels: &[Mutex<Panels>], out: &mut [f32]) {
        let (m, n) = (self.m, self.n);
        if m == 0 || n == 0 {
            return;
        }
        let threads = if m * n * self.depth < WORTH_SHARING { 1 } else { pool.threads() };
        let out = Area::of(out, n, m, n);
        let units = n.div_ceil(UNIT);
        let by_columns = units >= 2 * threads || n >= m;
        let work = |thread: usize| {
            let (rows, columns) = if by_columns {
                let units = share(units, threads, thread);
                (0..m, units.start * UNIT..n.min(units.end * UNIT))
            } else {
                (share(m, threads, thread), 0..n)
            };
            // SAFETY: the threads' shares are disjoint.
            let area = unsafe { out.part(rows.clone(), columns.clone()) };
            let mut panels = panels[thread].lock().unwrap_or_else(PoisonError::into_inner);
            Proof::of(isa).work(OnThread { product: self, rows, columns, panels: &mut panels, area });
        };
        if threads == 1 { work(0) } else { pool.run(&work) }
    }

    /// Computes the rows and columns that `area` takes.
    pub(crate) fn rectangle<S: Register>(
        &self,
        s: S,
        rows: Range<usize>,
        columns: Range<usize>,
        panels: &mut Panels,
        area: &mut Area<'_>,
    ) {
        let Panels { left, right, ready } = panels;
        let pairs = self.right.pairs(s);
        let form = match pairs {
            Some(_) => Form::Pairs,
            None if self.left.transposed => Form::Terms,
            None => Form::Rows,
        };
        if self.depth == 0 && !self.adds {
            area.clear();
        }
        let panel = tiles::rows::<S>();
        let at_once = rows.len().div_ceil(rows.len().div_ceil(ROWS).max(1)).next_multiple_of(panel);
        for first_row in rows.clone().step_by(at_once.max(1)) {
            let some = first_row..rows.end.min(first_row + at_once);
            let mut start = 0;
            while start < self.depth {
                let terms = start..self.right.block_end(start, self.depth);
                match pairs {
                    None => self.left.pack_rows(panel, some.clone(), terms.clone(), left),
                    Some(pairs) => pairs.run(PairRows {
                        from: self.left,
                        rows: some.clone(),
                        terms: terms.clone(),
                        to: left,
                    }),
                }
                for first in columns.clone().step_by(COLUMNS) {
                    let some_columns = first..columns.end.min(first + COLUMNS);
                    self.right.pack(s, pairs, terms.clone(), some_columns.clone(), ready, right);
                    let depth = terms.len();
                    let tiles = Tiles {
                        left,
                        form,
                        right,
                        depth: if pairs.is_some() { depth.div_ceil(2) } else { depth },
                        rows: some.len(),
                        columns: some_columns.len(),
                        scale: self.scale,
                        adds: self.adds || start > 0,
                        area,
                        row: some.start - rows.start,
                        column: first - columns.start,
                    };
                    match pairs {
                        None => s.run(tiles),
                        Some(pairs) => pairs.run(tiles),
                    }
                }
                start = terms.end;
            }
        }
    }
}

/// A thread's part of a product.
struct OnThread<'a> {
    product: &'a Product<'a>,
    rows: Range<usize>,
    columns: Range<usize>,
    panels: &'a mut Panels,
    area: Area<'a>,
}

impl Work for OnThread<'_> {
    type Output = ();

    fn work<S: Register>(mut self, s: S) {
        self.product.rectangle(s, self.rows, self.columns, self.panels, &mut self.area);
    }
}

/// Columns of a tile: two vectors.
const fn tile_columns<S: FloatLanes>() -> usize {
    2 * S::LANES
}
