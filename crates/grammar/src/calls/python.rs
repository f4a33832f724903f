//! Calls whose arguments are Python's keyword arguments: literals as `repr` writes them.

use serde_json::{Map, Value, json};

use super::texts::Rule;
use super::{Arguments, Place, Writer, literal};
use crate::GrammarError;
use crate::schema;

/// Schemas within each other.
const DEPTH: usize = 32;
/// The most items of a list that are counted.
const ITEMS: u64 = 256;

/// Characters that a literal has as they are, beside its quotes.
const PLAIN: &str = r"[^'\x22\\\x00-\x1F\x7F]";
/// A text between single quotes, between double ones where it has single ones, and one that has both.
const TEXTS: [(&str, &str, &str); 3] = [
    ("'", r"[^'\\\x00-\x1F\x7F]|\\[\\ntr]", ""),
    (r"\x22", r"[^\x22\\\x00-\x1F\x7F]|\\[\\ntr]", " & /(?s:.)*'(?s:.)*/"),
    ("'", r"[^'\\\x00-\x1F\x7F]|\\['\\ntr]", r" & /(?s:.)*\\'(?s:.)*/ & /(?s:.)*\x22(?s:.)*/"),
];
/// A number that nothing is asked of.
const NUMBER: &str = r"/-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?/";

/// Of a list, and of an object beside its properties and others, what literals are not held to.
const ASKS_OF_LISTS: [&str; 4] = ["uniqueItems", "contains", "unevaluatedItems", "minContains"];
/// The same of anything.
const ASKS_OF_ALL: [&str; 8] =
    ["not", "if", "allOf", "anyOf", "oneOf", "$ref", "$dynamicRef", "$recursiveRef"];

/// An entry of a call or of a dictionary.
struct Entry {
    rule: String,
    is_required: bool,
}

