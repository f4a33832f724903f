//! `POST /v1/chat/completions`: the OpenAI API's conversations.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use glimmer::{GenerationParams, Token, Tokenizer};
use serde_json::{Value, json};

use crate::api::answer_format::show_check;
use crate::api::conversation;
use crate::api::generation_request::{GenerationRequest, StreamUsage};
use crate::api::openai::object::{chunk_usage, fingerprint, usage};
use crate::app::App;
use crate::clock::now;
use crate::error::ApiError;
use crate::http::params::Params;
use crate::http::response;
use crate::http::sse::{self, ChunkStream, Chunks};
use crate::models::generation::{Ask, Generations};
use crate::record::entry::Entry;

/// Answers.
pub(crate) async fn complete(
    State(app): State<Arc<App>>,
    Extension(entry): Extension<Entry>,
    params: Params,
) -> Result<Response, ApiError> {
    respond(&app, &entry, params, false).await
}

/// Answers; a `cumulative` stream has the whole text so far in every chunk.
pub(crate) async fn respond(
    app: &Arc<App>,
    entry: &Entry,
    mut params: Params,
    cumulative: bool,
) -> Result<Response, ApiError> {
    let mut settings = GenerationRequest::take(app, &mut params, |model| Ok(model.chat()?.sampling.clone()))?;
    let logprobs = logprobs(&mut params);
    let shows_reasoning = params.boolean("include_reasoning").unwrap_or(true);
    refuse_tools(&mut params);
    let conversation = conversation::take(&mut params);
    params.done()?;

    settings.form(entry).await?;
    let model = &settings.model;
    let prompt = conversation::prompt(entry, model, conversation).await?;
    settings.check_length(&prompt)?;
    let params = GenerationParams { logprobs, ..settings.params.clone() };
    let asks = vec![Ask { prompt, params, copies: settings.n }];
    let mut generations = Generations::start(&app.options.limits, model, entry, asks, settings.stream)?;
    let frame = Frame {
        id: format!("chatcmpl-{:016x}", app.random()),
        created: now(),
        name: settings.name.clone(),
        tokenizer: model.tokenizer()?.clone(),
        has_logprobs: logprobs.is_some(),
        shows_reasoning,
    };
    if settings.stream {
        generations.admitted().await?;
        let whole = cumulative.then(|| vec![String::new(); settings.n]);
        let answers = Stream { generations, settings, frame, has_begun: false, whole };
        return Ok(sse::respond(ChunkStream::new(answers)));
    }
    whole(generations, &settings, &frame).await
}

fn logprobs(params: &mut Params) -> Option<usize> {
    let wanted = params.boolean("logprobs").unwrap_or(false);
    let top = params.integer("top_logprobs", 0..=20).unwrap_or(0) as usize;
    if top > 0 && !wanted {
        params.refuse(ApiError::parameter("top_logprobs", "`top_logprobs` needs `logprobs: true`"));
    }
    wanted.then_some(top)
}

/// Tools are not there yet; what asks for none of them is fine.
fn refuse_tools(params: &mut Params) {
    for name in [
        "tools",
        "functions",
        "documents",
        "web_search_options",
        "prediction",
        "audio",
        "continue_final_message",
    ] {
        params.not_yet(name);
    }
    for name in ["tool_choice", "function_call"] {
        let choice = params.value(name);
        if choice.is_some_and(|choice| choice != "none" && choice != "auto") {
            params.unsupported(name, format!("`{name}`: tools are not supported yet"));
        }
    }
    // Without tools there are no calls to make one after the other, or to send in pieces.
    params.boolean("parallel_tool_calls");
    params.boolean("tool_stream");
    // The models know no such setting.
    params.word("verbosity", &["low", "medium", "high"]);
    if params.value("modalities").is_some_and(|modalities| modalities != json!(["text"])) {
        params.unsupported("modalities", "`modalities`: only text is supported");
    }
    params.only("skip_special_tokens", true);
}

/// What all parts of one answer have in common.
struct Frame {
    id: String,
    created: u64,
    name: String,
    tokenizer: Tokenizer,
    has_logprobs: bool,
    shows_reasoning: bool,
}

impl Frame {
    fn chunk(&self, choices: &Value) -> Value {
        json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.name,
            "system_fingerprint": fingerprint(),
            "choices": choices,
        })
    }

    fn logprobs(&self, tokens: &[Token]) -> Value {
        if !self.has_logprobs {
            return Value::Null;
        }
        let tokenizer = &self.tokenizer;
        let one = |token: &Token| {
            let mut shown = shown_token(tokenizer, token.id, token.logprob.unwrap_or(f32::NAN));
            shown["top_logprobs"] =
                token.top.iter().map(|&(id, logprob)| shown_token(tokenizer, id, logprob)).collect();
            shown
        };
        json!({"content": tokens.iter().map(one).collect::<Vec<_>>(), "refusal": null})
    }
}

