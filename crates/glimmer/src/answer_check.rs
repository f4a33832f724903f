//! What an answer was not held to while it was made, checked when it is finished.

use std::sync::Arc;

use glimmer_chat::reply::ReplyPart;
use glimmer_grammar::Compiled;

use crate::AnswerForm;

/// Collects an answer, or a call of it, and checks it.
pub(crate) struct AnswerCheck {
    /// What its text is checked for, and the text so far.
    text: Option<(Arc<Compiled>, String)>,
    /// What its calls are checked for.
    calls: Option<Arc<Compiled>>,
    /// The call that is under way: its tool, and its arguments so far.
    call: Option<(String, String)>,
    has_calls: bool,
    /// What came of the calls that are finished.
    checked: Option<Result<(), String>>,
}

impl AnswerCheck {
    /// The check of an answer in a form.
    pub(crate) fn new(form: &AnswerForm) -> Self {
        AnswerCheck {
            text: form.checked().map(|compiled| (Arc::clone(compiled), String::new())),
            calls: form.calls.as_ref().map(|calls| Arc::clone(&calls.compiled)),
            call: None,
            has_calls: false,
            checked: None,
        }
    }

    /// Takes more of the answer.
    pub(crate) fn push(&mut self, part: &ReplyPart) {
        match part {
            ReplyPart::Text(more) => self.text.iter_mut().for_each(|(_, text)| text.push_str(more)),
            ReplyPart::Reasoning(_) | ReplyPart::ReasoningSkipped => {}
            ReplyPart::ToolCallStart { name } => {
                self.has_calls = true;
                self.call = self.calls.is_some().then(|| (name.clone(), String::new()));
            }
            ReplyPart::ToolCallArguments(more) => {
                self.call.iter_mut().for_each(|(_, arguments)| arguments.push_str(more));
            }
            ReplyPart::ToolCallEnd => self.end_call(),
        }
    }

    fn end_call(&mut self) {
        let (Some((name, arguments)), Some(calls)) = (self.call.take(), &self.calls) else { return };
        if !matches!(self.checked, Some(Err(_)))
            && let Some(checked) = calls.check_call(&name, &arguments)
        {
            self.checked = Some(checked.map_err(|error| format!("the call of {name:?}: {error}")));
        }
    }

    /// Whether the answer is all that was asked for, where anything was left to check: the first thing that is not. Calls come
    /// in a text's place.
    pub(crate) fn finish(self) -> Option<Result<(), String>> {
        match self.text {
            Some((compiled, text)) if !self.has_calls => Some(compiled.check(&text)),
            _ => self.checked,
        }
    }
}
