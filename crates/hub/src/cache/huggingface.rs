//! Hugging Face's cache, as huggingface_hub 2.4.0 lays it out and older ones read it:
//!
//! ```text
//! CACHEDIR.TAG
//! .locks/models--OWNER--NAME/ETAG.lock
//! models--OWNER--NAME/blobs/ETAG                    the bytes; of large files ETAG is their SHA-256, else git's name
//!                     refs/REVISION                 a commit
//!                     snapshots/COMMIT/PATH         -> ../../blobs/ETAG
//!                     trees/COMMIT.json             what the commit lists
//!                     .no_exist/COMMIT/PATH         files that were asked for in vain
//! blobs/                                            bytes that repositories share (see `shared.rs`)
//! ```

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::{CachedRepo, CachedRevision, files_below, folders, shared, weigh};
use crate::digest::Expected;
use crate::id::{check_path, is_commit};
use crate::lock::Lock;
use crate::place::{Place, UNFINISHED};
use crate::{HubError, HubKind, Listing, RepoFile, RepoId};

const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55
# This file is a cache directory tag created by glimmer.
# For information about cache directory tags see https://bford.info/cachedir/
";

/// A repository's folder.
pub(crate) struct Repo {
    cache: PathBuf,
    folder: String,
}

/// `trees/COMMIT.json`.
#[derive(Serialize, Deserialize)]
struct Tree {
    format_version: u32,
    files: BTreeMap<String, Node>,
}

#[derive(Serialize, Deserialize)]
struct Node {
    size: u64,
    blob_id: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    lfs_sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    lfs_size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    xet_hash: Option<String>,
}

impl Repo {
    pub(crate) fn new(cache: &Path, repo: &RepoId) -> Self {
        Repo { cache: cache.to_owned(), folder: format!("models--{}", repo.folder()) }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.cache.join(&self.folder)
    }

    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.path().join("snapshots").join(commit)
    }

    fn tree(&self, commit: &str) -> PathBuf {
        self.path().join("trees").join(format!("{commit}.json"))
    }

    pub(crate) fn place(&self, commit: &str, file: &RepoFile, etag: Option<&str>) -> Place {
        let etag = etag.unwrap_or("unknown");
        let blobs = self.path().join("blobs");
        Place {
            partial: blobs.join(format!("{etag}{UNFINISHED}")),
            lock: Some(self.cache.join(".locks").join(&self.folder).join(format!("{etag}.lock"))),
            whole: blobs.join(etag),
            link: Some(self.snapshot(commit).join(&file.path)),
        }
    }

    /// The commit of a revision and its tree, and the mark by which backups leave the cache out.
    pub(crate) fn record(&self, listing: &Listing) -> Result<(), HubError> {
        std::fs::create_dir_all(&self.cache).map_err(HubError::io(&self.cache))?;
        let tag = self.cache.join("CACHEDIR.TAG");
        if !tag.exists() {
            std::fs::write(&tag, TAG).map_err(HubError::io(&tag))?;
        }
        if listing.revision != listing.commit {
            let path = self.path().join("refs").join(&listing.revision);
            if std::fs::read_to_string(&path).ok().as_ref() != Some(&listing.commit) {
                replace(&path, &listing.commit)?;
            }
        }
        let snapshot = self.snapshot(&listing.commit);
        std::fs::create_dir_all(&snapshot).map_err(HubError::io(&snapshot))?;
        // Other tools read the listing, so one that is incomplete in their sense is not written.
        let nodes: Option<BTreeMap<String, Node>> = listing.files.iter().map(node).collect();
        let path = self.tree(&listing.commit);
        match nodes {
            Some(files) if !path.exists() => {
                let text = serde_json::to_string_pretty(&Tree { format_version: 1, files });
                replace(&path, &text.map_err(|e| HubError::io(&path)(io::Error::other(e)))?)
            }
            _ => Ok(()),
        }
    }

    /// What is known of a revision: its tree, or where that is not kept the files of its snapshot.
    pub(crate) fn listing(&self, repo: &RepoId, revision: &str) -> Option<Listing> {
        check_path(revision).ok()?;
        let commit = match is_commit(revision) {
            true => revision.to_owned(),
            false => std::fs::read_to_string(self.path().join("refs").join(revision)).ok()?.trim().to_owned(),
        };
        is_commit(&commit).then_some(())?;
        let tree = std::fs::read_to_string(self.tree(&commit)).ok();
        let tree = tree.and_then(|text| serde_json::from_str::<Tree>(&text).ok());
        let files: Vec<RepoFile> = match tree.filter(|tree| tree.format_version == 1) {
            Some(tree) => tree.files.into_iter().map(|(path, node)| node.file(path)).collect(),
            None => {
                let bare = |(path, size)| RepoFile { path, size, sha256: None, git: None, xet: None };
                files_below(&self.snapshot(&commit)).into_iter().map(bare).collect()
            }
        };
        let is_sound = files.iter().all(|file| check_path(&file.path).is_ok());
        is_sound.then(|| Listing {
            hub: HubKind::HuggingFace,
            repo: repo.clone(),
            moved_to: None,
            revision: revision.to_owned(),
            commit,
            files,
            licence: None,
        })
    }
}

