//! `POST /v1/embeddings`: the OpenAI API's vectors of texts.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use glimmer::Embedder;
use serde_json::{Value, json};

use crate::app::App;
use crate::error::ApiError;
use crate::http::params::{Params, ids, wrong};
use crate::http::response;
use crate::models::blocking::blocking;
use crate::record::entry::Entry;

/// Texts of one request.
pub(crate) const TEXTS: usize = 2048;

/// `POST /v1/embeddings`.
pub(crate) async fn embed(
    State(app): State<Arc<App>>,
    Extension(entry): Extension<Entry>,
    mut params: Params,
) -> Result<Response, ApiError> {
    let name = params.string("model")?;
    let encoder = app.models()?.encoder(name.as_deref())?;
    let input = params.need("input")?;
    let in_base64 = match params.string("encoding_format")?.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => return Err(wrong("encoding_format", "`float` or `base64`")),
    };
    let width = encoder.embedder.width() as i64;
    if params.integer("dimensions", 1..=i64::MAX)?.is_some_and(|dimensions| dimensions != width) {
        return Err(ApiError::unsupported(
            "dimensions",
            format!("the vectors of this model have {width} elements"),
        ));
    }
    params.ignore("user");
    params.done()?;
    let shared = encoder.clone();
    let texts = blocking(move || texts(&shared.embedder, input)).await?;
    let tokens: usize = texts.iter().map(Vec::len).sum();
    let vectors = encoder.compute(&entry, texts, app.options.limits.answer_time).await?;
    let shown = |vector: &[f32]| if in_base64 { base64(vector).into() } else { json!(vector) };
    let entries = vectors.iter().enumerate();
    let data: Vec<Value> = entries
        .map(|(index, vector)| json!({"object": "embedding", "index": index, "embedding": shown(vector)}))
        .collect();
    let value = json!({
        "object": "list",
        "data": data,
        "model": name.as_deref().unwrap_or(encoder.embedder.name()),
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    });
    Ok(response::json(StatusCode::OK, &value))
}

/// A text, ids, or a list of either.
fn texts(embedder: &Embedder, input: Value) -> Result<Vec<Vec<u32>>, ApiError> {
    let fault = || wrong("input", &format!("a text, a list of token ids, or a list of at most {TEXTS} such"));
    let tokenizer = embedder.tokenizer();
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
    match texts.iter().map(Vec::len).find(|&length| length > embedder.max_tokens()) {
        Some(length) => Err(ApiError::too_long(length, embedder.max_tokens())),
        None => Ok(texts),
    }
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
}
