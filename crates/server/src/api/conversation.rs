//! From a request's messages to a prompt.

use glimmer::json::{room, tree};
use std::sync::Arc;

use glimmer::{Conversation, Message, Prompt, Role, rounds};
use serde_json::{Map, Value};

use crate::api::thinking::{self, Thinking};
use crate::app::App;
use crate::error::ApiError;
use crate::http::params::{Params, not_a_tree, unknown_field, wrong};
use crate::models::blocking::blocking;
use crate::models::pictures;
use crate::models::served::Model;
use crate::models::turns::Turn;
use crate::record::entry::Entry;

/// Fields that a message may have. Those after the first line say nothing that a model could read.
const FIELDS: [&str; 14] = [
    "role",
    "content",
    "metadata",
    "reasoning_content",
    "reasoning",
    "thinking",
    "tool_calls",
    "tool_call_id",
    "function_call",
    "name",
    "refusal",
    "annotations",
    "audio",
    "tools",
];

/// Takes the messages, the switches of the chat template and what is said of thinking, for a conversation with these tools.
pub(crate) fn take(params: &mut Params, tools: Vec<Value>) -> (Conversation, Thinking) {
    params.need("messages");
    let messages = params.list("messages", message);
    if messages.as_ref().is_some_and(Vec::is_empty) {
        params.wrong("messages", "a list that is not empty");
    }
    of_messages(params, messages.unwrap_or_default(), tools)
}

/// The same with messages that an API has in other fields.
pub(crate) fn of_messages(
    params: &mut Params,
    messages: Vec<Message>,
    tools: Vec<Value>,
) -> (Conversation, Thinking) {
    let mut fields = Map::new();
    let mut extra = match params.value("chat_template_kwargs") {
        None => Map::new(),
        Some(Value::Object(kwargs)) => kwargs,
        Some(_) => {
            params.wrong("chat_template_kwargs", "an object");
            Map::new()
        }
    };
    let thinking = thinking::take(params, &mut extra);
    for (name, switch) in [
        ("enable_thinking", thinking.enabled),
        ("clear_thinking", thinking.clear),
        ("add_generation_prompt", params.boolean("add_generation_prompt")),
    ] {
        fields.extend(switch.map(|switch| (name.to_owned(), switch.into())));
    }
    fields.insert("chat_template_kwargs".to_owned(), extra.into());
    let read = serde_json::from_value::<Conversation>(Value::Object(fields));
    let mut conversation = read.unwrap_or_else(|error| {
        params.refuse(ApiError::parameter("chat_template_kwargs", error.to_string()));
        Conversation::new(Vec::new())
    });
    conversation.messages = messages;
    conversation.tools = tools;
    (conversation, thinking)
}

/// Reads a message, with only such fields as it may have.
fn message(index: usize, text: &str) -> Result<Message, ApiError> {
    let fault = |what: String| ApiError::parameter("messages", format!("message {index}: {what}"));
    let unsupported = |what: &str| ApiError::unsupported("messages", format!("message {index}: {what}"));
    let value = tree(text, room(text)).map_err(|error| not_a_tree("messages", &error))?;
    if let Some(fields) = value.as_object() {
        let is_unknown = |name: &String, value: &Value| !value.is_null() && !FIELDS.contains(&name.as_str());
        if let Some((name, _)) = fields.iter().find(|(name, value)| is_unknown(name, value)) {
            return Err(fault(format!("unknown field {name:?}")));
        }
        if fields.get("name").is_some_and(|name| !name.is_null() && !name.is_string()) {
            return Err(fault("`name` is to be a string".to_owned()));
        }
        if !fields.get("audio").is_none_or(Value::is_null) {
            return Err(unsupported("there is no audio here"));
        }
    }
    let message: Message = serde_json::from_value(value).map_err(|error| fault(error.to_string()))?;
    if !message.images.is_empty() && message.role != Role::User {
        return Err(unsupported("only a user's message shows pictures"));
    }
    if let Some(name) = message.images.iter().find_map(unknown_of_picture) {
        return Err(fault(format!("a picture has the unknown field {name:?}")));
    }
    if message.tools.as_ref().is_some_and(|tools| !tools.is_empty()) {
        return Err(unsupported("`tools` belong to the request, not to a message"));
    }
    Ok(message)
}

/// A field that a part with a picture or a video may not have. How closely it is to be looked at is the model's own affair.
fn unknown_of_picture(part: &Value) -> Option<String> {
    let known = ["type", "image_url", "video_url", "detail"];
    let named = ["image_url", "video_url"].iter().find_map(|name| part.get(name));
    unknown_field(part, &known).or_else(|| unknown_field(named?, &["url", "detail"]))
}

/// A conversation from the oldest API: questions and answers before, then a question.
pub(crate) fn of_rounds(history: &[Value], question: String) -> Result<Conversation, ApiError> {
    let rounds = rounds(history);
    let mut messages = rounds.map_err(|_| wrong("history", "a list of pairs [question, answer]"))?;
    messages.push(Message::new(Role::User, question));
    Ok(Conversation::new(messages))
}

/// Renders a conversation.
pub(crate) fn render(model: &Model, conversation: &Conversation) -> Result<String, ApiError> {
    Ok(model.chat()?.template.render(conversation)?.complete()?.prompt())
}

/// Renders and encodes a conversation. Long ones take a while: this runs where others do not wait for it.
pub(crate) async fn prompt(
    app: &App,
    entry: &Entry,
    model: &Model,
    conversation: Conversation,
) -> Result<Prompt, ApiError> {
    Ok(turn(app, entry, model, conversation, "messages").await?.0)
}

/// The same of a turn that is to be answered; what it shows is in this field of the request.
pub(crate) async fn turn(
    app: &App,
    entry: &Entry,
    model: &Model,
    conversation: Conversation,
    shown_in: &str,
) -> Result<(Prompt, Turn), ApiError> {
    // Says in the API's words when the model does not converse.
    model.chat()?;
    let conversation = Arc::new(conversation);
    let views = pictures::look(&app.pictures, entry, model, &conversation).await;
    let views = views.map_err(|error| error.about(shown_in))?;
    let model = model.clone();
    let render = move || {
        let text = model.engine().text();
        let prompt = text.prompt_seeing(&conversation, &views)?;
        let ids = |beginning: &Conversation| {
            let shown = beginning.sights().count();
            Some(text.prompt_seeing(beginning, views.get(..shown)?).ok()?.ids)
        };
        let turn = model.turns.turn(&conversation, &prompt.ids, ids);
        Ok((prompt, turn))
    };
    blocking(entry, render).await
}
