//! Writing a GGUF: llama.cpp's names and keys, the vocabulary inside.

use anyhow::ensure;
use glimmer_checkpoint::gguf::GgufWriter;
use glimmer_models::export::{Outgoing, WeightTypes, gguf_metadata, outgoing, second_rounding};
use glimmer_models::names::TensorNaming;
use glimmer_models::vision::{Mmproj, TowerNaming, VisionSpec};
use glimmer_models::{FeedForward, Residual};
use glimmer_tensor::DType;

use super::{Job, vocabulary};
use crate::args::ConvertArgs;

/// Writes the file, under its name when it is complete.
pub(super) fn write(job: &Job<'_>, args: &ConvertArgs) -> anyhow::Result<()> {
    let path = &args.output;
    ensure!(args.force || !path.is_file(), "{}: exists; --force replaces it", path.display());
    let types = args.types.unwrap_or(WeightTypes::Stored);
    let (tensors, mut unused) = outgoing(job.checkpoint, job.understood, TensorNaming::Gguf)?;
    let tower = VisionSpec::of(job.checkpoint)?;
    if let Some(tower) = &tower {
        let seeing = tower.tensors();
        unused.retain(|name| !seeing.contains(*name));
    }
    job.warn_of_unused(&unused);
    warn_of_llamacpp(job);

    let spec = &job.understood.spec;
    let chosen = types.choose(spec, &tensors);
    warn_of_second_rounding(job, &tensors, &chosen);
    let as_it_was = job.checkpoint.metadata().filter(|_| types == WeightTypes::Stored);
    let file_type = as_it_was.and_then(|metadata| metadata.get("general.file_type").ok().flatten());
    let file_type = file_type.unwrap_or_else(|| types.file_type(&tensors, &chosen));
    let mut metadata = gguf_metadata(job.checkpoint, job.understood, path, file_type)?;
    if args.no_tokenizer {
        metadata = vocabulary::without(&metadata);
    } else if job.checkpoint.metadata().is_none() {
        vocabulary::add(&mut metadata, job)?;
    }

    let announced: Vec<_> =
        tensors.iter().zip(&chosen).map(|(tensor, &dtype)| tensor.announce(dtype)).collect();
    let mut file = GgufWriter::create(path, &metadata, &announced)?;
    job.write_tensors(&tensors, &chosen, |name, bytes| file.write(name, bytes))?;
    file.finish()?;
    tower.map_or(Ok(()), |tower| write_tower(job, &tower, args, types))
}

/// Writes the vision tower as llama.cpp has it: in a file beside the model, `mmproj-NAME.gguf`.
fn write_tower(
    job: &Job<'_>,
    tower: &VisionSpec,
    args: &ConvertArgs,
    types: WeightTypes,
) -> anyhow::Result<()> {
    if tower.naming == TowerNaming::Glm4v9b {
        job.terminal.warn("llama.cpp has no form for the vision tower of GLM-4V-9B, which is left out");
        return Ok(());
    }
    let name = args.output.file_name().unwrap_or_default().to_string_lossy();
    let path = args.output.with_file_name(format!("mmproj-{name}"));
    ensure!(args.force || !path.is_file(), "{}: exists; --force replaces it", path.display());
    let dtype = match types {
        WeightTypes::One(dtype @ (DType::F32 | DType::BF16 | DType::Q8_0)) => dtype,
        _ => DType::F16,
    };
    Mmproj::new(tower, dtype, job.threads).write(job.checkpoint, tower, &path)?;
    job.terminal.note(&format!("{}: the vision tower, in {dtype}", path.display()));
    Ok(())
}

/// Says when weights that were rounded once are rounded again.
fn warn_of_second_rounding(job: &Job<'_>, tensors: &[Outgoing<'_>], chosen: &[DType]) {
    let stored = tensors.iter().map(Outgoing::stored_type);
    if let Some(warning) = stored.zip(chosen).find_map(|(from, &to)| second_rounding(from, to)) {
        job.terminal.warn(&warning);
    }
}

/// Says what llama.cpp will not load.
fn warn_of_llamacpp(job: &Job<'_>) {
    let spec = &job.understood.spec;
    let heads = spec.layers[0].attention.heads();
    let has_experts = spec.layers.iter().any(|l| matches!(l.feed_forward, FeedForward::Experts { .. }));
    let rotated = job.understood.rotary_dims;
    if !rotated.is_multiple_of(2) {
        job.terminal.warn(&format!(
            "llama.cpp rotates an even number of elements of a head; here they are {rotated}"
        ));
    }
    match spec.layers[0].residual {
        Residual::ScaledNormed { .. } => {
            job.terminal.warn("llama.cpp does not know ChatGLM-6B; only Glimmer reads this file");
        }
        Residual::PreNorm if !has_experts && heads.attended_width() != spec.hidden => {
            let (width, hidden) = (heads.attended_width(), spec.hidden);
            job.terminal.warn(&format!(
                "llama.cpp loads this architecture only where all heads together are as wide as the model; here they \
                 are {width} and {hidden}"
            ));
        }
        _ => {}
    }
}
