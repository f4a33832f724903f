//! Vectors of f32 for kernels that are written once: AVX-512, AVX2 with FMA and F16C, and plain arrays.
//!
//! A kernel is a [`Kernel`] whose `run` is generic over [`Simd`]; [`dispatch`] compiles it once for each of them, with
//! its instructions allowed in the whole of it. A value of a `Simd` type is the proof that the processor
//! has them: only `dispatch` makes one. The integer kernels of the matrix products have their own files.

use crate::isa::Isa;
use half::f16;

/// Work that is compiled for every instruction set. `run` must be `#[inline(always)]`, and so must what it calls, for the
/// instructions to be allowed there.
pub(crate) trait Kernel {
    /// What it returns.
    type Output;
    /// Does it.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Runs `kernel` compiled for `isa`.
///
/// # Panics
/// When the processor does not have it.
pub(crate) fn dispatch<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    assert!(isa.is_available(), "the device checked the instruction set when it was made");
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has the instructions, as just checked.
        Isa::Avx512Vnni => unsafe { x86::in_avx512(kernel) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has the instructions, as just checked.
        Isa::Avx2 => unsafe { x86::in_avx2(kernel) },
        _ => kernel.run(Plain(())),
    }
}

/// A width of vectors. Implementors are zero-sized proofs that their instructions may be used.
pub(crate) trait Simd: Copy {
    /// A vector of [`Simd::LANES`] f32.
    type F: Copy;
    /// Number of lanes: 4, 8 or 16.
    const LANES: usize;
    /// How many rows of a register tile two vectors wide fit the register file.
    const TILE_ROWS: usize;

    /// `x` in every lane.
    fn splat(self, x: f32) -> Self::F;
    /// Reads `LANES` f32.
    ///
    /// # Safety
    /// They must be readable.
    unsafe fn load(self, from: *const f32) -> Self::F;
    /// Writes `LANES` f32.
    ///
    /// # Safety
    /// They must be writable.
    unsafe fn store(self, x: Self::F, to: *mut f32);
    /// Reads `LANES` f16 and widens them.
    ///
    /// # Safety
    /// They must be readable.
    unsafe fn load_f16(self, from: *const f16) -> Self::F;
    /// Reads `LANES` i8 and widens them.
    ///
    /// # Safety
    /// They must be readable.
    unsafe fn load_i8(self, from: *const i8) -> Self::F;
    /// `a + b`.
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a - b`.
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b`.
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once where the processor can.
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `a > b ? a : b`: `b` when either is not a number.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// Lanes below `n` from `a`, the others from `b`.
    fn first(self, n: usize, a: Self::F, b: Self::F) -> Self::F;
    /// `(bits << 23) + 1.0's bits` of each lane: see [`exp`].
    fn power_of_two(self, shifted: Self::F) -> Self::F;

    /// Has a cache line, if there is one, brought into the first cache.
    fn prefetch_near<T>(self, line: *const T);
    /// The same into the second cache.
    fn prefetch_far<T>(self, line: *const T);

    /// The lanes as an array, the rest zero.
    #[inline(always)]
    fn lanes(self, x: Self::F) -> [f32; 16] {
        let mut out = [0f32; 16];
        // SAFETY: LANES is at most 16.
        unsafe { self.store(x, out.as_mut_ptr()) };
        out
    }
    /// The sum of the lanes, as a balanced tree.
    #[inline(always)]
    fn sum(self, x: Self::F) -> f32 {
        fold(self.lanes(x), Self::LANES, |a, b| a + b)
    }
    /// The greatest lane.
    #[inline(always)]
    fn greatest(self, x: Self::F) -> f32 {
        fold(self.lanes(x), Self::LANES, |a, b| if a > b { a } else { b })
    }
}

/// Folds the first `n` (a power of two) in halves.
#[inline(always)]
fn fold(mut lanes: [f32; 16], mut n: usize, f: impl Fn(f32, f32) -> f32) -> f32 {
    while n > 1 {
        n /= 2;
        for i in 0..n {
            lanes[i] = f(lanes[i], lanes[i + n]);
        }
    }
    lanes[0]
}

