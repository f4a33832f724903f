//! Decoded weights with columns side by side, as the products of training take them, a block of outputs at a time.

use super::float::{DECODED, READY_FLOATS, decode_columns};
use super::formats::{GROUP, TILE};
use super::line::Line;
use super::packed::{PackedMatrix, Tiles};
use crate::isa::Isa;
use crate::lanes::{Kernel, Lanes, Proof, Register, Work};
use crate::memory::Slab;
use glimmer_tensor::DeviceError;
use std::ops::Range;

/// Room for the decoded columns of a tile.
pub(crate) struct Ready(Slab<Line>);

impl Ready {
    /// Bytes of it.
    pub(crate) const BYTES: usize = READY_FLOATS * size_of::<Line>();

    /// It.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`].
    pub(crate) fn new(what: &'static str) -> Result<Self, DeviceError> {
        Ok(Ready(Slab::zeroed(READY_FLOATS, what)?))
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.0.bytes()
    }
}

impl PackedMatrix {
    /// The first output after `output` that need not have its type.
    pub(crate) fn same_type_until(&self, output: usize) -> usize {
        let mut ends = self.tiles().segments.iter().map(|segment| segment.first + segment.rows);
        ends.find(|&end| end > output).expect("segments cover all outputs")
    }

    /// Decodes outputs of one type, from a tile's first on, in columns from a multiple of 32 on: panels of two vectors of
    /// columns for each output; or for each pair of outputs, rounded to bfloat16, where there are lanes for that.
    pub(crate) fn decode_panels<S: Register>(
        &self,
        s: S,
        pairs: Option<S::Pairs>,
        outputs: Range<usize>,
        columns: Range<usize>,
        ready: &mut Ready,
        to: &mut [f32],
    ) {
        let tiles = self.tiles();
        assert!(!tiles.gated && columns.len() <= DECODED, "some columns of a matrix that is not gated");
        let segment = tiles.segments.iter().find(|s| s.first + s.rows > outputs.start);
        let segment = segment.expect("segments cover all outputs");
        let first = (outputs.start - segment.first) / TILE;
        let (count, width) = (outputs.len(), 2 * S::LANES);
        // Outputs to an element.
        let each = if pairs.is_some() { 2 } else { 1 };
        for (i, output) in (0..count).step_by(TILE).enumerate() {
            let tile = tiles.tile(segment, first + i, 0);
            let dtype = segment.sides[0].dtype;
            decode_columns(s.sixteen(), dtype, tile, self.cols(), columns.clone(), &mut ready.0);
            let from: &mut [f32] = bytemuck::cast_slice_mut(&mut ready.0[..2 * columns.len()]);
            let to = &mut to[output / each * width..];
            let outputs = 0..TILE.min(count - output).div_ceil(each);
            let (column, stride, next) = (TILE / each, width, width * count.div_ceil(each));
            match pairs {
                None => s.run(Turn { from, column, outputs, to, stride, pairs: next }),
                Some(pairs) => {
                    pairs.run(PairOutputs(from));
                    let from = &from[..columns.len() * column];
                    s.run(Turn { from, column, outputs, to, stride, pairs: next });
                }
            }
        }
    }

    /// Decodes rows from `first` on, as many as `out` has room for.
    ///
    /// # Panics
    /// As [`PackedMatrix::decode_row`].
    pub(crate) fn decode_rows(&self, isa: Isa, first: usize, out: &mut [f32]) {
        let cols = self.cols();
        let rows = out.len() / cols.max(1);
        match self.single_tiles() {
            Some(tiles) => {
                Proof::of(isa).work(DecodeRows { tiles, cols, rows: first..first + rows, out });
            }
            None => {
                for (row, out) in out.chunks_exact_mut(cols).enumerate() {
                    self.decode_row(isa, first + row, out);
                }
            }
        }
    }

