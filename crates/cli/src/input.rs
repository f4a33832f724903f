//! What comes in through standard input or a small file.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;

use anyhow::{Context, anyhow, bail, ensure};
use glimmer::file::open_regular;

use crate::WrongUsage;
use crate::args::{Ids, parse_ids};

/// The most that is read at once: far more than any context holds.
const MAX_BYTES: u64 = 1 << 30;

/// The most that a conversation or a list of tools has: four million tokens, more than any context holds.
const MAX_SMALL_FILE: u64 = 16 << 20;

/// The text given on the command line, or standard input where that is `-` or missing.
///
/// # Errors
/// [`WrongUsage`] when it is missing and nobody is piping anything in.
pub(crate) fn text(given: Option<&str>, what: &str) -> anyhow::Result<String> {
    match given {
        Some(text) if text != "-" => Ok(text.to_owned()),
        None if io::stdin().is_terminal() => {
            bail!(WrongUsage(format!("{what} is missing; give it as an argument, or pipe it in")))
        }
        _ => all_of_stdin(),
    }
}

/// The ids given on the command line or on standard input; never none.
pub(crate) fn ids(given: &Ids) -> anyhow::Result<Vec<u32>> {
    let ids = match given {
        Ids::Given(ids) => ids.clone(),
        Ids::Stdin => parse_ids(&all_of_stdin()?).map_err(anyhow::Error::msg).context("standard input")?,
    };
    ensure!(!ids.is_empty(), "there are no ids");
    Ok(ids)
}

fn all_of_stdin() -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut bytes).context("standard input")?;
    ensure!(bytes.len() as u64 <= MAX_BYTES, "standard input: more than {MAX_BYTES} bytes");
    utf8(bytes).context("standard input")
}

/// Opens a file that the user named. A pipe that nobody may ever write to is refused; one that the shell has opened
/// (`<(command)` is `/dev/fd/63`) will do.
///
/// # Errors
/// When it is not there, cannot be opened, or is no regular file.
pub(crate) fn open(path: &Path) -> anyhow::Result<File> {
    if path.starts_with("/dev/fd") || path == Path::new("/dev/stdin") {
        return File::open(path).with_context(|| path.display().to_string());
    }
    Ok(open_regular(path)?.0)
}

/// The byte order mark that editors put before a text.
const MARK: char = '\u{feff}';

/// JSON without a byte order mark.
pub(crate) fn without_mark(json: &str) -> &str {
    json.strip_prefix(MARK).unwrap_or(json)
}

/// The JSON of a small file that the user named.
pub(crate) fn small_json(path: &Path) -> anyhow::Result<String> {
    let name = || path.display().to_string();
    let mut bytes = Vec::new();
    open(path)?.take(MAX_SMALL_FILE + 1).read_to_end(&mut bytes).with_context(name)?;
    ensure!(bytes.len() as u64 <= MAX_SMALL_FILE, "{}: more than {MAX_SMALL_FILE} bytes", path.display());
    let text = utf8(bytes).with_context(name)?;
    Ok(if text.starts_with(MARK) { without_mark(&text).to_owned() } else { text })
}

fn utf8(bytes: Vec<u8>) -> anyhow::Result<String> {
    String::from_utf8(bytes).map_err(|e| anyhow!("byte {} is not UTF-8", e.utf8_error().valid_up_to()))
}
