//! Which thread multiplies what, when: the loops around the kernels.
//!
//! Few rows (a generation): every thread quantizes them for itself and then reads its share of the weights once, as one
//! stream or as some in turns, whichever the processor is faster with. More rows: they are quantized into panels by all
//! threads; then each thread takes tile after tile, and some columns of it go with one panel after the other while the
//! first-level cache holds them: as they are packed for some panels (the answers of several users), for many (a prompt)
//! unpacked.

use super::activations::{Family, Quantize, Scheme, most_words};
use super::epilogue::{Finish, Finishing, Output};
use super::float::{
    DECODED, FewFloats, MOST_TOGETHER, Multiply, READY_FLOATS, TurnsFloats, decode_columns, panel_of,
    together,
};
use super::formats::{By32, By256, Floats, ForFormat, TILE, for_format};
use super::integer::{
    Few32, Few256, Many, Many32, Many256, READY_32, READY_256, Turns32, Unpack32, Unpack256, across,
};
use super::line::Line;
use super::low_rank::Beside;
use super::packed::{PackedMatrix, Segment, Side, Tiles, is_wide};
use super::turns::{RUNS, Turns};
use crate::isa::Isa;
use crate::lanes::{FloatLanes, Lanes, Proof, Register, Work};
use crate::memory::{Parts, Slab, share};
use crate::pool::Pool;
use glimmer_tensor::{Compute, DType, DeviceError};
use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Rows that are multiplied with an unpacked tile before the next tile, at most.
const ROWS: usize = 512;

/// Bytes that those rows take at most (but for the fewest rows that are worth unpacking a tile): they stay in the
/// second-level cache from tile to tile.
const ROWS_BYTES: usize = 5 << 18;
const FEWEST_ROWS: usize = 64;

/// Rows up to which weights of a type are multiplied as they are packed: with more, unpacking them first pays, the sooner the
/// more work it is to get at their integers. With AVX-512, and with less; measured on Zen 5, with AVX-512 and as AVX2.
fn packed_rows(dtype: DType) -> [usize; 2] {
    match dtype {
        DType::Q8_0 | DType::RowI8 => [96, 32],
        DType::Q4_0 | DType::Q4_1 => [128, 16],
        DType::RowI4 => [96, 10],
        DType::IQ4_NL => [128, 8],
        DType::Q4_K => [64, 32],
        DType::Q6_K => [48, 24],
        DType::Q5_0 | DType::Q5_1 => [40, 8],
        DType::Q2_K => [24, 32],
        DType::Q3_K => [24, 24],
        DType::IQ4_XS => [40, 16],
        // Q5_K; plain floats are decoded.
        _ => [32, 16],
    }
}

/// Rows up to which floats are multiplied as they are packed: with more, decoding them first pays.
const FEW_FLOATS: usize = 12;

/// Columns that are taken at a time: both groups of a tile, unpacked, and a panel fit the first-level cache.
const COLUMNS: usize = 512;

/// Lines that unpacked columns take at most.
const READY: usize = {
    let most = COLUMNS / 32 * READY_32;
    let most = if COLUMNS / 256 * READY_256 > most { COLUMNS / 256 * READY_256 } else { most };
    if READY_FLOATS > most { READY_FLOATS } else { most }
};

/// The widest panel of any instruction set.
const WIDEST: usize = 8;

/// Working memory of the products, made once.
pub(crate) struct Activations {
    /// All rows quantized, in panels.
    panels: Slab<u32>,
    threads: Vec<Mutex<Scratch>>,
    max_rows: usize,
    max_cols: usize,
}

/// A thread's own working memory.
struct Scratch {
    /// Few rows, quantized.
    panel: Slab<u32>,
    /// Some rows as they are, in panels.
    floats: Slab<f32>,
    /// Unpacked weights.
    ready: Slab<Line>,
    /// The sums of a tile with some rows; gated, gate and value.
    sums: Slab<Line>,
}

/// Elements of the slabs of an [`Activations`]: of all, then of each thread.
struct Sizes {
    panels: usize,
    panel: usize,
    floats: usize,
    sums: usize,
}

