//! What vision towers ask of a device beside what decoders do.

use crate::rig::{NO_HEADS, Random, Rig, Weights, bits, norm};
use crate::rows::{close, reference};
use crate::{Candidate, Make};
use glimmer_tensor::{DType, Epilogue, Heads, KvType, MatrixUse, NormKind, Role, gelu_erf};

/// GELU with the error function over its whole range, through a matrix that is the number one: within a millionth or 1e-7 of
/// the formula. Bits depend on the value alone.
pub fn gelu_with_the_error_function(candidate: &Candidate) {
    let one = 1f32.to_le_bytes();
    let view = glimmer_tensor::MatrixView::new(DType::F32, 1, 1, &one, None).unwrap();
    let mut values: Vec<f32> = (-4000..=4000).map(|i| i as f32 / 256.0).collect();
    values.extend([1e-30, -1e-30, 1e4, -1e4, 1e9, -1e9, f32::INFINITY, 0.0]);
    let rows = values.len();
    let (mut rig, (input, w)) =
        Rig::new(candidate.make(), rows, rows.div_ceil(32), &[NO_HEADS], KvType::F32, 1, |device| {
            let w = device.load_matrix(&[view], None, MatrixUse::Linear, &|_| ()).unwrap();
            (Rig::input(device, rows, 1, &values), w)
        });
    let (x, out) = (rig.buffer(Role::Hidden, 1), rig.buffer(Role::Branch, 1));
    let mut run = |tokens: &[u32]| {
        rig.poison(input, out);
        let batch = rig.rows(tokens);
        rig.device.embed(batch, input, x);
        rig.device.linear(batch, x, w, Epilogue::GeluErf, out);
        rig.read(out, tokens.len())
    };
    let tokens: Vec<u32> = (0..rows as u32).collect();
    let found = run(&tokens);
    for (&x, &found) in values.iter().zip(&found) {
        let exact = if x == f32::INFINITY { f64::INFINITY } else { gelu_erf(f64::from(x)) };
        let allowed = 1e-7f64.max(1e-6 * exact.abs());
        assert!(
            f64::from(found) == exact || (f64::from(found) - exact).abs() <= allowed,
            "{x}: {found}, {exact}"
        );
    }
    for part in [0..1, 7..9, 30..68, 4000..4300] {
        assert!(bits(&run(&tokens[part.clone()])) == bits(&found[part.clone()]), "rows {part:?}");
    }
    assert!(run(&[rows as u32])[0].is_nan(), "what is not a number stays so");
}

/// GELU with the error function after products of every type, against the reference.
pub fn gelu_after_products(candidate: &Candidate) {
    let mut rng = Random(51);
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for rows in [1, 2, 9, 33] {
            let (outputs, cols) = (70, 96);
            let weights = Weights::random(&mut rng, dtype, outputs, cols);
            let (bias, values) = (rng.normals(outputs), rng.normals(rows * cols));
            let [found, expected] = [candidate.make(), &reference].map(|make: Make<'_>| {
                let (mut rig, (input, poison, w)) =
                    Rig::new(make, rows, rows.div_ceil(32), &[NO_HEADS], KvType::F32, 1, |device| {
                        let used_for = MatrixUse::Linear;
                        let w =
                            device.load_matrix(&[weights.view()], Some(&bias), used_for, &|_| ()).unwrap();
                        let poison = Rig::input(device, rows, outputs, &vec![0.0; rows * outputs]);
                        (Rig::input(device, rows, cols, &values), poison, w)
                    });
                let (x, out) = (rig.buffer(Role::Hidden, cols), rig.buffer(Role::Branch, outputs));
                rig.poison(poison, out);
                let batch = rig.rows(&(0..rows as u32).collect::<Vec<_>>());
                rig.device.embed(batch, input, x);
                rig.device.linear(batch, x, w, Epilogue::GeluErf, out);
                rig.read(out, rows)
            });
            // 96 products of about 0.1 each add up to 10 or so.
            let tolerance = 1.2 * (10.0 * (candidate.tolerances.product)(dtype) + 1e-6);
            close(&format!("{dtype}, {rows} rows"), &found, &expected, |_| tolerance);
        }
    }
}

/// Norms of queries and keys, of every width that a tower has; values stay as they are. Tolerance: 2e-6 of the greatest
/// element. Bits are those of a norm of rows as wide, alone and in company.
pub fn norms_of_heads(candidate: &Candidate) {
    let layouts = [
        Heads::new(3, 3, 16),
        Heads::new(16, 16, 64),
        Heads::new(2, 1, 72),
        Heads { value_dim: 24, ..Heads::new(6, 2, 40) },
        Heads::new(4, 4, 112),
        Heads::new(8, 2, 128),
        Heads::new(5, 5, 7),
    ];
    for (seed, heads) in layouts.into_iter().enumerate() {
        for kind in [NormKind::Rms, NormKind::Layer] {
            for rows in [1, 2, 40] {
                let mut rng = Random(seed as u64);
                let width = heads.qkv_width();
                let values = rng.normals(rows * width);
                let norms_seed = rng.bits();
                let all: Vec<u32> = (0..rows as u32).collect();
                let run = |make: Make<'_>, tokens: &[u32]| {
                    let (mut rig, (input, [q, k])) =
                        Rig::new(make, rows, rows.div_ceil(32), &[heads], KvType::F32, 1, |device| {
                            let mut rng = Random(norms_seed);
                            let norms = [(); 2].map(|()| norm(&mut rng, device, kind, heads.head_dim));
                            (Rig::input(device, rows, width, &values), norms)
                        });
                    let qkv = rig.buffer(Role::Qkv, width);
                    rig.poison(input, qkv);
                    let batch = rig.rows(tokens);
                    rig.device.embed(batch, input, qkv);
                    rig.device.norm_heads(batch, qkv, heads, &q, &k);
                    rig.read(qkv, tokens.len())
                };
                let found = run(candidate.make(), &all);
                let expected = run(&reference, &all);
                let greatest = expected.iter().fold(0f32, |most, value| most.max(value.abs()));
                close(&format!("{heads:?} {kind:?}"), &found, &expected, |_| 2e-6 * greatest);
                let (last, from) = (rows as u32 - 1, (rows - 1) * width);
                assert!(bits(&run(candidate.make(), &[last])) == bits(&found[from..]), "{heads:?} alone");
                let values_from = heads.q_width() + heads.k_width();
                for (found, given) in found.chunks_exact(width).zip(values.chunks_exact(width)) {
                    assert_eq!(bits(&found[values_from..]), bits(&given[values_from..]), "values stay");
                }
            }
        }
    }
}
