//! Products in f32: weights are decoded to the numbers that [`glimmer_tensor::quant`] defines, activations are taken
//! as they are.
//!
//! Columns are cut into chunks of [`CHUNK`]. Within a chunk the products of an output are added up one after the other
//! from zero; the sums of the chunks are added up in order. The order is the same for any number of rows.

#![allow(clippy::needless_range_loop, reason = "a tile's rows and columns index several arrays at once")]

use super::formats::{By32, By256, Floats, ForFormat, GROUP, for_format, quads_by_sub};
use super::integer::{Sums, ask, so_far, store};
use super::line::Line;
use crate::lanes::{FloatLanes, Kernel, Lanes};
use glimmer_tensor::DType;
use std::marker::PhantomData;
use std::ops::Range;

/// Columns whose products are added up before they join the sum. Short chunks keep the partial sums, and with them the
/// rounding, small: ChatGLM-6B's residuals multiply what is lost here by 7.5.
pub(super) const CHUNK: usize = 32;

/// Columns that are decoded at a time, some chunks: with the rows that they are multiplied with next they fit the
/// first-level cache.
pub(super) const DECODED: usize = 4 * CHUNK;

/// Lines that decoded columns of a tile take: two for each.
pub(super) const READY_FLOATS: usize = 2 * DECODED;

/// Integers of four columns as floats, `offset` lower.
#[inline(always)]
fn unpack_quad<S: Lanes>(s: S, quad: S::I, offset: i32) -> [S::F; 4] {
    let byte = |n| s.float(s.sub_i(s.and(s.shr(quad, n), s.splat_i(255)), s.splat_i(offset)));
    [byte(0), byte(8), byte(16), byte(24)]
}

/// The decoded columns of a tile: two lines, groups 0 and 1, for each.
trait Decode {
    /// Decodes group `r` in `columns`, which begin at a multiple of [`CHUNK`].
    fn decode<S: Lanes>(s: S, tile: &[Line], cols: usize, columns: Range<usize>, r: usize, out: &mut [Line]);
}

struct Of32<F>(PhantomData<F>);
struct Of256<F>(PhantomData<F>);
struct OfFloats<F>(PhantomData<F>);

impl<F: By32> Decode for Of32<F> {
    #[inline(always)]
    fn decode<S: Lanes>(s: S, tile: &[Line], cols: usize, columns: Range<usize>, r: usize, out: &mut [Line]) {
        let (head, body) = tile.split_at(F::HEAD);
        for (b, out) in (columns.start / 32..).zip(out.chunks_mut(2 * 32)) {
            let tail;
            let unit = if b < cols / 32 {
                &body[b * F::UNIT..][..F::UNIT]
            } else {
                tail = F::tail(&body[b * F::UNIT..], cols % 32);
                &tail[..F::UNIT]
            };
            let scale = F::scale(s, head, unit, r);
            let minimum = F::minimum(s, unit, r);
            for i in 0..4 {
                for (quad, integers) in F::quads(i).into_iter().zip(F::integers(s, unit, r, i)) {
                    for (b, integer) in unpack_quad(s, integers, F::OFFSET).into_iter().enumerate() {
                        let mut value = s.mul(integer, scale);
                        if F::MIN {
                            value = s.add(value, minimum);
                        }
                        if let Some(out) = out.get_mut(2 * (4 * quad + b) + r) {
                            out.set_floats(s, value);
                        }
                    }
                }
            }
        }
    }
}