impl Sizes {
    fn of(max_rows: usize, max_cols: usize) -> Option<Self> {
        let words = most_words(max_cols);
        // As many as `rows_at_once` says of any number of columns.
        let floats = max_cols.checked_mul(FEWEST_ROWS)?.max(ROWS_BYTES / size_of::<f32>());
        let floats = floats.min(max_cols.checked_mul(max_rows)?);
        Some(Sizes {
            panels: words.checked_mul(max_rows.checked_next_multiple_of(WIDEST)?)?,
            panel: words.checked_mul(WIDEST)?,
            floats: floats.checked_add(max_cols.checked_mul(MOST_TOGETHER)?)?,
            // Whole panels of integers and of floats.
            sums: 2 * 2 * max_rows.min(ROWS).next_multiple_of(3 * WIDEST).max(RUNS * FEW_FLOATS),
        })
    }
}

impl Activations {
    /// For products of at most `max_rows` rows of at most `max_cols` columns on `threads` threads.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`].
    pub(crate) fn new(max_rows: usize, max_cols: usize, threads: usize) -> Result<Self, DeviceError> {
        let what = "activations";
        let sizes =
            Sizes::of(max_rows, max_cols).ok_or(DeviceError::OutOfMemory { what, bytes: usize::MAX })?;
        let threads = (0..threads)
            .map(|_| {
                Ok(Mutex::new(Scratch {
                    panel: Slab::zeroed(sizes.panel, what)?,
                    floats: Slab::zeroed(sizes.floats, what)?,
                    ready: Slab::zeroed(READY, what)?,
                    sums: Slab::zeroed(sizes.sums, what)?,
                }))
            })
            .collect::<Result<_, DeviceError>>()?;
        Ok(Activations { panels: Slab::zeroed(sizes.panels, what)?, threads, max_rows, max_cols })
    }

    /// Bytes that one takes; `None` where no number holds them.
    pub(crate) fn needed(max_rows: usize, max_cols: usize, threads: usize) -> Option<usize> {
        let Sizes { panels, panel, floats, sums } = Sizes::of(max_rows, max_cols)?;
        let thread = 4 * (panel + floats) + size_of::<Line>() * (READY + sums);
        panels.checked_mul(4)?.checked_add(threads.checked_mul(thread)?)
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        let thread = |s: &Mutex<Scratch>| {
            let s = s.lock().unwrap_or_else(PoisonError::into_inner);
            s.panel.bytes() + s.floats.bytes() + s.ready.bytes() + s.sums.bytes()
        };
        self.panels.bytes() + self.threads.iter().map(thread).sum::<usize>()
    }
}

/// `out = finish(x W^T + b)` for `m` rows `x` `[m, cols]`. `out` is `[m, rows]`, or half as wide after
/// [`Finish::SwiGlu`], which goes with a matrix packed as gated and with no other.
///
/// In [`Compute::Auto`] activations are quantized to 8 bits for weights that are integers (see [`super::activations`]);
/// in [`Compute::F32`] nothing is rounded to less than f32. A gated matrix whose halves want their activations
/// quantized differently is multiplied in f32.
///
/// # Panics
/// When slices, matrix and scratch do not fit together.
#[allow(clippy::too_many_arguments, reason = "a matrix product has that many sides")]
pub(crate) fn linear(
    pool: &Pool,
    isa: Isa,
    compute: Compute,
    turns: &mut Turns,
    x: &[f32],
    m: usize,
    w: &PackedMatrix,
    beside: Option<Beside<'_>>,
    finish: Finish<'_>,
    scratch: &mut Activations,
    out: &mut [f32],
) {
    let wide = w.tiles().only_wide().filter(|_| m <= WIDEST);
    let runs = wide.map_or(1, |dtype| turns.runs(dtype, m));
    let start = Instant::now();
    multiply(Proof::of(isa), runs, pool, compute, x, m, w, beside, finish, scratch, out);
    if let Some(dtype) = wide {
        turns.took(dtype, m, w.bytes(), start.elapsed().as_secs_f64());
    }
}

