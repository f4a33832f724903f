//! What makes a sentence encoder of a transformer: the files of sentence-transformers.
//!
//! `modules.json` lists the modules that a text goes through and the directory of each; their types are Python classes,
//! whose names and keys changed over the years (`sentence_transformers.models.Pooling` with a flag for every mode,
//! `sentence_transformers.sentence_transformer.modules.pooling.Pooling` with `pooling_mode`). The facts are those of
//! release 6.2.0: `base/model.py`, `base/modules/{transformer,dense,normalize}.py`,
//! `sentence_transformer/modules/pooling.py`, `cross_encoder/model.py`. What they would not compute is refused.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Component, Path, PathBuf};

use glimmer_checkpoint::{Checkpoint, CheckpointError};
use glimmer_config::file;
use serde_json::{Map, Value};

use super::dense::Dense;
use super::pooling::Pooling;
use crate::ModelError;

/// sentence-transformers' name for the vector of a text, which modules after the pooling read and write.
pub(super) const SENTENCE: &str = "sentence_embedding";

/// Where the transformer's own settings may lie: the first file that says anything counts.
const TRANSFORMER_FILES: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];

/// The least useful limit of tokens: `[CLS]`, one of the text, `[SEP]`.
const FEWEST_TOKENS: f64 = 3.0;

/// What happens to a text's vector after the pooling.
pub(super) enum Stage {
    Dense(Dense),
    /// Length 1.
    Normalize,
}

/// Texts that may stand before a text, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompts {
    by_name: BTreeMap<String, String>,
    /// Which is meant when none is named.
    default: Option<String>,
}

impl Default for Prompts {
    /// The two that every model has, empty where its files say nothing.
    fn default() -> Self {
        let by_name = ["query", "document"].map(|name| (name.to_owned(), String::new()));
        Prompts { by_name: by_name.into(), default: None }
    }
}

impl Prompts {
    /// The prompt of this name, or the default one, which is empty where the model has none. `None` when the name is
    /// not known.
    pub fn get(&self, name: Option<&str>) -> Option<&str> {
        match name.or(self.default.as_deref()) {
            Some(name) => self.by_name.get(name).map(String::as_str),
            None => Some(""),
        }
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// Reads them of `config_sentence_transformers.json`, which says that the model is one of this class.
    pub(super) fn read(config: &Map<String, Value>, class: &str, file: &Path) -> Result<Self, ModelError> {
        let mut prompts = Prompts::default();
        let kind = text(config, "model_type", file)?;
        if let Some(kind) = kind.filter(|kind| kind != class) {
            return Err(wrong(file, format!("a {} is not supported there, only a {class}", shown(&kind))));
        }
        match config.get("prompts") {
            None | Some(Value::Null) => {}
            Some(Value::Object(texts)) => {
                for name in texts.keys() {
                    let prompt = text(texts, name, file)?;
                    prompts.by_name.insert(name.clone(), prompt.unwrap_or_default());
                }
            }
            Some(_) => return Err(wrong(file, "prompts must be an object")),
        }
        prompts.default = text(config, "default_prompt_name", file)?;
        match &prompts.default {
            Some(name) if !prompts.by_name.contains_key(name) => {
                Err(wrong(file, format!("default_prompt_name {} is none of its prompts", shown(name))))
            }
            _ => Ok(prompts),
        }
    }
}

/// What a transformer is run for, in the words of its settings.
pub(super) struct Task {
    transformer_task: &'static str,
    /// What its output is called, and which of transformers' that is.
    outputs: [&'static str; 2],
}

/// States of tokens.
const STATES: Task =
    Task { transformer_task: "feature-extraction", outputs: ["token_embeddings", "last_hidden_state"] };

/// Scores by the head.
pub(super) const SCORES: Task =
    Task { transformer_task: "sequence-classification", outputs: ["scores", "logits"] };

/// The transformer's own settings.
#[derive(Default)]
pub(super) struct Transformer {
    max_seq_length: Option<Value>,
    pub(super) lowercase: bool,
}

impl Transformer {
    pub(super) fn read(directory: &Path, task: &Task) -> Result<Self, ModelError> {
        for name in TRANSFORMER_FILES {
            let file = directory.join(name);
            if let Some(config) = read_object(&file)?.filter(|config| !config.is_empty()) {
                return Transformer::of(&config, task).map_err(|what| wrong(&file, what));
            }
        }
        Ok(Transformer::default())
    }

