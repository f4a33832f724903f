//! What the processor does at most: loops that keep one unit busy and do nothing else.
//!
//! They run over several independent sums, so that no instruction waits for the one before it, and on operands that
//! the compiler cannot know, so that it leaves nothing out.

use super::line::Line;
use crate::isa::Isa;
use crate::lanes::{Integers, Kernel, Lanes, Proof, Register, Work};
use crate::memory::{Slab, share};
use crate::pool::Pool;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// How long a run lasts at least: long enough for a clock to settle and for nothing to matter that happens once.
const LEAST: Duration = Duration::from_millis(20);

/// Runs of each loop.
const RUNS: usize = 6;

/// How many streams a thread reads at once, and how many lines ahead it asks for in the first and second level of the
/// caches (0: it does not ask).
const WAYS: [(usize, usize, usize); 8] =
    [(1, 0, 0), (1, 36, 256), (1, 0, 256), (2, 36, 256), (2, 0, 0), (4, 0, 0), (4, 16, 64), (8, 0, 0)];

/// What computes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit {
    /// Dot products of signed and unsigned bytes.
    Int8,
    /// Fused multiplications and additions of f32.
    F32,
}

/// Multiplications and additions per second of all threads together, the best of some runs.
pub(crate) fn peak(isa: Isa, pool: &Pool, unit: Unit) -> f64 {
    Proof::of(isa).work(Peak { pool, unit })
}

/// Bytes per second that all threads read together, each a contiguous share, the best of some ways to read.
pub(crate) fn reading(isa: Isa, pool: &Pool, bytes: &Slab<u8>) -> f64 {
    let whole = bytes.len() / size_of::<Line>() * size_of::<Line>();
    Proof::of(isa).work(Reading { pool, lines: bytemuck::cast_slice(&bytes[..whole]) })
}

struct Peak<'a> {
    pool: &'a Pool,
    unit: Unit,
}

struct Reading<'a> {
    pool: &'a Pool,
    lines: &'a [Line],
}

/// A loop that may be the fastest of its unit.
#[derive(Clone, Copy)]
enum Loop {
    Dots(Integers),
    Fmas,
}

impl Work for Peak<'_> {
    type Output = f64;

    fn work<S: Register>(self, s: S) -> f64 {
        let s = s.sixteen();
        let Peak { pool, unit } = self;
        let loops: &[Loop] = match unit {
            Unit::Int8 => &[Loop::Dots(Integers::Wide), Loop::Dots(Integers::Narrow)],
            Unit::F32 => &[Loop::Fmas],
        };
        let run = |turns: usize, which: Loop| {
            let begun = Instant::now();
            pool.run(&|_| match which {
                Loop::Dots(integers) => s.run(Dots { turns, integers }),
                Loop::Fmas => s.run(Fmas { turns }),
            });
            begun.elapsed()
        };
        let mut turns = 1 << 10;
        while run(turns, loops[0]) < LEAST {
            turns *= 2;
        }
        let best = (0..RUNS).flat_map(|_| loops).map(|&which| run(turns, which)).min().unwrap_or(LEAST);
        let per_turn = match unit {
            Unit::Int8 => QUADS * dot_sums::<S::Sixteen>() * 16 * 8,
            Unit::F32 => fma_sums::<S::Sixteen>() * 16 * 2,
        };
        (pool.threads() * turns * per_turn) as f64 / best.as_secs_f64()
    }
}

impl Work for Reading<'_> {
    type Output = f64;

    fn work<S: Register>(self, s: S) -> f64 {
        let s = s.sixteen();
        let Reading { pool, lines } = self;
        let threads = pool.threads();
        let run = |way| {
            let begun = Instant::now();
            pool.run(&|thread| {
                let lines = &lines[share(lines.len(), threads, thread)];
                s.run(Read { lines, way });
            });
            begun.elapsed()
        };
        let best = (0..RUNS).flat_map(|_| WAYS).map(run).min().unwrap_or(LEAST);
        size_of_val(lines) as f64 / best.as_secs_f64()
    }
}

/// Independent sums of floats that stay in registers, with their operands.
const fn fma_sums<S: Lanes>() -> usize {
    if S::PAIRS > 4 { 12 } else { 5 }
}

/// Independent sums of dot products.
const fn dot_sums<S: Lanes>() -> usize {
    if S::PAIRS > 4 { 12 } else { 4 }
}

/// Quads of a sub-block: dot products that are added up before their sum joins the others.
const QUADS: usize = 8;

