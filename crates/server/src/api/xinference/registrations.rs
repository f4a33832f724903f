//! Models that can be launched by name, those of users among them.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State as Shared};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::error::{ApiError, shown};
use crate::http::params::Params;
use crate::http::{query, response};
use crate::launcher::{LaunchError, Launcher, ModelType, Registration};
use crate::models::blocking::blocking;
use crate::record::entry::Entry;

/// Abilities by which Xinference lists families.
const ABILITIES: [&str; 8] = ["chat", "generate", "tools", "vision", "reasoning", "audio", "omni", "hybrid"];

/// Asks the launcher on a thread for slow things: a user's own models are in files.
async fn asked<T: Serialize + Send + 'static>(
    app: &App,
    entry: &Entry,
    ask: impl FnOnce(&dyn Launcher) -> Result<T, LaunchError> + Send + 'static,
) -> Result<Response, ApiError> {
    let launcher = Arc::clone(app.launcher()?);
    let value = blocking(entry, move || Ok(ask(launcher.as_ref())?)).await?;
    Ok(response::json(StatusCode::OK, &value))
}

fn model_type(word: &str) -> Result<ModelType, ApiError> {
    match word.to_ascii_lowercase().as_str() {
        "llm" => Ok(ModelType::Llm),
        "embedding" => Ok(ModelType::Embedding),
        "rerank" => Ok(ModelType::Rerank),
        _ => Err(ApiError::invalid(format!(
            "models of the type {} do not run here; LLM, embedding and rerank do",
            shown(word)
        ))),
    }
}

/// `GET /v1/model_registrations/{type}?detailed=`.
pub(crate) async fn list(
    Shared(app): Shared<Arc<App>>,
    Extension(entry): Extension<Entry>,
    Path(word): Path<String>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let (kind, detailed) = (model_type(&word)?, query::flag(&uri, "detailed", false)?);
    let brief = |one: Registration| json!({"model_name": one.model_name, "is_builtin": one.is_builtin});
    let full = |one: Registration| serde_json::to_value(one).unwrap_or_default();
    asked(&app, &entry, move |launcher| {
        let all = launcher.registrations(kind)?.into_iter();
        Ok(if detailed { all.map(full).collect::<Vec<Value>>() } else { all.map(brief).collect() })
    })
    .await
}

/// `GET /v1/model_registrations/{type}/{name}`.
pub(crate) async fn one(
    Shared(app): Shared<Arc<App>>,
    Extension(entry): Extension<Entry>,
    Path((word, name)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let kind = model_type(&word)?;
    asked(&app, &entry, move |launcher| {
        let found = launcher.registrations(kind)?.into_iter().find(|one| one.model_name == name);
        found.ok_or_else(|| LaunchError::Invalid(format!("Model {} not found", shown(&name))))
    })
    .await
}

/// `POST /v1/model_registrations/{type}`: adds a model of the client's own, in Xinference's custom JSON.
pub(crate) async fn register(
    Shared(app): Shared<Arc<App>>,
    Extension(entry): Extension<Entry>,
    Path(word): Path<String>,
    mut params: Params,
) -> Result<Response, ApiError> {
    let kind = model_type(&word)?;
    params.need("model");
    let model = params.string("model").unwrap_or_default();
    let persist = params.boolean("persist").unwrap_or(false);
    if params.string("worker_ip").is_some_and(|address| !address.is_empty()) {
        params.unsupported("worker_ip", "`worker_ip`: this machine is the cluster");
    }
    params.done()?;
    asked(&app, &entry, move |launcher| launcher.register(kind, &model, persist)).await
}

/// `DELETE /v1/model_registrations/{type}/{name}`.
pub(crate) async fn unregister(
    Shared(app): Shared<Arc<App>>,
    Extension(entry): Extension<Entry>,
    Path((word, name)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let kind = model_type(&word)?;
    asked(&app, &entry, move |launcher| launcher.unregister(kind, &name)).await
}

/// `GET /v1/engines/{name}`: by engine, the forms in which a model runs.
pub(crate) async fn engines_of_llm(
    shared: Shared<Arc<App>>,
    entry: Extension<Entry>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    engines(shared, entry, Path(("LLM".to_owned(), name))).await
}

/// `GET /v1/engines/{type}/{name}`.
pub(crate) async fn engines(
    Shared(app): Shared<Arc<App>>,
    Extension(entry): Extension<Entry>,
    Path((word, name)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let kind = model_type(&word)?;
    asked(&app, &entry, move |launcher| launcher.engines(kind, &name)).await
}

/// `GET /v1/models/families`: names by ability.
pub(crate) async fn families(
    Shared(app): Shared<Arc<App>>,
    Extension(entry): Extension<Entry>,
) -> Result<Response, ApiError> {
    asked(&app, &entry, |launcher| {
        let all = launcher.registrations(ModelType::Llm)?;
        let names = |ability: &str| -> Value {
            let able = all.iter().filter(|one| one.model_ability.iter().any(|own| own == ability));
            able.map(|one| one.model_name.as_str()).collect()
        };
        Ok(ABILITIES.iter().map(|&ability| (ability.to_owned(), names(ability))).collect::<Map<_, _>>())
    })
    .await
}

/// `GET /v1/models/vllm-supported`: the models that run by the word vLLM, which is as good as any other here.
pub(crate) async fn vllm_supported(
    Shared(app): Shared<Arc<App>>,
    Extension(entry): Extension<Entry>,
) -> Result<Response, ApiError> {
    asked(&app, &entry, |launcher| {
        let runs = |one: &Registration| {
            launcher.engines(ModelType::Llm, &one.model_name).is_ok_and(|e| !e.is_empty())
        };
        let all: Vec<Registration> =
            launcher.registrations(ModelType::Llm)?.into_iter().filter(runs).collect();
        let names = |ability: &str| -> Vec<&str> {
            let able = all.iter().filter(|one| one.model_ability.iter().any(|own| own == ability));
            able.map(|one| one.model_name.as_str()).collect()
        };
        Ok(json!({"chat": names("chat"), "generate": names("generate")}))
    })
    .await
}

/// `GET /v1/models/prompts`: styles of prompts by name. A model's own template is its style.
pub(crate) async fn prompts() -> Response {
    response::json(StatusCode::OK, &json!({}))
}
