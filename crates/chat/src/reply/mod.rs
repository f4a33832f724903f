//! A reply as it comes out of the model, token by token: text, reasoning and tool calls, told apart.
//!
//! What a reply's parts look like is each generation's own (see `lines` and `tagged`); what comes out is the
//! same for all: a stream of [`ReplyPart`]s, none of which is ever taken back, and the same events however the reply
//! was cut into tokens. A reply is the work of a model and may be anything: unfinished, endless, nested without
//! bound. Nothing here fails on it, and what is held back is never more than the reply itself.

mod arguments;
mod decoding;
mod filters;
mod json_scanner;
mod lines;
mod python_call;
mod tagged;
mod thinking;

use crate::message::{Message, Role, ToolCall};
use crate::template::ChatTemplate;
use arguments::Tools;
pub use arguments::stands_raw;
pub use decoding::{Decoding, Plain};
use filters::{ChatGlmText, StopStrings, Trim};
use glimmer_config::Family;
use glimmer_tokenizer::{DecodeStream, TokenId, Tokenizer};
use lines::{Dialect, Lines};
use serde_json::Value;
use tagged::Tagged;
pub use tagged::{CALL_TAGS, CallTags};
use thinking::Thinking;
pub use thinking::{THINK_TAGS, ThinkingStyle};

/// A part of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyPart {
    /// More of the answer.
    Text(String),
    /// More of the reasoning before it.
    Reasoning(String),
    /// A tool is called; its arguments follow.
    ToolCallStart {
        /// The tool's name.
        name: String,
    },
    /// More of the arguments: a piece of JSON text.
    ToolCallArguments(String),
    /// The call is complete, and its arguments are JSON. A call that the model did not finish has no end, nor has one of which
    /// arguments were told before they turned out to be no JSON; others are text.
    ToolCallEnd,
    /// At the end: all the reasoning so far was none. The model never closed what its prompt had opened and answered there;
    /// what it wrote follows as text and calls.
    ReasoningSkipped,
}

/// The token between the messages of one reply: each may be a call.
pub const NEXT_MESSAGE: &str = "<|assistant|>";

/// What a reply answers.
#[derive(Clone, Debug, Default)]
pub struct ReplyOptions {
    /// The tools of the request. Without any, what looks like a call is text.
    pub tools: Vec<Value>,
    /// Strings that end the answer; they are not part of it. They are looked for in text, not in reasoning or calls.
    pub stop: Vec<String>,
    /// Whether the prompt ends inside the reasoning: see [`crate::Rendered::opens_reasoning`].
    pub in_reasoning: bool,
}

/// Reads a reply.
#[derive(Debug)]
pub struct ReplyParser {
    tokenizer: Tokenizer,
    stream: DecodeStream,
    thinking: Option<Thinking>,
    /// The reasoning so far, where the prompt opened it: what a model that skips it wrote is an answer.
    opened: Option<String>,
    body: Body,
    reasoning: Trim,
    text: TextFilters,
}

/// How a generation writes calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallStyle {
    /// A line that is the name, then the arguments as JSON.
    Lines,
    /// A line that is the name, then a call in Python.
    Python,
    /// Tags, with this between them.
    Tagged {
        /// A line break, or nothing.
        gap: &'static str,
    },
}

impl CallStyle {
    /// That of the replies to prompts of a template; none where there are no calls.
    pub fn of(template: &ChatTemplate, tokenizer: &Tokenizer) -> Option<CallStyle> {
        Some(match template.format() {
            Some(Family::ChatGlm6b | Family::ChatGlm2 | Family::CodeGeex2) => return None,
            Some(Family::ChatGlm3) => CallStyle::Python,
            Some(Family::Glm45) => CallStyle::Tagged { gap: "\n" },
            Some(Family::Glm47) => CallStyle::Tagged { gap: "" },
            None if tokenizer.special_id(CALL_TAGS.key[0]).is_some() => CallStyle::Tagged { gap: "" },
            _ => CallStyle::Lines,
        })
    }
}

/// How calls look in the body of a reply.
#[derive(Debug)]
enum Body {
    /// There are none.
    Plain,
    Lines(Lines),
    Tagged(Tagged),
}

/// What the text of an answer passes through.
#[derive(Debug)]
struct TextFilters {
    trim: Option<Trim>,
    chatglm: Option<ChatGlmText>,
    stop: StopStrings,
}

/// What a parser makes of a reply before the filters.
type Sink<'a> = dyn FnMut(ReplyPart) + 'a;

