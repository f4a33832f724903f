//! How fast matrix products are, by weight type: `cargo run --release -p glimmer-cpu --example linear_speed --
//! [ROWSxCOLS] [THREADS] [TYPE...]`, by default 6144x2048 on 2 threads for all types.
//!
//! For few rows it prints the gigabytes of packed weights per second, which memory bounds; for many the operations
//! (2 per weight and row) per second, which the multipliers bound. Matrices together exceed every cache. Of all
//! products the best one counts: others only ever slow it down.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring tool for the terminal")]

mod clock;

use clock::Clock;
use glimmer_cpu::{CpuDevice, CpuOptions, Rates};
use glimmer_tensor::{
    Batch, Capacity, Compute, DType, Device, DeviceBatch, Epilogue, Heads, KvType, MatrixUse, MatrixView,
    PAGE_SLOTS, Plan, Role,
};
use std::time::Instant;

/// Bytes of all matrices of a type together.
const TOTAL: usize = 512 << 20;

/// Rows of the products.
const ROWS: [usize; 6] = [1, 2, 4, 8, 32, 512];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let shape = arguments.iter().find_map(|a| a.split_once('x'));
    let (rows, cols) = shape.map_or((6144, 2048), |(n, k)| (n.parse().unwrap(), k.parse().unwrap()));
    let threads = arguments.iter().find_map(|a| a.parse().ok()).unwrap_or(2);
    let options = CpuOptions { threads: Some(threads), ..CpuOptions::default() };
    let Rates { read, int8, f32, .. } = Rates::measure(options, TOTAL).unwrap();
    println!("limits: {:.1} GB/s, {:.0} GOP/s int8, {:.0} GFLOP/s f32", read / 1e9, int8 / 1e9, f32 / 1e9);
    let named = |dtype: &DType| arguments.iter().any(|a| a.eq_ignore_ascii_case(dtype.name()));
    let all = !DType::WEIGHTS.iter().any(named);
    for dtype in DType::WEIGHTS.into_iter().filter(|dtype| all || named(dtype)) {
        if dtype.bytes_for(cols).is_none() {
            println!("{dtype:7} has no rows of {cols}");
            continue;
        }
        measure(dtype, rows, cols, threads);
    }
}

fn measure(dtype: DType, rows: usize, cols: usize, threads: usize) {
    let options = CpuOptions { threads: Some(threads), compute: Compute::Auto, isa: None };
    let mut device = CpuDevice::new(options).unwrap();
    // A byte that makes a fair number of every type, scales included.
    let data = vec![0x2c; dtype.bytes_for(cols).unwrap() * rows];
    let scales = vec![0x2c; 2 * rows];
    let scales = matches!(dtype, DType::RowI8 | DType::RowI4).then_some(&scales[..]);
    let view = MatrixView::new(dtype, rows, cols, &data, scales).unwrap();
    let count = (TOTAL / data.len()).max(1);
    let start = Instant::now();
    let matrices: Vec<_> =
        (0..count).map(|_| device.load_matrix(&[view], None, MatrixUse::Linear, &|_| ()).unwrap()).collect();
    let packing = start.elapsed().as_secs_f64();
    let bytes = device.memory().weights as f64 / count as f64;
    let clock = Clock::of(threads);
    let most = ROWS.into_iter().max().unwrap();
    let capacity = Capacity { rows: most, logits_rows: 1, pages: most / PAGE_SLOTS };
    let heads = Heads::new(1, 1, 32);
    device.plan(&Plan { capacity, vocab: 1, layers: vec![heads], kv_type: KvType::F16, axes: 1 }).unwrap();
    let x = device.buffer(0, Role::Normed, cols).unwrap();
    let out = device.buffer(0, Role::Inner, rows).unwrap();
    print!("{dtype:7} packed at {:4.1} GB/s;", bytes * count as f64 / packing / 1e9);
    for m in ROWS {
        let mut batch = Batch::default();
        let pages = (0..capacity.pages as u32).collect();
        batch.push(&vec![0; m], 0..m, &vec![0.0; m], 0, pages, []);
        let batch: DeviceBatch = device.upload(&batch).unwrap();
        let mut best = f64::INFINITY;
        for _ in 0..if m < 32 { 5 } else { 2 } {
            for &matrix in &matrices {
                let start = clock.now();
                device.linear(batch, x, matrix, Epilogue::None, out);
                best = best.min(clock.now() - start);
            }
        }
        if m < 32 {
            print!(" m={m} {:.1} GB/s", bytes / best / 1e9);
        } else {
            print!(" m={m} {:.0} GOP/s", 2.0 * (rows * cols * m) as f64 / best / 1e9);
        }
    }
    println!();
}
