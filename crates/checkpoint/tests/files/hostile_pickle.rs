//! PyTorch archives as no tool writes them: each is refused in one line, and none of them runs anything.

use glimmer_tensor::DType;

use crate::support::{
    Member, archive, dict_code, directory, member, one_line, open, refused, says, tensor_code,
    typed_tensor_code, zip,
};

fn refused_bin(bytes: &[u8]) -> String {
    refused("pytorch_model.bin", bytes)
}

fn refused_pickle(pickle: &[u8]) -> String {
    refused_bin(&archive(pickle, &[("0", &[0; 8])]))
}

/// A pickle of a dict with one value.
fn with_value(value: &[u8]) -> Vec<u8> {
    dict_code(&[("w", value.to_vec())])
}

fn half(shape: &[i32], strides: &[i32], start: i32) -> Vec<u8> {
    with_value(&tensor_code("HalfStorage", "0", 4, start, shape, strides))
}

#[test]
fn sound_file_opens_and_every_truncation_is_refused() {
    let bytes = archive(&half(&[2, 2], &[2, 1], 0), &[("0", &[1, 2, 3, 4, 5, 6, 7, 8])]);
    let model = directory(&[("pytorch_model.bin", &bytes)]);
    let opened = open(model.path());
    assert_eq!(opened.tensor("w").unwrap().data, [1, 2, 3, 4, 5, 6, 7, 8]);
    for len in 1..bytes.len() {
        refused_bin(&bytes[..len]);
    }
    says(&refused_bin(&bytes[..bytes.len() - 1]), &["truncated"]);
}

#[test]
fn views() {
    let storage = [1, 2, 3, 4, 5, 6, 7, 8];
    let read = |pickle: &[u8]| {
        let model = directory(&[("pytorch_model.bin", &archive(pickle, &[("0", &storage)]))]);
        open(model.path()).tensor("w").unwrap().data.to_vec()
    };
    assert_eq!(read(&half(&[2, 2], &[1, 2], 0)), [1, 2, 5, 6, 3, 4, 7, 8]);
    assert_eq!(read(&half(&[2], &[2], 1)), [3, 4, 7, 8]);
    assert_eq!(read(&half(&[], &[], 3)), [7, 8]);
    assert_eq!(read(&half(&[1, 2, 1], &[77, 1, 99], 2)), [5, 6, 7, 8]);
    assert!(read(&half(&[0, 5], &[5, 1], 0)).is_empty());

    let outside = ["tensor `w`", "leaves its storage of 4 elements"];
    says(&refused_pickle(&half(&[5], &[1], 0)), &outside);
    says(&refused_pickle(&half(&[4], &[1], 1)), &outside);
    says(&refused_pickle(&half(&[2], &[4], 0)), &outside);
    says(&refused_pickle(&half(&[1], &[1], i32::MAX)), &outside);
    says(&refused_pickle(&half(&[2, 2], &[i32::MAX, i32::MAX], 0)), &outside);
    says(&refused_pickle(&half(&[1], &[1], -1)), &["tensor `w`", "before its storage"]);
    says(&refused_pickle(&half(&[2], &[-1], 1)), &["tensor `w`", "no tuple of sizes"]);
    says(&refused_pickle(&half(&[-2], &[1], 1)), &["tensor `w`", "no tuple of sizes"]);
    says(&refused_pickle(&half(&[2, 2], &[1], 0)), &["tensor `w`", "strides"]);
    says(&refused_pickle(&half(&[1; 9], &[1; 9], 0)), &["tensor `w`", "dimensions"]);
    // A gigabyte made of two bytes.
    says(&refused_pickle(&half(&[1 << 29], &[0], 0)), &["tensor `w`", "repeats"]);
    says(&refused_pickle(&half(&[i32::MAX; 4], &[0; 4], 0)), &["tensor `w`", "too large"]);
}

