//! Checks that end. Definitions that refer to others twice each are looked at more often than there is time for, so a check has
//! so many looks at definitions and no more.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use jsonschema::{Keyword, ValidationError, Validator};
use serde_json::Value;

use super::references::References;
use crate::GrammarError;

/// Looks at definitions: a second of them.
const LOOKS: usize = 1_000_000;
/// A keyword of definitions that counts them.
const LOOK: &str = "x-glimmer-look";

thread_local! {
    static LEFT: Cell<usize> = const { Cell::new(0) };
}

/// Why a check is broken off.
struct Impatience;

struct Look;

impl<'i> Keyword<'i> for Look {
    fn validate(&self, instance: &'i Value) -> Result<(), ValidationError<'i>> {
        self.is_valid(instance);
        Ok(())
    }

    fn is_valid(&self, _: &'i Value) -> bool {
        match LEFT.get().checked_sub(1) {
            Some(left) => LEFT.set(left),
            None => resume_unwind(Box::new(Impatience)),
        }
        true
    }
}

/// Checks finished answers, in [`patiently`]; formats, too, where they are more than a note.
pub(crate) fn validator(schema: &Value, checks_formats: bool) -> Result<Validator, GrammarError> {
    let references = References::new(schema);
    let mut pointers = Vec::new();
    find_definitions(schema, &mut String::new(), &references, &mut pointers);
    let mut schema = schema.clone();
    for pointer in pointers {
        if let Some(Value::Object(definition)) = schema.pointer_mut(&pointer) {
            definition.insert(LOOK.to_owned(), true.into());
        }
    }
    let mut options = jsonschema::options().with_keyword(LOOK, |_, _, _| Ok(Box::new(Look)));
    if checks_formats {
        options = options.should_validate_formats(true);
    }
    options.build(&schema).map_err(|error| super::invalid(&error))
}

/// Has a check made; `None` where it takes too many looks.
pub(crate) fn patiently<T>(check: impl FnOnce() -> T) -> Option<T> {
    LEFT.set(LOOKS);
    match catch_unwind(AssertUnwindSafe(check)) {
        Ok(checked) => Some(checked),
        Err(reason) if reason.is::<Impatience>() => None,
        Err(fault) => resume_unwind(fault),
    }
}

/// Notes where the definitions are that a schema refers to.
fn find_definitions(schema: &Value, at: &mut String, references: &References<'_>, found: &mut Vec<String>) {
    let length = at.len();
    let mut within = |key: &str, value: &Value| {
        at.push('/');
        at.push_str(key);
        find_definitions(value, at, references, found);
        at.truncate(length);
    };
    match schema {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| within(&super::escaped(key), value)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(place, item)| within(&place.to_string(), item));
        }
        _ => {}
    }
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        found.extend(references.pointer(reference, at));
    }
}
