//! What an answer must look like, and how it is held to that token by token.

use std::fmt;
use std::sync::Arc;

use glimmer_engine::{Constraint, ConstraintMaker, TokenMask};
use glimmer_grammar::{Beginning, Compiled, Compiler, Grammar, Matcher, Unmasked};
use glimmer_tokenizer::Tokenizer;
use serde_json::Value;

use crate::calls::{HeldCalls, Sign};

/// The end of the reasoning at the beginning of a reply.
pub(crate) const CLOSE: &[u8] = b"</think>";

/// What an answer must look like.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum AnswerFormat {
    /// Anything.
    #[default]
    Text,
    /// A JSON object.
    Json,
    /// JSON that a schema describes.
    JsonSchema {
        /// The schema.
        schema: Value,
        /// Whether a keyword that an answer cannot be held to while it is made is an error; otherwise the answer is
        /// checked when it is finished.
        strict: bool,
    },
    /// A text that a regular expression matches as a whole.
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// A text of a grammar in llama.cpp's notation.
    Gbnf(String),
    /// A text of a grammar in llguidance's dialect of Lark.
    Lark(String),
    /// Calls of tools, as the model writes them. A call that is finished is one of these tools with arguments that its schema
    /// allows.
    Calls {
        /// The tools; `strict` in a function's definition makes a keyword that calls cannot be held to an error.
        tools: Vec<Value>,
        /// Whether the answer is calls and nothing else; otherwise it may be anything, and calls that the model begins are held
        /// to their form.
        required: bool,
        /// Whether such an answer is one call.
        single: bool,
    },
}

impl AnswerFormat {
    pub(crate) fn grammar(&self) -> Option<Grammar> {
        Some(match self {
            // What calls look like is the model's affair.
            AnswerFormat::Text | AnswerFormat::Calls { .. } => return None,
            AnswerFormat::Json => Grammar::JsonObject,
            AnswerFormat::JsonSchema { schema, strict } => Grammar::json_schema(schema, *strict),
            AnswerFormat::Regex(source) => Grammar::Regex(source.clone()),
            AnswerFormat::Choice(texts) => Grammar::Choice(texts.clone()),
            AnswerFormat::Gbnf(source) => Grammar::Gbnf(source.clone()),
            AnswerFormat::Lark(source) => Grammar::Lark(source.clone()),
        })
    }
}

/// An answer's format, ready for a model: what [`crate::ModelText::form`] makes. Two are equal if they are the same one.
#[derive(Clone)]
pub struct AnswerForm {
    pub(crate) compiler: Arc<Compiler>,
    pub(crate) compiled: Arc<Compiled>,
    /// What the answer is made of.
    pub(crate) of: AnswerOf,
    /// What wakes the form, where it sleeps until a call begins.
    pub(crate) sign: Option<Arc<Sign>>,
}

/// What an answer in a form is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnswerOf {
    Text,
    Calls,
    /// Calls that must begin on the first line.
    CallsAtOnce,
}

impl PartialEq for AnswerForm {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.compiled, &other.compiled) && self.sign.is_some() == other.sign.is_some()
    }
}

impl fmt::Debug for AnswerForm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("AnswerForm").field("unmasked", &self.unmasked()).finish_non_exhaustive()
    }
}

impl AnswerForm {
    /// What of it an answer is not held to while it is made, but checked for when it is finished.
    pub fn unmasked(&self) -> &[Unmasked] {
        self.compiled.unmasked()
    }

    /// The ids that end an answer in this form.
    pub(crate) fn ends(&self) -> &[u32] {
        if self.sign.is_some() { &[] } else { self.compiler.table().ends() }
    }

    /// Whether a finished answer's text is to be checked.
    pub(crate) fn is_checked(&self) -> bool {
        self.of == AnswerOf::Text && !self.unmasked().is_empty()
    }

