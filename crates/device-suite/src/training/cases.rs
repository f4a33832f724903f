//! The operations of training as cases, small for finite differences and large for comparisons.

use super::{Case, Input, Operation, attention as attention_cases};
use crate::rig::{Random, Weights};
use glimmer_tensor::{
    Batch, BufferId, DType, Dropout, Epilogue, Heads, MatrixUse, Norm, NormKind, PAGE_SLOTS, Rope, RopePairs,
    RopeSection, TrainingDevice,
};

/// Every operation, small.
pub fn small() -> Vec<Case> {
    let rng = &mut Random(1);
    let mut cases = vec![
        norm(rng, NormKind::Rms, 3, 10),
        norm(rng, NormKind::Layer, 3, 10),
        swiglu(rng, 3, 10),
        gelu(rng, 3, 10),
        dropout(rng, 3, 10),
        bias(rng, 3, 10),
        sum(rng, 3, 10),
        multiply(rng, 4, 5, 6, true),
        multiply(rng, 4, 5, 6, false),
        gather(rng, 5, 4),
        embed(rng, 5, 4),
        cross_entropy(rng, 3, 11),
        linear(rng, DType::F32, [4, 5, 6], true),
        linear(rng, DType::Q8_0, [2, 3, 32], false),
    ];
    cases.extend([RopePairs::Interleaved, RopePairs::Halves].map(|pairs| rope(rng, pairs, 3)));
    let grouped = Heads { value_dim: 3, ..Heads::new(4, 2, 4) };
    for lens in [&[(7, 0)][..], &[(7, 4)], &[(3, 0), (5, 2), (1, 0)]] {
        for prefix in [0, 3] {
            cases.push(attention_cases::case(rng, Heads::new(2, 2, 4), lens, prefix));
            cases.push(attention_cases::case(rng, grouped, lens, prefix));
        }
    }
    cases
}

/// Operations on rows.
pub fn rows() -> Vec<Case> {
    let rng = &mut Random(2);
    let mut cases = vec![embed(rng, 70, 33), gather(rng, 90, 130), rope(rng, RopePairs::Interleaved, 65)];
    for (rows, width) in [(1, 2), (7, 46), (65, 1000), (300, 258)] {
        cases.extend([NormKind::Rms, NormKind::Layer].map(|kind| norm(rng, kind, rows, width)));
        let each = [swiglu, gelu, dropout, bias, sum, cross_entropy];
        cases.extend(each.map(|case| case(rng, rows, width)));
        cases.push(rope(rng, RopePairs::Halves, rows));
    }
    cases.push(cross_entropy(rng, 5, 20_011));
    cases
}

/// Products with tensors.
pub fn products() -> Vec<Case> {
    let rng = &mut Random(3);
    let shapes = [
        [1, 1, 1],
        [3, 17, 5],
        [64, 64, 64],
        [67, 8, 300],
        [65, 300, 8],
        [130, 129, 257],
        [33, 513, 300],
        [400, 50, 70],
        [20, 700, 1030],
    ];
    shapes.into_iter().enumerate().map(|(i, [m, n, k])| multiply(rng, m, n, k, i % 2 == 0)).collect()
}

/// Products with matrices of every type.
pub fn frozen_products() -> Vec<Case> {
    let rng = &mut Random(4);
    let mut cases = Vec::new();
    for (i, dtype) in DType::WEIGHTS.into_iter().enumerate() {
        let block = dtype.block_len().max(2);
        for (m, n, blocks) in [(1, 5, 1usize), (70, 300, 3), (9, 31 + 3 * i, 5)] {
            // Whole blocks of the type and, where those are short, no whole blocks of the kernels.
            let k = if block == 256 { 256 * blocks.min(2) } else { (98 * blocks).next_multiple_of(block) };
            cases.push(linear(rng, dtype, [m, n, k], i % 2 == 0));
        }
    }
    cases
}

