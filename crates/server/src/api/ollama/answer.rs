//! How an answer is shown: a message of `/api/chat` or the text of `/api/generate`, whole or a line for each part.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use axum::response::Response;
use glimmer::{ReplyPart, Token, Tokenizer};
use serde_json::{Value, json};

use crate::api::answer_format::show_end;
use crate::api::dialect::Dialect;
use crate::api::openai::object::shown_token;
use crate::clock::precise_now;
use crate::error::ApiError;
use crate::http::sse::{Event, Script};
use crate::http::{ndjson, response};
use crate::models::generation::{ChoiceDelta, End, Generations};

/// Whose answer it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `/api/chat`'s: a message.
    Chat,
    /// `/api/generate`'s: a text.
    Generate,
}

/// What all parts of an answer have in common.
pub(crate) struct Frame {
    pub(crate) form: Form,
    /// What the ids of calls are made of.
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) has_logprobs: bool,
    /// When the request came.
    pub(crate) begun: Instant,
    /// How long it waited for its model.
    pub(crate) load_time: Duration,
}

/// What of an answer is shown at once.
#[derive(Default)]
struct Said {
    text: String,
    thinking: String,
    calls: Vec<Value>,
    tokens: Vec<Token>,
}

/// The calls of an answer so far: how many were made, and the name and arguments of the one that is under way.
#[derive(Default)]
struct Calls {
    made: usize,
    open: Option<(String, String)>,
}

/// Sends an answer.
pub(crate) async fn respond(
    mut generations: Generations,
    frame: Frame,
    stream: bool,
) -> Result<Response, ApiError> {
    if stream {
        return Ok(ndjson::respond(Stream { generations, frame, calls: Calls::default() }));
    }
    let (mut said, mut calls, mut last) = (Said::default(), Calls::default(), None);
    while let Some(delta) = generations.next().await {
        last = said.take(&mut calls, &frame, delta?);
    }
    let mut value = frame.shown(said);
    if let Some(end) = last {
        frame.close(&mut value, &end, &generations);
    }
    Ok(response::json(StatusCode::OK, &value))
}

impl Said {
    /// Adds what a delta brings; returns how the answer ends with it.
    fn take(&mut self, calls: &mut Calls, frame: &Frame, delta: ChoiceDelta) -> Option<End> {
        delta.parts.into_iter().for_each(|part| self.push(calls, frame, part));
        self.tokens.extend(delta.tokens);
        if delta.end.is_some() {
            self.give_up(calls);
        }
        delta.end
    }

    fn push(&mut self, calls: &mut Calls, frame: &Frame, part: ReplyPart) {
        match part {
            ReplyPart::Text(text) => self.text.push_str(&text),
            ReplyPart::Reasoning(text) => self.thinking.push_str(&text),
            // It follows as text.
            ReplyPart::ReasoningSkipped => self.thinking.clear(),
            ReplyPart::ToolCallStart { name } => {
                self.give_up(calls);
                calls.open = Some((name, String::new()));
            }
            ReplyPart::ToolCallArguments(text) => {
                if let Some((_, arguments)) = &mut calls.open {
                    arguments.push_str(&text);
                }
            }
            ReplyPart::ToolCallEnd => match calls.object() {
                None => self.give_up(calls),
                Some((name, arguments)) => {
                    self.calls.push(json!({
                        "id": format!("call_{:016x}{:02x}", frame.id, calls.made),
                        "function": {"index": calls.made, "name": name, "arguments": arguments},
                    }));
                    (calls.made, calls.open) = (calls.made + 1, None);
                }
            },
        }
    }

    /// What was to be a call and is none, because it was cut or its arguments are no object, is what the model wrote.
    fn give_up(&mut self, calls: &mut Calls) {
        if let Some((name, arguments)) = calls.open.take() {
            self.text.push_str(&format!("{name}\n{arguments}"));
        }
    }

    fn is_empty(&self) -> bool {
        self.text.is_empty() && self.thinking.is_empty() && self.calls.is_empty() && self.tokens.is_empty()
    }
}

impl Calls {
    /// The call that is complete: its arguments are an object wherever a schema could hold them to one.
    fn object(&self) -> Option<(String, Value)> {
        let (name, arguments) = self.open.as_ref()?;
        let arguments = serde_json::from_str::<Value>(arguments).ok().filter(Value::is_object)?;
        Some((name.clone(), arguments))
    }
}

impl Frame {
    fn shown(&self, said: Said) -> Value {
        let mut value = json!({"model": self.name, "created_at": precise_now()});
        let inner = match self.form {
            Form::Chat => {
                value["message"] = json!({"role": "assistant", "content": said.text});
                &mut value["message"]
            }
            Form::Generate => {
                value["response"] = said.text.into();
                &mut value
            }
        };
        if !said.thinking.is_empty() {
            inner["thinking"] = said.thinking.into();
        }
        if !said.calls.is_empty() {
            inner["tool_calls"] = said.calls.into();
        }
        if self.has_logprobs && !said.tokens.is_empty() {
            value["logprobs"] = said.tokens.iter().map(|token| self.logprob(token)).collect();
        }
        value["done"] = false.into();
        value
    }

    fn logprob(&self, token: &Token) -> Value {
        let mut shown = shown_token(&self.tokenizer, token);
        if let (true, Value::Object(fields)) = (token.top.is_empty(), &mut shown) {
            fields.shift_remove("top_logprobs");
        }
        shown
    }

    /// Puts into the last part that it is one, why, and what the answer took.
    fn close(&self, value: &mut Value, end: &End, generations: &Generations) {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let (usage, (prompt_time, answer_time)) = (generations.usage(), generations.times());
        value["done"] = true.into();
        value["done_reason"] = if end.reason == "length" { "length" } else { "stop" }.into();
        value["total_duration"] = nanoseconds(self.begun.elapsed()).into();
        value["load_duration"] = nanoseconds(self.load_time).into();
        value["prompt_eval_count"] = usage.prompt.into();
        value["prompt_eval_duration"] = nanoseconds(prompt_time).into();
        value["eval_count"] = usage.completion.into();
        value["eval_duration"] = nanoseconds(answer_time).into();
        show_end(value, end);
    }
}

/// An answer as it comes.
struct Stream {
    generations: Generations,
    frame: Frame,
    calls: Calls,
}

impl Script for Stream {
    async fn more(&mut self, ready: &mut VecDeque<Event>) -> Option<Result<(), ApiError>> {
        let delta = match self.generations.next().await? {
            Ok(delta) => delta,
            Err(error) => return Some(Err(error)),
        };
        let mut said = Said::default();
        let end = said.take(&mut self.calls, &self.frame, delta);
        if !said.is_empty() {
            ready.push_back(Event::of(&self.frame.shown(said)));
        }
        if let Some(end) = end {
            let mut last = self.frame.shown(Said::default());
            self.frame.close(&mut last, &end, &self.generations);
            ready.push_back(Event::of(&last));
        }
        Some(Ok(()))
    }

    fn fail(&mut self, error: &ApiError, ready: &mut VecDeque<Event>) {
        ready.push_back(Event::of(&Dialect::Ollama.error(error)));
    }
}
