//! What the files of one model say: of a directory its JSON files and its template, of a GGUF the keys that stand for
//! them.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::sampling::{SamplingDefaults, shortest_decimal};
use crate::{Evidence, FileError, Quoted, file};

/// The names of the tokens that a chat template may use as variables.
const NAMED_TOKENS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"];

/// A GGUF's keys that say what a directory says in its files. Whatever a file lacks stays empty.
#[derive(Clone, Debug, Default)]
pub struct GgufValues {
    /// `general.architecture`.
    pub architecture: Option<String>,
    /// `general.basename` and `general.name`.
    pub names: Vec<String>,
    /// `tokenizer.ggml.model`.
    pub tokenizer: Option<String>,
    /// `tokenizer.ggml.bos_token_id` and `eos_token_id` with their spellings, as `bos_token` and `eos_token`.
    pub named_tokens: Vec<(String, String)>,
    /// Tokens of the vocabulary that are no ordinary ones, with their ids.
    pub special_tokens: Vec<(String, Option<u32>)>,
    /// `tokenizer.ggml.{eos,eot,eom}_token_id`.
    pub stop_ids: Vec<u32>,
    /// `tokenizer.ggml.padding_token_id`.
    pub padding_id: Option<u32>,
    /// `tokenizer.chat_template`.
    pub chat_template: Option<String>,
    /// `tokenizer.chat_template.tool_use`.
    pub tool_use_template: Option<String>,
    /// `general.sampling.temp`.
    pub temperature: Option<f32>,
    /// `general.sampling.top_p`.
    pub top_p: Option<f32>,
    /// `general.sampling.top_k`.
    pub top_k: Option<i32>,
}

/// What a model's files say beside its weights.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    directory: PathBuf,
    /// What its path is called.
    path_names: Vec<String>,
    config: Option<Value>,
    generation_config: Option<Value>,
    tokenizer_config: Option<Value>,
    gguf: Option<GgufValues>,
}

