//! The parameters that chat and completions share: how tokens are chosen, where an answer ends, how it is sent.

use glimmer::{GenerationParams, Prompt, RepetitionDetection, Sampling, room_for_answer};
use serde_json::Value;

use crate::api::answer_format::{self, Asked};
use crate::api::tools::Tools;
use crate::app::App;
use crate::error::ApiError;
use crate::http::params::Params;
use crate::models::served::{Model, Models};
use crate::record::entry::Entry;

/// Stop strings of one request, and bytes of one of them.
const STOPS: usize = 16;
const STOP_BYTES: usize = 1024;

/// What a client wants of an answer, whatever it is an answer to.
#[derive(Clone)]
pub(crate) struct GenerationRequest {
    pub(crate) model: Model,
    /// The model's name as the client wrote it.
    pub(crate) name: String,
    pub(crate) params: GenerationParams,
    /// Answers to each prompt.
    pub(crate) n: usize,
    pub(crate) stream: bool,
    pub(crate) stream_usage: StreamUsage,
    /// Whether the client said how long the answer may be.
    pub(crate) has_length: bool,
    /// What the answer is to look like, until [`GenerationRequest::form`] has made it ready.
    pub(crate) format: Option<Asked>,
}

impl GenerationRequest {
    /// One answer of a model with these defaults, as long as the server allows.
    pub(crate) fn plain(app: &App, (model, name): (Model, String), sampling: Sampling) -> Self {
        let limit = app.options.limits.answer_tokens;
        let max_tokens = Some(limit).filter(|&limit| limit < usize::MAX);
        GenerationRequest {
            model,
            name,
            params: GenerationParams { sampling, max_tokens, ..GenerationParams::default() },
            n: 1,
            stream: false,
            stream_usage: StreamUsage::None,
            has_length: false,
            format: None,
        }
    }

    /// Takes the parameters; `defaults` returns what the model's own way of choosing tokens is.
    pub(crate) async fn take(
        app: &App,
        params: &mut Params,
        defaults: impl FnOnce(&Model) -> Result<Sampling, ApiError>,
    ) -> Result<Self, ApiError> {
        let (model, name) = model(app.models()?, params).await?;
        let vocab = model.engine().spec().vocab;
        let sampling = sampling(params, defaults(&model)?, vocab, app);
        let mut request = GenerationRequest::plain(app, (model, name), sampling);
        request.take_length(app, params, &["max_completion_tokens", "max_tokens"]);
        let min_tokens = params.integer("min_tokens", 0..=i64::from(i32::MAX)).unwrap_or(0) as usize;
        if request.has_length && request.params.max_tokens.is_some_and(|most| min_tokens > most) {
            params.wrong("min_tokens", "at most `max_tokens`");
        }
        request.n = params.integer("n", 1..=app.options.limits.choices as i64).unwrap_or(1) as usize;
        request.stream = params.boolean("stream").unwrap_or(false);
        request.stream_usage = stream_usage(params, request.stream);
        let generation = &mut request.params;
        generation.min_tokens = min_tokens;
        generation.stop = stop_strings(params, "stop");
        generation.stop_ids = params.ids("stop_token_ids", vocab).unwrap_or_default();
        generation.ignore_eos = params.boolean("ignore_eos").unwrap_or(false);
        generation.repetition_detection = repetition_detection(params);
        // In vLLM's API a smaller number goes first; in the engine a larger one.
        generation.priority = -params.integer("priority", -1_000_000..=1_000_000).unwrap_or(0) as i32;
        request.format = answer_format::take(params);
        take_the_rest(params);
        Ok(request)
    }

