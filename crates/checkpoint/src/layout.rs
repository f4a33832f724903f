//! Which files make up a model, and what their headers say.
//!
//! A directory in Hugging Face layout holds `model.safetensors` or `pytorch_model.bin`, or an index beside the parts;
//! a GGUF may be split into `NAME-00001-of-00003.gguf` and so on. A lone file is recognised by its first bytes.

use std::collections::HashMap;
use std::path::{Component, Path};

use glimmer_config::file::read_bytes;
use glimmer_config::{FileError, Quoted};

use crate::checkpoint::CheckpointFormat;
use crate::entry::{Entry, Foreign};
use crate::error::CheckpointError;
use crate::gguf::{self, Metadata};
use crate::json::{self, UniqueMap};
use crate::map::FileBytes;
use crate::{pickle, safetensors};

/// The files of a model.
pub(crate) struct Layout {
    pub(crate) kind: CheckpointFormat,
    pub(crate) parts: Vec<Part>,
    /// The key/values of a GGUF (of a split one: of its first part).
    pub(crate) metadata: Option<Metadata>,
}

/// One file of a model and its tensors.
pub(crate) struct Part {
    pub(crate) file: FileBytes,
    pub(crate) tensors: Vec<Entry>,
    /// Those of types that are not read.
    pub(crate) foreign: Vec<Foreign>,
}

/// Weight files in the order in which they are looked for, transformers' own order.
const WEIGHTS: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];

impl Layout {
    /// Finds the weights of a directory or a file and reads their headers.
    pub(crate) fn read(path: &Path) -> Result<Self, CheckpointError> {
        let metadata = std::fs::metadata(path).map_err(|e| CheckpointError::io(path, e))?;
        if !metadata.is_dir() {
            return read_file(path);
        }
        for name in WEIGHTS {
            let single = path.join(name);
            // A link that leads nowhere is there too: a download that did not finish.
            if single.symlink_metadata().is_ok() {
                return read_file(&single);
            }
            let index = path.join(format!("{name}.index.json"));
            if let Some(bytes) = read_bytes(&index, json::MAX_INDEX)? {
                return read_indexed(&index, &bytes);
            }
        }
        Ok(Layout { kind: CheckpointFormat::None, parts: Vec::new(), metadata: None })
    }

    /// Reads the header of one whole file that the program holds.
    pub(crate) fn embedded(name: &Path, bytes: &'static [u8]) -> Result<Self, CheckpointError> {
        let (kind, part, metadata) = parse_part(FileBytes::embedded(name, bytes), name)?;
        Ok(Layout { kind, parts: vec![part], metadata })
    }
}

fn read_file(path: &Path) -> Result<Layout, CheckpointError> {
    let (kind, part, metadata) = read_part(path)?;
    match metadata {
        Some(metadata) if metadata.get::<u64>("split.count")?.unwrap_or(1) > 1 => read_split(path, &metadata),
        metadata => Ok(Layout { kind, parts: vec![part], metadata }),
    }
}

/// Reads the header of one file, of whichever format it is.
fn read_part(path: &Path) -> Result<(CheckpointFormat, Part, Option<Metadata>), CheckpointError> {
    parse_part(FileBytes::open(path)?, path)
}

fn parse_part(
    file: FileBytes,
    path: &Path,
) -> Result<(CheckpointFormat, Part, Option<Metadata>), CheckpointError> {
    let bytes = file.bytes();
    // In this order: a safetensors file begins with a length, which may spell the magic of a pickle.
    let safetensors = || {
        let header = safetensors::parse(bytes).map_err(|d| d.within(path))?;
        Ok::<_, CheckpointError>((CheckpointFormat::Safetensors, header.tensors, header.foreign, None))
    };
    let (kind, tensors, foreign, metadata) = if bytes.starts_with(gguf::MAGIC) {
        let gguf = gguf::parse(bytes, path).map_err(|d| d.within(path))?;
        (CheckpointFormat::Gguf, gguf.tensors, gguf.foreign, Some(gguf.metadata))
    } else if bytes.get(8) == Some(&b'{') {
        safetensors()?
    } else if bytes.starts_with(pickle::ZIP_MAGIC) {
        let found = pickle::parse(bytes).map_err(|d| d.within(path))?;
        (CheckpointFormat::PyTorch, found.tensors, found.foreign, None)
    } else if bytes.starts_with(pickle::PICKLE_MAGIC) {
        return Err(CheckpointError::LegacyPickle { path: path.to_owned() });
    } else if path.extension().is_some_and(|e| e == "safetensors") {
        // Cut off or damaged: the parser says how.
        safetensors()?
    } else {
        return Err(CheckpointError::UnknownFormat { path: path.to_owned() });
    };
    // Headers are not looked at again: a vocabulary's megabytes need not stay twice.
    let first = tensors.iter().map(|tensor| tensor.offset).min().unwrap_or(0);
    file.release(0..usize::try_from(first).unwrap_or(0));
    Ok((kind, Part { file, tensors, foreign }, metadata))
}

