//! Keywords that llguidance does not know, in those that it knows.

use serde_json::{Map, Value, json};

use super::disjoint::{are_disjoint, equal, values};
use super::negation::{Scope, any_of, negation, with_shared};
use super::{Draft, Preparer, references};
use crate::GrammarError;

/// Properties on which others depend: each doubles what is to be compiled.
const DEPENDENCIES: usize = 4;
/// Ways in which options of a `oneOf` may exclude each other: each is compiled.
const BRANCHES: usize = 64;
/// Every type but `object`, to which what is asked of objects does not apply.
const OTHER_TYPES: [&str; 5] = ["array", "boolean", "null", "number", "string"];

/// The others of the types that something is asked of.
fn any_but_objects() -> Value {
    json!({"type": OTHER_TYPES})
}

impl Preparer<'_> {
    /// `oneOf` is `anyOf` where no two have a value in common, and otherwise that each excludes those that it overlaps.
    pub(super) fn one_of(&mut self, draft: &mut Draft<'_>, value: &Value) -> Result<(), GrammarError> {
        let options = value.as_array().map(Vec::as_slice).unwrap_or_default();
        let scope = Scope { at: draft.at, references: &self.references };
        // What holds for every option tells them apart as well.
        let whole = options.iter().map(|option| with_shared(scope.look(option), draft.schema));
        let whole: Vec<Value> = whole.collect();
        let excluded = exclusions(&whole, options, &scope);
        if excluded.is_none() {
            self.mark(draft, "oneOf");
        }
        let excluded = excluded.unwrap_or_else(|| vec![Vec::new(); options.len()]);
        let Value::Array(written) = self.list(draft, "oneOf", value)? else { return Ok(()) };
        let options = written.into_iter().zip(excluded).map(|(option, mut excluded)| {
            if excluded.is_empty() {
                return option;
            }
            excluded.insert(0, option);
            json!({"allOf": excluded})
        });
        draft.all.push(json!({"anyOf": options.collect::<Vec<_>>()}));
        Ok(())
    }

    /// `not` of types, of listed values beside a list, and of everything or nothing.
    pub(super) fn not(&mut self, draft: &mut Draft<'_>, value: &Value) -> Result<(), GrammarError> {
        if *value == Value::Bool(false) {
            return Ok(());
        }
        let Value::Object(not) = value else {
            draft.all.push(Value::Bool(false));
            return Ok(());
        };
        let lone = |keyword: &str| not.len() == 1 && not.contains_key(keyword);
        if not.is_empty() {
            draft.all.push(Value::Bool(false));
        } else if lone("type") && not["type"] != "integer" && !holds(&not["type"], "integer") {
            let others = ["array", "boolean", "null", "number", "object", "string"];
            let left: Vec<&str> = others
                .into_iter()
                .filter(|kind| not["type"] != *kind && !holds(&not["type"], kind))
                .collect();
            draft.all.push(if left.is_empty() { Value::Bool(false) } else { json!({"type": left}) });
        } else if (lone("const") || lone("enum"))
            && let (Some(allowed), Some(refused)) = (values(draft.schema), values(not))
        {
            draft.all.push(json!({"enum": without(&allowed, &refused)}));
        } else {
            let scope = Scope { at: draft.at, references: &self.references };
            let own = Value::Object(draft.schema.clone());
            match negation(value, &own, &scope).filter(|others| others.len() <= BRANCHES) {
                Some(others) => draft.all.push(any_of(others)),
                None => self.mark(draft, "not"),
            }
        }
        Ok(())
    }

    /// `if` a property has some of the values that are listed for it, `then`, `else`.
    pub(super) fn condition(&mut self, draft: &mut Draft<'_>, value: &Value) -> Result<(), GrammarError> {
        let branches = ["then", "else"].map(|keyword| draft.schema.get(keyword));
        if branches == [None, None] {
            return Ok(());
        }
        if let Value::Bool(holds) = value {
            let keyword = if *holds { "then" } else { "else" };
            if let Some(schema) = draft.schema.get(keyword) {
                let schema = self.within(draft, keyword, schema)?;
                draft.all.push(schema);
            }
            return Ok(());
        }
        let is_objects = draft.schema.get("type").is_some_and(|kind| kind == "object");
        let Some(case) = Case::read(draft.schema, value).filter(|_| is_objects) else {
            self.mark(draft, "if");
            return Ok(());
        };
        // Each branch is referred to, so that none is written twice.
        let mut branch = |keyword: &str| match draft.schema.get(keyword) {
            Some(_) => {
                let pointer = format!("{}/{keyword}", draft.at);
                json!({"$ref": self.references.definition(pointer)})
            }
            None => Value::Bool(true),
        };
        let (then, other) = (branch("then"), branch("else"));
        let key = case.key;
        let has = |values: Vec<Value>, also: &Value| {
            let own = json!({"properties": {key: {"enum": values}}, "required": [key]});
            json!({"allOf": [own, also]})
        };
        let lacks = json!({"properties": {key: false}});
        let absent = json!({"allOf": [lacks, if case.needs_key { &other } else { &then }]});
        let options = [
            (!case.inside.is_empty()).then(|| has(case.inside, &then)),
            (!case.outside.is_empty()).then(|| has(case.outside, &other)),
            Some(absent),
        ];
        let options: Vec<Value> = options.into_iter().flatten().collect();
        draft.all.push(json!({"anyOf": options}));
        Ok(())
    }

    /// Where a property is there, others must be, or a schema holds.
    pub(super) fn dependencies(
        &mut self,
        draft: &mut Draft<'_>,
        keyword: &str,
        value: &Value,
    ) -> Result<(), GrammarError> {
        let entries = value.as_object().into_iter().flatten();
        for (i, (key, needs)) in entries.enumerate() {
            if i == DEPENDENCIES {
                self.mark(draft, keyword);
                break;
            }
            let with_key = match needs {
                Value::Array(needs) => {
                    let mut required = vec![Value::from(key.as_str())];
                    required.extend(needs.iter().filter(|need| *need != key.as_str()).cloned());
                    json!({"required": required})
                }
                _ => {
                    let pointer = format!("{}/{keyword}/{}", draft.at, references::escaped(key));
                    let schema = json!({"$ref": self.references.definition(pointer)});
                    json!({"allOf": [{"required": [key]}, schema]})
                }
            };
            let mut with_key = with_key;
            with_key["type"] = "object".into();
            let without = json!({"type": "object", "properties": {key: false}});
            draft.all.push(json!({"anyOf": [without, with_key, any_but_objects()]}));
        }
        Ok(())
    }

    /// Names that a pattern or a list describes; of those that the schema has itself, the ones that fit.
    pub(super) fn property_names(
        &mut self,
        draft: &mut Draft<'_>,
        value: &Value,
    ) -> Result<(), GrammarError> {
        if *value == Value::Bool(true) {
            return Ok(());
        }
        let names = value.as_object();
        let only = |keywords: &[&str]| {
            names.is_some_and(|names| {
                names.keys().all(|key| key == "type" || keywords.contains(&key.as_str()))
            })
        };
        let has = |keyword: &str| draft.schema.contains_key(keyword);
        let is_free = !["patternProperties", "properties", "additionalProperties"].into_iter().any(has);
        let fits = |name: &str| jsonschema::is_valid(value, &Value::from(name));
        let rewritten = if *value == Value::Bool(false) {
            json!({"properties": {}, "additionalProperties": false})
        } else if let Some(listed) = names.and_then(values).filter(|_| is_free) {
            let listed = listed.into_iter().filter_map(Value::as_str).filter(|name| fits(name));
            let properties: Map<String, Value> =
                listed.map(|name| (name.to_owned(), Value::Bool(true))).collect();
            json!({"properties": properties, "additionalProperties": false})
        } else if let Some(pattern) = names.and_then(|n| n.get("pattern")).filter(|p| super::is_understood(p))
            && only(&["pattern"])
            && is_free
            && let Some(pattern) = pattern.as_str()
        {
            json!({"patternProperties": {pattern: true}, "additionalProperties": false})
        } else {
            self.mark(draft, "propertyNames");
            return Ok(());
        };
        let mut rewritten = rewritten;
        rewritten["type"] = "object".into();
        draft.all.push(json!({"anyOf": [rewritten, any_but_objects()]}));
        Ok(())
    }

    /// What no part of the schema has looked at, where there is but one part.
    pub(super) fn unevaluated(
        &mut self,
        draft: &mut Draft<'_>,
        keyword: &str,
        value: &Value,
    ) -> Result<(), GrammarError> {
        const PARTS: [&str; 10] = [
            "$ref",
            "$dynamicRef",
            "allOf",
            "anyOf",
            "contains",
            "dependentSchemas",
            "if",
            "not",
            "oneOf",
            "$recursiveRef",
        ];
        if *value == Value::Bool(true) {
            return Ok(());
        }
        let own = if keyword == "unevaluatedItems" { "items" } else { "additionalProperties" };
        if PARTS.iter().any(|part| draft.schema.contains_key(*part)) {
            self.mark(draft, keyword);
        } else if !draft.schema.contains_key(own) {
            let schema = self.within(draft, keyword, value)?;
            draft.out.insert(own.to_owned(), schema);
        }
        Ok(())
    }

    /// How many properties there are, where the schema's own ones are all required or at most one is wanted. Answers may
    /// have a name twice, so that more than one of unknown names cannot be counted on.
    pub(super) fn count(
        &mut self,
        draft: &mut Draft<'_>,
        keyword: &str,
        value: &Value,
    ) -> Result<(), GrammarError> {
        let schema = draft.schema;
        let list =
            |key: &str| schema.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let required = list("required");
        let own = schema.get("properties").and_then(Value::as_object);
        let is_optional = |name: &&String| !required.iter().any(|key| key == name.as_str());
        let optional = own.map_or(0, |own| own.keys().filter(is_optional).count());
        let is_closed = schema.get("additionalProperties") == Some(&Value::Bool(false))
            && !schema.contains_key("patternProperties");
        let limit = |key: &str| schema.get(key).and_then(Value::as_f64);
        let least = limit("minProperties").unwrap_or(0.0) - required.len() as f64;
        let most = limit("maxProperties").map(|most| most - required.len() as f64);
        let is_one = is_closed && least <= 1.0 && most.is_none_or(|most| most == 1.0);
        let is_sure = keyword == "maxProperties" || least <= 1.0 || is_closed;
        if (optional == 0 || is_one) && is_sure {
            draft.out.insert(keyword.to_owned(), super::whole(value));
        } else {
            self.mark(draft, keyword);
        }
        Ok(())
    }
}

