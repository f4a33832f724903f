//! ModelScope's cache, as modelscope_hub 0.5.1 lays it out:
//!
//! ```text
//! .lock/file_DIGEST.lock
//! models/OWNER--NAME/snapshots/REVISION/PATH
//! ```
//!
//! Older tools had the files of one revision in `models/OWNER/NAME`, with `___` for a dot, and all of that below `hub`; where
//! such a folder is, it is used, as modelscope 1.40.2 does.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{CachedRepo, CachedRevision, files_below, folders, weigh};
use crate::digest::hexadecimal;
use crate::id::check_path;
use crate::place::Place;
use crate::{HubError, HubKind, Listing, RepoFile, RepoId};

/// A repository's folder.
pub(crate) struct Repo {
    cache: PathBuf,
    id: RepoId,
    /// One of an older layout.
    old: Option<PathBuf>,
}

impl Repo {
    pub(crate) fn new(cache: &Path, repo: &RepoId) -> Self {
        let (owner, name) = (repo.owner(), repo.name());
        let plain = name.replace('.', "___");
        let is_there =
            |path: &PathBuf| std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
        let old = [
            cache.join("models").join(owner).join(&plain),
            cache.join("hub/models").join(owner).join(&plain),
        ];
        let older = [
            cache.join(owner).join(name),
            cache.join(owner).join(&plain),
            cache.join("hub").join(owner).join(name),
            cache.join("hub").join(owner).join(&plain),
            cache.join("models").join(owner).join(name),
        ];
        let new = cache.join("models").join(repo.folder());
        let found = old.into_iter().find(is_there);
        let found = found.or_else(|| older.into_iter().find(is_there).filter(|_| !is_there(&new)));
        Repo { cache: cache.to_owned(), id: repo.clone(), old: found }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.old.clone().unwrap_or_else(|| self.cache.join("models").join(self.id.folder()))
    }

    pub(crate) fn directory(&self, revision: &str) -> PathBuf {
        match &self.old {
            Some(old) => old.clone(),
            None => self.path().join("snapshots").join(revision),
        }
    }

    pub(crate) fn place(&self, revision: &str, file: &RepoFile) -> Place {
        let id = self.id.to_string();
        let key = ["modelscope-hub-download-lock-v2", "file", "model", &id, &file.path].join("\0");
        let lock = format!("file_{}.lock", hexadecimal(&Sha256::digest(key)));
        Place::beside(self.directory(revision).join(&file.path), Some(self.cache.join(".lock").join(lock)))
    }

    /// The files that are there; nothing tells which there should be.
    pub(crate) fn listing(&self, repo: &RepoId, revision: &str) -> Option<Listing> {
        check_path(revision).ok()?;
        let bare = |(path, size)| RepoFile { path, size, sha256: None, git: None, xet: None };
        let files: Vec<RepoFile> = files_below(&self.directory(revision)).into_iter().map(bare).collect();
        (!files.is_empty()).then(|| Listing {
            hub: HubKind::ModelScope,
            repo: repo.clone(),
            moved_to: None,
            revision: revision.to_owned(),
            commit: revision.to_owned(),
            files,
            licence: None,
        })
    }
}

/// The repositories of a cache.
pub(super) fn repos(root: &Path) -> Result<Vec<CachedRepo>, HubError> {
    let mut repos = Vec::new();
    for models in [root.join("models"), root.join("hub/models")] {
        for (name, path) in folders(&models)? {
            if let Some((owner, name)) = name.split_once("--") {
                let revisions = folders(&path.join("snapshots"))?.into_iter();
                let revisions = revisions.map(|(name, path)| revision(name, path)).collect();
                repos.push(repo(format!("{owner}/{name}"), path, revisions));
                continue;
            }
            for (own, path) in folders(&path)? {
                let id = format!("{name}/{}", own.replace("___", "."));
                repos.push(repo(id, path.clone(), vec![revision("master".to_owned(), path)]));
            }
        }
    }
    Ok(repos)
}

fn repo(id: String, path: PathBuf, revisions: Vec<CachedRevision>) -> CachedRepo {
    let (incomplete, bytes) = weigh(&path);
    CachedRepo { hub: HubKind::ModelScope, id, path, bytes, revisions, incomplete }
}

fn revision(name: String, path: PathBuf) -> CachedRevision {
    CachedRevision { name, refs: Vec::new(), files: files_below(&path), path }
}
