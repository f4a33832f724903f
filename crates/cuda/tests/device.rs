//! The CUDA device held to the reference device, by the suite that the CPU device is held to: on the emulated card, and
//! on a real one where the feature `cuda` finds it.
#![cfg(any(feature = "emulate", feature = "cuda"))]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test; what was skipped is shown")]

#[allow(dead_code, reason = "the suite has tolerances for devices that round less")]
#[path = "../../cpu/tests/device/suite/mod.rs"]
mod suite;

use glimmer_cuda::{CudaDevice, CudaOptions};
use glimmer_tensor::{Compute, DType, Device, Epilogue, Heads, KvType, MatrixUse, NormKind, Role};
use suite::attention::{KV_TYPES, Part, Story};
use suite::rig::{NO_HEADS, Random, Rig, Weights, bits, norm};
use suite::{Make, attention, rows};

/// A machine to be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Machine {
    #[cfg(feature = "emulate")]
    Emulated,
    #[cfg(feature = "cuda")]
    Card,
}

/// The machines that are there.
fn machines() -> Vec<Machine> {
    let mut machines = Vec::new();
    #[cfg(feature = "emulate")]
    machines.push(Machine::Emulated);
    #[cfg(feature = "cuda")]
    match CudaDevice::new(CudaOptions::default()) {
        Ok(_) => machines.push(Machine::Card),
        Err(error) => println!("skipped: {error}"),
    }
    machines
}

fn device(machine: Machine, compute: Compute) -> Box<dyn Device> {
    let options = CudaOptions { compute, ..CudaOptions::default() };
    let device = match machine {
        #[cfg(feature = "emulate")]
        Machine::Emulated => CudaDevice::emulated(options),
        #[cfg(feature = "cuda")]
        Machine::Card => CudaDevice::new(options),
    };
    Box::new(device.expect("a machine that is there"))
}

