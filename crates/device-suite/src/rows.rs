//! The operations on single rows: embed, norm, linear, rope, gather, and the finite check.

use crate::rig::{NO_HEADS, Random, Rig, Weights, bits, norm};
use crate::{Candidate, Make};
use glimmer_tensor::{
    Batch, BufferId, Candidates, Capacity, Compute, DType, Device, DeviceBatch, DeviceError, Epilogue, Heads,
    KvType, MatrixId, MatrixUse, NormKind, Place, Plan, ReferenceDevice, Role, Rope, RopePairs, RopeSection,
    first_largest,
};

pub(crate) fn reference() -> Box<dyn Device> {
    Box::new(ReferenceDevice::new())
}

/// Asserts `|found - expected| <= tolerance(i)`.
pub(crate) fn close(what: &str, found: &[f32], expected: &[f32], tolerance: impl Fn(usize) -> f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (&f, &e)) in found.iter().zip(expected).enumerate() {
        assert!((f - e).abs() <= tolerance(i), "{what}: element {i} is {f}, not {e} (+-{})", tolerance(i));
    }
}

/// Looks up every row of tables of every type: equal to the reference to the bit.
pub fn embed(candidate: &Candidate) {
    let make = candidate.make();
    let mut rng = Random(1);
    for dtype in DType::WEIGHTS {
        for used_for in [MatrixUse::Rows, MatrixUse::Linear] {
            let parts = [7, 1, 25].map(|rows| Weights::random(&mut rng, dtype, rows, 512));
            let tokens: Vec<u32> = (0..33).rev().collect();
            let found = [make, &reference].map(|make: Make<'_>| {
                let (mut rig, (input, table)) =
                    Rig::new(make, 33, 2, &[NO_HEADS], KvType::F32, 1, |device| {
                        let views: Vec<_> = parts.iter().map(Weights::view).collect();
                        let input = Rig::input(device, 33, 512, &vec![0.0; 33 * 512]);
                        (input, device.load_matrix(&views, None, used_for, &|_| ()).unwrap())
                    });
                let out = rig.buffer(Role::Hidden, 512);
                rig.poison(input, out);
                let batch = rig.rows(&tokens);
                rig.device.embed(batch, table, out);
                rig.read(out, 33)
            });
            assert_eq!(bits(&found[0]), bits(&found[1]), "{dtype} {used_for:?}");
        }
    }
}

/// Runs `op` on rows of random values; returns the output of the device and of the reference.
fn both<T>(
    make: Make<'_>,
    [rows, width, out_width]: [usize; 3],
    values: &[f32],
    load: impl Fn(&mut dyn Device) -> T,
    op: impl Fn(&mut dyn Device, DeviceBatch, &T, BufferId, BufferId),
) -> [Vec<f32>; 2] {
    [make, &reference].map(|make: Make<'_>| {
        let pages = rows.div_ceil(32);
        let (mut rig, (input, poison, loaded)) =
            Rig::new(make, rows, pages, &[NO_HEADS], KvType::F32, 1, |device| {
                let loaded = load(device);
                let poison = Rig::input(device, rows, out_width, &vec![0.0; rows * out_width]);
                (Rig::input(device, rows, width, values), poison, loaded)
            });
        let (x, out) = (rig.buffer(Role::Hidden, width), rig.buffer(Role::Branch, out_width));
        let all: Vec<u32> = (0..rows as u32).collect();
        let batch = rig.rows(&all);
        rig.device.embed(batch, input, x);
        rig.poison(poison, out);
        let batch = rig.rows(&all);
        op(rig.device.as_mut(), batch, &loaded, x, out);
        rig.read(out, rows)
    })
}

/// Both norms, stored and added, on widths around the vectors'. Tolerance: 2e-6 of the greatest element.
pub fn norms(candidate: &Candidate) {
    let make = candidate.make();
    for width in [1, 3, 15, 16, 17, 48, 127, 512, 4096] {
        for rows in [1, 2, 5, 33] {
            for kind in [NormKind::Rms, NormKind::Layer] {
                for add in [false, true] {
                    let mut rng = Random(width as u64);
                    let values: Vec<f32> = rng.normals(rows * width).iter().map(|v| v * 3.0 + 0.5).collect();
                    let seed = rng.bits();
                    let [found, expected] = both(
                        make,
                        [rows, width, width],
                        &values,
                        |device| (norm(&mut Random(seed), device, kind, width), rows_of(device, rows, width)),
                        |device, batch, (norm, addend), x, out| {
                            if add {
                                device.embed(batch, *addend, out);
                                device.norm_add(batch, x, norm, out);
                            } else {
                                device.norm(batch, x, norm, out);
                            }
                        },
                    );
                    let size = expected.iter().fold(1f32, |m, v| m.max(v.abs()));
                    close(&format!("{kind:?} of {rows}x{width}"), &found, &expected, |_| size * 2e-6);
                }
            }
        }
    }
}

