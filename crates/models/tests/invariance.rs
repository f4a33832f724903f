//! The same answer whatever the company: the logits of every row of a sequence are the same bits alone, in any batch,
//! with any chunking of the prompt, on reused pages of an equal prefix, and on one thread or two, in both numeric
//! modes, on the CPU and on a card. ChatGLM-6B's context is one indivisible chunk; what follows it is held to the same.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed; figures are shown"
)]

mod support;

use std::path::PathBuf;

use glimmer_tensor::{Compute, Device, KvType, PAGE_SLOTS};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use support::{Piece, Runner, cpu, root};

/// How sequences are fed: for each step, which sequences take how many of their next ids.
#[derive(Clone, Debug)]
struct Schedule {
    prompts: Vec<Vec<u32>>,
    chunks: Vec<Vec<usize>>,
    shared_pages: usize,
}

/// Ids of one sequence. ChatGLM-6B's contain `[gMASK] <sop>` after a context.
fn prompt(vocab: u32, longest: usize, prefix_lm: bool) -> BoxedStrategy<Vec<u32>> {
    let ids = |most| prop::collection::vec(4..vocab - 24, 1..most);
    if !prefix_lm {
        return ids(longest).boxed();
    }
    (ids(longest / 2), ids(longest / 2))
        .prop_map(|(context, answer)| [context, vec![281, 284], answer].concat())
        .boxed()
}

fn schedule(vocab: u32, longest: usize, prefix_lm: bool) -> impl Strategy<Value = Schedule> {
    let chunk = prop_oneof![Just(1usize), 1usize..8, Just(PAGE_SLOTS), 1usize..200];
    (
        prop::collection::vec(prompt(vocab, longest, prefix_lm), 1..5),
        prop::collection::vec(prop::collection::vec(chunk, 5), 1..12),
        0usize..4,
    )
        .prop_map(|(prompts, chunks, shared_pages)| Schedule { prompts, chunks, shared_pages })
}

/// Feeds every prompt as scheduled and returns each sequence's logits, row after row.
fn scheduled(runner: &mut Runner, schedule: &Schedule, prefix_lm: bool) -> Vec<Vec<f32>> {
    let vocab = runner.vocab();
    let seats: Vec<usize> = schedule.prompts.iter().map(|_| runner.sit()).collect();
    let mut fed = vec![0; seats.len()];
    let mut found = vec![Vec::new(); seats.len()];
    let everything = vec![usize::MAX; 5];
    let steps = schedule.chunks.iter().chain(std::iter::repeat(&everything));
    for step in steps {
        let mut pieces = Vec::new();
        for (s, prompt) in schedule.prompts.iter().enumerate() {
            let mut take = step[s % step.len()].min(prompt.len() - fed[s]);
            if prefix_lm && fed[s] == 0 {
                // Everything before <sop> at once.
                take = take.max(prompt.iter().position(|&t| t == 284).unwrap());
            }
            if take > 0 {
                pieces.push((s, fed[s]..fed[s] + take));
                fed[s] += take;
            }
        }
        if pieces.is_empty() {
            if fed.iter().zip(&schedule.prompts).all(|(f, p)| *f == p.len()) {
                break;
            }
            continue;
        }
        let batch: Vec<Piece<'_>> = pieces
            .iter()
            .map(|(s, range)| Piece {
                sequence: seats[*s],
                ids: &schedule.prompts[*s][range.clone()],
                positions: None,
            })
            .collect();
        if prefix_lm {
            pin_layouts(runner, schedule, &seats);
        }
        let logits = runner.step(&batch);
        let mut at = 0;
        for (s, range) in pieces {
            let end = at + range.len() * vocab;
            found[s].extend_from_slice(&logits[at..end]);
            at = end;
        }
    }
    seats.into_iter().for_each(|s| runner.leave(s));
    found
}

/// ChatGLM-6B's positions depend on the whole prompt, of which the first chunk may lack `<sop>`.
fn pin_layouts(runner: &mut Runner, schedule: &Schedule, seats: &[usize]) {
    let positions = runner.decoder.spec().positions;
    for (seat, prompt) in seats.iter().zip(&schedule.prompts) {
        runner.seats[*seat].layout =
            Some(glimmer_models::PositionLayout::of_prompt(positions, prompt).unwrap());
    }
}

