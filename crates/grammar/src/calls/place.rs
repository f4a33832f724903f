//! A schema within the schema of a tool's arguments.

use serde_json::{Map, Value};

use crate::schema;

/// References that lead from one to the next.
const STEPS: usize = 16;

/// The place of a schema that allows anything.
const ANY_AT: &str = "*";

static ANYTHING: Value = Value::Bool(true);

/// What a schema may be one of.
pub(super) struct Alternatives<'s> {
    pub(super) options: Vec<Place<'s>>,
    /// Whether a value of several of them is allowed, or there is none.
    pub(super) are_apart: bool,
}

/// A schema, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Place<'s> {
    /// The schema that it is in.
    pub(super) root: &'s Value,
    pub(super) schema: &'s Value,
    /// Its JSON pointer.
    pub(super) at: String,
    /// Schemas around it.
    pub(super) depth: usize,
}

impl<'s> Place<'s> {
    /// The schema of a tool's arguments itself.
    pub(super) fn root(root: &'s Value) -> Self {
        Place { root, schema: root, at: String::new(), depth: 0 }.referred()
    }

    /// A schema within it.
    pub(super) fn within(&self, pointer: &str, schema: &'s Value) -> Self {
        Place { schema, at: format!("{}/{pointer}", self.at), depth: self.depth + 1, ..*self }
    }

    /// What allows anything, instead of it.
    pub(super) fn anything(&self) -> Self {
        Place { schema: &ANYTHING, at: ANY_AT.to_owned(), ..*self }
    }

    /// What it refers to in the end, if nothing beside a reference asks for something.
    pub(super) fn referred(mut self) -> Self {
        for _ in 0..STEPS {
            let Some(fields) = self.schema.as_object() else { break };
            let lone = |keyword: &str| is_lone(fields, keyword).then(|| &fields[keyword]);
            if let Some(pointer) =
                lone("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix('#'))
                && let Some(schema) = self.root.pointer(pointer)
            {
                (self.schema, self.at) = (schema, pointer.to_owned());
            } else if let Some([schema]) = lone("allOf").and_then(Value::as_array).map(Vec::as_slice) {
                self = self.within("allOf/0", schema);
            } else {
                break;
            }
        }
        self
    }

    /// Its alternatives, if it is nothing else.
    pub(super) fn alternatives(&self) -> Option<Alternatives<'s>> {
        let fields = self.schema.as_object()?;
        let keyword = ["anyOf", "oneOf"].into_iter().find(|keyword| is_lone(fields, keyword))?;
        let schemas = fields[keyword].as_array()?;
        let options = schemas.iter().enumerate();
        let options = options.map(|(at, option)| self.within(&format!("{keyword}/{at}"), option));
        let are_apart = keyword == "anyOf" || schema::are_apart(self.root, schemas, &self.at);
        Some(Alternatives { options: options.collect(), are_apart })
    }

    /// The values that it lists, and allows.
    pub(super) fn listed(&self) -> Option<Vec<&'s Value>> {
        let listed: Vec<&Value> = match (self.schema.get("enum"), self.schema.get("const")) {
            (Some(Value::Array(values)), _) => values.iter().collect(),
            (_, Some(value)) => vec![value],
            _ => return None,
        };
        // One that refers elsewhere is not asked.
        let Ok(allows) = schema::validator(self.schema, false) else { return Some(listed) };
        schema::patiently(|| listed.into_iter().filter(|value| allows.is_valid(value)).collect())
    }

    /// The names of its types.
    pub(super) fn types(&self) -> Vec<&'s str> {
        match self.schema.get("type") {
            Some(Value::Array(types)) => types.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(name)) => vec![name],
            _ => Vec::new(),
        }
    }
}

/// Whether a keyword is all that a schema asks.
fn is_lone(fields: &Map<String, Value>, keyword: &str) -> bool {
    fields.contains_key(keyword) && fields.keys().all(|other| other == keyword || schema::is_note(other))
}
