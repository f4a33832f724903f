//! Calls in tags, as GLM-4.5 and later write them:
//! `<tool_call>name<arg_key>key</arg_key><arg_value>value</arg_value>…</tool_call>`, with or without newlines
//! between. A value is JSON where the tool's schema asks for something else than a string, and where it asks for
//! nothing but the value reads as JSON; else it is a string as it stands, or `null` where that may stand for it. Strings
//! are passed on as they come. In the strings of an object or an array a tag may be spelt; a string that stands as it is, or
//! alone, ends at the first.

use super::arguments::{Kind, Tools, to_json};
use super::filters::partial_suffix;
use super::json_scanner::{JsonScanner, Scan};
use super::{ReplyPart, Sink};
use crate::python;

/// The tags around calls and their parts, which the tokenizers of these models have as tokens.
#[derive(Clone, Copy, Debug)]
pub struct CallTags {
    /// Around a call.
    pub call: [&'static str; 2],
    /// Around an argument's name.
    pub key: [&'static str; 2],
    /// Around its value.
    pub value: [&'static str; 2],
}

/// Those of GLM-4.5 and later.
pub const CALL_TAGS: CallTags = CallTags {
    call: ["<tool_call>", "</tool_call>"],
    key: ["<arg_key>", "</arg_key>"],
    value: ["<arg_value>", "</arg_value>"],
};

/// All of them.
pub(super) const TAGS: [&str; 6] = [CALL, CALL_END, KEY, KEY_END, VALUE, VALUE_END];

const CALL: &str = CALL_TAGS.call[0];
const CALL_END: &str = CALL_TAGS.call[1];
const KEY: &str = CALL_TAGS.key[0];
const KEY_END: &str = CALL_TAGS.key[1];
const VALUE: &str = CALL_TAGS.value[0];
const VALUE_END: &str = CALL_TAGS.value[1];

/// A tool's name is not longer.
const MAX_NAME: usize = 256;

#[derive(Debug)]
pub(super) struct Tagged {
    tools: Tools,
    state: State,
    /// Text that is not yet decided on.
    held: String,
    /// Of that, how much is known to hold no tag.
    searched: usize,
    /// The call that is under way.
    name: String,
    arguments: usize,
}

#[derive(Debug)]
enum State {
    /// White space before a reply that is calls from its beginning, or text.
    Start,
    /// Text of such a reply.
    Plain,
    /// Text, or between calls.
    Text,
    Name,
    /// Between arguments.
    Between,
    Key,
    /// Between a key and its value.
    AfterKey {
        key: String,
    },
    Value {
        key: String,
        json: JsonScanner,
        /// How much of it `json` has read.
        scanned: usize,
        /// Where a string in it spells the closing tag for the first time.
        spelt: Option<usize>,
    },
    /// A string that may be `null` instead, which its first letters tell.
    NullableValue,
    /// A string's inside, which is passed on at once.
    StringValue,
}

impl Tagged {
    pub(super) fn new(tools: Tools) -> Tagged {
        Tagged {
            tools,
            state: State::Text,
            held: String::new(),
            searched: 0,
            name: String::new(),
            arguments: 0,
        }
    }

    /// The same for a reply that is calls from its beginning, or has none.
    pub(super) fn calls_first(self) -> Tagged {
        Tagged { state: State::Start, ..self }
    }

    pub(super) fn feed(&mut self, text: &str, sink: &mut Sink<'_>) {
        self.held.push_str(text);
        while self.step(sink) {}
    }

    /// The reply, or this part of it, ends here. A call that did not end stays without an end.
    pub(super) fn end_segment(&mut self, sink: &mut Sink<'_>) {
        // A string that spelt the closing tag and never ended: the tag closed the value.
        while let State::Value { spelt: Some(at), .. } = self.state {
            self.end_value(at, sink);
            while self.step(sink) {}
        }
        let held = self.take(self.held.len());
        match std::mem::replace(&mut self.state, State::Text) {
            State::Start | State::Plain | State::Text if !held.is_empty() => sink(ReplyPart::Text(held)),
            State::Name => sink(ReplyPart::Text(format!("{CALL}{held}"))),
            State::StringValue if !held.is_empty() => sink(escaped(&held)),
            _ => {}
        }
    }

    /// Goes as far as the next tag; false if that is not there yet.
    fn step(&mut self, sink: &mut Sink<'_>) -> bool {
        match &self.state {
            State::Start => {
                let begun = self.held.trim_start_matches(python::is_space);
                if !begun.starts_with(CALL) && CALL.starts_with(begun) {
                    return false;
                }
                self.state = if begun.starts_with(CALL) { State::Text } else { State::Plain };
            }
            State::Plain => {
                let text = self.take(self.held.len());
                if !text.is_empty() {
                    sink(ReplyPart::Text(text));
                }
                return false;
            }
            State::Text => {
                let Some(at) = self.held.find(CALL) else {
                    let text = self.take_all_but_partial(&[CALL]);
                    if !text.is_empty() {
                        sink(ReplyPart::Text(text));
                    }
                    return false;
                };
                let text = self.take(at);
                if !text.is_empty() {
                    sink(ReplyPart::Text(text));
                }
                self.take(CALL.len());
                self.state = State::Name;
            }
            State::Name => return self.name(sink),
            State::Between => match self.next_of(&[KEY, CALL_END, CALL]) {
                None => return false,
                Some(KEY) => {
                    self.take(KEY.len());
                    self.state = State::Key;
                }
                Some(tag) => {
                    self.take(tag.len());
                    sink(ReplyPart::ToolCallArguments(
                        if self.arguments == 0 { "{}" } else { "}" }.to_owned(),
                    ));
                    sink(ReplyPart::ToolCallEnd);
                    // A new call ends one that was not closed.
                    self.state = if tag == CALL { State::Name } else { State::Text };
                }
            },
            State::Key => {
                let Some(at) = self.find(KEY_END) else { return false };
                let key = python::strip(&self.take(at)).to_owned();
                self.take(KEY_END.len());
                self.state = State::AfterKey { key };
            }
            State::AfterKey { key } => {
                let key = key.clone();
                match self.next_of(&[VALUE, KEY, CALL_END]) {
                    None => return false,
                    Some(VALUE) => {
                        self.take(VALUE.len());
                        self.begin_value(key, sink);
                    }
                    // A key without a value says nothing.
                    Some(_) => self.state = State::Between,
                }
            }
            State::Value { .. } => return self.value(sink),
            State::NullableValue => {
                const NULL: &str = "null</arg_value>";
                if self.held.starts_with(NULL) {
                    self.take(NULL.len());
                    sink(ReplyPart::ToolCallArguments("null".to_owned()));
                    self.state = State::Between;
                } else if NULL.starts_with(&self.held) {
                    return false;
                } else {
                    sink(ReplyPart::ToolCallArguments("\"".to_owned()));
                    self.state = State::StringValue;
                }
            }
            State::StringValue => {
                let Some(at) = self.held.find(VALUE_END) else {
                    let text = self.take_all_but_partial(&[VALUE_END]);
                    if !text.is_empty() {
                        sink(escaped(&text));
                    }
                    return false;
                };
                let text = self.take(at);
                self.take(VALUE_END.len());
                let ReplyPart::ToolCallArguments(mut rest) = escaped(&text) else { return true };
                rest.push('"');
                sink(ReplyPart::ToolCallArguments(rest));
                self.state = State::Between;
            }
        }
        true
    }

    /// The tool's name: up to the end of its line or the next tag.
    fn name(&mut self, sink: &mut Sink<'_>) -> bool {
        let blank = self.held.len() - self.held.trim_start_matches(python::is_space).len();
        self.take(blank);
        let end = ["\n", KEY, CALL_END, CALL].iter().filter_map(|tag| self.held.find(tag)).min();
        let name = python::strip(&self.held[..end.unwrap_or(self.held.len())]);
        if name.len() > MAX_NAME || (end.is_some() && name.is_empty()) {
            sink(ReplyPart::Text(CALL.to_owned()));
            self.state = State::Text;
            return true;
        }
        let Some(end) = end else { return false };
        self.name = name.to_owned();
        self.take(end);
        self.arguments = 0;
        self.state = State::Between;
        sink(ReplyPart::ToolCallStart { name: self.name.clone() });
        true
    }

    fn begin_value(&mut self, key: String, sink: &mut Sink<'_>) {
        let mut opening = if self.arguments == 0 { "{\"" } else { ", \"" }.to_owned();
        python::escape_into(&mut opening, &key);
        opening.push_str("\": ");
        self.arguments += 1;
        if self.tools.kind(&self.name, &key) != Kind::Text {
            let json = JsonScanner::of_object_or_array();
            self.state = State::Value { key, json, scanned: 0, spelt: None };
        } else if self.tools.is_nullable(&self.name, &key) {
            self.state = State::NullableValue;
        } else {
            opening.push('"');
            self.state = State::StringValue;
        }
        sink(ReplyPart::ToolCallArguments(opening));
    }

    /// A value that is no text: up to the first closing tag that no string in it spells.
    fn value(&mut self, sink: &mut Sink<'_>) -> bool {
        let Some(at) = self.find(VALUE_END) else { return false };
        let State::Value { json, scanned, spelt, .. } = &mut self.state else { return false };
        let scan = json.scan(&self.held[*scanned..at]);
        if scan == Scan::More && json.is_in_string() {
            spelt.get_or_insert(at);
            *scanned = at + VALUE_END.len();
            self.searched = *scanned;
            return true;
        }
        let is_whole =
            matches!(scan, Scan::End(end) if python::strip(&self.held[*scanned + end..at]).is_empty());
        let end = spelt.filter(|_| !is_whole).unwrap_or(at);
        self.end_value(end, sink);
        true
    }

    fn end_value(&mut self, at: usize, sink: &mut Sink<'_>) {
        let value = self.take(at);
        self.take(VALUE_END.len());
        if let State::Value { key, .. } = std::mem::replace(&mut self.state, State::Between) {
            sink(ReplyPart::ToolCallArguments(to_json(&value, self.tools.kind(&self.name, &key))));
        }
    }

    /// The next of these tags, with what stands before it dropped.
    fn next_of(&mut self, tags: &[&'static str]) -> Option<&'static str> {
        let next = tags.iter().filter_map(|tag| Some((self.held.find(tag)?, *tag))).min();
        match next {
            Some((at, tag)) => {
                self.take(at);
                Some(tag)
            }
            None => {
                self.take_all_but_partial(tags);
                None
            }
        }
    }

    /// Where the tag is in what is held; what was searched before is not searched again.
    fn find(&mut self, tag: &str) -> Option<usize> {
        let found = self.held[self.searched..].find(tag).map(|at| self.searched + at);
        let partial = self.held.floor_char_boundary((self.held.len() + 1).saturating_sub(tag.len()));
        self.searched = found.unwrap_or(self.searched.max(partial));
        found
    }

    fn take(&mut self, len: usize) -> String {
        self.searched = 0;
        self.held.drain(..len).collect()
    }

    /// All that is held but an end that may be the beginning of one of these tags.
    fn take_all_but_partial(&mut self, tags: &[&str]) -> String {
        let keep = tags.iter().map(|tag| partial_suffix(&self.held, tag)).max().unwrap_or(0);
        self.take(self.held.len() - keep)
    }
}

/// More of a string's inside.
fn escaped(text: &str) -> ReplyPart {
    let mut inside = String::with_capacity(text.len());
    python::escape_into(&mut inside, text);
    ReplyPart::ToolCallArguments(inside)
}
