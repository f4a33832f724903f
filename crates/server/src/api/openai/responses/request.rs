//! Every field of a request, used or refused.

use std::sync::Arc;

use glimmer::AnswerFormat;
use serde_json::{Map, Value, json};

use crate::api::answer_format::schema;
use crate::api::chat_request::ChatRequest;
use crate::api::conversation;
use crate::api::generation_request::GenerationRequest;
use crate::api::openai::responses::answering::Keeping;
use crate::api::openai::responses::frame::Frame;
use crate::api::openai::responses::{history, tools};
use crate::app::App;
use crate::clock::now;
use crate::error::ApiError;
use crate::http::keys::Caller;
use crate::http::params::{Params, wrong};
use crate::record::entry::Entry;

/// Notes in `metadata`, and characters of a name and of a text there.
const NOTES: usize = 16;
const NOTE_NAME: usize = 64;
const NOTE_TEXT: usize = 512;

/// What is asked of a model, and how the response is shown and kept.
pub(crate) struct Asked {
    pub(crate) chat: ChatRequest,
    pub(crate) frame: Frame,
    /// Nothing where nothing is to be kept.
    pub(crate) keeping: Option<Keeping>,
    /// Whether the client does not wait for it.
    pub(crate) is_background: bool,
}

/// What asks for thoughts as their client may bring them back.
pub(crate) const SEALED: &str = "reasoning.encrypted_content";
const LOGPROBS: &str = "message.output_text.logprobs";

/// What is to be shown with the answer.
#[derive(Default)]
struct Included {
    sealed_reasoning: bool,
    logprobs: bool,
}

/// Takes a request.
pub(crate) async fn take(
    app: &Arc<App>,
    entry: &Entry,
    caller: Caller,
    mut params: Params,
) -> Result<Asked, ApiError> {
    let id = app.random();
    let mut shown = unsaid();
    notes(&mut params, &mut shown);
    let included = included(&mut params);
    let store = params.boolean("store").unwrap_or(true) && app.options.limits.responses > 0;
    let is_background = background(&mut params, store);
    shown.extend([("store".to_owned(), store.into()), ("background".to_owned(), is_background.into())]);
    let reasoning = params.copy("reasoning").unwrap_or_default();
    let reasoning = json!({"effort": reasoning["effort"], "summary": reasoning["summary"]});
    shown.insert("reasoning".to_owned(), reasoning);
    let settings = settings(app, &mut params, is_background, &mut shown).await?;
    let top = params.integer("top_logprobs", 0..=20).unwrap_or(0) as usize;
    shown.insert("top_logprobs".to_owned(), top.into());
    let logprobs = (included.logprobs || top > 0).then_some(top);
    refuse_the_rest(&mut params);
    let tools::Asked { tools, custom } = tools::take(&mut params, &mut shown);
    let truncation = params.word("truncation", &["auto", "disabled"]).unwrap_or("disabled");
    let truncates = truncation == "auto";
    shown.insert("truncation".to_owned(), truncation.into());
    let (messages, keeping) = history::take(app, entry, &caller, id, &mut params, truncates, &mut shown)?;
    let (mut conversation, thinking) = conversation::of_messages(&mut params, messages, tools.shown());
    params.done()?;
    if truncates {
        conversation = history::fit(app, entry, &settings, conversation).await?;
    }

    let frame = Frame {
        app: app.clone(),
        caller,
        id,
        asked: shown.into(),
        tokenizer: settings.model.tokenizer()?.clone(),
        custom,
        has_logprobs: logprobs.is_some(),
        shows_reasoning: thinking.is_shown,
        has_sealed_reasoning: included.sealed_reasoning,
    };
    let chat = ChatRequest {
        settings,
        conversation,
        shown_in: "input",
        tools,
        thinking,
        logprobs,
        tells_progress: false,
    };
    Ok(Asked { chat, frame, keeping: store.then_some(keeping), is_background })
}

/// What a response has before anything is said of it.
fn unsaid() -> Map<String, Value> {
    let mut shown = Map::from_iter([
        ("object".to_owned(), "response".into()),
        ("created_at".to_owned(), now().into()),
        ("output".to_owned(), json!([])),
        ("service_tier".to_owned(), "default".into()),
    ]);
    shown.extend(
        ["error", "incomplete_details", "completed_at", "usage"].map(|name| (name.to_owned(), Value::Null)),
    );
    shown
}

