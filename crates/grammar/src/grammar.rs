//! What is asked of an answer.

use glimmer_config::json;
use serde_json::Value;

use crate::error::first_line;
use crate::{Calls, GrammarError};

/// Bytes of a source.
pub(crate) const SOURCE_BYTES: usize = 256 << 10;
/// Brackets within brackets of a source.
pub(crate) const DEPTH: usize = 128;
/// Texts that an answer may be one of.
const CHOICES: usize = 4096;

/// What an answer must be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Grammar {
    /// A JSON object, whatever it holds.
    JsonObject,
    /// JSON that a schema describes (drafts 4 to 2020-12; 2020-12 where it names none).
    JsonSchema {
        /// The schema, as JSON text.
        schema: String,
        /// Whether a keyword that masks cannot hold an answer to is an error; otherwise the answer is checked against
        /// the schema when it is finished.
        strict: bool,
    },
    /// A text that a regular expression matches as a whole, in the syntax of Rust's `regex`.
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// A grammar in llama.cpp's notation, which begins at the rule `root`.
    Gbnf(String),
    /// A grammar in llguidance's dialect of Lark, which begins at the rule `start`.
    Lark(String),
    /// Calls of tools.
    Calls(Calls),
}

impl Grammar {
    /// A schema that is at hand as a value.
    pub fn json_schema(schema: &Value, strict: bool) -> Self {
        Grammar::JsonSchema { schema: schema.to_string(), strict }
    }

    /// Refuses a source whose size or depth no parser should meet.
    pub(crate) fn check_size(&self) -> Result<(), GrammarError> {
        let mut own = Vec::new();
        let (what, sources) = match self {
            Grammar::JsonObject => return Ok(()),
            Grammar::Calls(calls) => {
                // Of other tools than strict ones some may be left to the model: see `Calls::beyond_limits`.
                for tool in &calls.tools {
                    let parameters = tool.parameters.clone().filter(|_| tool.strict);
                    own.extend([tool.name.clone()].into_iter().chain(parameters));
                }
                ("list of tools", own.as_slice())
            }
            Grammar::JsonSchema { schema, .. } => ("schema", std::slice::from_ref(schema)),
            Grammar::Regex(source) => ("regular expression", std::slice::from_ref(source)),
            Grammar::Choice(texts) => ("list of choices", texts.as_slice()),
            Grammar::Gbnf(source) | Grammar::Lark(source) => ("grammar", std::slice::from_ref(source)),
        };
        let too_large = |limit: String| Err(GrammarError::TooLarge { what, limit });
        if sources.len() > CHOICES {
            return too_large(format!("{CHOICES} texts"));
        }
        if sources.iter().map(String::len).sum::<usize>() > SOURCE_BYTES {
            return too_large(format!("{} KiB", SOURCE_BYTES >> 10));
        }
        let nests = !matches!(self, Grammar::Choice(_));
        if nests && sources.iter().any(|source| depth(source) > DEPTH) {
            return too_large(format!("{DEPTH} brackets within each other"));
        }
        Ok(())
    }

    /// The schema as a value.
    pub(crate) fn parse_schema(schema: &str) -> Result<Value, GrammarError> {
        json::tree(schema, json::FILE_ROOM)
            .map_err(|error| GrammarError::Schema { at: String::new(), reason: first_line(&error) })
    }
}

/// The most brackets that are open at once. Those in strings count: what a limit is for may well stand there.
pub(crate) fn depth(source: &str) -> usize {
    let (mut open, mut most) = (0_usize, 0);
    for byte in source.bytes() {
        match byte {
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}
