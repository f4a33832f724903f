//! What comes in through standard input or a small file.

use std::io::{self, IsTerminal, Read};

use anyhow::{Context, bail, ensure};

use crate::WrongUsage;
use crate::args::{Ids, parse_ids};

/// The most that is read at once: far more than any context holds.
const MAX_BYTES: u64 = 1 << 30;

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
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        anyhow::anyhow!("standard input: byte {at} is not UTF-8")
    })
}