/// How tokens are chosen, and what the answer is to look like.
async fn settings(
    app: &App,
    params: &mut Params,
    is_background: bool,
    shown: &mut Map<String, Value>,
) -> Result<GenerationRequest, ApiError> {
    let mut settings =
        GenerationRequest::take(app, params, |model| Ok(model.chat()?.sampling.clone())).await?;
    settings.take_length(app, params, &["max_output_tokens"]);
    if settings.n != 1 {
        params.unsupported("n", "`n`: there is one answer to a request of this API");
    }
    if is_background && settings.stream {
        params.unsupported("stream", "`stream`: a response in the background is asked for by its id");
    }
    let sampling = &settings.params.sampling;
    shown.extend([
        ("model".to_owned(), settings.name.as_str().into()),
        ("temperature".to_owned(), sampling.temperature.into()),
        ("top_p".to_owned(), sampling.top_p.into()),
        ("max_output_tokens".to_owned(), settings.params.max_tokens.filter(|_| settings.has_length).into()),
    ]);
    shown.insert("text".to_owned(), text(params, &mut settings));
    Ok(settings)
}

/// Notes of the client to itself, which it is told again.
fn notes(params: &mut Params, shown: &mut Map<String, Value>) {
    for name in ["user", "safety_identifier", "prompt_cache_key"] {
        shown.insert(name.to_owned(), params.string(name).into());
    }
    // There is one.
    params.ignore("service_tier");
    let retention = params.word("prompt_cache_retention", &["in_memory", "24h"]);
    shown.insert("prompt_cache_retention".to_owned(), retention.into());
    let metadata = params.value("metadata").unwrap_or(json!({}));
    let is_short = |text: &str, most: usize| text.chars().nth(most).is_none();
    let is_note = |(name, text): (&String, &Value)| {
        is_short(name, NOTE_NAME) && text.as_str().is_some_and(|text| is_short(text, NOTE_TEXT))
    };
    if metadata.as_object().is_none_or(|notes| notes.len() > NOTES || !notes.iter().all(is_note)) {
        let wanted = format!(
            "an object of at most {NOTES} texts of at most {NOTE_TEXT} characters, with names of at most {NOTE_NAME}"
        );
        params.wrong("metadata", &wanted);
    }
    shown.insert("metadata".to_owned(), metadata);
}

fn included(params: &mut Params) -> Included {
    let names = params.list("include", |_, text| {
        serde_json::from_str::<String>(text).map_err(|_| wrong("include", "a list of texts"))
    });
    let mut included = Included::default();
    for name in names.unwrap_or_default() {
        match name.as_str() {
            SEALED => included.sealed_reasoning = true,
            LOGPROBS => included.logprobs = true,
            other => {
                let other: String = other.chars().take(60).collect();
                params.unsupported(
                    "include",
                    format!("`include`: {other:?} is not supported: {SEALED} and {LOGPROBS} are"),
                );
            }
        }
    }
    included
}

/// Whether the client does not wait.
fn background(params: &mut Params, store: bool) -> bool {
    let background = params.boolean("background").unwrap_or(false);
    if background && !store {
        params.refuse(ApiError::parameter(
            "background",
            "`background` needs `store`: the response is asked for by its id",
        ));
    }
    background
}

/// Takes `text`: what the answer is to look like. Returns it as it is shown.
fn text(params: &mut Params, settings: &mut GenerationRequest) -> Value {
    let shown = params.copy("text").unwrap_or_default();
    let format = params.object("text", |text| {
        // The models know no such setting.
        text.word("verbosity", &["low", "medium", "high"]);
        text.object("format", |format| {
            format.need("type");
            match format.word("type", &["text", "json_object", "json_schema"])? {
                "json_object" => Some(AnswerFormat::Json),
                "json_schema" => {
                    format.need("name");
                    // What it is called, and for what: OpenAI's models read that, GLM's know no place for it.
                    format.string("name");
                    format.string("description");
                    let strict = format.boolean("strict").unwrap_or(false);
                    format.need("schema");
                    schema(format, "schema", strict).map(|(_, schema)| schema)
                }
                _ => None,
            }
        })?
    });
    if let Some(format) = format.flatten() {
        if let Some((other, _)) = &settings.format {
            let message = format!("`text.format` and `{other}` both say what the answer is to be");
            params.refuse(ApiError::parameter("text.format", message));
        }
        settings.format = Some(("text.format".to_owned(), format));
    }
    let or = |value: &Value, other: Value| if value.is_null() { other } else { value.clone() };
    json!({
        "format": or(&shown["format"], json!({"type": "text"})),
        "verbosity": or(&shown["verbosity"], "medium".into()),
    })
}

/// What is not there yet; what asks for none of it is fine.
fn refuse_the_rest(params: &mut Params) {
    for name in [
        "access_programs",
        "background_options",
        "context_management",
        "conversation",
        "image",
        "moderation",
        "prompt",
        "prompt_cache_options",
    ] {
        params.not_yet(name);
    }
}
