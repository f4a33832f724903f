//! The messages of a request, whose contents are texts or blocks, as the messages that a model reads.

use glimmer::json::{room, tree};
use glimmer::{Message, Role, ToolCall};
use serde_json::{Map, Value};

use crate::error::ApiError;
use crate::http::keys::Caller;
use crate::http::params::{Params, not_a_tree};
use crate::seal::Seal;

/// What Claude Code puts before its instructions for whoever bills: it names the program and changes with the conversation,
/// so that a prompt that began with it would never be remembered.
const BILLING: &str = "x-anthropic-billing-header:";

/// Reads messages of one caller.
pub(crate) struct Reader<'a> {
    pub(crate) seal: &'a Seal,
    pub(crate) caller: &'a Caller,
}

impl Reader<'_> {
    /// Takes `system` and `messages`.
    pub(crate) fn take(&self, params: &mut Params) -> Vec<Message> {
        let mut all = Vec::new();
        if let Some(system) = params.value("system") {
            match system_text(system) {
                Ok(text) => all.extend((!text.is_empty()).then(|| Message::new(Role::System, text))),
                Err(fault) => params.refuse(fault),
            }
        }
        params.need("messages");
        let before = all.len();
        // What is made of the list is no larger than what is made of other texts.
        let mut left = room("");
        let read = params.list("messages", |at, text| {
            left = left.saturating_add(room(text) - room(""));
            let had = all.len();
            self.message(at, text, &mut all)?;
            let made = (all.len() - had) * size_of::<Message>();
            left = left.checked_sub(made).ok_or_else(|| ApiError::too_dense("messages"))?;
            Ok(())
        });
        if read.is_some() && all.len() == before {
            params.wrong("messages", "a list that is not empty");
        }
        all
    }

    /// Reads a message. One that follows another of the same role goes on with it, as Anthropic's models read them.
    fn message(&self, at: usize, text: &str, all: &mut Vec<Message>) -> Result<(), ApiError> {
        let fault = |what: &str| ApiError::parameter("messages", format!("message {at}: {what}"));
        let value = tree(text, room(text)).map_err(|error| not_a_tree("messages", &error))?;
        let Value::Object(mut fields) = value else { return Err(fault("a message is an object")) };
        let role = match fields.remove("role").as_ref().and_then(Value::as_str) {
            Some("user") => Role::User,
            Some("assistant") => Role::Assistant,
            Some("system") => Role::System,
            _ => return Err(fault("`role` is to be user, assistant or system")),
        };
        let content = fields.remove("content");
        if let Some((name, _)) = fields.iter().find(|(_, value)| !value.is_null()) {
            return Err(fault(&format!("unknown field {name:?}")));
        }
        match content {
            Some(Value::String(text)) => add(all, Message::new(role, text)),
            Some(Value::Array(blocks)) => {
                let blocks = blocks.into_iter().enumerate();
                let blocks =
                    blocks.map(|(index, block)| Block::of(&format!("message {at}, block {index}"), block));
                self.blocks(role, blocks, all)?;
            }
            _ => return Err(fault("`content` is to be a text or a list of blocks")),
        }
        Ok(())
    }

    fn blocks(
        &self,
        role: Role,
        blocks: impl Iterator<Item = Result<Block, ApiError>>,
        all: &mut Vec<Message>,
    ) -> Result<(), ApiError> {
        let mut own = Message::new(role, "");
        for block in blocks {
            let block = block?;
            match (role, block.kind.as_str()) {
                (Role::Assistant, "text") => own.content.push_str(&block.text()?),
                (_, "text") => add(all, Message::new(role, block.text()?)),
                (Role::Assistant, "thinking" | "redacted_thinking") => {
                    own.reasoning.get_or_insert_default().push_str(&self.thoughts(block)?);
                }
                (Role::Assistant, "tool_use") => own.tool_calls.push(block.call()?),
                (Role::User, "tool_result") => all.push(block.result()?),
                (Role::User, "image") => {
                    let mut shown = Message::new(role, "");
                    shown.show(block.picture()?);
                    add(all, shown);
                }
                _ => return Err(block.unsupported(role)),
            }
        }
        if role == Role::Assistant {
            own.reasoning = own.reasoning.filter(|text| !text.is_empty());
            add(all, own);
        }
        Ok(())
    }

    /// The thoughts of a block. Its signature holds them as the model had them, if it is this server's for this caller;
    /// otherwise they are what the block shows.
    fn thoughts(&self, mut block: Block) -> Result<String, ApiError> {
        let [shown, sealed] = if block.kind == "thinking" { ["thinking", "signature"] } else { ["", "data"] };
        let shown = if shown.is_empty() { String::new() } else { block.string(shown)? };
        let sealed = block.optional(sealed)?.unwrap_or_default();
        block.done(&[])?;
        Ok(self.seal.open_sealed(self.caller, &sealed).unwrap_or(shown))
    }
}

/// The text of `system`, a text or a list of blocks of text.
fn system_text(system: Value) -> Result<String, ApiError> {
    let fault = || ApiError::parameter("system", "`system` is to be a text or a list of blocks of text");
    let blocks = match system {
        Value::String(text) => return Ok(text),
        Value::Array(blocks) => blocks,
        _ => return Err(fault()),
    };
    let mut all = String::new();
    for (index, block) in blocks.into_iter().enumerate() {
        let block = Block::of(&format!("`system`, block {index}"), block)?;
        if block.kind != "text" {
            return Err(block.unsupported(Role::System));
        }
        let text = block.text()?;
        if !text.starts_with(BILLING) {
            add_text(&mut all, &text);
        }
    }
    Ok(all)
}

