//! A row's bits depend on the row alone: properties of the CPU device under random batches, chunkings, pages and
//! threads.

use crate::device;
use glimmer_cpu::Isa;
use glimmer_device_suite::attention::KV_TYPES;
use glimmer_device_suite::rig::{NO_HEADS, Random, Rig, Weights, bits, norm};
use glimmer_device_suite::story::Story;
use glimmer_tensor::{Compute, DType, Epilogue, Heads, KvType, MatrixUse, NormKind, Role};
use proptest::prelude::*;
use proptest::sample::select;

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
        value_dim in prop_oneof![Just(None), select(vec![8usize, 16, 24, 33, 64]).prop_map(Some)],
        joint in any::<bool>(),
        kv_type in select(KV_TYPES.to_vec()),
        lens in prop::collection::vec((1usize..620, prop_oneof![Just(0usize), 0usize..620]), 1..4),
        seed in any::<u64>(),
    ) {
        let mut rng = Random(seed);
        let heads = Heads::new(kv_heads * group, kv_heads, head_dim);
        let value_dim = value_dim.unwrap_or(head_dim);
        let heads = match joint && value_dim <= head_dim {
            true => Heads { value_dim, joint, scale_dim: 48, ..heads },
            false => Heads { value_dim, ..heads },
        };
        let lens: Vec<_> = lens.into_iter().map(|(len, prefix)| (len, prefix.min(len))).collect();
        let mut story = Story::new(&mut rng, heads, kv_type, &lens);
        let alone = story.play(&|| device(isa, 1, Compute::F32));
        story.reshuffle(&mut rng);
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
