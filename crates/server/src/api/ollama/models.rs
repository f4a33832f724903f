//! The models that are served, as Ollama's clients list them and look at them; and the version.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use glimmer::{LoadedModel, ModelFacts, ModelKind, ModelState, ModelStatus};
use serde_json::{Map, Value, json};

use crate::api::ollama::{modelfile, names};
use crate::app::App;
use crate::clock::{now, timestamp};
use crate::error::ApiError;
use crate::http::params::Params;
use crate::http::response;
use crate::models::made::Made;
use crate::record::entry::Entry;

/// The release of Ollama whose API this is: clients compare it with what they need.
const RELEASE: &str = "0.33.0";

/// What Ollama means by no end: all the nanoseconds that a signed number counts.
const ENDLESS: Duration = Duration::from_nanos(i64::MAX as u64);

/// `GET /api/version`: that of the API, and behind it this program's, as semantic versioning has what does not count.
pub(crate) async fn version() -> Response {
    let version = format!("{RELEASE}+glimmer.{}", env!("CARGO_PKG_VERSION"));
    response::json(StatusCode::OK, &json!({"version": version}))
}

/// `GET /api/tags`: all that requests may name, loaded or not.
pub(crate) async fn tags(
    State(app): State<Arc<App>>,
    Extension(entry): Extension<Entry>,
) -> Result<Response, ApiError> {
    let models = app.models()?;
    models.look().await;
    let mut listed = Vec::new();
    for status in models.registry().status() {
        let facts = facts(&app, &entry, &status).await;
        let made = app.made.all().into_iter().filter(|(_, made)| status.names.contains(&made.from));
        let own = status.names.iter().map(|name| (name.clone(), None));
        let made = made.map(|(name, made)| (name, Some(made)));
        listed.extend(own.chain(made).map(|(name, made)| {
            let made = made.as_deref();
            let mut shown = named(&name, &status, &facts, made);
            shown["modified_at"] = timestamp(made.map_or(status.created, |made| made.created)).into();
            shown["capabilities"] = capabilities(&status, &facts).into();
            shown
        }));
    }
    Ok(response::json(StatusCode::OK, &json!({"models": listed})))
}

/// `GET /api/ps`: the models that are loaded.
pub(crate) async fn ps(
    State(app): State<Arc<App>>,
    Extension(entry): Extension<Entry>,
) -> Result<Response, ApiError> {
    let models = app.models()?;
    let mut listed = Vec::new();
    for status in models.registry().status() {
        if status.state != ModelState::Loaded {
            continue;
        }
        let facts = facts(&app, &entry, &status).await;
        let mut shown = named(&status.names[0], &status, &facts, None);
        shown["size"] = status.memory.into();
        let stays = status.stays.unwrap_or(ENDLESS).min(ENDLESS);
        shown["expires_at"] = timestamp(now().saturating_add(stays.as_secs())).into();
        let lease = models.registry().find(&status.names[0]);
        let (context, is_on_card) = match lease.as_ref().map(|lease| &lease.model) {
            Some(LoadedModel::Engine(engine)) => (engine.context(), !engine.device().starts_with("CPU")),
            Some(LoadedModel::Embedder(embedder)) => (embedder.max_tokens(), false),
            Some(LoadedModel::Reranker(_)) | None => (0, false),
        };
        shown["size_vram"] = if is_on_card { status.memory } else { 0 }.into();
        shown["context_length"] = context.into();
        listed.push(shown);
    }
    Ok(response::json(StatusCode::OK, &json!({"models": listed})))
}

/// `POST /api/show`: what is known of a model.
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    Extension(entry): Extension<Entry>,
    mut params: Params,
) -> Result<Response, ApiError> {
    let named = names::take(&app, &entry, &mut params, &names::FIELDS).await?;
    let is_verbose = params.boolean("verbose").unwrap_or(false);
    // A description of the model as it would be with these.
    params.not_yet("options");
    for field in ["system", "template"] {
        if params.string(field).is_some_and(|text| !text.is_empty()) {
            params.unsupported(field, format!("`{field}`: a model is shown as it is"));
        }
    }
    params.done()?;
    let models = app.models()?;
    let facts = models.facts(&entry, named.base()).await?;
    let all = models.registry().status();
    let status = models.named(&all, named.base()).ok_or_else(|| names::not_found(&named.name))?;
    let own = Made { from: named.known.clone(), parameters: parameters(&facts), ..Made::default() };
    let made = named.made.as_deref().unwrap_or(&own);
    let lines = modelfile::lines(&made.parameters);
    let lines: Vec<String> = lines.into_iter().map(|(name, value)| format!("{name:<30} {value}")).collect();
    let mut shown = json!({
        "modelfile": modelfile::write(made),
        "parameters": lines.join("\n"),
        "template": facts.template.as_deref().unwrap_or_default(),
        "details": details(&facts, named.made.as_deref()),
        "model_info": facts.keys,
        "capabilities": capabilities(status, &facts),
        "modified_at": timestamp(if made.created > 0 { made.created } else { status.created }),
    });
    if let Some(system) = &made.system {
        shown["system"] = system.as_str().into();
    }
    if !made.messages.is_empty() {
        shown["messages"] = made.messages.clone().into();
    }
    if !made.license.is_empty() {
        shown["license"] = made.license.join("\n").into();
    } else if let Some(license) = facts.keys.get("general.license").filter(|license| license.is_string()) {
        shown["license"] = license.clone();
    }
    if is_verbose {
        // The first dimension of a GGUF is the last of a matrix.
        let tensor = |tensor: &glimmer::Tensor| {
            let shape: Vec<usize> = tensor.shape.iter().rev().copied().collect();
            json!({"name": tensor.name, "type": tensor.kind, "shape": shape})
        };
        shown["tensors"] = facts.tensors.iter().map(tensor).collect();
    }
    Ok(response::json(StatusCode::OK, &shown))
}

