//! Whether no value satisfies two schemas: then one of them is any of them.

use serde_json::{Map, Value};

use super::references::References;

/// How far schemas are looked into.
const DEPTH: usize = 8;
const TYPES: [&str; 6] = ["array", "boolean", "null", "number", "object", "string"];

/// Whether two schemas at a pointer are known to have no value in common.
pub(super) fn are_disjoint(a: &Value, b: &Value, at: &str, references: &References<'_>) -> bool {
    disjoint(a, b, at, references, 0)
}

fn disjoint(a: &Value, b: &Value, at: &str, references: &References<'_>, depth: usize) -> bool {
    if !references.may_compare(1) || depth > DEPTH {
        return false;
    }
    for (one, other) in [(a, b), (b, a)] {
        if *one == Value::Bool(false) {
            return true;
        }
        // All that a schema names it asks for, and `$ref` and `allOf` are parts of it.
        let parts = one.get("allOf").and_then(Value::as_array).into_iter().flatten();
        let target = one.get("$ref").and_then(Value::as_str).and_then(|to| references.look(to, at));
        if parts.chain(target).any(|part| disjoint(part, other, at, references, depth + 1)) {
            return true;
        }
        let options = one.get("anyOf").or_else(|| one.get("oneOf")).and_then(Value::as_array);
        if options
            .is_some_and(|all| all.iter().all(|option| disjoint(option, other, at, references, depth + 1)))
        {
            return true;
        }
    }
    let (Value::Object(a), Value::Object(b)) = (a, b) else { return false };
    if let (Some(a), Some(b)) = (values(a), values(b)) {
        let may_compare = references.may_compare(a.len() * b.len());
        return may_compare && !a.iter().any(|value| b.iter().any(|other| equal(value, other)));
    }
    let (of_a, of_b) = (types(a), types(b));
    if !of_a.iter().any(|kind| of_b.contains(kind)) {
        return true;
    }
    of_a == ["object"] && of_b == ["object"] && by_property(a, b, at, references, depth)
}

/// Whether a property tells objects apart.
fn by_property(
    a: &Map<String, Value>,
    b: &Map<String, Value>,
    at: &str,
    references: &References<'_>,
    depth: usize,
) -> bool {
    let property = |schema: &Map<String, Value>, key: &str| {
        let own = schema.get("properties").and_then(|all| all.get(key)).cloned();
        let others = || {
            if schema.contains_key("patternProperties") {
                None
            } else {
                schema.get("additionalProperties").cloned()
            }
        };
        own.or_else(others).unwrap_or(Value::Bool(true))
    };
    let required = |schema: &Map<String, Value>| {
        let list = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
        list.into_iter().filter_map(|key| key.as_str().map(str::to_owned))
    };
    required(a)
        .chain(required(b))
        .any(|key| disjoint(&property(a, &key), &property(b, &key), at, references, depth + 1))
}

/// The values that a schema lists.
pub(super) fn values(schema: &Map<String, Value>) -> Option<Vec<&Value>> {
    match (schema.get("const"), schema.get("enum")) {
        (Some(value), _) => Some(vec![value]),
        (None, Some(Value::Array(values))) => Some(values.iter().collect()),
        _ => None,
    }
}

/// The types that a schema allows, in order; whole numbers are numbers.
pub(super) fn types(schema: &Map<String, Value>) -> Vec<&'static str> {
    let of = |value: &Value| TYPES.into_iter().find(|kind| *kind == kind_of(value));
    if let Some(values) = values(schema) {
        return TYPES.into_iter().filter(|kind| values.iter().any(|v| of(v) == Some(*kind))).collect();
    }
    let named = |kind: &str, name: &Value| name == kind || (kind == "number" && name == "integer");
    match schema.get("type") {
        None => TYPES.to_vec(),
        Some(Value::Array(names)) => {
            TYPES.into_iter().filter(|kind| names.iter().any(|name| named(kind, name))).collect()
        }
        Some(name) => TYPES.into_iter().filter(|kind| named(kind, name)).collect(),
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Whether two values are the same to JSON Schema: 1 is 1.0.
pub(super) fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        _ => a == b,
    }
}
