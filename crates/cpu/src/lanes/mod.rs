//! The vector operations that kernels are written in, and the instruction sets that have them.
//!
//! A [`Kernel`] is generic over [`Lanes`]; [`Lanes::run`] compiles it for an instruction set with those instructions
//! allowed in all of it, which is why everything that a kernel calls is `#[inline(always)]`. A value of a type that
//! implements [`Lanes`] is the proof that the processor has its instructions.
//!
//! An instruction set is one file: a type whose lanes are those of one register, a [`Register`]. Wider lanes are made of
//! it by [`Twice`]. Attention, norms and the cache take a register as wide as it is ([`dispatch`]); products take sixteen
//! lanes everywhere ([`Proof::work`]), one for each row of a group. To add a set: its file, its row in [`Isa`], its
//! rows in [`Proof`].

use crate::isa::Isa;
use half::f16;

/// Methods of an instruction set whose whole body needs its instructions and nothing else.
#[cfg(target_arch = "x86_64")]
macro_rules! instructions {
    ($(fn $name:ident$(<$T:ident>)?($($arg:ident: $type:ty),*) $(-> $out:ty)? $body:block)+) => {$(
        #[inline(always)]
        fn $name$(<$T>)?(self, $($arg: $type),*) $(-> $out)? {
            // SAFETY: `self` proves that the processor has these instructions, which touch no memory but to prefetch.
            unsafe { $body }
        }
    )+};
    ($(unsafe fn $name:ident($($arg:ident: $type:ty),*) $(-> $out:ty)? $body:block)+) => {$(
        #[inline(always)]
        unsafe fn $name(self, $($arg: $type),*) $(-> $out)? {
            // SAFETY: `self` proves that the processor has these instructions; the memory is as the caller promises.
            unsafe { $body }
        }
    )+};
}

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
mod twice;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
use avx512::Avx512;
pub(crate) use portable::Portable;
use twice::Twice;

/// Work that is compiled for every instruction set.
pub(crate) trait Kernel {
    /// What it returns.
    type Output;
    /// Does it. Implementations are `#[inline(always)]`, and so is what they call.
    fn run<S: Lanes>(self, s: S) -> Self::Output;
}

/// Has the caller's stack aligned to cache lines. The compiler decides so before it knows which registers it will have to
/// put there, and those of a kernel would lie across two lines otherwise: 3 % of a prompt.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn align_stack() {
    #[repr(align(64))]
    struct CacheLine(#[allow(dead_code, reason = "nothing stands there")] [u8; 64]);
    let mut line = std::mem::MaybeUninit::<CacheLine>::uninit();
    std::hint::black_box(&mut line);
}

/// Work that chooses its kernels by the instruction set, itself compiled without it.
pub(crate) trait Work {
    /// What it returns.
    type Output;
    /// Does it.
    fn work<S: Register>(self, s: S) -> Self::Output;
}

/// An instruction set that the processor has: an [`Isa`], with AVX-VNNI told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512<false>),
    #[cfg(target_arch = "x86_64")]
    AvxVnni(Avx2<true>),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2<false>),
    Portable(Portable),
}

impl Proof {
    /// The proof of `isa`.
    ///
    /// # Panics
    /// When the processor lacks it; [`Isa::detect`] never returns such a one.
    pub(crate) fn of(isa: Isa) -> Proof {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => Proof::Avx512(Avx512::detect().expect("the processor has AVX-512 VNNI")),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => match Avx2::detect() {
                Some(proof) => Proof::AvxVnni(proof),
                None => Proof::Avx2(Avx2::detect().expect("the processor has AVX2")),
            },
            _ => Proof::Portable(Portable),
        }
    }

    /// Does `work` for it.
    pub(crate) fn work<W: Work>(self, work: W) -> W::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Proof::Avx512(s) => work.work(s),
            #[cfg(target_arch = "x86_64")]
            Proof::AvxVnni(s) => work.work(s),
            #[cfg(target_arch = "x86_64")]
            Proof::Avx2(s) => work.work(s),
            Proof::Portable(s) => work.work(s),
        }
    }
}

