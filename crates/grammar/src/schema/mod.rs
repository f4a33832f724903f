//! JSON schemas, written anew in the keywords that llguidance's compiler keeps to.
//!
//! Drafts differ in words, and differences end here: what comes out is 2020-12 whose references all lead to `$defs`.
//! A keyword that llguidance does not know is rewritten where that is exact (`rewrite`); where it is not, it is left out
//! and named, so that the finished answer is checked against the schema as it was.

mod disjoint;
mod negation;
mod numbers;
mod patience;
mod references;
mod rewrite;

use std::collections::BTreeMap;

use glimmer_config::json as trees;
use llguidance::api::TopLevelGrammar;
use llguidance::derivre::{RegexAst, RegexBuilder};
use serde_json::{Map, Value, json};

use crate::GrammarError;
use crate::error::first_line;
use negation::Scope;
pub(crate) use patience::{patiently, validator};
use references::References;
pub(crate) use references::escaped;

/// Schemas within a schema, as they are written anew.
const NODES: usize = 20_000;
/// Schemas within each other.
const DEPTH: usize = 64;
/// White space between two tokens of JSON: a blank, or a new line and its indent. An answer is not to go on with nothing else.
const WHITE_SPACE: &str = r"\x20|\r?\n(?:\x20{0,32}|\t{0,8})";
/// What may follow a backslash in a string: all that JSON has, and all but a character's number.
const ALL_ESCAPES: &str = "nrbtf\\\"u";
const ESCAPES: &str = "nrbtf\\\"";
/// Whole numbers up to this are exact in a double.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Keywords that ask something of a text, beside its length and lists of texts.
pub(crate) const ASKS_OF_TEXTS: [&str; 9] =
    ["pattern", "format", "not", "if", "allOf", "anyOf", "oneOf", "$ref", "$dynamicRef"];
/// Keywords that ask something of a number.
pub(crate) const ASKS_OF_NUMBERS: [&str; 5] =
    ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"];
/// Keywords that ask something of an object beside what its properties are.
pub(crate) const ASKS_OF_OBJECTS: [&str; 14] = [
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "minProperties",
    "maxProperties",
    "patternProperties",
    "propertyNames",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
    "unevaluatedProperties",
    "$dynamicRef",
];

/// A keyword that masks do not hold an answer to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmasked {
    /// The keyword, or why some of them together are too much.
    pub keyword: String,
    /// Where the schema that has it stands, as a JSON pointer.
    pub at: String,
}

/// A schema written anew.
#[derive(Debug)]
pub(crate) struct Prepared {
    schema: Value,
    pub(crate) unmasked: Vec<Unmasked>,
}

impl Prepared {
    /// For llguidance; if it is `lenient`, it leaves out what it finds it cannot do.
    pub(crate) fn grammar(&self, lenient: bool) -> TopLevelGrammar {
        TopLevelGrammar::from_json_schema(self.written(lenient))
    }

    /// The same as a part of another grammar.
    pub(crate) fn written(&self, lenient: bool) -> Value {
        let mut schema = match &self.schema {
            Value::Object(_) => self.schema.clone(),
            Value::Bool(false) => json!({"enum": []}),
            _ => json!({}),
        };
        // A name that is spelt with escapes is not known for one of `properties`.
        let escapes = if has_further_names(&schema) { ESCAPES } else { ALL_ESCAPES };
        schema["x-guidance"] = json!({
            "whitespace_pattern": WHITE_SPACE, "lenient": lenient, "json_allowed_escapes": escapes,
        });
        schema
    }
}

/// Whether an object in a schema has names that it lists, and may have others.
fn has_further_names(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => {
            let lists =
                fields.get("properties").and_then(Value::as_object).is_some_and(|names| !names.is_empty());
            let is_closed = fields.get("additionalProperties") == Some(&Value::Bool(false));
            lists && !is_closed || fields.values().any(has_further_names)
        }
        Value::Array(items) => items.iter().any(has_further_names),
        _ => false,
    }
}

/// Any JSON object.
pub(crate) fn any_object() -> TopLevelGrammar {
    Prepared { schema: json!({"type": "object"}), unmasked: Vec::new() }.grammar(false)
}

