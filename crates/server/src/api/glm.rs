//! The APIs that ChatGLM-6B was first served by: "GLM API" (`/chat`, `/chat-stream`, `/embedding`; its `/tokenize` stands in
//! `tokens`) and the model's own `api.py` (`POST /`). They know one model, the first, and no errors beyond a status.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use glimmer::{GenerationParams, ModelKind, Sampling, room_for_answer};
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::conversation;
use crate::api::openai::chat as chat_completions;
use crate::api::openai::embeddings::{TEXTS, Vectors};
use crate::app::App;
use crate::clock::{date_and_time, now};
use crate::error::ApiError;
use crate::http::params::{Params, TextOrIds, wrong};
use crate::http::response;
use crate::http::sse::{self, Event, Script};
use crate::models::blocking::blocking;
use crate::models::generation::{Ask, Generations};
use crate::record::entry::Entry;

/// What the first server of this API called its model, whichever it was.
const NAME: &str = "glm-60B";
/// What it called its encoder.
const ENCODER_NAME: &str = "text2vec-large-chinese";

/// `POST /chat`.
pub(crate) async fn chat(
    State(app): State<Arc<App>>,
    Extension(entry): Extension<Entry>,
    mut params: Params,
) -> Result<Response, ApiError> {
    if params.has("messages") {
        return messages(&app, &entry, params).await;
    }
    let question = Question::take(&mut params, 4096);
    params.done()?;
    let (mut generations, shown) = question.ask(&app, &entry, false).await?;
    let mut content = String::new();
    while let Some(delta) = generations.next().await {
        content.push_str(&delta?.text());
    }
    Ok(response::json(StatusCode::OK, &shown.reply(&content, generations.usage().completion)))
}

/// `POST /chat` as later versions of the API have it: the OpenAI API's messages and answers, of whichever model; `chunk:
/// false` makes a stream's chunks cumulative.
async fn messages(app: &Arc<App>, entry: &Entry, mut params: Params) -> Result<Response, ApiError> {
    // There is one model, whatever it is called.
    params.put("model", &app.models()?.first_name().await?);
    let chunk = params.boolean("chunk").unwrap_or(true);
    params.only("return_function_call", false);
    chat_completions::respond(app, entry, params, !chunk).await
}

/// `POST /chat-stream`: the same object again and again, with the whole answer so far; with `--glm-api-deltas`, as later
/// versions of the API have it, with what is new.
pub(crate) async fn chat_stream(
    State(app): State<Arc<App>>,
    Extension(entry): Extension<Entry>,
    mut params: Params,
) -> Result<Response, ApiError> {
    let question = Question::take(&mut params, 4096);
    params.done()?;
    let (mut generations, shown) = question.ask(&app, &entry, true).await?;
    generations.admitted().await?;
    let deltas = app.options.glm_api_deltas;
    Ok(sse::respond(Stream { generations, shown, content: String::new(), deltas }))
}

/// `POST /`: `api.py` of ChatGLM-6B and its successors.
pub(crate) async fn root(
    State(app): State<Arc<App>>,
    Extension(entry): Extension<Entry>,
    mut params: Params,
) -> Result<Response, ApiError> {
    let question = Question::take(&mut params, 2048);
    params.done()?;
    let (asked, mut history) = (question.prompt.clone(), question.history.clone());
    let (mut generations, _) = question.ask(&app, &entry, false).await?;
    let mut response = String::new();
    while let Some(delta) = generations.next().await {
        response.push_str(&delta?.text());
    }
    history.push(json!([asked, response]));
    let (date, time) = date_and_time(now());
    let value = json!({
        "response": response, "history": history, "status": 200, "time": format!("{date} {time}")
    });
    Ok(response::json(StatusCode::OK, &value))
}