#[test]
fn storages() {
    let of = |storage: &str, key: &str, len| with_value(&tensor_code(storage, key, len, 0, &[1], &[1]));
    for (storage, dtype) in [
        ("DoubleStorage", DType::F64),
        ("FloatStorage", DType::F32),
        ("HalfStorage", DType::F16),
        ("BFloat16Storage", DType::BF16),
        ("LongStorage", DType::I64),
        ("IntStorage", DType::I32),
        ("ShortStorage", DType::I16),
        ("CharStorage", DType::I8),
        ("ByteStorage", DType::U8),
        ("BoolStorage", DType::Bool),
    ] {
        let len = 8 / dtype.block_bytes() as i32;
        let bytes = archive(&of(storage, "0", len), &[("0", &[0; 8])]);
        let model = directory(&[("pytorch_model.bin", &bytes)]);
        assert_eq!(open(model.path()).tensors()[0].dtype, dtype);
    }
    says(&refused_pickle(&of("QInt8Storage", "0", 8)), &["`torch.QInt8Storage`"]);
    says(&refused_pickle(&of("HalfStorage", "0", 5)), &["tensor `w`", "takes 10 bytes", "gives 8"]);
    says(&refused_pickle(&of("HalfStorage", "0", 3)), &["tensor `w`", "takes 6 bytes", "gives 8"]);
    says(&refused_pickle(&of("HalfStorage", "0", -1)), &["storage is malformed"]);
    says(&refused_pickle(&of("HalfStorage", "1", 4)), &["tensor `w`", "`m/data/1` is missing"]);
    says(&refused_pickle(&of("HalfStorage", "../../etc/passwd", 4)), &["is missing"]);
    // Two tensors may share a storage, as tied weights do.
    let tied = tensor_code("HalfStorage", "0", 4, 0, &[4], &[1]);
    let pickle = dict_code(&[("a", tied.clone()), ("b", tied)]);
    let model = directory(&[("pytorch_model.bin", &archive(&pickle, &[("0", &[7; 8])]))]);
    assert_eq!(open(model.path()).tensors().len(), 2);
}

/// As PyTorch 2.9 writes them: complex numbers have storages of their own (`_dtype_to_storage_type_map` in
/// `torch/storage.py`), types that came later are views of bytes (`_rebuild_tensor_v3` in `torch/_utils.py`).
#[test]
fn tensors_of_other_types_stop_nobody_who_does_not_need_them() {
    let complex = |len, start| tensor_code("ComplexFloatStorage", "0", len, start, &[2], &[1]);
    let later = |name: &str, start, elements| typed_tensor_code(name, 16, start, &[elements]);
    let known = tensor_code("FloatStorage", "1", 1, 0, &[1], &[1]);
    let file = |code: &[u8]| {
        archive(&dict_code(&[("w", code.to_vec()), ("v", known.clone())]), &[("0", &[0; 16]), ("1", &[0; 4])])
    };
    for (code, name, bytes) in [
        (complex(2, 0), "ComplexFloatStorage", 16),
        (later("float8_e4m3fn", 3, 13), "float8_e4m3fn", 13),
        (later("uint16", 7, 1), "uint16", 2),
        (later("uint64", 0, 2), "uint64", 16),
    ] {
        let folder = directory(&[("pytorch_model.bin", &file(&code))]);
        let model = open(folder.path());
        assert_eq!(model.vector_of("v", 1).unwrap(), [0.0]);
        assert!(model.holds("w") && model.info("w").is_none());
        let foreign = model.foreign().next().unwrap();
        assert_eq!((foreign.type_name.as_str(), foreign.bytes), (name, bytes));
        let message = one_line(model.tensor("w").unwrap_err().to_string(), "pytorch_model.bin");
        says(&message, &["tensor `w`", name, "not supported"]);
    }
    says(&refused_bin(&file(&complex(2, 1))), &["tensor `w`", "leaves its storage of 2 elements"]);
    says(&refused_bin(&file(&complex(1, 0))), &["tensor `w`", "another length"]);
    says(&refused_bin(&file(&later("uint16", 7, 2))), &["tensor `w`", "leaves its storage of 8 elements"]);
    says(&refused_bin(&file(&later("float8_of_tomorrow", 0, 1))), &["`torch.float8_of_tomorrow`"]);
}

