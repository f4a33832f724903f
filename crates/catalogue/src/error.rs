//! What can be wrong with entries of a user's own, and with a name.

use std::path::PathBuf;

use glimmer_config::{FileError, Quoted};

/// Why entries of a user's own cannot be read. Each is one line of fewer than 300 characters.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogueError {
    /// A file cannot be read, or is no JSON.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file holds something else than models in Xinference's form.
    #[error("{}: {}: {what}", shown(path), Quoted(place))]
    Entry {
        /// The file.
        path: PathBuf,
        /// Where in it: `model 2, model_specs[0]`.
        place: String,
        /// What is wrong there, escaped.
        what: String,
    },
    /// More than anybody writes.
    #[error("{}: more than {limit} {of}; leave some out", shown(path))]
    TooMany {
        /// The file or directory.
        path: PathBuf,
        /// What there is too much of.
        of: &'static str,
        /// The most that is read.
        limit: usize,
    },
}

/// The end of a path, on one line.
fn shown(path: &std::path::Path) -> String {
    const MOST: usize = 80;
    let text = path.to_string_lossy();
    let over = text.chars().count().saturating_sub(MOST);
    let end: String = text.chars().skip(over).collect();
    format!("{}{}", if over > 0 { "..." } else { "" }, glimmer_config::Escaped(&end))
}

/// Why a name leads to no model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing is called that.
    #[error("no model is called {}{}; `glimmer list` shows all", Quoted(name), did_you_mean(nearest))]
    Unknown {
        /// As given.
        name: String,
        /// Names that are alike.
        nearest: Vec<String>,
    },
    /// No card is called that.
    #[error("no card of the catalogue is called {}{}", Quoted(name), did_you_mean(nearest))]
    UnknownCard {
        /// As given.
        name: String,
        /// Names that are alike.
        nearest: Vec<String>,
    },
    /// Several cards' names begin so.
    #[error("{} may be several cards; there {}", Quoted(name), there_are(known))]
    SeveralCards {
        /// As given.
        name: String,
        /// Their names.
        known: Vec<String>,
    },
    /// The entry has no such size, or no file of such a quantization.
    #[error("{} has no {}; there {}", Quoted(name), Quoted(wanted), there_are(known))]
    NoSuchForm {
        /// The entry or model.
        name: String,
        /// What stood behind the colon.
        wanted: String,
        /// What could stand there.
        known: Vec<String>,
    },
}

fn did_you_mean(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("; did you mean {}?", names.join(" or ")) }
}

fn there_are(names: &[String]) -> String {
    const SHOWN: usize = 12;
    let more = if names.len() > SHOWN { " and others" } else { "" };
    match names {
        [] => "are none".to_owned(),
        [only] => format!("is {only}"),
        _ => format!("are {}{more}", names[..names.len().min(SHOWN)].join(", ")),
    }
}
