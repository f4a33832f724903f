//! Grammars of calls of tools, in the form in which a generation writes them.

mod formats;
mod place;
mod python;
mod tagged;
mod texts;

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use glimmer_tokenizer::Tokenizer;
use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use serde_json::{Map, Value, json};

use crate::grammar::{DEPTH, SOURCE_BYTES, depth};
use crate::schema::{self, Prepared, Unmasked, escaped};
use crate::{Grammar, GrammarError};
use place::Place;

/// Calls of tools, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Calls {
    /// How they are written.
    pub form: CallForm,
    /// The tools that may be called.
    pub tools: Vec<CallTool>,
    /// Whether there is only one call.
    pub single: bool,
}

/// A tool that may be called.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CallTool {
    /// Its name.
    pub name: String,
    /// The schema of its arguments, as JSON text; without one it has none.
    pub parameters: Option<String>,
    /// Whether a keyword that masks cannot hold arguments to is an error.
    pub strict: bool,
    /// Arguments that are a text as it stands where a form knows such; others are JSON.
    pub texts: Vec<String>,
}

impl Calls {
    /// Bytes of the tools' schemas.
    pub(crate) fn source_bytes(&self) -> usize {
        self.tools.iter().filter_map(|tool| tool.parameters.as_ref()).map(String::len).sum()
    }

    /// The tools whose schemas no parser should meet, each with the reason: such as are nested too deeply, and the largest
    /// ones where all are too large together. Strict ones are not among them.
    pub(crate) fn beyond_limits(&self) -> HashMap<&str, String> {
        let reason = |limit| GrammarError::TooLarge { what: "list of tools", limit }.to_string();
        let size = |tool: &&CallTool| tool.parameters.as_ref().map_or(0, String::len);
        let names = self.tools.iter().map(|tool| tool.name.len()).sum::<usize>();
        let strict = self.tools.iter().filter(|tool| tool.strict).map(|tool| size(&tool)).sum::<usize>();
        let mut left = SOURCE_BYTES.saturating_sub(names + strict);
        let mut tools: Vec<&CallTool> = self.tools.iter().filter(|tool| !tool.strict).collect();
        tools.sort_by_key(size);
        let mut beyond = HashMap::new();
        for tool in tools {
            if tool.parameters.as_ref().is_some_and(|parameters| depth(parameters) > DEPTH) {
                beyond.insert(tool.name.as_str(), reason(format!("{DEPTH} brackets within each other")));
            } else if size(&tool) > left {
                beyond.insert(tool.name.as_str(), reason(format!("{} KiB", SOURCE_BYTES >> 10)));
            } else {
                left -= size(&tool);
            }
        }
        beyond
    }
}

/// How calls are written. Tags are tokens where the tokenizer has them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CallForm {
    /// A line that is the name, then the arguments as JSON.
    Lines {
        /// The token between two calls.
        next: String,
    },
    /// A line that is the name, then keyword arguments of Python's literals in a fence.
    Python {
        /// The token between two calls.
        next: String,
    },
    /// The name, keys and values between tags.
    Tagged {
        /// Around a call.
        call: [String; 2],
        /// Around a key.
        key: [String; 2],
        /// Around a value.
        value: [String; 2],
        /// What stands between tags.
        gap: String,
    },
}

/// A grammar of calls, and what of the tools' schemas it does not hold.
pub(crate) struct Written {
    pub(crate) grammar: TopLevelGrammar,
    pub(crate) unmasked: Vec<Unmasked>,
}

