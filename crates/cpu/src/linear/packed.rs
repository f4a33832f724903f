//! A weight matrix in the layout that the kernels read.
//!
//! A matrix is a list of segments, each of rows of one type (or, gated, of two: gate and value); a segment is a list of
//! tiles of 32 rows. A gated tile is the tile of the gate and then that of the value. The last tile of a segment is
//! padded with zero rows.
//!
//! Each thread keeps its share of the tiles of all matrices in an [`Arena`] of its own, in the order in which they were
//! packed, which is that of a step: a thread reads one stream from the first operation to the last (or parts of it in
//! turns, see [`super::turns`]), and what it asks for in advance is never another thread's. Rows are packed by the thread
//! that will read them, so that memory is near it, and a piece at a time, so that the file's pages can be let go of.

use super::float::decode_row;
use super::formats::{By32, By256, Floats, ForFormat, Four, GROUP, TILE, for_format, tile_lines};
use super::line::Line;
use crate::isa::Isa;
use crate::lanes::{Kernel, Lanes, Proof, Register, Work};
use crate::memory::{Arena, LINE, Parts, Slab, owner, share};
use crate::pool::Pool;
use glimmer_tensor::{DType, DeviceError, MatrixUse, MatrixView, Taken, quant};
use std::marker::PhantomData;
use std::ops::Range;

/// A packed matrix `[rows, cols]` with its bias.
pub(crate) struct PackedMatrix {
    rows: usize,
    cols: usize,
    /// Heads that its rows are divided among.
    heads: usize,
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
    /// For each thread its share of every segment, one after the other.
    shards: Vec<Slab<Line>>,
    pub(super) segments: Vec<Segment>,
    /// For each tile of each segment two lines for each side.
    bias: Option<Slab<Line>>,
    pub(super) gated: bool,
}

/// Whether weights have 8 bits or more. Narrower ones are more work for each byte: where they are read as some runs in turns, the
/// processor reads on in the others too late.
pub(super) fn is_wide(dtype: DType) -> bool {
    dtype.block_bytes() >= dtype.block_len()
}

