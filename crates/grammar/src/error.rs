//! What can be wrong with a grammar, or with an answer under one.

/// Bytes of somebody else's words that are shown.
const SHOWN: usize = 200;

/// Why no mask can be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrammarError {
    /// The source is larger, deeper or more branched than is allowed.
    #[error("the {what} is too large: at most {limit}")]
    TooLarge {
        /// What of it.
        what: &'static str,
        /// How much is allowed, with its unit.
        limit: String,
    },
    /// The schema is none: it breaks the rules of JSON Schema itself.
    #[error("the schema is invalid at {at:?}: {reason}")]
    Schema {
        /// Where, as a JSON pointer.
        at: String,
        /// What is wrong.
        reason: String,
    },
    /// A keyword that must be kept to exactly cannot be.
    #[error(
        "`{keyword}` at {at:?} cannot be kept to while an answer is made; without `strict` it is checked afterwards"
    )]
    Unmasked {
        /// The keyword.
        keyword: String,
        /// Where it stands, as a JSON pointer.
        at: String,
    },
    /// Nothing can satisfy it.
    #[error("no answer can satisfy the schema: {0}")]
    Unsatisfiable(String),
    /// A grammar that is not written in its language.
    #[error("the {language} is invalid: {reason}")]
    Syntax {
        /// Which language.
        language: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A tokenizer whose tokens cannot be told apart by bytes, or that has too many.
    #[error("answers in this form cannot be made with this tokenizer: {0}")]
    Tokenizer(&'static str),
    /// A token that the mask does not have.
    #[error("token {0} does not continue the answer")]
    Token(u32),
    /// The grammar is too ambiguous for its limits, or a fault of the program.
    #[error("the grammar failed: {0}")]
    Failed(String),
}

/// The first line of a message that may quote a stranger's text, cut to a length that fits a line.
pub(crate) fn first_line(message: &dyn std::fmt::Display) -> String {
    let message = message.to_string();
    let line = message.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    let end = (0..=line.len().min(SHOWN)).rev().find(|&end| line.is_char_boundary(end)).unwrap_or(0);
    line[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