/// Runs a check on every machine, in both numeric modes.
fn everywhere(check: impl Fn(Make<'_>, Compute)) {
    for machine in machines() {
        for compute in [Compute::F32, Compute::Auto] {
            check(&|| device(machine, compute), compute);
        }
    }
}

/// What a product may be off, relative to its size: in auto mode bf16 weights meet activations rounded to 8 bits, f32 and
/// f16 ones activations of 11 bits, and f32 weights are rounded to 11 bits themselves.
fn rounding(compute: Compute) -> impl Fn(DType) -> f32 {
    move |dtype| match (compute, dtype) {
        (Compute::Auto, DType::BF16) => 2f32.powi(-8),
        (Compute::Auto, DType::F16 | DType::F32) => 2f32.powi(-10),
        _ => 2e-6,
    }
}

#[cfg(feature = "emulate")]
#[test]
fn the_emulation_works() {
    glimmer_cuda::try_emulation().unwrap();
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
    everywhere(|make, compute| rows::linear_within(make, compute, rounding(compute)));
}

#[test]
fn residual_from_another() {
    everywhere(|make, compute| {
        // 64 products of about 0.1 each.
        let tolerance = if compute == Compute::F32 { 1e-5 } else { 64.0 * 0.1 * 2f32.powi(-10) };
        rows::residual_from_another_within(make, tolerance);
    });
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
fn attention_is_the_reference_s() {
    for machine in machines() {
        let f32: Make<'_> = &|| device(machine, Compute::F32);
        attention::prompts_and_generation(&[vec![f32]]);
    }
}

/// What attention may be off. On tensor cores weights are rounded to 11 bits before they mix values below 6, and keys of
/// Q8_0 to 11 bits before they make scores below 10 or so.
fn attention_rounding(compute: Compute) -> impl Fn(KvType) -> f32 {
    move |kv_type| match (compute, kv_type) {
        (Compute::F32, _) | (_, KvType::F32) => 4e-6,
        (_, KvType::F16) => 6.0 * 2f32.powi(-11),
        (_, KvType::Q8_0) => 6.0 * 11.0 * 2f32.powi(-11),
    }
}

#[test]
fn attention_in_auto_mode_is_near_the_reference_s() {
    for machine in machines() {
        let auto: Make<'_> = &|| device(machine, Compute::Auto);
        attention::prompts_and_generation_within(&[vec![auto]], attention_rounding(Compute::Auto));
    }
}

#[test]
fn layers_of_different_heads() {
    everywhere(|make, compute| attention::layers_of_different_heads(make, attention_rounding(compute)));
}

/// The same sequences in other steps: each cut at random places, the pieces of different sequences thrown together.
/// Rows before a sequence's `prefix_len` stay together, because they see each other.
fn reshuffled(rng: &mut Random, story: &Story) -> Vec<Vec<Part>> {
    let mut next: Vec<usize> = vec![0; story.tellings.len()];
    let mut steps = Vec::new();
    while next.iter().zip(&story.tellings).any(|(&at, telling)| at < telling.len) {
        let mut step = Vec::new();
        for (sequence, telling) in story.tellings.iter().enumerate() {
            let left = telling.len - next[sequence];
            if left == 0 || rng.below(3) == 0 {
                continue;
            }
            let most = [1, 7, 40, 300][rng.below(4)];
            let rows = (1 + rng.below(most)).max(telling.prefix_len.saturating_sub(next[sequence])).min(left);
            step.push((sequence, next[sequence]..next[sequence] + rows));
            next[sequence] += rows;
        }
        if !step.is_empty() {
            steps.push(step);
        }
    }
    steps
}

/// Whole sequences alone against any chunking in any company, on other pages that hold garbage.
#[test]
fn attention_of_a_row_does_not_depend_on_its_company() {
    for machine in machines() {
        let mut rng = Random(31);
        for (heads, compute) in [
            (Heads::new(4, 2, 64), Compute::Auto),
            (Heads::new(16, 1, 128), Compute::Auto),
            (Heads::new(5, 1, 33), Compute::F32),
        ] {
            for kv_type in KV_TYPES {
                let mut story = Story::new(&mut rng, heads, kv_type, &[(330, 40), (70, 0), (1, 0)]);
                let alone = story.play(&|| device(machine, compute));
                story.steps = reshuffled(&mut rng, &story);
                let mut free = rng.shuffled(story.pages);
                for telling in &mut story.tellings {
                    telling.pages = free.split_off(free.len() - telling.pages.len());
                }
                let together = story.play(&|| device(machine, compute));
                assert!(bits(&alone) == bits(&together), "{heads:?} {kv_type:?} {:?}", story.steps);
            }
        }
    }
}

/// What a row does not see leaves no trace in it, even when it is not a number.
#[test]
fn later_rows_leave_no_trace() {
    for machine in machines() {
        for (kv_type, compute) in
            [(KvType::F16, Compute::Auto), (KvType::Q8_0, Compute::Auto), (KvType::F32, Compute::F32)]
        {
            let heads = Heads::new(6, 2, 24);
            let mut story = Story::new(&mut Random(21), heads, kv_type, &[(300, 40), (70, 0)]);
            let clean = story.play(&|| device(machine, compute));
            for from in [299, 257, 256, 40] {
                let (width, attended_width) = (heads.qkv_width(), heads.attended_width());
                story.values[from * width..300 * width].fill(f32::NAN);
                let found = story.play(&|| device(machine, compute));
                assert!(
                    bits(&found[..from * attended_width]) == bits(&clean[..from * attended_width]),
                    "{kv_type:?} {from}"
                );
                assert!(
                    found[from * attended_width..300 * attended_width].iter().all(|v| v.is_nan()),
                    "NaN is not hidden"
                );
                assert!(
                    bits(&found[300 * attended_width..]) == bits(&clean[300 * attended_width..]),
                    "other sequence"
                );
            }
        }
    }
}

/// Norms and products: rows in a batch of any size against the same rows in others.
#[test]
fn a_row_s_bits_do_not_depend_on_its_company() {
    everywhere(|make, compute| {
        let mut rng = Random(41);
        for dtype in DType::WEIGHTS {
            let (count, outputs, cols) = (70, 40, 512);
            let weights = Weights::random(&mut rng, dtype, outputs, cols);
            let values = rng.normals(count * cols);
            let addend = rng.normals(count * outputs);
            let seed = rng.bits();
            let (mut rig, (input, addend, w, norm)) =
                Rig::new(make, count, count.div_ceil(32), &[NO_HEADS], KvType::F32, 1, |device| {
                    let w = device.load_matrix(&[weights.view()], None, MatrixUse::Linear, &|_| ()).unwrap();
                    let addend = Rig::input(device, count, outputs, &addend);
                    let norm = norm(&mut Random(seed), device, NormKind::Layer, cols);
                    (Rig::input(device, count, cols, &values), addend, w, norm)
                });
            let (x, normed) = (rig.buffer(Role::Hidden, cols), rig.buffer(Role::Normed, cols));
            let out = rig.buffer(Role::Branch, outputs);
            let mut compute_rows = |rows: &[u32]| {
                rig.poison(input, normed);
                rig.poison(addend, out);
                let batch = rig.rows(rows);
                rig.device.embed(batch, input, x);
                rig.device.embed(batch, addend, out);
                rig.device.norm(batch, x, &norm, normed);
                rig.device.linear(batch, normed, w, Epilogue::Residual { from: out, scale: 1.5 }, out);
                (bits(&rig.read(normed, rows.len())), bits(&rig.read(out, rows.len())))
            };
            let all: Vec<u32> = (0..count as u32).collect();
            let (norms, products) = compute_rows(&all);
            for part in [&all[..1], &all[7..9], &all[20..25], &all[30..38], &all[11..20], &all[3..68]] {
                let (part_norms, part_products) = compute_rows(part);
                let (from, to) = (part[0] as usize, part[0] as usize + part.len());
                assert!(
                    part_norms == norms[from * cols..to * cols],
                    "{dtype} {compute:?} norms {from}..{to}"
                );
                let expected = &products[from * outputs..to * outputs];
                assert!(part_products == expected, "{dtype} {compute:?} products {from}..{to}");
            }
        }
    });
}

/// A card has only so much memory, and an emulated one no more.
#[cfg(feature = "emulate")]
#[test]
fn memory_that_cannot_be_had_is_an_error() {
    let mut device = device(Machine::Emulated, Compute::F32);
    let capacity = glimmer_tensor::Capacity { rows: 4, logits_rows: 4, pages: 1 };
    let plan =
        glimmer_tensor::Plan { capacity, vocab: 1, layers: vec![NO_HEADS], kv_type: KvType::F16, axes: 1 };
    device.plan(&plan).unwrap();
    let error = device.buffer(0, Role::Logits, 1 << 40).unwrap_err();
    assert!(matches!(error, glimmer_tensor::DeviceError::OutOfMemory { .. }), "{error}");
}

#[test]
fn a_device_says_what_it_is() {
    for machine in machines() {
        let text = device(machine, Compute::Auto).describe();
        assert!(text.contains("NVIDIA") || text.contains("GB"), "{text}");
    }
}
