//! Where the shared reference files are, and how to read them.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code outside a #[test] function")]

use glimmer_chat::Conversation;
use glimmer_tokenizer::Tokenizer;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;

/// The folder of reference files that are not part of the repository; without it, says so.
pub(crate) fn shared() -> Option<PathBuf> {
    let folder = match std::env::var_os("GLIMMER_SHARED") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
    };
    if folder.join("tokenizers/vectors").is_dir() {
        return Some(folder);
    }
    println!("skipped: ../shared not present");
    None
}

pub(crate) fn lines(path: PathBuf) -> Vec<Value> {
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A file of this crate's own test data.
pub(crate) fn data(name: &str) -> Vec<Value> {
    lines(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name))
}

/// A published tokenizer, read once.
pub(crate) fn tokenizer(name: &str) -> Option<Tokenizer> {
    static READ: Mutex<BTreeMap<String, Tokenizer>> = Mutex::new(BTreeMap::new());
    let folder = shared()?.join("tokenizers").join(name);
    let mut read = READ.lock().unwrap();
    let tokenizer = read.entry(name.to_owned()).or_insert_with(|| {
        Tokenizer::from_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
    });
    Some(tokenizer.clone())
}

pub(crate) fn conversation(case: &Value) -> Conversation {
    serde_json::from_value(case.clone()).unwrap_or_else(|e| panic!("{}: {e}", case["name"]))
}

pub(crate) fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}