/// A product for each head: `out[r, h * n..][..n] = W_h x[h, r]` for `m` rows `x` `[heads, m, cols]` and a matrix that was
/// packed for so many heads, of `n` rows each.
///
/// # Panics
/// When slices, matrix and scratch do not fit together.
#[allow(clippy::too_many_arguments, reason = "as for `linear`")]
pub(crate) fn linear_heads(
    pool: &Pool,
    isa: Isa,
    compute: Compute,
    x: &[f32],
    m: usize,
    w: &PackedMatrix,
    scratch: &mut Activations,
    out: &mut [f32],
) {
    assert_eq!(x.len(), w.heads() * m * w.cols(), "the activations' shape");
    assert!(m <= scratch.max_rows && w.cols() <= scratch.max_cols, "scratch was planned for this product");
    let out = Output::new(out, m, w.rows());
    let (tiles, cols, runs) = (w.tiles(), w.cols(), 1);
    let by_head = Some(w.rows() / w.heads());
    let (beside, finish) = (None, Finish::Store);
    let product = Product { pool, runs, compute, x, m, cols, tiles, by_head, beside, finish, scratch, out };
    Proof::of(isa).work(product);
}

#[allow(clippy::too_many_arguments, reason = "as for `linear`")]
pub(super) fn multiply(
    proof: Proof,
    runs: usize,
    pool: &Pool,
    compute: Compute,
    x: &[f32],
    m: usize,
    w: &PackedMatrix,
    beside: Option<Beside<'_>>,
    finish: Finish<'_>,
    scratch: &mut Activations,
    out: &mut [f32],
) {
    let tiles = w.tiles();
    let width = if tiles.gated { w.rows() / 2 } else { w.rows() };
    assert_eq!(tiles.gated, matches!(finish, Finish::SwiGlu), "gated matrices and SwiGLU go together");
    assert_eq!(x.len(), m * w.cols(), "the activations' shape");
    assert!(m <= scratch.max_rows && w.cols() <= scratch.max_cols, "scratch was planned for this product");
    assert!(pool.threads() <= scratch.threads.len(), "scratch was planned for these threads");
    if let Finish::Residual { from: Some(from), .. } = finish {
        assert_eq!(from.len(), m * width, "the residual's shape is the output's");
    }
    let out = Output::new(out, m, width);
    let (cols, by_head) = (w.cols(), None);
    proof.work(Product { pool, runs, compute, x, m, cols, tiles, by_head, beside, finish, scratch, out });
}

/// A product to be done.
struct Product<'a> {
    pool: &'a Pool,
    /// How many tiles a thread reads in turns, at most [`RUNS`].
    runs: usize,
    compute: Compute,
    x: &'a [f32],
    m: usize,
    cols: usize,
    tiles: &'a Tiles,
    /// Where each head has activations of its own: how many rows of the matrix it has.
    by_head: Option<usize>,
    /// What adapters have beside the matrix.
    beside: Option<Beside<'a>>,
    finish: Finish<'a>,
    scratch: &'a mut Activations,
    out: Output<'a>,
}

impl Work for Product<'_> {
    type Output = ();

    fn work<S: Register>(self, s: S) {
        let Product { pool, runs, compute, x, m, cols, tiles, by_head, beside, finish, scratch, out } = self;
        if m == 0 {
            return;
        }
        let Activations { panels, threads, .. } = scratch;
        let s = s.sixteen();
        let job = Job { s, runs, x, m, cols, tiles, beside, finish, out, threads: pool.threads() };
        // The segments that share their activations, which are quantized once.
        let jobs = |segment: &Segment| match by_head {
            None => (job, 0),
            Some(rows) => {
                let head = segment.first / rows;
                (Job { x: &x[head * m * cols..][..m * cols], ..job }, head)
            }
        };
        let with_scratch = |thread: usize, body: &dyn Fn(&mut Scratch)| {
            body(&mut threads[thread].lock().unwrap_or_else(PoisonError::into_inner));
        };
        let floats_only =
            || tiles.segments.iter().flat_map(|s| &s.sides).all(|s| scheme_of(s.dtype).is_none());
        if m <= S::Sixteen::PAIRS || m <= FEW_FLOATS && floats_only() {
            return pool.run(&|thread| {
                with_scratch(thread, &|scratch| {
                    let (mut quantized, mut last) = (None, 0);
                    for segment in &tiles.segments {
                        let (job, head) = jobs(segment);
                        if std::mem::replace(&mut last, head) != head {
                            quantized = None;
                        }
                        match scheme(compute, segment) {
                            Some(scheme) => job.few(segment, scheme, &mut quantized, thread, scratch),
                            None if segment.sides.iter().all(|side| scheme_of(side.dtype).is_none()) => {
                                job.few_floats(segment, thread, scratch);
                            }
                            None => job.floats(segment, thread, scratch),
                        }
                    }
                });
            });
        }
        let mut quantized = None;
        for segment in &tiles.segments {
            let (job, head) = jobs(segment);
            match scheme(compute, segment) {
                Some(scheme) => {
                    let unpacks = job.unpacks(segment, scheme);
                    if quantized != Some((scheme, unpacks, head)) {
                        let panels = Parts::new(panels);
                        pool.run(&|thread| job.quantize(scheme, unpacks, &panels, thread));
                        quantized = Some((scheme, unpacks, head));
                    }
                    let panels = &panels[..];
                    pool.run(&|thread| {
                        with_scratch(thread, &|scratch| match unpacks {
                            false => job.several(segment, scheme, panels, thread, scratch),
                            true => job.many(segment, scheme, panels, thread, scratch),
                        });
                    });
                }
                None => {
                    pool.run(&|thread| with_scratch(thread, &|scratch| job.floats(segment, thread, scratch)))
                }
            }
        }
    }
}

