//! `--jsonl`: one JSON object a line in, one a line out, in the same order.
//!
//! A line that cannot be answered is answered by `{"error": ...}`, so that answers and questions stay side by side; the
//! run then ends as a failure.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::terminal::shortened;
use crate::{input, output};

/// The most bytes that a line may have.
const MAX_LINE: u64 = 256 << 20;

/// Answers every line of `file` (`-` or none: of standard input).
///
/// # Errors
/// When reading or writing fails, and at the end when a line had no answer.
pub(crate) fn answer<Q: DeserializeOwned, A: Serialize>(
    file: Option<&Path>,
    mut answer: impl FnMut(Q) -> anyhow::Result<A>,
) -> anyhow::Result<()> {
    let mut lines: Box<dyn BufRead> = match file {
        Some(path) if path != Path::new("-") => Box::new(BufReader::new(input::open(path)?)),
        _ => Box::new(io::stdin().lock()),
    };
    let (mut number, mut first_wrong, mut wrong) = (0, 0, 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut lines).take(MAX_LINE + 1).read_until(b'\n', &mut line);
        if read.with_context(|| format!("line {}", number + 1))? == 0 {
            break;
        }
        number += 1;
        if line.len() as u64 > MAX_LINE {
            bail!("line {number} has more than {MAX_LINE} bytes");
        }
        // Editors begin a file with a byte order mark, and files are put together from files.
        let question = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&line);
        let answered = serde_json::from_slice(question.trim_ascii_end())
            .map_err(anyhow::Error::from)
            .and_then(&mut answer);
        let text = match answered {
            Ok(answer) => output::json_text(&answer)?,
            Err(error) => {
                wrong += 1;
                first_wrong = if wrong == 1 { number } else { first_wrong };
                output::json_text(&json!({"error": shortened(&format!("{error:#}"))}))?
            }
        };
        output::print(&format!("{text}\n"))?;
    }
    if wrong > 0 {
        bail!("{wrong} of {number} lines could not be answered, first line {first_wrong}");
    }
    Ok(())
}