/// Whether a keyword asks for nothing.
pub(crate) fn is_note(keyword: &str) -> bool {
    const NOTES: [&str; 14] = [
        "title",
        "description",
        "default",
        "examples",
        "example",
        "deprecated",
        "readOnly",
        "writeOnly",
        "$comment",
        "$schema",
        "$id",
        "$defs",
        "definitions",
        "nullable",
    ];
    NOTES.contains(&keyword) || keyword.starts_with("x-")
}

/// Whether no value is of two of these schemas, which stand at a JSON pointer within another.
pub(crate) fn are_apart(root: &Value, options: &[Value], at: &str) -> bool {
    let references = References::new(root);
    let is_apart = |(i, a)| options[..i].iter().all(|b| disjoint::are_disjoint(a, b, at, &references));
    options.iter().enumerate().all(is_apart)
}

/// Refuses what is no schema.
pub(crate) fn check(schema: &Value) -> Result<(), GrammarError> {
    jsonschema::meta::validate(schema).map_err(|error| invalid(&error))
}

/// Checks a finished answer.
///
/// # Errors
/// What it breaks and where, on a line.
pub(crate) fn validate(validator: &jsonschema::Validator, answer: &str) -> Result<(), String> {
    let value = trees::tree(answer.trim(), trees::FILE_ROOM).map_err(|error| first_line(&error))?;
    let checked = patiently(|| {
        validator.validate(&value).map_err(|error| {
            let keyword = error.kind().keyword();
            let at = error.instance_path().to_string();
            first_line(&format!("{at:?} breaks `{keyword}`: {}", error.masked()))
        })
    });
    checked.unwrap_or_else(|| Err("its definitions refer to each other too often for a check".to_owned()))
}

/// Of a schema, the type that all of it has.
pub(crate) fn outline(schema: &Value, reason: String) -> Prepared {
    let kind = schema.get("type").map_or_else(|| json!({}), |kind| json!({"type": kind}));
    Prepared { schema: kind, unmasked: vec![Unmasked { keyword: reason, at: String::new() }] }
}

fn invalid(error: &jsonschema::ValidationError<'_>) -> GrammarError {
    GrammarError::Schema { at: error.instance_path().to_string(), reason: first_line(&error.masked()) }
}

/// Writes a schema anew.
///
/// # Errors
/// When it is no schema (with the place), refers to what is not in it, or is too large.
pub(crate) fn prepare(schema: &Value) -> Result<Prepared, GrammarError> {
    prepare_at(schema, "")
}

/// Writes that part of a schema anew which stands at a JSON pointer; anything, where nothing stands there.
pub(crate) fn prepare_at(schema: &Value, at: &str) -> Result<Prepared, GrammarError> {
    check(schema)?;
    let mut preparer = Preparer {
        references: References::new(schema),
        definitions: BTreeMap::new(),
        unmasked: Vec::new(),
        nodes: 0,
        multiples_may_meet: numbers::multiples_may_meet(schema),
        is_root: true,
        unfolding: 0,
    };
    let part = schema.pointer(at).unwrap_or(&Value::Bool(true));
    let mut root = preparer.schema(part, at, 0)?;
    preparer.is_root = false;
    while let Some((name, pointer)) = preparer.references.next() {
        let target = preparer.references.target(&pointer);
        let target = target.ok_or_else(|| missing(&pointer, "nothing stands there"))?;
        let definition = preparer.schema(target, &pointer, 0)?;
        preparer.definitions.insert(name, definition);
    }
    if !preparer.definitions.is_empty()
        && let Value::Object(root) = &mut root
    {
        root.insert("$defs".to_owned(), preparer.definitions.into_iter().collect());
    }
    // A definition may be reached in two ways.
    let mut unmasked = preparer.unmasked;
    unmasked.sort_by(|a, b| (&a.at, &a.keyword).cmp(&(&b.at, &b.keyword)));
    unmasked.dedup();
    Ok(Prepared { schema: root, unmasked })
}

fn missing(pointer: &str, reason: &str) -> GrammarError {
    GrammarError::Schema { at: pointer.to_owned(), reason: reason.to_owned() }
}

