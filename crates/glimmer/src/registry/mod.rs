//! The models that are loaded, by the names that requests give them.

use std::sync::{Arc, PoisonError, RwLock};

use crate::{Embedder, Engine, Error};

/// A loaded model with its names.
pub struct Loaded {
    /// What it is called; the first is its name in lists and figures.
    pub names: Vec<String>,
    /// What computes.
    pub model: LoadedModel,
}

/// What a loaded model can do.
pub enum LoadedModel {
    /// It writes text.
    Engine(Arc<Engine>),
    /// It makes vectors of texts.
    Embedder(Arc<Embedder>),
}

impl Loaded {
    /// A model that writes text.
    pub fn engine(names: Vec<String>, engine: Engine) -> Self {
        Loaded { names, model: LoadedModel::Engine(Arc::new(engine)) }
    }

    /// A model that makes vectors, by its own name.
    pub fn embedder(embedder: Embedder) -> Self {
        let names = vec![embedder.name().to_owned()];
        Loaded { names, model: LoadedModel::Embedder(Arc::new(embedder)) }
    }

    /// Its name in lists and figures.
    pub fn name(&self) -> &str {
        self.names.first().map_or("model", String::as_str)
    }
}

/// All loaded models. Shared between threads; who holds a model keeps it, even when it is removed here.
#[derive(Default)]
pub struct Registry {
    models: RwLock<Vec<Arc<Loaded>>>,
}

impl Registry {
    /// Adds a model.
    ///
    /// # Errors
    /// [`Error::NameTaken`] when another has one of its names.
    pub fn add(&self, loaded: Loaded) -> Result<Arc<Loaded>, Error> {
        let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = loaded.names.iter().find(|name| by_name(&models, name).is_some()) {
            return Err(Error::NameTaken(name.clone()));
        }
        let loaded = Arc::new(loaded);
        models.push(Arc::clone(&loaded));
        Ok(loaded)
    }

    /// Takes the model of this name out. Its memory is free when nobody uses it any more.
    pub fn remove(&self, name: &str) -> Option<Arc<Loaded>> {
        let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
        let at = models.iter().position(|model| model.names.iter().any(|known| known == name))?;
        Some(models.remove(at))
    }

    /// The model of this name.
    pub fn find(&self, name: &str) -> Option<Arc<Loaded>> {
        by_name(&self.models.read().unwrap_or_else(PoisonError::into_inner), name).cloned()
    }

    /// All of them, in the order in which they came.
    pub fn all(&self) -> Vec<Arc<Loaded>> {
        self.models.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn by_name<'a>(models: &'a [Arc<Loaded>], name: &str) -> Option<&'a Arc<Loaded>> {
    models.iter().find(|model| model.names.iter().any(|known| known == name))
}
