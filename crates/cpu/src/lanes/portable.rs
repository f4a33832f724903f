//! No instruction set in mind: arrays of four, as in the smallest vector registers.
//!
//! Products and sums are rounded apart (`mul_add` is not one operation on every target). Integers are exact everywhere.

use super::{FloatLanes, Integers, Kernel, Lanes, Register, Twice};
use half::f16;
use std::array::from_fn;

/// Four lanes as arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Portable;

type F = [f32; 4];
type I = [u32; 4];

impl Register for Portable {
    type Sixteen = Twice<Twice<Self>>;
    type Pairs = Self;

    #[inline(always)]
    fn sixteen(self) -> Twice<Twice<Self>> {
        Twice(Twice(self))
    }
}

/// Methods of which each lane is an expression of the same lane of the arguments.
macro_rules! each_lane {
    ($(fn $name:ident($($a:ident),*; $A:ty $(, $n:ident: $N:ty)?) -> $Out:ty { $x:expr })*) => {$(
        #[inline(always)]
        fn $name(self, $($a: $A,)* $($n: $N)?) -> $Out {
            from_fn(|i| {
                $(let $a = $a[i];)*
                $x
            })
        }
    )*};
}

/// Methods that read or write an array through a pointer, which needs no more alignment than its elements.
macro_rules! memory {
    ($(unsafe fn $name:ident($from:ident: *const $T:ty) -> $Out:ty { $each:expr })*) => {$(
        #[inline(always)]
        unsafe fn $name(self, $from: *const $T) -> $Out {
            // SAFETY: the caller's promise.
            unsafe { *$from.cast::<[$T; 4]>() }.map($each)
        }
    )*};
}

impl FloatLanes for Portable {
    type F = F;
    const LANES: usize = 4;
    const PAIRS: usize = 8;

    memory! {
        unsafe fn load(from: *const f32) -> F { |x| x }
        unsafe fn load_f16(from: *const f16) -> F { f16::to_f32 }
        unsafe fn load_i8(from: *const i8) -> F { f32::from }
    }
    #[inline(always)]
    unsafe fn store(self, x: F, to: *mut f32) {
        // SAFETY: the caller's promise; an array needs no more alignment than its elements.
        unsafe { *to.cast() = x };
    }
    #[inline(always)]
    unsafe fn stream(self, x: F, to: *mut f32) {
        // SAFETY: the caller promises more than `store` needs.
        unsafe { self.store(x, to) };
    }
    #[inline(always)]
    fn fence(self) {}
    #[inline(always)]
    fn prefetch_near<T>(self, _line: *const T) {}
    #[inline(always)]
    fn prefetch_far<T>(self, _line: *const T) {}

    #[inline(always)]
    fn splat(self, x: f32) -> F {
        [x; 4]
    }
    each_lane! {
        fn add(a, b; F) -> F { a + b }
        fn sub(a, b; F) -> F { a - b }
        fn mul(a, b; F) -> F { a * b }
        fn div(a, b; F) -> F { a / b }
        fn mul_add(a, b, c; F) -> F { a * b + c }
        fn max(a, b; F) -> F { if a > b { a } else { b } }
        fn min(a, b; F) -> F { if a < b { a } else { b } }
    }
    #[inline(always)]
    fn first(self, n: usize, a: F, b: F) -> F {
        from_fn(|i| if i < n { a[i] } else { b[i] })
    }
}

impl Lanes for Portable {
    type I = I;

    #[inline(never)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }

    memory! {
        unsafe fn load_u32(from: *const u32) -> I { |x| x }
        unsafe fn load_u16(from: *const u16) -> I { u32::from }
    }
    #[inline(always)]
    unsafe fn store_u32(self, x: I, to: *mut u32) {
        // SAFETY: the caller's promise; an array needs no more alignment than its elements.
        unsafe { *to.cast() = x };
    }

    #[inline(always)]
    fn splat_i(self, x: i32) -> I {
        [x.cast_unsigned(); 4]
    }
    each_lane! {
        fn float(a; I) -> F { a.cast_signed() as f32 }
        fn bits(a; F) -> I { a.to_bits() }
        fn of_bits(a; I) -> F { f32::from_bits(a) }
        fn and(a, b; I) -> I { a & b }
        fn or(a, b; I) -> I { a | b }
        fn xor(a, b; I) -> I { a ^ b }
        fn shl(a; I, n: u32) -> I { a << n }
        fn shr(a; I, n: u32) -> I { a >> n }
        fn sar(a; I, n: u32) -> I { (a.cast_signed() >> n).cast_unsigned() }
        fn add_i(a, b; I) -> I { a.wrapping_add(b) }
        fn sub_i(a, b; I) -> I { a.wrapping_sub(b) }
        fn mul_i(a, b; I) -> I { a.wrapping_mul(b) }
        fn dot2(acc, a, b; I) -> I {{
            let low = i32::from(a as i16) * i32::from(b as i16);
            let high = i32::from((a >> 16) as i16) * i32::from((b >> 16) as i16);
            acc.wrapping_add(low.wrapping_add(high).cast_unsigned())
        }}
    }
    #[inline(always)]
    fn lookup(self, table: &[u8; 16], bytes: I) -> I {
        bytes.map(|four| u32::from_ne_bytes(four.to_ne_bytes().map(|b| table[usize::from(b & 15)])))
    }
    #[inline(always)]
    fn dot(self, _integers: Integers, acc: I, w: I, x: I) -> I {
        from_fn(|i| {
            let products = w[i].to_ne_bytes().into_iter().zip(x[i].to_ne_bytes());
            let sum: i32 = products.map(|(w, x)| i32::from(w) * i32::from(x.cast_signed())).sum();
            acc[i].wrapping_add(sum.cast_unsigned())
        })
    }
}
