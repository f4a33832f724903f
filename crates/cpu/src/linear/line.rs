//! The cache line: what weights are packed in, and how sixteen lanes read and write it.

use crate::lanes::Lanes;
use half::f16;

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

    /// Sets the `u16` of a lane of group `r`.
    #[inline(always)]
    pub(super) fn set_short(&mut self, r: usize, lane: usize, short: [u8; 2]) {
        self.0[32 * r + 2 * lane..][..2].copy_from_slice(&short);
    }

    /// The words of all lanes.
    #[inline(always)]
    pub(super) fn words<S: Lanes>(&self, s: S) -> S::I {
        const { assert!(S::LANES == 16, "a lane for each word") };
        // SAFETY: a line is sixteen words.
        unsafe { s.load_u32(self.0.as_ptr().cast()) }
    }

    /// The words of all lanes as floats.
    #[inline(always)]
    pub(super) fn floats<S: Lanes>(&self, s: S) -> S::F {
        const { assert!(S::LANES == 16, "a lane for each word") };
        // SAFETY: a line is sixteen words.
        unsafe { s.load(self.0.as_ptr().cast()) }
    }

    /// The shorts of all lanes of group `r`, widened with zeros.
    #[inline(always)]
    pub(super) fn shorts<S: Lanes>(&self, s: S, r: usize) -> S::I {
        const { assert!(S::LANES == 16, "a lane for each short of a group") };
        // SAFETY: half a line is sixteen shorts.
        unsafe { s.load_u16(self.0[32 * r..][..32].as_ptr().cast()) }
    }

    /// The shorts of all lanes of group `r` as binary16.
    #[inline(always)]
    pub(super) fn halves<S: Lanes>(&self, s: S, r: usize) -> S::F {
        const { assert!(S::LANES == 16, "a lane for each short of a group") };
        // SAFETY: half a line is sixteen shorts.
        unsafe { s.load_f16(self.0[32 * r..][..32].as_ptr().cast::<f16>()) }
    }

    /// Sets the words of all lanes.
    #[inline(always)]
    pub(super) fn set_words<S: Lanes>(&mut self, s: S, x: S::I) {
        const { assert!(S::LANES == 16, "a lane for each word") };
        // SAFETY: a line is sixteen words.
        unsafe { s.store_u32(x, self.0.as_mut_ptr().cast()) }
    }

    /// Sets the words of all lanes to floats.
    #[inline(always)]
    pub(super) fn set_floats<S: Lanes>(&mut self, s: S, x: S::F) {
        const { assert!(S::LANES == 16, "a lane for each word") };
        // SAFETY: a line is sixteen words.
        unsafe { s.store(x, self.0.as_mut_ptr().cast()) }
    }
}

// SAFETY: 64 bytes without padding, of which zeros are a value.
unsafe impl bytemuck::Zeroable for Line {}
// SAFETY: 64 bytes without padding, any of which are a value.
unsafe impl bytemuck::Pod for Line {}
