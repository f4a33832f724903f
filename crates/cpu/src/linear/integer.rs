//! Products of quantized weights with quantized activations: integers inside a block, floats across blocks.
//!
//! One step multiplies the 32 rows of a tile by `N` rows of activations over one block, and adds to `2 N` accumulators
//! of sixteen floats. There is one step for each family, over weights that are unpacked on the way ([`Few32`],
//! [`Few256`]: few rows, bound by memory) or were unpacked into the first-level cache before ([`Many32`],
//! [`Many256`]). The order of additions is the same in both, and the same whatever `N`: integer sums are exact,
//! and floats are added in ascending order of blocks.

#![allow(clippy::needless_range_loop, reason = "a tile's rows and columns index several arrays at once")]

use super::activations::{Block32, Block256, Family};
use super::formats::{By32, By256, quads_by_sub};
use super::line::Line;
use crate::lanes::{FloatLanes, Integers, Kernel, Lanes};
use std::marker::PhantomData;
use std::ops::Range;

/// Accumulators of a tile.
pub(super) type Sums<F, const N: usize> = [[F; N]; 2];

/// The 32 rows of a tile in a block of 32 columns.
trait Rows32<S: Lanes>: Copy {
    const INTEGERS: Integers;
    const MIN: bool;
    const OFFSET: i32;
    fn quads(i: usize) -> [usize; 2];
    fn integers(self, s: S, r: usize, i: usize) -> [S::I; 2];
    fn scale(self, s: S, r: usize) -> S::F;
    fn minimum(self, s: S, r: usize) -> S::F;
}

/// The 32 rows of a tile in a block of 256 columns.
trait Rows256<S: Lanes>: Copy {
    const INTEGERS: Integers;
    const MIN: bool;
    const SUB: usize;
    /// What scales are made from.
    type Scales: Copy;
    fn quads(i: usize) -> [usize; 2];
    fn integers(self, s: S, r: usize, g: usize, i: usize) -> [S::I; 2];
    fn d(self, s: S, r: usize) -> S::F;
    fn dmin(self, s: S, r: usize) -> S::F;
    fn scales(self, s: S, r: usize) -> Self::Scales;
    fn scale(self, s: S, r: usize, scales: &Self::Scales, sub: usize) -> S::I;
    fn minima(self, s: S, r: usize, scales: &Self::Scales, p: usize) -> S::I;
}

#[inline(always)]
fn step_32<S: Lanes, W: Rows32<S>, const N: usize>(s: S, w: W, a: &Block32<N>, sums: &mut Sums<S::F, N>) {
    let mut dots = [[s.splat_i(0); N]; 2];
    if W::OFFSET != 0 {
        for c in 0..N {
            dots[0][c] = s.splat_i(a.start(c));
            dots[1][c] = s.splat_i(a.start(c));
        }
    }
    for i in 0..4 {
        let integers = [w.integers(s, 0, i), w.integers(s, 1, i)];
        for half in 0..2 {
            for c in 0..N {
                let x = s.splat_i(a.quads[W::quads(i)[half]][c]);
                for r in 0..2 {
                    dots[r][c] = s.dot(W::INTEGERS, dots[r][c], integers[r][half], x);
                }
            }
        }
    }
    for r in 0..2 {
        let scale = w.scale(s, r);
        for c in 0..N {
            let scaled = s.mul(s.float(s.total(W::INTEGERS, dots[r][c])), scale);
            sums[r][c] = s.mul_add(scaled, s.splat(a.scale[c]), sums[r][c]);
        }
        if W::MIN {
            let minimum = w.minimum(s, r);
            for c in 0..N {
                sums[r][c] = s.mul_add(minimum, s.splat(a.scaled_sum(c)), sums[r][c]);
            }
        }
    }
}