/// Adds a message, or more to the last one of the same role.
fn add(all: &mut Vec<Message>, next: Message) {
    match all.last_mut() {
        Some(last) if last.role == next.role && next.role != Role::System => {
            add_line(last, &next.content);
            next.images.into_iter().for_each(|image| last.show_part(image));
            if let Some(reasoning) = next.reasoning {
                add_text(last.reasoning.get_or_insert_default(), &reasoning);
            }
            last.tool_calls.extend(next.tool_calls);
        }
        _ => all.push(next),
    }
}

/// Adds a text that stood by itself to a message: in a line of its own, unless a picture is before it.
fn add_line(to: &mut Message, text: &str) {
    let after_picture =
        to.parts.as_ref().and_then(|parts| parts.last()).is_some_and(|last| last["type"] != "text");
    if to.parts.is_none() {
        add_text(&mut to.content, text);
    } else if !text.is_empty() {
        let is_line = after_picture || to.content.ends_with('\n') || text.starts_with('\n');
        to.say(&format!("{}{text}", if is_line { "" } else { "\n" }));
    }
}

/// Adds a text that stood by itself: in a line of its own.
fn add_text(to: &mut String, text: &str) {
    if !to.is_empty() && !text.is_empty() && !to.ends_with('\n') && !text.starts_with('\n') {
        to.push('\n');
    }
    to.push_str(text);
}

/// A block of a message's content.
struct Block {
    place: String,
    kind: String,
    /// What was not read of it yet.
    fields: Map<String, Value>,
}

impl Block {
    fn of(place: &str, value: Value) -> Result<Self, ApiError> {
        let mut block = Block { place: place.to_owned(), kind: String::new(), fields: Map::new() };
        let Value::Object(fields) = value else { return Err(block.fault("a block is an object")) };
        block.fields = fields;
        block.kind = block.string("type")?;
        // Everything is remembered, marked or not.
        block.fields.remove("cache_control");
        Ok(block)
    }

    fn param(&self) -> &'static str {
        if self.place.starts_with("`system`") { "system" } else { "messages" }
    }

    fn fault(&self, what: &str) -> ApiError {
        ApiError::parameter(self.param(), format!("{}: {what}", self.place))
    }

    fn unsupported(&self, role: Role) -> ApiError {
        let kind: String = self.kind.chars().take(60).collect();
        let message = format!("{}: a block {kind:?} is not supported of {}", self.place, role.name());
        ApiError::unsupported(self.param(), message)
    }

    fn optional(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        match self.fields.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.fault(&format!("`{name}` is to be a string"))),
        }
    }

    fn string(&mut self, name: &str) -> Result<String, ApiError> {
        self.optional(name)?.ok_or_else(|| self.fault(&format!("`{name}` is missing")))
    }

    /// Nothing may be left but these, which say nothing that a model could read.
    fn done(mut self, notes: &[&str]) -> Result<(), ApiError> {
        self.fields.retain(|name, value| !value.is_null() && !notes.contains(&name.as_str()));
        match self.fields.keys().next() {
            Some(name) => Err(self.fault(&format!("unknown field {name:?}"))),
            None => Ok(()),
        }
    }

    fn text(mut self) -> Result<String, ApiError> {
        let text = self.string("text")?;
        self.done(&["citations"])?;
        Ok(text)
    }

    /// Where a picture is: what stands in the block as a data URI, or its address.
    fn picture(mut self) -> Result<String, ApiError> {
        let Some(Value::Object(fields)) = self.fields.remove("source") else {
            return Err(self.fault("`source` is to be an object"));
        };
        let mut source = Block { place: format!("{}, its source", self.place), kind: String::new(), fields };
        self.done(&[])?;
        source.kind = source.string("type")?;
        let place = match source.kind.as_str() {
            "base64" => format!("data:{};base64,{}", source.string("media_type")?, source.string("data")?),
            "url" => source.string("url")?,
            _ => return Err(source.fault("`type` is to be base64 or url")),
        };
        source.done(&[])?;
        Ok(place)
    }

    fn call(mut self) -> Result<ToolCall, ApiError> {
        let (id, name) = (self.string("id")?, self.string("name")?);
        let arguments = match self.fields.remove("input") {
            Some(input @ Value::Object(_)) => input,
            _ => return Err(self.fault("`input` is to be an object")),
        };
        self.done(&["caller"])?;
        Ok(ToolCall { id: Some(id), name, arguments })
    }

    fn result(mut self) -> Result<Message, ApiError> {
        let id = self.string("tool_use_id")?;
        let is_error = match self.fields.remove("is_error") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(is_error)) => is_error,
            Some(_) => return Err(self.fault("`is_error` is to be true or false")),
        };
        let mut text = String::new();
        match self.fields.remove("content") {
            None | Some(Value::Null) => {}
            Some(Value::String(content)) => text = content,
            Some(Value::Array(blocks)) => {
                for block in blocks {
                    let block = Block::of(&format!("{}, in its result", self.place), block)?;
                    if block.kind != "text" {
                        return Err(block.unsupported(Role::Observation));
                    }
                    add_text(&mut text, &block.text()?);
                }
            }
            Some(_) => return Err(self.fault("`content` is to be a text or a list of blocks")),
        }
        self.done(&[])?;
        // The formats have no other way to say so.
        let content = if is_error { format!("Error: {text}") } else { text };
        Ok(Message { tool_call_id: Some(id), ..Message::new(Role::Observation, content) })
    }
}
