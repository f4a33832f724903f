//! Jinja2 for chat templates, run on text that remembers its origin.
//!
//! A checkpoint may bring a template of its own. It is run here, in an interpreter of the part of Jinja2 that chat
//! templates use, and not in a general engine, for two reasons. Every string keeps which of its characters came
//! from the conversation, through slices, splits, joins and JSON, so that a template may look at what a person
//! wrote however it likes and a special token that the person spelled is still not taken for one. And a template
//! is input from strangers: work, memory and depth are counted at every step, so that forty lines that double a
//! string forty times end in an error and not in the machine's memory.
//!
//! The meaning is that of Jinja2 3.1 in transformers' setting: `trim_blocks`, `lstrip_blocks`, loop controls, no
//! escaping, Python's methods of strings and dictionaries, `tojson` as `json.dumps(ensure_ascii=False)`,
//! `raise_exception`, `strftime_now`. Source: the Jinja2 documentation and the behaviour of the Python package,
//! with which the tests agree. Left out: inheritance, imports, call blocks, recursive loops, `lipsum`, the filters of
//! `filters::LEFT_OUT`, and everything that changes a list or dictionary in place, which transformers forbids as well.

mod arguments;
mod ast;
mod clock;
mod filters;
mod formatting;
mod interpreter;
mod lexer;
mod methods;
mod operators;
mod parser;
mod predicates;
mod value;

use crate::error::ChatError;
use interpreter::Interpreter;
use parser::Tree;
use value::{Dict, Value};

pub(crate) use value::Text;

/// Longest source of a template, in bytes.
const MAX_SOURCE: usize = 1 << 20;
/// Levels of a template's statements and expressions within one another.
const MAX_DEPTH: usize = 128;

/// A parsed template.
#[derive(Debug)]
pub(crate) struct Template {
    tree: Tree,
}

/// A template's variable: JSON from the conversation, or text of our own.
pub(crate) enum Variable<'a> {
    /// Every string in it came from outside.
    Outside(&'a serde_json::Value),
    /// Text of the checkpoint or of ours, such as `bos_token`.
    Trusted(&'a str),
    /// A switch.
    Bool(bool),
    /// Python's `None`.
    None,
    /// Messages: JSON from outside, but for the role, which is one of a few words.
    Messages(&'a [serde_json::Value]),
}

impl Template {
    pub(crate) fn parse(source: &str) -> Result<Template, ChatError> {
        Ok(Template { tree: parser::parse(source)? })
    }

    /// Whether the template looks at the conversation anywhere.
    pub(crate) fn reads_messages(&self) -> bool {
        self.tree.reads_messages
    }

    /// Runs the template: its text, and the names of the variables that it never looked at.
    ///
    /// # Errors
    /// What goes wrong in it, with the line.
    pub(crate) fn render<'v>(
        &'v self,
        variables: &[(&'v str, Variable<'_>)],
    ) -> Result<(Text, Vec<&'v str>), ChatError> {
        let mut globals = Vec::new();
        for (name, variable) in variables {
            globals.push((*name, variable.value().map_err(|e| e.at(1))?));
        }
        Ok(Interpreter::new(&self.tree, globals).run()?)
    }
}

impl Variable<'_> {
    fn value(&self) -> Result<Value, Error> {
        match self {
            Variable::Outside(json) => Value::from_json(json),
            Variable::Trusted(text) => Ok(Value::template(text)),
            Variable::Bool(b) => Ok(Value::Bool(*b)),
            Variable::None => Ok(Value::None),
            Variable::Messages(messages) => {
                Value::list(messages.iter().map(message).collect::<Result<_, Error>>()?)
            }
        }
    }
}

fn message(json: &serde_json::Value) -> Result<Value, Error> {
    let Value::Dict(dict) = Value::from_json(json)? else {
        return Err(Error::value("a message is a dictionary".to_owned()));
    };
    let Dict { entries, .. } = &*dict;
    let entries = entries.iter().map(|(key, value)| match value {
        Value::Str(role) if matches!(key, Value::Str(key) if key.as_str() == "role") => {
            (key.clone(), Value::template(role.as_str()))
        }
        _ => (key.clone(), value.clone()),
    });
    Value::dict(entries.collect())
}

/// What went wrong in a template, and on which line if that is known yet.
#[derive(Debug)]
struct Error {
    line: usize,
    kind: ErrorKind,
}

#[derive(Debug)]
enum ErrorKind {
    Syntax(String),
    Value(String),
    Refused(String),
    Limit(&'static str),
}

impl Error {
    fn syntax(line: usize, what: impl Into<String>) -> Error {
        Error { line, kind: ErrorKind::Syntax(what.into()) }
    }

    fn value(what: impl Into<String>) -> Error {
        Error { line: 0, kind: ErrorKind::Value(what.into()) }
    }

    fn limit(line: usize, what: &'static str) -> Error {
        Error { line, kind: ErrorKind::Limit(what) }
    }

    /// The same error, on this line unless it knows its own.
    fn at(mut self, line: usize) -> Error {
        if self.line == 0 {
            self.line = line;
        }
        self
    }
}

impl From<Error> for ChatError {
    fn from(error: Error) -> ChatError {
        let line = error.line;
        match error.kind {
            ErrorKind::Syntax(what) => ChatError::Syntax { line, what },
            ErrorKind::Value(what) => ChatError::Template { line, what },
            ErrorKind::Refused(what) => ChatError::Refused(what),
            ErrorKind::Limit(what) => ChatError::Limit { line, what },
        }
    }
}
