//! What goes to standard output: the results, and nothing else.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use anyhow::Context;
use glimmer::{Escaped, is_harmful};
use serde::Serialize;

/// One JSON object over several lines, for people and programs.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    print(&format!("{}\n", harmless_json(&serde_json::to_string_pretty(value)?)))
}

/// One JSON object on one line.
pub(crate) fn json_line(value: &impl Serialize) -> anyhow::Result<()> {
    print(&format!("{}\n", json_text(value)?))
}

/// The object as [`json_line`] prints it.
pub(crate) fn json_text(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(harmless_json(&serde_json::to_string(value)?))
}

/// JSON of the same value in which what a terminal would obey is escaped. (serde_json leaves everything beyond ASCII, and
/// DEL, as it is. Such characters stand in strings only; line breaks stand between them.)
fn harmless_json(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' || !is_harmful(c) {
            safe.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            safe.push_str(&format!("\\u{unit:04x}"));
        }
    }
    safe
}

/// Bytes for people, in units of 1024.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// The lines of a report. Whatever text of a file stands in one cannot end it or do anything to a terminal.
#[derive(Default)]
pub(crate) struct Lines(String);

impl Lines {
    /// One more line.
    pub(crate) fn add(&mut self, line: impl Display) {
        self.0.push_str(&format!("{}\n", Escaped(&line.to_string())));
    }

    /// Prints them.
    pub(crate) fn print(&self) -> anyhow::Result<()> {
        print(&self.0)
    }
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

/// Text that a model or a file holds, at once: in a terminal without what would move the cursor or change its settings.
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
    fn a_file_cannot_forge_a_line() {
        let mut lines = super::Lines::default();
        lines.add(format_args!("tensor  {}", "a\nhead  stored\x1b[2J\u{202e}"));
        assert_eq!(lines.0, "tensor  a\\nhead  stored\\u{1b}[2J\\u{202e}\n");
        let name = "a\n\x1b\u{9b}\u{7f}\u{2066}\u{e0041}名";
        let text = super::json_text(&name).unwrap();
        assert_eq!(text, "\"a\\n\\u001b\\u009b\\u007f\\u2066\\udb40\\udc41名\"");
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), name);
    }

    #[test]
    fn a_model_cannot_drive_the_terminal() {
        assert_eq!(super::harmless("a\tb\n你好"), "a\tb\n你好");
        assert_eq!(super::harmless("\x1b[2J\r\u{9b}1m\x7f"), "␛[2J␍\u{fffd}1m␡");
    }

    #[test]
    fn sizes_for_people() {
        assert_eq!(super::size(1023), "1023 B");
        assert_eq!(super::size(1536), "1.5 KiB");
        assert_eq!(super::size(18_874_368_000), "17.6 GiB");
    }
}