impl ReplyParser {
    /// A parser of one reply to a prompt of `template`.
    pub fn new(template: &ChatTemplate, tokenizer: &Tokenizer, options: ReplyOptions) -> ReplyParser {
        let format = template.format();
        let style = CallStyle::of(template, tokenizer);
        let mut tools = Tools::new(&options.tools);
        if format == Some(Family::GlmZ1Rumination) {
            tools.add_names(&["search", "click", "open", "finish"]);
        }
        let body = match style.filter(|_| !tools.is_empty()) {
            None => Body::Plain,
            Some(CallStyle::Tagged { .. }) => Body::Tagged(Tagged::new(tools)),
            Some(CallStyle::Python) => Body::Lines(Lines::new(Dialect::ChatGlm3, tools)),
            Some(CallStyle::Lines) => Body::Lines(Lines::new(Dialect::Glm4, tools)),
        };
        let chatglm = match format {
            Some(Family::ChatGlm6b) => Some(ChatGlmText::with_full_width_punctuation()),
            Some(Family::ChatGlm2 | Family::ChatGlm3) => Some(ChatGlmText::default()),
            _ => None,
        };
        // CodeGeeX2 continues text, whose white space counts.
        let trim = (format != Some(Family::CodeGeex2)).then(Trim::default);
        ReplyParser {
            stream: tokenizer.stream(),
            tokenizer: tokenizer.clone(),
            thinking: ThinkingStyle::of(template).map(|_| Thinking::new(options.in_reasoning)),
            opened: options.in_reasoning.then(String::new),
            body,
            reasoning: Trim::default(),
            text: TextFilters { trim, chatglm, stop: StopStrings::new(options.stop) },
        }
    }

    /// The same for a reply that is calls from its beginning, or a text in which nothing is a call.
    #[must_use]
    pub fn calls_first(mut self) -> ReplyParser {
        self.body = match self.body {
            Body::Tagged(tagged) => Body::Tagged(tagged.calls_first()),
            // A first line tells anyway.
            body => body,
        };
        self
    }

    /// Takes the next token of the reply. Tokens that end a reply say nothing and may be left out.
    pub fn push(&mut self, id: TokenId) -> Vec<ReplyPart> {
        let mut events = Vec::new();
        if self.tokenizer.is_special(id) {
            let spelling = self.tokenizer.token_bytes(id).and_then(|bytes| String::from_utf8(bytes).ok());
            match spelling.as_deref() {
                Some(NEXT_MESSAGE) => {
                    self.end_stretch(&mut events);
                    self.end_segment(&mut events);
                    return events;
                }
                Some(tag) if tagged::TAGS.contains(&tag) || THINK_TAGS.contains(&tag) => {
                    self.end_stretch(&mut events);
                    self.feed(tag, &mut events);
                    return events;
                }
                _ if self.tokenizer.is_skipped(id) => return events,
                _ => {}
            }
        }
        let text = self.stream.push(id);
        self.feed(&text, &mut events);
        events
    }

    /// The end of a reply that was cut off: what was held back.
    pub fn finish(self) -> Vec<ReplyPart> {
        self.end(false).0
    }

    /// The end of a reply that the model ended: what was held back. A model that never closes the reasoning which the
    /// prompt opened has skipped it: all that it wrote is read again as its answer.
    pub fn finish_whole(self) -> Vec<ReplyPart> {
        self.end(true).0
    }

    /// [`Self::finish_whole`] or [`Self::finish`], with the stop string that ended the answer, which may be in what was held back.
    pub(crate) fn end(mut self, is_whole: bool) -> (Vec<ReplyPart>, Option<String>) {
        let mut events = Vec::new();
        self.end_stretch(&mut events);
        if let Some(mut thinking) = self.thinking.take() {
            let (body, opened) = (&mut self.body, &mut self.opened);
            let (reasoning, text) = (&mut self.reasoning, &mut self.text);
            let mut emit = |event| filter(event, reasoning, text, &mut events);
            let has_skipped = is_whole && !thinking.is_over();
            thinking.finish(&mut |part| pass(part, opened, body, &mut emit));
            if let Some(answer) = opened.take().filter(|answer| has_skipped && !answer.is_empty()) {
                emit(ReplyPart::ReasoningSkipped);
                body.feed(&answer, &mut emit);
            }
        }
        self.end_segment(&mut events);
        self.text.finish(&mut events);
        (events, self.stopped().map(str::to_owned))
    }

    /// The stop string that ended the answer, if one did: nothing more comes of this reply.
    pub fn stopped(&self) -> Option<&str> {
        self.text.stop.found()
    }

    /// Text between two special tokens is decoded by itself.
    fn end_stretch(&mut self, events: &mut Vec<ReplyPart>) {
        let stream = std::mem::replace(&mut self.stream, self.tokenizer.stream());
        let text = stream.finish();
        self.feed(&text, events);
    }

    fn feed(&mut self, text: &str, events: &mut Vec<ReplyPart>) {
        if text.is_empty() {
            return;
        }
        let (body, opened) = (&mut self.body, &mut self.opened);
        let (reasoning, filters) = (&mut self.reasoning, &mut self.text);
        let mut emit = |event| filter(event, reasoning, filters, events);
        match &mut self.thinking {
            None => body.feed(text, &mut emit),
            Some(thinking) => thinking.feed(text, &mut |part| pass(part, opened, body, &mut emit)),
        }
    }

    /// The end of what stands between two `<|assistant|>`.
    fn end_segment(&mut self, events: &mut Vec<ReplyPart>) {
        let (reasoning, filters) = (&mut self.reasoning, &mut self.text);
        let mut emit = |event| filter(event, reasoning, filters, events);
        self.body.end_segment(&mut emit);
    }
}

