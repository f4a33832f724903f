//! How the two hubs are asked: what a repository holds, and where the bytes of a file are.

mod huggingface;
mod modelscope;

use std::collections::BTreeSet;

use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::http::{Client, Follow, Reply};
use crate::id::check_path;
use crate::url::Url;
use crate::{HubError, HubKind, HubOptions, Listing, RepoFile, RepoId};

/// Bytes of one reply of a hub's API.
const LARGEST_REPLY: usize = 16 << 20;
/// Files of a repository.
const MOST_FILES: usize = 50_000;
/// Attempts to reach a hub before anything is known of it: somebody waits for the first word.
const FIRST_ATTEMPTS: u32 = 1;

/// A hub's API.
pub(crate) struct Api {
    pub(crate) client: Client,
    kind: HubKind,
    endpoint: Url,
    token: &'static str,
}

/// Where the bytes of a file are.
#[derive(Debug)]
pub(crate) struct Located {
    /// The hub's own address of the file.
    pub(crate) url: Url,
    /// Where that leads, when it is known; such an address may expire.
    pub(crate) direct: Option<Url>,
    /// What the hub calls this version of the file.
    pub(crate) etag: Option<String>,
}

impl Api {
    pub(crate) fn new(options: &HubOptions) -> Result<Self, HubError> {
        let endpoint = Url::parse(&options.endpoint).map_err(|what| HubError::Option {
            name: match options.kind {
                HubKind::HuggingFace => "HF_ENDPOINT".to_owned(),
                HubKind::ModelScope => "MODELSCOPE_ENDPOINT".to_owned(),
            },
            what,
        })?;
        let client = Client::new(options, &endpoint)?;
        Ok(Api { client, kind: options.kind, endpoint, token: options.token_variable() })
    }

    /// The files of a repository.
    pub(crate) async fn list(&self, repo: &RepoId, revision: &str) -> Result<Listing, HubError> {
        check_path(revision)?;
        let listing = match self.kind {
            HubKind::HuggingFace => self.list_huggingface(repo, revision).await?,
            HubKind::ModelScope => self.list_modelscope(repo, revision).await?,
        };
        let mut seen = BTreeSet::new();
        for file in &listing.files {
            check_path(&file.path)?;
            if !seen.insert(file.path.as_str()) {
                let why = "it is listed twice";
                return Err(HubError::Name { name: file.path.clone(), why });
            }
        }
        Ok(listing)
    }

    /// Where a file's bytes are, and what the hub calls them.
    pub(crate) async fn locate(&self, listing: &Listing, file: &RepoFile) -> Result<Located, HubError> {
        match self.kind {
            HubKind::HuggingFace => self.locate_huggingface(listing, file).await,
            HubKind::ModelScope => Ok(self.locate_modelscope(listing, file)),
        }
    }

    /// The variable that names its token.
    pub(crate) fn token(&self) -> &'static str {
        self.token
    }

    /// The page of a repository, for a person.
    fn page(&self, repo: &RepoId) -> String {
        let folder = if self.kind == HubKind::ModelScope { "/models" } else { "" };
        self.endpoint.below(&format!("{folder}/{repo}")).to_string()
    }

    /// A reply of the API that is a success; anything else goes to `refused` with what it says.
    async fn get(
        &self,
        url: &Url,
        refused: impl Fn(&Reply, &str) -> Option<HubError>,
    ) -> Result<Reply, HubError> {
        let attempt = || async {
            let mut reply = self.client.send(&Method::GET, url, None, Follow::Everywhere).await?;
            if reply.status == StatusCode::OK {
                return Ok(reply);
            }
            let body = reply.drain().await;
            let said = said(&reply, &body);
            Err(refused(&reply, &said).unwrap_or_else(|| reply.refusal(&said, self.token)))
        };
        self.client.patiently(FIRST_ATTEMPTS, attempt).await
    }
}

/// What a hub says of a failure: Hugging Face in a header, ModelScope in the body.
fn said(reply: &Reply, body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Body {
        #[serde(rename = "Message", alias = "error")]
        message: String,
    }
    let of_body = || serde_json::from_slice::<Body>(body).map(|body| body.message).unwrap_or_default();
    reply.header("x-error-message").map_or_else(of_body, str::to_owned)
}

/// The JSON of a reply.
async fn json<T: DeserializeOwned>(mut reply: Reply) -> Result<T, HubError> {
    let host = reply.url.origin.authority();
    let bytes = reply.bytes(LARGEST_REPLY).await?;
    serde_json::from_slice(&bytes)
        .map_err(|e| HubError::Reply { host, what: format!("a reply that cannot be read: {e}") })
}
