//! The register tiles of attention: scores of a page, weights of a chunk, mixed values of a page.
//!
//! Each output element is one chain of multiply-adds in a fixed order, so how many queries a tile takes does not show
//! in the bits.

use crate::lanes::{Element, Lanes, exp};
use glimmer_tensor::{CHUNK_SLOTS, PAGE_SLOTS};

/// What will be read after a tile, brought near while the tile is computed.
pub(crate) trait Ahead: Copy {
    /// Brings the lines near that hold elements `at` of them.
    fn bring<S: Lanes>(self, s: S, at: usize);
}

/// Nothing: a tile that many queries go over hides the next one's way from memory.
impl Ahead for () {
    #[inline(always)]
    fn bring<S: Lanes>(self, _: S, _: usize) {}
}

/// The next tile as it is stored, brought into the first cache, and the one after it, brought into the second.
#[derive(Clone, Copy)]
pub(crate) struct Next {
    pub(crate) near: *const u8,
    pub(crate) far: *const u8,
    /// Bytes of a stored element.
    pub(crate) element: usize,
}

impl Ahead for Next {
    #[inline(always)]
    fn bring<S: Lanes>(self, s: S, at: usize) {
        s.prefetch_far(self.far.wrapping_add(at * self.element));
        s.prefetch_near(self.near.wrapping_add(at * self.element));
    }
}

/// Calls a tile function with as many rows as fit the registers and remain: `$tile::<S, _, _, ROWS, _>($($arg),*)` for
/// rows `$at..$at + ROWS`.
macro_rules! by_rows {
    ($lanes:ty, $count:expr, |$at:ident| $tile:ident($($arg:expr),* $(,)?)) => {
        let mut $at = 0;
        while $at < $count {
            let left = $count - $at;
            // SAFETY: the caller of this macro has checked the slices for all `$count` rows.
            unsafe {
                if <$lanes>::PAIRS >= 8 && left >= 8 {
                    $tile::<$lanes, _, _, 8, _>($($arg),*);
                    $at += 8;
                } else if left >= 4 {
                    $tile::<$lanes, _, _, 4, _>($($arg),*);
                    $at += 4;
                } else if left >= 2 {
                    $tile::<$lanes, _, _, 2, _>($($arg),*);
                    $at += 2;
                } else {
                    $tile::<$lanes, _, _, 1, _>($($arg),*);
                    $at += 1;
                }
            }
        }
    };
}

/// `scores[q * CHUNK_SLOTS + slot] = queries[q] . keys[slot]` for a page: `queries` is `[count, dim]`, `keys` is
/// `[dim, PAGE_SLOTS]`. `next` is what will be read after `keys`.
#[inline(always)]
pub(crate) fn scores<S: Lanes, E: Element, A: Ahead>(
    s: S,
    queries: &[f32],
    keys: &[E],
    next: A,
    scores: &mut [f32],
) {
    let dim = keys.len() / PAGE_SLOTS;
    let count = queries.len() / dim;
    assert!(scores.len() >= (count - 1) * CHUNK_SLOTS + PAGE_SLOTS);
    let (queries, keys, scores) = (queries.as_ptr(), keys.as_ptr(), scores.as_mut_ptr());
    for slot in (0..PAGE_SLOTS).step_by(2 * S::LANES) {
        by_rows!(S, count, |q| score_tile(
            s,
            queries.add(q * dim),
            keys.add(slot),
            next,
            slot,
            dim,
            scores.add(q * CHUNK_SLOTS + slot),
            [0, S::LANES],
        ));
    }
}

/// [`scores`] of `Q` queries and `C` vectors of slots from `slot` on, at `columns` from where `keys` and `scores` point
/// to.
///
/// # Safety
/// `queries` are `Q * dim` elements, `keys` a vector at each column of `dim` multiples of PAGE_SLOTS, and `scores` a
/// writable vector at each column of `Q` multiples of CHUNK_SLOTS.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "two matrices with their shapes")]
unsafe fn score_tile<S: Lanes, E: Element, A: Ahead, const Q: usize, const C: usize>(
    s: S,
    queries: *const f32,
    keys: *const E,
    next: A,
    slot: usize,
    dim: usize,
    scores: *mut f32,
    columns: [usize; C],
) {
    let mut sums = [[s.splat(0.0); C]; Q];
    for d in 0..dim {
        next.bring(s, slot + d * PAGE_SLOTS);
        // SAFETY: the caller's promise.
        let key = unsafe { load_columns(s, keys.add(d * PAGE_SLOTS), columns) };
        for (q, sum) in sums.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            let x = s.splat(unsafe { *queries.add(q * dim + d) });
            for (sum, &key) in sum.iter_mut().zip(&key) {
                *sum = s.mul_add(x, key, *sum);
            }
        }
    }
    for (q, sum) in sums.iter().enumerate() {
        for (&sum, &column) in sum.iter().zip(&columns) {
            // SAFETY: the caller's promise.
            unsafe { s.store(sum, scores.add(q * CHUNK_SLOTS + column)) };
        }
    }
}

