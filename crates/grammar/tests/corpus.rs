//! The corpora of the fuzz targets, replayed with the stable compiler.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use glimmer_grammar::fuzz_entry;

#[test]
fn grammar() {
    replay("grammar", fuzz_entry::grammar);
}

#[test]
fn constraint() {
    replay("constraint", fuzz_entry::constraint);
}

fn replay(target: &str, run: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    for entry in std::fs::read_dir(corpus).unwrap() {
        run(&std::fs::read(entry.unwrap().path()).unwrap());
    }
}
