//! What this machine can do at most, measured: the floors that a model's speed is held to.
//!
//! No step of a decoder is faster than its bytes take to be read or its operations take on the units that do them.
//! Measured with the threads of a [`Pool`] and the instructions that the kernels use.

use crate::device::{CpuError, CpuOptions};
use crate::isa::{Isa, IsaError};
use crate::linear::{Unit, peak, reading};
use crate::memory::{Parts, Slab, share};
use crate::pool::{MAX_THREADS, Pool};
use crate::topology::Topology;

/// The least and the most that is read: more than most caches hold, and not much of a machine's memory.
const READ: std::ops::RangeInclusive<usize> = 64 << 20..=1 << 30;

/// Rates of some threads together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// How many threads.
    pub threads: usize,
    /// Bytes per second read from memory.
    pub read: f64,
    /// Multiplications and additions of bytes per second, in dot products.
    pub int8: f64,
    /// Multiplications and additions of f32 per second, fused.
    pub f32: f64,
}

impl Rates {
    /// Measures for about a second. Reading is measured over `bytes` (a model's size: what fits a cache is read faster
    /// and may be), at least 64 MiB and at most 1 GiB, which are given back.
    ///
    /// # Errors
    /// When the options ask for what is not there.
    pub fn measure(options: CpuOptions, bytes: usize) -> Result<Rates, CpuError> {
        let threads = options.threads.unwrap_or_else(|| Topology::detect().default_threads());
        if threads == 0 || threads > MAX_THREADS {
            return Err(CpuError::Threads(threads));
        }
        let isa = options.isa.map_or_else(Isa::detect, Ok)?;
        if !isa.is_available() {
            return Err(IsaError::Missing { wanted: isa, best: Isa::available()[0] }.into());
        }
        let pool = Pool::new(threads);
        let (int8, f32) = (peak(isa, &pool, Unit::Int8), peak(isa, &pool, Unit::F32));
        let mut len = bytes.clamp(*READ.start(), *READ.end());
        let written = loop {
            match written(&pool, len) {
                Some(written) => break written,
                None => len /= 2,
            }
        };
        let read = reading(isa, &pool, &written);
        Ok(Rates { threads, read, int8, f32 })
    }
}

/// Memory in pages of its own: a page that was never written is the system's one page of zeros, which stays in the
/// cache. Each thread writes what it will read. `None` where there is not so much.
fn written(pool: &Pool, len: usize) -> Option<Slab<u8>> {
    let mut bytes = Slab::zeroed(len, "a measurement").ok()?;
    let (threads, parts) = (pool.threads(), Parts::new(&mut bytes));
    pool.run(&|thread| {
        // SAFETY: the threads' shares are disjoint.
        unsafe { parts.range(share(len, threads, thread)) }.fill(1);
    });
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_has_limits() {
        for isa in Isa::available() {
            let options = CpuOptions { threads: Some(1), isa: Some(isa), ..CpuOptions::default() };
            let limits = Rates::measure(options, 0).unwrap();
            // The slowest of all machines and the fastest, with room on both sides.
            for (rate, least, most) in
                [(limits.read, 1e8, 1e12), (limits.int8, 1e8, 1e14), (limits.f32, 1e8, 1e13)]
            {
                assert!((least..most).contains(&rate), "{isa}: {limits:?}");
            }
        }
    }

    #[test]
    fn threads_are_bounded() {
        for threads in [0, MAX_THREADS + 1] {
            let options = CpuOptions { threads: Some(threads), ..CpuOptions::default() };
            assert_eq!(Rates::measure(options, 0), Err(CpuError::Threads(threads)));
        }
    }
}
