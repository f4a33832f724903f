//! Every fixture's tensors against digests that Python's safetensors and PyTorch made of the same files
//! (`tools/make_checkpoint_sums.py`), and what ChatGLM's packings come out as.

use std::fmt::Write;

use glimmer_checkpoint::{Checkpoint, CheckpointFormat};
use glimmer_tensor::DType;

use crate::support::{crc32, fixture};

#[test]
fn tensors_are_what_python_reads() {
    let sums: serde_json::Value = serde_json::from_str(include_str!("../data/fixture_sums.json")).unwrap();
    let (mut seen, mut skipped) = (0, 0);
    for (name, expected) in sums.as_object().unwrap() {
        let Some(path) = fixture(name) else {
            skipped += 1;
            continue;
        };
        let model = Checkpoint::open(&path).unwrap_or_else(|e| panic!("{e}"));
        let mut infos: Vec<_> = model.tensors().iter().collect();
        infos.sort_by_key(|info| &info.name);
        let mut lines = String::new();
        let mut bytes = 0;
        for info in &infos {
            let view = model.tensor(&info.name).unwrap();
            bytes += view.data.len();
            let crc = crc32(0, view.data);
            writeln!(lines, "{} {} {:?} {crc:08x}", info.name, info.dtype, info.shape).unwrap();
        }
        assert_eq!(infos.len() as u64, expected["tensors"], "{name}");
        assert_eq!(bytes as u64, expected["bytes"], "{name}");
        assert_eq!(format!("{:08x}", crc32(0, lines.as_bytes())), expected["digest"], "{name}:\n{lines}");
        seen += 1;
    }
    println!("{seen} models agree");
    if skipped > 0 {
        println!("skipped: ../shared not present ({skipped} models)");
    }
}

#[test]
fn chatglm_packings() {
    for (name, packed, per_model) in [
        ("chatglm-6b-int8", DType::RowI8, 28 * 4),
        ("chatglm-6b-int4", DType::RowI4, 28 * 4),
        ("chatglm-6b-int4-qe", DType::RowI4, 28 * 4 + 2),
        ("chatglm2-6b-int8", DType::RowI8, 8),
        ("chatglm2-6b-int4", DType::RowI4, 8),
    ] {
        let Some(path) = fixture(name) else {
            println!("skipped: ../shared not present ({name})");
            continue;
        };
        let model = Checkpoint::open(&path).unwrap();
        assert_eq!(model.kind(), CheckpointFormat::PyTorch);
        let mut found = 0;
        for info in model.tensors().iter().filter(|info| info.dtype == DType::I8) {
            let by_config = model.matrix(&info.name).unwrap();
            assert_eq!(by_config.dtype, packed, "{name}: {}", info.name);
            let by_shape = model.matrix_of(&info.name, by_config.rows, by_config.cols).unwrap();
            assert_eq!((by_shape.dtype, by_shape.data), (packed, by_config.data));
            assert!(model.matrix_of(&info.name, by_config.rows, by_config.cols + 1).is_err());
            found += 1;
        }
        let layers = model.config().unwrap()["num_layers"].as_u64().unwrap();
        let expected = if name.starts_with("chatglm2") { layers * 4 } else { per_model };
        assert_eq!(found, expected, "{name}");

        // The fixture stores some matrices as PyTorch dequantized them, in float32.
        let expected = Checkpoint::open(&path.join("expected.safetensors")).unwrap();
        let mut compared = 0;
        for info in expected.tensors() {
            let Some(short) = info.name.strip_prefix("dequant.") else { continue };
            // `layer0.dense_4h_to_h` stands for `transformer.layers.0.mlp.dense_4h_to_h.weight` and its like.
            let (layer, part) = match short.strip_prefix("layer0.") {
                Some(part) => (".layers.0.", part),
                None => ("transformer.", short),
            };
            let stored = model.tensors().iter().map(|t| &t.name);
            let weight =
                stored.filter(|n| n.contains(layer)).find(|n| n.ends_with(&format!(".{part}.weight")));
            let weight = weight.unwrap_or_else(|| panic!("{name}: {short}"));
            let view = model.matrix(weight).unwrap();
            let scales = view.row_scale.unwrap();
            let reference = expected.vector_f32(&info.name).unwrap();
            assert_eq!(reference.len(), view.rows * view.cols);
            for row in 0..view.rows {
                let scale = half::f16::from_le_bytes([scales[2 * row], scales[2 * row + 1]]).to_f32();
                let bytes = &view.data[row * view.row_bytes()..][..view.row_bytes()];
                for col in 0..view.cols {
                    let q = match packed {
                        DType::RowI8 => bytes[col] as i8,
                        // The even column is in the high nibble.
                        _ if col % 2 == 0 => bytes[col / 2] as i8 >> 4,
                        _ => (bytes[col / 2] << 4) as i8 >> 4,
                    };
                    assert_eq!(
                        f32::from(q) * scale,
                        reference[row * view.cols + col],
                        "{name} {weight} {row} {col}"
                    );
                }
            }
            compared += 1;
        }
        assert!(compared > 0, "{name}: no dequantized example");
    }
}
