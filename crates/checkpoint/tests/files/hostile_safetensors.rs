//! safetensors files as no tool writes them: each is refused in one line.

use glimmer_tensor::DType;

use crate::support::{directory, open, refused, safetensors, says};

fn refused_with(header: &str, data: &[u8]) -> String {
    refused("model.safetensors", &safetensors(header, data))
}

fn one(dtype: &str, shape: &str, offsets: &str) -> String {
    format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
}

#[test]
fn sound_file_opens_and_every_truncation_is_refused() {
    let bytes = safetensors(&one("F32", "[2,2]", "[0,16]"), &[0; 16]);
    let model = directory(&[("model.safetensors", &bytes)]);
    assert_eq!(open(model.path()).tensors()[0].shape, [2, 2]);
    for len in 1..bytes.len() {
        refused("model.safetensors", &bytes[..len]);
    }
    says(&refused("model.safetensors", &bytes[..bytes.len() - 1]), &["tensor `w`", "truncated", "16 bytes"]);
    says(&refused("model.safetensors", &bytes[..20]), &["byte 8", "truncated", "the header needs"]);
}

/// The length of a header may spell the magic number of another format.
#[test]
fn lengths_that_look_like_other_formats() {
    let header = format!("{:640}", one("F32", "[1]", "[0,4]"));
    let bytes = safetensors(&header, &[0; 4]);
    assert_eq!(bytes[..2], *b"\x80\x02");
    let model = directory(&[("weights", &bytes)]);
    assert_eq!(open(&model.path().join("weights")).tensors().len(), 1);
}

#[test]
fn every_type() {
    for (name, dtype) in [
        ("F64", DType::F64),
        ("F32", DType::F32),
        ("F16", DType::F16),
        ("BF16", DType::BF16),
        ("I64", DType::I64),
        ("I32", DType::I32),
        ("I16", DType::I16),
        ("I8", DType::I8),
        ("U8", DType::U8),
        ("BOOL", DType::Bool),
    ] {
        let len = dtype.block_bytes() * 3;
        let bytes = safetensors(&one(name, "[3]", &format!("[0,{len}]")), &vec![0; len]);
        let model = directory(&[("model.safetensors", &bytes)]);
        assert_eq!(open(model.path()).tensors()[0].dtype, dtype);
    }
}

