//! Grammars of calls of tools, in the form in which a generation writes them.

use std::collections::HashMap;
use std::fmt::Write;

use glimmer_tokenizer::Tokenizer;
use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use serde_json::{Map, Value, json};

use crate::schema::{self, Prepared, Unmasked, escaped};
use crate::{Grammar, GrammarError, gbnf};

/// The longest text whose length a mask counts.
const COUNTED: u64 = 4096;
/// References that lead to a tool's parameters.
const STEPS: usize = 16;

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

/// How calls are written. Tags are tokens where the tokenizer has them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CallForm {
    /// A line that is the name, then the arguments as JSON.
    Lines {
        /// The token between two calls.
        next: String,
    },
    /// A line that is the name, then keyword arguments of Python's scalar types in a fence.
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

/// Writes calls as a grammar. Schemas that do not fit are held to as far as possible.
pub(crate) fn write(
    calls: &Calls,
    tokenizer: &Tokenizer,
    fits: &dyn Fn(&Prepared) -> bool,
) -> Result<Written, GrammarError> {
    if calls.tools.is_empty() {
        let reason = "there is no tool to be called".to_owned();
        return Err(GrammarError::Syntax { language: "list of tools", reason });
    }
    let mut writer = Writer {
        tokenizer,
        fits,
        lark: String::new(),
        names: 0,
        schemas: Vec::new(),
        known: HashMap::new(),
        unmasked: Vec::new(),
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
    let lark = format!("start: {start}\n{}", writer.lark);
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

/// Any text that does not have `end` in it, as a terminal.
fn without(end: &str, chars: &str) -> String {
    let end: String = end.chars().map(gbnf::escaped).collect();
    format!("/(?s:.){chars}/ & ~/(?s:.)*{end}(?s:.)*/")
}

/// One argument of a tool.
struct Argument<'s> {
    name: &'s str,
    schema: &'s Value,
    /// Where its schema stands, as a JSON pointer.
    at: String,
    is_required: bool,
}

impl<'s> Argument<'s> {
    /// The text that it may be, and whether it may be `null` instead.
    fn text(&self) -> (Argument<'s>, bool) {
        let options = ["anyOf", "oneOf"]
            .into_iter()
            .find_map(|keyword| Some((keyword, self.schema.get(keyword)?.as_array()?.as_slice())));
        let (keyword, options) = options.unwrap_or_default();
        let is_null = |option: &&Value| {
            option["type"] == "null" && option.as_object().is_some_and(|option| option.len() == 1)
        };
        let text = options.iter().enumerate().find(|(_, option)| !is_null(option));
        match text {
            Some((at, schema)) if options.len() == 2 && options.iter().any(|option| is_null(&option)) => {
                let at = format!("{}/{keyword}/{at}", self.at);
                (Argument { schema, at, ..*self }, true)
            }
            _ => (Argument { at: self.at.clone(), ..*self }, false),
        }
    }
}

/// A tool's arguments, one by one.
struct Arguments<'s> {
    named: Vec<Argument<'s>>,
    /// Where the schema of further ones stands, if they are asked for.
    others: Option<String>,
    /// Keywords that say more of them.
    unmasked: Vec<Unmasked>,
}

