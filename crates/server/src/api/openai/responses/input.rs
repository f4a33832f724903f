//! Input items: what clients send, as it is kept, and as the messages that a model reads.

use std::sync::Arc;

use glimmer::json::{room, tree};
use glimmer::{Message, Role, ToolCall};
use serde_json::{Map, Value, json};

use crate::api::openai::responses::ids;
use crate::error::ApiError;
use crate::http::keys::Caller;
use crate::http::params::{Params, not_a_tree};
use crate::seal::Seal;

/// Bytes of an id that a client gives.
const ID_BYTES: usize = 512;

/// What a part of content may have. What follows the texts says nothing that a model could read.
const PART_FIELDS: [&str; 7] =
    ["type", "text", "refusal", "annotations", "logprobs", "parsed", "prompt_cache_breakpoint"];
/// What a picture may have.
const PICTURE_FIELDS: [&str; 4] = ["type", "image_url", "detail", "prompt_cache_breakpoint"];

/// The argument of a custom tool's function that is its input.
pub(crate) const CUSTOM_INPUT: &str = "input";

/// An item, as far as a model reads it.
#[derive(Debug, PartialEq)]
pub(crate) enum Item {
    Message(Message),
    Reasoning(String),
    /// The thoughts of an earlier response that have this id, if they are kept: nothing else was given of them.
    NamedReasoning(String),
    Call(ToolCall),
    /// What came of the call with this id.
    Result(String, String),
    /// The item of an earlier response that has this id.
    Reference(String),
}

/// An item and its JSON, complete as it is listed.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) item: Item,
    pub(crate) json: Arc<str>,
}

/// Who can open what was sealed for a caller.
#[derive(Clone, Copy)]
pub(crate) struct Opener<'a> {
    pub(crate) seal: &'a Seal,
    pub(crate) caller: &'a Caller,
}

/// Takes `input`: a text or a list of items. Those without an id get one of the response `response`.
pub(crate) fn take(params: &mut Params, opener: Opener<'_>, response: u64) -> Vec<Given> {
    if params.is_string("input") {
        let text = params.string("input").unwrap_or_default();
        let item = json!({"type": "message", "role": "user", "content": text});
        return read(item, 0, opener, response).into_iter().collect();
    }
    let items = params.list("input", |at, text| {
        let value = tree(text, room(text)).map_err(|error| not_a_tree("input", &error))?;
        read(value, at, opener, response)
    });
    items.unwrap_or_default()
}

/// Reads an item that was kept: one that was read before, or one of an answer.
pub(crate) fn kept(json: &Arc<str>, opener: Opener<'_>) -> Result<Given, ApiError> {
    let value = tree(json, room(json)).map_err(|error| not_a_tree("input", &error))?;
    read(value, 0, opener, 0)
}

/// Reads the item that is the `at`th of its list.
fn read(value: Value, at: usize, opener: Opener<'_>, response: u64) -> Result<Given, ApiError> {
    let Value::Object(mut fields) = value else { return Err(fault(at, "an item is an object")) };
    fields.retain(|_, value| !value.is_null());
    let kind = match fields.get("type") {
        None if fields.contains_key("role") => "message",
        None if fields.contains_key("id") => "item_reference",
        None => return Err(fault(at, "`type` is missing")),
        Some(kind) => kind.as_str().ok_or_else(|| fault(at, "`type` is to be a string"))?,
    };
    let kind = kind.to_owned();
    let mut item = Fields { at, fields: &mut fields };
    let read = match kind.as_str() {
        "message" => item.message()?,
        "reasoning" => item.reasoning(opener)?,
        "function_call" => item.call("arguments")?,
        "custom_tool_call" => item.call(CUSTOM_INPUT)?,
        "function_call_output" | "custom_tool_call_output" => item.result()?,
        "item_reference" => {
            item.only(&[])?;
            Item::Reference(item.text("id")?)
        }
        other => {
            let message = format!("`input`, {at}: items of type {:?} are not supported", shortened(other));
            return Err(ApiError::unsupported("input", message));
        }
    };
    item.complete(&kind, response)?;
    Ok(Given { item: read, json: Value::Object(fields).to_string().into() })
}

fn fault(at: usize, what: &str) -> ApiError {
    ApiError::parameter("input", format!("`input`, {at}: {what}"))
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

/// The fields of an item.
struct Fields<'a> {
    at: usize,
    fields: &'a mut Map<String, Value>,
}

