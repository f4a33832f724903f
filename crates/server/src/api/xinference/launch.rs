//! Launching: `POST /v1/models`, how far a launch is, and stopping it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State as Shared};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use glimmer::{KnownModel, LeaseError, ModelState, Registry};
use serde_json::{Value, json};

use crate::app::App;
use crate::clock::now;
use crate::error::{ApiError, shown};
use crate::http::params::Params;
use crate::http::{body, query, response};
use crate::launcher::{Gpus, Launch, LaunchError, LaunchSpec, ModelType};
use crate::models::adapters::KnownAdapter;
use crate::models::blocking::blocking;
use crate::models::instances::{DOWNLOAD, Instance, Refused, State};
use crate::record::entry::Entry;

/// Bytes of a uid.
const UID: usize = 100;

/// What is listed beside models.
const LISTS: [&str; 4] = ["instances", "families", "prompts", "vllm-supported"];

/// Conversations of full length, tokens of one, cards, requests at once: more makes no sense.
const MOST: i64 = 1 << 24;

/// Adapters that come with a model, at most.
const ADAPTERS: usize = 100;

/// Engines of Xinference's, all of which mean the one that is here.
const ENGINES: [&str; 7] =
    ["transformers", "vllm", "sglang", "llama.cpp", "mlx", "sentence_transformers", "glimmer"];

/// `POST /v1/models`.
pub(crate) async fn launch(
    Shared(app): Shared<Arc<App>>,
    Extension(entry): Extension<Entry>,
    uri: Uri,
    mut params: Params,
) -> Result<Response, ApiError> {
    let launcher = Arc::clone(app.launcher()?);
    let uid = params.string("model_uid");
    let spec = spec(&mut params);
    let adapters = adapters(&mut params);
    let wait_ready = query::flag(&uri, "wait_ready", true)?;
    params.done()?;
    let (replica, name) = (spec.replica, spec.name.clone());
    // A user's own models are in files.
    let launch = blocking(&entry, move || Ok(launcher.resolve(spec)?)).await?;
    let instance = begin(&app, uid, &name, replica, (launch, adapters))?;
    if wait_ready {
        match instance.settled().await {
            State::Failed(error) => return Err(error.into()),
            State::Ended => return Err(LaunchError::Cancelled.into()),
            State::Ready | State::Downloading(_) | State::Loading => {}
        }
    }
    Ok(response::json(StatusCode::OK, &json!({"model_uid": instance.uid})))
}

/// Takes the fields that Xinference's client sends. What means nothing here is accepted where it is empty.
fn spec(params: &mut Params) -> LaunchSpec {
    params.need("model_name");
    let model_type = match params.word("model_type", &["LLM", "embedding", "rerank"]) {
        Some("embedding") => ModelType::Embedding,
        Some("rerank") => ModelType::Rerank,
        _ => ModelType::default(),
    };
    let engine = params.string("model_engine");
    if engine.as_ref().is_some_and(|word| !ENGINES.contains(&word.to_ascii_lowercase().as_str())) {
        params.wrong("model_engine", &format!("one of {}, all of which mean Glimmer's", ENGINES.join(", ")));
    }
    let size = params.value("model_size_in_billions").map(|size| match size {
        Value::String(text) => text,
        other => other.to_string(),
    });
    let mut number = |name: &str| params.integer(name, 1..=MOST).map(|number| number as usize);
    let replica = number("replica").unwrap_or(1);
    let request_limits = number("request_limits");
    // What the engines call a conversation's length.
    let context = ["max_model_len", "n_ctx", "context_length"].map(&mut number);
    let spec = LaunchSpec {
        model_type,
        name: params.string("model_name").unwrap_or_default(),
        engine,
        size,
        format: params.string("model_format"),
        quantization: params.string("quantization").filter(|quantization| !quantization.is_empty()),
        replica,
        gpus: gpus(params),
        request_limits,
        context: context.into_iter().flatten().next(),
        hub: params.word("download_hub", &["huggingface", "modelscope"]).map(str::to_owned),
        path: params.string("model_path").filter(|path| !path.is_empty()).map(Into::into),
        accepts_licence: params.boolean("accept_licence").unwrap_or(false),
    };
    refuse_what_is_not_here(params);
    spec
}

fn gpus(params: &mut Params) -> Gpus {
    let Some(value) = params.value("n_gpu") else {
        return Gpus::Auto;
    };
    let number = match &value {
        Value::String(word) if word.eq_ignore_ascii_case("auto") => return Gpus::Auto,
        Value::String(text) => text.parse().ok(),
        other => other.as_u64(),
    };
    let number = number.filter(|number| *number <= MOST as u64);
    if number.is_none() {
        params.wrong("n_gpu", "`auto` or a number of cards, 0 for the processor");
    }
    number.map_or(Gpus::Auto, |number| Gpus::Count(number as usize))
}

