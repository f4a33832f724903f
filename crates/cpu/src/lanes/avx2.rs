//! AVX2 with FMA and F16C: eight lanes to a register, with AVX-VNNI's dot products where `VNNI`.

use super::{FloatLanes, Integers, Kernel, Lanes, Register, Twice, align_stack};
use crate::isa::Isa;
use half::f16;
use std::arch::x86_64::*;

/// Proof that the processor has AVX2, FMA and F16C, and AVX-VNNI if `VNNI`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Avx2<const VNNI: bool>(());

impl<const VNNI: bool> Avx2<VNNI> {
    /// The proof, where it is true.
    pub(crate) fn detect() -> Option<Self> {
        let available = Isa::Avx2.is_available() && (!VNNI || is_x86_feature_detected!("avxvnni"));
        available.then_some(Avx2(()))
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline(never)]
fn run<K: Kernel>(proof: Avx2<false>, kernel: K) -> K::Output {
    align_stack();
    kernel.run(proof)
}

#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
#[inline(never)]
fn run_vnni<K: Kernel>(proof: Avx2<true>, kernel: K) -> K::Output {
    align_stack();
    kernel.run(proof)
}

/// Turns a square: squares of four in each half of the registers first, then the halves.
#[inline(always)]
unsafe fn turn(rows: &mut [__m256; 8]) {
    // SAFETY: the caller proves AVX2.
    unsafe {
        for four in rows.as_chunks_mut::<4>().0 {
            let [a, b, c, d] = *four;
            let low = [_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d)];
            let high = [_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d)];
            for (i, pair) in [low, high].into_iter().enumerate() {
                let [a, b] = [_mm256_castps_pd(pair[0]), _mm256_castps_pd(pair[1])];
                four[2 * i] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, b));
                four[2 * i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, b));
            }
        }
        for j in 0..4 {
            let [a, b] = [rows[j], rows[4 + j]];
            rows[j] = _mm256_permute2f128_ps::<0x20>(a, b);
            rows[4 + j] = _mm256_permute2f128_ps::<0x31>(a, b);
        }
    }
}

impl<const VNNI: bool> Register for Avx2<VNNI> {
    type Sixteen = Twice<Self>;
    type Pairs = Self;

    #[inline(always)]
    fn sixteen(self) -> Twice<Self> {
        Twice(self)
    }
}

impl<const VNNI: bool> FloatLanes for Avx2<VNNI> {
    type F = __m256;
    const LANES: usize = 8;
    const PAIRS: usize = 4;

    instructions! {
        unsafe fn load(from: *const f32) -> __m256 { _mm256_loadu_ps(from) }
        unsafe fn load_f16(from: *const f16) -> __m256 { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
        unsafe fn load_i8(from: *const i8) -> __m256 {
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast())))
        }
        unsafe fn store(x: __m256, to: *mut f32) { _mm256_storeu_ps(to, x) }
        unsafe fn stream(x: __m256, to: *mut f32) { _mm256_stream_ps(to, x) }
        unsafe fn transpose(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
            let mut square = [_mm256_setzero_ps(); 8];
            for (i, row) in square.iter_mut().enumerate() {
                *row = _mm256_loadu_ps(from.add(i * stride));
            }
            turn(&mut square);
            for (i, &column) in square.iter().enumerate() {
                _mm256_storeu_ps(to.add(i * to_stride), column);
            }
        }
    }
    instructions! {
        fn fence() { _mm_sfence() }
        fn prefetch_near<T>(line: *const T) { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
        fn prefetch_far<T>(line: *const T) { _mm_prefetch::<_MM_HINT_T1>(line.cast()) }
        fn splat(x: f32) -> __m256 { _mm256_set1_ps(x) }
        fn add(a: __m256, b: __m256) -> __m256 { _mm256_add_ps(a, b) }
        fn sub(a: __m256, b: __m256) -> __m256 { _mm256_sub_ps(a, b) }
        fn mul(a: __m256, b: __m256) -> __m256 { _mm256_mul_ps(a, b) }
        fn div(a: __m256, b: __m256) -> __m256 { _mm256_div_ps(a, b) }
        fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 { _mm256_fmadd_ps(a, b, c) }
        fn max(a: __m256, b: __m256) -> __m256 { _mm256_max_ps(a, b) }
        fn min(a: __m256, b: __m256) -> __m256 { _mm256_min_ps(a, b) }
        fn first(n: usize, a: __m256, b: __m256) -> __m256 {
            let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            let mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(n.min(8) as i32), lane);
            _mm256_blendv_ps(b, a, _mm256_castsi256_ps(mask))
        }
    }
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