/// One block of 256 columns: the groups from `first` on, `G` of them. `ahead` is called before the parts of 32 columns, to
/// ask for memory.
#[inline(always)]
fn step_256<S: Lanes, W: Rows256<S>, A: Block256<N>, const N: usize, const G: usize>(
    s: S,
    w: W,
    a: &A,
    first: usize,
    sums: &mut Sums<S::F, N>,
    ahead: impl Ahead<S>,
) {
    let mut scales = [w.scales(s, first); G];
    for r in 1..G {
        scales[r] = w.scales(s, first + r);
    }
    let mut totals = [[s.splat_i(0); N]; G];
    for g in 0..8 {
        ahead.part(s, g);
        let subs = 32 / W::SUB;
        for h in 0..subs {
            let mut dots = [[s.splat_i(0); N]; G];
            for c in 0..N {
                let start = s.splat_i(a.start(g, h)[c]);
                for r in 0..G {
                    dots[r][c] = start;
                }
            }
            for i in h * 4 / subs..(h + 1) * 4 / subs {
                let mut integers = [[s.splat_i(0); 2]; G];
                for r in 0..G {
                    integers[r] = w.integers(s, first + r, g, i);
                }
                for half in 0..2 {
                    for c in 0..N {
                        let x = s.splat_i(a.quad(g, W::quads(i)[half])[c]);
                        for r in 0..G {
                            dots[r][c] = s.dot(W::INTEGERS, dots[r][c], integers[r][half], x);
                        }
                    }
                }
            }
            for r in 0..G {
                let scale = w.scale(s, first + r, &scales[r], g * subs + h);
                for c in 0..N {
                    totals[r][c] = s.add_scaled(W::INTEGERS, totals[r][c], dots[r][c], scale);
                }
            }
        }
    }
    for r in 0..G {
        let sums = &mut sums[first + r];
        let d = w.d(s, first + r);
        let mut minima = [s.splat_i(0); N];
        if W::MIN {
            for p in 0..128 / W::SUB {
                let pair = w.minima(s, first + r, &scales[r], p);
                for c in 0..N {
                    minima[c] = s.dot2(minima[c], s.splat_i(a.pair(p)[c]), pair);
                }
            }
        }
        for c in 0..N {
            let mut value = s.mul(s.float(totals[r][c]), d);
            if W::MIN {
                value = s.sub(value, s.mul(s.float(minima[c]), w.dmin(s, first + r)));
            }
            sums[c] = s.mul_add(value, s.splat(a.scale()[c]), sums[c]);
        }
    }
}

/// Rows that are multiplied with packed weights at a time, at most: those whose sums with both groups of a tile stay in
/// registers. Where these are two, four times one group are faster if integers are some work to get at (of 8 rows 1.3 times
/// for Q4_K, 1.4 for Q6_K on Zen 5 as AVX2; of [`Family::By32`] it is slower).
pub(super) fn across<S: FloatLanes>(family: Family) -> usize {
    match family {
        Family::By32 => S::PAIRS,
        Family::By256 { .. } => S::PAIRS.max(4),
    }
}

/// Asks for memory that is soon needed, a part of a block at a time.
trait Ahead<S>: Copy {
    fn part(self, s: S, g: usize);
}

/// Nothing to ask for.
#[derive(Clone, Copy)]
struct Nothing;

impl<S> Ahead<S> for Nothing {
    #[inline(always)]
    fn part(self, _s: S, _g: usize) {}
}

/// The stream of packed weights behind this unit.
#[derive(Clone, Copy)]
struct Stream<'a>(&'a [Line]);

impl<S: Lanes> Ahead<S> for Stream<'_> {
    #[inline(always)]
    fn part(self, s: S, g: usize) {
        let lines = self.0.len();
        for i in g * lines / 8..(g + 1) * lines / 8 {
            ask(s, self.0.as_ptr().wrapping_add(i));
        }
    }
}

/// Lines by which the stream of weights is asked for in the second- and first-level cache before it is read.
const FAR: usize = 16 * 1024 / 64;
const NEAR: usize = 36;

/// Asks for what is read after `line`, twice: from memory early, and from the second-level cache in time.
#[inline(always)]
pub(super) fn ask<S: Lanes>(s: S, line: *const Line) {
    s.prefetch_far(line.wrapping_add(FAR));
    s.prefetch_near(line.wrapping_add(NEAR));
}

// ---- weights as they are packed ----

/// A unit as it is packed.
struct Packed<'a, F> {
    head: &'a [Line],
    unit: &'a [Line],
    format: PhantomData<F>,
}

impl<F> Clone for Packed<'_, F> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for Packed<'_, F> {}

