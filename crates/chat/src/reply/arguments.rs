//! What the request's tools say of a call's arguments.

use crate::python;
use serde_json::Value;
use std::collections::HashMap;

/// What the text of an argument is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// A string as it stands.
    Text,
    /// JSON.
    Json,
    /// Unsaid: JSON if it reads as such.
    Unknown,
}

/// An argument as its schema has it.
#[derive(Clone, Copy, Debug)]
struct Argument {
    kind: Kind,
    /// Whether it may be `null`.
    is_nullable: bool,
}

/// The names of the tools and what their arguments are.
#[derive(Debug, Default)]
pub(super) struct Tools {
    arguments: HashMap<String, HashMap<String, Argument>>,
}

impl Tools {
    pub(super) fn new(tools: &[Value]) -> Tools {
        let mut arguments = HashMap::new();
        for tool in tools {
            let function = tool.get("function").unwrap_or(tool);
            let builtin = tool.get("type").and_then(Value::as_str).filter(|kind| *kind != "function");
            let Some(name) = function.get("name").and_then(Value::as_str).or(builtin) else { continue };
            let name = if name == "code_interpreter" { "interpreter" } else { name };
            let parameters = &function["parameters"];
            let properties = parameters["properties"].as_object().into_iter().flatten();
            let of_tool = properties.map(|(key, schema)| {
                let kind = kind_of(schema, parameters, 0);
                (key.clone(), Argument { kind, is_nullable: is_nullable(schema, parameters) })
            });
            arguments.insert(name.to_owned(), of_tool.collect());
        }
        Tools { arguments }
    }

    pub(super) fn add_names(&mut self, names: &[&str]) {
        for name in names {
            self.arguments.entry((*name).to_owned()).or_default();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.arguments.is_empty()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.arguments.contains_key(name)
    }

    /// Whether some tool's name begins like this.
    pub(super) fn any_starts_with(&self, beginning: &str) -> bool {
        self.arguments.keys().any(|name| name.starts_with(beginning))
    }

    pub(super) fn kind(&self, tool: &str, argument: &str) -> Kind {
        self.argument(tool, argument).map_or(Kind::Unknown, |argument| argument.kind)
    }

    /// Whether `null` is not the text, but the absence of one.
    pub(super) fn is_nullable(&self, tool: &str, argument: &str) -> bool {
        self.argument(tool, argument).is_some_and(|argument| argument.is_nullable)
    }

    fn argument(&self, tool: &str, argument: &str) -> Option<&Argument> {
        self.arguments.get(tool)?.get(argument)
    }
}

/// What a schema within another refers to in the end, by `$ref` or as the only part of `allOf`.
fn referred<'s>(mut schema: &'s Value, root: &'s Value) -> &'s Value {
    const STEPS: usize = 16;
    for _ in 0..STEPS {
        let reference = schema.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix('#'));
        schema = match (reference.and_then(|pointer| root.pointer(pointer)), schema.get("allOf")) {
            (Some(target), _) => target,
            (None, Some(Value::Array(parts))) if parts.len() == 1 && schema.get("type").is_none() => {
                &parts[0]
            }
            _ => break,
        };
    }
    schema
}

/// Whether a schema within another lists `null` among its types or its alternatives.
fn is_nullable(schema: &Value, root: &Value) -> bool {
    let schema = referred(schema, root);
    let has = |list: &str, is_null: fn(&Value) -> bool| {
        schema.get(list).and_then(Value::as_array).is_some_and(|list| list.iter().any(is_null))
    };
    has("type", |name| name == "null")
        || has("anyOf", |option| option["type"] == "null")
        || has("oneOf", |option| option["type"] == "null")
        || has("enum", Value::is_null)
}

/// Whether an argument of this schema, which stands within that of all arguments, is a text as it stands where calls are in
/// tags; otherwise it is JSON.
pub fn stands_raw(schema: &Value, parameters: &Value) -> bool {
    kind_of(schema, parameters, 0) == Kind::Text
}

