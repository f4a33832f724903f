//! `POST /v1/embeddings`: the OpenAI API's vectors of texts.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use glimmer::{Embedder, EncodedText, ModelKind};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::app::App;
use crate::error::ApiError;
use crate::http::params::{Params, TextOrIds};
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
    let name = params.string("model");
    let encoder = app.models()?.encoder(ModelKind::Vectors, name.as_deref()).await?;
    let embedder = encoder.embedder();
    params.need("input");
    let input = params.texts("input", TEXTS, embedder.tokenizer().len());
    let in_base64 = params.word("encoding_format", &["float", "base64"]) == Some("base64");
    let width = embedder.width() as i64;
    if params.integer("dimensions", 1..=i64::MAX).is_some_and(|dimensions| dimensions != width) {
        params.unsupported(
            "dimensions",
            format!("`dimensions`: the vectors of this model have {width} elements"),
        );
    }
    // As vLLM has it: -1 is the most that the model reads.
    let longest = params.integer("truncate_prompt_tokens", -1..=i64::from(i32::MAX)).map(|most| match most {
        -1 => embedder.max_tokens(),
        most => (most as usize).min(embedder.max_tokens()),
    });
    if longest == Some(0) {
        params.wrong("truncate_prompt_tokens", "-1 or at least 1");
    }
    let prompt = params.string("prompt_name");
    // The models know no kinds of input.
    for name in ["user", "input_type"] {
        params.ignore(name);
    }
    params.done()?;
    let shared = encoder.clone();
    let texts = blocking(&entry, move || texts(shared.embedder(), input, prompt.as_deref(), longest)).await?;
    let tokens: usize = texts.iter().map(|text| text.ids.len()).sum();
    let limit = app.options.limits.answer_time;
    let vectors =
        encoder.compute(&entry, tokens, limit, move |own| own.embedder().embed_encoded(&texts)).await?;
    let value = Embeddings {
        object: "list",
        data: Entries { vectors: &vectors, in_base64 },
        model: name.as_deref().unwrap_or(encoder.embedder().name()),
        usage: json!({"prompt_tokens": tokens, "total_tokens": tokens}),
    };
    Ok(response::json(StatusCode::OK, &value))
}

/// Texts after this prompt of the model, as ids, cut to the `longest` where one is given.
pub(crate) fn texts(
    embedder: &Embedder,
    input: Vec<TextOrIds>,
    prompt: Option<&str>,
    longest: Option<usize>,
) -> Result<Vec<EncodedText>, ApiError> {
    let one = |text| {
        let mut text = match text {
            TextOrIds::Text(text) => embedder
                .encode(&text, prompt)
                .map_err(|error| ApiError::parameter("prompt_name", error.to_string()))?,
            TextOrIds::Ids(ids) => ids.into(),
        };
        if let Some(longest) = longest {
            text.cut(longest);
        }
        match text.ids.len() > embedder.max_tokens() {
            true => Err(ApiError::too_long(text.ids.len(), embedder.max_tokens())),
            false => Ok(text),
        }
    };
    input.into_iter().map(one).collect()
}

/// What `POST /v1/embeddings` returns.
#[derive(Serialize)]
struct Embeddings<'a> {
    object: &'static str,
    data: Entries<'a>,
    model: &'a str,
    usage: Value,
}

/// Vectors with their places, written one after the other.
struct Entries<'a> {
    vectors: &'a [Vec<f32>],
    in_base64: bool,
}

impl Serialize for Entries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.vectors.iter().enumerate().map(|(index, vector)| {
            let shown = if self.in_base64 { base64(vector).into() } else { exact(vector) };
            json!({"object": "embedding", "index": index, "embedding": shown})
        }))
    }
}

/// Vectors, written one after the other.
pub(crate) struct Vectors<'a>(pub(crate) &'a [Vec<f32>]);

impl Serialize for Vectors<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|vector| exact(vector)))
    }
}

/// The elements as clients read them, who compute with 64 bits: with all their digits, so that they are those of [`base64()`].
fn exact(vector: &[f32]) -> Value {
    vector.iter().map(|&x| Value::from(f64::from(x))).collect()
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
    fn numbers_have_all_their_digits() {
        assert_eq!(super::exact(&[0.1]).to_string(), "[0.10000000149011612]");
    }

    #[test]
    fn base64_is_that_of_the_standard() {
        // Python: base64.b64encode(numpy.float32([1, -2.5]).tobytes()) and of [1] alone.
        assert_eq!(super::base64(&[1.0, -2.5]), "AACAPwAAIMA=");
        assert_eq!(super::base64(&[1.0]), "AACAPw==");
        assert_eq!(super::base64(&[]), "");
    }
}
