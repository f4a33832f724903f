//! What a registry knows of each model, and what follows from it. Nothing here waits or loads.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use glimmer_engine::Statistics;

use super::lease::Slot;
use super::{KnownModel, LeaseError, Loaded, ModelKind, Opener, RegistryLimits};
use crate::Error;

/// All models.
#[derive(Default)]
pub(super) struct State {
    pub(super) limits: RegistryLimits,
    /// In the order in which they became known; those that were removed until nobody uses them.
    models: Vec<Entry>,
    /// Those that somebody waits for, in the order in which they were asked for.
    pub(super) wanted: VecDeque<u64>,
    last_id: u64,
    pub(super) is_started: bool,
    pub(super) is_ending: bool,
}

/// A model.
pub(super) struct Entry {
    pub(super) id: u64,
    pub(super) names: Vec<String>,
    pub(super) kind: ModelKind,
    /// When its files were made, in seconds since 1970; 0 where nobody knows.
    pub(super) created: u64,
    /// None of one that was loaded when it came: it stays.
    pub(super) opener: Option<Arc<dyn Opener>>,
    keep_alive: Option<Duration>,
    /// How long it stays by the wish of somebody who has used it, as long as it is loaded.
    wished: Option<Option<Duration>>,
    /// Whether it is known from the shelf alone.
    is_shelved: bool,
    pub(super) is_removed: bool,
    pub(super) place: Place,
    pub(super) waiting: Vec<Arc<Slot>>,
    pub(super) users: usize,
    pub(super) last_used: Instant,
    pub(super) figures: Figures,
}

/// Where a model is.
pub(super) enum Place {
    Unloaded,
    Loading {
        memory: u64,
        done: u64,
        total: u64,
    },
    Loaded {
        loaded: Arc<Loaded>,
        memory: u64,
        /// Until then it serves those who come, even where another is wanted: it has taken as long to come.
        stays_until: Instant,
        /// Another needs its room: who comes now waits for it to come again.
        is_leaving: bool,
    },
    /// Its memory is not free yet.
    LettingGo {
        memory: u64,
    },
    Failed {
        why: Arc<str>,
        until: Instant,
    },
}

impl Place {
    /// Bytes that are held or are going to be.
    pub(super) fn memory(&self) -> u64 {
        match self {
            Place::Loading { memory, .. } | Place::Loaded { memory, .. } | Place::LettingGo { memory } => {
                *memory
            }
            Place::Unloaded | Place::Failed { .. } => 0,
        }
    }
}

/// A model that is being loaded.
pub(super) struct Begun {
    pub(super) id: u64,
    pub(super) names: Vec<String>,
    pub(super) opener: Arc<dyn Opener>,
}

/// Why a model was not loaded.
pub(super) enum Failure {
    /// Nobody waits for it any more.
    NotWanted,
    /// There is no room for it.
    Refused(LeaseError),
    /// It cannot be opened.
    Broken(String),
}

/// What has happened to a model.
#[derive(Default)]
pub(super) struct Figures {
    pub(super) loads: u64,
    pub(super) unloads: u64,
    pub(super) failures: u64,
    pub(super) load_time: Duration,
    /// Of the engines that were let go of.
    pub(super) past: Statistics,
}

impl Entry {
    pub(super) fn loaded(loaded: Loaded) -> Self {
        let (names, kind) = (loaded.names.clone(), loaded.model.kind());
        let memory = loaded.model.memory();
        let (loaded, stays_until) = (Arc::new(loaded), Instant::now());
        let place = Place::Loaded { loaded, memory, stays_until, is_leaving: false };
        Entry { opener: None, place, ..Entry::new(names, kind) }
    }

    pub(super) fn known(model: KnownModel, is_shelved: bool) -> Self {
        let KnownModel { names, kind, created, opener, keep_alive } = model;
        Entry { created, opener: Some(opener), keep_alive, is_shelved, ..Entry::new(names, kind) }
    }

    fn new(names: Vec<String>, kind: ModelKind) -> Self {
        Entry {
            id: 0,
            names,
            kind,
            created: 0,
            opener: None,
            keep_alive: None,
            wished: None,
            is_shelved: false,
            is_removed: false,
            place: Place::Unloaded,
            waiting: Vec::new(),
            users: 0,
            last_used: Instant::now(),
            figures: Figures::default(),
        }
    }

    pub(super) fn name(&self) -> &str {
        self.names.first().map_or("model", String::as_str)
    }

    pub(super) fn is_loaded(&self) -> bool {
        matches!(self.place, Place::Loaded { .. })
    }

    /// Whether it is in its files and nothing is under way.
    fn is_away(&self) -> bool {
        matches!(self.place, Place::Unloaded | Place::Failed { .. })
    }

    /// Whether it could be let go of at once. Those that wait for it to come again wait in any case.
    fn is_idle(&self) -> bool {
        self.is_loaded() && self.users == 0
    }

    /// Whether its room may be had for another.
    fn may_go(&self) -> bool {
        self.opener.is_some() || self.is_removed
    }

