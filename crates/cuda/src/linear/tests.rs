//! Products on the emulation against plain loops over what `glimmer_tensor::quant` decodes.

use super::*;
use crate::emulated::Emulated;
use crate::weights::shapes;
use glimmer_device_suite::rig::Random;
use glimmer_tensor::{MatrixView, quant};
use half::{bf16, f16};

/// Any bits at all, but for the scales, which have a sane size and either sign.
struct Matrix {
    dtype: DType,
    rows: usize,
    cols: usize,
    data: Vec<u8>,
    row_scale: Option<Vec<u8>>,
}

impl Matrix {
    fn random(rng: &mut Random, dtype: DType, rows: usize, cols: usize) -> Matrix {
        let half = |rng: &mut Random| f16::from_f32(0.01 * rng.normal()).to_le_bytes();
        let bytes = rows * dtype.bytes_for(cols).unwrap();
        let mut data: Vec<u8> = match dtype {
            DType::F32 => rng.normals(rows * cols).iter().flat_map(|v| v.to_le_bytes()).collect(),
            DType::F16 => {
                rng.normals(rows * cols).iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect()
            }
            DType::BF16 => {
                rng.normals(rows * cols).iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect()
            }
            _ => (0..bytes).map(|_| rng.bits() as u8).collect(),
        };
        let fields: &[usize] = match dtype {
            DType::Q4_0 | DType::Q5_0 | DType::Q8_0 | DType::IQ4_NL | DType::IQ4_XS => &[0],
            DType::Q4_1 | DType::Q5_1 | DType::Q4_K | DType::Q5_K => &[0, 2],
            DType::Q2_K => &[80, 82],
            DType::Q3_K => &[108],
            DType::Q6_K => &[208],
            _ => &[],
        };
        for block in data.chunks_exact_mut(dtype.block_bytes()) {
            fields.iter().for_each(|&at| block[at..at + 2].copy_from_slice(&half(rng)));
        }
        let scaled = matches!(dtype, DType::RowI8 | DType::RowI4);
        let row_scale = scaled.then(|| (0..rows).flat_map(|_| half(rng)).collect());
        Matrix { dtype, rows, cols, data, row_scale }
    }

    fn view(&self) -> MatrixView<'_> {
        MatrixView::new(self.dtype, self.rows, self.cols, &self.data, self.row_scale.as_deref()).unwrap()
    }

    fn decoded(&self) -> Vec<f32> {
        let mut out = vec![0f32; self.rows * self.cols];
        quant::decode_matrix_rows(&self.view(), 0..self.rows, &mut out).unwrap();
        out
    }
}

/// A matrix on an emulated card.
struct Rig {
    driver: Emulated,
    w: CardMatrix,
    products: Products,
}

/// Rows that a rig has room for.
const MOST: usize = 67;