/// Reads all parts that an index names, and checks that they hold what it says.
fn read_indexed(index_path: &Path, bytes: &[u8]) -> Result<Layout, CheckpointError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: UniqueMap<String>,
    }
    let Index { weight_map: UniqueMap(weight_map) } = json::parse(bytes, index_path)?;
    let broken = |what: String| CheckpointError::Index { path: index_path.to_owned(), what };
    let mut names: Vec<&str> = weight_map.iter().map(|(_, file)| file.as_str()).collect();
    names.sort_unstable();
    names.dedup();

    let mut kind = CheckpointFormat::None;
    let mut parts = Vec::new();
    for name in names {
        if !is_plain_name(name) {
            return Err(broken(format!(
                "`{}` is not the plain name of a file beside the index",
                Quoted(name)
            )));
        }
        let (part_kind, part, _) =
            read_part(&index_path.with_file_name(name)).map_err(|error| match error {
                CheckpointError::File(FileError::NotFound { path }) => {
                    let tensor = weight_map.iter().find(|(_, f)| f == name).map(|(t, _)| t.clone());
                    CheckpointError::MissingShard { path, tensor }
                }
                error => error,
            })?;
        if part_kind == CheckpointFormat::Gguf || !matches!(kind, CheckpointFormat::None) && kind != part_kind
        {
            return Err(broken(format!("`{}` is of another format than the other parts", Quoted(name))));
        }
        kind = part_kind;
        parts.push(part);
    }
    if parts.is_empty() {
        return Err(broken("the index names no tensor".to_owned()));
    }
    let holders = holders(&parts)?;
    for (tensor, name) in &weight_map {
        let path = index_path.with_file_name(name);
        let held = holders.get(tensor.as_str()).is_some_and(|&part| **parts[part].file.path() == *path);
        if !held {
            let (tensor, index) = (tensor.clone(), index_path.to_owned());
            return Err(CheckpointError::NotInShard { path, tensor, index });
        }
    }
    Ok(Layout { kind, parts, metadata: None })
}

fn is_plain_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    let first = components.next();
    matches!(first, Some(Component::Normal(only)) if only == name) && components.next().is_none()
}

/// Reads all parts of a split GGUF, given any of them.
fn read_split(path: &Path, metadata: &Metadata) -> Result<Layout, CheckpointError> {
    let split = |path: &Path, what: String| CheckpointError::Split { path: path.to_owned(), what };
    let count: u64 = metadata.need("split.count")?;
    let Some(name) = path.file_name().and_then(|n| n.to_str()).and_then(SplitName::parse) else {
        return Err(split(
            path,
            format!("one of {count} parts, but its name does not end in -00001-of-{count:05}.gguf"),
        ));
    };
    if name.count != count {
        return Err(split(path, format!("one of {count} parts, but its name says {}", name.count)));
    }
    let mut parts = Vec::new();
    let mut first_metadata = None;
    for no in 0..count {
        let part_path = path.with_file_name(name.part(no));
        let (_, part, metadata) = read_part(&part_path).map_err(|error| match error {
            CheckpointError::File(FileError::NotFound { path }) => {
                CheckpointError::MissingShard { path, tensor: None }
            }
            error => error,
        })?;
        let Some(metadata) = metadata else {
            return Err(split(&part_path, "a part of a split GGUF that is no GGUF".to_owned()));
        };
        let (found_no, found_count): (u64, u64) = (metadata.need("split.no")?, metadata.need("split.count")?);
        if (found_no, found_count) != (no, count) {
            let what = format!(
                "says it is part {} of {found_count}, its name says {} of {count}",
                found_no.saturating_add(1),
                no + 1
            );
            return Err(split(&part_path, what));
        }
        first_metadata.get_or_insert(metadata);
        parts.push(part);
    }
    holders(&parts)?;
    let found: usize = parts.iter().map(|p| p.tensors.len() + p.foreign.len()).sum();
    if let Some(first) = &first_metadata
        && let Some(expected) = first.get::<usize>("split.tensors.count")?
        && expected != found
    {
        return Err(split(first.path(), format!("the model has {expected} tensors, its parts have {found}")));
    }
    Ok(Layout { kind: CheckpointFormat::Gguf, parts, metadata: first_metadata })
}

/// A file name `STEM-00002-of-00005.gguf`.
struct SplitName<'a> {
    stem: &'a str,
    count: u64,
}

impl<'a> SplitName<'a> {
    fn parse(name: &'a str) -> Option<Self> {
        let (rest, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
        let (stem, no) = rest.rsplit_once('-')?;
        let is_number = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
        if !is_number(no) || !is_number(count) {
            return None;
        }
        Some(SplitName { stem, count: count.parse().ok()? })
    }

    /// The name of part `no`, counted from 0.
    fn part(&self, no: u64) -> String {
        format!("{}-{:05}-of-{:05}.gguf", self.stem, no + 1, self.count)
    }
}

/// Which part holds each tensor; an error when two do.
fn holders(parts: &[Part]) -> Result<HashMap<&str, usize>, CheckpointError> {
    let mut holders = HashMap::new();
    for (at, part) in parts.iter().enumerate() {
        let foreign = part.foreign.iter().map(|f| (&f.name, f.offset));
        for (name, offset) in part.tensors.iter().map(|t| (&t.name, t.offset)).chain(foreign) {
            if let Some(earlier) = holders.insert(name.as_str(), at) {
                return Err(CheckpointError::InTwoFiles {
                    path: part.file.path().to_path_buf(),
                    tensor: name.clone(),
                    offset,
                    other: parts[earlier].file.path().to_path_buf(),
                });
            }
        }
    }
    Ok(holders)
}
