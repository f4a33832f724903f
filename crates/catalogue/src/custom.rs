//! Models of a user's own, in the form of Xinference's custom models: version 2 with `model_src`, and the older one with
//! `model_id` in each of `model_specs`. What Xinference needs to start an engine (templates, packages) means nothing here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use glimmer_config::{FileError, Quoted, file, is_harmful, json};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::catalogue::Catalogue;
use crate::names::plain;
use crate::{CatalogueError, Entry, Format, HubKind, Model, Published, Repository, Size};

/// The most files that a directory, models that a file, and forms that a model may have.
const MOST: usize = 1000;

/// A model as Xinference registers it.
#[derive(Deserialize)]
struct Custom {
    model_name: String,
    context_length: Option<u64>,
    #[serde(default)]
    model_lang: Vec<String>,
    #[serde(default)]
    model_ability: Vec<String>,
    #[serde(default)]
    model_description: Option<String>,
    #[serde(default)]
    model_family: Option<String>,
    model_specs: Vec<Value>,
    #[serde(default)]
    stop_token_ids: Option<Vec<u32>>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
}

/// One of its `model_specs`.
#[derive(Deserialize)]
struct Spec {
    model_format: Format,
    model_size_in_billions: Size,
    #[serde(default)]
    activated_size_in_billions: Option<Size>,
    /// By hub; what is not known of them is left out.
    #[serde(default)]
    model_src: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    model_hub: Option<String>,
    #[serde(flatten)]
    own: Source,
}

/// Files in one place.
#[derive(Clone, Deserialize)]
struct Source {
    #[serde(default)]
    model_id: Option<String>,
    #[serde(default)]
    model_revision: Option<String>,
    #[serde(default)]
    model_uri: Option<String>,
    #[serde(default)]
    quantizations: Option<Vec<String>>,
    #[serde(default)]
    quantization: Option<String>,
    #[serde(default)]
    model_file_name_template: Option<String>,
    #[serde(default)]
    model_file_name_split_template: Option<String>,
}

/// Adds the models of a file, or of the files of a directory in the order of their names.
pub(crate) fn add(entries: &mut Vec<Entry>, path: &Path) -> Result<(), CatalogueError> {
    if path.is_dir() {
        return files_of(path)?.iter().try_for_each(|file| add_file(entries, file));
    }
    add_file(entries, path)
}

fn files_of(directory: &Path) -> Result<Vec<PathBuf>, CatalogueError> {
    let error = |source| CatalogueError::from(FileError::io(directory, source));
    let mut files = Vec::new();
    for found in std::fs::read_dir(directory).map_err(error)? {
        let path = found.map_err(error)?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
        if files.len() > MOST {
            return Err(CatalogueError::TooMany { path: directory.to_owned(), of: "files", limit: MOST });
        }
    }
    files.sort();
    Ok(files)
}

fn add_file(entries: &mut Vec<Entry>, path: &Path) -> Result<(), CatalogueError> {
    let text = file::read_text(path)?.ok_or_else(|| FileError::NotFound { path: path.to_owned() })?;
    add_text(entries, path, &text)
}

/// Adds the models that a text from `path` holds.
pub(crate) fn add_text(entries: &mut Vec<Entry>, path: &Path, text: &str) -> Result<(), CatalogueError> {
    let value = json::tree(text, json::FILE_ROOM);
    let value = value.map_err(|error| FileError::Json { path: path.to_owned(), what: error.to_string() })?;
    let models = if let Value::Array(models) = value { models } else { vec![value] };
    if models.len() > MOST {
        return Err(CatalogueError::TooMany { path: path.to_owned(), of: "models", limit: MOST });
    }
    for (number, model) in models.into_iter().enumerate() {
        let at = Place { path, place: format!("model {}", number + 1) };
        let entry = at.entry(model)?;
        let taken = |other: &Entry| names(other).any(|name| plain(name) == plain(&entry.name));
        if entries.iter().any(taken) {
            return Err(at.wrong(format!("the name {} is taken; choose another", Quoted(&entry.name))));
        }
        entries.push(entry);
    }
    Ok(())
}

fn names(entry: &Entry) -> impl Iterator<Item = &String> {
    entry.aliases.iter().chain([&entry.name]).chain(entry.models.iter().map(|model| &model.name))
}

/// Where something is read, for errors.
struct Place<'a> {
    path: &'a Path,
    place: String,
}

