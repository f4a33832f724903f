//! What a repository holds.

use crate::{HubKind, RepoId};

/// The files of a repository at one revision.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The hub that was asked.
    pub hub: HubKind,
    /// The repository, as it was asked for.
    pub repo: RepoId,
    /// What it is called today, where that is another name.
    pub moved_to: Option<RepoId>,
    /// The revision, as it was asked for.
    pub revision: String,
    /// What the hub pins the revision to: on Hugging Face a commit; ModelScope has no more than the revision's name.
    pub commit: String,
    /// Its files.
    pub files: Vec<RepoFile>,
    /// Under what terms it is published, where the hub says so.
    pub licence: Option<Licence>,
}

/// A file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepoFile {
    /// Its path in the repository, held to what may become a path below a folder.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// The SHA-256 of its bytes, in hexadecimal, where the hub says it.
    pub sha256: Option<String>,
    /// Its object in git (of a large file: its pointer's), where the hub says it.
    pub git: Option<String>,
    /// The name of its chunks in Hugging Face's newer storage; kept for the tools that use it.
    pub(crate) xet: Option<String>,
}

/// The terms of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Licence {
    /// Its name, such as `mit`.
    pub name: String,
    /// The page with its text.
    pub page: String,
}
