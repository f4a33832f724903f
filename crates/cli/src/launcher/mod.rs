//! Models that are launched by name: the server's [`Launcher`], over catalogue, hubs and library.

mod chosen;
mod forms;
mod opening;
mod own;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use glimmer::Escaped;
use glimmer_server::{
    CachedModel, EngineForm, Launch, LaunchError, LaunchSpec, Launcher, ModelDescription, ModelType,
    Registration,
};

use crate::hubs::Wanted;
use crate::served::Settings;
use chosen::{Chosen, Files};
use opening::Opening;
use own::Own;

/// The models that have names, and how they are opened.
pub(crate) struct NamedModels {
    /// As the operator said.
    settings: Arc<Settings>,
    own: RwLock<Own>,
}

impl NamedModels {
    /// The published models, and a user's own from these files and directories.
    ///
    /// # Errors
    /// When one of these cannot be read.
    pub(crate) fn open(settings: &Arc<Settings>, catalogue: Vec<PathBuf>) -> anyhow::Result<Self> {
        Ok(NamedModels { settings: Arc::clone(settings), own: RwLock::new(Own::open(catalogue)?) })
    }

    fn with_own<T>(&self, look: impl FnOnce(&Own) -> T) -> T {
        look(&self.own.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut Own) -> anyhow::Result<()>) -> Result<(), LaunchError> {
        change(&mut self.own.write().unwrap_or_else(PoisonError::into_inner)).map_err(invalid)
    }

    /// The model that is meant: files at a path, one of the catalogue's, a user's own, or OWNER/NAME on a hub.
    fn chosen(&self, spec: &LaunchSpec) -> Result<Chosen, String> {
        if let Some(path) = &spec.path {
            return at_path(path, spec);
        }
        let own = || self.with_own(|own| Chosen::of(&own.catalogue, spec));
        match spec.model_type {
            ModelType::Llm => own().or_else(|why| on_hubs(&spec.name, spec).ok_or(why)),
            ModelType::Embedding | ModelType::Rerank => self.with_own(|own| encoder(own, spec)),
        }
    }
}

fn invalid(error: anyhow::Error) -> LaunchError {
    LaunchError::Invalid(format!("{error:#}"))
}

/// Files that are on this machine already. What the client says of them is shown again.
fn at_path(path: &Path, spec: &LaunchSpec) -> Result<Chosen, String> {
    if !path.exists() {
        return Err(format!("model_path: nothing is at {:.200}", path.display()));
    }
    let description = ModelDescription {
        model_format: spec.format.clone(),
        model_size_in_billions: spec.size.as_deref().map(|size| {
            glimmer_catalogue::Size::parse(size).map_or_else(|| size.into(), |size| chosen::size_value(&size))
        }),
        quantization: spec.quantization.clone(),
        model_engine: spec.engine.clone(),
        ..ModelDescription::unknown(spec.model_type, &spec.name, &[spec.model_type.ability()])
    };
    Ok(Chosen { description, files: Files::Here(path.to_owned()) })
}

/// OWNER/NAME, or OWNER/NAME:QUANTIZATION, on a hub.
fn on_hubs(word: &str, spec: &LaunchSpec) -> Option<Chosen> {
    let wanted = Wanted::new(Path::new(word)).ok().filter(|_| word.contains('/'))?;
    let description = ModelDescription {
        quantization: wanted.quantization().map(str::to_owned),
        model_engine: spec.engine.clone(),
        ..ModelDescription::unknown(ModelType::Llm, word, &["chat", "generate"])
    };
    let hub = spec.hub.as_deref().and_then(chosen::hub_kind);
    Some(Chosen { description, files: Files::OnHubs { wanted, hub, revision: None } })
}

