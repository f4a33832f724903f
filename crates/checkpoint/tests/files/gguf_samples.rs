//! Files that gguf-py wrote (`tools/make_gguf_samples.py`) against what gguf-py reads from them.

use glimmer_checkpoint::gguf::{Metadata, Strings, Value};
use glimmer_checkpoint::{Checkpoint, CheckpointFormat};
use serde_json::{Value as Json, json};

use crate::support::{crc32, data, open, refusal, says};

/// A GGUF value as `expected.json` spells it.
fn to_json(metadata: &Metadata, key: &str) -> Json {
    match metadata.value(key).unwrap() {
        Value::Str(v) => json!(v),
        Value::Bool(v) => json!(v),
        Value::U64(v) => json!(v),
        Value::I64(v) => json!(v),
        Value::F64(v) => json!(v),
        Value::F32(v) => json!(f64::from(*v)),
        Value::U8(_) | Value::U16(_) | Value::U32(_) => json!(metadata.need::<u32>(key).unwrap()),
        Value::I8(_) | Value::I16(_) | Value::I32(_) => json!(metadata.need::<i32>(key).unwrap()),
        Value::Array(_) => {
            if let Ok(v) = metadata.need::<Vec<u64>>(key) {
                json!(v)
            } else if let Ok(v) = metadata.need::<Vec<i32>>(key) {
                json!(v)
            } else if let Ok(v) = metadata.need::<Vec<f32>>(key) {
                json!(v.into_iter().map(f64::from).collect::<Vec<_>>())
            } else if let Ok(v) = metadata.need::<Vec<bool>>(key) {
                json!(v)
            } else {
                json!(metadata.need::<&Strings>(key).unwrap().iter().collect::<Vec<_>>())
            }
        }
    }
}

fn check_tensors(model: &Checkpoint, file: &str, expected: &Json) -> usize {
    let expected = expected["tensors"].as_object().unwrap();
    for (name, expected) in expected {
        let view = model.tensor(name).unwrap();
        assert!(view.info.file.ends_with(file));
        let found = json!([
            view.info.dtype.name(),
            view.info.shape,
            view.info.offset,
            format!("{:08x}", crc32(0, view.data))
        ]);
        assert_eq!(&found, expected, "{file}: {name}");
    }
    expected.len()
}

/// Whether two values are the same, numbers whatever their spelling.
fn same(found: &Json, expected: &Json) -> bool {
    match (found, expected) {
        (Json::Array(found), Json::Array(expected)) => {
            found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| same(a, b))
        }
        (Json::Number(found), Json::Number(expected)) => {
            found == expected || found.is_f64() && found.as_f64() == expected.as_f64()
        }
        _ => found == expected,
    }
}

#[test]
fn everything_is_what_gguf_py_reads() {
    let text = std::fs::read_to_string(data("gguf/expected.json")).unwrap();
    let expected: Json = serde_json::from_str(&text).unwrap();
    for file in ["everything.gguf", "aligned.gguf"] {
        let model = open(&data("gguf").join(file));
        assert_eq!(model.kind(), CheckpointFormat::Gguf);
        assert!(model.config().is_none());
        assert_eq!(check_tensors(&model, file, &expected[file]), model.tensors().len());
        let metadata = model.metadata().unwrap();
        let fields = expected[file]["fields"].as_object().unwrap();
        assert_eq!(metadata.iter().len(), fields.len());
        for (key, value) in fields {
            assert!(same(&to_json(metadata, key), value), "{file}: {key}: {value}");
        }
    }
    // A split model opens by any of its parts.
    let parts = ["split-00001-of-00003.gguf", "split-00002-of-00003.gguf", "split-00003-of-00003.gguf"];
    for part in parts {
        let model = open(&data("gguf").join(part));
        let found: usize = parts.iter().map(|file| check_tensors(&model, file, &expected[*file])).sum();
        assert_eq!((found, model.tensors().len()), (5, 5));
        assert_eq!(model.metadata().unwrap().need::<u32>("chatglm.block_count").unwrap(), 5);
    }
}

#[test]
fn version_2_reads_as_version_3() {
    let mut bytes = std::fs::read(data("gguf/everything.gguf")).unwrap();
    bytes[4] = 2;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("v2.gguf");
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(open(&path).tensors().len(), 22);
}

#[test]
fn big_endian_is_refused() {
    says(&refusal(&data("gguf/big-endian.gguf"), "big-endian.gguf"), &["byte 4", "big-endian"]);
}

#[test]
fn typed_getters_name_key_and_kinds() {
    let model = open(&data("gguf/everything.gguf"));
    let metadata = model.metadata().unwrap();
    assert_eq!(metadata.need::<&str>("general.architecture").unwrap(), "chatglm");
    assert_eq!(metadata.need::<u64>("v.u8").unwrap(), 200);
    assert_eq!(metadata.need::<&[u8]>("a.u8").unwrap(), [0, 127, 255]);
    assert_eq!(metadata.get::<u32>("absent").unwrap(), None);
    let missing = metadata.need::<u32>("chatglm.block_count").unwrap_err().to_string();
    says(&missing, &["everything.gguf", "`chatglm.block_count`", "missing"]);
    let wrong = metadata.get::<u32>("v.i8").unwrap_err().to_string();
    says(&wrong, &["everything.gguf", "`v.i8`", "an i8", "an integer from 0"]);
    says(&metadata.need::<f32>("v.str").unwrap_err().to_string(), &["`v.str`", "a string", "a float"]);
    says(&metadata.need::<u32>("v.u64").unwrap_err().to_string(), &["`v.u64`", "a u64"]);
}
