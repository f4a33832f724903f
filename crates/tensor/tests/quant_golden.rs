//! Block formats against ggml and gguf-py: the stored file is made by `tools/make_quant_golden.py`.

#![allow(clippy::unwrap_used, reason = "a broken golden file is a broken test")]

use glimmer_tensor::DType;
use glimmer_tensor::quant::{decode_row, encode_row};
use std::collections::HashMap;

static GOLDEN: &[u8] = include_bytes!("data/quant_golden.bin");

/// Reads the layout that the script's head describes.
struct Reader(&'static [u8]);

impl Reader {
    fn take(&mut self, n: usize) -> &'static [u8] {
        let (head, rest) = self.0.split_at(n);
        self.0 = rest;
        head
    }

    fn name(&mut self, width: usize) -> &'static str {
        std::str::from_utf8(self.take(width)).unwrap().trim_end_matches('\0')
    }

    fn u32(&mut self) -> usize {
        u32::from_le_bytes(self.take(4).try_into().unwrap()) as usize
    }

    fn floats(&mut self, n: usize) -> Vec<f32> {
        self.take(4 * n).as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }
}

enum Decoded {
    Values(Vec<f32>),
    Hash { len: usize, fnv1a: u64 },
}

struct Record {
    dtype: DType,
    input: &'static str,
    bytes: &'static [u8],
    decoded: Decoded,
}

fn golden() -> (HashMap<&'static str, Vec<f32>>, Vec<Record>) {
    let mut r = Reader(GOLDEN);
    let mut inputs = HashMap::new();
    for _ in 0..r.u32() {
        let name = r.name(16);
        let n = r.u32();
        inputs.insert(name, r.floats(n));
    }
    let mut records = Vec::new();
    for _ in 0..r.u32() {
        let name = r.name(8);
        let dtype = *DType::WEIGHTS.iter().find(|t| t.name() == name).unwrap();
        let input = r.name(16);
        let n = r.u32();
        let bytes = r.take(n);
        let len = r.u32();
        let decoded = if input == "random" {
            Decoded::Values(r.floats(len))
        } else {
            Decoded::Hash { len, fnv1a: u64::from_le_bytes(r.take(8).try_into().unwrap()) }
        };
        records.push(Record { dtype, input, bytes, decoded });
    }
    assert!(r.0.is_empty());
    (inputs, records)
}

fn fnv1a(values: &[f32]) -> u64 {
    let bytes = values.iter().flat_map(|v| v.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

#[test]
fn decodes_bit_for_bit() {
    let (_, records) = golden();
    assert_eq!(records.len(), 280);
    for Record { dtype, input, bytes, decoded } in records {
        match decoded {
            Decoded::Values(expected) => {
                let mut out = vec![0.0; expected.len()];
                decode_row(dtype, bytes, &mut out).unwrap();
                for (i, (o, e)) in out.iter().zip(&expected).enumerate() {
                    assert_eq!(o.to_bits(), e.to_bits(), "{dtype} {input:?} element {i}: {o} is not {e}");
                }
            }
            Decoded::Hash { len, fnv1a: expected } => {
                let mut out = vec![0.0; len];
                decode_row(dtype, bytes, &mut out).unwrap();
                assert_eq!(fnv1a(&out), expected, "{dtype} {input:?}");
            }
        }
    }
}

#[test]
fn encodes_byte_for_byte() {
    let (inputs, records) = golden();
    let mut compared = 0;
    for Record { dtype, input, bytes, .. } in records {
        if input == "random" || matches!(dtype, DType::IQ4_NL | DType::IQ4_XS) {
            continue;
        }
        let mut out = Vec::new();
        encode_row(dtype, &inputs[input], &mut out).unwrap();
        let different = out.iter().zip(bytes).filter(|(a, b)| a != b).count();
        assert_eq!(out.len(), bytes.len());
        assert_eq!(different, 0, "{dtype} {input:?}: {different} of {} bytes differ", bytes.len());
        compared += 1;
    }
    assert_eq!(compared, 12 * inputs.len());
}
