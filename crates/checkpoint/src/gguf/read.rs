//! Parsing a GGUF header.

use std::path::Path;

use glimmer_tensor::DType;

use super::metadata::{Array, Metadata, Value};
use super::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAGIC, MAX_GGML_DIMS, MAX_KEY, types};
use crate::cursor::Cursor;
use crate::entry::{self, Entry, Foreign, MAX_NAME, MAX_TENSORS};
use crate::error::{Damage, Fault};

/// The most key/values of one file; published files have about forty.
const MAX_PAIRS: u64 = 1 << 16;

/// The most array elements in all key/values together; a vocabulary of 152,000 with its merges has about 600,000.
const MAX_ELEMENTS: u64 = 1 << 23;

/// Fewest bytes a key/value takes: the key's length, the type, one byte of value.
const MIN_PAIR: u64 = 8 + 4 + 1;

/// Fewest bytes a tensor's description takes: the name's length, dimensions, type, offset.
const MIN_INFO: u64 = 8 + 4 + 4 + 8;

/// What a file's header says.
#[derive(Debug)]
pub struct Gguf {
    /// Version of the format, 2 or 3.
    pub version: u32,
    /// The key/values.
    pub metadata: Metadata,
    /// The tensors in the order of their descriptions; shapes outermost first (the file has them reversed).
    pub tensors: Vec<Entry>,
    /// Those of types that are not read.
    pub foreign: Vec<Foreign>,
    /// Alignment of tensor data in bytes.
    pub alignment: u32,
}

/// Reads the header of the file whose bytes are given; `path` is only named in errors about keys.
///
/// # Errors
/// [`Damage`] for anything that does not hold together: another version or byte order, lengths beyond the file, keys or
/// names that occur twice, tensors that overlap, are misaligned, or reach out of the file.
pub fn parse(bytes: &[u8], path: &Path) -> Result<Gguf, Damage> {
    let mut cursor = Cursor::new(bytes, 0);
    if cursor.take(4, "the magic number")? != MAGIC {
        return Err(Fault::Broken("not a GGUF file").at(0));
    }
    let version = cursor.u32("the version")?;
    match version {
        2 | 3 => {}
        _ if matches!(version.swap_bytes(), 1..=3) => return Err(Fault::BigEndian.at(4)),
        _ => return Err(Fault::Version(version).at(4)),
    }
    let tensor_count = count(&mut cursor, "tensors", MAX_TENSORS as u64)?;
    let pair_count = count(&mut cursor, "key/values", MAX_PAIRS)?;
    let least = pair_count * MIN_PAIR + tensor_count * MIN_INFO;
    if least > cursor.left() as u64 {
        let left = cursor.left() as u64;
        return Err(Fault::Truncated { what: "the header", needed: least, left }.at(cursor.offset()));
    }

    let metadata = read_metadata(&mut cursor, pair_count, path)?;
    let alignment = read_alignment(&metadata, cursor.offset())?;
    let mut infos = Vec::with_capacity(tensor_count as usize);
    for _ in 0..tensor_count {
        infos.push(read_info(&mut cursor)?);
    }
    let data_at = cursor.offset().next_multiple_of(alignment.into());
    let (mut tensors, mut foreign) = (Vec::with_capacity(infos.len()), Vec::new());
    for info in infos {
        if !info.offset.is_multiple_of(alignment.into()) {
            let fault = Fault::Broken("its data is not aligned as the file says");
            return Err(fault.tensor(info.name, info.at));
        }
        let offset = data_at.saturating_add(info.offset);
        match types::from_number(info.ggml_type) {
            Ok(dtype) => tensors.push(place(info, dtype, offset, bytes.len() as u64)?),
            Err(_) if offset > bytes.len() as u64 => {
                return Err(Fault::Broken("it begins beyond the file's end").tensor(info.name, offset));
            }
            Err(type_name) => {
                foreign.push(Foreign { name: info.name.to_owned(), type_name, bytes: 0, offset });
            }
        }
    }
    measure(&mut foreign, &tensors, bytes.len() as u64);
    entry::check_disjoint(&tensors, &foreign)?;
    Ok(Gguf { version, metadata, tensors, foreign, alignment })
}