impl Place<'_> {
    fn wrong(&self, what: String) -> CatalogueError {
        CatalogueError::Entry { path: self.path.to_owned(), place: self.place.clone(), what }
    }

    fn inside(&self, place: &str) -> Place<'_> {
        Place { path: self.path, place: format!("{}, {place}", self.place) }
    }

    fn read<T: DeserializeOwned>(&self, value: Value) -> Result<T, CatalogueError> {
        serde_json::from_value(value).map_err(|error| self.wrong(Quoted(&error.to_string()).to_string()))
    }

    fn entry(&self, value: Value) -> Result<Entry, CatalogueError> {
        if !value.is_object() {
            return Err(self.wrong("an object of Xinference's custom models is expected".to_owned()));
        }
        let custom: Custom = self.read(value)?;
        let name = custom.model_name;
        if name.is_empty()
            || name.len() > 100
            || name.contains(|c: char| is_harmful(c) || c == ':' || c == '/')
        {
            return Err(self.wrong(
                "model_name is empty, longer than 100 bytes, or has a colon, a slash or a control character"
                    .to_owned(),
            ));
        }
        if custom.model_specs.is_empty() || custom.model_specs.len() > MOST {
            return Err(self.wrong(format!("model_specs holds no form of the model, or more than {MOST}")));
        }
        let family = custom.model_family.as_deref().and_then(|family| Catalogue::published().find(family));
        let (mut models, mut formats) = (Vec::<Model>::new(), Vec::new());
        for (number, spec) in custom.model_specs.into_iter().enumerate() {
            let at = self.inside(&format!("model_specs[{number}]"));
            let spec: Spec = at.read(spec)?;
            if models.iter().all(|model| model.size != spec.model_size_in_billions) {
                models.push(model(&name, &spec, family));
            }
            formats.extend(at.published(spec)?);
        }
        if let [only] = &mut models[..] {
            only.name.clone_from(&name);
        }
        let own_family = custom.model_family.unwrap_or_else(|| "custom".to_owned());
        Ok(Entry {
            name,
            aliases: Vec::new(),
            description: custom.model_description.unwrap_or_default(),
            family: family.map_or(own_family, |entry| entry.family.clone()),
            abilities: custom.model_ability,
            languages: custom.model_lang,
            context: custom.context_length,
            licence: None,
            released: None,
            architecture: custom.architectures.and_then(|all| all.into_iter().next()),
            chat_format: family.and_then(|entry| entry.chat_format.clone()),
            stop_ids: custom.stop_token_ids.unwrap_or_default(),
            models,
            formats,
            benchmarks: Vec::new(),
            quality: Vec::new(),
            sources: BTreeMap::new(),
        })
    }

    /// A form for each place of its files; hubs that are not known are left out.
    fn published(&self, spec: Spec) -> Result<Vec<Published>, CatalogueError> {
        let mut sources = Vec::new();
        for (hub, source) in spec.model_src.unwrap_or_default() {
            sources.push((hub.clone(), self.inside(&format!("model_src.{hub}")).read::<Source>(source)?));
        }
        if sources.is_empty() {
            sources.push((spec.model_hub.unwrap_or_else(|| "huggingface".to_owned()), spec.own));
        }
        let form = |(hub, source): (String, Source)| {
            let kind = match hub.as_str() {
                "huggingface" => HubKind::HuggingFace,
                "modelscope" => HubKind::ModelScope,
                _ => return None,
            };
            let revision = source.model_revision;
            let repository = source.model_id.map(|id| Repository { hub: kind, id, revision });
            Some(Published {
                format: spec.model_format,
                size: spec.model_size_in_billions.clone(),
                quantizations: source
                    .quantizations
                    .or(source.quantization.map(|q| vec![q]))
                    .unwrap_or_default(),
                file_pattern: source.model_file_name_template.filter(|pattern| !pattern.is_empty()),
                split_pattern: source.model_file_name_split_template,
                repositories: repository.into_iter().collect(),
                uri: source.model_uri,
                sources: Vec::new(),
            })
        };
        Ok(sources.into_iter().filter_map(form).collect())
    }
}

/// One size of a user's model; its shape is that of the published model of its family and size.
fn model(name: &str, spec: &Spec, family: Option<&Entry>) -> Model {
    let size = spec.model_size_in_billions.clone();
    let like = family.and_then(|entry| entry.models.iter().find(|model| model.size == size));
    Model {
        name: format!("{name}-{}", size.to_string().to_lowercase()),
        size,
        activated: spec.activated_size_in_billions.clone(),
        shape: None,
        like: like.map(|model| model.like.clone().unwrap_or_else(|| model.name.clone())),
    }
}