impl Fields<'_> {
    fn fault(&self, what: &str) -> ApiError {
        fault(self.at, what)
    }

    /// A string that must be there.
    fn text(&self, name: &str) -> Result<String, ApiError> {
        let text = self.fields.get(name).and_then(Value::as_str);
        text.map(str::to_owned).ok_or_else(|| self.fault(&format!("`{name}` is to be a string")))
    }

    /// Where the field is there, it is one of these.
    fn word(&self, name: &str, words: &[&str]) -> Result<(), ApiError> {
        match self.fields.get(name) {
            None | Some(Value::Null) => Ok(()),
            Some(Value::String(word)) if words.contains(&word.as_str()) => Ok(()),
            Some(_) => Err(self.fault(&format!("`{name}` is to be one of {}", words.join(", ")))),
        }
    }

    /// Nothing else than these, `type`, `id` and `status` may be there.
    fn only(&self, names: &[&str]) -> Result<(), ApiError> {
        self.word("status", &["completed", "in_progress", "incomplete"])?;
        let is_known = |name: &str| names.contains(&name) || ["type", "id", "status"].contains(&name);
        match self.fields.keys().find(|name| !is_known(name)) {
            Some(name) => Err(self.fault(&format!("unknown field {:?}", shortened(name)))),
            None => Ok(()),
        }
    }

    /// Who makes calls here: the model itself and at once.
    fn only_directly(&mut self) -> Result<(), ApiError> {
        let is_direct = |caller: &Value| caller["type"] == "direct";
        if self.fields.remove("caller").is_some_and(|caller| !is_direct(&caller)) {
            return Err(self.fault("`caller` can only be {\"type\": \"direct\"} here"));
        }
        if self.fields.remove("async").is_some_and(|value| value != false) {
            return Err(self.fault("`async` can only be false here"));
        }
        // Whoever lists items is told it.
        self.fields.remove("created_by");
        Ok(())
    }

    fn message(&mut self) -> Result<Item, ApiError> {
        // Which part of an answer it was meant to be says nothing that a model could read.
        self.only(&["role", "content", "phase"])?;
        self.word("phase", &["commentary", "final_answer"])?;
        let role = match self.text("role")?.as_str() {
            "user" => Role::User,
            "system" | "developer" => Role::System,
            "assistant" => Role::Assistant,
            other => return Err(self.fault(&format!("unknown role {:?}", shortened(other)))),
        };
        let kind = if role == Role::Assistant { "output_text" } else { "input_text" };
        if let Some(Value::String(text)) = self.fields.get_mut("content") {
            let mut part = json!({"type": kind, "text": std::mem::take(text)});
            if role == Role::Assistant {
                part["annotations"] = json!([]);
            }
            self.fields.insert("content".to_owned(), json!([part]));
        }
        let kinds = ["input_text", "output_text", "text", "refusal", "input_image"];
        let kinds = if role == Role::User { &kinds[..] } else { &kinds[..4] };
        Ok(Item::Message(self.said(role, "content", kinds)?))
    }

    /// The text of a list of parts of these types.
    fn parts(&self, name: &str, kinds: &[&str]) -> Result<String, ApiError> {
        Ok(self.said(Role::User, name, kinds)?.content)
    }

    /// A list of parts of these types as a message.
    fn said(&self, role: Role, name: &str, kinds: &[&str]) -> Result<Message, ApiError> {
        let Some(parts) = self.fields.get(name).and_then(Value::as_array) else {
            return Err(self.fault(&format!("`{name}` is to be a string or a list of parts")));
        };
        let mut said = Message::new(role, "");
        for part in parts {
            let kind = part["type"].as_str().unwrap_or_default();
            if !kinds.contains(&kind) {
                let message = format!(
                    "`input`, {}: a part of `{name}` of type {:?} is not supported; those that are: {}",
                    self.at,
                    shortened(kind),
                    kinds.join(", ")
                );
                return Err(ApiError::unsupported("input", message));
            }
            let known = if kind == "input_image" { &PICTURE_FIELDS[..] } else { &PART_FIELDS };
            let is_unknown =
                |(field, value): &(&String, &Value)| !value.is_null() && !known.contains(&field.as_str());
            if let Some((field, _)) = part.as_object().into_iter().flatten().find(is_unknown) {
                let what = format!("a part of `{name}` has the unknown field {:?}", shortened(field));
                return Err(self.fault(&what));
            }
            if kind == "input_image" {
                let url = part["image_url"].as_str();
                said.show(url.ok_or_else(|| self.fault("`image_url` of a picture is to be a string"))?);
                continue;
            }
            let text = if kind == "refusal" { &part["refusal"] } else { &part["text"] };
            said.say(text.as_str().ok_or_else(|| self.fault("the text of a part is to be a string"))?);
        }
        Ok(said)
    }

    /// Thoughts: as they were sealed here, or as they are written there, or what was made of them.
    fn reasoning(&mut self, opener: Opener<'_>) -> Result<Item, ApiError> {
        self.only(&["summary", "content", "encrypted_content"])?;
        let mut written = String::new();
        for (name, kind) in [("content", "reasoning_text"), ("summary", "summary_text")] {
            if written.is_empty() && self.fields.contains_key(name) {
                written = self.parts(name, &[kind])?;
            }
        }
        if !self.fields.contains_key("encrypted_content") {
            let is_named = written.is_empty() && self.fields.contains_key("id");
            return Ok(if is_named {
                Item::NamedReasoning(self.id("id")?)
            } else {
                Item::Reasoning(written)
            });
        }
        let sealed = self.text("encrypted_content")?;
        match opener.seal.open_sealed(opener.caller, &sealed) {
            Some(text) => Ok(Item::Reasoning(text)),
            None if !written.is_empty() => Ok(Item::Reasoning(written)),
            None => Err(self
                .fault("`encrypted_content` was not sealed here for this key, and there is no `content`")
                .coded("invalid_encrypted_content")),
        }
    }

    /// A call of a function, or of a custom tool.
    fn call(&mut self, arguments: &str) -> Result<Item, ApiError> {
        self.only_directly()?;
        self.only(&["call_id", "name", arguments])?;
        let text = self.text(arguments)?;
        Ok(Item::Call(ToolCall {
            id: Some(self.id("call_id")?),
            name: self.text("name")?,
            arguments: if arguments == CUSTOM_INPUT { json!({CUSTOM_INPUT: text}) } else { text.into() },
        }))
    }

    fn result(&mut self) -> Result<Item, ApiError> {
        self.only_directly()?;
        self.only(&["call_id", "output", "name"])?;
        let id = self.id("call_id")?;
        match self.fields.get("output") {
            Some(Value::String(text)) => Ok(Item::Result(id, text.clone())),
            _ => Ok(Item::Result(id, self.parts("output", &["input_text", "output_text", "text"])?)),
        }
    }

    fn id(&self, name: &str) -> Result<String, ApiError> {
        let id = self.text(name)?;
        if id.len() > ID_BYTES {
            return Err(self.fault(&format!("`{name}` is to have at most {ID_BYTES} bytes")));
        }
        Ok(id)
    }

    /// Puts in what every item has that is listed.
    fn complete(&mut self, kind: &str, response: u64) -> Result<(), ApiError> {
        self.fields.insert("type".to_owned(), kind.into());
        if self.fields.contains_key("id") {
            self.id("id")?;
        } else {
            let prefix = match kind {
                "message" => "msg",
                "reasoning" => "rs",
                "function_call" => "fc",
                "function_call_output" => "fco",
                "custom_tool_call" => "ctc",
                _ => "ctco",
            };
            self.fields.insert("id".to_owned(), ids::input_item(prefix, response, self.at).into());
        }
        if kind != "item_reference" {
            self.fields.entry("status").or_insert_with(|| "completed".into());
        }
        Ok(())
    }
}

