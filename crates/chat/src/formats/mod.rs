//! The native formats: each turns a conversation into the pieces of a prompt.
//!
//! One file per family of formats. What they write is fixed by the models' published templates and Python code
//! and is held to both by the tests; where those leave a case open (a system message for a model without that
//! role, OpenAI's `tool_calls` for a model that knows only a first line with the tool's name), the file says
//! what was chosen.

mod chatglm3;
mod edge;
mod glm0414;
mod glm4;
mod glm45;
mod rounds;
mod tools;

use crate::error::ChatError;
use crate::message::{Conversation, Role};
use crate::rendered::{Prompt, Rendered};
use crate::template::{SWITCHES, WISHES};
use glimmer_config::Family;

/// Renders `conversation` in a native format.
pub(crate) fn render(format: Family, conversation: &Conversation, name: &str) -> Result<Rendered, ChatError> {
    let sees = matches!(format, Family::Glm4v | Family::GlmEdge | Family::Glm41v | Family::GlmOcr);
    if !sees && conversation.sights().next().is_some() {
        return Err(ChatError::no_pictures(format.name()));
    }
    let mut prompt = Prompt::default();
    match format {
        Family::ChatGlm6b => rounds::chatglm_6b(&mut prompt, conversation)?,
        Family::ChatGlm2 => rounds::chatglm2(&mut prompt, conversation)?,
        Family::CodeGeex2 => rounds::codegeex2(&mut prompt, conversation)?,
        Family::ChatGlm3 => chatglm3::render(&mut prompt, conversation)?,
        Family::Glm4 => glm4::chat(&mut prompt, conversation, name)?,
        Family::Glm4v => glm4::vision(&mut prompt, conversation, name)?,
        Family::GlmEdge => edge::render(&mut prompt, conversation)?,
        Family::Glm40414 => glm0414::chat(&mut prompt, conversation)?,
        Family::GlmZ1 => glm0414::z1(&mut prompt, conversation)?,
        Family::GlmZ1Rumination => glm0414::rumination(&mut prompt, conversation),
        Family::Glm41v | Family::GlmOcr => {
            let what = "is written by the model's chat_template.jinja alone, which is not there".to_owned();
            return Err(ChatError::Unsupported { format: format.name(), what });
        }
        Family::Glm45 => glm45::render(&mut prompt, conversation, glm45::GLM_45)?,
        Family::Glm47 => glm45::render(&mut prompt, conversation, glm45::GLM_47)?,
    }
    Ok(Rendered::new(prompt, format, ignored(format, conversation)))
}

/// What a native format leaves out as the model's own template does.
fn ignored(format: Family, conversation: &Conversation) -> Vec<String> {
    let has = |role| conversation.messages.iter().any(|message| message.role == role);
    let tools = !tools::of_conversation(conversation).is_empty();
    let calls = conversation.messages.iter().any(|message| !message.tool_calls.is_empty());
    let edge = format == Family::GlmEdge;
    let rumination = format == Family::GlmZ1Rumination;
    let left_out = [
        ("tools", tools && (edge || rumination)),
        ("tool_calls", calls && edge),
        ("messages of tools", has(Role::Observation) && edge),
        ("system messages", has(Role::System) && rumination),
    ];
    let left_out = left_out.iter().filter(|(_, is)| *is).map(|(name, _)| *name);
    let extra = conversation
        .extra
        .keys()
        .map(String::as_str)
        .filter(|name| !SWITCHES.contains(name) && !WISHES.contains(name));
    left_out.chain(extra).map(str::to_owned).collect()
}