    /// Takes how many tokens the answer may have, by the first of these names that is there.
    pub(crate) fn take_length(&mut self, app: &App, params: &mut Params, names: &[&str]) {
        let limit = app.options.limits.answer_tokens;
        let given = names.iter().map(|name| params.integer(name, 0..=i64::from(i32::MAX)));
        let given: Vec<usize> = given.flatten().map(|tokens| tokens as usize).collect();
        let Some(&most) = given.first() else { return };
        if most > limit {
            params.wrong(names[names.len() - 1], &format!("at most {limit} on this server"));
        }
        self.params.max_tokens = Some(most);
        self.has_length = true;
    }

    /// Makes what the answer is to look like ready. Where it may call tools it is calls or a text of the form that was asked
    /// for, where it must it is calls.
    pub(crate) async fn form(&mut self, entry: &Entry, tools: &Tools) -> Result<(), ApiError> {
        let calls = tools.format(self.format.is_some());
        let text = answer_format::form(entry, &self.model, self.format.take()).await?;
        let calls = answer_format::form(entry, &self.model, calls).await?;
        self.params.form = match (calls, text) {
            (Some(calls), Some(text)) if !tools.required => Some(calls.or(text)),
            (calls, text) => calls.or(text),
        };
        Ok(())
    }

    /// Refuses a prompt that leaves no room for an answer.
    pub(crate) fn check_length(&self, prompt: &Prompt) -> Result<(), ApiError> {
        if prompt.ids.is_empty() {
            return Err(ApiError::invalid("the prompt is empty"));
        }
        let most = self.params.max_tokens.unwrap_or(usize::MAX);
        match room_for_answer(prompt.ids.len(), most, self.model.engine().context()) {
            Ok(_) => Ok(()),
            Err(error) => Err(ApiError::from_engine(&error, 0)),
        }
    }
}

/// Which chunks of a stream have the number of tokens so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamUsage {
    None,
    /// One at the end.
    Last,
    /// That one and all before it.
    Every,
}

fn stream_usage(params: &mut Params, stream: bool) -> StreamUsage {
    let options = params.object("stream_options", |options| {
        // Padding against guessing texts from the sizes of packets.
        options.only("include_obfuscation", false);
        let usage = options.boolean("include_usage").unwrap_or(false);
        (usage, options.boolean("continuous_usage_stats").unwrap_or(false))
    });
    if options.is_some() && !stream {
        params.refuse(ApiError::parameter("stream_options", "`stream_options` is for `stream: true`"));
    }
    match options {
        Some((true, true)) => StreamUsage::Every,
        Some((true, false)) => StreamUsage::Last,
        _ => StreamUsage::None,
    }
}

/// The model that a request names; the first one where it names none.
pub(crate) async fn model(models: &Models, params: &mut Params) -> Result<(Model, String), ApiError> {
    Ok(match params.string("model") {
        Some(name) => (models.find(&name).await?, name),
        None => {
            let first = models.first().await?;
            let name = first.name().to_owned();
            (first, name)
        }
    })
}

/// How tokens are chosen: `defaults`, less what the request says.
pub(crate) fn sampling(params: &mut Params, defaults: Sampling, vocab: usize, app: &App) -> Sampling {
    let mut s = defaults;
    let set = |to: &mut f32, value: Option<f64>| *to = value.map_or(*to, |value| value as f32);
    set(&mut s.temperature, params.number("temperature", 0.0..=100.0));
    set(&mut s.top_p, params.number("top_p", 0.0..=1.0));
    set(&mut s.min_p, params.number("min_p", 0.0..=1.0));
    set(&mut s.presence_penalty, params.number("presence_penalty", -2.0..=2.0));
    set(&mut s.frequency_penalty, params.number("frequency_penalty", -2.0..=2.0));
    // The second is llama.cpp's word for the first.
    set(&mut s.repetition_penalty, params.number("repeat_penalty", 0.01..=100.0));
    set(&mut s.repetition_penalty, params.number("repetition_penalty", 0.01..=100.0));
    if let Some(top_k) = params.integer("top_k", -1..=i64::from(i32::MAX)) {
        s.top_k = top_k.max(0) as usize;
    }
    // The word of GLM's own API for a temperature of 0.
    if params.boolean("do_sample") == Some(false) {
        s.temperature = 0.0;
    }
    if let Some(bias) = params.value("logit_bias") {
        let bias = bias
            .as_object()
            .and_then(|bias| bias.iter().map(|(id, x)| logit_bias(id, x, vocab)).collect::<Option<Vec<_>>>());
        match bias {
            Some(bias) => s.logit_bias = bias,
            None => params.wrong(
                "logit_bias",
                &format!("an object of token ids below {vocab} with numbers from -100 to 100"),
            ),
        }
    }
    // Any seed that a client can write is a seed, negative ones too.
    s.seed = params.integer("seed", i64::MIN..=i64::MAX).map_or_else(|| app.random(), |seed| seed as u64);
    s
}

