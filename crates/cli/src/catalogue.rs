//! The models that have names here.

use std::path::PathBuf;

use anyhow::Context;
use glimmer_catalogue::Catalogue;

/// The published models, and the user's own from these files and directories, or where there are none from where such files
/// are by custom.
///
/// # Errors
/// When one of the user's files cannot be read.
pub(crate) fn open(paths: &[PathBuf]) -> anyhow::Result<Catalogue> {
    let mut paths = paths.to_vec();
    if paths.is_empty() {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let data = set("XDG_DATA_HOME").or_else(|| Some(set("HOME")?.join(".local/share")));
        paths.extend(data.map(|data| data.join("glimmer/models")).filter(|path| path.is_dir()));
    }
    Catalogue::with(&paths).context("models of your own")
}
