//! Training on the CPU device, held to the reference device.

use glimmer_cpu::{CpuDevice, CpuOptions, Isa};
use glimmer_device_suite::training::Candidate;
use glimmer_tensor::Compute;

glimmer_device_suite::training_suite!(candidates);

/// Every instruction set of this processor, with some numbers of threads, in both numeric modes.
fn candidates() -> Vec<Candidate> {
    let kinds =
        [(1, Compute::F32), (2, Compute::F32), (5, Compute::F32), (1, Compute::Auto), (2, Compute::Auto)];
    let candidate = |isa, (threads, compute)| Candidate {
        name: format!("{isa}, {threads} threads, {compute:?}"),
        make: Box::new(move || {
            let options = CpuOptions { threads: Some(threads), compute, isa: Some(isa) };
            Box::new(CpuDevice::new(options).expect("an available instruction set"))
        }),
        compute,
        family: format!("{isa}, {compute:?}"),
    };
    Isa::available().into_iter().flat_map(|isa| kinds.map(|kind| candidate(isa, kind))).collect()
}