/// Writes calls as a grammar. Schemas that do not fit are held to as far as possible; tools that are `free`, for a reason,
/// have whatever arguments a call can have.
pub(crate) fn write(
    calls: &Calls,
    tokenizer: &Tokenizer,
    fits: &dyn Fn(&Prepared) -> bool,
    free: &HashMap<&str, String>,
) -> Result<Written, GrammarError> {
    if calls.tools.is_empty() {
        let reason = "there is no tool to be called".to_owned();
        return Err(GrammarError::Syntax { language: "list of tools", reason });
    }
    let mut writer = Writer {
        tokenizer,
        fits,
        free,
        lark: String::new(),
        names: 0,
        schemas: Vec::new(),
        known: HashMap::new(),
        unmasked: Vec::new(),
        rules: HashMap::new(),
        anything: None,
        has_blind_end: false,
    };
    let mut rules = Vec::new();
    for tool in &calls.tools {
        let body = writer.tool(tool, &calls.form)?;
        rules.push(writer.name("call", &body));
    }
    let call = writer.name("call", &rules.join(" | "));
    let next = match &calls.form {
        CallForm::Lines { next } | CallForm::Python { next } => writer.special(next),
        CallForm::Tagged { gap, .. } => Some(literal(gap)),
    };
    let start = match next.filter(|_| !calls.single) {
        Some(next) => format!("{call} ({next} {call})*"),
        None => call,
    };
    let options = if writer.has_blind_end { "%llguidance {\"no_forcing\": true}\n" } else { "" };
    let lark = format!("{options}start: {start}\n{}", writer.lark);
    let first = GrammarWithLexer::from_lark(lark);
    let schemas = writer.schemas.into_iter().enumerate().map(|(at, schema)| GrammarWithLexer {
        name: Some(format!("s{at}")),
        json_schema: Some(schema),
        lark_grammar: None,
    });
    let grammars = std::iter::once(first).chain(schemas).collect();
    Ok(Written { grammar: TopLevelGrammar { grammars, max_tokens: None }, unmasked: writer.unmasked })
}

/// A text in Lark.
fn literal(text: &str) -> String {
    // JSON's strings are Lark's, but for one character.
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

/// One argument of a tool.
struct Argument<'s> {
    name: &'s str,
    place: Place<'s>,
    is_required: bool,
}

/// A tool's arguments, one by one.
struct Arguments<'s> {
    named: Vec<Argument<'s>>,
    /// The schema of further ones, if they are asked for.
    others: Option<Place<'s>>,
    /// Keywords that say more of them.
    unmasked: Vec<Unmasked>,
}

struct Writer<'t> {
    tokenizer: &'t Tokenizer,
    fits: &'t dyn Fn(&Prepared) -> bool,
    free: &'t HashMap<&'t str, String>,
    lark: String,
    names: usize,
    schemas: Vec<Value>,
    known: HashMap<String, usize>,
    unmasked: Vec<Unmasked>,
    /// The rules of a tool's schemas that are referred to, by their places.
    rules: HashMap<String, String>,
    /// The rule of any value of Python.
    anything: Option<String>,
    /// Whether forced tokens are not to be looked for.
    has_blind_end: bool,
}

impl Writer<'_> {
    /// Adds a rule, or a terminal, and returns its name.
    fn name(&mut self, kind: &str, body: &str) -> String {
        self.names += 1;
        let name = format!("{kind}{}", self.names);
        let _ = writeln!(self.lark, "{name}: {body}");
        name
    }

    fn special(&self, spelling: &str) -> Option<String> {
        self.tokenizer.special_id(spelling).map(|id| format!("<[{id}]>"))
    }

    fn tag(&self, spelling: &str) -> String {
        self.special(spelling).unwrap_or_else(|| literal(spelling))
    }

    /// The call of a tool. What is not held of its arguments is noted, or refused where the tool is strict.
    fn tool(&mut self, tool: &CallTool, form: &CallForm) -> Result<String, GrammarError> {
        let within = |at: &str| format!("/{}{at}", escaped(&tool.name));
        let before = self.unmasked.len();
        let call = match self.free.get(tool.name.as_str()) {
            Some(reason) => Err(GrammarError::Schema { at: String::new(), reason: reason.clone() }),
            None => self.call(tool, form),
        };
        let body = match call {
            // Schemas that are none, or too much, come with tools all the same.
            Err(GrammarError::Schema { at, reason }) if !tool.strict => {
                self.unmasked.truncate(before);
                self.mark(&reason, &at);
                self.call(&free(tool), form)?
            }
            Err(error @ GrammarError::TooLarge { .. }) if !tool.strict => {
                self.unmasked.truncate(before);
                self.mark(&error.to_string(), "");
                self.call(&free(tool), form)?
            }
            Err(GrammarError::Schema { at, reason }) => {
                return Err(GrammarError::Schema { at: within(&at), reason });
            }
            body => body?,
        };
        for unmasked in &mut self.unmasked[before..] {
            unmasked.at = within(&unmasked.at);
        }
        match self.unmasked.get(before).filter(|_| tool.strict) {
            Some(Unmasked { keyword, at }) => {
                Err(GrammarError::Unmasked { keyword: keyword.clone(), at: at.clone() })
            }
            None => Ok(body),
        }
    }

    fn mark(&mut self, keyword: &str, at: &str) {
        self.unmasked.push(Unmasked { keyword: keyword.to_owned(), at: at.to_owned() });
    }

    fn call(&mut self, tool: &CallTool, form: &CallForm) -> Result<String, GrammarError> {
        let schema = match &tool.parameters {
            Some(parameters) => Grammar::parse_schema(parameters)?,
            None => json!({"type": "object", "additionalProperties": false}),
        };
        schema::check(&schema)?;
        let line = literal(&format!("{}\n", tool.name));
        match form {
            CallForm::Lines { .. } => Ok(format!("{line} {}", self.json(&closed(schema), "")?)),
            _ if Place::root(&schema).schema.get("$ref").is_some() => {
                let reason = "`$ref` leads to nothing that it could stand for".to_owned();
                Err(GrammarError::Schema { at: String::new(), reason })
            }
            CallForm::Python { .. } => {
                let arguments = self.keyword_arguments(&schema)?;
                Ok(format!("{line} \"```python\\ntool_call(\" {arguments} \")\\n```\""))
            }
            CallForm::Tagged { call, key, value, gap } => {
                let tags = tagged::Tags { call, key, value, gap };
                self.tagged(tool, &schema, &tags)
            }
        }
    }

    /// JSON of the schema that stands at a pointer within another.
    fn json(&mut self, schema: &Value, at: &str) -> Result<String, GrammarError> {
        let mut prepared = schema::prepare_at(schema, at)?;
        let is_lenient = !(self.fits)(&prepared);
        if is_lenient {
            self.mark("keywords together", at);
        }
        self.unmasked.append(&mut prepared.unmasked);
        let written = prepared.written(is_lenient);
        let next = self.schemas.len();
        let number = *self.known.entry(written.to_string()).or_insert(next);
        if number == next {
            self.schemas.push(written);
        }
        Ok(format!("@s{number}"))
    }
}

