//! Writing safetensors: one file, or a directory of parts with an index.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::{MAX_HEADER, TYPES};
use crate::error::CheckpointError;
use crate::output::{NewDirectory, NewTensor, Slot, TensorFile, unwritable};

/// One safetensors file being written: the header at once, then the tensors' bytes as they come, in any order.
///
/// The file appears under its name at [`SafetensorsFile::finish`], complete; dropping the writer before leaves nothing.
pub struct SafetensorsFile {
    file: TensorFile,
}

impl SafetensorsFile {
    /// Begins a file with these tensors and `__metadata__` pairs. In the file, tensors of wider elements come first, so
    /// that every one is aligned; otherwise they keep this order.
    ///
    /// # Errors
    /// When a type has no safetensors name, a shape is too large, a name occurs twice, or the system refuses.
    pub fn create(
        path: &Path,
        tensors: &[NewTensor],
        metadata: &[(&str, &str)],
    ) -> Result<Self, CheckpointError> {
        let mut order: Vec<&NewTensor> = tensors.iter().collect();
        order.sort_by_key(|tensor| std::cmp::Reverse(tensor.dtype.block_bytes()));
        let mut header = Map::new();
        if !metadata.is_empty() {
            let pairs: Map<_, _> = metadata.iter().map(|&(k, v)| (k.to_owned(), v.into())).collect();
            header.insert("__metadata__".to_owned(), pairs.into());
        }
        let mut slots = Vec::with_capacity(order.len());
        let mut len = 0;
        for tensor in order {
            let bytes = tensor.bytes(path)?;
            let Some((spelling, _)) = TYPES.iter().find(|(_, dtype)| *dtype == tensor.dtype) else {
                let what = format!("safetensors has no type for {}", tensor.dtype);
                return Err(unwritable(path, &tensor.name, what));
            };
            let entry = json!({"dtype": spelling, "shape": tensor.shape, "data_offsets": [len, len + bytes]});
            header.insert(tensor.name.clone(), entry);
            slots.push(Slot::new(tensor.name.clone(), len, bytes));
            len += bytes;
        }
        let mut text = Value::Object(header).to_string();
        text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
        if text.len() as u64 > MAX_HEADER {
            let what = format!("its header would have {} bytes, at most {MAX_HEADER} are read", text.len());
            return Err(unwritable(path, "__metadata__", what));
        }
        let mut head = (text.len() as u64).to_le_bytes().to_vec();
        head.extend_from_slice(text.as_bytes());
        let data_at = head.len() as u64;
        for slot in &mut slots {
            slot.offset += data_at;
        }
        Ok(SafetensorsFile { file: TensorFile::create(path, &head, slots, data_at + len)? })
    }

    /// Appends bytes (little-endian, row-major) to a tensor; they may come in any number of pieces.
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

/// A directory in Hugging Face layout being written: `model.safetensors`, or parts and an index, and any small files
/// beside them.
///
/// The directory appears under its name at [`SafetensorsWriter::finish`], complete; dropping the writer before leaves
/// nothing.
pub struct SafetensorsWriter {
    // Before `directory`, so that the files are closed when it is removed.
    parts: Vec<(String, SafetensorsFile)>,
    part_of: HashMap<String, usize>,
    total_size: u64,
    directory: NewDirectory,
}

impl SafetensorsWriter {
    /// Begins a directory. The tensors go to parts of at most `max_shard_bytes` in this order; a larger tensor has a
    /// part of its own.
    ///
    /// # Errors
    /// When the directory is there and not empty; else as for [`SafetensorsFile::create`].
    pub fn create(path: &Path, tensors: &[NewTensor], max_shard_bytes: u64) -> Result<Self, CheckpointError> {
        Self::begin(path, tensors, max_shard_bytes, false)
    }

    /// As [`SafetensorsWriter::create`], but takes the place of a directory that is there once it is complete.
    ///
    /// # Errors
    /// As for [`SafetensorsFile::create`].
    pub fn replace(
        path: &Path,
        tensors: &[NewTensor],
        max_shard_bytes: u64,
    ) -> Result<Self, CheckpointError> {
        Self::begin(path, tensors, max_shard_bytes, true)
    }

    fn begin(
        path: &Path,
        tensors: &[NewTensor],
        max_shard_bytes: u64,
        replaces: bool,
    ) -> Result<Self, CheckpointError> {
        let mut shards = vec![Vec::new()];
        let mut part_of = HashMap::with_capacity(tensors.len());
        let (mut shard_bytes, mut total_size) = (0u64, 0u64);
        for tensor in tensors {
            let bytes = tensor.bytes(path)?;
            if shard_bytes > 0 && shard_bytes.saturating_add(bytes) > max_shard_bytes {
                shards.push(Vec::new());
                shard_bytes = 0;
            }
            shard_bytes += bytes;
            total_size += bytes;
            let shard = shards.len() - 1;
            if part_of.insert(tensor.name.clone(), shard).is_some() {
                return Err(unwritable(path, &tensor.name, "the name occurs twice".to_owned()));
            }
            shards[shard].push(tensor.clone());
        }
        let directory = NewDirectory::create(path, replaces)?;
        let mut parts = Vec::with_capacity(shards.len());
        for (at, shard) in shards.iter().enumerate() {
            let name = match shards.len() {
                1 => "model.safetensors".to_owned(),
                count => format!("model-{:05}-of-{count:05}.safetensors", at + 1),
            };
            // transformers refuses files that do not say what wrote them.
            let file = SafetensorsFile::create(&directory.path_of(&name), shard, &[("format", "pt")])?;
            parts.push((name, file));
        }
        Ok(SafetensorsWriter { parts, part_of, total_size, directory })
    }

    /// Appends bytes (little-endian, row-major) to a tensor; they may come in any number of pieces.
    ///
    /// # Errors
    /// As for [`SafetensorsFile::write`].
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), CheckpointError> {
        match self.part_of.get(name) {
            Some(&part) => self.parts[part].1.write(name, bytes),
            None => Err(unwritable(self.directory.target(), name, "it was not announced".to_owned())),
        }
    }

    /// Puts a small file (`config.json`, a tokenizer) beside the weights.
    ///
    /// # Errors
    /// When the name is not that of a file in the directory, is taken, or the system refuses.
    pub fn add_file(&mut self, name: &str, bytes: &[u8]) -> Result<(), CheckpointError> {
        if Path::new(name).file_name() != Some(name.as_ref()) {
            let what = "it is not the plain name of a file".to_owned();
            return Err(unwritable(self.directory.target(), name, what));
        }
        self.directory.write(name, bytes)
    }

    /// Completes the parts, writes the index, and gives the directory its name.
    ///
    /// # Errors
    /// When a tensor did not get all its bytes, or the system refuses; then there is no directory.
    pub fn finish(self) -> Result<(), CheckpointError> {
        let SafetensorsWriter { parts, part_of, total_size, directory } = self;
        if parts.len() > 1 {
            let mut names: Vec<_> = part_of.iter().collect();
            names.sort_unstable();
            let weight_map: Map<_, _> =
                names.into_iter().map(|(n, &part)| (n.clone(), parts[part].0.clone().into())).collect();
            let index = json!({"metadata": {"total_size": total_size}, "weight_map": weight_map});
            directory.write("model.safetensors.index.json", format!("{index:#}\n").as_bytes())?;
        }
        for (_, file) in parts {
            file.finish()?;
        }
        directory.finish()
    }
}