/// `POST /embedding`: long texts are cut, as the encoder of that server did.
pub(crate) async fn embedding(
    State(app): State<Arc<App>>,
    Extension(entry): Extension<Entry>,
    mut params: Params,
) -> Result<Response, ApiError> {
    let encoder = app.models()?.encoder(ModelKind::Vectors, None).await?;
    params.need("prompt");
    let prompt = params.texts("prompt", TEXTS, 0);
    params.done()?;
    let shared = encoder.clone();
    let texts = blocking(&entry, move || {
        let one = |text: TextOrIds| match text {
            TextOrIds::Text(text) => {
                let embedder = shared.embedder();
                let mut text =
                    embedder.encode(&text, None).map_err(|error| ApiError::internal(error.to_string()))?;
                text.cut(embedder.max_tokens());
                Ok(text)
            }
            TextOrIds::Ids(_) => Err(wrong("prompt", "a list of texts")),
        };
        prompt.into_iter().map(one).collect::<Result<Vec<_>, _>>()
    });
    let texts = texts.await?;
    let (tokens, limit) = (texts.iter().map(|text| text.ids.len()).sum(), app.options.limits.answer_time);
    let vectors =
        encoder.compute(&entry, tokens, limit, move |own| own.embedder().embed_encoded(&texts)).await?;
    Ok(response::json(
        StatusCode::OK,
        &Embedding { data: Vectors(&vectors), model: ENCODER_NAME, object: "embedding" },
    ))
}

/// What `POST /embedding` returns.
#[derive(Serialize)]
struct Embedding<'a> {
    data: Vectors<'a>,
    model: &'static str,
    object: &'static str,
}

/// What these APIs are asked.
struct Question {
    prompt: String,
    history: Vec<Value>,
    /// Tokens of prompt and answer together.
    max_length: usize,
    top_p: f32,
    temperature: f32,
}

impl Question {
    fn take(params: &mut Params, max_length: i64) -> Self {
        params.need("prompt");
        Question {
            prompt: params.string("prompt").unwrap_or_default(),
            history: rounds(params),
            // 0 stands for the default, as it did in `api.py`; a temperature of 0 means what it says.
            max_length: match params.integer("max_length", 0..=i64::from(i32::MAX)) {
                None | Some(0) => max_length as usize,
                Some(given) => given as usize,
            },
            top_p: match params.number("top_p", 0.0..=1.0) {
                None | Some(0.0) => 0.7,
                Some(given) => given as f32,
            },
            temperature: params.number("temperature", 0.0..=100.0).unwrap_or(0.95) as f32,
        }
    }

    async fn ask(
        self,
        app: &Arc<App>,
        entry: &Entry,
        stream: bool,
    ) -> Result<(Generations, Shown), ApiError> {
        let model = app.models()?.first().await?;
        let sampling = Sampling {
            temperature: self.temperature,
            top_p: self.top_p,
            seed: app.random(),
            ..model.chat()?.sampling.clone()
        };
        let conversation = conversation::of_rounds(&self.history, self.prompt.clone())?;
        let (prompt, turn) = conversation::turn(app, entry, &model, conversation, "history").await?;
        let length = prompt.ids.len();
        let context = model.engine().context().min(self.max_length);
        let room = room_for_answer(length, app.options.limits.answer_tokens, context);
        let max_tokens = Some(room.map_err(|error| ApiError::from_engine(&error, 0))?);
        let params = GenerationParams { sampling, max_tokens, ..GenerationParams::default() };
        let shown = Shown { prompt_tokens: model.tokenizer()?.encode(&self.prompt).len() };
        let asks = vec![Ask { prompt, params, copies: 1, turn: Some(turn), tells_progress: false }];
        Ok((Generations::start(&app.options.limits, &model, entry, asks, stream)?, shown))
    }
}

fn rounds(params: &mut Params) -> Vec<Value> {
    match params.value("history") {
        None => Vec::new(),
        Some(Value::Array(rounds)) => rounds,
        Some(_) => {
            params.wrong("history", "a list of pairs [question, answer]");
            Vec::new()
        }
    }
}

/// How an answer is shown. Tokens are counted as this API counts them: those of question and answer, without special
/// ones and without history.
struct Shown {
    prompt_tokens: usize,
}

impl Shown {
    fn reply(&self, content: &str, completion_tokens: usize) -> Value {
        json!({
            "content": content,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": self.prompt_tokens + completion_tokens,
            "model": NAME,
            "object": "chat.completion",
        })
    }
}

struct Stream {
    generations: Generations,
    shown: Shown,
    content: String,
    deltas: bool,
}

impl Script for Stream {
    async fn more(&mut self, ready: &mut VecDeque<Event>) -> Option<Result<(), ApiError>> {
        let text = match self.generations.next().await? {
            Ok(delta) => delta.text(),
            Err(error) => return Some(Err(error)),
        };
        if !text.is_empty() {
            self.content.push_str(&text);
            let content = if self.deltas { &text } else { &self.content };
            ready.push_back(Event::of(&self.shown.reply(content, self.generations.usage().completion)));
        }
        Some(Ok(()))
    }
}
