//! Text to ids and back over HTTP. `POST /tokenize` is a path of three APIs, told apart by the body: `content` is
//! llama.cpp's, `model` or `messages` is vLLM's, and otherwise it is the GLM API's.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use glimmer::Encoding;
use serde_json::{Value, json};

use crate::api::{conversation, generation_request};
use crate::app::App;
use crate::error::ApiError;
use crate::http::params::{Params, ids, wrong};
use crate::http::response;
use crate::models::blocking::blocking;
use crate::models::served::Model;

/// `POST /tokenize`.
pub(crate) async fn tokenize(State(app): State<Arc<App>>, mut params: Params) -> Result<Response, ApiError> {
    let by_vllm = params.has("model") || params.has("messages");
    let by_llamacpp = params.has("content") && !params.has("messages");
    let (model, _) = generation_request::model(app.models()?, &mut params)?;
    let value = if by_llamacpp {
        as_llamacpp(model, params).await?
    } else if by_vllm {
        as_vllm(model, params).await?
    } else {
        as_glm_api(model, params).await?
    };
    Ok(response::json(StatusCode::OK, &value))
}

async fn as_llamacpp(model: Model, mut params: Params) -> Result<Value, ApiError> {
    let content = params.string("content")?.unwrap_or_default();
    let encoding = Encoding {
        add_special: params.boolean("add_special")?.unwrap_or(false),
        parse_special: params.boolean("parse_special")?.unwrap_or(true),
    };
    let with_pieces = params.boolean("with_pieces")?.unwrap_or(false);
    params.done()?;
    blocking(move || {
        let tokenizer = model.tokenizer()?;
        let ids = tokenizer.encode_as(&content, encoding);
        if !with_pieces {
            return Ok(json!({"tokens": ids}));
        }
        let piece = |&id: &u32| {
            let bytes = tokenizer.token_bytes(id).unwrap_or_default();
            // Half a character is a list of its bytes.
            let piece = String::from_utf8(bytes).map_or_else(|error| json!(error.into_bytes()), Value::from);
            json!({"id": id, "piece": piece})
        };
        Ok(json!({"tokens": ids.iter().map(piece).collect::<Vec<_>>()}))
    })
    .await
}

async fn as_vllm(model: Model, mut params: Params) -> Result<Value, ApiError> {
    let with_strings = params.boolean("return_token_strs")?.unwrap_or(false);
    let max_model_len = model.engine.context();
    let (ids, model) = if params.has("messages") {
        params.only("add_special_tokens", false)?;
        params.not_yet("tools")?;
        params.not_yet("continue_final_message")?;
        let conversation = conversation::take(&mut params)?;
        params.done()?;
        (conversation::prompt(&model, conversation).await?.ids, model)
    } else {
        let prompt = params.string("prompt")?.ok_or_else(|| wrong("prompt", "a string"))?;
        let add_special = params.boolean("add_special_tokens")?.unwrap_or(true);
        let encoding = Encoding { add_special, parse_special: false };
        params.done()?;
        let shared = model.clone();
        (blocking(move || Ok(shared.tokenizer()?.encode_as(&prompt, encoding))).await?, model)
    };
    let tokenizer = model.tokenizer()?;
    let strings = with_strings.then(|| ids.iter().map(|&id| tokenizer.token_text(id)).collect::<Vec<_>>());
    Ok(json!({"count": ids.len(), "max_model_len": max_model_len, "tokens": ids, "token_strs": strings}))
}

/// `tokenIds` as the model's tokenizer gives them when it is called, special tokens included and cut to `max_length`;
/// `tokens` are the pieces of the text alone, all of them.
async fn as_glm_api(model: Model, mut params: Params) -> Result<Value, ApiError> {
    let prompt = params.string("prompt")?.ok_or_else(|| wrong("prompt", "a string"))?;
    let max_length = params.integer("max_length", 0..=i64::from(i32::MAX))?.unwrap_or(4096) as usize;
    params.done()?;
    blocking(move || {
        let tokenizer = model.tokenizer()?;
        let encoded = tokenizer.encode(&prompt);
        let tokens: Vec<String> = encoded.iter().map(|&id| tokenizer.token_text(id)).collect();
        let (prefix, suffix) = tokenizer.wrap();
        let room = max_length.saturating_sub(prefix.len() + suffix.len()).min(encoded.len());
        let ids = [prefix, &encoded[..room], suffix].concat();
        Ok(json!({"tokenIds": ids, "tokens": tokens}))
    })
    .await
}

/// `POST /detokenize`: llama.cpp's `{"content"}`, or where the body names a model vLLM's `{"prompt"}`.
pub(crate) async fn detokenize(
    State(app): State<Arc<App>>,
    mut params: Params,
) -> Result<Response, ApiError> {
    let name = if params.has("model") { "prompt" } else { "content" };
    let (model, _) = generation_request::model(app.models()?, &mut params)?;
    let tokens = params.list("tokens")?.ok_or_else(|| wrong("tokens", "a list of token ids"))?;
    params.done()?;
    let text = blocking(move || {
        let tokenizer = model.tokenizer()?;
        Ok(tokenizer.decode(&ids("tokens", &tokens, tokenizer.len().max(model.engine.spec().vocab))?))
    });
    Ok(response::json(StatusCode::OK, &json!({ name: text.await? })))
}

/// `POST /apply-template`: llama.cpp's, a conversation as the text that the model reads.
pub(crate) async fn apply_template(
    State(app): State<Arc<App>>,
    mut params: Params,
) -> Result<Response, ApiError> {
    let (model, _) = generation_request::model(app.models()?, &mut params)?;
    params.not_yet("tools")?;
    let conversation = conversation::take(&mut params)?;
    params.done()?;
    let prompt = blocking(move || conversation::render(&model, &conversation)).await?;
    Ok(response::json(StatusCode::OK, &json!({"prompt": prompt})))
}