struct Preparer<'s> {
    references: References<'s>,
    definitions: BTreeMap<String, Value>,
    unmasked: Vec<Unmasked>,
    nodes: usize,
    /// Whether masks may hold answers to more than one `multipleOf` at a time.
    multiples_may_meet: bool,
    /// Whether the whole is being written, and not a definition.
    is_root: bool,
    /// Definitions that are being written out within each other.
    unfolding: usize,
}

/// A schema that is being written anew.
struct Draft<'a> {
    schema: &'a Map<String, Value>,
    /// Its JSON pointer.
    at: &'a str,
    depth: usize,
    out: Map<String, Value>,
    /// What holds as well.
    all: Vec<Value>,
}

impl<'s> Preparer<'s> {
    /// A schema, which stands at a JSON pointer, written anew.
    fn schema(&mut self, schema: &Value, at: &str, depth: usize) -> Result<Value, GrammarError> {
        self.nodes += 1;
        if self.nodes > NODES {
            let limit = format!("{NODES} schemas within it");
            return Err(GrammarError::TooLarge { what: "schema", limit });
        }
        if depth > DEPTH {
            let limit = format!("{DEPTH} schemas within each other");
            return Err(GrammarError::TooLarge { what: "schema", limit });
        }
        let Value::Object(schema) = schema else { return Ok(schema.clone()) };
        let mut draft = Draft { schema, at, depth: depth + 1, out: Map::new(), all: Vec::new() };
        let is_lone = self.references.ignores_siblings() && schema.contains_key("$ref");
        let is_implied = self.has_implied_type(schema, at);
        for (keyword, value) in schema.iter().filter(|(keyword, _)| !is_lone || *keyword == "$ref") {
            if is_implied && keyword == "type" {
                continue;
            }
            self.keyword(&mut draft, keyword, value)?;
        }
        let Draft { mut out, mut all, .. } = draft;
        if !all.is_empty() {
            if let Some(Value::Array(own)) = out.remove("allOf") {
                all.splice(..0, own);
            }
            out.insert("allOf".to_owned(), all.into());
        }
        self.unfolded(out, at, depth)
    }

