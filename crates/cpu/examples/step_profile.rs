//! Where the time of a decoder's step goes: `cargo run --release -p glimmer-cpu --example step_profile --
//! [MODEL] [TYPE] [THREADS] [rows=N] [depth=N] [steps=N]`, by default a token of GLM-Edge-1.5B in Q4_K_M on 2 threads.
//!
//! Weights are made up, shapes and operations are the model's. Each operation of a step is timed by itself, and the
//! least of several steps counts: others only ever slow it down. With one thread its own clock is used, which stands
//! still while somebody else has the processor.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring tool for the terminal")]

mod clock;

use clock::Clock;
use glimmer_cpu::{CpuDevice, CpuOptions};
use glimmer_tensor::{
    Batch, Capacity, Compute, DType, Device, Epilogue, Heads, KvType, MatrixId, MatrixUse, MatrixView, Norm,
    NormKind, PAGE_SLOTS, Place, Plan, Role, Rope, RopePairs, RopeSection,
};

/// Shapes of a model.
struct Shape {
    name: &'static str,
    hidden: usize,
    layers: usize,
    heads: Heads,
    ffn: usize,
    vocab: usize,
    gated: bool,
}

const SHAPES: [Shape; 4] = [
    Shape {
        name: "edge-1.5b",
        hidden: 2048,
        layers: 28,
        heads: Heads::new(16, 4, 128),
        ffn: 6144,
        vocab: 59264,
        gated: true,
    },
    Shape {
        name: "edge-4b",
        hidden: 3072,
        layers: 40,
        heads: Heads::new(24, 6, 128),
        ffn: 8192,
        vocab: 59264,
        gated: true,
    },
    Shape {
        name: "glm-4-9b",
        hidden: 4096,
        layers: 40,
        heads: Heads::new(32, 2, 128),
        ffn: 13696,
        vocab: 151_552,
        gated: true,
    },
    Shape {
        name: "chatglm-6b",
        hidden: 4096,
        layers: 28,
        heads: Heads::new(32, 32, 128),
        ffn: 16384,
        vocab: 130_528,
        gated: false,
    },
];