/// How the activations of a segment are quantized; `None` when they are not.
fn scheme(compute: Compute, segment: &Segment) -> Option<Scheme> {
    if compute == Compute::F32 {
        return None;
    }
    let mut schemes = segment.sides.iter().map(|side| scheme_of(side.dtype));
    let first = schemes.next()??;
    schemes.all(|other| other == Some(first)).then_some(first)
}

/// What a weight type wants of the activations.
pub(super) fn scheme_of(dtype: DType) -> Option<Scheme> {
    struct Of;
    impl ForFormat for Of {
        type Output = Option<Scheme>;
        fn by32<F: By32>(self) -> Option<Scheme> {
            Some(Scheme::new(Family::By32, F::INTEGERS, F::OFFSET))
        }
        fn by256<F: By256>(self) -> Option<Scheme> {
            Some(Scheme::new(Family::By256 { sub: F::SUB }, F::INTEGERS, F::OFFSET))
        }
        fn floats<F: Floats>(self) -> Option<Scheme> {
            None
        }
    }
    for_format(dtype, Of)?
}

/// What the threads of a product share.
#[derive(Clone, Copy)]
struct Job<'a, S> {
    s: S,
    runs: usize,
    x: &'a [f32],
    m: usize,
    cols: usize,
    tiles: &'a Tiles,
    beside: Option<Beside<'a>>,
    finish: Finish<'a>,
    out: Output<'a>,
    threads: usize,
}