    /// Holds each answer to a request to it.
    pub(crate) fn constraint(&self, opening: Opening, tokenizer: &Tokenizer) -> ConstraintMaker {
        let (form, tokenizer) = (self.clone(), tokenizer.clone());
        ConstraintMaker::new(move || {
            if form.sign.is_some() {
                return Box::new(HeldCalls::new(form.clone(), tokenizer.clone(), opening));
            }
            let beginning = match form.of {
                _ if opening == Opening::Text => Beginning::Exact,
                AnswerOf::CallsAtOnce => Beginning::OnLine,
                AnswerOf::Text | AnswerOf::Calls => Beginning::Trimmed,
            };
            let state = match opening {
                Opening::Thinking => State::Thinking(Vec::new()),
                Opening::Reply { think: Some(id) } => State::Blank { think: id },
                Opening::Reply { think: None } | Opening::Text => State::Answer,
            };
            let matcher = form.compiler.matcher(&form.compiled, beginning);
            let (form, tokenizer) = (form.clone(), tokenizer.clone());
            Box::new(Held { matcher, form, tokenizer, state })
        })
    }
}

/// How an answer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// As text that goes on.
    Text,
    /// As a reply, perhaps with a token that opens reasoning.
    Reply { think: Option<u32> },
    /// In the reasoning that the prompt opened.
    Thinking,
}

/// An answer that is held to its form, which is asleep while the model thinks.
struct Held {
    matcher: Matcher,
    form: AnswerForm,
    tokenizer: Tokenizer,
    state: State,
}

enum State {
    /// At the beginning, where the model may still begin to think.
    Blank {
        think: u32,
    },
    /// In the reasoning, whose last bytes these are.
    Thinking(Vec<u8>),
    Answer,
    Ended,
}

impl Held {
    /// Whatever may come while the model thinks: no end of the answer, and nothing but white space in the token that ends the
    /// reasoning.
    fn thoughts(&self, tail: &[u8]) -> Vec<u32> {
        let table = self.form.compiler.table();
        let mut mask = vec![u32::MAX; table.len().div_ceil(32)];
        let mut forbid = |id: u32| mask[id as usize / 32] &= !(1 << (id % 32));
        self.form.ends().iter().copied().for_each(&mut forbid);
        let begun = (1..CLOSE.len()).rev().find(|&begun| tail.ends_with(&CLOSE[..begun]));
        if let Some(begun) = begun {
            let tells_more = |id: &u32| {
                let rest = table.bytes(*id).strip_prefix(&CLOSE[begun..]);
                rest.is_some_and(|rest| !rest.trim_ascii().is_empty())
            };
            (0..table.len() as u32).filter(tells_more).for_each(forbid);
        }
        mask
    }

    fn think(&mut self, id: u32) -> Result<(), String> {
        let State::Thinking(tail) = &mut self.state else { return Ok(()) };
        tail.extend(self.tokenizer.token_bytes(id).unwrap_or_default());
        if let Some(at) = tail.windows(CLOSE.len()).position(|bytes| bytes == CLOSE) {
            let is_blank = tail[at + CLOSE.len()..].trim_ascii().is_empty();
            self.state = State::Answer;
            return if is_blank { Ok(()) } else { Err("the reasoning ends within a token".to_owned()) };
        }
        tail.drain(..tail.len().saturating_sub(CLOSE.len() - 1));
        Ok(())
    }
}

impl Constraint for Held {
    fn mask(&mut self) -> Result<TokenMask, String> {
        if let State::Thinking(tail) = &self.state {
            return Ok(TokenMask::Only(self.thoughts(tail)));
        }
        let mut mask = self.matcher.mask().map_err(|error| error.to_string())?;
        if let State::Blank { think } = self.state
            && let Some(word) = mask.get_mut(think as usize / 32)
        {
            *word |= 1 << (think % 32);
        }
        Ok(TokenMask::Only(mask))
    }

