//! A conversation in Ollama's messages.

use glimmer::Message;
use glimmer::json::{room, tree};
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
    if !fields.remove("images").is_none_or(|images| images == Value::Array(Vec::new())) {
        return Err(ApiError::unsupported(list, format!("message {index}: `images` are not supported yet")));
    }
    if fields.remove("tool_name").is_some_and(|name| !name.is_string()) {
        return Err(fault("`tool_name` is to be a string".to_owned()));
    }
    if !fields.get("content").is_none_or(Value::is_string) {
        return Err(fault("`content` is to be a string".to_owned()));
    }
    if let Some(Value::String(role)) = fields.get_mut("role") {
        role.make_ascii_lowercase();
    }
    serde_json::from_value(Value::Object(fields)).map_err(|error| fault(error.to_string()))
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
