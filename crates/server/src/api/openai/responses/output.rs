//! The items of an answer, put together from its parts as they come.

use std::sync::Arc;

use glimmer::{ReplyPart, Token};
use serde_json::{Value, json};

use crate::api::openai::object::shown_token;
use crate::api::openai::responses::frame::Frame;
use crate::api::openai::responses::ids;
use crate::api::openai::responses::input::CUSTOM_INPUT;

/// What happened to an item.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It was begun.
    Added(usize),
    /// It has more text.
    More(usize, String),
    /// It is as it will be.
    Done(usize),
}

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Reasoning,
    Message,
    Call,
    /// A call of a custom tool.
    CustomCall,
}

/// An item.
#[derive(Debug)]
struct Item {
    kind: Kind,
    /// What is thought or said; a call's arguments.
    text: String,
    /// The tool that is called.
    name: String,
    /// Of a message, where they are wanted.
    logprobs: Vec<Value>,
    /// Thoughts as their client may bring them back, where that is wanted.
    sealed: Option<String>,
    status: &'static str,
}

impl Item {
    fn is_call(&self) -> bool {
        matches!(self.kind, Kind::Call | Kind::CustomCall)
    }
}

const OPEN: &str = "in_progress";
const WHOLE: &str = "completed";
const PART: &str = "incomplete";

/// The items so far.
pub(crate) struct Output {
    frame: Arc<Frame>,
    items: Vec<Item>,
    /// Tokens whose text was not said yet.
    tokens: Vec<Token>,
    /// Those of reasoning, which may turn out to be none.
    thought: Vec<Token>,
    /// How many log-probabilities were said already.
    told: usize,
}

impl Output {
    pub(crate) fn new(frame: Arc<Frame>) -> Self {
        Output { frame, items: Vec::new(), tokens: Vec::new(), thought: Vec::new(), told: 0 }
    }

    /// Adds what came.
    pub(crate) fn push(&mut self, parts: Vec<ReplyPart>, tokens: Vec<Token>) -> Vec<Step> {
        let mut steps = Vec::new();
        self.tokens.extend(tokens);
        for part in parts {
            match part {
                ReplyPart::Text(text) => self.more(Kind::Message, text, &mut steps),
                ReplyPart::Reasoning(text) if self.frame.has_reasoning() => {
                    self.more(Kind::Reasoning, text, &mut steps);
                }
                ReplyPart::Reasoning(_) => self.thought.append(&mut self.tokens),
                ReplyPart::ReasoningSkipped => self.unthink(&mut steps),
                ReplyPart::ToolCallStart { name } => {
                    let is_custom = self.frame.custom.contains(&name);
                    let kind = if is_custom { Kind::CustomCall } else { Kind::Call };
                    self.add(kind, name, &mut steps);
                }
                ReplyPart::ToolCallArguments(text) => self.arguments(text, &mut steps),
                ReplyPart::ToolCallEnd => self.close(WHOLE, &mut steps),
            }
        }
        steps
    }

    fn open(&mut self) -> Option<&mut Item> {
        self.items.last_mut().filter(|item| item.status == OPEN)
    }

    fn add(&mut self, kind: Kind, name: String, steps: &mut Vec<Step>) {
        self.cut(true, steps);
        steps.push(Step::Added(self.items.len()));
        let (text, logprobs, sealed) = (String::new(), Vec::new(), None);
        self.items.push(Item { kind, text, name, logprobs, sealed, status: OPEN });
        self.told = 0;
    }

    fn more(&mut self, kind: Kind, text: String, steps: &mut Vec<Step>) {
        if self.open().is_none_or(|item| item.kind != kind) {
            self.add(kind, String::new(), steps);
        }
        let tokens = std::mem::take(&mut self.tokens);
        if kind == Kind::Reasoning && self.frame.has_logprobs {
            self.thought.extend_from_slice(&tokens);
        }
        let shown: Vec<Value> = match self.frame.has_logprobs && kind == Kind::Message {
            true => tokens.iter().map(|token| shown_token(&self.frame.tokenizer, token)).collect(),
            false => Vec::new(),
        };
        let at = self.items.len() - 1;
        self.items[at].logprobs.extend(shown);
        self.items[at].text.push_str(&text);
        steps.push(Step::More(at, text));
    }