    fn of(config: &Map<String, Value>, task: &Task) -> Result<Self, String> {
        let mut transformer = Transformer::default();
        let mut tokenizer_limit = None;
        for (key, value) in config.iter().filter(|(_, value)| !value.is_null()) {
            match key.as_str() {
                "max_seq_length" => transformer.max_seq_length = Some(value.clone()),
                "do_lower_case" => {
                    transformer.lowercase = value.as_bool().ok_or("do_lower_case must be true or false")?;
                }
                "tokenizer_args" | "processor_kwargs" => {
                    tokenizer_limit = value.get("model_max_length").cloned();
                }
                // How PyTorch computes, not what.
                "model_args" | "model_kwargs" | "config_args" | "config_kwargs" | "unpad_inputs" => {}
                "transformer_task" if value == task.transformer_task => {}
                "module_output_name" if value == task.outputs[0] => {}
                "modality_config" if value["text"]["method_output_name"] == task.outputs[1] => {}
                "processing_kwargs" if value.as_object().is_some_and(Map::is_empty) => {}
                _ => return Err(format!("{} is not supported with this value", shown(key))),
            }
        }
        transformer.max_seq_length = tokenizer_limit.or(transformer.max_seq_length);
        Ok(transformer)
    }

    /// Most tokens of a text by what the files say, the transformer's own limit aside: `max_seq_length`, else the
    /// `model_max_length` of `tokenizer_config.json`.
    pub(super) fn max_tokens(&self, checkpoint: &Checkpoint) -> Result<usize, ModelError> {
        let tokenizer = checkpoint.configuration().tokenizer_config();
        let of_tokenizer = tokenizer.and_then(|config| config.get("model_max_length"));
        let limit = self.max_seq_length.as_ref().or(of_tokenizer).filter(|limit| !limit.is_null());
        let Some(limit) = limit else { return Ok(usize::MAX) };
        match limit.as_f64() {
            // Tokenizers without a limit say 1e30.
            Some(limit) if limit >= FEWEST_TOKENS => Ok(limit as usize),
            _ => {
                let what = format!("the most tokens of a text are {}", shown(&limit.to_string()));
                Err(wrong(checkpoint.path(), what))
            }
        }
    }
}

/// What makes a sentence encoder of a transformer.
pub struct SentenceModules {
    /// Where the transformer lies.
    directory: PathBuf,
    pub(super) transformer: Transformer,
    prompts: Prompts,
    pub(super) pooling: Pooling,
    pub(super) stages: Vec<Stage>,
}

impl SentenceModules {
    /// Reads the modules of a model's directory. One without `modules.json` is the transformer alone: its states are
    /// averaged.
    ///
    /// # Errors
    /// When a file cannot be read or contradicts another, or a module or one of its settings is not supported; the
    /// message names it.
    pub fn read(directory: &Path) -> Result<Self, ModelError> {
        let file = directory.join("modules.json");
        let mut modules = SentenceModules {
            directory: directory.to_owned(),
            transformer: Transformer::default(),
            prompts: Prompts::default(),
            pooling: Pooling::default(),
            stages: Vec::new(),
        };
        let read = file::read_array(&file).map_err(CheckpointError::from)?;
        let Some(list) = read.as_ref().and_then(Value::as_array) else { return Ok(modules) };
        let config = directory.join("config_sentence_transformers.json");
        if let Some(read) = read_object(&config)? {
            modules.prompts = Prompts::read(&read, "SentenceTransformer", &config)?;
        }
        for (place, module) in list.iter().enumerate() {
            let (class, path) = class_and_path(module).map_err(|what| wrong(&file, what))?;
            modules.add(place, class, directory.join(path), &file)?;
        }
        if list.len() < 2 {
            return Err(wrong(&file, "a Transformer and a Pooling are needed"));
        }
        Ok(modules)
    }

