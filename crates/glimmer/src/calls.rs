//! Calls of tools that are valid as they are made: all of an answer, or each call that a model begins.

use glimmer_chat::reply::{CallStyle, stands_raw};
use glimmer_engine::{Constraint, TokenMask};
use glimmer_grammar::{Beginning, CallForm, CallTool, Calls, Grammar, Matcher};
use glimmer_tokenizer::Tokenizer;
use serde_json::Value;

use crate::AnswerForm;
use crate::answer_form::{CLOSE, Opening};

const THINK: &[u8] = b"<think>";
const CALL: &str = "<tool_call>";
const NEXT: &str = "<|assistant|>";
/// A first line that is longer is no tool's name.
const LINE: usize = 512;

/// Calls of these tools, as a generation writes them. Tools that are no functions have forms of their own and are left out.
pub(crate) fn grammar(tools: &[Value], style: CallStyle, single: bool) -> Grammar {
    let next = NEXT.to_owned();
    let form = match style {
        CallStyle::Lines => CallForm::Lines { next },
        CallStyle::Python => CallForm::Python { next },
        CallStyle::Tagged { gap } => {
            let pair = |name: &str| [format!("<{name}>"), format!("</{name}>")];
            let [call, key, value] = ["tool_call", "arg_key", "arg_value"].map(pair);
            CallForm::Tagged { call, key, value, gap: gap.to_owned() }
        }
    };
    Grammar::Calls(Calls { form, tools: tools.iter().filter_map(tool).collect(), single })
}

fn tool(tool: &Value) -> Option<CallTool> {
    let function = tool.get("function").unwrap_or(tool);
    let is_function = tool.get("type").is_none_or(|kind| kind == "function");
    let name = function.get("name").and_then(Value::as_str).filter(|_| is_function)?;
    let parameters = function.get("parameters").filter(|parameters| !parameters.is_null());
    let properties = function.pointer("/parameters/properties").and_then(Value::as_object);
    let texts = properties.into_iter().flatten().filter(|(_, schema)| stands_raw(schema));
    Some(CallTool {
        name: name.to_owned(),
        parameters: parameters.map(Value::to_string),
        strict: is_strict(tool),
        texts: texts.map(|(name, _)| name.clone()).collect(),
    })
}

/// Whether a tool's arguments are to be held to all of its schema.
pub(crate) fn is_strict(tool: &Value) -> bool {
    tool.get("function").unwrap_or(tool).get("strict") == Some(&Value::Bool(true))
}

/// What opens a call.
#[derive(Debug)]
pub(crate) enum Sign {
    /// A first line that is one of these names, of a reply or after a token.
    Line { names: Vec<String>, next: Option<u32>, style: CallStyle },
    /// A tag, which is a token where the tokenizer has it.
    Tag(Option<u32>),
}

impl Sign {
    pub(crate) fn new(tools: &[Value], style: CallStyle, tokenizer: &Tokenizer) -> Self {
        if matches!(style, CallStyle::Tagged { .. }) {
            return Sign::Tag(tokenizer.special_id(CALL));
        }
        let names = tools.iter().filter_map(tool).map(|tool| tool.name).collect();
        Sign::Line { names, next: tokenizer.special_id(NEXT), style }
    }

    /// Looks for it in the text of an answer so far.
    fn look(&self, text: &[u8]) -> Seen {
        match self {
            Sign::Tag(_) => {
                let at = text.windows(CALL.len()).position(|bytes| bytes == CALL.as_bytes());
                at.map_or(Seen::NotYet, |at| Seen::Call(text[at..].to_vec()))
            }
            Sign::Line { names, style, .. } => {
                let is_blank = |byte: &u8| match style {
                    // An empty line says that no tool is called.
                    CallStyle::Python => b" \t".contains(byte),
                    _ => byte.is_ascii_whitespace(),
                };
                let text = &text[text.iter().take_while(|byte| is_blank(byte)).count()..];
                let named = |line: &[u8]| names.iter().find(|name| name.as_bytes() == line.trim_ascii());
                match text.iter().position(|&byte| byte == b'\n') {
                    Some(end) => match named(&text[..end]) {
                        Some(name) => Seen::Call([name.as_bytes(), &text[end..]].concat()),
                        None => Seen::Nothing,
                    },
                    None if text.len() > LINE => Seen::Nothing,
                    None if named(text).is_some() => Seen::NotYet,
                    None if names.iter().any(|name| name.as_bytes().starts_with(text)) => Seen::NotYet,
                    None => Seen::Nothing,
                }
            }
        }
    }
}