/// Gives tensors of unknown size all bytes up to the next tensor, or to the file's end.
fn measure(foreign: &mut [Foreign], tensors: &[Entry], file_len: u64) {
    let begins = tensors.iter().map(|tensor| tensor.offset).chain(foreign.iter().map(|other| other.offset));
    let mut begins: Vec<u64> = begins.chain([file_len]).collect();
    begins.sort_unstable();
    for tensor in foreign {
        let next = begins.partition_point(|&begin| begin <= tensor.offset);
        tensor.bytes = begins.get(next).map_or(0, |next| next - tensor.offset);
    }
}

fn count(cursor: &mut Cursor<'_>, what: &'static str, limit: u64) -> Result<u64, Damage> {
    let offset = cursor.offset();
    match cursor.u64("the header")? {
        count if count <= limit => Ok(count),
        count => Err(Fault::TooMany { what, count, limit }.at(offset)),
    }
}

fn read_metadata(cursor: &mut Cursor<'_>, pairs: u64, path: &Path) -> Result<Metadata, Damage> {
    let mut metadata = Metadata::new(path);
    let mut elements = MAX_ELEMENTS;
    for _ in 0..pairs {
        let offset = cursor.offset();
        let key = read_name(cursor, "a key", MAX_KEY)?;
        let value_type = cursor.u32("a value's type")?;
        let value = read_value(cursor, value_type, &mut elements)?;
        if metadata.set(key, value).is_some() {
            return Err(Fault::DuplicateKey(key.to_owned()).at(offset));
        }
    }
    Ok(metadata)
}

fn read_name<'a>(cursor: &mut Cursor<'a>, what: &'static str, limit: u64) -> Result<&'a str, Damage> {
    let offset = cursor.offset();
    match cursor.u64(what)? {
        len if len <= limit => cursor.text(len, what),
        len => Err(Fault::TooMany { what: "bytes of a name", count: len, limit }.at(offset)),
    }
}

fn read_string<'a>(cursor: &mut Cursor<'a>) -> Result<&'a str, Damage> {
    let len = cursor.u64("a string")?;
    cursor.text(len, "a string")
}

fn read_bool(cursor: &mut Cursor<'_>) -> Result<bool, Damage> {
    let offset = cursor.offset();
    match cursor.u8("a truth value")? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Fault::Broken("a truth value is neither 0 nor 1").at(offset)),
    }
}

fn read_value(cursor: &mut Cursor<'_>, value_type: u32, elements: &mut u64) -> Result<Value, Damage> {
    const WHAT: &str = "a value";
    let offset = cursor.offset();
    Ok(match value_type {
        0 => Value::U8(cursor.u8(WHAT)?),
        1 => Value::I8(cursor.u8(WHAT)? as i8),
        2 => Value::U16(cursor.u16(WHAT)?),
        3 => Value::I16(cursor.u16(WHAT)? as i16),
        4 => Value::U32(cursor.u32(WHAT)?),
        5 => Value::I32(cursor.u32(WHAT)? as i32),
        6 => Value::F32(f32::from_bits(cursor.u32(WHAT)?)),
        7 => Value::Bool(read_bool(cursor)?),
        8 => Value::Str(read_string(cursor)?.to_owned()),
        9 => Value::Array(read_array(cursor, elements)?),
        10 => Value::U64(cursor.u64(WHAT)?),
        11 => Value::I64(cursor.u64(WHAT)? as i64),
        12 => Value::F64(f64::from_bits(cursor.u64(WHAT)?)),
        _ => return Err(Fault::Broken("a value has a type that GGUF does not define").at(offset)),
    })
}

