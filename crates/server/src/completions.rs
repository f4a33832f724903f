//! `POST /v1/completions`: the OpenAI API's continuations of text or of ids, several at once if wanted.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use glimmer_chat::reply::StopStrings;
use glimmer_engine::Token;
use glimmer_tokenizer::Tokenizer;
use serde_json::{Map, Value, json};

use crate::access::Entry;
use crate::app::App;
use crate::body;
use crate::chat::{fingerprint, usage};
use crate::conversation::aside;
use crate::error::ApiError;
use crate::log::now;
use crate::params::{Params, ids, wrong};
use crate::served::Model;
use crate::speaking::{Ask, Decoding, Speaking};
use crate::sse::{self, Script};
use crate::wanted::Wanted;

/// New tokens where the request says nothing, as the OpenAI API has it.
const DEFAULT_TOKENS: usize = 16;

/// Answers.
pub(crate) async fn complete(
    State(app): State<Arc<App>>,
    Extension(entry): Extension<Entry>,
    mut params: Params,
) -> Result<Response, ApiError> {
    let mut wanted = Wanted::take(&app, &mut params, |model| Ok(model.served.text.sampling.clone()))?;
    wanted.max_tokens = wanted.max_tokens.or(Some(DEFAULT_TOKENS.min(app.options.limits.answer_tokens)));
    let own = Own::take(&mut params, &wanted)?;
    let prompt = params.need("prompt")?;
    params.done()?;

    let model = wanted.model.clone();
    let vocab = model.served.engine.spec().vocab;
    let (wraps, parses) = (own.wraps, own.parses);
    let prompts = aside(move || prompts(prompt, &model.served.tokenizer, vocab, wraps, parses)).await?;
    if prompts.len().saturating_mul(wanted.n) > app.options.limits.choices {
        let most = app.options.limits.choices;
        return Err(wrong("prompt", &format!("at most {most} answers together with `n`")));
    }
    for prompt in &prompts {
        wanted.check_length(&prompt.ids)?;
    }
    let model = &wanted.model;
    let mut asks = Vec::new();
    for (at, prompt) in prompts.iter().enumerate() {
        for index in 0..wanted.n {
            let stop_ids = &model.served.text.stop_ids;
            asks.push(Ask {
                request: wanted.request(prompt.ids.clone(), index, stop_ids, own.logprobs),
                decoding: decoding(&model.served.tokenizer, &wanted.stop, own.skips_special),
                prompt: at,
            });
        }
    }
    let writers = prompts
        .iter()
        .flat_map(|prompt| std::iter::repeat_n(prompt, wanted.n))
        .map(|prompt| Writer { echo: own.echo.then(|| prompt.text.clone()), offset: 0 })
        .collect();
    let mut speaking = Speaking::start(&app, model, &entry, asks, wanted.stream);
    let frame = Frame {
        id: format!("cmpl-{:016x}", app.random()),
        created: now(),
        name: wanted.name.clone(),
        has_logprobs: own.logprobs.is_some(),
        writers,
    };
    if wanted.stream {
        speaking.taken().await?;
        return Ok(sse::respond(Stream {
            speaking,
            wanted,
            frame,
            stage: Stage::Echo,
            ready: VecDeque::new(),
        }));
    }
    whole(speaking, wanted, frame).await
}

/// The parameters that only this endpoint has.
struct Own {
    echo: bool,
    logprobs: Option<usize>,
    wraps: bool,
    parses: bool,
    skips_special: bool,
}

