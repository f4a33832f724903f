//! The parameters that chat and completions share: how tokens are chosen, where an answer ends, how it is sent.

use glimmer::{GenerationParams, Prompt, Sampling, room_for_answer};
use serde_json::Value;

use crate::app::App;
use crate::error::ApiError;
use crate::http::params::{Params, ids, wrong};
use crate::models::served::{Model, Models};

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
    /// Whether a stream ends with the number of tokens.
    pub(crate) stream_usage: bool,
    /// Whether the client said how long the answer may be.
    pub(crate) has_length: bool,
}

impl GenerationRequest {
    /// Takes the parameters; `defaults` returns what the model's own way of choosing tokens is.
    pub(crate) fn take(
        app: &App,
        params: &mut Params,
        defaults: impl FnOnce(&Model) -> Result<Sampling, ApiError>,
    ) -> Result<Self, ApiError> {
        let (model, name) = model(app.models()?, params)?;
        let vocab = model.engine.spec().vocab;
        let sampling = sampling(params, defaults(&model)?, vocab, app)?;
        let max_tokens = params.integer("max_tokens", 0..=i64::from(i32::MAX))?;
        let max_completion_tokens = params.integer("max_completion_tokens", 0..=i64::from(i32::MAX))?;
        let limit = app.options.limits.answer_tokens;
        let max_tokens = max_completion_tokens.or(max_tokens).map(|n| n as usize);
        if max_tokens.is_some_and(|n| n > limit) {
            return Err(wrong("max_tokens", &format!("at most {limit} on this server")));
        }
        let n = params.integer("n", 1..=app.options.limits.choices as i64)?.unwrap_or(1) as usize;
        let stream = params.boolean("stream")?.unwrap_or(false);
        let mut stream_usage = false;
        if let Some(mut options) = params.object("stream_options")? {
            if !stream {
                return Err(ApiError::parameter("stream_options", "`stream_options` is for `stream: true`"));
            }
            stream_usage = options.boolean("include_usage")?.unwrap_or(false);
            // Padding against guessing texts from the sizes of packets.
            options.only("include_obfuscation", false)?;
            options.only("continuous_usage_stats", false)?;
            options.done()?;
        }
        let stop_ids = params.list("stop_token_ids")?.unwrap_or_default();
        // In vLLM's API a smaller number goes first; in the engine a larger one.
        let priority = params.integer("priority", -1_000_000..=1_000_000)?.unwrap_or(0) as i32;
        let generation = GenerationParams {
            sampling,
            max_tokens: max_tokens.or(Some(limit).filter(|&limit| limit < usize::MAX)),
            stop: stop_strings(params)?,
            stop_ids: ids("stop_token_ids", &stop_ids, vocab)?,
            ignore_eos: params.boolean("ignore_eos")?.unwrap_or(false),
            priority: -priority,
            ..GenerationParams::default()
        };
        let has_length = max_tokens.is_some();
        let taken =
            GenerationRequest { model, name, params: generation, n, stream, stream_usage, has_length };
        refuse_the_rest(params)?;
        Ok(taken)
    }

    /// Refuses a prompt that leaves no room for an answer.
    pub(crate) fn check_length(&self, prompt: &Prompt) -> Result<(), ApiError> {
        if prompt.ids.is_empty() {
            return Err(ApiError::invalid("the prompt is empty"));
        }
        let most = self.params.max_tokens.unwrap_or(usize::MAX);
        match room_for_answer(prompt.ids.len(), most, self.model.engine.context()) {
            Ok(_) => Ok(()),
            Err(error) => Err(ApiError::from_engine(&error, 0)),
        }
    }
}

/// The model that a request names; the first one where it names none.
pub(crate) fn model(models: &Models, params: &mut Params) -> Result<(Model, String), ApiError> {
    Ok(match params.string("model")? {
        Some(name) => (models.find(&name)?, name),
        None => {
            let first = models.first()?;
            let name = first.name().to_owned();
            (first, name)
        }
    })
}

