//! Entry points of the fuzz targets: parse, and hold the parser to what it promises about what it accepted.

use std::path::Path;

use crate::entry::{Entry, Foreign};
use crate::{gguf as gguf_format, pickle as pickle_format, safetensors as safetensors_format, strided};

/// A GGUF file.
pub fn gguf(data: &[u8]) {
    if let Ok(file) = gguf_format::parse(data, Path::new("fuzz")) {
        read_all(data, &file.tensors, &file.foreign);
    }
}

/// A safetensors file.
pub fn safetensors(data: &[u8]) {
    if let Ok(header) = safetensors_format::parse(data) {
        read_all(data, &header.tensors, &header.foreign);
    }
}

/// A PyTorch archive.
pub fn pickle(data: &[u8]) {
    if let Ok(found) = pickle_format::parse(data) {
        read_all(data, &found.tensors, &found.foreign);
    }
}

/// Touches every tensor the way [`crate::Checkpoint`] does; panics when one is not where its entry says.
fn read_all(data: &[u8], tensors: &[Entry], foreign: &[Foreign]) {
    let mut names = std::collections::HashSet::new();
    for tensor in foreign {
        assert!(names.insert(&tensor.name), "a name occurs twice");
        assert!(tensor.offset + tensor.bytes <= data.len() as u64);
    }
    for tensor in tensors {
        assert!(names.insert(&tensor.name), "a name occurs twice");
        let rest = &data[tensor.offset as usize..];
        match &tensor.strides {
            None => assert_eq!(rest[..tensor.bytes].len(), tensor.bytes),
            Some(strides) => {
                let gathered = strided::gather(rest, tensor.dtype.block_bytes(), &tensor.shape, strides);
                assert_eq!(gathered.len(), tensor.bytes);
            }
        }
    }
}
