//! A weight matrix in the layout that the kernels read.
//!
//! A matrix is a list of segments, each of rows of one type (or, gated, of two: gate and value); a segment is a list of
//! tiles of 32 rows, one after the other in memory, so that a thread's share is one stream. A gated tile is the tile of
//! the gate and then that of the value. The last tile of a segment is padded with zero rows.

use super::float::decode_row;
use super::formats::{By32, By256, Floats, ForFormat, GROUP, TILE, for_format, tile_lines};
use super::lanes::Line;
use super::portable::One;
use crate::memory::{Parts, Slab, share};
use crate::pool::Pool;
use glimmer_tensor::{DType, DeviceError, MatrixUse, MatrixView, quant};
use std::ops::Range;

/// A packed matrix `[rows, cols]` with its bias.
pub(crate) struct PackedMatrix {
    rows: usize,
    cols: usize,
    storage: Storage,
}

enum Storage {
    /// For products.
    Tiles(Tiles),
    /// For single rows: as in the file.
    Rows(Vec<Rows>),
}

/// Tiles of all segments.
pub(super) struct Tiles {
    lines: Slab<Line>,
    pub(super) segments: Vec<Segment>,
    /// For each tile of each segment two lines for each side.
    bias: Option<Slab<Line>>,
    pub(super) gated: bool,
}

/// Consecutive outputs whose weights have one type (or two, gated).
pub(super) struct Segment {
    /// The first output, and how many.
    pub(super) first: usize,
    pub(super) rows: usize,
    /// Tiles.
    pub(super) tiles: usize,
    /// The rows themselves; or gate and value.
    pub(super) sides: Vec<Side>,
    /// Where in the lines the segment begins, and how many lines a tile of all sides takes.
    start: usize,
    stride: usize,
    /// Which tile of the matrix is its first.
    bias: usize,
}

/// Rows of one type.
#[derive(Clone, Copy)]
pub(super) struct Side {
    pub(super) dtype: DType,
    /// Where in a tile of all sides its lines begin, and how many they are.
    start: usize,
    lines: usize,
}

/// Rows as they lie in the file.
struct Rows {
    dtype: DType,
    rows: usize,
    data: Slab<u8>,
    scales: Option<Slab<u8>>,
}

impl PackedMatrix {
    /// Packs the rows of `parts`, in order, with a bias for each row.
    ///
    /// # Errors
    /// When the parts disagree, a type holds no weights, or memory runs out.
    pub(crate) fn pack(
        parts: &[MatrixView<'_>],
        bias: Option<&[f32]>,
        used_for: MatrixUse,
        pool: &Pool,
    ) -> Result<Self, DeviceError> {
        let cols = parts.first().map_or(0, |p| p.cols);
        let rows = parts.iter().map(|p| p.rows).sum::<usize>();
        for part in parts {
            if part.cols != cols {
                let message = format!("parts of one matrix have {cols} and {} columns", part.cols);
                return Err(DeviceError::Weight(message));
            }
            if tile_lines(part.dtype, cols).is_none() {
                return Err(DeviceError::Weight(format!("{} is not a weight type", part.dtype)));
            }
        }
        if let Some(bias) = bias.filter(|b| b.len() != rows) {
            return Err(DeviceError::Weight(format!("{rows} rows with a bias of {}", bias.len())));
        }
        let storage = match used_for {
            MatrixUse::Rows => Storage::Rows(parts.iter().map(Rows::copy).collect::<Result<_, _>>()?),
            MatrixUse::Linear => Storage::Tiles(Tiles::pack(&[parts], bias, pool)?),
            MatrixUse::Gated => {
                if !rows.is_multiple_of(2) {
                    let message = format!("a gated matrix has as many gates as values, not {rows} rows");
                    return Err(DeviceError::Weight(message));
                }
                let (gate, value) = halves(parts, rows / 2);
                Storage::Tiles(Tiles::pack(&[&gate, &value], bias, pool)?)
            }
        };
        Ok(PackedMatrix { rows, cols, storage })
    }

    /// Rows, of the gate and of the value together.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        match &self.storage {
            Storage::Tiles(t) => t.lines.bytes() + t.bias.as_ref().map_or(0, Slab::bytes),
            Storage::Rows(rows) => {
                rows.iter().map(|r| r.data.bytes() + r.scales.as_ref().map_or(0, Slab::bytes)).sum()
            }
        }
    }

    /// The tiles.
    ///
    /// # Panics
    /// When the matrix was packed for single rows only.
    pub(super) fn tiles(&self) -> &Tiles {
        match &self.storage {
            Storage::Tiles(tiles) => tiles,
            Storage::Rows(_) => panic!("a matrix packed for single rows takes no product"),
        }
    }

    /// Decodes a row: the numbers that [`quant::decode_row`] makes of it.
    ///
    /// # Panics
    /// When there is no such row, or `out` is not as long as one.
    pub(crate) fn decode_row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        assert_eq!(out.len(), self.cols, "a row's length");
        match &self.storage {
            Storage::Tiles(tiles) => {
                let outputs = self.rows / if tiles.gated { 2 } else { 1 };
                let (side, output) = (row / outputs, row % outputs);
                let segment = (tiles.segments.iter())
                    .find(|s| (s.first..s.first + s.rows).contains(&output))
                    .expect("segments cover all outputs");
                let at = output - segment.first;
                let lines = tiles.tile(segment, at / TILE, side);
                decode_row(One(at % GROUP), segment.sides[side].dtype, lines, at % TILE / GROUP, out);
            }
            Storage::Rows(parts) => {
                let mut row = row;
                for part in parts {
                    if row < part.rows {
                        return part.decode(row, out);
                    }
                    row -= part.rows;
                }
            }
        }
    }
}

