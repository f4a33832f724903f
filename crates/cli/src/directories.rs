//! Where the program keeps what is a user's (XDG Base Directory Specification).

use std::path::PathBuf;

/// What a user has added.
pub(crate) fn data() -> Option<PathBuf> {
    own("XDG_DATA_HOME", ".local/share")
}

/// What is kept from run to run, and could be missed.
pub(crate) fn state() -> Option<PathBuf> {
    own("XDG_STATE_HOME", ".local/state")
}

/// The program's own of a directory that a variable names, or its usual place.
fn own(variable: &str, usual: &str) -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let directory = set(variable).or_else(|| Some(set("HOME")?.join(usual)))?;
    Some(directory.join("glimmer"))
}
