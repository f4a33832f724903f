//! Directories and lone files that are not what they should be.

use glimmer_checkpoint::{Checkpoint, CheckpointError, CheckpointFormat};
use glimmer_tensor::DType;

use crate::support::{
    archive, dict_code, directory, one_line, open, refusal, refused, safetensors, says, tensor_code,
};

fn vector(names: &[&str]) -> Vec<u8> {
    let tensor = |(at, name): (usize, &&str)| {
        format!(r#""{name}":{{"dtype":"F32","shape":[1],"data_offsets":[{},{}]}}"#, at * 4, at * 4 + 4)
    };
    let tensors: Vec<_> = names.iter().enumerate().map(tensor).collect();
    safetensors(&format!("{{{}}}", tensors.join(",")), &vec![0; names.len() * 4])
}

fn index(pairs: &[(&str, &str)]) -> Vec<u8> {
    let pairs: Vec<_> = pairs.iter().map(|(t, f)| format!("\"{t}\":\"{f}\"")).collect();
    format!(r#"{{"metadata":{{}},"weight_map":{{{}}}}}"#, pairs.join(",")).into_bytes()
}

const INDEX: &str = "model.safetensors.index.json";

#[test]
fn nothing_there() {
    let empty = directory(&[]);
    says(&refusal(&empty.path().join("absent"), "absent"), &["no such file"]);
    let model = open(empty.path());
    assert_eq!((model.kind(), model.tensors().len()), (CheckpointFormat::None, 0));
    assert!(model.config().is_none() && model.metadata().is_none());
    let message = one_line(model.tensor("lm_head.weight").unwrap_err().to_string(), "");
    says(&message, &["holds no weights", "`lm_head.weight`"]);
    says(&refused("model.safetensors", b""), &["empty"]);
    says(&refused("model.gguf", b""), &["empty"]);
}

#[test]
fn git_lfs_pointers() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";
    for name in ["model.safetensors", "pytorch_model.bin", "x.gguf"] {
        says(&refused(name, pointer), &["Git LFS pointer", "12345 bytes", "git lfs pull"]);
    }
    let model = directory(&[("model.safetensors", pointer)]);
    says(&refusal(model.path(), "model.safetensors"), &[&format!("in {}", model.path().display())]);
    let shard =
        directory(&[(INDEX, &index(&[("a", "model-1.safetensors")])), ("model-1.safetensors", pointer)]);
    says(&refusal(shard.path(), "model-1.safetensors"), &["git lfs pull"]);
    let config = directory(&[("model.safetensors", &vector(&["a"])), ("config.json", pointer)]);
    says(&refusal(config.path(), "config.json"), &["git lfs pull"]);
}

#[test]
fn configurations() {
    let with = |config: &[u8]| directory(&[("config.json", config), ("model.safetensors", &vector(&["a"]))]);
    let model = open(with(br#"{"a": {"b": 1}}"#).path());
    assert_eq!(model.config().unwrap()["a"]["b"], 1);
    let files = model.configuration();
    assert!(files.generation_config().is_none() && files.tokenizer_config().is_none());
    for bad in [&b"{"[..], b"[]", b"nonsense", b"{\"a\":1}}", b"{\"a\": NaN}", &[0xff; 8]] {
        refusal(with(bad).path(), "config.json");
    }
    refusal(with("[".repeat(100_000).as_bytes()).path(), "config.json");
    // A lone file has the configuration beside it.
    let model = with(b"{}");
    assert!(open(&model.path().join("model.safetensors")).config().is_some());
}

#[test]
fn a_configuration_of_any_size_is_not_read() {
    let model = directory(&[("model.safetensors", &vector(&["a"]))]);
    let config = std::fs::File::create(model.path().join("config.json")).unwrap();
    config.set_len(1 << 40).unwrap();
    says(&refusal(model.path(), "config.json"), &["1099511627776 bytes"]);
}

#[test]
fn shards() {
    let (one, two) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
    let sound = index(&[("a", one), ("b", two), ("c", two)]);
    let model = directory(&[(INDEX, &sound), (one, &vector(&["a"])), (two, &vector(&["b", "c"]))]);
    assert_eq!(open(model.path()).tensors().len(), 3);

    let missing = directory(&[(INDEX, &sound), (one, &vector(&["a"]))]);
    says(&refusal(missing.path(), two), &["missing", "tensor `b`"]);
    let elsewhere = directory(&[(INDEX, &sound), (one, &vector(&["a", "b"])), (two, &vector(&["c"]))]);
    says(&refusal(elsewhere.path(), two), &["tensor `b`", "missing", INDEX]);
    let twice = directory(&[(INDEX, &sound), (one, &vector(&["a"])), (two, &vector(&["b", "c", "a"]))]);
    says(&refusal(twice.path(), two), &["tensor `a`", "as well", one]);
    let mixed = directory(&[(INDEX, &sound), (one, &vector(&["a"])), (two, &archive(&dict_code(&[]), &[]))]);
    says(&refusal(mixed.path(), INDEX), &["another format"]);

    let only = |index: &[u8]| refusal(directory(&[(INDEX, index), (one, &vector(&["a"]))]).path(), INDEX);
    says(&only(b"{}"), &["weight_map"]);
    says(&only(br#"{"weight_map":[]}"#), &["line 1"]);
    says(&only(br#"{"weight_map":{}}"#), &["names no tensor"]);
    says(&only(&index(&[("a", one), ("a", one)])), &["`a` occurs twice"]);
    for outside in ["../x.safetensors", "/etc/passwd", "a/b", ".", "..", "", "a/"] {
        says(&only(&index(&[("a", outside)])), &["plain name"]);
    }
}

#[test]
fn what_is_not_a_file() {
    let model = tempfile::tempdir().unwrap();
    std::fs::create_dir(model.path().join("model.safetensors")).unwrap();
    says(&refusal(model.path(), "model.safetensors"), &["not a regular file"]);
    #[cfg(unix)]
    {
        let model = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("../blobs/gone", model.path().join("model.safetensors")).unwrap();
        says(&refusal(model.path(), "model.safetensors"), &["no such file"]);
    }
    #[cfg(target_os = "linux")]
    says(&refusal(std::path::Path::new("/dev/zero"), "zero"), &["not a regular file"]);
}

#[test]
fn missing_tensors_name_the_nearest() {
    let names = ["transformer.encoder.layers.0.input_layernorm.weight", "lm_head.weight", "x", "y", "z"];
    let model = directory(&[("model.safetensors", &vector(&names))]);
    let model = open(model.path());
    let message = model.tensor("model.layers.0.input_layernorm.weight").unwrap_err().to_string();
    says(&message, &["`model.layers.0.input_layernorm.weight` is missing", "nearest", names[0]]);
    let message = model.vector_f32("q").unwrap_err().to_string();
    assert!(!message.contains("nearest"), "{message}");
}

#[test]
fn wrong_shapes_and_types() {
    let header = concat!(
        r#"{"norm":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"#,
        r#""ids":{"dtype":"I64","shape":[2,1],"data_offsets":[8,24]},"#,
        r#""w":{"dtype":"F16","shape":[2,3],"data_offsets":[24,36]},"#,
        r#""q.weight":{"dtype":"I8","shape":[2,3],"data_offsets":[36,42]},"#,
        r#""p.weight":{"dtype":"I8","shape":[2,2],"data_offsets":[42,46]},"#,
        r#""p.weight_scale":{"dtype":"F32","shape":[1],"data_offsets":[46,50]}}"#,
    );
    let directory = directory(&[("model.safetensors", &safetensors(header, &[0; 50]))]);
    let model = open(directory.path());
    let error =
        |result: Result<(), CheckpointError>| one_line(result.unwrap_err().to_string(), "model.safetensors");
    let at = |name: &str| format!("tensor `{name}` at byte {}", model.info(name).unwrap().offset);

    assert_eq!(model.vector_of("norm", 2).unwrap(), [0.0, 0.0]);
    says(&error(model.vector_of("norm", 3).map(drop)), &[&at("norm"), "[2]", "[3]"]);
    says(&error(model.vector_f32("ids").map(drop)), &[&at("ids"), "I64", "float"]);
    assert_eq!(model.matrix_of("w", 2, 3).unwrap().dtype, DType::F16);
    says(&error(model.matrix_of("w", 3, 2).map(drop)), &[&at("w"), "[2, 3]", "[3, 2]"]);
    says(&error(model.matrix_of("w", 2, 6).map(drop)), &[&at("w"), "[2, 6]"]);
    says(&error(model.matrix("norm").map(drop)), &[&at("norm"), "shape [2]", "two dimensions"]);
    says(&error(model.matrix("ids").map(drop)), &[&at("ids"), "I64 is not a weight type"]);
    says(&error(model.matrix("q.weight").map(drop)), &[&at("q.weight"), "quantization_bit"]);
    says(&model.matrix_of("q.weight", 2, 3).unwrap_err().to_string(), &["`q.weight_scale` is missing"]);
    says(&error(model.matrix_of("p.weight", 2, 4).map(drop)), &[&at("p.weight_scale"), "F32", "F16"]);
    says(&error(model.matrix_of("p.weight", 2, 5).map(drop)), &[&at("p.weight"), "[2, 5]"]);
}

#[test]
fn numbers_that_are_not_finite() {
    let nan = half::f16::NAN.to_le_bytes();
    let header = r#"{"a":{"dtype":"F16","shape":[4],"data_offsets":[0,8]}}"#;
    let mut data = [0; 8];
    data[4..6].copy_from_slice(&nan);
    let bytes = safetensors(header, &data);
    let model = directory(&[("model.safetensors", &bytes)]);
    let model = open(model.path());
    let info = model.info("a").unwrap();
    let message = model.check_finite(info).unwrap_err().to_string();
    says(&one_line(message, "model.safetensors"), &[&format!("tensor `a` at byte {}", info.offset), "NaN"]);

    // ChatGLM's packings: the scale beside the weight.
    let weight = tensor_code("CharStorage", "0", 8, 0, &[2, 4], &[4, 1]);
    let scale = tensor_code("HalfStorage", "1", 2, 0, &[2], &[1]);
    let pickle = dict_code(&[("x.weight", weight), ("x.weight_scale", scale)]);
    let scales = [[0, 0x3c], half::f16::INFINITY.to_le_bytes()].concat();
    let bytes = archive(&pickle, &[("0", &[1; 8]), ("1", &scales)]);
    let model = directory(&[("pytorch_model.bin", &bytes), ("config.json", br#"{"quantization_bit": 8}"#)]);
    let model = open(model.path());
    assert_eq!(model.matrix("x.weight").unwrap().dtype, DType::RowI8);
    let message = model.check_finite(model.info("x.weight").unwrap()).unwrap_err().to_string();
    says(&one_line(message, "pytorch_model.bin"), &["tensor `x.weight_scale`", "inf"]);
}

#[test]
fn released_pages_come_back() {
    let len = 1 << 20;
    let header = format!(r#"{{"a":{{"dtype":"U8","shape":[{len}],"data_offsets":[0,{len}]}}}}"#);
    let bytes: Vec<u8> = (0..len).map(|i| (i * 7 % 251) as u8).collect();
    let directory = directory(&[("model.safetensors", &safetensors(&header, &bytes))]);
    let model: Checkpoint = open(directory.path());
    let view = model.tensor("a").unwrap();
    model.release(view.info);
    assert_eq!(view.data, bytes);
    model.release_bytes(&view.data[5000..600_000]);
    model.release_bytes(&bytes);
    assert_eq!(view.data, bytes);
    assert_eq!(model.file_bytes(), (8 + header.len() + len) as u64);
}
