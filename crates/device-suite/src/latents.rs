//! Latent attention: products by head, queries and keys put together, joint heads.

use crate::attention::{KV_TYPES, LENGTHS, close};
use crate::rig::{NO_HEADS, Random, Rig, Weights, bits, norm};
use crate::rows::{close as close_rows, reference};
use crate::story::Story;
use crate::{Candidate, Make};
use glimmer_tensor::{Compute, DType, Heads, KvType, LatentRows, MatrixUse, NormKind, Role};
use std::collections::HashMap;

/// Heads whose values are the beginnings of their keys: whole vectors and not, as many queries as go over a widened tile and
/// fewer, one key and two.
const JOINT: [Heads; 5] = [
    Heads { value_dim: 32, scale_dim: 32, joint: true, ..Heads::new(5, 1, 40) },
    Heads { value_dim: 48, scale_dim: 24, joint: true, ..Heads::new(20, 1, 64) },
    Heads { value_dim: 33, joint: true, ..Heads::new(6, 2, 41) },
    Heads { value_dim: 7, joint: true, ..Heads::new(3, 1, 9) },
    Heads { value_dim: 16, scale_dim: 64, joint: true, ..Heads::new(36, 2, 16) },
];

/// Prompts and generated rows of joint heads, against the formula and the reference, and with the bits of the family.
pub fn joint_heads(candidates: &[Candidate]) {
    let mut rng = Random(81);
    for heads in JOINT {
        for (j, kv_type) in KV_TYPES.into_iter().enumerate() {
            let some = LENGTHS.iter().skip(j).step_by(KV_TYPES.len());
            let lens: Vec<_> = some.map(|&len| (len, 0)).collect();
            let mut story = Story::new(&mut rng, heads, kv_type, &lens);
            let (formula, expected) = (story.by_formula(), story.play_reference());
            close("the reference", &heads, &expected, &formula, 1e-6);
            let mut families = HashMap::new();
            for shuffled in [false, true] {
                if shuffled {
                    story.reshuffle(&mut rng);
                }
                for candidate in candidates {
                    let found = story.play(candidate.make());
                    let what = format!("{}: {heads:?} {kv_type:?} {:?}", candidate.name, story.steps);
                    close(&what, &heads, &found, &expected, (candidate.tolerances.attention)(kv_type));
                    let first = families.entry(&candidate.family).or_insert_with(|| bits(&found));
                    assert!(*first == bits(&found), "{what}: other bits than the family's");
                }
            }
        }
    }
}

/// What a product by head makes of the rows `tokens` of an input with `beside` elements after those of the heads.
fn by_head(make: Make<'_>, weights: &Weights, heads: usize, x: &[f32], tokens: &[u32]) -> Vec<f32> {
    let view = weights.view();
    let (width, beside) = (heads * view.cols, 5);
    let rows = x.len() / (width + beside);
    let (mut rig, (w, input, room)) = Rig::new(make, rows, 3, &[NO_HEADS], KvType::F32, 1, |device| {
        let w = device.load_matrix(&[view], None, MatrixUse::PerHead(heads), &|_| ()).unwrap();
        let room = Rig::input(device, rows, view.rows, &vec![0.0; rows * view.rows]);
        (w, Rig::input(device, rows, width + beside, x), room)
    });
    let [x, through, out] =
        [(Role::Queries, width + beside), (Role::ByHead, width), (Role::Attended, view.rows)]
            .map(|(role, width)| rig.buffer(role, width));
    rig.poison(room, out);
    let batch = rig.rows(tokens);
    rig.device.embed(batch, input, x);
    rig.device.linear_heads(batch, x, w, through, out);
    rig.read(out, tokens.len())
}

/// Products by head against the reference, and a row's bits with those that it has alone.
pub fn products_by_head(candidate: &Candidate) {
    let mut rng = Random(82);
    for (dtype, cols) in [(DType::F32, 24), (DType::BF16, 40), (DType::Q8_0, 96), (DType::Q4_K, 256)] {
        for (heads, rows_of_head) in [(5, 20), (3, 64), (1, 33)] {
            let weights = Weights::random(&mut rng, dtype, heads * rows_of_head, cols);
            let x = rng.normals(40 * (heads * cols + 5));
            let all: Vec<u32> = (0..40).collect();
            let found = by_head(candidate.make(), &weights, heads, &x, &all);
            if !dtype.is_quantized() || candidate.compute == Compute::F32 {
                let expected = by_head(&reference, &weights, heads, &x, &all);
                let tolerance = 20.0 * (candidate.tolerances.product)(dtype);
                close_rows(&format!("{dtype} of {heads} heads"), &found, &expected, |_| tolerance);
            }
            for some in [&[0][..], &[39], &[5, 6, 7], &[22, 3, 11, 0, 9]] {
                let alone = by_head(candidate.make(), &weights, heads, &x, some);
                for (row, alone) in some.iter().zip(alone.chunks_exact(heads * rows_of_head)) {
                    let from = *row as usize * heads * rows_of_head;
                    assert_eq!(bits(alone), bits(&found[from..from + alone.len()]), "{dtype}, row {row}");
                }
            }
        }
    }
}

/// Queries and keys put together, against the reference: many rows, and one that is wide enough for several threads.
pub fn heads_joined(candidate: &Candidate) {
    let few = JOINT.into_iter().filter(|heads| heads.kv_heads == 1 && heads.head_dim > heads.value_dim);
    let wide = Heads { value_dim: 512, scale_dim: 256, joint: true, ..Heads::new(20, 1, 576) };
    for (heads, rows) in few.map(|heads| (heads, 70)).chain([(wide, 1), (wide, 3)]) {
        let [found, expected] =
            [candidate.make(), &reference as Make<'_>].map(|make| joined(make, heads, rows));
        close_rows(&format!("{rows} rows of {heads:?}"), &found, &expected, |_| 2e-5);
    }
}

/// Random rows, put together.
fn joined(make: Make<'_>, heads: Heads, rows: usize) -> Vec<f32> {
    let (mut rng, plain) = (Random(83), 12);
    let widths = [
        heads.heads * (plain + heads.head_dim - heads.value_dim),
        heads.attended_width(),
        heads.head_dim,
        heads.qkv_width(),
    ];
    let (mut rig, (norm, inputs)) = Rig::new(make, rows, 3, &[NO_HEADS], KvType::F32, 1, |device| {
        let norm = norm(&mut rng, device, NormKind::Rms, heads.value_dim);
        (norm, widths.map(|width| Rig::input(device, rows, width, &rng.normals(rows * width))))
    });
    let roles = [Role::Queries, Role::Attended, Role::Latent, Role::Qkv];
    let mut at = roles.iter().zip(widths).map(|(&role, width)| rig.buffer(role, width));
    let buffers = std::array::from_fn(|_| at.next().unwrap());
    drop(at);
    let [queries, absorbed, latent, qkv] = buffers;
    rig.poison(inputs[3], qkv);
    let all: Vec<u32> = (0..rows as u32).collect();
    let batch = rig.rows(&all);
    for (input, buffer) in inputs.into_iter().zip(buffers).take(3) {
        rig.device.embed(batch, input, buffer);
    }
    rig.device.join_heads(batch, LatentRows { queries, absorbed, latent }, &norm, heads, qkv);
    rig.read(qkv, rows)
}
