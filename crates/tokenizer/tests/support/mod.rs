//! Golden vectors made with the reference libraries: sentencepiece 0.2.3, tiktoken 0.14.0, tokenizers 0.23.3.
//!
//! One JSON object a line: `text`, `ids` (plain), `ids_with_special` (spellings recognised), `decoded` (of `ids`;
//! absent where it equals the text).

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "part of the tests")]

use std::path::{Path, PathBuf};

use glimmer_tokenizer::Tokenizer;
use serde_json::Value;

pub(crate) struct Vector {
    pub(crate) id: String,
    pub(crate) text: String,
    pub(crate) ids: Option<Vec<u32>>,
    pub(crate) ids_with_special: Option<Vec<u32>>,
    pub(crate) decoded: Option<String>,
}

pub(crate) fn read(path: &Path) -> Vec<Vector> {
    let vector = |value: Value| Vector {
        id: value["id"].as_str().unwrap_or_default().into(),
        text: value["text"].as_str().unwrap().into(),
        ids: ids_of(&value, "ids"),
        ids_with_special: ids_of(&value, "ids_with_special"),
        decoded: value["decoded"].as_str().map(str::to_string),
    };
    read_json(path).into_iter().map(vector).collect()
}

pub(crate) fn read_json(path: &Path) -> Vec<Value> {
    let file = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    file.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(crate) fn ids_of(value: &Value, name: &str) -> Option<Vec<u32>> {
    let ids = value[name].as_array()?;
    Some(ids.iter().map(|id| id.as_u64().unwrap() as u32).collect())
}

/// Ids, ids with special spellings, decoding, streaming, for every vector.
pub(crate) fn check(name: &str, tokenizer: &Tokenizer, vectors: &[Vector]) {
    let mut wrong = Vec::new();
    for vector in vectors {
        let faults = faults(tokenizer, vector);
        if !faults.is_empty() {
            wrong.push(format!("{} {:?}: {}", vector.id, vector.text, faults.join("; ")));
        }
    }
    let shown: Vec<_> = wrong.iter().take(8).collect();
    assert!(wrong.is_empty(), "{name}: {} of {} vectors: {shown:#?}", wrong.len(), vectors.len());
    println!("{name}: {} vectors agree", vectors.len());
}

fn faults(tokenizer: &Tokenizer, vector: &Vector) -> Vec<String> {
    let mut faults = Vec::new();
    let mut expect = |what: &str, got: String, wanted: String| {
        if got != wanted {
            faults.push(format!("{what} is {got}, not {wanted}"));
        }
    };
    let text = vector.text.as_str();
    let decoded = vector.decoded.as_deref().unwrap_or(text);
    if let Some(ids) = &vector.ids {
        expect("ids", format!("{:?}", tokenizer.encode(text)), format!("{ids:?}"));
        expect("decoded", tokenizer.decode(ids), decoded.into());
        expect("streamed", stream(tokenizer, ids), decoded.into());
    }
    if let Some(ids) = &vector.ids_with_special {
        expect("ids with special", format!("{:?}", tokenizer.encode_parse_special(text)), format!("{ids:?}"));
        expect("decoded with special", tokenizer.decode(ids), text.into());
        expect("streamed with special", stream(tokenizer, ids), text.into());
    }
    faults
}

/// Decoding id by id.
pub(crate) fn stream(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let mut stream = tokenizer.stream();
    let mut text: String = ids.iter().map(|id| stream.push(*id)).collect();
    text += &stream.finish();
    text
}

/// The same vectors after a trip through GGUF metadata.
pub(crate) fn check_gguf(name: &str, tokenizer: &Tokenizer, vectors: &[Vector]) {
    let mut vocab = tokenizer.to_gguf().unwrap();
    vocab.pad_to(vocab.tokens.len() + 7);
    let again = Tokenizer::from_gguf(&vocab).unwrap();
    check(&format!("{name} through GGUF"), &again, vectors);
    assert_eq!(again.wrap(), tokenizer.wrap(), "{name}");
    assert_eq!(again.len(), tokenizer.len(), "{name}");
    for id in 0..again.len() as u32 {
        assert_eq!(again.token_bytes(id), tokenizer.token_bytes(id), "{name}: token {id}");
        assert_eq!(again.is_skipped(id), tokenizer.is_skipped(id), "{name}: token {id}");
    }
}

/// The folder of files that may not be part of this repository; `None`, with a line that says so, where it is
/// absent.
#[allow(dead_code, reason = "the synthetic tests need no shared folder")]
pub(crate) fn shared() -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let shared = std::env::var_os("GLIMMER_SHARED").map_or(default, PathBuf::from);
    if shared.join("tokenizers").is_dir() {
        return Some(shared.join("tokenizers"));
    }
    println!("skipped: ../shared not present");
    None
}
