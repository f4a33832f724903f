//! `glimmer logits`: the logits of every position of a prompt, as a safetensors file.

use glimmer_checkpoint::NewTensor;
use glimmer_checkpoint::safetensors::SafetensorsFile;
use glimmer_tensor::{Compute, DType};

use crate::args::LogitsArgs;
use crate::model::{Model, check_ids, rows};
use crate::sequence::Sequence;
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
    let device = device::open(&args.device, compute, terminal)?;
    let source = format!("glimmer {}, {}", env!("CARGO_PKG_VERSION"), device.describe());
    let mut file = SafetensorsFile::create(&args.output, &[tensor], &[("source", &source)])?;

    let decoder = model.load(&understood, device, terminal)?;
    let kv_type = device::kv_type(&args.device, compute);
    let mut sequence = Sequence::plan(decoder, ids.len(), rows, rows, kv_type)?;
    sequence.begin(&ids)?;
    let (mut logits, mut bytes) = (Vec::new(), Vec::new());
    for chunk in ids.chunks(rows) {
        let batch = sequence.batch(chunk, 0..chunk.len())?;
        sequence.decoder.forward(&batch)?;
        logits.clear();
        sequence.decoder.logits(chunk.len(), &mut logits)?;
        bytes.clear();
        bytes.extend(logits.iter().flat_map(|logit| logit.to_le_bytes()));
        file.write(TENSOR, &bytes)?;
    }
    Ok(file.finish()?)
}
