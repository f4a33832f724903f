//! Layers on several devices: devices that compute the same bits give them wherever the layers are split, and every device
//! holds what was planned.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use glimmer_models::export::{Quantization, written};
use glimmer_models::{ModelWeights, Quantize, Stage, WeightRole, needs};
use glimmer_tensor::{Capacity, Compute, Device, DeviceMemory, KvType, PAGE_SLOTS};
use support::{Piece, Runner, device, open, root};

/// Of each generation, the head apart and tied to the embedding, weights plain and packed.
const FIXTURES: [&str; 9] = [
    "chatglm-6b",
    "chatglm-6b-int4-qe",
    "chatglm2-6b-32k",
    "chatglm2-6b-int8",
    "chatglm3-6b",
    "glm4-9b-orig",
    "glm-edge-1.5b-chat",
    "glm-4-9b-chat-hf",
    "glm4-9b-0414",
];

/// Every way to cut so many layers for so many devices: the first layers of all but the first.
fn cuts(layers: usize, devices: usize) -> Vec<Vec<usize>> {
    let later = |begins: &Vec<usize>| begins.last().map_or(1, |last| last + 1)..layers;
    (1..devices).fold(vec![Vec::new()], |all, _| {
        all.iter()
            .flat_map(|begins| later(begins).map(|next| [begins.as_slice(), &[next]].concat()))
            .collect()
    })
}

/// The bits of what a model computes: every state and the logits of a prompt, then those of a batch that goes on.
fn bits(runner: &mut Runner) -> Vec<(Option<Stage>, Vec<u32>)> {
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
    let prefix_lm = runner.decoder.spec().rope.axes() == 2;
    let mut ids: Vec<u32> = (0..40).map(|i| 5 + i * 37 % 240).collect();
    if prefix_lm {
        ids.extend([281, 284]);
    }
    let mut found = Vec::new();
    let sequence = runner.sit();
    let piece = Piece { sequence, ids: &ids, positions: None };
    let logits = runner.step_observed(piece, &mut |stage, values| found.push((Some(stage), bits(values))));
    found.push((None, bits(&logits)));
    let other = runner.sit();
    let pieces = [
        Piece { sequence: other, ids: &ids, positions: None },
        Piece { sequence, ids: &[7], positions: None },
    ];
    found.push((None, bits(&runner.step(&pieces))));
    found
}

fn hold(make: fn() -> Box<dyn Device>, kv: KvType) {
    for name in FIXTURES {
        let dir = root().join("fixtures").join(name);
        let mut whole = Runner::new(&dir, make(), kv, 160, 1024);
        let (expected, layers) = (bits(&mut whole), whole.decoder.spec().layers.len());
        // All ways for three devices where there are few.
        for count in if layers == 3 { 2..=3 } else { 2..=2 } {
            for begins in cuts(layers, count) {
                let devices = (0..count).map(|_| make()).collect();
                let mut split = Runner::split(&dir, devices, &begins, kv, 160, 1024);
                assert!(bits(&mut split) == expected, "{name}, cut before {begins:?}");
            }
        }
    }
}

#[test]
fn a_split_changes_no_bit() {
    hold(|| device("reference"), KvType::F32);
    hold(|| device("cpu-f32-1"), KvType::F32);
    hold(|| device("cpu-auto-1"), KvType::F16);
}

/// A filled cache is there on every device.
#[test]
fn every_device_has_a_filled_cache() {
    let dir = root().join("fixtures/glm-edge-1.5b-chat");
    let devices = vec![device("cpu-f32-1"), device("cpu-f32-1")];
    let mut runner = Runner::split(&dir, devices, &[1], KvType::F32, 160, 1024);
    let spec = runner.decoder.spec().clone();
    let mut batch = glimmer_tensor::Batch::default();
    let positions: Vec<f32> = (0..40u8).map(f32::from).collect();
    batch.push(&[9; 40], 0..40, &positions, 0, vec![0, 1], []);
    runner.decoder.fill(&batch).unwrap();
    let mut next = glimmer_tensor::Batch::default();
    next.push(&[9], 40..41, &[40.0], 0, vec![0, 1], [0]);
    let mut logits = Vec::new();
    runner.decoder.forward(&next).unwrap();
    runner.decoder.logits(1, &mut logits).unwrap();
    assert_eq!(logits.len(), spec.vocab);
    assert!(logits.iter().all(|logit| logit.is_finite()));
}

