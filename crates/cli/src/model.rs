//! What MODEL stands for, each part opened when it is asked for: a tokenizer needs no weights, weights need no
//! tokenizer.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use glimmer_checkpoint::Checkpoint;
use glimmer_checkpoint::gguf::Metadata;
use glimmer_engine::{Engine, EngineOptions};
use glimmer_models::{Decoder, DecoderSpec, Family, PositionLayout, Positions, Understood, load, understand};
use glimmer_tensor::{Compute, Device};
use glimmer_tokenizer::{Tokenizer, TokenizerError};
use serde_json::Value;

use crate::args::{ContextLength, DeviceArgs, ModelArgs};
use crate::terminal::Terminal;
use crate::{demo, device, input, vocabulary};

/// The context that is planned for when nobody says how long it shall be.
const DEFAULT_CONTEXT: usize = 8192;

/// Tokens that one step of a server computes, unless something else is asked for: enough to keep the machine busy.
pub(crate) const STEP_TOKENS: usize = 256;

/// Tokens of a prompt that one step computes when one person waits for it: few enough for what lies between the layers
/// to stay small. Wide models keep the machine as busy with fewer of them.
pub(crate) fn step_tokens(spec: &DecoderSpec) -> usize {
    match spec.hidden {
        0..3072 => STEP_TOKENS,
        3072..4096 => STEP_TOKENS / 2,
        _ => STEP_TOKENS / 4,
    }
}

/// A model by its path.
pub(crate) struct Model {
    path: PathBuf,
    family: Option<Family>,
    checkpoint: OnceCell<Checkpoint>,
}

impl Model {
    /// Names a model; nothing is read yet.
    pub(crate) fn new(args: &ModelArgs) -> Self {
        Model { path: args.path.clone(), family: args.family, checkpoint: OnceCell::new() }
    }

    /// Names a model of which only the tokenizer is wanted.
    pub(crate) fn at(path: &Path) -> Self {
        Model { path: path.to_owned(), family: None, checkpoint: OnceCell::new() }
    }

    /// The path as typed.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is the model that the program brings along.
    pub(crate) fn is_demo(&self) -> bool {
        demo::is_meant(&self.path)
    }

    /// What to call it: the last part of its path, without `.gguf`.
    pub(crate) fn name(&self) -> String {
        let path = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        let path = if self.is_demo() { self.path.as_path() } else { path.as_path() };
        let is_gguf = path.extension().is_some_and(|extension| extension == "gguf");
        let name = if is_gguf { path.file_stem() } else { path.file_name() };
        name.unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
    }

