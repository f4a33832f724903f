//! `POST /v1/chat/completions`: the OpenAI API's conversations.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use glimmer::{Reply, ReplyPart, Token, Tokenizer};
use serde_json::{Value, json};

use crate::api::answer_format::show_end;
use crate::api::chat_request::ChatRequest;
use crate::api::conversation;
use crate::api::generation_request::{GenerationRequest, StreamUsage, ignore_notes};
use crate::api::openai::object::{chunk_usage, close, fingerprint, shown_token, usage};
use crate::api::tools;
use crate::app::App;
use crate::clock::now;
use crate::error::ApiError;
use crate::http::params::Params;
use crate::http::response;
use crate::http::sse::{self, Event, Script};
use crate::models::generation::{End, Generations};
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
    let settings =
        GenerationRequest::take(app, &mut params, |model| Ok(model.chat()?.sampling.clone())).await?;
    let logprobs = logprobs(&mut params);
    let tells_progress = params.boolean("return_progress").unwrap_or(false) && settings.stream;
    ignore_notes(&mut params);
    refuse_the_rest(&mut params);
    let tools = tools::take(&mut params);
    let (conversation, thinking) = conversation::take(&mut params, tools.shown());
    params.done()?;

    let frame = Frame {
        id: app.random(),
        created: now(),
        name: settings.name.clone(),
        tokenizer: settings.model.tokenizer()?.clone(),
        n: settings.n,
        stream_usage: settings.stream_usage,
        has_logprobs: logprobs.is_some(),
        shows_reasoning: thinking.is_shown,
        is_legacy: tools.is_legacy,
    };
    let stream = settings.stream;
    let request = ChatRequest {
        settings,
        conversation,
        shown_in: "messages",
        tools,
        thinking,
        logprobs,
        tells_progress,
    };
    let generations = request.ask(app, entry).await?;
    if stream {
        let whole = cumulative.then(|| vec![String::new(); frame.n]);
        let calls = vec![0; frame.n];
        return Ok(sse::respond(Stream { generations, frame, has_begun: false, calls, whole }));
    }
    whole(generations, &frame).await
}

fn logprobs(params: &mut Params) -> Option<usize> {
    let wanted = params.boolean("logprobs").unwrap_or(false);
    let top = params.integer("top_logprobs", 0..=20).unwrap_or(0) as usize;
    if top > 0 && !wanted {
        params.refuse(ApiError::parameter("top_logprobs", "`top_logprobs` needs `logprobs: true`"));
    }
    wanted.then_some(top)
}

/// What is not there yet; what asks for none of it is fine.
fn refuse_the_rest(params: &mut Params) {
    for name in ["documents", "web_search_options", "prediction", "audio", "continue_final_message"] {
        params.not_yet(name);
    }
    // The models know no such setting.
    params.word("verbosity", &["low", "medium", "high"]);
    if params.value("modalities").is_some_and(|modalities| modalities != json!(["text"])) {
        params.unsupported("modalities", "`modalities`: only text is supported");
    }
    params.only("skip_special_tokens", true);
}

/// What all parts of one answer have in common.
struct Frame {
    /// What its id and those of its calls are made of.
    id: u64,
    created: u64,
    name: String,
    tokenizer: Tokenizer,
    /// Answers.
    n: usize,
    stream_usage: StreamUsage,
    has_logprobs: bool,
    shows_reasoning: bool,
    /// Whether a call is a `function_call`.
    is_legacy: bool,
}

impl Frame {
    fn id(&self) -> String {
        format!("chatcmpl-{:016x}", self.id)
    }

    /// The object of a whole answer's message.
    fn message(&self, index: usize, reply: &Reply) -> Value {
        let mut message = json!({"role": "assistant", "content": reply.text, "refusal": null});
        if self.shows_reasoning && !reply.reasoning.is_empty() {
            message["reasoning_content"] = reply.reasoning.as_str().into();
            message["reasoning"] = reply.reasoning.as_str().into();
        }
        if reply.tool_calls.is_empty() {
            return message;
        }
        if reply.text.is_empty() {
            message["content"] = Value::Null;
        }
        let calls = reply.tool_calls.iter().enumerate();
        let calls = calls.map(|(at, call)| self.call(index, at, &call.name, &call.arguments));
        self.put_calls(&mut message, calls.collect());
        message
    }

    /// One call of one answer.
    fn call(&self, index: usize, at: usize, name: &str, arguments: &Value) -> Value {
        json!({
            "id": format!("call_{:016x}{index:02x}{at:02x}", self.id),
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        })
    }

    /// Puts calls into a message or a delta: as a list, or the only one as the API had it first.
    fn put_calls(&self, message: &mut Value, mut calls: Vec<Value>) {
        if self.is_legacy {
            message["function_call"] = calls.swap_remove(0)["function"].take();
        } else {
            message["tool_calls"] = calls.into();
        }
    }