impl<S: Lanes, F: By32> Rows32<S> for Packed<'_, F> {
    const INTEGERS: Integers = F::INTEGERS;
    const MIN: bool = F::MIN;
    const OFFSET: i32 = F::OFFSET;

    #[inline(always)]
    fn quads(i: usize) -> [usize; 2] {
        F::quads(i)
    }
    #[inline(always)]
    fn integers(self, s: S, r: usize, i: usize) -> [S::I; 2] {
        F::integers(s, self.unit, r, i)
    }
    #[inline(always)]
    fn scale(self, s: S, r: usize) -> S::F {
        F::scale(s, self.head, self.unit, r)
    }
    #[inline(always)]
    fn minimum(self, s: S, r: usize) -> S::F {
        F::minimum(s, self.unit, r)
    }
}

impl<S: Lanes, F: By256> Rows256<S> for Packed<'_, F> {
    const INTEGERS: Integers = F::INTEGERS;
    const MIN: bool = F::MIN;
    const SUB: usize = F::SUB;
    type Scales = [S::I; 4];

    #[inline(always)]
    fn quads(i: usize) -> [usize; 2] {
        quads_by_sub(F::SUB, i)
    }
    #[inline(always)]
    fn integers(self, s: S, r: usize, g: usize, i: usize) -> [S::I; 2] {
        F::integers(s, self.unit, r, g, i)
    }
    #[inline(always)]
    fn d(self, s: S, r: usize) -> S::F {
        F::d(s, self.unit, r)
    }
    #[inline(always)]
    fn dmin(self, s: S, r: usize) -> S::F {
        F::dmin(s, self.unit, r)
    }
    #[inline(always)]
    fn scales(self, s: S, r: usize) -> [S::I; 4] {
        F::scales(s, self.unit, r)
    }
    #[inline(always)]
    fn scale(self, s: S, _r: usize, scales: &[S::I; 4], sub: usize) -> S::I {
        s.scale(F::INTEGERS, F::scale(s, scales, sub))
    }
    #[inline(always)]
    fn minima(self, s: S, _r: usize, scales: &[S::I; 4], p: usize) -> S::I {
        F::minima(s, scales, p)
    }
}

/// Some blocks of a tile times at most eight rows, by 32 columns. `sums` gets `N` lines of group 0 and `N` of group 1; they
/// begin with block 0 and go on after it.
pub(super) struct Few32<'a, F, const N: usize> {
    pub(super) tile: &'a [Line],
    pub(super) cols: usize,
    pub(super) blocks: Range<usize>,
    pub(super) panel: &'a [u32],
    pub(super) sums: &'a mut [Line],
    pub(super) format: PhantomData<F>,
}

impl<F: By32, const N: usize> Kernel for Few32<'_, F, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        if N > S::PAIRS {
            unreachable!("panels are as wide as tiles at most");
        }
        let Few32 { tile, cols, blocks: Range { start, end }, panel, sums: lines, .. } = self;
        let blocks: &[Block32<N>] = bytemuck::cast_slice(panel);
        let (head, body) = tile.split_at(F::HEAD);
        let mut sums = so_far(s, start, lines);
        let units = body[start * F::UNIT..].chunks_exact(F::UNIT);
        for (unit, a) in units.zip(&blocks[start..end.min(cols / 32)]) {
            Stream(unit).all(s);
            step_32(s, Packed::<F> { head, unit, format: PhantomData }, a, &mut sums);
        }
        if end * 32 >= cols {
            last_32::<S, F, N>(s, tile, cols, blocks, &mut sums);
        }
        store(s, &sums, lines);
    }
}

/// What [`Few32`] computes for some tiles, which are read in turns, as many runs of memory, and asked for just before they
/// are needed.
pub(super) struct Turns32<'a, F, const N: usize> {
    pub(super) tiles: &'a [&'a [Line]],
    pub(super) cols: usize,
    pub(super) panel: &'a [u32],
    /// For each tile `N` lines of group 0 and `N` of group 1, `stride` lines after those of the tile before.
    pub(super) sums: &'a mut [Line],
    pub(super) stride: usize,
    pub(super) format: PhantomData<F>,
}

/// Lines that are read of a tile before its turn is over, about, and by how many it is asked for then: few enough for the
/// processor to read on in the other runs meanwhile.
const TURN: usize = 16;

