//! The CUDA device held to the reference device: on the emulated card, and on a real one where the feature `cuda` finds it.
#![cfg(any(feature = "emulate", feature = "cuda"))]
#![allow(clippy::print_stdout, reason = "what was skipped is shown")]

#[cfg(feature = "cuda")]
use std::sync::{LazyLock, Mutex};

#[cfg(feature = "cuda")]
use glimmer_cuda::DriverError;
use glimmer_cuda::{CudaDevice, CudaOptions};
use glimmer_device_suite::{Candidate, Tolerances};
use glimmer_tensor::{Capacity, Compute, DType, Device, DeviceError, Heads, KvType, Plan};

glimmer_device_suite::suite!(candidates);

/// A machine to be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Machine {
    #[cfg(feature = "emulate")]
    Emulated,
    #[cfg(feature = "cuda")]
    Card,
}

/// A card that stays open, and with it the driver's context: to make one takes longer than most tests.
#[cfg(feature = "cuda")]
static CARD: LazyLock<Result<Mutex<CudaDevice>, DriverError>> =
    LazyLock::new(|| CudaDevice::new(CudaOptions::default()).map(Mutex::new));

/// The machines that are there.
fn machines() -> Vec<Machine> {
    let machines = [
        #[cfg(feature = "emulate")]
        Machine::Emulated,
        #[cfg(feature = "cuda")]
        Machine::Card,
    ];
    machines.into_iter().filter(|&machine| is_there(machine)).collect()
}

/// Whether it is there.
fn is_there(machine: Machine) -> bool {
    match machine {
        #[cfg(feature = "emulate")]
        Machine::Emulated => true,
        #[cfg(feature = "cuda")]
        Machine::Card => {
            LazyLock::force(&CARD).as_ref().inspect_err(|error| println!("skipped: {error}")).is_ok()
        }
    }
}

fn device(machine: Machine, compute: Compute) -> Box<dyn Device> {
    let options = CudaOptions { compute, ..CudaOptions::default() };
    Box::new(match machine {
        #[cfg(feature = "emulate")]
        Machine::Emulated => CudaDevice::emulated(options),
        #[cfg(feature = "cuda")]
        Machine::Card => CudaDevice::new(options).expect("a card that is there"),
    })
}

/// Every machine in both numeric modes, which give different bits.
fn candidates() -> Vec<Candidate> {
    let candidate = |machine, compute| Candidate {
        name: format!("{machine:?}, {compute:?}"),
        make: Box::new(move || device(machine, compute)),
        compute,
        family: format!("{machine:?}, {compute:?}"),
        tolerances: if compute == Compute::F32 { Tolerances::F32 } else { AUTO },
    };
    let modes = [Compute::F32, Compute::Auto];
    machines().into_iter().flat_map(|machine| modes.map(|compute| candidate(machine, compute))).collect()
}

/// Products: bf16 weights meet activations rounded to 8 bits, f32 and f16 ones activations of 11 bits, and f32 weights are
/// rounded to 11 bits themselves. Attention: on tensor cores weights are rounded to 11 bits before they mix values below 6,
/// and keys of Q8_0 to 11 bits before they make scores below 10 or so.
const AUTO: Tolerances = Tolerances {
    product: |dtype| match dtype {
        DType::BF16 => 1.0 / 256.0,
        DType::F16 | DType::F32 => 1.0 / 1024.0,
        _ => 2e-6,
    },
    attention: |kv_type| match kv_type {
        KvType::F32 => 4e-6,
        KvType::F16 => 6.0 / 2048.0,
        KvType::Q8_0 => 6.0 * 11.0 / 2048.0,
    },
};

#[cfg(feature = "emulate")]
#[test]
fn the_emulation_works() {
    glimmer_cuda::try_emulation().expect("an emulation that works");
}

/// A card has only so much memory, and an emulated one no more.
#[cfg(feature = "emulate")]
#[test]
fn memory_that_cannot_be_had_is_an_error() {
    let mut device = device(Machine::Emulated, Compute::F32);
    let capacity = Capacity { rows: 4, logits_rows: 4, pages: 1 };
    let plan = Plan { capacity, vocab: 1, layers: vec![Heads::new(1, 1, 16)], kv_type: KvType::F16, axes: 1 };
    device.plan(&plan).expect("memory for a small plan");
    let error = device.buffer(0, glimmer_tensor::Role::Logits, 1 << 40).unwrap_err();
    assert!(matches!(error, DeviceError::OutOfMemory { .. }), "{error}");
}

#[test]
fn heads_wider_than_any_kernel_are_refused() {
    let capacity = Capacity { rows: 4, logits_rows: 4, pages: 1 };
    for heads in [Heads::new(1, 1, 257), Heads { value_dim: 300, ..Heads::new(1, 1, 16) }] {
        let layers = vec![Heads::new(1, 1, 16), heads];
        let plan = Plan { capacity, vocab: 1, layers, kv_type: KvType::F16, axes: 1 };
        for candidate in candidates() {
            let error = candidate.make()().plan(&plan).unwrap_err();
            assert!(matches!(error, DeviceError::Failed(_)), "{error}");
        }
    }
}

#[test]
fn a_device_says_what_it_is() {
    for machine in machines() {
        let text = device(machine, Compute::Auto).describe();
        assert!(text.contains("NVIDIA") || text.contains("GB"), "{text}");
    }
}
