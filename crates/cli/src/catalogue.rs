//! The models that have names here.

use std::path::PathBuf;

use anyhow::Context;
use glimmer_catalogue::{Catalogue, Entry, Model};

use crate::directories;

/// The published models, and the user's own from these files and directories, or where there are none from where such files
/// are by custom.
///
/// # Errors
/// When one of the user's files cannot be read.
pub(crate) fn open(paths: &[PathBuf]) -> anyhow::Result<Catalogue> {
    let mut paths = paths.to_vec();
    if paths.is_empty() {
        paths.extend(own_directory().filter(|path| path.is_dir()));
    }
    Catalogue::with(&paths).context("models of your own")
}

/// Where a user's own models are by custom.
pub(crate) fn own_directory() -> Option<PathBuf> {
    Some(directories::data()?.join("models"))
}

/// The published model whose decoder a model's is, where it runs here: what sees more than text does not.
pub(crate) fn runs_as<'a>(catalogue: &'a Catalogue, entry: &Entry, model: &'a Model) -> Option<&'a str> {
    let sees = entry.abilities.iter().any(|ability| ability == "vision");
    catalogue.shape(model).map(|(name, _)| name).filter(|_| !sees)
}