/// An encoder: a user's own, or OWNER/NAME on a hub.
fn encoder(own: &Own, spec: &LaunchSpec) -> Result<Chosen, String> {
    let is_on = |hub: &str| spec.hub.as_deref().is_none_or(|wanted| wanted == hub);
    let known = own.encoder(spec.model_type, &spec.name);
    let (languages, word) = match known {
        None if spec.name.contains('/') => (Vec::new(), spec.name.clone()),
        None => {
            let name = Escaped(&spec.name);
            return Err(format!(
                "no encoder is called {name:.60}; register one, or name OWNER/NAME on a hub or model_path"
            ));
        }
        Some(encoder) => {
            let languages = encoder.language.clone();
            let uri = encoder.model_specs.iter().find_map(|files| files.model_uri.as_deref());
            if let Some(uri) = uri {
                let path = PathBuf::from(uri.strip_prefix("file://").unwrap_or(uri));
                let found = at_path(&path, spec)?;
                let description = ModelDescription { model_lang: languages, ..found.description };
                return Ok(Chosen { description, ..found });
            }
            let files = encoder.model_specs.iter().find(|files| is_on(&files.model_hub));
            let id = files.and_then(|files| files.model_id.clone());
            (languages, id.ok_or_else(|| format!("{} is not on that hub", Escaped(&spec.name)))?)
        }
    };
    let wanted = Wanted::new(Path::new(&word)).map_err(|error| format!("{error:#}"))?;
    let hub = spec.hub.as_deref().and_then(chosen::hub_kind);
    let description = ModelDescription {
        model_lang: languages,
        model_format: Some("pytorch".to_owned()),
        quantization: Some(chosen::NONE.to_owned()),
        model_hub: spec.hub.clone(),
        model_engine: spec.engine.clone(),
        ..ModelDescription::unknown(spec.model_type, &spec.name, &[spec.model_type.ability()])
    };
    Ok(Chosen { description, files: Files::OnHubs { wanted, hub, revision: None } })
}

impl Launcher for NamedModels {
    fn resolve(&self, spec: LaunchSpec) -> Result<Box<dyn Launch>, LaunchError> {
        let Chosen { description, files } = self.chosen(&spec).map_err(LaunchError::Invalid)?;
        let quantize = description.quantization.as_deref().and_then(chosen::on_load);
        let settings = Arc::clone(&self.settings);
        Ok(Box::new(Opening { description, files, quantize, spec, settings }))
    }

    fn registrations(&self, kind: ModelType) -> Result<Vec<Registration>, LaunchError> {
        let terminal = &self.settings.terminal;
        self.with_own(|own| match kind {
            ModelType::Llm => forms::registrations(&own.catalogue, terminal).map_err(invalid),
            encoders => Ok(own.encoders(encoders).map(forms::of_encoder).collect()),
        })
    }

    fn register(&self, kind: ModelType, model: &str, persist: bool) -> Result<(), LaunchError> {
        self.change(|own| match kind {
            ModelType::Llm => own.register(model, persist),
            encoders => own.register_encoder(encoders, model, persist),
        })
    }

    fn unregister(&self, kind: ModelType, name: &str) -> Result<(), LaunchError> {
        self.change(|own| match kind {
            ModelType::Llm => own.unregister(name),
            encoders => own.unregister_encoder(encoders, name),
        })
    }

    fn engines(&self, kind: ModelType, name: &str) -> Result<BTreeMap<String, Vec<EngineForm>>, LaunchError> {
        self.with_own(|own| match kind {
            ModelType::Llm => forms::engines(&own.catalogue, name),
            encoders => forms::encoder_engines(own, encoders, name),
        })
        .map_err(LaunchError::Invalid)
    }

    fn cached(&self, name: Option<&str>) -> Result<Vec<CachedModel>, LaunchError> {
        self.with_own(|own| forms::cached(&own.catalogue, name, &self.settings.terminal)).map_err(invalid)
    }

    fn remove_cached(&self, version: &str) -> Result<bool, LaunchError> {
        self.with_own(|own| forms::remove_cached(&own.catalogue, version, &self.settings.terminal))
            .map_err(invalid)
    }
}