/// What asks for a cluster or a Python: taken where it asks for nothing.
fn refuse_what_is_not_here(params: &mut Params) {
    if params.integer("n_worker", 1..=MOST).is_some_and(|workers| workers > 1) {
        params.unsupported("n_worker", "`n_worker` can only be 1: this machine is the cluster");
    }
    for name in ["worker_ip", "gpu_idx", "replica_config"] {
        empty(params, name, "models are placed by the server");
    }
    for name in ["enable_virtual_env", "virtual_env_packages", "virtual_env_find_links", "envs"] {
        empty(params, name, "there is no Python here, and no process of its own for a model");
    }
    empty(params, "enable_thinking", "each request says it, in chat_template_kwargs");
    empty(params, "quantization_config", "`quantization` says it");
    // No code of a repository is ever run.
    params.ignore("trust_remote_code");
}

/// An adapter that comes with a model: its name and its path.
type NamedAdapter = (String, PathBuf);

/// Takes the adapters that requests are to name beside the model.
fn adapters(params: &mut Params) -> Vec<NamedAdapter> {
    let adapters = params.object("peft_model_config", |config| {
        for name in ["image_lora_load_kwargs", "image_lora_fuse_kwargs"] {
            empty(config, name, "there are no models of images here");
        }
        let list = config.value("lora_list");
        let adapter = |adapter: &Value| {
            let text = |name: &str| adapter.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
            Some((text("lora_name")?.to_owned(), PathBuf::from(text("local_path")?)))
        };
        let list = match &list {
            None => Some(Vec::new()),
            Some(Value::Array(list)) if list.len() <= ADAPTERS => list.iter().map(adapter).collect(),
            Some(_) => None,
        };
        if let Some((_, path)) = list.iter().flatten().find(|(_, path)| !path.is_dir()) {
            let path = shown(&path.to_string_lossy());
            let message = format!("`peft_model_config.lora_list`: there is no directory {path} here");
            config.refuse(ApiError::parameter("peft_model_config.lora_list", message));
        }
        if list.is_none() {
            config.wrong("lora_list", &format!("a list of {ADAPTERS} at most of {{lora_name, local_path}}"));
        }
        list.unwrap_or_default()
    });
    adapters.unwrap_or_default()
}

/// A field that may stand there as long as it asks for nothing.
fn empty(params: &mut Params, name: &str, why: &str) {
    let Some(value) = params.value(name) else { return };
    let asks = match &value {
        Value::Bool(asks) => *asks || name == "enable_thinking",
        Value::Array(list) => !list.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::String(text) => !text.is_empty(),
        _ => true,
    };
    if asks {
        params.unsupported(name, format!("`{name}`: {why}"));
    }
}

/// Begins a launch on a thread of its own, which goes on when the client goes away.
fn begin(
    app: &Arc<App>,
    uid: Option<String>,
    name: &str,
    replica: usize,
    (launch, adapters): (Box<dyn Launch>, Vec<NamedAdapter>),
) -> Result<Arc<Instance>, ApiError> {
    let uid = free_uid(app, uid, name)?;
    let instance = match app.instances.begin(uid, launch.description(), replica) {
        Ok(instance) => instance,
        Err(Refused::Taken(uid)) => return Err(taken(&uid)),
        Err(Refused::TooMany(most)) => return Err(ApiError::busy(most, 10)),
    };
    let (shared, launched) = (Arc::clone(app), Arc::clone(&instance));
    let run = move || run(&shared, &launched, launch.as_ref(), adapters);
    if let Err(error) = std::thread::Builder::new().name("launch".to_owned()).spawn(run) {
        app.instances.end(&instance.uid);
        return Err(LaunchError::Failed(format!("no thread can be had: {error}")).into());
    }
    Ok(instance)
}

/// What a model shall be called: as the client says, or by its name where nothing else is.
fn free_uid(app: &App, uid: Option<String>, name: &str) -> Result<String, ApiError> {
    let models = app.models()?;
    let is_taken =
        |uid: &str| models.has(uid) || app.instances.find(uid).is_some_and(|one| !one.has_failed());
    match uid {
        Some(uid) if is_taken(&uid) => Err(taken(&uid)),
        Some(uid) if is_uid(&uid) => Ok(uid),
        Some(uid) => {
            let uid = shown(&uid);
            let wanted = "without slashes and control characters, of at most 100 bytes, not ending in -rep and a number";
            Err(ApiError::parameter("model_uid", format!("`model_uid`: {uid} is none; a word is, {wanted}")))
        }
        None if is_uid(name) && !is_taken(name) => Ok(name.to_owned()),
        None => Ok(format!(
            "{:.64}-{:08x}",
            name.replace(|c| c == '/' || glimmer::is_harmful(c), "-"),
            app.random() as u32
        )),
    }
}

