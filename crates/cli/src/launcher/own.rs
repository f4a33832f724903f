//! The models that have names: the published ones, a user's own in files, and those that clients registered.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use glimmer::{Escaped, file};
use glimmer_catalogue::Catalogue;
use glimmer_server::ModelType;
use serde::{Deserialize, Serialize};

use crate::catalogue;

/// The most models that clients register, and bytes of one.
const MOST: usize = 1000;
const BYTES: usize = 1 << 20;

/// The folders of encoders among a user's own models, by what they make: their files have another form.
const ENCODERS: [(ModelType, &str); 2] = [(ModelType::Embedding, "embedding"), (ModelType::Rerank, "rerank")];

/// What can be launched by name.
pub(super) struct Own {
    /// Files and folders of models, as the operator named them.
    paths: Vec<PathBuf>,
    /// Models that are registered for as long as the server runs: names and texts.
    registered: Vec<(String, String)>,
    pub(super) catalogue: Catalogue,
    encoders: Vec<OwnEncoder>,
}

/// A user's own encoder, in Xinference's custom JSON.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct OwnEncoder {
    /// What it makes.
    #[serde(skip)]
    pub(super) kind: ModelType,
    pub(super) model_name: String,
    pub(super) dimensions: Option<usize>,
    pub(super) max_tokens: Option<usize>,
    #[serde(default)]
    pub(super) language: Vec<String>,
    pub(super) model_specs: Vec<EncoderFiles>,
}

/// Where an encoder's files are.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct EncoderFiles {
    #[serde(default = "huggingface")]
    pub(super) model_hub: String,
    pub(super) model_id: Option<String>,
    pub(super) model_uri: Option<String>,
    pub(super) model_revision: Option<String>,
}

fn huggingface() -> String {
    "huggingface".to_owned()
}

impl Own {
    pub(super) fn open(paths: Vec<PathBuf>) -> Result<Self> {
        let catalogue = catalogue::open(&paths)?;
        Ok(Own { paths, registered: Vec::new(), catalogue, encoders: encoders()? })
    }

    /// Adds a model that writes text.
    pub(super) fn register(&mut self, text: &str, persist: bool) -> Result<()> {
        self.check_room(text)?;
        let mut catalogue = self.catalogue.clone();
        let name = catalogue.add(Path::new("the model"), text)?.to_owned();
        if catalogue.entries().len() != self.catalogue.entries().len() + 1 {
            bail!("one model is registered at a time");
        }
        if persist {
            write(&folder()?, &name, text)?;
        } else {
            self.registered.push((name, text.to_owned()));
        }
        self.catalogue = catalogue;
        Ok(())
    }

    /// The encoders that make this.
    pub(super) fn encoders(&self, kind: ModelType) -> impl Iterator<Item = &OwnEncoder> {
        self.encoders.iter().filter(move |encoder| encoder.kind == kind)
    }

    /// The one of this name.
    pub(super) fn encoder(&self, kind: ModelType, name: &str) -> Option<&OwnEncoder> {
        self.encoders(kind).find(|encoder| encoder.model_name == name)
    }

    /// Adds an encoder.
    pub(super) fn register_encoder(&mut self, kind: ModelType, text: &str, persist: bool) -> Result<()> {
        self.check_room(text)?;
        let encoder = OwnEncoder::parse(kind, text)?;
        let name = &encoder.model_name;
        if self.encoder(kind, name).is_some() {
            bail!("the name {} is taken; choose another", Escaped(name));
        }
        if persist {
            write(&encoder_folder(kind)?, name, text)?;
        }
        self.encoders.push(encoder);
        Ok(())
    }

    fn check_room(&self, text: &str) -> Result<()> {
        if text.len() > BYTES || self.registered.len() + self.encoders.len() >= MOST {
            bail!("a model has at most {BYTES} bytes, and {MOST} can be registered");
        }
        Ok(())
    }

