//! `glimmer detokenize`: ids to text.

use std::path::Path;

use anyhow::ensure;
use glimmer::Tokenizer;
use serde::{Deserialize, Serialize};

use crate::args::{DetokenizeArgs, parse_ids};
use crate::model::files_at;
use crate::terminal::Terminal;
use crate::{input, jsonl, output};

/// A line of `--jsonl`.
#[derive(Deserialize)]
struct IdsLine {
    ids: Vec<u32>,
}

/// What `--json` and `--jsonl` answer.
#[derive(Serialize)]
struct Detokenized {
    text: String,
}

/// Decodes and prints.
pub(crate) fn run(args: &DetokenizeArgs, terminal: &Terminal) -> anyhow::Result<()> {
    let files = files_at(&args.model, terminal)?;
    let tokenizer = files.tokenizer()?;
    // A model can emit every row of its embedding; those beyond the tokenizer stand for no text.
    let rows = files.configuration()?.evidence().vocabulary.and_then(|rows| usize::try_from(rows).ok());
    let end = tokenizer.len().max(rows.unwrap_or(0));
    let decode = |ids: &[u32]| decode(tokenizer, ids, end, args);
    if args.format.jsonl {
        let file = args.ids.as_deref().map(Path::new);
        return jsonl::answer(file, |IdsLine { ids }| Ok(Detokenized { text: decode(&ids)? }));
    }
    let ids = parse_ids(&input::text(args.ids.as_deref(), "the list of ids")?).map_err(anyhow::Error::msg)?;
    let text = decode(&ids)?;
    if args.format.json {
        output::json_line(&Detokenized { text })
    } else {
        output::model_text(&format!("{text}\n"))
    }
}

/// The text of ids below `end`.
fn decode(tokenizer: &Tokenizer, ids: &[u32], end: usize, args: &DetokenizeArgs) -> anyhow::Result<String> {
    if let Some(id) = ids.iter().find(|id| **id as usize >= end) {
        ensure!(false, "id {id} is outside the vocabulary, whose last id is {}", end - 1);
    }
    Ok(if args.skip_special { tokenizer.decode_skip_special(ids) } else { tokenizer.decode(ids) })
}