impl Tiles {
    /// The type of all weights, where it is one and wide.
    pub(super) fn only_wide(&self) -> Option<DType> {
        let mut types = self.segments.iter().flat_map(|segment| &segment.sides).map(|side| side.dtype);
        let first = types.next().filter(|&first| is_wide(first))?;
        types.all(|other| other == first).then_some(first)
    }
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
    /// Where in each shard the segment begins, and how many lines a tile of all sides takes.
    starts: Vec<usize>,
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

/// Bytes of the file that a thread packs before it lets go of them.
const PIECE: usize = 1 << 20;

/// What matrices are packed with: instructions, the threads, and where each keeps its share.
pub(crate) struct Packer<'a> {
    pub(crate) isa: Isa,
    pub(crate) pool: &'a Pool,
    /// One for each thread.
    pub(crate) arenas: &'a mut [Arena],
    pub(crate) taken: Taken<'a>,
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
        mut packer: Packer<'_>,
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
            MatrixUse::Rows => {
                Storage::Rows(parts.iter().map(|part| Rows::copy(part, &packer)).collect::<Result<_, _>>()?)
            }
            MatrixUse::Linear => Storage::Tiles(Tiles::pack(&[parts], bias, &mut packer)?),
            MatrixUse::PerHead(heads) => {
                if heads == 0 || !rows.is_multiple_of(heads) {
                    let message = format!("{rows} rows cannot be divided among {heads} heads");
                    return Err(DeviceError::Weight(message));
                }
                Storage::Tiles(Tiles::pack(&[&runs_of(parts, rows / heads)], bias, &mut packer)?)
            }
            MatrixUse::Gated => {
                if !rows.is_multiple_of(2) {
                    let message = format!("a gated matrix has as many gates as values, not {rows} rows");
                    return Err(DeviceError::Weight(message));
                }
                let (gate, value) = halves(parts, rows / 2);
                Storage::Tiles(Tiles::pack(&[&gate, &value], bias, &mut packer)?)
            }
        };
        let heads = if let MatrixUse::PerHead(heads) = used_for { heads } else { 1 };
        Ok(PackedMatrix { rows, cols, heads, storage })
    }

    /// Rows, of the gate and of the value together.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    /// Heads that have a run of its rows each.
    pub(crate) fn heads(&self) -> usize {
        self.heads
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        match &self.storage {
            Storage::Tiles(t) => {
                t.shards.iter().map(Slab::bytes).sum::<usize>() + t.bias.as_ref().map_or(0, Slab::bytes)
            }
            Storage::Rows(rows) => {
                rows.iter().map(|r| r.data.bytes() + r.scales.as_ref().map_or(0, Slab::bytes)).sum()
            }
        }
    }

    /// What lies in memory, of the weights.
    #[cfg(test)]
    pub(super) fn packed_bytes(&self) -> Vec<&[u8]> {
        match &self.storage {
            Storage::Tiles(tiles) => tiles.shards.iter().map(|shard| bytemuck::cast_slice(shard)).collect(),
            Storage::Rows(rows) => rows.iter().map(|rows| &*rows.data).collect(),
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

    /// Whether some of its rows have this type.
    pub(crate) fn has(&self, dtype: DType) -> bool {
        match &self.storage {
            Storage::Tiles(tiles) => tiles.segments.iter().flat_map(|s| &s.sides).any(|s| s.dtype == dtype),
            Storage::Rows(rows) => rows.iter().any(|rows| rows.dtype == dtype),
        }
    }

    /// The tiles, where there are any.
    pub(super) fn any_tiles(&self) -> Option<&Tiles> {
        match &self.storage {
            Storage::Tiles(tiles) => Some(tiles),
            Storage::Rows(_) => None,
        }
    }

    /// The same, where they are not gated.
    pub(super) fn single_tiles(&self) -> Option<&Tiles> {
        self.any_tiles().filter(|tiles| !tiles.gated)
    }

    /// Decodes a row: the numbers that [`quant::decode_row`] makes of it.
    ///
    /// # Panics
    /// When there is no such row, `out` is not as long as one, or the processor lacks `isa`.
    pub(crate) fn decode_row(&self, isa: Isa, row: usize, out: &mut [f32]) {
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
                let dtype = segment.sides[side].dtype;
                Proof::of(isa).work(DecodeRow { dtype, lines, row: at % TILE, out });
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

/// Decodes a row of a tile.
struct DecodeRow<'a> {
    dtype: DType,
    lines: &'a [Line],
    row: usize,
    out: &'a mut [f32],
}

impl Work for DecodeRow<'_> {
    type Output = ();

    fn work<S: Register>(self, s: S) {
        decode_row(s.sixteen(), self.dtype, self.lines, self.row, self.out);
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

/// Cuts a list of parts, which have rows for whole runs together, where a run of `rows` rows ends.
fn runs_of<'a>(parts: &[MatrixView<'a>], rows: usize) -> Vec<MatrixView<'a>> {
    let mut runs = Vec::new();
    let mut rest = parts.to_vec();
    while rest.iter().any(|part| part.rows > 0) {
        let (first, others) = halves(&rest, rows);
        runs.extend(first);
        rest = others;
    }
    runs
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
    fn pack(
        sides: &[&[MatrixView<'_>]],
        bias: Option<&[f32]>,
        packer: &mut Packer<'_>,
    ) -> Result<Self, DeviceError> {
        let Packer { isa, pool, arenas, taken } = packer;
        let proof = Proof::of(*isa);
        let threads = pool.threads();
        let pieces = pieces(sides);
        let mut segments: Vec<Segment> = Vec::new();
        let mut ends = vec![0usize; threads];
        let (mut first, mut tiles) = (0, 0);
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
            segments.push(Segment {
                first,
                rows,
                tiles: count,
                sides,
                starts: ends.clone(),
                stride,
                bias: tiles,
            });
            first += rows;
            tiles += count;
            for (thread, end) in ends.iter_mut().enumerate() {
                let lines = share(count, threads, thread).len().checked_mul(stride);
                *end = lines.and_then(|lines| end.checked_add(lines)).ok_or_else(too_large)?;
            }
        }
        let mut shards = (arenas.iter_mut().zip(ends))
            .map(|(arena, lines)| arena.zeroed(lines, "a packed matrix"))
            .collect::<Result<Vec<Slab<Line>>, _>>()?;
        let parts = Parts::new(&mut shards);
        pool.run(&|thread| {
            // SAFETY: each thread has a shard of its own.
            let [shard] = (unsafe { parts.range(thread..thread + 1) }) else { return };
            for (piece, segment) in pieces.iter().zip(&segments) {
                let bytes: usize = piece.iter().map(MatrixView::row_bytes).sum();
                let step = (PIECE / (TILE * bytes).max(1)).max(1);
                let mine = share(segment.tiles, threads, thread);
                for from in mine.clone().step_by(step) {
                    let to = mine.end.min(from + step);
                    for tile in from..to {
                        for (part, side) in piece.iter().zip(&segment.sides) {
                            let at =
                                segment.starts[thread] + (tile - mine.start) * segment.stride + side.start;
                            let rows = &part.slice_rows(tile * TILE..part.rows.min((tile + 1) * TILE));
                            let lines = &mut shard[at..at + side.lines];
                            proof.work(PackTile { rows, lines });
                        }
                    }
                    let rows = from * TILE..segment.rows.min(to * TILE);
                    piece.iter().for_each(|part| taken(&part.slice_rows(rows.clone())));
                }
            }
        });
        let gated = sides.len() == 2;
        let bias = bias.map(|bias| bias_lines(&segments, tiles, sides.len(), bias)).transpose()?;
        Ok(Tiles { shards, segments, bias, gated })
    }

    /// The lines of a tile.
    pub(super) fn tile(&self, segment: &Segment, tile: usize, side: usize) -> &[Line] {
        let threads = self.shards.len();
        let thread = owner(segment.tiles, threads, tile);
        let before = tile - share(segment.tiles, threads, thread).start;
        let side = segment.sides[side];
        &self.shards[thread][segment.starts[thread] + before * segment.stride + side.start..][..side.lines]
    }

    /// The biases of a tile: two lines for each side.
    pub(super) fn bias(&self, segment: &Segment, tile: usize) -> Option<&[Line]> {
        Some(&self.bias.as_ref()?[self.first_line(segment, tile)..][..2 * segment.sides.len()])
    }

    /// Which of the lines with a number for each output is the first of a tile.
    pub(super) fn first_line(&self, segment: &Segment, tile: usize) -> usize {
        (segment.bias + tile) * 2 * segment.sides.len()
    }

    /// Numbers of all outputs in the order of the biases.
    pub(super) fn lines_of_outputs(&self, values: &[f32]) -> Result<Slab<Line>, DeviceError> {
        let tiles = self.segments.iter().map(|segment| segment.tiles).sum();
        bias_lines(&self.segments, tiles, if self.gated { 2 } else { 1 }, values)
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

/// Where some units are put together, to be written in one go: the lines of a matrix are far away when they are touched
/// for the first time.
const BUFFER: [Line; 128] = [Line::ZERO; 128];

/// Packs at most 32 rows into the lines of a tile. Rows that are not there are zeros.
struct PackTile<'a> {
    rows: &'a MatrixView<'a>,
    lines: &'a mut [Line],
}

/// [`PackTile`] of a type by 32 columns.
struct Pack32<'a, F>(PackTile<'a>, PhantomData<F>);
/// [`PackTile`] of a type by 256 columns.
struct Pack256<'a, F>(PackTile<'a>, PhantomData<F>);
/// [`PackTile`] of plain floats.
struct PackFloats<'a, F>(PackTile<'a>, PhantomData<F>);

