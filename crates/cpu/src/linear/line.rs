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

    /// Sets the `u32` of lanes `4 four..4 four + 4`.
    #[inline(always)]
    pub(super) fn set_four_words(&mut self, four: usize, words: [u32; 4]) {
        self.0[16 * four..][..16].copy_from_slice(words.map(u32::to_le_bytes).as_flattened());
    }

    /// Sets the `u16` of a lane of group `r`.
    #[inline(always)]
    pub(super) fn set_short(&mut self, r: usize, lane: usize, short: [u8; 2]) {
        self.0[32 * r + 2 * lane..][..2].copy_from_slice(&short);
    }

    /// Sets the `u16` of lanes `4 four..4 four + 4` of group `r`.
    #[inline(always)]
    pub(super) fn set_four_shorts(&mut self, r: usize, four: usize, shorts: [[u8; 2]; 4]) {
        self.0[32 * r + 8 * four..][..8].copy_from_slice(shorts.as_flattened());
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

/// Of sixteen bytes of four rows the words `i` of all four.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn transposed(rows: [&[u8; 16]; 4]) -> [[u32; 4]; 4] {
    use std::arch::x86_64::*;
    let [a, b, c, d]: [__m128i; 4] = rows.map(|row| bytemuck::cast(*row));
    // SAFETY: every processor of this kind has these instructions.
    let columns = unsafe {
        let (ab, cd) = (_mm_unpacklo_epi32(a, b), _mm_unpacklo_epi32(c, d));
        let (low, next) = (_mm_unpacklo_epi64(ab, cd), _mm_unpackhi_epi64(ab, cd));
        let (ab, cd) = (_mm_unpackhi_epi32(a, b), _mm_unpackhi_epi32(c, d));
        [low, next, _mm_unpacklo_epi64(ab, cd), _mm_unpackhi_epi64(ab, cd)]
    };
    columns.map(bytemuck::cast)
}

/// Of sixteen bytes of four rows the words `i` of all four.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub(super) fn transposed(rows: [&[u8; 16]; 4]) -> [[u32; 4]; 4] {
    let words = rows.map(|row| *row.as_chunks::<4>().0.first_chunk::<4>().expect("four words"));
    std::array::from_fn(|i| words.map(|row| u32::from_le_bytes(row[i])))
}

// SAFETY: 64 bytes without padding, of which zeros are a value.
unsafe impl bytemuck::Zeroable for Line {}
// SAFETY: 64 bytes without padding, any of which are a value.
unsafe impl bytemuck::Pod for Line {}
