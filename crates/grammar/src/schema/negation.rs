//! What does not satisfy a schema, as schemas, where it is known what else holds.

use serde_json::{Map, Value, json};

use super::disjoint::{are_disjoint, equal, types, values};
use super::references::References;

/// How far schemas are looked into.
const DEPTH: usize = 8;
/// Where schemas stand, and what they refer to.
pub(super) struct Scope<'a, 's> {
    /// The JSON pointer of the schema that they are in.
    pub(super) at: &'a str,
    /// Its references.
    pub(super) references: &'a References<'s>,
}

impl Scope<'_, '_> {
    fn are_disjoint(&self, a: &Value, b: &Value) -> bool {
        are_disjoint(a, b, self.at, self.references)
    }

    /// What a schema that is but a reference refers to.
    pub(super) fn look<'v>(&self, mut schema: &'v Value) -> &'v Value
    where
        Self: 'v,
    {
        for _ in 0..DEPTH {
            let asks = schema.as_object().filter(|fields| asked(fields).count() == 1);
            let to = asks.and_then(|fields| fields.get("$ref")).and_then(Value::as_str);
            match to.and_then(|to| self.references.look(to, self.at)) {
                Some(target) => schema = target,
                None => break,
            }
        }
        schema
    }
}

/// The keywords of a schema that ask for something.
fn asked(fields: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    fields.iter().filter(|(keyword, _)| !super::is_note(keyword))
}

/// An option, with what the schema around it says of types and of properties that must be there.
pub(super) fn with_shared(option: &Value, around: &Map<String, Value>) -> Value {
    let (Some(required), Value::Object(own)) = (around.get("required"), option) else {
        return with_type(option, around);
    };
    let mut whole = own.clone();
    let mut names = own.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    names.extend(required.as_array().into_iter().flatten().cloned());
    whole.insert("required".to_owned(), names.into());
    with_type(&whole.into(), around)
}

fn with_type(option: &Value, around: &Map<String, Value>) -> Value {
    let mut whole = option.clone();
    if let (Some(kind), Value::Object(fields)) = (around.get("type"), &mut whole) {
        fields.entry("type").or_insert_with(|| kind.clone());
    }
    whole
}

/// One of some schemas.
pub(super) fn any_of(mut schemas: Vec<Value>) -> Value {
    match schemas.len() {
        0 => Value::Bool(false),
        1 => schemas.remove(0),
        _ => json!({"anyOf": schemas}),
    }
}

/// Schemas of which a value that satisfies `given` satisfies one exactly if it does not satisfy `schema`. `None` where
/// that cannot be said in the keywords that masks know.
pub(super) fn negation(schema: &Value, given: &Value, scope: &Scope<'_, '_>) -> Option<Vec<Value>> {
    refused(schema, given, scope, 0)
}

fn refused(schema: &Value, given: &Value, scope: &Scope<'_, '_>, depth: usize) -> Option<Vec<Value>> {
    let (schema, given) = (scope.look(schema), scope.look(given));
    if depth > DEPTH || !scope.references.may_compare(1) {
        return None;
    }
    if equal(schema, given) {
        return Some(Vec::new());
    }
    if scope.are_disjoint(schema, given) {
        return Some(vec![Value::Bool(true)]);
    }
    let Value::Object(fields) = schema else {
        return Some(if *schema == Value::Bool(false) { vec![Value::Bool(true)] } else { Vec::new() });
    };
    let anything = Map::new();
    let known = given.as_object().unwrap_or(&anything);
    let mut ways = Vec::new();
    for (keyword, value) in asked(fields) {
        match keyword.as_str() {
            "type" => ways.extend(other_types(fields, value, known)?),
            "required" => ways.extend(lacking(value, known)),
            "properties" => ways.extend(other_properties(value, known, scope, depth)?),
            "additionalProperties" => ways.extend(further_properties(fields, value, known)?),
            "items" => ways.push(other_items(value, known, scope)?),
            "allOf" => {
                for part in value.as_array()? {
                    ways.extend(refused(part, given, scope, depth + 1)?);
                }
            }
            "minLength" => {
                let most = value.as_u64()?.checked_sub(1);
                ways.extend(most.map(|most| json!({"type": "string", "maxLength": most})));
            }
            "maxLength" => ways.push(json!({"type": "string", "minLength": value.as_u64()?.checked_add(1)?})),
            "const" | "enum" => {
                let (own, listed) = (values(fields)?, values(known)?);
                let left = listed.into_iter().filter(|value| !own.iter().any(|other| equal(value, other)));
                let left: Vec<Value> = left.cloned().collect();
                if !left.is_empty() {
                    ways.push(json!({"enum": left}));
                }
            }
            "format" if !super::has_format(value) => {}
            _ => return None,
        }
    }
    Some(ways)
}

