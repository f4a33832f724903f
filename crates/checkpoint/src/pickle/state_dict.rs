//! From an archive and its evaluated pickle to tensors whose bytes are known to lie in the file.

use super::machine::{self, ElementType, Id, Node, Tensor, Values};
use super::zip::Archive;
use crate::entry::{self, Entry, Foreign, MAX_DIMS};
use crate::error::{Damage, Fault};

/// The longest pickle that is read; a state dict takes about 150 bytes per tensor.
const MAX_PICKLE: usize = 16 << 20;

/// The tensors of an archive, in the pickle's order.
#[derive(Debug, Default)]
pub struct StateDict {
    /// Those of types that are read.
    pub tensors: Vec<Entry>,
    /// The others.
    pub foreign: Vec<Foreign>,
}

/// Reads the description of all tensors of the archive whose bytes are given.
///
/// # Errors
/// [`Damage`] for anything that does not hold together: an archive that is truncated, compressed or encrypted, whose
/// members overlap or repeat; a pickle with any name or instruction off the list; values that are no tensors; storages
/// whose members are missing or of another length; views that leave their storage.
pub fn parse(bytes: &[u8]) -> Result<StateDict, Damage> {
    let archive = Archive::parse(bytes)?;
    let prefix = prefix(&archive)?;
    check_byte_order(&archive, &prefix, bytes)?;
    let pickle = archive
        .member(&format!("{prefix}/data.pkl"))
        .ok_or_else(|| Fault::MissingMember(format!("{prefix}/data.pkl")).at(0))?;
    let pickle_at = pickle.start as u64;
    if pickle.len() > MAX_PICKLE {
        let fault = Fault::TooMany {
            what: "bytes of the pickle",
            count: pickle.len() as u64,
            limit: MAX_PICKLE as u64,
        };
        return Err(fault.at(pickle_at));
    }
    let values = machine::run(&bytes[pickle], pickle_at)?;
    let Node::Dict(items) = values.node(values.root) else {
        return Err(Fault::Broken("the pickle holds no dict of tensors").at(pickle_at));
    };
    let mut names = std::collections::HashSet::with_capacity(items.len());
    let mut found = StateDict::default();
    for &(key, value) in items {
        let Node::Str(name) = values.node(key) else {
            return Err(Fault::Broken("the pickle's dict has a key that is no string").at(pickle_at));
        };
        if !names.insert(name) {
            return Err(Fault::DuplicateTensor.tensor(name, pickle_at));
        }
        let Node::Tensor(tensor) = values.node(value) else {
            return Err(Fault::Broken("its value in the pickle is no tensor").tensor(name, pickle_at));
        };
        let Place { shape, strides, bytes, offset } = locate(tensor, &values, &archive, &prefix)
            .map_err(|(fault, at)| fault.tensor(name, at.unwrap_or(pickle_at)))?;
        let name = name.to_string();
        match tensor.element {
            ElementType::Known(dtype) => {
                found.tensors.push(Entry { name, dtype, shape, bytes, offset, strides });
            }
            ElementType::Foreign(type_name, _) => {
                let (type_name, bytes) = (type_name.to_owned(), bytes as u64);
                found.foreign.push(Foreign { name, type_name, bytes, offset });
            }
        }
    }
    Ok(found)
}

/// The directory inside the archive that holds everything: the stem of the file name it was saved under.
fn prefix(archive: &Archive) -> Result<String, Damage> {
    let mut prefixes = archive.names().filter_map(|name| {
        let prefix = name.strip_suffix("/data.pkl")?;
        (!prefix.contains('/')).then_some(prefix)
    });
    match (prefixes.next(), prefixes.next()) {
        (Some(prefix), None) => Ok(prefix.to_owned()),
        (None, _) => Err(Fault::MissingMember("data.pkl".to_owned()).at(0)),
        (Some(_), Some(_)) => Err(Fault::Broken("the archive holds two pickles").at(0)),
    }
}

fn check_byte_order(archive: &Archive, prefix: &str, bytes: &[u8]) -> Result<(), Damage> {
    match archive.member(&format!("{prefix}/byteorder")) {
        Some(member) if bytes[member.clone()] == *b"big" => Err(Fault::BigEndian.at(member.start as u64)),
        _ => Ok(()),
    }
}

