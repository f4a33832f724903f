//! `docs/apis.md`: every field of every request, and what becomes of it here. What is asked for is noted while the handlers
//! ask; what it means is the description's, which so has every field and no other.
//!
//! `GLIMMER_WRITE=1 cargo test -p glimmer-server fields` writes it anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use glimmer::{Embedder, Limits, Loaded, Model, OpenOptions, Registry, Tokenizer};
use serde_json::Value;
use tower::ServiceExt;

use crate::api::status::OPENAPI;
use crate::app::App;
use crate::http::params::tests::{Asked, Use};
use crate::launcher::{
    CachedModel, EngineForm, Launch, LaunchError, LaunchSpec, Launcher, ModelType, Registration,
};
use crate::options::Options;

/// Bodies that have handlers ask for fields which they look at beside certain others alone.
const SAMPLES: [(&str, &str); 12] = [
    ("/v1/chat/completions", r#"{"response_format": {"type": "json_schema"}}"#),
    ("/v1/chat/completions", r#"{"response_format": {"type": "json_object"}}"#),
    ("/v1/responses", r#"{"text": {"format": {"type": "json_schema"}}}"#),
    ("/v1/responses", r#"{"input": ""}"#),
    ("/tokenize", r#"{"model": "demo"}"#),
    ("/tokenize", r#"{"messages": []}"#),
    ("/tokenize", r#"{"content": ""}"#),
    ("/chat", r#"{"messages": []}"#),
    ("/chat", r#"{"messages": [], "response_format": {"type": "json_schema"}}"#),
    ("/v1/score", r#"{"queries": "", "documents": ""}"#),
    ("/v1/score", r#"{"queries": "", "items": ""}"#),
    ("/v1/score", r#"{"data_1": "", "data_2": ""}"#),
];

/// Paths that are other words for one of the table.
const ALIASES: [&str; 6] =
    ["/chat/completions", "/completions", "/embeddings", "/rerank", "/v2/rerank", "/score"];

/// A launcher that nobody comes to: what is asked for is noted before.
struct Nobody;

impl Launcher for Nobody {
    fn resolve(&self, _: LaunchSpec) -> Result<Box<dyn Launch>, LaunchError> {
        Err(LaunchError::Cancelled)
    }
    fn registrations(&self, _: ModelType) -> Result<Vec<Registration>, LaunchError> {
        Err(LaunchError::Cancelled)
    }
    fn register(&self, _: ModelType, _: &str, _: bool) -> Result<(), LaunchError> {
        Err(LaunchError::Cancelled)
    }
    fn unregister(&self, _: ModelType, _: &str) -> Result<(), LaunchError> {
        Err(LaunchError::Cancelled)
    }
    fn engines(&self, _: ModelType, _: &str) -> Result<BTreeMap<String, Vec<EngineForm>>, LaunchError> {
        Err(LaunchError::Cancelled)
    }
    fn cached(&self, _: Option<&str>) -> Result<Vec<CachedModel>, LaunchError> {
        Err(LaunchError::Cancelled)
    }
    fn remove_cached(&self, _: &str) -> Result<bool, LaunchError> {
        Err(LaunchError::Cancelled)
    }
}

/// The demo model and an encoder.
fn models() -> Registry {
    let model = Model::open("demo", &OpenOptions::default(), &mut |_| {}).unwrap();
    let engine = model.start(&Limits::default()).unwrap();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/text2vec-bert");
    let tokenizer = Tokenizer::from_dir(&directory).unwrap();
    let encoder = Embedder::new("encoder".to_owned(), tokenizer, 512, 2, |_| Ok(Vec::new()));
    let registry = Registry::default();
    registry.add(Loaded::engine(vec!["demo".to_owned()], engine)).unwrap();
    registry.add(Loaded::embedder(encoder)).unwrap();
    registry
}

/// The fields that each path's handler asks for.
async fn asked(paths: &[String]) -> BTreeMap<String, BTreeMap<String, Use>> {
    let app = App::new(Options::for_batch(), None).unwrap();
    app.ready(models());
    app.launch_with(Arc::new(Nobody));
    let router = super::router(&app).unwrap();
    let mut all = BTreeMap::new();
    for path in paths {
        let asked = Asked::default();
        let samples = SAMPLES.iter().filter(|(of, _)| of == path).map(|(_, body)| *body);
        for body in samples.chain(["{}"]) {
            let plain = path.replace("{type}", "LLM");
            let request = Request::post(&plain).header("content-type", "application/json");
            let request = request.extension(asked.clone()).body(Body::from(body)).unwrap();
            let status = router.clone().oneshot(request).await.unwrap().status();
            assert_eq!(status, 500, "{path}: {body} was answered before all of its fields were noted");
        }
        all.insert(path.clone(), std::mem::take(&mut *asked.lock().unwrap()));
    }
    all
}

/// The schema that one stands for.
fn resolved<'a>(description: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => description.pointer(&reference[1..]).unwrap(),
        None => schema,
    }
}

/// The fields of a schema's objects with theirs, by whole names.
fn described<'a>(
    description: &'a Value,
    schema: &'a Value,
    within: &str,
    all: &mut BTreeMap<String, &'a Value>,
) {
    let schema = resolved(description, schema);
    for choice in ["anyOf", "oneOf", "allOf"] {
        for schema in schema[choice].as_array().into_iter().flatten() {
            described(description, schema, within, all);
        }
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let name = format!("{within}{name}");
        described(description, field, &format!("{name}."), all);
        all.insert(name, field);
    }
}

/// A schema in a few words.
fn kind(description: &Value, schema: &Value) -> String {
    let schema = resolved(description, schema);
    if let Some(words) = schema["enum"].as_array() {
        let words = words.iter().filter(|word| !word.is_null());
        return words.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    }
    let either = schema["anyOf"].as_array().or(schema["oneOf"].as_array());
    if let Some(either) = either {
        let mut kinds: Vec<String> = either.iter().map(|schema| kind(description, schema)).collect();
        kinds.retain(|kind| !kind.is_empty() && kind != "null");
        kinds.dedup();
        return kinds.join(" or ");
    }
    let types = match &schema["type"] {
        Value::String(one) => vec![one.as_str()],
        Value::Array(several) => several.iter().filter_map(Value::as_str).filter(|&t| t != "null").collect(),
        _ => Vec::new(),
    };
    let bound = |name: &str| schema[name].as_number().map(ToString::to_string);
    let bounds = match (bound("minimum"), bound("maximum")) {
        (Some(least), Some(most)) => format!(" {least} to {most}"),
        (Some(least), None) => format!(" from {least}"),
        (None, Some(most)) => format!(" to {most}"),
        (None, None) => String::new(),
    };
    let items = match types.contains(&"array") {
        true => kind(description, &schema["items"]),
        false => String::new(),
    };
    let items = if items.is_empty() { items } else { format!(" of {items}") };
    format!("{}{bounds}{items}", types.join(" or "))
}

/// The table, and the differences between what is asked for and what is described.
fn table(
    description: &Value,
    paths: &[String],
    asked: &BTreeMap<String, BTreeMap<String, Use>>,
) -> (String, String) {
    let (mut text, mut faults) = (String::new(), String::new());
    for path in paths {
        let operation = &description["paths"][path]["post"];
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        let mut fields = BTreeMap::new();
        described(description, schema, "", &mut fields);
        let tag = operation["tags"][0].as_str().unwrap_or_default();
        let summary = operation["summary"].as_str().unwrap_or_default();
        writeln!(text, "\n## `POST {path}`\n\n{summary} ({tag}).\n").unwrap();
        writeln!(text, "| field | what it may be | here |\n|---|---|---|").unwrap();
        for (name, becomes) in &asked[path] {
            let field = fields.get(name).copied();
            // What is within something that is described as a whole need not be, nor what cannot be had.
            let says_itself = matches!(becomes, Use::Refused | Use::Only(_));
            if field.is_none() && !says_itself && !name.contains('.') {
                writeln!(faults, "{path}: `{name}` is asked for and not described").unwrap();
            }
            let meaning = field.and_then(|field| field["description"].as_str()).unwrap_or_default();
            let here = match becomes {
                Use::Taken if meaning.is_empty() => "As the API has it".to_owned(),
                Use::Taken => meaning.to_owned(),
                Use::Ignored if meaning.is_empty() => "Taken, and changes nothing".to_owned(),
                Use::Ignored => format!("Changes nothing: {meaning}"),
                Use::Refused => format!("Refused unless empty. {meaning}"),
                Use::Only(position) => format!("Only `{position}`. {meaning}"),
            };
            let kind = field.map(|field| kind(description, field)).unwrap_or_default();
            writeln!(
                text,
                "| `{name}` | {} | {} |",
                kind.replace('|', "\\|"),
                here.trim().replace('|', "\\|")
            )
            .unwrap();
        }
        for name in fields.keys().filter(|name| !name.contains('.') && !asked[path].contains_key(*name)) {
            writeln!(faults, "{path}: `{name}` is described and not asked for").unwrap();
        }
    }
    (text, faults)
}

#[tokio::test]
async fn the_table_has_every_field_that_is_asked_for_and_no_other() {
    let description: Value = serde_json::from_str(OPENAPI).unwrap();
    let has_body = |operation: &Value| !operation["post"]["requestBody"].is_null();
    let paths = description["paths"].as_object().unwrap().iter().filter(|(_, path)| has_body(path));
    let paths = paths.map(|(path, _)| path.clone()).filter(|path| !ALIASES.contains(&path.as_str()));
    let paths: Vec<String> = paths.collect();
    let (table, faults) = table(&description, &paths, &asked(&paths).await);
    assert_eq!(faults, "");
    let text = format!(
        "# The fields of every API\n\nWhat is not in a table is refused by name. `crates/server/src/router/fields.rs` writes this \
         from what the\nprogram asks of a request and from `/openapi.json`.\n{table}"
    );
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/apis.md");
    if std::env::var_os("GLIMMER_WRITE").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(written == text, "docs/apis.md is not what is taken: write it with GLIMMER_WRITE=1");
}
