//! A model that was chosen, on its way to its files and to the registry.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;

use glimmer::{ContextLength, DeviceKind, KnownModel, ModelKind, Quantization, Source};
use glimmer_server::{Gpus, Launch, LaunchError, LaunchSpec, LaunchWatch, ModelDescription, ModelType};

use super::chosen::Files;
use crate::args::HubArgs;
use crate::hubs::{Hubs, NotAccepted, Onlooker};
use crate::served::{Settings, known, known_encoder};

/// How a licence is accepted by somebody who launches a model.
const ACCEPTING: &str = "`glimmer launch --accept-licence`, or \"accept_licence\": true,";

/// A model that is to be opened.
pub(super) struct Opening {
    pub(super) description: ModelDescription,
    pub(super) files: Files,
    pub(super) quantize: Option<Quantization>,
    pub(super) spec: LaunchSpec,
    pub(super) settings: Arc<Settings>,
}

impl Launch for Opening {
    fn description(&self) -> ModelDescription {
        self.description.clone()
    }

    fn here(&self, names: Vec<String>) -> Option<KnownModel> {
        let path = match &self.files {
            Files::Here(path) => path.clone(),
            Files::OnHubs { wanted, revision, .. } => {
                let hubs = Hubs::of_environment(&self.settings.terminal).ok()?;
                hubs.cached(wanted, revision.as_deref())?.model
            }
        };
        Some(self.known(self.named(path), names))
    }

    fn fetch(&self, names: Vec<String>, watch: &dyn LaunchWatch) -> Result<KnownModel, LaunchError> {
        let source = self.source(watch).map_err(|error| match error.downcast::<NotAccepted>() {
            Ok(licence) => LaunchError::Licence(licence.to_string()),
            Err(_) if watch.cancelled() => LaunchError::Cancelled,
            Err(error) => LaunchError::Failed(format!("{error:#}")),
        })?;
        Ok(self.known(source, names))
    }
}

impl Opening {
    /// A model that stays until it is terminated, or another needs its room.
    fn known(&self, source: Source, names: Vec<String>) -> KnownModel {
        match self.spec.model_type {
            ModelType::Llm => known(source, names, None, &Arc::new(self.settings())),
            ModelType::Embedding => known_encoder(source, ModelKind::Vectors, names, None),
            ModelType::Rerank => known_encoder(source, ModelKind::Scores, names, None),
        }
    }

    fn named(&self, path: PathBuf) -> Source {
        Source::Named { path, name: self.description.model_name.clone() }
    }

    /// The files, which are fetched where they are not here.
    fn source(&self, watch: &dyn LaunchWatch) -> anyhow::Result<Source> {
        let path = match &self.files {
            Files::Here(path) => path.clone(),
            Files::OnHubs { wanted, hub, revision } => {
                let mut args = HubArgs::of_environment()?;
                args.hub = hub.or(args.hub);
                args.accept_licence |= self.spec.accepts_licence;
                let hubs = Hubs::new(&args, &self.settings.terminal)?.accepting_by(ACCEPTING);
                let revision = revision.as_deref();
                match hubs.cached(wanted, revision) {
                    Some(pulled) => pulled.model,
                    None => {
                        hubs.pull(wanted, revision, None, &OfLaunch { watch, bytes: Cell::default() })?.model
                    }
                }
            }
        };
        Ok(self.named(path))
    }

    /// The operator's settings, with what this launch wants otherwise.
    fn settings(&self) -> Settings {
        let mut own = self.settings.as_ref().clone();
        match self.spec.gpus {
            Gpus::Auto => {}
            Gpus::Count(0) => (own.device.device, own.device.gpu_layers) = (DeviceKind::Cpu, None),
            Gpus::Count(_) => own.device.device = DeviceKind::Cuda,
        }
        own.device.quantize = self.quantize.or(own.device.quantize);
        own.served.ctx = self.spec.context.map(ContextLength::Tokens).or(own.served.ctx);
        // A replica is room for one more conversation of full length.
        own.conversations = own.conversations.max(self.spec.replica);
        own.served.parallel = own.served.parallel.max(self.spec.replica);
        if let Some(most) = self.spec.request_limits {
            own.served.parallel = own.served.parallel.min(most);
            own.served.queue = most - own.served.parallel;
        }
        own
    }
}

/// A client that waits for files.
struct OfLaunch<'a> {
    watch: &'a dyn LaunchWatch,
    /// All that are to be there.
    bytes: Cell<u64>,
}

impl Onlooker for OfLaunch<'_> {
    fn note(&self, text: &str) {
        self.watch.note(text);
    }

    fn accepts(&self, _licence: &str) -> Option<bool> {
        None
    }

    fn begins(&self, bytes: u64) {
        self.bytes.set(bytes);
    }

    fn progress(&self, done: u64) {
        self.watch.progress(done, self.bytes.get());
    }

    fn cancelled(&self) -> bool {
        self.watch.cancelled()
    }
}
