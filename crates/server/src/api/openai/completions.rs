//! `POST /v1/completions`: the OpenAI API's continuations of text or of ids, several at once if wanted.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use glimmer::{DecodeStream, Encoding, GenerationParams, Prompt, Score, Token, Tokenizer};
use serde_json::{Map, Value, json};

use crate::api::answer_format::show_end;
use crate::api::generation_request::{GenerationRequest, ignore_notes};
use crate::api::openai::object::{chunk_usage, close, fingerprint, usage};
use crate::api::tools::Tools;
use crate::app::App;
use crate::clock::now;
use crate::error::ApiError;
use crate::http::params::{Params, TextOrIds};
use crate::http::response;
use crate::http::sse::{self, Event, Script};
use crate::models::blocking::blocking;
use crate::models::generation::{Ask, ChoiceDelta, End, Generations};
use crate::models::served::Model;
use crate::record::entry::Entry;

/// New tokens where the request says nothing, as the OpenAI API has it.
const DEFAULT_TOKENS: usize = 16;

/// Answers.
pub(crate) async fn complete(
    State(app): State<Arc<App>>,
    Extension(entry): Extension<Entry>,
    mut params: Params,
) -> Result<Response, ApiError> {
    let mut settings =
        GenerationRequest::take(&app, &mut params, |model| Ok(model.engine().text().text_sampling().clone()))
            .await?;
    ignore_notes(&mut params);
    if !settings.has_length {
        settings.params.max_tokens = Some(DEFAULT_TOKENS.min(app.options.limits.answer_tokens));
    }
    let only = CompletionParams::take(&mut params, &settings);
    let most = app.options.limits.choices;
    params.need("prompt");
    let prompts = params.texts("prompt", most, settings.model.engine().spec().vocab);
    if prompts.len().saturating_mul(settings.n) > most {
        params.wrong("prompt", &format!("at most {most} answers together with `n`"));
    }
    params.done()?;

    settings.form(&entry, &Tools::default()).await?;
    let model = settings.model.clone();
    let encoding = only.encoding;
    let prompts = blocking(&entry, move || read(prompts, &model, encoding)).await?;
    let params = GenerationParams {
        logprobs: only.logprobs,
        prompt_logprobs: only.logprobs.filter(|_| only.echo),
        ..settings.params.clone()
    };
    let mut asks = Vec::new();
    let mut writers = Vec::new();
    let tokenizer = settings.model.tokenizer()?.clone();
    for Text { prompt, text, before } in prompts {
        settings.check_length(&prompt)?;
        let decoding = tokenizer.stream_after(&prompt.ids, only.skips_special);
        let echo = only.echo.then(|| Arc::new(Echo { text, ids: prompt.ids.clone(), before }));
        writers.extend((0..settings.n).map(|_| Writer {
            echo: echo.clone(),
            places: Places { decoding: decoding.clone(), decoded: 0, shown: 0 },
        }));
        let prompt = if only.skips_special { prompt } else { prompt.showing_special() };
        asks.push(Ask {
            prompt,
            params: params.clone(),
            copies: settings.n,
            turn: None,
            tells_progress: false,
        });
    }
    let mut generations =
        Generations::start(&app.options.limits, &settings.model, &entry, asks, settings.stream)?;
    let frame = Frame {
        id: format!("cmpl-{:016x}", app.random()),
        created: now(),
        name: settings.name.clone(),
        tokenizer,
        has_logprobs: only.logprobs.is_some(),
        copies: settings.n,
        writers,
    };
    if settings.stream {
        generations.admitted().await?;
        let answers = Stream { generations, settings, frame, has_echoed: false, early: VecDeque::new() };
        return Ok(sse::respond(answers));
    }
    whole(generations, frame).await
}

/// The parameters that only this endpoint has.
struct CompletionParams {
    echo: bool,
    logprobs: Option<usize>,
    encoding: Encoding,
    skips_special: bool,
}

impl CompletionParams {
    fn take(params: &mut Params, settings: &GenerationRequest) -> Self {
        let echo = params.boolean("echo").unwrap_or(false);
        let logprobs = match params.value("logprobs") {
            None | Some(Value::Bool(false)) => None,
            Some(value) => {
                let count = value.as_u64().filter(|&count| count <= 20);
                if count.is_none() {
                    params.wrong("logprobs", "a whole number from 0 to 20");
                }
                count.map(|count| count as usize)
            }
        };
        params.not_yet("suffix");
        if params.integer("best_of", 1..=1000).is_some_and(|best_of| best_of != settings.n as i64) {
            params.unsupported("best_of", "`best_of` can only be as large as `n`");
        }
        params.not_yet("prompt_logprobs");
        CompletionParams {
            echo,
            logprobs,
            encoding: Encoding {
                add_special: params.boolean("add_special_tokens").unwrap_or(true),
                parse_special: params.boolean("parse_special").unwrap_or(false),
            },
            skips_special: params.boolean("skip_special_tokens").unwrap_or(true),
        }
    }
}