/// The first prompt again on another sequence that borrows the pages of its beginning.
fn on_borrowed_pages(runner: &mut Runner, prompt: &[u32], pages: usize) -> (usize, Vec<f32>) {
    let owner = runner.sit();
    runner.step(&[Piece { sequence: owner, ids: prompt, positions: None }]);
    let shared = pages.min((prompt.len() - 1) / PAGE_SLOTS);
    let borrower = runner.sit();
    let lent = runner.seats[owner].pages[..shared].to_vec();
    runner.seats[borrower].pages = lent;
    runner.seats[borrower].len = shared * PAGE_SLOTS;
    runner.seats[borrower].layout = runner.seats[owner].layout.clone();
    let logits =
        runner.step(&[Piece { sequence: borrower, ids: &prompt[shared * PAGE_SLOTS..], positions: None }]);
    runner.seats[borrower].pages.drain(..shared);
    runner.leave(borrower);
    runner.leave(owner);
    (shared * PAGE_SLOTS, logits)
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// Devices that must compute the same bits: the first computes sequences alone.
type Machines = fn(Compute) -> Vec<Box<dyn Device>>;

/// One thread, one thread again, two threads.
fn cpus(compute: Compute) -> Vec<Box<dyn Device>> {
    [1, 1, 2].map(|threads| cpu(compute, threads)).into()
}

fn hold(machines: Machines, model: PathBuf, compute: Compute, kv: KvType, longest: usize, cases: u32) {
    let rows = 4 * longest + 64;
    let mut runners: Vec<Runner> =
        machines(compute).into_iter().map(|device| Runner::new(&model, device, kv, rows, 8 * rows)).collect();
    let prefix_lm = runners[0].decoder.spec().rope.axes() == 2;
    let vocab = runners[0].vocab() as u32;
    let state = std::cell::RefCell::new(&mut runners);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    TestRunner::new_with_rng(config, proptest::test_runner::TestRng::deterministic_rng(Default::default()))
        .run(&schedule(vocab, longest, prefix_lm), |schedule| {
            let mut state = state.borrow_mut();
            let (alone, others) = state.split_first_mut().unwrap();
            let expected: Vec<Vec<f32>> = schedule.prompts.iter().map(|p| alone.whole(p)).collect();
            for runner in others {
                let device = runner.decoder.describe_device();
                let found = scheduled(runner, &schedule, prefix_lm);
                for (s, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    prop_assert!(same_bits(found, expected), "sequence {s} on {device}");
                }
                if !prefix_lm {
                    let (skipped, found) =
                        on_borrowed_pages(runner, &schedule.prompts[0], schedule.shared_pages);
                    let rest = &expected[0][skipped * vocab as usize..];
                    prop_assert!(same_bits(&found, rest), "borrowed pages on {device}");
                }
            }
            Ok(())
        })
        .unwrap();
}

fn fixture(name: &str) -> PathBuf {
    root().join("fixtures").join(name)
}

fn gguf(name: &str) -> PathBuf {
    root().join(format!("crates/models/tests/data/llamacpp/{name}.gguf"))
}

/// One published form of each generation, plain and packed.
const GENERATIONS: [&str; 8] = [
    "chatglm-6b",
    "chatglm-6b-int8",
    "chatglm-6b-int4",
    "chatglm2-6b-32k",
    "chatglm3-6b",
    "glm4-9b-orig",
    "glm-edge-1.5b-chat",
    "glm4-9b-0414",
];

const WEIGHT_TYPES: [&str; 17] = [
    "F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K",
    "IQ4_NL", "IQ4_XS", "mix-edge", "mix-0414",
];

/// In both modes.
#[test]
fn every_generation() {
    for name in GENERATIONS {
        hold(cpus, fixture(name), Compute::F32, KvType::F32, 90, 12);
        hold(cpus, fixture(name), Compute::Auto, KvType::F16, 90, 12);
    }
}

/// With the two packed caches.
#[test]
fn every_weight_type() {
    for name in WEIGHT_TYPES {
        hold(cpus, gguf(name), Compute::F32, KvType::F32, 70, 6);
        hold(cpus, gguf(name), Compute::Auto, KvType::F16, 70, 6);
        hold(cpus, gguf(name), Compute::Auto, KvType::Q8_0, 70, 6);
    }
}

/// Layers with experts, and latent attention with each precision of its cache.
#[test]
fn experts_and_latents() {
    for name in ["glm-4.5", "glm-4.7-flash"] {
        let dir = root().join("../shared/fixtures").join(name);
        if !dir.exists() {
            println!("SKIPPED: {name} is not there");
            continue;
        }
        hold(cpus, dir.clone(), Compute::F32, KvType::F32, 90, 8);
        hold(cpus, dir.clone(), Compute::Auto, KvType::F16, 300, 3);
        hold(cpus, dir, Compute::Auto, KvType::Q8_0, 90, 8);
    }
}

/// Prompts that cross several attention chunks.
#[test]
fn long_prompts() {
    hold(cpus, fixture("glm-edge-1.5b-chat"), Compute::F32, KvType::F32, 700, 6);
    hold(cpus, gguf("mix-0414"), Compute::Auto, KvType::F16, 700, 6);
    hold(cpus, gguf("mix-edge"), Compute::Auto, KvType::Q8_0, 700, 6);
}

/// The same on a card. An emulated one is slow: what it is held to is little, and the rest is for a real one.
#[cfg(any(feature = "emulate", feature = "cuda"))]
mod cuda {
    use super::*;

    const REAL: bool = cfg!(feature = "cuda");
    const CASES: u32 = if REAL { 6 } else { 1 };

    fn cards(compute: Compute) -> Vec<Box<dyn Device>> {
        [(); 2].map(|()| support::cuda(compute)).into()
    }

    #[test]
    fn every_generation() {
        for name in GENERATIONS {
            hold(cards, fixture(name), Compute::Auto, KvType::F16, if REAL { 90 } else { 12 }, CASES);
            if REAL {
                hold(cards, fixture(name), Compute::F32, KvType::F32, 90, CASES);
            }
        }
    }

    #[test]
    fn every_weight_type() {
        for name in WEIGHT_TYPES {
            hold(cards, gguf(name), Compute::Auto, KvType::F16, if REAL { 70 } else { 12 }, CASES);
            hold(cards, gguf(name), Compute::Auto, KvType::Q8_0, if REAL { 70 } else { 12 }, CASES);
        }
    }

    #[test]
    fn long_prompts() {
        let longest = if REAL { 700 } else { 280 };
        hold(cards, gguf("mix-0414"), Compute::Auto, KvType::F16, longest, CASES);
        hold(cards, gguf("mix-edge"), Compute::Auto, KvType::Q8_0, longest, CASES);
    }
}