    /// Removes a model that writes text, and its file if it was registered for good.
    pub(super) fn unregister(&mut self, name: &str) -> Result<()> {
        if Catalogue::published().entries().iter().any(|entry| entry.name == name) {
            bail!("{} is built in", Escaped(name));
        }
        if let Some(at) = self.registered.iter().position(|(own, _)| own == name) {
            self.registered.remove(at);
        } else if !self.catalogue.entries().iter().any(|entry| entry.name == name) {
            bail!("no model {} is registered", Escaped(name));
        } else if !remove(&folder()?, name)? {
            bail!("{} is in a file of yours: remove it there", Escaped(name));
        }
        let mut catalogue = catalogue::open(&self.paths)?;
        for (_, text) in &self.registered {
            catalogue.add(Path::new("the model"), text)?;
        }
        self.catalogue = catalogue;
        Ok(())
    }

    /// Removes an encoder.
    pub(super) fn unregister_encoder(&mut self, kind: ModelType, name: &str) -> Result<()> {
        let is_it = |encoder: &OwnEncoder| encoder.kind == kind && encoder.model_name == name;
        let at = self.encoders.iter().position(is_it);
        let at = at.with_context(|| format!("no model {} is registered", Escaped(name)))?;
        remove(&encoder_folder(kind)?, name)?;
        self.encoders.remove(at);
        Ok(())
    }
}

impl OwnEncoder {
    fn parse(kind: ModelType, text: &str) -> Result<Self> {
        let encoder: OwnEncoder =
            serde_json::from_str(text).context("this is no encoder in Xinference's form")?;
        let encoder = OwnEncoder { kind, ..encoder };
        check_name(&encoder.model_name)?;
        if encoder.model_specs.iter().all(|files| files.model_id.is_none() && files.model_uri.is_none()) {
            bail!("none of its model_specs says where its files are: model_id or model_uri");
        }
        Ok(encoder)
    }
}

/// The encoders that were registered for good.
fn encoders() -> Result<Vec<OwnEncoder>> {
    let mut all = Vec::new();
    let Some(own) = catalogue::own_directory() else { return Ok(all) };
    for (kind, folder) in ENCODERS {
        let folder = own.join(folder);
        if !folder.is_dir() {
            continue;
        }
        for found in fs::read_dir(&folder).with_context(|| folder.display().to_string())?.take(MOST) {
            let path = found?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let text = file::read_text(&path)?.unwrap_or_default();
                all.push(OwnEncoder::parse(kind, &text).with_context(|| path.display().to_string())?);
            }
        }
    }
    all.sort_by(|a: &OwnEncoder, b| a.model_name.cmp(&b.model_name));
    Ok(all)
}

/// Where encoders that make this are registered.
fn encoder_folder(kind: ModelType) -> Result<PathBuf> {
    let found = ENCODERS.into_iter().find(|(other, _)| *other == kind);
    let (_, name) = found.context("models that write text are no encoders")?;
    Ok(folder()?.join(name))
}

fn folder() -> Result<PathBuf> {
    catalogue::own_directory().context("neither XDG_DATA_HOME nor HOME says where models are registered")
}

/// Whether a name can be a file's.
fn check_name(name: &str) -> Result<()> {
    let is_fine = |c: char| !c.is_control() && c != '/' && c != ':';
    if name.is_empty() || name.len() > 100 || name.starts_with('.') || !name.chars().all(is_fine) {
        bail!(
            "model_name is empty or longer than 100 bytes, begins with a dot, or has a slash, a colon or a control character"
        );
    }
    Ok(())
}

/// Writes a model down, whole or not at all.
fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    check_name(name)?;
    let path = folder.join(format!("{name}.json"));
    if path.exists() {
        bail!("{} is there already", path.display());
    }
    let place = || path.display().to_string();
    fs::create_dir_all(folder).with_context(place)?;
    let part = folder.join(format!(".{name}.part"));
    fs::write(&part, text).and_then(|()| fs::rename(&part, &path)).with_context(place)
}

/// Removes a model's file; whether there was one.
fn remove(folder: &Path, name: &str) -> Result<bool> {
    check_name(name)?;
    let path = folder.join(format!("{name}.json"));
    match fs::remove_file(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        result => result.map(|()| true).with_context(|| path.display().to_string()),
    }
}