/// A prompt as it is shown again.
struct Text {
    prompt: Prompt,
    text: String,
    /// How many ids the tokenizer has put before those of the text.
    before: usize,
}

fn read(prompts: Vec<TextOrIds>, model: &Model, encoding: Encoding) -> Result<Vec<Text>, ApiError> {
    let tokenizer = model.tokenizer()?;
    let before = if encoding.add_special { tokenizer.wrap().0.len() } else { 0 };
    let one = |prompt| match prompt {
        TextOrIds::Text(text) => {
            Text { prompt: Prompt::of_ids(tokenizer.encode_as(&text, encoding)), text, before }
        }
        TextOrIds::Ids(ids) => Text { text: tokenizer.decode(&ids), prompt: Prompt::of_ids(ids), before: 0 },
    };
    Ok(prompts.into_iter().map(one).collect())
}

/// A prompt that stands before its answers.
struct Echo {
    text: String,
    ids: Vec<u32>,
    /// How many ids the tokenizer has put before those of the text.
    before: usize,
}

/// Writes one answer.
struct Writer {
    /// The prompt, until it has been sent.
    echo: Option<Arc<Echo>>,
    places: Places,
}

/// Where in a text its tokens begin, in characters. One without text, such as a special one, has the place of the next; a
/// piece of a character has the character's.
struct Places {
    decoding: DecodeStream,
    /// The text of the tokens so far.
    decoded: usize,
    /// The text so far as it is shown: where it was cut, at a stop string, nothing begins behind it.
    shown: usize,
}

impl Places {
    fn next(&mut self, id: u32) -> usize {
        let place = self.here();
        self.decoded += self.decoding.push(id).chars().count();
        place
    }

    fn here(&self) -> usize {
        self.decoded.min(self.shown)
    }
}

/// The API's four lists of equal length.
#[derive(Default)]
struct Lists {
    tokens: Vec<String>,
    logprobs: Vec<Option<f32>>,
    tops: Vec<Value>,
    offsets: Vec<usize>,
}

impl Lists {
    /// A token at a place in the text; one whose probability nothing tells has none.
    fn push(&mut self, place: usize, tokenizer: &Tokenizer, id: u32, known: Option<(f32, &[(u32, f32)])>) {
        let spelling = spelling(tokenizer, id);
        self.offsets.push(place);
        self.tops.push(known.map_or(Value::Null, |(own, top)| {
            // The token itself stands among the best, even if it is none of them.
            let mut shown = Map::new();
            for &(id, logprob) in top {
                shown.entry(self::spelling(tokenizer, id)).or_insert_with(|| json!(logprob));
            }
            shown.entry(spelling.clone()).or_insert_with(|| json!(own));
            Value::Object(shown)
        }));
        self.tokens.push(spelling);
        self.logprobs.push(known.map(|(own, _)| own));
    }

    fn value(self) -> Value {
        json!({
            "tokens": self.tokens,
            "token_logprobs": self.logprobs,
            "top_logprobs": self.tops,
            "text_offset": self.offsets,
        })
    }
}

/// What all parts of one answer have in common.
struct Frame {
    id: String,
    created: u64,
    name: String,
    tokenizer: Tokenizer,
    has_logprobs: bool,
    /// Answers to each prompt.
    copies: usize,
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

    /// The log-probabilities of new tokens and of the text that came with them.
    fn logprobs(&mut self, index: usize, text: &str, tokens: &[Token], lists: &mut Lists) {
        let places = &mut self.writers[index].places;
        places.shown += text.chars().count();
        for token in tokens {
            let known = token.logprob.map(|own| (own, token.top.as_slice()));
            lists.push(places.next(token.id), &self.tokenizer, token.id, known);
        }
    }

    /// The prompt of an answer, once: its text, and the lists of its tokens.
    fn echo(&mut self, index: usize, scores: &[Option<Score>], lists: &mut Lists) -> String {
        let writer = &mut self.writers[index];
        let Some(echo) = writer.echo.take() else { return String::new() };
        let length = echo.text.chars().count();
        (writer.places.decoded, writer.places.shown) = (length, length);
        if self.has_logprobs {
            let mut places = Places { decoding: self.tokenizer.stream(), decoded: 0, shown: length };
            for (at, &id) in echo.ids.iter().enumerate() {
                let score = scores.get(at).and_then(Option::as_ref);
                let known = score.map(|score| (score.logprob, score.top.as_slice()));
                let place = if at < echo.before { places.here() } else { places.next(id) };
                lists.push(place, &self.tokenizer, id, known);
            }
        }
        echo.text.clone()
    }

