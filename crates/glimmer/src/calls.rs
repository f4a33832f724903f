//! Calls of tools that are valid as they are made: all of an answer, or each call that a model begins.

use std::sync::Arc;

use glimmer_chat::reply::{CALL_TAGS, CallStyle, NEXT_MESSAGE, stands_raw};
use glimmer_engine::TokenMask;
use glimmer_grammar::{Beginning, CallForm, CallTool, Calls, Compiler, Grammar, Matcher};
use glimmer_tokenizer::Tokenizer;
use serde_json::Value;

use crate::answer_form::CallsForm;

/// The tag that opens a call.
const CALL: &str = CALL_TAGS.call[0];
/// A first line that is longer is no tool's name.
const LINE: usize = 512;

/// Calls of these tools, as a generation writes them. Tools that are no functions have forms of their own and are left out.
pub(crate) fn grammar(tools: &[Value], style: CallStyle, single: bool) -> Grammar {
    let next = NEXT_MESSAGE.to_owned();
    let form = match style {
        CallStyle::Lines => CallForm::Lines { next },
        CallStyle::Python => CallForm::Python { next },
        CallStyle::Tagged { gap } => {
            let [call, key, value] =
                [CALL_TAGS.call, CALL_TAGS.key, CALL_TAGS.value].map(|pair| pair.map(str::to_owned));
            CallForm::Tagged { call, key, value, gap: gap.to_owned() }
        }
    };
    Grammar::Calls(Calls { form, tools: tools.iter().filter_map(tool).collect(), single })
}

