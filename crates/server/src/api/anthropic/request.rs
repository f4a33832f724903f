//! A request's fields: every one is used, or refused by its name.

use glimmer::json::{room, tree};

use crate::api::answer_format::{self, Asked};
use crate::api::anthropic::conversation::Reader;
use crate::api::anthropic::tools;
use crate::api::chat_request::ChatRequest;
use crate::api::conversation;
use crate::api::generation_request::{self, GenerationRequest, sampling, stop_strings};
use crate::app::App;
use crate::error::ApiError;
use crate::http::keys::Caller;
use crate::http::params::{Params, not_a_tree, unknown_field};

/// Takes all there is.
pub(crate) async fn take(app: &App, caller: &Caller, params: &mut Params) -> Result<ChatRequest, ApiError> {
    // Its client asks again without, by the code of the first complaint.
    if params.value("thread").is_some_and(|thread| thread != false) {
        params.refuse(ApiError::no_threads());
    }
    let (model, name) = generation_request::model(app.models()?, params).await?;
    let vocab = model.engine().spec().vocab;
    let sampling = sampling(params, model.chat()?.sampling.clone(), vocab, app);
    let mut settings = GenerationRequest::plain(app, (model, name), sampling);
    settings.take_length(app, params, &["max_tokens"]);
    settings.params.stop = stop_strings(params, "stop_sequences");
    settings.stream = params.boolean("stream").unwrap_or(false);
    settings.format = format(params);
    let clear = cleared_thoughts(params);
    take_the_rest(params);
    let tools = tools::take(params);
    let messages = Reader { seal: &app.seal, caller }.take(params);
    let (mut conversation, thinking) = conversation::of_messages(params, messages, tools.shown());
    conversation.clear_thinking = clear.or(conversation.clear_thinking);
    let tells_progress = settings.stream;
    Ok(ChatRequest {
        settings,
        conversation,
        shown_in: "messages",
        tools,
        thinking,
        logprobs: None,
        tells_progress,
    })
}

/// What the answer is to look like, by `output_config` or as it was called before; how hard the model is to think goes where
/// all APIs have it.
fn format(params: &mut Params) -> Option<Asked> {
    let config = params.object("output_config", |config| {
        config.not_yet("task_budget");
        let effort = config.word("effort", &["low", "medium", "high", "xhigh", "max"]);
        (effort, json_format(config, "format"))
    });
    let (effort, format) = config.unwrap_or_default();
    if let Some(effort) = effort
        && !params.has("reasoning_effort")
    {
        params.put("reasoning_effort", effort);
    }
    let older = json_format(params, "output_format");
    if format.is_some() && older.is_some() {
        let message = "`output_format` is the older name of `output_config.format`: send one of them";
        params.refuse(ApiError::parameter("output_format", message));
    }
    let named = |name: &str, asked: Option<Asked>| Some((name.to_owned(), asked?.1));
    named("output_config.format", format).or(named("output_format", older))
}

fn json_format(params: &mut Params, name: &str) -> Option<Asked> {
    params.object(name, |format| {
        format.need("type");
        format.word("type", &["json_schema"]);
        format.need("schema");
        answer_format::schema(format, "schema", false)
    })?
}

/// Whether the thoughts of earlier turns are left out of the prompt, by `context_management`.
fn cleared_thoughts(params: &mut Params) -> Option<bool> {
    let edits = params.object("context_management", |context| {
        context.list("edits", |at, text| {
            let edit = tree(text, room(text)).map_err(|error| not_a_tree("context_management", &error))?;
            let keep = &edit["keep"];
            let of_keep = if keep["type"] == "thinking_turns" { &["type", "value"][..] } else { &["type"] };
            let unknown = || unknown_field(&edit, &["type", "keep"]).or(unknown_field(keep, of_keep));
            if let Some(name) = (edit["type"] == "clear_thinking_20251015").then(unknown).flatten() {
                let message = format!("`context_management.edits`, {at}: unknown field {name:?}");
                return Err(ApiError::parameter("context_management", message));
            }
            let turns = (keep["type"] == "thinking_turns").then(|| keep["value"].as_u64()).flatten();
            match edit["type"].as_str() {
                Some("clear_thinking_20251015") if *keep == "all" || keep["type"] == "all" => Ok(false),
                Some("clear_thinking_20251015") if keep.is_null() || turns == Some(1) => Ok(true),
                _ => Err(ApiError::unsupported(
                    "context_management",
                    format!("`context_management.edits`, {at}: only clear_thinking_20251015 is supported, which keeps all turns or one"),
                )),
            }
        })
    });
    edits.flatten()?.pop()
}

/// What changes nothing here, and what is not there.
fn take_the_rest(params: &mut Params) {
    // Everything is remembered, marked or not; and what only a vendor's cloud could do: serve by tiers, at places, bill.
    for name in [
        "betas",
        "cache_control",
        "diagnostics",
        "inference_geo",
        "metadata",
        "service_tier",
        "speed",
        "user_profile_id",
    ] {
        params.ignore(name);
    }
    for name in ["container", "mcp_servers"] {
        params.not_yet(name);
    }
}
