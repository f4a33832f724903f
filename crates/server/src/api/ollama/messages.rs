//! A conversation in Ollama's messages.

use glimmer::json::{room, tree};
use glimmer::{Message, Role};
use serde_json::{Map, Value};

use crate::api::tools::{self, Tools};
use crate::error::ApiError;
use crate::http::params::{Params, not_a_tree};

/// Fields that a message may have. A result's tool is the one whose call it follows, whatever `tool_name` says.
const FIELDS: [&str; 7] =
    ["role", "content", "thinking", "tool_calls", "tool_call_id", "tool_name", "images"];

/// Takes the messages; none where there are none.
pub(crate) fn take(params: &mut Params) -> Vec<Message> {
    params.list("messages", |index, text| message("messages", index, text)).unwrap_or_default()
}

/// Reads a message of the list `list`.
fn message(list: &str, index: usize, text: &str) -> Result<Message, ApiError> {
    let fault = |what: String| ApiError::parameter(list, format!("message {index}: {what}"));
    let value = tree(text, room(text)).map_err(|error| not_a_tree(list, &error))?;
    let Value::Object(mut fields) = value else { return Err(fault("a message is an object".to_owned())) };
    fields.retain(|_, value| !value.is_null());
    if let Some(name) = fields.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        return Err(fault(format!("unknown field {name:?}")));
    }
    let images = images(fields.remove("images").unwrap_or_default())
        .ok_or_else(|| fault("`images` is to be a list of texts in base64".to_owned()))?;
    if fields.remove("tool_name").is_some_and(|name| !name.is_string()) {
        return Err(fault("`tool_name` is to be a string".to_owned()));
    }
    if !fields.get("content").is_none_or(Value::is_string) {
        return Err(fault("`content` is to be a string".to_owned()));
    }
    if let Some(Value::String(role)) = fields.get_mut("role") {
        role.make_ascii_lowercase();
    }
    let message: Message =
        serde_json::from_value(Value::Object(fields)).map_err(|error| fault(error.to_string()))?;
    if !images.is_empty() && message.role != Role::User {
        return Err(fault("only a user's message has `images`".to_owned()));
    }
    Ok(showing(message, images))
}

/// The pictures of a list in base64, as data URIs.
pub(crate) fn images(list: Value) -> Option<Vec<String>> {
    let uri = |image: Value| match image {
        // Some clients send the whole URI.
        Value::String(text) if text.starts_with("data:") => Some(text),
        Value::String(text) => Some(format!("data:;base64,{text}")),
        _ => None,
    };
    match list {
        Value::Null => Some(Vec::new()),
        Value::Array(images) => images.into_iter().map(uri).collect(),
        _ => None,
    }
}

/// A message with pictures before its text.
pub(crate) fn showing(message: Message, images: Vec<String>) -> Message {
    if images.is_empty() {
        return message;
    }
    let mut shown = Message { content: String::new(), ..message };
    images.into_iter().for_each(|image| shown.show(image));
    shown.say(&message.content);
    shown
}

/// Takes the tools, whose schemas are as clients have stripped them: what is left open may be there as `null`.
pub(crate) fn take_tools(params: &mut Params) -> Tools {
    let read = |at: usize, text: &str| {
        let mut tool = tools::tool("tools", at, text)?;
        if let Some(parameters) = tool["function"].get_mut("parameters") {
            without_nulls(parameters);
        }
        Ok(tool)
    };
    let tools = params.list("tools", read).unwrap_or_default();
    Tools::of(params, "tools", tools)
}

/// Leaves out what a schema has as `null`, in itself and in those of its properties.
fn without_nulls(schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    fields.retain(|_, value| !value.is_null());
    let properties = fields.get_mut("properties").and_then(Value::as_object_mut);
    properties.into_iter().flat_map(Map::values_mut).for_each(without_nulls);
}
