//! The thread that loads models, one at a time, and lets go of them: whatever takes long happens here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::state::{Begun, Failure, Place, State};
use super::{Change, Lease, LeaseError, Loaded, OpenError, Prepared, Shared};
use crate::Progress;

/// The longest that a model stays because it has taken long to come.
const LONGEST_STAY: Duration = Duration::from_secs(10);

/// What is to be done next.
enum Act {
    LetGo(u64),
    Load(Begun),
    End,
}

impl Shared {
    /// Loads and lets go until the registry is dropped.
    pub(super) fn run(self: Arc<Self>) {
        loop {
            match self.next_act() {
                Act::LetGo(id) => self.let_go(id),
                Act::Load(begun) => self.load(&begun),
                Act::End => return,
            }
        }
    }

    fn next_act(&self) -> Act {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            let next = match state.expired(now) {
                (Some(id), _) => return Act::LetGo(id),
                (None, next) => next,
            };
            if state.is_ending {
                state.send_away();
                return Act::End;
            }
            if let Some(begun) = state.begin_next() {
                return Act::Load(begun);
            }
            state = self.wait_until(state, next, now);
        }
    }

    /// Waits for a change, or for this time.
    fn wait_until<'a>(
        &self,
        state: MutexGuard<'a, State>,
        at: Option<Instant>,
        now: Instant,
    ) -> MutexGuard<'a, State> {
        let time = at.map_or(Duration::MAX, |at| at.saturating_duration_since(now));
        self.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Frees the memory of a model that nobody uses.
    fn let_go(&self, id: u64) {
        let (loaded, name) = {
            let mut state = self.lock();
            let entry = state.entry(id);
            // Somebody may have come meanwhile.
            let Some(loaded) = entry.let_go() else { return };
            (loaded, entry.name().to_owned())
        };
        // An engine waits for its thread here.
        drop(loaded);
        glimmer_cpu::give_back_freed();
        {
            let mut state = self.lock();
            state.entry(id).place = Place::Unloaded;
            state.forget_removed();
        }
        self.tell(&name, &Change::Unloaded);
    }

    /// Loads a model for those who wait for it.
    fn load(self: &Arc<Self>, begun: &Begun) {
        let Begun { id, names, opener } = begun;
        let name = names.first().map_or("model", String::as_str);
        self.tell(name, &Change::Loading);
        let begin = Instant::now();
        let prepared = guarded(|| opener.prepare());
        let mut time = begin.elapsed();
        let result = prepared.and_then(|Prepared { memory, open }| {
            self.make_room(*id, memory)?;
            let begin = Instant::now();
            let model = guarded(|| open(&mut |progress| self.note_progress(*id, progress)));
            time += begin.elapsed();
            Ok((Loaded { names: names.clone(), model: model? }, memory))
        });
        self.finish(*id, name, result, time);
    }

    fn note_progress(&self, id: u64, progress: Progress<'_>) {
        if let (Progress::Loading { done: read, total: all }, Place::Loading { done, total, .. }) =
            (progress, &mut self.lock().entry(id).place)
        {
            (*done, *total) = (read, all);
        }
    }

    /// Waits until a model's bytes are free, for which others may have to go. They are the model's then.
    fn make_room(self: &Arc<Self>, id: u64, needed: u64) -> Result<(), Failure> {
        let mut state = self.lock();
        loop {
            let limit = state.limits.memory;
            let left = limit.saturating_sub(state.pinned());
            if needed > left {
                return Err(Failure::Refused(LeaseError::TooLarge { needed, limit: left }));
            }
            let waiting = &state.entry(id).waiting;
            if waiting.is_empty() || state.is_ending {
                return Err(Failure::NotWanted);
            }
            let may_evict = state.entry(id).waiting.iter().any(|slot| slot.may_evict);
            let wanted = state.held().saturating_add(needed);
            if wanted <= limit {
                if let Place::Loading { memory, .. } = &mut state.entry(id).place {
                    *memory = needed;
                }
                return Ok(());
            }
            if !may_evict {
                let free = limit.saturating_sub(state.held());
                return Err(Failure::Refused(LeaseError::NoRoom { needed, free }));
            }
            if let Some(idle) = state.least_recent_idle() {
                drop(state);
                self.let_go(idle);
                state = self.lock();
                continue;
            }
            let now = Instant::now();
            let next = state.ask_to_leave(wanted - limit, now);
            state = self.wait_until(state, next, now);
        }
    }

    /// Hands a model that was loaded to those who wait, or tells them why it was not.
    fn finish(self: &Arc<Self>, id: u64, name: &str, result: Result<(Loaded, u64), Failure>, time: Duration) {
        let (is_there, why, observer) = {
            let mut state = self.lock();
            // Who begins to observe once the model is there is not told of it.
            let observer = self.observer.get();
            let until = Instant::now() + state.limits.pause;
            let entry = state.entry(id);
            entry.figures.load_time += time;
            let why = match result {
                Ok((loaded, planned)) => {
                    entry.arrive(loaded, planned, Instant::now() + time.min(LONGEST_STAY));
                    None
                }
                Err(failure) => entry.fail(failure, until),
            };
            let is_there = entry.is_loaded().then(|| entry.place.memory());
            state.let_all_stay();
            for entry in state.with_waiters() {
                for slot in std::mem::take(&mut entry.waiting) {
                    slot.put(Lease::of(self, entry, true).ok_or(LeaseError::Unknown));
                }
            }
            state.forget_removed();
            (is_there, why, observer)
        };
        let Some(observer) = observer else { return };
        match (is_there, why) {
            (Some(memory), _) => observer(name, &Change::Loaded { time, memory }),
            (None, Some(why)) => observer(name, &Change::Failed { why: &why }),
            (None, None) => observer(name, &Change::Unloaded),
        }
    }
}

/// What an opener does: its errors, and its panics, as a line.
fn guarded<T>(work: impl FnOnce() -> Result<T, OpenError>) -> Result<T, Failure> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Failure::Broken(with_causes(error.as_ref()))),
        // The panic itself is on standard error.
        Err(_) => Err(Failure::Broken("the program has a fault".to_owned())),
    }
}

/// An error with its causes, of which those are left out that it quotes.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.ends_with(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}
