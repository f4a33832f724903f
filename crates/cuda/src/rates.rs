//! What a card does at most, measured: the floors that a model's speed on it is held to.

use crate::DriverError;
use crate::driver::{Driver, Memory, launch};
use bytemuck::{Pod, Zeroable};
use std::time::{Duration, Instant};

/// The least and the most that is read: more than the caches hold, and not much of a card's memory. An emulated one is slow.
#[cfg(any(feature = "cuda", feature = "emulate"))]
const READ: std::ops::RangeInclusive<usize> =
    if cfg!(feature = "cuda") { 512 << 20..=1 << 30 } else { 1 << 24..=1 << 24 };

/// How long a measurement runs at least, beside which a launch is nothing; the best of some counts.
const LEAST: Duration = Duration::from_millis(20);
const REPEATS: usize = 5;

/// Threads of a block, and blocks of a multiprocessor: as many threads as it takes.
const THREADS: u32 = 256;
const BLOCKS: usize = 8;

/// Chains of sums that a thread has under way, and words of 16 bytes: `CHAINS` and `WORDS` in `kernels/measure.cu`.
const CHAINS: f64 = 8.0;
const WORDS: usize = 4;

/// `kernels/measure.cu`
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct MeasureArgs {
    from: Memory,
    to: Memory,
    words: u64,
    turns: u64,
}

/// Rates of a card.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Bytes per second read from its memory.
    pub read: f64,
    /// Bytes per second copied within its memory: those read and those written.
    pub copy: f64,
    /// Multiplications and additions of bytes per second, on tensor cores by `mma.sync`.
    pub int8: f64,
    /// Multiplications and additions of bf16 per second, likewise, summed in f32.
    pub bf16: f64,
    /// Multiplications and additions of f32 per second, fused.
    pub f32: f64,
}

impl Rates {
    /// Measures for about a second. Memory is measured over `bytes` (a model's size, say), at least 512 MiB and at most
    /// 1 GiB, of which twice as much is taken and given back.
    ///
    /// # Errors
    /// When there is no card, no memory left, or a kernel fails.
    #[cfg(any(feature = "cuda", feature = "emulate"))]
    pub fn measure(options: crate::CudaOptions, bytes: usize) -> Result<Rates, DriverError> {
        let mut driver = crate::driver::open(options.card)?;
        Self::on(driver.as_mut(), bytes.clamp(*READ.start(), *READ.end()))
    }

    /// On a machine with two times `bytes` bytes to spare.
    fn on(driver: &mut dyn Driver, bytes: usize) -> Result<Rates, DriverError> {
        let at_a_time = driver.limits().processors * BLOCKS * THREADS as usize * WORDS * 16;
        let bytes = bytes.next_multiple_of(at_a_time);
        let (from, to) = (driver.alloc(bytes)?, driver.alloc(bytes)?);
        scatter(driver, from, bytes);
        let args = MeasureArgs { from, to, words: bytes as u64 / 16, turns: 1 };
        let warps = driver.limits().processors as f64 * BLOCKS as f64 * f64::from(THREADS / 32);
        // A product of [16, k] and [k, 8] by every warp and chain.
        let product = |k: f64| warps * CHAINS * 2.0 * 16.0 * 8.0 * k;
        let rates = Rates {
            read: rate(driver, "measure_read", bytes as f64, args)?,
            copy: rate(driver, "measure_copy", 2.0 * bytes as f64, args)?,
            int8: rate(driver, "measure_int8", product(32.0), args)?,
            bf16: rate(driver, "measure_bf16", product(16.0), args)?,
            f32: rate(driver, "measure_f32", warps * 32.0 * CHAINS * 2.0, args)?,
        };
        driver.free(from);
        driver.free(to);
        Ok(rates)
    }
}

/// Fills memory with numbers that do not repeat soon.
fn scatter(driver: &mut dyn Driver, memory: Memory, bytes: usize) {
    let mut state = 1u64;
    let numbers: Vec<u64> = (0..bytes.min(16 << 20) / 8)
        .map(|_| {
            // Knuth's multiplier and increment (MMIX).
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state ^ state >> 29
        })
        .collect();
    let piece: &[u8] = bytemuck::cast_slice(&numbers);
    for at in (0..bytes).step_by(piece.len()) {
        driver.copy_in(memory, at, &piece[..piece.len().min(bytes - at)]);
    }
}

/// How much of `work`, which is what a turn does, is done in a second.
fn rate(
    driver: &mut dyn Driver,
    kernel: &'static str,
    work: f64,
    args: MeasureArgs,
) -> Result<f64, DriverError> {
    let grid = [(driver.limits().processors * BLOCKS) as u32, 1, 1];
    let mut once = |turns: u64| {
        driver.synchronize()?;
        let begun = Instant::now();
        launch(driver, kernel, grid, THREADS, 0, &MeasureArgs { turns, ..args });
        driver.synchronize()?;
        Ok::<Duration, DriverError>(begun.elapsed())
    };
    let mut turns = 1;
    while once(turns)? < LEAST {
        turns *= 2;
    }
    let mut best = Duration::MAX;
    for _ in 0..REPEATS {
        best = best.min(once(turns)?);
    }
    Ok(work * turns as f64 / best.as_secs_f64())
}

#[cfg(all(test, feature = "emulate"))]
mod tests {
    use super::*;
    use crate::emulated::Emulated;

    #[test]
    fn a_machine_has_rates() {
        let rates = Rates::on(&mut Emulated::default(), 1 << 20).expect("kernels that run");
        let Rates { read, copy, int8, bf16, f32 } = rates;
        // An emulation is slower than any card, and does something.
        for (name, rate) in [("read", read), ("copy", copy), ("int8", int8), ("bf16", bf16), ("f32", f32)] {
            assert!((1e4..1e12).contains(&rate), "{name}: {rates:?}");
        }
    }
}
