//! Tools as the formats show them, and OpenAI's tool calls in the words of models that know none.

use crate::error::ChatError;
use crate::message::{Conversation, Message, Role};
use crate::python;
use crate::rendered::Prompt;
use serde_json::Value;

/// The sentence that follows every function's definition in GLM-4's tools block.
const CALL_WITH_JSON: &str = "\n在调用上述函数时，请使用 Json 格式表示调用的参数。";

/// The tools of the whole conversation: its own, or else those that its messages declare.
pub(super) fn of_conversation(conversation: &Conversation) -> Vec<&Value> {
    if !conversation.tools.is_empty() {
        return conversation.tools.iter().collect();
    }
    conversation.messages.iter().filter_map(|message| message.tools.as_ref()).flatten().collect()
}

/// The function object inside OpenAI's wrapper, or the object itself if it comes bare.
pub(super) fn function(index: usize, tool: &Value) -> Result<&Value, ChatError> {
    if !tool.is_object() {
        return Err(ChatError::Tool { index, what: "a tool is a JSON object".to_owned() });
    }
    match tool.get("function") {
        None | Some(Value::Null) => Ok(tool),
        Some(function) if function.is_object() => Ok(function),
        Some(_) => Err(ChatError::Tool { index, what: "`function` is a JSON object".to_owned() }),
    }
}

/// `## {name}`, the function's definition, and how to call it.
pub(super) fn define_function(prompt: &mut Prompt, function: &Value) {
    prompt.trusted("## ");
    prompt.user(&function.get("name").map(python::str).unwrap_or_default());
    prompt.trusted("\n\n");
    prompt.user(&python::dumps_indented(function, 4));
    prompt.trusted(CALL_WITH_JSON);
}

/// What an assistant message comes to in formats where a call is a message of its own, with the tool's name on
/// the role's line: first the text, if there is any, then one message for each call.
pub(super) fn assistant_messages(
    message: &Message,
    arguments: fn(&crate::ToolCall) -> String,
) -> Vec<Message> {
    if message.role != Role::Assistant || message.tool_calls.is_empty() {
        return vec![message.clone()];
    }
    let text = (!message.content.is_empty()).then(|| Message { tool_calls: Vec::new(), ..message.clone() });
    let calls = message.tool_calls.iter().map(|call| Message {
        metadata: Some(call.name.clone()),
        ..Message::new(Role::Assistant, arguments(call))
    });
    text.into_iter().chain(calls).collect()
}

/// The special token of a role.
pub(super) fn role_token(role: Role) -> &'static str {
    match role {
        Role::System => "<|system|>",
        Role::User => "<|user|>",
        Role::Assistant => "<|assistant|>",
        Role::Observation => "<|observation|>",
    }
}
