//! Models that were launched by a client, or are on their way: how far each is, what went wrong, and what happened.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::watch;

use crate::clock::now;
use crate::launcher::{LaunchError, LaunchWatch, ModelDescription};

/// Launches at once, events of one, and failed ones that are remembered.
const LAUNCHES: usize = 8;
const EVENTS: usize = 100;
const FAILURES: usize = 100;

/// The part of a launch that fetching files is; the rest is loading.
pub(crate) const DOWNLOAD: f64 = 0.8;

/// All of them, by uid.
#[derive(Default)]
pub(crate) struct Instances(Mutex<BTreeMap<String, Arc<Instance>>>);

/// A model that was launched, or is on its way.
pub(crate) struct Instance {
    pub(crate) uid: String,
    pub(crate) description: ModelDescription,
    /// Conversations of full length that it has room for.
    pub(crate) replica: usize,
    /// Seconds since 1970.
    pub(crate) created: u64,
    state: watch::Sender<State>,
    events: Mutex<VecDeque<Event>>,
}

/// Where a launch is.
#[derive(Clone, Debug)]
pub(crate) enum State {
    /// Its files are fetched; how many of them are here, of 1.
    Downloading(f64),
    /// The registry knows it, and loads it.
    Loading,
    Ready,
    Failed(LaunchError),
    /// Stopped, or terminated when it was ready.
    Ended,
}

/// Something that happened to a model.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Event {
    event_type: &'static str,
    /// Seconds since 1970.
    event_ts: u64,
    event_content: String,
}

/// Why a launch does not begin.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Another has this uid.
    Taken(String),
    /// So many are on their way.
    TooMany(usize),
}

impl Instances {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Instance>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a launch. One that failed under this uid is forgotten.
    pub(crate) fn begin(
        &self,
        uid: String,
        description: ModelDescription,
        replica: usize,
    ) -> Result<Arc<Instance>, Refused> {
        let mut all = self.lock();
        if all.get(&uid).is_some_and(|other| !other.has_failed()) {
            return Err(Refused::Taken(uid));
        }
        if all.values().filter(|other| other.is_launching()).count() >= LAUNCHES {
            return Err(Refused::TooMany(LAUNCHES));
        }
        let failed: Vec<_> = all.values().filter(|other| other.has_failed()).cloned().collect();
        if failed.len() >= FAILURES
            && let Some(oldest) = failed.iter().min_by_key(|other| other.created)
        {
            all.remove(&oldest.uid);
        }
        let state = watch::Sender::new(State::Downloading(0.0));
        let events = Mutex::default();
        let instance =
            Arc::new(Instance { uid: uid.clone(), description, replica, created: now(), state, events });
        all.insert(uid, Arc::clone(&instance));
        Ok(instance)
    }

    /// Goes on with a launch, unless it was stopped meanwhile: `next` takes what the last step came to. Returns where it is now.
    pub(crate) fn go_on<T>(
        &self,
        instance: &Instance,
        result: Result<T, LaunchError>,
        next: impl FnOnce(T) -> Result<State, LaunchError>,
    ) -> State {
        // Nobody can stop it while this is held.
        let _all = self.lock();
        if !instance.cancelled() {
            instance.state.send_replace(result.and_then(next).unwrap_or_else(State::Failed));
        }
        instance.state()
    }

    /// Takes one out, whatever its state, and stops it where it is on its way.
    pub(crate) fn end(&self, uid: &str) -> Option<Arc<Instance>> {
        let mut all = self.lock();
        let instance = all.remove(uid)?;
        instance.state.send_replace(State::Ended);
        Some(instance)
    }

    /// The one of this uid.
    pub(crate) fn find(&self, uid: &str) -> Option<Arc<Instance>> {
        self.lock().get(uid).cloned()
    }

    /// All, by uid.
    pub(crate) fn all(&self) -> Vec<Arc<Instance>> {
        self.lock().values().cloned().collect()
    }
}

impl Instance {
    /// Where it is.
    pub(crate) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    pub(crate) fn is_launching(&self) -> bool {
        matches!(*self.state.borrow(), State::Downloading(_) | State::Loading)
    }

    /// Whether it is there only to say why it failed.
    pub(crate) fn has_failed(&self) -> bool {
        matches!(*self.state.borrow(), State::Failed(_))
    }

    /// Waits until it is on its way no more.
    pub(crate) async fn settled(&self) -> State {
        let mut state = self.state.subscribe();
        // The sender is here.
        let _ = state.wait_for(|state| !matches!(state, State::Downloading(_) | State::Loading)).await;
        self.state()
    }

    /// Notes what happened.
    pub(crate) fn happened(&self, event_type: &'static str, event_content: String) {
        let event_ts = now();
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() == EVENTS {
            events.pop_front();
        }
        events.push_back(Event { event_type, event_ts, event_content });
    }

    /// What happened, the latest last.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

impl LaunchWatch for Instance {
    fn progress(&self, done: u64, total: u64) {
        let part = if total == 0 { 0.0 } else { (done as f64 / total as f64).min(1.0) };
        self.state.send_if_modified(|state| match state {
            State::Downloading(before) => {
                *before = part;
                true
            }
            _ => false,
        });
    }

    fn note(&self, text: &str) {
        self.happened("INFO", text.to_owned());
    }

    fn cancelled(&self) -> bool {
        matches!(*self.state.borrow(), State::Ended)
    }
}
