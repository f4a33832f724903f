//! Loops over slices by vectors, the last of which may be filled up with zeros.

use crate::lanes::Lanes;

/// Replaces each vector `x` by `f(x, n)`, `n` being how many of its lanes count. (`f` is called in one place, so that it becomes
/// part of the loop: elsewhere it would lack the instructions.)
#[inline(always)]
pub(super) fn for_vectors<S: Lanes>(s: S, values: &mut [f32], mut f: impl FnMut(S::F, usize) -> S::F) {
    for part in values.chunks_mut(S::LANES) {
        let x = load(s, part);
        store(s, f(x, part.len()), part);
    }
}

/// Replaces each vector `x` beside one of `others` by `f(x, other, n)`.
#[inline(always)]
pub(super) fn for_two<S: Lanes>(
    s: S,
    values: &mut [f32],
    others: &[f32],
    mut f: impl FnMut(S::F, S::F, usize) -> S::F,
) {
    for (part, other) in values.chunks_mut(S::LANES).zip(others.chunks(S::LANES)) {
        let (x, other) = (load(s, part), load(s, other));
        store(s, f(x, other, part.len()), part);
    }
}

/// At most a vector of floats, and zeros.
#[inline(always)]
pub(super) fn load<S: Lanes>(s: S, from: &[f32]) -> S::F {
    let mut whole = [0f32; 16];
    let at = if from.len() >= S::LANES {
        from.as_ptr()
    } else {
        whole[..from.len()].copy_from_slice(from);
        whole.as_ptr()
    };
    // SAFETY: a vector of the slice, or an array of sixteen.
    unsafe { s.load(at) }
}

/// As many lanes as there is room for.
#[inline(always)]
pub(super) fn store<S: Lanes>(s: S, x: S::F, to: &mut [f32]) {
    if to.len() >= S::LANES {
        // SAFETY: there is room for a vector.
        return unsafe { s.store(x, to.as_mut_ptr()) };
    }
    to.copy_from_slice(&s.lanes(x)[..to.len()]);
}