    /// The directory that holds the model's files.
    pub(crate) fn directory(&self) -> &Path {
        if self.path.is_dir() && !self.is_demo() {
            return &self.path;
        }
        match self.path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        }
    }

    /// Its files: headers and configuration.
    pub(crate) fn checkpoint(&self) -> anyhow::Result<&Checkpoint> {
        if self.checkpoint.get().is_none() {
            let opened = if self.is_demo() {
                Checkpoint::embedded(&self.path, demo::FILE)?
            } else {
                Checkpoint::open(&self.path)?
            };
            return Ok(self.checkpoint.get_or_init(|| opened));
        }
        Ok(self.checkpoint.get().expect("it was there two lines ago"))
    }

    /// The key/values of a GGUF; `None` for a directory or another file, which is not opened to find out.
    pub(crate) fn metadata(&self) -> anyhow::Result<Option<&Metadata>> {
        let name = self.path.extension().unwrap_or_default();
        let is_directory = self.path.is_dir() && !self.is_demo();
        if is_directory || name == "safetensors" || name == "bin" {
            return Ok(None);
        }
        Ok(self.checkpoint()?.metadata())
    }

    /// Its tokenizer, which needs no weights.
    pub(crate) fn tokenizer(&self) -> anyhow::Result<Tokenizer> {
        match self.tokenizer_if_any()? {
            Some(tokenizer) => Ok(tokenizer),
            None => bail!(
                "{}: there is no tokenizer (tokenizer.json, tokenizer.model, ice_text.model, vocab.txt, or the \
                 vocabulary inside a GGUF)",
                self.path.display()
            ),
        }
    }

    /// Its tokenizer, where it brings one.
    pub(crate) fn tokenizer_if_any(&self) -> anyhow::Result<Option<Tokenizer>> {
        if let Some(metadata) = self.metadata()? {
            let Some(vocab) = vocabulary::of(metadata)? else { return Ok(None) };
            return Ok(Some(Tokenizer::from_gguf(&vocab).with_context(|| self.path.display().to_string())?));
        }
        ensure!(self.path.exists(), "{}: no such file or directory", self.path.display());
        match Tokenizer::from_dir(self.directory()) {
            Ok(tokenizer) => Ok(Some(tokenizer)),
            Err(TokenizerError::Missing { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A JSON object beside the weights, where there is such a file. Unlike [`Checkpoint`], this opens nothing else.
    pub(crate) fn json(&self, name: &str) -> anyhow::Result<Option<Value>> {
        let path = self.directory().join(name);
        let Some(text) = input::small_file_if_any(&path)? else { return Ok(None) };
        let value: Value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        ensure!(value.is_object(), "{}: a JSON object is expected", path.display());
        Ok(Some(value))
    }

    /// The family that the user named.
    pub(crate) fn named_family(&self) -> Option<Family> {
        self.family
    }

    /// What its configuration says. What is odd about it becomes warnings.
    pub(crate) fn understand(&self, terminal: &Terminal) -> anyhow::Result<Understood> {
        let understood = understand(self.checkpoint()?, self.family)?;
        understood.warnings.iter().for_each(|warning| terminal.warn(warning));
        Ok(understood)
    }

    /// Its weights on a device.
    pub(crate) fn load(
        &self,
        understood: &Understood,
        device: Box<dyn Device>,
        terminal: &Terminal,
    ) -> anyhow::Result<Decoder> {
        let checkpoint = self.checkpoint()?;
        let total = checkpoint.tensors().iter().map(|t| t.bytes as u64).sum();
        let bar = terminal.bytes_bar("loading", total);
        let loaded = load(checkpoint, understood, device, &mut |done, _| bar.set_position(done));
        bar.finish_and_clear();
        Ok(loaded?)
    }

    /// An engine that runs it.
    pub(crate) fn engine(
        &self,
        understood: &Understood,
        room: Room,
        args: &DeviceArgs,
        terminal: &Terminal,
    ) -> anyhow::Result<Engine> {
        let compute = device::compute(args, Compute::Auto);
        let kv_type = device::kv_type(args, compute);
        let decoder = self.load(understood, device::open(args, compute, terminal)?, terminal)?;
        let Room { context, slots, rows, running, waiting } = room;
        let options = EngineOptions { context, slots, rows, running, waiting, kv_type };
        Ok(Engine::start(decoder, options)?)
    }

    /// The ids that end an answer according to `config.json` and `generation_config.json`, or to a GGUF's keys.
    pub(crate) fn configured_stop_ids(&self) -> anyhow::Result<Vec<u32>> {
        let mut ids = Vec::new();
        if let Some(metadata) = self.metadata()? {
            for key in ["eos", "eot", "eom"] {
                ids.extend(metadata.get::<u32>(&format!("tokenizer.ggml.{key}_token_id"))?);
            }
        } else {
            for name in ["config.json", "generation_config.json"] {
                ids.extend(self.json(name)?.iter().flat_map(eos_ids));
            }
        }
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }
}

/// `eos_token_id`: one id or a list.
fn eos_ids(config: &Value) -> Vec<u32> {
    let values = match config.get("eos_token_id") {
        Some(Value::Array(values)) => values.as_slice(),
        Some(value) => std::slice::from_ref(value),
        None => &[],
    };
    values.iter().filter_map(Value::as_u64).filter_map(|id| u32::try_from(id).ok()).collect()
}

/// What an engine is planned for; the fields are those of [`EngineOptions`].
pub(crate) struct Room {
    pub(crate) context: usize,
    pub(crate) slots: usize,
    pub(crate) rows: usize,
    pub(crate) running: usize,
    pub(crate) waiting: usize,
}

impl Room {
    /// For one request at a time, of at most `context` tokens.
    pub(crate) fn for_one(context: usize, rows: usize) -> Self {
        Room { context, slots: context, rows, running: 1, waiting: 1 }
    }
}

/// The context to plan for. One that exceeds the training is allowed and warned of.
pub(crate) fn context(asked: Option<ContextLength>, spec: &DecoderSpec, terminal: &Terminal) -> usize {
    let tokens = match asked {
        None => spec.context.min(DEFAULT_CONTEXT),
        Some(ContextLength::Trained) => spec.context,
        Some(ContextLength::Tokens(tokens)) => tokens,
    };
    if tokens > spec.context {
        let trained = spec.context;
        terminal.warn(&format!("a context of {tokens} tokens; the model was trained for {trained}"));
    }
    tokens
}

/// Rows per step for this prompt: `wanted`, or more for ChatGLM-6B, whose context cannot be cut.
pub(crate) fn rows(spec: &DecoderSpec, prompt: &[u32], wanted: usize) -> anyhow::Result<usize> {
    Ok(PositionLayout::of_prompt(spec.positions, prompt)?.prefix_len().max(wanted))
}

/// Rows per step for prompts that are not known yet.
pub(crate) fn rows_of_any(spec: &DecoderSpec, context: usize, wanted: usize) -> usize {
    match spec.positions {
        Positions::ChatGlm6b { .. } => context.max(wanted),
        Positions::Sequential { .. } => wanted,
    }
}

/// Refuses ids without a row in the embedding, before anything is loaded.
pub(crate) fn check_ids(ids: &[u32], spec: &DecoderSpec) -> anyhow::Result<()> {
    for (at, &id) in ids.iter().enumerate() {
        ensure!(
            (id as usize) < spec.vocab,
            "id {id} (number {} of the prompt) is outside the vocabulary of {}",
            at + 1,
            spec.vocab
        );
    }
    Ok(())
}
