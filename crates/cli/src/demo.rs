//! The demo model: a small bilingual GLM inside the program, so that there is somebody to talk to before anything is
//! downloaded. `tools/demo/` makes it.

use std::path::Path;

/// The name by which every verb knows it.
pub(crate) const NAME: &str = "demo";

/// What everybody is told who talks to it.
pub(crate) const LABEL: &str = "this is the demo model: very small, made to show Glimmer";

/// Its file, a GGUF in Q8_0.
pub(crate) static FILE: &[u8] = include_bytes!("../assets/demo.gguf");

/// Whether a path stands for the demo model. `./demo` is a file of that name.
pub(crate) fn is_meant(path: &Path) -> bool {
    path == Path::new(NAME)
}