fn sampling(params: &mut Params, defaults: Sampling, vocab: usize, app: &App) -> Result<Sampling, ApiError> {
    let mut s = defaults;
    let set = |to: &mut f32, value: Option<f64>| *to = value.map_or(*to, |value| value as f32);
    set(&mut s.temperature, params.number("temperature", 0.0..=100.0)?);
    set(&mut s.top_p, params.number("top_p", 0.0..=1.0)?);
    set(&mut s.min_p, params.number("min_p", 0.0..=1.0)?);
    set(&mut s.presence_penalty, params.number("presence_penalty", -2.0..=2.0)?);
    set(&mut s.frequency_penalty, params.number("frequency_penalty", -2.0..=2.0)?);
    set(&mut s.repetition_penalty, params.number("repetition_penalty", 0.01..=100.0)?);
    if let Some(top_k) = params.integer("top_k", -1..=i64::from(i32::MAX))? {
        s.top_k = top_k.max(0) as usize;
    }
    // The word of GLM's own API for a temperature of 0.
    if params.boolean("do_sample")? == Some(false) {
        s.temperature = 0.0;
    }
    if let Some(bias) = params.object("logit_bias")? {
        s.logit_bias =
            bias.rest().iter().map(|(id, x)| logit_bias(id, x, vocab)).collect::<Result<_, _>>()?;
    }
    // Any seed that a client can write is a seed, negative ones too.
    s.seed = params.integer("seed", i64::MIN..=i64::MAX)?.map_or_else(|| app.random(), |seed| seed as u64);
    Ok(s)
}

fn logit_bias(id: &str, bias: &Value, vocab: usize) -> Result<(u32, f32), ApiError> {
    let id = id.parse().ok().filter(|&id: &u32| (id as usize) < vocab);
    let bias = bias.as_f64().filter(|bias| (-100.0..=100.0).contains(bias));
    match (id, bias) {
        (Some(id), Some(bias)) => Ok((id, bias as f32)),
        _ => Err(wrong(
            "logit_bias",
            &format!("an object of token ids below {vocab} with numbers from -100 to 100"),
        )),
    }
}

fn stop_strings(params: &mut Params) -> Result<Vec<String>, ApiError> {
    let fault =
        || wrong("stop", &format!("a string or a list of at most {STOPS}, of at most {STOP_BYTES} bytes"));
    let strings = match params.take("stop") {
        None => Vec::new(),
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(items)) if items.len() <= STOPS => items
            .into_iter()
            .map(|item| match item {
                Value::String(text) => Ok(text),
                _ => Err(fault()),
            })
            .collect::<Result<Vec<_>, _>>()?,
        Some(_) => return Err(fault()),
    };
    if strings.iter().any(|text| text.is_empty() || text.len() > STOP_BYTES) {
        return Err(fault());
    }
    Ok(strings)
}

/// Parameters of the API, or of other servers of it, that are not there yet or have but one position here.
fn refuse_the_rest(params: &mut Params) -> Result<(), ApiError> {
    if params.integer("min_tokens", 0..=i64::from(i32::MAX))?.is_some_and(|n| n > 0) {
        return Err(ApiError::unsupported("min_tokens", "`min_tokens` is not supported yet"));
    }
    for name in [
        "grammar",
        "guided_choice",
        "guided_grammar",
        "guided_json",
        "guided_regex",
        "json_schema",
        "logits_processors",
        "return_token_ids",
        "return_tokens_as_token_ids",
        "structured_outputs",
        "use_beam_search",
    ] {
        params.not_yet(name)?;
    }
    params.only("cache_prompt", true)?;
    params.only("include_stop_str_in_output", false)?;
    // Notes of the client to itself.
    for name in
        ["metadata", "safety_identifier", "prompt_cache_key", "service_tier", "user", "user_id", "request_id"]
    {
        params.ignore(name);
    }
    params.only("store", false)
}