impl<S: Lanes> Job<'_, S> {
    /// Whether there are so many rows that weights are unpacked before they are multiplied.
    fn unpacks(&self, segment: &Segment, scheme: Scheme) -> bool {
        let rows = |side: &Side| packed_rows(side.dtype)[usize::from(S::PAIRS < WIDEST)];
        let rows = segment.sides.iter().map(rows).min().unwrap_or(0);
        self.m > rows.min(rows_at_once(self.m, 4 * scheme.words(self.cols), WIDEST))
    }

    /// The rows of a panel of at most `most`, and how wide it is for weights as they are packed.
    fn panel(&self, p: usize, most: usize) -> (std::ops::Range<usize>, usize) {
        let rows = p * most..self.m.min((p + 1) * most);
        let width = rows.len().next_power_of_two();
        (rows, width)
    }

    /// Quantizes this thread's share of the panels, all of them whole where weights are unpacked.
    fn quantize(&self, scheme: Scheme, unpacks: bool, panels: &Parts<'_, u32>, thread: usize) {
        let words = scheme.words(self.cols);
        let most = if unpacks { S::PAIRS } else { across::<S>(scheme.family) };
        for p in share(self.m.div_ceil(most), self.threads, thread) {
            let (rows, width) = self.panel(p, most);
            let width = if unpacks { S::PAIRS } else { width };
            let at = rows.start * words;
            // SAFETY: each panel has words of its own, and is quantized by one thread.
            let panel = unsafe { panels.range(at..at + width * words) };
            let rows = &self.x[rows.start * self.cols..rows.end * self.cols];
            self.quantize_panel(scheme, rows, width, panel);
        }
    }

    fn quantize_panel(&self, scheme: Scheme, rows: &[f32], width: usize, panel: &mut [u32]) {
        let (s, cols) = (self.s, self.cols);
        match width {
            1 => s.run(Quantize::<1> { scheme, rows, cols, panel }),
            2 => s.run(Quantize::<2> { scheme, rows, cols, panel }),
            4 => s.run(Quantize::<4> { scheme, rows, cols, panel }),
            _ => s.run(Quantize::<8> { scheme, rows, cols, panel }),
        }
    }

    /// This thread's share of a segment times few rows.
    fn few(
        &self,
        segment: &Segment,
        scheme: Scheme,
        quantized: &mut Option<Scheme>,
        thread: usize,
        scratch: &mut Scratch,
    ) {
        let width = self.m.next_power_of_two();
        let panel = &mut scratch.panel[..width * scheme.words(self.cols)];
        if *quantized != Some(scheme) {
            self.quantize_panel(scheme, self.x, width, panel);
            *quantized = Some(scheme);
        }
        self.by_turns(segment, (S::PAIRS, width), thread, &mut scratch.sums, |dtype, tiles, sums, stride| {
            let blocks = 0..self.cols.div_ceil(scheme.columns());
            let few = FewOf { s: self.s, width, tiles, cols: self.cols, blocks, panel, sums, stride };
            for_format(dtype, few).expect("packed matrices hold weights");
        });
    }

    /// This thread's share of a segment of plain floats times few rows.
    fn few_floats(&self, segment: &Segment, thread: usize, scratch: &mut Scratch) {
        let together = together::<S>();
        let last = panel_of::<S>((self.m - 1) % together + 1);
        self.by_turns(segment, (together, last), thread, &mut scratch.sums, |dtype, tiles, sums, stride| {
            for first in (0..self.m).step_by(together) {
                let (m, sums) = (together.min(self.m - first), &mut sums[2 * first..]);
                let x = &self.x[first * self.cols..(first + m) * self.cols];
                let few = FewFloatsOf { s: self.s, tiles, x, m, cols: self.cols, sums, stride };
                for_format(dtype, few).expect("packed matrices hold weights");
            }
        });
    }

    /// Calls `multiply` for each side of this thread's share of a segment with a tile of each run, and with lines for
    /// their sums, which lie so many lines apart; then finishes them: panels of so many rows, the last one of its own
    /// width. The runs are contiguous parts of the share: one, or as many as the processor turned out to be fastest with
    /// ([`super::turns`]) where weights have 8 bits or more.
    fn by_turns(
        &self,
        segment: &Segment,
        (panel, last): (usize, usize),
        thread: usize,
        sums: &mut [Line],
        mut multiply: impl FnMut(DType, &[&[Line]], &mut [Line], usize),
    ) {
        let share = share(segment.tiles, self.threads, thread);
        let runs = if segment.sides.iter().all(|side| is_wide(side.dtype)) { self.runs } else { 1 };
        let rounds = share.len().div_ceil(runs);
        let side_lines = 2 * ((self.m - 1) / panel * panel + last);
        let stride = side_lines * segment.sides.len();
        for round in 0..rounds {
            let turn = (share.start + round..share.end).step_by(rounds);
            for (i, side) in segment.sides.iter().enumerate() {
                let mut tiles = [&[][..]; RUNS];
                let mut count = 0;
                for (tile, lines) in turn.clone().zip(&mut tiles) {
                    *lines = self.tiles.tile(segment, tile, i);
                    count += 1;
                }
                multiply(side.dtype, &tiles[..count], &mut sums[side_lines * i..], stride);
            }
            for (tile, sums) in turn.zip(sums.chunks(stride)) {
                self.finish(segment, tile, 0..self.m, (panel, last), side_lines, sums);
            }
        }
    }

    /// This thread's share of a segment times some panels of rows.
    fn several(
        &self,
        segment: &Segment,
        scheme: Scheme,
        panels: &[u32],
        thread: usize,
        scratch: &mut Scratch,
    ) {
        let words = scheme.words(self.cols);
        let step = COLUMNS / scheme.columns();
        let blocks = self.cols.div_ceil(scheme.columns());
        let most = across::<S>(scheme.family);
        let count = self.m.div_ceil(most);
        let side_lines = 2 * most * count;
        for tile in share(segment.tiles, self.threads, thread) {
            for (i, side) in segment.sides.iter().enumerate() {
                let tiles = &[self.tiles.tile(segment, tile, i)];
                let sums = &mut scratch.sums[side_lines * i..][..side_lines];
                for first in (0..blocks).step_by(step) {
                    let blocks = first..blocks.min(first + step);
                    for (p, sums) in sums.chunks_mut(2 * most).enumerate() {
                        let (rows, width) = self.panel(p, most);
                        let panel = &panels[rows.start * words..][..width * words];
                        let (s, cols, blocks, stride) = (self.s, self.cols, blocks.clone(), 2 * width);
                        let few = FewOf { s, width, tiles, cols, blocks, panel, sums, stride };
                        for_format(side.dtype, few).expect("packed matrices hold weights");
                    }
                }
            }
            let (_, last) = self.panel(count - 1, most);
            self.finish(segment, tile, 0..self.m, (most, last), side_lines, &scratch.sums);
        }
        self.s.fence();
    }

    /// This thread's share of a segment times many rows.
    fn many(&self, segment: &Segment, scheme: Scheme, panels: &[u32], thread: usize, scratch: &mut Scratch) {
        let words = scheme.words(self.cols);
        let block = scheme.columns();
        let blocks = self.cols.div_ceil(block);
        let step = rows_at_once(self.m, 4 * words, WIDEST);
        for first_row in (0..self.m).step_by(step) {
            let rows = first_row..self.m.min(first_row + step);
            let padded = rows.len().next_multiple_of(S::PAIRS);
            let panels = &panels[first_row * words..][..padded * words];
            let side_lines = 2 * padded;
            for tile in share(segment.tiles, self.threads, thread) {
                for (i, side) in segment.sides.iter().enumerate() {
                    let lines = self.tiles.tile(segment, tile, i);
                    for first in (0..blocks).step_by(COLUMNS / block) {
                        let step = ManyStep {
                            s: self.s,
                            tile: lines,
                            cols: self.cols,
                            panels,
                            words,
                            blocks: first..blocks.min(first + COLUMNS / block),
                            ready: &mut scratch.ready,
                            sums: &mut scratch.sums[side_lines * i..][..side_lines],
                        };
                        for_format(side.dtype, step).expect("packed matrices hold weights");
                    }
                }
                self.finish(segment, tile, rows.clone(), (S::PAIRS, S::PAIRS), side_lines, &scratch.sums);
            }
        }
        self.s.fence();
    }

    /// This thread's share of a segment in f32.
    fn floats(&self, segment: &Segment, thread: usize, scratch: &mut Scratch) {
        let together = together::<S>();
        let step = rows_at_once(self.m, size_of::<f32>() * self.cols, together);
        for first_row in (0..self.m).step_by(step) {
            let rows = first_row..self.m.min(first_row + step);
            let count = rows.len().div_ceil(together);
            let last = panel_of::<S>(rows.len() - (count - 1) * together);
            let side_lines = 2 * count * together;
            let panels = &mut scratch.floats[..count * together * self.cols];
            let x = &self.x[rows.start * self.cols..rows.end * self.cols];
            stand_side_by_side(x, self.cols, together, panels);
            for tile in share(segment.tiles, self.threads, thread) {
                for (i, side) in segment.sides.iter().enumerate() {
                    let lines = self.tiles.tile(segment, tile, i);
                    let sums = &mut scratch.sums[side_lines * i..][..side_lines];
                    if self.cols == 0 {
                        sums.fill(Line::ZERO);
                    }
                    for start in (0..self.cols).step_by(DECODED) {
                        let columns = start..self.cols.min(start + DECODED);
                        let ready = &mut scratch.ready[..2 * columns.len()];
                        decode_columns(self.s, side.dtype, lines, self.cols, columns.clone(), ready);
                        for (p, sums) in sums.chunks_mut(2 * together).enumerate() {
                            let panel = &panels[p * together * self.cols..];
                            let panel = &panel[together * columns.start..together * columns.end];
                            let rows = if p + 1 < count { together } else { last };
                            self.s.run(Multiply { ready, panel, rows, first: start == 0, sums });
                        }
                    }
                }
                self.finish(segment, tile, rows.clone(), (together, last), side_lines, &scratch.sums);
            }
        }
        self.s.fence();
    }

    /// Finishes the sums of a tile with `rows`, where each panel has `panel` lines for each group, the last one `last`, and each
    /// side takes `side_lines`.
    fn finish(
        &self,
        segment: &Segment,
        tile: usize,
        rows: std::ops::Range<usize>,
        (panel, last): (usize, usize),
        side_lines: usize,
        sums: &[Line],
    ) {
        let finishing = Finishing {
            sums,
            value: (segment.sides.len() == 2).then_some(side_lines),
            panel,
            last,
            bias: self.tiles.bias(segment, tile),
            beside: self.beside.map(|beside| (beside, self.tiles.first_line(segment, tile))),
            finish: self.finish,
            out: self.out,
            row: rows.start,
            rows: rows.len(),
            col: segment.first + tile * TILE,
            cols: TILE.min(segment.rows - tile * TILE),
        };
        // SAFETY: the columns of a tile are written by the one thread whose share it is.
        unsafe { finishing.run(self.s) };
    }
}

