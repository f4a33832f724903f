//! Products of every type, by every instruction set that this machine has, in both numeric modes, against plain loops
//! over the decoded weights.

use super::activations::{Family, Quantize, Scheme};
use super::product::{multiply, scheme_of};
use super::turns::RUNS;
use super::{Activations, Finish, PackedMatrix, Packer};
use crate::isa::Isa;
use crate::lanes::{Lanes, Portable, Proof, Register};
use crate::memory::Arena;
use crate::pool::Pool;
use glimmer_device_suite::rig::Random;
use glimmer_tensor::quant::decode_matrix_rows;
use glimmer_tensor::{Compute, DType, MatrixUse, MatrixView};
use half::f16;
use proptest::prelude::*;
use std::ops::Range;
use std::sync::Mutex;

/// In -1..1.
fn uniform(random: &mut Random) -> f32 {
    (random.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
}

/// A matrix that owns its bytes.
struct Owned {
    dtype: DType,
    rows: usize,
    cols: usize,
    data: Vec<u8>,
    scales: Option<Vec<u8>>,
}

impl Owned {
    /// Random bits, with scales of a decent size.
    fn random(dtype: DType, rows: usize, cols: usize, random: &mut Random) -> Self {
        let bytes = dtype.bytes_for(cols).unwrap() * rows;
        let mut data: Vec<u8> = (0..bytes).map(|_| random.bits() as u8).collect();
        let fields: &[usize] = match dtype {
            DType::Q4_0 | DType::Q5_0 | DType::Q8_0 | DType::IQ4_NL | DType::IQ4_XS => &[0],
            DType::Q4_1 | DType::Q5_1 | DType::Q4_K | DType::Q5_K => &[0, 2],
            DType::Q2_K => &[80, 82],
            DType::Q3_K => &[108],
            DType::Q6_K => &[208],
            _ => &[],
        };
        let mut half = || f16::from_f32(uniform(random) / 64.0).to_le_bytes();
        for block in data.chunks_exact_mut(dtype.block_bytes()) {
            for &at in fields {
                block[at..at + 2].copy_from_slice(&half());
            }
        }
        let scales = matches!(dtype, DType::RowI8 | DType::RowI4)
            .then(|| (0..rows).flat_map(|_| half()).collect::<Vec<u8>>());
        match dtype {
            DType::F32 => {
                data.as_chunks_mut::<4>().0.iter_mut().for_each(|b| *b = random.normal().to_le_bytes())
            }
            DType::F16 => {
                let numbers = data.as_chunks_mut::<2>().0.iter_mut();
                numbers.for_each(|b| *b = f16::from_f32(random.normal()).to_le_bytes());
            }
            DType::BF16 => {
                let numbers = data.as_chunks_mut::<2>().0.iter_mut();
                numbers.for_each(|b| *b = half::bf16::from_f32(random.normal()).to_le_bytes());
            }
            _ => {}
        }
        Owned { dtype, rows, cols, data, scales }
    }

    fn view(&self) -> MatrixView<'_> {
        MatrixView::new(self.dtype, self.rows, self.cols, &self.data, self.scales.as_deref()).unwrap()
    }

    fn decoded(&self) -> Vec<f32> {
        let mut out = vec![f32::NAN; self.rows * self.cols];
        decode_matrix_rows(&self.view(), 0..self.rows, &mut out).unwrap();
        out
    }
}

/// The decoded rows of all parts.
fn decoded(parts: &[Owned]) -> Vec<f32> {
    parts.iter().flat_map(Owned::decoded).collect()
}

/// Every instruction set that this machine has.
fn proofs() -> Vec<Proof> {
    let mut all: Vec<Proof> = Isa::available().into_iter().map(Proof::of).collect();
    #[cfg(target_arch = "x86_64")]
    if let Some(plain) = crate::lanes::Avx2::<false>::detect() {
        let plain = Proof::Avx2(plain);
        if !all.contains(&plain) {
            all.push(plain);
        }
    }
    all
}

/// A number of columns that the type allows, `n` blocks or so.
fn columns(dtype: DType, n: usize) -> usize {
    match dtype {
        DType::RowI4 => 2 * (n * 13 + 5),
        DType::RowI8 | DType::F32 | DType::F16 | DType::BF16 => n * 29 + 3,
        _ => n * dtype.block_len(),
    }
}

