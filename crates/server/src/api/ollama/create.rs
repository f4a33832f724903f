//! `POST /api/create`: a model of another, with a system prompt, messages and parameters of its own.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use glimmer::GenerationParams;
use serde_json::{Map, Value, json};

use crate::api::ollama::{messages, modelfile, names, options};
use crate::app::App;
use crate::clock::now;
use crate::error::ApiError;
use crate::http::params::Params;
use crate::http::sse::{Event, Script};
use crate::http::{ndjson, response};
use crate::models::made::Made;
use crate::record::entry::Entry;

/// What comes of files and formats, of which there are none here.
const NOT_HERE: [&str; 14] = [
    "template",
    "files",
    "adapters",
    "quantize",
    "quantization",
    "draft_quantize",
    "draft_files",
    "remote_host",
    "renderer",
    "parser",
    "requires",
    "info",
    "path",
    "projector",
];

/// Makes it.
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Extension(entry): Extension<Entry>,
    mut params: Params,
) -> Result<Response, ApiError> {
    app.launcher()?;
    let name = names::asked(&mut params, &names::FIELDS);
    let stream = params.boolean("stream").unwrap_or(true);
    let mut made = asked(&mut params);
    for field in NOT_HERE {
        refuse(&mut params, field);
    }
    check(&app, &mut params, &mut made);
    params.done()?;
    if made.from.is_empty() {
        return Err(ApiError::parameter("from", "`from` is missing: the model that it is made of"));
    }
    let from = names::known(&app, &entry, &made.from).await.ok_or_else(|| names::not_found(&made.from))?;
    made.from.clone_from(&from);
    if let Some(other) = app.made.find(&from) {
        made = on_top(made, &other);
    }
    keep(&app, &name, made)?;
    if stream {
        return Ok(ndjson::respond(Created));
    }
    Ok(response::json(StatusCode::OK, &json!({"status": "success"})))
}

/// Keeps a model under a name that no other has.
pub(super) fn keep(app: &App, name: &str, made: Made) -> Result<(), ApiError> {
    let name = names::tagged(name);
    if !names::is_name(&name) {
        let wanted = "letters, digits and any of ._-:/, at most 200 bytes";
        return Err(ApiError::parameter(
            "model",
            format!("{} is no name: {wanted}", crate::error::shown(&name)),
        ));
    }
    let models = app.models()?;
    if names::spellings(&name).iter().any(|spelling| models.has(spelling)) {
        let name = crate::error::shown(&name);
        return Err(ApiError::parameter("model", format!("a model that is served is called {name} already")));
    }
    let made = Made { created: now(), ..made };
    app.made.put(name, made).map_err(|why| ApiError::parameter("model", why))
}

/// What the fields say, and a Modelfile among them.
fn asked(params: &mut Params) -> Made {
    let mut made = match params.string("modelfile").map(|text| modelfile::read(&text)) {
        None => Made::default(),
        Some(Ok(made)) => made,
        Some(Err(why)) => {
            params.refuse(ApiError::parameter("modelfile", format!("`modelfile`: {why}")));
            Made::default()
        }
    };
    if let Some(from) = params.string("from").filter(|from| !from.is_empty()) {
        made.from = from;
    }
    made.system = params.string("system").filter(|system| !system.is_empty()).or(made.system);
    match params.value("parameters") {
        None => {}
        Some(Value::Object(parameters)) => made.parameters.extend(parameters),
        Some(_) => params.wrong("parameters", "an object"),
    }
    match params.value("messages") {
        None => {}
        Some(Value::Array(messages)) => made.messages = messages,
        Some(_) => params.wrong("messages", "a list"),
    }
    match params.value("license") {
        None => {}
        Some(Value::String(license)) => made.license = vec![license],
        Some(Value::Array(licenses)) if licenses.iter().all(Value::is_string) => {
            made.license = licenses.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        }
        Some(_) => params.wrong("license", "a text, or a list of texts"),
    }
    made.license.retain(|license| !license.is_empty());
    made
}

/// A field that may stand there as long as it asks for nothing.
fn refuse(params: &mut Params, field: &str) {
    let asks = match params.value(field) {
        None => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Object(fields)) => !fields.is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        Some(_) => true,
    };
    if asks {
        let message = format!(
            "`{field}`: models are made of others as these are; `convert` makes files of other types"
        );
        params.unsupported(field, message);
    }
}

/// Complains of parameters and messages that a request could not have, and has the messages as they are read.
fn check(app: &App, params: &mut Params, made: &mut Made) {
    let given = json!({"parameters": made.parameters, "messages": made.messages}).to_string();
    let Ok(mut given) = Params::parse(given.into()) else { return };
    given.object("parameters", |own| options::read(own, app, usize::MAX, &mut GenerationParams::default()));
    made.messages = messages::take(&mut given).iter().map(|message| json!(message)).collect();
    if let Err(error) = given.done() {
        params.refuse(error);
    }
}

/// A model on top of another that was made: what it does not say is the other's.
fn on_top(made: Made, other: &Made) -> Made {
    let mut parameters: Map<String, Value> = other.parameters.clone();
    parameters.extend(made.parameters);
    Made {
        from: other.from.clone(),
        system: made.system.or_else(|| other.system.clone()),
        parameters,
        messages: if made.messages.is_empty() { other.messages.clone() } else { made.messages },
        license: if made.license.is_empty() { other.license.clone() } else { made.license },
        created: 0,
    }
}

/// What is said when it is made.
struct Created;

impl Script for Created {
    async fn more(&mut self, _ready: &mut VecDeque<Event>) -> Option<Result<(), ApiError>> {
        None
    }

    fn close(&mut self, ready: &mut VecDeque<Event>) {
        for status in ["using existing layer", "writing manifest", "success"] {
            ready.push_back(Event::of(&json!({"status": status})));
        }
    }
}