impl<const VNNI: bool> Lanes for Avx2<VNNI> {
    type I = __m256i;

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        if VNNI {
            // SAFETY: `self` proves AVX2 with AVX-VNNI.
            unsafe { run_vnni(Avx2(()), kernel) }
        } else {
            // SAFETY: `self` proves AVX2.
            unsafe { run(Avx2(()), kernel) }
        }
    }

    instructions! {
        unsafe fn load_u32(from: *const u32) -> __m256i { _mm256_loadu_si256(from.cast()) }
        unsafe fn load_u16(from: *const u16) -> __m256i { _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast())) }
        unsafe fn store_u32(x: __m256i, to: *mut u32) { _mm256_storeu_si256(to.cast(), x) }
    }
    instructions! {
        fn splat_i(x: i32) -> __m256i { _mm256_set1_epi32(x) }
        fn float(a: __m256i) -> __m256 { _mm256_cvtepi32_ps(a) }
        fn bits(a: __m256) -> __m256i { _mm256_castps_si256(a) }
        fn of_bits(a: __m256i) -> __m256 { _mm256_castsi256_ps(a) }
        fn and(a: __m256i, b: __m256i) -> __m256i { _mm256_and_si256(a, b) }
        fn or(a: __m256i, b: __m256i) -> __m256i { _mm256_or_si256(a, b) }
        fn xor(a: __m256i, b: __m256i) -> __m256i { _mm256_xor_si256(a, b) }
        fn shl(a: __m256i, n: u32) -> __m256i { _mm256_sll_epi32(a, _mm_cvtsi32_si128(n as i32)) }
        fn shr(a: __m256i, n: u32) -> __m256i { _mm256_srl_epi32(a, _mm_cvtsi32_si128(n as i32)) }
        fn sar(a: __m256i, n: u32) -> __m256i { _mm256_sra_epi32(a, _mm_cvtsi32_si128(n as i32)) }
        fn add_i(a: __m256i, b: __m256i) -> __m256i { _mm256_add_epi32(a, b) }
        fn sub_i(a: __m256i, b: __m256i) -> __m256i { _mm256_sub_epi32(a, b) }
        fn mul_i(a: __m256i, b: __m256i) -> __m256i { _mm256_mullo_epi32(a, b) }
        fn lookup(table: &[u8; 16], bytes: __m256i) -> __m256i {
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
            _mm256_shuffle_epi8(table, bytes)
        }
        fn dot(integers: Integers, acc: __m256i, w: __m256i, x: __m256i) -> __m256i {
            if VNNI { _mm256_dpbusd_avx_epi32(acc, w, x) } else { dot4(integers, acc, w, x) }
        }
        fn dot2(acc: __m256i, a: __m256i, b: __m256i) -> __m256i {
            if VNNI {
                // The saturating form, as in AVX-512.
                _mm256_dpwssds_avx_epi32(acc, a, b)
            } else {
                _mm256_add_epi32(acc, _mm256_madd_epi16(a, b))
            }
        }
        fn scale(integers: Integers, scale: __m256i) -> __m256i {
            match integers {
                Integers::Narrow if VNNI => _mm256_and_si256(scale, _mm256_set1_epi32(0xffff)),
                // The low half of each lane in both halves.
                Integers::Narrow => {
                    let both = _mm_setr_epi8(0, 1, 0, 1, 4, 5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13);
                    _mm256_shuffle_epi8(scale, _mm256_broadcastsi128_si256(both))
                }
                _ => scale,
            }
        }
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
    fn total(self, integers: Integers, sums: __m256i) -> __m256i {
        if VNNI || integers != Integers::Narrow {
            return sums;
        }
        self.dot2(self.splat_i(0), sums, self.splat_i(0x0001_0001))
    }
}