/// Another type: whole numbers are not told from others.
fn other_types(fields: &Map<String, Value>, named: &Value, known: &Map<String, Value>) -> Option<Vec<Value>> {
    let own = types(fields);
    let has = |kind: &str| named == kind || named.as_array().is_some_and(|all| all.iter().any(|k| k == kind));
    let possible = types(known);
    if has("integer") && !has("number") && possible.contains(&"number") {
        let whole = known.get("type").is_some_and(|kind| kind == "integer");
        whole.then_some(())?;
    }
    let left: Vec<&str> = possible.into_iter().filter(|kind| !own.contains(kind)).collect();
    Some(if left.is_empty() { Vec::new() } else { vec![json!({"type": left})] })
}

/// A property that must be there and is not.
fn lacking(required: &Value, known: &Map<String, Value>) -> Vec<Value> {
    let names = |value: &Value| -> Vec<String> {
        let all = value.as_array().into_iter().flatten();
        all.filter_map(|name| name.as_str().map(str::to_owned)).collect()
    };
    let sure = known.get("required").map(names).unwrap_or_default();
    let unsure = names(required).into_iter().filter(|name| !sure.contains(name));
    unsure.map(|name| json!({"type": "object", "properties": {name: false}})).collect()
}

/// A property that is not as it must be.
fn other_properties(
    properties: &Value,
    known: &Map<String, Value>,
    scope: &Scope<'_, '_>,
    depth: usize,
) -> Option<Vec<Value>> {
    let mut ways = Vec::new();
    for (name, wanted) in properties.as_object()? {
        let given = match known.get("properties").and_then(|own| own.get(name)) {
            Some(given) => given,
            None if is_closed(known) => continue,
            None => &Value::Bool(true),
        };
        for way in refused(wanted, given, scope, depth + 1)? {
            ways.push(json!({"type": "object", "properties": {name: way}, "required": [name]}));
        }
    }
    Some(ways)
}

/// A property that is not listed, where all that there may be are known.
fn further_properties(
    fields: &Map<String, Value>,
    value: &Value,
    known: &Map<String, Value>,
) -> Option<Vec<Value>> {
    if *value == Value::Bool(true) {
        return Some(Vec::new());
    }
    (is_closed(fields) && is_closed(known)).then_some(())?;
    let own = fields.get("properties").and_then(Value::as_object);
    let others = known.get("properties").and_then(Value::as_object).into_iter().flatten();
    let others = others.filter(|(name, _)| own.is_none_or(|own| !own.contains_key(*name)));
    Some(others.map(|(name, _)| json!({"type": "object", "required": [name]})).collect())
}

/// Whether an object has no other properties than those that are listed.
fn is_closed(fields: &Map<String, Value>) -> bool {
    fields.get("additionalProperties") == Some(&Value::Bool(false))
        && !fields.contains_key("patternProperties")
}

/// An item that is not as all must be, where none can be.
fn other_items(wanted: &Value, known: &Map<String, Value>, scope: &Scope<'_, '_>) -> Option<Value> {
    let given = known.get("items").filter(|given| !given.is_array())?;
    let is_plain = !known.contains_key("prefixItems") && !wanted.is_array();
    (is_plain && scope.are_disjoint(scope.look(wanted), scope.look(given))).then_some(())?;
    Some(json!({"type": "array", "minItems": 1}))
}