fn shown_token(tokenizer: &Tokenizer, id: u32, logprob: f32) -> Value {
    let bytes = tokenizer.token_bytes(id).unwrap_or_default();
    json!({"token": String::from_utf8_lossy(&bytes), "logprob": logprob, "bytes": bytes})
}

/// The whole answer at once.
async fn whole(
    mut generations: Generations,
    settings: &GenerationRequest,
    frame: &Frame,
) -> Result<Response, ApiError> {
    #[derive(Clone, Default)]
    struct Choice {
        text: String,
        reasoning: String,
        tokens: Vec<Token>,
        finish: &'static str,
        check: Option<Result<(), String>>,
    }
    let mut answers = vec![Choice::default(); settings.n];
    while let Some(delta) = generations.next().await {
        let delta = delta?;
        let answer = &mut answers[delta.index];
        answer.text.push_str(&delta.text);
        answer.reasoning.push_str(&delta.reasoning);
        answer.tokens.extend(delta.tokens);
        answer.finish = delta.finish.unwrap_or_default();
        answer.check = delta.check;
    }
    let choice = |(index, answer): (usize, &Choice)| {
        let mut message = json!({"role": "assistant", "content": answer.text, "refusal": null});
        if frame.shows_reasoning && !answer.reasoning.is_empty() {
            message["reasoning_content"] = answer.reasoning.as_str().into();
        }
        let mut choice = json!({
            "index": index,
            "message": message,
            "logprobs": frame.logprobs(&answer.tokens),
            "finish_reason": answer.finish,
        });
        show_check(&mut choice, answer.check.as_ref());
        choice
    };
    let value = json!({
        "id": frame.id,
        "object": "chat.completion",
        "created": frame.created,
        "model": frame.name,
        "system_fingerprint": fingerprint(),
        "choices": answers.iter().enumerate().map(choice).collect::<Vec<_>>(),
        "usage": usage(generations.usage()),
    });
    Ok(response::json(StatusCode::OK, &value))
}

/// An answer as it comes.
struct Stream {
    generations: Generations,
    settings: GenerationRequest,
    frame: Frame,
    /// Whether it was told who speaks, of each answer.
    has_begun: bool,
    /// The texts so far, where each chunk has them whole.
    whole: Option<Vec<String>>,
}

impl Stream {
    fn chunk(&self, index: usize, delta: &Value, tokens: &[Token], finish: Option<&str>) -> Value {
        let logprobs = if tokens.is_empty() { Value::Null } else { self.frame.logprobs(tokens) };
        let choice = json!({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish});
        let mut chunk = self.frame.chunk(&json!([choice]));
        chunk_usage(&mut chunk, self.settings.stream_usage, &self.generations);
        chunk
    }
}

impl Chunks for Stream {
    async fn more(&mut self, ready: &mut VecDeque<Value>) -> Option<Result<(), ApiError>> {
        if !std::mem::replace(&mut self.has_begun, true) {
            let role = json!({"role": "assistant", "content": ""});
            ready.extend((0..self.settings.n).map(|index| self.chunk(index, &role, &[], None)));
            return Some(Ok(()));
        }
        let delta = match self.generations.next().await? {
            Ok(delta) => delta,
            Err(error) => return Some(Err(error)),
        };
        let mut shown = json!({});
        if self.frame.shows_reasoning && !delta.reasoning.is_empty() {
            shown["reasoning_content"] = delta.reasoning.into();
        }
        if !delta.text.is_empty() {
            shown["content"] = match &mut self.whole {
                Some(texts) => {
                    texts[delta.index].push_str(&delta.text);
                    texts[delta.index].as_str().into()
                }
                None => delta.text.into(),
            };
        }
        let is_empty = shown.as_object().is_some_and(serde_json::Map::is_empty);
        if !is_empty || !delta.tokens.is_empty() {
            ready.push_back(self.chunk(delta.index, &shown, &delta.tokens, None));
        }
        if let Some(finish) = delta.finish {
            let mut last = self.chunk(delta.index, &json!({}), &[], Some(finish));
            show_check(&mut last["choices"][0], delta.check.as_ref());
            ready.push_back(last);
        }
        Some(Ok(()))
    }

    fn usage(&self) -> Option<Value> {
        (self.settings.stream_usage != StreamUsage::None).then(|| {
            let mut chunk = self.frame.chunk(&json!([]));
            chunk["usage"] = usage(self.generations.usage());
            chunk
        })
    }
}
