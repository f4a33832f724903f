//! Where files go: into a hub's cache, or into a folder that somebody named.

use std::path::{Path, PathBuf};

use crate::cache::{huggingface, modelscope};
use crate::digest::Expected;
use crate::folder::Folder;
use crate::partial::Partial;
use crate::{HubError, HubKind, HubOptions, Listing, RepoFile, RepoId};

/// The end of the name of a file that is being fetched. The hubs' tools take any name that ends in `.incomplete` for what was
/// broken off; the word before it keeps them from going on with it, since it is laid out otherwise.
pub(crate) const UNFINISHED: &str = ".glimmer.incomplete";

/// Where the files of a repository go.
pub(crate) enum Destination {
    HuggingFace(huggingface::Repo),
    ModelScope(modelscope::Repo),
    Folder(Folder),
}

/// Where one file goes.
#[derive(Debug)]
pub(crate) struct Place {
    /// Until it is whole.
    pub(crate) partial: PathBuf,
    /// The lock that its writer holds, where there is none for the whole folder.
    pub(crate) lock: Option<PathBuf>,
    /// Once it is whole.
    pub(crate) whole: PathBuf,
    /// The link that leads there, by which it is found.
    pub(crate) link: Option<PathBuf>,
}

impl Destination {
    /// A cache's, or a folder's.
    pub(crate) fn new(options: &HubOptions, repo: &RepoId, into: Option<&Path>) -> Self {
        match (into, options.kind) {
            (Some(folder), _) => Destination::Folder(Folder::new(folder)),
            (None, HubKind::HuggingFace) => {
                Destination::HuggingFace(huggingface::Repo::new(&options.cache, repo))
            }
            (None, HubKind::ModelScope) => {
                Destination::ModelScope(modelscope::Repo::new(&options.cache, repo))
            }
        }
    }

    /// The folder in which the files of a listing are found.
    pub(crate) fn directory(&self, listing: &Listing) -> PathBuf {
        match self {
            Destination::HuggingFace(repo) => repo.snapshot(&listing.commit),
            Destination::ModelScope(repo) => repo.directory(&listing.revision),
            Destination::Folder(folder) => folder.path().to_owned(),
        }
    }

    /// Whether anything of the repository is there.
    pub(crate) fn exists(&self) -> bool {
        match self {
            Destination::HuggingFace(repo) => repo.path().exists(),
            Destination::ModelScope(repo) => repo.path().exists(),
            // Whoever has the folder has read what came with it.
            Destination::Folder(folder) => folder.path().exists(),
        }
    }

    /// Whether a file is there, by its size and as far as can be told without reading it.
    pub(crate) fn has(&self, listing: &Listing, file: &RepoFile) -> Result<bool, HubError> {
        if let Destination::Folder(folder) = self {
            return folder.has(file);
        }
        let path = self.directory(listing).join(&file.path);
        Ok(path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() == file.size))
    }

    /// Where a file goes that the hub calls by this version's name.
    pub(crate) fn place(
        &self,
        listing: &Listing,
        file: &RepoFile,
        etag: Option<&str>,
    ) -> Result<Place, HubError> {
        match self {
            Destination::HuggingFace(repo) => Ok(repo.place(&listing.commit, file, etag)),
            Destination::ModelScope(repo) => Ok(repo.place(&listing.revision, file)),
            Destination::Folder(folder) => folder.place(file),
        }
    }

    /// The bytes that a file which is not there has already.
    pub(crate) fn begun(&self, listing: &Listing, file: &RepoFile) -> u64 {
        let expected = Expected::of(file);
        let place = self.place(listing, file, expected.as_ref().map(Expected::text));
        place.map_or(0, |place| Partial::bytes_at(&place.partial, file.size))
    }

    /// Writes down what the hub said of the repository, as its own tool would.
    pub(crate) fn record(&self, listing: &Listing) -> Result<(), HubError> {
        match self {
            Destination::HuggingFace(repo) => repo.record(listing),
            Destination::ModelScope(_) | Destination::Folder(_) => Ok(()),
        }
    }

    /// What is known of a repository without asking the hub.
    pub(crate) fn listing(&self, repo: &RepoId, revision: &str) -> Option<Listing> {
        match self {
            Destination::HuggingFace(cached) => cached.listing(repo, revision),
            Destination::ModelScope(cached) => cached.listing(repo, revision),
            Destination::Folder(_) => None,
        }
    }
}

impl Place {
    /// Where a file goes that has its own name from the beginning: beside itself until it is whole, and hidden.
    pub(crate) fn beside(whole: PathBuf, lock: Option<PathBuf>) -> Self {
        let name = whole.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Place { partial: whole.with_file_name(format!(".{name}{UNFINISHED}")), lock, whole, link: None }
    }

    /// Whether its bytes are there, of which the size is looked at.
    pub(crate) fn is_filled(&self, size: u64) -> bool {
        self.whole.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() == size)
    }

    /// Makes the link by which it is found. Where links cannot be made, the file itself goes there.
    pub(crate) fn link(&self) -> Result<(), HubError> {
        let Some(link) = &self.link else { return Ok(()) };
        let folder = link.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(HubError::io(folder))?;
        let target = relative(&self.whole, folder);
        if std::fs::read_link(link).is_ok_and(|there| there == target) {
            return Ok(());
        }
        match std::fs::remove_file(link) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(HubError::io(link)(error));
            }
            _ => {}
        }
        match std::os::unix::fs::symlink(&target, link) {
            Ok(()) => Ok(()),
            // Another process has just made it.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            Err(_) => std::fs::rename(&self.whole, link).map_err(HubError::io(link)),
        }
    }
}

/// The way to a file from a folder, both below the same place.
fn relative(file: &Path, folder: &Path) -> PathBuf {
    let common = file.components().zip(folder.components()).take_while(|(a, b)| a == b).count();
    let ups = folder.components().skip(common).map(|_| Path::new(".."));
    let downs = file.components().skip(common).map(|part| Path::new(part.as_os_str()));
    ups.chain(downs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_relative() {
        let way = |file, folder| relative(Path::new(file), Path::new(folder));
        assert_eq!(way("/c/m/blobs/x", "/c/m/snapshots/1"), Path::new("../../blobs/x"));
        assert_eq!(way("/c/m/blobs/x", "/c/m/snapshots/1/a/b"), Path::new("../../../../blobs/x"));
    }
}
