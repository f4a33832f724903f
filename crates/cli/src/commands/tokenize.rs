//! `glimmer tokenize`: text to ids.

use std::path::Path;

use glimmer_tokenizer::Tokenizer;
use serde::{Deserialize, Serialize};

use crate::args::TokenizeArgs;
use crate::model::Model;
use crate::{input, jsonl, output};

/// A line of `--jsonl`.
#[derive(Deserialize)]
struct Question {
    text: String,
}

/// What `--json` and `--jsonl` answer.
#[derive(Serialize)]
struct Answer {
    ids: Vec<u32>,
    /// What each id stands for; U+FFFD where that is no whole character.
    tokens: Vec<String>,
}

/// Tokenizes and prints.
pub(crate) fn run(args: &TokenizeArgs) -> anyhow::Result<()> {
    let tokenizer = Model::at(&args.model).tokenizer()?;
    if args.format.jsonl {
        let file = args.text.as_deref().map(Path::new);
        return jsonl::answer(file, |Question { text }| {
            Ok(answer(&tokenizer, encode(&tokenizer, &text, args)))
        });
    }
    let text = input::text(args.text.as_deref(), "the text")?;
    let ids = encode(&tokenizer, &text, args);
    if args.format.json { output::json_line(&answer(&tokenizer, ids)) } else { output::ids(&ids) }
}

fn encode(tokenizer: &Tokenizer, text: &str, args: &TokenizeArgs) -> Vec<u32> {
    let encoded =
        if args.parse_special { tokenizer.encode_parse_special(text) } else { tokenizer.encode(text) };
    if !args.add_special {
        return encoded;
    }
    let (prefix, suffix) = tokenizer.wrap();
    [prefix, &encoded, suffix].concat()
}

fn answer(tokenizer: &Tokenizer, ids: Vec<u32>) -> Answer {
    let text =
        |&id: &u32| String::from_utf8_lossy(&tokenizer.token_bytes(id).unwrap_or_default()).into_owned();
    let tokens = ids.iter().map(text).collect();
    Answer { ids, tokens }
}
