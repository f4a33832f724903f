//! What `/api/chat` and `/api/generate` have in common.

use std::sync::Arc;
use std::time::Instant;

use axum::http::StatusCode;
use axum::response::Response;
use glimmer::{AnswerFormat, Conversation, Message, Role, Sampling};
use serde_json::{Value, json};

use crate::api::answer_format::Asked;
use crate::api::generation_request::GenerationRequest;
use crate::api::ollama::answer::{Form, Frame};
use crate::api::ollama::keep_alive::{self, KeepAlive};
use crate::api::ollama::names::{self, Named};
use crate::api::ollama::options;
use crate::api::thinking::Thinking;
use crate::app::App;
use crate::error::ApiError;
use crate::http::params::Params;
use crate::http::response;
use crate::models::made::Made;
use crate::models::served::Model;
use crate::record::entry::Entry;

/// Fields of a request, which mean nothing where a model is only let go of.
const OF_ANSWERS: [&str; 15] = [
    "options",
    "format",
    "think",
    "stream",
    "tools",
    "logprobs",
    "top_logprobs",
    "truncate",
    "shift",
    "system",
    "template",
    "suffix",
    "raw",
    "context",
    "images",
];

/// A request of which the fields that both have were taken.
pub(crate) struct OllamaRequest {
    pub(crate) settings: GenerationRequest,
    pub(crate) logprobs: Option<usize>,
    think: Option<Think>,
    keep_alive: KeepAlive,
    made: Option<Arc<Made>>,
    begun: Instant,
    loaded: Instant,
}

/// `think`: whether, and perhaps how much.
enum Think {
    Switch(bool),
    Effort(&'static str),
}

/// What a request came to before anything was asked of the model.
pub(crate) enum Begun {
    Request(Box<OllamaRequest>),
    /// All that was wanted was that the model goes.
    Unloaded(Response),
}

impl OllamaRequest {
    /// Takes the fields that both have; the model is loaded for it. `asks` says whether there is something to answer: without
    /// it a model is loaded, or let go of.
    pub(crate) async fn take(
        app: &Arc<App>,
        entry: &Entry,
        params: &mut Params,
        asks: bool,
        form: Form,
        defaults: impl FnOnce(&Model) -> Result<Sampling, ApiError>,
    ) -> Result<Begun, ApiError> {
        let begun = Instant::now();
        let models = app.models()?;
        let named = names::take(app, entry, params, &names::FIELDS[..1]).await?;
        let known = named.base().to_owned();
        let Named { name, made, .. } = named;
        let keep_alive = keep_alive::take(params);
        if !asks && keep_alive.flatten().is_some_and(|time| time.is_zero()) {
            OF_ANSWERS.iter().for_each(|name| params.ignore(name));
            std::mem::take(params).done()?;
            models.registry().keep(&known, keep_alive.flatten());
            return Ok(Begun::Unloaded(empty(form, &name, "unload")));
        }
        let think = think(params);
        if matches!(think, Some(Think::Switch(true) | Think::Effort(_)))
            && !models.facts(entry, &known).await.is_ok_and(|facts| facts.thinks)
        {
            let name = crate::error::shown(&name);
            params.unsupported("think", format!("`think`: {name} does not support thinking"));
        }
        let model = models.find(&known).await?;
        let loaded = Instant::now();
        let sampling = Sampling { seed: app.random(), ..defaults(&model)? };
        let mut settings = GenerationRequest::plain(app, (model, name), sampling);
        take_settings(params, app, made.as_deref(), &mut settings)?;
        let logprobs = params.boolean("logprobs").unwrap_or(false);
        let top = params.integer("top_logprobs", 0..=20).unwrap_or(0) as usize;
        let logprobs = logprobs.then_some(top);
        let request = OllamaRequest { settings, logprobs, think, keep_alive, made, begun, loaded };
        Ok(Begun::Request(Box::new(request)))
    }

    /// Has the model stay as long as the client wishes. To be called when all fields were found to be right.
    pub(crate) fn keep(&self, app: &App) -> Result<(), ApiError> {
        if let Some(time) = self.keep_alive {
            app.models()?.registry().keep(self.settings.model.name(), time);
        }
        Ok(())
    }

