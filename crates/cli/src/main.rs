//! The `glimmer` binary.
fn main() {}
