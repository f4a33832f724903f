//! The reasoning at the beginning of a reply: `<think>…</think>`, of which the prompt may have opened the first.

use super::filters::partial_suffix;
use crate::python;
use crate::template::ChatTemplate;
use glimmer_config::Family;

/// The tags around reasoning, which newer tokenizers have as tokens.
pub const THINK_TAGS: [&str; 2] = ["<think>", "</think>"];

const OPEN: &str = THINK_TAGS[0];
const CLOSE: &str = THINK_TAGS[1];

/// How a generation thinks before it answers: between [`THINK_TAGS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThinkingStyle {
    /// What stands between the closing tag and the answer: a line break, or nothing.
    pub gap: &'static str,
}

impl ThinkingStyle {
    /// That of the replies to prompts of a template; none where they have no reasoning.
    pub fn of(template: &ChatTemplate) -> Option<ThinkingStyle> {
        Some(match template.format() {
            Some(Family::Glm45 | Family::GlmZ1 | Family::GlmZ1Rumination) => ThinkingStyle { gap: "\n" },
            Some(Family::Glm47) | None => ThinkingStyle { gap: "" },
            Some(_) => return None,
        })
    }
}

/// What a stretch of the reply is.
#[derive(Debug)]
pub(super) enum Part {
    Reasoning(String),
    Body(String),
}

/// Tells the reasoning from what follows it.
#[derive(Debug)]
pub(super) struct Thinking {
    /// Whether the prompt opened it.
    open: bool,
    state: State,
    /// White space before all else.
    blank: String,
    held: String,
}

#[derive(Debug, PartialEq)]
enum State {
    /// White space, perhaps before the opening tag.
    Start,
    Inside,
    Over,
}

impl Thinking {
    pub(super) fn new(open: bool) -> Thinking {
        Thinking { open, state: State::Start, blank: String::new(), held: String::new() }
    }

    /// Whether the answer has begun.
    pub(super) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    pub(super) fn feed(&mut self, text: &str, emit: &mut dyn FnMut(Part)) {
        if self.state == State::Over {
            return emit(Part::Body(text.to_owned()));
        }
        let mut text = text;
        if self.state == State::Start {
            if self.held.is_empty() {
                let begun = text.trim_start_matches(python::is_space);
                self.blank.push_str(&text[..text.len() - begun.len()]);
                text = begun;
            }
            self.held.push_str(text);
            text = "";
            if let Some(rest) = self.held.strip_prefix(OPEN) {
                self.held = rest.to_owned();
                self.state = State::Inside;
            } else if OPEN.starts_with(&self.held) {
                return;
            } else {
                self.held.insert_str(0, &std::mem::take(&mut self.blank));
                self.state = if self.open { State::Inside } else { State::Over };
            }
        }
        self.held.push_str(text);
        match self.state {
            State::Over => emit(Part::Body(std::mem::take(&mut self.held))),
            _ => match self.held.find(CLOSE) {
                Some(at) => {
                    let after = self.held.split_off(at + CLOSE.len());
                    self.held.truncate(at);
                    self.state = State::Over;
                    emit(Part::Reasoning(std::mem::take(&mut self.held)));
                    if !after.is_empty() {
                        emit(Part::Body(after));
                    }
                }
                None => {
                    let keep = partial_suffix(&self.held, CLOSE);
                    let safe = self.held.len() - keep;
                    emit(Part::Reasoning(self.held.drain(..safe).collect()));
                }
            },
        }
    }

    pub(super) fn finish(&mut self, emit: &mut dyn FnMut(Part)) {
        let mut held = std::mem::take(&mut self.held);
        if self.state == State::Start {
            held.insert_str(0, &self.blank);
        }
        if held.is_empty() {
            return;
        }
        match self.state {
            State::Start if !self.open => emit(Part::Body(held)),
            State::Start | State::Inside => emit(Part::Reasoning(held)),
            State::Over => {}
        }
    }
}
