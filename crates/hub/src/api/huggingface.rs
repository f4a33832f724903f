//! Hugging Face's API, as huggingface_hub 2.4.0 speaks it.

use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use super::{Api, Located, MOST_FILES, json, said};
use crate::http::{Follow, Reply};
use crate::id::{is_blob_name, is_commit};
use crate::listing::Licence;
use crate::url::{Url, encoded};
use crate::{HubError, HubKind, Listing, RepoFile, RepoId};

/// `/api/models/{id}/revision/{revision}`.
#[derive(Deserialize)]
struct Info {
    id: String,
    sha: String,
    #[serde(rename = "cardData", default)]
    card: Value,
}

/// An entry of `/api/models/{id}/tree/{commit}`.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    oid: String,
    #[serde(default)]
    size: u64,
    lfs: Option<Lfs>,
    #[serde(rename = "xetHash")]
    xet: Option<String>,
}

/// A file that git keeps a pointer of.
#[derive(Deserialize)]
struct Lfs {
    oid: String,
    size: u64,
}

impl Api {
    pub(super) async fn list_huggingface(&self, repo: &RepoId, revision: &str) -> Result<Listing, HubError> {
        let url = self.endpoint.below(&format!("/api/models/{repo}/revision/{}", encoded(revision, "")));
        let info: Info = json(self.get_model(&url, repo, revision).await?).await?;
        if !is_commit(&info.sha) {
            let host = self.endpoint.origin.authority();
            return Err(HubError::Reply { host, what: "it names no commit; is this a hub?".to_owned() });
        }
        let canonical: RepoId = info.id.parse()?;
        let files = self.tree(&canonical, &info.sha, repo).await?;
        let licence = self.licence_of(&info.card, &canonical, &files);
        Ok(Listing {
            hub: HubKind::HuggingFace,
            moved_to: (canonical != *repo).then_some(canonical),
            repo: repo.clone(),
            revision: revision.to_owned(),
            commit: info.sha,
            files,
            licence,
        })
    }

    async fn tree(&self, canonical: &RepoId, commit: &str, repo: &RepoId) -> Result<Vec<RepoFile>, HubError> {
        let mut files = Vec::new();
        let mut next =
            Some(self.endpoint.below(&format!("/api/models/{canonical}/tree/{commit}?recursive=true")));
        while let Some(url) = next {
            let reply = self.get_model(&url, repo, commit).await?;
            let linked = reply.header("link").and_then(next_page);
            // A mirror may pass on the hub's own address: the page is asked of the mirror all the same.
            next = linked.map(|link| url.join(link).map_err(|what| reply.nonsense(what))).transpose()?;
            next = next.map(|next| Url { origin: url.origin.clone(), ..next });
            let host = url.origin.authority();
            let entries: Vec<Entry> = json(reply).await?;
            if entries.is_empty() && next.is_some() || files.len() + entries.len() > MOST_FILES {
                return Err(HubError::Reply { host, what: format!("more than {MOST_FILES} files") });
            }
            let is_file = |entry: &Entry| entry.kind == "file";
            files.extend(entries.into_iter().filter(is_file).map(|entry| RepoFile {
                path: entry.path,
                size: entry.lfs.as_ref().map_or(entry.size, |lfs| lfs.size),
                sha256: entry.lfs.map(|lfs| lfs.oid),
                git: Some(entry.oid).filter(|oid| is_commit(oid)),
                xet: entry.xet,
            }));
        }
        Ok(files)
    }

    /// A reply about a repository, or what its refusal means.
    async fn get_model(&self, url: &Url, repo: &RepoId, revision: &str) -> Result<Reply, HubError> {
        self.get(url, |reply, said| self.refused_model(reply, said, repo, revision)).await
    }

    fn refused_model(&self, reply: &Reply, said: &str, repo: &RepoId, revision: &str) -> Option<HubError> {
        let (repo, token) = (repo.clone(), self.token);
        let is_wrong_token = said == "Invalid credentials in Authorization header";
        match (reply.header("x-error-code"), reply.status) {
            (None, _) if is_wrong_token => None,
            (Some("GatedRepo"), _) => Some(HubError::Gated { page: self.page(&repo), repo, token }),
            (Some("RevisionNotFound"), _) => {
                Some(HubError::NoRevision { repo, revision: revision.to_owned() })
            }
            // A repository that nobody but its owner may see looks like one that there is not.
            (Some("RepoNotFound"), _) | (None, StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND) => {
                Some(HubError::NoRepository { hub: HubKind::HuggingFace, repo, token })
            }
            _ => None,
        }
    }

