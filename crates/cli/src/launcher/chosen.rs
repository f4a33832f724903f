//! From a name, a size, a format and a quantization to the one model that is meant.

use std::path::PathBuf;

use glimmer::{PublishedModel, Quantization};
use glimmer_catalogue::{Catalogue, Entry, Format, HubKind, Model, Published, Size};
use glimmer_server::{LaunchSpec, ModelDescription};
use serde_json::Value;

use crate::catalogue::runs_as;
use crate::hubs::Wanted;

/// The quantization that is taken where none is named.
const GOOD: &str = "Q4_K_M";

/// What a folder of safetensors is called in the place of a quantization.
pub(super) const NONE: &str = "none";

/// A model of the catalogue in one form, whose files are somewhere.
pub(super) struct Chosen {
    pub(super) description: ModelDescription,
    pub(super) files: Files,
}

/// Where a model's files are.
#[derive(Clone)]
pub(super) enum Files {
    /// On this machine.
    Here(PathBuf),
    /// On hubs, in this revision where the catalogue names one.
    OnHubs { wanted: Wanted, hub: Option<glimmer_hub::HubKind>, revision: Option<String> },
}

impl Chosen {
    /// The model that is meant.
    ///
    /// # Errors
    /// When there is none, or it does not run here; what there is instead.
    pub(super) fn of(catalogue: &Catalogue, spec: &LaunchSpec) -> Result<Chosen, String> {
        let member = catalogue.member(&spec.name).map_err(|error| error.to_string())?;
        let entry = member.entry;
        let format = spec.format.as_deref().map(format).transpose()?;
        let size = match &spec.size {
            Some(text) => Some(sized(entry, text)?),
            None => member.model.map(|model| &model.size),
        };
        let hub = spec.hub.as_deref();
        let forms: Vec<&Published> = entry
            .formats
            .iter()
            .filter(|form| size.is_none_or(|size| form.size == *size))
            .filter(|form| format.is_none_or(|format| form.format == format))
            .filter(|form| hub.is_none_or(|hub| form.uri.is_some() || on(form, hub)))
            .collect();
        let quantization = spec.quantization.as_deref().or(member.quantization);
        let (form, quantization) = match quantization {
            Some(wanted) => forms.iter().find_map(|form| Some((*form, quantized(form, wanted)?))),
            None => preferred(&forms),
        }
        .ok_or_else(|| absent(catalogue, entry, spec))?;
        let model = entry.models.iter().find(|model| model.size == form.size);
        if !runs(catalogue, entry, model, form.format) {
            return Err(absent(catalogue, entry, spec));
        }
        let same: Vec<&Published> = forms
            .iter()
            .filter(|other| other.size == form.size && other.format == form.format)
            .filter(|other| quantized(other, &quantization).is_some())
            .copied()
            .collect();
        let files = files(entry, &same, &quantization, hub)?;
        Ok(Chosen { description: described(entry, &same, &quantization, spec), files })
    }
}

/// What is known of it.
fn described(entry: &Entry, same: &[&Published], quantization: &str, spec: &LaunchSpec) -> ModelDescription {
    let form = same[0];
    let mut repositories = same.iter().flat_map(|form| &form.repositories);
    let only = match (repositories.next(), repositories.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    };
    ModelDescription {
        model_lang: entry.languages.clone(),
        model_ability: entry.abilities.clone(),
        model_description: Some(entry.description.clone()),
        model_format: Some(format_name(form.format).to_owned()),
        model_size_in_billions: Some(size_value(&form.size)),
        model_family: Some(entry.name.clone()),
        quantization: Some(quantization.to_owned()),
        model_hub: only.map(|repository| hub_name(repository.hub).to_owned()),
        revision: only.and_then(|repository| repository.revision.clone()),
        context_length: entry.context,
        model_engine: spec.engine.clone(),
        ..ModelDescription::unknown(spec.model_type, &entry.name, &[])
    }
}

/// Where the files of a quantization are, which is the same in all these forms.
pub(super) fn files(
    entry: &Entry,
    same: &[&Published],
    quantization: &str,
    hub: Option<&str>,
) -> Result<Files, String> {
    if let Some((form, uri)) = same.iter().find_map(|form| Some((form, form.uri.as_ref()?))) {
        let uri = uri.strip_prefix("file://").unwrap_or(uri).replace("{quantization}", quantization);
        let path = PathBuf::from(uri);
        let file = form.file(quantization).filter(|_| form.format == Format::Ggufv2 && path.is_dir());
        return Ok(Files::Here(file.map_or(path.clone(), |file| path.join(file))));
    }
    let named = Some(quantization).filter(|word| *word != NONE && on_load(word).is_none());
    let wanted = Wanted::of_forms(&entry.name, same, named).ok_or_else(|| {
        format!("nothing says where the files of {} are; name them with model_path", entry.name)
    })?;
    let hub = hub.and_then(hub_kind);
    // A revision is one hub's.
    let mut revisions =
        same.iter().flat_map(|form| &form.repositories).map(|repository| &repository.revision);
    let revision = match (revisions.next(), revisions.next()) {
        (Some(revision), None) => revision.clone(),
        _ => None,
    };
    Ok(Files::OnHubs { wanted, hub, revision })
}

