//! Replays the fuzzer's corpora with the stable compiler.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code outside a #[test] function")]

use std::path::PathBuf;

#[test]
fn templates() {
    replay("template", glimmer_chat::fuzz_entry::template);
}

#[test]
fn replies() {
    replay("reply", glimmer_chat::fuzz_entry::reply);
}

fn replay(target: &str, run: fn(&[u8])) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        run(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0, "no inputs in {}", folder.display());
    println!("{target}: {count} inputs");
}
