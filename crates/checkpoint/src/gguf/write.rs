//! Writing a GGUF file, version 3.

use std::path::Path;

use super::metadata::{Array, Metadata, Value};
use super::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAGIC, MAX_GGML_DIMS, MAX_KEY, types};
use crate::error::CheckpointError;
use crate::output::{NewTensor, Slot, TensorFile, unwritable};

/// ggml keeps names in 64 bytes, the last one zero.
const MAX_GGML_NAME: usize = 63;

/// A GGUF file being written: the header at once, then the tensors' bytes as they come.
///
/// The file appears under its name at [`GgufWriter::finish`], complete; dropping the writer before leaves nothing.
pub struct GgufWriter {
    file: TensorFile,
}

impl GgufWriter {
    /// Begins a file with these key/values and tensors, in this order. A `general.alignment` among the key/values is
    /// followed.
    ///
    /// # Errors
    /// When a tensor's type, shape or name cannot be in a GGUF, a name occurs twice, or the system refuses.
    pub fn create(path: &Path, metadata: &Metadata, tensors: &[NewTensor]) -> Result<Self, CheckpointError> {
        let alignment = match metadata.value(ALIGNMENT_KEY) {
            None => DEFAULT_ALIGNMENT,
            Some(Value::U32(alignment)) if alignment.is_power_of_two() => *alignment,
            Some(_) => {
                return Err(unwritable(
                    path,
                    ALIGNMENT_KEY,
                    "it is no u32 that is a power of two".to_owned(),
                ));
            }
        };
        let mut header = Vec::new();
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&3u32.to_le_bytes());
        push_len(&mut header, tensors.len());
        push_len(&mut header, metadata.iter().len());
        for (key, value) in metadata.iter() {
            if key.len() as u64 > MAX_KEY {
                return Err(unwritable(path, key, format!("a key has at most {MAX_KEY} bytes")));
            }
            push_str(&mut header, key);
            push_value(&mut header, value);
        }

        let mut slots = Vec::with_capacity(tensors.len());
        let mut data_len = 0;
        for tensor in tensors {
            let bytes = tensor.bytes(path)?;
            push_info(&mut header, tensor, data_len, path)?;
            slots.push(Slot::new(tensor.name.clone(), data_len, bytes));
            data_len = (data_len + bytes).next_multiple_of(alignment.into());
        }
        let data_at = (header.len() as u64).next_multiple_of(alignment.into());
        for slot in &mut slots {
            slot.offset += data_at;
        }
        let file = TensorFile::create(path, &header, slots, data_at + data_len)?;
        Ok(GgufWriter { file })
    }

    /// Appends bytes to a tensor, in the type it was announced with. A tensor's bytes may come in any number of pieces;
    /// tensors in the announced order are written without seeking.
    ///
    /// # Errors
    /// When there is no such tensor, it would get more bytes than its shape has, or the system refuses.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), CheckpointError> {
        self.file.write(name, bytes)
    }

    /// Makes the file durable and gives it its name, replacing a file of that name.
    ///
    /// # Errors
    /// When a tensor did not get all its bytes, or the system refuses; then there is no file.
    pub fn finish(self) -> Result<(), CheckpointError> {
        self.file.finish()
    }
}

fn push_info(
    header: &mut Vec<u8>,
    tensor: &NewTensor,
    offset: u64,
    path: &Path,
) -> Result<(), CheckpointError> {
    let refuse = |what: String| Err(unwritable(path, &tensor.name, what));
    let Some(number) = types::ggml_type(tensor.dtype) else {
        return refuse(format!("GGUF has no type for {}", tensor.dtype));
    };
    if tensor.name.len() > MAX_GGML_NAME {
        return refuse(format!("ggml's names have at most {MAX_GGML_NAME} bytes"));
    }
    if tensor.shape.len() > MAX_GGML_DIMS {
        return refuse(format!("ggml's tensors have at most {MAX_GGML_DIMS} dimensions"));
    }
    push_str(header, &tensor.name);
    header.extend_from_slice(&(tensor.shape.len() as u32).to_le_bytes());
    for &dim in tensor.shape.iter().rev() {
        push_len(header, dim);
    }
    header.extend_from_slice(&number.to_le_bytes());
    header.extend_from_slice(&offset.to_le_bytes());
    Ok(())
}

fn push_len(out: &mut Vec<u8>, len: usize) {
    out.extend_from_slice(&(len as u64).to_le_bytes());
}

fn push_str(out: &mut Vec<u8>, text: &str) {
    push_len(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// The value's type number and bytes.
fn push_value(out: &mut Vec<u8>, value: &Value) {
    let mut put = |value_type: u32, bytes: &[u8]| {
        out.extend_from_slice(&value_type.to_le_bytes());
        out.extend_from_slice(bytes);
    };
    match value {
        Value::U8(v) => put(0, &[*v]),
        Value::I8(v) => put(1, &v.to_le_bytes()),
        Value::U16(v) => put(2, &v.to_le_bytes()),
        Value::I16(v) => put(3, &v.to_le_bytes()),
        Value::U32(v) => put(4, &v.to_le_bytes()),
        Value::I32(v) => put(5, &v.to_le_bytes()),
        Value::F32(v) => put(6, &v.to_le_bytes()),
        Value::Bool(v) => put(7, &[(*v).into()]),
        Value::Str(v) => {
            put(8, &[]);
            push_str(out, v);
        }
        Value::Array(v) => {
            put(9, &[]);
            push_array(out, v);
        }
        Value::U64(v) => put(10, &v.to_le_bytes()),
        Value::I64(v) => put(11, &v.to_le_bytes()),
        Value::F64(v) => put(12, &v.to_le_bytes()),
    }
}

/// The elements' type number, their count, and their bytes.
fn push_array(out: &mut Vec<u8>, array: &Array) {
    fn put<T, const N: usize>(
        out: &mut Vec<u8>,
        element_type: u32,
        values: &[T],
        bytes: impl Fn(&T) -> [u8; N],
    ) {
        out.extend_from_slice(&element_type.to_le_bytes());
        push_len(out, values.len());
        values.iter().for_each(|value| out.extend_from_slice(&bytes(value)));
    }
    match array {
        Array::U8(v) => put(out, 0, v, |v| [*v]),
        Array::I8(v) => put(out, 1, v, |v| v.to_le_bytes()),
        Array::U16(v) => put(out, 2, v, |v| v.to_le_bytes()),
        Array::I16(v) => put(out, 3, v, |v| v.to_le_bytes()),
        Array::U32(v) => put(out, 4, v, |v| v.to_le_bytes()),
        Array::I32(v) => put(out, 5, v, |v| v.to_le_bytes()),
        Array::F32(v) => put(out, 6, v, |v| v.to_le_bytes()),
        Array::Bool(v) => put(out, 7, v, |v| [(*v).into()]),
        Array::Str(v) => {
            out.extend_from_slice(&8u32.to_le_bytes());
            push_len(out, v.len());
            v.iter().for_each(|text| push_str(out, text));
        }
        Array::U64(v) => put(out, 10, v, |v| v.to_le_bytes()),
        Array::I64(v) => put(out, 11, v, |v| v.to_le_bytes()),
        Array::F64(v) => put(out, 12, v, |v| v.to_le_bytes()),
    }
}
