//! The demo model: a small bilingual GLM inside the program, so that there is somebody to talk to before anything is
//! downloaded. `tools/demo/` makes it.

use crate::Source;

/// The name by which [`crate::Local`] knows it. `./demo` is a file of that name.
pub const DEMO: &str = "demo";

/// Its file, a GGUF in Q8_0.
static FILE: &[u8] = include_bytes!("../assets/demo.gguf");

pub(crate) fn source() -> Source {
    Source::Embedded { name: DEMO, gguf: FILE }
}
