//! Replays the fuzzer's corpus with the stable compiler.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::path::PathBuf;

#[test]
fn data() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/data");
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        glimmer_train::fuzz_entry::data(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0);
}
