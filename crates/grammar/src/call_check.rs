//! Finished calls against the schemas of their tools.

use std::sync::OnceLock;

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::grammar::SOURCE_BYTES;
use crate::schema::{self, Unmasked, escaped};
use crate::{CallTool, Grammar};

/// What the arguments of a tool are checked for.
pub(crate) struct CallCheck {
    parameters: Option<String>,
    /// Whether masks hold calls to all of it.
    is_held: bool,
    /// Whether formats are to be checked: a note to JSON Schema, unless a mask was to hold them.
    checks_formats: bool,
    /// Made for the first call.
    validator: OnceLock<Option<Validator>>,
}

impl CallCheck {
    /// That of a tool, among those whose calls are not held to some keywords.
    pub(crate) fn new(tool: &CallTool, unmasked: &[Unmasked]) -> Self {
        let own = format!("/{}", escaped(&tool.name));
        let is_own =
            |at: &str| at.strip_prefix(&own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let unheld: Vec<&Unmasked> = unmasked.iter().filter(|unmasked| is_own(&unmasked.at)).collect();
        CallCheck {
            parameters: tool.parameters.clone(),
            is_held: unheld.is_empty(),
            checks_formats: unheld.iter().any(|unmasked| unmasked.keyword == "format"),
            validator: OnceLock::new(),
        }
    }

    /// Whether arguments are as they should be; `None` where masks saw to it, or there is nothing to tell it by.
    pub(crate) fn check(&self, arguments: &str) -> Option<Result<(), String>> {
        if self.parameters.as_ref().is_some_and(|parameters| parameters.len() > SOURCE_BYTES) {
            return Some(Err("its tool's schema is too large for a check".to_owned()));
        }
        let validator = self.validator.get_or_init(|| self.validator()).as_ref()?;
        let checked = schema::validate(validator, arguments);
        (!self.is_held || checked.is_err()).then_some(checked)
    }

    fn validator(&self) -> Option<Validator> {
        let schema: Value = match &self.parameters {
            Some(parameters) => Grammar::parse_schema(parameters).ok()?,
            None => json!({"type": "object", "additionalProperties": false}),
        };
        schema::validator(&schema, self.checks_formats).ok()
    }
}
