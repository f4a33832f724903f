//! How fast the products of training are beside what the processor's units do at most.
//!
//! ```text
//! cargo run --release -p glimmer-cpu --example training_speed [THREADS] [ROWS] [OUTPUTSxINPUTS] [TYPE ...]
//! ```
//!
//! With a tensor: `x W^T`, `dy W` and `dy^T x`. With a matrix of each type: the product and its backward. Then attention's
//! backward, of one sequence.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program to measure with")]

use glimmer_cpu::{CpuDevice, CpuOptions, Rates};
use glimmer_tensor::{
    AttentionGradient, Batch, Capacity, Compute, DType, Device, Epilogue, Heads, KvType, MatrixUse,
    MatrixView, PAGE_SLOTS, Plan, Role, TrainingDevice,
};
use std::time::Instant;

/// Attention of GLM-Edge-1.5B.
const HEADS: Heads = Heads::new(16, 4, 128);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let shape = arguments.iter().find_map(|a| a.split_once('x'));
    let (outputs, inputs) = shape.map_or((6144, 2048), |(n, k)| (n.parse().unwrap(), k.parse().unwrap()));
    let mut numbers = arguments.iter().filter_map(|a| a.parse().ok());
    let (threads, rows) = (numbers.next().unwrap_or(2), numbers.next().unwrap_or(512));
    let named = |dtype: &DType| arguments.iter().any(|a| a.eq_ignore_ascii_case(dtype.name()));
    let all = !DType::WEIGHTS.iter().any(named);
    let options = CpuOptions { threads: Some(threads), ..CpuOptions::default() };
    let peak = Rates::measure(options, 0).unwrap().f32;
    println!("{rows} rows, {outputs} outputs, {inputs} inputs; f32 at most {:.0} GFLOP/s", peak / 1e9);
    let operations = 2.0 * (rows * outputs * inputs) as f64;
    let show = |what: &str, operations: f64, seconds: f64| {
        let rate = operations / seconds;
        println!("{what:28} {:6.0} GFLOP/s, {:3.0} %", rate / 1e9, 100.0 * rate / peak);
    };

    let mut device = planned(threads, Compute::F32, rows, |_| ()).0;
    let [x, y] = [inputs, outputs].map(|width| buffer(&mut device, width));
    let w = device.tensor(outputs, inputs).unwrap();
    show("x W^T", operations, best(|| device.multiply(rows, x, w, 1.0, false, y)));
    show("dy W", operations, best(|| device.multiply_backward(rows, y, w, 1.0, false, x)));
    show("dy^T x", operations, best(|| device.weight_gradient(rows, y, x, 1.0, w)));
    attention(&mut device, rows, show);
    drop(device);
    for dtype in DType::WEIGHTS.into_iter().filter(|dtype| all || named(dtype)) {
        // A byte that makes a fair number of every type, scales included.
        let data = vec![0x2c; dtype.bytes_for(inputs).unwrap() * outputs];
        let scales = vec![0x2c; 2 * outputs];
        let scales = matches!(dtype, DType::RowI8 | DType::RowI4).then_some(&scales[..]);
        let view = MatrixView::new(dtype, outputs, inputs, &data, scales).unwrap();
        for compute in [Compute::F32, Compute::Auto] {
            let (mut device, w) = planned(threads, compute, rows, |device| {
                device.load_matrix(&[view], None, MatrixUse::Linear, &|_| ()).unwrap()
            });
            let [x, y] = [inputs, outputs].map(|width| buffer(&mut device, width));
            let batch = device.upload(&batch(rows)).unwrap();
            let what = |what| format!("{dtype} {what}, {compute:?}");
            show(&what("forward"), operations, best(|| device.linear(batch, x, w, Epilogue::None, y)));
            show(&what("backward"), operations, best(|| device.linear_backward(rows, y, w, false, x)));
        }
    }
}

/// A device with a plan for so many rows, and what `load` loads before it.
fn planned<T>(
    threads: usize,
    compute: Compute,
    rows: usize,
    load: impl FnOnce(&mut CpuDevice) -> T,
) -> (CpuDevice, T) {
    let mut device = CpuDevice::new(CpuOptions { threads: Some(threads), compute, isa: None }).unwrap();
    let loaded = load(&mut device);
    let capacity = Capacity { rows, logits_rows: 1, pages: rows.div_ceil(PAGE_SLOTS) };
    let plan = Plan { capacity, vocab: 1, layers: vec![HEADS], kv_type: KvType::F32, axes: 1 };
    device.plan(&plan).unwrap();
    (device, loaded)
}

/// A buffer of small numbers.
fn buffer(device: &mut CpuDevice, width: usize) -> glimmer_tensor::BufferId {
    let buffer = device.own_buffer(Role::Hidden, width).unwrap();
    for (i, value) in device.values_mut(buffer).iter_mut().enumerate() {
        *value = (i % 17) as f32 / 16.0 - 0.5;
    }
    buffer
}

fn batch(rows: usize) -> Batch {
    let mut batch = Batch::default();
    let pages = (0..rows.div_ceil(PAGE_SLOTS) as u32).collect();
    batch.push(&vec![0; rows], 0..rows, &vec![0.0; rows], 0, pages, []);
    batch
}

fn attention(device: &mut CpuDevice, rows: usize, show: impl Fn(&str, f64, f64)) {
    let widths = [HEADS.qkv_width(), HEADS.attended_width(), HEADS.attended_width(), HEADS.qkv_width()];
    let [qkv, attended, d_attended, d_qkv] = widths.map(|width| buffer(device, width));
    let batch = device.upload(&batch(rows)).unwrap();
    // Two products of half of all pairs of rows, and five in backward.
    let pairs = 2.0 * (rows * rows * HEADS.q_width()) as f64 / 2.0;
    device.kv_write(batch, 0, qkv, HEADS);
    show("attention", 2.0 * pairs, best(|| device.attention(batch, 0, qkv, HEADS, attended)));
    let gradient = AttentionGradient { qkv, prefix: None, attended, d_attended, d_qkv, d_prefix: None };
    show("its backward", 5.0 * pairs, best(|| device.attention_backward(batch, HEADS, &gradient)));
}

/// The least time of some runs.
fn best(mut run: impl FnMut()) -> f64 {
    let time = |_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    (0..5).map(time).fold(f64::INFINITY, f64::min)
}
