//! `glimmer logits`: the logits of every position of a prompt, as a safetensors file.

use glimmer_checkpoint::safetensors::SafetensorsFile;
use glimmer_checkpoint::{CheckpointError, NewTensor};
use glimmer_engine::{Engine, EngineOptions};
use glimmer_tensor::{Compute, DType};

use crate::args::LogitsArgs;
use crate::model::{Model, check_ids, rows};
use crate::terminal::Terminal;
use crate::{device, input};

/// The name of the one tensor in the file.
const TENSOR: &str = "logits";

/// Most rows of logits held at once; a large vocabulary has megabytes of them per row.
const ROWS: usize = 64;

/// Computes and writes.
pub(crate) fn run(args: &LogitsArgs, terminal: &Terminal) -> anyhow::Result<()> {
    let ids = input::ids(&args.ids)?;
    let model = Model::new(&args.model);
    let understood = model.understand(terminal)?;
    let spec = &understood.spec;
    check_ids(&ids, spec)?;
    let rows = rows(spec, &ids, ROWS)?;
    // Begun before the weights are loaded, so that a target that cannot be written is known at once.
    let shape = vec![ids.len(), spec.vocab];
    let tensor = NewTensor { name: TENSOR.to_owned(), dtype: DType::F32, shape };
    let compute = device::compute(&args.device, Compute::F32);
    let device = device::open(&args.device, compute)?;
    let source = format!("glimmer {}, {}", env!("CARGO_PKG_VERSION"), device.describe());
    let mut file = SafetensorsFile::create(&args.output, &[tensor], &[("source", &source)])?;

    let decoder = model.load(&understood, device, terminal)?;
    let kv_type = device::kv_type(&args.device, compute);
    let options = EngineOptions { context: ids.len(), rows, all_logits: true, kv_type };
    let mut engine = Engine::new(decoder, options)?;
    let mut written: Result<(), CheckpointError> = Ok(());
    let mut bytes = Vec::new();
    engine.all_logits(&ids, &mut |logits| {
        if written.is_ok() {
            bytes.clear();
            bytes.extend(logits.iter().flat_map(|logit| logit.to_le_bytes()));
            written = file.write(TENSOR, &bytes);
        }
    })?;
    written?;
    Ok(file.finish()?)
}