/// A table of random rows, the same for every device.
fn rows_of(device: &mut dyn Device, rows: usize, width: usize) -> MatrixId {
    Rig::input(device, rows, width, &Random(rows as u64).normals(rows * width))
}

/// Products with every weight type and every epilogue, within the candidate's tolerance of the sum of the terms' sizes; in
/// auto mode quantized types add half a step of 8-bit activations, the step being at most twice `max |x| / 127`.
pub fn linear(candidate: &Candidate) {
    let (make, compute, rounding) = (candidate.make(), candidate.compute, candidate.tolerances.product);
    let mut rng = Random(3);
    let (cols, rows) = (256, 24);
    for dtype in DType::WEIGHTS {
        let w = Weights::random(&mut rng, dtype, 2 * rows, cols);
        let bias = rng.normals(2 * rows);
        let mut decoded = vec![0f32; 2 * rows * cols];
        glimmer_tensor::quant::decode_matrix_rows(&w.view(), 0..2 * rows, &mut decoded).unwrap();
        let plain = matches!(dtype, DType::F32 | DType::F16 | DType::BF16);
        for batch_rows in [1, 2, 9, 17] {
            let values = rng.normals(batch_rows * cols);
            let greatest = values.iter().fold(0f32, |m, v| m.max(v.abs()));
            let error: Vec<f32> = (0..batch_rows * 2 * rows)
                .map(|i| {
                    let x = &values[i / (2 * rows) * cols..][..cols];
                    let w = &decoded[i % (2 * rows) * cols..][..cols];
                    let size: f32 = x.iter().zip(w).map(|(x, w)| (x * w).abs()).sum();
                    let step = if plain || compute == Compute::F32 { 0.0 } else { greatest / 127.0 };
                    rounding(dtype) * (size + 4.0) + step * w.iter().map(|w| w.abs()).sum::<f32>()
                })
                .collect();
            for (name, epilogue) in [
                ("plain", Some(Epilogue::None)),
                ("gelu", Some(Epilogue::Gelu)),
                ("swiglu", Some(Epilogue::SwiGlu)),
                ("residual", None),
            ] {
                let gated = epilogue == Some(Epilogue::SwiGlu);
                let out_width = if gated { rows } else { 2 * rows };
                let [found, expected] = both(
                    make,
                    [batch_rows, cols, out_width],
                    &values,
                    |device| {
                        let used_for = if gated { MatrixUse::Gated } else { MatrixUse::Linear };
                        let half = [w.view().slice_rows(0..rows), w.view().slice_rows(rows..2 * rows)];
                        let w = device.load_matrix(&half, Some(&bias), used_for, &|_| ()).unwrap();
                        (w, rows_of(device, batch_rows, out_width))
                    },
                    |device, batch, &(w, addend), x, out| {
                        let epilogue = epilogue.unwrap_or_else(|| {
                            device.embed(batch, addend, out);
                            Epilogue::Residual { from: out, scale: 1.5 }
                        });
                        device.linear(batch, x, w, epilogue, out);
                    },
                );
                let what = format!("{dtype}, {batch_rows} rows, {name}, {compute:?}");
                close(&what, &found, &expected, |i| {
                    if !gated {
                        // The slope of the tanh form of GELU stays below 1.13.
                        return 1.2 * error[i] + 1e-6;
                    }
                    let (row, o) = (i / rows, i % rows);
                    let (gate, value) = (error[row * 2 * rows + o], error[row * 2 * rows + rows + o]);
                    // silu's slope stays below 1.1, and both factors below what the rows add up to.
                    let size = |o: usize| -> f32 {
                        let w = &decoded[o * cols..][..cols];
                        let x = &values[row * cols..][..cols];
                        x.iter().zip(w).map(|(x, w)| x * w).sum::<f32>().abs() + bias[o].abs()
                    };
                    1.1 * gate * (size(rows + o) + value) + value * (size(o) + gate) + 1e-5
                });
            }
        }
    }
}

