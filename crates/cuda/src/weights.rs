//! A matrix's weights as they lie on the card: `kernels/decode.cuh` is the other side of this file.
//!
//! A matrix is a list of segments: outputs whose weights have one type. A segment is tiles of 16 rows, the last of which
//! is padded with zero rows. A gated segment's tile has eight rows of the gate and then the eight of the value that
//! belong to them; where gate and value differ in type the matrix lies as if it were not gated, and the two are
//! multiplied afterwards. A tile is a head (row scales) and units of 32 or 256 columns. A unit holds the bits of 16
//! blocks of the file and nothing else, by planes: the same field of all rows side by side.
//!
//! A matrix of which only single rows are looked up lies as in the file.

use std::ops::Range;

use crate::device::Rows;
use crate::driver::{Driver, Memory};
use crate::embed::embed;
use glimmer_tensor::quant::{iq4, kquants, legacy, rows::int4_pair};
use glimmer_tensor::{DType, DeviceError, MatrixShape, MatrixUse, MatrixView, Taken};

/// Rows of a tile.
pub(crate) const TILE: usize = 16;

/// Bytes that are packed before they are handed over and the file's pages are let go of.
const PIECE: usize = 4 << 20;

/// Threads that pack, at most: the bus to a card carries no more than a few of them make.
const MOST_THREADS: usize = 8;

/// What every segment, and the bias, begins at a multiple of.
const ALIGNMENT: usize = 256;

/// A matrix in the machine's memory.
pub(crate) struct CardMatrix {
    layout: Layout,
    memory: Memory,
}

impl CardMatrix {
    /// Takes the rows of `parts`, in order, with a bias for each row; `taken` hears of rows that will not be read again.
    ///
    /// # Errors
    /// When the parts disagree, a type holds no weights, or memory runs out.
    pub(crate) fn load(
        driver: &mut dyn Driver,
        parts: &[MatrixView<'_>],
        bias: Option<&[f32]>,
        used_for: MatrixUse,
        taken: Taken<'_>,
    ) -> Result<CardMatrix, DeviceError> {
        let matrix = Self::reserve(driver, &shapes(parts), bias, used_for)?;
        let memory = matrix.memory;
        // What was packed goes from the driver's buffers to the card while the next is packed.
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(MOST_THREADS));
        matrix.layout.pack(parts, bias, taken, threads, &mut |offset, bytes| {
            driver.copy_in(memory, offset, bytes);
        });
        Ok(matrix)
    }

    /// Memory for such a matrix, with nothing in it yet.
    ///
    /// # Errors
    /// Those of [`CardMatrix::load`].
    pub(crate) fn reserve(
        driver: &mut dyn Driver,
        parts: &[MatrixShape],
        bias: Option<&[f32]>,
        used_for: MatrixUse,
    ) -> Result<CardMatrix, DeviceError> {
        let layout = Layout::new(parts, bias, used_for)?;
        let memory = driver.alloc(layout.bytes).map_err(|e| e.of("a matrix"))?;
        Ok(CardMatrix { layout, memory })
    }

    /// Rows, of the gate and of the value together.
    pub(crate) fn rows(&self) -> usize {
        self.layout.rows
    }

    /// Columns.
    pub(crate) fn cols(&self) -> usize {
        self.layout.cols
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.layout.bytes
    }

    /// Where everything lies.
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The address of something `offset` bytes into the matrix's memory.
    pub(crate) fn at(&self, offset: usize) -> Memory {
        self.memory.at(offset)
    }

    /// `out[r] = row tokens[r]`, exactly.
    pub(crate) fn embed(&self, driver: &mut dyn Driver, rows: Rows, tokens: Memory, out: Memory) {
        embed(driver, &self.layout, self.memory, rows, tokens, out);
    }
}

/// Where everything lies in a matrix's memory.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// Rows, of the gate and of the value together.
    pub(crate) rows: usize,
    /// Columns.
    pub(crate) cols: usize,
    /// What the matrix is for.
    pub(crate) used_for: MatrixUse,
    /// The tiles, in the order of the outputs; none when single rows are looked up.
    pub(crate) segments: Vec<Segment>,
    /// The file's rows, when single rows are looked up.
    pub(crate) tables: Vec<Table>,
    /// Bytes of all.
    pub(crate) bytes: usize,
}

