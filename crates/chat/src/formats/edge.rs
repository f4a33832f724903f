//! GLM-Edge: `<|role|>`, a newline and the text, without `[gMASK]<sop>`, and a newline after the last role.
//!
//! Source: the chat template of GLM-Edge-1.5B/4B-Chat, which knows neither tools nor their results: it passes
//! over what it does not know, and so does this.

use super::tools;
use crate::message::{Conversation, Role};
use crate::rendered::Prompt;

pub(super) fn render(prompt: &mut Prompt, conversation: &Conversation) {
    for message in conversation.messages.iter().filter(|message| message.role != Role::Observation) {
        prompt.special(tools::role_token(message.role));
        prompt.trusted("\n");
        prompt.user(&message.content);
    }
    if conversation.add_generation_prompt {
        prompt.special("<|assistant|>");
        prompt.trusted("\n");
    }
}
