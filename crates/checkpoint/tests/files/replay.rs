//! The fuzz corpora, replayed: no input that was ever worth keeping makes a reader panic.

use std::path::Path;

use glimmer_checkpoint::fuzz_entry;

fn replay(target: &str, run: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut inputs = 0;
    for entry in std::fs::read_dir(&corpus).unwrap_or_else(|e| panic!("{}: {e}", corpus.display())) {
        run(&std::fs::read(entry.unwrap().path()).unwrap());
        inputs += 1;
    }
    assert!(inputs > 0, "{} is empty", corpus.display());
}

#[test]
fn gguf() {
    replay("gguf", fuzz_entry::gguf);
}

#[test]
fn safetensors() {
    replay("safetensors", fuzz_entry::safetensors);
}

#[test]
fn pickle() {
    replay("pickle", fuzz_entry::pickle);
}
