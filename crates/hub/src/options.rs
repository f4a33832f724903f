//! Where a hub is and how it is spoken to, from the variables that the hubs' own tools read.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::proxy::Proxies;
use crate::{HubError, HubKind};

/// How one hub is used.
#[derive(Clone, Debug)]
pub struct HubOptions {
    /// Which hub.
    pub kind: HubKind,
    /// Its address, or a mirror's.
    pub endpoint: String,
    /// The token that is shown to that address alone.
    pub token: Option<String>,
    /// The folder of its cache, which its own tool uses, too.
    pub cache: PathBuf,
    /// Whether nothing may be asked of the network.
    pub offline: bool,
    /// Connections at once.
    pub connections: usize,
    /// How long a slow or failing hub is waited for.
    pub patience: Patience,
    pub(crate) proxies: Proxies,
}

/// How long a slow or failing hub is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How long nothing may come: no connection, no reply, no further byte.
    pub stall: Duration,
    /// Further attempts after a failure; bytes that arrive set the count back.
    pub attempts: u32,
    /// The pause before the first of them; each further one is twice as long, half a minute at most.
    pub first_pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience { stall: Duration::from_secs(10), attempts: 5, first_pause: Duration::from_millis(500) }
    }
}

impl HubOptions {
    /// From the environment. Of Hugging Face `HF_ENDPOINT`, `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HOME`, `HF_HUB_CACHE`,
    /// `HF_HUB_DOWNLOAD_TIMEOUT` and `HF_HUB_DISABLE_IMPLICIT_TOKEN`, of ModelScope `MODELSCOPE_ENDPOINT`,
    /// `MODELSCOPE_API_TOKEN` and `MODELSCOPE_CACHE`; of both `HF_HUB_OFFLINE`, `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and
    /// `NO_PROXY`.
    ///
    /// # Errors
    /// When one of them makes no sense.
    pub fn from_env(kind: HubKind) -> Result<Self, HubError> {
        Self::from_variables(kind, &|name| std::env::var(name).ok())
    }

