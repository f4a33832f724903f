//! `POST /api/generate`: a question by itself, or a text that goes on.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use glimmer::{Conversation, Encoding, GenerationParams, Message, Role};

use crate::api::chat_request::ChatRequest;
use crate::api::ollama::answer::{self, Form};
use crate::api::ollama::messages;
use crate::api::ollama::request::{Begun, OllamaRequest};
use crate::api::tools::Tools;
use crate::app::App;
use crate::error::ApiError;
use crate::http::params::Params;
use crate::models::blocking::blocking;
use crate::models::generation::{Ask, Generations};
use crate::models::served::Model;
use crate::record::entry::Entry;

/// Answers; without a prompt the model is loaded or let go of.
pub(crate) async fn generate(
    State(app): State<Arc<App>>,
    Extension(entry): Extension<Entry>,
    mut params: Params,
) -> Result<Response, ApiError> {
    let prompt = params.string("prompt").unwrap_or_default();
    let system = params.string("system").filter(|system| !system.is_empty());
    let raw = params.boolean("raw").unwrap_or(false);
    let images = messages::images(params.value("images").unwrap_or_default()).unwrap_or_else(|| {
        params.wrong("images", "a list of texts in base64");
        Vec::new()
    });
    if raw && !images.is_empty() {
        params.unsupported("images", "`images`: a `raw` prompt has no place for them");
    }
    refuse_what_is_not_here(&mut params);
    if raw && system.is_some() {
        params.unsupported("system", "`system`: a `raw` prompt has it itself");
    }
    if raw && params.has("think") {
        params.unsupported("think", "`think`: a `raw` prompt opens its reasoning itself");
    }
    let defaults = |model: &Model| match raw {
        true => Ok(model.engine().text().text_sampling().clone()),
        false => Ok(model.chat()?.sampling.clone()),
    };
    let asks = !prompt.is_empty() || !images.is_empty();
    let request = match OllamaRequest::take(&app, &entry, &mut params, asks, Form::Generate, defaults).await?
    {
        Begun::Request(request) => *request,
        Begun::Unloaded(response) => return Ok(response),
    };
    params.done()?;
    request.keep(&app)?;
    if !asks {
        return Ok(request.loaded(Form::Generate));
    }
    let frame = request.frame(&app, Form::Generate)?;
    let stream = request.settings.stream;
    let generations = if raw {
        go_on(&app, &entry, request, prompt).await?
    } else {
        let system = system.map(|system| Message::new(Role::System, system));
        let question = messages::showing(Message::new(Role::User, prompt), images);
        let said = system.into_iter().chain([question]).collect();
        let mut conversation = Conversation::new(request.begun_with(said));
        let thinking = request.thinking(&mut conversation);
        let OllamaRequest { settings, logprobs, .. } = request;
        let tools = Tools::default();
        ChatRequest {
            settings,
            conversation,
            shown_in: "images",
            tools,
            thinking,
            logprobs,
            tells_progress: false,
        }
        .ask(&app, &entry)
        .await?
    };
    answer::respond(generations, frame, stream).await
}

/// What asks for a template, for a middle, or for a memory that is made of tokens.
fn refuse_what_is_not_here(params: &mut Params) {
    let is_given = |text: &String| !text.is_empty();
    if params.string("template").is_some_and(|template| is_given(&template)) {
        params.unsupported(
            "template",
            "`template`: a model is asked by its own; `raw: true` takes a prompt as it is",
        );
    }
    if params.string("suffix").is_some_and(|suffix| is_given(&suffix)) {
        params.unsupported("suffix", "`suffix`: the models write what follows, not what stands between");
    }
    params.not_yet("context");
}

/// Goes on with a text as it is, in which special tokens stand as they are spelt.
async fn go_on(
    app: &App,
    entry: &Entry,
    request: OllamaRequest,
    text: String,
) -> Result<Generations, ApiError> {
    let OllamaRequest { mut settings, logprobs, .. } = request;
    settings.form(entry, &Tools::default()).await?;
    let model = settings.model.clone();
    let encoding = Encoding { add_special: false, parse_special: true };
    let encode = move || Ok(model.engine().text().continuation(&text, encoding)?);
    let prompt = blocking(entry, encode).await?;
    settings.check_length(&prompt)?;
    let params = GenerationParams { logprobs, ..settings.params };
    let asks = vec![Ask { prompt, params, copies: 1, turn: None, tells_progress: false }];
    let mut generations =
        Generations::start(&app.options.limits, &settings.model, entry, asks, settings.stream)?;
    if settings.stream {
        generations.admitted().await?;
    }
    Ok(generations)
}