/// Splits a list of parts after `rows` rows.
fn halves<'a>(parts: &[MatrixView<'a>], rows: usize) -> (Vec<MatrixView<'a>>, Vec<MatrixView<'a>>) {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    let mut left = rows;
    for part in parts {
        let cut = left.min(part.rows);
        left -= cut;
        if cut > 0 {
            first.push(part.slice_rows(0..cut));
        }
        if cut < part.rows {
            second.push(part.slice_rows(cut..part.rows));
        }
    }
    (first, second)
}

/// Rows of each side that become one segment.
type Piece<'a> = Vec<MatrixView<'a>>;

/// Cuts both sides wherever one of them changes from a part to the next.
fn pieces<'a>(sides: &[&[MatrixView<'a>]]) -> Vec<Piece<'a>> {
    let mut rest: Vec<Vec<MatrixView<'a>>> =
        sides.iter().map(|side| side.iter().rev().filter(|p| p.rows > 0).copied().collect()).collect();
    let mut pieces = Vec::new();
    while let Some(rows) = rest.iter().map(|side| side.last().map_or(0, |p| p.rows)).min().filter(|&r| r > 0)
    {
        let piece = rest.iter_mut().filter_map(|side| {
            let part = side.pop()?;
            if part.rows > rows {
                side.push(part.slice_rows(rows..part.rows));
            }
            Some(part.slice_rows(0..rows))
        });
        pieces.push(piece.collect());
    }
    pieces
}

impl Tiles {
    fn pack(sides: &[&[MatrixView<'_>]], bias: Option<&[f32]>, pool: &Pool) -> Result<Self, DeviceError> {
        let pieces = pieces(sides);
        let mut segments = Vec::new();
        let (mut start, mut first, mut tiles) = (0usize, 0, 0);
        let too_large = || DeviceError::OutOfMemory { what: "a packed matrix", bytes: usize::MAX };
        for piece in &pieces {
            let mut stride = 0;
            let sides = piece.iter().map(|part| {
                let lines = tile_lines(part.dtype, part.cols).expect("parts hold weights");
                stride += lines;
                Side { dtype: part.dtype, start: stride - lines, lines }
            });
            let sides = sides.collect();
            let rows = piece[0].rows;
            let count = rows.div_ceil(TILE);
            segments.push(Segment { first, rows, tiles: count, sides, start, stride, bias: tiles });
            first += rows;
            tiles += count;
            start = count.checked_mul(stride).and_then(|n| start.checked_add(n)).ok_or_else(too_large)?;
        }
        let mut lines = Slab::zeroed(start, "a packed matrix")?;
        let threads = pool.threads();
        let parts = Parts::new(&mut lines);
        pool.run(&|thread| {
            for (piece, segment) in pieces.iter().zip(&segments) {
                for tile in share(segment.tiles, threads, thread) {
                    for (part, side) in piece.iter().zip(&segment.sides) {
                        let at = segment.start + tile * segment.stride + side.start;
                        // SAFETY: each tile of each side has lines of its own, and is packed by one thread.
                        let lines = unsafe { parts.range(at..at + side.lines) };
                        let rows = tile * TILE..part.rows.min((tile + 1) * TILE);
                        let rows = part.slice_rows(rows);
                        for_format(side.dtype, PackTile { rows: &rows, lines }).expect("parts hold weights");
                    }
                }
            }
        });
        let gated = sides.len() == 2;
        let bias = bias.map(|bias| bias_lines(&segments, tiles, sides.len(), bias)).transpose()?;
        Ok(Tiles { lines, segments, bias, gated })
    }

    /// The lines of a tile.
    pub(super) fn tile(&self, segment: &Segment, tile: usize, side: usize) -> &[Line] {
        let side = segment.sides[side];
        &self.lines[segment.start + tile * segment.stride + side.start..][..side.lines]
    }

    /// The biases of a tile: two lines for each side.
    pub(super) fn bias(&self, segment: &Segment, tile: usize) -> Option<&[Line]> {
        let lines = 2 * segment.sides.len();
        Some(&self.bias.as_ref()?[(segment.bias + tile) * lines..][..lines])
    }
}

/// The biases in the order of the tiles.
fn bias_lines(
    segments: &[Segment],
    tiles: usize,
    sides: usize,
    bias: &[f32],
) -> Result<Slab<Line>, DeviceError> {
    let mut lines: Slab<Line> = Slab::zeroed(tiles * sides * 2, "a bias")?;
    for segment in segments {
        for (i, output) in (segment.first..segment.first + segment.rows).enumerate() {
            for side in 0..sides {
                let value = bias[side * (bias.len() / sides) + output];
                let line = ((segment.bias + i / TILE) * sides + side) * 2 + i % TILE / GROUP;
                lines[line].set_word(i % GROUP, value.to_bits());
            }
        }
    }
    Ok(lines)
}

/// Packs at most 32 rows into the lines of a tile, which are zero.
struct PackTile<'a> {
    rows: &'a MatrixView<'a>,
    lines: &'a mut [Line],
}

impl ForFormat for PackTile<'_> {
    type Output = ();