impl Node {
    fn file(self, path: String) -> RepoFile {
        RepoFile {
            path,
            size: self.lfs_size.unwrap_or(self.size),
            sha256: self.lfs_sha256,
            git: Some(self.blob_id).filter(|oid| is_commit(oid)),
            xet: self.xet_hash,
        }
    }
}

fn node(file: &RepoFile) -> Option<(String, Node)> {
    let node = Node {
        size: file.size,
        blob_id: file.git.clone()?,
        lfs_size: file.sha256.is_some().then_some(file.size),
        lfs_sha256: file.sha256.clone(),
        xet_hash: file.xet.clone(),
    };
    Some((file.path.clone(), node))
}

/// Writes a small file so that nobody sees half of it.
fn replace(path: &Path, text: &str) -> Result<(), HubError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(HubError::io(folder))?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let new = path.with_file_name(format!("{name}.{process}.{count}.tmp"));
    std::fs::write(&new, text).map_err(HubError::io(&new))?;
    std::fs::rename(&new, path).map_err(HubError::io(path))
}

/// The repositories of a cache.
pub(super) fn repos(root: &Path) -> Result<Vec<CachedRepo>, HubError> {
    let mut repos = Vec::new();
    for (name, path) in folders(root)? {
        let Some(id) = name.strip_prefix("models--").map(|id| id.replacen("--", "/", 1)) else { continue };
        let refs = files_below(&path.join("refs"));
        let leads_to = |(name, _): &(String, u64)| {
            let commit = std::fs::read_to_string(path.join("refs").join(name)).ok()?;
            Some((name.clone(), commit.trim().to_owned()))
        };
        let refs: Vec<(String, String)> = refs.iter().filter_map(leads_to).collect();
        let revisions = folders(&path.join("snapshots"))?.into_iter().map(|(commit, path)| CachedRevision {
            refs: refs.iter().filter(|(_, to)| *to == commit).map(|(name, _)| name.clone()).collect(),
            files: files_below(&path),
            name: commit,
            path,
        });
        let revisions = revisions.collect();
        let (incomplete, bytes) = weigh(&path);
        repos.push(CachedRepo { hub: HubKind::HuggingFace, id, path, bytes, revisions, incomplete });
    }
    Ok(repos)
}

/// What the names of blobs say of them.
pub(super) fn expected(repo: &CachedRepo) -> Result<Vec<(PathBuf, Expected)>, HubError> {
    let blobs = repo.path.join("blobs");
    let of = |(name, size): (String, u64)| Some((blobs.join(&name), Expected::of_blob(&name, size)?));
    Ok(files_below(&blobs).into_iter().filter_map(of).collect())
}

/// Removes a repository, its locks, and what it alone had of the shared bytes.
pub(super) fn remove(root: &Path, repo: &CachedRepo) -> Result<u64, HubError> {
    let name = repo.path.file_name().unwrap_or_default();
    let locks = root.join(".locks").join(name);
    let mut held = Vec::new();
    for (lock, _) in files_below(&locks) {
        let busy = || HubError::Busy { id: repo.id.clone() };
        held.push(Lock::try_acquire(&locks.join(lock))?.ok_or_else(busy)?);
    }
    let shared = shared::of(root, &repo.path.join("blobs"));
    std::fs::remove_dir_all(&repo.path).map_err(HubError::io(&repo.path))?;
    if locks.exists() {
        std::fs::remove_dir_all(&locks).map_err(HubError::io(&locks))?;
    }
    let kept: u64 =
        shared.iter().map(|path| if shared::sweep(root, path) { 0 } else { shared::size(path) }).sum();
    Ok(repo.bytes.saturating_sub(kept))
}