impl Rig {
    fn new(parts: &[MatrixView<'_>], bias: Option<&[f32]>, used_for: MatrixUse, compute: Compute) -> Rig {
        let mut driver = Emulated::default();
        let w = CardMatrix::load(&mut driver, parts, bias, used_for, &|_| ()).unwrap();
        let matrices = [w];
        let products = Products::new(&mut driver, MOST, &matrices, compute).unwrap();
        let [w] = matrices;
        Rig { driver, w, products }
    }

    fn memory(&mut self, values: &[f32]) -> Memory {
        let memory = self.driver.alloc(4 * values.len()).unwrap();
        self.driver.copy_in(memory, 0, bytemuck::cast_slice(values));
        memory
    }

    /// The product of rows in a buffer of theirs; `from` is in the output before.
    fn run(&mut self, x: &[f32], finish: impl Fn(Memory) -> Finish, from: Option<&[f32]>) -> Vec<f32> {
        let count = x.len() / self.w.cols();
        let width = self.w.rows() / if self.w.layout().used_for == MatrixUse::Gated { 2 } else { 1 };
        let mut found = vec![f32::NAN; count * width];
        let x = self.memory(x);
        let out = self.memory(from.unwrap_or(&found));
        let counter = self.driver.alloc(4).unwrap();
        self.driver.copy_in(counter, 0, &(count as u32).to_ne_bytes());
        let rows = Rows { count: counter, bucket: count.next_power_of_two() };
        let input = Input { x, is_prepared: false };
        self.products.linear(&mut self.driver, rows, input, &self.w, finish(out), out);
        self.driver.copy_out(out, 0, bytemuck::cast_slice_mut(&mut found));
        self.driver.synchronize().unwrap();
        [x, out, counter].into_iter().for_each(|memory| self.driver.free(memory));
        found
    }

    fn store(&mut self, x: &[f32]) -> Vec<f32> {
        self.run(x, |_| Finish::Store, None)
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// Columns of tests: less than a slice each, and slices of different lengths; not a whole unit where a type allows it.
fn widths(dtype: DType) -> Vec<usize> {
    match dtype.block_len() {
        256 => vec![256, 4608],
        32 => vec![96, 32 * 37],
        2 => vec![6, 32 * 37 + 10],
        _ => vec![5, 32 * 37 + 9],
    }
}

/// In f32 mode: chunks of 32 columns, each a chain of fused products from zero, added up in order; the processor's.
#[test]
fn exact_products_are_those_of_plain_loops() {
    let mut rng = Random(1);
    for dtype in DType::WEIGHTS {
        for cols in widths(dtype) {
            let (outputs, rows) = (21, 11);
            let w = Matrix::random(&mut rng, dtype, outputs, cols);
            let (x, decoded) = (rng.normals(rows * cols), w.decoded());
            let mut rig = Rig::new(&[w.view()], None, MatrixUse::Linear, Compute::F32);
            let found = rig.store(&x);
            for (i, found) in found.iter().enumerate() {
                let (x, w) = (&x[i / outputs * cols..][..cols], &decoded[i % outputs * cols..][..cols]);
                let chunks = x.chunks(32).zip(w.chunks(32));
                let sums = chunks.map(|(x, w)| x.iter().zip(w).fold(0f32, |sum, (x, w)| w.mul_add(*x, sum)));
                let expected = sums.reduce(|total, sum| total + sum).unwrap();
                assert_eq!(found.to_bits(), expected.to_bits(), "{dtype}, {cols} columns, output {i}");
            }
        }
    }
}

/// The numbers that a row's activations become for a type.
fn prepared(dtype: DType, x: &[f32]) -> Vec<f32> {
    match Form::of(dtype, Compute::Auto) {
        Form::Exact => x.to_vec(),
        Form::Bf16 => x.iter().map(|&v| bf16::from_f32(v).to_f32()).collect(),
        Form::Tf32 => x.iter().map(|&v| tf32(v)).collect(),
        Form::Bytes { .. } => (x.chunks(32))
            .flat_map(|block| {
                let greatest = block.iter().fold(0f32, |m, v| m.max(v.abs()));
                block.iter().map(move |v| (v * (127.0 / greatest)).round_ties_even() * (greatest / 127.0))
            })
            .collect(),
    }
}

/// Ten bits of fraction.
fn tf32(v: f32) -> f32 {
    f32::from_bits((v.to_bits() + 0x1000) & 0xffff_e000)
}

/// In auto mode: the sums of the products of decoded weights with activations that are rounded as they should be, but
/// for the rounding of sums in f32; and the same bits however many rows there are.
#[test]
fn fast_products_are_close_and_do_not_depend_on_the_number_of_rows() {
    let mut rng = Random(2);
    for dtype in DType::WEIGHTS {
        for cols in widths(dtype) {
            let outputs = 21;
            let w = Matrix::random(&mut rng, dtype, outputs, cols);
            let (x, mut decoded) = (rng.normals(MOST * cols), w.decoded());
            if dtype == DType::F32 {
                decoded.iter_mut().for_each(|v| *v = tf32(*v));
            }
            let mut rig = Rig::new(&[w.view()], None, MatrixUse::Linear, Compute::Auto);
            let all = rig.store(&x);
            for (row, found) in all.chunks_exact(outputs).enumerate() {
                let x = prepared(dtype, &x[row * cols..][..cols]);
                for (found, w) in found.iter().zip(decoded.chunks_exact(cols)) {
                    let products = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w));
                    let (sum, size) = products.fold((0.0, 0.0), |(sum, size), p| (sum + p, size + p.abs()));
                    let error = (f64::from(*found) - sum).abs();
                    // A minimum and what it is subtracted from may be greater than their difference.
                    let least = 1e-6 * x.iter().map(|v| f64::from(v.abs())).sum::<f64>();
                    assert!(error <= 2e-6 * size + least, "{dtype}, {cols} columns: {found} is not {sum}");
                }
            }
            for rows in [1, 2, 3, 4, 5, 8, 9, 16, 33, 64] {
                let from = (MOST - rows) / 2;
                let found = rig.store(&x[from * cols..][..rows * cols]);
                let expected = &all[from * outputs..][..rows * outputs];
                assert!(bits(&found) == bits(expected), "{dtype}, {cols} columns, {rows} rows");
            }
        }
    }
}

/// Every number of rows, and the width of GLM-4's feed-forward, which no super-block divides.
#[test]
fn a_row_is_the_same_in_any_company() {
    let mut rng = Random(8);
    let wide = [DType::Q4_0, DType::Q5_1, DType::Q8_0, DType::RowI4, DType::BF16, DType::F16];
    let cases = (wide.into_iter().map(|dtype| (dtype, 13_696, vec![1, 7, 12])))
        .chain([DType::Q4_K, DType::Q6_K, DType::BF16].map(|dtype| (dtype, 768, (1..MOST).collect())));
    for (dtype, cols, counts) in cases {
        let outputs = 19;
        let w = Matrix::random(&mut rng, dtype, outputs, cols);
        let x = rng.normals(MOST * cols);
        let mut rig = Rig::new(&[w.view()], None, MatrixUse::Linear, Compute::Auto);
        let all = rig.store(&x);
        for rows in counts {
            let found = rig.store(&x[..rows * cols]);
            assert!(bits(&found) == bits(&all[..rows * outputs]), "{dtype}, {cols} columns, {rows} rows");
        }
    }
}

/// Bias, residual (in place), GELU, and no rows at all.
#[test]
fn epilogues_follow_the_product() {
    let mut rng = Random(3);
    for (compute, dtype, rows) in [
        (Compute::F32, DType::Q4_K, 3),
        (Compute::Auto, DType::Q4_K, 3),
        (Compute::Auto, DType::Q4_K, 20),
        (Compute::Auto, DType::BF16, 3),
        (Compute::Auto, DType::BF16, 20),
    ] {
        let (outputs, cols) = (37, 512);
        let w = Matrix::random(&mut rng, dtype, outputs, cols);
        let (x, bias) = (rng.normals(rows * cols), rng.normals(outputs));
        let y = Rig::new(&[w.view()], None, MatrixUse::Linear, compute).store(&x);
        let mut rig = Rig::new(&[w.view()], Some(&bias), MatrixUse::Linear, compute);
        let y: Vec<f32> = y.iter().enumerate().map(|(i, y)| y + bias[i % outputs]).collect();
        assert_eq!(bits(&rig.store(&x)), bits(&y));
        let before = rng.normals(rows * outputs);
        let residual = rig.run(&x, |from| Finish::Residual { from, scale: 1.5 }, Some(&before));
        let expected: Vec<f32> = y.iter().zip(&before).map(|(y, b)| b.mul_add(1.5, *y)).collect();
        assert_eq!(bits(&residual), bits(&expected));
        for (found, y) in rig.run(&x, |_| Finish::Gelu, None).iter().zip(&y) {
            let y = f64::from(*y);
            let z = (2.0 / std::f64::consts::PI).sqrt() * (y + 0.044715 * y * y * y);
            let expected = y * (1.0 + z.tanh()) / 2.0;
            assert!((f64::from(*found) - expected).abs() <= 2e-6 * y.abs().max(1e-3), "{found} {expected}");
        }
        assert!(rig.store(&[]).is_empty());
    }
}

/// Matrices of several parts, gated or not, of the same type or of different ones, cut anywhere.
#[test]
fn parts_of_different_types_make_one_matrix() {
    let mut rng = Random(4);
    let cols = 512;
    for types in [
        [DType::Q4_K, DType::Q4_K, DType::Q4_K],
        [DType::Q4_K, DType::Q6_K, DType::Q2_K],
        [DType::F16, DType::RowI4, DType::Q8_0],
        [DType::BF16, DType::F32, DType::BF16],
    ] {
        let sizes = [20, 3, 19];
        let parts: Vec<Matrix> =
            types.iter().zip(sizes).map(|(&t, rows)| Matrix::random(&mut rng, t, rows, cols)).collect();
        let views: Vec<MatrixView<'_>> = parts.iter().map(Matrix::view).collect();
        let (outputs, bias) = (42, rng.normals(42));
        for (compute, rows) in [(Compute::F32, 9), (Compute::Auto, 2), (Compute::Auto, 70 - 3)] {
            let x = rng.normals(rows * cols);
            let y = Rig::new(&views, Some(&bias), MatrixUse::Linear, compute).store(&x);
            let mut first = 0;
            for part in &parts {
                let bias = &bias[first..first + part.rows];
                let alone = Rig::new(&[part.view()], Some(bias), MatrixUse::Linear, compute).store(&x);
                for (row, alone) in alone.chunks_exact(part.rows).enumerate() {
                    assert_eq!(bits(&y[row * outputs + first..][..part.rows]), bits(alone), "{types:?}");
                }
                first += part.rows;
            }
            let mut gated = Rig::new(&views, Some(&bias), MatrixUse::Gated, compute);
            let same = types.iter().all(|&t| t == types[0]);
            assert_eq!(gated.w.layout().multiplied_afterwards(), !same);
            let found = gated.run(&x, |_| Finish::SwiGlu, None);
            for (i, found) in found.iter().enumerate() {
                let at = i / 21 * outputs + i % 21;
                let (gate, value) = (f64::from(y[at]), f64::from(y[at + 21]));
                let expected = gate / (1.0 + (-gate).exp()) * value;
                let error = (f64::from(*found) - expected).abs();
                assert!(error <= 1e-6 * expected.abs().max(1e-3), "{types:?} {found} {expected}");
            }
        }
    }
}

/// What is not finite in a row makes its outputs not a number, and nobody else's.
#[test]
fn what_is_not_finite_stays_in_its_row() {
    let mut rng = Random(5);
    for dtype in [DType::Q4_0, DType::Q6_K, DType::BF16, DType::F16] {
        let (outputs, cols) = (17, 256);
        let w = Matrix::random(&mut rng, dtype, outputs, cols);
        let mut rig = Rig::new(&[w.view()], None, MatrixUse::Linear, Compute::Auto);
        for rows in [3, 30] {
            let mut x = rng.normals(rows * cols);
            let clean = rig.store(&x);
            x[cols + 77] = f32::INFINITY;
            let found = rig.store(&x);
            for (i, (found, clean)) in found.iter().zip(&clean).enumerate() {
                if i / outputs == 1 {
                    assert!(!found.is_finite(), "{dtype}");
                } else {
                    assert_eq!(found.to_bits(), clean.to_bits(), "{dtype}");
                }
            }
        }
    }
}

/// A weight takes the card as many bytes as the file, but for the padding of the last tile.
#[test]
fn weights_take_no_more_room_than_in_the_file() {
    for dtype in DType::WEIGHTS {
        let w = Matrix::random(&mut Random(6), dtype, 64, 512);
        let layout = Layout::new(&[w.view().shape()], None, MatrixUse::Linear).unwrap();
        let in_file = w.data.len() + w.row_scale.as_ref().map_or(0, Vec::len);
        assert_eq!(layout.bytes, in_file.next_multiple_of(256), "{dtype}");
    }
}

/// All rows are heard of once, and writes stay within the layout.
#[test]
fn every_row_is_taken_once() {
    let mut rng = Random(7);
    let parts = [DType::Q4_0, DType::F16].map(|dtype| Matrix::random(&mut rng, dtype, 50, 64));
    let views = [parts[0].view(), parts[1].view()];
    for used_for in [MatrixUse::Linear, MatrixUse::Gated, MatrixUse::Rows] {
        let layout = Layout::new(&shapes(&views), None, used_for).unwrap();
        let taken = std::sync::Mutex::new(0);
        layout.pack(&views, None, &|rows| *taken.lock().unwrap() += rows.rows, 2, &mut |at, bytes| {
            assert!(at + bytes.len() <= layout.bytes)
        });
        assert_eq!(taken.into_inner().unwrap(), 100);
    }
}

/// A matrix of many pieces is the same bytes however many threads pack it, and each row is let go of once.
#[test]
fn several_threads_pack_the_same_bytes() {
    let mut rng = Random(10);
    let parts = [(DType::Q8_0, 4000), (DType::BF16, 4000)];
    let parts = parts.map(|(dtype, rows)| Matrix::random(&mut rng, dtype, rows, 1056));
    let views = [parts[0].view(), parts[1].view()];
    let bias = rng.normals(8000);
    for used_for in [MatrixUse::Linear, MatrixUse::Gated] {
        let layout = Layout::new(&shapes(&views), Some(&bias), used_for).unwrap();
        let packed = [1, 2, 3, 7].map(|threads| {
            let (mut out, taken) = (vec![0u8; layout.bytes], std::sync::Mutex::new(0));
            let take = |rows: &MatrixView<'_>| *taken.lock().unwrap() += rows.rows;
            layout.pack(&views, Some(&bias), &take, threads, &mut |at, bytes| {
                out[at..at + bytes.len()].copy_from_slice(bytes);
            });
            assert_eq!(taken.into_inner().unwrap(), 8000);
            out
        });
        assert!(packed.iter().all(|bytes| *bytes == packed[0]), "{used_for:?}");
    }
}