fn taken(uid: &str) -> ApiError {
    ApiError::parameter("model_uid", format!("a model is called {} already", shown(uid)))
}

/// Has a model's files fetched, makes it known, and waits until it is loaded.
fn run(app: &App, instance: &Instance, launch: &dyn Launch, adapters: Vec<NamedAdapter>) {
    let record = |event: &str, content: String| {
        instance.happened(if event == "launch failed" { "ERROR" } else { "INFO" }, content.clone());
        let particulars = [("model", instance.uid.clone()), ("what", content)];
        let particulars = particulars.map(|(name, value)| (name.to_owned(), value.into()));
        app.record.log.line(event, particulars.into_iter().collect());
    };
    record("launching", format!("{} is launched", instance.description.model_name));
    // A fault in a model's files is that model's alone.
    let fetched = catch_unwind(AssertUnwindSafe(|| launch.fetch(vec![instance.uid.clone()], instance)));
    let fetched = fetched.unwrap_or_else(|_| Err(LaunchError::Failed("the launch met a fault".to_owned())));
    let mut state = app.instances.go_on(instance, fetched, |model| know(app, model));
    if let State::Loading = state {
        let loaded = load(app, &instance.uid).and_then(|()| load_adapters(app, &instance.uid, adapters));
        state = app.instances.go_on(instance, loaded, |()| Ok(State::Ready));
    }
    match state {
        State::Failed(error) => {
            // It is remembered only to say why.
            if let Ok(models) = app.models() {
                models.remove(&instance.uid);
            }
            record("launch failed", error.to_string());
        }
        State::Ended => record("launch cancelled", "it was cancelled".to_owned()),
        State::Ready | State::Downloading(_) | State::Loading => record("launched", "it is ready".to_owned()),
    }
}

fn failed(error: &impl std::fmt::Display) -> LaunchError {
    LaunchError::Failed(error.to_string())
}

fn know(app: &App, model: KnownModel) -> Result<State, LaunchError> {
    let models = app.models().map_err(|error| LaunchError::Failed(error.message()))?;
    models.registry().know(model).map_err(|error| failed(&error))?;
    Ok(State::Loading)
}

/// Has the registry load it, for which others may have to go.
fn load(app: &App, uid: &str) -> Result<(), LaunchError> {
    let models = app.models().map_err(|error| LaunchError::Failed(error.message()))?;
    let leasing = models.registry().lease(uid).map_err(|error| failed(&error))?;
    match leasing.wait() {
        Ok(_) => Ok(()),
        Err(LeaseError::Removed) => Err(LaunchError::Cancelled),
        Err(LeaseError::Failed { why, .. }) => Err(LaunchError::Failed(why.to_string())),
        Err(error) => Err(failed(&error)),
    }
}

/// Makes adapters known that a launched model is to have.
fn load_adapters(app: &App, uid: &str, adapters: Vec<NamedAdapter>) -> Result<(), LaunchError> {
    let models = app.models().map_err(|error| LaunchError::Failed(error.message()))?;
    adapters.into_iter().try_for_each(|(name, path)| {
        if models.has(&name) {
            return Err(LaunchError::Failed(format!("a model is called {} already", shown(&name))));
        }
        let adapter = KnownAdapter { name, parent: uid.to_owned(), path, created: now() };
        models.load_adapter_now(adapter).map_err(|error| LaunchError::Failed(error.message()))
    })
}

/// Whether a text can be a path's part and is none that a replica has.
fn is_uid(uid: &str) -> bool {
    let is_replica = uid
        .rsplit_once("-rep")
        .is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()));
    let is_fine = |c: char| c != '/' && !glimmer::is_harmful(c);
    !LISTS.contains(&uid)
        && !uid.trim().is_empty()
        && uid.len() <= UID
        && uid.chars().all(is_fine)
        && !is_replica
}

