//! What goes to standard output: the results, and nothing else.

use std::io::{self, Write};

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