/// Dot products with weights of 7 or 4 bits. Where the processor has them as one instruction, it is fastest to add them all
/// up; where it has not, to let those of a sub-block stand in halves of 16 bits, which weights of 8 bits do not fit.
struct Dots {
    turns: usize,
    integers: Integers,
}

impl Kernel for Dots {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        // A tile of weights and activations, as a product has it: every pair is another multiplication.
        match (S::PAIRS > 4, self.integers == Integers::Narrow) {
            (true, true) => dots::<S, 4, 3, true>(s, self.turns),
            (true, false) => dots::<S, 4, 3, false>(s, self.turns),
            (false, true) => dots::<S, 2, 2, true>(s, self.turns),
            (false, false) => dots::<S, 2, 2, false>(s, self.turns),
        }
    }
}

#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "rows and columns index several arrays at once")]
fn dots<S: Lanes, const ROWS: usize, const COLUMNS: usize, const NARROW: bool>(s: S, turns: usize) {
    let integers = if NARROW { Integers::Narrow } else { Integers::Wide };
    let operands = [[Line([1; 64]); 8]; QUADS];
    let mut totals = [[s.splat_i(0); COLUMNS]; ROWS];
    for _ in 0..turns {
        let operands = black_box(&operands);
        let mut sums = if NARROW { [[s.splat_i(0); COLUMNS]; ROWS] } else { totals };
        for operands in operands {
            let x: [S::I; COLUMNS] =
                std::array::from_fn(|c| s.splat_i(operands[ROWS + c].word(0).cast_signed()));
            for r in 0..ROWS {
                let w = operands[r].words(s);
                for c in 0..COLUMNS {
                    sums[r][c] = s.dot(integers, sums[r][c], w, x[c]);
                }
            }
        }
        for r in 0..ROWS {
            for c in 0..COLUMNS {
                totals[r][c] =
                    if NARROW { s.add_i(totals[r][c], s.total(integers, sums[r][c])) } else { sums[r][c] };
            }
        }
    }
    let mut line = Line::ZERO;
    line.set_words(s, totals.into_iter().flatten().fold(s.splat_i(0), |a, b| s.add_i(a, b)));
    black_box(line);
}

struct Fmas {
    turns: usize,
}

impl Kernel for Fmas {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        if S::PAIRS > 4 { fmas::<S, 12>(s, self.turns) } else { fmas::<S, 5>(s, self.turns) }
    }
}

#[inline(always)]
fn fmas<S: Lanes, const SUMS: usize>(s: S, turns: usize) {
    // x / 2 + 1 stays below 2.
    let (half, one) = (s.splat(black_box(0.5)), s.splat(black_box(1.0)));
    let mut sums = [s.splat(0.0); SUMS];
    for _ in 0..turns {
        for sum in &mut sums {
            *sum = s.mul_add(*sum, half, one);
        }
    }
    let mut line = Line::ZERO;
    line.set_floats(s, sums.into_iter().fold(one, |a, b| s.add(a, b)));
    black_box(line);
}

struct Read<'a> {
    lines: &'a [Line],
    way: (usize, usize, usize),
}

impl Kernel for Read<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        let Read { lines, way: (streams, near, far) } = self;
        match streams {
            1 => read::<S, 1>(s, lines, near, far),
            2 => read::<S, 2>(s, lines, near, far),
            4 => read::<S, 4>(s, lines, near, far),
            _ => read::<S, 8>(s, lines, near, far),
        }
    }
}

#[inline(always)]
fn read<S: Lanes, const STREAMS: usize>(s: S, lines: &[Line], near: usize, far: usize) {
    let len = lines.len() / STREAMS;
    let streams: [&[Line]; STREAMS] = std::array::from_fn(|k| &lines[k * len..(k + 1) * len]);
    let mut sums = [s.splat_i(0); STREAMS];
    for i in 0..len {
        for (sum, stream) in sums.iter_mut().zip(streams) {
            let line = &raw const stream[i];
            if near > 0 {
                s.prefetch_near(line.wrapping_add(near));
            }
            if far > 0 {
                s.prefetch_far(line.wrapping_add(far));
            }
            *sum = s.add_i(*sum, stream[i].words(s));
        }
    }
    let mut line = Line::ZERO;
    line.set_words(s, sums.into_iter().fold(s.splat_i(0), |a, b| s.add_i(a, b)));
    black_box(line);
}
