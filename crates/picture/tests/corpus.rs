//! Replays the fuzz corpora with the stable compiler: nothing in them may panic.

use std::path::Path;

use glimmer_picture::fuzz_entry;

fn replay(target: &str, entry: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut count = 0;
    for file in std::fs::read_dir(&corpus).expect("there is a corpus") {
        let path = file.expect("it can be listed").path();
        entry(&std::fs::read(path).expect("it can be read"));
        count += 1;
    }
    assert!(count > 0, "{} is empty", corpus.display());
}

#[test]
fn picture() {
    replay("picture", fuzz_entry::picture);
}

#[test]
fn processor() {
    replay("processor", fuzz_entry::processor);
}
