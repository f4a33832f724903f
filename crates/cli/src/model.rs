//! What MODEL stands for, each part opened when it is asked for: a tokenizer needs no weights, weights need no
//! tokenizer.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use anyhow::ensure;
use glimmer_checkpoint::Checkpoint;
use glimmer_models::{Decoder, DecoderSpec, Family, PositionLayout, Understood, load, understand};
use glimmer_tensor::Device;
use serde_json::Value;

use crate::args::{ContextLength, ModelArgs};
use crate::terminal::Terminal;

/// The context that is planned for when nobody says how long it shall be.
const DEFAULT_CONTEXT: usize = 8192;

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

    /// The path as typed.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The directory that holds the model's files.
    pub(crate) fn directory(&self) -> &Path {
        if self.path.is_dir() {
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
            let opened = Checkpoint::open(&self.path)?;
            return Ok(self.checkpoint.get_or_init(|| opened));
        }
        Ok(self.checkpoint.get().expect("it was there two lines ago"))
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

    /// The ids that end an answer according to `config.json` and `generation_config.json`, or to a GGUF's keys.
    pub(crate) fn configured_stop_ids(&self) -> anyhow::Result<Vec<u32>> {
        let checkpoint = self.checkpoint()?;
        let mut ids = Vec::new();
        for config in [checkpoint.config(), checkpoint.generation_config()].into_iter().flatten() {
            ids.extend(eos_ids(config));
        }
        if let Some(metadata) = checkpoint.metadata() {
            for key in ["eos", "eot", "eom"] {
                ids.extend(metadata.get::<u32>(&format!("tokenizer.ggml.{key}_token_id"))?);
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
