//! What a model's files say, each part read when it is first asked for: a tokenizer needs no weights, weights need no
//! tokenizer.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use glimmer_chat::{ChatTemplate, stop_ids};
use glimmer_checkpoint::Checkpoint;
use glimmer_checkpoint::gguf::Metadata;
use glimmer_config::{Configuration, Evidence, Family, file};
use glimmer_models::{DecoderSpec, ModelWeights, Quantize, Understood, understand};
use glimmer_tokenizer::{GgufVocab, Tokenizer, TokenizerError};

use crate::{Error, ModelKind, Source, gguf_vocabulary};

/// What a person knows better than the files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// The model's family.
    pub family: Option<Family>,
    /// Its chat format.
    pub chat_format: Option<Family>,
    /// The file of a GGUF's vision tower ("mmproj"), which else is looked for beside it.
    pub mmproj: Option<PathBuf>,
}

/// A model by the place of its files.
pub struct ModelFiles {
    source: Source,
    overrides: Overrides,
    checkpoint: OnceLock<Checkpoint>,
    mmproj: OnceLock<Option<Checkpoint>>,
    configuration: OnceLock<Configuration>,
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
    pub fn new(source: impl Into<Source>, overrides: Overrides) -> Self {
        ModelFiles {
            source: source.into(),
            overrides,
            checkpoint: OnceLock::new(),
            mmproj: OnceLock::new(),
            configuration: OnceLock::new(),
            understood: OnceLock::new(),
            tokenizer: OnceLock::new(),
        }
    }

    /// What a person knows better.
    pub(crate) fn overrides(&self) -> &Overrides {
        &self.overrides
    }

    /// Where they are.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The path, as messages show it.
    pub fn path(&self) -> &Path {
        self.source.path()
    }

    /// When they were made, in seconds since 1970; those inside the program are as old as it is.
    pub fn created(&self) -> u64 {
        let modified = match &self.source {
            Source::Path(path) | Source::Named { path, .. } => {
                std::fs::metadata(path).and_then(|file| file.modified()).ok()
            }
            Source::Embedded { .. } => {
                std::env::current_exe().and_then(std::fs::metadata).and_then(|file| file.modified()).ok()
            }
        };
        let made = modified.unwrap_or_else(SystemTime::now);
        made.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
    }

    /// What the model makes, by the small files beside it: encoders of sentences make vectors, those with a head scores.
    pub fn kind(&self) -> ModelKind {
        let directory = self.path();
        let read = |name| file::read_object(&directory.join(name)).ok().flatten().unwrap_or_default();
        if directory.join("modules.json").exists() {
            return match read("config_sentence_transformers.json")["model_type"] == "CrossEncoder" {
                true => ModelKind::Scores,
                false => ModelKind::Vectors,
            };
        }
        let config = read("config.json");
        let class = config["architectures"][0].as_str().unwrap_or_default();
        match config["model_type"] == "bert" {
            _ if class.ends_with("ForSequenceClassification") => ModelKind::Scores,
            true => ModelKind::Vectors,
            false => ModelKind::Text,
        }
    }

    /// Headers of the weights, and the configuration beside or inside them.
    ///
    /// # Errors
    /// When a file is missing, cannot be read, or does not hold together.
    pub fn checkpoint(&self) -> Result<&Checkpoint, Error> {
        once(&self.checkpoint, || {
            Ok(match &self.source {
                Source::Path(path) | Source::Named { path, .. } => Checkpoint::open(path)?,
                Source::Embedded { name, gguf } => Checkpoint::embedded(Path::new(name), gguf)?,
            })
        })
    }

    /// Where the vision tower is, if there is one: in the model's own files, or in llama.cpp's file beside a GGUF.
    ///
    /// # Errors
    /// When that file was named and is not there, or cannot be read.
    pub fn tower(&self) -> Result<Option<&Checkpoint>, Error> {
        if self.metadata()?.is_none() {
            return match &self.overrides.mmproj {
                Some(path) => Err(Error::NoPlaceForTower { path: path.clone() }),
                None => self.checkpoint().map(Some),
            };
        }
        let beside = once(&self.mmproj, || {
            let beside = || match &self.source {
                Source::Embedded { .. } => None,
                Source::Path(path) | Source::Named { path, .. } => mmproj_beside(path),
            };
            let path = self.overrides.mmproj.clone().or_else(beside);
            Ok(path.map(|path| Checkpoint::open(&path)).transpose()?)
        })?;
        Ok(beside.as_ref())
    }

