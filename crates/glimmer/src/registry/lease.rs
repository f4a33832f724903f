//! Using a model, and waiting for one.

use std::future::Future;
use std::ops::Deref;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use super::state::{Entry, Place};
use super::{Loaded, Shared};

/// A loaded model in use: it stays where it is until the last of these is dropped, which may be on any thread.
pub struct Lease {
    shared: Arc<Shared>,
    id: u64,
    /// Here until it is dropped.
    loaded: Option<Arc<Loaded>>,
    /// Whether it counts for how long the model has been idle.
    is_use: bool,
}

impl Lease {
    /// Of an entry that is loaded and not asked to leave.
    pub(super) fn of(shared: &Arc<Shared>, entry: &mut Entry, is_use: bool) -> Option<Self> {
        let Place::Loaded { loaded, is_leaving: false, .. } = &entry.place else { return None };
        let loaded = Some(Arc::clone(loaded));
        entry.users += 1;
        Some(Lease { shared: Arc::clone(shared), id: entry.id, loaded, is_use })
    }
}

impl Deref for Lease {
    type Target = Loaded;

    fn deref(&self) -> &Loaded {
        self.loaded.as_ref().expect("a lease that is not dropped has its model")
    }
}

impl Clone for Lease {
    fn clone(&self) -> Self {
        self.shared.lock().entry(self.id).users += 1;
        Lease {
            shared: Arc::clone(&self.shared),
            id: self.id,
            loaded: self.loaded.clone(),
            is_use: self.is_use,
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // First, so that the registry's is the last: an engine that ends waits for its thread, and that must not be here.
        drop(self.loaded.take());
        let mut state = self.shared.lock();
        let entry = state.entry(self.id);
        entry.users -= 1;
        if self.is_use {
            entry.last_used = Instant::now();
        }
        if entry.users == 0 {
            drop(state);
            self.shared.changed.notify_all();
        }
    }
}

/// Why a model cannot be used now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// Nobody knows it.
    #[error("there is no model of this name")]
    Unknown,
    /// Too many wait for it.
    #[error("{waiting} requests are waiting for the model already")]
    Full {
        /// How many.
        waiting: usize,
    },
    /// It could not be loaded.
    #[error("the model cannot be loaded: {why}")]
    Failed {
        /// Why.
        why: Arc<str>,
        /// After which time somebody may try again.
        retry_after: Duration,
    },
    /// Others hold the memory that it needs, and were not to go.
    #[error("the model needs {needed} bytes beside the others, which leave {free}")]
    NoRoom {
        /// Bytes.
        needed: u64,
        /// Bytes.
        free: u64,
    },
    /// It needs more than all models may hold, or those that stay leave.
    #[error(
        "the model needs {needed} bytes, and {limit} are planned for models; a shorter context needs less"
    )]
    TooLarge {
        /// Bytes.
        needed: u64,
        /// Bytes.
        limit: u64,
    },
    /// It was taken out meanwhile.
    #[error("the model was removed")]
    Removed,
}

/// A model on its way to whoever wants to use it. Dropping it is the only cancellation: what is being loaded already is
/// loaded all the same.
pub struct Leasing {
    slot: Arc<Slot>,
    /// Where it waits; nowhere if it was ready at once.
    place: Option<(Arc<Shared>, u64)>,
}

/// Where a lease is put for somebody who waits.
#[derive(Default)]
pub(super) struct Slot {
    outcome: Mutex<Outcome>,
    /// Whether others may have to go.
    pub(super) may_evict: bool,
}

#[derive(Default)]
struct Outcome {
    result: Option<Result<Lease, LeaseError>>,
    waker: Option<Waker>,
}

impl Slot {
    pub(super) fn new(may_evict: bool) -> Arc<Self> {
        Arc::new(Slot { may_evict, ..Slot::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the waiting; once.
    pub(super) fn put(&self, result: Result<Lease, LeaseError>) {
        let mut outcome = self.lock();
        outcome.result = Some(result);
        if let Some(waker) = outcome.waker.take() {
            waker.wake();
        }
    }
}

impl Leasing {
    pub(super) fn ready(lease: Lease) -> Self {
        let slot = Slot::new(false);
        slot.put(Ok(lease));
        Leasing { slot, place: None }
    }

    pub(super) fn waiting(shared: &Arc<Shared>, id: u64, slot: Arc<Slot>) -> Self {
        Leasing { slot, place: Some((Arc::clone(shared), id)) }
    }

    /// Whether it has come to something already.
    pub fn is_over(&self) -> bool {
        self.slot.lock().result.is_some()
    }

    /// Waits on this thread.
    ///
    /// # Errors
    /// [`LeaseError`].
    pub fn wait(self) -> Result<Lease, LeaseError> {
        struct Unpark(Thread);
        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut leasing = pin!(self);
        loop {
            match leasing.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(result) => return result,
                Poll::Pending => std::thread::park(),
            }
        }
    }
}

impl Future for Leasing {
    type Output = Result<Lease, LeaseError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut outcome = self.slot.lock();
        match outcome.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                outcome.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Leasing {
    fn drop(&mut self) {
        if let Some((shared, id)) = self.place.take() {
            shared.lock().give_up_waiting(id, &self.slot);
            shared.changed.notify_all();
        }
    }
}
