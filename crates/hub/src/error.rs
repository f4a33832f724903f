//! What can go wrong between a name and its files.

use std::io;
use std::path::{Path, PathBuf};

use crate::{HubKind, RepoId};

/// An error of this crate. Each says what is wrong and what can be done. What a hub sent is quoted as it is: whoever shows an
/// error escapes it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// A text that names no repository.
    #[error("{0:.100} is no name of a repository; OWNER/NAME or OWNER/NAME:QUANTIZATION is")]
    Id(String),
    /// A variable or flag that cannot be used.
    #[error("{name}: {what}")]
    Option {
        /// The variable.
        name: String,
        /// What is wrong with it.
        what: String,
    },
    /// A name of a file that could do harm.
    #[error("the hub names a file {name:.100}: refused, {why}")]
    Name {
        /// The name.
        name: String,
        /// Why it is refused.
        why: &'static str,
    },
    /// A repository with conditions that have to be accepted on its page.
    #[error("{repo} is gated: accept its conditions at {page}, then name your token with {token}")]
    Gated {
        /// The repository.
        repo: RepoId,
        /// The page.
        page: String,
        /// The variable of the token.
        token: &'static str,
    },
    /// No such repository, or a private one.
    #[error("{hub} has no repository {repo}, or shows it only to those whose token may see it ({token})")]
    NoRepository {
        /// The hub.
        hub: HubKind,
        /// The repository.
        repo: RepoId,
        /// The variable of the token.
        token: &'static str,
    },
    /// No such revision.
    #[error("{repo} has no revision {revision:.100}")]
    NoRevision {
        /// The repository.
        repo: RepoId,
        /// The revision.
        revision: String,
    },
    /// The hub does not let us.
    #[error("{host} refuses ({status}){said}; {token} names a token, and the one that is used may be wrong")]
    Refused {
        /// The host.
        host: String,
        /// The status of HTTP.
        status: u16,
        /// What it said, with a colon before it, or nothing.
        said: String,
        /// The variable of the token.
        token: &'static str,
    },
    /// The hub is busy or broken, after all attempts.
    #[error("{host} returned status {status}{said}; try again later")]
    Status {
        /// The host.
        host: String,
        /// The status of HTTP.
        status: u16,
        /// What it said, with a colon before it, or nothing.
        said: String,
        /// Seconds that it asks us to wait.
        wait: Option<u64>,
    },
    /// The network, after all attempts.
    #[error("{host} cannot be reached: {what}")]
    Network {
        /// The host.
        host: String,
        /// What is wrong.
        what: String,
    },
    /// A reply that makes no sense, or breaks its own word.
    #[error("{host}: {what}")]
    Reply {
        /// The host.
        host: String,
        /// What is wrong.
        what: String,
    },
    /// A file is no longer what was listed.
    #[error("{path:.100} changed on the hub while it was fetched; try again")]
    Changed {
        /// The file.
        path: String,
    },
    /// Bytes that are not those that the hub says.
    #[error(
        "{path:.100}: {found} was received, {expected} is listed; the hub or something on the way is damaged"
    )]
    Checksum {
        /// The file.
        path: String,
        /// The digest that the hub says.
        expected: String,
        /// That of the bytes.
        found: String,
    },
    /// Too little space.
    #[error("{}: {needed} bytes are needed, {free} are free", directory.display())]
    NoSpace {
        /// Where.
        directory: PathBuf,
        /// Bytes that are still to be written.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// Offline, and the files are not all here.
    #[error(
        "{repo} is not completely on this machine ({missing:.100} is missing), and going online is switched off"
    )]
    Offline {
        /// The repository.
        repo: RepoId,
        /// The first file that is missing.
        missing: String,
    },
    /// A repository without what a model needs.
    #[error("{repo}: {what}")]
    Selection {
        /// The repository.
        repo: RepoId,
        /// What is missing or ambiguous.
        what: String,
    },
    /// Somebody is fetching it.
    #[error("{id} is being fetched; it can be removed when that has ended")]
    Busy {
        /// The repository.
        id: String,
    },
    /// Its terms were not accepted.
    #[error("nothing was fetched: the licence was not accepted")]
    NotAccepted,
    /// Somebody stopped it. What was fetched is kept.
    #[error("stopped; what was fetched is kept, and the same command goes on from there")]
    Cancelled,
    /// A file of this machine.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: io::Error,
    },
}

impl HubError {
    /// What goes wrong with a file of this machine.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        |source| HubError::Io { path: path.to_owned(), source }
    }

    /// Whether the same request may succeed a moment later.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, HubError::Network { .. } | HubError::Status { .. })
    }

    /// Whether the hub was not reached at all.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, HubError::Network { .. } | HubError::Status { .. })
    }

    /// Whether the hub says that there is no such repository.
    pub fn is_no_repository(&self) -> bool {
        matches!(self, HubError::NoRepository { .. })
    }
}