fn read_array(cursor: &mut Cursor<'_>, elements: &mut u64) -> Result<Array, Damage> {
    let offset = cursor.offset();
    let element_type = cursor.u32("an array's type")?;
    let len = cursor.u64("an array's length")?;
    // Looked at before anything is reserved: how many bytes that many elements take at least.
    let least = match element_type {
        0 | 1 | 7 => len,
        2 | 3 => len.saturating_mul(2),
        4..=6 => len.saturating_mul(4),
        8 | 10..=12 => len.saturating_mul(8),
        9 => return Err(Fault::Broken("an array of arrays is not supported").at(offset)),
        _ => return Err(Fault::Broken("an array has a type that GGUF does not define").at(offset)),
    };
    if least > cursor.left() as u64 {
        let left = cursor.left() as u64;
        return Err(Fault::Truncated { what: "an array", needed: least, left }.at(offset));
    }
    *elements = elements.checked_sub(len).ok_or_else(|| {
        Fault::TooMany { what: "array elements", count: len, limit: MAX_ELEMENTS }.at(offset)
    })?;
    const WHAT: &str = "an array's element";
    Ok(match element_type {
        0 => Array::U8(cursor.take(len, WHAT)?.to_vec()),
        1 => Array::I8(bytemuck::cast_slice(cursor.take(len, WHAT)?).to_vec()),
        2 => Array::U16(repeat(cursor, len, |c| c.u16(WHAT))?),
        3 => Array::I16(repeat(cursor, len, |c| Ok(c.u16(WHAT)? as i16))?),
        4 => Array::U32(repeat(cursor, len, |c| c.u32(WHAT))?),
        5 => Array::I32(repeat(cursor, len, |c| Ok(c.u32(WHAT)? as i32))?),
        6 => Array::F32(repeat(cursor, len, |c| Ok(f32::from_bits(c.u32(WHAT)?)))?),
        7 => Array::Bool(repeat(cursor, len, read_bool)?),
        8 => Array::Str((0..len).map(|_| read_string(cursor)).collect::<Result<_, _>>()?),
        10 => Array::U64(repeat(cursor, len, |c| c.u64(WHAT))?),
        11 => Array::I64(repeat(cursor, len, |c| Ok(c.u64(WHAT)? as i64))?),
        _ => Array::F64(repeat(cursor, len, |c| Ok(f64::from_bits(c.u64(WHAT)?)))?),
    })
}

fn repeat<'a, T>(
    cursor: &mut Cursor<'a>,
    len: u64,
    mut read: impl FnMut(&mut Cursor<'a>) -> Result<T, Damage>,
) -> Result<Vec<T>, Damage> {
    (0..len).map(|_| read(cursor)).collect()
}

fn read_alignment(metadata: &Metadata, offset: u64) -> Result<u32, Damage> {
    match metadata.value(ALIGNMENT_KEY) {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(Value::U32(alignment)) if alignment.is_power_of_two() => Ok(*alignment),
        Some(_) => Err(Fault::Broken("general.alignment is no u32 that is a power of two").at(offset)),
    }
}

/// A tensor's description as stored: dimensions innermost first, offset from the data section's begin.
struct Info<'a> {
    at: u64,
    name: &'a str,
    dims: Vec<u64>,
    ggml_type: u32,
    offset: u64,
}

fn read_info<'a>(cursor: &mut Cursor<'a>) -> Result<Info<'a>, Damage> {
    let at = cursor.offset();
    let name = read_name(cursor, "a tensor's name", MAX_NAME)?;
    let dims = cursor.u32("a tensor's dimensions")? as usize;
    if dims > MAX_GGML_DIMS {
        let fault = Fault::TooMany { what: "dimensions", count: dims as u64, limit: MAX_GGML_DIMS as u64 };
        return Err(fault.tensor(name, at));
    }
    let dims = repeat(cursor, dims as u64, |c| c.u64("a tensor's dimensions"))?;
    let ggml_type = cursor.u32("a tensor's type")?;
    let offset = cursor.u64("a tensor's offset")?;
    Ok(Info { at, name, dims, ggml_type, offset })
}

fn place(info: Info<'_>, dtype: DType, offset: u64, file_len: u64) -> Result<Entry, Damage> {
    let described = |fault: Fault| fault.tensor(info.name, info.at);
    let shape: Result<Vec<_>, _> = info.dims.iter().rev().map(|&dim| usize::try_from(dim)).collect();
    let shape = shape.map_err(|_| described(Fault::Overflow(info.dims.clone())))?;
    let bytes = entry::size_of(dtype, &shape).map_err(described)?;
    if offset.checked_add(bytes as u64).is_none_or(|end| end > file_len) {
        return Err(Fault::OutsideFile { bytes: bytes as u64, end: file_len }.tensor(info.name, offset));
    }
    Ok(Entry { name: info.name.to_owned(), dtype, shape, bytes, offset, strides: None })
}