    /// More of a call's arguments. Those of a custom tool are the string that its input is in: told when it is whole.
    fn arguments(&mut self, text: String, steps: &mut Vec<Step>) {
        let at = self.items.len().saturating_sub(1);
        let Some(item) = self.open() else { return };
        item.text.push_str(&text);
        if item.kind == Kind::Call {
            steps.push(Step::More(at, text));
        }
    }

    /// What was sent as reasoning was none.
    fn unthink(&mut self, steps: &mut Vec<Step>) {
        self.thought.append(&mut self.tokens);
        std::mem::swap(&mut self.thought, &mut self.tokens);
        if let Some(item) = self.open().filter(|item| item.kind == Kind::Reasoning) {
            item.text.clear();
            self.close(WHOLE, steps);
        }
    }

    /// Ends the item that is open where the next one begins or the answer ends; a call has an end of its own.
    fn cut(&mut self, is_whole: bool, steps: &mut Vec<Step>) {
        let is_call = self.open().is_some_and(|item| item.is_call());
        self.close(if is_whole && !is_call { WHOLE } else { PART }, steps);
    }

    fn close(&mut self, status: &'static str, steps: &mut Vec<Step>) {
        let at = self.items.len().saturating_sub(1);
        let frame = self.frame.clone();
        let Some(item) = self.open() else { return };
        let is_call = item.is_call();
        item.status = status;
        if item.kind == Kind::Reasoning && frame.has_sealed_reasoning && !item.text.is_empty() {
            item.sealed = Some(frame.seal(&item.text));
        }
        if item.kind == Kind::CustomCall {
            item.text = custom_input(&item.text);
            steps.push(Step::More(at, item.text.clone()));
        }
        if is_call {
            self.tokens.clear();
        }
        steps.push(Step::Done(at));
    }

    /// Ends the answer, which is whole or was cut off. One without words and calls says nothing.
    pub(crate) fn finish(&mut self, is_whole: bool) -> Vec<Step> {
        let mut steps = Vec::new();
        self.cut(is_whole, &mut steps);
        if is_whole && self.items.iter().all(|item| item.kind == Kind::Reasoning) {
            self.add(Kind::Message, String::new(), &mut steps);
            self.close(WHOLE, &mut steps);
        }
        steps
    }

    /// Leaves out what is nothing where it was not told as it came: thoughts that were none, and a call that the next one cut
    /// off, which has no whole arguments and cannot be made.
    pub(crate) fn tidy(&mut self) {
        let last = self.items.len().saturating_sub(1);
        let mut at = 0;
        self.items.retain(|item| {
            let is_nothing = item.kind == Kind::Reasoning && item.text.is_empty();
            let is_cut = item.status == PART && at < last;
            at += 1;
            !is_nothing && !is_cut
        });
    }

    /// The kind of an item.
    pub(crate) fn kind(&self, at: usize) -> Kind {
        self.items[at].kind
    }

    /// Whether an item is a call.
    pub(crate) fn is_call(&self, at: usize) -> bool {
        self.items[at].is_call()
    }

    /// The name of the tool that an item calls.
    pub(crate) fn name(&self, at: usize) -> &str {
        &self.items[at].name
    }

    /// The text of an item.
    pub(crate) fn text(&self, at: usize) -> &str {
        &self.items[at].text
    }

    /// The log-probabilities of an item's tokens that were not told yet.
    pub(crate) fn untold_logprobs(&mut self, at: usize) -> Value {
        let logprobs = &self.items[at].logprobs;
        let untold = logprobs[self.told.min(logprobs.len())..].to_vec();
        self.told = logprobs.len();
        untold.into()
    }

    /// The log-probabilities of all of an item's tokens.
    pub(crate) fn logprobs(&self, at: usize) -> Value {
        self.items[at].logprobs.clone().into()
    }

