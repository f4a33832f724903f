//! ChatGLM3-6B: `<|role|>`, a metadata line and the text, each encoded apart.
//!
//! Source: `tokenization_chatglm.py` (`build_single_message`, `build_chat_input`) and the demos of the ChatGLM3
//! repository. Tools given for the whole conversation come first, in a system message with the demos' sentence;
//! OpenAI's tool calls are written as the model writes its own, `tool_call(city='北京')` in a Python fence.

use super::tools;
use crate::error::ChatError;
use crate::message::{Conversation, Message, Role, ToolCall};
use crate::python;
use crate::rendered::Prompt;
use serde_json::Value;

const TOOLS_SYSTEM: &str =
    "Answer the following questions as best as you can. You have access to the following tools:";

pub(super) fn render(prompt: &mut Prompt, conversation: &Conversation) -> Result<(), ChatError> {
    prompt.special("[gMASK]");
    prompt.special("sop");
    if !conversation.tools.is_empty() {
        let bare: Result<Vec<Value>, _> = conversation
            .tools
            .iter()
            .enumerate()
            .map(|(i, tool)| tools::function(i, tool).cloned())
            .collect();
        begin(prompt, Role::System, "");
        prompt.trusted(TOOLS_SYSTEM);
        list_tools(prompt, bare?);
    }
    for message in &conversation.messages {
        for message in tools::assistant_messages(message, python_call) {
            begin(prompt, message.role, message.metadata.as_deref().unwrap_or(""));
            prompt.user(&text(&message));
            if let (Role::System, Some(tools)) = (message.role, message.tools) {
                list_tools(prompt, tools);
            }
        }
    }
    if conversation.add_generation_prompt {
        prompt.special("<|assistant|>");
    }
    Ok(())
}

fn begin(prompt: &mut Prompt, role: Role, metadata: &str) {
    prompt.special(tools::role_token(role));
    prompt.user(metadata);
    prompt.trusted("\n");
    prompt.boundary();
}

fn text(message: &Message) -> String {
    if message.role == Role::Observation { message.observed() } else { message.content.clone() }
}

fn list_tools(prompt: &mut Prompt, tools: Vec<Value>) {
    prompt.trusted("\n");
    prompt.user(&python::dumps_indented(&Value::Array(tools), 4));
}

/// A call as the model writes it. What Python cannot have as a keyword is passed by `**{…}`.
fn python_call(call: &ToolCall) -> String {
    let Some(map) = call.arguments_object() else {
        return format!("```python\ntool_call({})\n```", call.arguments_text());
    };
    if let (true, Some(Value::String(code))) = (call.name == "interpreter" && map.len() == 1, map.get("code"))
    {
        return format!("```python\n{code}\n```");
    }
    let argument = |(key, value): (&String, &Value)| match python::repr(value) {
        value if python::is_identifier(key) => format!("{key}={value}"),
        value => format!("**{{{}: {value}}}", python::repr_str(key)),
    };
    let arguments: Vec<String> = map.iter().map(argument).collect();
    format!("```python\ntool_call({})\n```", arguments.join(", "))
}