    fn by32<F: By32>(self) {
        let (head, body) = self.lines.split_at_mut(F::HEAD);
        for (at, scale) in self.rows.row_scale.unwrap_or_default().as_chunks::<2>().0.iter().enumerate() {
            F::pack_scale(*scale, head, at / GROUP, at % GROUP);
        }
        let block = self.rows.dtype.bytes_for(32).expect("32 columns are whole blocks of every type by 32");
        for (b, unit) in body.chunks_mut(F::UNIT).enumerate() {
            for (at, row) in each_row(self.rows) {
                let end = row.len().min((b + 1) * block);
                F::pack(&row[b * block..end], unit, at / GROUP, at % GROUP);
            }
        }
    }

    fn by256<F: By256>(self) {
        let block = self.rows.dtype.block_bytes();
        for (b, unit) in self.lines.chunks_exact_mut(F::UNIT).enumerate() {
            for (at, row) in each_row(self.rows) {
                F::pack(&row[b * block..][..block], unit, at / GROUP, at % GROUP);
            }
        }
    }

    fn floats<F: Floats>(self) {
        // A few columns of all rows at a time, which stay in the first-level cache.
        const COLUMNS: usize = 64;
        for (b, units) in self.lines.chunks_mut(COLUMNS * F::UNIT).enumerate() {
            for (at, row) in each_row(self.rows) {
                let elements = row[b * COLUMNS * F::BYTES..].chunks_exact(F::BYTES);
                for (element, unit) in elements.zip(units.chunks_exact_mut(F::UNIT)) {
                    F::pack(element, unit, at / GROUP, at % GROUP);
                }
            }
        }
    }
}

/// The rows with their places in the tile.
#[inline(always)]
fn each_row<'a>(rows: &MatrixView<'a>) -> impl Iterator<Item = (usize, &'a [u8])> {
    let bytes = rows.row_bytes();
    let data = rows.data;
    (0..rows.rows).map(move |at| (at, &data[at * bytes..][..bytes]))
}

impl Rows {
    fn copy(part: &MatrixView<'_>) -> Result<Self, DeviceError> {
        Ok(Rows {
            dtype: part.dtype,
            rows: part.rows,
            data: Slab::copied(part.data, "an embedding")?,
            scales: part.row_scale.map(|s| Slab::copied(s, "an embedding's scales")).transpose()?,
        })
    }

    fn decode(&self, row: usize, out: &mut [f32]) {
        let cols = out.len();
        let view = MatrixView {
            dtype: self.dtype,
            rows: self.rows,
            cols,
            data: &self.data,
            row_scale: self.scales.as_deref(),
        };
        let range: Range<usize> = row..row + 1;
        quant::decode_matrix_rows(&view, range, out).expect("the view was checked when it was packed");
    }
}