/// The types of a layer's matrices: q and k, v, attention's output, feed-forward in, feed-forward out.
fn types(name: &str, layer: usize, layers: usize, cols: usize) -> [DType; 5] {
    let Some(dtype) = DType::WEIGHTS.into_iter().find(|d| d.name().eq_ignore_ascii_case(name)) else {
        // llama-quantize's Q4_K_M.
        let more = layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
        let fits = cols.is_multiple_of(256);
        let down = match (more, fits) {
            (true, true) => DType::Q6_K,
            (false, true) => DType::Q4_K,
            (true, false) => DType::Q8_0,
            (false, false) => DType::Q5_0,
        };
        let v = if more { DType::Q6_K } else { DType::Q4_K };
        return [DType::Q4_K, v, DType::Q4_K, DType::Q4_K, down];
    };
    [dtype; 5]
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |key: &str| arguments.iter().find_map(|a| a.strip_prefix(key)?.parse::<usize>().ok());
    let shape = SHAPES.iter().find(|s| arguments.iter().any(|a| a == s.name)).unwrap_or(&SHAPES[0]);
    let threads = arguments.iter().find_map(|a| a.parse().ok()).unwrap_or(2);
    let (rows, depth) = (number("rows=").unwrap_or(1), number("depth=").unwrap_or(0));
    let steps = number("steps=").unwrap_or(if rows > 8 { 3 } else { 20 });
    let sequences = number("sequences=").unwrap_or(1);
    let named = |a: &&String| DType::WEIGHTS.iter().any(|d| d.name().eq_ignore_ascii_case(a));
    let dtype = arguments.iter().find(named).map_or("Q4_K_M", String::as_str);

    let mut device =
        CpuDevice::new(CpuOptions { threads: Some(threads), compute: Compute::Auto, isa: None }).unwrap();
    let Shape { hidden, layers, heads, ffn, vocab, gated, .. } = *shape;
    let mut load = |parts: &[(DType, usize)], cols: usize, used_for| -> MatrixId {
        let bytes: Vec<_> = (parts.iter())
            .map(|&(dtype, rows)| (vec![0x2c; dtype.bytes_for(cols).unwrap() * rows], vec![0x2c; 2 * rows]))
            .collect();
        let views: Vec<_> = (parts.iter().zip(&bytes))
            .map(|(&(dtype, rows), (data, scales))| {
                let scales = matches!(dtype, DType::RowI8 | DType::RowI4).then_some(&scales[..]);
                MatrixView::new(dtype, rows, cols, data, scales).unwrap()
            })
            .collect();
        device.load_matrix(&views, None, used_for, &|_| ()).unwrap()
    };
    let table = load(&[(DType::F16, vocab)], hidden, MatrixUse::Rows);
    let weights: Vec<[MatrixId; 4]> = (0..layers)
        .map(|layer| {
            let [qk, v, out, up, down] = types(dtype, layer, layers, ffn);
            let qkv = [(qk, heads.q_width()), (qk, heads.k_width()), (v, heads.v_width())];
            let (inner, used_for) =
                if gated { (2 * ffn, MatrixUse::Gated) } else { (ffn, MatrixUse::Linear) };
            [
                load(&qkv, hidden, MatrixUse::Linear),
                load(&[(out, hidden)], heads.attended_width(), MatrixUse::Linear),
                load(&[(up, inner)], hidden, used_for),
                load(&[(down, hidden)], ffn, MatrixUse::Linear),
            ]
        })
        .collect();
    let head = if dtype == "Q4_K_M" { DType::Q6_K } else { types(dtype, 0, 1, 256)[0] };
    let head = load(&[(head, vocab)], hidden, MatrixUse::Linear);
    let scale = device.load_vector(&vec![1.0; hidden]);
    let norm = Norm { kind: NormKind::Rms, weight: scale, bias: None, eps: 1e-5 };
    let inv_freq = (0..heads.head_dim / 2).map(|i| 1e4f32.powf(-(i as f32) / 64.0)).collect();
    let rope = device.load_rope(&Rope {
        pairs: RopePairs::Interleaved,
        sections: vec![RopeSection { axis: 0, first_dim: 0, inv_freq }],
        magnitude: 1.0,
    });
    let pages = (depth + rows).div_ceil(PAGE_SLOTS);
    let capacity = Capacity { rows: rows * sequences, logits_rows: sequences, pages: pages * sequences };
    device
        .plan(&Plan { capacity, vocab, layers: vec![heads; layers], kv_type: KvType::F16, axes: 1 })
        .unwrap();
    let mut buffer = |role, width| device.buffer(0, role, width).unwrap();
    let x = buffer(Role::Hidden, hidden);
    let normed = buffer(Role::Normed, hidden);
    let qkv = buffer(Role::Qkv, heads.qkv_width());
    let attended = buffer(Role::Attended, heads.attended_width());
    let inner = buffer(Role::Inner, ffn);
    let last = buffer(Role::Last, hidden);
    let last_normed = buffer(Role::LastNormed, hidden);
    let logits = buffer(Role::Logits, vocab);

    let mut batch = Batch::default();
    for s in 0..sequences {
        let own = (s * pages) as u32..((s + 1) * pages) as u32;
        let positions: Vec<f32> = (depth..depth + rows).map(|p| p as f32).collect();
        let ids: Vec<u32> = (0..rows as u32).collect();
        batch.push(&ids, depth..depth + rows, &positions, 0, own.collect(), [rows - 1]);
    }
    let clock = Clock::of(threads);
    let mut least: Vec<(&str, f64)> = Vec::new();
    for _ in 0..steps {
        let mut step = Vec::new();
        macro_rules! op {
            ($kind:literal, $($call:tt)*) => {{
                let begun = clock.now();
                let result = device.$($call)*;
                step.push(($kind, clock.now() - begun));
                result
            }};
        }
        let b = op!("upload", upload(&batch)).unwrap();
        op!("embed", embed(b, table, x));
        for (layer, &[w_qkv, w_out, w_up, w_down]) in weights.iter().enumerate() {
            let residual = Epilogue::Residual { from: x, scale: 1.0 };
            op!("norm", norm(b, x, &norm, normed));
            op!("linear qkv", linear(b, normed, w_qkv, Epilogue::None, qkv));
            op!("rope", rope(b, qkv, heads, rope));
            op!("kv_write", kv_write(b, layer, qkv, heads));
            op!("attention", attention(b, layer, qkv, heads, attended));
            op!("linear out", linear(b, attended, w_out, residual, x));
            op!("check", check_finite(b, x, Place::Attention(layer)));
            op!("norm", norm(b, x, &norm, normed));
            let epilogue = if gated { Epilogue::SwiGlu } else { Epilogue::Gelu };
            op!("linear up", linear(b, normed, w_up, epilogue, inner));
            op!("linear down", linear(b, inner, w_down, residual, x));
            op!("check", check_finite(b, x, Place::FeedForward(layer)));
        }
        op!("gather", gather(b, x, last));
        op!("norm", norm(b, last, &norm, last_normed));
        op!("linear head", linear(b, last_normed, head, Epilogue::None, logits));
        op!("check", check_finite(b, logits, Place::Logits));
        if least.is_empty() {
            least.clone_from(&step);
        }
        least.iter_mut().zip(step).for_each(|(least, now)| least.1 = least.1.min(now.1));
    }
    let mut kinds: Vec<(&str, usize, f64)> = Vec::new();
    for (kind, seconds) in least {
        match kinds.iter_mut().find(|(k, ..)| *k == kind) {
            Some((_, count, sum)) => (*count, *sum) = (*count + 1, *sum + seconds),
            None => kinds.push((kind, 1, seconds)),
        }
    }
    let all: f64 = kinds.iter().map(|(.., seconds)| seconds).sum();
    println!("{} {dtype}, {threads} threads, {sequences} x {rows} rows at {depth}:", shape.name);
    for (kind, count, seconds) in kinds {
        println!("{kind:12} {count:3} times {:9.3} ms {:5.1} %", 1e3 * seconds, 100.0 * seconds / all);
    }
    let weights = device.memory().weights - 2 * vocab * hidden;
    let tokens = (rows * sequences) as f64;
    println!(
        "all {:.3} ms, {:.1} tokens/s, {:.1} GB/s of weights",
        1e3 * all,
        tokens / all,
        weights as f64 / all / 1e9
    );
}