/// What is planned for both sides of every cut, and what the devices hold then.
fn planned_and_held(
    name: &str,
    quantize: Option<Quantize>,
    make: &dyn Fn() -> [Box<dyn Device>; 2],
) -> Vec<[(DeviceMemory, DeviceMemory); 2]> {
    let (checkpoint, understood) = open(&root().join("fixtures").join(name), None);
    let layers = understood.spec.layers.len();
    let pages = 1024 / PAGE_SLOTS + 16;
    let capacity = Capacity { rows: 160, logits_rows: 160, pages };
    let weights = ModelWeights { quantize, ..ModelWeights::stored(&checkpoint, &understood) };
    let of = |range| needs(weights, range, capacity, KvType::F16).unwrap();
    let whole = of(0..layers).stored();
    if let Some(Quantize { to, .. }) = quantize {
        let in_a_file = written(Some(&checkpoint), &understood, to.types()).unwrap().bytes;
        assert_eq!(whole.weights as u64, in_a_file, "{name}: what `convert` writes");
    }
    (1..layers)
        .map(|cut| {
            let [before, after] = [of(0..cut), of(cut..layers)];
            let sum: DeviceMemory = [before.stored(), after.stored()].into_iter().sum();
            let is_tied = understood.stored(&checkpoint, WeightRole::Head).is_none();
            let embedding = before.matrices[0].parts[0].bytes().filter(|_| is_tied).unwrap_or(0);
            assert_eq!(sum.weights, whole.weights + embedding, "{name}: every weight once, but a tied head");
            assert_eq!(sum.kv, whole.kv, "{name}: every layer's cache once");
            let devices = make();
            let planned = [devices[0].needed(&before).unwrap(), devices[1].needed(&after).unwrap()];
            let runner = Runner::load(weights, devices.into(), &[cut], KvType::F16, 160, 1024);
            let held = runner.decoder.devices();
            assert_eq!(held.iter().map(|of| of.layers.clone()).collect::<Vec<_>>(), [0..cut, cut..layers]);
            let all: DeviceMemory = held.iter().map(|of| of.memory).sum();
            assert_eq!(all, runner.decoder.memory());
            [(planned[0], held[0].memory), (planned[1], held[1].memory)]
        })
        .collect()
}

/// As stored, and quantized while they are loaded.
fn quantizations() -> impl Iterator<Item = Option<Quantize>> {
    let loaded = Quantization::NAMES.map(|(to, _)| Quantize { to, threads: 2 });
    [None].into_iter().chain(loaded.map(Some))
}

/// The processor's cache and buffers are what is planned; its weights are padded to whole tiles, which shows in small ones.
#[test]
fn the_processor_holds_about_what_is_planned() {
    let cpu = || support::cpu(Compute::Auto, 1);
    for (name, quantize) in FIXTURES.iter().flat_map(|name| quantizations().map(move |to| (name, to))) {
        for (planned, held) in planned_and_held(name, quantize, &|| [cpu(), cpu()]).into_iter().flatten() {
            assert_eq!(planned.kv, held.kv, "{name}");
            assert!(
                (planned.weights..2 * planned.weights).contains(&held.weights),
                "{name}: {planned:?} {held:?}"
            );
            assert_eq!(planned.buffers, held.buffers, "{name}");
        }
    }
}

/// A card holds to the byte what is planned, in both numeric modes and beside any processor.
#[cfg(any(feature = "emulate", feature = "cuda"))]
#[test]
fn a_card_holds_what_is_planned() {
    for name in FIXTURES {
        for (compute, quantize) in [Compute::F32, Compute::Auto]
            .into_iter()
            .flat_map(|mode| quantizations().map(move |to| (mode, to)))
        {
            let make = || [support::cpu(compute, 1), support::cuda(compute)];
            for [_, (planned, held)] in planned_and_held(name, quantize, &make) {
                assert_eq!(planned, held, "{name}, {compute:?}, {quantize:?}");
            }
        }
    }
}

/// Two cards work as two processors do.
#[cfg(any(feature = "emulate", feature = "cuda"))]
#[test]
fn two_cards_give_the_bits_of_one() {
    let name = "glm-edge-1.5b-chat";
    let dir = root().join("fixtures").join(name);
    for compute in [Compute::F32, Compute::Auto] {
        let mut whole = Runner::new(&dir, support::cuda(compute), KvType::F16, 160, 1024);
        let cards = vec![support::cuda(compute), support::cuda(compute)];
        let mut split = Runner::split(&dir, cards, &[1], KvType::F16, 160, 1024);
        assert!(bits(&mut split) == bits(&mut whole), "{compute:?}");
    }
}