/// Puts rows of `cols` values into panels of `width` rows, column after column; rows that are not there become zero. Rows
/// themselves are often a multiple of 4 KiB apart, where a cache keeps few of them at once.
fn stand_side_by_side(rows: &[f32], cols: usize, width: usize, panels: &mut [f32]) {
    let panels = panels.chunks_exact_mut((width * cols).max(1));
    for (rows, panel) in rows.chunks((width * cols).max(1)).zip(panels) {
        if rows.len() < panel.len() {
            panel.fill(0.0);
        }
        for (c, row) in rows.chunks_exact(cols).enumerate() {
            panel[c..].iter_mut().step_by(width).zip(row).for_each(|(to, &x)| *to = x);
        }
    }
}

/// How many of `m` rows of `bytes` each are multiplied with a tile before the next tile: whole panels of `panel`, about as many
/// each time.
fn rows_at_once(m: usize, bytes: usize, panel: usize) -> usize {
    let most = (ROWS_BYTES / bytes.max(1)).clamp(FEWEST_ROWS, ROWS);
    m.div_ceil(m.div_ceil(most).max(1)).next_multiple_of(panel)
}

/// Lines of 32 columns of a tile with a byte for each weight: with fewer, [`Job::by_turns`] gives one tile at a time.
const BYTES_32: usize = TILE * 32 / size_of::<Line>();

