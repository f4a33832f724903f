//! Sixteen lanes, one for each row of a group: the vector operations that the kernels are written in.
//!
//! A kernel is a [`Task`], generic over [`Wide`]; [`Wide::run`] compiles it with the instructions of that set allowed
//! in all of it, which is why everything that a task calls is `#[inline(always)]`. A value of a type that implements
//! [`Lanes`] is the proof that the processor has its instructions. The operations are those of x86 on purpose: what
//! one instruction does there is one method here.

use crate::isa::Isa;

/// A cache line: for the sixteen rows of a group four bytes each, or two bytes each of two groups.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
pub(super) struct Line(pub(super) [u8; 64]);

impl Line {
    pub(super) const ZERO: Line = Line([0; 64]);

    /// The `u32` of a lane.
    #[inline(always)]
    pub(super) fn word(&self, lane: usize) -> u32 {
        let at = 4 * lane;
        u32::from_le_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    /// Sets the `u32` of a lane.
    #[inline(always)]
    pub(super) fn set_word(&mut self, lane: usize, word: u32) {
        self.0[4 * lane..][..4].copy_from_slice(&word.to_le_bytes());
    }

    /// What `f` makes of the words of each lane of `lines`. Plain arithmetic on all lanes, which every compiler turns
    /// into vector instructions of whatever the program is built for.
    #[inline(always)]
    pub(super) fn from_words<const N: usize>(lines: [&Line; N], f: impl Fn([u32; N]) -> u32) -> Line {
        let mut out = Line::ZERO;
        for lane in 0..16 {
            out.set_word(lane, f(lines.map(|line| line.word(lane))));
        }
        out
    }

    /// The `u16` of a lane of group `r`.
    #[inline(always)]
    pub(super) fn short(&self, r: usize, lane: usize) -> u16 {
        let at = 32 * r + 2 * lane;
        u16::from_le_bytes([self.0[at], self.0[at + 1]])
    }

    /// Sets the `u16` of a lane of group `r`.
    #[inline(always)]
    pub(super) fn set_short(&mut self, r: usize, lane: usize, short: [u8; 2]) {
        self.0[32 * r + 2 * lane..][..2].copy_from_slice(&short);
    }
}

// SAFETY: 64 bytes without padding, of which zeros are a value.
unsafe impl bytemuck::Zeroable for Line {}
// SAFETY: 64 bytes without padding, any of which are a value.
unsafe impl bytemuck::Pod for Line {}

/// How large the integers of a weight type are, and with them the sums of their products with activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Integers {
    /// Below 64, and so few in a sub-block that its sum of products fits 16 bits, the first and the last two columns of
    /// all quads taken apart (whatever the activations: at most 127 times as many integers, less the offset).
    Narrow,
    /// Below 128.
    Wide,
    /// Any byte, 128 above what it stands for.
    Full,
}

/// Lanes of 32 bits, as integers (or four bytes each) and as floats.
pub(super) trait Lanes: Copy {
    /// Integers, or four bytes each.
    type I: Copy;
    /// Floats.
    type F: Copy;

    /// `x` in every lane.
    fn splat(self, x: i32) -> Self::I;
    /// The words of a line.
    fn load(self, line: &Line) -> Self::I;
    /// The words of a line as floats.
    fn load_f(self, line: &Line) -> Self::F;
    /// The shorts of group `r`, widened with zeros.
    fn widen(self, line: &Line, r: usize) -> Self::I;
    /// The shorts of group `r` as binary16.
    fn half(self, line: &Line, r: usize) -> Self::F;

