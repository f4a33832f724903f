//! [`Lanes`] in AVX-512 with VNNI: one register each.

use super::lanes::{Integers, Lanes, Line, Task, Wide};
use crate::isa::Isa;
use std::arch::x86_64::*;

/// Proof that the processor has AVX-512 F, BW, DQ, VL and VNNI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Avx512(());

impl Avx512 {
    /// The proof, where it is true.
    pub(super) fn detect() -> Option<Self> {
        Isa::Avx512Vnni.is_available().then_some(Avx512(()))
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
#[inline(never)]
fn run<T: Task>(proof: Avx512, task: T) {
    // A local that needs a cache line makes the compiler align the stack: registers that it puts there would lie across
    // two lines otherwise.
    let aligned = Line::ZERO;
    std::hint::black_box(&aligned);
    task.run(proof);
}

/// Methods whose whole body needs the instructions and nothing else.
macro_rules! instructions {
    ($(fn $name:ident($($arg:ident: $type:ty),*) $(-> $out:ty)? $body:block)*) => {
        $(
            #[inline(always)]
            fn $name(self, $($arg: $type),*) $(-> $out)? {
                // SAFETY: `self` proves that the processor has these instructions, and those that touch memory stay
                // within the line that they are given.
                unsafe { $body }
            }
        )*
    };
}

impl Lanes for Avx512 {
    type I = __m512i;
    type F = __m512;

    instructions! {
        fn splat(x: i32) -> __m512i { _mm512_set1_epi32(x) }
        fn load(line: &Line) -> __m512i { _mm512_load_si512(line.0.as_ptr().cast()) }
        fn load_f(line: &Line) -> __m512 { _mm512_load_ps(line.0.as_ptr().cast()) }
        fn widen(line: &Line, r: usize) -> __m512i {
            _mm512_cvtepu16_epi32(_mm256_load_si256(line.0[32 * r..][..32].as_ptr().cast()))
        }
        fn half(line: &Line, r: usize) -> __m512 {
            _mm512_cvtph_ps(_mm256_load_si256(line.0[32 * r..][..32].as_ptr().cast()))
        }
        fn and(a: __m512i, b: __m512i) -> __m512i { _mm512_and_si512(a, b) }
        fn or(a: __m512i, b: __m512i) -> __m512i { _mm512_or_si512(a, b) }
        fn shl(a: __m512i, n: u32) -> __m512i { _mm512_sll_epi32(a, _mm_cvtsi32_si128(n as i32)) }
        fn shr(a: __m512i, n: u32) -> __m512i { _mm512_srl_epi32(a, _mm_cvtsi32_si128(n as i32)) }
        fn sar(a: __m512i, n: u32) -> __m512i { _mm512_sra_epi32(a, _mm_cvtsi32_si128(n as i32)) }
        fn add(a: __m512i, b: __m512i) -> __m512i { _mm512_add_epi32(a, b) }
        fn sub(a: __m512i, b: __m512i) -> __m512i { _mm512_sub_epi32(a, b) }
        fn mul(a: __m512i, b: __m512i) -> __m512i { _mm512_mullo_epi32(a, b) }
        fn lookup(table: &[u8; 16], bytes: __m512i) -> __m512i {
            let table = _mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast()));
            _mm512_shuffle_epi8(table, bytes)
        }
        fn dot(_integers: Integers, acc: __m512i, w: __m512i, x: __m512i) -> __m512i {
            _mm512_dpbusd_epi32(acc, w, x)
        }
        // The saturating form, which nothing here comes near: LLVM takes the other one apart into two instructions.
        fn dot2(acc: __m512i, a: __m512i, b: __m512i) -> __m512i { _mm512_dpwssds_epi32(acc, a, b) }
        fn float(a: __m512i) -> __m512 { _mm512_cvtepi32_ps(a) }
        fn bits(a: __m512) -> __m512i { _mm512_castps_si512(a) }
        fn of_bits(a: __m512i) -> __m512 { _mm512_castsi512_ps(a) }
        fn splat_f(x: f32) -> __m512 { _mm512_set1_ps(x) }
        fn add_f(a: __m512, b: __m512) -> __m512 { _mm512_add_ps(a, b) }
        fn sub_f(a: __m512, b: __m512) -> __m512 { _mm512_sub_ps(a, b) }
        fn mul_f(a: __m512, b: __m512) -> __m512 { _mm512_mul_ps(a, b) }
        fn div_f(a: __m512, b: __m512) -> __m512 { _mm512_div_ps(a, b) }
        fn fma(a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fmadd_ps(a, b, c) }
        fn max_f(a: __m512, b: __m512) -> __m512 { _mm512_max_ps(a, b) }
        fn min_f(a: __m512, b: __m512) -> __m512 { _mm512_min_ps(a, b) }
    }
}

impl Wide for Avx512 {
    const COLUMNS: usize = 8;

    instructions! {
        fn store(x: __m512i, line: &mut Line) { _mm512_store_si512(line.0.as_mut_ptr().cast(), x) }
        fn store_f(x: __m512, line: &mut Line) { _mm512_store_ps(line.0.as_mut_ptr().cast(), x) }
        fn fence() { _mm_sfence() }
        fn prefetch_near(line: *const Line) { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
        fn prefetch_far(line: *const Line) { _mm_prefetch::<_MM_HINT_T1>(line.cast()) }
    }

    #[inline(always)]
    fn run<T: Task>(self, task: T) {
        // SAFETY: `self` proves that the processor has what `run` enables.
        unsafe { run(self, task) }
    }

    #[inline(always)]
    unsafe fn read(self, from: *const f32) -> __m512 {
        // SAFETY: `self` proves the instruction, the caller promises sixteen readable floats.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn write(self, x: __m512, to: *mut f32) {
        // SAFETY: `self` proves the instruction, the caller promises sixteen writable floats.
        unsafe { _mm512_storeu_ps(to, x) }
    }

    #[inline(always)]
    unsafe fn stream(self, x: __m512, to: *mut f32) {
        // SAFETY: `self` proves the instruction, the caller promises sixteen writable, aligned floats.
        unsafe { _mm512_stream_ps(to, x) }
    }

    #[inline(always)]
    fn floats(self, lines: &mut [Line]) -> &mut [__m512] {
        // SAFETY: both are 64 bytes aligned to 64, any bits of which are a value.
        unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len()) }
    }
}
