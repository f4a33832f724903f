//! Calls whose name, keys and values stand between tags.

use std::fmt::Write;

use serde_json::Value;

use super::texts::Rule;
use super::{Argument, Arguments, CallTool, Place, Writer, literal};
use crate::GrammarError;

/// Alternatives within each other.
const DEPTH: usize = 8;

/// The tags of a form, and what stands between them.
pub(super) struct Tags<'f> {
    pub(super) call: &'f [String; 2],
    pub(super) key: &'f [String; 2],
    pub(super) value: &'f [String; 2],
    pub(super) gap: &'f str,
}

/// What a text may be that stands as it is.
enum Raw<'s> {
    /// One of the values that a schema lists; `null` stands for none.
    Listed(String),
    /// Whatever a schema allows.
    Free(Place<'s>),
}

impl Writer<'_> {
    /// A call of a tool.
    pub(super) fn tagged(
        &mut self,
        tool: &CallTool,
        schema: &Value,
        tags: &Tags<'_>,
    ) -> Result<String, GrammarError> {
        let arguments = Arguments::of(Place::root(schema));
        self.unmasked.extend(arguments.unmasked);
        let mut body =
            format!("{} {}", self.tag(&tags.call[0]), literal(&format!("{}{}", tool.name, tags.gap)));
        for argument in arguments.named.iter().filter(|argument| argument.is_possible()) {
            check_name(argument, tags)?;
            let is_text = tool.texts.iter().any(|text| text == argument.name);
            let rule = self.tagged_argument(argument, is_text, tags)?;
            let _ = write!(body, " {rule}{}", if argument.is_required { "" } else { "?" });
        }
        if let Some(others) = arguments.others {
            // Of a tool that is held to its name alone a text stands as it is all the same.
            let is_named = |text: &String| arguments.named.iter().any(|argument| argument.name == text);
            let texts = tool.texts.iter().filter(|text| !is_named(text));
            let text = |name| Argument { name, place: others.anything(), is_required: false };
            let texts = texts.map(|name| text(name)).filter(|text| check_name(text, tags).is_ok());
            let texts: Vec<Argument<'_>> = texts.collect();
            let mut rules =
                vec![self.other_arguments(&others, arguments.named.iter().chain(&texts), tags)?];
            for text in &texts {
                rules.push(self.tagged_argument(text, true, tags)?);
            }
            let _ = write!(body, " ({})*", rules.join(" | "));
        }
        Ok(format!("{body} {}", self.tag(&tags.call[1])))
    }

    /// The rule of an argument: its name and its value.
    fn tagged_argument(
        &mut self,
        argument: &Argument<'_>,
        is_text: bool,
        tags: &Tags<'_>,
    ) -> Result<String, GrammarError> {
        let value = self.tagged_value(argument, is_text, tags.value)?;
        let [open, close] = tags.key.each_ref().map(|tag| self.tag(tag));
        let (key, gap) = (literal(argument.name), literal(tags.gap));
        Ok(self.name("a", &format!("{open} {key} {close} {gap} {value} {gap}")))
    }

    /// A value between its tags: a text as it stands, or JSON.
    fn tagged_value(
        &mut self,
        argument: &Argument<'_>,
        is_text: bool,
        [open, close]: &[String; 2],
    ) -> Result<String, GrammarError> {
        let (open, end) = (self.tag(open), self.special(close));
        let place = argument.place.clone();
        if !is_text {
            let json = self.json(place.root, &place.at)?;
            return Ok(format!("{open} {json} {}", self.tag(close)));
        }
        let mut raws = Vec::new();
        self.collect(place, 0, &mut raws);
        let without = [Rule::without(close)];
        // Where the end is text as well, both are one terminal, so that it is known for the end.
        let closing = if end.is_some() { "" } else { close };
        let mut options = Vec::new();
        for raw in raws {
            match raw {
                Raw::Listed(text) if text.contains(close) => {}
                Raw::Listed(text) => options.push(literal(&format!("{text}{closing}"))),
                Raw::Free(place) => {
                    let texts = self.texts(&place, &without);
                    if let Some(terminal) = texts.terminal {
                        let text = self.name("T", &terminal);
                        options.push(if end.is_some() {
                            text
                        } else {
                            self.name("T", &format!("{text} {}", literal(close)))
                        });
                    }
                    options.extend(texts.may_be_empty.then(|| literal(closing)));
                }
            }
        }
        if options.is_empty() {
            let reason = "no text of it can be written in this model's calls".to_owned();
            return Err(GrammarError::Schema { at: argument.place.at.clone(), reason });
        }
        Ok(format!("{open} ({}) {}", options.join(" | "), end.unwrap_or_default()))
    }

    /// What a schema of texts, and perhaps of `null`, allows.
    fn collect<'s>(&mut self, place: Place<'s>, depth: usize, into: &mut Vec<Raw<'s>>) {
        let place = place.referred();
        if let Some(values) = place.listed() {
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            into.extend(values.into_iter().map(|value| Raw::Listed(text(value))));
            return;
        }
        if let Some(alternatives) = place.alternatives().filter(|_| depth < DEPTH) {
            if !alternatives.are_apart {
                self.mark("oneOf", &place.at);
            }
            alternatives.options.into_iter().for_each(|option| self.collect(option, depth + 1, into));
            return;
        }
        let types = place.types();
        if types.contains(&"null") {
            into.push(Raw::Listed("null".to_owned()));
        }
        if types != ["null"] {
            into.push(Raw::Free(place));
        }
    }

    /// An argument whose name no other has.
    fn other_arguments<'n>(
        &mut self,
        others: &Place<'_>,
        named: impl Iterator<Item = &'n Argument<'n>>,
        tags: &Tags<'_>,
    ) -> Result<String, GrammarError> {
        let taken: String = named.map(|argument| format!(" & ~{}", literal(argument.name))).collect();
        let other = self.name("T", &format!("/[^<>\\s]{{1,64}}/{taken}"));
        let json = self.json(others.root, &others.at)?;
        let [key, key_end, value, value_end] =
            [&tags.key[0], &tags.key[1], &tags.value[0], &tags.value[1]].map(|tag| self.tag(tag));
        let gap = literal(tags.gap);
        Ok(self.name("a", &format!("{key} {other} {key_end} {gap} {value} {json} {value_end} {gap}")))
    }
}

impl Argument<'_> {
    /// Whether there may be such an argument.
    pub(super) fn is_possible(&self) -> bool {
        self.is_required || *self.place.schema != Value::Bool(false)
    }
}

/// Refuses a name that would be read as another.
fn check_name(argument: &Argument<'_>, tags: &Tags<'_>) -> Result<(), GrammarError> {
    let name = argument.name;
    if name.trim() == name && !name.contains(&tags.key[1]) {
        return Ok(());
    }
    let reason = "an argument's name cannot be written in this model's calls".to_owned();
    Err(GrammarError::Schema { at: argument.place.at.clone(), reason })
}
