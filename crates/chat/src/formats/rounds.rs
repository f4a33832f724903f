//! The formats without role tokens: ChatGLM-6B and ChatGLM2-6B number the rounds of questions and answers,
//! CodeGeeX2 takes one instruction.
//!
//! Source: `build_prompt` and `tokenization_chatglm.py` of each model's repository. Neither knows a system role:
//! its text is put before the last question, as the OpenAI-style server of the ChatGLM2-6B repository does. Two
//! messages of one speaker in a row make one, joined by a newline.

use crate::error::ChatError;
use crate::message::{Conversation, Role};
use crate::rendered::Prompt;

/// A question, and its answer unless it is the one to be answered.
struct Round {
    question: String,
    answer: Option<String>,
}

/// ChatGLM-6B. The special tokens come last: generation continues after `<sop>`.
pub(super) fn chatglm_6b(prompt: &mut Prompt, conversation: &Conversation) -> Result<(), ChatError> {
    let rounds = rounds(conversation, "chatglm-6b")?;
    if let [Round { question, answer: None }] = rounds.as_slice() {
        prompt.user(question);
    } else {
        for (i, round) in rounds.iter().enumerate() {
            prompt.trusted(format!("[Round {i}]\n问："));
            prompt.user(&round.question);
            prompt.trusted("\n答：");
            if let Some(answer) = &round.answer {
                prompt.user(answer);
                if i + 1 < rounds.len() {
                    prompt.trusted("\n");
                }
            }
        }
    }
    prompt.affix("[gMASK]");
    prompt.affix("<sop>");
    Ok(())
}

/// ChatGLM2-6B.
pub(super) fn chatglm2(prompt: &mut Prompt, conversation: &Conversation) -> Result<(), ChatError> {
    let rounds = rounds(conversation, "chatglm2")?;
    prompt.affix("[gMASK]");
    prompt.affix("sop");
    for (i, round) in rounds.iter().enumerate() {
        prompt.trusted(format!("[Round {}]\n\n问：", i + 1));
        prompt.user(&round.question);
        prompt.trusted("\n\n答：");
        if let Some(answer) = &round.answer {
            prompt.user(answer);
            if i + 1 < rounds.len() {
                prompt.trusted("\n\n");
            }
        }
    }
    Ok(())
}

/// CodeGeeX2. Not a chat model: it completes text, and follows one instruction behind a language tag.
pub(super) fn codegeex2(prompt: &mut Prompt, conversation: &Conversation) -> Result<(), ChatError> {
    let rounds = rounds(conversation, "codegeex2")?;
    let [Round { question, answer: None }] = rounds.as_slice() else {
        let what = "takes one instruction, not a conversation".to_owned();
        return Err(ChatError::Unsupported { format: "codegeex2", what });
    };
    prompt.affix("[gMASK]");
    prompt.affix("sop");
    match &conversation.language {
        Some(language) => {
            prompt.trusted("# language: ");
            prompt.user(language);
            prompt.trusted("\n# ");
            prompt.user(question);
            prompt.trusted("\n");
        }
        None => prompt.user(question),
    }
    Ok(())
}

/// Sorts the messages into rounds.
fn rounds(conversation: &Conversation, format: &'static str) -> Result<Vec<Round>, ChatError> {
    let unsupported = |what: &str| ChatError::Unsupported { format, what: what.to_owned() };
    if !conversation.tools.is_empty() || conversation.messages.iter().any(|m| m.tools.is_some()) {
        return Err(unsupported("has no tools"));
    }
    let mut system = String::new();
    let mut rounds: Vec<Round> = Vec::new();
    for message in &conversation.messages {
        if !message.tool_calls.is_empty() {
            return Err(unsupported("has no tool calls"));
        }
        match (message.role, rounds.last_mut()) {
            (Role::System, _) => join(&mut system, &message.content),
            (Role::User, Some(Round { question, answer: None })) => join(question, &message.content),
            (Role::User, _) => rounds.push(Round { question: message.content.clone(), answer: None }),
            (Role::Assistant, Some(Round { answer: Some(answer), .. })) => join(answer, &message.content),
            (Role::Assistant, Some(round)) => round.answer = Some(message.content.clone()),
            (Role::Assistant, None) => {
                rounds.push(Round { question: String::new(), answer: Some(message.content.clone()) });
            }
            (Role::Observation, _) => return Err(unsupported("has no tool results")),
        }
    }
    match rounds.last_mut() {
        Some(Round { answer: Some(_), .. }) if conversation.add_generation_prompt => {
            Err(ChatError::Message {
                index: conversation.messages.len() - 1,
                what: format!("{format} answers a question; the last message is an answer"),
            })
        }
        Some(last) => {
            last.question.insert_str(0, &system);
            Ok(rounds)
        }
        None => Err(unsupported("needs a question; the conversation has none")),
    }
}

fn join(text: &mut String, more: &str) {
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(more);
}
