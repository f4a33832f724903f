//! GLM-Edge: `<|role|>`, a newline and the text, without `[gMASK]<sop>`, and a newline after the last role.
//!
//! Source: the chat template of GLM-Edge-1.5B/4B-Chat, which knows neither tools nor their results: it passes
//! over what it does not know, and so does this.

use super::tools;
use crate::error::ChatError;
use crate::message::{Conversation, Piece, Role};
use crate::rendered::{FRAME, Prompt};
use crate::sight::Medium;

/// GLM-Edge-V says it the same way, with the token that begins a picture for each row of it.
pub(super) fn render(prompt: &mut Prompt, conversation: &Conversation) -> Result<(), ChatError> {
    let mut pictures = 0;
    for (index, message) in conversation.messages.iter().enumerate() {
        if message.role == Role::Observation {
            continue;
        }
        prompt.special(tools::role_token(message.role));
        prompt.trusted("\n");
        for piece in message.pieces() {
            match piece {
                Piece::Text(text) => prompt.user(text),
                Piece::Shown(Medium::Picture) => {
                    prompt.picture(pictures, FRAME[0]);
                    pictures += 1;
                }
                Piece::Shown(Medium::Video) => {
                    return Err(ChatError::Message { index, what: "glm-edge takes no videos".to_owned() });
                }
            }
        }
    }
    if conversation.add_generation_prompt {
        prompt.special("<|assistant|>");
        prompt.trusted("\n");
    }
    Ok(())
}
