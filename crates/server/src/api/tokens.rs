//! Text to ids and back over HTTP. `POST /tokenize` is a path of three APIs, told apart by the body: `content` is
//! llama.cpp's, `model` or `messages` is vLLM's, and otherwise it is the GLM API's.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use glimmer::Encoding;
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::{conversation, generation_request, tools};
use crate::app::App;
use crate::error::ApiError;
use crate::http::params::Params;
use crate::http::response::{self, typed};
use crate::models::blocking::blocking;
use crate::models::served::Model;
use crate::record::entry::Entry;

/// `POST /tokenize`.
pub(crate) async fn tokenize(
    State(app): State<Arc<App>>,
    Extension(entry): Extension<Entry>,
    mut params: Params,
) -> Result<Response, ApiError> {
    let by_vllm = params.has("model") || params.has("messages");
    let by_llamacpp = params.has("content") && !params.has("messages");
    let (model, _) = generation_request::model(app.models()?, &mut params).await?;
    if by_llamacpp {
        as_llamacpp(&entry, model, params).await
    } else if by_vllm {
        as_vllm(&app, &entry, model, params).await
    } else {
        as_glm_api(&entry, model, params).await
    }
}

/// Elements of a list that are written at a time.
const AT_ONCE: usize = 4096;

/// A list as JSON, with what stands before it: a few thousand ids at a time, as the client takes them. What is said of ids
/// can be ten times the text that they are of.
fn list<F: Fn(u32) -> V + Send + 'static, V: Serialize>(
    before: &str,
    ids: &Arc<[u32]>,
    say: F,
) -> impl Iterator<Item = String> + Send + use<F, V> {
    let ids = ids.clone();
    let elements = (0..ids.len()).step_by(AT_ONCE).map(move |at| {
        let mut text = String::new();
        for &id in ids[at..].iter().take(AT_ONCE) {
            text.push(',');
            text.push_str(&json!(say(id)).to_string());
        }
        if at == 0 { text.split_off(1) } else { text }
    });
    std::iter::once(format!("{before}[")).chain(elements).chain(std::iter::once("]".to_owned()))
}

/// Sends an object that was written in pieces.
fn send(pieces: impl Iterator<Item = String> + Send + 'static) -> Response {
    let pieces = pieces.chain(std::iter::once("}".to_owned()));
    let stream = futures_util::stream::iter(pieces.map(Ok::<_, Infallible>));
    typed(StatusCode::OK, "application/json", Body::from_stream(stream))
}

async fn as_llamacpp(entry: &Entry, model: Model, mut params: Params) -> Result<Response, ApiError> {
    let content = params.string("content").unwrap_or_default();
    let encoding = Encoding {
        add_special: params.boolean("add_special").unwrap_or(false),
        parse_special: params.boolean("parse_special").unwrap_or(true),
    };
    let with_pieces = params.boolean("with_pieces").unwrap_or(false);
    params.done()?;
    let tokenizer = model.tokenizer()?.clone();
    let ids = encoded(entry, &model, content, encoding).await?;
    let say = move |id| {
        if !with_pieces {
            return json!(id);
        }
        let bytes = tokenizer.token_bytes(id).unwrap_or_default();
        // Half a character is a list of its bytes.
        let piece = String::from_utf8(bytes).map_or_else(|error| json!(error.into_bytes()), Value::from);
        json!({"id": id, "piece": piece})
    };
    Ok(send(list("{\"tokens\":", &ids, say)))
}

/// Encodes a text where others do not wait for it.
async fn encoded(
    entry: &Entry,
    model: &Model,
    text: String,
    encoding: Encoding,
) -> Result<Arc<[u32]>, ApiError> {
    let model = model.clone();
    blocking(entry, move || Ok(model.tokenizer()?.encode_as(&text, encoding).into())).await
}