/// The reference implementation reads files with types that nobody here computes with; only whoever needs such a tensor
/// is refused. (safetensors 0.8, `Dtype` in `safetensors/src/tensor.rs`, has all of these but Q4_0.)
#[test]
fn tensors_of_other_types_stop_nobody_who_does_not_need_them() {
    for (name, shape, len) in [
        ("F8_E4M3", "[3]", 3),
        ("F8_E5M2", "[3]", 3),
        ("F8_E8M0", "[3]", 3),
        ("F4", "[2,3]", 3),
        ("F6_E2M3", "[4]", 3),
        ("U16", "[1]", 2),
        ("U32", "[]", 4),
        ("U64", "[0]", 0),
        ("C64", "[2]", 16),
        ("Q4_0", "[7]", 18),
    ] {
        let foreign = format!(r#""w":{{"dtype":"{name}","shape":{shape},"data_offsets":[0,{len}]}}"#);
        let known = format!(r#""v":{{"dtype":"F32","shape":[1],"data_offsets":[{len},{}]}}"#, len + 4);
        let bytes = safetensors(&format!("{{{foreign},{known}}}"), &vec![0; len + 4]);
        let directory = directory(&[("model.safetensors", &bytes)]);
        let model = open(directory.path());
        assert_eq!(model.vector_of("v", 1).unwrap(), [0.0]);
        assert!(model.holds("w") && model.info("w").is_none() && !model.holds("u"));
        assert_eq!(model.foreign().map(|foreign| foreign.type_name.as_str()).collect::<Vec<_>>(), [name]);
        says(&model.tensor("w").unwrap_err().to_string(), &["tensor `w`", name, "not supported"]);
        // Their bytes are counted like everybody's.
        says(&refused_with(&format!("{{{foreign}}}"), &vec![0; len + 1]), &["data section"]);
        let twice = format!("{{{foreign},{}}}", known.replace("\"v\"", "\"w\""));
        says(&refused_with(&twice, &vec![0; len + 4]), &["tensor `w`", "twice"]);
    }
    says(&refused_with(&one("F4", "[3]", "[0,2]"), &[0; 2]), &["tensor `w`", "type and shape"]);
    says(&refused_with(&one("C64", "[2]", "[0,8]"), &[0; 8]), &["tensor `w`", "type and shape"]);
    says(&refused_with(&one("F8", "[2]", "[0,8]"), &[0; 4]), &["tensor `w`", "beyond the file's end"]);
    says(&refused_with(&one("F8", "[2]", "[2,0]"), &[0; 4]), &["tensor `w`", "end before"]);
}

/// The reference implementation's `__metadata__` is optional, and null is none.
#[test]
fn metadata_may_be_null() {
    let header = r#"{"__metadata__":null,"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#;
    let model = directory(&[("model.safetensors", &safetensors(header, &[7]))]);
    assert_eq!(open(model.path()).tensor("w").unwrap().data, [7]);
    let twice = r#"{"__metadata__":null,"__metadata__":null}"#;
    says(&refused_with(twice, &[]), &["duplicate"]);
}

#[test]
fn headers() {
    let long = |len: u64| [&len.to_le_bytes()[..], b"{}"].concat();
    says(&refused("model.safetensors", &long(u64::MAX)), &["byte 0", "header bytes", "limit"]);
    says(&refused("model.safetensors", &long(100_000_001)), &["header bytes", "limit"]);
    says(&refused("model.safetensors", &long(3)), &["byte 8", "truncated"]);
    says(&refused_with("[]", &[]), &["no JSON object"]);
    says(&refused_with(" {}", &[]), &["no JSON object"]);
    says(&refused_with(r#"{"w":}"#, &[]), &["byte 13", "does not parse"]);
    says(&refused_with("{\"a\":\n1}", &[]), &["byte 14", "does not parse"]);
    says(&refused_with(r#"{} {}"#, &[]), &["does not parse"]);
    says(&refused_with(r#"{"w":{"dtype":"F32","shape":[1]}}"#, &[]), &["data_offsets"]);
    says(&refused_with(&one("F32", "[-1]", "[0,4]"), &[0; 4]), &["does not parse"]);
    says(&refused_with(&one("F32", "[1.5]", "[0,4]"), &[0; 4]), &["does not parse"]);
    says(&refused_with(&one("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), &[0; 4]), &["8 dimensions"]);
    says(&refused_with(r#"{"__metadata__":{"a":1}}"#, &[]), &["does not parse"]);
    let nested = format!("{{\"w\":{}{}}}", "[".repeat(50_000), "]".repeat(50_000));
    says(&refused_with(&nested, &[]), &["does not parse"]);
    let not_utf8 = [&4u64.to_le_bytes()[..], b"{\"\xff\""].concat();
    says(&refused("model.safetensors", &not_utf8), &["not UTF-8"]);
    let empty = directory(&[("model.safetensors", &safetensors("{}", &[]))]);
    assert_eq!(open(empty.path()).tensors().len(), 0);
}

#[test]
fn shapes_and_places() {
    let tensor = |header: &str, len| refused_with(header, &vec![0; len]);
    says(&tensor(&one("F32", "[2]", "[0,4]"), 4), &["tensor `w`", "F32 [2] takes 8 bytes", "gives 4"]);
    says(&tensor(&one("F32", "[1]", "[4,0]"), 4), &["tensor `w`", "end before they begin"]);
    says(&tensor(&one("F32", "[1]", "[4,8]"), 4), &["tensor `w`", "beyond the file's end"]);
    says(&tensor(&one("F32", "[1]", "[0,18446744073709551615]"), 4), &["tensor `w`", "gives 1844"]);
    says(&tensor(&one("F32", "[18446744073709551615,2]", "[0,4]"), 4), &["tensor `w`", "too large"]);
    says(&tensor(&one("F32", "[4294967296,4294967296]", "[0,0]"), 0), &["tensor `w`", "too large"]);
    says(&tensor(&one("F32", "[0,18446744073709551615,2]", "[0,0]"), 0), &["tensor `w`", "too large"]);
    says(&tensor(&one("F32", "[1]", "[0,4]"), 8), &["data section has 8 bytes", "take 4"]);
    says(&tensor(&one("F32", "[1]", "[4,8]"), 8), &["data section has 8 bytes", "take 4"]);
}

#[test]
fn two_tensors() {
    let two = |a: &str, x: &str, b: &str, y: &str| {
        let tensor =
            |name, offsets| format!(r#""{name}":{{"dtype":"F32","shape":[2],"data_offsets":{offsets}}}"#);
        format!("{{{},{}}}", tensor(a, x), tensor(b, y))
    };
    says(&refused_with(&two("a", "[0,8]", "b", "[4,12]"), &[0; 12]), &["tensor `b`", "overlap", "`a`"]);
    says(&refused_with(&two("a", "[0,8]", "b", "[0,8]"), &[0; 8]), &["overlap"]);
    says(&refused_with(&two("a", "[0,8]", "b", "[12,20]"), &[0; 20]), &["data section"]);
    says(&refused_with(&two("a", "[0,8]", "a", "[8,16]"), &[0; 16]), &["tensor `a`", "twice"]);
    let swapped = safetensors(&two("a", "[8,16]", "b", "[0,8]"), &[0; 16]);
    let model = directory(&[("model.safetensors", &swapped)]);
    let names: Vec<_> = open(model.path()).tensors().iter().map(|t| t.name.clone()).collect();
    assert_eq!(names, ["b", "a"]);
}
