//! Invariants of the block formats: error bounds, refusals, and no panic whatever the bytes.

use glimmer_tensor::quant::{
    QuantError, check_matrix, check_scales, decode_matrix_rows, decode_row, encode_row, rows,
};
use glimmer_tensor::{DType, MatrixView};
use proptest::prelude::*;

/// Every type with an encoder; the largest error that rounding may leave, as a part of the block's largest
/// magnitude; and what the stored binary16 numbers are multiplied by at most, for where they are subnormal and
/// their own rounding counts.
///
/// Below Q8_0 the error is one step of the symmetric types (the side without the peak is cut there) and half a step
/// of the others, whose range may be twice the magnitude. The K-quants' searches may give up an outlier for the sake
/// of the rest: their bounds only say that nothing is grossly wrong, the golden bytes say that it is right.
const BOUNDS: [(DType, f32, f32); 13] = [
    (DType::F32, 0.0, 0.0),
    (DType::F16, 0.0005, 1.0),
    (DType::BF16, 0.004, 0.0),
    (DType::Q4_0, 0.127, 8.0),
    (DType::Q4_1, 0.069, 16.0),
    (DType::Q5_0, 0.064, 16.0),
    (DType::Q5_1, 0.034, 32.0),
    (DType::Q8_0, 0.0046, 127.0),
    (DType::Q2_K, 1.0, 60.0),
    (DType::Q3_K, 0.75, 128.0),
    (DType::Q4_K, 0.2, 1008.0),
    (DType::Q5_K, 0.1, 2016.0),
    (DType::Q6_K, 0.1, 4096.0),
];

/// Half the smallest binary16.
const HALF_SUBNORMAL: f32 = 3e-8;

fn row() -> impl Strategy<Value = Vec<f32>> {
    let values = prop_oneof![
        proptest::collection::vec(-1.0f32..1.0, 256),
        proptest::collection::vec(0.0f32..1.0, 256),
        proptest::collection::vec(prop_oneof![9 => -0.01f32..0.01, 1 => -1.0f32..1.0], 256),
        (-1.0f32..1.0).prop_map(|v| vec![v; 256]),
    ];
    (values, -1i32..4).prop_map(|(values, e)| values.iter().map(|v| v * 10f32.powi(e)).collect())
}

fn weight_type() -> impl Strategy<Value = DType> {
    proptest::sample::select(DType::WEIGHTS.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn encoding_stays_within_the_step(row in row()) {
        for (dtype, bound, reach) in BOUNDS {
            let mut bytes = Vec::new();
            encode_row(dtype, &row, &mut bytes).unwrap();
            prop_assert_eq!(Some(bytes.len()), dtype.bytes_for(row.len()));
            let mut out = vec![0.0; row.len()];
            decode_row(dtype, &bytes, &mut out).unwrap();
            let len = dtype.block_len();
            let floor = reach * HALF_SUBNORMAL;
            for (x, y) in row.chunks(len).zip(out.chunks(len)) {
                let peak = x.iter().fold(0.0f32, |m, v| m.max(v.abs()));
                for (x, y) in x.iter().zip(y) {
                    prop_assert!((x - y).abs() <= bound * peak + floor, "{}: {} became {}, peak {}", dtype, x, y, peak);
                }
            }
        }
    }

    #[test]
    fn decoding_never_panics(dtype in weight_type(), bytes in proptest::collection::vec(any::<u8>(), 0..700),
                             values in 0usize..600) {
        let mut out = vec![0.0; values];
        let fits = dtype.bytes_for(values) == Some(bytes.len());
        let own_scale = !matches!(dtype, DType::RowI8 | DType::RowI4);
        prop_assert_eq!(decode_row(dtype, &bytes, &mut out).is_ok(), fits && own_scale);
        let _ = check_scales(dtype, &bytes);
    }

    #[test]
    fn encoding_never_panics(dtype in weight_type(), row in proptest::collection::vec(any::<f32>(), 256)) {
        let mut bytes = vec![7];
        match encode_row(dtype, &row, &mut bytes) {
            Ok(()) => check_scales(dtype, &bytes[1..]).unwrap(),
            Err(_) => prop_assert_eq!(bytes, vec![7]),
        }
    }

    #[test]
    fn accepted_blocks_decode_to_finite_numbers(dtype in weight_type(), seed in any::<[u8; 32]>()) {
        let bytes: Vec<u8> = (0..4 * dtype.block_bytes()).map(|i| seed[i % 32] ^ (i as u8).wrapping_mul(29)).collect();
        let mut out = vec![0.0; 4 * dtype.block_len()];
        if check_scales(dtype, &bytes).is_ok() && decode_row(dtype, &bytes, &mut out).is_ok() {
            prop_assert!(out.iter().all(|v| v.is_finite()));
        }
    }

    #[test]
    fn rows_of_a_matrix_are_its_rows(dtype in weight_type(), seed in any::<u8>(), start in 0usize..5, len in 0usize..5) {
        let (rows, cols) = (4, 2 * dtype.block_len());
        let data: Vec<u8> = (0..rows * dtype.bytes_for(cols).unwrap()).map(|i| (i * 37) as u8 ^ seed).collect();
        let scales = [0x00, 0x3c, 0x00, 0xc0, 0x55, 0x15, 0x01, 0x00];
        let scaled = matches!(dtype, DType::RowI8 | DType::RowI4);
        let matrix = MatrixView::new(dtype, rows, cols, &data, scaled.then_some(&scales[..])).unwrap();
        let mut whole = vec![0.0; rows * cols];
        decode_matrix_rows(&matrix, 0..rows, &mut whole).unwrap();
        let mut part = vec![0.0; len * cols];
        let result = decode_matrix_rows(&matrix, start..start + len, &mut part);
        prop_assert_eq!(result.is_ok(), start + len <= rows);
        if result.is_ok() {
            let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&part), bits(&whole[start * cols..(start + len) * cols]));
        }
    }
}