impl Own {
    fn take(params: &mut Params, wanted: &Wanted) -> Result<Self, ApiError> {
        let echo = params.boolean("echo")?.unwrap_or(false);
        let logprobs = match params.take("logprobs") {
            None | Some(Value::Bool(false)) => None,
            Some(value) => {
                let count = value.as_u64().filter(|&count| count <= 20);
                Some(count.ok_or_else(|| wrong("logprobs", "a whole number from 0 to 20"))? as usize)
            }
        };
        if echo && logprobs.is_some() {
            return Err(ApiError::unsupported("logprobs", "`logprobs` with `echo` is not supported yet"));
        }
        params.not_yet("suffix")?;
        if params.integer("best_of", 1..=1000)?.is_some_and(|best_of| best_of != wanted.n as i64) {
            return Err(ApiError::unsupported("best_of", "`best_of` can only be as large as `n`"));
        }
        params.not_yet("prompt_logprobs")?;
        params.not_yet("response_format")?;
        Ok(Own {
            echo,
            logprobs,
            wraps: params.boolean("add_special_tokens")?.unwrap_or(true),
            parses: params.boolean("parse_special")?.unwrap_or(false),
            skips_special: params.boolean("skip_special_tokens")?.unwrap_or(true),
        })
    }
}

struct Prompt {
    ids: Vec<u32>,
    text: String,
}

/// A text, ids, or a list of either.
fn prompts(
    value: Value,
    tokenizer: &Tokenizer,
    vocab: usize,
    wraps: bool,
    parses: bool,
) -> Result<Vec<Prompt>, ApiError> {
    let of_text = |text: String| {
        let encoded = if parses { tokenizer.encode_parse_special(&text) } else { tokenizer.encode(&text) };
        let (prefix, suffix) = if wraps { tokenizer.wrap() } else { (&[][..], &[][..]) };
        Prompt { ids: [prefix, &encoded, suffix].concat(), text }
    };
    let of_ids = |values: &[Value]| {
        let ids = ids("prompt", values, vocab)?;
        Ok(Prompt { text: tokenizer.decode(&ids), ids })
    };
    let fault = || wrong("prompt", "a text, a list of token ids, or a list of such");
    match value {
        Value::String(text) => Ok(vec![of_text(text)]),
        Value::Array(items) if items.is_empty() => Err(fault()),
        Value::Array(items) if items.iter().all(Value::is_number) => Ok(vec![of_ids(&items)?]),
        Value::Array(items) => items
            .into_iter()
            .map(|item| match item {
                Value::String(text) => Ok(of_text(text)),
                Value::Array(ids) => of_ids(&ids),
                _ => Err(fault()),
            })
            .collect(),
        _ => Err(fault()),
    }
}

fn decoding(tokenizer: &Tokenizer, stop: &[String], skips_special: bool) -> Decoding {
    let stream = if skips_special { tokenizer.stream_skip_special() } else { tokenizer.stream() };
    Decoding::Plain(Box::new(stream), StopStrings::new(stop.to_vec()))
}

/// Writes one answer.
struct Writer {
    /// The prompt's text, until it has been sent.
    echo: Option<String>,
    /// Characters of the tokens so far.
    offset: usize,
}

/// What all parts of one answer have in common.
struct Frame {
    id: String,
    created: u64,
    name: String,
    has_logprobs: bool,
    writers: Vec<Writer>,
}

impl Frame {
    fn object(&self, choices: &Value) -> Value {
        json!({
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.name,
            "system_fingerprint": fingerprint(),
            "choices": choices,
        })
    }

    /// The API's four lists of equal length.
    fn logprobs(&mut self, index: usize, tokens: &[Token], model: &Model) -> Value {
        if !self.has_logprobs {
            return Value::Null;
        }
        let tokenizer = &model.served.tokenizer;
        let writer = &mut self.writers[index];
        let (mut spellings, mut logprobs, mut tops, mut offsets) = (vec![], vec![], vec![], vec![]);
        for token in tokens {
            let spelling = spelling(tokenizer, token.id);
            offsets.push(writer.offset);
            writer.offset += spelling.chars().count();
            // The chosen token stands among the best, even if it is none of them.
            let mut top = Map::new();
            for &(id, logprob) in &token.top {
                top.entry(self::spelling(tokenizer, id)).or_insert_with(|| json!(logprob));
            }
            top.entry(spelling.clone()).or_insert_with(|| json!(token.logprob));
            spellings.push(spelling);
            logprobs.push(token.logprob);
            tops.push(Value::Object(top));
        }
        json!({"tokens": spellings, "token_logprobs": logprobs, "top_logprobs": tops, "text_offset": offsets})
    }
}

