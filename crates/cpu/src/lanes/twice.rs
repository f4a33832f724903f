//! Twice as many lanes: two vectors, one after the other.

use super::{FloatLanes, Integers, Kernel, Lanes};
use half::f16;

/// The lanes of `S`, twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Twice<S>(pub(super) S);

/// A kernel on twice the lanes that it is run with.
struct OnTwice<K>(K);

impl<K: Kernel> Kernel for OnTwice<K> {
    type Output = K::Output;

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) -> K::Output {
        self.0.run(Twice(s))
    }
}

/// Methods that do to both vectors what `S` does to one.
macro_rules! both {
    ($(fn $name:ident($($a:ident: $A:ident),*) -> $Out:ident;)*) => {$(
        #[inline(always)]
        fn $name(self, $($a: Self::$A),*) -> Self::$Out {
            (self.0.$name($($a.0),*), self.0.$name($($a.1),*))
        }
    )*};
    // Passes on an argument that is the same for both, before or after the vectors.
    ($(with fn $name:ident($n:ident: $N:ty, $($a:ident: $A:ident),*) -> $Out:ident;)*) => {$(
        #[inline(always)]
        fn $name(self, $n: $N, $($a: Self::$A),*) -> Self::$Out {
            (self.0.$name($n, $($a.0),*), self.0.$name($n, $($a.1),*))
        }
    )*};
    ($(shift fn $name:ident;)*) => {$(
        #[inline(always)]
        fn $name(self, a: Self::I, n: u32) -> Self::I {
            (self.0.$name(a.0, n), self.0.$name(a.1, n))
        }
    )*};
    ($(load fn $name:ident($T:ty) -> $Out:ident;)*) => {$(
        #[inline(always)]
        unsafe fn $name(self, from: *const $T) -> Self::$Out {
            // SAFETY: the caller promises twice the lanes of `S`.
            unsafe { (self.0.$name(from), self.0.$name(from.add(S::LANES))) }
        }
    )*};
    ($(store fn $name:ident($X:ident, $T:ty);)*) => {$(
        #[inline(always)]
        unsafe fn $name(self, x: Self::$X, to: *mut $T) {
            // SAFETY: the caller promises twice the lanes of `S`.
            unsafe {
                self.0.$name(x.0, to);
                self.0.$name(x.1, to.add(S::LANES));
            }
        }
    )*};
}

impl<S: Lanes> FloatLanes for Twice<S> {
    type F = (S::F, S::F);
    const LANES: usize = 2 * S::LANES;
    const PAIRS: usize = S::PAIRS / 2;

    both! {
        load fn load(f32) -> F;
        load fn load_f16(f16) -> F;
        load fn load_i8(i8) -> F;
    }
    both! {
        store fn store(F, f32);
        store fn stream(F, f32);
    }
    both! {
        fn add(a: F, b: F) -> F;
        fn sub(a: F, b: F) -> F;
        fn mul(a: F, b: F) -> F;
        fn div(a: F, b: F) -> F;
        fn mul_add(a: F, b: F, c: F) -> F;
        fn max(a: F, b: F) -> F;
        fn min(a: F, b: F) -> F;
    }
    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        (self.0.splat(x), self.0.splat(x))
    }
    #[inline(always)]
    fn first(self, n: usize, a: Self::F, b: Self::F) -> Self::F {
        (self.0.first(n, a.0, b.0), self.0.first(n.saturating_sub(S::LANES), a.1, b.1))
    }
    #[inline(always)]
    fn fence(self) {
        self.0.fence();
    }
    #[inline(always)]
    fn prefetch_near<T>(self, line: *const T) {
        self.0.prefetch_near(line);
    }
    #[inline(always)]
    fn prefetch_far<T>(self, line: *const T) {
        self.0.prefetch_far(line);
    }
}

impl<S: Lanes> Lanes for Twice<S> {
    type I = (S::I, S::I);

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        self.0.run(OnTwice(kernel))
    }

    both! {
        load fn load_u32(u32) -> I;
        load fn load_u16(u16) -> I;
    }
    both! {
        store fn store_u32(I, u32);
    }
    both! {
        fn float(a: I) -> F;
        fn bits(a: F) -> I;
        fn of_bits(a: I) -> F;
        fn and(a: I, b: I) -> I;
        fn or(a: I, b: I) -> I;
        fn xor(a: I, b: I) -> I;
        fn add_i(a: I, b: I) -> I;
        fn sub_i(a: I, b: I) -> I;
        fn mul_i(a: I, b: I) -> I;
        fn dot2(acc: I, a: I, b: I) -> I;
    }
    both! {
        with fn lookup(table: &[u8; 16], bytes: I) -> I;
        with fn dot(integers: Integers, acc: I, w: I, x: I) -> I;
        with fn total(integers: Integers, sums: I) -> I;
        with fn scale(integers: Integers, scale: I) -> I;
        with fn add_scaled(integers: Integers, acc: I, sums: I, scale: I) -> I;
    }
    both! {
        shift fn shl;
        shift fn shr;
        shift fn sar;
    }
    #[inline(always)]
    fn splat_i(self, x: i32) -> Self::I {
        (self.0.splat_i(x), self.0.splat_i(x))
    }
    #[inline(always)]
    fn start(self, integers: Integers, offset: i32, halves: [i32; 2]) -> i32 {
        self.0.start(integers, offset, halves)
    }
}