/// A residual whose other addend is a third buffer.
pub fn residual_from_another(candidate: &Candidate) {
    let make = candidate.make();
    // 64 products of about 0.1 each add up to 5 or so.
    let tolerance = 5.0 * (candidate.tolerances.product)(DType::F32);
    let mut rng = Random(4);
    let w = Weights::random(&mut rng, DType::F32, 48, 64);
    let values = rng.normals(5 * 64);
    let [found, expected] = [make, &reference].map(|make: Make<'_>| {
        let (mut rig, (x_rows, from_rows, w)) = Rig::new(make, 5, 1, &[NO_HEADS], KvType::F32, 1, |device| {
            let w = device.load_matrix(&[w.view()], None, MatrixUse::Linear, &|_| ()).unwrap();
            (Rig::input(device, 5, 64, &values), rows_of(device, 5, 48), w)
        });
        let x = rig.buffer(Role::Normed, 64);
        let (from, out) = (rig.buffer(Role::Hidden, 48), rig.buffer(Role::Branch, 48));
        rig.poison(from_rows, out);
        let batch = rig.rows(&[0, 1, 2, 3, 4]);
        rig.device.embed(batch, x_rows, x);
        rig.device.embed(batch, from_rows, from);
        rig.device.linear(batch, x, w, Epilogue::Residual { from, scale: 0.5 }, out);
        rig.read(out, 5)
    });
    close("residual from another buffer", &found, &expected, |_| tolerance);
}

/// All pairings, two axes, elements that pass through. Tolerance: three roundings of f32.
pub fn rope(candidate: &Candidate) {
    let make = candidate.make();
    let heads = Heads { value_dim: 24, ..Heads::new(6, 2, 20) };
    let width = heads.qkv_width();
    let section = |axis, first_dim, n: usize| RopeSection {
        axis,
        first_dim,
        inv_freq: (0..n).map(|i| 0.3f32.powi(i as i32)).collect(),
    };
    let tables = [
        (vec![section(0, 0, 10)], 1.0),
        (vec![section(0, 0, 4), section(1, 8, 5)], 1.0),
        (vec![section(1, 3, 3)], 1.25),
    ];
    // Of these sections each has the first elements of its pairs, the second ones follow all of them.
    let across =
        [(vec![section(0, 0, 5), section(1, 5, 5)], 1.0), (vec![section(1, 1, 4), section(0, 5, 2)], 1.25)];
    let contiguous = [RopePairs::Interleaved, RopePairs::Halves].map(|pairs| (pairs, tables.as_slice()));
    for (pairs, tables) in contiguous.into_iter().chain([(RopePairs::Across, across.as_slice())]) {
        for (sections, magnitude) in tables {
            for rows in [1, 7, 40] {
                let mut rng = Random(5);
                let values = rng.normals(rows * width);
                let positions: Vec<f32> = (0..rows * 2).map(|_| rng.below(100_000) as f32).collect();
                let [found, expected] = [make, &reference].map(|make: Make<'_>| {
                    let rope = Rope { pairs, sections: sections.clone(), magnitude: *magnitude };
                    let (mut rig, (input, ropes)) =
                        Rig::new(make, rows, rows.div_ceil(32), &[heads], KvType::F32, 2, |device| {
                            // The second of two tables is used.
                            let other = Rope { magnitude: 3.0, ..rope.clone() };
                            let ropes = [device.load_rope(&other), device.load_rope(&rope)];
                            (Rig::input(device, rows, width, &values), ropes)
                        });
                    let qkv = rig.buffer(Role::Qkv, width);
                    rig.poison(input, qkv);
                    let batch = rig.rows_at(&(0..rows as u32).collect::<Vec<_>>(), &positions);
                    rig.device.embed(batch, input, qkv);
                    rig.device.rope(batch, qkv, heads, ropes[1]);
                    rig.read(qkv, rows)
                });
                close(&format!("rope {pairs:?}"), &found, &expected, |_| 2e-6);
            }
        }
    }
}