/// `e^x` for `x <= 0`, within 2 ulp; 0 below -87.7. Not a number stays so.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`; `e^r` is the polynomial of Cephes' `expf` (Moshier), `2^n` is put together
/// from bits. Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the low bits.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::F) -> S::F {
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts: the products of the first one with n are exact.
    const LN2_HIGH: f32 = 355.0 / 512.0;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // The order keeps a NaN. At -88 n is -127, whose power comes out as 0.
    let x = s.max(s.splat(-88.0), x);
    let shifted = s.mul_add(x, s.splat(std::f32::consts::LOG2_E), s.splat(ROUND));
    let n = s.sub(shifted, s.splat(ROUND));
    let r = s.mul_add(n, s.splat(-LN2_HIGH), x);
    let r = s.mul_add(n, s.splat(-LN2_LOW), r);
    let mut p = s.splat(1.987_569_1e-4);
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_66, 0.5] {
        p = s.mul_add(p, r, s.splat(c));
    }
    let e = s.add(s.mul_add(s.mul(r, r), p, r), s.splat(1.0));
    s.mul(e, s.power_of_two(shifted))
}

/// A stored number that a vector of f32 is made of.
pub(crate) trait Element: Copy {
    /// Reads [`Simd::LANES`] of them.
    ///
    /// # Safety
    /// They must be readable.
    unsafe fn load<S: Simd>(s: S, from: *const Self) -> S::F;
}

impl Element for f32 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, from: *const f32) -> S::F {
        // SAFETY: the caller's promise.
        unsafe { s.load(from) }
    }
}

impl Element for f16 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, from: *const f16) -> S::F {
        // SAFETY: the caller's promise.
        unsafe { s.load_f16(from) }
    }
}

/// Plain arrays, for every target.
#[derive(Clone, Copy)]
pub(crate) struct Plain(());

impl Simd for Plain {
    type F = [f32; 4];
    const LANES: usize = 4;
    const TILE_ROWS: usize = 4;

