//! What Ollama's clients call a model: `NAME:TAG`, of which the tag `latest` may be left out.

use std::fmt::Write;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::app::App;
use crate::error::{ApiError, shown};
use crate::http::params::Params;
use crate::launcher::{Gpus, LaunchSpec, ModelType};
use crate::models::blocking::blocking;
use crate::models::made::Made;
use crate::record::entry::Entry;

const LATEST: &str = ":latest";

/// Bytes of a name.
const BYTES: usize = 200;

/// Hosts before OWNER/NAME that mean the hubs.
const HUBS: [&str; 2] = ["hf.co/", "huggingface.co/"];

/// A model that a request names.
pub(crate) struct Named {
    /// As the client wrote it.
    pub(crate) name: String,
    /// As it is known: to the registry, or as one that is made of another.
    pub(crate) known: String,
    /// What it is made of, if it is so.
    pub(crate) made: Option<Arc<Made>>,
}

impl Named {
    /// The registry's name of the model that answers.
    pub(crate) fn base(&self) -> &str {
        self.made.as_ref().map_or(&self.known, |made| &made.from)
    }
}

/// The name with its tag.
pub(crate) fn tagged(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains(':') { name.to_owned() } else { format!("{name}{LATEST}") }
}

/// The names that mean the same.
pub(crate) fn spellings(name: &str) -> [String; 3] {
    [name.to_owned(), name.strip_suffix(LATEST).unwrap_or(name).to_owned(), tagged(name)]
}

/// Whether a name can be a model's.
pub(crate) fn is_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_alphanumeric() || "._-:/".contains(c);
    name.len() <= BYTES && name.starts_with(char::is_alphanumeric) && name.chars().all(is_plain)
}

/// What is launched under a name.
pub(crate) fn spec(name: &str) -> LaunchSpec {
    let plain = name.strip_suffix(LATEST).unwrap_or(name);
    let word = HUBS.iter().find_map(|hub| plain.strip_prefix(hub)).unwrap_or(plain);
    LaunchSpec {
        model_type: ModelType::Llm,
        name: word.to_owned(),
        engine: None,
        size: None,
        format: None,
        quantization: None,
        replica: 1,
        gpus: Gpus::Auto,
        request_limits: None,
        context: None,
        hub: None,
        path: None,
        accepts_licence: false,
    }
}

/// The name of a model as it is known. Where clients may change what is served, models whose files are here are.
pub(crate) async fn known(app: &App, entry: &Entry, name: &str) -> Option<String> {
    let models = app.models().ok().filter(|_| !name.is_empty())?;
    let spellings = spellings(name);
    let find = || spellings.iter().find(|name| models.has(name) || app.made.find(name).is_some()).cloned();
    if let Some(found) = find() {
        return Some(found);
    }
    if models.look().await
        && let Some(found) = find()
    {
        return Some(found);
    }
    let launcher = Arc::clone(app.launcher().ok().filter(|_| is_name(name))?);
    let wanted = name.to_owned();
    let here = move || {
        let launch = launcher.resolve(spec(&wanted)).ok();
        Ok(launch.and_then(|launch| launch.here(vec![wanted.clone()])))
    };
    let model = blocking(entry, here).await.ok()??;
    // Another request may have been first.
    let _ = models.registry().know(model);
    find()
}

/// The field that names a model, and that of older clients behind it.
pub(crate) const FIELDS: [&str; 2] = ["model", "name"];

/// Takes the name of a model, which must be in one of these fields; the rest of the request is looked at all the same.
pub(crate) fn asked(params: &mut Params, fields: &[&str]) -> String {
    let names: Vec<String> = fields.iter().filter_map(|field| params.string(field)).collect();
    let name = names.into_iter().find(|name| !name.is_empty());
    if name.is_none() {
        params.refuse(ApiError::parameter("model", "`model` is missing"));
    }
    name.unwrap_or_default()
}

/// The same, which must be known; of a request that names none it is the first, for what else is wrong with it.
pub(crate) async fn take(
    app: &App,
    entry: &Entry,
    params: &mut Params,
    fields: &[&str],
) -> Result<Named, ApiError> {
    let models = app.models()?;
    let name = asked(params, fields);
    let known = match known(app, entry, &name).await {
        Some(known) => known,
        None if name.is_empty() || app.options.any_model => models.first_name().await?,
        None => return Err(not_found(&name)),
    };
    let made = app.made.find(&known);
    Ok(Named { name, known, made })
}

/// 404, in the words that Ollama's clients look for.
pub(crate) fn not_found(name: &str) -> ApiError {
    let name = shown(name);
    ApiError::no_such_model(format!("model '{name}' not found: /api/tags lists those that are served"))
}

/// SHA-256 of a text, in hexadecimal digits.
pub(crate) fn digest(text: &str) -> String {
    Sha256::digest(text).iter().fold(String::new(), |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_may_be_left_out() {
        for (name, whole) in [
            ("demo", "demo:latest"),
            ("glm:9b", "glm:9b"),
            ("hf.co/owner/name", "hf.co/owner/name:latest"),
            ("localhost:5000/name", "localhost:5000/name:latest"),
        ] {
            assert_eq!(tagged(name), whole);
        }
    }

    #[test]
    fn names_are_words() {
        for name in ["glm:9b", "hf.co/owner/name:Q4_K_M", "a", "模型"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "/a", ".a", "a b", "a\nb", "a\u{202e}", &"x".repeat(201)] {
            assert!(!is_name(name), "{name}");
        }
        assert_eq!(spec("hf.co/owner/name:Q4_K_M").name, "owner/name:Q4_K_M");
        assert_eq!(spec("glm-edge:latest").name, "glm-edge");
    }
}
