//! Parsing a safetensors header.

use std::fmt;

use glimmer_config::Quoted;
use glimmer_tensor::DType;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::{FOREIGN, MAX_HEADER, TYPES};
use crate::cursor::Cursor;
use crate::entry::{self, Entry, Foreign, MAX_DIMS};
use crate::error::{Damage, Fault};
use crate::json::{self, UniqueMap};

/// What a file's header says.
#[derive(Debug)]
pub struct Header {
    /// The tensors in the order in which they lie in the file.
    pub tensors: Vec<Entry>,
    /// Those of types that are not read.
    pub foreign: Vec<Foreign>,
    /// The pairs under `__metadata__`.
    pub metadata: Vec<(String, String)>,
}

/// Reads the header of the file whose bytes are given.
///
/// # Errors
/// [`Damage`] for anything that does not hold together: a header beyond the file or the limit, JSON that does not
/// parse, a name that occurs twice, bytes that do not follow from type and shape, tensors that overlap, leave gaps, or
/// reach out of the file.
pub fn parse(bytes: &[u8]) -> Result<Header, Damage> {
    let mut cursor = Cursor::new(bytes, 0);
    let header_len = cursor.u64("the header's length")?;
    if header_len > MAX_HEADER {
        return Err(Fault::TooMany { what: "header bytes", count: header_len, limit: MAX_HEADER }.at(0));
    }
    let header_at = cursor.offset();
    let text = cursor.text(header_len, "the header")?;
    if !text.starts_with('{') {
        return Err(Fault::Broken("the header is no JSON object").at(header_at));
    }
    let raw: RawHeader = serde_json::from_str(text).map_err(|e| json_damage(&e, text, header_at))?;
    let data_at = cursor.offset();
    let data_len = cursor.left() as u64;

    let mut tensors = Vec::with_capacity(raw.tensors.len());
    let mut foreign = Vec::new();
    for (name, tensor) in raw.tensors {
        match TYPES.iter().find(|(spelling, _)| *spelling == tensor.dtype) {
            Some((_, dtype)) => tensors.push(check(name, *dtype, &tensor, data_at, data_len)?),
            None => foreign.push(check_foreign(name, tensor, data_at, data_len)?),
        }
    }
    entry::check_disjoint(&tensors, &foreign)?;
    // In bounds and disjoint, so that equal sums mean that no byte is left out.
    let claimed: u64 = tensors.iter().map(|t| t.bytes as u64).chain(foreign.iter().map(|f| f.bytes)).sum();
    if claimed != data_len {
        return Err(Fault::Unclaimed { expected: claimed, found: data_len }.at(data_at));
    }
    tensors.sort_by_key(|t| t.offset);
    Ok(Header { tensors, foreign, metadata: raw.metadata })
}

fn check(name: String, dtype: DType, raw: &RawTensor, data_at: u64, data_len: u64) -> Result<Entry, Damage> {
    let [begin, end] = raw.data_offsets;
    let offset = data_at.saturating_add(begin);
    let damage = |fault: Fault| fault.tensor(&name, offset);
    let shape: Result<Vec<_>, _> = raw.shape.iter().map(|&dim| usize::try_from(dim)).collect();
    let shape = shape.map_err(|_| damage(Fault::Overflow(raw.shape.clone())))?;
    let bytes = entry::size_of(dtype, &shape).map_err(damage)?;
    let Some(found) = end.checked_sub(begin) else {
        return Err(damage(Fault::Broken("its bytes end before they begin")));
    };
    if found != bytes as u64 {
        return Err(damage(Fault::WrongSize { dtype, shape, expected: bytes as u64, found }));
    }
    if end > data_len {
        return Err(damage(Fault::OutsideFile { bytes: found, end: data_at + data_len }));
    }
    Ok(Entry { name, dtype, shape, bytes, offset, strides: None })
}

/// The same of a tensor that is passed over: only that its bytes lie in the file, and are as many as its type takes where
/// that is known.
fn check_foreign(name: String, raw: RawTensor, data_at: u64, data_len: u64) -> Result<Foreign, Damage> {
    let [begin, end] = raw.data_offsets;
    let offset = data_at.saturating_add(begin);
    let fault = match end.checked_sub(begin) {
        None => Some(Fault::Broken("its bytes end before they begin")),
        Some(bytes) if end > data_len => Some(Fault::OutsideFile { bytes, end: data_at + data_len }),
        Some(bytes) => match FOREIGN.iter().find(|(spelling, _)| *spelling == raw.dtype) {
            Some((_, bits)) => match raw.shape.iter().try_fold(*bits, |n, &dim| n.checked_mul(dim)) {
                Some(bits) if bits.div_ceil(8) == bytes && bits % 8 == 0 => None,
                _ => Some(Fault::Broken("its bytes do not follow from its type and shape")),
            },
            None => None,
        },
    };
    match fault {
        Some(fault) => Err(fault.tensor(&name, offset)),
        None => Ok(Foreign { name, type_name: raw.dtype, bytes: end - begin, offset }),
    }
}

/// The parser's line and column as a byte offset.
fn json_damage(error: &serde_json::Error, text: &str, header_at: u64) -> Damage {
    let lines: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let offset = header_at + (lines + error.column().saturating_sub(1)) as u64;
    let message = error.to_string();
    Fault::Json(format!("the header does not parse: {}", Quoted(&message))).at(offset)
}

struct RawHeader {
    tensors: Vec<(String, RawTensor)>,
    metadata: Vec<(String, String)>,
}

#[derive(serde::Deserialize)]
struct RawTensor {
    dtype: String,
    #[serde(deserialize_with = "bounded_shape")]
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeaderVisitor;

        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = RawHeader;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let mut tensors = Vec::new();
                let mut metadata = None;
                while let Some(name) = map.next_key::<String>()? {
                    if name != "__metadata__" {
                        let tensor = map.next_value::<RawTensor>()?;
                        json::push_bounded(&mut tensors, (name, tensor))?;
                    } else if metadata.replace(map.next_value::<Option<UniqueMap<String>>>()?).is_some() {
                        return Err(A::Error::duplicate_field("__metadata__"));
                    }
                }
                let metadata = metadata.flatten().map_or(Vec::new(), |pairs| pairs.0);
                Ok(RawHeader { tensors, metadata })
            }
        }

        deserializer.deserialize_map(HeaderVisitor)
    }
}

/// A shape; a header of a hundred megabytes must not become one of a thousand in memory.
fn bounded_shape<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
    struct ShapeVisitor;

    impl<'de> Visitor<'de> for ShapeVisitor {
        type Value = Vec<u64>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of dimensions")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut dims: A) -> Result<Vec<u64>, A::Error> {
            let mut shape = Vec::new();
            while let Some(dim) = dims.next_element()? {
                if shape.len() == MAX_DIMS {
                    return Err(A::Error::custom(format_args!("more than {MAX_DIMS} dimensions")));
                }
                shape.push(dim);
            }
            Ok(shape)
        }
    }

    deserializer.deserialize_seq(ShapeVisitor)
}
