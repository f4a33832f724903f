//! Bytes that several repositories of Hugging Face's cache share, since huggingface_hub 2.4.0: `blobs/AB/ABCD...` has them,
//! `blobs/AB/ABCD....refs` lists the blobs that are links to them, one path from the cache's root a line, and
//! `blobs/AB/ABCD....lock` is held by whoever changes either.

use std::path::{Path, PathBuf};

use crate::lock::Lock;

/// The shared bytes that the blobs of a folder lead to.
pub(super) fn of(root: &Path, blobs: &Path) -> Vec<PathBuf> {
    let store = root.join("blobs");
    let links = std::fs::read_dir(blobs).into_iter().flatten().flatten();
    let links = links.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()));
    let targets = links.filter_map(|entry| entry.path().canonicalize().ok());
    let Ok(store) = store.canonicalize() else { return Vec::new() };
    targets.filter(|target| target.starts_with(&store)).collect()
}

pub(super) fn size(path: &Path) -> u64 {
    path.metadata().map_or(0, |metadata| metadata.len())
}

/// Removes shared bytes that no blob leads to any more; returns whether they are gone. Without a list of who leads there they
/// stay.
pub(super) fn sweep(root: &Path, path: &Path) -> bool {
    let beside = |end: &str| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        path.with_file_name(name + end)
    };
    let Ok(Some(_lock)) = Lock::try_acquire(&beside(".lock")) else { return false };
    let Ok(list) = std::fs::read_to_string(beside(".refs")) else { return false };
    let leads_here = |line: &str| {
        root.join(line).symlink_metadata().is_ok_and(|metadata| metadata.is_symlink())
            && root.join(line).canonicalize().is_ok_and(|target| target == *path)
    };
    if list.lines().any(leads_here) {
        return false;
    }
    std::fs::remove_file(path).is_ok_and(|()| std::fs::remove_file(beside(".refs")).is_ok())
}
