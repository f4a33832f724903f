//! What a model's files say, each part read when it is first asked for: a tokenizer needs no weights, weights need no
//! tokenizer.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use glimmer_chat::{ChatTemplate, Format, Hints, stop_ids};
use glimmer_checkpoint::Checkpoint;
use glimmer_checkpoint::gguf::Metadata;
use glimmer_models::{DecoderSpec, Family, Understood, understand};
use glimmer_tokenizer::{GgufVocab, Tokenizer, TokenizerError};
use serde_json::Value;

use crate::{Error, Source, gguf_vocabulary};

/// The most bytes of a configuration or a template.
const MAX_SMALL_FILE: u64 = 64 << 20;

/// What a person knows better than the files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The model's family.
    pub family: Option<Family>,
    /// Its chat format.
    pub chat_format: Option<Format>,
}

/// A model by the place of its files.
pub struct ModelFiles {
    source: Source,
    known: Known,
    checkpoint: OnceLock<Checkpoint>,
    understood: OnceLock<Understood>,
    tokenizer: OnceLock<Option<Tokenizer>>,
}

/// The value of a cell, made by `make` when it is first asked for. A failure is not kept.
fn once<T>(cell: &OnceLock<T>, make: impl FnOnce() -> Result<T, Error>) -> Result<&T, Error> {
    match cell.get() {
        Some(value) => Ok(value),
        None => {
            let value = make()?;
            Ok(cell.get_or_init(|| value))
        }
    }
}

impl ModelFiles {
    /// Names a model; nothing is read yet.
    pub fn new(source: impl Into<Source>, known: Known) -> Self {
        ModelFiles {
            source: source.into(),
            known,
            checkpoint: OnceLock::new(),
            understood: OnceLock::new(),
            tokenizer: OnceLock::new(),
        }
    }

    /// Where they are.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The path, as messages show it.
    pub fn path(&self) -> &Path {
        self.source.path()
    }

    /// When they were made, in seconds since 1970; those inside the program are as old as its process.
    pub fn created(&self) -> u64 {
        let modified = match &self.source {
            Source::Path(path) => std::fs::metadata(path).and_then(|file| file.modified()).ok(),
            Source::Embedded { .. } => None,
        };
        let made = modified.unwrap_or_else(SystemTime::now);
        made.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
    }

    /// Headers of the weights, and the configuration beside or inside them.
    ///
    /// # Errors
    /// When a file is missing, cannot be read, or does not hold together.
    pub fn checkpoint(&self) -> Result<&Checkpoint, Error> {
        once(&self.checkpoint, || {
            Ok(match &self.source {
                Source::Path(path) => Checkpoint::open(path)?,
                Source::Embedded { name, gguf } => Checkpoint::embedded(Path::new(name), gguf)?,
            })
        })
    }

    /// What the configuration says, and what is odd about it.
    ///
    /// # Errors
    /// When it is missing, contradicts itself, or is that of no model that this program runs.
    pub fn understood(&self) -> Result<&Understood, Error> {
        once(&self.understood, || Ok(understand(self.checkpoint()?, self.known.family)?))
    }

    /// The decoder's facts.
    ///
    /// # Errors
    /// Those of [`ModelFiles::understood`].
    pub fn spec(&self) -> Result<&DecoderSpec, Error> {
        Ok(&self.understood()?.spec)
    }

    /// The key/values of a GGUF; `None` for a directory or another file, which is not opened to find out.
    ///
    /// # Errors
    /// Those of [`ModelFiles::checkpoint`].
    pub fn metadata(&self) -> Result<Option<&Metadata>, Error> {
        if let Source::Path(path) = &self.source {
            let extension = path.extension().unwrap_or_default();
            if path.is_dir() || extension == "safetensors" || extension == "bin" {
                return Ok(None);
            }
        }
        Ok(self.checkpoint()?.metadata())
    }

    /// The vocabulary inside a GGUF.
    ///
    /// # Errors
    /// When a key holds a value of another kind.
    pub fn gguf_vocabulary(&self) -> Result<Option<GgufVocab<'_>>, Error> {
        match self.metadata()? {
            Some(metadata) => Ok(gguf_vocabulary::of(metadata)?),
            None => Ok(None),
        }
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// When it cannot be read; [`Error::NoTokenizer`] when there is none.
    pub fn tokenizer(&self) -> Result<&Tokenizer, Error> {
        self.tokenizer_if_any()?.ok_or_else(|| Error::NoTokenizer(self.path().to_owned()))
    }