/// Activations of a kind: ordinary ones and those that quantizers fear.
fn activations(kind: usize, m: usize, cols: usize, random: &mut Random) -> Vec<f32> {
    let mut x: Vec<f32> = (0..m * cols).map(|_| random.normal()).collect();
    match kind % 7 {
        0 => {}
        // Outliers.
        1 => x.iter_mut().step_by(97).for_each(|v| *v *= 1000.0),
        // One sign, all of about the same size.
        2 => x.iter_mut().for_each(|v| *v = 3.0 + 0.01 * *v),
        // All equal, with signs in runs of 32.
        3 => x.iter_mut().enumerate().for_each(|(i, v)| *v = if i / 32 % 2 == 0 { -0.7 } else { 0.7 }),
        // Zeros, whole blocks of them.
        4 => x.iter_mut().enumerate().filter(|(i, _)| i / 64 % 3 != 1).for_each(|(_, v)| *v = 0.0),
        // Next to nothing, and less.
        5 => x.iter_mut().enumerate().for_each(|(i, v)| *v *= if i % 2 == 0 { 1e-38 } else { 1e-42 }),
        // Very different sizes from block to block.
        _ => x.iter_mut().enumerate().for_each(|(i, v)| *v *= 10f32.powi((i / 32 % 9) as i32 - 4)),
    }
    x
}

/// The quantized row as numbers.
fn dequantized(scheme: Scheme, row: &[f32]) -> Vec<f32> {
    let cols = row.len();
    let mut panel = vec![0u32; scheme.words(cols)];
    Portable.sixteen().run(Quantize::<1> { scheme, rows: row, cols, panel: &mut panel });
    let quad = |word: u32| word.to_le_bytes().map(|b| f32::from(b.cast_signed()));
    let mut out = Vec::new();
    for block in panel.chunks_exact(scheme.block_words()) {
        let scale = f32::from_bits(block[block.len() - 1]);
        out.extend(block[..scheme.columns() / 4].iter().flat_map(|&w| quad(w)).map(|q| q * scale));
    }
    out.truncate(cols);
    out
}

/// A product with poisoned output.
#[allow(clippy::too_many_arguments, reason = "a test's shorthand")]
fn product(
    proof: Proof,
    pool: &Pool,
    compute: Compute,
    x: &[f32],
    m: usize,
    w: &PackedMatrix,
    finish: Finish<'_>,
) -> Vec<f32> {
    let width = if matches!(finish, Finish::SwiGlu) { w.rows() / 2 } else { w.rows() };
    let mut out = vec![f32::NAN; m * width];
    let mut scratch = Activations::new(m, w.cols(), pool.threads()).unwrap();
    multiply(proof, 1, pool, compute, x, m, w, None, finish, &mut scratch, &mut out);
    // How a thread reads changes no bit.
    for runs in 2..=RUNS {
        let mut other = vec![f32::NAN; m * width];
        multiply(proof, runs, pool, compute, x, m, w, None, finish, &mut scratch, &mut other);
        assert!(out.iter().map(|v| v.to_bits()).eq(other.iter().map(|v| v.to_bits())), "{runs} runs");
    }
    out
}

/// `x W^T + b` and the sum of magnitudes that its error is measured by, in f64.
fn plain(w: &[f32], bias: Option<&[f32]>, x: &[f32], cols: usize) -> Vec<(f64, f64)> {
    let rows = w.chunks_exact(cols).enumerate().map(|(o, w)| {
        let bias = bias.map_or(0.0, |b| f64::from(b[o]));
        let products = w.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x));
        products.fold((bias, bias.abs()), |(sum, size), p| (sum + p, size + p.abs()))
    });
    rows.collect()
}

fn arenas(pool: &Pool) -> Vec<Arena> {
    (0..pool.threads()).map(|_| Arena::default()).collect()
}