impl<F: By32, const N: usize> Kernel for Turns32<'_, F, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        if N > S::PAIRS {
            unreachable!("panels are as wide as tiles at most");
        }
        let Turns32 { tiles, cols, panel, sums: lines, stride, .. } = self;
        let blocks: &[Block32<N>] = bytemuck::cast_slice(panel);
        let whole = cols / 32;
        let turn = TURN.div_ceil(F::UNIT);
        for first in (0..whole.max(1)).step_by(turn) {
            let end = whole.min(first + turn);
            for (tile, lines) in tiles.iter().zip(lines.chunks_mut(stride)) {
                let mut sums = so_far(s, first, lines);
                let (head, body) = tile.split_at(F::HEAD);
                for (unit, a) in body[first * F::UNIT..].chunks_exact(F::UNIT).zip(&blocks[first..end]) {
                    for line in unit {
                        s.prefetch_near((&raw const *line).wrapping_add(TURN));
                    }
                    step_32(s, Packed::<F> { head, unit, format: PhantomData }, a, &mut sums);
                }
                if end == whole {
                    last_32::<S, F, N>(s, tile, cols, blocks, &mut sums);
                }
                store(s, &sums, lines);
            }
        }
    }
}

/// The columns after the last whole block.
#[inline(always)]
fn last_32<S: Lanes, F: By32, const N: usize>(
    s: S,
    tile: &[Line],
    cols: usize,
    blocks: &[Block32<N>],
    sums: &mut Sums<S::F, N>,
) {
    // Most types have no such columns, and no code for them then.
    if F::tail_lines(cols % 32) > 0 {
        let (head, body) = tile.split_at(F::HEAD);
        let tail = F::tail(&body[cols / 32 * F::UNIT..], cols % 32);
        step_32(s, Packed::<F> { head, unit: &tail, format: PhantomData }, &blocks[cols / 32], sums);
    }
}

impl Stream<'_> {
    /// Asks for the whole unit's worth at once.
    #[inline(always)]
    fn all<S: Lanes>(self, s: S) {
        for i in 0..self.0.len() {
            ask(s, self.0.as_ptr().wrapping_add(i));
        }
    }
}

/// Some blocks of a tile times at most eight rows, by 256 columns, as [`Few32`].
pub(super) struct Few256<'a, F, const N: usize> {
    pub(super) tile: &'a [Line],
    pub(super) blocks: Range<usize>,
    pub(super) panel: &'a [u32],
    pub(super) sums: &'a mut [Line],
    pub(super) format: PhantomData<F>,
}

impl<F: By256, const N: usize> Kernel for Few256<'_, F, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        if N > S::PAIRS.max(4) {
            unreachable!("no more rows than there are registers for");
        }
        let Few256 { tile, blocks: Range { start, end }, panel, sums: lines, .. } = self;
        let blocks: &[F::Columns<N>] = bytemuck::cast_slice(panel);
        let mut sums = so_far(s, start, lines);
        let units = tile[start * F::UNIT..].chunks_exact(F::UNIT);
        for (unit, a) in units.zip(&blocks[start..end]) {
            let rows = Packed::<F> { head: &[], unit, format: PhantomData };
            if N <= S::PAIRS {
                step_256::<S, _, _, N, 2>(s, rows, a, 0, &mut sums, Stream(unit));
            } else {
                step_256::<S, _, _, N, 1>(s, rows, a, 0, &mut sums, Stream(unit));
                step_256::<S, _, _, N, 1>(s, rows, a, 1, &mut sums, Nothing);
            }
        }
        store(s, &sums, lines);
    }
}

/// Writes accumulators: group 0, then group 1.
#[inline(always)]
pub(super) fn store<S: Lanes, const N: usize>(s: S, sums: &Sums<S::F, N>, lines: &mut [Line]) {
    let lines = &mut lines[..2 * N];
    for r in 0..2 {
        for c in 0..N {
            lines[r * N + c].set_floats(s, sums[r][c]);
        }
    }
}

/// The accumulators before block `first`: what [`store`] has written, or zeros before the first one.
#[inline(always)]
pub(super) fn so_far<S: Lanes, const N: usize>(s: S, first: usize, lines: &[Line]) -> Sums<S::F, N> {
    let mut sums = [[s.splat(0.0); N]; 2];
    if first > 0 {
        let lines = &lines[..2 * N];
        for r in 0..2 {
            for c in 0..N {
                sums[r][c] = lines[r * N + c].floats(s);
            }
        }
    }
    sums
}

// ---- weights unpacked before ----

