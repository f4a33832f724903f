//! Text to ids and back over HTTP. `POST /tokenize` is a path of three APIs, told apart by the body: `content` is
//! llama.cpp's, `model` or `messages` is vLLM's, and otherwise it is the GLM API's.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use glimmer::Encoding;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::api::{conversation, generation_request};
use crate::app::App;
use crate::error::ApiError;
use crate::http::params::Params;
use crate::http::response;
use crate::models::blocking::blocking;
use crate::models::served::Model;

/// `POST /tokenize`.
pub(crate) async fn tokenize(State(app): State<Arc<App>>, mut params: Params) -> Result<Response, ApiError> {
    let by_vllm = params.has("model") || params.has("messages");
    let by_llamacpp = params.has("content") && !params.has("messages");
    let (model, _) = generation_request::model(app.models()?, &mut params)?;
    if by_llamacpp {
        as_llamacpp(model, params).await
    } else if by_vllm {
        as_vllm(model, params).await
    } else {
        as_glm_api(model, params).await
    }
}

/// What is said of each id, written one after the other.
struct Each<'a, F> {
    ids: &'a [u32],
    say: F,
}

impl<F: Fn(u32) -> V, V: Serialize> Serialize for Each<'_, F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.ids.iter().map(|&id| (self.say)(id)))
    }
}

async fn as_llamacpp(model: Model, mut params: Params) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct Tokens<T> {
        tokens: T,
    }
    let content = params.string("content").unwrap_or_default();
    let encoding = Encoding {
        add_special: params.boolean("add_special").unwrap_or(false),
        parse_special: params.boolean("parse_special").unwrap_or(true),
    };
    let with_pieces = params.boolean("with_pieces").unwrap_or(false);
    params.done()?;
    blocking(move || {
        let tokenizer = model.tokenizer()?;
        let ids = tokenizer.encode_as(&content, encoding);
        let piece = |id: u32| {
            let bytes = tokenizer.token_bytes(id).unwrap_or_default();
            // Half a character is a list of its bytes.
            let piece = String::from_utf8(bytes).map_or_else(|error| json!(error.into_bytes()), Value::from);
            json!({"id": id, "piece": piece})
        };
        Ok(match with_pieces {
            true => response::json(StatusCode::OK, &Tokens { tokens: Each { ids: &ids, say: piece } }),
            false => response::json(StatusCode::OK, &Tokens { tokens: ids }),
        })
    })
    .await
}

async fn as_vllm(model: Model, mut params: Params) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct Tokens<'a, T> {
        count: usize,
        max_model_len: usize,
        tokens: &'a [u32],
        token_strs: Option<T>,
    }
    let with_strings = params.boolean("return_token_strs").unwrap_or(false);
    let ids = if params.has("messages") {
        params.only("add_special_tokens", false);
        params.not_yet("tools");
        params.not_yet("continue_final_message");
        let conversation = conversation::take(&mut params);
        params.done()?;
        conversation::prompt(&model, conversation).await?.ids
    } else {
        params.need("prompt");
        let prompt = params.string("prompt").unwrap_or_default();
        let add_special = params.boolean("add_special_tokens").unwrap_or(true);
        let encoding = Encoding { add_special, parse_special: false };
        params.done()?;
        let shared = model.clone();
        blocking(move || Ok(shared.tokenizer()?.encode_as(&prompt, encoding))).await?
    };
    blocking(move || {
        let tokenizer = model.tokenizer()?;
        let tokens = Tokens {
            count: ids.len(),
            max_model_len: model.engine.context(),
            tokens: &ids,
            token_strs: with_strings.then(|| Each { ids: &ids, say: |id| tokenizer.token_text(id) }),
        };
        Ok(response::json(StatusCode::OK, &tokens))
    })
    .await
}

/// `tokenIds` as the model's tokenizer gives them when it is called, special tokens included and cut to `max_length`;
/// `tokens` are the pieces of the text alone, all of them.
async fn as_glm_api(model: Model, mut params: Params) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Tokens<T> {
        token_ids: Vec<u32>,
        tokens: T,
    }
    params.need("prompt");
    let prompt = params.string("prompt").unwrap_or_default();
    let max_length = params.integer("max_length", 0..=i64::from(i32::MAX)).unwrap_or(4096) as usize;
    params.done()?;
    blocking(move || {
        let tokenizer = model.tokenizer()?;
        let encoded = tokenizer.encode(&prompt);
        let (prefix, suffix) = tokenizer.wrap();
        let room = max_length.saturating_sub(prefix.len() + suffix.len()).min(encoded.len());
        let tokens = Tokens {
            token_ids: [prefix, &encoded[..room], suffix].concat(),
            tokens: Each { ids: &encoded, say: |id| tokenizer.token_text(id) },
        };
        Ok(response::json(StatusCode::OK, &tokens))
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
    let vocab = model.tokenizer()?.len().max(model.engine.spec().vocab);
    params.need("tokens");
    let tokens = params.ids("tokens", vocab).unwrap_or_default();
    params.done()?;
    blocking(move || {
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
    mut params: Params,
) -> Result<Response, ApiError> {
    let (model, _) = generation_request::model(app.models()?, &mut params)?;
    params.not_yet("tools");
    let conversation = conversation::take(&mut params);
    params.done()?;
    let prompt = blocking(move || conversation::render(&model, &conversation)).await?;
    Ok(response::json(StatusCode::OK, &json!({"prompt": prompt})))
}