/// A token as text. A piece of a character is written as its bytes, so that two of them are told apart.
fn spelling(tokenizer: &Tokenizer, id: u32) -> String {
    let bytes = tokenizer.token_bytes(id).unwrap_or_default();
    match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let hex: String = error.as_bytes().iter().map(|byte| format!("\\x{byte:02x}")).collect();
            format!("bytes:{hex}")
        }
    }
}

async fn whole(mut speaking: Speaking, wanted: Wanted, mut frame: Frame) -> Result<Response, ApiError> {
    #[derive(Default)]
    struct Answer {
        text: String,
        tokens: Vec<Token>,
        finish: &'static str,
    }
    let mut answers: Vec<Answer> = frame
        .writers
        .iter_mut()
        .map(|writer| {
            let text = writer.echo.take().unwrap_or_default();
            writer.offset = text.chars().count();
            Answer { text, ..Answer::default() }
        })
        .collect();
    while let Some(delta) = speaking.next().await {
        let delta = delta?;
        let answer = &mut answers[delta.index];
        answer.text.push_str(&delta.text);
        answer.tokens.extend(delta.tokens);
        answer.finish = delta.finish.unwrap_or_default();
    }
    let mut choices = Vec::new();
    for (index, answer) in answers.into_iter().enumerate() {
        let logprobs = frame.logprobs(index, &answer.tokens, &wanted.model);
        choices.push(json!({
            "index": index, "text": answer.text, "logprobs": logprobs, "finish_reason": answer.finish
        }));
    }
    let mut value = frame.object(&choices.into());
    value["usage"] = usage(speaking.usage());
    Ok(body::json(StatusCode::OK, &value))
}

/// Where a stream is.
enum Stage {
    Echo,
    Answers,
    Usage,
    Done,
    Over,
}

struct Stream {
    speaking: Speaking,
    wanted: Wanted,
    frame: Frame,
    stage: Stage,
    ready: VecDeque<Value>,
}

impl Stream {
    fn push(&mut self, index: usize, text: &str, tokens: &[Token], finish: Option<&str>) {
        let logprobs = if tokens.is_empty() {
            Value::Null
        } else {
            self.frame.logprobs(index, tokens, &self.wanted.model)
        };
        let choice = json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish});
        let mut chunk = self.frame.object(&json!([choice]));
        if self.wanted.stream_usage {
            chunk["usage"] = Value::Null;
        }
        self.ready.push_back(chunk);
    }
}

impl Script for Stream {
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                return Some(chunk.to_string());
            }
            match self.stage {
                Stage::Echo => {
                    for index in 0..self.frame.writers.len() {
                        if let Some(text) = self.frame.writers[index].echo.take() {
                            self.frame.writers[index].offset = text.chars().count();
                            self.push(index, &text, &[], None);
                        }
                    }
                    self.stage = Stage::Answers;
                }
                Stage::Answers => match self.speaking.next().await {
                    Some(Ok(delta)) => self.push(delta.index, &delta.text, &delta.tokens, delta.finish),
                    Some(Err(error)) => {
                        self.stage = Stage::Over;
                        return Some(error.json().to_string());
                    }
                    None if self.wanted.stream_usage => self.stage = Stage::Usage,
                    None => self.stage = Stage::Done,
                },
                Stage::Usage => {
                    let mut chunk = self.frame.object(&json!([]));
                    chunk["usage"] = usage(self.speaking.usage());
                    self.ready.push_back(chunk);
                    self.stage = Stage::Done;
                }
                Stage::Done => {
                    self.stage = Stage::Over;
                    return Some("[DONE]".to_owned());
                }
                Stage::Over => return None,
            }
        }
    }
}