impl Configuration {
    /// Reads the JSON files of a directory in Hugging Face layout; `path` is the directory or a file in it. Files that do
    /// not exist say nothing. The template is read when it is asked for.
    ///
    /// # Errors
    /// When one of them cannot be read or holds no JSON object.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let directory = match path.parent() {
            Some(parent) if !path.is_dir() => parent,
            _ => path,
        };
        let object = |name: &str| file::read_object(&directory.join(name));
        Ok(Configuration {
            directory: directory.to_owned(),
            path_names: path_names(path, directory),
            config: object("config.json")?,
            generation_config: object("generation_config.json")?,
            tokenizer_config: object("tokenizer_config.json")?,
            gguf: None,
        })
    }

    /// What a directory at `path` with this `config.json` and nothing else would say. Nothing is read.
    pub fn of_config(path: &Path, config: Value) -> Self {
        let directory = path.to_owned();
        let path_names = path_names(path, path);
        Configuration { directory, path_names, config: Some(config), ..Configuration::default() }
    }

    /// What the GGUF at `path` says. Files beside it may belong to another model and say nothing.
    pub fn of_gguf(path: &Path, values: GgufValues) -> Self {
        Configuration {
            path_names: path_names(path, path),
            generation_config: Some(generation_config(&values)),
            gguf: Some(values),
            ..Configuration::default()
        }
    }

    /// `config.json`, an object; a GGUF has none.
    pub fn config(&self) -> Option<&Value> {
        self.config.as_ref()
    }

    /// `generation_config.json`, an object; of a GGUF what it says of the same.
    pub fn generation_config(&self) -> Option<&Value> {
        self.generation_config.as_ref()
    }

    /// `tokenizer_config.json`, an object; a GGUF has none.
    pub fn tokenizer_config(&self) -> Option<&Value> {
        self.tokenizer_config.as_ref()
    }

    /// The ids that end an answer according to `eos_token_id` of `config.json` and `generation_config.json`, sorted.
    pub fn stop_ids(&self) -> Vec<u32> {
        let mut ids: Vec<u32> =
            [&self.config, &self.generation_config].into_iter().flatten().flat_map(eos_ids).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// What makes no sense in the files of a model with `vocabulary` tokens and is left out, a line each: settings of
    /// sampling, and ids that should end an answer.
    pub fn warnings(&self, vocabulary: usize) -> Vec<String> {
        let mut warnings = Vec::new();
        let files = [("config.json", &self.config), ("generation_config.json", &self.generation_config)];
        for (name, config) in files.into_iter().filter_map(|(name, config)| Some((name, config.as_ref()?))) {
            let name = if self.gguf.is_some() { "the GGUF" } else { name };
            let mut warn = |what: String| warnings.push(format!("{name}: {what}"));
            for id in eos_values(config).iter().filter(|id| !id.is_null()) {
                match id.as_u64() {
                    Some(id) if id < vocabulary as u64 => {}
                    Some(id) => warn(format!("eos_token_id {id} is beyond the vocabulary of {vocabulary}")),
                    None => {
                        let id = id.to_string();
                        warn(format!("eos_token_id {} is no token id and is left out", Quoted(&id)));
                    }
                }
            }
            if name != "config.json" {
                SamplingDefaults::left_out(config).into_iter().for_each(&mut warn);
            }
        }
        warnings
    }

    /// How the model asks to be sampled.
    pub fn sampling(&self) -> SamplingDefaults {
        self.generation_config.as_ref().map(SamplingDefaults::of_generation_config).unwrap_or_default()
    }

    /// The source of the model's own chat template: `chat_template.jinja`, or in `tokenizer_config.json`, there perhaps
    /// the default of several; in a GGUF a key.
    ///
    /// # Errors
    /// When `chat_template.jinja` is there and cannot be read, or none of several is the default.
    pub fn chat_template(&self) -> Result<Option<Cow<'_, str>>, FileError> {
        if let Some(gguf) = &self.gguf {
            return Ok(gguf.chat_template.as_deref().map(Cow::Borrowed));
        }
        if let Some(source) = self.own_template()? {
            return Ok(Some(Cow::Owned(source)));
        }
        let Some(several) = self.named_templates() else {
            let stored = self.tokenizer_config.as_ref().and_then(|config| config["chat_template"].as_str());
            return Ok(stored.map(Cow::Borrowed));
        };
        let default = several.iter().find(|one| one["name"] == "default");
        match default.map(|default| default["template"].as_str()) {
            Some(source) => Ok(source.map(Cow::Borrowed)),
            None if several.is_empty() => Ok(None),
            None => Err(FileError::Json {
                path: self.directory.join("tokenizer_config.json"),
                what: "none of the named chat templates is called `default`".to_owned(),
            }),
        }
    }

    /// The source of the template that is meant for conversations with tools, where there is one:
    /// `additional_chat_templates/tool_use.jinja`, or the one of that name in `tokenizer_config.json`; in a GGUF a key.
    /// transformers chooses it so (`PreTrainedTokenizerBase.get_chat_template`).
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn tool_use_template(&self) -> Result<Option<Cow<'_, str>>, FileError> {
        if let Some(gguf) = &self.gguf {
            return Ok(gguf.tool_use_template.as_deref().map(Cow::Borrowed));
        }
        let path = self.directory.join("additional_chat_templates").join("tool_use.jinja");
        if let Some(source) = file::read_text(&path)? {
            return Ok(Some(Cow::Owned(source)));
        }
        // A template in a file of its own stands for all that tokenizer_config.json has.
        let several = if self.own_template()?.is_some() { None } else { self.named_templates() };
        let tool_use = several.into_iter().flatten().find(|one| one["name"] == "tool_use");
        Ok(tool_use.and_then(|one| one["template"].as_str()).map(Cow::Borrowed))
    }

    fn own_template(&self) -> Result<Option<String>, FileError> {
        file::read_text(&self.directory.join("chat_template.jinja"))
    }

    /// The list of templates with names in `tokenizer_config.json`.
    fn named_templates(&self) -> Option<&[Value]> {
        Some(self.tokenizer_config.as_ref()?.get("chat_template")?.as_array()?.as_slice())
    }

    /// `bos_token` and its like with their spellings, as a chat template may use them.
    pub fn named_tokens(&self) -> Vec<(String, String)> {
        if let Some(gguf) = &self.gguf {
            return gguf.named_tokens.clone();
        }
        let Some(config) = &self.tokenizer_config else { return Vec::new() };
        let token = |name: &&str| Some(((*name).to_owned(), spelling(&config[*name])?));
        NAMED_TOKENS.iter().filter_map(token).collect()
    }

    /// What tells which generation the model is.
    pub fn evidence(&self) -> Evidence {
        let mut evidence = match &self.gguf {
            Some(gguf) => Evidence {
                model_type: gguf.architecture.clone(),
                two_positions: Some(gguf.architecture.as_deref() == Some("chatglm-6b")),
                names: gguf.names.clone(),
                tokenizer: Some(gguf.tokenizer.clone().unwrap_or_else(|| "none".to_owned())),
                special_tokens: gguf.special_tokens.clone(),
                ..Evidence::default()
            },
            None => of_files(self.config.as_ref(), self.tokenizer_config.as_ref()),
        };
        evidence.names.extend(self.path_names.iter().cloned());
        evidence
    }
}

