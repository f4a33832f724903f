//! An answer as it is printed, part by part: text to standard output, reasoning beside it.

use glimmer::{Escaped, ReplyPart};

use crate::output;
use crate::terminal::Terminal;

/// Prints one answer.
pub(crate) struct Printer<'t> {
    terminal: &'t Terminal,
    reasoning: bool,
    /// Whether something of the answer was printed.
    begun: bool,
}

impl<'t> Printer<'t> {
    pub(crate) fn new(terminal: &'t Terminal) -> Self {
        Printer { terminal, reasoning: false, begun: false }
    }

    /// Prints a part. The answer is the result; the reasoning before it goes where everything else goes.
    pub(crate) fn show(&mut self, part: &ReplyPart) -> anyhow::Result<()> {
        if let ReplyPart::Reasoning(text) = part {
            self.reasoning = true;
            self.terminal.aside(text);
            return Ok(());
        }
        self.end_reasoning();
        self.begun = true;
        match part {
            ReplyPart::Text(text) | ReplyPart::ToolCallArguments(text) => output::model_text(text),
            ReplyPart::ToolCallStart { name } => output::model_text(&format!("{}\n", Escaped(name))),
            ReplyPart::ToolCallEnd | ReplyPart::Reasoning(_) | ReplyPart::ReasoningSkipped => Ok(()),
        }
    }

    /// The line break after the answer.
    pub(crate) fn end(mut self) -> anyhow::Result<()> {
        self.end_reasoning();
        output::print("\n")
    }

    /// The line break before an error that ends the answer, where there is something to break off.
    pub(crate) fn break_off(mut self) -> anyhow::Result<()> {
        self.end_reasoning();
        if self.begun { output::print("\n") } else { Ok(()) }
    }

    fn end_reasoning(&mut self) {
        if std::mem::take(&mut self.reasoning) {
            self.terminal.aside("\n");
        }
    }
}
