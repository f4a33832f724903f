//! GGUF files as no tool writes them: each is refused in one line.

use crate::support::{GgufBytes, directory, one_line, open, refusal, refused, says};

/// A file with one F32 tensor of four elements.
fn sound() -> Vec<u8> {
    GgufBytes::new(3, 1, 1).pair("k", 7).tensor("w", &[4], 0, 0).data(16)
}

fn refused_gguf(bytes: &[u8]) -> String {
    refused("model.gguf", bytes)
}

#[test]
fn sound_file_opens_and_every_truncation_is_refused() {
    let bytes = sound();
    let model = directory(&[("model.gguf", &bytes)]);
    assert_eq!(open(&model.path().join("model.gguf")).tensors()[0].shape, [4]);
    for len in 1..bytes.len() {
        let message = refused_gguf(&bytes[..len]);
        if len > 4 {
            says(&message, &["byte "]);
            assert!(message.contains("truncated"), "{len}: {message}");
        }
    }
    says(&refused_gguf(&bytes[..bytes.len() - 1]), &["tensor `w`", "byte 96", "16 bytes", "end at 111"]);
}

#[test]
fn versions() {
    says(&refused_gguf(&GgufBytes::new(1, 0, 0).0), &["byte 4", "version 1"]);
    says(&refused_gguf(&GgufBytes::new(4, 0, 0).0), &["byte 4", "version 4"]);
    says(&refused_gguf(&GgufBytes::new(3 << 24, 0, 0).0), &["byte 4", "big-endian"]);
}

#[test]
fn counts_and_lengths_that_no_file_has() {
    let huge = u64::MAX;
    says(&refused_gguf(&GgufBytes::new(3, huge, 0).0), &["byte 8", "tensors", "limit"]);
    says(&refused_gguf(&GgufBytes::new(3, 0, huge).0), &["byte 16", "key/values", "limit"]);
    says(&refused_gguf(&GgufBytes::new(3, 1 << 19, 1 << 16).0), &["truncated", "the header"]);
    let pair = || GgufBytes::new(3, 0, 1);
    says(&refused_gguf(&pair().u64(huge).bytes(&[0; 16]).0), &["byte 24", "bytes of a name"]);
    says(&refused_gguf(&pair().u64(100).bytes(&[b'k'; 16]).0), &["byte 32", "a key needs 100 bytes"]);
    says(&refused_gguf(&pair().text("k").u32(8).u64(huge).0), &["a string needs"]);
    for element in [0, 2, 4, 8, 10] {
        let message = refused_gguf(&pair().text("k").u32(9).u32(element).u64(huge / 2).0);
        says(&message, &["byte 37", "an array needs"]);
    }
    let strings = pair().text("k").u32(9).u32(8).u64(1 << 24).bytes(&vec![0; 8 << 24]);
    says(&refused_gguf(&strings.0), &["array elements", "limit"]);
}

#[test]
fn values_that_mean_nothing() {
    let pair = || GgufBytes::new(3, 0, 1).text("k");
    says(&refused_gguf(&pair().u32(13).u64(0).0), &["does not define"]);
    says(&refused_gguf(&pair().u32(9).u32(13).u64(0).0), &["does not define"]);
    says(&refused_gguf(&pair().u32(9).u32(9).u64(1).u64(0).0), &["array of arrays"]);
    says(&refused_gguf(&pair().u32(7).bytes(&[2]).0), &["neither 0 nor 1"]);
    says(&refused_gguf(&pair().u32(8).u64(2).bytes(&[0xc3, 0x28]).0), &["not UTF-8"]);
    let twice = GgufBytes::new(3, 0, 2).pair("a.b", 1).pair("a.b", 2);
    says(&refused_gguf(&twice.0), &["byte 43", "`a.b`", "twice"]);
}

#[test]
fn alignments() {
    for bad in [0, 3, 48] {
        let bytes = GgufBytes::new(3, 1, 1).pair("general.alignment", bad).tensor("w", &[1], 0, 0).data(4);
        says(&refused_gguf(&bytes), &["general.alignment"]);
    }
    let far = GgufBytes::new(3, 1, 1).pair("general.alignment", 1 << 31).tensor("w", &[1], 0, 0).data(4);
    says(&refused_gguf(&far), &["tensor `w`", "byte 2147483648"]);
    let off = GgufBytes::new(3, 1, 0).tensor("w", &[1], 0, 4).data(64);
    says(&refused_gguf(&off), &["tensor `w`", "aligned"]);
}

#[test]
fn types() {
    // Whoever needs such a tensor is refused, and nobody else.
    let refused = |number, words: &[&str]| {
        let bytes = GgufBytes::new(3, 3, 0)
            .tensor("a", &[8], 0, 0)
            .tensor("blk.0.w", &[256], number, 32)
            .tensor("b", &[8], 0, 4096)
            .data(4128);
        let folder = directory(&[("model.gguf", &bytes)]);
        let model = open(&folder.path().join("model.gguf"));
        assert_eq!(model.vector_of("b", 8).unwrap(), [0.0; 8]);
        assert!(model.holds("blk.0.w") && model.info("blk.0.w").is_none());
        let bytes: Vec<u64> = model.foreign().map(|foreign| foreign.bytes).collect();
        assert_eq!(bytes, [4096 - 32]);
        let message = one_line(model.tensor("blk.0.w").unwrap_err().to_string(), "model.gguf");
        says(&message, &[&["tensor `blk.0.w`", "not supported"], words].concat());
    };
    refused(16, &["IQ2_XXS", "16"]);
    refused(4, &["Q4_2", "removed"]);
    refused(39, &["MXFP4"]);
    refused(1000, &["number 1000"]);
    refused(u32::MAX, &["number 4294967295"]);
    let outside = GgufBytes::new(3, 1, 0).tensor("w", &[256], 39, 8192).data(64);
    says(&refused_gguf(&outside), &["tensor `w`", "beyond the file's end"]);
    let within = GgufBytes::new(3, 2, 0).tensor("v", &[64], 0, 0).tensor("w", &[256], 39, 32).data(256);
    says(&refused_gguf(&within), &["tensor `w`", "overlap", "`v`"]);
    let twice = GgufBytes::new(3, 2, 0).tensor("w", &[8], 0, 0).tensor("w", &[256], 39, 32).data(64);
    says(&refused_gguf(&twice), &["tensor `w`", "twice"]);
}