/// Picks the rows that want logits, out of a batch of several sequences.
pub fn gather(candidate: &Candidate) {
    let make = candidate.make();
    let mut rng = Random(6);
    let values = rng.normals(9 * 40);
    let found = [make, &reference].map(|make: Make<'_>| {
        let (mut rig, input) =
            Rig::new(make, 9, 3, &[NO_HEADS], KvType::F32, 1, |device| Rig::input(device, 9, 40, &values));
        let (x, out) = (rig.buffer(Role::Hidden, 40), rig.buffer(Role::Last, 40));
        rig.poison(input, out);
        let mut batch = Batch::default();
        batch.push(&[0, 1, 2, 3], 0..4, &[0.0; 4], 0, vec![2], [1, 3]);
        batch.push(&[4], 0..1, &[0.0; 1], 0, vec![0], []);
        batch.push(&[5, 6, 7, 8], 0..4, &[0.0; 4], 0, vec![1], [0, 3]);
        let batch = rig.upload(&batch);
        rig.device.embed(batch, input, x);
        rig.device.gather(batch, x, out);
        rig.read(out, 4)
    });
    assert_eq!(bits(&found[0]), bits(&found[1]));
}

/// The first of the largest values of each row that the batch has, whatever stands beside it.
pub fn read_largest(candidate: &Candidate) {
    let make = candidate.make();
    let mut rng = Random(9);
    for width in [1, 31, 300, 5000] {
        let mut values = rng.normals(9 * width);
        let mut rows: Vec<&mut [f32]> = values.chunks_exact_mut(width).collect();
        rows[1].fill(f32::NEG_INFINITY);
        rows[2].fill(-3.5);
        let last = width - 1;
        [0, width / 2, last].into_iter().for_each(|at| rows[3][at] = 100.0);
        rows[4][last] = f32::MAX;
        rows[5].fill(-1.0);
        rows[5][width / 3..].fill(0.0);
        rows[5][width / 3] = -0.0;
        rows[6].iter_mut().for_each(|v| *v -= 1000.0);
        rows[7][width / 4] = f32::INFINITY;
        let (mut rig, input) =
            Rig::new(make, 9, 1, &[NO_HEADS], KvType::F32, 1, |device| Rig::input(device, 9, width, &values));
        let (x, logits) = (rig.buffer(Role::Hidden, width), rig.buffer(Role::Logits, width));
        rig.poison(input, logits);
        let mut batch = Batch::default();
        batch.push(&[0, 1, 2, 3, 4, 5, 6, 7, 8], 0..9, &[0.0; 9], 0, vec![0], 0..8);
        let batch = rig.upload(&batch);
        rig.device.embed(batch, input, x);
        rig.device.gather(batch, x, logits);
        let mut found = vec![77];
        rig.device.read_largest(batch, logits, 8, &mut found).expect("no check was made");
        let expected = values.chunks_exact(width).take(8).map(first_largest);
        assert_eq!(found, [77].into_iter().chain(expected).collect::<Vec<u32>>(), "{width} wide");

        rig.device.check_finite(batch, logits, Place::Logits);
        assert!(rig.device.read_largest(batch, logits, 8, &mut found).is_err(), "a failed check is reported");
        assert_eq!(found.len(), 9, "nothing comes of it");
    }
}

/// What rows are chosen from, to the bit; and one of the rows by itself.
pub fn read_candidates(candidate: &Candidate) {
    let make = candidate.make();
    let mut rng = Random(10);
    for (width, rows) in [(1, 5), (63, 5), (64, 5), (65, 5), (300, 5), (4097, 5), (9_000, 5), (300_000, 2)] {
        let mut values = rng.normals((rows + 1) * width);
        let mut each: Vec<&mut [f32]> = values.chunks_exact_mut(width).collect();
        each[0].iter_mut().for_each(|v| *v *= 5.0);
        each[1].iter_mut().for_each(|v| *v = (8.0 * *v).round() / 8.0);
        if rows > 2 {
            each[2].fill(-3.5);
            each[3].iter_mut().for_each(|v| *v = v.trunc().min(0.0));
            each[4].iter_mut().for_each(|v| *v *= 1e4);
        }
        let temperatures = [1.0, 0.8, 0.05, 2.0, 1.5];
        let (mut rig, input) = Rig::new(make, rows + 1, 1, &[NO_HEADS], KvType::F32, 1, |device| {
            Rig::input(device, rows + 1, width, &values)
        });
        let (x, logits) = (rig.buffer(Role::Hidden, width), rig.buffer(Role::Logits, width));
        rig.poison(input, logits);
        let mut batch = Batch::default();
        let ids: Vec<u32> = (0..=rows as u32).collect();
        batch.push(&ids, 0..rows + 1, &vec![0.0; rows + 1], 0, vec![0], 0..rows);
        let batch = rig.upload(&batch);
        rig.device.embed(batch, input, x);
        rig.device.gather(batch, x, logits);
        let mut found = Vec::new();
        rig.device
            .read_candidates(batch, logits, &temperatures[..rows], &mut found)
            .expect("no check was made");
        let each = values.chunks_exact(width).zip(temperatures).take(rows);
        let expected: Vec<Candidates> = each.map(|(row, t)| Candidates::of(row, t)).collect();
        for (row, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert_eq!(found.total.to_bits(), expected.total.to_bits(), "row {row}, {width} wide");
            assert_eq!(found, expected, "row {row}, {width} wide");
        }
        assert_eq!(found.len(), rows);
        let mut row = Vec::new();
        rig.device.read(batch, logits, 1..2, &mut row).expect("no check was made");
        assert_eq!(bits(&row), bits(&values[width..2 * width]));

        let mut batch = Batch::default();
        batch.push(&[rows as u32], 0..1, &[0.0], 0, vec![0], 0..1);
        let batch = rig.upload(&batch);
        rig.device.write(batch, x, 0, &vec![f32::NAN; width]);
        rig.device.gather(batch, x, logits);
        rig.device.check_finite(batch, logits, Place::Logits);
        let failed = rig.device.read_candidates(batch, logits, &[1.0], &mut found);
        assert!(
            failed.is_err() && found.len() == rows,
            "a failed check is reported, and nothing comes of it"
        );
    }
}

