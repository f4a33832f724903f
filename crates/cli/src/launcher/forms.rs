//! What is shown of the models that can be launched: their forms, the engines that run them, and which are here.

use std::collections::BTreeMap;

use anyhow::Result;
use glimmer_catalogue::{Catalogue, Entry, Format, Model, Published};
use glimmer_server::{CachedModel, EngineForm, ModelType, RegisteredForm, Registration};
use serde_json::Value;

use super::chosen::{Files, files, format_name, hub_name, quantizations, runs, size_value};
use super::own::{Own, OwnEncoder};
use crate::commands::cache;
use crate::hubs::{Hubs, Wanted};
use crate::terminal::Terminal;

/// The engines of Xinference that run a format.
fn engines_of(format: Format) -> &'static [&'static str] {
    match format {
        Format::Pytorch => &["Transformers", "vLLM", "SGLang"],
        Format::Ggufv2 => &["llama.cpp"],
        _ => &[],
    }
}

/// The model of an entry that a form is of.
fn model_of<'a>(entry: &'a Entry, form: &Published) -> Option<&'a Model> {
    entry.models.iter().find(|model| model.size == form.size)
}

/// The models of the catalogue that can be launched.
pub(super) fn registrations(catalogue: &Catalogue, terminal: &Terminal) -> Result<Vec<Registration>> {
    let hubs = Hubs::of_environment(terminal)?;
    let published = Catalogue::published();
    let mut all: Vec<Registration> = catalogue
        .entries()
        .iter()
        .map(|entry| Registration {
            version: 2,
            model_name: entry.name.clone(),
            is_builtin: published.entries().iter().any(|other| other.name == entry.name),
            context_length: entry.context,
            model_lang: entry.languages.clone(),
            model_ability: entry.abilities.clone(),
            model_description: entry.description.clone(),
            model_family: entry.family.clone(),
            model_specs: entry.formats.iter().flat_map(|form| registered(&hubs, entry, form)).collect(),
            stop_token_ids: entry.stop_ids.clone(),
            architectures: entry.architecture.iter().cloned().collect(),
            dimensions: None,
            max_tokens: None,
            language: Vec::new(),
        })
        .collect();
    all.sort_by_key(|one| one.model_name.to_lowercase());
    Ok(all)
}

/// A form, once for each quantization and hub.
fn registered(hubs: &Hubs, entry: &Entry, form: &Published) -> Vec<RegisteredForm> {
    let known = quantizations(form);
    let all = if known.is_empty() { &form.quantizations } else { &known };
    let one = |quantization: &String, hub: Option<&glimmer_catalogue::Repository>| RegisteredForm {
        model_format: format_name(form.format).to_owned(),
        model_size_in_billions: Some(size_value(&form.size)),
        activated_size_in_billions: model_of(entry, form)
            .and_then(|model| model.activated.as_ref())
            .map(size_value),
        quantization: quantization.clone(),
        model_hub: hub.map(|hub| hub_name(hub.hub).to_owned()),
        model_id: hub.map(|hub| hub.id.replace("{quantization}", quantization)),
        model_revision: hub.and_then(|hub| hub.revision.clone()),
        model_uri: form.uri.clone(),
        model_file_name_template: form.file_pattern.clone(),
        cache_status: here(hubs, entry, &[form], quantization).is_some(),
    };
    let of_quantization = |quantization: &String| match form.repositories.as_slice() {
        [] => vec![one(quantization, None)],
        hubs => hubs.iter().map(|hub| one(quantization, Some(hub))).collect(),
    };
    all.iter().flat_map(of_quantization).collect()
}

/// A user's own encoder.
pub(super) fn of_encoder(encoder: &OwnEncoder) -> Registration {
    let form = |files: &super::own::EncoderFiles| RegisteredForm {
        model_format: "pytorch".to_owned(),
        model_size_in_billions: None,
        activated_size_in_billions: None,
        quantization: "none".to_owned(),
        model_hub: Some(files.model_hub.clone()),
        model_id: files.model_id.clone(),
        model_revision: files.model_revision.clone(),
        model_uri: files.model_uri.clone(),
        model_file_name_template: None,
        cache_status: false,
    };
    Registration {
        version: 2,
        model_name: encoder.model_name.clone(),
        is_builtin: false,
        context_length: None,
        model_lang: encoder.language.clone(),
        model_ability: vec![encoder.kind.ability().to_owned()],
        model_description: String::new(),
        model_family: encoder.model_name.clone(),
        model_specs: encoder.model_specs.iter().map(form).collect(),
        stop_token_ids: Vec::new(),
        architectures: Vec::new(),
        dimensions: encoder.dimensions,
        max_tokens: encoder.max_tokens,
        language: encoder.language.clone(),
    }
}

