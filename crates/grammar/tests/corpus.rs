//! The corpus of the fuzz target, replayed with the stable compiler.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

#[test]
fn grammar() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/grammar");
    for entry in std::fs::read_dir(corpus).unwrap() {
        glimmer_grammar::fuzz_entry::grammar(&std::fs::read(entry.unwrap().path()).unwrap());
    }
}