/// Lines of a group in an unpacked block of 32 columns: eight quads, scales, minima.
const READY_GROUP_32: usize = 10;
/// Lines of an unpacked block of 32 columns.
pub(super) const READY_32: usize = 2 * READY_GROUP_32;
/// Lines of a group in an unpacked block of 256 columns: 64 quads, at most 16 lines of scales and 8 of minima, `d`,
/// `dmin`.
const READY_GROUP_256: usize = 64 + 16 + 8 + 2;
/// Lines of an unpacked block of 256 columns.
pub(super) const READY_256: usize = 2 * READY_GROUP_256;

/// An unpacked block.
struct Ready<'a, F> {
    lines: &'a [Line],
    format: PhantomData<F>,
}

impl<F> Clone for Ready<'_, F> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for Ready<'_, F> {}

impl<S: Lanes, F: By32> Rows32<S> for Ready<'_, F> {
    const INTEGERS: Integers = F::INTEGERS;
    const MIN: bool = F::MIN;
    const OFFSET: i32 = F::OFFSET;

    #[inline(always)]
    fn quads(i: usize) -> [usize; 2] {
        [2 * i, 2 * i + 1]
    }
    #[inline(always)]
    fn integers(self, s: S, r: usize, i: usize) -> [S::I; 2] {
        let at = READY_GROUP_32 * r + 2 * i;
        [self.lines[at].words(s), self.lines[at + 1].words(s)]
    }
    #[inline(always)]
    fn scale(self, s: S, r: usize) -> S::F {
        self.lines[READY_GROUP_32 * r + 8].floats(s)
    }
    #[inline(always)]
    fn minimum(self, s: S, r: usize) -> S::F {
        self.lines[READY_GROUP_32 * r + 9].floats(s)
    }
}

impl<S: Lanes, F: By256> Rows256<S> for Ready<'_, F> {
    const INTEGERS: Integers = F::INTEGERS;
    const MIN: bool = F::MIN;
    const SUB: usize = F::SUB;
    type Scales = ();

    #[inline(always)]
    fn quads(i: usize) -> [usize; 2] {
        [2 * i, 2 * i + 1]
    }
    #[inline(always)]
    fn integers(self, s: S, r: usize, g: usize, i: usize) -> [S::I; 2] {
        let at = READY_GROUP_256 * r + 8 * g + 2 * i;
        [self.lines[at].words(s), self.lines[at + 1].words(s)]
    }
    #[inline(always)]
    fn d(self, s: S, r: usize) -> S::F {
        self.lines[READY_GROUP_256 * r + 88].floats(s)
    }
    #[inline(always)]
    fn dmin(self, s: S, r: usize) -> S::F {
        self.lines[READY_GROUP_256 * r + 89].floats(s)
    }
    #[inline(always)]
    fn scales(self, _s: S, _r: usize) {}
    #[inline(always)]
    fn scale(self, s: S, r: usize, _scales: &(), sub: usize) -> S::I {
        self.lines[READY_GROUP_256 * r + 64 + sub].words(s)
    }
    #[inline(always)]
    fn minima(self, s: S, r: usize, _scales: &(), p: usize) -> S::I {
        self.lines[READY_GROUP_256 * r + 80 + p].words(s)
    }
}

/// Unpacks blocks of a tile, from `first` on, into [`READY_32`] lines each.
pub(super) struct Unpack32<'a, F> {
    pub(super) tile: &'a [Line],
    pub(super) cols: usize,
    pub(super) first: usize,
    pub(super) ready: &'a mut [Line],
    pub(super) format: PhantomData<F>,
}

impl<F: By32> Kernel for Unpack32<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        let (head, body) = self.tile.split_at(F::HEAD);
        for (b, ready) in (self.first..).zip(self.ready.chunks_exact_mut(READY_32)) {
            let tail;
            let unit = if b < self.cols / 32 {
                &body[b * F::UNIT..][..F::UNIT]
            } else {
                tail = F::tail(&body[b * F::UNIT..], self.cols % 32);
                &tail[..F::UNIT]
            };
            let rows = Packed::<F> { head, unit, format: PhantomData };
            for r in 0..2 {
                let lines = &mut ready[READY_GROUP_32 * r..][..READY_GROUP_32];
                for i in 0..4 {
                    for (quad, integers) in F::quads(i).into_iter().zip(rows.integers(s, r, i)) {
                        lines[quad].set_words(s, integers);
                    }
                }
                lines[8].set_floats(s, rows.scale(s, r));
                if F::MIN {
                    lines[9].set_floats(s, rows.minimum(s, r));
                }
            }
        }
    }
}