/// Runs `kernel`, compiled for `isa`, with the lanes of one register.
///
/// # Panics
/// When the processor does not have it.
pub(crate) fn dispatch<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    struct Compiled<K>(K);
    impl<K: Kernel> Work for Compiled<K> {
        type Output = K::Output;
        fn work<S: Register>(self, s: S) -> K::Output {
            s.run(self.0)
        }
    }
    Proof::of(isa).work(Compiled(kernel))
}

/// The lanes of one register of an instruction set.
pub(crate) trait Register: Lanes {
    /// Sixteen lanes of its registers.
    type Sixteen: Lanes;
    /// Those lanes.
    fn sixteen(self) -> Self::Sixteen;
    /// The same lanes with [`Lanes::dot_pairs`] as one instruction.
    type Pairs: Lanes;
    /// Those lanes, where the processor has them.
    #[inline(always)]
    fn pairs(self) -> Option<Self::Pairs> {
        None
    }
}

/// Lanes of f32.
pub(crate) trait FloatLanes: Copy + Send + Sync {
    /// A vector of [`FloatLanes::LANES`] f32.
    type F: Copy;
    /// Number of lanes: 4, 8 or 16.
    const LANES: usize;
    /// How many pairs of sums stay in registers beside what is added to them: a power of two, at most 8.
    const PAIRS: usize;

    /// `x` in every lane.
    fn splat(self, x: f32) -> Self::F;
    /// Reads `LANES` f32.
    ///
    /// # Safety
    /// They must be readable.
    unsafe fn load(self, from: *const f32) -> Self::F;
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
    /// Writes `LANES` f32.
    ///
    /// # Safety
    /// They must be writable.
    unsafe fn store(self, x: Self::F, to: *mut f32);
    /// Writes `LANES` f32 past the caches; [`FloatLanes::fence`] must follow before another thread reads them.
    ///
    /// # Safety
    /// They must be writable and start at a multiple of their size in bytes.
    unsafe fn stream(self, x: Self::F, to: *mut f32);
    /// Orders all streamed writes before what this thread does next.
    fn fence(self);
    /// Asks for the cache line at `line`, which may be any address, in the first-level cache.
    fn prefetch_near<T>(self, line: *const T);
    /// Asks for the cache line at `line`, which may be any address, in the second-level cache.
    fn prefetch_far<T>(self, line: *const T);

    /// `a + b`.
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a - b`.
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b`.
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a / b`.
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once where the processor can.
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `a > b ? a : b`: `b` when either is not a number.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a < b ? a : b`: `b` when either is not a number.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// Lanes below `n` from `a`, the others from `b`.
    fn first(self, n: usize, a: Self::F, b: Self::F) -> Self::F;

    /// Turns a square of as many rows as there are lanes: element `i` of row `j` becomes element `j` of row `i`. Rows begin
    /// `stride` and `to_stride` apart.
    ///
    /// # Safety
    /// The square must be readable and the other writable, and they must not overlap.
    #[inline(always)]
    unsafe fn transpose(self, from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
        for (i, j) in (0..Self::LANES).flat_map(|i| (0..Self::LANES).map(move |j| (i, j))) {
            // SAFETY: the caller's promise.
            unsafe { *to.add(i * to_stride + j) = *from.add(j * stride + i) };
        }
    }

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

/// How large the integers of a weight type are, and with them the sums of their products with activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Integers {
    /// Below 64, and so few in a sub-block that its sum of products fits 16 bits, the first and the last two columns of
    /// all quads taken apart (whatever the activations: at most 127 times as many integers, less the offset).
    Narrow,
    /// Below 128.
    Wide,
    /// Any byte, 128 above what it stands for.
    Full,
}

/// Lanes of 32 bits: floats, and integers (or four bytes each).
pub(crate) trait Lanes: FloatLanes {
    /// A vector of [`FloatLanes::LANES`] integers of 32 bits, or four bytes each.
    type I: Copy;

    /// Runs `kernel` with these lanes, compiled for their instructions.
    fn run<K: Kernel>(self, kernel: K) -> K::Output;