impl<F: By256> Decode for Of256<F> {
    #[inline(always)]
    fn decode<S: Lanes>(
        s: S,
        tile: &[Line],
        _cols: usize,
        columns: Range<usize>,
        r: usize,
        out: &mut [Line],
    ) {
        for (part, out) in (columns.start / 32..).zip(out.chunks_mut(2 * 32)) {
            let (unit, g) = (&tile[part / 8 * F::UNIT..][..F::UNIT], part % 8);
            let (d, dmin) = (F::d(s, unit, r), F::dmin(s, unit, r));
            let scales = F::scales(s, unit, r);
            let subs = 32 / F::SUB;
            for i in 0..4 {
                let sub = g * subs + i * subs / 4;
                let scale = s.mul(d, s.float(F::scale(s, &scales, sub)));
                let pair = F::minima(s, &scales, sub / 2);
                let minimum = s.and(s.shr(pair, 16 * (sub % 2) as u32), s.splat_i(255));
                let minimum = s.mul(dmin, s.float(minimum));
                for (quad, integers) in quads_by_sub(F::SUB, i).into_iter().zip(F::integers(s, unit, r, g, i))
                {
                    for (b, integer) in unpack_quad(s, integers, F::OFFSET).into_iter().enumerate() {
                        let mut value = s.mul(scale, integer);
                        if F::MIN {
                            value = s.sub(value, minimum);
                        }
                        out[2 * (4 * quad + b) + r].set_floats(s, value);
                    }
                }
            }
        }
    }
}

impl<F: Floats> Decode for OfFloats<F> {
    #[inline(always)]
    fn decode<S: Lanes>(
        s: S,
        tile: &[Line],
        _cols: usize,
        columns: Range<usize>,
        r: usize,
        out: &mut [Line],
    ) {
        let units = tile[columns.start * F::UNIT..].chunks_exact(F::UNIT);
        for (unit, out) in units.zip(out.as_chunks_mut::<2>().0).take(columns.len()) {
            out[r].set_floats(s, F::values(s, unit, r));
        }
    }
}

/// Decodes columns of a tile.
struct DecodeColumns<'a, D> {
    tile: &'a [Line],
    cols: usize,
    columns: Range<usize>,
    ready: &'a mut [Line],
    decoder: PhantomData<D>,
}

impl<D: Decode> Kernel for DecodeColumns<'_, D> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        // The part of the packed tile that these columns take, near enough: all take the same.
        let line = |column: usize| self.tile.len() * column / self.cols;
        for i in line(self.columns.start)..line(self.columns.end) {
            ask(s, self.tile.as_ptr().wrapping_add(i));
        }
        let out = &mut self.ready[..2 * self.columns.len()];
        for r in 0..2 {
            D::decode(s, self.tile, self.cols, self.columns.clone(), r, out);
        }
    }
}

/// Decodes the columns of a tile of `dtype` into `ready`.
pub(super) fn decode_columns<S: Lanes>(
    s: S,
    dtype: DType,
    tile: &[Line],
    cols: usize,
    columns: Range<usize>,
    ready: &mut [Line],
) {
    struct Columns<'a, S>(S, &'a [Line], usize, Range<usize>, &'a mut [Line]);
    impl<'a, S: Lanes> Columns<'a, S> {
        fn run<D: Decode>(self) {
            let Columns(s, tile, cols, columns, ready) = self;
            s.run(DecodeColumns::<D> { tile, cols, columns, ready, decoder: PhantomData });
        }
    }
    impl<S: Lanes> ForFormat for Columns<'_, S> {
        type Output = ();
        fn by32<F: By32>(self) {
            self.run::<Of32<F>>();
        }
        fn by256<F: By256>(self) {
            self.run::<Of256<F>>();
        }
        fn floats<F: Floats>(self) {
            self.run::<OfFloats<F>>();
        }
    }
    for_format(dtype, Columns(s, tile, cols, columns, ready)).expect("packed matrices hold weights");
}

/// Decodes row `row` of a tile of `dtype`.
pub(super) fn decode_row<S: Lanes>(s: S, dtype: DType, tile: &[Line], row: usize, out: &mut [f32]) {
    let (r, lane, cols) = (row / GROUP, row % GROUP, out.len());
    let mut ready = [Line::ZERO; READY_FLOATS];
    for (i, out) in out.chunks_mut(DECODED).enumerate() {
        let columns = i * DECODED..i * DECODED + out.len();
        decode_columns(s, dtype, tile, cols, columns, &mut ready);
        for (out, lines) in out.iter_mut().zip(ready.as_chunks::<2>().0) {
            *out = f32::from_bits(lines[r].word(lane));
        }
    }
}

/// Rows that are multiplied with decoded columns at a time, at most, on any instruction set.
pub(super) const MOST_TOGETHER: usize = 8;

