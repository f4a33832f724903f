//! The CPU device against the reference device: every operation, on each instruction set of this processor, with one
//! and with two threads, in both numeric modes.

use crate::device;
use crate::suite::{attention, rows};
use glimmer_cpu::{CpuDevice, CpuOptions, Isa};
use glimmer_tensor::{Compute, Device};

/// Runs a check on every kind of device.
fn everywhere(check: impl Fn(crate::suite::Make<'_>, Compute)) {
    for isa in Isa::available() {
        for threads in [1, 2] {
            for compute in [Compute::F32, Compute::Auto] {
                check(&|| device(isa, threads, compute), compute);
            }
        }
    }
}

#[test]
fn embed() {
    everywhere(|make, _| rows::embed(make));
}

#[test]
fn norms() {
    everywhere(|make, _| rows::norms(make));
}

#[test]
fn linear() {
    everywhere(rows::linear);
    everywhere(|make, _| rows::residual_from_another(make));
}

#[test]
fn rope() {
    everywhere(|make, _| rows::rope(make));
}

#[test]
fn gather() {
    everywhere(|make, _| rows::gather(make));
}

#[test]
fn check_finite() {
    everywhere(|make, _| rows::check_finite(make));
}

#[test]
fn refusals() {
    everywhere(|make, _| rows::refusals(make));
}

#[test]
fn attention_is_the_reference_s_and_equal_on_any_number_of_threads() {
    let makes: Vec<_> = Isa::available()
        .into_iter()
        .map(|isa| {
            [1, 2, 5].map(|threads| {
                let compute = if threads == 1 { Compute::F32 } else { Compute::Auto };
                move || device(isa, threads, compute)
            })
        })
        .collect();
    let groups: Vec<Vec<crate::suite::Make<'_>>> =
        makes.iter().map(|group| group.iter().map(|make| make as _).collect()).collect();
    attention::prompts_and_generation(&groups);
}

#[test]
fn layers_of_different_heads() {
    everywhere(|make, _| attention::layers_of_different_heads(make, |_| 4e-6));
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
