//! [`Lanes`] without any instruction set in mind: arrays of sixteen, and one lane alone.
//!
//! Products and sums are rounded apart (`fma` is not one operation on every target). Integers are exact everywhere.

use super::lanes::{Integers, Lanes, Line, Task, Wide};
use half::f16;
use std::array::from_fn;

/// Sixteen lanes as arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Portable;

/// One lane of the sixteen: a kernel in terms of it decodes a single row.
#[derive(Clone, Copy, Debug)]
pub(super) struct One(pub(super) usize);

/// The operations on a single lane.
mod lane {
    pub(super) fn lookup(table: &[u8; 16], bytes: u32) -> u32 {
        u32::from_ne_bytes(bytes.to_ne_bytes().map(|b| table[usize::from(b & 15)]))
    }

    pub(super) fn dot(acc: u32, w: u32, x: u32) -> u32 {
        let products = w.to_ne_bytes().into_iter().zip(x.to_ne_bytes());
        let sum: i32 = products.map(|(w, x)| i32::from(w) * i32::from(x.cast_signed())).sum();
        acc.wrapping_add(sum.cast_unsigned())
    }

    pub(super) fn dot2(acc: u32, a: u32, b: u32) -> u32 {
        let low = i32::from(a as i16) * i32::from(b as i16);
        let high = i32::from((a >> 16) as i16) * i32::from((b >> 16) as i16);
        acc.wrapping_add(low.wrapping_add(high).cast_unsigned())
    }

    pub(super) fn sar(a: u32, n: u32) -> u32 {
        (a.cast_signed() >> n).cast_unsigned()
    }

    pub(super) fn float(a: u32) -> f32 {
        a.cast_signed() as f32
    }

    pub(super) fn max(a: f32, b: f32) -> f32 {
        if a > b { a } else { b }
    }

    pub(super) fn min(a: f32, b: f32) -> f32 {
        if a < b { a } else { b }
    }
}

impl Lanes for One {
    type I = u32;
    type F = f32;

    fn splat(self, x: i32) -> u32 {
        x.cast_unsigned()
    }
    fn load(self, line: &Line) -> u32 {
        line.word(self.0)
    }
    fn load_f(self, line: &Line) -> f32 {
        f32::from_bits(line.word(self.0))
    }
    fn widen(self, line: &Line, r: usize) -> u32 {
        u32::from(line.short(r, self.0))
    }
    fn half(self, line: &Line, r: usize) -> f32 {
        f16::from_bits(line.short(r, self.0)).to_f32()
    }
    fn and(self, a: u32, b: u32) -> u32 {
        a & b
    }
    fn or(self, a: u32, b: u32) -> u32 {
        a | b
    }
    fn shl(self, a: u32, n: u32) -> u32 {
        a << n
    }
    fn shr(self, a: u32, n: u32) -> u32 {
        a >> n
    }
    fn sar(self, a: u32, n: u32) -> u32 {
        lane::sar(a, n)
    }
    fn add(self, a: u32, b: u32) -> u32 {
        a.wrapping_add(b)
    }
    fn sub(self, a: u32, b: u32) -> u32 {
        a.wrapping_sub(b)
    }
    fn mul(self, a: u32, b: u32) -> u32 {
        a.wrapping_mul(b)
    }
    fn lookup(self, table: &[u8; 16], bytes: u32) -> u32 {
        lane::lookup(table, bytes)
    }
    fn dot(self, _integers: Integers, acc: u32, w: u32, x: u32) -> u32 {
        lane::dot(acc, w, x)
    }
    fn dot2(self, acc: u32, a: u32, b: u32) -> u32 {
        lane::dot2(acc, a, b)
    }
    fn float(self, a: u32) -> f32 {
        lane::float(a)
    }
    fn bits(self, a: f32) -> u32 {
        a.to_bits()
    }
    fn of_bits(self, a: u32) -> f32 {
        f32::from_bits(a)
    }
    fn splat_f(self, x: f32) -> f32 {
        x
    }
    fn add_f(self, a: f32, b: f32) -> f32 {
        a + b
    }
    fn sub_f(self, a: f32, b: f32) -> f32 {
        a - b
    }
    fn mul_f(self, a: f32, b: f32) -> f32 {
        a * b
    }
    fn div_f(self, a: f32, b: f32) -> f32 {
        a / b
    }
    fn fma(self, a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }
    fn max_f(self, a: f32, b: f32) -> f32 {
        lane::max(a, b)
    }
    fn min_f(self, a: f32, b: f32) -> f32 {
        lane::min(a, b)
    }
}

/// Sixteen integers, alone in a cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct I([u32; 16]);

/// Sixteen floats, alone in a cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct F([f32; 16]);

impl Lanes for Portable {
    type I = I;
    type F = F;