/// The size that a text says, if the entry has it.
fn sized<'a>(entry: &'a Entry, text: &str) -> Result<&'a Size, String> {
    let known = || entry.models.iter().map(|model| model.size.spelt()).collect::<Vec<_>>().join(", ");
    let size = Size::parse(text);
    let model = size.and_then(|size| entry.models.iter().find(|model| model.size == size));
    model.map(|model| &model.size).ok_or_else(|| {
        format!(
            "{} has no size {:.20} (billions of parameters); there is {}",
            entry.name,
            text.escape_debug(),
            known()
        )
    })
}

/// A format in Xinference's word.
fn format(word: &str) -> Result<Format, String> {
    serde_json::from_value(Value::from(word.to_ascii_lowercase())).map_err(|_| {
        format!("no model has the format {:.20}; pytorch and ggufv2 run here", word.escape_debug())
    })
}

/// Xinference's word for a format.
pub(super) fn format_name(format: Format) -> &'static str {
    match format {
        Format::Pytorch => "pytorch",
        Format::Ggufv2 => "ggufv2",
        Format::Gptq => "gptq",
        Format::Awq => "awq",
        Format::Fp8 => "fp8",
        Format::Fp4 => "fp4",
        Format::Bnb => "bnb",
        Format::Mlx => "mlx",
    }
}

/// Xinference's word for a hub.
pub(super) fn hub_name(hub: HubKind) -> &'static str {
    match hub {
        HubKind::HuggingFace => "huggingface",
        HubKind::ModelScope => "modelscope",
    }
}

/// The hub that such a word names.
pub(super) fn hub_kind(word: &str) -> Option<glimmer_hub::HubKind> {
    match word {
        "huggingface" => Some(glimmer_hub::HubKind::HuggingFace),
        "modelscope" => Some(glimmer_hub::HubKind::ModelScope),
        _ => None,
    }
}

/// A size as Xinference's JSON has it: a whole number, or a text such as `1_5`.
pub(super) fn size_value(size: &Size) -> Value {
    size.spelt().parse::<u64>().map_or_else(|_| size.spelt().into(), Value::from)
}

fn on(form: &Published, hub: &str) -> bool {
    form.repositories.iter().any(|repository| hub_name(repository.hub) == hub)
}

/// The quantization of this name among those in which a form runs.
pub(super) fn quantized(form: &Published, wanted: &str) -> Option<String> {
    quantizations(form)
        .into_iter()
        .find(|own| own.eq_ignore_ascii_case(wanted))
        .or_else(|| form.quantization(wanted).filter(|_| form.format == Format::Ggufv2).map(str::to_owned))
}

/// The quantizations in which a form runs here.
pub(super) fn quantizations(form: &Published) -> Vec<String> {
    match form.format {
        Format::Ggufv2 => form.quantizations.clone(),
        // Others are files of their own.
        Format::Pytorch
            if form.repositories.iter().all(|repository| !repository.id.contains("{quantization}")) =>
        {
            let made = Quantization::NAMES.iter().map(|(_, name)| *name);
            [NONE].into_iter().chain(made).map(str::to_owned).collect()
        }
        Format::Pytorch => form.quantizations.clone(),
        _ => Vec::new(),
    }
}

/// A GGUF of a good quantization, or the first there is.
fn preferred<'a>(forms: &[&'a Published]) -> Option<(&'a Published, String)> {
    let good = forms.iter().filter(|form| form.format == Format::Ggufv2);
    let good = good.filter_map(|form| Some((*form, form.quantization(GOOD)?.to_owned()))).next();
    good.or_else(|| forms.iter().find_map(|form| Some((*form, quantizations(form).into_iter().next()?))))
}

/// What weights become while they are loaded, where a quantization means that.
pub(super) fn on_load(word: &str) -> Option<Quantization> {
    Quantization::NAMES.iter().find(|(_, name)| *name == word).map(|(quantization, _)| *quantization)
}

/// Whether a model runs here in a format. Of a user's own model that nobody knows, its files will tell.
pub(super) fn runs(catalogue: &Catalogue, entry: &Entry, model: Option<&Model>, format: Format) -> bool {
    let is_published = Catalogue::published().entries().iter().any(|other| other.name == entry.name);
    let is_known = || {
        model
            .and_then(|model| runs_as(catalogue, entry, model))
            .is_some_and(|name| PublishedModel::named(name).is_some())
    };
    matches!(format, Format::Pytorch | Format::Ggufv2) && (!is_published || is_known())
}

/// That a model is not there in the form that is asked for, and in which it is.
fn absent(catalogue: &Catalogue, entry: &Entry, spec: &LaunchSpec) -> String {
    let mut runs_in = Vec::new();
    for form in &entry.formats {
        let model = entry.models.iter().find(|model| model.size == form.size);
        let all = quantizations(form);
        if !all.is_empty() && runs(catalogue, entry, model, form.format) {
            let text = format!("{} {} ({})", format_name(form.format), form.size.spelt(), all.join(" "));
            if !runs_in.contains(&text) {
                runs_in.push(text);
            }
        }
    }
    let wanted = [&spec.format, &spec.size, &spec.quantization, &spec.hub];
    let wanted: Vec<String> =
        wanted.into_iter().flatten().map(|word| format!("{:.20}", word.escape_debug())).collect();
    match runs_in.as_slice() {
        [] => format!("{} is known, but there is no decoder of it here yet", entry.name),
        _ if wanted.is_empty() => format!("{} runs in {:.160}", entry.name, runs_in.join(", ")),
        _ => format!(
            "{} does not run in {}; it does in {:.160}",
            entry.name,
            wanted.join(" "),
            runs_in.join(", ")
        ),
    }
}
