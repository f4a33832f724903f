//! Whether a model thinks, as its answer is made, and how long it may.

use glimmer_chat::reply::{THINK_TAGS, ThinkingStyle};
use glimmer_tokenizer::Tokenizer;

const OPEN: &[u8] = THINK_TAGS[0].as_bytes();
const CLOSE: &[u8] = THINK_TAGS[1].as_bytes();

/// Follows the reasoning at the beginning of an answer token by token, and closes it where its budget is spent.
#[derive(Clone)]
pub(crate) struct Thinking {
    tokenizer: Tokenizer,
    style: Option<ThinkingStyle>,
    stage: Stage,
    /// Whether the prompt left it to the model to think.
    may_open: bool,
    /// Tokens of the answer after which the reasoning is closed.
    budget: Option<usize>,
    /// Tokens of the answer up to the end of its reasoning.
    tokens: usize,
    /// What is not decided on, or the last of it.
    text: Vec<u8>,
}

/// Where an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// White space, perhaps before reasoning.
    Start,
    /// In the reasoning.
    Inside,
    /// In what comes after it, or in place of it.
    Over,
}

impl Thinking {
    /// Of an answer without reasoning.
    pub(crate) fn none(tokenizer: &Tokenizer) -> Self {
        let tokenizer = tokenizer.clone();
        let stage = Stage::Over;
        Thinking { tokenizer, style: None, stage, may_open: false, budget: None, tokens: 0, text: Vec::new() }
    }

    /// Of a reply that its model may begin with reasoning, to a prompt that did not open it.
    pub(crate) fn free(style: ThinkingStyle, tokenizer: &Tokenizer) -> Self {
        Thinking { style: Some(style), stage: Stage::Start, may_open: true, ..Thinking::none(tokenizer) }
    }

    /// The same after a prompt that closed it.
    pub(crate) fn closed(style: ThinkingStyle, tokenizer: &Tokenizer) -> Self {
        Thinking { may_open: false, ..Thinking::free(style, tokenizer) }
    }

    /// The same after a prompt that opened it.
    pub(crate) fn opened(style: ThinkingStyle, tokenizer: &Tokenizer) -> Self {
        Thinking { stage: Stage::Inside, ..Thinking::free(style, tokenizer) }
    }

    /// The same with a budget: the tokens of the answer after which the reasoning is closed.
    pub(crate) fn within(self, budget: Option<usize>) -> Self {
        Thinking { budget, ..self }
    }

    pub(crate) fn stage(&self) -> Stage {
        self.stage
    }

    /// The token that may open the reasoning here.
    pub(crate) fn opening(&self) -> Option<u32> {
        let is_here = self.may_open && self.stage == Stage::Start && self.text.trim_ascii().is_empty();
        self.tokenizer.special_id(THINK_TAGS[0]).filter(|_| is_here)
    }

    /// How much of the closing tag the reasoning ends with, short of all, and the rest of the tag.
    pub(crate) fn closing(&self) -> (&'static [u8], &'static [u8]) {
        let begun = (1..CLOSE.len()).rev().find(|&begun| self.text.ends_with(&CLOSE[..begun]));
        CLOSE.split_at(begun.unwrap_or(0))
    }

    /// Takes the next token. Returns what of it, and of those before that were not decided on, is no reasoning.
    pub(crate) fn take(&mut self, id: u32) -> Vec<u8> {
        let bytes = self.tokenizer.token_bytes(id).unwrap_or_default();
        if self.stage == Stage::Over {
            return bytes;
        }
        self.tokens += 1;
        // Other tokens of the format are no text.
        if !self.tokenizer.is_skipped(id) || bytes == OPEN || bytes == CLOSE {
            self.text.extend(bytes);
        }
        if self.stage == Stage::Start {
            let begun = self.text.trim_ascii_start();
            if begun.starts_with(OPEN) {
                let end = self.text.len() - begun.len() + OPEN.len();
                self.text.drain(..end);
                self.stage = Stage::Inside;
            } else if OPEN.starts_with(begun) {
                return Vec::new();
            } else {
                self.stage = Stage::Over;
                return std::mem::take(&mut self.text);
            }
        }
        if let Some(at) = self.text.windows(CLOSE.len()).position(|bytes| bytes == CLOSE) {
            self.stage = Stage::Over;
            return std::mem::take(&mut self.text).split_off(at + CLOSE.len());
        }
        self.text.drain(..self.text.len().saturating_sub(CLOSE.len() - 1));
        Vec::new()
    }

    /// The tokens that close the reasoning, where its budget is spent: the closing tag, or the rest of one that the model has
    /// begun to spell, and what the format has after it.
    pub(crate) fn forced(&self) -> Vec<u32> {
        let is_spent = self.stage == Stage::Inside && self.budget.is_some_and(|budget| self.tokens >= budget);
        let Some(style) = self.style.filter(|_| is_spent) else { return Vec::new() };
        let rest = String::from_utf8_lossy(self.closing().1);
        let ids = self.tokenizer.encode_parse_special(&format!("{rest}{}", style.gap));
        // A tokenizer that cannot spell the tag must not be made to try for ever.
        let mut after = self.clone();
        ids.iter().for_each(|&id| drop(after.take(id)));
        if after.stage == Stage::Over { ids } else { Vec::new() }
    }
}