#[test]
fn chatglm_rows_multiply_integers_by_the_scale_beside_them() {
    let scales = [0x00, 0x38, 0x00, 0xc0]; // 0.5, -2
    let int8 = [1, 0xff, 127, 0x80];
    let matrix = MatrixView::new(DType::RowI8, 2, 2, &int8, Some(&scales)).unwrap();
    let mut out = [0.0; 4];
    decode_matrix_rows(&matrix, 0..2, &mut out).unwrap();
    assert_eq!(out, [0.5, -0.5, -254.0, 256.0]);

    let int4 = [0x7f, 0x90]; // (7, -1), (-7, 0): the even column is the high nibble
    let matrix = MatrixView::new(DType::RowI4, 2, 2, &int4, Some(&scales)).unwrap();
    decode_matrix_rows(&matrix, 0..2, &mut out).unwrap();
    assert_eq!(out, [3.5, -0.5, 14.0, 0.0]);
    assert_eq!(rows::int4_pair(0x81), (-8, 1));
}

#[test]
fn names_the_block_whose_scale_is_not_finite() {
    let fields =
        [(DType::Q4_0, 0), (DType::Q5_1, 2), (DType::Q2_K, 82), (DType::Q3_K, 108), (DType::Q6_K, 208)];
    for (dtype, at) in fields {
        for bits in [0x7e00u16, 0x7c00, 0xfc00] {
            let mut bytes = vec![0; 5 * dtype.block_bytes()];
            assert_eq!(check_scales(dtype, &bytes), Ok(()));
            let offset = 3 * dtype.block_bytes() + at;
            bytes[offset..offset + 2].copy_from_slice(&bits.to_le_bytes());
            match check_scales(dtype, &bytes) {
                Err(QuantError::NotFinite { block: 3, offset: found, .. }) => assert_eq!(found, offset),
                other => panic!("{dtype}: {other:?}"),
            }
        }
    }
    let text = check_scales(DType::Q8_0, &[0, 0x7c].repeat(17)).unwrap_err().to_string();
    assert_eq!(text, "Q8_0 block 0 (byte offset 0): its scale is inf");

    let infinity: [(DType, &[u8]); 3] =
        [(DType::F32, &[0, 0, 0x80, 0xff]), (DType::F16, &[0, 0x7c]), (DType::BF16, &[0x80, 0x7f])];
    for (dtype, number) in infinity {
        let mut bytes = vec![0; 1000 * number.len()];
        assert_eq!(check_scales(dtype, &bytes), Ok(()));
        let at = 777 * number.len();
        bytes[at..at + number.len()].copy_from_slice(number);
        match check_scales(dtype, &bytes) {
            Err(QuantError::NotFinite { block: 777, offset, .. }) => assert_eq!(offset, at),
            other => panic!("{dtype}: {other:?}"),
        }
    }
    let matrix = MatrixView::new(DType::RowI8, 2, 1, &[1, 2], Some(&[0, 0x3c, 0, 0x7e])).unwrap();
    assert!(matches!(check_matrix(&matrix), Err(QuantError::NotFinite { block: 1, offset: 2, .. })));
}

#[test]
fn refuses_what_it_cannot_encode() {
    let mut out = Vec::new();
    let mut row = vec![0.5; 256];
    for dtype in [DType::IQ4_NL, DType::IQ4_XS, DType::RowI8, DType::RowI4] {
        assert_eq!(encode_row(dtype, &row, &mut out), Err(QuantError::NoEncoder(dtype)));
    }
    assert_eq!(encode_row(DType::I32, &row, &mut out), Err(QuantError::NotAWeightType(DType::I32)));
    assert!(matches!(encode_row(DType::Q4_K, &row[..255], &mut out), Err(QuantError::WrongLength { .. })));
    for (dtype, ..) in BOUNDS {
        for bad in [f32::NAN, f32::INFINITY, -f32::INFINITY] {
            row[200] = bad;
            let error = encode_row(dtype, &row, &mut out).unwrap_err();
            assert!(matches!(error, QuantError::Unencodable { index: 200, .. }), "{dtype}: {error:?}");
        }
        row[200] = 1e30;
        let refused = encode_row(dtype, &row, &mut out).is_err();
        assert_eq!(refused, !matches!(dtype, DType::F32 | DType::BF16), "{dtype}");
        out.clear();
        row[200] = -3e8; // Within the searches' range, but no scale in binary16 reaches it.
        let result = encode_row(dtype, &row, &mut out);
        if !matches!(dtype, DType::F32 | DType::BF16) {
            assert_eq!(result, Err(QuantError::Unencodable { dtype, index: 200, value: -3e8 }));
            assert!(out.is_empty());
        }
        out.clear();
        row[200] = 0.5;
    }
}
