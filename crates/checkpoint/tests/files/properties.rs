//! Whatever the bytes, the readers answer; whatever is written, comes back.

use std::path::Path;

use glimmer_checkpoint::NewTensor;
use glimmer_checkpoint::fuzz_entry;
use glimmer_checkpoint::gguf::{self, GgufWriter, Metadata};
use glimmer_checkpoint::safetensors::{self, SafetensorsFile};
use glimmer_tensor::DType;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use crate::support::{archive, data, dict_code, tensor_code};

/// A sound file, a few of its bytes changed, its end cut or lengthened.
fn damaged(sound: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let len = sound.len();
    let changes = vec((0..len, prop_oneof![Just(0), Just(1), Just(0xff), any::<u8>()]), 0..4);
    (changes, prop_oneof![4 => Just(len), 1 => 0..len + 64]).prop_map(move |(changes, end)| {
        let mut bytes = sound.clone();
        changes.into_iter().for_each(|(at, byte)| bytes[at] = byte);
        bytes.resize(end, 0);
        bytes
    })
}

fn sound_gguf() -> Vec<u8> {
    std::fs::read(data("gguf/everything.gguf")).unwrap()
}

fn sound_pickle() -> Vec<u8> {
    let a = tensor_code("HalfStorage", "0", 8, 1, &[3, 2], &[2, 1]);
    let b = tensor_code("CharStorage", "1", 8, 0, &[2, 2], &[1, 4]);
    archive(&dict_code(&[("a", a), ("b", b)]), &[("0", &[1; 16]), ("1", &[2; 8])])
}

fn sound_safetensors() -> Vec<u8> {
    let header = concat!(
        r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F16","shape":[2,2],"data_offsets":[0,8]},"#,
        r#""b":{"dtype":"I8","shape":[3],"data_offsets":[8,11]}}"#
    );
    crate::support::safetensors(header, &[3; 11])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_gguf_is_answered(bytes in damaged(sound_gguf())) {
        fuzz_entry::gguf(&bytes);
    }

    #[test]
    fn damaged_pickle_is_answered(bytes in damaged(sound_pickle())) {
        fuzz_entry::pickle(&bytes);
    }

    #[test]
    fn damaged_safetensors_is_answered(bytes in damaged(sound_safetensors())) {
        fuzz_entry::safetensors(&bytes);
    }

    #[test]
    fn any_bytes_are_answered(bytes in vec(any::<u8>(), 0..200)) {
        fuzz_entry::gguf(&bytes);
        fuzz_entry::pickle(&bytes);
        fuzz_entry::safetensors(&bytes);
    }
}

/// Names with up to four dimensions and some bytes for them.
fn tensors() -> impl Strategy<Value = Vec<(NewTensor, Vec<u8>)>> {
    let dtypes = [DType::F32, DType::F16, DType::BF16, DType::I8, DType::I64];
    let tensor = (proptest::sample::select(dtypes.to_vec()), vec(0usize..4, 0..4), any::<u8>());
    btree_map("[a-z\\.é\"]{1,20}", tensor, 0..8).prop_map(|tensors| {
        let build = |(name, (dtype, shape, fill)): (String, (DType, Vec<usize>, u8))| {
            let len = shape.iter().product::<usize>() * dtype.block_bytes();
            let bytes = (0..len).map(|i| fill.wrapping_add(i as u8)).collect();
            (NewTensor { name, dtype, shape }, bytes)
        };
        tensors.into_iter().map(build).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn written_files_come_back(tensors in tensors(), pairs in btree_map("[a-z.]{1,9}", any::<u32>(), 0..5)) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("m");
        let announced: Vec<_> = tensors.iter().map(|(tensor, _)| tensor.clone()).collect();
        let check = |entries: &[glimmer_checkpoint::Entry], bytes: &[u8]| {
            assert_eq!(entries.len(), tensors.len());
            for (tensor, data) in &tensors {
                let entry = entries.iter().find(|e| e.name == tensor.name).unwrap();
                assert_eq!((entry.dtype, &entry.shape), (tensor.dtype, &tensor.shape));
                assert_eq!(&bytes[entry.offset as usize..][..entry.bytes], data);
            }
        };

        let mut metadata = Metadata::new(Path::new("m"));
        pairs.iter().for_each(|(key, value)| drop(metadata.set(key, *value)));
        let mut writer = GgufWriter::create(&path, &metadata, &announced).unwrap();
        tensors.iter().for_each(|(tensor, data)| writer.write(&tensor.name, data).unwrap());
        writer.finish().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let read = gguf::parse(&bytes, &path).unwrap();
        check(&read.tensors, &bytes);
        prop_assert!(read.metadata.iter().eq(metadata.iter()));

        let mut writer = SafetensorsFile::create(&path, &announced, &[]).unwrap();
        tensors.iter().for_each(|(tensor, data)| writer.write(&tensor.name, data).unwrap());
        writer.finish().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        check(&safetensors::parse(&bytes).unwrap().tensors, &bytes);
    }
}