    /// `x` in every lane.
    fn splat_i(self, x: i32) -> Self::I;
    /// Reads `LANES` words.
    ///
    /// # Safety
    /// They must be readable.
    unsafe fn load_u32(self, from: *const u32) -> Self::I;
    /// Reads `LANES` shorts and widens them with zeros.
    ///
    /// # Safety
    /// They must be readable.
    unsafe fn load_u16(self, from: *const u16) -> Self::I;
    /// Writes `LANES` words.
    ///
    /// # Safety
    /// They must be writable.
    unsafe fn store_u32(self, x: Self::I, to: *mut u32);

    /// The nearest float of each integer.
    fn float(self, a: Self::I) -> Self::F;
    /// The bits of floats.
    fn bits(self, a: Self::F) -> Self::I;
    /// Floats of these bits.
    fn of_bits(self, a: Self::I) -> Self::F;

    /// Bitwise and.
    fn and(self, a: Self::I, b: Self::I) -> Self::I;
    /// Bitwise or.
    fn or(self, a: Self::I, b: Self::I) -> Self::I;
    /// Bitwise exclusive or.
    fn xor(self, a: Self::I, b: Self::I) -> Self::I;
    /// Left by `n` bits.
    fn shl(self, a: Self::I, n: u32) -> Self::I;
    /// Right by `n` bits, filling with zeros.
    fn shr(self, a: Self::I, n: u32) -> Self::I;
    /// Right by `n` bits, filling with the sign.
    fn sar(self, a: Self::I, n: u32) -> Self::I;
    /// `a + b`.
    fn add_i(self, a: Self::I, b: Self::I) -> Self::I;
    /// `a - b`.
    fn sub_i(self, a: Self::I, b: Self::I) -> Self::I;
    /// The low 32 bits of `a * b`.
    fn mul_i(self, a: Self::I, b: Self::I) -> Self::I;
    /// Each byte, below 16, replaced by what the table has for it.
    fn lookup(self, table: &[u8; 16], bytes: Self::I) -> Self::I;
    /// The sums of a sub-block, `acc`, with the four products of integers `w` and activations `x`, signed bytes of at
    /// most 127, added, exactly. Sums begin with [`Lanes::start`] or, of integers without an offset, with 0; what they
    /// are, [`Lanes::total`] says.
    fn dot(self, integers: Integers, acc: Self::I, w: Self::I, x: Self::I) -> Self::I;
    /// `acc` plus the two products of signed shorts of `a` and `b`, exactly where that fits.
    fn dot2(self, acc: Self::I, a: Self::I, b: Self::I) -> Self::I;

    /// The numbers of `low` and then those of `high` rounded to bfloat16, two to a lane: the first in its low half.
    #[inline(always)]
    fn pair(self, low: Self::F, high: Self::F) -> Self::I {
        let (mut numbers, mut words) = ([0f32; 32], [0u32; 16]);
        numbers[..16].copy_from_slice(&self.lanes(low));
        numbers[Self::LANES..Self::LANES + 16].copy_from_slice(&self.lanes(high));
        for (word, [first, second]) in words.iter_mut().zip(numbers.as_chunks::<2>().0) {
            let [first, second] = [first, second].map(|&x| u32::from(half::bf16::from_f32(x).to_bits()));
            *word = first | second << 16;
        }
        // SAFETY: an array of sixteen words.
        unsafe { self.load_u32(words.as_ptr()) }
    }
    /// `acc` plus the products of the bfloat16 in the low halves of `a` and `b` and of those in the high halves.
    #[inline(always)]
    fn dot_pairs(self, acc: Self::F, a: Self::I, b: Self::I) -> Self::F {
        two_products(self, acc, a, b)
    }

    /// What the sums of a sub-block begin with, where integers are `offset` above what they stand for and the activations
    /// of the first two columns of all quads have the sum `halves[0]`, those of the last two `halves[1]`.
    #[inline(always)]
    fn start(self, _integers: Integers, offset: i32, halves: [i32; 2]) -> i32 {
        -offset * (halves[0] + halves[1])
    }
    /// The sums of a sub-block as integers.
    #[inline(always)]
    fn total(self, _integers: Integers, sums: Self::I) -> Self::I {
        sums
    }
    /// A sub-block's scale, an integer of 16 bits with its sign, as [`Lanes::add_scaled`] takes it.
    #[inline(always)]
    fn scale(self, integers: Integers, scale: Self::I) -> Self::I {
        if integers == Integers::Narrow { self.and(scale, self.splat_i(0xffff)) } else { scale }
    }
    /// `acc` plus the sums of a sub-block times its scale, exactly. Those of [`Integers::Narrow`] must fit 16 bits as a
    /// whole, too, which the quantizer of activations sees to.
    #[inline(always)]
    fn add_scaled(self, integers: Integers, acc: Self::I, sums: Self::I, scale: Self::I) -> Self::I {
        if integers == Integers::Narrow {
            // The high half of the scale is zero.
            self.dot2(acc, sums, scale)
        } else {
            self.add_i(acc, self.mul_i(sums, scale))
        }
    }