    /// Whether each option of a schema asks for its type anyway.
    fn has_implied_type(&self, schema: &Map<String, Value>, at: &str) -> bool {
        let scope = Scope { at, references: &self.references };
        let options = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array);
        let asks = |option: &Value| {
            let option = scope.look(option);
            option.get("$ref").is_none() && option.get("type") == schema.get("type")
        };
        schema.contains_key("type") && options.is_some_and(|options| options.iter().all(asks))
    }

    /// A schema as it is to be written, where what is referred to in a circle stands beside something else: then it becomes
    /// a definition, in which the other is written out, so that what is within leads back to a reference alone. llguidance
    /// knows no other way round the circle.
    fn unfolded(&mut self, out: Map<String, Value>, at: &str, depth: usize) -> Result<Value, GrammarError> {
        let parts = out.get("allOf").and_then(Value::as_array).map_or(0, Vec::len);
        let is_combined = out.len() > 1 || parts > 1;
        let own = out.get("$ref").into_iter();
        let refers =
            own.chain(out.get("allOf").and_then(Value::as_array).into_iter().flatten().filter_map(lone));
        let circular: Vec<Value> = refers.filter(|to| self.references.is_circular(to)).cloned().collect();
        if !is_combined || circular.is_empty() {
            return Ok(Value::Object(out));
        }
        if depth > 0 || at.is_empty() && self.is_root {
            self.is_root = false;
            return Ok(json!({"$ref": self.references.definition(at.to_owned())}));
        }
        let mut out = out;
        let mut all = match out.remove("allOf") {
            Some(Value::Array(all)) => all,
            _ => Vec::new(),
        };
        all.splice(..0, out.remove("$ref").map(|to| json!({"$ref": to})));
        for part in &mut all {
            if let Some(to) = lone(part).filter(|to| circular.contains(to)) {
                let pointer = self.references.pointer_of(to).unwrap_or_default();
                let target = self.references.target(&pointer).unwrap_or(&Value::Bool(true));
                self.unfolding += 1;
                if self.unfolding > DEPTH {
                    return Err(missing(&pointer, "`$ref` leads back to itself"));
                }
                *part = self.schema(target, &pointer, 0)?;
                self.unfolding -= 1;
            }
        }
        out.insert("allOf".to_owned(), all.into());
        Ok(Value::Object(out))
    }

    fn keyword(&mut self, draft: &mut Draft<'_>, keyword: &str, value: &Value) -> Result<(), GrammarError> {
        match keyword {
            "items" if value.is_array() => {
                draft.out.insert("prefixItems".to_owned(), self.list(draft, keyword, value)?);
                let Some(rest) = draft.schema.get("additionalItems") else { return Ok(()) };
                let rest = self.within(draft, "additionalItems", rest)?;
                draft.out.insert("items".to_owned(), rest);
                Ok(())
            }
            "minProperties" | "maxProperties" => self.count(draft, keyword, value),
            "oneOf" => self.one_of(draft, value),
            "not" => self.not(draft, value),
            "if" => self.condition(draft, value),
            "dependentRequired" | "dependentSchemas" | "dependencies" => {
                self.dependencies(draft, keyword, value)
            }
            "propertyNames" => self.property_names(draft, value),
            "unevaluatedItems" | "unevaluatedProperties" => self.unevaluated(draft, keyword, value),
            _ => {
                let kept = self.kept(draft, keyword, value)?;
                draft.out.extend(kept.map(|kept| (keyword.to_owned(), kept)));
                Ok(())
            }
        }
    }

    /// The value of a keyword that stays itself. Notes do not, nor words that are read with another, nor formats and keywords
    /// that no draft knows, which are notes.
    fn kept(
        &mut self,
        draft: &Draft<'_>,
        keyword: &str,
        value: &Value,
    ) -> Result<Option<Value>, GrammarError> {
        let is_kept = match keyword {
            "multipleOf" => self.multiples_may_meet && numbers::is_short(value),
            "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => numbers::is_bound(value),
            "patternProperties" => are_patterns_apart(value),
            // What it is about depends on the patterns.
            "additionalProperties"
                if draft.schema.get("patternProperties").is_some_and(|p| !are_patterns_apart(p)) =>
            {
                return Ok(None);
            }
            "pattern" => is_understood(value),
            "enum" | "const" => is_exact(value),
            "uniqueItems" => *value == Value::Bool(false) || at_most_one(draft.schema.get("maxItems")),
            "contains" | "$dynamicRef" | "$recursiveRef" => false,
            _ => true,
        };
        if !is_kept {
            self.mark(draft, keyword);
            return Ok(None);
        }
        Ok(Some(match keyword {
            "enum" | "const" | "type" | "required" | "minimum" | "maximum" | "exclusiveMinimum"
            | "exclusiveMaximum" | "multipleOf" | "pattern" => value.clone(),
            "format" if has_format(value) => value.clone(),
            "minLength" | "maxLength" | "minItems" | "maxItems" => whole(value),
            "$ref" => {
                let target = value.as_str().unwrap_or_default();
                self.references.name(target, draft.at).map_err(|reason| missing(draft.at, reason))?.into()
            }
            "properties" => self.properties(draft, value)?,
            "patternProperties" => self.map(draft, keyword, value)?,
            "additionalProperties" | "items" => self.within(draft, keyword, value)?,
            "prefixItems" | "allOf" | "anyOf" => self.list(draft, keyword, value)?,
            _ => return Ok(None),
        }))
    }

    fn mark(&mut self, draft: &Draft<'_>, keyword: &str) {
        self.unmasked.push(Unmasked { keyword: keyword.to_owned(), at: draft.at.to_owned() });
    }

    /// A schema under a keyword.
    fn within(&mut self, draft: &Draft<'_>, keyword: &str, schema: &Value) -> Result<Value, GrammarError> {
        self.schema(schema, &format!("{}/{keyword}", draft.at), draft.depth)
    }

    /// `properties`. Of one that a pattern asks the same of, it need not be asked twice.
    fn properties(&mut self, draft: &Draft<'_>, value: &Value) -> Result<Value, GrammarError> {
        let mut map = self.map(draft, "properties", value)?;
        let patterns = draft.schema.get("patternProperties").and_then(Value::as_object);
        for (name, schema) in map.as_object_mut().into_iter().flatten() {
            let asks = |(pattern, other): (&String, &Value)| {
                value.get(name).is_some_and(|own| disjoint::equal(own, other))
                    && jsonschema::is_valid(&json!({"pattern": pattern}), &Value::from(name.as_str()))
            };
            if patterns.is_some_and(|patterns| patterns.iter().any(asks)) {
                *schema = Value::Bool(true);
            }
        }
        Ok(map)
    }

    fn map(&mut self, draft: &Draft<'_>, keyword: &str, value: &Value) -> Result<Value, GrammarError> {
        let entries = value.as_object().into_iter().flatten();
        let mut map = Map::new();
        for (name, schema) in entries {
            let at = format!("{}/{keyword}/{}", draft.at, references::escaped(name));
            map.insert(name.clone(), self.schema(schema, &at, draft.depth)?);
        }
        Ok(map.into())
    }

    fn list(&mut self, draft: &Draft<'_>, keyword: &str, value: &Value) -> Result<Value, GrammarError> {
        let schemas = value.as_array().into_iter().flatten().enumerate();
        let list = schemas
            .map(|(i, schema)| self.schema(schema, &format!("{}/{keyword}/{i}", draft.at), draft.depth));
        list.collect()
    }
}

