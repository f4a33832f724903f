//! [`Lanes`] in AVX2 with FMA and F16C: two registers each, with AVX-VNNI's dot products where `VNNI`.

use super::lanes::{Integers, Lanes, Line, Task, Wide};
use crate::isa::Isa;
use std::arch::x86_64::*;

/// Proof that the processor has AVX2, FMA and F16C, and AVX-VNNI if `VNNI`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Avx2<const VNNI: bool>(());

impl<const VNNI: bool> Avx2<VNNI> {
    /// The proof, where it is true.
    pub(super) fn detect() -> Option<Self> {
        let available = Isa::Avx2.is_available() && (!VNNI || is_x86_feature_detected!("avxvnni"));
        available.then_some(Avx2(()))
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline(never)]
fn run<T: Task>(proof: Avx2<false>, task: T) {
    task.run(proof);
}

#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
#[inline(never)]
fn run_vnni<T: Task>(proof: Avx2<true>, task: T) {
    task.run(proof);
}

/// Sixteen integers.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct I(__m256i, __m256i);

/// Sixteen floats.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct F(__m256, __m256);

/// Methods whose whole body needs the instructions and nothing else. `each` does the same to both halves.
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

/// [`Lanes::dot`] without AVX-VNNI. `maddubs` adds two products each and saturates at 16 bits, which products of bytes
/// below 128 with at most 127 never reach. So:
///
/// - Narrow: sums stay two of 16 bits to a lane for the whole sub-block. They may wrap on the way, as the offset is in
///   them from the start; what they come to fits.
/// - Wide: each pair is widened.
/// - Full: the size of what the integer stands for, at most 128, times the activation with its sign.
#[inline(always)]
unsafe fn dot4(integers: Integers, acc: __m256i, w: __m256i, x: __m256i) -> __m256i {
    // SAFETY: the caller proves AVX2.
    unsafe {
        let widened = |pairs| _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
        match integers {
            Integers::Narrow => _mm256_add_epi16(acc, _mm256_maddubs_epi16(w, x)),
            Integers::Wide => widened(_mm256_maddubs_epi16(w, x)),
            Integers::Full => {
                let w = _mm256_xor_si256(w, _mm256_set1_epi8(-128));
                widened(_mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w)))
            }
        }
    }
}

/// The low half of each lane in both halves.
#[inline(always)]
unsafe fn twice(x: __m256i) -> __m256i {
    // SAFETY: the caller proves AVX2.
    unsafe {
        let both = _mm_setr_epi8(0, 1, 0, 1, 4, 5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13);
        _mm256_shuffle_epi8(x, _mm256_broadcastsi128_si256(both))
    }
}

impl<const VNNI: bool> Lanes for Avx2<VNNI> {
    type I = I;
    type F = F;

    instructions! {
        fn splat(x: i32) -> I { I(_mm256_set1_epi32(x), _mm256_set1_epi32(x)) }
        fn load(line: &Line) -> I {
            let p: *const __m256i = line.0.as_ptr().cast();
            I(_mm256_load_si256(p), _mm256_load_si256(p.add(1)))
        }
        fn load_f(line: &Line) -> F {
            let p: *const f32 = line.0.as_ptr().cast();
            F(_mm256_load_ps(p), _mm256_load_ps(p.add(8)))
        }
        fn widen(line: &Line, r: usize) -> I {
            let p: *const __m128i = line.0[32 * r..][..32].as_ptr().cast();
            I(_mm256_cvtepu16_epi32(_mm_load_si128(p)), _mm256_cvtepu16_epi32(_mm_load_si128(p.add(1))))
        }
        fn half(line: &Line, r: usize) -> F {
            let p: *const __m128i = line.0[32 * r..][..32].as_ptr().cast();
            F(_mm256_cvtph_ps(_mm_load_si128(p)), _mm256_cvtph_ps(_mm_load_si128(p.add(1))))
        }
        fn and(a: I, b: I) -> I { I(_mm256_and_si256(a.0, b.0), _mm256_and_si256(a.1, b.1)) }
        fn or(a: I, b: I) -> I { I(_mm256_or_si256(a.0, b.0), _mm256_or_si256(a.1, b.1)) }
        fn shl(a: I, n: u32) -> I {
            let n = _mm_cvtsi32_si128(n as i32);
            I(_mm256_sll_epi32(a.0, n), _mm256_sll_epi32(a.1, n))
        }
        fn shr(a: I, n: u32) -> I {
            let n = _mm_cvtsi32_si128(n as i32);
            I(_mm256_srl_epi32(a.0, n), _mm256_srl_epi32(a.1, n))
        }
        fn sar(a: I, n: u32) -> I {
            let n = _mm_cvtsi32_si128(n as i32);
            I(_mm256_sra_epi32(a.0, n), _mm256_sra_epi32(a.1, n))
        }
        fn add(a: I, b: I) -> I { I(_mm256_add_epi32(a.0, b.0), _mm256_add_epi32(a.1, b.1)) }
        fn sub(a: I, b: I) -> I { I(_mm256_sub_epi32(a.0, b.0), _mm256_sub_epi32(a.1, b.1)) }
        fn mul(a: I, b: I) -> I { I(_mm256_mullo_epi32(a.0, b.0), _mm256_mullo_epi32(a.1, b.1)) }
        fn lookup(table: &[u8; 16], bytes: I) -> I {
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
            I(_mm256_shuffle_epi8(table, bytes.0), _mm256_shuffle_epi8(table, bytes.1))
        }
        fn dot(integers: Integers, acc: I, w: I, x: I) -> I {
            if VNNI {
                I(_mm256_dpbusd_avx_epi32(acc.0, w.0, x.0), _mm256_dpbusd_avx_epi32(acc.1, w.1, x.1))
            } else {
                I(dot4(integers, acc.0, w.0, x.0), dot4(integers, acc.1, w.1, x.1))
            }
        }
        fn dot2(acc: I, a: I, b: I) -> I {
            if VNNI {
                // The saturating form, as in AVX-512.
                I(_mm256_dpwssds_avx_epi32(acc.0, a.0, b.0), _mm256_dpwssds_avx_epi32(acc.1, a.1, b.1))
            } else {
                I(
                    _mm256_add_epi32(acc.0, _mm256_madd_epi16(a.0, b.0)),
                    _mm256_add_epi32(acc.1, _mm256_madd_epi16(a.1, b.1)),
                )
            }
        }
        fn float(a: I) -> F { F(_mm256_cvtepi32_ps(a.0), _mm256_cvtepi32_ps(a.1)) }
        fn bits(a: F) -> I { I(_mm256_castps_si256(a.0), _mm256_castps_si256(a.1)) }
        fn of_bits(a: I) -> F { F(_mm256_castsi256_ps(a.0), _mm256_castsi256_ps(a.1)) }
        fn splat_f(x: f32) -> F { F(_mm256_set1_ps(x), _mm256_set1_ps(x)) }
        fn add_f(a: F, b: F) -> F { F(_mm256_add_ps(a.0, b.0), _mm256_add_ps(a.1, b.1)) }
        fn sub_f(a: F, b: F) -> F { F(_mm256_sub_ps(a.0, b.0), _mm256_sub_ps(a.1, b.1)) }
        fn mul_f(a: F, b: F) -> F { F(_mm256_mul_ps(a.0, b.0), _mm256_mul_ps(a.1, b.1)) }
        fn div_f(a: F, b: F) -> F { F(_mm256_div_ps(a.0, b.0), _mm256_div_ps(a.1, b.1)) }
        fn fma(a: F, b: F, c: F) -> F { F(_mm256_fmadd_ps(a.0, b.0, c.0), _mm256_fmadd_ps(a.1, b.1, c.1)) }
        fn max_f(a: F, b: F) -> F { F(_mm256_max_ps(a.0, b.0), _mm256_max_ps(a.1, b.1)) }
        fn min_f(a: F, b: F) -> F { F(_mm256_min_ps(a.0, b.0), _mm256_min_ps(a.1, b.1)) }
    }

