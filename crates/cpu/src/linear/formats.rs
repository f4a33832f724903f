//! What the kernels ask of a weight type, and which type is which.
//!
//! A matrix is cut into tiles of 32 rows: two groups, `r` = 0 and 1, of sixteen rows, one for each lane. Along its
//! columns a tile is a sequence of units of 32 or 256 columns (one column for plain floats), each a whole number of
//! cache lines in which the fields of the 32 blocks stand transposed. A quantized unit holds the bits of the file's
//! blocks and nothing else, in another order. The trait of a type says how to get the integers and scales out again:
//! once, for every instruction set.
//!
//! Integers come as unsigned bytes, `OFFSET` above what they stand for, four consecutive columns (a *quad*) to a lane.

use super::activations::Block256;
#[cfg(doc)]
use super::activations::{WithPairs, WithStarts};
use super::line::{Line, transposed};
use super::{floats, iq4, kquants, legacy, rows};
use crate::lanes::{Integers, Lanes};
use glimmer_tensor::DType;

/// Rows of a group: lanes of a vector.
pub(super) const GROUP: usize = 16;

/// Rows of a tile.
pub(super) const TILE: usize = 2 * GROUP;

/// Types whose float scale covers 32 columns or the whole row: element = scale * (integer - OFFSET) + minimum.
pub(super) trait By32 {
    /// Lines before the units.
    const HEAD: usize = 0;
    /// Lines of a unit of 32 columns.
    const UNIT: usize;
    /// How large the integers are.
    const INTEGERS: Integers = Integers::Narrow;
    /// Whether there is a minimum.
    const MIN: bool = false;
    /// Subtracted from the integers.
    const OFFSET: i32;

    /// Lines of the columns after the last whole unit.
    fn tail_lines(_columns: usize) -> usize {
        0
    }
    /// Those lines as a whole unit whose missing columns hold anything.
    fn tail(_lines: &[Line], _columns: usize) -> [Line; 16] {
        [Line::ZERO; 16]
    }
    /// The two quads (of eight) that `integers(.., i)` gives, `i < 4`.
    #[inline(always)]
    fn quads(i: usize) -> [usize; 2] {
        [i, i + 4]
    }
    /// Two quads of group `r`.
    fn integers<S: Lanes>(s: S, unit: &[Line], r: usize, i: usize) -> [S::I; 2];
    /// The scales of group `r`.
    fn scale<S: Lanes>(s: S, head: &[Line], unit: &[Line], r: usize) -> S::F;
    /// The minima of group `r`.
    #[inline(always)]
    fn minimum<S: Lanes>(s: S, _unit: &[Line], _r: usize) -> S::F {
        s.splat(0.0)
    }
    /// Puts the scale of a row that keeps it beside the row into the head.
    fn pack_scale(_scale: [u8; 2], _head: &mut [Line], _r: usize, _lane: usize) {}
    /// Puts the blocks of four rows (fewer than 32 columns in the tail of a row) into their unit, over whatever was there.
    fn pack(blocks: Four<'_>, unit: &mut [Line], r: usize, four: usize);
    /// Orders the bits of group `r` when all of its blocks are in their unit.
    #[inline(always)]
    fn arrange<S: Lanes>(_s: S, _unit: &mut [Line], _r: usize) {}
}

/// Super-blocks of 256 columns whose sub-blocks of [`By256::SUB`] columns have integer scales:
/// element = d * scale * (integer - OFFSET) - dmin * minimum.
pub(super) trait By256 {
    /// Lines of a unit of 256 columns.
    const UNIT: usize;
    /// Columns of a sub-block: 16 or 32.
    const SUB: usize;
    /// How large the integers are.
    const INTEGERS: Integers = Integers::Narrow;
    /// Whether there is a minimum.
    const MIN: bool = false;
    /// Subtracted from the integers.
    const OFFSET: i32;
    /// Activations as the type needs them: [`WithPairs`] without an offset, [`WithStarts`] with one.
    type Columns<const N: usize>: Block256<N>;