/// Attention: heads alone and in groups, short and long sequences, prefixes.
pub fn attention() -> Vec<Case> {
    let rng = &mut Random(5);
    let heads = [
        Heads::new(3, 3, 24),
        Heads::new(4, 2, 16),
        Heads::new(12, 1, 7),
        Heads::new(2, 1, 128),
        Heads { value_dim: 33, ..Heads::new(6, 2, 24) },
    ];
    let lens: [&[(usize, usize)]; 5] =
        [&[(1, 0)], &[(70, 0)], &[(129, 60)], &[(31, 0), (32, 20), (1, 1), (65, 0)], &[(300, 0)]];
    let mut cases = Vec::new();
    for (i, &heads) in heads.iter().enumerate() {
        for (j, lens) in lens.into_iter().enumerate() {
            cases.push(attention_cases::case(rng, heads, lens, [0, 37, 128][(i + j) % 3]));
        }
    }
    cases
}

/// Puts a tensor's values into another.
fn copy(device: &mut dyn TrainingDevice, from: BufferId, to: BufferId) {
    let (to, from) = device.values_beside(to, from);
    to.copy_from_slice(from);
}

/// An operation without weights.
fn plain(
    forward: impl Fn(&mut dyn TrainingDevice, usize, BufferId, BufferId) + Clone + 'static,
    backward: impl Fn(&mut dyn TrainingDevice, usize, BufferId, BufferId, BufferId) + Clone + 'static,
    rows: usize,
) -> impl Fn(&mut dyn TrainingDevice) -> Operation {
    move |_| {
        let (forward, backward) = (forward.clone(), backward.clone());
        Operation {
            forward: Box::new(move |device, _, inputs, out| forward(device, rows, inputs[0], out)),
            backward: Box::new(move |device, _, played, gradients| {
                backward(device, rows, played.inputs[0], played.d_out, gradients[0]);
            }),
        }
    }
}

fn swiglu(rng: &mut Random, rows: usize, width: usize) -> Case {
    let inputs = vec![Input::normal(rng, rows, width)];
    let load = plain(
        |device, rows, y, out| device.swiglu(rows, y, out),
        |device, rows, y, d_out, dy| device.swiglu_backward(rows, y, d_out, dy),
        rows,
    );
    Case::of_rows(format!("swiglu {rows} x {width}"), rows, inputs, width / 2, load)
}

fn gelu(rng: &mut Random, rows: usize, width: usize) -> Case {
    let inputs = vec![Input::normal(rng, rows, width)];
    let load = plain(
        |device, rows, y, out| device.gelu(rows, y, out),
        |device, rows, y, d_out, dy| {
            // In place, as the tape may have it.
            copy(device, d_out, dy);
            device.gelu_backward(rows, y, dy, dy);
        },
        rows,
    );
    Case::of_rows(format!("gelu {rows} x {width}"), rows, inputs, width, load)
}

fn dropout(rng: &mut Random, rows: usize, width: usize) -> Case {
    let inputs = vec![Input::normal(rng, rows, width)];
    let dropout = Dropout { seed: rng.bits(), probability: 0.3 };
    let load = plain(
        move |device, rows, x, out| device.dropout(rows, x, dropout, out),
        move |device, rows, _, d_out, dx| {
            copy(device, d_out, dx);
            device.dropout(rows, dx, dropout, dx);
        },
        rows,
    );
    Case::of_rows(format!("dropout {rows} x {width}"), rows, inputs, width, load)
}

fn bias(rng: &mut Random, rows: usize, width: usize) -> Case {
    let inputs = vec![Input::normal(rng, rows, width), Input::normal(rng, 1, width).added()];
    let load = move |_: &mut dyn TrainingDevice| Operation {
        forward: Box::new(move |device, _, inputs, out| {
            copy(device, inputs[0], out);
            device.add_bias(rows, inputs[1], out);
        }),
        backward: Box::new(move |device, _, played, gradients| {
            copy(device, played.d_out, gradients[0]);
            device.bias_gradient(rows, played.d_out, gradients[1]);
        }),
    };
    Case::of_rows(format!("bias {rows} x {width}"), rows, inputs, width, load)
}

