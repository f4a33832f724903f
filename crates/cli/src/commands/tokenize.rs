//! `glimmer tokenize`: text to ids.

use std::path::Path;

use glimmer::{Encoding, Tokenizer};
use serde::{Deserialize, Serialize};

use crate::args::TokenizeArgs;
use crate::model::files_at;
use crate::terminal::Terminal;
use crate::{input, jsonl, output};

/// A line of `--jsonl`.
#[derive(Deserialize)]
struct TextLine {
    text: String,
}

/// What `--json` and `--jsonl` answer.
#[derive(Serialize)]
struct Tokenized {
    ids: Vec<u32>,
    /// What each id stands for; U+FFFD where that is no whole character.
    tokens: Vec<String>,
}

/// Tokenizes and prints.
pub(crate) fn run(args: &TokenizeArgs, terminal: &Terminal) -> anyhow::Result<()> {
    let files = files_at(&args.model, terminal)?;
    let tokenizer = files.tokenizer()?;
    let encoding = Encoding { add_special: args.add_special, parse_special: args.parse_special };
    if args.format.jsonl {
        let file = args.text.as_deref().map(Path::new);
        return jsonl::answer(file, |TextLine { text }| {
            Ok(answer(tokenizer, tokenizer.encode_as(&text, encoding)))
        });
    }
    let text = input::text(args.text.as_deref(), "the text")?;
    let ids = tokenizer.encode_as(&text, encoding);
    if args.format.json { output::json_line(&answer(tokenizer, ids)) } else { output::ids(&ids) }
}

fn answer(tokenizer: &Tokenizer, ids: Vec<u32>) -> Tokenized {
    let text =
        |&id: &u32| String::from_utf8_lossy(&tokenizer.token_bytes(id).unwrap_or_default()).into_owned();
    let tokens = ids.iter().map(text).collect();
    Tokenized { ids, tokens }
}