/// The kind that a JSON schema within another asks for.
fn kind_of(schema: &Value, root: &Value, depth: usize) -> Kind {
    if depth > 8 {
        return Kind::Unknown;
    }
    let schema = referred(schema, root);
    let of_type = |name: &Value| match name.as_str() {
        Some("string") => Kind::Text,
        _ => Kind::Json,
    };
    let not_null = |name: &&Value| name.as_str() != Some("null");
    match schema.get("type") {
        Some(Value::Array(names)) => return agreed(names.iter().filter(not_null).map(of_type)),
        Some(name @ Value::String(_)) => return of_type(name),
        _ => {}
    }
    if let Some(Value::Array(options)) = schema.get("anyOf").or_else(|| schema.get("oneOf")) {
        let not_null =
            options.iter().filter(|option| option.get("type").and_then(Value::as_str) != Some("null"));
        return agreed(not_null.map(|option| kind_of(option, root, depth + 1)));
    }
    let values = match (schema.get("enum"), schema.get("const")) {
        (Some(Value::Array(values)), _) => values.as_slice(),
        (_, Some(value)) => std::slice::from_ref(value),
        _ => &[],
    };
    let not_null = values.iter().filter(|value| !value.is_null());
    agreed(not_null.map(|value| if value.is_string() { Kind::Text } else { Kind::Json }))
}

/// The kind that all of these are.
fn agreed(mut kinds: impl Iterator<Item = Kind>) -> Kind {
    let Some(first) = kinds.next() else { return Kind::Unknown };
    if kinds.all(|kind| kind == first) { first } else { Kind::Unknown }
}

/// An argument's text as JSON: itself if it is JSON, and a string if it is not or is to be one.
pub(super) fn to_json(text: &str, kind: Kind) -> String {
    let trimmed = python::strip(text);
    if kind != Kind::Text {
        if serde_json::from_str::<Value>(trimmed).is_ok() {
            return trimmed.to_owned();
        }
        match (kind, trimmed) {
            (Kind::Json, "True") => return "true".to_owned(),
            (Kind::Json, "False") => return "false".to_owned(),
            (Kind::Json, "None") => return "null".to_owned(),
            _ => {}
        }
    }
    python::dumps(&Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn schemas_tell_strings_from_the_rest() {
        let root = json!({"$defs": {"colour": {"enum": ["red", "blue"]}, "self": {"$ref": "#/$defs/self"}}});
        for (schema, kind) in [
            (json!({"type": "string"}), Kind::Text),
            (json!({"type": "integer"}), Kind::Json),
            (json!({"type": ["string", "null"]}), Kind::Text),
            (json!({"type": ["string", "integer"]}), Kind::Unknown),
            (json!({"anyOf": [{"type": "string"}, {"type": "null"}]}), Kind::Text),
            (json!({"anyOf": [{"type": "object"}, {"type": "array"}]}), Kind::Json),
            (json!({"enum": ["a", "b"]}), Kind::Text),
            (json!({"const": 1}), Kind::Json),
            (json!({}), Kind::Unknown),
            (json!(true), Kind::Unknown),
            (json!({"$ref": "#/$defs/colour"}), Kind::Text),
            (json!({"allOf": [{"$ref": "#/$defs/colour"}], "default": "red"}), Kind::Text),
            (json!({"anyOf": [{"$ref": "#/$defs/colour"}, {"type": "null"}]}), Kind::Text),
            (json!({"$ref": "#/$defs/self"}), Kind::Unknown),
            (json!({"$ref": "#/$defs/none"}), Kind::Unknown),
        ] {
            assert_eq!(kind_of(&schema, &root, 0), kind, "{schema}");
        }
    }

    #[test]
    fn values_become_json() {
        assert_eq!(to_json("3", Kind::Text), "\"3\"");
        assert_eq!(to_json(" 3\n", Kind::Unknown), "3");
        assert_eq!(to_json("[1, {\"a\": null}]", Kind::Json), "[1, {\"a\": null}]");
        assert_eq!(to_json("北京", Kind::Unknown), "\"北京\"");
        assert_eq!(to_json("007", Kind::Json), "\"007\"");
        assert_eq!(to_json("True", Kind::Json), "true");
        assert_eq!(to_json("True", Kind::Unknown), "\"True\"");
        let deep = "[".repeat(100_000);
        assert!(to_json(&deep, Kind::Json).starts_with("\"[["));
    }
}
