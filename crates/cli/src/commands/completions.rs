//! `glimmer completions SHELL`: a script that completes this command line.

use crate::args::{self, CompletionsArgs};
use crate::output;

/// Prints the script.
pub(crate) fn run(args: &CompletionsArgs) -> anyhow::Result<()> {
    // Generated into memory: the generator panics where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut args::complete_command(), "glimmer", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}
