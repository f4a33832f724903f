//! What the machine that computes does at most.

use glimmer_cpu::CpuOptions;
use glimmer_tensor::Compute;

/// Rates of the processor, or of a card.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::commands) struct MachineRates {
    /// Threads of the processor that compute; with a card, the one that launches.
    pub(in crate::commands) threads: usize,
    /// Bytes per second read from memory.
    pub(in crate::commands) read: f64,
    /// Bytes per second copied within a card's memory, those read and those written.
    pub(in crate::commands) copy: Option<f64>,
    /// Operations of 8-bit integers per second.
    pub(in crate::commands) int8: f64,
    /// Operations of floats per second.
    pub(in crate::commands) float: f64,
    /// Which floats.
    pub(in crate::commands) unit: Unit,
}

/// The unit for everything that is no quantized weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::commands) enum Unit {
    F32,
    /// Of a card in its fast mode.
    Bf16,
}

/// Measures one machine.
#[derive(Clone, Copy)]
pub(in crate::commands) struct Meter {
    /// Which card; `None` for the processor.
    card: Option<usize>,
    #[cfg_attr(not(any(feature = "cuda", feature = "emulate")), allow(dead_code, reason = "of a card"))]
    compute: Compute,
    cpu: CpuOptions,
    /// Bytes of the model: what fits a cache is read faster and may be.
    bytes: usize,
}

impl Meter {
    /// For a machine of a model of so many bytes.
    pub(in crate::commands) fn of(
        card: Option<usize>,
        compute: Compute,
        threads: Option<usize>,
        bytes: usize,
    ) -> Self {
        Meter { card, compute, cpu: CpuOptions { threads, ..CpuOptions::default() }, bytes }
    }

    /// Measures for about a second.
    pub(in crate::commands) fn measure(&self) -> anyhow::Result<MachineRates> {
        #[cfg(any(feature = "cuda", feature = "emulate"))]
        if let Some(card) = self.card {
            let options = glimmer_cuda::CudaOptions { card, compute: self.compute };
            let rates = glimmer_cuda::Rates::measure(options, self.bytes)?;
            let (float, unit) = match self.compute {
                Compute::F32 => (rates.f32, Unit::F32),
                Compute::Auto => (rates.bf16, Unit::Bf16),
            };
            return Ok(MachineRates {
                threads: 1,
                read: rates.read,
                copy: Some(rates.copy),
                int8: rates.int8,
                float,
                unit,
            });
        }
        debug_assert!(self.card.is_none(), "this program opens no cards");
        let limits = glimmer_cpu::Rates::measure(self.cpu, self.bytes)?;
        let glimmer_cpu::Rates { threads, read, int8, f32: float } = limits;
        Ok(MachineRates { threads, read, copy: None, int8, float, unit: Unit::F32 })
    }
}

impl MachineRates {
    /// The better of both in each: noise only ever makes a machine slower.
    pub(in crate::commands) fn best(self, other: MachineRates) -> MachineRates {
        MachineRates {
            read: self.read.max(other.read),
            copy: if self.copy > other.copy { self.copy } else { other.copy },
            int8: self.int8.max(other.int8),
            float: self.float.max(other.float),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_of_both_in_each() {
        let card =
            MachineRates { threads: 1, read: 2.0, copy: Some(3.0), int8: 4.0, float: 5.0, unit: Unit::Bf16 };
        assert_eq!(card.best(card), card);
        let other = MachineRates { read: 1.0, copy: Some(4.0), int8: 5.0, float: 4.0, ..card };
        let best = MachineRates { copy: Some(4.0), int8: 5.0, ..card };
        assert_eq!((card.best(other), other.best(card)), (best, best));
        let processor = MachineRates { copy: None, unit: Unit::F32, ..card };
        assert_eq!(processor.best(processor), processor);
    }
}
