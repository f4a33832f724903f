//! A conversation as the caller gives it: roles, messages, tools and the switches of a template. What a message means for
//! a given model is not decided here, nor (`wire`) how it is written as JSON.

use crate::python;
use crate::sight::{Medium, Sight};
use glimmer_config::json;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::HashMap;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The operator's standing instruction.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// What a tool answered (`observation`; OpenAI: `tool`, once `function`).
    Observation,
}

impl Role {
    /// The role's name in GLM's own formats.
    pub fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Observation => "observation",
        }
    }
}

/// A call of a tool by the model.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall {
    /// The caller's identifier of the call, if it has one.
    pub id: Option<String>,
    /// The tool's name.
    pub name: String,
    /// The arguments: an object, or the text that stood in their place.
    pub arguments: Value,
}

impl ToolCall {
    /// The arguments as an object; text is read as JSON, empty text as no arguments.
    pub fn arguments_object(&self) -> Option<Map<String, Value>> {
        match &self.arguments {
            Value::Object(map) => Some(map.clone()),
            Value::Null => Some(Map::new()),
            Value::String(text) if python::strip(text).is_empty() => Some(Map::new()),
            Value::String(text) => match json::tree(text, json::room(text)) {
                Ok(Value::Object(map)) => Some(map),
                _ => None,
            },
            _ => None,
        }
    }

    /// The arguments as text: the caller's own, `{}` for empty text, or `json.dumps` of the object.
    pub fn arguments_text(&self) -> String {
        match &self.arguments {
            Value::String(text) if !python::strip(text).is_empty() => text.clone(),
            Value::String(_) | Value::Null => "{}".to_owned(),
            other => python::dumps(other),
        }
    }
}

/// A part of a message's content.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Piece<'a> {
    Text(&'a str),
    Shown(Medium),
}

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// The text; text parts of a list joined, nothing for `null`.
    pub content: String,
    /// The first line of an assistant message in GLM's formats: the name of the tool that is called.
    pub metadata: Option<String>,
    /// The model's reasoning (`reasoning_content`), kept apart from the text.
    pub reasoning: Option<String>,
    /// Calls of tools that the message makes.
    pub tool_calls: Vec<ToolCall>,
    /// Tools declared in the message itself, as GLM-4's and ChatGLM3's own formats have it.
    pub tools: Option<Vec<Value>>,
    /// Several results given as a list in one observation.
    pub results: Vec<String>,
    /// Pictures and videos that go with the text, as the caller names them (a path, a URL, an `image_url` part).
    pub images: Vec<Value>,
    /// The identifier of the call that an observation answers.
    pub tool_call_id: Option<String>,
    /// The content's parts as they came, where some are not text: for templates that lay them out themselves.
    pub parts: Option<Vec<Value>>,
}

impl Message {
    /// A message of plain text.
    pub fn new(role: Role, content: impl Into<String>) -> Message {
        Message {
            role,
            content: content.into(),
            metadata: None,
            reasoning: None,
            tool_calls: Vec::new(),
            tools: None,
            results: Vec::new(),
            images: Vec::new(),
            tool_call_id: None,
            parts: None,
        }
    }

    /// Adds text after what is there.
    pub fn say(&mut self, text: &str) {
        self.content.push_str(text);
        if let Some(parts) = &mut self.parts {
            parts.push(json!({"type": "text", "text": text}));
        }
    }

    /// Adds a picture after what is there, by its path, URL or data URI.
    pub fn show(&mut self, place: impl Into<String>) {
        self.show_part(json!({"type": "image_url", "image_url": {"url": place.into()}}));
    }

    /// Adds a picture or a video after what is there: a part of content as OpenAI's API has it.
    pub fn show_part(&mut self, part: Value) {
        let said = || json!({"type": "text", "text": self.content});
        let said = (!self.content.is_empty()).then(said);
        self.parts.get_or_insert_with(|| said.into_iter().collect()).push(part.clone());
        self.images.push(part);
    }