/// Outputs whose weights have one type.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    /// The type.
    pub(crate) dtype: DType,
    /// The first output, and how many: rows, or pairs of rows.
    pub(crate) first: usize,
    /// How many.
    pub(crate) outputs: usize,
    /// Whether an output is a row of the gate and one of the value.
    pub(crate) gated: bool,
    /// Where the tiles begin, how many there are and how long one is.
    pub(crate) offset: usize,
    /// Tiles.
    pub(crate) tiles: usize,
    /// Bytes of a tile.
    pub(crate) tile_bytes: usize,
    /// Where the biases begin: sixteen f32 a tile.
    pub(crate) bias: Option<usize>,
}

/// Rows as they lie in the file.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// The type.
    pub(crate) dtype: DType,
    /// The first row, and how many.
    pub(crate) first: usize,
    /// How many.
    pub(crate) rows: usize,
    /// Where they begin.
    pub(crate) offset: usize,
    /// Bytes of a row.
    pub(crate) row_bytes: usize,
    /// Where the row scales begin, for the types that have them.
    pub(crate) scales: Option<usize>,
}

/// Columns of a unit.
pub(crate) fn unit_cols(dtype: DType) -> usize {
    dtype.block_len().max(32)
}

/// Units of a row.
pub(crate) fn units(dtype: DType, cols: usize) -> usize {
    cols.div_ceil(unit_cols(dtype))
}

/// Bytes before the units of a tile.
fn head_bytes(dtype: DType) -> usize {
    if matches!(dtype, DType::RowI8 | DType::RowI4) { 2 * TILE } else { 0 }
}

/// Bytes of a unit; `None` for types that hold no weights.
fn unit_bytes(dtype: DType) -> Option<usize> {
    Some(TILE * dtype.bytes_for(unit_cols(dtype)).filter(|_| DType::WEIGHTS.contains(&dtype))?)
}

impl Layout {
    /// Lays out the rows of `parts`, in order, with a bias for each row.
    ///
    /// # Errors
    /// When the parts disagree, a type holds no weights, or the sizes overflow.
    pub(crate) fn new(
        parts: &[MatrixShape],
        bias: Option<&[f32]>,
        used_for: MatrixUse,
    ) -> Result<Layout, DeviceError> {
        let cols = parts.first().map_or(0, |p| p.cols);
        let rows = parts.iter().map(|p| p.rows).sum::<usize>();
        for part in parts {
            if part.cols != cols {
                let message = format!("parts of one matrix have {cols} and {} columns", part.cols);
                return Err(DeviceError::Weight(message));
            }
            if unit_bytes(part.dtype).is_none() {
                return Err(DeviceError::Weight(format!("{} is not a weight type", part.dtype)));
            }
        }
        if let Some(bias) = bias.filter(|b| b.len() != rows) {
            return Err(DeviceError::Weight(format!("{rows} rows with a bias of {}", bias.len())));
        }
        if used_for == MatrixUse::Gated && !rows.is_multiple_of(2) {
            let message = format!("a gated matrix has as many gates as values, not {rows} rows");
            return Err(DeviceError::Weight(message));
        }
        if cols.max(rows) > u32::MAX as usize / 4 {
            return Err(DeviceError::Weight(format!(
                "a matrix of {rows} x {cols} is beyond what a card indexes"
            )));
        }
        let mut layout = Layout { rows, cols, used_for, segments: Vec::new(), tables: Vec::new(), bytes: 0 };
        let added = match used_for {
            MatrixUse::Rows => parts.iter().try_for_each(|part| layout.add_table(part)),
            MatrixUse::PerHead(_) => {
                return Err(DeviceError::Weight("a card has no products by head yet".to_owned()));
            }
            MatrixUse::Linear | MatrixUse::Gated => {
                let pieces = pieces(parts, used_for);
                pieces.iter().try_for_each(|piece| layout.add_segment(parts, piece, bias.is_some()))
            }
        };
        added.ok_or(DeviceError::OutOfMemory { what: "a matrix", bytes: usize::MAX })?;
        Ok(layout)
    }

    /// Whether a gated product takes two steps, because gate and value differ in type.
    pub(crate) fn multiplied_afterwards(&self) -> bool {
        self.used_for == MatrixUse::Gated && self.segments.iter().any(|s| !s.gated)
    }

    /// Takes `bytes` of the memory.
    fn take(&mut self, bytes: usize) -> Option<usize> {
        let offset = self.bytes;
        self.bytes = offset.checked_add(bytes)?.checked_next_multiple_of(ALIGNMENT)?;
        Some(offset)
    }