    /// What `HEAD` of a file says. Of a large one it redirects to a store on another host, which the name of the version
    /// does not come from.
    pub(super) async fn locate_huggingface(
        &self,
        listing: &Listing,
        file: &RepoFile,
    ) -> Result<Located, HubError> {
        let repo = listing.moved_to.as_ref().unwrap_or(&listing.repo);
        let path = encoded(&file.path, "/");
        let url = self.endpoint.below(&format!("/{repo}/resolve/{}/{path}", listing.commit));
        let attempt = || async {
            let reply = self.client.send(&Method::HEAD, &url, None, Follow::OnHost).await?;
            if !reply.status.is_success() && !reply.status.is_redirection() {
                let said = said(&reply, &[]);
                let error = match reply.header("x-error-code") {
                    // It was listed a moment ago.
                    Some("EntryNotFound" | "RevisionNotFound") => {
                        Some(HubError::Changed { path: file.path.clone() })
                    }
                    _ => self.refused_model(&reply, &said, &listing.repo, &listing.commit),
                };
                return Err(error.unwrap_or_else(|| reply.refusal(&said, self.token)));
            }
            Ok(reply)
        };
        let reply = self.client.patiently(self.client.patience.attempts, attempt).await?;
        let size = reply.header("x-linked-size").or_else(|| {
            reply.header("content-length").filter(|_| reply.status.is_success() && !reply.is_encoded())
        });
        let commit = reply.header("x-repo-commit");
        if size.is_some_and(|size| size.trim().parse() != Ok(file.size))
            || commit.is_some_and(|c| c != listing.commit)
        {
            return Err(HubError::Changed { path: file.path.clone() });
        }
        let etag = reply.header("x-linked-etag").or_else(|| reply.header("etag")).map(name_of_version);
        let etag = etag.or_else(|| file.sha256.clone()).or_else(|| file.git.clone());
        let etag = etag.filter(|etag| is_blob_name(etag)).ok_or_else(|| {
            reply.nonsense(format!("it gives {:.100} no ETag that could be kept", file.path))
        })?;
        if file.sha256.as_ref().is_some_and(|sha256| etag.len() == 64 && etag != *sha256) {
            return Err(HubError::Changed { path: file.path.clone() });
        }
        let direct = reply.leads_to().or_else(|| (reply.url != url).then(|| reply.url.clone()));
        Ok(Located { url, direct, etag: Some(etag) })
    }

    fn licence_of(&self, card: &Value, repo: &RepoId, files: &[RepoFile]) -> Option<Licence> {
        let text = |key: &str| card.get(key).and_then(Value::as_str).map(str::to_owned);
        let of_list = || Some(card.get("license")?.as_array()?.first()?.as_str()?.to_owned());
        let kind = text("license").or_else(of_list);
        // `other` stands before a name of its own.
        let name = kind.filter(|kind| kind != "other").or_else(|| text("license_name"));
        let stem = |path: &str| path.split('.').next().unwrap_or_default().to_ascii_uppercase();
        let has = |word: &str| files.iter().find(|file| stem(&file.path) == word);
        let file = ["MODEL_LICENSE", "LICENSE", "LICENCE"].into_iter().find_map(has);
        let page = match file {
            Some(file) => format!("{}/blob/main/{}", self.page(repo), encoded(&file.path, "/")),
            None => text("license_link").unwrap_or_else(|| self.page(repo)),
        };
        (name.is_some() || file.is_some())
            .then(|| Licence { name: name.unwrap_or_else(|| "its own".to_owned()), page })
    }
}

/// The name of a version inside an ETag, weak (`W/"x"`) or not.
fn name_of_version(etag: &str) -> String {
    etag.trim_start_matches(['W', '/']).trim_matches('"').to_owned()
}

/// The next page in a header `Link`: `<address>; rel="next"`.
fn next_page(link: &str) -> Option<&str> {
    let links = link.split(", ");
    let next =
        links.filter_map(|link| link.split_once('>')).find(|(_, rest)| rest.contains("rel=\"next\""))?;
    next.0.trim().strip_prefix('<')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_etags_name_the_same_version() {
        assert_eq!(name_of_version("\"abc\""), "abc");
        assert_eq!(name_of_version("W/\"abc\""), "abc");
        assert_eq!(name_of_version("abc"), "abc");
    }

    #[test]
    fn pages_follow_each_other() {
        let link = "<https://h/a?cursor=1>; rel=\"prev\", <https://h/a?cursor=2&x=1>; rel=\"next\"";
        assert_eq!(next_page(link), Some("https://h/a?cursor=2&x=1"));
        assert_eq!(next_page("<https://h/a>; rel=\"prev\""), None);
        assert_eq!(next_page("nonsense"), None);
    }
}