    /// The same byte in every byte of every lane.
    #[inline(always)]
    fn bytes(self, x: u8) -> Self::I {
        self.splat_i(i32::from_ne_bytes([x; 4]))
    }
}

/// [`Lanes::dot_pairs`] where it is no instruction.
#[inline(always)]
fn two_products<S: Lanes>(s: S, acc: S::F, a: S::I, b: S::I) -> S::F {
    let high = s.splat_i(0xffff_0000_u32.cast_signed());
    let acc = s.mul_add(s.of_bits(s.shl(a, 16)), s.of_bits(s.shl(b, 16)), acc);
    s.mul_add(s.of_bits(s.and(a, high)), s.of_bits(s.and(b, high)), acc)
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

/// `e^x` for `x <= 88`, within 2 ulp; 0 below -87.7. Not a number stays so.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`; `e^r` is the polynomial of Cephes' `expf` (Moshier), `2^n` is put together
/// from bits. Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the low bits.
#[inline(always)]
pub(crate) fn exp<S: Lanes>(s: S, x: S::F) -> S::F {
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
    let power = s.add_i(s.shl(s.bits(shifted), 23), s.bits(s.splat(1.0)));
    s.mul(e, s.of_bits(power))
}

/// A stored number that a vector of f32 is made of.
pub(crate) trait Element: Copy {
    /// Reads [`FloatLanes::LANES`] of them.
    ///
    /// # Safety
    /// They must be readable.
    unsafe fn load<S: Lanes>(s: S, from: *const Self) -> S::F;
}

impl Element for f32 {
    #[inline(always)]
    unsafe fn load<S: Lanes>(s: S, from: *const f32) -> S::F {
        // SAFETY: the caller's promise.
        unsafe { s.load(from) }
    }
}

impl Element for f16 {
    #[inline(always)]
    unsafe fn load<S: Lanes>(s: S, from: *const f16) -> S::F {
        // SAFETY: the caller's promise.
        unsafe { s.load_f16(from) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Exp<'a>(&'a [f32], &'a mut [f32]);

    impl Kernel for Exp<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Lanes>(self, s: S) {
            for (x, y) in self.0.chunks_exact(S::LANES).zip(self.1.chunks_exact_mut(S::LANES)) {
                // SAFETY: both chunks hold LANES elements.
                unsafe { s.store(exp(s, s.load(x.as_ptr())), y.as_mut_ptr()) };
            }
        }
    }

    /// [`Exp`] of a register and of sixteen lanes.
    struct ExpOfBoth<'a>(&'a [f32]);

    impl Work for ExpOfBoth<'_> {
        type Output = [Vec<f32>; 2];
        fn work<S: Register>(self, s: S) -> [Vec<f32>; 2] {
            let mut ys = [vec![7f32; self.0.len()], vec![7f32; self.0.len()]];
            s.run(Exp(self.0, &mut ys[0]));
            s.sixteen().run(Exp(self.0, &mut ys[1]));
            ys
        }
    }

    #[test]
    fn exp_is_within_two_ulp() {
        let mut xs: Vec<f32> = (0..2_000_000).map(|i| -(i as f32) * 4.4e-5).collect();
        xs.extend([0.0, -0.0, -1e-30, -87.3, -87.68, -88.0, -100.0, -1e30, f32::NEG_INFINITY, f32::NAN]);
        xs.extend((0..=88_000).map(|i| i as f32 * 1e-3));
        xs.resize(xs.len().next_multiple_of(16), 0.0);
        for isa in Isa::available() {
            let [ys, sixteen] = Proof::of(isa).work(ExpOfBoth(&xs));
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
            assert!(ys.iter().map(|y| y.to_bits()).eq(sixteen.iter().map(|y| y.to_bits())), "{isa}");
        }
    }

    /// A square turned, and products of pairs.
    struct Training;

    impl Kernel for Training {
        type Output = ();
        #[inline(always)]
        fn run<S: Lanes>(self, s: S) {
            let from: Vec<f32> = (0..16 * 20).map(|i| i as f32).collect();
            let mut to = vec![-1f32; 16 * 17];
            // SAFETY: sixteen rows of both, at least LANES.
            unsafe { s.transpose(from.as_ptr(), 20, to.as_mut_ptr(), 17) };
            for (i, j) in (0..16).flat_map(|i| (0..16).map(move |j| (i, j))) {
                let inside = i < S::LANES && j < S::LANES;
                assert_eq!(to[i * 17 + j], if inside { from[j * 20 + i] } else { -1.0 });
            }
            // 2 and 3 times 5 and 7 in bfloat16.
            let [a, b] = [[2f32, 3.0], [5.0, 7.0]]
                .map(|[low, high]| s.splat_i((high.to_bits() | low.to_bits() >> 16).cast_signed()));
            assert_eq!(s.lanes(s.dot_pairs(s.splat(1.0), a, b))[..S::LANES], [32f32; 16][..S::LANES]);
            // Numbers with more bits than a bfloat16 has, ties among them.
            let numbers: Vec<f32> = (0..32).map(|i| (i * i * 128 + 0x3_8000 + i) as f32).collect();
            let mut words = [0u32; 16];
            // SAFETY: two vectors of numbers, and room for sixteen words.
            unsafe {
                let [low, high] = [s.load(numbers.as_ptr()), s.load(numbers.as_ptr().add(S::LANES))];
                s.store_u32(s.pair(low, high), words.as_mut_ptr());
            }
            let rounded = words.iter().flat_map(|word| [word & 0xffff, word >> 16]);
            for (found, number) in rounded.zip(&numbers).take(2 * S::LANES) {
                assert_eq!(found, u32::from(half::bf16::from_f32(*number).to_bits()), "{number}");
            }
        }
    }

    /// [`Training`] of a register and, where the processor multiplies pairs, of those lanes.
    struct TrainingOfBoth;

    impl Work for TrainingOfBoth {
        type Output = ();
        fn work<S: Register>(self, s: S) {
            s.run(Training);
            s.pairs().into_iter().for_each(|s| s.run(Training));
        }
    }

    #[test]
    fn squares_turn_and_pairs_multiply() {
        Isa::available().into_iter().for_each(|isa| Proof::of(isa).work(TrainingOfBoth));
    }

    struct Basics;

    impl Kernel for Basics {
        type Output = ();
        #[inline(always)]
        fn run<S: Lanes>(self, s: S) {
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
            let shorts: Vec<u16> = (0..16).map(|i| i * 4369).collect();
            // SAFETY: 16 elements are there, at least LANES.
            let (h, b, w) = unsafe {
                (s.load_f16(halves.as_ptr()), s.load_i8(bytes.as_ptr()), s.load_u16(shorts.as_ptr()))
            };
            assert_eq!(s.lanes(h)[..S::LANES], *mine);
            let signed = s.sar(s.shl(w, 16), 16);
            for i in 0..S::LANES {
                assert_eq!(s.lanes(b)[i], f32::from(bytes[i]));
                assert_eq!(s.lanes(s.float(w))[i], f32::from(shorts[i]));
                assert_eq!(s.lanes(s.float(signed))[i], f32::from(shorts[i].cast_signed()));
            }
            let nan = s.splat(f32::NAN);
            assert!(s.lanes(s.max(s.splat(0.0), nan))[0].is_nan(), "the second operand wins over a NaN");
            assert!(s.lanes(s.min(s.splat(0.0), nan))[0].is_nan(), "the second operand wins over a NaN");
        }
    }

    impl Work for Basics {
        type Output = ();
        fn work<S: Register>(self, s: S) {
            s.run(Basics);
            s.sixteen().run(Basics);
        }
    }

    #[test]
    fn every_instruction_set_computes_the_same() {
        Isa::available().into_iter().for_each(|isa| Proof::of(isa).work(Basics));
    }
}