/// What the files of a model say; nothing where they cannot be read, which is told to whoever uses it.
async fn facts(app: &App, entry: &Entry, status: &ModelStatus) -> Arc<ModelFacts> {
    match app.models() {
        Ok(models) => models.facts(entry, &status.names[0]).await.unwrap_or_default(),
        Err(_) => Arc::default(),
    }
}

/// A model under one of its names. Its digest tells models apart, and those before from those after a change of their files:
/// it is of what is listed here, since hashing gigabytes for a list would take minutes.
fn named(name: &str, status: &ModelStatus, facts: &ModelFacts, made: Option<&Made>) -> Value {
    let name = names::tagged(name);
    // A copy is what it was made of, whatever it is called.
    let own = made.map(|made| json!([made.system, made.parameters, made.messages, made.license]));
    let own = own.filter(|own| *own != json!([null, {}, [], []]));
    let identity = json!([status.names, status.created, facts.bytes, facts.quantization, own]);
    let digest = names::digest(&identity.to_string());
    json!({"name": name, "model": name, "size": facts.bytes, "digest": digest, "details": details(facts, made)})
}

fn details(facts: &ModelFacts, made: Option<&Made>) -> Value {
    let families: Vec<&str> =
        Some(facts.family.as_str()).into_iter().filter(|family| !family.is_empty()).collect();
    json!({
        "parent_model": made.map_or("", |made| &made.from),
        "format": facts.format,
        "family": facts.family,
        "families": families,
        "parameter_size": parameter_size(facts.parameters),
        "quantization_level": facts.quantization,
        "context_length": facts.context,
        "embedding_length": facts.width,
    })
}

/// A number as people say it: `9.4B`.
fn parameter_size(parameters: u64) -> String {
    let scaled = |unit: u64, word: &str| {
        let number = parameters as f64 / unit as f64;
        if number < 10.0 { format!("{number:.1}{word}") } else { format!("{number:.0}{word}") }
    };
    match parameters {
        0 => String::new(),
        1..1_000 => parameters.to_string(),
        1_000..1_000_000 => scaled(1_000, "K"),
        1_000_000..1_000_000_000 => scaled(1_000_000, "M"),
        _ => scaled(1_000_000_000, "B"),
    }
}

fn capabilities(status: &ModelStatus, facts: &ModelFacts) -> Vec<&'static str> {
    match status.kind {
        ModelKind::Text => {}
        ModelKind::Vectors => return vec!["embedding"],
        ModelKind::Scores => return Vec::new(),
    }
    let able =
        [("completion", true), ("tools", facts.calls), ("vision", facts.sees), ("thinking", facts.thinks)];
    able.into_iter().filter(|(_, is_able)| *is_able).map(|(word, _)| word).collect()
}

/// How the model's tokens are chosen where a request says nothing, in Ollama's words.
fn parameters(facts: &ModelFacts) -> Map<String, Value> {
    let Some(own) = &facts.chat_sampling else { return Map::new() };
    let all = [
        ("temperature", own.temperature.into()),
        ("top_k", own.top_k.into()),
        ("top_p", own.top_p.into()),
        ("min_p", own.min_p.into()),
        ("repeat_penalty", own.repetition_penalty.into()),
    ];
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes_are_as_people_say_them() {
        for (parameters, size) in [
            (0, ""),
            (999, "999"),
            (33_400, "33K"),
            (1_593_427_968, "1.6B"),
            (9_399_951_360, "9.4B"),
            (32_000_000_000, "32B"),
            (950_000_000, "950M"),
        ] {
            assert_eq!(super::parameter_size(parameters), size);
        }
    }
}
