//! AVX-512 with VNNI: sixteen lanes to a register, with AVX512-BF16's products of pairs where `BF16`.

use super::{FloatLanes, Integers, Kernel, Lanes, Register, align_stack, two_products};
use crate::isa::Isa;
use half::f16;
use std::arch::x86_64::*;

/// Proof that the processor has AVX-512 F, BW, DQ, VL and VNNI, and AVX512-BF16 if `BF16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Avx512<const BF16: bool>(());

impl<const BF16: bool> Avx512<BF16> {
    /// The proof, where it is true.
    pub(super) fn detect() -> Option<Self> {
        let available = Isa::Avx512Vnni.is_available() && (!BF16 || is_x86_feature_detected!("avx512bf16"));
        available.then_some(Avx512(()))
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
#[inline(never)]
fn run<K: Kernel>(proof: Avx512<false>, kernel: K) -> K::Output {
    align_stack();
    kernel.run(proof)
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma,f16c")]
#[inline(never)]
fn run_bf16<K: Kernel>(proof: Avx512<true>, kernel: K) -> K::Output {
    align_stack();
    kernel.run(proof)
}

/// Turns a square: squares of four in each quarter of the registers first, then the quarters.
#[inline(always)]
unsafe fn turn(rows: &mut [__m512; 16]) {
    // SAFETY: the caller proves AVX-512.
    unsafe {
        for four in rows.as_chunks_mut::<4>().0 {
            let [a, b, c, d] = *four;
            let low = [_mm512_unpacklo_ps(a, b), _mm512_unpacklo_ps(c, d)];
            let high = [_mm512_unpackhi_ps(a, b), _mm512_unpackhi_ps(c, d)];
            for (i, pair) in [low, high].into_iter().enumerate() {
                let [a, b] = [_mm512_castps_pd(pair[0]), _mm512_castps_pd(pair[1])];
                four[2 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
                four[2 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
            }
        }
        for j in 0..4 {
            let [a, b, c, d] = [rows[j], rows[4 + j], rows[8 + j], rows[12 + j]];
            let even = [_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0x88>(c, d)];
            let odd = [_mm512_shuffle_f32x4::<0xdd>(a, b), _mm512_shuffle_f32x4::<0xdd>(c, d)];
            rows[j] = _mm512_shuffle_f32x4::<0x88>(even[0], even[1]);
            rows[4 + j] = _mm512_shuffle_f32x4::<0x88>(odd[0], odd[1]);
            rows[8 + j] = _mm512_shuffle_f32x4::<0xdd>(even[0], even[1]);
            rows[12 + j] = _mm512_shuffle_f32x4::<0xdd>(odd[0], odd[1]);
        }
    }
}

impl Register for Avx512<false> {
    type Sixteen = Self;
    type Pairs = Avx512<true>;

    #[inline(always)]
    fn sixteen(self) -> Self {
        self
    }
    #[inline(always)]
    fn pairs(self) -> Option<Avx512<true>> {
        Avx512::detect()
    }
}

impl<const BF16: bool> FloatLanes for Avx512<BF16> {
    type F = __m512;
    const LANES: usize = 16;
    const PAIRS: usize = 8;

    instructions! {
        unsafe fn load(from: *const f32) -> __m512 { _mm512_loadu_ps(from) }
        unsafe fn load_f16(from: *const f16) -> __m512 { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
        unsafe fn load_i8(from: *const i8) -> __m512 {
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast())))
        }
        unsafe fn store(x: __m512, to: *mut f32) { _mm512_storeu_ps(to, x) }
        unsafe fn stream(x: __m512, to: *mut f32) { _mm512_stream_ps(to, x) }
        unsafe fn transpose(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
            let mut square = [_mm512_setzero_ps(); 16];
            for (i, row) in square.iter_mut().enumerate() {
                *row = _mm512_loadu_ps(from.add(i * stride));
            }
            turn(&mut square);
            for (i, &column) in square.iter().enumerate() {
                _mm512_storeu_ps(to.add(i * to_stride), column);
            }
        }
    }
    instructions! {
        fn fence() { _mm_sfence() }
        fn prefetch_near<T>(line: *const T) { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
        fn prefetch_far<T>(line: *const T) { _mm_prefetch::<_MM_HINT_T1>(line.cast()) }
        fn splat(x: f32) -> __m512 { _mm512_set1_ps(x) }
        fn add(a: __m512, b: __m512) -> __m512 { _mm512_add_ps(a, b) }
        fn sub(a: __m512, b: __m512) -> __m512 { _mm512_sub_ps(a, b) }
        fn mul(a: __m512, b: __m512) -> __m512 { _mm512_mul_ps(a, b) }
        fn div(a: __m512, b: __m512) -> __m512 { _mm512_div_ps(a, b) }
        fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fmadd_ps(a, b, c) }
        fn max(a: __m512, b: __m512) -> __m512 { _mm512_max_ps(a, b) }
        fn min(a: __m512, b: __m512) -> __m512 { _mm512_min_ps(a, b) }
        fn first(n: usize, a: __m512, b: __m512) -> __m512 {
            let mask = if n >= 16 { u16::MAX } else { (1 << n) - 1 };
            _mm512_mask_blend_ps(mask, b, a)
        }
    }
}

impl<const BF16: bool> Lanes for Avx512<BF16> {
    type I = __m512i;

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        if BF16 {
            // SAFETY: `self` proves that the processor has what `run_bf16` enables.
            unsafe { run_bf16(Avx512(()), kernel) }
        } else {
            // SAFETY: `self` proves that the processor has what `run` enables.
            unsafe { run(Avx512(()), kernel) }
        }
    }

    instructions! {
        unsafe fn load_u32(from: *const u32) -> __m512i { _mm512_loadu_si512(from.cast()) }
        unsafe fn load_u16(from: *const u16) -> __m512i { _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast())) }
        unsafe fn store_u32(x: __m512i, to: *mut u32) { _mm512_storeu_si512(to.cast(), x) }
    }
    instructions! {
        fn splat_i(x: i32) -> __m512i { _mm512_set1_epi32(x) }
        fn float(a: __m512i) -> __m512 { _mm512_cvtepi32_ps(a) }
        fn bits(a: __m512) -> __m512i { _mm512_castps_si512(a) }
        fn of_bits(a: __m512i) -> __m512 { _mm512_castsi512_ps(a) }
        fn and(a: __m512i, b: __m512i) -> __m512i { _mm512_and_si512(a, b) }
        fn or(a: __m512i, b: __m512i) -> __m512i { _mm512_or_si512(a, b) }
        fn xor(a: __m512i, b: __m512i) -> __m512i { _mm512_xor_si512(a, b) }
        fn shl(a: __m512i, n: u32) -> __m512i { _mm512_sll_epi32(a, _mm_cvtsi32_si128(n as i32)) }
        fn shr(a: __m512i, n: u32) -> __m512i { _mm512_srl_epi32(a, _mm_cvtsi32_si128(n as i32)) }
        fn sar(a: __m512i, n: u32) -> __m512i { _mm512_sra_epi32(a, _mm_cvtsi32_si128(n as i32)) }
        fn add_i(a: __m512i, b: __m512i) -> __m512i { _mm512_add_epi32(a, b) }
        fn sub_i(a: __m512i, b: __m512i) -> __m512i { _mm512_sub_epi32(a, b) }
        fn mul_i(a: __m512i, b: __m512i) -> __m512i { _mm512_mullo_epi32(a, b) }
        fn lookup(table: &[u8; 16], bytes: __m512i) -> __m512i {
            let table = _mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast()));
            _mm512_shuffle_epi8(table, bytes)
        }
        fn dot(_integers: Integers, acc: __m512i, w: __m512i, x: __m512i) -> __m512i {
            _mm512_dpbusd_epi32(acc, w, x)
        }
        fn pair(low: __m512, high: __m512) -> __m512i {
            // SAFETY: both are 64 bytes of plain bits.
            std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low))
        }
        fn dot_pairs(acc: __m512, a: __m512i, b: __m512i) -> __m512 {
            if BF16 {
                // SAFETY: both are 64 bytes of plain bits.
                let [a, b]: [__m512bh; 2] = std::mem::transmute([a, b]);
                _mm512_dpbf16_ps(acc, a, b)
            } else {
                two_products(Avx512::<BF16>(()), acc, a, b)
            }
        }
        // The saturating form, which nothing here comes near: LLVM takes the other one apart into two instructions.
        fn dot2(acc: __m512i, a: __m512i, b: __m512i) -> __m512i { _mm512_dpwssds_epi32(acc, a, b) }
    }
}
