//! Replays the fuzz corpora with the stable compiler: nothing in them may panic.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "these are tests")]

use std::path::Path;

use glimmer_tokenizer::fuzz_entry;

fn replay(target: &str, entry: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut count = 0;
    for file in std::fs::read_dir(&corpus).unwrap() {
        entry(&std::fs::read(file.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0, "{} is empty", corpus.display());
    println!("{target}: {count} files");
}

#[test]
fn tokenizer_json() {
    replay("tokenizer_json", fuzz_entry::tokenizer_json);
}

#[test]
fn tiktoken() {
    replay("tiktoken", fuzz_entry::tiktoken);
}

#[test]
fn sentencepiece() {
    replay("sentencepiece", fuzz_entry::sentencepiece);
}