fn tool(tool: &Value) -> Option<CallTool> {
    let function = tool.get("function").unwrap_or(tool);
    let is_function = tool.get("type").is_none_or(|kind| kind == "function");
    let name = function.get("name").and_then(Value::as_str).filter(|name| is_function && !name.is_empty())?;
    let parameters = function.get("parameters").filter(|parameters| !parameters.is_null());
    let properties = parameters.and_then(|parameters| parameters["properties"].as_object());
    let is_text = |schema: &Value| parameters.is_some_and(|parameters| stands_raw(schema, parameters));
    let texts = properties.into_iter().flatten().filter(|(_, schema)| is_text(schema));
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
        Sign::Line { names, next: tokenizer.special_id(NEXT_MESSAGE), style }
    }

    /// Looks for it in the text of an answer so far.
    pub(crate) fn look(&self, text: &[u8]) -> Seen {
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

/// What the text of an answer tells of calls.
pub(crate) enum Seen {
    NotYet,
    /// No call comes of this segment.
    Nothing,
    /// A call that begins like this.
    Call(Vec<u8>),
}

/// Holds the calls of an answer to their form, and sleeps all the while that there is none.
pub(crate) struct HeldCalls {
    compiler: Arc<Compiler>,
    calls: Arc<CallsForm>,
    stage: Stage,
    /// What is not decided on, or the last of it.
    text: Vec<u8>,
}

enum Stage {
    /// Where a call may begin.
    Open,
    Call(Box<Matcher>),
    /// In text that no call comes of.
    Text,
}

impl HeldCalls {
    pub(crate) fn new(compiler: Arc<Compiler>, calls: Arc<CallsForm>) -> Self {
        HeldCalls { compiler, calls, stage: Stage::Open, text: Vec::new() }
    }

    pub(crate) fn mask(&mut self) -> Result<TokenMask, String> {
        let Stage::Call(matcher) = &mut self.stage else { return Ok(TokenMask::All) };
        matcher.mask().map(TokenMask::Only).map_err(|error| error.to_string())
    }

    /// Takes a token that is no reasoning, and the text that came of it.
    pub(crate) fn accept(&mut self, id: u32, text: &[u8]) -> Result<(), String> {
        if let Stage::Call(matcher) = &mut self.stage {
            matcher.accept(id).map_err(|error| error.to_string())?;
            if matcher.may_end() {
                self.stage = self.after();
            }
            return Ok(());
        }
        match &self.calls.sign {
            Sign::Line { next: Some(next), .. } if *next == id => {
                self.text.clear();
                self.stage = Stage::Open;
            }
            _ if matches!(self.stage, Stage::Text) => {}
            _ => {
                self.text.extend(text);
                self.look();
            }
        }
        Ok(())
    }

    pub(crate) fn forced(&mut self) -> Vec<u32> {
        if let Stage::Call(matcher) = &mut self.stage { matcher.forced() } else { Vec::new() }
    }

    /// Goes as far as what was written tells.
    fn look(&mut self) {
        let is_tag = matches!(self.calls.sign, Sign::Tag(_));
        match self.calls.sign.look(&self.text) {
            Seen::NotYet if is_tag => {
                self.text.drain(..self.text.len().saturating_sub(CALL.len() - 1));
            }
            Seen::NotYet => {}
            Seen::Nothing => self.stage = Stage::Text,
            Seen::Call(beginning) => self.begin(&beginning),
        }
    }

    /// Begins to hold a call; one that has begun as none can is left alone.
    fn begin(&mut self, beginning: &[u8]) {
        self.text.clear();
        self.stage = self.after();
        let (first, rest) = match &self.calls.sign {
            Sign::Tag(Some(id)) => (Some(*id), &beginning[CALL.len()..]),
            _ => (None, beginning),
        };
        let mut matcher = self.compiler.matcher(&self.calls.compiled, Beginning::Exact);
        let Some(rest) = self.compiler.table().spell(rest) else { return };
        let fits = first.into_iter().chain(rest).all(|id| matcher.accept(id).is_ok());
        if fits && !matcher.may_end() {
            self.stage = Stage::Call(Box::new(matcher));
        }
    }

    /// What comes after a call.
    fn after(&self) -> Stage {
        if matches!(self.calls.sign, Sign::Tag(_)) { Stage::Open } else { Stage::Text }
    }
}

#[cfg(test)]
mod generated;
#[cfg(test)]
mod kit;

#[cfg(test)]
mod tests {
    use glimmer_chat::Family;
    use glimmer_chat::reply::{Reply, ThinkingStyle};
    use glimmer_engine::Constraint;
    use serde_json::json;

    use super::kit::{Dice, Kit};
    use super::*;
    use crate::AnswerForm;
    use crate::answer_form::TextForm;
    use crate::held::constraint;
    use crate::thinking::Thinking;

    impl Kit {
        fn hold(&self, tools: &[Value], required: bool) -> Box<dyn Constraint> {
            let style = self.style;
            let compiled = self.compiler.compile(&grammar(tools, style, !required)).unwrap();
            let sign = Sign::new(tools, style, &self.tokenizer);
            let calls = Some(Arc::new(CallsForm { compiled, style, sign }));
            let text = if required { TextForm::Nothing } else { TextForm::Anything };
            let form = AnswerForm { compiler: Arc::clone(&self.compiler), calls, text };
            let thinking = ThinkingStyle::of(&self.template)
                .map_or(Thinking::none(&self.tokenizer), |style| Thinking::closed(style, &self.tokenizer));
            constraint(Some(form), thinking, true).make()
        }

        /// An answer of tokens that are chosen at random; after some of them it is drawn to those that end things.
        fn random_answer(
            &self,
            held: &mut dyn Constraint,
            dice: &mut Dice,
            begun: &[u32],
        ) -> Option<Vec<u32>> {
            let mut ids = begun.to_vec();
            begun.iter().for_each(|&id| held.accept(id).unwrap());
            while ids.len() < 1500 {
                let forced = held.forced().unwrap();
                let id = match forced.first() {
                    Some(&id) => id,
                    None => {
                        let TokenMask::Only(mask) = held.mask().unwrap() else { return Some(ids) };
                        self.choose(&mask, dice, ids.len())
                    }
                };
                held.accept(id).unwrap();
                if self.ends.contains(&id) {
                    return Some(ids);
                }
                ids.push(id);
            }
            None
        }
    }

    /// Tools at random, of scalars alone where the form has no others.
    fn tools(dice: &mut Dice, scalars: bool) -> Vec<Value> {
        let schemas = [
            json!({"type": "string"}),
            json!({"type": "string", "minLength": 2, "maxLength": 9}),
            json!({"enum": ["a b", "c\"d", "北京"]}),
            json!({"type": "integer", "minimum": -3, "maximum": 120}),
            json!({"type": "number"}),
            json!({"type": "boolean"}),
            json!({"const": 7}),
            json!({"type": ["string", "null"]}),
            json!({"type": "array", "items": {"type": "integer"}, "maxItems": 3}),
            json!({"type": "object", "properties": {"x": {"type": "boolean"}, "y": {"type": "string"}}, "required": ["x"]}),
            json!({"anyOf": [{"type": "string", "maxLength": 4}, {"type": "null"}]}),
            json!({"$ref": "#/$defs/colour"}),
        ];
        let schemas = if scalars { &schemas[..8] } else { &schemas[..] };
        let names = ["city", "n", "a-b", "天气", "max_tokens", "x.y"];
        let tool = |name: &str, dice: &mut Dice| {
            let mut properties = serde_json::Map::new();
            let mut required = Vec::new();
            for name in names.iter().take(dice.below(names.len() + 1)) {
                properties.insert((*name).to_owned(), schemas[dice.below(schemas.len())].clone());
                if dice.below(2) == 0 {
                    required.push(*name);
                }
            }
            let parameters = json!({"type": "object", "properties": properties, "required": required,
                "$defs": {"colour": {"enum": ["red", "blue", 3]}}});
            json!({"type": "function", "function": {"name": name, "parameters": parameters}})
        };
        ["get", "get_time", "list-files", "查询"]
            .iter()
            .take(1 + dice.below(4))
            .map(|name| tool(name, dice))
            .collect()
    }

    /// Every call is one of the tools, with arguments that its schema allows.
    fn check(reply: &Reply, tools: &[Value]) {
        assert!(reply.text.is_empty() && !reply.unfinished_call && !reply.tool_calls.is_empty(), "{reply:?}");
        for call in &reply.tool_calls {
            let tool = tools.iter().find(|tool| tool["function"]["name"] == call.name.as_str());
            let schema = &tool.unwrap_or_else(|| panic!("{call:?}"))["function"]["parameters"];
            let arguments: Value = serde_json::from_str(call.arguments.as_str().unwrap()).unwrap();
            assert!(jsonschema::is_valid(schema, &arguments), "{schema}\n{arguments}");
        }
    }

    #[test]
    fn required_calls_are_valid() {
        for family in [Family::Glm4, Family::GlmZ1, Family::ChatGlm3, Family::Glm45, Family::Glm47] {
            let kit = Kit::new(family);
            let mut whole = 0;
            for seed in 0..40 {
                let mut dice = Dice(seed);
                let tools = tools(&mut dice, family == Family::ChatGlm3);
                let mut held = kit.hold(&tools, true);
                let Some(ids) = kit.random_answer(&mut *held, &mut dice, &[]) else { continue };
                check(&kit.read(&tools, &ids).into_iter().collect(), &tools);
                whole += 1;
            }
            assert!(whole >= 20, "{family}: {whole}");
        }
    }

    #[test]
    fn a_call_that_is_begun_is_held_to_its_end() {
        for family in [Family::Glm4, Family::GlmZ1, Family::ChatGlm3, Family::Glm45, Family::Glm47] {
            let kit = Kit::new(family);
            let is_tagged = matches!(family, Family::Glm45 | Family::Glm47);
            for seed in 0..30 {
                let mut dice = Dice(seed);
                let tools = tools(&mut dice, family == Family::ChatGlm3);
                let name = tools[0]["function"]["name"].as_str().unwrap();
                let opening = if is_tagged { "<tool_call>".to_owned() } else { format!("{name}\n") };
                let begun = kit.tokenizer.encode_parse_special(&opening);
                let mut held = kit.hold(&tools, false);
                let Some(ids) = kit.random_answer(&mut *held, &mut dice, &begun) else { continue };
                check(&kit.read(&tools, &ids).into_iter().collect(), &tools);
                assert_eq!(held.mask(), Ok(TokenMask::All), "{family}: it sleeps again");
            }
        }
    }

    #[test]
    fn what_is_no_call_is_left_alone() {
        let tools = [json!({"name": "get"}), json!({"name": "get_time"})];
        for (family, texts) in [
            (Family::Glm4, &["\nHello!\nget\n{}", "get a cat\n", "get_time: 3", "<think>\nget\n"][..]),
            (Family::GlmZ1, &["<think>get\n{", "<think>so</think>\nWell,\nget\n"]),
            (Family::ChatGlm3, &["\nget\n", "\n 你好", "got\n"]),
            (Family::Glm47, &["Hello <tool_cal l> <b>", "<think>a <tool_call>get", "<think>\n</think>get\n"]),
        ] {
            let kit = Kit::new(family);
            for text in texts {
                let mut held = kit.hold(&tools, false);
                for id in kit.tokenizer.encode_parse_special(text) {
                    assert_eq!((held.mask(), held.forced()), (Ok(TokenMask::All), Ok(Vec::new())), "{text}");
                    held.accept(id).unwrap();
                }
                assert_eq!(held.mask(), Ok(TokenMask::All), "{family}: {text}");
            }
        }
    }

    #[test]
    fn where_calls_begin() {
        let tools = [json!({"name": "get"}), json!({"name": "get_time"})];
        for (family, texts) in [
            (
                Family::Glm4,
                &["\nget_time\n", "get\n", "Let me see.<|assistant|>get\n", "get\n{}<|assistant|>get_time\n"]
                    [..],
            ),
            (Family::GlmZ1, &["<think>get</think>\nget\n"]),
            (Family::ChatGlm3, &["get_time\n"]),
            (
                Family::Glm47,
                &[
                    "Hello <tool_call>",
                    "<think>a</think><tool_call>get",
                    "<tool_call>get</tool_call><tool_call>",
                ],
            ),
        ] {
            let kit = Kit::new(family);
            for text in texts {
                let mut held = kit.hold(&tools, false);
                kit.tokenizer.encode_parse_special(text).into_iter().for_each(|id| held.accept(id).unwrap());
                assert!(matches!(held.mask(), Ok(TokenMask::Only(_))), "{family}: {text}");
            }
        }
    }
}
