//! A tiny model that sees, with a tokenizer of single bytes and a template of its own (`tests/data/seeing`).

use std::path::Path;

/// Makes a model that sees of a shared fixture, GLM-4.1V's or one that has its tokens' ids; false where it is not there.
pub fn seeing(directory: &Path, fixture: &str) -> bool {
    let Some(shared) = super::shared() else { return false };
    let data = super::root().join("crates/cli/tests/data/seeing");
    for from in [shared.join("fixtures").join(fixture), data] {
        for entry in std::fs::read_dir(&from).unwrap_or_else(|e| panic!("{}: {e}", from.display())) {
            let path = entry.unwrap().path();
            std::fs::copy(&path, directory.join(path.file_name().unwrap())).unwrap();
        }
    }
    true
}
