//! Adapters that requests name as models: which there are, of which model, and where they lie.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most of them.
const MOST: usize = 1000;

/// An adapter. It is read when it is made known, and again where its model was loaded anew since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownAdapter {
    /// What requests call it.
    pub name: String,
    /// The name of the model that it belongs to.
    pub parent: String,
    /// Its directory.
    pub path: PathBuf,
    /// Seconds since 1970.
    pub created: u64,
}

/// All of them, by name.
#[derive(Debug, Default)]
pub(crate) struct KnownAdapters(Mutex<BTreeMap<String, Arc<KnownAdapter>>>);

impl KnownAdapters {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<KnownAdapter>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one of this name.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<KnownAdapter>> {
        self.lock().get(name).cloned()
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Arc<KnownAdapter>> {
        self.lock().values().cloned().collect()
    }

    /// Makes one known, in the place of another of its name.
    ///
    /// # Errors
    /// When there are too many.
    pub(crate) fn put(&self, adapter: KnownAdapter) -> Result<(), String> {
        let mut all = self.lock();
        if all.len() >= MOST && !all.contains_key(&adapter.name) {
            return Err(format!("{MOST} adapters are known already"));
        }
        all.insert(adapter.name.clone(), Arc::new(adapter));
        Ok(())
    }

    /// Forgets the one of this name.
    pub(crate) fn remove(&self, name: &str) -> Option<Arc<KnownAdapter>> {
        self.lock().remove(name)
    }

    /// Forgets all of a model.
    pub(crate) fn remove_of(&self, parent: &str) {
        self.lock().retain(|_, adapter| adapter.parent != parent);
    }
}