    /// Why an answer ended.
    fn finish(&self, reason: &'static str) -> &'static str {
        if self.is_legacy && reason == "tool_calls" { "function_call" } else { reason }
    }

    fn chunk(&self, choices: &Value) -> Value {
        json!({
            "id": self.id(),
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
        let content = tokens.iter().map(|token| shown_token(&self.tokenizer, token));
        json!({"content": content.collect::<Vec<_>>(), "refusal": null})
    }
}

/// The whole answer at once.
async fn whole(mut generations: Generations, frame: &Frame) -> Result<Response, ApiError> {
    #[derive(Clone, Default)]
    struct Choice {
        reply: Reply,
        tokens: Vec<Token>,
        end: Option<End>,
    }
    let mut answers = vec![Choice::default(); frame.n];
    while let Some(delta) = generations.next().await {
        let delta = delta?;
        let answer = &mut answers[delta.index];
        delta.parts.into_iter().for_each(|part| answer.reply.push(part));
        answer.tokens.extend(delta.tokens);
        answer.end = delta.end;
    }
    let choice = |(index, answer): (usize, &Choice)| {
        let mut choice = json!({
            "index": index,
            "message": frame.message(index, &answer.reply),
            "logprobs": frame.logprobs(&answer.tokens),
            "finish_reason": answer.end.as_ref().map(|end| frame.finish(end.reason)),
        });
        answer.end.iter().for_each(|end| show_end(&mut choice, end));
        choice
    };
    let value = json!({
        "id": frame.id(),
        "object": "chat.completion",
        "created": frame.created,
        "model": frame.name,
        "system_fingerprint": fingerprint(),
        "choices": answers.iter().enumerate().map(choice).collect::<Vec<_>>(),
        "usage": usage(&generations),
    });
    Ok(response::json(StatusCode::OK, &value))
}

/// An answer as it comes.
struct Stream {
    generations: Generations,
    frame: Frame,
    /// Whether it was told who speaks, of each answer.
    has_begun: bool,
    /// Calls that were begun, of each answer.
    calls: Vec<usize>,
    /// The texts so far, where each chunk has them whole.
    whole: Option<Vec<String>>,
}

impl Stream {
    fn chunk(&self, index: usize, delta: &Value, tokens: &[Token], finish: Option<&str>) -> Value {
        let logprobs = if tokens.is_empty() { Value::Null } else { self.frame.logprobs(tokens) };
        let choice = json!({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish});
        let mut chunk = self.frame.chunk(&json!([choice]));
        chunk_usage(&mut chunk, self.frame.stream_usage, &self.generations);
        chunk
    }

    /// What a part adds to its answer's message. A call's id and name come once, its arguments after them in pieces.
    fn delta(&mut self, index: usize, part: ReplyPart) -> Option<Value> {
        let mut delta = json!({});
        match part {
            ReplyPart::Text(text) => {
                delta["content"] = match &mut self.whole {
                    Some(texts) => {
                        texts[index].push_str(&text);
                        texts[index].as_str().into()
                    }
                    None => text.into(),
                };
            }
            ReplyPart::Reasoning(text) if self.frame.shows_reasoning => {
                delta["reasoning_content"] = text.as_str().into();
                delta["reasoning"] = text.into();
            }
            ReplyPart::ToolCallStart { name } => {
                let at = self.calls[index];
                self.calls[index] += 1;
                let mut call = self.frame.call(index, at, &name, &"".into());
                call["index"] = at.into();
                self.frame.put_calls(&mut delta, vec![call]);
            }
            ReplyPart::ToolCallArguments(text) => {
                let at = self.calls[index].saturating_sub(1);
                let call = json!({"index": at, "function": {"arguments": text}});
                self.frame.put_calls(&mut delta, vec![call]);
            }
            // What was sent as reasoning, and was none, is content from here on.
            ReplyPart::Reasoning(_) | ReplyPart::ReasoningSkipped | ReplyPart::ToolCallEnd => return None,
        }
        Some(delta)
    }
}

impl Script for Stream {
    async fn more(&mut self, ready: &mut VecDeque<Event>) -> Option<Result<(), ApiError>> {
        if !std::mem::replace(&mut self.has_begun, true) {
            let role = json!({"role": "assistant", "content": ""});
            ready.extend((0..self.frame.n).map(|index| Event::of(&self.chunk(index, &role, &[], None))));
            return Some(Ok(()));
        }
        let delta = match self.generations.next().await? {
            Ok(delta) => delta,
            Err(error) => return Some(Err(error)),
        };
        if let Some(progress) = &delta.progress {
            let mut chunk = self.chunk(delta.index, &json!({}), &[], None);
            chunk["prompt_progress"] = self.generations.progress(progress);
            ready.push_back(Event::of(&chunk));
        }
        let mut tokens = delta.tokens;
        for part in delta.parts {
            if let Some(shown) = self.delta(delta.index, part) {
                ready.push_back(Event::of(&self.chunk(
                    delta.index,
                    &shown,
                    &std::mem::take(&mut tokens),
                    None,
                )));
            }
        }
        if !tokens.is_empty() {
            ready.push_back(Event::of(&self.chunk(delta.index, &json!({}), &tokens, None)));
        }
        if let Some(end) = delta.end {
            let finish = self.frame.finish(end.reason);
            let mut last = self.chunk(delta.index, &json!({}), &[], Some(finish));
            show_end(&mut last["choices"][0], &end);
            ready.push_back(Event::of(&last));
        }
        Some(Ok(()))
    }

    fn close(&mut self, ready: &mut VecDeque<Event>) {
        let last = self.frame.chunk(&json!([]));
        close(ready, last, self.frame.stream_usage, &self.generations);
    }
}
