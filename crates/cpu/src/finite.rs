//! Looks for values that are infinite or not a number, at the speed of reading them.

use crate::isa::Isa;
use crate::lanes::{Kernel, Lanes, dispatch};
use crate::memory::share;
use crate::pool::Pool;
use std::sync::atomic::{AtomicBool, Ordering};

/// Values that one thread looks through while others would be woken.
const WORTH_SHARING: usize = 1 << 16;

/// The first value that is not finite.
pub(crate) fn first_not_finite(pool: &Pool, isa: Isa, values: &[f32]) -> Option<f32> {
    let clean = if values.len() < WORTH_SHARING {
        dispatch(isa, AllFinite(values))
    } else {
        let (threads, clean) = (pool.threads(), AtomicBool::new(true));
        pool.run(&|thread| {
            if !dispatch(isa, AllFinite(&values[share(values.len(), threads, thread)])) {
                clean.store(false, Ordering::Relaxed);
            }
        });
        clean.into_inner()
    };
    if clean { None } else { values.iter().copied().find(|v| !v.is_finite()) }
}

/// Whether all values are finite: none has all bits of the exponent set.
struct AllFinite<'a>(&'a [f32]);

impl Kernel for AllFinite<'_> {
    type Output = bool;

    #[inline(always)]
    fn run<S: Lanes>(self, _: S) -> bool {
        let magnitude = |v: &f32| v.to_bits() & 0x7fff_ffff;
        self.0.iter().fold(0, |most, v| most.max(magnitude(v))) < f32::INFINITY.to_bits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_them_is_found_wherever_it_is() {
        let pool = Pool::new(2);
        for len in [1, 17, WORTH_SHARING + 5] {
            for at in [0, len / 3, len - 1] {
                for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    let mut values = vec![f32::MAX; len];
                    assert_eq!(first_not_finite(&pool, Isa::Portable, &values), None);
                    values[len - 1] = f32::NAN;
                    values[at] = bad;
                    let found = first_not_finite(&pool, Isa::Portable, &values).unwrap();
                    assert_eq!(found.to_bits(), values[at].to_bits());
                }
            }
        }
    }
}
