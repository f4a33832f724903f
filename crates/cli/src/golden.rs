//! `glimmer-golden.safetensors`: what a trusted implementation answered on one prompt. The format is described in
//! `tools/README.md`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use glimmer_checkpoint::safetensors::{Header, SafetensorsFile, parse};
use glimmer_checkpoint::{Entry, NewTensor};
use glimmer_config::file::read_bytes;
use glimmer_tensor::DType;

/// The file's name beside a model.
pub(crate) const FILE_NAME: &str = "glimmer-golden.safetensors";

/// What `format` must say.
const FORMAT: &str = "glimmer-golden/1";

/// The most bytes that are read; the largest model's answers take a few megabytes.
const MAX_BYTES: u64 = 256 << 20;

/// Stored answers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Golden {
    /// What computed them.
    pub(crate) source: String,
    /// The absolute difference allowed to an exact float32 engine.
    pub(crate) tolerance: Option<f32>,
    /// The prompt.
    pub(crate) input_ids: Vec<u32>,
    /// The last token's residual stream `[hidden]`: 0 the embedding, `i` after layer `i` (counted from 1).
    pub(crate) hidden: BTreeMap<usize, Vec<f32>>,
    /// The last token's logits `[vocab]`.
    pub(crate) logits: Vec<f32>,
    /// Greedy tokens that follow.
    pub(crate) new_ids: Vec<u32>,
    /// The prompt that they follow, where it is another one, and its last logits `[vocab]`.
    pub(crate) continued: Option<(Vec<u32>, Vec<f32>)>,
}

impl Golden {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let bytes = read_bytes(path, MAX_BYTES)?.with_context(|| format!("{name}: no such file"))?;
        Self::from_bytes(&bytes).context(name)
    }

    fn from_bytes(bytes: &[u8]) -> anyhow::Result<Self> {
        let Header { tensors, metadata, .. } = parse(bytes)?;
        let said = |key: &str| metadata.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str());
        match said("format") {
            Some(FORMAT) => {}
            other => bail!("format is {:?}, {FORMAT:?} is needed", other.unwrap_or("not given")),
        }
        let tolerance = said("tolerance").map(|text| match text.parse::<f32>() {
            Ok(t) if t.is_finite() && t > 0.0 => Ok(t),
            _ => bail!("tolerance {text:?} is no number above 0"),
        });
        let find = |name: &str| tensors.iter().find(|t| t.name == name);
        let need = |name: &str| find(name).with_context(|| format!("tensor `{name}` is missing"));
        let mut hidden = BTreeMap::new();
        for tensor in &tensors {
            let state = tensor.name.strip_prefix("hidden.").and_then(|number| number.parse().ok());
            if let Some(state) = state {
                hidden.insert(state, floats(tensor, bytes)?);
            }
        }
        let continued = match find("new_ids.prompt") {
            Some(prompt) => Some((ids(prompt, bytes)?, floats(need("new_ids.logits")?, bytes)?)),
            None => None,
        };
        let golden = Golden {
            source: said("source").unwrap_or("unknown").to_owned(),
            tolerance: tolerance.transpose()?,
            input_ids: ids(need("input_ids")?, bytes)?,
            hidden,
            logits: floats(need("logits")?, bytes)?,
            new_ids: find("new_ids").map_or(Ok(Vec::new()), |t| ids(t, bytes))?,
            continued,
        };
        let prompts = [Some(&golden.input_ids), golden.continued.as_ref().map(|(ids, _)| ids)];
        ensure!(prompts.into_iter().flatten().all(|p| !p.is_empty()), "a prompt is empty");
        Ok(golden)
    }

    /// Writes a file, which appears complete or not at all.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let id_bytes =
            |ids: &[u32]| ids.iter().flat_map(|&id| i64::from(id).to_le_bytes()).collect::<Vec<u8>>();
        let float_bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let mut tensors = vec![
            ("input_ids".to_owned(), DType::I64, self.input_ids.len(), id_bytes(&self.input_ids)),
            ("logits".to_owned(), DType::F32, self.logits.len(), float_bytes(&self.logits)),
            ("new_ids".to_owned(), DType::I64, self.new_ids.len(), id_bytes(&self.new_ids)),
        ];
        for (state, values) in &self.hidden {
            tensors.push((format!("hidden.{state}"), DType::F32, values.len(), float_bytes(values)));
        }
        if let Some((prompt, logits)) = &self.continued {
            tensors.push(("new_ids.prompt".to_owned(), DType::I64, prompt.len(), id_bytes(prompt)));
            tensors.push(("new_ids.logits".to_owned(), DType::F32, logits.len(), float_bytes(logits)));
        }
        // In the file's order, which has wider elements first: a pipe is written to from its beginning.
        tensors.sort_by_key(|(_, dtype, ..)| *dtype != DType::I64);
        let described: Vec<NewTensor> = tensors
            .iter()
            .map(|(name, dtype, len, _)| NewTensor { name: name.clone(), dtype: *dtype, shape: vec![*len] })
            .collect();
        let tolerance = self.tolerance.map(|t| format!("{t:e}"));
        let mut metadata = vec![("format", FORMAT), ("source", &self.source)];
        metadata.extend(tolerance.as_deref().map(|t| ("tolerance", t)));
        let mut file = SafetensorsFile::create(path, &described, &metadata)?;
        for (name, _, _, bytes) in &tensors {
            file.write(name, bytes)?;
        }
        Ok(file.finish()?)
    }
}

/// A tensor's elements, of which the header's parser has checked that they lie within the file.
fn elements<'a>(tensor: &Entry, bytes: &'a [u8]) -> &'a [u8] {
    &bytes[tensor.offset as usize..][..tensor.bytes]
}

fn floats(tensor: &Entry, bytes: &[u8]) -> anyhow::Result<Vec<f32>> {
    ensure!(tensor.dtype == DType::F32, "tensor `{}` is {}, F32 is needed", tensor.name, tensor.dtype);
    let (values, _) = elements(tensor, bytes).as_chunks();
    Ok(values.iter().map(|&value| f32::from_le_bytes(value)).collect())
}

fn ids(tensor: &Entry, bytes: &[u8]) -> anyhow::Result<Vec<u32>> {
    ensure!(tensor.dtype == DType::I64, "tensor `{}` is {}, I64 is needed", tensor.name, tensor.dtype);
    let (values, _) = elements(tensor, bytes).as_chunks();
    let id = |&value: &[u8; 8]| {
        let value = i64::from_le_bytes(value);
        u32::try_from(value).with_context(|| format!("tensor `{}`: {value} is no token id", tensor.name))
    };
    values.iter().map(id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let golden = Golden {
            source: "a test".to_owned(),
            tolerance: Some(1.5e-4),
            input_ids: vec![1, 2, u32::MAX],
            hidden: BTreeMap::from([(0, vec![0.5, -1.0]), (10, vec![2.0, 3.0])]),
            logits: vec![1.0, 2.0, f32::MIN_POSITIVE],
            new_ids: vec![7],
            continued: Some((vec![4, 5], vec![0.0, 1.0, 2.0])),
        };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        golden.write(&path).unwrap();
        assert_eq!(Golden::read(&path).unwrap(), golden);
    }

    #[test]
    fn other_files_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        for bytes in [&b""[..], b"not safetensors at all", b"\x02\0\0\0\0\0\0\0{}"] {
            std::fs::write(&path, bytes).unwrap();
            assert!(Golden::read(&path).is_err());
        }
    }
}
