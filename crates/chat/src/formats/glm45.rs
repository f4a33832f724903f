//! GLM-4.5, 4.5-Air, 4.6 and 4.7: reasoning in `<think>`, calls and results in tags of their own.
//!
//! Source: the models' chat templates. 4.7 says the same as 4.5 without the newlines around its tags, closes the
//! reasoning it leaves out with a bare `</think>`, and opens its reply with one of the two tags.

use super::tools;
use crate::error::ChatError;
use crate::message::{Conversation, Message, Role};
use crate::python;
use crate::rendered::Prompt;
use crate::reply::{CALL_TAGS, THINK_TAGS};
use serde_json::Value;

/// What differs between the two generations.
#[derive(Clone, Copy)]
pub(super) struct Style {
    /// What stands around tags and after role tokens.
    newline: &'static str,
    /// The example of a call in the tools block.
    call_example: &'static str,
    /// In place of reasoning that is left out.
    no_reasoning: &'static str,
    /// After a question that is to be answered without reasoning.
    no_think_suffix: &'static str,
    /// Opens a reply with reasoning, and one without.
    reply: [&'static str; 2],
    /// Whether `clear_thinking` is known.
    keeps_thinking: bool,
}

pub(super) const GLM_45: Style = Style {
    newline: "\n",
    call_example: "<tool_call>{function-name}\n<arg_key>{arg-key-1}</arg_key>\n<arg_value>{arg-value-1}</arg_value>\n\
                   <arg_key>{arg-key-2}</arg_key>\n<arg_value>{arg-value-2}</arg_value>\n...\n</tool_call>",
    no_reasoning: "\n<think></think>",
    no_think_suffix: "/nothink",
    reply: ["", "\n<think></think>"],
    keeps_thinking: false,
};

pub(super) const GLM_47: Style = Style {
    newline: "",
    call_example: "<tool_call>{function-name}<arg_key>{arg-key-1}</arg_key><arg_value>{arg-value-1}</arg_value>\
                   <arg_key>{arg-key-2}</arg_key><arg_value>{arg-value-2}</arg_value>...</tool_call>",
    no_reasoning: "</think>",
    no_think_suffix: "",
    reply: ["<think>", "</think>"],
    keeps_thinking: true,
};

pub(super) fn render(
    prompt: &mut Prompt,
    conversation: &Conversation,
    style: Style,
) -> Result<(), ChatError> {
    prompt.special("[gMASK]");
    prompt.special("<sop>");
    let tools = tools::of_conversation(conversation);
    if !tools.is_empty() {
        tools_block(prompt, &tools, style);
    }
    let without_thinking = conversation.enable_thinking == Some(false);
    let keep_thinking = style.keeps_thinking && conversation.clear_thinking == Some(false);
    let last_question = conversation.messages.iter().rposition(|message| message.role == Role::User);
    let mut previous = None;
    for (index, message) in conversation.messages.iter().enumerate() {
        match message.role {
            Role::System | Role::User => {
                prompt.special(tools::role_token(message.role));
                prompt.trusted(style.newline);
                prompt.user(&message.content);
                let suffix = style.no_think_suffix;
                if message.role == Role::User && without_thinking && !message.content.ends_with(suffix) {
                    prompt.trusted(suffix);
                }
            }
            Role::Assistant => {
                let shows_reasoning = keep_thinking || last_question.is_none_or(|last| index > last);
                assistant(prompt, index, message, shows_reasoning, style)?;
            }
            Role::Observation => {
                if !message.results.is_empty() || previous != Some(Role::Observation) {
                    prompt.special("<|observation|>");
                }
                results(prompt, message, style);
            }
        }
        previous = Some(message.role);
    }
    if conversation.add_generation_prompt {
        prompt.special("<|assistant|>");
        prompt.trusted(style.reply[usize::from(without_thinking)]);
    }
    Ok(())
}

fn tools_block(prompt: &mut Prompt, tools: &[&Value], style: Style) {
    prompt.special("<|system|>");
    prompt.trusted(
        "\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n\
         You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n",
    );
    for tool in tools {
        prompt.user(&python::dumps(tool));
        prompt.trusted("\n");
    }
    prompt.trusted(
        "</tools>\n\nFor each function call, output the function name and arguments within the following XML \
         format:\n",
    );
    prompt.trusted(style.call_example);
}

fn assistant(
    prompt: &mut Prompt,
    index: usize,
    message: &Message,
    shows_reasoning: bool,
    style: Style,
) -> Result<(), ChatError> {
    prompt.special("<|assistant|>");
    let (reasoning, content) = match &message.reasoning {
        Some(reasoning) => (reasoning.as_str(), message.content.as_str()),
        None => split_reasoning(&message.content),
    };
    if shows_reasoning && !reasoning.is_empty() {
        prompt.trusted(style.newline);
        prompt.trusted(THINK_TAGS[0]);
        prompt.user(python::strip(reasoning));
        prompt.trusted(THINK_TAGS[1]);
    } else {
        prompt.trusted(style.no_reasoning);
    }
    let content = python::strip(content);
    if !content.is_empty() {
        prompt.trusted(style.newline);
        prompt.user(content);
    }
    for call in &message.tool_calls {
        let arguments = call.arguments_object().ok_or_else(|| ChatError::Message {
            index,
            what: format!("the arguments of the call of {:?} are not a JSON object", call.name),
        })?;
        prompt.trusted(style.newline);
        prompt.trusted(CALL_TAGS.call[0]);
        prompt.user(&call.name);
        prompt.trusted(style.newline);
        for (key, value) in &arguments {
            prompt.trusted(CALL_TAGS.key[0]);
            prompt.user(key);
            prompt.trusted(CALL_TAGS.key[1]);
            prompt.trusted(style.newline);
            prompt.trusted(CALL_TAGS.value[0]);
            match value {
                Value::String(text) => prompt.user(text),
                other => prompt.user(&python::dumps(other)),
            }
            prompt.trusted(CALL_TAGS.value[1]);
            prompt.trusted(style.newline);
        }
        prompt.trusted(CALL_TAGS.call[1]);
    }
    Ok(())
}

fn results(prompt: &mut Prompt, message: &Message, style: Style) {
    let one = std::slice::from_ref(&message.content);
    for result in if message.results.is_empty() { one } else { &message.results } {
        prompt.trusted(style.newline);
        prompt.trusted("<tool_response>");
        prompt.trusted(style.newline);
        prompt.user(result);
        prompt.trusted(style.newline);
        prompt.trusted("</tool_response>");
    }
}

/// The reasoning that an assistant's text carries within it, and the text after it.
fn split_reasoning(content: &str) -> (&str, &str) {
    let [open, close] = THINK_TAGS;
    let Some((before, _)) = content.split_once(close) else { return ("", content) };
    let reasoning = before.trim_end_matches('\n').rsplit(open).next().unwrap_or(before);
    let after = content.rsplit(close).next().unwrap_or("");
    (reasoning.trim_start_matches('\n'), after.trim_start_matches('\n'))
}
