//! The paths below `/v1/responses`.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use glimmer::json::{room, tree};
use serde_json::{Value, json};

use crate::api::openai::responses::answering::{Answering, Keeping};
use crate::api::openai::responses::frame::Frame;
use crate::api::openai::responses::ids;
use crate::api::openai::responses::request::{self, Asked, SEALED};
use crate::api::openai::responses::stream::Stream;
use crate::app::App;
use crate::error::ApiError;
use crate::http::keys::Caller;
use crate::http::params::{Params, wrong};
use crate::http::{query, response, sse};
use crate::kept::KeptResponse;
use crate::models::generation::Generations;
use crate::record::entry::Entry;

/// Responses in the background that are being made at once, of all callers.
const BACKGROUND: usize = 256;

/// Items of a page of `input_items`, at most and where nothing is said.
const PAGE: usize = 100;
const PLAIN_PAGE: usize = 20;

/// Answers.
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Extension(entry): Extension<Entry>,
    Extension(caller): Extension<Caller>,
    params: Params,
) -> Result<Response, ApiError> {
    let Asked { chat, frame, keeping, is_background } = request::take(&app, &entry, caller, params).await?;
    let (is_stream, frame) = (chat.settings.stream, Arc::new(frame));
    let generations = chat.ask(&app, &entry).await?;
    let object = match keeping {
        Some(keeping) if is_background => in_background(frame, generations, keeping).await?,
        keeping => {
            let mut answering = Answering::new(frame, generations, keeping);
            if is_stream {
                return Ok(sse::respond(Stream::new(answering)));
            }
            let object = answering.whole().await?;
            answering.keep(&object);
            object
        }
    };
    Ok(response::json(StatusCode::OK, &object))
}

/// Has a response made that nobody waits for. It is ended when it is forgotten.
async fn in_background(
    frame: Arc<Frame>,
    mut generations: Generations,
    keeping: Keeping,
) -> Result<Value, ApiError> {
    generations.admitted().await?;
    let object = frame.object("in_progress");
    let (app, name) = (frame.app.clone(), (frame.caller, frame.id));
    let begun = keeping.response(object.clone());
    if !app.kept.has_room(&begun) {
        let message = "`background`: the request is larger than all that this server keeps (--max-responses)";
        return Err(ApiError::parameter("background", message));
    }
    let make = async move {
        let app = frame.app.clone();
        let mut answering = Answering::new(frame, generations, None);
        let object = answering.whole().await.unwrap_or_else(|error| answering.failed(&error));
        app.kept.finish(name, keeping.response(object));
    };
    match app.kept.begin(name, begun, BACKGROUND, || tokio::spawn(make).abort_handle()) {
        true => Ok(object),
        false => Err(ApiError::busy(BACKGROUND, 1)),
    }
}

/// A response that is kept, and whether it is being made.
fn find(app: &App, caller: Caller, id: &str) -> Result<(u64, Arc<KeptResponse>, bool), ApiError> {
    let number = ids::response_number(id);
    let found = number.and_then(|number| Some((number, app.kept.get((caller, number))?)));
    let (number, (kept, is_unfinished)) = found.ok_or_else(|| ApiError::no_response(id))?;
    Ok((number, kept, is_unfinished))
}

fn parsed(text: &str) -> Value {
    // It was written here.
    tree(text, room(text)).unwrap_or_default()
}

/// The object of a response that is kept.
fn object(kept: &KeptResponse) -> Value {
    let mut object = parsed(&kept.head);
    object["output"] = kept.output.iter().map(|item| parsed(item)).collect();
    object
}

/// Shows a response.
pub(crate) async fn retrieve(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let (_, kept, _) = find(&app, caller, &id)?;
    if query::flag(&uri, "stream", false)? || query::value(&uri, "starting_after").is_some() {
        let message = "`stream`: what was said is not said again as it came; ask without";
        return Err(ApiError::unsupported("stream", message));
    }
    query::flag(&uri, "include_obfuscation", false)?;
    let mut object = object(&kept);
    for name in included(&uri) {
        if name != SEALED {
            return Err(not_included(&name));
        }
        for item in object["output"].as_array_mut().into_iter().flatten() {
            let thoughts = item["content"][0]["text"].as_str().map(str::to_owned);
            if let Some(thoughts) = thoughts.filter(|_| item["type"] == "reasoning") {
                item["encrypted_content"] = app.seal.seal(&caller, &thoughts).into();
            }
        }
    }
    Ok(response::json(StatusCode::OK, &object))
}

/// What is to be shown, too.
fn included(uri: &Uri) -> Vec<String> {
    ["include", "include[]"].iter().flat_map(|name| query::values(uri, name)).collect()
}

fn not_included(name: &str) -> ApiError {
    let name: String = name.chars().take(60).collect();
    ApiError::unsupported("include", format!("`include`: {name:?} is not supported here"))
}

/// Forgets a response.
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let (number, ..) = find(&app, caller, &id)?;
    app.kept.remove((caller, number));
    Ok(response::json(StatusCode::OK, &json!({"id": id, "object": "response", "deleted": true})))
}

/// Ends a response in the background. One that has ended stays as it is.
pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let (number, kept, is_unfinished) = find(&app, caller, &id)?;
    let mut shown = object(&kept);
    if shown["background"] != true {
        return Err(ApiError::invalid("Cannot cancel a synchronous response: its client goes away instead."));
    }
    if is_unfinished {
        shown["status"] = "cancelled".into();
        let keeping = Keeping { previous: kept.previous, input: kept.input.clone() };
        app.kept.finish((caller, number), keeping.response(shown));
        shown = object(&find(&app, caller, &id)?.1);
    }
    Ok(response::json(StatusCode::OK, &shown))
}

/// Lists what was new in what a response was asked.
pub(crate) async fn input_items(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let (_, kept, _) = find(&app, caller, &id)?;
    let limit = query::value(&uri, "limit").map_or(Some(PLAIN_PAGE), |text| text.parse().ok());
    let limit = limit.filter(|limit| (1..=PAGE).contains(limit));
    let limit = limit.ok_or_else(|| wrong("limit", &format!("a whole number from 1 to {PAGE}")))?;
    if let Some(name) = included(&uri).first() {
        return Err(not_included(name));
    }
    let mut items: Vec<Value> = kept.input.iter().map(|item| parsed(item)).collect();
    match query::value(&uri, "order").as_deref() {
        None | Some("desc") => items.reverse(),
        Some("asc") => {}
        Some(_) => return Err(wrong("order", "asc or desc")),
    }
    if let Some(after) = query::value(&uri, "after") {
        let at = items.iter().position(|item| item["id"] == after.as_str());
        items.drain(..=at.ok_or_else(|| wrong("after", "the id of an item of this list"))?);
    }
    let has_more = items.len() > limit;
    items.truncate(limit);
    let id_of = |item: Option<&Value>| item.map_or(Value::Null, |item| item["id"].clone());
    let list = json!({
        "object": "list",
        "first_id": id_of(items.first()),
        "last_id": id_of(items.last()),
        "has_more": has_more,
        "data": items,
    });
    Ok(response::json(StatusCode::OK, &list))
}
