//! Places for connections. When all are taken and somebody waits, the one that has been idle for longest makes room.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

/// The places of a server.
pub(crate) struct Places {
    most: usize,
    inner: Mutex<Inner>,
    /// A place is free or has become idle.
    changed: Notify,
}

#[derive(Default)]
struct Inner {
    next: u64,
    taken: HashMap<u64, Taken>,
}

struct Taken {
    /// Since when no request is answered there.
    idle: Option<Instant>,
    is_told: bool,
    close: Arc<Notify>,
}

impl Taken {
    fn tell(&mut self) {
        self.is_told = true;
        self.close.notify_one();
    }
}

impl Places {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Places { most: most.max(1), inner: Mutex::default(), changed: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place, when there is one: an idle connection is told to end for it.
    pub(crate) async fn take(self: &Arc<Self>) -> Place {
        loop {
            if let Some(place) = self.try_take() {
                return place;
            }
            self.changed.notified().await;
        }
    }

    fn try_take(self: &Arc<Self>) -> Option<Place> {
        let mut inner = self.lock();
        if inner.taken.len() < self.most {
            let id = inner.next;
            inner.next += 1;
            let close = Arc::new(Notify::new());
            let taken = Taken { idle: Some(Instant::now()), is_told: false, close: close.clone() };
            inner.taken.insert(id, taken);
            return Some(Place { places: self.clone(), id, close });
        }
        // One at a time: whoever was told is about to leave.
        let is_leaving = |taken: &Taken| taken.is_told && taken.idle.is_some();
        if !inner.taken.values().any(is_leaving) {
            let idle = inner.taken.values_mut().filter(|taken| taken.idle.is_some());
            idle.min_by_key(|taken| taken.idle).into_iter().for_each(Taken::tell);
        }
        None
    }

    /// Tells all connections to end when they have answered what they were asked.
    pub(crate) fn close(&self) {
        self.lock().taken.values_mut().for_each(Taken::tell);
    }

    /// Waits until all are free.
    pub(crate) async fn empty(&self) {
        while !self.lock().taken.is_empty() {
            self.changed.notified().await;
        }
    }
}

/// A connection's place, until it is dropped.
pub(crate) struct Place {
    places: Arc<Places>,
    id: u64,
    close: Arc<Notify>,
}

impl Place {
    /// Waits until the connection is to end.
    pub(crate) async fn told(&self) {
        self.close.notified().await;
    }

    /// Whether no request is being answered.
    pub(crate) fn is_idle(&self) -> bool {
        self.places.lock().taken.get(&self.id).is_some_and(|taken| taken.idle.is_some())
    }

    /// A request is being answered until the visit is dropped.
    pub(crate) fn visit(self: &Arc<Self>) -> Visit {
        self.set(None);
        Visit(self.clone())
    }

    fn set(&self, idle: Option<Instant>) {
        if let Some(taken) = self.places.lock().taken.get_mut(&self.id) {
            taken.idle = idle;
        }
        self.places.changed.notify_one();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().taken.remove(&self.id);
        self.places.changed.notify_one();
    }
}

/// A request that is being answered.
pub(crate) struct Visit(Arc<Place>);

impl Drop for Visit {
    fn drop(&mut self) {
        self.0.set(Some(Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn who_idles_longest_makes_room() {
        let places = Places::new(2);
        let (first, second) = (Arc::new(places.take().await), Arc::new(places.take().await));
        let visit = first.visit();
        let waits = |place: Arc<Place>| async move {
            timeout(Duration::from_millis(20), place.told()).await.is_err()
        };
        assert!(timeout(Duration::from_millis(20), places.take()).await.is_err());
        assert!(waits(first.clone()).await && !waits(second.clone()).await);
        drop(second);
        let third = places.take().await;
        // All are busy: the first that is not makes room.
        let third = Arc::new(third);
        let busy = third.visit();
        assert!(timeout(Duration::from_millis(20), places.take()).await.is_err());
        let fourth = tokio::spawn({
            let places = places.clone();
            async move { places.take().await }
        });
        drop(visit);
        first.told().await;
        drop(first);
        assert!(fourth.await.is_ok());
        drop((busy, third));
        timeout(Duration::from_secs(1), places.empty()).await.unwrap();
    }
}
