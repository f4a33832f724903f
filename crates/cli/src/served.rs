//! The models that `serve`, `local` and `batch` know: how each is opened, and where further ones are found.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use glimmer::{
    Compute, ContextLength, Embedder, Error, KnownModel, LeaseError, Limits, LoadedModel, ModelFacts,
    ModelFiles, ModelKind, ModelText, OpenError, Opener, Overrides, Prepared, Progress, Registry,
    RegistryLimits, Reranker, Shelf, Source, is_mmproj, serving_step_tokens,
};

use crate::args::{DeviceArgs, ServedArgs};
use crate::model::{DEMO_LABEL, context, device, draft, draft_device, load_placed, place, spec, with_draft};
use crate::output::size;
use crate::terminal::Terminal;

/// How models are served, whichever they are.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) served: ServedArgs,
    pub(crate) device: DeviceArgs,
    /// Conversations of full length that a model's cache holds.
    pub(crate) conversations: usize,
    pub(crate) terminal: Terminal,
}

impl Settings {
    /// What all models may hold.
    fn limits(&self) -> RegistryLimits {
        let room = self.served.memory.or_else(|| self.device.options().room());
        RegistryLimits {
            memory: room.unwrap_or(u64::MAX),
            waiting: self.served.queue,
            ..RegistryLimits::default()
        }
    }

    fn overrides(&self) -> Overrides {
        let ServedArgs { family, chat_format, mmproj, .. } = &self.served;
        Overrides { family: *family, chat_format: *chat_format, mmproj: mmproj.clone() }
    }
}

/// A model that is loaded when somebody asks for it.
pub(crate) fn known(
    source: Source,
    names: Vec<String>,
    keep_alive: Option<Duration>,
    settings: &Arc<Settings>,
) -> KnownModel {
    let files = ModelFiles::new(source.clone(), settings.overrides());
    let (kind, created) = (files.kind(), files.created());
    if kind != ModelKind::Text {
        return known_encoder(source, kind, names, keep_alive);
    }
    let (name, settings) = (names[0].clone(), Arc::clone(settings));
    let opener = Arc::new(Writer { source, name, settings, has_told: AtomicBool::new(false) });
    KnownModel { names, kind, created, opener, keep_alive }
}

/// The same of a model that is to make vectors, or scores.
pub(crate) fn known_encoder(
    source: Source,
    kind: ModelKind,
    names: Vec<String>,
    keep_alive: Option<Duration>,
) -> KnownModel {
    let created = ModelFiles::new(source.clone(), Overrides::default()).created();
    let opener = Arc::new(Encoder { source, is_reranker: kind == ModelKind::Scores });
    KnownModel { names, kind, created, opener, keep_alive }
}

/// Opens a model that writes text.
struct Writer {
    source: Source,
    name: String,
    settings: Arc<Settings>,
    /// Whether it was opened before: what is odd about it has been told then.
    has_told: AtomicBool,
}

impl Writer {
    fn prepare(&self) -> anyhow::Result<Prepared> {
        let Settings { served, device: device_args, conversations, terminal } = self.settings.as_ref();
        let has_told = self.has_told.swap(true, Ordering::Relaxed);
        let terminal = if has_told { terminal.muted() } else { terminal.clone() };
        let files = ModelFiles::new(self.source.clone(), self.settings.overrides());
        files.tokenizer()?;
        let draft = draft(served.draft.as_deref(), &files, &terminal)?;
        match ModelText::read(&files)?.chat() {
            // A model that continues text is served without conversations.
            Err(error) if error.is_unknown_format() => {
                let name = &self.name;
                terminal.note(&format!("{name}: nothing tells the chat format; only text is continued"));
            }
            result => drop(result?),
        }
        let spec = spec(&files, &terminal)?;
        let context = context(served.ctx, spec, &terminal);
        let device = device(device_args, Compute::Auto, &terminal)?;
        let step_tokens = served.step_tokens.unwrap_or_else(|| serving_step_tokens(spec, device.kind));
        let limits = Limits {
            context: ContextLength::Tokens(context),
            cache_tokens: Some(served.cache_tokens.unwrap_or(context.saturating_mul(*conversations))),
            step_tokens: Some(step_tokens),
            running: served.parallel,
            waiting: served.queue,
            ..Limits::default()
        };
        let capacity = limits.capacity(spec, device.kind);
        let mut memory = device.needed(&files, capacity)?.total() as u64;
        if let Some(draft) = &draft {
            memory += draft_device(device_args, &terminal)?.needed(draft, capacity)?.total() as u64;
        }
        let device_args = device_args.clone();
        let open = move |progress: &mut dyn FnMut(Progress<'_>)| {
            let placement = place(&files, device, capacity, &terminal)?;
            let model = load_placed(&files, placement, &terminal, progress)?;
            let model = with_draft(model, draft.as_ref(), &device_args, capacity, &terminal)?;
            let engine = model.start(&limits)?;
            if files.source().is_demo() {
                terminal.note(DEMO_LABEL);
            }
            Ok(LoadedModel::Engine(engine))
        };
        Ok(Prepared { memory, open: Box::new(open) })
    }
}

impl Opener for Writer {
    fn prepare(&self) -> Result<Prepared, OpenError> {
        Ok(Writer::prepare(self)?)
    }

    fn facts(&self) -> Result<ModelFacts, OpenError> {
        Ok(ModelFacts::read(&ModelFiles::new(self.source.clone(), self.settings.overrides()))?)
    }
}