/// The evidence in `config.json` and `tokenizer_config.json`.
fn of_files(config: Option<&Value>, tokenizer_config: Option<&Value>) -> Evidence {
    let get =
        |object: Option<&Value>, key: &str| object.and_then(|o| o.get(key)).cloned().unwrap_or_default();
    let text = |value: Value| value.as_str().map(str::to_owned);
    let (model, tokenizer) = (|key: &str| get(config, key), |key: &str| get(tokenizer_config, key));
    let vocabulary = ["padded_vocab_size", "vocab_size"].iter().find_map(|key| model(key).as_u64());
    let vocabulary = vocabulary.or_else(|| model("text_config")["vocab_size"].as_u64());
    let is_6b = model("position_encoding_2d") == Value::Bool(true) || !model("inner_hidden_size").is_null();
    Evidence {
        asked: None,
        architecture: text(model("architectures")[0].clone()),
        model_type: text(model("model_type")),
        two_positions: config.map(|_| is_6b),
        vision: !model("vision_config").is_null(),
        names: [model("_name_or_path"), tokenizer("name_or_path")].into_iter().filter_map(text).collect(),
        tokenizer: text(tokenizer("tokenizer_class")),
        special_tokens: special_tokens(tokenizer_config),
        mentions_roles: tokenizer_config.is_some_and(|config| config.to_string().contains("<|observation|>")),
        vocabulary,
        norm_epsilon: model("layernorm_epsilon").as_f64(),
    }
}

/// The special tokens that a `tokenizer_config.json` lists, with ids and without.
fn special_tokens(config: Option<&Value>) -> Vec<(String, Option<u32>)> {
    let Some(config) = config else { return Vec::new() };
    let with_ids = config["added_tokens_decoder"].as_object().into_iter().flatten();
    let with_ids = with_ids.filter_map(|(id, token)| Some((spelling(token)?, id.parse().ok())));
    let without = config["additional_special_tokens"].as_array().into_iter().flatten();
    with_ids.chain(without.filter_map(|token| Some((spelling(token)?, None)))).collect()
}

/// A token in `tokenizer_config.json`: a string, or an object that holds one.
fn spelling(token: &Value) -> Option<String> {
    token.as_str().or_else(|| token["content"].as_str()).map(str::to_owned)
}

/// `eos_token_id`: one id or a list. A model that sees has it with what its decoder is.
fn eos_values(config: &Value) -> &[Value] {
    match config.get("eos_token_id").or_else(|| config.get("text_config")?.get("eos_token_id")) {
        Some(Value::Array(values)) => values.as_slice(),
        Some(value) => std::slice::from_ref(value),
        None => &[],
    }
}

fn eos_ids(config: &Value) -> Vec<u32> {
    eos_values(config).iter().filter_map(Value::as_u64).filter_map(|id| u32::try_from(id).ok()).collect()
}

/// The `generation_config.json` that says what a GGUF does.
fn generation_config(values: &GgufValues) -> Value {
    let mut config = Map::new();
    let mut set =
        |name: &str, value: Option<Value>| config.extend(value.map(|value| (name.to_owned(), value)));
    let mut ends = values.stop_ids.clone();
    ends.dedup();
    set("eos_token_id", (!ends.is_empty()).then(|| ends.into()));
    set("pad_token_id", values.padding_id.map(Value::from));
    let GgufValues { temperature, top_p, top_k, .. } = values;
    // Temperature 0 is how a GGUF says that the likeliest token is to be taken; transformers takes it unless told to
    // sample.
    set("temperature", temperature.filter(|t| *t != 0.0).map(|t| shortest_decimal(t).into()));
    set("top_p", top_p.map(|p| shortest_decimal(p).into()));
    set("top_k", top_k.map(Value::from));
    let says = temperature.is_some() || top_p.is_some() || top_k.is_some();
    set("do_sample", says.then(|| (*temperature != Some(0.0)).into()));
    Value::Object(config)
}

/// The last part of a path, links followed, and that of its directory.
fn path_names(path: &Path, directory: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for path in [path, directory] {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        names.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
    }
    names.dedup();
    names
}
