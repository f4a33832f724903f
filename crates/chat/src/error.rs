//! What can go wrong between messages and tokens, and in the reading of a template.

use std::fmt::{self, Write as _};

/// Most characters of a message's parts that somebody else wrote.
const MAX_SHOWN: usize = 150;

/// Words from a file or a conversation within a message: one line, not long, nothing that a terminal would obey.
#[derive(Clone, Copy)]
pub(crate) struct Shown<'a>(pub(crate) &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut room = MAX_SHOWN;
        for c in self.0.chars() {
            let plain = !c.is_control()
                && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
            let size = if plain { 1 } else { c.escape_default().len() };
            if size > room {
                return f.write_char('…');
            }
            room -= size;
            if plain { f.write_char(c)? } else { write!(f, "{}", c.escape_default())? }
        }
        Ok(())
    }
}

/// An error of this crate. Each one names what is wrong and, where something can be done about it, what, in one line of
/// at most 300 characters.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// The format has no way to say this.
    #[error("{format} {}", Shown(what))]
    Unsupported {
        /// The chat format.
        format: &'static str,
        /// A clause that continues the format's name, such as "has no tool calls".
        what: String,
    },
    /// A message is not what its place in the conversation asks for.
    #[error("message {index}: {}", Shown(what))]
    Message {
        /// Position in the conversation, from 0.
        index: usize,
        /// What is wrong with it.
        what: String,
    },
    /// A tool definition cannot be shown to the model.
    #[error("tool {index}: {}", Shown(what))]
    Tool {
        /// Position in the list of tools, from 0.
        index: usize,
        /// What is wrong with it.
        what: String,
    },
    /// The conversation is no JSON of a known shape.
    #[error("not a conversation: {}", Shown(.0))]
    Json(String),
    /// The tokenizer lacks a token that the format needs: the two do not belong together.
    #[error(
        "the tokenizer has no token `{}`, which {format} needs; name the right chat format",
        Shown(spelling)
    )]
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
    /// The checkpoint has a template's name where its template should be, and not one that is known here.
    #[error(
        "the checkpoint's chat template is only a name, `{}`, and none known here (chatglm3, chatglm4, glmedge); name the chat \
         format that it stands for",
        Shown(name)
    )]
    TemplateName {
        /// The name.
        name: String,
    },
    /// The template says the same whatever the conversation.
    #[error(
        "the checkpoint's chat template never reads `messages`: it would lose the conversation; name the chat format"
    )]
    NoMessages,
    /// The conversation holds something that the prompt does not show.
    #[error("{format} does not show the model what the conversation has as {}; leave that out", Shown(what))]
    Ignored {
        /// The chat format.
        format: &'static str,
        /// The names of what is left out.
        what: String,
    },
    /// The template's source cannot be read.
    #[error("chat template, line {line}: {}", Shown(what))]
    Syntax {
        /// Line of the source, from 1.
        line: usize,
        /// What is wrong there.
        what: String,
    },
    /// The template failed while it was run.
    #[error("chat template, line {line}: {}", Shown(what))]
    Template {
        /// Line of the source, from 1.
        line: usize,
        /// What went wrong there.
        what: String,
    },
    /// The template called `raise_exception`: its own complaint about the conversation.
    #[error("the chat template refuses the conversation: {}", Shown(.0))]
    Refused(String),
    /// The template asked for more work, memory or depth than a chat prompt can need.
    #[error("chat template, line {line}: {what}; the template is broken or hostile")]
    Limit {
        /// Line of the source, from 1.
        line: usize,
        /// The limit that was passed.
        what: &'static str,
    },
}

impl ChatError {
    /// The format has no place for pictures.
    pub(crate) fn no_pictures(format: &'static str) -> ChatError {
        let what =
            "takes no pictures; models that do: GLM-4V, GLM-4.1V, GLM-4.5V, GLM-4.6V, GLM-Edge-V, GLM-OCR";
        ChatError::Unsupported { format, what: what.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::Shown;

    #[test]
    fn strangers_words_are_short_and_tame() {
        let shown = Shown("a\u{1b}[2J\n\u{202e}b").to_string();
        assert_eq!(shown, "a\\u{1b}[2J\\n\\u{202e}b");
        assert!(Shown(&"é\u{7}".repeat(1 << 20)).to_string().chars().count() <= 151);
        assert_eq!(Shown("天气").to_string(), "天气");
    }
}