    #[inline(always)]
    fn splat(self, x: f32) -> [f32; 4] {
        [x; 4]
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> [f32; 4] {
        // SAFETY: the caller's promise; an array of f32 needs no more alignment than an f32.
        unsafe { *from.cast() }
    }
    #[inline(always)]
    unsafe fn store(self, x: [f32; 4], to: *mut f32) {
        // SAFETY: the caller's promise; an array of f32 needs no more alignment than an f32.
        unsafe { *to.cast() = x };
    }
    #[inline(always)]
    unsafe fn load_f16(self, from: *const f16) -> [f32; 4] {
        // SAFETY: the caller's promise; an array of f16 needs no more alignment than an f16.
        unsafe { *from.cast::<[f16; 4]>() }.map(f16::to_f32)
    }
    #[inline(always)]
    unsafe fn load_i8(self, from: *const i8) -> [f32; 4] {
        // SAFETY: the caller's promise.
        unsafe { *from.cast::<[i8; 4]>() }.map(f32::from)
    }
    #[inline(always)]
    fn add(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| a[i] - b[i])
    }
    #[inline(always)]
    fn mul(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    fn mul_add(self, a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    fn max(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn first(self, n: usize, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| if i < n { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn power_of_two(self, shifted: [f32; 4]) -> [f32; 4] {
        shifted.map(|x| f32::from_bits((x.to_bits() << 23).wrapping_add(1f32.to_bits())))
    }
    #[inline(always)]
    fn prefetch_near<T>(self, _line: *const T) {}
    #[inline(always)]
    fn prefetch_far<T>(self, _line: *const T) {}
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Kernel, Simd, f16};
    use std::arch::x86_64::*;

    /// Runs `kernel` with AVX-512.
    ///
    /// # Safety
    /// The processor must have it.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
    pub(super) unsafe fn in_avx512<K: Kernel>(kernel: K) -> K::Output {
        kernel.run(Avx512(()))
    }

    /// Runs `kernel` with AVX2, FMA and F16C.
    ///
    /// # Safety
    /// The processor must have them.
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) unsafe fn in_avx2<K: Kernel>(kernel: K) -> K::Output {
        kernel.run(Avx2(()))
    }

    /// Proof of AVX-512 F, BW, DQ, VL.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512(());

    /// Proof of AVX2, FMA, F16C.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2(());

    impl Simd for Avx512 {
        type F = __m512;
        const LANES: usize = 16;
        const TILE_ROWS: usize = 8;

        #[inline(always)]
        fn splat(self, x: f32) -> __m512 {
            // SAFETY: `self` proves AVX-512.
            unsafe { _mm512_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(self, from: *const f32) -> __m512 {
            // SAFETY: `self` proves AVX-512; the caller promises 16 readable f32.
            unsafe { _mm512_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn store(self, x: __m512, to: *mut f32) {
            // SAFETY: `self` proves AVX-512; the caller promises 16 writable f32.
            unsafe { _mm512_storeu_ps(to, x) }
        }
        #[inline(always)]
        unsafe fn load_f16(self, from: *const f16) -> __m512 {
            // SAFETY: `self` proves AVX-512; the caller promises 16 readable f16.
            unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
        }
        #[inline(always)]
        unsafe fn load_i8(self, from: *const i8) -> __m512 {
            // SAFETY: `self` proves AVX-512; the caller promises 16 readable i8.
            unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()))) }
        }
        #[inline(always)]
        fn add(self, a: __m512, b: __m512) -> __m512 {
            // SAFETY: `self` proves AVX-512.
            unsafe { _mm512_add_ps(a, b) }
        }
        #[inline(always)]
        fn sub(self, a: __m512, b: __m512) -> __m512 {
            // SAFETY: `self` proves AVX-512.
            unsafe { _mm512_sub_ps(a, b) }
        }
        #[inline(always)]
        fn mul(self, a: __m512, b: __m512) -> __m512 {
            // SAFETY: `self` proves AVX-512.
            unsafe { _mm512_mul_ps(a, b) }
        }
        #[inline(always)]
        fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
            // SAFETY: `self` proves AVX-512.
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        fn max(self, a: __m512, b: __m512) -> __m512 {
            // SAFETY: `self` proves AVX-512.
            unsafe { _mm512_max_ps(a, b) }
        }
        #[inline(always)]
        fn first(self, n: usize, a: __m512, b: __m512) -> __m512 {
            let mask = if n >= 16 { u16::MAX } else { (1 << n) - 1 };
            // SAFETY: `self` proves AVX-512.
            unsafe { _mm512_mask_blend_ps(mask, b, a) }
        }
        #[inline(always)]
        fn power_of_two(self, shifted: __m512) -> __m512 {
            // SAFETY: `self` proves AVX-512.
            unsafe {
                let bits = _mm512_slli_epi32::<23>(_mm512_castps_si512(shifted));
                _mm512_castsi512_ps(_mm512_add_epi32(bits, _mm512_castps_si512(_mm512_set1_ps(1.0))))
            }
        }
        #[inline(always)]
        fn prefetch_near<T>(self, line: *const T) {
            // SAFETY: a prefetch reads nothing, whatever the address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
        }
        #[inline(always)]
        fn prefetch_far<T>(self, line: *const T) {
            // SAFETY: as above.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) }
        }
    }

    impl Simd for Avx2 {
        type F = __m256;
        const LANES: usize = 8;
        const TILE_ROWS: usize = 4;

        #[inline(always)]
        fn splat(self, x: f32) -> __m256 {
            // SAFETY: `self` proves AVX2.
            unsafe { _mm256_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(self, from: *const f32) -> __m256 {
            // SAFETY: `self` proves AVX2; the caller promises 8 readable f32.
            unsafe { _mm256_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn store(self, x: __m256, to: *mut f32) {
            // SAFETY: `self` proves AVX2; the caller promises 8 writable f32.
            unsafe { _mm256_storeu_ps(to, x) }
        }
        #[inline(always)]
        unsafe fn load_f16(self, from: *const f16) -> __m256 {
            // SAFETY: `self` proves F16C; the caller promises 8 readable f16.
            unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
        }
        #[inline(always)]
        unsafe fn load_i8(self, from: *const i8) -> __m256 {
            // SAFETY: `self` proves AVX2; the caller promises 8 readable i8.
            unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()))) }
        }
        #[inline(always)]
        fn add(self, a: __m256, b: __m256) -> __m256 {
            // SAFETY: `self` proves AVX2.
            unsafe { _mm256_add_ps(a, b) }
        }
        #[inline(always)]
        fn sub(self, a: __m256, b: __m256) -> __m256 {
            // SAFETY: `self` proves AVX2.
            unsafe { _mm256_sub_ps(a, b) }
        }
        #[inline(always)]
        fn mul(self, a: __m256, b: __m256) -> __m256 {
            // SAFETY: `self` proves AVX2.
            unsafe { _mm256_mul_ps(a, b) }
        }
        #[inline(always)]
        fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
            // SAFETY: `self` proves FMA.
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        fn max(self, a: __m256, b: __m256) -> __m256 {
            // SAFETY: `self` proves AVX2.
            unsafe { _mm256_max_ps(a, b) }
        }
        #[inline(always)]
        fn first(self, n: usize, a: __m256, b: __m256) -> __m256 {
            // SAFETY: `self` proves AVX2.
            unsafe {
                let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
                let mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(n.min(8) as i32), lane);
                _mm256_blendv_ps(b, a, _mm256_castsi256_ps(mask))
            }
        }
        #[inline(always)]
        fn power_of_two(self, shifted: __m256) -> __m256 {
            // SAFETY: `self` proves AVX2.
            unsafe {
                let bits = _mm256_slli_epi32::<23>(_mm256_castps_si256(shifted));
                _mm256_castsi256_ps(_mm256_add_epi32(bits, _mm256_castps_si256(_mm256_set1_ps(1.0))))
            }
        }
        #[inline(always)]
        fn prefetch_near<T>(self, line: *const T) {
            // SAFETY: a prefetch reads nothing, whatever the address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
        }
        #[inline(always)]
        fn prefetch_far<T>(self, line: *const T) {
            // SAFETY: as above.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Exp<'a>(&'a [f32], &'a mut [f32]);

    impl Kernel for Exp<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            for (x, y) in self.0.chunks_exact(S::LANES).zip(self.1.chunks_exact_mut(S::LANES)) {
                // SAFETY: both chunks hold LANES elements.
                unsafe { s.store(exp(s, s.load(x.as_ptr())), y.as_mut_ptr()) };
            }
        }
    }

    #[test]
    fn exp_is_within_two_ulp() {
        let mut xs: Vec<f32> = (0..2_000_000).map(|i| -(i as f32) * 4.4e-5).collect();
        xs.extend([0.0, -0.0, -1e-30, -87.3, -87.68, -88.0, -100.0, -1e30, f32::NEG_INFINITY, f32::NAN]);
        xs.resize(xs.len().next_multiple_of(16), 0.0);
        for isa in Isa::available() {
            let mut ys = vec![7f32; xs.len()];
            dispatch(isa, Exp(&xs, &mut ys));
            let mut worst = 0f64;
            for (&x, &y) in xs.iter().zip(&ys) {
                let exact = f64::from(x).exp();
                if x.is_nan() {
                    assert!(y.is_nan());
                } else if exact < f64::from(f32::MIN_POSITIVE) * 1.5 {
                    assert!((0.0..=2e-38).contains(&y), "exp({x}) = {y}");
                } else {
                    let ulp = f64::from(f32::EPSILON) * 2f64.powi(exact.log2().floor() as i32);
                    worst = worst.max((f64::from(y) - exact).abs() / ulp);
                }
            }
            assert!(worst <= 2.0, "{isa}: {worst} ulp");
            assert_eq!(ys[0], 1.0, "the greatest score weighs exactly 1");
        }
    }

    struct Basics;

    impl Kernel for Basics {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            let values: Vec<f32> = (0..16).map(|i| (i * i) as f32 - 7.0).collect();
            // SAFETY: 16 elements are there, at least LANES.
            let x = unsafe { s.load(values.as_ptr()) };
            let mine = &values[..S::LANES];
            assert_eq!(s.sum(x), mine.iter().sum::<f32>());
            assert_eq!(s.greatest(x), mine[S::LANES - 1]);
            for n in 0..=S::LANES + 1 {
                let got = s.lanes(s.first(n, x, s.splat(-1.0)));
                for (i, &g) in got.iter().enumerate().take(S::LANES) {
                    assert_eq!(g, if i < n { mine[i] } else { -1.0 });
                }
            }
            let halves: Vec<f16> = values.iter().map(|&v| f16::from_f32(v)).collect();
            let bytes: Vec<i8> = (0..16).map(|i| i * 3 - 20).collect();
            // SAFETY: 16 elements are there, at least LANES.
            let (h, b) = unsafe { (s.load_f16(halves.as_ptr()), s.load_i8(bytes.as_ptr())) };
            assert_eq!(s.lanes(h)[..S::LANES], *mine);
            for (i, &lane) in s.lanes(b)[..S::LANES].iter().enumerate() {
                assert_eq!(lane, f32::from(bytes[i]));
            }
            let nan = s.splat(f32::NAN);
            assert!(s.lanes(s.max(s.splat(0.0), nan))[0].is_nan(), "the second operand wins over a NaN");
        }
    }

    #[test]
    fn every_instruction_set_computes_the_same() {
        Isa::available().into_iter().for_each(|isa| dispatch(isa, Basics));
    }
}