    fn add_table(&mut self, part: &MatrixShape) -> Option<()> {
        let first = self.tables.last().map_or(0, |t| t.first + t.rows);
        let offset = self.take(part.bytes()?)?;
        let scales = match part.scale_bytes() {
            0 => None,
            bytes => Some(self.take(bytes)?),
        };
        let (dtype, rows, row_bytes) = (part.dtype, part.rows, part.dtype.bytes_for(part.cols)?);
        self.tables.push(Table { dtype, first, rows, offset, row_bytes, scales });
        Some(())
    }

    fn add_segment(&mut self, parts: &[MatrixShape], piece: &[PartRows], biased: bool) -> Option<()> {
        let first = self.segments.last().map_or(0, |s| s.first + s.outputs);
        let (dtype, outputs) = (parts[piece[0].part].dtype, piece[0].rows.len());
        let tile_bytes =
            units(dtype, self.cols).checked_mul(unit_bytes(dtype)?)?.checked_add(head_bytes(dtype))?;
        let tiles = outputs.div_ceil(TILE / piece.len());
        let offset = self.take(tiles.checked_mul(tile_bytes)?)?;
        let bias = if biased { Some(self.take(tiles * TILE * 4)?) } else { None };
        let gated = piece.len() == 2;
        self.segments.push(Segment { dtype, first, outputs, gated, offset, tiles, tile_bytes, bias });
        Some(())
    }