struct Writer<'t> {
    tokenizer: &'t Tokenizer,
    fits: &'t dyn Fn(&Prepared) -> bool,
    lark: String,
    names: usize,
    schemas: Vec<Value>,
    known: HashMap<String, usize>,
    unmasked: Vec<Unmasked>,
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
        let body = match self.call(tool, form) {
            // Schemas that are none come with tools all the same.
            Err(GrammarError::Schema { at, reason })
                if !tool.strict && !matches!(form, CallForm::Python { .. }) =>
            {
                self.unmasked.truncate(before);
                self.unmasked.push(Unmasked { keyword: reason, at });
                let parameters = Some(json!({"type": "object", "additionalProperties": true}).to_string());
                self.call(&CallTool { parameters, ..tool.clone() }, form)?
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

    fn call(&mut self, tool: &CallTool, form: &CallForm) -> Result<String, GrammarError> {
        let schema = match &tool.parameters {
            Some(parameters) => Grammar::parse_schema(parameters)?,
            None => json!({"type": "object", "additionalProperties": false}),
        };
        let line = literal(&format!("{}\n", tool.name));
        match form {
            CallForm::Lines { .. } => {
                let json = self.json(&closed(schema), "")?;
                Ok(format!("{line} {json}"))
            }
            CallForm::Python { .. } => {
                let arguments = self.keyword_arguments(&schema)?;
                Ok(format!("{line} \"```python\\ntool_call(\" {arguments} \")\\n```\""))
            }
            CallForm::Tagged { call: [open, close], key, value, gap } => {
                let name = literal(&format!("{}{gap}", tool.name));
                let mut body = format!("{} {name}", self.tag(open));
                let arguments = arguments(&schema)?;
                self.unmasked.extend(arguments.unmasked);
                for argument in &arguments.named {
                    let key = format!(
                        "{} {} {} {}",
                        self.tag(&key[0]),
                        literal(argument.name),
                        self.tag(&key[1]),
                        literal(gap)
                    );
                    let is_text = tool.texts.iter().any(|text| text == argument.name);
                    let value = self.tagged_value(&schema, argument, is_text, value)?;
                    let rule = self.name("a", &format!("{key} {value} {}", literal(gap)));
                    let _ = write!(body, " {rule}{}", if argument.is_required { "" } else { "?" });
                }
                if let Some(at) = arguments.others {
                    let others = self.other_arguments(&schema, &at, &arguments.named, form)?;
                    let _ = write!(body, " {others}*");
                }
                Ok(format!("{body} {}", self.tag(close)))
            }
        }
    }

    /// A value between its tags: a text as it stands, or JSON.
    fn tagged_value(
        &mut self,
        schema: &Value,
        argument: &Argument<'_>,
        is_text: bool,
        [open, close]: &[String; 2],
    ) -> Result<String, GrammarError> {
        let (open, end) = (self.tag(open), self.special(close));
        if !is_text {
            let json = self.json(schema, &argument.at)?;
            return Ok(format!("{open} {json} {}", self.tag(close)));
        }
        if let Some(texts) = texts(argument.schema) {
            let texts: Vec<String> = texts.iter().map(|text| literal(text)).collect();
            return Ok(format!("{open} ({}) {}", texts.join(" | "), self.tag(close)));
        }
        let (argument, or_null) = argument.text();
        let (least, most) = self.length(&argument);
        let null = |close: &str| {
            if or_null { format!(" | {}", literal(&format!("null{close}"))) } else { String::new() }
        };
        // Where the end is text as well, both are one terminal, so that it is known for the end.
        Ok(match end {
            Some(end) => {
                let chars = format!("{{{},{most}}}", least.max(1));
                let text = self.name("T", &without(close, &chars));
                let nothing = if least == 0 { " | \"\"" } else { "" };
                format!("{open} ({text}{}{nothing}) {end}", null(""))
            }
            None => {
                let text = self.name("T", &without(close, &format!("{{{least},{most}}}")));
                let text = self.name("T", &format!("{text} {}", literal(close)));
                format!("{open} ({text}{})", null(close))
            }
        })
    }

    /// The bounds of a text's length; other keywords are noted.
    fn length(&mut self, argument: &Argument<'_>) -> (u64, String) {
        let schema = argument.schema.as_object();
        let bound = |name: &str| schema.and_then(|schema| schema.get(name)).and_then(Value::as_u64);
        let (least, most) = (bound("minLength"), bound("maxLength"));
        for keyword in schema.into_iter().flat_map(Map::keys) {
            let is_held = match keyword.as_str() {
                "minLength" => least.is_some_and(|n| n <= COUNTED),
                "maxLength" => most.is_some_and(|n| n <= COUNTED && n >= least.unwrap_or(0)),
                keyword => !schema::ASKS_OF_TEXTS.contains(&keyword),
            };
            if !is_held {
                self.unmasked.push(Unmasked { keyword: keyword.clone(), at: argument.at.clone() });
            }
        }
        let most = most.filter(|&n| n <= COUNTED && n >= least.unwrap_or(0));
        let least = least.filter(|&n| n <= COUNTED).unwrap_or(0);
        (least, most.map_or_else(String::new, |n| n.to_string()))
    }

    /// An argument whose name no other has.
    fn other_arguments(
        &mut self,
        schema: &Value,
        at: &str,
        named: &[Argument<'_>],
        form: &CallForm,
    ) -> Result<String, GrammarError> {
        let CallForm::Tagged { key, value, gap, .. } = form else { return Ok(String::new()) };
        let taken: String = named.iter().map(|argument| format!(" & ~{}", literal(argument.name))).collect();
        let other = self.name("T", &format!("/[^<>\\s]{{1,64}}/{taken}"));
        let json = self.json(schema, at)?;
        let tags = [&key[0], &key[1], &value[0], &value[1]].map(|tag| self.tag(tag));
        let gap = literal(gap);
        let [key, key_end, value, value_end] = tags;
        Ok(self.name("a", &format!("{key} {other} {key_end} {gap} {value} {json} {value_end} {gap}")))
    }

    /// JSON of the schema that stands at a pointer within another.
    fn json(&mut self, schema: &Value, at: &str) -> Result<String, GrammarError> {
        let mut prepared = schema::prepare_at(schema, at)?;
        let is_lenient = !(self.fits)(&prepared);
        if is_lenient {
            let keyword = "keywords together".to_owned();
            self.unmasked.push(Unmasked { keyword, at: at.to_owned() });
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

    /// Keyword arguments with commas between them.
    fn keyword_arguments(&mut self, schema: &Value) -> Result<String, GrammarError> {
        let arguments = arguments(schema)?;
        self.unmasked.extend(arguments.unmasked);
        let mut rest = ["\"\"".to_owned(), "\"\"".to_owned()];
        // From the last to the first: what follows no argument, and what follows one.
        for argument in arguments.named.iter().rev() {
            let value = self.python(schema, argument)?;
            let plain = argument.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                && !argument.name.starts_with(|c: char| c.is_ascii_digit());
            let item = if plain {
                format!("{} {value}", literal(&format!("{}=", argument.name)))
            } else {
                let key = format!("**{{{}: ", python_text(argument.name));
                format!("{} {value} \"}}\"", literal(&key))
            };
            let [first, further] = rest;
            let left_out = |rest: &str| {
                if argument.is_required { String::new() } else { format!(" | {rest}") }
            };
            rest = [
                self.name("k", &format!("{item} {further}{}", left_out(&first))),
                self.name("k", &format!("\", \" {item} {further}{}", left_out(&further))),
            ];
        }
        let [first, _] = rest;
        Ok(first)
    }

    /// A scalar as Python writes it.
    fn python(&mut self, schema: &Value, argument: &Argument<'_>) -> Result<String, GrammarError> {
        let more = || {
            GrammarError::Schema {
            at: argument.at.clone(),
            reason: "this model's calls have texts, numbers, truth values and lists of such values to choose from alone"
                .to_owned(),
        }
        };
        if let Some(values) = values(argument.schema) {
            let literals: Option<Vec<String>> = values.iter().map(python_scalar).collect();
            let literals: Vec<String> = literals.ok_or_else(more)?.iter().map(|text| literal(text)).collect();
            return Ok(format!("({})", literals.join(" | ")));
        }
        let types = match &argument.schema["type"] {
            Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
            Value::String(name) => vec![name.as_str()],
            _ => Vec::new(),
        };
        let mut options = Vec::new();
        for name in &types {
            options.push(match *name {
                "string" => {
                    let (least, most) = self.length(argument);
                    let char = r"([^'\\\x00-\x1F\x7F]|\\['\x22\\ntr])";
                    self.name("T", &format!("/'{char}{{{least},{most}}}'/"))
                }
                "integer" => self.json(schema, &argument.at)?,
                "number" if schema::ASKS_OF_NUMBERS.iter().any(|k| argument.schema.get(k).is_some()) => {
                    self.json(schema, &argument.at)?
                }
                "number" => r"/-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?/".to_owned(),
                "boolean" => "\"True\" | \"False\"".to_owned(),
                "null" => "\"None\"".to_owned(),
                _ => return Err(more()),
            });
        }
        let mixes_numbers = types.len() > 1 && types.iter().any(|name| ["integer", "number"].contains(name));
        if options.is_empty() || mixes_numbers {
            return Err(more());
        }
        Ok(format!("({})", options.join(" | ")))
    }
}

/// The schema of a tool's arguments: an object that has no others than it names, unless it says that it may.
fn closed(mut schema: Value) -> Value {
    let names_all = arguments(&schema).is_ok_and(|arguments| {
        let is_whole = arguments.unmasked.is_empty() && arguments.others.is_none();
        is_whole && arguments.named.iter().all(|argument| schema["properties"].get(argument.name).is_some())
    });
    if let Value::Object(fields) = &mut schema {
        fields.insert("type".to_owned(), "object".into());
        if names_all && !fields.contains_key("$ref") {
            fields.insert("additionalProperties".to_owned(), false.into());
        }
    }
    schema
}

/// The arguments that a schema tells of.
fn arguments(root: &Value) -> Result<Arguments<'_>, GrammarError> {
    let (mut at, mut schema) = (String::new(), root);
    for _ in 0..STEPS {
        let Some(reference) = schema.get("$ref").and_then(Value::as_str) else { break };
        let pointer = reference.strip_prefix('#').and_then(|pointer| Some((pointer, root.pointer(pointer)?)));
        let Some((pointer, target)) = pointer else {
            let reason = "`$ref` refers to nothing in the schema".to_owned();
            return Err(GrammarError::Schema { at, reason });
        };
        (at, schema) = (pointer.to_owned(), target);
    }
    static ANYTHING: Value = Value::Bool(true);
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = schema["properties"].as_object();
    let mut named: Vec<Argument<'_>> = Vec::new();
    for (name, schema) in properties.into_iter().flatten() {
        let at = format!("{at}/properties/{}", escaped(name));
        named.push(Argument { name, schema, at, is_required: required.contains(&name.as_str()) });
    }
    let others = schema.get("additionalProperties").filter(|others| **others != Value::Bool(false));
    let others = others.map(|_| format!("{at}/additionalProperties"));
    for name in required {
        if named.iter().all(|argument| argument.name != name) {
            let at = others.clone().unwrap_or_else(|| ANY_AT.to_owned());
            named.push(Argument { name, schema: &ANYTHING, at, is_required: true });
        }
    }
    let says_more = |keyword: &&String| schema::ASKS_OF_OBJECTS.contains(&keyword.as_str());
    let keywords = schema.as_object().into_iter().flat_map(Map::keys).filter(says_more);
    let unmasked = keywords.map(|keyword| Unmasked { keyword: keyword.clone(), at: at.clone() }).collect();
    Ok(Arguments { named, others, unmasked })
}

/// The place of a schema that allows anything.
const ANY_AT: &str = "*";

/// The values that a schema lists.
fn values(schema: &Value) -> Option<Vec<Value>> {
    match (schema.get("enum"), schema.get("const")) {
        (Some(Value::Array(values)), _) if !values.is_empty() => Some(values.clone()),
        (None, Some(value)) => Some(vec![value.clone()]),
        _ => {
            let options = schema.get("anyOf").or_else(|| schema.get("oneOf"))?.as_array()?;
            let is_null = |option: &Value| option["type"] == "null";
            let values = |option| if is_null(option) { Some(vec![Value::Null]) } else { values(option) };
            let all: Option<Vec<Vec<Value>>> = options.iter().map(values).collect();
            all.map(|all| all.concat()).filter(|all| !all.is_empty())
        }
    }
}

/// The texts that a schema lists, `null` among them where it may be that.
fn texts(schema: &Value) -> Option<Vec<String>> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Null => Some("null".to_owned()),
        _ => None,
    };
    values(schema)?.iter().map(text).collect()
}

fn python_scalar(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => python_text(text),
        _ => return None,
    })
}

/// A text between single quotes.
fn python_text(text: &str) -> String {
    let inside = text.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n").replace('\r', "\\r");
    format!("'{inside}'")
}