/// By engine, the forms in which a model runs.
pub(super) fn engines(
    catalogue: &Catalogue,
    name: &str,
) -> Result<BTreeMap<String, Vec<EngineForm>>, String> {
    let member = catalogue.member(name).map_err(|error| error.to_string())?;
    let entry = member.entry;
    let mut engines = BTreeMap::<String, Vec<EngineForm>>::new();
    for form in member.forms().filter(|form| runs(catalogue, entry, model_of(entry, form), form.format)) {
        for engine in engines_of(form.format) {
            let forms = engines.entry((*engine).to_owned()).or_default();
            add(forms, &entry.name, form);
        }
    }
    Ok(engines)
}

/// Adds the quantizations of a form to those of its size and format.
fn add(forms: &mut Vec<EngineForm>, name: &str, form: &Published) {
    let (format, size) = (format_name(form.format), size_value(&form.size));
    let is_same =
        |other: &&mut EngineForm| other.model_format == format && other.model_size_in_billions == size;
    let own = quantizations(form);
    match forms.iter_mut().find(is_same) {
        Some(same) => {
            let new: Vec<String> = own.into_iter().filter(|own| !same.quantizations.contains(own)).collect();
            same.quantizations.extend(new);
        }
        None => forms.push(EngineForm {
            model_name: name.to_owned(),
            model_format: format.to_owned(),
            model_size_in_billions: size,
            quantizations: own,
        }),
    }
}

/// The engine of encoders, which is called sentence-transformers there.
pub(super) fn encoder_engines(
    own: &Own,
    kind: ModelType,
    name: &str,
) -> Result<BTreeMap<String, Vec<EngineForm>>, String> {
    if own.encoder(kind, name).is_none() {
        return Err(format!("no encoder is called {:.60}", glimmer::Escaped(name)));
    }
    let form = EngineForm {
        model_name: name.to_owned(),
        model_format: "pytorch".to_owned(),
        model_size_in_billions: Value::Null,
        quantizations: vec!["none".to_owned()],
    };
    Ok([("sentence_transformers".to_owned(), vec![form])].into())
}

/// A model that is completely on this machine, and what names it in a cache.
struct Here {
    model: CachedModel,
    wanted: Option<Wanted>,
}

/// Where the files of a quantization are, if they are all here; and what a hub calls them.
fn here(
    hubs: &Hubs,
    entry: &Entry,
    forms: &[&Published],
    quantization: &str,
) -> Option<(std::path::PathBuf, Option<Wanted>)> {
    match files(entry, forms, quantization, None).ok()? {
        Files::Here(path) => path.exists().then_some((path, None)),
        Files::OnHubs { wanted, revision, .. } => {
            let pulled = hubs.cached(&wanted, revision.as_deref())?;
            Some((pulled.model, Some(wanted)))
        }
    }
}

fn all_here(catalogue: &Catalogue, terminal: &Terminal) -> Result<Vec<Here>> {
    let hubs = Hubs::of_environment(terminal)?;
    let mut all = Vec::<Here>::new();
    for entry in catalogue.entries() {
        for form in &entry.formats {
            for quantization in quantizations(form) {
                let Some((path, wanted)) = here(&hubs, entry, &[form], &quantization) else { continue };
                let (format, size) = (format_name(form.format), form.size.spelt());
                let model = CachedModel {
                    model_version: format!("{}--{size}B--{format}--{quantization}", entry.name),
                    model_name: entry.name.clone(),
                    model_size_in_billions: size_value(&form.size),
                    model_format: format.to_owned(),
                    quantization,
                    path,
                };
                if !all.iter().any(|other| {
                    other.model.path == model.path && other.model.model_version == model.model_version
                }) {
                    all.push(Here { model, wanted });
                }
            }
        }
    }
    Ok(all)
}

/// The models whose files are here, or those of one name.
pub(super) fn cached(
    catalogue: &Catalogue,
    name: Option<&str>,
    terminal: &Terminal,
) -> Result<Vec<CachedModel>> {
    let all = all_here(catalogue, terminal)?.into_iter().map(|here| here.model);
    let mut all: Vec<_> = all.filter(|model| name.is_none_or(|name| model.model_name == name)).collect();
    all.sort_by(|a, b| a.model_name.cmp(&b.model_name));
    Ok(all)
}

/// Removes the files of a version from the hubs' caches. Those that are on no hub are a user's own, and stay.
pub(super) fn remove_cached(catalogue: &Catalogue, version: &str, terminal: &Terminal) -> Result<bool> {
    let all = all_here(catalogue, terminal)?.into_iter();
    let wanted: Vec<Wanted> =
        all.filter(|here| here.model.model_version == version).filter_map(|here| here.wanted).collect();
    for wanted in &wanted {
        cache::remove_one(wanted, None, terminal)?;
    }
    Ok(!wanted.is_empty())
}