/// Values that come from elsewhere are those of the batch's rows, bit for bit, and operations go on from them.
pub fn write(candidate: &Candidate) {
    let make = candidate.make();
    let mut rng = Random(8);
    for width in [40, 5000] {
        let (mut rig, input) = Rig::new(make, 4, 1, &[NO_HEADS], KvType::F32, 1, |device| {
            Rig::input(device, 4, width, &vec![1.0; 4 * width])
        });
        let (x, out) = (rig.buffer(Role::Hidden, width), rig.buffer(Role::Last, width));
        for round in 0..3 {
            let whole = rig.rows(&[0, 1, 2, 3]);
            rig.device.embed(whole, input, x);
            rig.poison(input, out);
            let mut batch = Batch::default();
            batch.push(&[0, 1, 2], 0..3, &[0.0; 3], 0, vec![0], [0, 2]);
            let batch = rig.upload(&batch);
            let values = rng.normals(3 * width);
            rig.device.write(batch, x, 0, &values[..width]);
            rig.device.write(batch, x, 1, &values[width..]);
            rig.device.gather(batch, x, out);
            let expected = [&values[..width], &values[2 * width..]].concat();
            assert_eq!(bits(&rig.read(out, 2)), bits(&expected), "round {round}");
            let expected = [values, vec![1.0; width]].concat();
            assert_eq!(bits(&rig.read(x, 4)), bits(&expected), "the row that is not the batch's stays");
        }
    }
}

/// The first place that is not finite is named, once, and values beyond the batch's rows do not count.
pub fn check_finite(candidate: &Candidate) {
    let make = candidate.make();
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for width in [8, 40_000] {
            let mut values = vec![1f32; 4 * width];
            values[3 * width - 1] = bad;
            let (mut rig, input) = Rig::new(make, 4, 1, &[NO_HEADS], KvType::F32, 1, |device| {
                Rig::input(device, 4, width, &values)
            });
            let x = rig.buffer(Role::Hidden, width);
            let mut out = Vec::new();
            let batch = rig.rows(&[0, 1, 2, 3]);
            rig.device.embed(batch, input, x);
            let fewer = rig.rows(&[0, 1]);
            rig.device.check_finite(fewer, x, Place::Embedding);
            rig.device.read(fewer, x, 0..2, &mut out).unwrap();
            let batch = rig.rows(&[0, 1, 2, 3]);
            rig.device.check_finite(batch, x, Place::FeedForward(3));
            rig.device.check_finite(batch, x, Place::Logits);
            let error = rig.device.read(batch, x, 0..4, &mut out).unwrap_err();
            let expected = DeviceError::NotFinite { place: Place::FeedForward(3), value: bad.to_string() };
            assert_eq!(error, expected);
            assert_eq!(out.len(), 2 * width, "nothing is appended after a failed check");
            rig.device.read(batch, x, 0..4, &mut out).unwrap();
        }
    }
}

