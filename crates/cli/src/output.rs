//! What goes to standard output: the results, and nothing else.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use anyhow::Context;
use serde::Serialize;

/// One JSON object over several lines, for people and programs.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// One JSON object on one line.
pub(crate) fn json_line(value: &impl Serialize) -> anyhow::Result<()> {
    print(&format!("{}\n", serde_json::to_string(value)?))
}

/// Ids on one line, separated by commas.
pub(crate) fn ids(ids: &[u32]) -> anyhow::Result<()> {
    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
    print(&format!("{}\n", ids.join(",")))
}

/// Text as it is, at once.
///
/// # Errors
/// Those of writing, a reader that went away among them, with an [`io::Error`] as their cause.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("standard output")
}

/// Text that a model wrote, at once: in a terminal without what would move the cursor or change its settings.
pub(crate) fn model_text(text: &str) -> anyhow::Result<()> {
    if io::stdout().is_terminal() { print(&harmless(text)) } else { print(text) }
}

/// The text with control characters, line breaks and tabs apart, made visible.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !text.contains(harmful) {
        return Cow::Borrowed(text);
    }
    let visible = |c: char| match c {
        // Unicode has a picture of each of the first 32, and of DEL.
        c if !harmful(c) => c,
        '\x7f' => '\u{2421}',
        c if c < ' ' => char::from_u32(0x2400 + c as u32).unwrap_or(char::REPLACEMENT_CHARACTER),
        _ => char::REPLACEMENT_CHARACTER,
    };
    Cow::Owned(text.chars().map(visible).collect())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_model_cannot_drive_the_terminal() {
        assert_eq!(super::harmless("a\tb\n你好"), "a\tb\n你好");
        assert_eq!(super::harmless("\x1b[2J\r\u{9b}1m\x7f"), "␛[2J␍\u{fffd}1m␡");
    }
}