    #[inline(always)]
    fn start(self, integers: Integers, offset: i32, halves: [i32; 2]) -> i32 {
        let [first, last] = halves.map(|sum| -offset * sum);
        match integers {
            Integers::Narrow if !VNNI => first & 0xffff | last << 16,
            Integers::Full if !VNNI => 0,
            _ => first + last,
        }
    }

    #[inline(always)]
    fn total(self, integers: Integers, sums: I) -> I {
        if VNNI || integers != Integers::Narrow {
            return sums;
        }
        self.dot2(self.splat(0), sums, self.splat(0x0001_0001))
    }

    #[inline(always)]
    fn scale(self, integers: Integers, scale: I) -> I {
        if integers != Integers::Narrow {
            scale
        } else if VNNI {
            self.and(scale, self.splat(0xffff))
        } else {
            // SAFETY: `self` proves AVX2.
            unsafe { I(twice(scale.0), twice(scale.1)) }
        }
    }
}

impl<const VNNI: bool> Wide for Avx2<VNNI> {
    const COLUMNS: usize = 2;

    instructions! {
        fn store(x: I, line: &mut Line) {
            let p: *mut __m256i = line.0.as_mut_ptr().cast();
            _mm256_store_si256(p, x.0);
            _mm256_store_si256(p.add(1), x.1);
        }
        fn store_f(x: F, line: &mut Line) {
            let p: *mut f32 = line.0.as_mut_ptr().cast();
            _mm256_store_ps(p, x.0);
            _mm256_store_ps(p.add(8), x.1);
        }
        fn fence() { _mm_sfence() }
        fn prefetch_near(line: *const Line) { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
        fn prefetch_far(line: *const Line) { _mm_prefetch::<_MM_HINT_T1>(line.cast()) }
    }

    #[inline(always)]
    fn run<T: Task>(self, task: T) {
        if VNNI {
            // SAFETY: `self` proves AVX2 with AVX-VNNI.
            unsafe { run_vnni(Avx2(()), task) }
        } else {
            // SAFETY: `self` proves AVX2.
            unsafe { run(Avx2(()), task) }
        }
    }

    #[inline(always)]
    unsafe fn read(self, from: *const f32) -> F {
        // SAFETY: `self` proves the instruction, the caller promises sixteen readable floats.
        unsafe { F(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
    }

    #[inline(always)]
    unsafe fn write(self, x: F, to: *mut f32) {
        // SAFETY: `self` proves the instruction, the caller promises sixteen writable floats.
        unsafe {
            _mm256_storeu_ps(to, x.0);
            _mm256_storeu_ps(to.add(8), x.1);
        }
    }

    #[inline(always)]
    unsafe fn stream(self, x: F, to: *mut f32) {
        // SAFETY: `self` proves the instruction, the caller promises sixteen writable, aligned floats.
        unsafe {
            _mm256_stream_ps(to, x.0);
            _mm256_stream_ps(to.add(8), x.1);
        }
    }

    #[inline(always)]
    fn floats(self, lines: &mut [Line]) -> &mut [F] {
        // SAFETY: both are 64 bytes aligned to 64, any bits of which are a value.
        unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len()) }
    }
}
