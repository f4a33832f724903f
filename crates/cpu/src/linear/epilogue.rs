//! What happens to the sums of a tile before they are stored: bias, residual, activation function.

use super::formats::GROUP;
use super::line::Line;
use super::low_rank::Beside;
use crate::lanes::{Kernel, Lanes, exp};
use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};
use std::marker::PhantomData;

/// Rows by which a residual is asked for before it is read.
const AHEAD: usize = 8;

/// What becomes of `y = x W^T + b`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Finish<'a> {
    /// `out = y`.
    Store,
    /// `out = from * scale + y`.
    Residual {
        /// Of the output's shape; `None` when it is what the output holds before.
        from: Option<&'a [f32]>,
        /// Its factor.
        scale: f32,
    },
    /// `out = silu(gate) * value`, for a matrix packed as gated.
    SwiGlu,
    /// `out = gelu(y)`, in its tanh form.
    Gelu,
    /// `out = gelu(y)`, with the error function.
    GeluErf,
}

/// The output `[rows, width]`, of which every tile writes its own columns.
#[derive(Clone, Copy)]
pub(super) struct Output<'a> {
    start: *mut f32,
    rows: usize,
    width: usize,
    borrows: PhantomData<&'a mut [f32]>,
}

// SAFETY: it is written through `Output::at` only, whose callers promise not to overlap.
unsafe impl Send for Output<'_> {}
// SAFETY: as for Send.
unsafe impl Sync for Output<'_> {}

impl<'a> Output<'a> {
    /// Takes the output.
    pub(super) fn new(out: &'a mut [f32], rows: usize, width: usize) -> Self {
        assert_eq!(out.len(), rows * width, "the output's shape is that of the product");
        Output { start: out.as_mut_ptr(), rows, width, borrows: PhantomData }
    }

    /// `n` values from column `col` of `row`.
    #[inline(always)]
    fn at(self, row: usize, col: usize, n: usize) -> *mut f32 {
        assert!(row < self.rows && col + n <= self.width, "a tile lies within the output");
        // SAFETY: the element lies within the slice that `new` took, as just checked.
        unsafe { self.start.add(row * self.width + col) }
    }
}

/// Finishes the sums of a tile for some rows.
pub(super) struct Finishing<'a> {
    /// The sums: for each panel of `panel` rows its lines of group 0, then those of group 1. The last panel has
    /// `last` lines a group. A gated matrix has as many of the value behind those of the gate, `value` lines on.
    pub(super) sums: &'a [Line],
    pub(super) value: Option<usize>,
    pub(super) panel: usize,
    pub(super) last: usize,
    /// The biases, a line for each group of the sums (gate, then value).
    pub(super) bias: Option<&'a [Line]>,
    /// What adapters add, and which of its lines is the first of the tile.
    pub(super) beside: Option<(Beside<'a>, usize)>,
    pub(super) finish: Finish<'a>,
    pub(super) out: Output<'a>,
    /// The first row, and how many.
    pub(super) row: usize,
    pub(super) rows: usize,
    /// The first column of the tile, and how many it has.
    pub(super) col: usize,
    pub(super) cols: usize,
}

impl Finishing<'_> {
    /// Finishes them.
    ///
    /// # Safety
    /// Nobody else may use these columns of these rows of the output now.
    pub(super) unsafe fn run<S: Lanes>(self, s: S) {
        match self.beside {
            None => s.run(Finisher::<false>(self)),
            Some(_) => s.run(Finisher::<true>(self)),
        }
    }
}

/// `ADAPTED`: some rows meet what an adapter has.
struct Finisher<'a, const ADAPTED: bool>(Finishing<'a>);

impl<const ADAPTED: bool> Kernel for Finisher<'_, ADAPTED> {
    type Output = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        let t = self.0;
        let biases =
            t.bias.map(|lines| [0, 1, 2, 3].map(|i| lines.get(i).map_or(s.splat(0.0), |l| l.floats(s))));
        let sum = |side: usize, r: usize, line: usize, row: usize| {
            let sum = t.sums[line].floats(s);
            let at = 2 * side + r;
            match t.beside {
                Some((beside, first)) if ADAPTED => {
                    beside.finish(s, row, first + at, sum, biases.map(|biases| biases[at]))
                }
                _ => biases.map_or(sum, |biases| s.add(sum, biases[at])),
            }
        };
        for i in 0..t.rows {
            let (p, c) = (i / t.panel, i % t.panel);
            let lines = if (p + 1) * t.panel <= t.rows { t.panel } else { t.last };
            for r in 0..2 {
                let n = t.cols.saturating_sub(GROUP * r).min(GROUP);
                if n == 0 {
                    continue;
                }
                let at = 2 * t.panel * p + lines * r + c;
                let (row, col) = (t.row + i, t.col + GROUP * r);
                let y = sum(0, r, at, row);
                let to = t.out.at(row, col, n);
                let y = match t.finish {
                    Finish::Store => y,
                    Finish::Gelu => gelu(s, y),
                    Finish::GeluErf => gelu_erf(s, y),
                    Finish::SwiGlu => {
                        let value = sum(1, r, at + t.value.expect("a gated matrix has values"), row);
                        s.mul(silu(s, y), value)
                    }
                    Finish::Residual { from, scale } => {
                        let from = match from {
                            Some(from) => from[row * t.out.width + col..][..n].as_ptr(),
                            None => to.cast_const(),
                        };
                        // Rows are far apart in memory: the processor does not see by itself what comes next.
                        s.prefetch_near(from.wrapping_add(AHEAD * t.out.width));
                        // SAFETY: `n` values are readable there: of the slice, or of the output as `at` checked.
                        s.mul_add(unsafe { read(s, from, n) }, s.splat(scale), y)
                    }
                };
                // Many rows make an output that no cache keeps until it is read. What was just read is in the cache.
                let stream = t.rows > S::PAIRS
                    && n == GROUP
                    && !matches!(t.finish, Finish::Residual { from: None, .. })
                    && to.addr().is_multiple_of(size_of::<Line>());
                // SAFETY: `at` checked that these values lie in the output, which is ours as the caller of `run`
                // promises; `stream` is only chosen for whole, aligned lines.
                unsafe { if stream { s.stream(y, to) } else { write(s, y, to, n) } }
            }
        }
    }
}

