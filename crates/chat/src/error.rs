//! What can go wrong between messages and tokens, and in the reading of a template.

/// An error of this crate. Each one names what is wrong and, where something can be done about it, what.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// The format has no way to say this.
    #[error("{format} {what}")]
    Unsupported {
        /// The chat format.
        format: &'static str,
        /// A clause that continues the format's name, such as "has no tool calls".
        what: String,
    },
    /// A message is not what its place in the conversation asks for.
    #[error("message {index}: {what}")]
    Message {
        /// Position in the conversation, from 0.
        index: usize,
        /// What is wrong with it.
        what: String,
    },
    /// A tool definition cannot be shown to the model.
    #[error("tool {index}: {what}")]
    Tool {
        /// Position in the list of tools, from 0.
        index: usize,
        /// What is wrong with it.
        what: String,
    },
    /// The conversation is no JSON of a known shape.
    #[error("not a conversation: {0}")]
    Json(String),
    /// The tokenizer lacks a token that the format needs: the two do not belong together.
    #[error("the tokenizer has no token {spelling:?}, which {format} needs; name the right chat format")]
    MissingToken {
        /// The token as the format spells it.
        spelling: String,
        /// The chat format.
        format: &'static str,
    },
    /// Nothing tells which chat format the checkpoint speaks.
    #[error(
        "no chat template in the checkpoint, and nothing in it tells its chat format; name one ({known})"
    )]
    UnknownFormat {
        /// The names that can be given.
        known: String,
    },
    /// The template's source cannot be read.
    #[error("chat template, line {line}: {what}")]
    Syntax {
        /// Line of the source, from 1.
        line: usize,
        /// What is wrong there.
        what: String,
    },
    /// The template failed while it was run.
    #[error("chat template, line {line}: {what}")]
    Template {
        /// Line of the source, from 1.
        line: usize,
        /// What went wrong there.
        what: String,
    },
    /// The template called `raise_exception`: its own complaint about the conversation.
    #[error("the chat template refuses the conversation: {0}")]
    Refused(String),
    /// The template asked for more work, memory or depth than a chat prompt can need.
    #[error("chat template, line {line}: {what}; the template is broken or hostile")]
    Limit {
        /// Line of the source, from 1; 0 where the source as a whole is meant.
        line: usize,
        /// The limit that was passed.
        what: &'static str,
    },
}