/// `GET /v1/models/{name}/progress`.
pub(crate) async fn progress(
    Shared(app): Shared<Arc<App>>,
    Path(uid): Path<String>,
) -> Result<Response, ApiError> {
    let models = app.models()?;
    let (stage, progress) = match app.instances.find(&uid).map(|instance| instance.state()) {
        Some(State::Downloading(part)) => ("downloading", part * DOWNLOAD),
        Some(State::Loading) => ("loading", DOWNLOAD + (1.0 - DOWNLOAD) * loaded(models.registry(), &uid)),
        Some(State::Ready) => ("ready", 1.0),
        Some(State::Failed(_)) => ("error", 0.0),
        None if models.has(&uid) => ("ready", 1.0),
        // Clients ask before and after.
        Some(State::Ended) | None => ("pending", 0.0),
    };
    let progress = json!({"progress": progress, "stage": stage, "download_files": [], "replicas": []});
    Ok(response::json(StatusCode::OK, &progress))
}

/// The part of a model that is loaded, of 1.
fn loaded(registry: &Registry, uid: &str) -> f64 {
    let all = registry.status();
    match all.iter().find(|status| status.names[0] == uid).map(|status| &status.state) {
        Some(ModelState::Loading { done, total }) => *done as f64 / (*total).max(1) as f64,
        Some(ModelState::Loaded) => 1.0,
        _ => 0.0,
    }
}

/// `POST /v1/models/{name}/cancel`: stops a launch.
pub(crate) async fn cancel(
    Shared(app): Shared<Arc<App>>,
    Path(uid): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    // There is no body whose type a browser would have to ask for.
    if body::is_by_a_page(&headers) {
        return Err(ApiError::not_json());
    }
    app.launcher()?;
    match app.instances.find(&uid) {
        Some(instance) if instance.is_launching() => {
            app.instances.end(&uid);
            app.models()?.remove(&uid);
            Ok(response::json(StatusCode::OK, &Value::Null))
        }
        _ => Err(ApiError::invalid(format!("{} is not being launched", shown(&uid)))),
    }
}

/// `GET /v1/models/{name}/events`: what happened to a model, the latest last.
pub(crate) async fn events(Shared(app): Shared<Arc<App>>, Path(uid): Path<String>) -> Response {
    let events = app.instances.find(&uid).map_or_else(Vec::new, |instance| instance.events());
    response::json(StatusCode::OK, &events)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(body: &str) -> String {
        let mut params = Params::parse(body.to_owned().into()).unwrap();
        spec(&mut params);
        adapters(&mut params);
        params.done().err().map_or(String::new(), |error| error.message())
    }

    #[test]
    fn what_the_client_always_sends_asks_for_nothing() {
        let always = r#""peft_model_config": null, "replica": 1, "n_worker": 1, "n_gpu": "auto", "request_limits": null,
            "worker_ip": null, "gpu_idx": null, "replica_config": null, "model_path": null, "enable_thinking": null,
            "enable_virtual_env": null, "virtual_env_packages": null, "virtual_env_find_links": null, "envs": null,
            "trust_remote_code": true, "model_uid": null, "model_type": "LLM""#;
        let body = format!(r#"{{"model_name": "glm-edge-chat", "model_engine": "llama.cpp", {always}}}"#);
        assert_eq!(refusal(&body), "");
        for (more, named) in [
            (r#""peft_model_config": {"lora_list": [{"lora_name": "a"}]}"#, "`peft_model_config.lora_list`"),
            (r#""peft_model_config": {"image_lora_load_kwargs": {"a": 1}}"#, "`image_lora_load_kwargs`"),
            (r#""model_engine": "onnx""#, "`model_engine`"),
            (r#""envs": {"A": "b"}"#, "`envs`"),
            (r#""enable_thinking": false"#, "`enable_thinking`"),
            (r#""n_worker": 2"#, "`n_worker`"),
            (r#""n_gpu": -1"#, "`n_gpu`"),
            (r#""replica": 0"#, "`replica`"),
            (r#""model_type": "image""#, "`model_type`"),
            (r#""gpu_memory_utilization": 0.9"#, "`gpu_memory_utilization`"),
        ] {
            let message = refusal(&format!(r#"{{"model_name": "m", {more}}}"#));
            assert!(message.contains(named), "{more}: {message}");
        }
        assert!(refusal("{}").contains("`model_name` is missing"));
    }

    #[test]
    fn uids_are_words() {
        for uid in ["glm-edge-chat", "glm 4", "模型", "a-rep", "a-repx1"] {
            assert!(is_uid(uid), "{uid}");
        }
        for uid in ["", " ", "a/b", "a\nb", "a-rep0", "a-rep12", "prompts", &"x".repeat(101)] {
            assert!(!is_uid(uid), "{uid}");
        }
    }
}