    /// The pictures and videos that go with the text, in order.
    pub fn sights(&self) -> impl Iterator<Item = Sight<'_>> {
        self.images.iter().map(Sight::of)
    }

    /// The content in order: pieces of text, and what is shown between them. A picture that has no place among the parts
    /// comes before the text where that has no parts.
    pub(crate) fn pieces(&self) -> Vec<Piece<'_>> {
        let mut pieces = Vec::new();
        for part in self.parts.iter().flatten() {
            let text = || part.as_str().or_else(|| part.get("text")?.as_str()).unwrap_or_default();
            pieces.push(Medium::of_part(part).map_or_else(|| Piece::Text(text()), Piece::Shown));
        }
        let in_parts = pieces.iter().filter(|piece| matches!(piece, Piece::Shown(_))).count();
        pieces.extend(self.sights().skip(in_parts).map(|sight| Piece::Shown(sight.medium)));
        if self.parts.is_none() {
            pieces.push(Piece::Text(&self.content));
        }
        pieces
    }

    /// The text of an observation as one: its own, or the listed results on lines of their own.
    pub fn observed(&self) -> String {
        if self.results.is_empty() { self.content.clone() } else { self.results.join("\n") }
    }
}

/// A conversation and the switches that a chat template knows.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversation {
    /// The messages, oldest first.
    pub messages: Vec<Message>,
    /// Tools for the whole conversation: OpenAI's `{"type": "function", "function": {…}}` or bare functions.
    pub tools: Vec<Value>,
    /// Whether the model may reason first; `None` leaves the model's own default.
    pub enable_thinking: Option<bool>,
    /// `Some(false)` keeps the reasoning of earlier turns in the prompt (GLM-4.7 and later).
    pub clear_thinking: Option<bool>,
    /// Whether the prompt ends where the model's reply begins.
    pub add_generation_prompt: bool,
    /// The name that GLM-4's tools block gives the model; `None` takes the checkpoint's.
    pub assistant_name: Option<String>,
    /// The year that Z1-Rumination's system prompt states; `None` takes the published 2025.
    pub year: Option<u16>,
    /// The language tag that CodeGeeX2 is given, such as `Python`; `None` leaves the instruction as it is.
    pub language: Option<String>,
    /// Further variables for a Jinja template (`chat_template_kwargs`).
    pub extra: Map<String, Value>,
}

impl Conversation {
    /// A conversation of these messages, to be answered by the model.
    pub fn new(messages: Vec<Message>) -> Conversation {
        Conversation {
            messages,
            tools: Vec::new(),
            enable_thinking: None,
            clear_thinking: None,
            add_generation_prompt: true,
            assistant_name: None,
            year: None,
            language: None,
            extra: Map::new(),
        }
    }

    /// All pictures and videos, in the order of the messages.
    pub fn sights(&self) -> impl Iterator<Item = Sight<'_>> {
        self.messages.iter().flat_map(Message::sights)
    }

    /// The same with the results of calls in the order of the calls, where ids tell it: no format shows more of a result's
    /// call than its place.
    pub(crate) fn in_call_order(&self) -> Cow<'_, Conversation> {
        let mut ordered = Cow::Borrowed(self);
        let mut at = 0;
        while let Some(message) = self.messages.get(at) {
            at += 1;
            let rest = &self.messages[at..];
            let results = &rest[..rest.iter().take_while(|m| m.role == Role::Observation).count()];
            let numbered = message.tool_calls.iter().enumerate();
            let places: HashMap<&str, usize> =
                numbered.filter_map(|(place, call)| Some((call.id.as_deref()?, place))).collect();
            let place = |result: &Message| places.get(result.tool_call_id.as_deref()?).copied();
            if !results.is_sorted_by_key(place) && results.iter().all(|result| place(result).is_some()) {
                ordered.to_mut().messages[at..at + results.len()].sort_by_key(place);
            }
            at += results.len();
        }
        ordered
    }

    /// A conversation that begins with a person's message.
    pub fn of_user(text: impl Into<String>) -> Conversation {
        Conversation::new(vec![Message::new(Role::User, text)])
    }
}
