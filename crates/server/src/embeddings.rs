//! `POST /v1/embeddings` and the GLM API's `/embedding`: vectors of texts, by an encoder beside the models that write.

use std::sync::Arc;
use std::time::Instant;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use glimmer_tokenizer::Tokenizer;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::access::{Entry, Spoken};
use crate::app::App;
use crate::body;
use crate::conversation::aside;
use crate::error::ApiError;
use crate::params::{Params, ids, wrong};
use crate::speaking::Usage;

/// Texts of one request, as the OpenAI API bounds them.
const TEXTS: usize = 2048;
/// What the first server of the GLM API called its encoder.
const GLM_API_NAME: &str = "text2vec-large-chinese";

/// Texts, as ids, to vectors; complaints are for people.
pub type Embed = Box<dyn Fn(&[Vec<u32>]) -> Result<Vec<Vec<f32>>, String> + Send + Sync>;

/// An encoder, ready to compute.
pub struct Embedder {
    /// What clients call it.
    pub name: String,
    /// Texts to ids, `[CLS]` and `[SEP]` among them.
    pub tokenizer: Tokenizer,
    /// Most tokens of a text.
    pub max_tokens: usize,
    /// Length of a vector.
    pub width: usize,
    /// What computes.
    pub embed: Embed,
    /// When it was made, in seconds since 1970.
    pub created: u64,
}

/// An encoder and the turn at it: one request at a time has the processors.
pub(crate) struct Encoder {
    pub(crate) embedder: Embedder,
    turn: Semaphore,
}

impl Encoder {
    pub(crate) fn new(embedder: Embedder) -> Self {
        Encoder { embedder, turn: Semaphore::new(1) }
    }

    /// The entry in the list of models.
    pub(crate) fn shown(&self) -> Value {
        let one = &self.embedder;
        json!({
            "id": one.name,
            "object": "model",
            "created": one.created,
            "owned_by": "glimmer",
            "root": one.name,
            "max_model_len": one.max_tokens,
            "meta": {"n_embd": one.width},
        })
    }
}

/// `POST /v1/embeddings`.
pub(crate) async fn embeddings(
    State(app): State<Arc<App>>,
    Extension(entry): Extension<Entry>,
    mut params: Params,
) -> Result<Response, ApiError> {
    let name = params.string("model")?;
    let encoder = app.models()?.encoder(name.as_deref())?.clone();
    let input = params.need("input")?;
    let in_base64 = match params.string("encoding_format")?.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => return Err(wrong("encoding_format", "`float` or `base64`")),
    };
    let width = encoder.embedder.width as i64;
    if params.integer("dimensions", 1..=i64::MAX)?.is_some_and(|dimensions| dimensions != width) {
        return Err(ApiError::unsupported(
            "dimensions",
            format!("the vectors of this model have {width} elements"),
        ));
    }
    params.ignore("user");
    params.done()?;
    let shared = encoder.clone();
    let texts = aside(move || texts(&shared.embedder, input)).await?;
    let tokens: usize = texts.iter().map(Vec::len).sum();
    let vectors = compute(&app, &encoder, &entry, texts).await?;
    let shown = |vector: &[f32]| if in_base64 { base64(vector).into() } else { json!(vector) };
    let entries = vectors.iter().enumerate();
    let data: Vec<Value> = entries
        .map(|(index, vector)| json!({"object": "embedding", "index": index, "embedding": shown(vector)}))
        .collect();
    let value = json!({
        "object": "list",
        "data": data,
        "model": name.as_deref().unwrap_or(&encoder.embedder.name),
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    });
    Ok(body::json(StatusCode::OK, &value))
}

