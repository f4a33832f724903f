//! Models by their names on a hub: Hugging Face and ModelScope, their caches, and downloads that can be broken off.
//!
//! | step | type |
//! |---|---|
//! | Where a hub is, and how it is spoken to, comes from the variables that its own tools read. | [`HubOptions`], [`Hub`] |
//! | A repository's files are listed. | [`RepoId`], [`Listing`] |
//! | Those that a model needs are chosen. | [`Select`] |
//! | What is not there yet is fetched and checked, as the hub's own tool would lay it down. | [`Hub::pull`], [`Watch`] |
//! | A server is asked in JSON, by the same means. | [`Endpoint`] |
//! | A file that a stranger names is fetched from the public internet, and from nowhere else. | [`Foreign`] |
//! | What is there can be listed, checked and removed. | [`Cache`] |
//!
//! It knows the network, no tensor and no terminal. Names, sizes and links that a hub sends are a stranger's: names that
//! leave their folder, credentials for another host, steps from https to http and bytes beyond what was said are refused.
#![forbid(unsafe_code)]

mod api;
mod cache;
mod digest;
mod endpoint;
mod error;
mod folder;
mod foreign;
mod http;
mod hub;
mod id;
mod listing;
mod lock;
mod options;
mod partial;
mod place;
mod proxy;
mod select;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod tls;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[path = "no_tls.rs"]
mod tls;
mod transfer;
mod url;

pub use cache::{Cache, CachedRepo, CachedRevision, Fault, Incomplete};
pub use endpoint::{Answer, Endpoint, Verb};
pub use error::HubError;
pub use foreign::{Foreign, ForeignError, Internet, Network};
pub use hub::{Hub, Plan, Progress, Pulled, Request, Unwatched, Watch, fastest};
pub use id::{HubId, HubKind, RepoId};
pub use listing::{Licence, Listing, RepoFile};
pub use options::{HubOptions, Patience};
pub use select::Select;