    /// When it goes because nobody uses it.
    fn expiry(&self) -> Option<Instant> {
        if !self.is_idle() {
            return None;
        }
        if self.is_removed { Some(self.last_used) } else { self.last_used.checked_add(self.stay()?) }
    }

    /// How long it stays when nobody uses it. What nobody could load again stays.
    pub(super) fn stay(&self) -> Option<Duration> {
        self.opener.as_ref().and(self.wished.unwrap_or(self.keep_alive))
    }

    /// Has it stay so long, if it is loaded.
    pub(super) fn wish(&mut self, keep_alive: Option<Duration>) {
        self.wished = self.is_loaded().then_some(keep_alive);
    }

    /// Takes the model out, to be dropped where that may take long; `None` where somebody uses it.
    pub(super) fn let_go(&mut self) -> Option<Arc<Loaded>> {
        if self.users > 0 {
            return None;
        }
        let Place::Loaded { loaded, memory, .. } = &self.place else { return None };
        let (loaded, memory) = (Arc::clone(loaded), *memory);
        self.place = Place::LettingGo { memory };
        self.wished = None;
        self.figures.unloads += 1;
        self.figures.past = loaded.model.statistics().after(&self.figures.past).of_the_past();
        Some(loaded)
    }

    /// Takes the model in.
    pub(super) fn arrive(&mut self, loaded: Loaded, planned: u64, stays_until: Instant) {
        self.figures.loads += 1;
        self.last_used = Instant::now();
        self.kind = loaded.model.kind();
        let memory = loaded.model.memory().max(planned);
        self.place = Place::Loaded { loaded: Arc::new(loaded), memory, stays_until, is_leaving: false };
    }

    /// Tells those who wait why it does not come. Where that is not for others' sake, nobody tries again before `until`, and
    /// the reason is returned.
    pub(super) fn fail(&mut self, failure: Failure, until: Instant) -> Option<Arc<str>> {
        self.place = Place::Unloaded;
        let error = match failure {
            // Who has come since then has it tried again.
            Failure::NotWanted => return None,
            Failure::Refused(error) => error,
            Failure::Broken(why) => {
                let retry_after = until.saturating_duration_since(Instant::now());
                LeaseError::Failed { why: why.into(), retry_after }
            }
        };
        let why = match &error {
            LeaseError::Failed { why, .. } => Some(Arc::clone(why)),
            LeaseError::TooLarge { .. } => Some(error.to_string().into()),
            _ => None,
        };
        if let Some(why) = &why {
            self.figures.failures += 1;
            self.place = Place::Failed { why: Arc::clone(why), until };
        }
        for slot in std::mem::take(&mut self.waiting) {
            slot.put(Err(error.clone()));
        }
        why
    }

    fn set_leaving(&mut self, leaving: bool) {
        if let Place::Loaded { is_leaving, .. } = &mut self.place {
            *is_leaving = leaving;
        }
    }
}

impl State {
    /// Adds a model under an id of its own.
    pub(super) fn insert(&mut self, mut entry: Entry) -> Result<u64, Error> {
        if let Some(name) = entry.names.iter().find(|name| self.find(name).is_some()) {
            return Err(Error::NameTaken(name.clone()));
        }
        self.last_id += 1;
        entry.id = self.last_id;
        self.models.push(entry);
        Ok(self.last_id)
    }

    /// Those that were not removed.
    pub(super) fn known(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.models.iter_mut().filter(|entry| !entry.is_removed)
    }

    /// The one of this name.
    pub(super) fn find(&mut self, name: &str) -> Option<&mut Entry> {
        self.known().find(|entry| entry.names.iter().any(|known| known == name))
    }

    /// The one of an id, which lives as long as somebody uses it or it is on its way.
    pub(super) fn entry(&mut self, id: u64) -> &mut Entry {
        self.models.iter_mut().find(|entry| entry.id == id).expect("a model that is used is known")
    }