/// `a * scale + b`, into a third and over either.
fn sum(rng: &mut Random, rows: usize, width: usize) -> Case {
    let inputs = vec![Input::normal(rng, rows, width), Input::normal(rng, rows, width).added()];
    let load = move |_: &mut dyn TrainingDevice| Operation {
        forward: Box::new(move |device, _, inputs, out| {
            device.add(rows, inputs[0], 0.75, inputs[1], out);
            let first = device.values(out).to_vec();
            for (over, from, y) in [(inputs[0], out, inputs[1]), (inputs[1], inputs[0], out)] {
                copy(device, over, out);
                device.add(rows, from, 0.75, y, out);
                assert!(device.values(out) == first, "the same over an addend");
            }
        }),
        backward: Box::new(move |device, _, played, gradients| {
            let zero = device.tensor(rows, width).unwrap();
            device.add(rows, played.d_out, 0.75, zero, gradients[0]);
            device.add(rows, played.d_out, 1.0, gradients[1], gradients[1]);
        }),
    };
    Case::of_rows(format!("sum {rows} x {width}"), rows, inputs, width, load)
}

fn norm(rng: &mut Random, kind: NormKind, rows: usize, width: usize) -> Case {
    let tensor = |rng: &mut Random, rows| Input::normal(rng, rows, width).added();
    let mut inputs = vec![tensor(rng, rows), tensor(rng, 1)];
    if kind == NormKind::Layer {
        inputs.push(tensor(rng, 1));
    }
    let load = move |device: &mut dyn TrainingDevice| {
        let mut vector = || device.load_vector(&vec![0.0; width]);
        let (weight, bias) = (vector(), (kind == NormKind::Layer).then(vector));
        let norm = Norm { kind, weight, bias, eps: 1e-5 };
        Operation {
            forward: Box::new(move |device, batch, inputs, out| {
                for (vector, &input) in [Some(norm.weight), norm.bias].into_iter().flatten().zip(&inputs[1..])
                {
                    let values = device.values(input).to_vec();
                    device.set_vector(vector, &values);
                }
                device.norm(batch, inputs[0], &norm, out);
            }),
            backward: Box::new(move |device, _, played, gradients| {
                let (x, d_bias) = (played.inputs[0], gradients.get(2).copied());
                let d_weight = Some(gradients[1]);
                device.norm_backward(rows, x, &norm, played.d_out, gradients[0], d_weight, d_bias);
            }),
        }
    };
    Case::of_rows(format!("norm {kind:?} {rows} x {width}"), rows, inputs, width, load)
}

fn rope(rng: &mut Random, pairs: RopePairs, rows: usize) -> Case {
    let heads = Heads { value_dim: 6, ..Heads::new(4, 2, 8) };
    let section = RopeSection { axis: 0, first_dim: 0, inv_freq: vec![1.0, 0.1, 0.01] };
    let rope = Rope { pairs, sections: vec![section], magnitude: 1.25 };
    let inputs = vec![Input::normal(rng, rows, heads.qkv_width())];
    let load = move |device: &mut dyn TrainingDevice| {
        let rope = device.load_rope(&rope);
        Operation {
            forward: Box::new(move |device, batch, inputs, out| {
                copy(device, inputs[0], out);
                device.rope(batch, out, heads, rope);
            }),
            backward: Box::new(move |device, batch, played, gradients| {
                copy(device, played.d_out, gradients[0]);
                device.rope_backward(batch, gradients[0], heads, rope);
            }),
        }
    };
    let mut case = Case::of_rows(format!("rope {pairs:?} {rows}"), rows, inputs, heads.qkv_width(), load);
    case.batch.rope_pos = (0..rows).map(|r| r as f32).collect();
    case
}

fn gather(rng: &mut Random, rows: usize, width: usize) -> Case {
    let inputs = vec![Input::normal(rng, rows, width).added()];
    let load = move |_: &mut dyn TrainingDevice| Operation {
        forward: Box::new(|device, batch, inputs, out| device.gather(batch, inputs[0], out)),
        backward: Box::new(|device, batch, played, gradients| {
            device.gather_backward(batch, played.d_out, gradients[0]);
        }),
    };
    let mut case = Case::of_rows(format!("gather {rows} x {width}"), rows, inputs, width, load);
    case.batch.logits_rows = (0..rows as u32).filter(|r| r % 3 != 1).collect();
    case.out.0 = case.batch.logits_rows.len();
    case
}