    /// Packs the parts that the layout was made for, a few MiB at a time on each of some threads. `write` gets bytes and
    /// where they belong, in order, `taken` the rows behind them.
    pub(crate) fn pack(
        &self,
        parts: &[MatrixView<'_>],
        bias: Option<&[f32]>,
        taken: Taken<'_>,
        threads: usize,
        write: &mut dyn FnMut(usize, &[u8]),
    ) {
        if self.used_for == MatrixUse::Rows {
            for (table, part) in self.tables.iter().zip(parts) {
                let step = (PIECE / table.row_bytes.max(1)).max(1);
                for from in (0..part.rows).step_by(step) {
                    let rows = part.slice_rows(from..part.rows.min(from + step));
                    write(table.offset + from * table.row_bytes, rows.data);
                    taken(&rows);
                }
                if let (Some(at), Some(scales)) = (table.scales, part.row_scale) {
                    write(at, scales);
                }
            }
            return;
        }
        let mut buffer = Vec::new();
        for (segment, piece) in self.segments.iter().zip(pieces(&shapes(parts), self.used_for)) {
            let rows_of = |of: &PartRows| parts[of.part].slice_rows(of.rows.clone());
            let piece: Vec<_> = piece.iter().map(rows_of).collect();
            let step = (PIECE / segment.tile_bytes.max(1)).max(1);
            for from in (0..segment.tiles).step_by(step * threads) {
                let to = segment.tiles.min(from + step * threads);
                buffer.clear();
                buffer.resize((to - from) * segment.tile_bytes, 0);
                segment.pack(from, step, &piece, &mut buffer);
                write(segment.offset + from * segment.tile_bytes, &buffer);
                let per_tile = TILE / piece.len();
                let rows = from * per_tile..segment.outputs.min(to * per_tile);
                piece.iter().for_each(|part| taken(&part.slice_rows(rows.clone())));
            }
            if let (Some(at), Some(bias)) = (segment.bias, bias) {
                write(at, bytemuck::cast_slice(&self.tile_biases(segment, bias)));
            }
        }
    }

    /// The biases of a segment in the order of its tiles' rows.
    fn tile_biases(&self, segment: &Segment, bias: &[f32]) -> Vec<f32> {
        let mut out = vec![0f32; segment.tiles * TILE];
        let per_tile = if segment.gated { TILE / 2 } else { TILE };
        for output in 0..segment.outputs {
            let at = output / per_tile * TILE + output % per_tile;
            out[at] = bias[segment.first + output];
            if segment.gated {
                out[at + per_tile] = bias[self.rows / 2 + segment.first + output];
            }
        }
        out
    }
}

/// Rows of one of a matrix's parts.
struct PartRows {
    part: usize,
    rows: Range<usize>,
}

impl Segment {
    /// Packs the tiles from `from` on into `out`, each thread `step` of them.
    fn pack(&self, from: usize, step: usize, piece: &[MatrixView<'_>], out: &mut [u8]) {
        let per_tile = TILE / piece.len();
        let tiles = |first: usize, out: &mut [u8]| {
            for (tile, out) in (first..).zip(out.chunks_exact_mut(self.tile_bytes.max(1))) {
                for (side, part) in piece.iter().enumerate() {
                    let rows = tile * per_tile..part.rows.min((tile + 1) * per_tile);
                    pack_rows(&part.slice_rows(rows), side * per_tile, out);
                }
            }
        };
        let mut shares = (from..).step_by(step).zip(out.chunks_mut((step * self.tile_bytes).max(1)));
        let own = shares.next();
        std::thread::scope(|scope| {
            shares.for_each(|(first, out)| {
                scope.spawn(move || tiles(first, out));
            });
            own.into_iter().for_each(|(first, out)| tiles(first, out));
        });
    }
}

/// Cuts the parts into segments.
fn pieces(parts: &[MatrixShape], used_for: MatrixUse) -> Vec<Vec<PartRows>> {
    let rows_of = |part: usize, rows: Range<usize>| PartRows { part, rows };
    let has_rows = |of: &PartRows| !of.rows.is_empty();
    let whole = parts.iter().enumerate().map(|(at, part)| rows_of(at, 0..part.rows));
    let plain = || whole.clone().filter(has_rows).map(|rows| vec![rows]).collect();
    if used_for != MatrixUse::Gated {
        return plain();
    }
    let half = parts.iter().map(|p| p.rows).sum::<usize>() / 2;
    let (mut gate, mut value) = (Vec::new(), Vec::new());
    let mut first = 0;
    for (at, part) in parts.iter().enumerate() {
        let cut = half.saturating_sub(first).min(part.rows);
        gate.push(rows_of(at, 0..cut));
        value.push(rows_of(at, cut..part.rows));
        first += part.rows;
    }
    // The rows that are left, the next ones last.
    let mut sides = [gate, value].map(|side| side.into_iter().rev().filter(has_rows).collect::<Vec<_>>());
    let mut pieces = Vec::new();
    while let [Some(gate), Some(value)] = sides.each_mut().map(Vec::pop) {
        if parts[gate.part].dtype != parts[value.part].dtype {
            return plain();
        }
        let count = gate.rows.len().min(value.rows.len());
        let mut piece = Vec::with_capacity(2);
        for (side, PartRows { part, rows }) in sides.iter_mut().zip([gate, value]) {
            let cut = rows.start + count;
            side.extend(Some(rows_of(part, cut..rows.end)).filter(has_rows));
            piece.push(rows_of(part, rows.start..cut));
        }
        pieces.push(piece);
    }
    pieces
}

pub(crate) fn shapes(parts: &[MatrixView<'_>]) -> Vec<MatrixShape> {
    parts.iter().map(MatrixView::shape).collect()
}

/// Packs rows into a zeroed tile, as its rows from `first` on.
fn pack_rows(rows: &MatrixView<'_>, first: usize, tile: &mut [u8]) {
    let dtype = rows.dtype;
    let (head, units) = tile.split_at_mut(head_bytes(dtype));
    for (i, scale) in rows.row_scale.unwrap_or_default().as_chunks::<2>().0.iter().enumerate() {
        put(head, 2 * (first + i), scale);
    }
    let in_file = dtype.bytes_for(unit_cols(dtype)).expect("units are whole blocks");
    let unit_bytes = TILE * in_file;
    for (i, row) in rows.data.chunks_exact(rows.row_bytes().max(1)).enumerate() {
        for (block, unit) in row.chunks(in_file).zip(units.chunks_exact_mut(unit_bytes)) {
            pack_block(dtype, block, unit, first + i);
        }
    }
}

/// Packs what the file has of a unit's columns in a row: for types without blocks the last may be short.
fn pack_block(dtype: DType, block: &[u8], unit: &mut [u8], r: usize) {
    match dtype {
        DType::F32 => pack_f32(block, unit, r),
        DType::F16 => pack_f16(block, unit, r),
        DType::BF16 => pack_bf16(block, unit, r),
        DType::RowI8 => pack_bytes(block, unit, r),
        DType::RowI4 => {
            let mut codes = [0; 32];
            for (pair, byte) in codes.as_chunks_mut::<2>().0.iter_mut().zip(block) {
                let (even, odd) = int4_pair(*byte);
                *pair = [even, odd].map(i8::cast_unsigned);
            }
            pack_nibbles(&codes, unit, r);
        }
        DType::Q4_0 => {
            pack_nibbles(&unsigned(legacy::Q4_0(whole(block)).quants()), unit, r);
            put(unit, 256 + 2 * r, &block[..2]);
        }
        DType::Q4_1 => {
            pack_nibbles(&legacy::Q4_1(whole(block)).quants(), unit, r);
            put(unit, 256 + 2 * r, &block[..2]);
            put(unit, 288 + 2 * r, &block[2..4]);
        }
        DType::Q5_0 => {
            let codes = unsigned(legacy::Q5_0(whole(block)).quants());
            pack_nibbles(&codes, unit, r);
            pack_singles(&codes, 4, &mut unit[256..], r);
            put(unit, 320 + 2 * r, &block[..2]);
        }
        DType::Q5_1 => {
            let codes = legacy::Q5_1(whole(block)).quants();
            pack_nibbles(&codes, unit, r);
            pack_singles(&codes, 4, &mut unit[256..], r);
            put(unit, 320 + 2 * r, &block[..2]);
            put(unit, 352 + 2 * r, &block[2..4]);
        }
        DType::Q8_0 => {
            pack_bytes(&block[2..], unit, r);
            put(unit, 512 + 2 * r, &block[..2]);
        }
        DType::IQ4_NL => {
            pack_table(&nibbles(iq4::Iq4Nl(whole(block)).packed()), unit, r);
            put(unit, 256 + 2 * r, &block[..2]);
        }
        DType::Q2_K => {
            for (i, codes) in kquants::Q2K(whole(block)).quants().as_chunks().0.iter().enumerate() {
                pack_pairs(codes, 0, &mut unit[128 * i..], r);
            }
            put(unit, 1024 + 16 * r, &block[..16]);
            put(unit, 1280 + 4 * r, &block[80..84]);
        }
        DType::Q3_K => {
            let q = kquants::Q3K(whole(block));
            for (i, codes) in unsigned(q.quants()).as_chunks().0.iter().enumerate() {
                pack_pairs(codes, 0, &mut unit[128 * i..], r);
                pack_singles(codes, 2, &mut unit[1024 + 64 * i..], r);
            }
            let scales = six_bits((0..16).map(|s| q.scale(s).wrapping_add(32).cast_unsigned()));
            for (word, bytes) in scales.as_chunks::<4>().0.iter().take(3).enumerate() {
                put(unit, 1536 + 64 * word + 4 * r, bytes);
            }
            put(unit, 1728 + 2 * r, &block[108..110]);
        }
        DType::Q4_K => {
            let q = kquants::Q4K(whole(block));
            for (i, codes) in q.quants().as_chunks().0.iter().enumerate() {
                pack_nibbles(codes, &mut unit[256 * i..], r);
            }
            put(unit, 2048 + 16 * r, &block[..4]);
            let scales = six_bits((0..8).flat_map(|s| <[u8; 2]>::from(q.scale_min(s))));
            put(unit, 2048 + 16 * r + 4, &scales[..12]);
        }
        DType::Q5_K => {
            let q = kquants::Q5K(whole(block));
            for (i, codes) in q.quants().as_chunks().0.iter().enumerate() {
                pack_nibbles(codes, &mut unit[256 * i..], r);
                pack_singles(codes, 4, &mut unit[2048 + 64 * i..], r);
            }
            put(unit, 2560 + 16 * r, &block[..4]);
            let scales = six_bits((0..8).flat_map(|s| <[u8; 2]>::from(q.scale_min(s))));
            put(unit, 2560 + 16 * r + 4, &scales[..12]);
        }
        DType::Q6_K => {
            let q = kquants::Q6K(whole(block));
            for (i, codes) in unsigned(q.quants()).as_chunks().0.iter().enumerate() {
                pack_nibbles(codes, &mut unit[256 * i..], r);
                pack_pairs(codes, 4, &mut unit[2048 + 128 * i..], r);
            }
            put(unit, 3072 + 16 * r, &block[192..208]);
            put(unit, 3328 + 2 * r, &block[208..210]);
        }
        DType::IQ4_XS => {
            let q = iq4::Iq4Xs(whole(block));
            for i in 0..8 {
                pack_table(&nibbles(q.packed(i)), &mut unit[256 * i..], r);
            }
            let scales = six_bits((0..8).map(|s| q.scale(s).wrapping_add(32).cast_unsigned()));
            put(unit, 2048 + 8 * r, &block[..2]);
            put(unit, 2048 + 8 * r + 2, &scales[..6]);
        }
        other => unreachable!("{other} was refused when the matrix was laid out"),
    }
}

/// A block as the array that it is.
fn whole<const N: usize>(bytes: &[u8]) -> &[u8; N] {
    bytes.first_chunk().expect("rows are whole blocks")
}

fn put(to: &mut [u8], at: usize, bytes: &[u8]) {
    to[at..at + bytes.len()].copy_from_slice(bytes);
}

fn unsigned<const N: usize>(codes: [i8; N]) -> [u8; N] {
    codes.map(i8::cast_unsigned)
}

/// Nibbles in element order: the low ones first.
fn nibbles(packed: &[u8; 16]) -> [u8; 32] {
    let mut out = [0; 32];
    for (i, byte) in packed.iter().enumerate() {
        out[i] = byte & 15;
        out[i + 16] = byte >> 4;
    }
    out
}

/// Fields of six bits behind each other.
fn six_bits(fields: impl Iterator<Item = u8>) -> [u8; 16] {
    fields.enumerate().fold(0u128, |all, (i, field)| all | u128::from(field & 63) << (6 * i)).to_le_bytes()
}

/// The lower four bits of a row's block: 16 bytes, element `j` low and `j + 16` high.
fn pack_nibbles(codes: &[u8; 32], plane: &mut [u8], r: usize) {
    for (j, out) in plane[16 * r..][..16].iter_mut().enumerate() {
        *out = codes[j] & 15 | codes[j + 16] << 4;
    }
}

/// Places in a table of 16: word `t` has elements `4 t` to `4 t + 3` in its lower half and those 16 further on above.
fn pack_table(codes: &[u8; 32], plane: &mut [u8], r: usize) {
    for (t, word) in plane[16 * r..][..16].as_chunks_mut::<4>().0.iter_mut().enumerate() {
        let pair = |at: usize| codes[at] | codes[at + 1] << 4;
        *word = [pair(4 * t), pair(4 * t + 2), pair(4 * t + 16), pair(4 * t + 18)];
    }
}

/// Whole bytes: a plane of the first 16 columns and one of the others.
fn pack_bytes(bytes: &[u8], unit: &mut [u8], r: usize) {
    for (plane, bytes) in bytes.chunks(16).enumerate() {
        put(unit, 256 * plane + 16 * r, bytes);
    }
}

/// Two bits of each element, from bit `shift` on: two words, byte `k` of which has the bits of elements `4 i + k`.
fn pack_pairs(codes: &[u8; 32], shift: usize, plane: &mut [u8], r: usize) {
    for (at, out) in plane[8 * r..][..8].iter_mut().enumerate() {
        let (word, k) = (at / 4, at % 4);
        *out = (0..4).fold(0, |bits, i| bits | (codes[16 * word + 4 * i + k] >> shift & 3) << (2 * i));
    }
}

/// Bit `shift` of each element: a word, byte `k` of which has the bits of elements `4 i + k`.
fn pack_singles(codes: &[u8; 32], shift: usize, plane: &mut [u8], r: usize) {
    for (k, out) in plane[4 * r..][..4].iter_mut().enumerate() {
        *out = (0..8).fold(0, |bits, i| bits | (codes[4 * i + k] >> shift & 1) << i);
    }
}

/// Where a tensor core's lane has column `c` of row `r` in its 16 bytes of a step: the lane, and which of its two rows.
fn lane(r: usize, c: usize) -> (usize, usize) {
    (r % 8 * 4 + c / 8, r / 8)
}

fn pack_f32(values: &[u8], unit: &mut [u8], r: usize) {
    for (c, value) in values.as_chunks::<4>().0.iter().enumerate() {
        let (lane, lower) = lane(r, c);
        put(unit, c % 8 / 2 * 512 + lane * 16 + 4 * (lower + c % 2 * 2), value);
    }
}

fn pack_f16(values: &[u8], unit: &mut [u8], r: usize) {
    for (c, value) in values.as_chunks::<2>().0.iter().enumerate() {
        let (lane, lower) = lane(r, c);
        put(unit, c % 8 / 4 * 512 + lane * 16 + 2 * (c % 4 / 2 * 4 + lower + c % 2 * 2), value);
    }
}

fn pack_bf16(values: &[u8], unit: &mut [u8], r: usize) {
    for (c, value) in values.as_chunks::<2>().0.iter().enumerate() {
        let (lane, lower) = lane(r, c);
        put(unit, c % 8 / 4 * 512 + lane * 16 + 4 * (lower + c % 4 / 2 * 2) + 2 * (c % 2), value);
    }
}
