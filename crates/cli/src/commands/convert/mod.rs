//! `glimmer convert`: a model in another format.

pub(super) mod directory;
mod gguf;
pub(super) mod tokenizer_json;
pub(super) mod vocabulary;

use std::collections::BTreeSet;
use std::num::NonZero;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use glimmer::{Adapter, ModelFiles, Source};
use glimmer_checkpoint::{Checkpoint, CheckpointError, remove_leftovers};
use glimmer_config::FileError;
use glimmer_models::export::{Fused, Outgoing};
use glimmer_models::{DecoderSpec, FeedForward, LayerSpec, LowRankAdapter};
use glimmer_tensor::DType;

use crate::args::{ConvertArgs, FuseArgs};
use crate::interrupt::Interrupt;
use crate::model::{files, spec};
use crate::terminal::Terminal;

/// Writes OUT.
pub(crate) fn run(args: &ConvertArgs, terminal: &Terminal) -> anyhow::Result<()> {
    write(args, |_| Ok(None), terminal)
}

/// Writes OUT with adapters merged in.
pub(crate) fn fuse(args: &FuseArgs, terminal: &Terminal) -> anyhow::Result<()> {
    let fused = |spec: &DecoderSpec| {
        let mut adapters = Vec::new();
        for (path, weight) in &args.lora {
            match Adapter::read(path, spec).context("--lora")? {
                Adapter::LowRank(adapter) => adapters.push((adapter, *weight)),
                Adapter::Prefix(_) => {
                    bail!(
                        "--lora {}: a prefix (P-Tuning v2) is no weight and cannot be merged",
                        path.display()
                    )
                }
            }
        }
        let adapter = match adapters.as_slice() {
            [(adapter, 1.0)] => adapter.clone(),
            _ => {
                let all: Vec<_> = adapters.iter().map(|(adapter, weight)| (adapter, *weight)).collect();
                LowRankAdapter::combined(&all, args.combine)?
            }
        };
        Ok(Some(Fused::new(&adapter, spec)))
    };
    write(&args.convert, fused, terminal)
}

fn write(
    args: &ConvertArgs,
    fused: impl FnOnce(&DecoderSpec) -> anyhow::Result<Option<Fused>>,
    terminal: &Terminal,
) -> anyhow::Result<()> {
    let files = files(&args.model, None, terminal)?;
    let checkpoint = files.checkpoint()?;
    refuse_own_files(&files, checkpoint, &args.output)?;
    let spec = spec(&files, terminal)?;
    let is_gguf = args.output.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
    let has_experts = |layer: &LayerSpec| matches!(layer.feed_forward, FeedForward::Experts { .. });
    if !is_gguf && spec.layers.iter().any(has_experts) {
        bail!(
            "{}: models with experts are written as GGUF alone; let OUT end in .gguf",
            checkpoint.path().display()
        );
    }
    let fused = fused(spec)?;
    if !args.no_tokenizer
        && let Err(error) = files.tokenizer_if_any()
    {
        let what = "a tokenizer that cannot be read (--no-tokenizer leaves it out)";
        return Err(anyhow::Error::from(error).context(what));
    }
    clear_leftovers(&args.output, terminal);
    let threads =
        args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, NonZero::get));
    let job = Job {
        files: &files,
        checkpoint,
        understood: files.understood()?,
        fused,
        output: &args.output,
        threads,
        interrupt: Interrupt::listen()?,
        terminal,
    };
    if is_gguf { gguf::write(&job, args) } else { directory::write(&job, args) }
}

/// What both formats are made from.
struct Job<'a> {
    files: &'a ModelFiles,
    checkpoint: &'a Checkpoint,
    understood: &'a glimmer_models::Understood,
    /// What adapters change in its weights.
    fused: Option<Fused>,
    output: &'a Path,
    threads: usize,
    interrupt: Interrupt,
    terminal: &'a Terminal,
}

impl Job<'_> {
    /// Encodes tensor after tensor and hands the bytes to `write`.
    fn write_tensors(
        &self,
        tensors: &[Outgoing<'_>],
        types: &[DType],
        mut write: impl FnMut(&str, &[u8]) -> Result<(), CheckpointError>,
    ) -> anyhow::Result<()> {
        let bytes = |(tensor, dtype): (&Outgoing<'_>, &DType)| {
            let elements = tensor.shape.iter().product();
            dtype.bytes_for(elements).unwrap_or(0) as u64
        };
        let total: u64 = tensors.iter().zip(types).map(bytes).sum();
        let bar = self.terminal.bytes_bar("converting", total);
        for (tensor, &dtype) in tensors.iter().zip(types) {
            let mut write = |bytes: &[u8]| {
                self.interrupt.check().map_err(|error| FileError::io(self.output, error))?;
                bar.inc(bytes.len() as u64);
                write(&tensor.name, bytes)
            };
            let Job { checkpoint, threads, .. } = *self;
            match &self.fused {
                None => tensor.encode(checkpoint, dtype, threads, &mut write)?,
                Some(fused) => tensor.encode_fused(checkpoint, fused, dtype, threads, &mut write)?,
            }
        }
        bar.finish_and_clear();
        let names: BTreeSet<&str> = types.iter().map(|dtype| dtype.name()).collect();
        let names = Vec::from_iter(names).join(", ");
        let (shown, count) = (self.output.display(), tensors.len());
        self.terminal.note(&format!("{shown}: {count} tensors of {names}, {total} bytes"));
        Ok(())
    }

    /// Says which tensors of the source the model does not use.
    fn warn_of_unused(&self, unused: &[&str]) {
        if let [first, ..] = unused {
            let (count, verb) =
                (unused.len(), if unused.len() == 1 { "tensor plays" } else { "tensors play" });
            self.terminal.warn(&format!("{count} {verb} no part in the model and is left out: {first} ..."));
        }
    }
}

/// Refuses to write over a file that is being read, or over a directory that such a file lies in.
fn refuse_own_files(files: &ModelFiles, checkpoint: &Checkpoint, output: &Path) -> anyhow::Result<()> {
    // A model inside the program is in no file.
    let (Source::Path(_) | Source::Named { .. }, Ok(output)) = (files.source(), output.canonicalize()) else {
        return Ok(());
    };
    let files = checkpoint.tensors().iter().map(|tensor| &*tensor.file);
    for source in files.chain([checkpoint.path()]) {
        let source = source.canonicalize().with_context(|| source.display().to_string())?;
        ensure!(
            !source.starts_with(&output),
            "{}: is read from and cannot be written to at the same time; choose another OUT",
            output.display()
        );
    }
    Ok(())
}

/// Clears away what runs have left beside `out` that were killed before they could, and says so.
pub(super) fn clear_leftovers(out: &Path, terminal: &Terminal) {
    for path in remove_leftovers(out) {
        terminal.note(&format!("{}: left by a run that was killed, removed", path.display()));
    }
}