/// A check that failed is reported by the read of its own step, however late, and by no other: not when two steps are under
/// way, and not when a step was given up before it was read.
pub fn checks_belong_to_their_step(candidate: &Candidate) {
    let values = [1.0, 1.0, f32::NAN, 1.0];
    let (mut rig, input) = Rig::new(candidate.make(), 2, 1, &[NO_HEADS], KvType::F32, 1, |device| {
        Rig::input(device, 2, 2, &values)
    });
    let x = rig.buffer(Role::Hidden, 2);
    let check = |rig: &mut Rig, batch, place| {
        rig.device.embed(batch, input, x);
        rig.device.check_finite(batch, x, place);
    };
    let not_finite = |place| Err(DeviceError::NotFinite { place, value: "NaN".to_owned() });
    let mut out = Vec::new();
    let mut read = |rig: &mut Rig, batch| rig.device.read(batch, x, 0..1, &mut out);

    let bad = rig.rows(&[1]);
    check(&mut rig, bad, Place::Attention(1));
    let good = rig.rows(&[0]);
    check(&mut rig, good, Place::Embedding);
    assert_eq!(read(&mut rig, good), Ok(()), "the failed check is another step's");
    assert_eq!(read(&mut rig, bad), not_finite(Place::Attention(1)), "an upload forgets no check");
    assert_eq!(read(&mut rig, bad), Ok(()), "it is reported once");
    for step in 0..4 {
        let given_up = rig.rows(&[1]);
        check(&mut rig, given_up, Place::FeedForward(step));
        for _ in 0..=step {
            let next = rig.rows(&[0]);
            check(&mut rig, next, Place::Logits);
            assert_eq!(read(&mut rig, next), Ok(()), "a step that was given up is nobody else's fault");
        }
    }
    let last = rig.rows(&[1]);
    check(&mut rig, last, Place::Logits);
    assert_eq!(read(&mut rig, last), not_finite(Place::Logits));
}

/// Bad batches, weights that do not fit together and impossible plans are errors.
pub fn refusals(candidate: &Candidate) {
    let make = candidate.make();
    let (mut rig, _) = Rig::new(make, 4, 2, &[NO_HEADS], KvType::F32, 1, |_| ());
    let mut refuse = |token: u32, slot: usize, page: u32| {
        let mut batch = Batch::default();
        batch.push(&[token], slot..slot + 1, &[0.0], 0, vec![page], [0]);
        rig.device.upload(&batch).unwrap_err()
    };
    for (token, slot, page) in [(5, 0, 0), (0, 32, 0), (0, 0, 2)] {
        assert!(matches!(refuse(token, slot, page), DeviceError::Batch(_)));
    }
    let mut device = make();
    let narrow = Weights::random(&mut Random(7), DType::F32, 2, 8);
    let wide = Weights::random(&mut Random(7), DType::F32, 2, 9);
    for used_for in [MatrixUse::Rows, MatrixUse::Linear] {
        let error = device.load_matrix(&[narrow.view(), wide.view()], None, used_for, &|_| ()).unwrap_err();
        assert!(matches!(error, DeviceError::Weight(_)), "{error}");
    }
    let error = device.load_matrix(&[narrow.view()], Some(&[0.0]), MatrixUse::Linear, &|_| ()).unwrap_err();
    assert!(matches!(error, DeviceError::Weight(_)), "{error}");
    let capacity = Capacity { rows: 1, logits_rows: 1, pages: 1 << 50 };
    let plan = Plan { capacity, vocab: 1, layers: vec![NO_HEADS], kv_type: KvType::F32, axes: 1 };
    let error = device.plan(&plan).unwrap_err();
    assert!(matches!(error, DeviceError::OutOfMemory { .. }), "{error}");
}

/// Norms and products: rows in a batch of any size against the same rows in others.
pub fn a_row_does_not_depend_on_its_company(candidate: &Candidate) {
    let mut rng = Random(41);
    for dtype in DType::WEIGHTS {
        let (count, outputs, cols) = (70, 40, 512);
        let weights = Weights::random(&mut rng, dtype, outputs, cols);
        let values = rng.normals(count * cols);
        let addend = rng.normals(count * outputs);
        let seed = rng.bits();
        let (mut rig, (input, addend, w, norm)) =
            Rig::new(candidate.make(), count, count.div_ceil(32), &[NO_HEADS], KvType::F32, 1, |device| {
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
            assert!(part_norms == norms[from * cols..to * cols], "{dtype} norms {from}..{to}");
            let expected = &products[from * outputs..to * outputs];
            assert!(part_products == expected, "{dtype} products {from}..{to}");
        }
    }
}