    /// A bias for each row.
    pub(crate) fn bias(&self) -> Option<Vec<f32>> {
        let tiles = self.any_tiles()?;
        let sides = if tiles.gated { 2 } else { 1 };
        let mut bias = Vec::with_capacity(self.rows());
        for side in 0..sides {
            for segment in &tiles.segments {
                for output in 0..segment.rows {
                    let lines = tiles.bias(segment, output / TILE)?;
                    let word = lines[2 * side + output % TILE / GROUP].word(output % GROUP);
                    bias.push(f32::from_bits(word));
                }
            }
        }
        Some(bias)
    }
}

/// Decodes rows of tiles.
struct DecodeRows<'a> {
    tiles: &'a Tiles,
    cols: usize,
    rows: Range<usize>,
    out: &'a mut [f32],
}

impl Work for DecodeRows<'_> {
    type Output = ();

    fn work<S: Register>(self, s: S) {
        let DecodeRows { tiles, cols, rows, out } = self;
        let mut lines = [Line::ZERO; READY_FLOATS];
        let mut row = rows.start;
        while row < rows.end {
            let segment = tiles.segments.iter().find(|s| s.first + s.rows > row);
            let segment = segment.expect("segments cover all outputs");
            let at = row - segment.first;
            let end = (segment.first + segment.rows).min(rows.end).min(row - at % TILE + TILE);
            let outputs = at % TILE..at % TILE + (end - row);
            let tile = tiles.tile(segment, at / TILE, 0);
            for start in (0..cols).step_by(DECODED) {
                let columns = start..cols.min(start + DECODED);
                decode_columns(s.sixteen(), segment.sides[0].dtype, tile, cols, columns.clone(), &mut lines);
                let from = bytemuck::cast_slice(&lines[..2 * columns.len()]);
                let to = &mut out[(row - rows.start) * cols + start..];
                let (outputs, pairs) = (outputs.clone(), 2 * S::LANES);
                s.run(Turn { from, column: TILE, outputs, to, stride: cols, pairs });
            }
            row = end;
        }
    }
}

/// Rounds the outputs of decoded columns to bfloat16, two to an element, in place: they take half the room then.
struct PairOutputs<'a>(&'a mut [f32]);

impl Kernel for PairOutputs<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        for i in 0..self.0.len() / (2 * S::LANES) {
            let from = self.0[2 * S::LANES * i..][..2 * S::LANES].as_ptr();
            // SAFETY: two vectors of the slice.
            let words = unsafe { s.pair(s.load(from), s.load(from.add(S::LANES))) };
            // SAFETY: a vector of the slice, whose elements were read before.
            unsafe { s.store_u32(words, self.0[S::LANES * i..][..S::LANES].as_mut_ptr().cast()) };
        }
    }
}

/// Turns decoded columns of a tile, outputs side by side, into runs of columns.
struct Turn<'a> {
    /// The elements of each column, so many.
    from: &'a [f32],
    column: usize,
    /// Which of them.
    outputs: Range<usize>,
    /// Where they go: each output `stride` after the one before, two vectors of columns in a run, and those runs `pairs` apart.
    to: &'a mut [f32],
    stride: usize,
    pairs: usize,
}

impl Kernel for Turn<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        let Turn { from, column, outputs, to, stride, pairs } = self;
        for (i, from) in from.chunks(S::LANES * column).enumerate() {
            let to = &mut to[i / 2 * pairs + i % 2 * S::LANES..];
            let square = from.len() == S::LANES * column && outputs.start == 0;
            let whole = if square { outputs.end / S::LANES * S::LANES } else { 0 };
            for o in (0..whole).step_by(S::LANES) {
                let (from, to) = (&from[o..], &mut to[o * stride..]);
                assert!(from.len() >= (S::LANES - 1) * column + S::LANES);
                assert!(to.len() >= (S::LANES - 1) * stride + S::LANES);
                // SAFETY: as just checked.
                unsafe { s.transpose(from.as_ptr(), column, to.as_mut_ptr(), stride) };
            }
            for (c, column) in from.chunks_exact(column).enumerate() {
                for o in outputs.start.max(whole)..outputs.end {
                    to[(o - outputs.start) * stride + c] = column[o];
                }
            }
        }
    }
}