    fn add(&mut self, place: usize, class: &str, path: PathBuf, list: &Path) -> Result<(), ModelError> {
        match (place, class.strip_prefix("sentence_transformers.").and_then(|class| class.rsplit('.').next()))
        {
            (0, Some("Transformer")) => {
                self.transformer = Transformer::read(&path, &STATES)?;
                self.directory = path;
            }
            (1, Some("Pooling")) => {
                let file = path.join("config.json");
                let config = read_object(&file)?.unwrap_or_default();
                self.pooling = Pooling::read(&config).map_err(|what| wrong(&file, what))?;
            }
            (2.., Some("Dense")) => self.stages.push(Stage::Dense(Dense::load(&path)?)),
            (2.., Some("Normalize")) => {
                check_normalize(&path.join("config.json"))?;
                self.stages.push(Stage::Normalize);
            }
            _ => {
                let class = shown(class);
                return Err(wrong(
                    list,
                    format!(
                        "module {place}, {class}, is not supported there; a Transformer, a Pooling, then Dense and Normalize are"
                    ),
                ));
            }
        }
        Ok(())
    }

    /// The directory of the transformer: its `config.json`, weights and tokenizer.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether text is lower-cased, whatever the tokenizer does.
    pub fn lowercases(&self) -> bool {
        self.transformer.lowercase
    }

    /// What may stand before a text.
    pub fn prompts(&self) -> &Prompts {
        &self.prompts
    }

    /// Length of a vector made of states of `hidden` elements.
    pub(super) fn width(&self, hidden: usize) -> Result<usize, ModelError> {
        let file = self.directory.join("modules.json");
        let mut width = self.pooling.width(hidden).map_err(|what| wrong(&file, what))?;
        for stage in &self.stages {
            let Stage::Dense(dense) = stage else { continue };
            if dense.inputs() != width {
                let inputs = dense.inputs();
                return Err(wrong(&file, format!("a Dense of {inputs} elements follows vectors of {width}")));
            }
            width = dense.outputs();
        }
        Ok(width)
    }
}

/// A module's Python class, and its directory, which must lie within the model's.
pub(super) fn class_and_path(module: &Value) -> Result<(&str, &Path), String> {
    let class = module["type"].as_str().ok_or("a module has no type")?;
    let path = module["path"].as_str().ok_or_else(|| format!("module {} has no path", shown(class)))?;
    let is_within = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if Path::new(path).components().all(is_within) && !path.contains(char::is_control) {
        Ok((class, Path::new(path)))
    } else {
        Err(format!("path {} leads elsewhere", shown(path)))
    }
}

/// The file of a Normalize, if it has one, may only say that it is one of vectors.
fn check_normalize(file: &Path) -> Result<(), ModelError> {
    let config = read_object(file)?.unwrap_or_default();
    let mut names = ["module_input_name", "module_output_name"].into_iter().filter_map(|key| config.get(key));
    match names.find(|name| !name.is_null() && *name != SENTENCE) {
        Some(name) => {
            let name = shown(&name.to_string());
            Err(wrong(file, format!("a Normalize of {name} is not supported, only of {SENTENCE}")))
        }
        None => Ok(()),
    }
}

pub(super) fn read_object(file: &Path) -> Result<Option<Map<String, Value>>, ModelError> {
    match file::read_object(file).map_err(CheckpointError::from)? {
        Some(Value::Object(object)) => Ok(Some(object)),
        _ => Ok(None),
    }
}

/// A text of an object; null is none.
pub(super) fn text(
    object: &Map<String, Value>,
    key: &str,
    file: &Path,
) -> Result<Option<String>, ModelError> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(wrong(file, format!("{} must be a text", shown(key)))),
    }
}

/// An error in one of these files.
pub(super) fn wrong(file: &Path, what: impl Display) -> ModelError {
    let message = what.to_string().chars().take(250).collect();
    ModelError::Config { file: file.display().to_string(), message }
}

/// A text of a file as messages quote it: escaped, and not longer than any name of theirs.
pub(super) fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(100).collect::<String>())
}