    /// Bitwise and.
    fn and(self, a: Self::I, b: Self::I) -> Self::I;
    /// Bitwise or.
    fn or(self, a: Self::I, b: Self::I) -> Self::I;
    /// Left by `n` bits.
    fn shl(self, a: Self::I, n: u32) -> Self::I;
    /// Right by `n` bits, filling with zeros.
    fn shr(self, a: Self::I, n: u32) -> Self::I;
    /// Right by `n` bits, filling with the sign.
    fn sar(self, a: Self::I, n: u32) -> Self::I;
    /// `a + b`.
    fn add(self, a: Self::I, b: Self::I) -> Self::I;
    /// `a - b`.
    fn sub(self, a: Self::I, b: Self::I) -> Self::I;
    /// The low 32 bits of `a * b`.
    fn mul(self, a: Self::I, b: Self::I) -> Self::I;
    /// Each byte, below 16, replaced by what the table has for it.
    fn lookup(self, table: &[u8; 16], bytes: Self::I) -> Self::I;
    /// The sums of a sub-block, `acc`, with the four products of integers `w` and activations `x`, signed bytes of at
    /// most 127, added, exactly. Sums begin with [`Lanes::start`] or, of integers without an offset, with 0; what they
    /// are, [`Lanes::total`] says.
    fn dot(self, integers: Integers, acc: Self::I, w: Self::I, x: Self::I) -> Self::I;
    /// `acc` plus the two products of signed shorts of `a` and `b`, exactly where that fits.
    fn dot2(self, acc: Self::I, a: Self::I, b: Self::I) -> Self::I;

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
        if integers == Integers::Narrow { self.and(scale, self.splat(0xffff)) } else { scale }
    }
    /// `acc` plus the sums of a sub-block times its scale, exactly. Those of [`Integers::Narrow`] must fit 16 bits as a
    /// whole, too, which the quantizer of activations sees to.
    #[inline(always)]
    fn add_scaled(self, integers: Integers, acc: Self::I, sums: Self::I, scale: Self::I) -> Self::I {
        if integers == Integers::Narrow {
            // The high half of the scale is zero.
            self.dot2(acc, sums, scale)
        } else {
            self.add(acc, self.mul(sums, scale))
        }
    }

    /// The nearest float of each integer.
    fn float(self, a: Self::I) -> Self::F;
    /// The bits of floats.
    fn bits(self, a: Self::F) -> Self::I;
    /// Floats of these bits.
    fn of_bits(self, a: Self::I) -> Self::F;
    /// `x` in every lane.
    fn splat_f(self, x: f32) -> Self::F;
    /// `a + b`.
    fn add_f(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a - b`.
    fn sub_f(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b`.
    fn mul_f(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a / b`.
    fn div_f(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once where the processor can.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `a > b ? a : b`: `b` when either is not a number.
    fn max_f(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a < b ? a : b`: `b` when either is not a number.
    fn min_f(self, a: Self::F, b: Self::F) -> Self::F;

    /// The same byte in every byte of every lane.
    #[inline(always)]
    fn bytes(self, x: u8) -> Self::I {
        self.splat(i32::from_ne_bytes([x; 4]))
    }
}

/// All sixteen lanes, with what a kernel needs besides.
pub(super) trait Wide: Lanes {
    /// Columns of the widest tile whose accumulators stay in registers: a power of two, at most 8.
    const COLUMNS: usize;

    /// Runs `task`, compiled for these instructions.
    fn run<T: Task>(self, task: T);
    /// Writes the words of a line.
    fn store(self, x: Self::I, line: &mut Line);
    /// Writes the words of a line as floats.
    fn store_f(self, x: Self::F, line: &mut Line);
    /// Reads sixteen floats.
    ///
    /// # Safety
    /// They must be readable.
    unsafe fn read(self, from: *const f32) -> Self::F;
    /// Writes sixteen floats.
    ///
    /// # Safety
    /// They must be writable.
    unsafe fn write(self, x: Self::F, to: *mut f32);
    /// Writes sixteen floats past the caches; [`Wide::fence`] must follow before another thread reads them.
    ///
    /// # Safety
    /// They must be writable and start at a multiple of 64 bytes.
    unsafe fn stream(self, x: Self::F, to: *mut f32);
    /// Orders all streamed writes before what this thread does next.
    fn fence(self);
    /// Asks for the line at `line`, which may be any address, in the first-level cache.
    fn prefetch_near(self, line: *const Line);
    /// Asks for the line at `line`, which may be any address, in the second-level cache.
    fn prefetch_far(self, line: *const Line);

    /// Lines as floats.
    fn floats(self, lines: &mut [Line]) -> &mut [Self::F];
}

/// Work that is compiled for every instruction set.
pub(super) trait Task {
    /// Does it. Implementations are `#[inline(always)]`, and so is what they call.
    fn run<S: Wide>(self, s: S);
}

/// Work that chooses its tasks by the instruction set, itself compiled without it.
pub(super) trait Work {
    /// What it returns.
    type Output;
    /// Does it.
    fn work<S: Wide + Send + Sync>(self, s: S) -> Self::Output;
}

/// The kernels that were chosen: an [`Isa`], with AVX-VNNI told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kernels {
    #[cfg(target_arch = "x86_64")]
    Avx512(super::avx512::Avx512),
    #[cfg(target_arch = "x86_64")]
    AvxVnni(super::avx2::Avx2<true>),
    #[cfg(target_arch = "x86_64")]
    Avx2(super::avx2::Avx2<false>),
    Portable(super::portable::Portable),
}

impl Kernels {
    /// The kernels for `isa`.
    ///
    /// # Panics
    /// When the processor lacks it; [`Isa::detect`] never returns such a one.
    pub(super) fn of(isa: Isa) -> Kernels {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => {
                Kernels::Avx512(super::avx512::Avx512::detect().expect("the processor has AVX-512 VNNI"))
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => match super::avx2::Avx2::<true>::detect() {
                Some(proof) => Kernels::AvxVnni(proof),
                None => Kernels::Avx2(super::avx2::Avx2::<false>::detect().expect("the processor has AVX2")),
            },
            _ => Kernels::Portable(super::portable::Portable),
        }
    }

    /// Does `work` with these kernels.
    pub(super) fn work<W: Work>(self, work: W) -> W::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Kernels::Avx512(s) => work.work(s),
            #[cfg(target_arch = "x86_64")]
            Kernels::AvxVnni(s) => work.work(s),
            #[cfg(target_arch = "x86_64")]
            Kernels::Avx2(s) => work.work(s),
            Kernels::Portable(s) => work.work(s),
        }
    }
}
