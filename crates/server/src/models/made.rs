//! Models that clients made of others: further names, with a system prompt and parameters of their own. They are there as
//! long as the server.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value};

/// The most of them, and bytes of one.
const MOST: usize = 1000;
const BYTES: usize = 1 << 20;

/// All of them, by name.
#[derive(Debug, Default)]
pub(crate) struct MadeModels(Mutex<BTreeMap<String, Arc<Made>>>);

/// What a model is made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Made {
    /// The registry's name of the model that answers.
    pub(crate) from: String,
    /// The system prompt of a conversation that has none.
    pub(crate) system: Option<String>,
    /// What a request leaves open, in the words of the API that made it.
    pub(crate) parameters: Map<String, Value>,
    /// Messages before those of a request.
    pub(crate) messages: Vec<Value>,
    pub(crate) license: Vec<String>,
    /// Seconds since 1970.
    pub(crate) created: u64,
}

impl MadeModels {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Made>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps one, in the place of another of this name.
    ///
    /// # Errors
    /// When it is too large, or there are too many.
    pub(crate) fn put(&self, name: String, made: Made) -> Result<(), String> {
        let texts = made.system.iter().chain(&made.license).map(String::len).sum::<usize>();
        let values = [made.parameters.values().collect::<Vec<_>>(), made.messages.iter().collect()].concat();
        let bytes = texts + values.iter().map(|value| value.to_string().len()).sum::<usize>();
        let mut all = self.lock();
        if bytes > BYTES || all.len() >= MOST && !all.contains_key(&name) {
            return Err(format!(
                "a model that is made of another has at most {BYTES} bytes, and there are at most {MOST}"
            ));
        }
        all.insert(name, Arc::new(made));
        Ok(())
    }

    /// The one of this name.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Made>> {
        self.lock().get(name).cloned()
    }

    /// Forgets one; whether there was one.
    pub(crate) fn remove(&self, name: &str) -> bool {
        self.lock().remove(name).is_some()
    }

    /// One that is made of the model of this name.
    pub(crate) fn of(&self, from: &str) -> Option<String> {
        self.lock().iter().find(|(_, made)| made.from == from).map(|(name, _)| name.clone())
    }

    /// All, by name.
    pub(crate) fn all(&self) -> Vec<(String, Arc<Made>)> {
        self.lock().iter().map(|(name, made)| (name.clone(), Arc::clone(made))).collect()
    }
}