/// The messages of these items. Thoughts, what was said after them and the calls after that are one message.
pub(crate) fn messages(items: impl IntoIterator<Item = Item>) -> Vec<Message> {
    let mut messages: Vec<Message> = Vec::new();
    // Whether the last message may still have a text.
    let mut is_silent = false;
    for item in items {
        match item {
            Item::Message(said) if is_silent && said.role == Role::Assistant => {
                messages.last_mut().into_iter().for_each(|message| message.content.push_str(&said.content));
                is_silent = false;
            }
            Item::Message(said) => {
                messages.push(said);
                is_silent = false;
            }
            Item::Reasoning(text) if !text.is_empty() => {
                let mut message = Message::new(Role::Assistant, "");
                message.reasoning = Some(text);
                messages.push(message);
                is_silent = true;
            }
            Item::Call(call) => {
                match messages.last_mut().filter(|message| message.role == Role::Assistant) {
                    Some(message) => message.tool_calls.push(call),
                    None => {
                        let mut message = Message::new(Role::Assistant, "");
                        message.tool_calls.push(call);
                        messages.push(message);
                    }
                }
                is_silent = false;
            }
            Item::Result(id, text) => {
                let mut message = Message::new(Role::Observation, text);
                message.tool_call_id = Some(id);
                messages.push(message);
                is_silent = false;
            }
            // They were looked up before.
            Item::Reference(_) | Item::NamedReasoning(_) | Item::Reasoning(_) => {}
        }
    }
    messages
}