    /// What the files say beside the weights. Of a directory nothing else is opened.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub fn configuration(&self) -> Result<&Configuration, Error> {
        match self.metadata()? {
            Some(_) => Ok(self.checkpoint()?.configuration()),
            None => once(&self.configuration, || Ok(Configuration::read(self.path())?)),
        }
    }

    /// What the configuration says, and what is odd about it.
    ///
    /// # Errors
    /// When it is missing, contradicts itself, or is that of no model that this program runs.
    pub fn understood(&self) -> Result<&Understood, Error> {
        once(&self.understood, || Ok(understand(self.checkpoint()?, self.overrides.family)?))
    }

    /// The decoder's facts.
    ///
    /// # Errors
    /// Those of [`ModelFiles::understood`].
    pub fn spec(&self) -> Result<&DecoderSpec, Error> {
        Ok(&self.understood()?.spec)
    }

    /// The weights, as a device is given them.
    pub(crate) fn weights(&self, quantize: Option<Quantize>) -> Result<ModelWeights<'_>, Error> {
        Ok(ModelWeights { checkpoint: self.checkpoint()?, understood: self.understood()?, quantize })
    }

    /// The key/values of a GGUF; `None` for a directory or another file, which is not opened to find out.
    ///
    /// # Errors
    /// Those of [`ModelFiles::checkpoint`].
    pub fn metadata(&self) -> Result<Option<&Metadata>, Error> {
        if let Source::Path(path) | Source::Named { path, .. } = &self.source {
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
        if let Some(format) = self.overrides.chat_format {
            return Ok(ChatTemplate::native(format));
        }
        let configuration = self.configuration()?;
        let mut evidence = Evidence { asked: self.overrides.family, ..configuration.evidence() };
        if let Some(tokenizer) = self.tokenizer_if_any()? {
            evidence = evidence.with_special_tokens(tokenizer.special_tokens());
        }
        let tokens = configuration.named_tokens();
        let read = |source: Option<&str>| -> Result<ChatTemplate, Error> {
            Ok(ChatTemplate::detect(source, &evidence)?.with_special_tokens(&tokens))
        };
        let template = read(configuration.chat_template()?.as_deref())?;
        Ok(match configuration.tool_use_template()? {
            Some(source) => template.with_tool_use(read(Some(&source))?),
            None => template,
        })
    }

    /// The ids that end an answer: what the files say, and what the chat format is known to need.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn stop_ids(&self, template: Option<&ChatTemplate>) -> Result<Vec<u32>, Error> {
        let configured = self.configuration()?.stop_ids();
        Ok(match self.tokenizer_if_any()? {
            Some(tokenizer) => stop_ids(template.and_then(ChatTemplate::format), tokenizer, &configured),
            None => configured,
        })
    }
}

/// llama.cpp's file of the tower that goes with a GGUF: `mmproj-NAME.gguf`, as `convert` calls it, or the only one in a folder with
/// one model.
fn mmproj_beside(gguf: &Path) -> Option<PathBuf> {
    let name = gguf.file_name()?.to_str()?;
    let own = gguf.with_file_name(format!("mmproj-{name}"));
    if own.is_file() {
        return Some(own);
    }
    let folder = gguf.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(folder).ok()?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let ggufs = paths.filter(|path| path.extension().is_some_and(|end| end == "gguf"));
    let (mut towers, models): (Vec<_>, Vec<_>) = ggufs.partition(|path| is_mmproj(path));
    if towers.len() == 1 && models.len() == 1 { towers.pop() } else { None }
}

/// Whether a file's name is that of a tower.
pub fn is_mmproj(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    name.starts_with("mmproj") && name.ends_with(".gguf")
}

#[cfg(test)]
mod tests {
    use super::mmproj_beside;

    #[test]
    fn a_tower_is_found_beside_its_model() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let put = |name: &str| std::fs::write(place(name), "").unwrap();
        put("a.gguf");
        assert_eq!(mmproj_beside(&place("a.gguf")), None);
        put("mmproj-model-f16.gguf");
        assert_eq!(mmproj_beside(&place("a.gguf")), Some(place("mmproj-model-f16.gguf")));
        put("b.gguf");
        assert_eq!(mmproj_beside(&place("a.gguf")), None, "nobody knows whose it is");
        put("mmproj-b.gguf");
        assert_eq!(mmproj_beside(&place("b.gguf")), Some(place("mmproj-b.gguf")));
        assert_eq!(mmproj_beside(&place("a.gguf")), None);
    }
}