/// Some tiles of any type times few rows; of one tile perhaps some blocks alone.
struct FewOf<'a, S> {
    s: S,
    width: usize,
    tiles: &'a [&'a [Line]],
    cols: usize,
    blocks: std::ops::Range<usize>,
    panel: &'a [u32],
    sums: &'a mut [Line],
    stride: usize,
}

impl<S: Lanes> FewOf<'_, S> {
    fn run_32<F: By32, const N: usize>(self) {
        let FewOf { s, tiles, cols, blocks, panel, sums, stride, .. } = self;
        let format = PhantomData;
        match tiles {
            [tile] => s.run(Few32::<F, N> { tile, cols, blocks, panel, sums, format }),
            _ if F::UNIT >= BYTES_32 => s.run(Turns32::<F, N> { tiles, cols, panel, sums, stride, format }),
            _ => unreachable!("narrower weights are read as one run"),
        }
    }

    fn run_256<F: By256, const N: usize>(self) {
        let FewOf { s, tiles, blocks, panel, sums, stride, .. } = self;
        for (tile, sums) in tiles.iter().zip(sums.chunks_mut(stride)) {
            let blocks = blocks.clone();
            s.run(Few256::<F, N> { tile, blocks, panel, sums, format: PhantomData });
        }
    }
}

impl<S: Lanes> ForFormat for FewOf<'_, S> {
    type Output = ();

    fn by32<F: By32>(self) {
        match self.width {
            1 => self.run_32::<F, 1>(),
            2 => self.run_32::<F, 2>(),
            4 => self.run_32::<F, 4>(),
            _ => self.run_32::<F, 8>(),
        }
    }

    fn by256<F: By256>(self) {
        match self.width {
            1 => self.run_256::<F, 1>(),
            2 => self.run_256::<F, 2>(),
            4 => self.run_256::<F, 4>(),
            _ => self.run_256::<F, 8>(),
        }
    }

    fn floats<F: Floats>(self) {
        unreachable!("floats take no quantized activations");
    }
}