    #[inline(always)]
    fn splat(self, x: i32) -> I {
        I([x.cast_unsigned(); 16])
    }
    #[inline(always)]
    fn load(self, line: &Line) -> I {
        I(from_fn(|i| line.word(i)))
    }
    #[inline(always)]
    fn load_f(self, line: &Line) -> F {
        F(from_fn(|i| f32::from_bits(line.word(i))))
    }
    #[inline(always)]
    fn widen(self, line: &Line, r: usize) -> I {
        I(from_fn(|i| u32::from(line.short(r, i))))
    }
    #[inline(always)]
    fn half(self, line: &Line, r: usize) -> F {
        F(from_fn(|i| f16::from_bits(line.short(r, i)).to_f32()))
    }
    #[inline(always)]
    fn and(self, a: I, b: I) -> I {
        I(from_fn(|i| a.0[i] & b.0[i]))
    }
    #[inline(always)]
    fn or(self, a: I, b: I) -> I {
        I(from_fn(|i| a.0[i] | b.0[i]))
    }
    #[inline(always)]
    fn shl(self, a: I, n: u32) -> I {
        I(a.0.map(|a| a << n))
    }
    #[inline(always)]
    fn shr(self, a: I, n: u32) -> I {
        I(a.0.map(|a| a >> n))
    }
    #[inline(always)]
    fn sar(self, a: I, n: u32) -> I {
        I(a.0.map(|a| lane::sar(a, n)))
    }
    #[inline(always)]
    fn add(self, a: I, b: I) -> I {
        I(from_fn(|i| a.0[i].wrapping_add(b.0[i])))
    }
    #[inline(always)]
    fn sub(self, a: I, b: I) -> I {
        I(from_fn(|i| a.0[i].wrapping_sub(b.0[i])))
    }
    #[inline(always)]
    fn mul(self, a: I, b: I) -> I {
        I(from_fn(|i| a.0[i].wrapping_mul(b.0[i])))
    }
    #[inline(always)]
    fn lookup(self, table: &[u8; 16], bytes: I) -> I {
        I(bytes.0.map(|b| lane::lookup(table, b)))
    }
    #[inline(always)]
    fn dot(self, _integers: Integers, acc: I, w: I, x: I) -> I {
        I(from_fn(|i| lane::dot(acc.0[i], w.0[i], x.0[i])))
    }
    #[inline(always)]
    fn dot2(self, acc: I, a: I, b: I) -> I {
        I(from_fn(|i| lane::dot2(acc.0[i], a.0[i], b.0[i])))
    }
    #[inline(always)]
    fn float(self, a: I) -> F {
        F(a.0.map(lane::float))
    }
    #[inline(always)]
    fn bits(self, a: F) -> I {
        I(a.0.map(f32::to_bits))
    }
    #[inline(always)]
    fn of_bits(self, a: I) -> F {
        F(a.0.map(f32::from_bits))
    }
    #[inline(always)]
    fn splat_f(self, x: f32) -> F {
        F([x; 16])
    }
    #[inline(always)]
    fn add_f(self, a: F, b: F) -> F {
        F(from_fn(|i| a.0[i] + b.0[i]))
    }
    #[inline(always)]
    fn sub_f(self, a: F, b: F) -> F {
        F(from_fn(|i| a.0[i] - b.0[i]))
    }
    #[inline(always)]
    fn mul_f(self, a: F, b: F) -> F {
        F(from_fn(|i| a.0[i] * b.0[i]))
    }
    #[inline(always)]
    fn div_f(self, a: F, b: F) -> F {
        F(from_fn(|i| a.0[i] / b.0[i]))
    }
    #[inline(always)]
    fn fma(self, a: F, b: F, c: F) -> F {
        F(from_fn(|i| a.0[i] * b.0[i] + c.0[i]))
    }
    #[inline(always)]
    fn max_f(self, a: F, b: F) -> F {
        F(from_fn(|i| lane::max(a.0[i], b.0[i])))
    }
    #[inline(always)]
    fn min_f(self, a: F, b: F) -> F {
        F(from_fn(|i| lane::min(a.0[i], b.0[i])))
    }
}

impl Wide for Portable {
    const COLUMNS: usize = 2;

    fn run<T: Task>(self, task: T) {
        task.run(self);
    }
    #[inline(always)]
    fn store(self, x: I, line: &mut Line) {
        x.0.iter().enumerate().for_each(|(lane, &word)| line.set_word(lane, word));
    }
    #[inline(always)]
    fn store_f(self, x: F, line: &mut Line) {
        x.0.iter().enumerate().for_each(|(lane, value)| line.set_word(lane, value.to_bits()));
    }
    #[inline(always)]
    unsafe fn read(self, from: *const f32) -> F {
        // SAFETY: the caller promises sixteen readable floats, which need no more alignment than one.
        F(unsafe { *from.cast() })
    }
    #[inline(always)]
    unsafe fn write(self, x: F, to: *mut f32) {
        // SAFETY: the caller promises sixteen writable floats, which need no more alignment than one.
        unsafe { *to.cast() = x.0 };
    }
    #[inline(always)]
    unsafe fn stream(self, x: F, to: *mut f32) {
        // SAFETY: the caller promises more than `write` needs.
        unsafe { self.write(x, to) };
    }
    fn fence(self) {}
    fn prefetch_near(self, _line: *const Line) {}
    fn prefetch_far(self, _line: *const Line) {}
    #[inline(always)]
    fn floats(self, lines: &mut [Line]) -> &mut [F] {
        // SAFETY: both are 64 bytes aligned to 64, any bits of which are a value.
        unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len()) }
    }
}
