//! `glimmer convert`: a model in another format.

mod directory;
mod gguf;
mod vocabulary;

use std::num::NonZero;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use glimmer_checkpoint::{Checkpoint, CheckpointError};
use glimmer_models::export::Outgoing;
use glimmer_tensor::DType;

use crate::args::ConvertArgs;
use crate::model::Model;
use crate::terminal::Terminal;

/// Writes OUT.
pub(crate) fn run(args: &ConvertArgs, terminal: &Terminal) -> anyhow::Result<()> {
    let model = Model::new(&args.model);
    let checkpoint = model.checkpoint()?;
    refuse_own_files(checkpoint, &args.output)?;
    let understood = model.understand(terminal)?;
    let threads =
        args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, NonZero::get));
    let job = Job { model: &model, checkpoint, understood: &understood, threads, terminal };
    let is_gguf = args.output.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
    if is_gguf { gguf::write(&job, args) } else { directory::write(&job, args) }
}

/// What both formats are made from.
struct Job<'a> {
    model: &'a Model,
    checkpoint: &'a Checkpoint,
    understood: &'a glimmer_models::Understood,
    threads: usize,
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
        let total = tensors.iter().zip(types).map(bytes).sum();
        let bar = self.terminal.bytes_bar("converting", total);
        for (tensor, &dtype) in tensors.iter().zip(types) {
            tensor.encode(self.checkpoint, dtype, self.threads, &mut |bytes| {
                bar.inc(bytes.len() as u64);
                write(&tensor.name, bytes)
            })?;
        }
        bar.finish_and_clear();
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
fn refuse_own_files(checkpoint: &Checkpoint, output: &Path) -> anyhow::Result<()> {
    let Ok(output) = output.canonicalize() else { return Ok(()) };
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

/// A name beside `path` for something temporary.
fn beside(path: &Path, what: &str) -> anyhow::Result<PathBuf> {
    let Some(name) = path.file_name() else { bail!("{}: no name to write to", path.display()) };
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{what}-{}", std::process::id()));
    Ok(path.with_file_name(hidden))
}