/// Rows that are multiplied with decoded columns at a time: so many that their sums, with both groups of a tile or with one,
/// stay in registers beside what they are made of.
pub(super) const fn together<S: FloatLanes>() -> usize {
    if S::PAIRS == MOST_TOGETHER { MOST_TOGETHER } else { 6 }
}

/// Rows of a panel of `rows` rows that there is a kernel for.
pub(super) fn panel_of<S: FloatLanes>(rows: usize) -> usize {
    if rows > 4 { together::<S>() } else { rows.next_power_of_two() }
}

/// Some decoded chunks of a tile times some rows.
pub(super) struct Multiply<'a> {
    /// Two lines for each column.
    pub(super) ready: &'a [Line],
    /// The rows' values in these columns: for each column those of [`together`] rows.
    pub(super) panel: &'a [f32],
    /// How many of the rows count: there is a kernel for so many.
    pub(super) rows: usize,
    /// Whether these chunks are the first of their tile.
    pub(super) first: bool,
    /// As many lines of group 0 as rows count, and as many of group 1.
    pub(super) sums: &'a mut [Line],
}

impl Kernel for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        match (together::<S>(), self.rows) {
            (_, 1) => self.groups::<S, 1, 2>(s),
            (_, 2) => self.groups::<S, 2, 2>(s),
            (MOST_TOGETHER, 4) => self.groups::<S, 4, 2>(s),
            (_, 8) => self.groups::<S, 8, 2>(s),
            (_, 4) => self.groups::<S, 4, 1>(s),
            (_, 6) => self.groups::<S, 6, 1>(s),
            (_, rows) => unreachable!("no kernel multiplies {rows} rows"),
        }
    }
}

impl Multiply<'_> {
    /// `N` rows times all groups, `G` at a time.
    #[inline(always)]
    fn groups<S: Lanes, const N: usize, const G: usize>(self, s: S) {
        let together = together::<S>();
        let ready = self.ready.as_chunks::<2>().0;
        assert!(N <= together && ready.len() * together <= self.panel.len(), "rows have the columns");
        let lines = &mut self.sums[..2 * N];
        for group in (0..2).step_by(G) {
            for start in (0..ready.len()).step_by(CHUNK) {
                let mut sums = [[s.splat(0.0); G]; N];
                for k in start..ready.len().min(start + CHUNK) {
                    let mut weights = [s.splat(0.0); G];
                    for g in 0..G {
                        weights[g] = ready[k][group + g].floats(s);
                    }
                    for c in 0..N {
                        // SAFETY: of each column there are `together` values, at least `N`, as was just checked.
                        let x = s.splat(unsafe { *self.panel.get_unchecked(k * together + c) });
                        for g in 0..G {
                            sums[c][g] = s.mul_add(weights[g], x, sums[c][g]);
                        }
                    }
                }
                for c in 0..N {
                    for g in 0..G {
                        let line = &mut lines[(group + g) * N + c];
                        // The first sum itself, not zero plus it: zeros have signs.
                        let is_first = self.first && start == 0;
                        let total = if is_first { sums[c][g] } else { s.add(line.floats(s), sums[c][g]) };
                        line.set_floats(s, total);
                    }
                }
            }
        }
    }
}

/// A tile of plain floats times few rows: what [`Multiply`] computes chunk by chunk, without the way through memory. `sums`
/// gets `N` lines of group 0 and `N` of group 1.
pub(super) struct FewFloats<'a, F, const N: usize> {
    pub(super) tile: &'a [Line],
    pub(super) rows: [&'a [f32]; N],
    pub(super) sums: &'a mut [Line],
    pub(super) format: PhantomData<F>,
}

impl<F: Floats, const N: usize> Kernel for FewFloats<'_, F, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        if N > together::<S>() {
            unreachable!("no more rows than there are registers for");
        }
        let cols = columns_of::<F, N>(&self.rows, self.tile);
        let mut totals = [[s.splat(0.0); N]; 2];
        for start in (0..cols).step_by(CHUNK) {
            add_chunk::<S, F, N, true>(s, self.tile, &self.rows, start..cols.min(start + CHUNK), &mut totals);
        }
        store(s, &totals, self.sums);
    }
}

