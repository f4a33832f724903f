//! ModelScope's API, as modelscope_hub 0.5.1 speaks it (modelscope 1.40.2 is built upon it).

use hyper::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Api, Located, json};
use crate::listing::Licence;
use crate::url::encoded;
use crate::{HubError, HubKind, Listing, RepoFile, RepoId};

/// The files that a list has at most; longer ones are cut off without a word.
const LONGEST_LIST: usize = 3000;

/// What every reply is wrapped in.
#[derive(Deserialize)]
struct Wrapped<T> {
    #[serde(rename = "Data")]
    data: Option<T>,
    #[serde(rename = "Message", default)]
    message: String,
}

/// `/api/v1/models/{id}/repo/files`.
#[derive(Deserialize)]
struct Files {
    #[serde(rename = "Files", default)]
    files: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    path: String,
    #[serde(rename = "Type", default)]
    kind: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    sha256: Option<String>,
}

/// `/api/v1/models/{id}`.
#[derive(Deserialize)]
struct Info {
    #[serde(rename = "License", default)]
    license: Option<String>,
}

impl Api {
    pub(super) async fn list_modelscope(&self, repo: &RepoId, revision: &str) -> Result<Listing, HubError> {
        let query = format!("Revision={}&Recursive=True", encoded(revision, ""));
        let found: Files = self.wrapped(&format!("/{repo}/repo/files?{query}"), repo, revision).await?;
        let entries = found.files.unwrap_or_default();
        if entries.len() >= LONGEST_LIST {
            let what = format!("{repo} has more files than a list can name ({LONGEST_LIST})");
            return Err(HubError::Reply { host: self.endpoint.origin.authority(), what });
        }
        let files = entries.into_iter().filter(|entry| entry.kind != "tree").map(|entry| RepoFile {
            path: entry.path,
            size: entry.size,
            sha256: entry
                .sha256
                .filter(|sha256| !sha256.is_empty())
                .map(|sha256| sha256.to_ascii_lowercase()),
            git: None,
            xet: None,
        });
        Ok(Listing {
            hub: HubKind::ModelScope,
            repo: repo.clone(),
            moved_to: None,
            revision: revision.to_owned(),
            commit: revision.to_owned(),
            files: files.collect(),
            licence: self.licence_of_modelscope(repo, revision).await,
        })
    }

    pub(super) fn locate_modelscope(&self, listing: &Listing, file: &RepoFile) -> Located {
        let (revision, path) = (encoded(&listing.revision, ""), encoded(&file.path, ""));
        let path = format!("/api/v1/models/{}/repo?Revision={revision}&FilePath={path}", listing.repo);
        Located { url: self.endpoint.below(&path), direct: None, etag: None }
    }

    /// What the repository's page says of its terms; a hub that does not say is no reason to fail.
    async fn licence_of_modelscope(&self, repo: &RepoId, revision: &str) -> Option<Licence> {
        let info: Info = self.wrapped(&format!("/{repo}"), repo, revision).await.ok()?;
        let name = info.license.filter(|name| !name.is_empty())?;
        Some(Licence { name, page: self.page(repo) })
    }

    async fn wrapped<T: DeserializeOwned>(
        &self,
        path: &str,
        repo: &RepoId,
        revision: &str,
    ) -> Result<T, HubError> {
        let url = self.endpoint.below(&format!("/api/v1/models{path}"));
        let refused = |status: StatusCode, said: &str| match status {
            StatusCode::NOT_FOUND if said.to_ascii_lowercase().contains("revision") => {
                Some(HubError::NoRevision { repo: repo.clone(), revision: revision.to_owned() })
            }
            StatusCode::NOT_FOUND => Some(HubError::NoRepository {
                hub: HubKind::ModelScope,
                repo: repo.clone(),
                token: self.token,
            }),
            StatusCode::FORBIDDEN => {
                Some(HubError::Gated { repo: repo.clone(), page: self.page(repo), token: self.token })
            }
            _ => None,
        };
        let reply = self.get(&url, |reply, said| refused(reply.status, said)).await?;
        let host = reply.url.origin.authority();
        let wrapped: Wrapped<T> = json(reply).await?;
        let what = format!("a reply without content: {:.100}", wrapped.message);
        wrapped.data.ok_or(HubError::Reply { host, what })
    }
}
