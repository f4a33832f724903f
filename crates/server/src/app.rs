//! What all requests share.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::extract::FromRef;
use glimmer::Registry;
use serde_json::Map;
use tokio::sync::Semaphore;

use crate::error::{ApiError, ServerError};
use crate::http::body::Bodies;
use crate::http::hosts::Hosts;
use crate::http::keys::Keys;
use crate::kept::Kept;
use crate::launcher::Launcher;
use crate::models::instances::Instances;
use crate::models::made::MadeModels;
use crate::models::pictures::Pictures;
use crate::models::served::{EngineEnd, Models};
use crate::options::Options;
use crate::record::Record;
use crate::seal::Seal;

/// Models that are pulled at once.
const PULLS: usize = 8;

/// What all requests share.
pub(crate) struct App {
    pub(crate) options: Options,
    pub(crate) keys: Keys,
    pub(crate) hosts: Hosts,
    pub(crate) bodies: Bodies,
    pub(crate) record: Arc<Record>,
    pub(crate) seal: Seal,
    pub(crate) kept: Kept,
    pub(crate) pictures: Pictures,
    models: OnceLock<Models>,
    launcher: OnceLock<Arc<dyn Launcher>>,
    pub(crate) instances: Instances,
    /// Models that clients made of others.
    pub(crate) made: MadeModels,
    /// Models that may be pulled at once.
    pub(crate) pulls: Arc<Semaphore>,
    address: Option<SocketAddr>,
    start: Instant,
    pub(crate) engine_end: EngineEnd,
    /// Held by whoever measures this machine.
    pub(crate) measuring: tokio::sync::Mutex<()>,
    is_draining: AtomicBool,
    random: RandomState,
    counter: AtomicU64,
}

impl App {
    /// Of a server that listens at `address`, if it listens.
    pub(crate) fn new(options: Options, address: Option<SocketAddr>) -> Result<Arc<Self>, ServerError> {
        let (seal, trouble) = Seal::open(options.seal_key.as_deref())?;
        let record = Arc::new(Record::open(&options)?);
        if let Some(why) = trouble {
            record.log.line("no seal key is kept", Map::from_iter([("error".to_owned(), why.into())]));
        }
        Ok(Arc::new(App {
            keys: Keys::open(options.api_keys.as_deref())?,
            hosts: Hosts::new(&options, address),
            bodies: Bodies::new(&options.limits),
            record,
            seal,
            kept: Kept::new(options.limits.responses),
            pictures: Pictures::new(options.fetch_picture),
            models: OnceLock::new(),
            launcher: OnceLock::new(),
            instances: Instances::default(),
            made: MadeModels::default(),
            pulls: Arc::new(Semaphore::new(PULLS)),
            address,
            start: Instant::now(),
            engine_end: EngineEnd::default(),
            measuring: tokio::sync::Mutex::default(),
            is_draining: AtomicBool::new(false),
            random: RandomState::new(),
            counter: AtomicU64::new(0),
            options,
        }))
    }

    /// The models, once they are there.
    pub(crate) fn models(&self) -> Result<&Models, ApiError> {
        self.models.get().ok_or_else(ApiError::loading)
    }

    /// Who knows models by name, where clients may launch them.
    pub(crate) fn launcher(&self) -> Result<&Arc<dyn Launcher>, ApiError> {
        self.launcher.get().ok_or_else(ApiError::no_launching)
    }

    /// Lets clients launch models.
    pub(crate) fn launch_with(&self, launcher: Arc<dyn Launcher>) {
        // There is one caller, and it calls once.
        let _ = self.launcher.set(launcher);
    }

    /// Where the server listens.
    pub(crate) fn address(&self) -> String {
        self.address.map_or_else(String::new, |address| address.to_string())
    }

    /// For how long it has been there.
    pub(crate) fn uptime(&self) -> Duration {
        self.start.elapsed()
    }

    /// Begins to answer.
    pub(crate) fn ready(&self, registry: Registry) {
        let record = self.record.clone();
        registry.observe(Box::new(move |name, change| record.model(name, change)));
        // There is one caller, and it calls once.
        let _ = self.models.set(Models::new(registry, &self.options, self.engine_end.clone()));
    }

    /// Ends what can be ended; whoever asks is told not to come any more.
    pub(crate) fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// Another number each time, which nobody can foresee: names of answers, seeds.
    pub(crate) fn random(&self) -> u64 {
        self.random.hash_one(self.counter.fetch_add(1, Ordering::Relaxed))
    }
}

impl FromRef<Arc<App>> for Bodies {
    fn from_ref(app: &Arc<App>) -> Self {
        app.bodies.clone()
    }
}