impl Body {
    fn feed(&mut self, text: &str, sink: &mut Sink<'_>) {
        match self {
            Body::Plain => sink(ReplyPart::Text(text.to_owned())),
            Body::Lines(lines) => lines.feed(text, sink),
            Body::Tagged(tagged) => tagged.feed(text, sink),
        }
    }

    fn end_segment(&mut self, sink: &mut Sink<'_>) {
        match self {
            Body::Plain => {}
            Body::Lines(lines) => lines.end_segment(sink),
            Body::Tagged(tagged) => tagged.end_segment(sink),
        }
    }
}

/// Passes a stretch of the reply on, and notes reasoning that the prompt opened.
fn pass(part: thinking::Part, opened: &mut Option<String>, body: &mut Body, emit: &mut Sink<'_>) {
    match part {
        thinking::Part::Reasoning(text) => {
            if let Some(opened) = opened {
                opened.push_str(&text);
            }
            emit(ReplyPart::Reasoning(text));
        }
        thinking::Part::Body(text) => {
            *opened = None;
            body.feed(&text, emit);
        }
    }
}

/// Passes an event through the filters of its kind.
fn filter(event: ReplyPart, reasoning: &mut Trim, text: &mut TextFilters, events: &mut Vec<ReplyPart>) {
    if text.stop.found().is_some() {
        return;
    }
    match event {
        ReplyPart::Text(more) => text.feed(&more, events),
        ReplyPart::Reasoning(more) => {
            let more = reasoning.feed(&more);
            if !more.is_empty() {
                events.push(ReplyPart::Reasoning(more));
            }
        }
        ReplyPart::ReasoningSkipped => events.push(event),
        call => {
            // A call ends the text before it; nothing of it may come after.
            text.finish(events);
            if text.stop.found().is_none() {
                events.push(call);
            }
        }
    }
}

impl TextFilters {
    fn feed(&mut self, more: &str, events: &mut Vec<ReplyPart>) {
        let mut more = more.to_owned();
        if let Some(trim) = &mut self.trim {
            more = trim.feed(&more);
        }
        if let Some(chatglm) = &mut self.chatglm {
            more = chatglm.feed(&more);
        }
        push_text(self.stop.feed(&more), events);
    }

    /// What the filters hold back, less white space at the end; they start anew after it.
    fn finish(&mut self, events: &mut Vec<ReplyPart>) {
        if let Some(trim) = &mut self.trim {
            trim.finish();
        }
        if let Some(chatglm) = &mut self.chatglm {
            let rest = chatglm.finish();
            push_text(self.stop.feed(&rest), events);
        }
        push_text(self.stop.finish(), events);
    }
}

fn push_text(text: String, events: &mut Vec<ReplyPart>) {
    if !text.is_empty() {
        events.push(ReplyPart::Text(text));
    }
}

/// A whole reply.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reply {
    /// The answer.
    pub text: String,
    /// The reasoning before it.
    pub reasoning: String,
    /// The tools called, in order, with their arguments as JSON text. A call that the next one cut off is left out.
    pub tool_calls: Vec<ToolCall>,
    /// Whether the last call was left unfinished: its arguments are no whole JSON.
    pub unfinished_call: bool,
}

impl Reply {
    /// Adds an event.
    pub fn push(&mut self, event: ReplyPart) {
        match event {
            ReplyPart::Text(more) => self.text.push_str(&more),
            ReplyPart::Reasoning(more) => self.reasoning.push_str(&more),
            ReplyPart::ToolCallStart { name } => {
                // A call that another one cut off has no whole arguments and cannot be made.
                if self.unfinished_call {
                    self.tool_calls.pop();
                }
                self.unfinished_call = true;
                self.tool_calls.push(ToolCall { id: None, name, arguments: Value::String(String::new()) });
            }
            ReplyPart::ToolCallArguments(more) => {
                if let Some(ToolCall { arguments: Value::String(text), .. }) = self.tool_calls.last_mut() {
                    text.push_str(&more);
                }
            }
            ReplyPart::ToolCallEnd => self.unfinished_call = false,
            ReplyPart::ReasoningSkipped => self.reasoning.clear(),
        }
    }
}

impl From<Reply> for Message {
    /// The reply as a part of the conversation, without a call that was left unfinished: it cannot be answered.
    fn from(mut reply: Reply) -> Message {
        if reply.unfinished_call {
            reply.tool_calls.pop();
        }
        let mut message = Message::new(Role::Assistant, reply.text);
        message.reasoning = Some(reply.reasoning).filter(|text| !text.is_empty());
        message.tool_calls = reply.tool_calls;
        message
    }
}

impl FromIterator<ReplyPart> for Reply {
    fn from_iter<I: IntoIterator<Item = ReplyPart>>(events: I) -> Reply {
        let mut reply = Reply::default();
        events.into_iter().for_each(|event| reply.push(event));
        reply
    }
}