/// What is known of a tensor, its name and type apart: as in [`Entry`].
struct Place {
    shape: Vec<usize>,
    strides: Option<Vec<usize>>,
    bytes: usize,
    offset: u64,
}

/// Checks that a tensor's elements lie in its storage, and its storage in the archive. An error comes with the offset
/// of the storage where that is known.
fn locate(
    tensor: &Tensor,
    values: &Values,
    archive: &Archive,
    prefix: &str,
) -> Result<Place, (Fault, Option<u64>)> {
    let unplaced = |fault| (fault, None);
    let (storage, unit) = (tensor.storage, tensor.element.bytes());
    let shape = sizes(values, tensor.shape).map_err(unplaced)?;
    let strides = sizes(values, tensor.strides).map_err(unplaced)?;
    if shape.len() != strides.len() {
        return Err(unplaced(Fault::Broken("it has not as many strides as dimensions")));
    }
    let bytes = entry::elements(&shape).map_err(unplaced)?.checked_mul(unit);
    let bytes = bytes.filter(|&bytes| isize::try_from(bytes).is_ok());
    let bytes = bytes.ok_or_else(|| unplaced(entry::overflow(&shape)))?;

    let Node::Str(key) = values.node(storage.key) else {
        return Err(unplaced(Fault::Broken("the pickle's description of a storage is malformed")));
    };
    let member_name = format!("{prefix}/data/{key}");
    let member = archive.member(&member_name).ok_or_else(|| unplaced(Fault::MissingMember(member_name)))?;
    let placed = |fault| (fault, Some(member.start as u64));
    let storage_bytes = storage.len.checked_mul(storage.element.bytes() as u64);
    if storage_bytes != Some(member.len() as u64) {
        return Err(placed(match storage.element {
            ElementType::Known(dtype) => Fault::WrongSize {
                dtype,
                shape: vec![usize::try_from(storage.len).unwrap_or(usize::MAX)],
                expected: storage_bytes.unwrap_or(u64::MAX),
                found: member.len() as u64,
            },
            ElementType::Foreign(..) => Fault::Broken("its storage has another length than the pickle says"),
        }));
    }
    // In elements of the tensor, which need not be the storage's.
    let len = (member.len() / unit) as u64;

    let start = u64::try_from(tensor.start)
        .map_err(|_| placed(Fault::Broken("its first element lies before its storage")))?;
    if bytes > 0 && last_element(start, &shape, &strides).is_none_or(|last| last >= len) {
        return Err(placed(Fault::OutsideStorage { shape, strides, start, len }));
    }
    // A view may repeat elements (stride 0), so that few bytes describe more than memory holds. No weights need that.
    if bytes > member.len() {
        return Err(placed(Fault::Broken("it repeats its storage's elements; save a contiguous copy of it")));
    }
    let offset = match bytes {
        0 => member.start as u64,
        _ => member.start as u64 + start * unit as u64,
    };
    let strides = (!is_row_major(&shape, &strides)).then_some(strides);
    Ok(Place { shape, strides, bytes, offset })
}

fn sizes(values: &Values, id: Id) -> Result<Vec<usize>, Fault> {
    const BROKEN: Fault = Fault::Broken("its shape or strides in the pickle are no tuple of sizes");
    let Node::Seq(items) = values.node(id) else { return Err(BROKEN) };
    if items.len() > MAX_DIMS {
        return Err(Fault::TooMany { what: "dimensions", count: items.len() as u64, limit: MAX_DIMS as u64 });
    }
    let size = |&id: &Id| match *values.node(id) {
        Node::Int(size) => usize::try_from(size).map_err(|_| BROKEN),
        _ => Err(BROKEN),
    };
    items.iter().map(size).collect()
}

/// Index in the storage of the view's last element; the view has at least one. `None` on overflow.
fn last_element(start: u64, shape: &[usize], strides: &[usize]) -> Option<u64> {
    shape.iter().zip(strides).try_fold(start, |last, (&dim, &stride)| {
        last.checked_add((dim as u64 - 1).checked_mul(stride as u64)?)
    })
}

/// Whether the elements lie one after another, the last dimension fastest. Strides of dimensions of size 1 say nothing.
fn is_row_major(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1;
    shape.contains(&0)
        || shape.iter().zip(strides).rev().all(|(&dim, &stride)| {
            let fits = dim == 1 || stride == expected;
            expected *= dim;
            fits
        })
}
