//! From a request's messages to a prompt.

use glimmer::{Conversation, Message, Prompt, Role, rounds};
use serde_json::{Map, Value};

use crate::error::ApiError;
use crate::http::params::{Params, wrong};
use crate::models::blocking::blocking;
use crate::models::served::Model;

/// Fields that a message may have. Those after the first line say nothing that a model could read.
const FIELDS: [&str; 13] = [
    "role",
    "content",
    "metadata",
    "reasoning_content",
    "reasoning",
    "tool_calls",
    "tool_call_id",
    "function_call",
    "name",
    "refusal",
    "annotations",
    "audio",
    "tools",
];

/// Takes the messages and the switches of the chat template.
pub(crate) fn take(params: &mut Params) -> Result<Conversation, ApiError> {
    let messages = params.need("messages")?;
    check_messages(&messages)?;
    let mut fields = Map::new();
    fields.insert("messages".to_owned(), messages);
    if let Some(kwargs) = params.object("chat_template_kwargs")? {
        fields.insert("chat_template_kwargs".to_owned(), Value::Object(kwargs.rest()));
    }
    if let Some(thinks) = thinks(params)? {
        fields.insert("enable_thinking".to_owned(), thinks.into());
    }
    if let Some(open) = params.boolean("add_generation_prompt")? {
        fields.insert("add_generation_prompt".to_owned(), open.into());
    }
    let conversation: Conversation = serde_json::from_value(Value::Object(fields))
        .map_err(|error| ApiError::parameter("messages", error.to_string()))?;
    for (index, message) in conversation.messages.iter().enumerate() {
        if !message.images.is_empty() || message.parts.is_some() {
            return Err(ApiError::unsupported(
                "messages",
                format!("message {index}: images are not supported yet"),
            ));
        }
        if message.tools.as_ref().is_some_and(|tools| !tools.is_empty()) {
            return Err(ApiError::unsupported(
                "messages",
                format!("message {index}: tools are not supported yet"),
            ));
        }
    }
    Ok(conversation)
}

fn check_messages(messages: &Value) -> Result<(), ApiError> {
    let list = messages.as_array().filter(|list| !list.is_empty());
    let list =
        list.ok_or_else(|| ApiError::parameter("messages", "`messages` is to be a list that is not empty"))?;
    for (index, message) in list.iter().enumerate() {
        let Some(fields) = message.as_object() else { continue };
        if let Some(name) =
            fields.iter().find(|(name, value)| !value.is_null() && !FIELDS.contains(&name.as_str()))
        {
            return Err(ApiError::parameter(
                "messages",
                format!("message {index}: unknown field {:?}", name.0),
            ));
        }
        if fields.get("name").is_some_and(|name| !name.is_null() && !name.is_string()) {
            return Err(ApiError::parameter(
                "messages",
                format!("message {index}: `name` is to be a string"),
            ));
        }
        if !fields.get("audio").is_none_or(Value::is_null) {
            return Err(ApiError::unsupported(
                "messages",
                format!("message {index}: there is no audio here"),
            ));
        }
    }
    Ok(())
}

/// Whether the model is to reason: `enable_thinking`, GLM's own `thinking`, or `reasoning_effort: "none"`.
fn thinks(params: &mut Params) -> Result<Option<bool>, ApiError> {
    let direct = params.boolean("enable_thinking")?;
    let kind = match params.object("thinking")? {
        None => None,
        Some(mut thinking) => {
            let kind = match thinking.string("type")?.as_deref() {
                Some("enabled") => Some(true),
                Some("disabled") => Some(false),
                _ => {
                    return Err(ApiError::parameter(
                        "thinking",
                        "`thinking.type` is to be `enabled` or `disabled`",
                    ));
                }
            };
            thinking.done()?;
            kind
        }
    };
    let effort = match params.string("reasoning_effort")?.as_deref() {
        None => None,
        Some("none") => Some(false),
        Some(_) => {
            return Err(ApiError::unsupported(
                "reasoning_effort",
                "GLM models reason or do not: `reasoning_effort` can only be `none`",
            ));
        }
    };
    Ok(direct.or(kind).or(effort))
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
    Ok(model.chat()?.template.render(conversation)?.prompt())
}

/// Renders and encodes a conversation. Long ones take a while: this runs where others do not wait for it.
pub(crate) async fn prompt(model: &Model, conversation: Conversation) -> Result<Prompt, ApiError> {
    // Says in the API's words when the model does not converse.
    model.chat()?;
    let model = model.clone();
    blocking(move || Ok(model.engine.text().prompt(&conversation)?)).await
}
