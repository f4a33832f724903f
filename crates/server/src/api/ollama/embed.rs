//! `POST /api/embed` and `/api/embeddings`: vectors of texts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use glimmer::{GenerationParams, ModelKind};
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::ollama::{keep_alive, names, options};
use crate::api::openai::embeddings::{TEXTS, Vectors, texts};
use crate::app::App;
use crate::error::ApiError;
use crate::http::params::{Params, TextOrIds};
use crate::http::response;
use crate::models::blocking::blocking;
use crate::record::entry::Entry;

/// What `POST /api/embed` returns.
#[derive(Serialize)]
struct Embedded<'a> {
    model: &'a str,
    embeddings: Vectors<'a>,
    total_duration: u64,
    load_duration: u64,
    prompt_eval_count: usize,
}

/// Vectors, and what they took.
struct Computed {
    name: String,
    vectors: Vec<Vec<f32>>,
    tokens: usize,
    total: Duration,
    loading: Duration,
}

/// `POST /api/embed`: vectors of length 1, of a text or of several. Without a text the model is loaded.
pub(crate) async fn embed(
    State(app): State<Arc<App>>,
    Extension(entry): Extension<Entry>,
    mut params: Params,
) -> Result<Response, ApiError> {
    let input = input(&mut params);
    let cuts = params.boolean("truncate").unwrap_or(true);
    let width = params.integer("dimensions", 0..=i64::from(i32::MAX)).unwrap_or(0) as usize;
    let mut computed = compute(&app, &entry, params, input, cuts).await?;
    for vector in &mut computed.vectors {
        if width > 0 {
            vector.truncate(width);
        }
        normalize(vector);
    }
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let value = Embedded {
        model: &computed.name,
        embeddings: Vectors(&computed.vectors),
        total_duration: nanoseconds(computed.total),
        load_duration: nanoseconds(computed.loading),
        prompt_eval_count: computed.tokens,
    };
    Ok(response::json(StatusCode::OK, &value))
}

/// `POST /api/embeddings`: the vector of one text, as the model makes it.
pub(crate) async fn embeddings(
    State(app): State<Arc<App>>,
    Extension(entry): Extension<Entry>,
    mut params: Params,
) -> Result<Response, ApiError> {
    let prompt = params.string("prompt").filter(|prompt| !prompt.is_empty());
    let computed = compute(&app, &entry, params, prompt.into_iter().collect(), true).await?;
    let vector: Vec<f64> = computed.vectors.first().into_iter().flatten().map(|&x| f64::from(x)).collect();
    Ok(response::json(StatusCode::OK, &json!({"embedding": vector})))
}

/// `input`: a text, or a list of some.
fn input(params: &mut Params) -> Vec<String> {
    let texts = match params.value("input") {
        None => Some(Vec::new()),
        Some(Value::String(text)) => Some(if text.is_empty() { Vec::new() } else { vec![text] }),
        Some(Value::Array(texts)) if texts.len() <= TEXTS => {
            let text = |text| if let Value::String(text) = text { Some(text) } else { None };
            texts.into_iter().map(text).collect()
        }
        Some(_) => None,
    };
    texts.unwrap_or_else(|| {
        params.wrong("input", &format!("a text, or a list of at most {TEXTS}"));
        Vec::new()
    })
}

/// Takes what both have, and computes; texts are cut to what the model reads, or refused.
async fn compute(
    app: &App,
    entry: &Entry,
    mut params: Params,
    input: Vec<String>,
    cuts: bool,
) -> Result<Computed, ApiError> {
    let begun = Instant::now();
    let named = names::take(app, entry, &mut params, &names::FIELDS[..1]).await?;
    let keep = keep_alive::take(&mut params);
    // Nothing that is said of tokens and of the machine bears on a vector; that it can be said is seen to.
    let vocab = i32::MAX as usize;
    params.object("options", |given| options::read(given, app, vocab, &mut GenerationParams::default()));
    let models = app.models()?;
    let base = Some(named.base()).filter(|_| !named.name.is_empty());
    let encoder = models.encoder(ModelKind::Vectors, base).await?;
    let loaded = Instant::now();
    params.done()?;
    if let Some(time) = keep {
        models.registry().keep(named.base(), time);
    }
    let shared = encoder.clone();
    let read = move || {
        let longest = cuts.then(|| shared.embedder().max_tokens());
        texts(shared.embedder(), input.into_iter().map(TextOrIds::Text).collect(), None, longest)
    };
    let texts = blocking(entry, read).await?;
    let tokens = texts.iter().map(|text| text.ids.len()).sum();
    let vectors = match texts.is_empty() {
        true => Vec::new(),
        false => {
            let limit = app.options.limits.answer_time;
            encoder.compute(entry, tokens, limit, move |own| own.embedder().embed_encoded(&texts)).await?
        }
    };
    Ok(Computed {
        name: named.name,
        vectors,
        tokens,
        total: begun.elapsed(),
        loading: loaded.duration_since(begun),
    })
}

/// Makes a vector's length 1, unless it is 0.
fn normalize(vector: &mut [f32]) {
    let length = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
    }
}