impl Work for PackTile<'_> {
    type Output = ();

    fn work<S: Register>(self, s: S) {
        for_format(self.rows.dtype, With(self, s.sixteen())).expect("parts hold weights");
    }
}

/// A tile to be packed, and the lanes to do it with.
struct With<'a, S>(PackTile<'a>, S);

impl<S: Lanes> ForFormat for With<'_, S> {
    type Output = ();

    fn by32<F: By32>(self) {
        self.1.run(Pack32::<F>(self.0, PhantomData));
    }
    fn by256<F: By256>(self) {
        self.1.run(Pack256::<F>(self.0, PhantomData));
    }
    fn floats<F: Floats>(self) {
        self.1.run(PackFloats::<F>(self.0, PhantomData));
    }
}

/// The bytes `at` of rows `first..first + 4`, once what follows them is asked for.
#[inline(always)]
fn four_rows<'a, S: Lanes>(s: S, rows: &MatrixView<'a>, first: usize, at: &Range<usize>) -> Four<'a> {
    const NO_ROW: [u8; 256] = [0; 256];
    let row_bytes = rows.row_bytes();
    let mut four: Four<'_> = [&NO_ROW[..at.len()]; 4];
    for (row, bytes) in (first..rows.rows.min(first + 4)).zip(&mut four) {
        let row = &rows.data[row * row_bytes..][..row_bytes];
        *bytes = &row[at.clone()];
        for line in (at.end..at.end + at.len()).step_by(LINE) {
            s.prefetch_near(row.as_ptr().wrapping_add(line));
        }
    }
    four
}

