//! The APIs that ChatGLM-6B was first served by: "GLM API" (`/chat`, `/chat-stream`; its `/tokenize` and
//! `/embedding` stand in `tokens` and `embeddings`) and the
//! model's own `api.py` (`POST /`). They know one model, the first, and no errors beyond a status.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use glimmer_engine::{Request, room_for_answer};
use serde_json::{Value, json};

use crate::access::Entry;
use crate::app::App;
use crate::body;
use crate::conversation::{self, Prompt};
use crate::error::ApiError;
use crate::log::{date_and_time, now};
use crate::params::Params;
use crate::speaking::{Ask, Speaking};
use crate::sse::{self, Script};

/// What the first server of this API called its model, whichever it was.
const NAME: &str = "glm-60B";

/// `POST /chat`.
pub(crate) async fn chat(
    State(app): State<Arc<App>>,
    Extension(entry): Extension<Entry>,
    mut params: Params,
) -> Result<Response, ApiError> {
    if params.has("messages") {
        return messages(&app, &entry, params).await;
    }
    let question = Question::take(&mut params, 4096)?;
    params.done()?;
    let (mut speaking, shown) = question.ask(&app, &entry, false).await?;
    let mut content = String::new();
    while let Some(delta) = speaking.next().await {
        content.push_str(&delta?.text);
    }
    Ok(body::json(StatusCode::OK, &shown.reply(&content, speaking.usage().completion)))
}

/// `POST /chat` as later versions of the API have it: the OpenAI API's messages and answers, of whichever model; `chunk:
/// false` makes a stream's chunks cumulative.
async fn messages(app: &Arc<App>, entry: &Entry, mut params: Params) -> Result<Response, ApiError> {
    // There is one model, whatever it is called.
    params.put("model", app.models()?.first()?.name().into());
    let chunk = params.boolean("chunk")?.unwrap_or(true);
    params.only("return_function_call", false)?;
    crate::chat::answer(app, entry, params, !chunk).await
}

/// `POST /chat-stream`: the same object again and again, with the whole answer so far; with `--glm-api-deltas`, as later
/// versions of the API have it, with what is new.
pub(crate) async fn chat_stream(
    State(app): State<Arc<App>>,
    Extension(entry): Extension<Entry>,
    mut params: Params,
) -> Result<Response, ApiError> {
    let question = Question::take(&mut params, 4096)?;
    params.done()?;
    let (mut speaking, shown) = question.ask(&app, &entry, true).await?;
    speaking.taken().await?;
    let deltas = app.options.glm_api_deltas;
    Ok(sse::respond(Stream { speaking, shown, content: String::new(), deltas, is_over: false }))
}

/// `POST /`: `api.py` of ChatGLM-6B and its successors.
pub(crate) async fn root(
    State(app): State<Arc<App>>,
    Extension(entry): Extension<Entry>,
    mut params: Params,
) -> Result<Response, ApiError> {
    let question = Question::take(&mut params, 2048)?;
    params.done()?;
    let (asked, mut history) = (question.prompt.clone(), question.history.clone());
    let (mut speaking, _) = question.ask(&app, &entry, false).await?;
    let mut response = String::new();
    while let Some(delta) = speaking.next().await {
        response.push_str(&delta?.text);
    }
    history.push(json!([asked, response]));
    let (date, time) = date_and_time(now());
    let value = json!({
        "response": response, "history": history, "status": 200, "time": format!("{date} {time}")
    });
    Ok(body::json(StatusCode::OK, &value))
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
    fn take(params: &mut Params, max_length: i64) -> Result<Self, ApiError> {
        let prompt = params.string("prompt")?;
        let prompt = prompt.ok_or_else(|| ApiError::parameter("prompt", "`prompt` is missing"))?;
        Ok(Question {
            prompt,
            history: params.list("history")?.unwrap_or_default(),
            // 0 stands for the default, as it did in `api.py`; a temperature of 0 means what it says.
            max_length: match params.integer("max_length", 0..=i64::from(i32::MAX))? {
                None | Some(0) => max_length as usize,
                Some(given) => given as usize,
            },
            top_p: match params.number("top_p", 0.0..=1.0)? {
                None | Some(0.0) => 0.7,
                Some(given) => given as f32,
            },
            temperature: params.number("temperature", 0.0..=100.0)?.unwrap_or(0.95) as f32,
        })
    }

    async fn ask(self, app: &Arc<App>, entry: &Entry, stream: bool) -> Result<(Speaking, Shown), ApiError> {
        let model = app.models()?.first()?.clone();
        let chat = model.chat()?;
        let conversation = conversation::of_rounds(&self.history, self.prompt.clone())?;
        let prompt: Prompt = conversation::prompt(&model, conversation).await?;
        let length = prompt.ids.len();
        let context = model.served.engine.context().min(self.max_length);
        let max_tokens = room_for_answer(length, app.options.limits.answer_tokens, context)
            .map_err(|error| ApiError::from_engine(&error, 0))?;
        let mut sampling = chat.sampling.clone();
        (sampling.temperature, sampling.top_p, sampling.seed) = (self.temperature, self.top_p, app.random());
        let decoding = prompt.decoding(&model, &[])?;
        let request = Request {
            max_tokens,
            stop_ids: chat.stop_ids.clone(),
            sampling,
            prompt: prompt.ids,
            ..Request::default()
        };
        let shown = Shown { prompt_tokens: model.served.tokenizer.encode(&self.prompt).len() };
        Ok((
            Speaking::start(app, &model, entry, vec![Ask { request, copies: vec![decoding] }], stream),
            shown,
        ))
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
    speaking: Speaking,
    shown: Shown,
    content: String,
    deltas: bool,
    is_over: bool,
}

impl Script for Stream {
    async fn next(&mut self) -> Option<String> {
        while !self.is_over {
            match self.speaking.next().await? {
                Ok(delta) if delta.text.is_empty() => {}
                Ok(delta) => {
                    self.content.push_str(&delta.text);
                    let content = if self.deltas { &delta.text } else { &self.content };
                    return Some(self.shown.reply(content, self.speaking.usage().completion).to_string());
                }
                Err(error) => {
                    self.is_over = true;
                    return Some(error.json().to_string());
                }
            }
        }
        None
    }
}
