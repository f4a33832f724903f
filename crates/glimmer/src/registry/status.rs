//! What can be seen of a registry.

use std::sync::Arc;
use std::time::Duration;

use glimmer_engine::Statistics;

use super::ModelKind;
use super::state::{Entry, Place};

/// Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedMemory {
    /// What models hold, or are going to when they are loaded.
    pub held: u64,
    /// What they may hold together.
    pub limit: u64,
}

/// A model, as it is now.
#[derive(Clone, Debug)]
pub struct ModelStatus {
    /// What it is called.
    pub names: Vec<String>,
    /// What it makes.
    pub kind: ModelKind,
    /// When its files were made, in seconds since 1970; 0 where nobody knows.
    pub created: u64,
    /// Where it is.
    pub state: ModelState,
    /// Bytes that it holds or is going to.
    pub memory: u64,
    /// How long it stays from now on if nobody uses it; without an end, until another needs its room.
    pub stays: Option<Duration>,
    /// Who uses it.
    pub users: usize,
    /// Who waits for it.
    pub waiting: usize,
    /// How often it was loaded.
    pub loads: u64,
    /// How often it was let go of.
    pub unloads: u64,
    /// How often it could not be loaded.
    pub failures: u64,
    /// Time of all loads together, their failures included.
    pub load_time: Duration,
    /// What its engines have done, those before the one of now included.
    pub statistics: Statistics,
}

/// Where a model is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelState {
    /// In its files.
    Unloaded,
    /// On its way; 0 of 0 while others make room for it.
    Loading {
        /// Bytes of weights read.
        done: u64,
        /// All of them.
        total: u64,
    },
    /// In memory.
    Loaded,
    /// In its files, and could not be loaded.
    Failed {
        /// Why.
        why: Arc<str>,
    },
}

/// What happens to a model.
#[derive(Clone, Debug, PartialEq)]
pub enum Change<'a> {
    /// Somebody wants it, and it is the next to be loaded.
    Loading,
    /// It is there.
    Loaded {
        /// What it took, without waiting for room.
        time: Duration,
        /// Bytes that it holds.
        memory: u64,
    },
    /// It cannot be loaded.
    Failed {
        /// Why.
        why: &'a str,
    },
    /// It is let go of, and its memory is free.
    Unloaded,
}

impl ModelStatus {
    pub(super) fn of(entry: &Entry) -> Self {
        let mut statistics = entry.figures.past;
        let state = match &entry.place {
            Place::Unloaded => ModelState::Unloaded,
            Place::Loading { done, total, .. } => ModelState::Loading { done: *done, total: *total },
            Place::Loaded { loaded, .. } => {
                statistics = loaded.model.statistics().after(&statistics);
                ModelState::Loaded
            }
            Place::LettingGo { .. } => ModelState::Unloaded,
            Place::Failed { why, .. } => ModelState::Failed { why: Arc::clone(why) },
        };
        ModelStatus {
            names: entry.names.clone(),
            kind: entry.kind,
            created: entry.created,
            state,
            memory: entry.place.memory(),
            stays: entry.stay().map(|stay| match entry.users {
                0 => stay.saturating_sub(entry.last_used.elapsed()),
                _ => stay,
            }),
            users: entry.users,
            waiting: entry.waiting.len(),
            loads: entry.figures.loads,
            unloads: entry.figures.unloads,
            failures: entry.figures.failures,
            load_time: entry.figures.load_time,
            statistics,
        }
    }
}