/// Reads `n` floats, the others zero.
///
/// # Safety
/// They must be readable.
#[inline(always)]
unsafe fn read<S: Lanes>(s: S, from: *const f32, n: usize) -> S::F {
    if n == GROUP {
        // SAFETY: the caller's promise.
        return unsafe { s.load(from) };
    }
    let mut all = [0f32; GROUP];
    // SAFETY: the caller's promise; `n` is below the array's length.
    unsafe { std::ptr::copy_nonoverlapping(from, all.as_mut_ptr(), n.min(GROUP)) };
    // SAFETY: an array of sixteen floats.
    unsafe { s.load(all.as_ptr()) }
}

/// Writes the first `n` floats.
///
/// # Safety
/// They must be writable.
#[inline(always)]
unsafe fn write<S: Lanes>(s: S, x: S::F, to: *mut f32, n: usize) {
    if n == GROUP {
        // SAFETY: the caller's promise.
        return unsafe { s.store(x, to) };
    }
    let mut all = [0f32; GROUP];
    // SAFETY: an array of sixteen floats.
    unsafe { s.store(x, all.as_mut_ptr()) };
    // SAFETY: the caller's promise; `n` is below the array's length.
    unsafe { std::ptr::copy_nonoverlapping(all.as_ptr(), to, n.min(GROUP)) };
}

/// `x / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn silu<S: Lanes>(s: S, x: S::F) -> S::F {
    logistic(s, x, s.sub(s.splat(0.0), x))
}

/// `x (1 + tanh z) / 2` with `z = sqrt(2 / pi) x (1 + 0.044715 x^2)`, which is `x / (1 + e^-2z)`.
#[inline(always)]
pub(crate) fn gelu<S: Lanes>(s: S, x: S::F) -> S::F {
    logistic(s, x, gelu_exponent(s, x))
}

/// `x P(X <= x)` for a normal X, within 1e-7 or a millionth: `max(x, 0) - |x| P(X > |x|)`, of which the last is
/// `e^(-x^2 / 2)` times half a polynomial in `t = 1 / (1 + 0.36 |x| / sqrt 2)`, fitted to `e^(z^2) erfc(z)` for `z` up to 5
/// with a relative error of at most 1.4e-7. Not a number stays so.
#[inline(always)]
fn gelu_erf<S: Lanes>(s: S, x: S::F) -> S::F {
    const FITTED: [f32; 7] =
        [-0.170_611_65, 0.593_967_1, -0.407_369_67, 0.475_306_84, 0.084_681_98, 0.222_406_33, 0.201_619_18];
    // The order keeps a NaN. Beyond 13 nothing is left.
    let size = s.min(s.splat(13.0), s.max(s.sub(s.splat(0.0), x), x));
    let t = s.div(s.splat(1.0), s.mul_add(size, s.splat(0.36 * FRAC_1_SQRT_2), s.splat(1.0)));
    let mut p = s.splat(0.0);
    for c in FITTED {
        p = s.mul_add(p, t, s.splat(c));
    }
    let tail = s.mul(s.mul(p, t), exp(s, s.mul(s.mul(size, size), s.splat(-0.5))));
    s.sub(s.max(s.splat(0.0), x), s.mul(size, s.mul(tail, s.splat(0.5))))
}

/// The slope of [`gelu`]: with `l = 1 / (1 + e^-2z)` it is `l + x l (1 - l) 2z'`.
#[inline(always)]
pub(crate) fn gelu_slope<S: Lanes>(s: S, x: S::F) -> S::F {
    let one = s.splat(1.0);
    let l = logistic(s, one, gelu_exponent(s, x));
    let slope = s.mul_add(s.mul(x, x), s.splat(3.0 * 0.044715), one);
    let slope = s.mul(s.splat(2.0 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2), slope);
    s.mul_add(s.mul(x, slope), s.mul(l, s.sub(one, l)), l)
}

/// `-2z` of [`gelu`].
#[inline(always)]
fn gelu_exponent<S: Lanes>(s: S, x: S::F) -> S::F {
    // sqrt(2 / pi) = 2 / sqrt(pi) / sqrt(2)
    let factor = s.mul(x, s.splat(-2.0 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2));
    let cubic = s.mul_add(s.mul(x, x), s.splat(0.044715), s.splat(1.0));
    s.mul(factor, cubic)
}

/// `x / (1 + e^z)`, for `z` drawn to at most 88. Not a number stays so.
#[inline(always)]
fn logistic<S: Lanes>(s: S, x: S::F, z: S::F) -> S::F {
    // The order keeps a NaN.
    let z = s.min(s.splat(88.0), z);
    s.div(x, s.add(s.splat(1.0), exp(s, z)))
}