impl Writer<'_> {
    /// Keyword arguments with commas between them.
    pub(super) fn keyword_arguments(&mut self, schema: &Value) -> Result<String, GrammarError> {
        self.rules.clear();
        let arguments = Arguments::of(Place::root(schema));
        self.unmasked.extend(arguments.unmasked);
        let mut entries = Vec::new();
        for argument in arguments.named.iter().filter(|argument| argument.is_possible()) {
            let value = self.value(&argument.place)?;
            let name = argument.name;
            let rule = if is_identifier(name) {
                format!("{} {value}", literal(&format!("{name}=")))
            } else {
                format!("{} {value} \"}}\"", literal(&format!("**{{{}: ", text(name))))
            };
            entries.push(Entry { rule, is_required: argument.is_required });
        }
        let others = match &arguments.others {
            None => None,
            Some(others) => {
                let named = arguments.named.iter().map(|argument| format!(" & ~{}", literal(argument.name)));
                let name = format!("/[A-Za-z_][A-Za-z0-9_]{{0,63}}/{}", named.collect::<String>());
                let name = self.name("T", &name);
                Some(format!("{name} \"=\" {}", self.value(others)?))
            }
        };
        Ok(self.entries(&entries, others))
    }

    /// Entries in their order with commas between them, and others after them.
    fn entries(&mut self, entries: &[Entry], others: Option<String>) -> String {
        let mut rest = match others {
            Some(other) => {
                let other = self.name("k", &other);
                [format!("({other} (\", \" {other})*)?"), format!("(\", \" {other})*")]
            }
            None => ["\"\"".to_owned(), "\"\"".to_owned()],
        };
        // From the last to the first: what follows no entry, and what follows one.
        for Entry { rule, is_required } in entries.iter().rev() {
            let [first, further] = rest;
            let left_out = |rest: &str| if *is_required { String::new() } else { format!(" | {rest}") };
            rest = [
                self.name("k", &format!("{rule} {further}{}", left_out(&first))),
                self.name("k", &format!("\", \" {rule} {further}{}", left_out(&further))),
            ];
        }
        let [first, _] = rest;
        first
    }

    /// A value that a schema allows.
    fn value(&mut self, place: &Place<'_>) -> Result<String, GrammarError> {
        let refuse = |reason: &str| GrammarError::Schema { at: place.at.clone(), reason: reason.to_owned() };
        if place.depth > DEPTH {
            return Err(refuse("it is too deep for this model's calls"));
        }
        let target = place.clone().referred();
        if target.at != place.at {
            return self.target(&target);
        }
        let fields = match place.schema {
            Value::Object(fields) => fields,
            Value::Bool(false) => return Err(refuse("nothing is allowed here")),
            _ => return Ok(self.anything()),
        };
        if let Some(values) = place.listed() {
            let literals: Vec<String> = values.into_iter().map(|value| literal(&repr(value))).collect();
            if literals.is_empty() {
                return Err(refuse("nothing is allowed here"));
            }
            return Ok(format!("({})", literals.join(" | ")));
        }
        if let Some(alternatives) = place.alternatives() {
            if !alternatives.are_apart {
                self.mark("oneOf", &place.at);
            }
            let options: Result<Vec<String>, _> =
                alternatives.options.iter().map(|option| self.value(option)).collect();
            return Ok(format!("({})", options?.join(" | ")));
        }
        self.of_types(place, fields)
    }

    /// The rule of a schema that is referred to, which may be within itself.
    fn target(&mut self, target: &Place<'_>) -> Result<String, GrammarError> {
        if let Some(rule) = self.rules.get(&target.at) {
            return Ok(rule.clone());
        }
        self.names += 1;
        let rule = format!("r{}", self.names);
        self.rules.insert(target.at.clone(), rule.clone());
        let body = self.value(target)?;
        self.lark.push_str(&format!("{rule}: {body}\n"));
        Ok(rule)
    }

    /// A value of one of the types that a schema has, or that its keywords are about.
    fn of_types(&mut self, place: &Place<'_>, fields: &Map<String, Value>) -> Result<String, GrammarError> {
        let mut types = place.types();
        if types.is_empty() {
            let about = [
                ("object", &["properties", "required", "additionalProperties"][..]),
                ("array", &["items", "prefixItems", "minItems", "maxItems"]),
                ("string", &["pattern", "format", "minLength", "maxLength"]),
                ("number", &schema::ASKS_OF_NUMBERS),
            ];
            let has = |keywords: &[&str]| keywords.iter().any(|keyword| fields.contains_key(*keyword));
            types = about.iter().filter(|(_, keywords)| has(keywords)).map(|(name, _)| *name).collect();
        }
        if types.contains(&"number") {
            types.retain(|name| *name != "integer");
        }
        let mut unheld = ASKS_OF_ALL.to_vec();
        let mut options = Vec::new();
        for name in &types {
            options.push(match *name {
                "string" => self.string(place)?,
                "integer" | "number" => self.number(place, fields, name)?,
                "boolean" => "\"True\" | \"False\"".to_owned(),
                "null" => "\"None\"".to_owned(),
                "array" => {
                    unheld.extend(ASKS_OF_LISTS);
                    self.array(place, fields)?
                }
                _ => self.object(place)?,
            });
        }
        let asks = |keyword: &&&str| fields.get(**keyword).is_some_and(|value| *value != Value::Bool(false));
        for keyword in unheld.iter().filter(asks) {
            self.mark(keyword, &place.at);
        }
        Ok(if options.is_empty() { self.anything() } else { format!("({})", options.join(" | ")) })
    }

    fn string(&mut self, place: &Place<'_>) -> Result<String, GrammarError> {
        if ["pattern", "format"].iter().all(|keyword| place.schema.get(*keyword).is_none()) {
            let (least, most) = self.length(place);
            let texts = TEXTS.map(|(quote, chars, more)| {
                self.name("T", &format!("/{quote}({chars}){{{least},{most}}}{quote}/{more}"))
            });
            return Ok(texts.join(" | "));
        }
        let texts = self.texts(place, &[Rule::is(format!("{PLAIN}*"))]);
        let mut options = Vec::new();
        if let Some(terminal) = texts.terminal {
            let inside = self.name("T", &terminal);
            options.push(self.name("T", &format!("\"'\" {inside} \"'\"")));
        }
        options.extend(texts.may_be_empty.then(|| "\"''\"".to_owned()));
        Ok(options.join(" | "))
    }

    fn number(
        &mut self,
        place: &Place<'_>,
        fields: &Map<String, Value>,
        name: &str,
    ) -> Result<String, GrammarError> {
        let mut numeric = Map::from_iter([("type".to_owned(), json!(name))]);
        let asked = fields.iter().filter(|(keyword, _)| schema::ASKS_OF_NUMBERS.contains(&keyword.as_str()));
        numeric.extend(asked.map(|(keyword, value)| (keyword.clone(), value.clone())));
        if name == "number" && numeric.len() == 1 {
            return Ok(NUMBER.to_owned());
        }
        // Python writes them as JSON does.
        let before = self.unmasked.len();
        let rule = self.json(&numeric.into(), "")?;
        self.unmasked[before..].iter_mut().for_each(|unmasked| unmasked.at.clone_from(&place.at));
        Ok(rule)
    }

    fn array(&mut self, place: &Place<'_>, fields: &Map<String, Value>) -> Result<String, GrammarError> {
        let list = |keyword: &'static str| Some((keyword, fields.get(keyword)?.as_array()?));
        let prefix = list("prefixItems").or_else(|| list("items"));
        let after =
            if prefix.is_some_and(|(keyword, _)| keyword == "items") { "additionalItems" } else { "items" };
        let item = fields.get(after).map_or_else(|| place.anything(), |schema| place.within(after, schema));
        let has_others = *item.schema != Value::Bool(false);
        let mut count = |keyword: &str| {
            let count = fields.get(keyword)?.as_f64();
            let count = count.filter(|n| n.fract() == 0.0 && (0.0..=ITEMS as f64).contains(n));
            if count.is_none() {
                self.mark(keyword, &place.at);
            }
            count.map(|n| n as u64)
        };
        let (least, most) = (count("minItems").unwrap_or(0), count("maxItems"));
        if most.is_some_and(|most| most < least) {
            let reason = "no list has as few items as it asks for".to_owned();
            return Err(GrammarError::Schema { at: place.at.clone(), reason });
        }
        let first: Vec<Place<'_>> = prefix
            .into_iter()
            .flat_map(|(keyword, items)| {
                items.iter().enumerate().map(move |(at, schema)| (format!("{keyword}/{at}"), schema))
            })
            .map(|(at, schema)| place.within(&at, schema))
            .collect();
        if most == Some(0) || first.is_empty() && !has_others {
            return Ok("\"[]\"".to_owned());
        }
        if first.is_empty() {
            let item = self.value(&item)?;
            let item = self.name("i", &item);
            let more = match (least.max(1) - 1, most.map(|most| most - 1)) {
                (_, Some(0)) => String::new(),
                (least, most) => {
                    let most = most.map_or_else(String::new, |most| most.to_string());
                    format!("(\", \" {item}){{{least},{most}}}")
                }
            };
            let none = if least == 0 { " | \"[]\"" } else { "" };
            return Ok(format!("\"[\" {item} {more} \"]\"{none}"));
        }
        self.tuple(place, &first, has_others.then_some(&item), (least, most))
    }

    /// A list whose first items have schemas of their own.
    fn tuple(
        &mut self,
        place: &Place<'_>,
        first: &[Place<'_>],
        others: Option<&Place<'_>>,
        (least, most): (u64, Option<u64>),
    ) -> Result<String, GrammarError> {
        let ends_early = most.is_some_and(|most| most <= first.len() as u64);
        let first = &first[..first.len().min(most.map_or(usize::MAX, |most| most as usize))];
        let others = others.filter(|_| !ends_early);
        if least > first.len() as u64 {
            self.mark("minItems", &place.at);
        }
        if others.is_some() && most.is_some() {
            self.mark("maxItems", &place.at);
        }
        let mut rest = match others {
            Some(others) => format!("(\", \" {})*", self.value(others)?),
            None => "\"\"".to_owned(),
        };
        for (at, item) in first.iter().enumerate().rev() {
            let comma = if at == 0 { "" } else { "\", \"" };
            let none = if at as u64 >= least { " | \"\"" } else { "" };
            let item = self.value(item)?;
            rest = self.name("i", &format!("{comma} {item} {rest}{none}"));
        }
        Ok(format!("\"[\" {rest} \"]\""))
    }

    fn object(&mut self, place: &Place<'_>) -> Result<String, GrammarError> {
        let arguments = Arguments::of(place.clone());
        self.unmasked.extend(arguments.unmasked);
        let mut entries = Vec::new();
        for argument in arguments.named.iter().filter(|argument| argument.is_possible()) {
            let value = self.value(&argument.place)?;
            let rule = format!("{} {value}", literal(&format!("{}: ", text(argument.name))));
            entries.push(Entry { rule, is_required: argument.is_required });
        }
        let is_closed = place.schema.get("additionalProperties").is_some();
        let others =
            arguments.others.or_else(|| (entries.is_empty() && !is_closed).then(|| place.anything()));
        let others = match others {
            None => None,
            Some(others) => {
                let named =
                    arguments.named.iter().map(|argument| format!(" & ~{}", literal(&text(argument.name))));
                let key = format!("/'{PLAIN}{{0,64}}'/{}", named.collect::<String>());
                let key = self.name("T", &key);
                Some(format!("{key} \": \" {}", self.value(&others)?))
            }
        };
        Ok(format!("\"{{\" {} \"}}\"", self.entries(&entries, others)))
    }

    /// Any value.
    fn anything(&mut self) -> String {
        if let Some(rule) = &self.anything {
            return rule.clone();
        }
        self.names += 1;
        let rule = format!("v{}", self.names);
        self.anything = Some(rule.clone());
        let texts =
            TEXTS.map(|(quote, chars, more)| self.name("T", &format!("/{quote}({chars})*{quote}/{more}")));
        let texts = self.name("x", &texts.join(" | "));
        let options = [
            format!("{texts} | {NUMBER} | \"True\" | \"False\" | \"None\""),
            format!("\"[\" ({rule} (\", \" {rule})*)? \"]\""),
            format!("\"{{\" ({texts} \": \" {rule} (\", \" {texts} \": \" {rule})*)? \"}}\""),
        ];
        self.lark.push_str(&format!("{rule}: {}\n", options.join(" | ")));
        rule
    }
}

/// Whether a keyword argument can have this name.
fn is_identifier(name: &str) -> bool {
    let part = |c: char| c == '_' || c.is_alphanumeric();
    name.chars().all(part) && name.chars().next().is_some_and(|first| !first.is_numeric())
}

/// A value as `repr` writes it.
fn repr(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(value) => text(value),
        Value::Array(items) => format!("[{}]", items.iter().map(repr).collect::<Vec<_>>().join(", ")),
        Value::Object(entries) => {
            let entries = entries.iter().map(|(key, value)| format!("{}: {}", text(key), repr(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
    }
}

/// A text as `repr` writes it.
fn text(value: &str) -> String {
    let quote = if value.contains('\'') && !value.contains('"') { '"' } else { '\'' };
    let mut inside =
        value.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t");
    if quote == '\'' {
        inside = inside.replace('\'', "\\'");
    }
    format!("{quote}{inside}{quote}")
}