/// Unpacks blocks of a tile, from `first` on, into [`READY_256`] lines each.
pub(super) struct Unpack256<'a, F> {
    pub(super) tile: &'a [Line],
    pub(super) first: usize,
    pub(super) ready: &'a mut [Line],
    pub(super) format: PhantomData<F>,
}

impl<F: By256> Kernel for Unpack256<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        let units = self.tile[self.first * F::UNIT..].chunks_exact(F::UNIT);
        for (unit, ready) in units.zip(self.ready.chunks_exact_mut(READY_256)) {
            let rows = Packed::<F> { head: &[], unit, format: PhantomData };
            for r in 0..2 {
                let lines = &mut ready[READY_GROUP_256 * r..][..READY_GROUP_256];
                for g in 0..8 {
                    for i in 0..4 {
                        for (quad, integers) in
                            quads_by_sub(F::SUB, i).into_iter().zip(rows.integers(s, r, g, i))
                        {
                            lines[8 * g + quad].set_words(s, integers);
                        }
                    }
                }
                let scales = rows.scales(s, r);
                for sub in 0..256 / F::SUB {
                    lines[64 + sub].set_words(s, rows.scale(s, r, &scales, sub));
                }
                lines[88].set_floats(s, rows.d(s, r));
                if F::MIN {
                    for p in 0..128 / F::SUB {
                        lines[80 + p].set_words(s, rows.minima(s, r, &scales, p));
                    }
                    lines[89].set_floats(s, rows.dmin(s, r));
                }
            }
        }
    }
}

/// Some unpacked blocks of a tile times many rows, which stand in panels of `N`.
pub(super) struct Many<'a, F, const N: usize> {
    /// The blocks.
    pub(super) ready: &'a [Line],
    /// The panels, of `words` words for each of their rows.
    pub(super) panels: &'a [u32],
    pub(super) words: usize,
    /// Which block of the panels is the first of `ready`; sums begin with block 0 and go on after it.
    pub(super) first: usize,
    /// `2 N` lines for each panel.
    pub(super) sums: &'a mut [Line],
    /// Packed weights that are needed next.
    pub(super) next: &'a [Line],
    pub(super) format: PhantomData<F>,
}

/// [`Many`] by 32 columns.
pub(super) struct Many32<'a, F, const N: usize>(pub(super) Many<'a, F, N>);
/// [`Many`] by 256 columns.
pub(super) struct Many256<'a, F, const N: usize>(pub(super) Many<'a, F, N>);

impl<F: By32, const N: usize> Kernel for Many32<'_, F, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        self.0.each_panel(s, |blocks: &[Block32<N>], ready, sums| {
            for (a, lines) in blocks.iter().zip(ready.chunks_exact(READY_32)) {
                step_32(s, Ready::<F> { lines, format: PhantomData }, a, sums);
            }
        });
    }
}

impl<F: By256, const N: usize> Kernel for Many256<'_, F, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        self.0.each_panel(s, |blocks: &[F::Columns<N>], ready, sums| {
            for (a, lines) in blocks.iter().zip(ready.chunks_exact(READY_256)) {
                step_256::<S, _, _, N, 2>(s, Ready::<F> { lines, format: PhantomData }, a, 0, sums, Nothing);
            }
        });
    }
}

impl<F, const N: usize> Many<'_, F, N> {
    /// Calls `multiply` for each panel with its blocks from `first` on and its sums so far.
    #[inline(always)]
    fn each_panel<S: Lanes, B: bytemuck::Pod>(
        self,
        s: S,
        multiply: impl Fn(&[B], &[Line], &mut Sums<S::F, N>),
    ) {
        if N != S::PAIRS {
            unreachable!("panels are as wide as tiles");
        }
        let panels = self.panels.chunks_exact(N * self.words);
        let share = self.next.len().div_ceil(panels.len().max(1)).max(1);
        let mut next = self.next.chunks(share);
        for (panel, lines) in panels.zip(self.sums.chunks_exact_mut(2 * N)) {
            for line in next.next().unwrap_or_default() {
                s.prefetch_far(line);
            }
            let mut sums = so_far(s, self.first, lines);
            let blocks: &[B] = bytemuck::cast_slice(panel);
            multiply(&blocks[self.first..], self.ready, &mut sums);
            store(s, &sums, lines);
        }
    }
}