/// Opens a model that makes vectors, or scores.
struct Encoder {
    source: Source,
    is_reranker: bool,
}

impl Opener for Encoder {
    fn prepare(&self) -> Result<Prepared, OpenError> {
        let (source, is_reranker) = (self.source.clone(), self.is_reranker);
        let memory = match is_reranker {
            true => Reranker::needed(source.clone())?,
            false => Embedder::needed(source.clone())?,
        };
        let open = move |_: &mut dyn FnMut(Progress<'_>)| {
            Ok(match is_reranker {
                true => LoadedModel::Reranker(Reranker::open(source)?),
                false => LoadedModel::Embedder(Embedder::open(source)?),
            })
        };
        Ok(Prepared { memory, open: Box::new(open) })
    }

    fn facts(&self) -> Result<ModelFacts, OpenError> {
        Ok(ModelFacts::read(&ModelFiles::new(self.source.clone(), Overrides::default()))?)
    }
}

/// A directory of models.
pub(crate) struct Directory {
    path: PathBuf,
    keep_alive: Option<Duration>,
    settings: Arc<Settings>,
}

impl Directory {
    /// The one at this path.
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn open(
        path: &Path,
        keep_alive: Option<Duration>,
        settings: &Arc<Settings>,
    ) -> anyhow::Result<Self> {
        if !path.is_dir() {
            return Err(Error::NotFound(path.to_owned()).into());
        }
        Ok(Directory { path: path.to_owned(), keep_alive, settings: Arc::clone(settings) })
    }
}

impl Shelf for Directory {
    fn models(&self) -> Vec<KnownModel> {
        let entries = std::fs::read_dir(&self.path).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        let known = |(name, path): (String, PathBuf)| {
            let source = Source::Named { path, name: name.clone() };
            known(source, vec![name], self.keep_alive, &self.settings)
        };
        paths.into_iter().filter_map(model_at).map(known).collect()
    }
}

/// The model at a path, with its name: a directory in Hugging Face layout, or a GGUF, of a split one the first part.
fn model_at(path: PathBuf) -> Option<(String, PathBuf)> {
    let name = path.file_name()?.to_str()?.to_owned();
    let Some(stem) = name.strip_suffix(".gguf") else {
        return path.join("config.json").is_file().then_some((name, path));
    };
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let part = stem.rsplit_once("-of-").filter(|(_, count)| is_number(count));
    let part = part.and_then(|(before, _)| before.rsplit_once('-')).filter(|(_, number)| is_number(number));
    let name = match part {
        None => stem,
        Some((name, "00001")) => name,
        Some(_) => return None,
    };
    let is_model = !name.is_empty() && !is_mmproj(&path) && path.is_file();
    is_model.then_some((name.to_owned(), path))
}

/// Opens a registry of these models: the first is loaded now, and the others as long as there is room for them.
pub(crate) fn open(
    models: Vec<KnownModel>,
    shelf: Option<Directory>,
    settings: &Settings,
) -> anyhow::Result<Registry> {
    let terminal = &settings.terminal;
    let limits = settings.limits();
    let registry = Registry::new(limits);
    let names: Vec<String> = models.iter().map(|model| model.names[0].clone()).collect();
    models.into_iter().try_for_each(|model| registry.know(model))?;
    let is_one = names.len() < 2 && shelf.is_none();
    if let Some(shelf) = shelf {
        registry.look_in(Box::new(shelf));
    }
    if limits.memory < u64::MAX && (!is_one || settings.served.memory.is_some()) {
        let room = size(limits.memory);
        terminal.note(&format!("models may hold {room} together; --memory sets another limit"));
    }
    for (number, name) in names.iter().enumerate() {
        load_now(&registry, name, number == 0, settings)?;
    }
    Ok(registry)
}

/// Loads a model that was named where there is room for it.
fn load_now(registry: &Registry, name: &str, is_first: bool, settings: &Settings) -> anyhow::Result<()> {
    let terminal = &settings.terminal;
    let load = || registry.lease_beside_others(name)?.wait().map(drop);
    let result = match load() {
        // Whoever sets no limit gets the model that was named, though the system may have to swap for it.
        Err(LeaseError::TooLarge { needed, limit }) if is_first && settings.served.memory.is_none() => {
            terminal.warn(&format!("{name} needs {}, and {} are free", size(needed), size(limit)));
            registry.set_memory(needed);
            load()
        }
        result => result,
    };
    match result {
        Err(LeaseError::Failed { why, .. }) => anyhow::bail!("{why}"),
        Err(LeaseError::NoRoom { needed, free }) => {
            let (needs, free) = (size(needed), size(free));
            let when = "it is loaded when it is asked for, in the place of others";
            terminal.note(&format!("{name} needs {needs}, and {free} are left: {when}"));
            Ok(())
        }
        result => result.with_context(|| name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_called_as_their_files() {
        let directory = tempfile::tempdir().unwrap();
        for name in [
            "b.gguf",
            "mmproj-b.gguf",
            "a-00001-of-00002.gguf",
            "a-00002-of-00002.gguf",
            "c-of-2.gguf",
            "d.txt",
            ".gguf",
        ] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        for name in ["e", "f", "g.gguf"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        std::fs::write(directory.path().join("e/config.json"), "{}").unwrap();
        let entries = std::fs::read_dir(directory.path()).unwrap();
        let found = entries.filter_map(|entry| Some(model_at(entry.unwrap().path())?.0));
        let mut found: Vec<String> = found.collect();
        found.sort();
        assert_eq!(found, ["a", "b", "c-of-2", "e"]);
    }
}