/// The reference, of a schema that is nothing else.
fn lone(schema: &Value) -> Option<&Value> {
    schema.as_object().filter(|fields| fields.len() == 1)?.get("$ref")
}

/// Whether the numbers in a value are those that a mask can ask for.
fn is_exact(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.as_f64().is_some_and(|x| x.abs() <= EXACT),
        Value::Array(items) => items.iter().all(is_exact),
        Value::Object(entries) => entries.values().all(is_exact),
        _ => true,
    }
}

/// A count as a whole number: it may be written as 2.0.
fn whole(count: &Value) -> Value {
    let number = count.as_f64().filter(|count| count.fract() == 0.0 && (0.0..=EXACT).contains(count));
    number.map_or_else(|| count.clone(), |count| (count as u64).into())
}

/// Whether no name fits two patterns, as far as can be told soon.
fn are_patterns_apart(patterns: &Value) -> bool {
    /// Of two patterns, and of all pairs together.
    const STATES: u64 = 10_000;
    const ALL_STATES: u64 = 1_000_000;
    let mut builder = RegexBuilder::new();
    let mut expression =
        |pattern: &String| builder.mk_regex_for_serach(&llguidance::regex_to_lark(pattern, "dw")).ok();
    let patterns = patterns.as_object().into_iter().flatten().map(|(pattern, _)| expression(pattern));
    let Some(patterns) = patterns.collect::<Option<Vec<_>>>() else { return false };
    let pairs = (patterns.len() * patterns.len().saturating_sub(1) / 2) as u64;
    let states = STATES.min(ALL_STATES / pairs.max(1));
    patterns.iter().enumerate().all(|(i, &a)| {
        patterns[..i].iter().all(|&b| {
            let both = RegexAst::And(vec![RegexAst::ExprRef(a), RegexAst::ExprRef(b)]);
            let both = builder.mk(&both).and_then(|both| builder.to_regex_limited(both, states));
            both.is_ok_and(|mut both| both.always_empty())
        })
    })
}

/// Whether the automata know a pattern.
fn is_understood(pattern: &Value) -> bool {
    pattern.as_str().is_some_and(|pattern| {
        let lark = llguidance::regex_to_lark(pattern, "dw");
        RegexBuilder::new().mk_regex_for_serach(&lark).is_ok()
    })
}

/// The formats that llguidance holds a string to. Any other is a note, as JSON Schema has it.
fn has_format(format: &Value) -> bool {
    const KNOWN: [&str; 10] =
        ["date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uuid"];
    format.as_str().is_some_and(|format| KNOWN.contains(&format))
}

fn at_most_one(limit: Option<&Value>) -> bool {
    limit.and_then(Value::as_f64).is_some_and(|limit| limit <= 1.0)
}
