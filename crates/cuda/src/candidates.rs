//! Finding a row's candidates: launches of `kernels/candidates.cu` over memory of its own.

use crate::args::{CandidatesArgs, WeighArgs};
use crate::device::Rows;
use crate::driver::{Driver, DriverError, Memory, launch};
use glimmer_tensor::{CANDIDATES, Candidates};

/// Values that a block looks at.
const CHUNK: usize = 4096;

/// Room for the candidates of rows of one width.
pub(crate) struct Choices {
    width: usize,
    /// What several launches leave: the largest of each chunk of the values, and of each chunk of those, in turns.
    keys: [Memory; 2],
    /// What comes back of each row: the largest keys and the sum of each chunk's weights.
    found: Memory,
    /// `[rows]`
    temperatures: Memory,
    bytes: usize,
}

/// How many keys are left of a row of `count` values or keys.
fn left_of(count: usize) -> usize {
    count.div_ceil(CHUNK) * CANDIDATES
}

impl Choices {
    /// For `rows` rows of `width` values.
    pub(crate) fn new(driver: &mut dyn Driver, rows: usize, width: usize) -> Result<Self, DriverError> {
        let mut bytes = 0;
        let mut room = |words: usize| {
            let size = rows.saturating_mul(words).saturating_mul(8);
            bytes += size;
            driver.alloc(size)
        };
        let first = left_of(width);
        // Where one launch leaves the candidates there is nothing between.
        let [first, second] = [first, left_of(first)].map(|keys| if keys > CANDIDATES { keys } else { 0 });
        let (keys, found) = ([room(first)?, room(second)?], room(Self::found_words(width))?);
        let temperatures = driver.alloc(rows.saturating_mul(4))?;
        bytes += 4 * rows;
        Ok(Choices { width, keys, found, temperatures, bytes })
    }

    /// Bytes of it.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn found_words(width: usize) -> usize {
        CANDIDATES + width.div_ceil(CHUNK)
    }

    /// Has the candidates of `rows` rows `x` found, one for each temperature. Returns where they will be.
    pub(crate) fn find(
        &self,
        driver: &mut dyn Driver,
        rows: Rows,
        x: Memory,
        temperatures: &[f32],
    ) -> (Memory, usize) {
        driver.copy_in(self.temperatures, 0, bytemuck::cast_slice(temperatures));
        let stride = Self::found_words(self.width);
        let (mut count, mut values, mut from, mut into) = (self.width, x, Memory::NULL, self.keys);
        loop {
            let chunks = count.div_ceil(CHUNK);
            let (out, words) = if chunks == 1 { (self.found, stride) } else { (into[0], left_of(count)) };
            let (count_u32, stride) = (count as u32, words as u32);
            let args =
                CandidatesArgs { rows: rows.count, x: values, keys: from, out, count: count_u32, stride };
            launch(driver, "candidates", [rows.bucket as u32, chunks as u32, 1], 256, 0, &args);
            if chunks == 1 {
                break;
            }
            (count, values, from) = (left_of(count), Memory::NULL, out);
            into.reverse();
        }
        let (width, chunks) = (self.width as u32, self.width.div_ceil(CHUNK) as u32);
        let (temperatures, row) = (self.temperatures, self.found);
        let args = WeighArgs { rows: rows.count, x, temperatures, row, width, stride: stride as u32 };
        launch(driver, "weigh", [rows.bucket as u32, chunks, 1], 256, 0, &args);
        (self.found, stride)
    }

    /// What was found of the rows.
    pub(crate) fn read(&self, found: &[u64], out: &mut Vec<Candidates>) {
        let best = |&key: &u64| {
            let (ordered, at) = ((key >> 32) as u32, !(key as u32));
            let bits = if ordered >> 31 == 1 { ordered ^ 1 << 31 } else { !ordered };
            (f32::from_bits(bits), at)
        };
        out.extend(found.chunks_exact(Self::found_words(self.width)).map(|row| {
            let (keys, sums) = row.split_at(CANDIDATES);
            let best = keys[..CANDIDATES.min(self.width)].iter().map(best).collect();
            let total = sums.iter().map(|&sum| f64::from_bits(sum)).sum();
            Candidates { best, total, of: self.width }
        }));
    }
}