/// `POST /embedding`: long texts are cut, as the encoder of that server did.
pub(crate) async fn glm_api(
    State(app): State<Arc<App>>,
    Extension(entry): Extension<Entry>,
    mut params: Params,
) -> Result<Response, ApiError> {
    let encoder = app.models()?.encoder(None)?.clone();
    let fault = || wrong("prompt", "a list of texts");
    let prompt = match params.need("prompt")? {
        Value::String(text) => vec![Value::String(text)],
        Value::Array(texts) if texts.len() <= TEXTS => texts,
        _ => return Err(fault()),
    };
    params.done()?;
    let shared = encoder.clone();
    let texts = aside(move || {
        let one = |text: Value| match text {
            Value::String(text) => {
                Ok(cut(shared.embedder.tokenizer.encode(&text), shared.embedder.max_tokens))
            }
            _ => Err(fault()),
        };
        prompt.into_iter().map(one).collect::<Result<Vec<_>, _>>()
    });
    let vectors = compute(&app, &encoder, &entry, texts.await?).await?;
    Ok(body::json(StatusCode::OK, &json!({"data": vectors, "model": GLM_API_NAME, "object": "embedding"})))
}

async fn compute(
    app: &App,
    encoder: &Arc<Encoder>,
    entry: &Entry,
    texts: Vec<Vec<u32>>,
) -> Result<Vec<Vec<f32>>, ApiError> {
    let usage = Usage { prompt: texts.iter().map(Vec::len).sum(), ..Usage::default() };
    entry.spoke(Spoken {
        model: encoder.embedder.name.clone(),
        usage,
        start: Instant::now(),
        first_token: None,
        finishes: Vec::new(),
    });
    let limit = app.options.limits.answer_time;
    let shared = encoder.clone();
    let computed = async move {
        let _turn =
            encoder.turn.acquire().await.map_err(|_| ApiError::internal("the encoder has stopped"))?;
        aside(move || (shared.embedder.embed)(&texts).map_err(ApiError::invalid)).await
    };
    timeout(limit, computed).await.unwrap_or_else(|_| Err(ApiError::timeout(limit.as_secs())))
}

/// A text, ids, or a list of either.
fn texts(embedder: &Embedder, input: Value) -> Result<Vec<Vec<u32>>, ApiError> {
    let fault = || wrong("input", &format!("a text, a list of token ids, or a list of at most {TEXTS} such"));
    let tokenizer = &embedder.tokenizer;
    let of_ids = |values: &[Value]| ids("input", values, tokenizer.len());
    let texts = match input {
        Value::String(text) => vec![tokenizer.encode(&text)],
        Value::Array(items) if items.is_empty() => return Err(fault()),
        Value::Array(items) if items.iter().all(Value::is_number) => vec![of_ids(&items)?],
        Value::Array(items) if items.len() <= TEXTS => items
            .into_iter()
            .map(|item| match item {
                Value::String(text) => Ok(tokenizer.encode(&text)),
                Value::Array(ids) if !ids.is_empty() => of_ids(&ids),
                _ => Err(fault()),
            })
            .collect::<Result<_, _>>()?,
        _ => return Err(fault()),
    };
    match texts.iter().map(Vec::len).find(|&length| length > embedder.max_tokens) {
        Some(length) => Err(ApiError::too_long(length, embedder.max_tokens)),
        None => Ok(texts),
    }
}

/// The beginning of a text, and its last token, which says that it ends.
fn cut(mut text: Vec<u32>, most: usize) -> Vec<u32> {
    if text.len() > most
        && let Some(last) = text.pop()
    {
        text.truncate(most.saturating_sub(1));
        text.push(last);
    }
    text
}

/// Little-endian floats in base64 (RFC 4648).
fn base64(vector: &[f32]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits =
            group.iter().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - group.len()));
        for at in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= group.len() { digit as char } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn base64_is_that_of_the_standard() {
        // Python: base64.b64encode(numpy.float32([1, -2.5]).tobytes()) and of [1] alone.
        assert_eq!(super::base64(&[1.0, -2.5]), "AACAPwAAIMA=");
        assert_eq!(super::base64(&[1.0]), "AACAPw==");
        assert_eq!(super::base64(&[]), "");
    }

    #[test]
    fn a_cut_text_still_ends() {
        assert_eq!(super::cut(vec![1, 5, 6, 7, 2], 3), [1, 5, 2]);
        assert_eq!(super::cut(vec![1, 5, 2], 3), [1, 5, 2]);
    }
}