impl<F: By32> Kernel for Pack32<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        let PackTile { rows, lines, .. } = self.0;
        let (head, body) = lines.split_at_mut(F::HEAD);
        for (at, scale) in rows.row_scale.unwrap_or_default().as_chunks::<2>().0.iter().enumerate() {
            F::pack_scale(*scale, head, at / GROUP, at % GROUP);
        }
        let block = rows.dtype.bytes_for(32).expect("32 columns are whole blocks of every type by 32");
        // A few units of all rows at a time: rows are often 4 KiB apart, and a cache keeps few such lines at once.
        const UNITS: usize = 4;
        let mut buffer = BUFFER;
        for (run, lines) in body.chunks_mut(UNITS * F::UNIT).enumerate() {
            let units = &mut buffer[..lines.len()];
            let from = run * UNITS * block;
            let at = from..rows.row_bytes().min(from + UNITS * block);
            for first in (0..TILE).step_by(4) {
                let four = four_rows(s, rows, first, &at);
                for (b, unit) in units.chunks_mut(F::UNIT).enumerate() {
                    let at = b * block..at.len().min((b + 1) * block);
                    let [x, y, z, w] = four;
                    let blocks = [&x[at.clone()], &y[at.clone()], &z[at.clone()], &w[at]];
                    F::pack(blocks, unit, first / GROUP, first % GROUP / 4);
                }
            }
            for unit in units.chunks_mut(F::UNIT) {
                F::arrange(s, unit, 0);
                F::arrange(s, unit, 1);
            }
            lines.copy_from_slice(units);
        }
    }
}

impl<F: By256> Kernel for Pack256<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        let PackTile { rows, lines, .. } = self.0;
        let block = rows.dtype.block_bytes();
        let mut buffer = BUFFER;
        let unit = &mut buffer[..F::UNIT];
        for (b, lines) in lines.chunks_exact_mut(F::UNIT).enumerate() {
            let at = b * block..(b + 1) * block;
            for first in (0..TILE).step_by(4) {
                F::pack(four_rows(s, rows, first, &at), unit, first / GROUP, first % GROUP / 4);
            }
            F::arrange(s, unit, 0);
            F::arrange(s, unit, 1);
            lines.copy_from_slice(unit);
        }
    }
}

impl<F: Floats> Kernel for PackFloats<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        let PackTile { rows, lines, .. } = self.0;
        // A few columns of all rows at a time, which stay in the first-level cache.
        const COLUMNS: usize = 64;
        let mut buffer = BUFFER;
        for (b, lines) in lines.chunks_mut(COLUMNS * F::UNIT).enumerate() {
            let units = &mut buffer[..lines.len()];
            let from = b * COLUMNS * F::BYTES;
            let at = from..rows.row_bytes().min(from + COLUMNS * F::BYTES);
            for first in (0..TILE).step_by(4) {
                F::pack(four_rows(s, rows, first, &at), units, first / GROUP, first % GROUP / 4);
            }
            lines.copy_from_slice(units);
        }
    }
}

impl Rows {
    fn copy(part: &MatrixView<'_>, packer: &Packer<'_>) -> Result<Self, DeviceError> {
        let mut data = Slab::zeroed(part.data.len(), "an embedding")?;
        let scales = part.row_scale.map(|s| Slab::copied(s, "an embedding's scales")).transpose()?;
        let (threads, bytes) = (packer.pool.threads(), part.row_bytes());
        let step = (PIECE / bytes.max(1)).max(1);
        let parts = Parts::new(&mut data);
        packer.pool.run(&|thread| {
            let mine = share(part.rows, threads, thread);
            for from in mine.clone().step_by(step) {
                let rows = part.slice_rows(from..mine.end.min(from + step));
                // SAFETY: the threads' shares are disjoint.
                unsafe { parts.range(from * bytes..from * bytes + rows.data.len()) }
                    .copy_from_slice(rows.data);
                (packer.taken)(&rows);
            }
        });
        Ok(Rows { dtype: part.dtype, rows: part.rows, data, scales })
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