    /// The messages after those that the model begins with; a system prompt of the client's own stands in the place of its.
    pub(crate) fn begun_with(&self, mut messages: Vec<Message>) -> Vec<Message> {
        let Some(made) = &self.made else { return messages };
        let own_system =
            messages.first().filter(|first| first.role == Role::System).is_some().then(|| messages.remove(0));
        let system = own_system.or_else(|| Some(Message::new(Role::System, made.system.clone()?)));
        // They were read before, when it was made.
        let own = made.messages.iter().filter_map(|message| serde_json::from_value(message.clone()).ok());
        system.into_iter().chain(own).chain(messages).collect()
    }

    /// What is said where a model was loaded and nothing asked of it.
    pub(crate) fn loaded(&self, form: Form) -> Response {
        empty(form, &self.settings.name, "load")
    }

    /// How the conversation is to be thought about.
    pub(crate) fn thinking(&self, conversation: &mut Conversation) -> Thinking {
        let enabled = match self.think {
            None => None,
            Some(Think::Switch(on)) => Some(on),
            Some(Think::Effort(effort)) => {
                conversation.extra.insert("reasoning_effort".to_owned(), effort.into());
                Some(true)
            }
        };
        conversation.enable_thinking = enabled;
        Thinking { enabled, clear: None, budget: None, is_shown: true }
    }

    /// What all parts of the answer have in common.
    pub(crate) fn frame(&self, app: &App, form: Form) -> Result<Frame, ApiError> {
        Ok(Frame {
            form,
            id: app.random(),
            name: self.settings.name.clone(),
            tokenizer: self.settings.model.tokenizer()?.clone(),
            has_logprobs: self.logprobs.is_some(),
            begun: self.begun,
            load_time: self.loaded.duration_since(self.begun),
        })
    }
}

/// Takes what is asked of the answer; what a model that was made of another has of its own counts where nothing is said.
fn take_settings(
    params: &mut Params,
    app: &App,
    made: Option<&Made>,
    settings: &mut GenerationRequest,
) -> Result<(), ApiError> {
    settings.stream = params.boolean("stream").unwrap_or(true);
    settings.format = format(params);
    let (vocab, wanted) = (settings.model.engine().spec().vocab, &mut settings.params);
    if let Some(made) = made {
        // They were checked when it was made.
        let mut own = Params::parse(Value::from(made.parameters.clone()).to_string().into())?;
        options::read(&mut own, app, vocab, wanted);
    }
    params.object("options", |options| options::read(options, app, vocab, wanted));
    // What does not fit is refused, and an answer ends where its context does: nothing is left out in silence.
    params.boolean("truncate");
    params.boolean("shift");
    params.only("_debug_render_only", false);
    Ok(())
}

fn think(params: &mut Params) -> Option<Think> {
    const EFFORTS: [&str; 4] = ["low", "medium", "high", "max"];
    let think = match params.value("think")? {
        Value::Bool(on) => Some(Think::Switch(on)),
        Value::String(word) => EFFORTS.into_iter().find(|&effort| effort == word).map(Think::Effort),
        _ => None,
    };
    if think.is_none() {
        params.wrong("think", &format!("true, false or one of {}", EFFORTS.join(", ")));
    }
    think
}

/// `format`: `json`, a schema, or an empty text for none.
fn format(params: &mut Params) -> Option<Asked> {
    let format = match params.value("format")? {
        Value::String(word) if word.is_empty() => return None,
        Value::String(word) if word == "json" => AnswerFormat::Json,
        schema @ Value::Object(_) => AnswerFormat::JsonSchema { schema, strict: false },
        _ => {
            params.wrong("format", "\"json\" or a JSON schema");
            return None;
        }
    };
    Some(("format".to_owned(), format))
}

/// The answer to a request that asks nothing of the model.
fn empty(form: Form, name: &str, reason: &str) -> Response {
    let mut value = json!({"model": name, "created_at": crate::clock::precise_now(), "done": true, "done_reason": reason});
    match form {
        Form::Chat => value["message"] = json!({"role": "assistant", "content": ""}),
        Form::Generate => value["response"] = "".into(),
    }
    response::json(StatusCode::OK, &value)
}
