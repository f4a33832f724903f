//! Random numbers that are the same on every machine: for made-up weights and prompts, not for secrets and not for
//! sampling.

/// A generator of random bits: xoshiro256++ (Blackman and Vigna, 2019), seeded by splitmix64.
pub(crate) struct Random([u64; 4]);

impl Random {
    /// The stream of bits that belongs to these numbers.
    pub(crate) fn new(numbers: &[u64]) -> Self {
        let mut state = 0u64;
        let mut split = |number: u64| {
            state = (state ^ number).wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        let seed = numbers.iter().fold(0, |seed: u64, &number| split(seed.rotate_left(1) ^ number));
        Random([seed, 1, 2, 3].map(split))
    }

    fn next(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number below `end`, all as good as equally likely while `end` is small.
    pub(crate) fn below(&mut self, end: u32) -> u32 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u32
    }

    /// Fills `out`.
    pub(crate) fn bytes(&mut self, out: &mut [u8]) {
        let (words, rest) = out.as_chunks_mut::<8>();
        for word in words {
            *word = self.next().to_le_bytes();
        }
        let last = self.next().to_le_bytes();
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_and_repeat() {
        let start = |numbers: &[u64]| Random::new(numbers).next();
        assert_eq!(start(&[1, 2]), start(&[1, 2]));
        let others =
            [start(&[1, 2]), start(&[2, 1]), start(&[0, 0]), start(&[0]), start(&[1, 3]), start(&[])];
        for (i, a) in others.iter().enumerate() {
            assert!(others[i + 1..].iter().all(|b| a != b));
        }
    }
}