    /// The id of an item.
    pub(crate) fn id(&self, at: usize) -> String {
        let prefix = match self.items[at].kind {
            Kind::Reasoning => "rs",
            Kind::Message => "msg",
            Kind::Call => "fc",
            Kind::CustomCall => "ctc",
        };
        ids::output_item(prefix, self.frame.id, at)
    }

    /// An item as it was begun.
    pub(crate) fn begun(&self, at: usize) -> Value {
        let mut item = self.shell(at);
        item["status"] = OPEN.into();
        match self.items[at].kind {
            Kind::Reasoning | Kind::Message => item["content"] = json!([]),
            Kind::Call => item["arguments"] = "".into(),
            Kind::CustomCall => item[CUSTOM_INPUT] = "".into(),
        }
        item
    }

    /// An item as it is.
    pub(crate) fn item(&self, at: usize) -> Value {
        let mut item = self.shell(at);
        let Item { kind, text, sealed, .. } = &self.items[at];
        match kind {
            Kind::Reasoning => {
                let is_shown = self.frame.shows_reasoning && !text.is_empty();
                item["content"] = if is_shown { json!([self.part(at)]) } else { json!([]) };
                if let Some(sealed) = sealed {
                    item["encrypted_content"] = sealed.as_str().into();
                }
            }
            Kind::Message => item["content"] = json!([self.part(at)]),
            Kind::Call => item["arguments"] = text.as_str().into(),
            Kind::CustomCall => item[CUSTOM_INPUT] = text.as_str().into(),
        }
        item
    }

    /// The part of its content that an item has.
    pub(crate) fn part(&self, at: usize) -> Value {
        part(self.items[at].kind, &self.items[at].text, self.logprobs(at))
    }

    fn shell(&self, at: usize) -> Value {
        let Item { kind, status, name, .. } = &self.items[at];
        let mut item = json!({"id": self.id(at), "status": status});
        let kind = match kind {
            Kind::Reasoning => {
                item["summary"] = json!([]);
                "reasoning"
            }
            Kind::Message => {
                item["role"] = "assistant".into();
                "message"
            }
            Kind::Call | Kind::CustomCall => {
                item["call_id"] = ids::output_item("call", self.frame.id, at).into();
                item["name"] = name.as_str().into();
                if *kind == Kind::Call { "function_call" } else { "custom_tool_call" }
            }
        };
        item["type"] = kind.into();
        item
    }

    /// All items.
    pub(crate) fn all(&self) -> Vec<Value> {
        (0..self.items.len()).map(|at| self.item(at)).collect()
    }
}

/// A part of content.
pub(crate) fn part(kind: Kind, text: &str, logprobs: Value) -> Value {
    match kind {
        Kind::Reasoning => json!({"type": "reasoning_text", "text": text}),
        _ => json!({"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}),
    }
}

/// The input of a custom tool in the arguments of its function, as far as they came.
fn custom_input(arguments: &str) -> String {
    let read = |text: &str| {
        let value: Value = serde_json::from_str(text).ok()?;
        Some(value[CUSTOM_INPUT].as_str()?.to_owned())
    };
    // The longest escape that may be cut off is that of a pair of surrogates.
    let cut = (0..12).filter_map(|less| arguments.get(..arguments.len().checked_sub(less)?));
    read(arguments)
        .or_else(|| cut.into_iter().find_map(|text| read(&format!("{text}\"}}"))))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_input_of_a_custom_tool_as_far_as_it_came() {
        for (arguments, input) in [
            (r#"{"input": "a\nb"}"#, "a\nb"),
            (r#"{"input": "a\nb"#, "a\nb"),
            (r#"{"input": "a\"#, "a"),
            (r#"{"input": "a\u00e"#, "a"),
            (r#"{"input": "a\ud83d\ude0"#, "a"),
            (r#"{"input": "ü"#, "ü"),
            (r#"{"input": ""#, ""),
            (r#"{"inp"#, ""),
            ("", ""),
            (r#"{"input": 5}"#, ""),
        ] {
            assert_eq!(custom_input(arguments), input, "{arguments}");
        }
    }
}