    fn shown(&self, lists: Lists) -> Value {
        if self.has_logprobs { lists.value() } else { Value::Null }
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

async fn whole(mut generations: Generations, mut frame: Frame) -> Result<Response, ApiError> {
    #[derive(Default)]
    struct Choice {
        text: String,
        tokens: Vec<Token>,
        end: Option<End>,
    }
    let mut answers: Vec<Choice> = frame.writers.iter().map(|_| Choice::default()).collect();
    let mut scores = vec![Vec::new(); frame.writers.len() / frame.copies];
    while let Some(delta) = generations.next().await {
        let mut delta = delta?;
        if let Some(told) = delta.scores.take() {
            scores[delta.index / frame.copies] = told;
        }
        let answer = &mut answers[delta.index];
        answer.text.push_str(&delta.text());
        // An answer of no text still had its end to be chosen: evaluators need its log-probability, too.
        answer.tokens.extend(delta.tokens.into_iter().chain(delta.stop));
        answer.end = delta.end;
    }
    let mut choices = Vec::new();
    for (index, answer) in answers.into_iter().enumerate() {
        let mut lists = Lists::default();
        let echo = frame.echo(index, &scores[index / frame.copies], &mut lists);
        frame.logprobs(index, &answer.text, &answer.tokens, &mut lists);
        let mut choice = json!({
            "index": index,
            "text": echo + &answer.text,
            "logprobs": frame.shown(lists),
            "finish_reason": answer.end.as_ref().map(|end| end.reason),
        });
        answer.end.iter().for_each(|end| show_end(&mut choice, end));
        choices.push(choice);
    }
    let mut value = frame.object(&choices.into());
    value["usage"] = usage(&generations);
    Ok(response::json(StatusCode::OK, &value))
}

struct Stream {
    generations: Generations,
    settings: GenerationRequest,
    frame: Frame,
    /// Whether the prompts were told, if they are wanted.
    has_echoed: bool,
    /// What answers said while a prompt was still to be told.
    early: VecDeque<ChoiceDelta>,
}

impl Stream {
    /// The prompts. With log-probabilities they are known only when the prompts are computed.
    async fn echo(&mut self, ready: &mut VecDeque<Event>) -> Result<(), ApiError> {
        let count = self.frame.writers.len();
        let mut scores = vec![None; count / self.frame.copies];
        let wants_scores =
            self.frame.has_logprobs && self.frame.writers.iter().any(|writer| writer.echo.is_some());
        while wants_scores && scores.iter().any(Option::is_none) {
            let Some(delta) = self.generations.next().await else { break };
            let mut delta = delta?;
            if let Some(told) = delta.scores.take() {
                scores[delta.index / self.frame.copies] = Some(told);
            } else {
                self.early.push_back(delta);
            }
        }
        for index in 0..count {
            if self.frame.writers[index].echo.is_some() {
                let scores = scores[index / self.frame.copies].as_deref().unwrap_or_default();
                let mut lists = Lists::default();
                let text = self.frame.echo(index, scores, &mut lists);
                let logprobs = self.frame.shown(lists);
                ready.push_back(Event::of(&self.chunk(index, &text, logprobs, None)));
            }
        }
        Ok(())
    }

    async fn delta(&mut self) -> Option<Result<ChoiceDelta, ApiError>> {
        match self.early.pop_front() {
            Some(delta) => Some(Ok(delta)),
            None => self.generations.next().await,
        }
    }

    fn chunk(&self, index: usize, text: &str, logprobs: Value, finish: Option<&str>) -> Value {
        let choice = json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish});
        let mut chunk = self.frame.object(&json!([choice]));
        chunk_usage(&mut chunk, self.settings.stream_usage, &self.generations);
        chunk
    }
}

impl Script for Stream {
    async fn more(&mut self, ready: &mut VecDeque<Event>) -> Option<Result<(), ApiError>> {
        if !std::mem::replace(&mut self.has_echoed, true) {
            return Some(self.echo(ready).await);
        }
        let mut delta = match self.delta().await? {
            Ok(delta) => delta,
            Err(error) => return Some(Err(error)),
        };
        delta.tokens.extend(delta.stop.take());
        let (text, mut lists) = (delta.text(), Lists::default());
        self.frame.logprobs(delta.index, &text, &delta.tokens, &mut lists);
        let logprobs = if delta.tokens.is_empty() { Value::Null } else { self.frame.shown(lists) };
        let mut chunk = self.chunk(delta.index, &text, logprobs, delta.end.as_ref().map(|end| end.reason));
        delta.end.iter().for_each(|end| show_end(&mut chunk["choices"][0], end));
        ready.push_back(Event::of(&chunk));
        Some(Ok(()))
    }

    fn close(&mut self, ready: &mut VecDeque<Event>) {
        let last = self.frame.object(&json!([]));
        close(ready, last, self.settings.stream_usage, &self.generations);
    }
}
