//! `glimmer logits`: the logits of every position of a prompt, as a safetensors file.

use glimmer::{Compute, Session, check_ids, indivisible};
use glimmer_checkpoint::NewTensor;
use glimmer_checkpoint::safetensors::SafetensorsFile;
use glimmer_tensor::DType;

use crate::args::LogitsArgs;
use crate::input;
use crate::model::{device, files, load, spec};
use crate::terminal::Terminal;

/// The name of the one tensor in the file.
const TENSOR: &str = "logits";

/// Most rows of logits held at once; a large vocabulary has megabytes of them per row.
const ROWS: usize = 64;

/// Computes and writes.
pub(crate) fn run(args: &LogitsArgs, terminal: &Terminal) -> anyhow::Result<()> {
    let ids = input::ids(&args.ids)?;
    let files = files(&args.model, None, terminal)?;
    let spec = spec(&files, terminal)?;
    check_ids(&ids, spec)?;
    let rows = indivisible(spec, &ids)?.max(ROWS);
    // Begun before the weights are loaded, so that a target that cannot be written is known at once.
    let shape = vec![ids.len(), spec.vocab];
    let tensor = NewTensor { name: TENSOR.to_owned(), dtype: DType::F32, shape };
    let device = device(&args.device, Compute::F32, terminal)?;
    let source = format!("glimmer {}, {}", env!("CARGO_PKG_VERSION"), device.describe());
    let mut file = SafetensorsFile::create(&args.output, &[tensor], &[("source", &source)])?;

    let mut sequence = load(&files, device, Session::capacity(ids.len(), rows, rows), terminal)?.session(
        ids.len(),
        rows,
        rows,
    )?;
    let mut bytes = Vec::new();
    sequence.logits(&ids, &mut |logits| -> anyhow::Result<()> {
        bytes.clear();
        bytes.extend(logits.iter().flat_map(|logit| logit.to_le_bytes()));
        Ok(file.write(TENSOR, &bytes)?)
    })?;
    Ok(file.finish()?)
}