enum Seen {
    NotYet,
    /// No call comes of this segment.
    Nothing,
    /// A call that begins like this.
    Call(Vec<u8>),
}

/// Holds the calls of an answer to their form, and sleeps all the while that there is none.
pub(crate) struct HeldCalls {
    form: AnswerForm,
    tokenizer: Tokenizer,
    stage: Stage,
    /// What is not decided on, or the last of it.
    text: Vec<u8>,
}

enum Stage {
    /// Before the reasoning, if there is any.
    Start,
    Thinking,
    /// Where a call may begin.
    Body,
    Call(Box<Matcher>),
    /// In text that no call comes of.
    Text,
}

impl HeldCalls {
    pub(crate) fn new(form: AnswerForm, tokenizer: Tokenizer, opening: Opening) -> Self {
        let stage = if opening == Opening::Thinking { Stage::Thinking } else { Stage::Start };
        HeldCalls { form, tokenizer, stage, text: Vec::new() }
    }

    /// Goes as far as what was written tells.
    fn read(&mut self, sign: &Sign) {
        if matches!(self.stage, Stage::Start) {
            let begun = self.text.trim_ascii_start();
            if begun.starts_with(THINK) {
                self.stage = Stage::Thinking;
            } else if !THINK.starts_with(begun) {
                self.stage = Stage::Body;
            }
        }
        if matches!(self.stage, Stage::Thinking) {
            match self.text.windows(CLOSE.len()).position(|bytes| bytes == CLOSE) {
                Some(at) => {
                    self.text.drain(..at + CLOSE.len());
                    self.stage = Stage::Body;
                }
                None => self.keep(CLOSE.len() - 1),
            }
        }
        if matches!(self.stage, Stage::Body) {
            match sign.look(&self.text) {
                Seen::NotYet if matches!(sign, Sign::Tag(_)) => self.keep(CALL.len() - 1),
                Seen::NotYet => {}
                Seen::Nothing => self.stage = Stage::Text,
                Seen::Call(beginning) => self.begin(&beginning, sign),
            }
        }
    }

    fn keep(&mut self, last: usize) {
        self.text.drain(..self.text.len().saturating_sub(last));
    }

    /// Begins to hold a call; one that has begun as none can is left alone.
    fn begin(&mut self, beginning: &[u8], sign: &Sign) {
        self.text.clear();
        self.stage = self.after(sign);
        let table = self.form.compiler.table();
        let (first, rest) = match sign {
            Sign::Tag(Some(id)) => (Some(*id), &beginning[CALL.len()..]),
            _ => (None, beginning),
        };
        let mut matcher = self.form.compiler.matcher(&self.form.compiled, Beginning::Exact);
        let Some(rest) = table.spell(rest) else { return };
        let fits = first.into_iter().chain(rest).all(|id| matcher.accept(id).is_ok());
        if fits && !matcher.may_end() {
            self.stage = Stage::Call(Box::new(matcher));
        }
    }

    /// What comes after a call.
    fn after(&self, sign: &Sign) -> Stage {
        if matches!(sign, Sign::Tag(_)) { Stage::Body } else { Stage::Text }
    }
}

impl Constraint for HeldCalls {
    fn mask(&mut self) -> Result<TokenMask, String> {
        let Stage::Call(matcher) = &mut self.stage else { return Ok(TokenMask::All) };
        matcher.mask().map(TokenMask::Only).map_err(|error| error.to_string())
    }

    fn accept(&mut self, id: u32) -> Result<(), String> {
        let Some(sign) = self.form.sign.clone() else { return Ok(()) };
        if let Stage::Call(matcher) = &mut self.stage {
            matcher.accept(id).map_err(|error| error.to_string())?;
            if matcher.may_end() {
                self.stage = self.after(&sign);
            }
            return Ok(());
        }
        match &*sign {
            Sign::Line { next: Some(next), .. } if *next == id && !matches!(self.stage, Stage::Thinking) => {
                self.text.clear();
                self.stage = Stage::Body;
            }
            _ if matches!(self.stage, Stage::Text) => {}
            sign => {
                self.text.extend(self.tokenizer.token_bytes(id).unwrap_or_default());
                self.read(sign);
            }
        }
        Ok(())
    }

    fn forced(&mut self) -> Result<Vec<u32>, String> {
        Ok(if let Stage::Call(matcher) = &mut self.stage { matcher.forced() } else { Vec::new() })
    }
}