#[test]
fn names_that_could_run_something() {
    for (module, name) in [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("__builtin__", "exec"),
        ("subprocess", "Popen"),
        ("torch", "load"),
        ("torch._utils", "_rebuild_tensor"),
        ("torch.serialization", "_get_layout"),
        ("collections", "defaultdict"),
        ("torch.nn.modules.linear", "Linear"),
    ] {
        let full = format!("`{module}.{name}`");
        let call = [format!("c{module}\n{name}\n(").as_bytes(), b"X\x02\x00\x00\x00lstR"].concat();
        says(&refused_pickle(&with_value(&call)), &[&full, "not on the list", "byte "]);
        let short = |text: &str| [&[0x8c, text.len() as u8], text.as_bytes()].concat();
        let stack = [short(module), short(name), vec![0x93]].concat();
        says(&refused_pickle(&with_value(&stack)), &[&full]);
    }
    // INST, OBJ, NEWOBJ, NEWOBJ_EX, EXT1, REDUCE of what is no name, and the text forms of old protocols.
    for opcode in
        [b'i', b'o', 0x81, 0x92, 0x82, 0x83, 0x84, b'I', b'L', b'F', b'S', b'V', b'P', b'p', b'g', b'2', b'0']
    {
        let message = refused_pickle(&[0x80, 2, opcode, 0, 0, 0, 0, b'.']);
        says(&message, &[&format!("opcode 0x{opcode:02x}"), "not on the list"]);
    }
    says(&refused_pickle(b"\x80\x02NN\x85R."), &["no name"]);
    says(&refused_pickle(b"\x80\x02ctorch\nHalfStorage\n)R."), &["malformed"]);
}

#[test]
fn stacks_that_do_not_add_up() {
    for pickle in [
        &b"\x80\x02."[..],
        b"\x80\x02\x85.",
        b"\x80\x02t.",
        b"\x80\x02(N\x86.",
        b"\x80\x02h\x01.",
        b"\x80\x02q\x00.",
        b"\x80\x02Q.",
        b"\x80\x02}(Nu.",
        b"\x80\x02]NNs.",
        b"\x80\x02Na.",
        b"\x80\x02NNb.",
        b"\x80\x02NQ.",
        b"\x80\x02\x8a\x09123456789.",
        b"\x80\x02NN\x93.",
    ] {
        says(&refused_pickle(pickle), &["byte ", "pickle"]);
    }
    says(&refused_pickle(b"\x80\x02N"), &["truncated"]);
    says(&refused_pickle(b""), &["truncated"]);
    says(&refused_pickle(b"\x80\x02N."), &["no dict of tensors"]);
    says(&refused_pickle(&with_value(b"N")), &["tensor `w`", "is no tensor"]);
    says(&refused_pickle(b"\x80\x02}(NNu."), &["no string"]);
    let twice = tensor_code("HalfStorage", "0", 4, 0, &[4], &[1]);
    says(&refused_pickle(&dict_code(&[("w", twice.clone()), ("w", twice)])), &["tensor `w`", "twice"]);
}

#[test]
fn bombs() {
    // Lists of lists, each holding the one before twice: 2^200 leaves for who counts them.
    let mut memo = b"\x80\x02]q\x00".to_vec();
    for _ in 0..200 {
        memo.extend_from_slice(b"]q\x01(h\x00h\x00eq\x00");
    }
    memo.push(b'.');
    says(&refused_pickle(&memo), &["no dict of tensors"]);
    // A list that holds itself.
    says(&refused_pickle(b"\x80\x02]q\x00h\x00a."), &["no dict of tensors"]);
    // A million tuples in one another.
    let deep = [&b"\x80\x02)"[..], &vec![0x85; 1_000_000], b"."].concat();
    says(&refused_pickle(&deep), &["no dict of tensors"]);
    let marks = [&b"\x80\x02"[..], &vec![b'('; 1_000_000], b"N."].concat();
    says(&refused_pickle(&marks), &["no dict of tensors"]);
    let endless = [&b"\x80\x02"[..], &vec![b'N'; 3_000_000], b"."].concat();
    says(&refused_pickle(&endless), &["instructions", "limit"]);
    let large = vec![b'N'; 17 << 20];
    says(&refused_pickle(&large), &["bytes of the pickle", "limit"]);
    says(&refused_pickle(b"\x80\x02X\xff\xff\xff\xffw."), &["bytes of a string"]);
    says(&refused_pickle(&[&b"\x80\x02c"[..], &[b'x'; 1000]].concat()), &["too long"]);
}