/// Some tiles of plain floats of any type times few rows.
struct FewFloatsOf<'a, S> {
    s: S,
    tiles: &'a [&'a [Line]],
    /// At most [`together`] rows.
    x: &'a [f32],
    m: usize,
    cols: usize,
    sums: &'a mut [Line],
    stride: usize,
}

impl<S: Lanes> FewFloatsOf<'_, S> {
    fn run<F: Floats, const N: usize>(self) {
        // A panel that lacks rows repeats its last one.
        let rows = std::array::from_fn(|c| &self.x[c.min(self.m - 1) * self.cols..][..self.cols]);
        let FewFloatsOf { s, tiles, sums, stride, .. } = self;
        let format = PhantomData;
        match tiles {
            [tile] => s.run(FewFloats::<F, N> { tile, rows, sums, format }),
            _ => s.run(TurnsFloats::<F, N> { tiles, rows, sums, stride, format }),
        }
    }
}

impl<S: Lanes> ForFormat for FewFloatsOf<'_, S> {
    type Output = ();

    fn by32<F: By32>(self) {
        unreachable!("integers are decoded first");
    }

    fn by256<F: By256>(self) {
        unreachable!("integers are decoded first");
    }

    fn floats<F: Floats>(self) {
        match panel_of::<S>(self.m) {
            1 => self.run::<F, 1>(),
            2 => self.run::<F, 2>(),
            4 => self.run::<F, 4>(),
            6 => self.run::<F, 6>(),
            _ => self.run::<F, 8>(),
        }
    }
}

/// Some blocks of a tile times many rows.
struct ManyStep<'a, S> {
    s: S,
    tile: &'a [Line],
    cols: usize,
    /// Whole panels, of `words` words for each of their rows.
    panels: &'a [u32],
    words: usize,
    blocks: std::ops::Range<usize>,
    ready: &'a mut [Line],
    sums: &'a mut [Line],
}

impl<S: Lanes> ForFormat for ManyStep<'_, S> {
    type Output = ();

    fn by32<F: By32>(self) {
        let ManyStep { s, tile, cols, panels, words, blocks, ready, sums } = self;
        let (first, format) = (blocks.start, PhantomData::<F>);
        let ready = &mut ready[..blocks.len() * READY_32];
        s.run(Unpack32::<F> { tile, cols, first, ready, format });
        let next = next_lines(tile, F::HEAD, blocks, F::UNIT);
        // A panel is as wide as the instruction set has registers for.
        match S::PAIRS {
            1 => s.run(Many32::<F, 1>(Many { ready, panels, words, first, sums, next, format })),
            2 => s.run(Many32::<F, 2>(Many { ready, panels, words, first, sums, next, format })),
            4 => s.run(Many32::<F, 4>(Many { ready, panels, words, first, sums, next, format })),
            _ => s.run(Many32::<F, 8>(Many { ready, panels, words, first, sums, next, format })),
        }
    }

    fn by256<F: By256>(self) {
        let ManyStep { s, tile, panels, words, blocks, ready, sums, .. } = self;
        let (first, format) = (blocks.start, PhantomData::<F>);
        let ready = &mut ready[..blocks.len() * READY_256];
        s.run(Unpack256::<F> { tile, first, ready, format });
        let next = next_lines(tile, 0, blocks, F::UNIT);
        match S::PAIRS {
            1 => s.run(Many256::<F, 1>(Many { ready, panels, words, first, sums, next, format })),
            2 => s.run(Many256::<F, 2>(Many { ready, panels, words, first, sums, next, format })),
            4 => s.run(Many256::<F, 4>(Many { ready, panels, words, first, sums, next, format })),
            _ => s.run(Many256::<F, 8>(Many { ready, panels, words, first, sums, next, format })),
        }
    }

    fn floats<F: Floats>(self) {
        unreachable!("floats take no quantized activations");
    }
}

/// The packed lines of the blocks after `blocks`, as many again, within the tile.
fn next_lines(tile: &[Line], head: usize, blocks: std::ops::Range<usize>, unit: usize) -> &[Line] {
    let lines = &tile[head..];
    let start = (blocks.end * unit).min(lines.len());
    let end = (start + blocks.len() * unit).min(lines.len());
    &lines[start..end]
}