/// What each of a `oneOf`'s options must be beside itself, that no other holds: nothing where they have no value in common.
/// `whole` is the same with what holds for all. `None` where it cannot be said, or only in too many ways.
fn exclusions(whole: &[Value], options: &[Value], scope: &Scope<'_, '_>) -> Option<Vec<Vec<Value>>> {
    let mut excluded = vec![Vec::new(); options.len()];
    let mut ways = vec![1_usize; options.len()];
    let mut overlaps = 0;
    for i in 1..options.len() {
        for j in 0..i {
            if are_disjoint(&whole[i], &whole[j], scope.at, scope.references) {
                continue;
            }
            overlaps += 1;
            for (one, other) in [(i, j), (j, i)] {
                let others = negation(&options[other], &whole[one], scope)?;
                ways[one] = ways[one].saturating_mul(others.len());
                excluded[one].push(any_of(others));
            }
            if overlaps > BRANCHES {
                return None;
            }
        }
    }
    let branches = ways.iter().zip(&excluded).filter(|(_, excluded)| !excluded.is_empty());
    let branches = branches.fold(0_usize, |sum, (ways, _)| sum.saturating_add(*ways));
    (branches <= BRANCHES).then_some(excluded)
}

/// A condition on a property whose values are listed.
struct Case<'a> {
    key: &'a str,
    /// Of the listed values, those that the condition has, and the others.
    inside: Vec<Value>,
    outside: Vec<Value>,
    /// Whether the condition asks for the property to be there.
    needs_key: bool,
}