    /// Takes a model out of what is known.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        let Some(entry) = self.find(name) else { return false };
        entry.is_removed = true;
        for slot in std::mem::take(&mut entry.waiting) {
            slot.put(Err(LeaseError::Removed));
        }
        self.forget_removed();
        true
    }

    /// Forgets those that were removed and hold nothing.
    pub(super) fn forget_removed(&mut self) {
        self.models.retain(|entry| !entry.is_removed || !entry.is_away());
    }

    /// What is on the shelf is known, and what was there and is in its files alone is not any more.
    pub(super) fn shelve(&mut self, found: Vec<KnownModel>) {
        for entry in self.models.iter_mut().filter(|entry| entry.is_shelved && entry.waiting.is_empty()) {
            // One whose memory is being freed is away to everybody but the loader.
            let is_away = entry.is_away() || matches!(entry.place, Place::LettingGo { .. });
            entry.is_removed |= is_away && !found.iter().any(|model| model.names == entry.names);
        }
        self.forget_removed();
        for model in found {
            // A name that is taken means the one that has it.
            let _ = self.insert(Entry::known(model, true));
        }
    }

    /// Queues somebody for a model that is not there.
    pub(super) fn wait_for(
        &mut self,
        id: u64,
        may_evict: bool,
        now: Instant,
    ) -> Result<Arc<Slot>, LeaseError> {
        let most = self.limits.waiting;
        let entry = self.entry(id);
        if let Place::Failed { why, until } = &entry.place {
            let (why, retry_after) = (Arc::clone(why), until.saturating_duration_since(now));
            if !retry_after.is_zero() {
                return Err(LeaseError::Failed { why, retry_after });
            }
        }
        if entry.waiting.len() >= most {
            return Err(LeaseError::Full { waiting: entry.waiting.len() });
        }
        let slot = Slot::new(may_evict);
        entry.waiting.push(Arc::clone(&slot));
        if !self.wanted.contains(&id) {
            self.wanted.push_back(id);
        }
        Ok(slot)
    }

    /// Somebody does not wait any more, or has what was waited for.
    pub(super) fn give_up_waiting(&mut self, id: u64, slot: &Arc<Slot>) {
        if let Some(entry) = self.models.iter_mut().find(|entry| entry.id == id) {
            entry.waiting.retain(|other| !Arc::ptr_eq(other, slot));
        }
    }

    /// Bytes of all.
    pub(super) fn held(&self) -> u64 {
        self.models.iter().map(|entry| entry.place.memory()).fold(0, u64::saturating_add)
    }

    /// Bytes of those that never go for another.
    pub(super) fn pinned(&self) -> u64 {
        let pinned = self.models.iter().filter(|entry| !entry.may_go());
        pinned.map(|entry| entry.place.memory()).fold(0, u64::saturating_add)
    }

    /// Begins with the next of those that somebody waits for.
    pub(super) fn begin_next(&mut self) -> Option<Begun> {
        while let Some(id) = self.wanted.pop_front() {
            let Some(entry) = self.models.iter_mut().find(|entry| entry.id == id) else { continue };
            if let Some(opener) = entry.opener.clone()
                && entry.is_away()
                && !entry.waiting.is_empty()
            {
                entry.place = Place::Loading { memory: 0, done: 0, total: 0 };
                return Some(Begun { id, names: entry.names.clone(), opener });
            }
        }
        None
    }

    /// The one whose time without a user is over, and when that of the next is.
    pub(super) fn expired(&self, now: Instant) -> (Option<u64>, Option<Instant>) {
        let mut next: Option<(Instant, u64)> = None;
        for entry in &self.models {
            let expiry = if self.is_ending && entry.is_idle() { Some(now) } else { entry.expiry() };
            if let Some(at) = expiry
                && next.is_none_or(|(first, _)| at < first)
            {
                next = Some((at, entry.id));
            }
        }
        match next {
            Some((at, id)) if at <= now => (Some(id), None),
            next => (None, next.map(|(at, _)| at)),
        }
    }

    /// Of those that nobody uses and that may go, the one that was used longest ago.
    pub(super) fn least_recent_idle(&self) -> Option<u64> {
        let idle = self.models.iter().filter(|entry| entry.is_idle() && entry.may_go());
        idle.min_by_key(|entry| entry.last_used).map(|entry| entry.id)
    }

    /// Asks as many models to leave as hold `missing` bytes, those first that were used longest ago: nobody new is let to
    /// them. Returns when the next one has been here long enough to be asked.
    pub(super) fn ask_to_leave(&mut self, mut missing: u64, now: Instant) -> Option<Instant> {
        let mut busy: Vec<&mut Entry> =
            self.models.iter_mut().filter(|entry| entry.is_loaded() && entry.may_go()).collect();
        busy.sort_by_key(|entry| entry.last_used);
        let mut next = None;
        for entry in busy {
            if missing == 0 {
                break;
            }
            missing = missing.saturating_sub(entry.place.memory());
            let Place::Loaded { stays_until, is_leaving, .. } = &mut entry.place else { continue };
            if *stays_until <= now {
                *is_leaving = true;
            } else {
                next = next.into_iter().chain([*stays_until]).min();
            }
        }
        next
    }

    /// What could not be loaded may be tried again at once.
    pub(super) fn forget_failures(&mut self) {
        for entry in &mut self.models {
            if let Place::Failed { .. } = entry.place {
                entry.place = Place::Unloaded;
            }
        }
    }

    /// Nobody has to leave any more.
    pub(super) fn let_all_stay(&mut self) {
        self.models.iter_mut().for_each(|entry| entry.set_leaving(false));
    }

    /// Nobody is served any more.
    pub(super) fn send_away(&mut self) {
        for slot in self.models.iter_mut().flat_map(|entry| std::mem::take(&mut entry.waiting)) {
            slot.put(Err(LeaseError::Removed));
        }
    }

    /// Those that are there although somebody waits for them.
    pub(super) fn with_waiters(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.models.iter_mut().filter(|entry| entry.is_loaded() && !entry.waiting.is_empty())
    }
}