async fn as_vllm(app: &App, entry: &Entry, model: Model, mut params: Params) -> Result<Response, ApiError> {
    let with_strings = params.boolean("return_token_strs").unwrap_or(false);
    let ids: Arc<[u32]> = if params.has("messages") {
        params.only("add_special_tokens", false);
        params.not_yet("continue_final_message");
        let tools = tools::take(&mut params).shown();
        let (conversation, _) = conversation::take(&mut params, tools);
        params.done()?;
        conversation::prompt(app, entry, &model, conversation).await?.ids.into()
    } else {
        params.need("prompt");
        let prompt = params.string("prompt").unwrap_or_default();
        let add_special = params.boolean("add_special_tokens").unwrap_or(true);
        params.done()?;
        encoded(entry, &model, prompt, Encoding { add_special, parse_special: false }).await?
    };
    let (count, most) = (ids.len(), model.engine().context());
    let tokens = list(&format!("{{\"count\":{count},\"max_model_len\":{most},\"tokens\":"), &ids, |id| id);
    if !with_strings {
        return Ok(send(tokens.chain([",\"token_strs\":null".to_owned()])));
    }
    let tokenizer = model.tokenizer()?.clone();
    Ok(send(tokens.chain(list(",\"token_strs\":", &ids, move |id| tokenizer.token_text(id)))))
}

/// `tokenIds` as the model's tokenizer gives them when it is called, special tokens included and cut to `max_length`;
/// `tokens` are the pieces of the text alone, all of them.
async fn as_glm_api(entry: &Entry, model: Model, mut params: Params) -> Result<Response, ApiError> {
    params.need("prompt");
    let prompt = params.string("prompt").unwrap_or_default();
    let max_length = params.integer("max_length", 0..=i64::from(i32::MAX)).unwrap_or(4096) as usize;
    params.done()?;
    let tokenizer = model.tokenizer()?.clone();
    let encoding = Encoding { add_special: false, parse_special: false };
    let pieces = encoded(entry, &model, prompt, encoding).await?;
    let (prefix, suffix) = tokenizer.wrap();
    let room = max_length.saturating_sub(prefix.len() + suffix.len()).min(pieces.len());
    let ids = [prefix, &pieces[..room], suffix].concat().into();
    let tokens = list("{\"tokenIds\":", &ids, |id| id);
    Ok(send(tokens.chain(list(",\"tokens\":", &pieces, move |id| tokenizer.token_text(id)))))
}

/// `POST /detokenize`: llama.cpp's `{"content"}`, or where the body names a model vLLM's `{"prompt"}`.
pub(crate) async fn detokenize(
    State(app): State<Arc<App>>,
    Extension(entry): Extension<Entry>,
    mut params: Params,
) -> Result<Response, ApiError> {
    let name = if params.has("model") { "prompt" } else { "content" };
    let (model, _) = generation_request::model(app.models()?, &mut params).await?;
    let vocab = model.tokenizer()?.len().max(model.engine().spec().vocab);
    params.need("tokens");
    let tokens = params.ids("tokens", vocab).unwrap_or_default();
    params.done()?;
    blocking(&entry, move || {
        let tokenizer = model.tokenizer()?;
        // A token of many blanks is written with few digits.
        let length = |&id: &u32| tokenizer.token_bytes(id).map_or(0, |bytes| bytes.len());
        let most = app.options.limits.body.saturating_mul(4);
        match tokens.iter().map(length).sum::<usize>() {
            length if length > most => Err(ApiError::too_dense("tokens")),
            _ => Ok(response::json(StatusCode::OK, &json!({ name: tokenizer.decode(&tokens) }))),
        }
    })
    .await
}

/// `POST /apply-template`: llama.cpp's, a conversation as the text that the model reads.
pub(crate) async fn apply_template(
    State(app): State<Arc<App>>,
    Extension(entry): Extension<Entry>,
    mut params: Params,
) -> Result<Response, ApiError> {
    let (model, _) = generation_request::model(app.models()?, &mut params).await?;
    let tools = tools::take(&mut params).shown();
    let (conversation, _) = conversation::take(&mut params, tools);
    params.done()?;
    let prompt = blocking(&entry, move || conversation::render(&model, &conversation)).await?;
    Ok(response::json(StatusCode::OK, &json!({"prompt": prompt})))
}