impl<'a> Case<'a> {
    /// `{"properties": {KEY: {"const" or "enum": ..}}, "required": [KEY]}` in a schema that lists KEY's values.
    fn read(schema: &Map<String, Value>, condition: &'a Value) -> Option<Self> {
        let condition = condition.as_object()?;
        if !condition.keys().all(|keyword| ["properties", "required", "type"].contains(&keyword.as_str())) {
            return None;
        }
        let is_objects = condition.get("type").is_none_or(|kind| kind == "object");
        let properties = condition.get("properties")?.as_object()?;
        let (key, wanted) = properties.iter().next().filter(|_| properties.len() == 1 && is_objects)?;
        let wanted = wanted.as_object()?;
        let only = |keyword: &String| ["const", "enum", "type"].contains(&keyword.as_str());
        let wanted = values(wanted).filter(|_| wanted.keys().all(only) && wanted.len() == 1)?;
        let needs_key = match condition.get("required") {
            None => false,
            Some(required) if *required == json!([key]) => true,
            Some(_) => return None,
        };
        let listed = values(schema.get("properties")?.get(key)?.as_object()?)?;
        let (inside, outside): (Vec<&Value>, Vec<&Value>) =
            listed.into_iter().partition(|value| wanted.iter().any(|other| equal(value, other)));
        let owned = |values: Vec<&Value>| values.into_iter().cloned().collect();
        Some(Case { key, inside: owned(inside), outside: owned(outside), needs_key })
    }
}

/// Whether a list of types has one.
fn holds(types: &Value, kind: &str) -> bool {
    types.as_array().is_some_and(|types| types.iter().any(|other| other == kind))
}

fn without(allowed: &[&Value], refused: &[&Value]) -> Vec<Value> {
    let stays = |value: &&&Value| !refused.iter().any(|other| equal(value, other));
    allowed.iter().filter(stays).map(|value| (*value).clone()).collect()
}