    /// The tokenizer, where the model brings one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn tokenizer_if_any(&self) -> Result<Option<&Tokenizer>, Error> {
        Ok(once(&self.tokenizer, || self.read_tokenizer())?.as_ref())
    }

    fn read_tokenizer(&self) -> Result<Option<Tokenizer>, Error> {
        if self.metadata()?.is_some() {
            let Some(vocab) = self.gguf_vocabulary()? else { return Ok(None) };
            let path = || self.path().to_owned();
            let tokenizer = Tokenizer::from_gguf(&vocab);
            return tokenizer.map(Some).map_err(|source| Error::Vocabulary { path: path(), source });
        }
        if !self.path().exists() {
            return Err(Error::NotFound(self.path().to_owned()));
        }
        match Tokenizer::from_dir(self.source.directory()) {
            Ok(tokenizer) => Ok(Some(tokenizer)),
            Err(TokenizerError::Missing { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The chat template: the format that somebody knows, else what the files say or suggest.
    ///
    /// # Errors
    /// When the model's own template cannot be read, or nothing tells the format ([`Error::is_unknown_format`]).
    pub fn chat_template(&self) -> Result<ChatTemplate, Error> {
        if let Some(format) = self.known.chat_format {
            return Ok(ChatTemplate::native(format));
        }
        Ok(ChatTemplate::detect(self.template_source()?.as_deref(), &self.hints()?)?)
    }

    /// The source of the model's own Jinja template: a file of its own, or in `tokenizer_config.json`, there perhaps one
    /// of several; in a GGUF a key.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn template_source(&self) -> Result<Option<String>, Error> {
        if let Some(metadata) = self.metadata()? {
            return Ok(metadata.get::<&str>("tokenizer.chat_template")?.map(str::to_owned));
        }
        if let Some(source) = small_file(&self.source.directory().join("chat_template.jinja"))? {
            return Ok(Some(source));
        }
        let config = self.json("tokenizer_config.json")?;
        let stored = config.as_ref().and_then(|config| config.get("chat_template"));
        let default = stored.and_then(Value::as_array).and_then(|several| {
            several.iter().find(|one| one["name"] == "default").map(|default| &default["template"])
        });
        Ok(default.or(stored).and_then(Value::as_str).map(str::to_owned))
    }

    /// What the files tell about the chat format apart from the template.
    fn hints(&self) -> Result<Hints, Error> {
        let tokenizer = self.tokenizer_if_any()?;
        let mut hints = match self.metadata()? {
            Some(metadata) => {
                let text = |key: &str| -> Result<Option<String>, Error> {
                    Ok(metadata.get::<&str>(key)?.map(str::to_owned))
                };
                let token = |name: &str| -> Result<Option<(String, String)>, Error> {
                    let id = metadata.get::<u32>(&format!("tokenizer.ggml.{name}_token_id"))?;
                    let spelling = id.zip(tokenizer).map(|(id, tokenizer)| tokenizer.token_text(id));
                    Ok(spelling.map(|spelling| (format!("{name}_token"), spelling)))
                };
                Hints {
                    names: [text("general.name")?, text("general.basename")?].into_iter().flatten().collect(),
                    model_type: text("general.architecture")?,
                    named_tokens: [token("bos")?, token("eos")?].into_iter().flatten().collect(),
                    ..Hints::default()
                }
            }
            None => {
                let config = self.json("config.json")?.unwrap_or_default();
                let tokenizer_config = self.json("tokenizer_config.json")?.unwrap_or_default();
                let text = |value: &Value| value.as_str().map(str::to_owned);
                let names = [text(&config["_name_or_path"]), text(&tokenizer_config["name_or_path"])];
                Hints {
                    names: names.into_iter().flatten().collect(),
                    model_type: text(&config["model_type"]),
                    vision: config.get("vision_config").is_some_and(|vision| !vision.is_null()),
                    named_tokens: named_tokens(&tokenizer_config),
                    ..Hints::default()
                }
            }
        };
        hints.family = self.known.family.map(|family| family.name().to_owned());
        let path = self.path().canonicalize().unwrap_or_else(|_| self.path().to_owned());
        hints.names.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
        Ok(match tokenizer {
            Some(tokenizer) => hints.with_tokenizer(tokenizer),
            None => hints,
        })
    }

    /// The ids that end an answer: what the files say, and what the chat format is known to need.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn stop_ids(&self, template: Option<&ChatTemplate>) -> Result<Vec<u32>, Error> {
        let configured = self.configured_stop_ids()?;
        Ok(match self.tokenizer_if_any()? {
            Some(tokenizer) => stop_ids(template.and_then(ChatTemplate::format), tokenizer, &configured, &[]),
            None => configured,
        })
    }

    /// The ids that end an answer according to `config.json` and `generation_config.json`, or to a GGUF's keys.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn configured_stop_ids(&self) -> Result<Vec<u32>, Error> {
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

    /// A JSON object beside the weights, where there is such a file.
    fn json(&self, name: &str) -> Result<Option<Value>, Error> {
        let path = self.source.directory().join(name);
        let Some(text) = small_file(&path)? else { return Ok(None) };
        match serde_json::from_str(&text) {
            Ok(value @ Value::Object(_)) => Ok(Some(value)),
            Ok(_) => Err(Error::File { path, what: "a JSON object is expected".to_owned() }),
            Err(error) => Err(Error::File { path, what: error.to_string() }),
        }
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

/// `bos_token` and its like: a string, or an object that holds one.
fn named_tokens(tokenizer_config: &Value) -> Vec<(String, String)> {
    let names = ["bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"];
    let spelling = |value: &Value| value.as_str().or_else(|| value["content"].as_str()).map(str::to_owned);
    names.iter().filter_map(|name| Some(((*name).to_owned(), spelling(&tokenizer_config[*name])?))).collect()
}

/// The text of a small file that need not exist.
fn small_file(path: &Path) -> Result<Option<String>, Error> {
    let fault = |what: String| Error::File { path: path.to_owned(), what };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fault(error.to_string())),
    };
    let mut bytes = Vec::new();
    file.take(MAX_SMALL_FILE + 1).read_to_end(&mut bytes).map_err(|error| fault(error.to_string()))?;
    if bytes.len() as u64 > MAX_SMALL_FILE {
        return Err(fault(format!("more than {MAX_SMALL_FILE} bytes")));
    }
    let text = String::from_utf8(bytes);
    let text = text.map_err(|e| fault(format!("byte {} is not UTF-8", e.utf8_error().valid_up_to())));
    text.map(Some)
}