    /// Two quads of group `r` in columns `32 g..32 g + 32`: which ones, says [`quads_by_sub`].
    fn integers<S: Lanes>(s: S, unit: &[Line], r: usize, g: usize, i: usize) -> [S::I; 2];
    /// The scales of the scales.
    fn d<S: Lanes>(s: S, unit: &[Line], r: usize) -> S::F;
    /// The scales of the minima.
    #[inline(always)]
    fn dmin<S: Lanes>(s: S, _unit: &[Line], _r: usize) -> S::F {
        s.splat(0.0)
    }
    /// What [`By256::scale`] and [`By256::minima`] are made from.
    fn scales<S: Lanes>(s: S, unit: &[Line], r: usize) -> [S::I; 4];
    /// The integer scales of a sub-block.
    fn scale<S: Lanes>(s: S, scales: &[S::I; 4], sub: usize) -> S::I;
    /// The integer minima of sub-blocks `2 p` (low half of the lane) and `2 p + 1` (high half).
    #[inline(always)]
    fn minima<S: Lanes>(s: S, _scales: &[S::I; 4], _p: usize) -> S::I {
        s.splat_i(0)
    }
    /// Puts the blocks of four rows into their unit, over whatever was there.
    fn pack(blocks: Four<'_>, unit: &mut [Line], r: usize, four: usize);
    /// Orders the bits of group `r` when all of its blocks are in their unit.
    #[inline(always)]
    fn arrange<S: Lanes>(_s: S, _unit: &mut [Line], _r: usize) {}
}

/// The two quads (of the eight of 32 columns) that [`By256::integers`] gives: both of the same sub-block.
#[inline(always)]
pub(super) fn quads_by_sub(sub: usize, i: usize) -> [usize; 2] {
    if sub == 16 {
        let first = i % 2 + i / 2 * 4;
        [first, first + 2]
    } else {
        [i, i + 4]
    }
}

/// Plain floats.
pub(super) trait Floats {
    /// Lines of one column.
    const UNIT: usize;
    /// Bytes of an element.
    const BYTES: usize;
    /// The elements of group `r` in a column.
    fn values<S: Lanes>(s: S, unit: &[Line], r: usize) -> S::F;
    /// Puts the elements of four rows into their units.
    fn pack(elements: Four<'_>, units: &mut [Line], r: usize, four: usize);
}

/// Something done for a weight type.
pub(super) trait ForFormat {
    /// What comes of it.
    type Output;
    /// For the types of the first family.
    fn by32<F: By32>(self) -> Self::Output;
    /// For the super-blocks.
    fn by256<F: By256>(self) -> Self::Output;
    /// For plain floats.
    fn floats<F: Floats>(self) -> Self::Output;
}

/// Does `what` for `dtype`; `None` for types that hold no weights.
#[inline]
pub(super) fn for_format<W: ForFormat>(dtype: DType, what: W) -> Option<W::Output> {
    Some(match dtype {
        DType::F32 => what.floats::<floats::F32>(),
        DType::F16 => what.floats::<floats::F16>(),
        DType::BF16 => what.floats::<floats::BF16>(),
        DType::Q4_0 => what.by32::<legacy::Q4_0>(),
        DType::Q4_1 => what.by32::<legacy::Q4_1>(),
        DType::Q5_0 => what.by32::<legacy::Q5_0>(),
        DType::Q5_1 => what.by32::<legacy::Q5_1>(),
        DType::Q8_0 => what.by32::<legacy::Q8_0>(),
        DType::Q2_K => what.by256::<kquants::Q2K>(),
        DType::Q3_K => what.by256::<kquants::Q3K>(),
        DType::Q4_K => what.by256::<kquants::Q4K>(),
        DType::Q5_K => what.by256::<kquants::Q5K>(),
        DType::Q6_K => what.by256::<kquants::Q6K>(),
        DType::IQ4_NL => what.by32::<iq4::Iq4Nl>(),
        DType::IQ4_XS => what.by256::<iq4::Iq4Xs>(),
        DType::RowI8 => what.by32::<rows::RowI8>(),
        DType::RowI4 => what.by32::<rows::RowI4>(),
        _ => return None,
    })
}

/// Lines of a tile of `cols` columns; `None` when `dtype` holds no weights.
pub(super) fn tile_lines(dtype: DType, cols: usize) -> Option<usize> {
    struct Lines(usize);
    impl ForFormat for Lines {
        type Output = usize;
        fn by32<F: By32>(self) -> usize {
            F::HEAD + self.0 / 32 * F::UNIT + F::tail_lines(self.0 % 32)
        }
        fn by256<F: By256>(self) -> usize {
            self.0 / 256 * F::UNIT
        }
        fn floats<F: Floats>(self) -> usize {
            self.0 * F::UNIT
        }
    }
    for_format(dtype, Lines(cols))
}

/// Bytes of four rows that stand side by side in a line: in lanes `4 four..4 four + 4`.
pub(super) type Four<'a> = [&'a [u8]; 4];

/// Four bytes of each row at `at`.
#[inline(always)]
pub(super) fn words([a, b, c, d]: Four<'_>, at: usize) -> [u32; 4] {
    [word(a, at), word(b, at), word(c, at), word(d, at)]
}

#[inline(always)]
fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*block(&bytes[at..]))
}

/// Two bytes of each row at `at`.
#[inline(always)]
pub(super) fn shorts([a, b, c, d]: Four<'_>, at: usize) -> [[u8; 2]; 4] {
    [*block(&a[at..]), *block(&b[at..]), *block(&c[at..]), *block(&d[at..])]
}

/// Puts sixteen bytes of each row, from `at` on, into four lines of a unit: word `i` of all rows into line `lines[i]`.
#[inline(always)]
pub(super) fn pack_words(rows: Four<'_>, at: usize, unit: &mut [Line], lines: [usize; 4], four: usize) {
    let columns = columns(rows, at);
    for i in 0..4 {
        unit[lines[i]].set_four_words(four, columns[i]);
    }
}

/// Sixteen bytes of each row from `at` on: word `i` of all four.
#[inline(always)]
pub(super) fn columns([a, b, c, d]: Four<'_>, at: usize) -> [[u32; 4]; 4] {
    transposed([block(&a[at..]), block(&b[at..]), block(&c[at..]), block(&d[at..])])
}

/// A block as the array that it is.
#[inline(always)]
pub(super) fn block<const N: usize>(bytes: &[u8]) -> &[u8; N] {
    bytes.first_chunk().expect("the packer passes whole blocks")
}

/// Low nibbles of the bytes of each lane.
#[inline(always)]
pub(super) fn low_nibbles<S: Lanes>(s: S, x: S::I) -> S::I {
    s.and(x, s.bytes(15))
}

/// High nibbles of the bytes of each lane.
#[inline(always)]
pub(super) fn high_nibbles<S: Lanes>(s: S, x: S::I) -> S::I {
    s.and(s.shr(x, 4), s.bytes(15))
}