/// The same tool, with whatever arguments a call can have.
fn free(tool: &CallTool) -> CallTool {
    let parameters = Some(json!({"type": "object", "additionalProperties": true}).to_string());
    CallTool { parameters, ..tool.clone() }
}

/// The schema of a tool's arguments: an object that has no others than it names, unless it says that it may.
fn closed(mut schema: Value) -> Value {
    let arguments = Arguments::of(Place::root(&schema));
    let properties = schema.get("properties").and_then(Value::as_object);
    let has = |name: &str| properties.is_some_and(|properties| properties.contains_key(name));
    let names_all = arguments.unmasked.is_empty()
        && arguments.others.is_none()
        && arguments.named.iter().all(|argument| has(argument.name));
    if let Value::Object(fields) = &mut schema {
        fields.insert("type".to_owned(), "object".into());
        if names_all && !fields.contains_key("$ref") {
            fields.insert("additionalProperties".to_owned(), false.into());
        }
    }
    schema
}

impl<'s> Arguments<'s> {
    /// Those that the schema of an object tells of.
    fn of(object: Place<'s>) -> Self {
        let schema = object.schema;
        let list = |keyword: &str| schema.get(keyword).and_then(Value::as_array);
        let required: HashSet<&str> =
            list("required").into_iter().flatten().filter_map(Value::as_str).collect();
        let mut named: Vec<Argument<'s>> = Vec::new();
        for (name, schema) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let place = object.within(&format!("properties/{}", escaped(name)), schema);
            named.push(Argument { name, place, is_required: required.contains(name.as_str()) });
        }
        let others = schema.get("additionalProperties").filter(|others| **others != Value::Bool(false));
        let others = others.map(|schema| object.within("additionalProperties", schema));
        for name in list("required").into_iter().flatten().filter_map(Value::as_str) {
            if named.iter().all(|argument| argument.name != name) {
                let place = others.clone().unwrap_or_else(|| object.anything());
                named.push(Argument { name, place, is_required: true });
            }
        }
        let says_more = |keyword: &&String| schema::ASKS_OF_OBJECTS.contains(&keyword.as_str());
        let keywords = schema.as_object().into_iter().flat_map(Map::keys).filter(says_more);
        let unmasked =
            keywords.map(|keyword| Unmasked { keyword: keyword.clone(), at: object.at.clone() }).collect();
        Arguments { named, others, unmasked }
    }
}