    fn accept(&mut self, id: u32) -> Result<(), String> {
        match self.state {
            State::Thinking(_) => return self.think(id),
            State::Blank { think } if id == think => {
                self.state = State::Thinking(Vec::new());
                return Ok(());
            }
            State::Blank { .. } | State::Answer | State::Ended => {}
        }
        self.matcher.accept(id).map_err(|error| error.to_string())?;
        if self.form.ends().contains(&id) {
            self.state = State::Ended;
        } else if matches!(self.state, State::Blank { .. }) && self.matcher.has_begun() {
            self.state = State::Answer;
        }
        Ok(())
    }

    fn forced(&mut self) -> Result<Vec<u32>, String> {
        Ok(match self.state {
            State::Answer if self.matcher.is_complete() => self.form.ends().iter().take(1).copied().collect(),
            State::Answer => self.matcher.forced(),
            State::Blank { .. } | State::Thinking(_) | State::Ended => Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use glimmer_grammar::TokenTable;

    use super::*;

    /// A constraint on replies of GLM-4.5, its tokenizer, and the id that ends answers.
    fn held(think: bool, opened: bool) -> (Held, Tokenizer, u32) {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tokenizer/tests/data/glm45");
        let tokenizer = Tokenizer::from_dir(&data).unwrap();
        let end = tokenizer.special_id("<|user|>").unwrap();
        let compiler = Arc::new(Compiler::new(TokenTable::new(&tokenizer, &[end]).unwrap()));
        let compiled = compiler.compile(&Grammar::Choice(vec!["yes".into(), "no".into()])).unwrap();
        let matcher = compiler.matcher(&compiled, Beginning::Trimmed);
        let form = AnswerForm { compiler, compiled, of: AnswerOf::Text, sign: None };
        let state = match tokenizer.special_id("<think>").filter(|_| think) {
            _ if opened => State::Thinking(Vec::new()),
            Some(think) => State::Blank { think },
            None => State::Answer,
        };
        (Held { matcher, form, tokenizer: tokenizer.clone(), state }, tokenizer, end)
    }

    fn allows(held: &mut Held, id: u32) -> bool {
        let TokenMask::Only(mask) = held.mask().unwrap() else { return true };
        mask[id as usize / 32] >> (id % 32) & 1 == 1
    }

    /// Takes all of these ids, which must be allowed.
    fn take(held: &mut Held, ids: &[u32]) {
        for &id in ids {
            assert!(allows(held, id), "{id} of {ids:?}");
            held.accept(id).unwrap();
        }
    }

    #[test]
    fn a_constraint_sleeps_while_the_model_thinks() {
        for (opened, close) in [(false, None), (true, None), (true, Some("</think>\n\n"))] {
            let (mut held, tokenizer, end) = held(true, opened);
            let special = |spelling: &str| tokenizer.special_id(spelling).unwrap();
            if !opened {
                let begun = [tokenizer.encode("\n"), vec![special("<think>")]].concat();
                take(&mut held, &begun);
            }
            take(&mut held, &tokenizer.encode("\nIs it? A <b>no</b> < or </thin> a yes\n"));
            assert!(!allows(&mut held, end), "thoughts are no answer");
            assert!(held.forced().unwrap().is_empty());
            // As a token, or spelt by tokens of text.
            let close = close.map_or_else(|| vec![special("</think>")], |text| tokenizer.encode(text));
            take(&mut held, &close);
            assert!(!allows(&mut held, tokenizer.encode("maybe")[0]) && !allows(&mut held, end));
            take(&mut held, &tokenizer.encode("\n"));
            take(&mut held, &tokenizer.encode("no"));
            assert_eq!(held.forced(), Ok(vec![end]), "it can only end");
            held.accept(end).unwrap();
            assert!(held.forced().unwrap().is_empty());
        }
    }

    #[test]
    fn a_model_need_not_think_and_cannot_twice() {
        let (mut may, tokenizer, _) = held(true, false);
        let think = tokenizer.special_id("<think>").unwrap();
        take(&mut may, &tokenizer.encode("yes")[..1]);
        assert!(!allows(&mut may, think));
        let (mut must_not, _, _) = held(false, false);
        assert!(!allows(&mut must_not, think));
    }
}