/// Rows of a table, some of them more than once.
fn embed(rng: &mut Random, rows: usize, width: usize) -> Case {
    let inputs = vec![Input::normal(rng, rows, width).added()];
    let load = move |_: &mut dyn TrainingDevice| Operation {
        forward: Box::new(|device, batch, inputs, out| device.embed_tensor(batch, inputs[0], out)),
        backward: Box::new(|device, batch, played, gradients| {
            device.embed_backward(batch, played.d_out, gradients[0]);
        }),
    };
    let tokens: Vec<u32> = (0..rows).map(|r| (r * r % rows) as u32).collect();
    let mut batch = Batch::default();
    let pages = (0..rows.div_ceil(PAGE_SLOTS) as u32).collect();
    batch.push(&tokens, 0..rows, &vec![0.0; rows], 0, pages, []);
    Case { batch, ..Case::of_rows(format!("embed {rows} x {width}"), rows, inputs, width, load) }
}

fn cross_entropy(rng: &mut Random, rows: usize, vocab: usize) -> Case {
    let inputs = vec![Input::normal(rng, rows, vocab)];
    let targets: Vec<u32> = (0..rows).map(|_| rng.below(vocab) as u32).collect();
    let load = move |device: &mut dyn TrainingDevice| {
        let (before, after) = (targets.clone(), targets.clone());
        let _ = device;
        Operation {
            forward: Box::new(move |device, _, inputs, out| {
                let logits = device.tensor(rows, vocab).unwrap();
                copy(device, inputs[0], logits);
                let mut losses = Vec::new();
                device.cross_entropy(logits, &before, &vec![1.0; rows], &mut losses);
                device.values_mut(out).copy_from_slice(&losses);
            }),
            backward: Box::new(move |device, _, played, gradients| {
                copy(device, played.inputs[0], gradients[0]);
                let weights = device.values(played.d_out).to_vec();
                device.cross_entropy(gradients[0], &after, &weights, &mut Vec::new());
            }),
        }
    };
    Case::of_rows(format!("cross entropy {rows} x {vocab}"), rows, inputs, 1, load)
}

/// `x w^T * scale`, added to a third tensor if `adds`.
fn multiply(rng: &mut Random, rows: usize, n: usize, k: usize, adds: bool) -> Case {
    let mut x = Input::normal(rng, rows, k);
    x.added = adds;
    let mut inputs = vec![x, Input::normal(rng, n, k).added()];
    if adds {
        inputs.push(Input::normal(rng, rows, n));
    }
    let load = move |_: &mut dyn TrainingDevice| Operation {
        forward: Box::new(move |device, _, inputs, out| {
            inputs[2..].iter().for_each(|&to| copy(device, to, out));
            device.multiply(rows, inputs[0], inputs[1], 0.75, adds, out);
        }),
        backward: Box::new(move |device, _, played, gradients| {
            device.multiply_backward(rows, played.d_out, played.inputs[1], 0.75, adds, gradients[0]);
            device.weight_gradient(rows, played.d_out, played.inputs[0], 0.75, gradients[1]);
            gradients[2..].iter().for_each(|&to| copy(device, played.d_out, to));
        }),
    };
    Case::of_rows(format!("multiply {rows} x {n} x {k}"), rows, inputs, n, load)
}

/// A product with a loaded matrix of two parts, with a bias.
fn linear(rng: &mut Random, dtype: DType, [rows, n, k]: [usize; 3], adds: bool) -> Case {
    let mut x = Input::normal(rng, rows, k);
    x.added = adds;
    let parts = [n / 3, n - n / 3].map(|n| Weights::random(rng, dtype, n, k));
    let bias = rng.normals(n);
    let load = move |device: &mut dyn TrainingDevice| {
        let views = parts.each_ref().map(Weights::view);
        let w = device.load_matrix(&views, Some(&bias), MatrixUse::Linear, &|_| ()).unwrap();
        Operation {
            forward: Box::new(move |device, batch, inputs, out| {
                device.linear(batch, inputs[0], w, Epilogue::None, out);
            }),
            backward: Box::new(move |device, _, played, gradients| {
                device.linear_backward(rows, played.d_out, w, adds, gradients[0]);
            }),
        }
    };
    let name = format!("linear {dtype} {rows} x {n} x {k}");
    Case { rounds: true, ..Case::of_rows(name, rows, vec![x], n, load) }
}