fn pack(parts: &[Owned], bias: Option<&[f32]>, used_for: MatrixUse, pool: &Pool) -> PackedMatrix {
    let views: Vec<MatrixView<'_>> = parts.iter().map(Owned::view).collect();
    let pack = |isa| {
        let packer = Packer { isa, pool, arenas: &mut arenas(pool), taken: &|_| () };
        PackedMatrix::pack(&views, bias, used_for, packer).unwrap()
    };
    let packed = pack(Isa::Portable);
    for isa in Isa::available() {
        assert!(pack(isa).packed_bytes() == packed.packed_bytes(), "{isa} packs otherwise");
    }
    packed
}

/// How far f32 may be from f64, as a part of the sum of magnitudes.
const CLOSE: f64 = 1e-5;
/// How far the product with quantized activations may be from the one with their exact values, as f32 sums go.
const CLOSE_QUANTIZED: f64 = 3e-6;

/// Checks all instruction sets on one matrix and some activations.
fn check_product(dtype: DType, rows: usize, cols: usize, m: usize, kind: usize, seed: u64) {
    let random = &mut Random(seed);
    let pool = Pool::new(2);
    let parts = [Owned::random(dtype, rows, cols, random)];
    let bias: Vec<f32> = (0..rows).map(|_| random.normal()).collect();
    let bias = seed.is_multiple_of(2).then_some(bias.as_slice());
    let w = decoded(&parts);
    let packed = pack(&parts, bias, MatrixUse::Linear, &pool);
    let x = activations(kind, m, cols, random);
    for proof in proofs() {
        for compute in [Compute::F32, Compute::Auto] {
            let out = product(proof, &pool, compute, &x, m, &packed, Finish::Store);
            let scheme = scheme_of(dtype).filter(|_| compute == Compute::Auto);
            for (row, out) in x.chunks_exact(cols).zip(out.chunks_exact(rows)) {
                let used = scheme.map_or_else(|| row.to_vec(), |scheme| dequantized(scheme, row));
                let close = if scheme.is_some() { CLOSE_QUANTIZED } else { CLOSE };
                for (o, ((sum, size), &found)) in
                    plain(&w, bias, &used, cols).into_iter().zip(out).enumerate()
                {
                    let error = (sum - f64::from(found)).abs();
                    assert!(
                        error <= close * size + 1e-37,
                        "{dtype} [{rows}, {cols}] {proof:?} {compute:?} m {m} kind {kind}: output {o} is {found}, not {sum} of {size}"
                    );
                }
            }
        }
    }
}

#[test]
fn products_are_those_of_the_decoded_weights() {
    for dtype in DType::WEIGHTS {
        let mut seed = 1;
        for (rows, blocks, m) in [(7, 1, 1), (16, 2, 2), (33, 3, 3), (64, 5, 9), (50, 2, 21)] {
            for kind in 0..7 {
                check_product(dtype, rows, columns(dtype, blocks), m, kind, seed);
                seed += 1;
            }
        }
    }
}

/// GLM-4-9B's feed-forward is 53.5 times 256 wide.
#[test]
fn products_as_wide_as_a_real_model() {
    for dtype in DType::WEIGHTS.into_iter().filter(|dtype| dtype.block_len() < 256) {
        for (m, kind) in [(1, 1), (11, 2)] {
            check_product(dtype, 33, 13_696, m, kind, 8);
        }
    }
}

#[test]
fn wide_products_go_on_from_one_cache_block_to_the_next() {
    for dtype in DType::WEIGHTS {
        let cols = if dtype.block_len() == 256 { 1792 } else { 1696 };
        check_product(dtype, 40, cols, 17, 0, 5);
        check_product(dtype, 40, cols, 1, 0, 6);
    }
    // More rows than are multiplied with a tile at a time.
    for dtype in [DType::Q4_K, DType::Q8_0, DType::F16] {
        check_product(dtype, 34, 512, 300, 0, 7);
    }
}

