//! `glimmer convert`: a model in another format.

pub(super) mod directory;
mod gguf;
pub(super) mod tokenizer_json;
pub(super) mod vocabulary;

use std::collections::BTreeSet;
use std::num::NonZero;
use std::path::Path;

use anyhow::{Context, ensure};
use glimmer::{ModelFiles, Source};
use glimmer_checkpoint::{Checkpoint, CheckpointError, remove_leftovers};
use glimmer_config::FileError;
use glimmer_models::export::Outgoing;
use glimmer_tensor::DType;

use crate::args::ConvertArgs;
use crate::interrupt::Interrupt;
use crate::model::{files, spec};
use crate::terminal::Terminal;

/// Writes OUT.
pub(crate) fn run(args: &ConvertArgs, terminal: &Terminal) -> anyhow::Result<()> {
    let files = files(&args.model, None, terminal)?;
    let checkpoint = files.checkpoint()?;
    refuse_own_files(&files, checkpoint, &args.output)?;
    spec(&files, terminal)?;
    let is_gguf = args.output.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
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
            tensor.encode(self.checkpoint, dtype, self.threads, &mut |bytes| {
                self.interrupt.check().map_err(|error| FileError::io(self.output, error))?;
                bar.inc(bytes.len() as u64);
                write(&tensor.name, bytes)
            })?;
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