fn logit_bias(id: &str, bias: &Value, vocab: usize) -> Option<(u32, f32)> {
    let id = id.parse().ok().filter(|&id: &u32| (id as usize) < vocab)?;
    let bias = bias.as_f64().filter(|bias| (-100.0..=100.0).contains(bias))?;
    Some((id, bias as f32))
}

/// When an answer is taken to repeat itself, in vLLM's words: a `max_pattern_size` of 0 stands for never.
fn repetition_detection(params: &mut Params) -> Option<RepetitionDetection> {
    let size = 0..=i64::from(i32::MAX);
    let wanted = params.object("repetition_detection", |inner| {
        ["max_pattern_size", "min_pattern_size", "min_count"].map(|name| inner.integer(name, size.clone()))
    })?;
    let [most, least, count] = wanted.map(|n| n.unwrap_or(0) as usize);
    if most == 0 && least == 0 {
        return None;
    }
    let detection = RepetitionDetection::new(least.max(1), most, count);
    if detection.is_none() {
        let bounds = RepetitionDetection::BOUNDS;
        params.wrong(
            "repetition_detection",
            &format!("an object with `max_pattern_size`, `min_pattern_size` and `min_count`: {bounds}"),
        );
    }
    detection
}

/// Texts at which an answer ends: one, or a list.
pub(crate) fn stop_strings(params: &mut Params, name: &str) -> Vec<String> {
    let strings = match params.value(name) {
        None => Some(Vec::new()),
        Some(Value::String(text)) => Some(vec![text]),
        Some(Value::Array(items)) if items.len() <= STOPS => {
            let string = |item| if let Value::String(text) = item { Some(text) } else { None };
            items.into_iter().map(string).collect()
        }
        Some(_) => None,
    };
    let is_good = |text: &String| !text.is_empty() && text.len() <= STOP_BYTES;
    strings.filter(|strings| strings.iter().all(is_good)).unwrap_or_else(|| {
        params.wrong(name, &format!("a string or a list of at most {STOPS}, of at most {STOP_BYTES} bytes"));
        Vec::new()
    })
}

/// Parameters of the API, or of other servers of it, that are not there yet, have but one position here, or no effect.
fn take_the_rest(params: &mut Params) {
    for name in ["logits_processors", "return_token_ids", "return_tokens_as_token_ids", "use_beam_search"] {
        params.not_yet(name);
    }
    params.only("cache_prompt", true);
    params.only("include_stop_str_in_output", false);
}

/// Takes what changes nothing about an answer that nobody keeps.
pub(crate) fn ignore_notes(params: &mut Params) {
    // Notes of the client to itself, and what only a vendor's cloud could do: keep answers and prompts, serve by tiers,
    // watch words, mark pictures.
    for name in [
        "metadata",
        "prompt_cache_key",
        "prompt_cache_retention",
        "request_id",
        "safety_identifier",
        "sensitive_word_check",
        "service_tier",
        "store",
        "user",
        "user_id",
        "watermark_enabled",
    ] {
        params.ignore(name);
    }
}