/// Quantizing activations loses at most half a step of each: a part of 1/254 of the greatest in its block, twice that
/// where sums of sub-blocks had to be kept within 16 bits.
#[test]
fn quantized_activations_are_near_the_exact_ones() {
    let random = &mut Random(11);
    for kind in 0..7 {
        let x = activations(kind, 1, 1024, random);
        for dtype in DType::WEIGHTS {
            let Some(scheme) = scheme_of(dtype) else { continue };
            let (block, steps) = match scheme.family {
                Family::By32 => (32, 254.0),
                Family::By256 { .. } => (256, 254.0 / 2.1),
            };
            let near = dequantized(scheme, &x);
            for (x, near) in x.chunks(block).zip(near.chunks(block)) {
                let most = x.iter().fold(0f32, |m, v| m.max(v.abs()));
                for (x, near) in x.iter().zip(near) {
                    assert!(
                        (x - near).abs() <= most / steps * 1.001 + 1e-36,
                        "{dtype} {kind}: {x} became {near}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_is_not_finite_stays_so() {
    let random = &mut Random(3);
    let pool = Pool::new(1);
    for dtype in DType::WEIGHTS {
        let cols = columns(dtype, 3);
        let parts = [Owned::random(dtype, 20, cols, random)];
        let packed = pack(&parts, None, MatrixUse::Linear, &pool);
        for proof in proofs() {
            for compute in [Compute::F32, Compute::Auto] {
                for (m, bad) in [(1, f32::NAN), (3, f32::INFINITY), (11, f32::NEG_INFINITY)] {
                    let mut x = activations(0, m, cols, random);
                    let at = random.bits() as usize % x.len();
                    x[at] = bad;
                    let out = product(proof, &pool, compute, &x, m, &packed, Finish::Store);
                    for (r, out) in out.chunks_exact(20).enumerate() {
                        // A weight of zero times infinity is no number either; finite rows stay finite.
                        let bad_row = r == at / cols;
                        assert!(
                            out.iter().all(|v| v.is_finite() != bad_row),
                            "{dtype} {proof:?} {compute:?} {bad}"
                        );
                    }
                }
                let x = vec![f32::MAX; cols];
                product(proof, &pool, compute, &x, 1, &packed, Finish::Store);
            }
        }
    }
}

/// Bits of a row of the output, for rows `at` of `x` multiplied together on `threads` threads.
fn bits(
    proof: Proof,
    threads: usize,
    compute: Compute,
    x: &[f32],
    at: Range<usize>,
    w: &PackedMatrix,
) -> Vec<Vec<u32>> {
    let x = &x[at.start * w.cols()..at.end * w.cols()];
    let out = product(proof, &Pool::new(threads), compute, x, at.len(), w, Finish::Store);
    out.chunks_exact(w.rows()).map(|row| row.iter().map(|v| v.to_bits()).collect()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn products_of_any_shape(
        dtype in prop::sample::select(DType::WEIGHTS.to_vec()),
        rows in 1usize..68,
        blocks in 1usize..6,
        m in 1usize..26,
        kind in 0usize..7,
        seed: u64,
    ) {
        check_product(dtype, rows, columns(dtype, blocks), m, kind, seed);
    }

    #[test]
    fn every_row_is_taken_once(
        rows in prop::collection::vec(0usize..150, 1..4),
        cols in 1usize..40,
        use_of in 0usize..3,
        threads in 1usize..5,
    ) {
        let used_for = [MatrixUse::Linear, MatrixUse::Gated, MatrixUse::Rows][use_of];
        // Wide enough for a part to be packed in several pieces.
        let (random, cols) = (&mut Random(7), 256 * cols);
        let parts: Vec<Owned> = rows.iter().map(|&n| Owned::random(DType::RowI8, 2 * n, cols, random)).collect();
        let views: Vec<MatrixView<'_>> = parts.iter().map(Owned::view).collect();
        let taken = Mutex::new(Vec::new());
        let pool = Pool::new(threads);
        let note = |rows: &MatrixView<'_>| {
            let start = rows.data.as_ptr().addr();
            taken.lock().unwrap().push(start..start + rows.data.len());
        };
        let packer = Packer { isa: Isa::Portable, pool: &pool, arenas: &mut arenas(&pool), taken: &note };
        PackedMatrix::pack(&views, None, used_for, packer).unwrap();
        for part in &parts {
            let mut at = part.data.as_ptr().addr();
            let end = at + part.data.len();
            let mut own: Vec<_> = taken.lock().unwrap().iter().filter(|t| t.start >= at && t.end <= end).cloned().collect();
            own.retain(|range| !range.is_empty());
            own.sort_by_key(|range| range.start);
            for range in own {
                prop_assert_eq!(range.start, at);
                at = range.end;
            }
            prop_assert_eq!(at, end);
        }
    }

    #[test]
    fn a_row_does_not_feel_its_company(
        dtype in prop::sample::select(DType::WEIGHTS.to_vec()),
        rows in 1usize..80,
        blocks in 1usize..5,
        m in 1usize..40,
        threads in 1usize..4,
        kind in 0usize..7,
        seed: u64,
    ) {
        let random = &mut Random(seed);
        let cols = columns(dtype, blocks);
        let pool = Pool::new(1 + seed as usize % 3);
        let packed = pack(&[Owned::random(dtype, rows, cols, random)], None, MatrixUse::Linear, &pool);
        let x = activations(kind, m, cols, random);
        for proof in proofs() {
            for compute in [Compute::F32, Compute::Auto] {
                let together = bits(proof, threads, compute, &x, 0..m, &packed);
                let first = random.bits() as usize % m;
                let some = bits(proof, 2, compute, &x, first..m, &packed);
                prop_assert_eq!(&together[first..], &some[..], "{:?} {:?}", proof, compute);
                let alone = bits(proof, 1, compute, &x, first..first + 1, &packed);
                prop_assert_eq!(&together[first..=first], &alone[..], "{:?} {:?}", proof, compute);
            }
        }
    }
}

/// The same across the boundaries of what is multiplied with a tile at a time; and all x86 instruction sets agree,
/// because integers are exact, every float operation exists in all of them, and the order is one.
#[test]
fn bits_are_those_of_a_row_alone_whatever_the_loops() {
    let random = &mut Random(71);
    let pool = Pool::new(1);
    // Of the last two, one is unpacked with fewer rows than the other.
    let types: [&[DType]; 6] = [
        &[DType::Q4_K],
        &[DType::Q6_K],
        &[DType::Q5_0],
        &[DType::RowI8],
        &[DType::F16],
        &[DType::Q4_K, DType::Q5_K],
    ];
    for types in types {
        let (cols, rows) = (1280, 50 / types.len());
        let parts: Vec<Owned> = types.iter().map(|&dtype| Owned::random(dtype, rows, cols, random)).collect();
        let packed = pack(&parts, None, MatrixUse::Linear, &pool);
        let x = activations(1, 270, cols, random);
        let counts = [270, 90, 44, 15];
        for (compute, m) in [Compute::F32, Compute::Auto].into_iter().flat_map(|c| counts.map(|m| (c, m))) {
            let mut x86 = Vec::new();
            for proof in proofs() {
                let together = bits(proof, 2, compute, &x, 0..m, &packed);
                for row in [0, 7, 8, 14, 43, 89, 255, 256, 263, 264, 269].into_iter().filter(|&row| row < m) {
                    let alone = bits(proof, 1, compute, &x, row..row + 1, &packed);
                    assert_eq!(together[row], alone[0], "{types:?} {proof:?} {compute:?} row {row}");
                }
                if !matches!(proof, Proof::Portable(_)) {
                    x86.push(together);
                }
            }
            assert!(x86.windows(2).all(|pair| pair[0] == pair[1]), "{types:?} {compute:?}");
        }
    }
}

/// Weights all at one end of their range, or ends in turn, with activations whose sums are as large as they come:
/// where 16 bits would run over.
#[test]
fn sums_of_extremes_do_not_overflow() {
    let random = &mut Random(81);
    let pool = Pool::new(1);
    let patterns: [fn(usize, usize) -> f32; 6] = [
        |_, _| 1.0,
        |_, _| -1.0,
        |k, _| if k % 2 == 0 { 1.0 } else { -1.0 },
        |k, m| if k % 32 < m % 33 { 1.0 } else { -0.5 },
        |k, m| if k % 16 == m % 16 { 1.0 } else { 0.496 },
        |k, m| 1.0 - (k * 7 + m) as f32 % 5.0 * 0.003,
    ];
    for dtype in DType::WEIGHTS {
        let Some(scheme) = scheme_of(dtype) else { continue };
        let cols = 512;
        for fill in [[0xff, 0xff], [0x00, 0x00], [0x80, 0x80], [0x7f, 0x7f], [0xff, 0x00], [0x0f, 0xf0]] {
            let mut matrix = Owned::random(dtype, 32, cols, random);
            // The same scales as before, all else the pattern.
            let with_scales = Owned::random(dtype, 32, cols, random);
            let (block, fields): (usize, &[usize]) = match dtype {
                DType::Q4_1 | DType::Q5_1 | DType::Q4_K | DType::Q5_K => (dtype.block_bytes(), &[0, 2]),
                DType::Q2_K => (84, &[80, 82]),
                DType::Q3_K => (110, &[108]),
                DType::Q6_K => (210, &[208]),
                DType::RowI8 | DType::RowI4 => (dtype.block_bytes(), &[]),
                _ => (dtype.block_bytes(), &[0]),
            };
            for (i, byte) in matrix.data.iter_mut().enumerate() {
                let is_scale = fields.iter().any(|&at| (at..at + 2).contains(&(i % block)));
                *byte = if is_scale { with_scales.data[i] } else { fill[i % 2] };
            }
            let w = matrix.decoded();
            let packed = pack(&[matrix], None, MatrixUse::Linear, &pool);
            for pattern in patterns {
                let m = 9;
                let x: Vec<f32> = (0..m * cols).map(|i| pattern(i % cols, i / cols)).collect();
                for proof in proofs() {
                    let out = product(proof, &pool, Compute::Auto, &x, m, &packed, Finish::Store);
                    for (row, out) in x.chunks_exact(cols).zip(out.chunks_exact(32)) {
                        let used = dequantized(scheme, row);
                        for ((sum, size), &found) in plain(&w, None, &used, cols).into_iter().zip(out) {
                            // Minima may cancel all but a little of the sum.
                            let error = (sum - f64::from(found)).abs();
                            assert!(
                                error <= CLOSE * size + 1e-3,
                                "{dtype} {fill:?} {proof:?}: {found}, not {sum}"
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn parts_of_different_types_are_one_matrix() {
    let random = &mut Random(21);
    let pool = Pool::new(2);
    let cols = 512;
    let types = [DType::Q4_K, DType::Q6_K, DType::F16, DType::Q8_0, DType::Q4_K];
    let parts: Vec<Owned> =
        types.iter().zip([48, 20, 7, 33, 1]).map(|(&t, rows)| Owned::random(t, rows, cols, random)).collect();
    let w = decoded(&parts);
    let rows = w.len() / cols;
    let bias: Vec<f32> = (0..rows).map(|_| random.normal()).collect();
    let packed = pack(&parts, Some(&bias), MatrixUse::Linear, &pool);
    for proof in proofs() {
        for m in [1, 6, 13] {
            let x = activations(0, m, cols, random);
            let out = product(proof, &pool, Compute::F32, &x, m, &packed, Finish::Store);
            let auto = product(proof, &pool, Compute::Auto, &x, m, &packed, Finish::Store);
            for (r, row) in x.chunks_exact(cols).enumerate() {
                for (o, (sum, size)) in plain(&w, Some(&bias), row, cols).into_iter().enumerate() {
                    let at = r * rows + o;
                    assert!((sum - f64::from(out[at])).abs() <= CLOSE * size, "{proof:?} row {r} output {o}");
                    // Half a step of a 254th of about three times the usual size, for each product.
                    assert!((sum - f64::from(auto[at])).abs() <= 0.01 * size, "{proof:?} row {r} output {o}");
                }
            }
        }
    }
}

#[test]
fn types_that_are_mixed_want_the_same_activations() {
    for (one, other) in [(DType::Q4_K, DType::Q5_K), (DType::Q4_1, DType::Q5_1)] {
        assert_eq!(scheme_of(one), scheme_of(other), "{one} and {other} are quantized once");
    }
}

#[test]
fn every_way_to_finish_is_that_of_plain_loops() {
    let random = &mut Random(31);
    let pool = Pool::new(2);
    let (rows, cols) = (70, 256);
    let parts = [Owned::random(DType::Q4_K, 30, cols, random), Owned::random(DType::Q6_K, 40, cols, random)];
    let w = decoded(&parts);
    let bias: Vec<f32> = (0..rows).map(|_| random.normal()).collect();
    let linear = pack(&parts, Some(&bias), MatrixUse::Linear, &pool);
    // The gates end within the second part: segments of Q4_K with Q6_K, then of Q6_K with itself.
    let gated = pack(&parts, Some(&bias), MatrixUse::Gated, &pool);
    for proof in proofs() {
        for m in [1, 5, 19] {
            let x = activations(0, m, cols, random);
            let from: Vec<f32> = (0..m * rows).map(|_| random.normal()).collect();
            let run = |w: &PackedMatrix, finish| product(proof, &pool, Compute::F32, &x, m, w, finish);
            let y = run(&linear, Finish::Store);
            let residual = run(&linear, Finish::Residual { from: Some(&from), scale: 1.5 });
            let mut in_place = from.clone();
            let mut scratch = Activations::new(m, cols, 2).unwrap();
            let finish = Finish::Residual { from: None, scale: 1.5 };
            multiply(
                proof,
                1,
                &pool,
                Compute::F32,
                &x,
                m,
                &linear,
                None,
                finish,
                &mut scratch,
                &mut in_place,
            );
            assert_eq!(residual, in_place, "{proof:?}");
            let gelu = run(&linear, Finish::Gelu);
            let swiglu = run(&gated, Finish::SwiGlu);
            for r in 0..m {
                let exact = plain(&w, Some(&bias), &x[r * cols..(r + 1) * cols], cols);
                let near = |a: f32, b: f64, size: f64| (f64::from(a) - b).abs() <= CLOSE * (1.0 + size);
                for (o, &(v, size)) in exact.iter().enumerate() {
                    let at = r * rows + o;
                    assert!(near(y[at], v, size));
                    assert!(near(residual[at], f64::from(from[at]) * 1.5 + v, size));
                    let inner = (2.0 / std::f64::consts::PI).sqrt() * v * (1.0 + 0.044715 * v * v);
                    assert!(near(gelu[at], 0.5 * v * (1.0 + inner.tanh()), size), "{} for {v}", gelu[at]);
                }
                for o in 0..rows / 2 {
                    let ((g, g_size), (v, v_size)) = (exact[o], exact[rows / 2 + o]);
                    let found = swiglu[r * rows / 2 + o];
                    // An error of either factor is multiplied with the other.
                    let size = g_size * v.abs() + v_size * g.abs();
                    assert!(near(found, g / (1.0 + (-g).exp()) * v, size), "{proof:?} {found} for {g}, {v}");
                }
            }
        }
    }
}

/// The activation functions over their whole range, through a matrix that is the number one.
#[test]
fn activation_functions_hold_far_out() {
    let pool = Pool::new(1);
    let one = Owned { dtype: DType::F32, rows: 1, cols: 1, data: 1f32.to_le_bytes().to_vec(), scales: None };
    let two =
        Owned { dtype: DType::F32, rows: 2, cols: 1, data: [1f32.to_le_bytes(); 2].concat(), scales: None };
    let linear = pack(&[one], None, MatrixUse::Linear, &pool);
    let gated = pack(&[two], None, MatrixUse::Gated, &pool);
    let mut x: Vec<f32> = (-4000..=4000).map(|i| i as f32 / 32.0).collect();
    x.extend([1e-30, -1e-30, 1e4, -1e4, 1e9, -1e9]);
    for proof in proofs() {
        let gelu = product(proof, &pool, Compute::F32, &x, x.len(), &linear, Finish::Gelu);
        let swiglu = product(proof, &pool, Compute::F32, &x, x.len(), &gated, Finish::SwiGlu);
        for (i, &x) in x.iter().enumerate() {
            let v = f64::from(x);
            let inner = (2.0 / std::f64::consts::PI).sqrt() * v * (1.0 + 0.044715 * v * v);
            let exact = v / (1.0 + (-2.0 * inner).exp());
            assert!(
                (f64::from(gelu[i]) - exact).abs() <= 1e-6 * v.abs(),
                "gelu({x}) = {}, not {exact}",
                gelu[i]
            );
            let exact = v / (1.0 + (-v).exp()) * v;
            let error = (f64::from(swiglu[i]) - exact).abs();
            assert!(
                error <= 1e-6 * exact.abs() + 1e-30 * v * v + 1e-44,
                "swiglu({x}) = {}, not {exact}",
                swiglu[i]
            );
        }
    }
}

#[test]
fn rows_decode_to_what_the_file_says() {
    let random = &mut Random(41);
    let pool = Pool::new(2);
    for dtype in DType::WEIGHTS {
        for rows in [1, 34] {
            let cols = columns(dtype, 3);
            let parts = [Owned::random(dtype, rows, cols, random), Owned::random(dtype, rows, cols, random)];
            let w = decoded(&parts);
            for used_for in [MatrixUse::Linear, MatrixUse::Gated, MatrixUse::Rows] {
                let packed = pack(&parts, None, used_for, &pool);
                for (row, expected) in w.chunks_exact(cols).enumerate() {
                    for isa in Isa::available() {
                        let mut out = vec![f32::NAN; cols];
                        packed.decode_row(isa, row, &mut out);
                        assert_eq!(out, expected, "{isa} {dtype} {used_for:?} row {row}");
                    }
                }
            }
        }
    }
}

/// Nothing is stored wider than in the file, but for the rows that fill the last tile.
#[test]
fn packed_matrices_are_as_small_as_the_file() {
    let random = &mut Random(51);
    let pool = Pool::new(1);
    for dtype in DType::WEIGHTS {
        for cols in [256, 768] {
            let matrix = Owned::random(dtype, 64, cols, random);
            let bytes = matrix.data.len() + matrix.scales.as_ref().map_or(0, Vec::len);
            let parts = [matrix];
            assert_eq!(pack(&parts, None, MatrixUse::Linear, &pool).bytes(), bytes, "{dtype}");
            assert_eq!(pack(&parts, None, MatrixUse::Rows, &pool).bytes(), bytes, "{dtype}");
        }
    }
}

#[test]
fn empty_products_are_the_bias_or_nothing() {
    let pool = Pool::new(2);
    let random = &mut Random(91);
    for dtype in DType::WEIGHTS {
        let no_columns =
            pack(&[Owned::random(dtype, 3, 0, random)], Some(&[1.0, 2.0, 3.0]), MatrixUse::Linear, &pool);
        let cols = columns(dtype, 1);
        let no_rows = pack(&[Owned::random(dtype, 0, cols, random)], None, MatrixUse::Linear, &pool);
        for proof in proofs() {
            for m in [0, 1, 9] {
                let out = product(proof, &pool, Compute::Auto, &[], m, &no_columns, Finish::Store);
                assert_eq!(out, [1.0, 2.0, 3.0].repeat(m), "{dtype}");
                let x = activations(0, m, cols, random);
                assert!(product(proof, &pool, Compute::Auto, &x, m, &no_rows, Finish::Store).is_empty());
            }
        }
    }
}

#[test]
fn matrices_that_make_no_sense_are_refused() {
    let random = &mut Random(61);
    let pool = Pool::new(1);
    let pack = |parts: &[&Owned], bias: Option<&[f32]>, used_for| {
        let views: Vec<MatrixView<'_>> = parts.iter().map(|p| p.view()).collect();
        let packer = Packer { isa: Isa::Portable, pool: &pool, arenas: &mut arenas(&pool), taken: &|_| () };
        PackedMatrix::pack(&views, bias, used_for, packer).err().map(|e| e.to_string())
    };
    let a = Owned::random(DType::F32, 3, 8, random);
    let b = Owned::random(DType::F32, 3, 9, random);
    assert_eq!(pack(&[&a, &b], None, MatrixUse::Linear).unwrap(), "parts of one matrix have 8 and 9 columns");
    assert_eq!(pack(&[&a], Some(&[1.0]), MatrixUse::Linear).unwrap(), "3 rows with a bias of 1");
    assert!(pack(&[&a], None, MatrixUse::Gated).unwrap().contains("not 3 rows"));
    assert_eq!(pack(&[&a, &a], None, MatrixUse::Gated), None);
    assert_eq!(pack(&[], None, MatrixUse::Linear), None);
}