#[test]
fn archives() {
    let pickle = half(&[4], &[1], 0);
    let storage = || member("m/data/0", &[0; 8]);
    let whole = || vec![member("m/data.pkl", &pickle), storage()];
    // Deflate: a zip bomb needs it, PyTorch does not use it.
    let deflated = Member { method: 8, ..storage() };
    says(&refused_bin(&zip(&[member("m/data.pkl", &pickle), deflated])), &["`m/data/0`", "method 8"]);
    let encrypted = Member { flags: 1, ..storage() };
    says(&refused_bin(&zip(&[member("m/data.pkl", &pickle), encrypted])), &["`m/data/0`", "encrypted"]);
    says(&refused_bin(&zip(&[storage(), storage(), member("m/data.pkl", &pickle)])), &["`m/data/0`", "two"]);
    says(&refused_bin(&zip(&[storage()])), &["`data.pkl` is missing"]);
    says(
        &refused_bin(&zip(&[member("a/data.pkl", &pickle), member("b/data.pkl", &pickle)])),
        &["two pickles"],
    );
    let mut big = whole();
    big.push(member("m/byteorder", b"big"));
    says(&refused_bin(&zip(&big)), &["big-endian"]);
    let mut little = whole();
    little.push(member("m/byteorder", b"little"));
    let model = directory(&[("pytorch_model.bin", &zip(&little))]);
    assert_eq!(open(model.path()).tensors().len(), 1);

    let wide = zip(&[member("m/data.pkl", &pickle), Member { wide: true, ..storage() }]);
    let model = directory(&[("pytorch_model.bin", &wide)]);
    assert_eq!(open(model.path()).tensors().len(), 1);

    // The last record says how many members there are and where their directory is.
    let sound = zip(&whole());
    let end = sound.len() - 22;
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = sound.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    says(&refused_bin(&with(end + 10, &[0xff, 0xff])), &["archive members", "limit"]);
    says(&refused_bin(&with(end + 16, &[0xff; 4])), &["directory reaches beyond"]);
    says(&refused_bin(&with(end + 16, &[1, 0, 0, 0])), &["directory is damaged"]);
    says(&refused_bin(&with(end + 20, &[1, 0])), &["no end record"]);
    let central = u32::from_le_bytes(sound[end + 16..end + 20].try_into().unwrap()) as usize;
    says(&refused_bin(&with(central + 42, &[5, 0, 0, 0])), &["not where the directory says"]);
    says(&refused_bin(&with(central + 42, &[0xf0, 0xff, 0xff, 0x0f])), &["beyond the archive's directory"]);
    says(&refused_bin(&with(central + 20, &[0xff, 0, 0, 0])), &["two sizes"]);
    says(&refused_bin(&with(central + 20, &[0xff; 8])), &["lacks its 64-bit sizes"]);
    says(&refused_bin(&with(central + 20, &[0xf0, 0xff, 0, 0, 0xf0, 0xff, 0, 0])), &["reach into"]);
    let grown = (pickle.len() as u32 + 20).to_le_bytes();
    says(&refused_bin(&with(central + 20, &[grown, grown].concat())), &["overlap"]);
}

#[test]
fn other_files_under_this_name() {
    says(&refused_bin(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."), &["legacy torch.save", "safetensors"]);
    says(&refused_bin(b"hello, world"), &["neither GGUF nor safetensors nor a PyTorch archive"]);
}