#[test]
fn shapes() {
    let of = |dims: &[u64], number| GgufBytes::new(3, 1, 0).tensor("w", dims, number, 0).data(64);
    says(&refused_gguf(&of(&[1; 5], 0)), &["tensor `w`", "dimensions"]);
    says(&refused_gguf(&of(&[u64::MAX, 2], 0)), &["tensor `w`", "too large"]);
    says(&refused_gguf(&of(&[1 << 32, 1 << 32], 0)), &["tensor `w`", "too large"]);
    says(&refused_gguf(&of(&[1 << 62], 0)), &["tensor `w`", "too large"]);
    says(&refused_gguf(&of(&[0, 1 << 40, 1 << 40], 0)), &["tensor `w`", "too large"]);
    says(&refused_gguf(&of(&[33, 2], 8)), &["tensor `w`", "33", "Q8_0", "32"]);
    says(&refused_gguf(&of(&[1 << 40], 0)), &["tensor `w`", "beyond the file's end"]);
}

#[test]
fn places() {
    let at = |offset| GgufBytes::new(3, 1, 0).tensor("w", &[4], 0, offset).data(64);
    says(&refused_gguf(&at(64)), &["tensor `w`", "beyond the file's end"]);
    says(&refused_gguf(&at(u64::MAX - 31)), &["tensor `w`", "beyond the file's end"]);
    says(&refused_gguf(&at(1 << 63)), &["tensor `w`", "beyond the file's end"]);
    let two = |a, b| GgufBytes::new(3, 2, 0).tensor("a", &[16], 0, a).tensor("b", &[4], 0, b).data(128);
    says(&refused_gguf(&two(0, 32)), &["tensor `b`", "overlap", "`a`"]);
    says(&refused_gguf(&two(32, 64)), &["tensor `b`", "overlap", "`a`"]);
    let model = directory(&[("model.gguf", &two(0, 64))]);
    assert_eq!(open(&model.path().join("model.gguf")).tensors().len(), 2);
}

#[test]
fn names() {
    let twice = GgufBytes::new(3, 2, 0).tensor("w", &[4], 0, 0).tensor("w", &[4], 0, 32).data(64);
    says(&refused_gguf(&twice), &["tensor `w`", "twice"]);
    let ugly = GgufBytes::new(3, 1, 0).tensor("a\nb\u{1b}[31m", &[4], 0, 1).data(64);
    says(&refused_gguf(&ugly), &["a\\nb\\u{1b}[31m"]);
    let long = "x".repeat(60_000);
    says(&refused_gguf(&GgufBytes::new(3, 1, 0).tensor(&long, &[4], 0, 1).data(64)), &["xxx...`"]);
}

#[test]
fn split_sets() {
    let part = |no: u32, count: u32, name: &str| {
        GgufBytes::new(3, 1, 3)
            .pair("split.no", no)
            .pair("split.count", count)
            .pair("split.tensors.count", 2)
            .tensor(name, &[4], 0, 0)
            .data(16)
    };
    let (first, second) = ("m-00001-of-00002.gguf", "m-00002-of-00002.gguf");
    let try_both = |a: Vec<u8>, b: Option<Vec<u8>>, named: &str| {
        let parts = directory(&[(first, &a)]);
        if let Some(b) = b {
            std::fs::write(parts.path().join(second), b).unwrap();
        }
        refusal(&parts.path().join(first), named)
    };
    let sound = directory(&[(first, &part(0, 2, "a")), (second, &part(1, 2, "b"))]);
    assert_eq!(open(&sound.path().join(second)).tensors().len(), 2);

    says(&try_both(part(0, 2, "a"), None, second), &["part of the model is missing"]);
    says(&try_both(part(0, 2, "a"), Some(part(1, 2, "a")), second), &["tensor `a`", "as well", first]);
    says(&try_both(part(0, 2, "a"), Some(part(0, 2, "b")), second), &["part 1 of 2", "says 2 of 2"]);
    says(&try_both(part(0, 2, "a"), Some(part(1, 3, "b")), second), &["of 3"]);
    says(&try_both(part(0, 3, "a"), None, first), &["one of 3 parts", "its name says 2"]);
    says(&refused("m.gguf", &part(0, 2, "a")), &["one of 2 parts", "-00001-of-00002.gguf"]);
    let none = GgufBytes::new(3, 0, 2).pair("split.no", 1).pair("split.count", 2).data(0);
    says(&try_both(part(0, 2, "a"), Some(none), first), &["the model has 2 tensors, its parts have 1"]);
}
