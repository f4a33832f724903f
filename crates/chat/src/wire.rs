//! Conversations as JSON: read in the shape of OpenAI's API, of GLM's own (`metadata`, `observation`, tools inside a
//! message) and of the oldest models (`history` and `query`); written in OpenAI's, with GLM's fields where it has none.
//! What is written is read again as the same conversation.

use crate::error::Shown;
use crate::message::{Conversation, Message, Piece, Role, ToolCall};
use crate::python;
use crate::sight::Medium;
use crate::template::SWITCHES;
use glimmer_config::json::deserialize as tree;
use serde::de::{self, Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};
use serde_json::{Map, Value, json};

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Message::from_json(tree(deserializer)?).map_err(|what| de::Error::custom(Shown(&what)))
    }
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Conversation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Conversation::from_json(tree(deserializer)?).map_err(|what| de::Error::custom(Shown(&what)))
    }
}

impl Serialize for Conversation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

impl Message {
    fn from_json(value: Value) -> Result<Message, String> {
        let Value::Object(mut fields) = value else { return Err("a message is a JSON object".to_owned()) };
        let role = match fields.remove("role") {
            Some(Value::String(name)) => parse_role(&name).ok_or_else(|| format!("unknown role {name:?}"))?,
            Some(_) => return Err("`role` is a string".to_owned()),
            None => return Err("`role` is missing".to_owned()),
        };
        let mut message = Message::new(role, "");
        message.read_content(fields.remove("content").unwrap_or(Value::Null))?;
        message.metadata = take_string(&mut fields, "metadata")?;
        for name in ["reasoning_content", "reasoning", "thinking"] {
            if message.reasoning.is_none() {
                message.reasoning = take_string(&mut fields, name)?;
            }
        }
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
                    let kind = fields.get("type").and_then(Value::as_str);
                    let kind = kind.ok_or("a part of `content` has no `type`")?;
                    if Medium::of_type(kind).is_none() {
                        return Err(format!("a part of `content` has the unknown type {kind:?}"));
                    }
                    self.images.push(part.clone());
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

    /// In OpenAI's shape.
    fn to_json(&self) -> Value {
        let mut fields = self.fields("tool", |call| call.arguments.clone());
        // Images stand in the parts, except for GLM-4V's own field.
        let in_parts = self.parts.iter().flatten().filter(|part| text_of(part).is_none()).count();
        fields.extend(self.images.get(in_parts).map(|image| ("image".to_owned(), image.clone())));
        Value::Object(fields)
    }

    /// As Jinja templates expect it: `tool_role` is their word for an observation, arguments of calls are objects, and what is
    /// shown is a part that says so and nothing else.
    pub(crate) fn for_template(&self, tool_role: &str) -> Value {
        let arguments =
            |call: &ToolCall| call.arguments_object().map_or_else(|| call.arguments.clone(), Value::Object);
        let mut fields = self.fields(tool_role, arguments);
        if !self.images.is_empty() {
            let parts = self.pieces().into_iter().map(|piece| match piece {
                Piece::Text(text) => json!({"type": "text", "text": text}),
                Piece::Shown(medium) => json!({"type": medium.name()}),
            });
            fields.insert("content".to_owned(), parts.collect());
        }
        Value::Object(fields)
    }

    fn fields(&self, tool_role: &str, arguments: impl Fn(&ToolCall) -> Value) -> Map<String, Value> {
        let role = if self.role == Role::Observation { tool_role } else { self.role.name() };
        let content = match &self.parts {
            Some(parts) => Value::Array(parts.clone()),
            None if !self.results.is_empty() => json!(self.results),
            None => json!(self.content),
        };
        let mut fields = Map::from_iter([("role".to_owned(), json!(role)), ("content".to_owned(), content)]);
        let mut add =
            |name: &str, value: Option<Value>| fields.extend(value.map(|value| (name.to_owned(), value)));
        add("metadata", self.metadata.as_ref().map(|text| json!(text)));
        add("reasoning_content", self.reasoning.as_ref().map(|text| json!(text)));
        add("tool_call_id", self.tool_call_id.as_ref().map(|text| json!(text)));
        add("tools", self.tools.as_ref().map(|tools| json!(tools)));
        let calls = self.tool_calls.iter().map(|call| {
            let mut fields = Map::from_iter([
                ("type".to_owned(), json!("function")),
                ("function".to_owned(), json!({"name": call.name, "arguments": arguments(call)})),
            ]);
            fields.extend(call.id.as_ref().map(|id| ("id".to_owned(), json!(id))));
            Value::Object(fields)
        });
        let calls: Vec<Value> = calls.collect();
        add("tool_calls", (!calls.is_empty()).then_some(Value::Array(calls)));
        fields
    }
}

impl Conversation {
    fn from_json(value: Value) -> Result<Conversation, String> {
        let mut fields = match value {
            Value::Array(messages) => Map::from_iter([("messages".to_owned(), Value::Array(messages))]),
            Value::Object(fields) => fields,
            _ => return Err("an object with `messages`, or a list of messages".to_owned()),
        };
        let mut messages = match take_list(&mut fields, "history")? {
            Some(history) => rounds(&history)?,
            None => Vec::new(),
        };
        for (i, message) in take_list(&mut fields, "messages")?.unwrap_or_default().into_iter().enumerate() {
            messages.push(Message::from_json(message).map_err(|e| format!("message {i}: {e}"))?);
        }
        if let Some(query) = take_string(&mut fields, "query")? {
            messages.push(Message::new(Role::User, query));
        }
        let mut conversation = Conversation::new(messages);
        conversation.tools = take_list(&mut fields, "tools")?.unwrap_or_default();
        if let Some(Value::Object(extra)) = fields.remove("chat_template_kwargs") {
            for name in SWITCHES {
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
        conversation.year = match fields.remove("year").filter(|year| !year.is_null()) {
            Some(year) => Some(u16::deserialize(year).map_err(|_| "`year` is a year")?),
            None => None,
        };
        conversation.language = take_string(&mut fields, "language")?;
        Ok(conversation)
    }

    /// Messages, and of the rest what is not left open.
    fn to_json(&self) -> Value {
        let mut fields = Map::from_iter([("messages".to_owned(), json!(self.messages))]);
        let mut add =
            |name: &str, value: Option<Value>| fields.extend(value.map(|value| (name.to_owned(), value)));
        add("tools", (!self.tools.is_empty()).then(|| json!(self.tools)));
        add("enable_thinking", self.enable_thinking.map(Value::Bool));
        add("clear_thinking", self.clear_thinking.map(Value::Bool));
        add("add_generation_prompt", (!self.add_generation_prompt).then_some(Value::Bool(false)));
        add("assistant_name", self.assistant_name.as_ref().map(|name| json!(name)));
        add("year", self.year.map(|year| json!(year)));
        add("language", self.language.as_ref().map(|language| json!(language)));
        add("chat_template_kwargs", (!self.extra.is_empty()).then(|| json!(self.extra)));
        Value::Object(fields)
    }
}

/// The messages of a `history` as the oldest APIs have it: a list of pairs `[question, answer]`. Their published clients
/// send questions and answers in turn as one list within it, and others the plain list.
///
/// # Errors
/// Names the entry that has no place in one.
pub fn rounds(history: &[Value]) -> Result<Vec<Message>, String> {
    let mut texts = Vec::new();
    pairs(history, 3, &mut texts)
        .map_err(|at| format!("history {at}: a round is a pair of strings, question and answer"))?;
    let roles = [Role::User, Role::Assistant].into_iter().cycle();
    Ok(texts.into_iter().zip(roles).map(|(text, role)| Message::new(role, text)).collect())
}

/// Collects the texts of lists within lists, each of which has to hold pairs and nothing else; the error is the place of
/// the first entry that breaks this.
fn pairs(values: &[Value], depth: usize, texts: &mut Vec<String>) -> Result<(), usize> {
    let mut own = 0;
    for (at, value) in values.iter().enumerate() {
        match value {
            Value::String(text) => {
                own += 1;
                texts.push(text.clone());
            }
            Value::Array(inner) if depth > 1 && own % 2 == 0 => {
                pairs(inner, depth - 1, texts).map_err(|_| at)?;
            }
            _ => return Err(at),
        }
    }
    if own % 2 == 0 { Ok(()) } else { Err(values.len() - 1) }
}

fn parse_role(name: &str) -> Option<Role> {
    Some(match name {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "observation" | "tool" | "function" => Role::Observation,
        _ => return None,
    })
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
