//! Writing a directory in Hugging Face layout: safetensors, the configuration of transformers' own classes, and the
//! tokenizer as it was.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use glimmer::ModelFiles;
use glimmer_checkpoint::safetensors::SafetensorsWriter;
use glimmer_checkpoint::{CheckpointError, NewTensor};
use glimmer_config::FileError;
use glimmer_config::file::read_bytes;
use glimmer_models::export::{WeightTypes, config_json, config_json_as_it_was, directory_naming, outgoing};
use glimmer_models::names::TensorNaming;
use glimmer_models::vision::{KeptTensor, VisionSpec, kept};
use glimmer_tensor::DType;
use serde_json::Value;

use super::Job;
use super::tokenizer_json::{tokenizer_config, tokenizer_json};
use crate::WrongUsage;
use crate::args::ConvertArgs;
use crate::terminal::Terminal;

/// Parts are no larger, as huggingface_hub makes them.
const SHARD_BYTES: u64 = 5_000_000_000;

/// The tokenizers of every generation with their code; they go along unchanged.
const TOKENIZER: [&str; 9] = [
    "tokenizer.json",
    "tokenizer.model",
    "ice_text.model",
    "vocab.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "tokenization_chatglm.py",
];

/// How pictures are prepared.
const PICTURES: [&str; 3] =
    ["preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json"];

const LICENCES: [&str; 3] = ["LICENSE", "MODEL_LICENSE", "NOTICE"];

/// The code of ChatGLM-6B's repository, which its layout is loaded with elsewhere.
const CODE: [&str; 3] = ["configuration_chatglm.py", "modeling_chatglm.py", "quantization.py"];

/// GLM-4's `tokenizer.json` has 20 MB.
const MAX_SMALL_FILE: u64 = 256 << 20;

/// Writes the directory, under its name when it is complete.
pub(super) fn write(job: &Job<'_>, args: &ConvertArgs) -> anyhow::Result<()> {
    let asked = match args.types {
        None => None,
        Some(WeightTypes::One(dtype @ (DType::F32 | DType::F16 | DType::BF16))) => Some(dtype),
        Some(_) => bail!(WrongUsage(
            "a directory holds weights as F32, F16 or BF16; for other types let OUT end in .gguf".to_owned()
        )),
    };
    let replaces = refuse_precious(&args.output, args.force)?;
    let naming = directory_naming(&job.understood.spec);
    let (tensors, mut unused) = outgoing(job.checkpoint, job.understood, naming)?;
    let tower = tower(job, naming)?;
    unused.retain(|name| !tower.iter().any(|tensor| tensor.info.name == *name));
    job.warn_of_unused(&unused);
    let types: Vec<DType> =
        tensors.iter().map(|tensor| asked.unwrap_or(plain(tensor.stored_type()))).collect();
    let mut announced: Vec<_> =
        tensors.iter().zip(&types).map(|(tensor, &dtype)| tensor.announce(dtype)).collect();
    announced.extend(tower.iter().map(|KeptTensor { info, .. }| NewTensor {
        name: info.name.clone(),
        dtype: asked.unwrap_or(plain(info.dtype)),
        shape: info.shape.clone(),
    }));

    let mut directory = begin(&args.output, &announced, replaces)?;
    let matrices = types.first().copied().unwrap_or(DType::F32);
    let config = match job.checkpoint.config().filter(|_| !tower.is_empty()) {
        Some(config) => config_json_as_it_was(job.checkpoint, config, &job.understood.spec, matrices),
        None => config_json(job.checkpoint, job.understood, &tensors, matrices),
    };
    directory.add_file("config.json", &pretty(&config))?;
    for (name, bytes) in small_files(job.files, !args.no_tokenizer, job.terminal)? {
        directory.add_file(name, &bytes)?;
    }
    job.write_tensors(&tensors, &types, |name, bytes| directory.write(name, bytes))?;
    for KeptTensor { info, rows } in tower {
        let dtype = asked.unwrap_or(plain(info.dtype));
        let mut write = |bytes: &[u8]| {
            job.interrupt.check().map_err(|error| FileError::io(job.output, error))?;
            directory.write(&info.name, bytes)
        };
        job.checkpoint.encode(&info.name, &[(rows, info)], dtype, job.threads, &mut write)?;
    }
    Ok(directory.finish()?)
}

