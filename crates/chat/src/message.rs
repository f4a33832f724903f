//! A conversation as the caller gives it: roles, messages, tools and the switches of a template.
//!
//! Read from JSON in the shape of OpenAI's API, of GLM's own (`metadata`, `observation`, tools inside a
//! message) and of the oldest models (`history` and `query`). What a message means for a given model is
//! not decided here.

use crate::python;
use serde::de::{self, Deserialize, Deserializer};
use serde_json::{Map, Value};

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

    fn parse(name: &str) -> Option<Role> {
        Some(match name {
            "system" | "developer" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "observation" | "tool" | "function" => Role::Observation,
            _ => return None,
        })
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
            Value::String(text) => serde_json::from_str(text).ok(),
            _ => None,
        }
    }

    /// The arguments as text: the caller's own, or `json.dumps` of the object.
    pub fn arguments_text(&self) -> String {
        match &self.arguments {
            Value::String(text) => text.clone(),
            Value::Null => "{}".to_owned(),
            other => python::dumps(other),
        }
    }
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
    /// Images that go with the text, as the caller names them (a path, a URL, an `image_url` part).
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

    /// The text of an observation as one: its own, or the listed results on lines of their own.
    pub fn observed(&self) -> String {
        if self.results.is_empty() { self.content.clone() } else { self.results.join("\n") }
    }

    fn from_json(value: Value) -> Result<Message, String> {
        let Value::Object(mut fields) = value else { return Err("a message is a JSON object".to_owned()) };
        let role = match fields.remove("role") {
            Some(Value::String(name)) => {
                Role::parse(&name).ok_or_else(|| format!("unknown role {name:?}"))?
            }
            Some(_) => return Err("`role` is a string".to_owned()),
            None => return Err("`role` is missing".to_owned()),
        };
        let mut message = Message::new(role, "");
        message.read_content(fields.remove("content").unwrap_or(Value::Null))?;
        message.metadata = take_string(&mut fields, "metadata")?;
        let reasoning = take_string(&mut fields, "reasoning_content")?;
        message.reasoning = match reasoning {
            Some(reasoning) => Some(reasoning),
            None => take_string(&mut fields, "reasoning")?,
        };
        message.tool_call_id = take_string(&mut fields, "tool_call_id")?;
        if let Some(calls) = take_list(&mut fields, "tool_calls")? {
            message.tool_calls = calls.into_iter().map(tool_call).collect::<Result<_, _>>()?;
        } else if let Some(call) = fields.remove("function_call").filter(|call| !call.is_null()) {
            message.tool_calls = vec![tool_call(call)?];
        }
        message.tools = take_list(&mut fields, "tools")?;
        match fields.remove("image") {
            None | Some(Value::Null | Value::Bool(false)) => {}
            Some(image) => message.images.push(image),
        }
        Ok(message)
    }

    fn read_content(&mut self, content: Value) -> Result<(), String> {
        let parts = match content {
            Value::Null => return Ok(()),
            Value::String(text) => {
                self.content = text;
                return Ok(());
            }
            Value::Array(parts) => parts,
            _ => return Err("`content` is a string, a list of parts or null".to_owned()),
        };
        let mut only_text = true;
        let observation = self.role == Role::Observation;
        let listed = observation && parts.iter().any(|part| text_of(part).is_none());
        for part in &parts {
            match text_of(part) {
                Some(text) if listed => self.results.push(text.to_owned()),
                Some(text) => self.content.push_str(text),
                None if observation => {
                    self.results.push(python::str(part.get("output").unwrap_or(part)));
                }
                None => {
                    only_text = false;
                    let Value::Object(fields) = part else {
                        return Err("a part of `content` is a string or an object".to_owned());
                    };
                    match fields.get("type").and_then(Value::as_str) {
                        Some("image" | "image_url" | "input_image") => self.images.push(part.clone()),
                        Some(other) => {
                            return Err(format!("a part of `content` has the unknown type {other:?}"));
                        }
                        None => return Err("a part of `content` has no `type`".to_owned()),
                    }
                }
            }
        }
        if observation && !listed && parts.iter().any(Value::is_string) {
            // Bare strings in a tool's list are results of their own, as GLM-4.5's template reads them.
            self.results = parts.iter().filter_map(text_of).map(str::to_owned).collect();
            self.content.clear();
        }
        if !only_text {
            self.parts = Some(parts);
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Message::from_json(Value::deserialize(deserializer)?).map_err(de::Error::custom)
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

    fn from_json(value: Value) -> Result<Conversation, String> {
        let mut fields = match value {
            Value::Array(messages) => Map::from_iter([("messages".to_owned(), Value::Array(messages))]),
            Value::Object(fields) => fields,
            _ => return Err("an object with `messages`, or a list of messages".to_owned()),
        };
        let mut messages = Vec::new();
        if let Some(history) = take_list(&mut fields, "history")? {
            for (i, round) in history.into_iter().enumerate() {
                let (question, answer) = round_of(round).ok_or_else(|| {
                    format!("history {i}: a round is a pair of strings, question and answer")
                })?;
                messages.push(Message::new(Role::User, question));
                messages.push(Message::new(Role::Assistant, answer));
            }
        }
        for (i, message) in take_list(&mut fields, "messages")?.unwrap_or_default().into_iter().enumerate() {
            messages.push(Message::from_json(message).map_err(|e| format!("message {i}: {e}"))?);
        }
        if let Some(query) = take_string(&mut fields, "query")? {
            messages.push(Message::new(Role::User, query));
        }
        let mut conversation = Conversation::new(messages);
        conversation.tools = take_list(&mut fields, "tools")?.unwrap_or_default();
        if let Some(Value::Object(extra)) = fields.remove("chat_template_kwargs") {
            for name in ["enable_thinking", "clear_thinking", "add_generation_prompt"] {
                if let Some(value) = extra.get(name) {
                    fields.entry(name).or_insert_with(|| value.clone());
                }
            }
            conversation.extra = extra;
        }
        conversation.enable_thinking = take_bool(&mut fields, "enable_thinking")?;
        conversation.clear_thinking = take_bool(&mut fields, "clear_thinking")?;
        conversation.add_generation_prompt = take_bool(&mut fields, "add_generation_prompt")?.unwrap_or(true);
        conversation.assistant_name = take_string(&mut fields, "assistant_name")?;
        conversation.language = take_string(&mut fields, "language")?;
        Ok(conversation)
    }
}

impl<'de> Deserialize<'de> for Conversation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Conversation::from_json(Value::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// The text of a content part, if it is one of text.
fn text_of(part: &Value) -> Option<&str> {
    match part {
        Value::String(text) => Some(text),
        Value::Object(fields) => {
            let kind = fields.get("type")?.as_str()?;
            if matches!(kind, "text" | "input_text" | "output_text") {
                fields.get("text")?.as_str()
            } else {
                None
            }
        }
        _ => None,
    }
}

fn tool_call(value: Value) -> Result<ToolCall, String> {
    let Value::Object(mut call) = value else { return Err("a tool call is a JSON object".to_owned()) };
    let id = take_string(&mut call, "id")?;
    let mut function = match call.remove("function") {
        Some(Value::Object(function)) => function,
        Some(_) => return Err("a tool call's `function` is an object".to_owned()),
        None => call,
    };
    let name = take_string(&mut function, "name")?.ok_or("a tool call has no `name`")?;
    let arguments =
        function.remove("arguments").or_else(|| function.remove("parameters")).unwrap_or(Value::Null);
    match arguments {
        Value::Object(_) | Value::String(_) | Value::Null => Ok(ToolCall { id, name, arguments }),
        _ => Err(format!("the arguments of the call of {name:?} are neither an object nor a string")),
    }
}

fn round_of(round: Value) -> Option<(String, String)> {
    let Value::Array(pair) = round else { return None };
    match <[Value; 2]>::try_from(pair).ok()? {
        [Value::String(question), Value::String(answer)] => Some((question, answer)),
        _ => None,
    }
}

fn take_string(fields: &mut Map<String, Value>, name: &str) -> Result<Option<String>, String> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("`{name}` is a string")),
    }
}

fn take_bool(fields: &mut Map<String, Value>, name: &str) -> Result<Option<bool>, String> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(value)) => Ok(Some(value)),
        Some(_) => Err(format!("`{name}` is true or false")),
    }
}

fn take_list(fields: &mut Map<String, Value>, name: &str) -> Result<Option<Vec<Value>>, String> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(items)) => Ok(Some(items)),
        Some(_) => Err(format!("`{name}` is a list")),
    }
}