/// What [`FewFloats`] computes for some tiles, which are read as those of [`super::integer::Turns32`] are.
pub(super) struct TurnsFloats<'a, F, const N: usize> {
    pub(super) tiles: &'a [&'a [Line]],
    pub(super) rows: [&'a [f32]; N],
    /// For each tile `N` lines of group 0 and `N` of group 1, `stride` lines after those of the tile before.
    pub(super) sums: &'a mut [Line],
    pub(super) stride: usize,
    pub(super) format: PhantomData<F>,
}

impl<F: Floats, const N: usize> Kernel for TurnsFloats<'_, F, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        if N > together::<S>() {
            unreachable!("no more rows than there are registers for");
        }
        let TurnsFloats { tiles, rows, sums: lines, stride, .. } = self;
        let cols = tiles.iter().map(|tile| columns_of::<F, N>(&rows, tile)).min().unwrap_or(0);
        for start in (0..cols.max(1)).step_by(CHUNK) {
            for (tile, lines) in tiles.iter().zip(lines.chunks_mut(stride)) {
                let mut totals = so_far(s, start, lines);
                add_chunk::<S, F, N, false>(s, tile, &rows, start..cols.min(start + CHUNK), &mut totals);
                store(s, &totals, lines);
            }
        }
    }
}

/// The columns of rows and of the tile that they are multiplied with.
#[inline(always)]
fn columns_of<F: Floats, const N: usize>(rows: &[&[f32]; N], tile: &[Line]) -> usize {
    let cols = rows[0].len();
    assert!(rows.iter().all(|row| row.len() == cols), "rows have the same columns");
    assert_eq!(tile.len(), cols * F::UNIT, "a tile has as many columns as the rows");
    cols
}

/// Adds a chunk of columns of a tile times rows of the same columns. Only where `AHEAD` is what follows asked for.
#[inline(always)]
fn add_chunk<S: Lanes, F: Floats, const N: usize, const AHEAD: bool>(
    s: S,
    tile: &[Line],
    rows: &[&[f32]; N],
    columns: Range<usize>,
    totals: &mut Sums<S::F, N>,
) {
    // As many groups at a time as leave the sums in registers.
    if N <= 2 || together::<S>() == MOST_TOGETHER {
        add_groups::<S, F, N, 2, AHEAD>(s, tile, rows, columns, totals);
    } else {
        add_groups::<S, F, N, 1, AHEAD>(s, tile, rows, columns, totals);
    }
}

/// [`add_chunk`], `G` groups at a time.
#[inline(always)]
fn add_groups<S: Lanes, F: Floats, const N: usize, const G: usize, const AHEAD: bool>(
    s: S,
    tile: &[Line],
    rows: &[&[f32]; N],
    columns: Range<usize>,
    totals: &mut Sums<S::F, N>,
) {
    assert!(rows.iter().all(|row| columns.end <= row.len()), "rows have the columns");
    for group in (0..2).step_by(G) {
        let mut sums = [[s.splat(0.0); N]; G];
        for k in columns.clone() {
            let unit = &tile[k * F::UNIT..][..F::UNIT];
            if AHEAD && group == 0 {
                for line in unit {
                    ask(s, line);
                }
            }
            let mut weights = [s.splat(0.0); G];
            for g in 0..G {
                weights[g] = F::values(s, unit, group + g);
            }
            for c in 0..N {
                // SAFETY: `k` is below the columns' end, which no row ends before, as was just checked.
                let x = s.splat(unsafe { *rows[c].get_unchecked(k) });
                for g in 0..G {
                    sums[g][c] = s.mul_add(weights[g], x, sums[g][c]);
                }
            }
        }
        for g in 0..G {
            for c in 0..N {
                let total = &mut totals[group + g][c];
                // The first sum itself, not zero plus it: zeros have signs.
                *total = if columns.start == 0 { sums[g][c] } else { s.add(*total, sums[g][c]) };
            }
        }
    }
}