/// A vector from each of the columns. Not a closure over them: what is not inlined would be compiled without the vector
/// instructions.
///
/// # Safety
/// There must be a vector to read at each of them.
#[inline(always)]
unsafe fn load_columns<S: Lanes, E: Element, const C: usize>(
    s: S,
    from: *const E,
    columns: [usize; C],
) -> [S::F; C] {
    let mut vectors = [s.splat(0.0); C];
    for (vector, column) in vectors.iter_mut().zip(columns) {
        // SAFETY: the caller's promise.
        *vector = unsafe { E::load(s, from.add(column)) };
    }
    vectors
}

/// Turns the first `slots` scores of a chunk into weights `e^(scale (score - greatest))`; returns the greatest score,
/// scaled, and the sum of the weights. `slots` is at least 1.
#[inline(always)]
pub(crate) fn softmax<S: Lanes>(s: S, scores: &mut [f32], slots: usize, scale: f32) -> (f32, f32) {
    assert!(scores.len() == CHUNK_SLOTS && slots <= CHUNK_SLOTS);
    let scores = scores.as_mut_ptr();
    let mut best = s.splat(f32::NEG_INFINITY);
    for at in (0..slots).step_by(S::LANES) {
        // SAFETY: CHUNK_SLOTS is a multiple of LANES, so a vector that starts below `slots` ends within the chunk.
        let x = unsafe { s.load(scores.add(at)) };
        best = s.max(best, s.first(slots - at, x, s.splat(f32::NEG_INFINITY)));
    }
    // Scaling rounds monotonically, so the greatest scaled score is the scaled greatest score.
    let greatest = s.greatest(best) * scale;
    let mut sum = s.splat(0.0);
    for at in (0..slots).step_by(S::LANES) {
        // SAFETY: as above.
        let x = unsafe { s.load(scores.add(at)) };
        let weight = exp(s, s.sub(s.mul(x, s.splat(scale)), s.splat(greatest)));
        let weight = s.first(slots - at, weight, s.splat(0.0));
        sum = s.add(sum, weight);
        // SAFETY: as above.
        unsafe { s.store(weight, scores.add(at)) };
    }
    (greatest, s.sum(sum))
}

/// Adds to the first `padded` elements of each of `count` states the page's values `[PAGE_SLOTS, padded]`, weighted:
/// `state[q] += sum over slot < slots of weights[q * CHUNK_SLOTS + slot] * values[slot]`. `next` is
/// what will be read after `values`.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "two matrices with their shapes")]
pub(crate) fn mix<S: Lanes, E: Element, A: Ahead>(
    s: S,
    weights: &[f32],
    count: usize,
    values: &[E],
    next: A,
    slots: usize,
    padded: usize,
    states: &mut [f32],
    stride: usize,
) {
    if slots == 0 {
        return;
    }
    assert!(slots <= PAGE_SLOTS && values.len() == PAGE_SLOTS * padded && padded.is_multiple_of(16));
    assert!(weights.len() >= (count - 1) * CHUNK_SLOTS + slots);
    assert!(padded <= stride && states.len() >= count * stride);
    let (weights, values, states) = (weights.as_ptr(), values.as_ptr(), states.as_mut_ptr());
    let mut dim = 0;
    while dim < padded {
        // At 16 lanes an odd last vector remains where `padded` is no multiple of 32.
        if dim + 2 * S::LANES <= padded {
            by_rows!(S, count, |q| mix_tile(
                s,
                weights.add(q * CHUNK_SLOTS),
                values.add(dim),
                next,
                dim,
                slots,
                padded,
                states.add(q * stride + dim),
                stride,
                [0, S::LANES],
            ));
            dim += 2 * S::LANES;
        } else {
            by_rows!(S, count, |q| mix_tile(
                s,
                weights.add(q * CHUNK_SLOTS),
                values.add(dim),
                next,
                dim,
                slots,
                padded,
                states.add(q * stride + dim),
                stride,
                [0],
            ));
            dim += S::LANES;
        }
    }
}

/// [`mix`] of `Q` queries and `C` vectors of dimensions from `dim` on, at `columns` from where `values` and `states`
/// point to.
///
/// # Safety
/// `weights` are `slots` elements at each of `Q` multiples of CHUNK_SLOTS, `values` a vector at each column of `slots`
/// multiples of `padded`, and `states` a writable vector at each column of `Q` multiples of `stride`.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "two matrices with their shapes")]
unsafe fn mix_tile<S: Lanes, E: Element, A: Ahead, const Q: usize, const C: usize>(
    s: S,
    weights: *const f32,
    values: *const E,
    next: A,
    dim: usize,
    slots: usize,
    padded: usize,
    states: *mut f32,
    stride: usize,
    columns: [usize; C],
) {
    let mut sums = [[s.splat(0.0); C]; Q];
    for (q, sum) in sums.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *sum = unsafe { load_columns(s, states.add(q * stride).cast_const(), columns) };
    }
    for slot in 0..slots {
        next.bring(s, dim + slot * padded);
        // SAFETY: the caller's promise.
        let value = unsafe { load_columns(s, values.add(slot * padded), columns) };
        for (q, sum) in sums.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            let weight = s.splat(unsafe { *weights.add(q * CHUNK_SLOTS + slot) });
            for (sum, &value) in sum.iter_mut().zip(&value) {
                *sum = s.mul_add(weight, value, *sum);
            }
        }
    }
    for (q, sum) in sums.iter().enumerate() {
        for (&sum, &column) in sum.iter().zip(&columns) {
            // SAFETY: the caller's promise.
            unsafe { s.store(sum, states.add(q * stride + column)) };
        }
    }
}
