//! The CPU device held to the reference device, and to itself.

mod invariance;
mod training;

use glimmer_cpu::{CpuDevice, CpuOptions, Isa};
use glimmer_device_suite::{Candidate, Tolerances};
use glimmer_tensor::{Compute, Device};

glimmer_device_suite::suite!(candidates);
glimmer_device_suite::seeing_suite!(candidates);
glimmer_device_suite::experts_suite!(candidates);
glimmer_device_suite::latents_suite!(candidates);

/// Every instruction set of this processor, with some numbers of threads, in both numeric modes: all of a set give the
/// same bits in attention.
fn candidates() -> Vec<Candidate> {
    let kinds =
        [(1, Compute::F32), (1, Compute::Auto), (2, Compute::F32), (2, Compute::Auto), (5, Compute::Auto)];
    let candidate = |isa, (threads, compute)| Candidate {
        name: format!("{isa}, {threads} threads, {compute:?}"),
        make: Box::new(move || device(isa, threads, compute)),
        compute,
        family: format!("{isa}"),
        tolerances: Tolerances::F32,
    };
    Isa::available().into_iter().flat_map(|isa| kinds.map(|kind| candidate(isa, kind))).collect()
}

/// A device of this kind.
fn device(isa: Isa, threads: usize, compute: Compute) -> Box<dyn Device> {
    let options = CpuOptions { threads: Some(threads), compute, isa: Some(isa) };
    Box::new(CpuDevice::new(options).expect("an available instruction set"))
}

#[test]
fn a_device_says_what_it_is() {
    let options = CpuOptions { threads: Some(1), ..CpuOptions::default() };
    let text = CpuDevice::new(options).expect("a device").describe();
    assert!(text.starts_with("CPU, ") && text.ends_with(", 1 thread"), "{text}");
    for threads in [0, 100_000] {
        let options = CpuOptions { threads: Some(threads), ..CpuOptions::default() };
        assert!(CpuDevice::new(options).is_err());
    }
}