    fn from_variables(kind: HubKind, get: &dyn Fn(&str) -> Option<String>) -> Result<Self, HubError> {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        let home = PathBuf::from(get("HOME").unwrap_or_else(|| ".".to_owned()));
        let path = |name: &str| get(name).map(|value| expanded(&value, &home));
        let caches = path("XDG_CACHE_HOME").unwrap_or_else(|| home.join(".cache"));
        let is_on = |name: &str| get(name).is_some_and(|value| is_true(&value));
        let (endpoint, token, cache) = match kind {
            HubKind::HuggingFace => {
                let own = path("HF_HOME").unwrap_or_else(|| caches.join("huggingface"));
                let cache = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE"));
                let file = path("HF_TOKEN_PATH").unwrap_or_else(|| own.join("token"));
                let token = get("HF_TOKEN").or_else(|| get("HUGGING_FACE_HUB_TOKEN"));
                let token = token.or_else(|| std::fs::read_to_string(file).ok());
                let token = token.filter(|_| !is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN"));
                let endpoint = get("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
                (endpoint, token, cache.unwrap_or_else(|| own.join("hub")))
            }
            HubKind::ModelScope => {
                let endpoint = get("MODELSCOPE_ENDPOINT").or_else(|| get("MODELSCOPE_DOMAIN"));
                let endpoint = endpoint.unwrap_or_else(|| "modelscope.cn".to_owned());
                let cache = path("MODELSCOPE_CACHE").unwrap_or_else(|| home.join(".cache/modelscope"));
                (with_scheme(endpoint), get("MODELSCOPE_API_TOKEN"), cache)
            }
        };
        let token = token.map(|token| token.split_whitespace().collect::<String>());
        let offline = get("HF_HUB_OFFLINE").or_else(|| get("TRANSFORMERS_OFFLINE"));
        let mut patience = Patience::default();
        if let Some(text) = get("HF_HUB_DOWNLOAD_TIMEOUT") {
            let seconds = text.parse().ok().filter(|seconds| (1..=86_400).contains(seconds));
            patience.stall = Duration::from_secs(seconds.ok_or_else(|| HubError::Option {
                name: "HF_HUB_DOWNLOAD_TIMEOUT".to_owned(),
                what: "a number of seconds is expected".to_owned(),
            })?);
        }
        Ok(HubOptions {
            kind,
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: token.filter(|token| !token.is_empty()),
            cache,
            offline: offline.is_some_and(|value| is_true(&value)),
            connections: 8,
            patience,
            proxies: Proxies::from_variables(&get)?,
        })
    }

    /// The variable that names its token.
    pub(crate) fn token_variable(&self) -> &'static str {
        match self.kind {
            HubKind::HuggingFace => "HF_TOKEN",
            HubKind::ModelScope => "MODELSCOPE_API_TOKEN",
        }
    }
}

/// The proxies on the way to a server that is no hub.
pub(crate) fn server_proxies() -> Result<Proxies, HubError> {
    Proxies::from_variables(&|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

/// What huggingface_hub takes for yes.
fn is_true(value: &str) -> bool {
    ["1", "ON", "YES", "TRUE"].contains(&value.to_ascii_uppercase().as_str())
}

/// A path in which a leading `~` is the home folder.
fn expanded(path: &str, home: &Path) -> PathBuf {
    match path.strip_prefix('~') {
        Some("") => home.to_owned(),
        Some(rest) if rest.starts_with('/') => home.join(&rest[1..]),
        _ => PathBuf::from(path),
    }
}

/// ModelScope's tools take a bare host for an address.
fn with_scheme(endpoint: String) -> String {
    let lower = endpoint.to_ascii_lowercase();
    let has = lower.starts_with("http://") || lower.starts_with("https://");
    if has { endpoint } else { format!("https://{endpoint}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(kind: HubKind, variables: &[(&str, &str)]) -> HubOptions {
        let get = |name: &str| {
            let found = variables.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        HubOptions::from_variables(kind, &get).unwrap()
    }

    #[test]
    fn the_hubs_own_variables_are_read() {
        let hf = |variables| options(HubKind::HuggingFace, variables);
        let plain = hf(&[("HOME", "/h")]);
        assert_eq!(plain.cache, Path::new("/h/.cache/huggingface/hub"));
        assert_eq!(
            (plain.endpoint.as_str(), plain.token, plain.offline),
            ("https://huggingface.co", None, false)
        );
        let all = hf(&[
            ("HOME", "/h"),
            ("HF_HOME", "~/hf"),
            ("HF_ENDPOINT", "https://hf-mirror.com/"),
            ("HF_TOKEN", " hf_x\n"),
            ("HF_HUB_OFFLINE", "yes"),
        ]);
        assert_eq!(all.cache, Path::new("/h/hf/hub"));
        assert_eq!(all.endpoint, "https://hf-mirror.com");
        assert_eq!((all.token.as_deref(), all.offline), (Some("hf_x"), true));
        assert_eq!(hf(&[("HF_HUB_CACHE", "/c"), ("HF_HOME", "/x")]).cache, Path::new("/c"));
        assert_eq!(hf(&[("XDG_CACHE_HOME", "/c")]).cache, Path::new("/c/huggingface/hub"));
        assert_eq!(hf(&[("HF_TOKEN", "x"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]).token, None);
        let ms = |variables| options(HubKind::ModelScope, variables);
        let plain = ms(&[("HOME", "/h"), ("HF_TOKEN", "x")]);
        assert_eq!(plain.cache, Path::new("/h/.cache/modelscope"));
        assert_eq!((plain.endpoint.as_str(), plain.token), ("https://modelscope.cn", None));
        let all = ms(&[
            ("MODELSCOPE_ENDPOINT", "modelscope.ai"),
            ("MODELSCOPE_API_TOKEN", "t"),
            ("MODELSCOPE_CACHE", "/m"),
        ]);
        assert_eq!((all.endpoint.as_str(), all.token.as_deref()), ("https://modelscope.ai", Some("t")));
        assert_eq!(all.cache, Path::new("/m"));
    }

    #[test]
    fn a_token_lies_in_a_file() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("token");
        std::fs::write(&path, "hf_file\n").unwrap();
        let text = home.path().to_str().unwrap();
        assert_eq!(options(HubKind::HuggingFace, &[("HF_HOME", text)]).token.as_deref(), Some("hf_file"));
        let text = path.to_str().unwrap();
        assert_eq!(
            options(HubKind::HuggingFace, &[("HF_TOKEN_PATH", text)]).token.as_deref(),
            Some("hf_file")
        );
    }
}
