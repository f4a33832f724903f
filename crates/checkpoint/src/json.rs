//! Bounded JSON: the index of shards, and maps that must not say anything twice.

use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

use glimmer_config::Quoted;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use crate::entry::MAX_TENSORS;
use crate::error::CheckpointError;

/// The most bytes that an index of shards may have; the largest published ones have about ten megabytes.
pub(crate) const MAX_INDEX: u64 = 64 << 20;

/// Parses a whole JSON text.
pub(crate) fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8], path: &Path) -> Result<T, CheckpointError> {
    let text = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    serde_json::from_slice(text).map_err(|e| CheckpointError::Index {
        path: path.to_owned(),
        what: Quoted(&e.to_string()).to_string(),
    })
}

/// A JSON object in its own order; a key that occurs twice is an error.
#[derive(Debug)]
pub(crate) struct UniqueMap<V>(pub(crate) Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for UniqueMap<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Unique<V>(PhantomData<V>);

        impl<'de, V: Deserialize<'de>> Visitor<'de> for Unique<V> {
            type Value = UniqueMap<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    push_bounded(&mut entries, entry)?;
                }
                refuse_repeats(&entries)?;
                Ok(UniqueMap(entries))
            }
        }

        deserializer.deserialize_map(Unique(PhantomData))
    }
}

/// Appends, unless there would be more entries than any model has tensors.
pub(crate) fn push_bounded<T, E: Error>(entries: &mut Vec<T>, entry: T) -> Result<(), E> {
    if entries.len() == MAX_TENSORS {
        return Err(E::custom(format_args!("more than {MAX_TENSORS} entries")));
    }
    entries.push(entry);
    Ok(())
}

/// An error when a key occurs twice.
pub(crate) fn refuse_repeats<V, E: Error>(entries: &[(String, V)]) -> Result<(), E> {
    let mut seen = std::collections::HashSet::with_capacity(entries.len());
    match entries.iter().find(|(key, _)| !seen.insert(key.as_str())) {
        Some((key, _)) => Err(E::custom(format_args!("`{key}` occurs twice"))),
        None => Ok(()),
    }
}