/// The vision tower, which goes along where the decoder beside it keeps its names.
fn tower<'a>(job: &Job<'a>, naming: TensorNaming) -> anyhow::Result<Vec<KeptTensor<'a>>> {
    if job.checkpoint.metadata().is_some() {
        ensure!(
            naming != TensorNaming::HfSeeing,
            "a GGUF of a model that sees has its tower in another file, so no directory is made of it; convert the model's own"
        );
        return Ok(Vec::new());
    }
    let Some(spec) = VisionSpec::of(job.checkpoint)? else { return Ok(Vec::new()) };
    if job.understood.naming != naming {
        job.terminal.warn(
            "the vision tower is left out: its layout has no place beside a decoder of transformers' classes",
        );
        return Ok(Vec::new());
    }
    Ok(kept(job.checkpoint, &spec)?)
}

/// Begins a directory at `out`, in the place of a model that is there where [`refuse_precious`] says so.
pub(in crate::commands) fn begin(
    out: &Path,
    tensors: &[NewTensor],
    replaces: bool,
) -> Result<SafetensorsWriter, CheckpointError> {
    let begin = if replaces { SafetensorsWriter::replace } else { SafetensorsWriter::create };
    begin(out, tensors, SHARD_BYTES)
}

/// The stored type, or F16 where that is packed.
fn plain(stored: DType) -> DType {
    match stored {
        stored @ (DType::F32 | DType::F16 | DType::BF16) => stored,
        _ => DType::F16,
    }
}

/// Whether there is something to replace. Only a model may be replaced: with anything else in a directory, the path is
/// a slip of the keyboard.
///
/// # Errors
/// When something is at `out` that is not to be replaced.
pub(in crate::commands) fn refuse_precious(out: &Path, force: bool) -> anyhow::Result<bool> {
    let shown = out.display();
    if out
        .extension()
        .is_some_and(|e| ["safetensors", "bin"].iter().any(|other| e.eq_ignore_ascii_case(other)))
    {
        bail!(WrongUsage(format!("{shown}: OUT is a file that ends in .gguf, or a directory")));
    }
    let entries = match fs::read_dir(out) {
        Ok(entries) => entries.collect::<Result<Vec<_>, _>>().with_context(|| shown.to_string())?,
        Err(_) if out.symlink_metadata().is_ok() => bail!("{shown}: exists and is no directory"),
        Err(_) => return Ok(false),
    };
    if entries.is_empty() {
        return Ok(false);
    }
    ensure!(force, "{shown}: exists and is not empty; --force replaces it");
    let only_files = entries.iter().all(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    ensure!(
        only_files && entries.iter().any(|entry| entry.file_name() == "config.json"),
        "{shown}: does not look like a model, so it is not replaced even with --force; remove it first"
    );
    Ok(true)
}

/// What goes along beside weights, name by name: how answers end and are sampled, the tokenizer, or what a GGUF has of it.
pub(in crate::commands) fn small_files(
    files: &ModelFiles,
    with_tokenizer: bool,
    terminal: &Terminal,
) -> anyhow::Result<Vec<(&'static str, Vec<u8>)>> {
    let checkpoint = files.checkpoint()?;
    let mut found = Vec::new();
    if let Some(config) = checkpoint.configuration().generation_config() {
        found.push(("generation_config.json", pretty(config)));
    }
    if checkpoint.metadata().is_some() {
        if with_tokenizer {
            if let Some(template) = checkpoint.configuration().chat_template()? {
                found.push(("chat_template.jinja", template.into_owned().into_bytes()));
            }
            found.extend(tokenizer_of_gguf(files, terminal)?);
        }
        return Ok(found);
    }
    let code: &[&str] = if directory_naming(files.spec()?) == TensorNaming::ChatGlm6b { &CODE } else { &[] };
    let tokenizer: &[&str] = if with_tokenizer { &TOKENIZER } else { &[] };
    for name in tokenizer.iter().chain(&PICTURES).chain(&LICENCES).chain(code) {
        if let Some(bytes) = read_bytes(&files.source().directory().join(name), MAX_SMALL_FILE)? {
            found.push((name, bytes));
        }
    }
    Ok(found)
}

/// What transformers needs to know of a vocabulary that came inside a GGUF.
fn tokenizer_of_gguf(
    files: &ModelFiles,
    terminal: &Terminal,
) -> anyhow::Result<Vec<(&'static str, Vec<u8>)>> {
    let Some(vocab) = files.gguf_vocabulary()? else { return Ok(Vec::new()) };
    let tokenizer = files.tokenizer()?;
    let Some(json) = tokenizer_json(&vocab, tokenizer.wrap().0) else {
        terminal.warn(&format!(
            "a vocabulary of kind {} cannot leave its GGUF: put the model's own tokenizer beside these weights",
            vocab.model
        ));
        return Ok(Vec::new());
    };
    let config = tokenizer_config(&vocab, files.spec()?.context);
    Ok(vec![("tokenizer.json", json.to_string().into_bytes()), ("tokenizer_config.json", pretty(&config))])
}

pub(in crate::commands) fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}
