//! What an answer must look like.

use std::fmt;
use std::sync::Arc;

use glimmer_chat::reply::CallStyle;
use glimmer_grammar::{Beginning, Compiled, Compiler, Grammar, Unmasked};
use serde_json::Value;

use crate::calls::Sign;

/// What an answer must look like.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum AnswerFormat {
    /// Anything.
    #[default]
    Text,
    /// A JSON object.
    Json,
    /// JSON that a schema describes.
    JsonSchema {
        /// The schema.
        schema: Value,
        /// Whether a keyword that an answer cannot be held to while it is made is an error; otherwise the answer is
        /// checked when it is finished.
        strict: bool,
    },
    /// A text that a regular expression matches as a whole.
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// A text of a grammar in llama.cpp's notation.
    Gbnf(String),
    /// A text of a grammar in llguidance's dialect of Lark.
    Lark(String),
    /// Calls of tools, as the model writes them. A call that is finished is one of these tools with arguments that its schema
    /// allows; where that could not be seen to while it was made, it is checked.
    Calls {
        /// The tools; `strict` in a function's definition makes a keyword that calls cannot be held to an error, instead of
        /// one that finished calls are checked for.
        tools: Vec<Value>,
        /// Whether the answer is calls and nothing else; otherwise it may be anything, and calls that the model begins are held
        /// to their form.
        required: bool,
        /// Whether such an answer is one call.
        single: bool,
    },
}

impl AnswerFormat {
    pub(crate) fn grammar(&self) -> Option<Grammar> {
        Some(match self {
            // What calls look like is the model's affair.
            AnswerFormat::Text | AnswerFormat::Calls { .. } => return None,
            AnswerFormat::Json => Grammar::JsonObject,
            AnswerFormat::JsonSchema { schema, strict } => Grammar::json_schema(schema, *strict),
            AnswerFormat::Regex(source) => Grammar::Regex(source.clone()),
            AnswerFormat::Choice(texts) => Grammar::Choice(texts.clone()),
            AnswerFormat::Gbnf(source) => Grammar::Gbnf(source.clone()),
            AnswerFormat::Lark(source) => Grammar::Lark(source.clone()),
        })
    }
}

/// An answer's format, ready for a model: what [`crate::ModelText::form`] makes. Two are equal if they are the same one.
#[derive(Clone)]
pub struct AnswerForm {
    pub(crate) compiler: Arc<Compiler>,
    /// The calls that it may be made of.
    pub(crate) calls: Option<Arc<CallsForm>>,
    /// The text that it may be in their place.
    pub(crate) text: TextForm,
}

/// What calls look like.
pub(crate) struct CallsForm {
    pub(crate) compiled: Arc<Compiled>,
    pub(crate) style: CallStyle,
    /// What tells that one begins.
    pub(crate) sign: Sign,
}

impl CallsForm {
    /// What may stand before calls and nothing else.
    pub(crate) fn beginning(&self) -> Beginning {
        if self.style == CallStyle::Python { Beginning::OnLine } else { Beginning::Trimmed }
    }
}

/// What text an answer may be.
#[derive(Clone)]
pub(crate) enum TextForm {
    /// None: it is calls.
    Nothing,
    Anything,
    Form(Arc<Compiled>),
}

impl TextForm {
    fn compiled(&self) -> Option<&Arc<Compiled>> {
        if let TextForm::Form(compiled) = self { Some(compiled) } else { None }
    }
}

impl PartialEq for AnswerForm {
    fn eq(&self, other: &Self) -> bool {
        let parts = |form: &Self| {
            let calls = form.calls.as_ref().map(|calls| Arc::as_ptr(&calls.compiled));
            let is_anything = matches!(form.text, TextForm::Anything);
            (calls, is_anything, form.text.compiled().map(Arc::as_ptr))
        };
        parts(self) == parts(other)
    }
}

impl fmt::Debug for AnswerForm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("AnswerForm").field("unmasked", &self.unmasked()).finish_non_exhaustive()
    }
}

impl AnswerForm {
    /// Calls or else a text, whichever the model begins: the calls of this form (required ones: [`AnswerFormat::Calls`]) and the
    /// text of another of the same model. A form without calls stays what it is.
    #[must_use]
    pub fn or(self, other: AnswerForm) -> Self {
        match (&self.calls, other.text) {
            (Some(_), text @ TextForm::Form(_)) => AnswerForm { text, ..self },
            _ => self,
        }
    }

    /// What of it an answer is not held to while it is made. Text and calls are checked for it when they
    /// are finished.
    pub fn unmasked(&self) -> &[Unmasked] {
        let calls = self.calls.as_ref().map(|calls| &calls.compiled);
        self.text.compiled().or(calls).map_or(&[], |compiled| compiled.unmasked())
    }

    /// The ids that end an answer in this form.
    pub(crate) fn ends(&self) -> &[u32] {
        if matches!(self.text, TextForm::Anything) { &[] } else { self.compiler.table().ends() }
    }

    /// What a finished answer's text is to be checked for.
    pub(crate) fn checked(&self) -> Option<&Arc<Compiled>> {
        self.text.compiled().filter(|compiled| !compiled.unmasked().is_empty())
    }
}
