//! Calls of one answer that are the same.

use std::collections::HashMap;

use glimmer_chat::reply::ReplyPart;
use glimmer_config::json;

/// Counts the calls of an answer that are of the same tool with the same arguments, however these are spaced.
pub(crate) struct RepeatedCalls {
    most: usize,
    counts: HashMap<String, usize>,
    /// Name and arguments of the one that is being made.
    name: String,
    arguments: String,
    is_reached: bool,
}

impl RepeatedCalls {
    /// Until one of them was made `most` times.
    pub(crate) fn new(most: usize) -> Self {
        RepeatedCalls {
            most,
            counts: HashMap::new(),
            name: String::new(),
            arguments: String::new(),
            is_reached: false,
        }
    }

    /// Takes the next part of the answer.
    pub(crate) fn push(&mut self, part: &ReplyPart) {
        match part {
            ReplyPart::ToolCallStart { name } => {
                self.name.clone_from(name);
                self.arguments.clear();
            }
            ReplyPart::ToolCallArguments(text) => self.arguments.push_str(text),
            ReplyPart::ToolCallEnd => {
                let value = json::tree(&self.arguments, json::FILE_ROOM);
                let arguments = value.map_or_else(|_| self.arguments.clone(), |value| value.to_string());
                let count = self.counts.entry(format!("{}\n{arguments}", self.name)).or_default();
                *count += 1;
                self.is_reached |= *count >= self.most;
            }
            ReplyPart::Text(_) | ReplyPart::Reasoning(_) | ReplyPart::ReasoningSkipped => {}
        }
    }

    /// Whether one was made that often.
    pub(crate) fn is_reached(&self) -> bool {
        self.is_reached
    }
}
