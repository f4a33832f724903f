//! A row's bits depend on the row alone: properties of the CPU device under random batches, chunkings, pages and
//! threads.

use crate::device;
use crate::suite::attention::{KV_TYPES, Part, Story};
use crate::suite::rig::{NO_HEADS, Random, Rig, Weights, bits, norm};
use glimmer_cpu::Isa;
use glimmer_tensor::{Compute, DType, Epilogue, Heads, KvType, MatrixUse, NormKind, Role};
use proptest::prelude::*;
use proptest::sample::select;

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
            let most = [1, 2, 7, 40, 300][rng.below(5)];
            let rows = (1 + rng.below(most)).max(telling.prefix_len.saturating_sub(next[sequence])).min(left);
            step.push((sequence, next[sequence]..next[sequence] + rows));
            next[sequence] += rows;
        }
        if !step.is_empty() {
            // The order of sequences in a batch is the scheduler's business.
            let at = rng.below(step.len());
            step.rotate_left(at);
            steps.push(step);
        }
    }
    steps
}

/// What a row does not see leaves no trace in it, even when it is computed in the same step and not a number.
#[test]
fn later_rows_leave_no_trace() {
    for isa in Isa::available() {
        for kv_type in KV_TYPES {
            let heads = Heads::new(6, 2, 24);
            let mut story = Story::new(&mut Random(21), heads, kv_type, &[(300, 40), (70, 0)]);
            let clean = story.play(&|| device(isa, 1, Compute::F32));
            for from in [299, 270, 257, 256, 100, 40] {
                let (width, attended_width) = (heads.qkv_width(), heads.attended_width());
                story.values[from * width..300 * width].fill(f32::NAN);
                let found = story.play(&|| device(isa, 2, Compute::F32));
                assert!(
                    bits(&found[..from * attended_width]) == bits(&clean[..from * attended_width]),
                    "{isa} {from}"
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// Attention: whole sequences alone on one thread, against any chunking in any company on scattered pages that
    /// hold garbage, on any number of threads.
    #[test]
    fn attention(
        isa in select(Isa::available()),
        threads in 1usize..4,
        kv_heads in 1usize..3,
        group in 1usize..17,
        head_dim in select(vec![8usize, 16, 24, 33, 64]),
        kv_type in select(KV_TYPES.to_vec()),
        lens in prop::collection::vec((1usize..620, prop_oneof![Just(0usize), 0usize..620]), 1..4),
        seed in any::<u64>(),
    ) {
        let mut rng = Random(seed);
        let heads = Heads::new(kv_heads * group, kv_heads, head_dim);
        let lens: Vec<_> = lens.into_iter().map(|(len, prefix)| (len, prefix.min(len))).collect();
        let mut story = Story::new(&mut rng, heads, kv_type, &lens);
        let alone = story.play(&|| device(isa, 1, Compute::F32));
        story.steps = reshuffled(&mut rng, &story);
        // Other pages as well.
        let mut free = rng.shuffled(story.pages);
        for telling in &mut story.tellings {
            telling.pages = free.split_off(free.len() - telling.pages.len());
        }
        let together = story.play(&|| device(isa, threads, Compute::Auto));
        prop_assert!(bits(&alone) == bits(&together), "{:?}", story.steps);
    }

    /// Norms and products: a row by itself on one thread, against the same row in a batch on several.
    #[test]
    fn rows(
        isa in select(Isa::available()),
        threads in 1usize..4,
        compute in select(vec![Compute::F32, Compute::Auto]),
        dtype in select(DType::WEIGHTS.to_vec()),
        count in 2usize..70,
        blocks in 1usize..4,
        outputs in 1usize..70,
        residual in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let mut rng = Random(seed);
        let cols = blocks * dtype.block_len().max(96);
        let cols = cols.next_multiple_of(dtype.block_len());
        let weights = Weights::random(&mut rng, dtype, outputs, cols);
        let values = rng.normals(count * cols);
        let results = [1, threads].map(|threads| {
            let make = || device(isa, threads, compute);
            let pages = count.div_ceil(32);
            let (mut rig, (input, addend, w, norm)) =
                Rig::new(&make, count, pages, &[NO_HEADS], KvType::F32, 1, |device| {
                    let w = device.load_matrix(&[weights.view()], None, MatrixUse::Linear, &|_| ()).unwrap();
                    let addend = Rig::input(device, count, outputs, &Random(seed).normals(count * outputs));
                    let norm = norm(&mut Random(seed), device, NormKind::Layer, cols);
                    (Rig::input(device, count, cols, &values), addend, w, norm)
                });
            let (x, normed) = (rig.buffer(Role::Hidden, cols), rig.buffer(Role::Normed, cols));
            let out = rig.buffer(Role::Branch, outputs);
            let all: Vec<u32> = (0..count as u32).collect();
            let parts: Vec<&[u32]> = if threads == 1 { all.chunks(1).collect() } else { vec![&all] };
            let (mut norms, mut products) = (Vec::new(), Vec::new());
            for part in parts {
                rig.poison(input, normed);
                rig.poison(addend, out);
                let batch = rig.rows(part);
                rig.device.embed(batch, input, x);
                rig.device.norm(batch, x, &norm, normed);
                let epilogue = if residual {
                    rig.device.embed(batch, addend, out);
                    Epilogue::Residual { from: out, scale: 1.0 }
                } else {
                    Epilogue::None
                };
                rig.device.linear(batch, normed, w, epilogue, out);
                norms.extend(rig.read(normed, part.len()));
                products.extend(rig.read(out, part.len()));
            }
            (bits(&norms), bits(&products))
        });
        prop_assert!(results[0].0 == results[1].0, "norm");
        prop_assert!(results[0].1 == results[1].1, "product of {}", dtype);
    }
}
